//! The characters of the language: white space, comments, keys and scalar values.
//!
//! Source of the rules: reference 3.7 and nats-server's `conf/lex.go`. Deliberately stricter than it: a comment
//! start that is only one `/`, an unclosed bracket or quote at the end of the file, a key without a value and an
//! unknown size suffix are errors here, where nats-server guesses or forgets the entry. Deliberately kinder: a
//! number may stand right before `]`.

use std::sync::Arc;

use crate::report::Problem;
use crate::value::{Data, Position};

/// Walks over a text and knows where it is.
pub(crate) struct Cursor<'a> {
    file: Arc<str>,
    text: &'a [u8],
    at: usize,
    line: u32,
    line_start: usize,
}

/// A scalar as it was written; a variable is not looked up yet.
pub(crate) enum Scalar {
    Value(Data),
    Variable(String),
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(file: Arc<str>, text: &'a [u8]) -> Self {
        Self { file, text, at: 0, line: 1, line_start: 0 }
    }

    pub(crate) fn position(&self) -> Position {
        let column = u32::try_from(self.at - self.line_start + 1).unwrap_or(u32::MAX);
        Position { file: self.file.clone(), line: self.line, column }
    }

    /// A complaint about what is next.
    pub(crate) fn problem(&self, text: impl Into<String>) -> Problem {
        Problem::new(&self.position(), text)
    }

    /// A complaint that names what is next.
    pub(crate) fn unexpected(&self, wanted: &str) -> Problem {
        match self.peek() {
            None => self.problem(format!("expected {wanted}, but the text ends")),
            Some(b'\n' | b'\r') => self.problem(format!("expected {wanted}, but the line ends")),
            Some(byte) => {
                self.problem(format!("expected {wanted}, but got '{}'", char::from(byte).escape_default()))
            }
        }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Steps over one byte.
    pub(crate) fn bump(&mut self) {
        if self.peek() == Some(b'\n') {
            self.line = self.line.saturating_add(1);
            self.line_start = self.at + 1;
        }
        self.at = self.text.len().min(self.at + 1);
    }

    /// Steps over bytes as long as `wanted`, and returns them.
    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Steps over tabs and spaces.
    pub(crate) fn skip_blanks(&mut self) {
        self.take_while(is_blank);
    }

    /// Steps over white space of any kind, Unicode's too, and line ends.
    pub(crate) fn skip_space(&mut self) {
        while let Some(width) = self.space() {
            (0..width).for_each(|_| self.bump());
        }
    }

    /// The width of the white space character that is next.
    fn space(&self) -> Option<usize> {
        let rest = self.rest();
        match rest.first()? {
            byte if byte.is_ascii() => char::from(*byte).is_whitespace().then_some(1),
            // A character has up to four bytes.
            _ => {
                let head = rest.get(..4).unwrap_or(rest).utf8_chunks().next()?.valid().chars().next()?;
                head.is_whitespace().then(|| head.len_utf8())
            }
        }
    }

    /// Steps over white space and comments.
    pub(crate) fn skip_space_and_comments(&mut self) {
        loop {
            self.skip_space();
            if !self.skip_comment() {
                return;
            }
        }
    }

    /// Steps over a comment up to the end of its line, which it leaves.
    pub(crate) fn skip_comment(&mut self) -> bool {
        let found = self.rest().starts_with(b"#") || self.rest().starts_with(b"//");
        if found {
            self.take_while(|byte| !is_line_end(byte));
        }
        found
    }

    /// A key and whether it was quoted. White space was skipped.
    pub(crate) fn key(&mut self) -> Result<(String, bool), Problem> {
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => {
                self.bump();
                Ok((self.until_quote(quote)?, true))
            }
            Some(b'=' | b':') | None => Err(self.unexpected("a key")),
            Some(_) => {
                let start = self.at;
                while self.peek().is_some_and(|byte| !matches!(byte, b'=' | b':')) && self.space().is_none() {
                    self.bump();
                }
                Ok((self.utf8(self.text.get(start..self.at).unwrap_or_default().to_vec())?, false))
            }
        }
    }

    /// True if the key that was just read is followed by white space, as a keyword is.
    pub(crate) fn at_space(&self) -> bool {
        self.space().is_some()
    }

    /// The path behind `include`.
    pub(crate) fn include_path(&mut self) -> Result<String, Problem> {
        self.skip_blanks();
        let path = match self.peek() {
            Some(quote @ (b'"' | b'\'')) => {
                self.bump();
                self.until_quote(quote)?
            }
            Some(b'[' | b'{' | b'(' | b'0'..=b'9' | b'-' | b'\\' | b'\n' | b'\r') | None => String::new(),
            Some(_) => {
                let ends = |byte| is_line_end(byte) || is_blank(byte) || matches!(byte, b';' | b'}');
                let path = self.take_while(|byte| !ends(byte)).to_vec();
                self.utf8(path)?
            }
        };
        if path.is_empty() { Err(self.unexpected("the path of a file to include")) } else { Ok(path) }
    }

    /// A scalar value. Blanks were skipped, and what is next is no bracket.
    pub(crate) fn scalar(&mut self) -> Result<Scalar, Problem> {
        Ok(Scalar::Value(match self.peek() {
            Some(b'\'') => {
                self.bump();
                Data::Text(self.until_quote(b'\'')?)
            }
            Some(b'"') => {
                self.bump();
                self.escaped()?
            }
            Some(b'(') => self.block()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'.') => return Err(self.problem("a float starts with a digit")),
            Some(b'\n' | b'\r') => return Err(self.unexpected("a value")),
            _ => return self.bare(self.at),
        }))
    }

    /// The rest of a quoted string without escapes.
    fn until_quote(&mut self, quote: u8) -> Result<String, Problem> {
        let open = self.position();
        let text = self.take_while(|byte| byte != quote).to_vec();
        if self.peek().is_none() {
            return Err(Problem::new(&open, "the quoted text has no end"));
        }
        let text = self.utf8(text)?;
        self.bump();
        Ok(text)
    }

    /// The rest of a double-quoted string.
    fn escaped(&mut self) -> Result<Data, Problem> {
        let open = self.position();
        let mut text = Vec::new();
        loop {
            match self.peek() {
                None => return Err(Problem::new(&open, "the quoted text has no end")),
                Some(b'"') => break self.bump(),
                Some(b'\\') => text.push(self.escape()?),
                Some(byte) => {
                    text.push(byte);
                    self.bump();
                }
            }
        }
        self.utf8(text).map(Data::Text)
    }

    /// One escape: `\xXX`, `\t`, `\n`, `\r`, `\"`, `\\`.
    fn escape(&mut self) -> Result<u8, Problem> {
        let wrong = self.problem(r#"unknown escape; there are \xXX, \t, \n, \r, \" and \\"#);
        self.bump();
        let byte = match self.peek() {
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(byte @ (b'"' | b'\\')) => byte,
            Some(b'x') => {
                let digit = |at| self.rest().get(at).and_then(|byte| char::from(*byte).to_digit(16));
                let (Some(high), Some(low)) = (digit(1), digit(2)) else {
                    return Err(self.problem("expected two hexadecimal digits behind \\x"));
                };
                self.bump();
                self.bump();
                (high * 16 + low) as u8
            }
            _ => return Err(wrong),
        };
        self.bump();
        Ok(byte)
    }

    /// `(`, any lines, and `)` alone on a line. The text holds every line end inside the brackets.
    fn block(&mut self) -> Result<Data, Problem> {
        let open = self.position();
        self.bump();
        let start = self.at;
        loop {
            let head = self.take_while(|byte| byte != b')');
            match self.peek() {
                None => return Err(Problem::new(&open, "the block has no ')' alone on a line")),
                Some(_)
                    if head.ends_with(b"\n") && matches!(self.rest().get(1), None | Some(b'\n' | b'\r')) =>
                {
                    break;
                }
                Some(_) => self.bump(),
            }
        }
        let text = self.utf8(self.text.get(start..self.at).unwrap_or_default().to_vec())?;
        self.bump();
        Ok(Data::Text(text))
    }

    /// A number, a date, an address that starts like a number, or a bare string that starts with digits.
    fn number(&mut self) -> Result<Data, Problem> {
        let (from, start) = (self.position(), self.at);
        let negative = self.peek() == Some(b'-');
        if negative {
            self.bump();
        }
        let digits = self.take_while(|byte| byte.is_ascii_digit()).len();
        if digits == 0 {
            return Err(self.unexpected("a digit"));
        }
        match self.peek() {
            Some(b'.') => self.float(from, start),
            Some(b'-') if !negative => self.date(start, digits),
            Some(byte) if is_suffix(byte) => {
                self.bump();
                let suffix = 1 + self.take_while(|byte| matches!(byte, b'b' | b'B' | b'i' | b'I')).len();
                match self.peek() {
                    Some(byte) if !ends_word(byte) && !byte.is_ascii_digit() => self.bare_text(start),
                    _ => self.integer(&from, start, suffix),
                }
            }
            Some(byte) if !negative && !ends_word(byte) => {
                // The character behind the digits belongs to the string whatever it is.
                self.bump();
                self.bare_text(start)
            }
            _ => self.integer(&from, start, 0),
        }
    }

    fn written(&self, start: usize) -> &'a str {
        let text = self.text.get(start..self.at).unwrap_or_default();
        str::from_utf8(text).expect("only ASCII was taken")
    }

    fn integer(&self, from: &Position, start: usize, suffix: usize) -> Result<Data, Problem> {
        let text = self.written(start);
        let (digits, suffix) = text.split_at(text.len() - suffix);
        let factor = match suffix.to_ascii_lowercase().as_str() {
            "" => Some(1),
            suffix => {
                let (letter, unit) = suffix.split_at(1);
                let power = " kmgtpe".find(letter).unwrap_or_default() as u32;
                match unit {
                    "" => 1000i64.checked_pow(power),
                    "b" | "i" | "ib" => 1024i64.checked_pow(power),
                    _ => return Err(Problem::new(from, format!("unknown size suffix in '{text}'"))),
                }
            }
        };
        let value =
            digits.parse().ok().zip(factor).and_then(|(value, factor): (i64, i64)| value.checked_mul(factor));
        value.map(Data::Int).ok_or_else(|| Problem::new(from, format!("integer '{text}' is out of range")))
    }

    /// Digits and a dot were seen: a float, or with a second dot an address such as `127.0.0.1:4222`.
    fn float(&mut self, from: Position, start: usize) -> Result<Data, Problem> {
        self.bump();
        if self.take_while(|byte| byte.is_ascii_digit()).is_empty() {
            return Err(self.unexpected("a digit behind the dot"));
        }
        if self.peek() == Some(b'.') {
            self.take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b':' | b'-'));
            return Ok(Data::Text(self.written(start).to_owned()));
        }
        match self.written(start).parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Data::Float(value)),
            _ => Err(Problem::new(&from, "the float is out of range")),
        }
    }

    /// Four digits and a dash were seen, or it is no date.
    fn date(&mut self, start: usize, digits: usize) -> Result<Data, Problem> {
        const FORM: &[u8] = b"-00-00T00:00:00Z";
        let text = self.rest().get(..FORM.len()).unwrap_or_default();
        let fits =
            |(wanted, got): (&u8, &u8)| if *wanted == b'0' { got.is_ascii_digit() } else { wanted == got };
        if digits != 4 || text.len() != FORM.len() || !FORM.iter().zip(text).all(fits) {
            return Err(self.problem("a date has the form 2006-01-02T15:04:05Z"));
        }
        let from = self.position();
        (0..FORM.len()).for_each(|_| self.bump());
        let text = self.written(start);
        let number = |at: usize| {
            text.get(at..at + 2).and_then(|digits| digits.parse::<u32>().ok()).unwrap_or(u32::MAX)
        };
        let year = number(0) * 100 + number(2);
        let days = match number(5) {
            2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        if !(1..=days).contains(&number(8)) || number(11) > 23 || number(14) > 59 || number(17) > 59 {
            return Err(Problem::new(&from, format!("there is no date '{text}'")));
        }
        Ok(Data::Time(text.to_owned()))
    }

    /// A bare string that began at `start`, what stands before the cursor taken as it is.
    fn bare_text(&mut self, start: usize) -> Result<Data, Problem> {
        match self.bare(start)? {
            Scalar::Value(data) => Ok(data),
            Scalar::Variable(name) => Ok(Data::Text(name)),
        }
    }

    /// A word without quotes: a boolean, a variable or a string.
    fn bare(&mut self, start: usize) -> Result<Scalar, Problem> {
        let mut text = self.text.get(start..self.at).unwrap_or_default().to_vec();
        let mut plain = true;
        loop {
            match self.peek() {
                Some(b'\\') => {
                    text.push(self.escape()?);
                    plain = false;
                }
                Some(b'\'') => {
                    self.bump();
                    plain = false;
                    break;
                }
                Some(byte) if !ends_word(byte) => {
                    text.push(byte);
                    self.bump();
                }
                _ => break,
            }
        }
        let text = self.utf8(text)?;
        Ok(Scalar::Value(match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" if plain => Data::Bool(true),
            "false" | "no" | "off" if plain => Data::Bool(false),
            _ => match text.strip_prefix('$') {
                Some(name) if plain => return Ok(Scalar::Variable(name.to_owned())),
                _ => Data::Text(text),
            },
        }))
    }

    fn utf8(&self, bytes: Vec<u8>) -> Result<String, Problem> {
        String::from_utf8(bytes).map_err(|_| self.problem("the text before this is not UTF-8"))
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// What ends a word without quotes.
fn ends_word(byte: u8) -> bool {
    is_blank(byte) || is_line_end(byte) || matches!(byte, b';' | b',' | b']' | b'}')
}

fn is_suffix(byte: u8) -> bool {
    matches!(byte.to_ascii_lowercase(), b'k' | b'm' | b'g' | b't' | b'p' | b'e')
}
