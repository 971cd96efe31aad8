//! Just enough JSON for INFO and CONNECT: one flat object, read member by member, without a heap.
//!
//! The whole text is checked, nested values too, but only the top level is looked at. Depth is bounded, and nothing
//! recurses.

use crate::emit::Digits;

/// The text is not one JSON object, or a member has the wrong type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("malformed JSON")
    }
}

impl core::error::Error for Malformed {}

/// A member's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string.
    Text(Text<'a>),
    /// A number, as it was written.
    Number(&'a [u8]),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// An array or object, as it was written.
    Nested(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The boolean; `None` for null, which leaves a member as it was.
    pub fn bool(self) -> Result<Option<bool>, Malformed> {
        match self {
            Self::Bool(value) => Ok(Some(value)),
            Self::Null => Ok(None),
            _ => Err(Malformed),
        }
    }

    /// The string; `None` for null.
    pub fn text(self) -> Result<Option<Text<'a>>, Malformed> {
        match self {
            Self::Text(value) => Ok(Some(value)),
            Self::Null => Ok(None),
            _ => Err(Malformed),
        }
    }

    /// The integer; `None` for null. A fraction or an exponent is malformed.
    pub fn integer(self) -> Result<Option<i64>, Malformed> {
        match self {
            Self::Number(digits) => {
                let digits = core::str::from_utf8(digits).map_err(|_| Malformed)?;
                digits.parse().map(Some).map_err(|_| Malformed)
            }
            Self::Null => Ok(None),
            _ => Err(Malformed),
        }
    }
}

/// A string, still as it stands on the wire or not yet escaped for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// The characters between the quotes of well-formed JSON, escapes and all.
    Escaped(&'a [u8]),
    /// Plain characters.
    Plain(&'a str),
}

impl Default for Text<'_> {
    fn default() -> Self {
        Self::Plain("")
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(plain: &'a str) -> Self {
        Self::Plain(plain)
    }
}

impl<'a> Text<'a> {
    /// True if there are no characters.
    pub fn is_empty(self) -> bool {
        match self {
            Self::Escaped(bytes) => bytes.is_empty(),
            Self::Plain(text) => text.is_empty(),
        }
    }

    /// The characters, unescaped. Bytes that are not UTF-8 come out as U+FFFD.
    pub fn chars(self) -> impl Iterator<Item = char> + 'a {
        let (escaped, plain) = match self {
            Self::Escaped(bytes) => (bytes, ""),
            Self::Plain(text) => (&[][..], text),
        };
        Unescaped { rest: escaped }.chain(plain.chars())
    }

    /// The characters as they are if nothing in them was escaped; no copy is needed then.
    pub fn as_plain(self) -> Option<&'a str> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Escaped(bytes) if bytes.contains(&b'\\') => None,
            Self::Escaped(bytes) => core::str::from_utf8(bytes).ok(),
        }
    }

    /// True if the characters are those of `other`.
    pub fn eq_str(self, other: &str) -> bool {
        self.chars().eq(other.chars())
    }
}

impl core::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        use core::fmt::Write;
        self.chars().try_for_each(|c| f.write_char(c))
    }
}

struct Unescaped<'a> {
    rest: &'a [u8],
}

impl Iterator for Unescaped<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self.rest {
            [] => None,
            [b'\\', b'u', rest @ ..] => {
                self.rest = rest;
                let high = self.unit();
                if (0xd800..0xdc00).contains(&high)
                    && let [b'\\', b'u', rest @ ..] = self.rest
                {
                    let mut ahead = Unescaped { rest };
                    let low = ahead.unit();
                    if let Some(Ok(c)) = char::decode_utf16([high, low]).next() {
                        self.rest = ahead.rest;
                        return Some(c);
                    }
                }
                Some(char::from_u32(u32::from(high)).unwrap_or(char::REPLACEMENT_CHARACTER))
            }
            [b'\\', escape, rest @ ..] => {
                self.rest = rest;
                Some(match escape {
                    b'b' => '\x08',
                    b'f' => '\x0c',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    other => char::from(*other),
                })
            }
            bytes => {
                let head = bytes.get(..4).unwrap_or(bytes);
                let chunk = head.utf8_chunks().next()?;
                let (c, len) = match chunk.valid().chars().next() {
                    Some(c) => (c, c.len_utf8()),
                    None => (char::REPLACEMENT_CHARACTER, 1),
                };
                self.rest = bytes.get(len..).unwrap_or_default();
                Some(c)
            }
        }
    }
}

impl Unescaped<'_> {
    /// Four hex digits; what isn't one counts as 0, but the text was checked before.
    fn unit(&mut self) -> u16 {
        let (digits, rest) = self.rest.split_at_checked(4).unwrap_or((self.rest, &[]));
        self.rest = rest;
        digits.iter().fold(0, |unit: u16, digit| {
            let value = char::from(*digit).to_digit(16).unwrap_or(0);
            unit.wrapping_shl(4) | u16::try_from(value).unwrap_or(0)
        })
    }
}

/// Reads one object and calls `member` with each of its members. White space may stand around it, nothing else.
/// `null` counts as an object without members, as it does where Go reads one.
pub fn object<'a>(
    text: &'a [u8],
    mut member: impl FnMut(Text<'a>, Value<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader { rest: text };
    reader.blank();
    match reader.rest.strip_prefix(b"null") {
        Some(rest) => reader.rest = rest,
        None => reader.members(&mut member)?,
    }
    reader.blank();
    if reader.rest.is_empty() { Ok(()) } else { Err(Malformed) }
}

/// Reads one array of strings and calls `item` with each; for `connect_urls`.
pub fn texts<'a>(text: &'a [u8], mut item: impl FnMut(Text<'a>)) -> Result<(), Malformed> {
    let mut reader = Reader { rest: text };
    reader.blank();
    reader.expect(b'[')?;
    reader.blank();
    if reader.eat(b']') {
        return Ok(());
    }
    loop {
        reader.blank();
        item(reader.value()?.text()?.ok_or(Malformed)?);
        reader.blank();
        if reader.eat(b']') {
            return Ok(());
        }
        reader.expect(b',')?;
    }
}

/// Deepest nesting that is read.
const MAX_DEPTH: u32 = 64;

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn blank(&mut self) {
        while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.eat(byte) { Ok(()) } else { Err(Malformed) }
    }

    fn members(
        &mut self,
        mut member: impl FnMut(Text<'a>, Value<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.blank();
        self.expect(b'{')?;
        self.blank();
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            let value = self.value()?;
            member(key, value)?;
            self.blank();
            if self.eat(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// A name, its colon and the white space behind it.
    fn key(&mut self) -> Result<Text<'a>, Malformed> {
        self.blank();
        self.expect(b'"')?;
        let key = self.text()?;
        self.blank();
        self.expect(b':')?;
        self.blank();
        Ok(key)
    }

    fn value(&mut self) -> Result<Value<'a>, Malformed> {
        match self.rest {
            [b'{' | b'[', ..] => {
                let start = self.rest;
                self.skip_nested()?;
                let len = start.len().saturating_sub(self.rest.len());
                Ok(Value::Nested(start.get(..len).unwrap_or_default()))
            }
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Result<Value<'a>, Malformed> {
        if self.eat(b'"') {
            return Ok(Value::Text(self.text()?));
        }
        for (word, value) in
            [(&b"true"[..], Value::Bool(true)), (b"false", Value::Bool(false)), (b"null", Value::Null)]
        {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        self.number().map(Value::Number)
    }

    /// The characters up to the closing quote; the opening one is behind us.
    fn text(&mut self) -> Result<Text<'a>, Malformed> {
        let start = self.rest;
        loop {
            match self.rest {
                [b'"', rest @ ..] => {
                    let len = start.len().saturating_sub(self.rest.len());
                    self.rest = rest;
                    return Ok(Text::Escaped(start.get(..len).unwrap_or_default()));
                }
                [b'\\', b'u', a, b, c, d, rest @ ..]
                    if [a, b, c, d].iter().all(|d| d.is_ascii_hexdigit()) =>
                {
                    self.rest = rest;
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => {
                    self.rest = rest
                }
                [b'\\', ..] | [] => return Err(Malformed),
                [byte, ..] if *byte < 0x20 => return Err(Malformed),
                [_, rest @ ..] => self.rest = rest,
            }
        }
    }

    fn number(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.rest;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        let len = start.len().saturating_sub(self.rest.len());
        Ok(start.get(..len).unwrap_or_default())
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let count = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return Err(Malformed);
        }
        self.rest = self.rest.get(count..).unwrap_or_default();
        Ok(())
    }

    /// Checks and skips an array or object. Which of the two each open level is, is one bit of `levels`.
    fn skip_nested(&mut self) -> Result<(), Malformed> {
        let (mut levels, mut depth) = (0u64, 0u32);
        loop {
            // A value begins here.
            let object = self.eat(b'{');
            if object || self.eat(b'[') {
                if depth == MAX_DEPTH {
                    return Err(Malformed);
                }
                levels = levels << 1 | u64::from(object);
                depth = depth.saturating_add(1);
                self.blank();
                if !self.eat(if object { b'}' } else { b']' }) {
                    if object {
                        self.key()?;
                    }
                    continue;
                }
                levels >>= 1;
                depth = depth.saturating_sub(1);
            } else {
                self.scalar()?;
            }
            // A value ended here: close what ends with it, or go on to the next one.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = levels & 1 == 1;
                self.blank();
                if self.eat(b',') {
                    self.blank();
                    if object {
                        self.key()?;
                    }
                    break;
                }
                self.expect(if object { b'}' } else { b']' })?;
                levels >>= 1;
                depth = depth.saturating_sub(1);
            }
        }
    }
}

/// Writes an object member by member. Without the formatting machinery: it would be most of a small client's code.
pub(crate) struct Writer<'w, W> {
    out: &'w mut W,
    first: bool,
}

impl<'w, W: core::fmt::Write> Writer<'w, W> {
    pub(crate) fn begin(out: &'w mut W) -> Result<Self, core::fmt::Error> {
        out.write_char('{')?;
        Ok(Self { out, first: true })
    }

    pub(crate) fn end(self) -> core::fmt::Result {
        self.out.write_char('}')
    }

    fn key(&mut self, key: &str) -> core::fmt::Result {
        self.out.write_str(if self.first { "\"" } else { ",\"" })?;
        self.first = false;
        self.out.write_str(key)?;
        self.out.write_str("\":")
    }

    pub(crate) fn text(&mut self, key: &str, value: Text<'_>) -> core::fmt::Result {
        self.key(key)?;
        self.out.write_char('"')?;
        match value {
            Text::Escaped(bytes) => {
                for chunk in bytes.utf8_chunks() {
                    self.out.write_str(chunk.valid())?;
                    // Something must stand there: halves of a surrogate pair around it would become one.
                    self.out.write_str(if chunk.invalid().is_empty() { "" } else { "\u{fffd}" })?;
                }
            }
            Text::Plain(text) => {
                for c in text.chars() {
                    match c {
                        '"' => self.out.write_str("\\\"")?,
                        '\\' => self.out.write_str("\\\\")?,
                        c if u32::from(c) < 0x20 => {
                            self.out.write_str(if u32::from(c) < 0x10 { "\\u000" } else { "\\u001" })?;
                            self.out.write_char(char::from_digit(u32::from(c) & 0xf, 16).unwrap_or('0'))?;
                        }
                        c => self.out.write_char(c)?,
                    }
                }
            }
        }
        self.out.write_char('"')
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) -> core::fmt::Result {
        self.key(key)?;
        self.out.write_str(if value { "true" } else { "false" })
    }

    pub(crate) fn number(&mut self, key: &str, value: i64) -> core::fmt::Result {
        self.key(key)?;
        if value < 0 {
            self.out.write_char('-')?;
        }
        let digits = Digits::new(value.unsigned_abs());
        digits.as_bytes().iter().try_for_each(|digit| self.out.write_char(char::from(*digit)))
    }

    pub(crate) fn texts(&mut self, key: &str, values: Texts<'_>) -> core::fmt::Result {
        match values {
            Texts::Json(json) => {
                self.key(key)?;
                json.utf8_chunks().try_for_each(|chunk| self.out.write_str(chunk.valid()))
            }
            Texts::Plain(items) => {
                self.key(key)?;
                for (at, item) in items.iter().enumerate() {
                    self.out.write_str(if at == 0 { "[\"" } else { ",\"" })?;
                    self.out.write_str(item)?;
                    self.out.write_char('"')?;
                }
                self.out.write_str(if items.is_empty() { "[]" } else { "]" })
            }
        }
    }
}

/// A list of strings that need no escapes, such as `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts<'a> {
    /// The array as it was read; walk it with [`texts`].
    Json(&'a [u8]),
    /// The items.
    Plain(&'a [&'a str]),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn members(text: &str) -> Result<Vec<String>, Malformed> {
        let mut out = Vec::new();
        object(text.as_bytes(), |key, value| {
            out.push(match value {
                Value::Text(text) => std::format!("{key}='{text}'"),
                Value::Nested(raw) => std::format!("{key}=<{}>", String::from_utf8_lossy(raw)),
                other => std::format!("{key}={other:?}"),
            });
            Ok(())
        })?;
        Ok(out)
    }

    #[test]
    fn objects() {
        assert_eq!(
            members(r#" {"a":"x\n\u00e9\ud83d\ude00\"", "b" : true,"c":null, "d":[1,{"e":[]},{}],"f":{}} "#)
                .unwrap(),
            ["a='x\né😀\"'", "b=Bool(true)", "c=Null", "d=<[1,{\"e\":[]},{}]>", "f=<{}>"]
        );
        assert_eq!(members("{}").unwrap().len(), 0);
        for bad in [
            "",
            "[]",
            "{",
            "{a:1}",
            "{\"a\":1,}",
            "{\"a\":01}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "{} x",
            "{\"a\":[1,]}",
            "{\"a\":{\"b\"}}",
            "{\"a\":tru}",
            "{\"a\":1.}",
            "{\"a\":[}]",
            "{\"a\"",
        ] {
            assert_eq!(members(bad), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced() {
        let mut json = String::new();
        let mut writer = Writer::begin(&mut json).unwrap();
        writer.text("a", Text::Escaped(b"\\ud83d\xff\\ude00")).unwrap();
        writer.end().unwrap();
        assert_eq!(json, "{\"a\":\"\\ud83d\u{fffd}\\ude00\"}");
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| std::format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(members(&nested(64)).is_ok());
        assert_eq!(members(&nested(65)), Err(Malformed));
    }

    #[test]
    fn types() {
        assert_eq!(Value::Number(b"-7").integer(), Ok(Some(-7)));
        assert_eq!(Value::Number(b"1.0").integer(), Err(Malformed));
        assert_eq!(Value::Null.bool(), Ok(None));
        assert_eq!(Value::Bool(true).text(), Err(Malformed));
    }

    #[test]
    fn lists() {
        let mut out = Vec::new();
        texts(br#"[ "a:1", "b:2" ]"#, |t| out.push(t.to_string())).unwrap();
        assert_eq!(out, ["a:1", "b:2"]);
    }
}
