//! The transcript language: a capture of a few connections that can be played.
//!
//! ```text
//! # The first comment is the title: what is shown here, and why it matters.
//! config { max_payload: 1024 }                  the server's configuration, in as many lines as it takes
//! flags: --auth secret                          or its command line
//! key alice user                                a key (account, curve, operator, server, user), made from its name
//! token t user alice by acme { "nats": {} }     a token on alice that acme signs: operator, account, user, activation
//!                                               or scoped, a user without limits of its own
//! unserved: accounts.imports                    midge says that it does not serve this key; no more is played on it
//! fragmented                                    play again cut at every byte (on the same server: new
//!                                               connections, but no queue groups, please)
//! only: sim                                     where to play it (reference, ours, sim); default: everywhere
//!
//! a> SUB work.> q 1                             client a sends this line and CRLF; it connects at first use
//! c> PUB work.x 2 | hi                          behind the bar: the payload line
//! c> PUB work.x ${size} | hi                    its size, and `${head}` that of the header block it begins with
//! a>| PUB work.x 2\nhi\r\n                      exactly these bytes
//! a x40> PUB work.x 2 | hi                      forty times
//! a,b> PING                                     from each
//! a> EOF                                        closes its sending half
//! a< MSG work.x 1 2 | hi                        the next frame a reads is this one
//! a< MSG work.x 1 ${reply} 2 | hi               a name binds one word here; later it stands for that word
//! a< MSG work.x 1 ${_} | <${all...}>            with dots, all bytes up to what follows
//! a< INFO {"max_payload":1024,"ldm":null}       an INFO with these members, `null` = absent, "*" = any
//! a< ... EOF                                    whatever comes first, then the end of the stream
//! a< refused                                    the server does not let it connect
//! a< nothing                                    everything sent so far is processed, nothing came of it
//! a<* MSG x 1 0 |                               adjacent `<*` lines of one client: all of them, in any order
//! one-of a,b x40< MSG work.x 1 2 | hi           exactly forty in all, and each client has some
//! +2m a< PING                                   time passes first; what takes seconds is played in the simulator
//!
//! ! reload { max_payload: 512 }                 the operator: new configuration and SIGHUP,
//! ! signal USR2                                 a signal (HUP, INT, TERM, USR1, USR2, KILL),
//! ! exit 0                                      the process ends with this code
//! ! restart                                     it ends and is started again; no client is connected any more
//!
//! differs: why midge does not follow here       what follows is marked, line by line, until an unmarked one
//! reference: a< EOF
//! ours: a< -ERR 'Parser Error'
//! ours: a< EOF
//! ```
//!
//! In what is sent and in configurations, `${alice}` is a key that was declared, `${seed alice}` its secret,
//! `${sig alice}` its signature of the nonce that the sending client was given, `${now+60}` a time: see [`crate::cast`].
//!
//! Escapes: `\r \n \t \s \\ \xNN`, and `\(text*N)` for N times `text`. Unless a script's step asks for them, the
//! greeting INFO and the INFO that follows the first PONG are read and dropped, and a server's PING is answered.
//! When the steps are done, bytes that no step asked for are a failure.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::cast::Role;

/// A parsed transcript.
#[derive(Debug, Clone)]
pub struct Script {
    /// `topic/name`, the path below `scripts` without its ending.
    pub name: String,
    /// The leading comment, in one line.
    pub title: String,
    /// Configuration text, if the script needs any.
    pub config: Option<String>,
    /// Command line arguments.
    pub flags: Vec<String>,
    /// A configuration key that midge refuses to run with: there is nothing to play, but that is checked.
    pub unserved: Option<String>,
    /// Whether to play it again with the sends cut into pieces.
    pub fragmented: bool,
    /// Keys that it names.
    pub roles: Vec<Role>,
    /// Where to play it; empty is everywhere.
    pub only: Vec<String>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// Marked differences.
    pub differences: Vec<Difference>,
}

/// A place where midge does not follow nats-server.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The line that says why.
    pub line: usize,
    /// Why.
    pub reason: String,
    /// What nats-server does, as the script writes it.
    pub reference: Vec<String>,
    /// What midge does.
    pub ours: Vec<String>,
}

/// One line of a script.
#[derive(Debug, Clone)]
pub struct Step {
    /// Counted from one.
    pub line: usize,
    /// The side it belongs to, if it is part of a marked difference.
    pub side: Option<Side>,
    /// Time that passes before it.
    pub after: Duration,
    /// What to do or what to see.
    pub action: Action,
}

/// Whose behaviour a marked line describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// nats-server.
    Reference,
    /// midge, as a process or simulated.
    Ours,
}

/// A step's content.
#[derive(Debug, Clone)]
pub enum Action {
    /// Each client sends the bytes, so many times.
    Send(Vec<String>, usize, Text),
    /// Each client closes its sending half.
    Finish(Vec<String>),
    /// Each client reads this next, so many times.
    Expect(Vec<String>, usize, Expected),
    /// The client reads all of these next, in any order.
    ExpectSet(String, Vec<Text>),
    /// The clients read this so many times in all, and each at least once.
    ExpectShared(Vec<String>, usize, Text),
    /// Time passes.
    Wait,
    /// The configuration is replaced and the server told to read it.
    Reload(String),
    /// The process gets this signal.
    Signal(Signal),
    /// The process ends with this code.
    Exit(i32),
    /// The process ends, and another begins where it was.
    Restart,
}

/// What a client reads.
#[derive(Debug, Clone)]
pub enum Expected {
    /// This frame.
    Frame(Text),
    /// An INFO with at least these members.
    Info(Value),
    /// The end of the stream.
    Eof,
    /// This, behind any other frames.
    Eventually(Box<Expected>),
    /// No frame at all before the answer to a PING.
    Nothing,
    /// No connection.
    Refused,
}

/// The signals a server reacts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are their meaning")]
pub enum Signal {
    Hup,
    Int,
    Term,
    Usr1,
    Usr2,
    Kill,
}

/// Bytes with named gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub Vec<Piece>);

/// A part of a [`Text`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The word bound to this name; `_` is any word.
    Name(String),
}

/// Where a script cannot be understood.
#[derive(Debug)]
pub struct ParseError {
    line: usize,
    what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ParseError {}

impl Script {
    /// Reads a script's text. `name` is how reports call it.
    pub fn parse(name: &str, text: &str) -> Result<Self, ParseError> {
        let mut script = Self {
            name: name.into(),
            title: title(text),
            config: None,
            flags: Vec::new(),
            unserved: None,
            fragmented: false,
            roles: Vec::new(),
            only: Vec::new(),
            steps: Vec::new(),
            differences: Vec::new(),
        };
        if script.title.is_empty() {
            return Err(ParseError { line: 1, what: "a script begins with its title, `# …`".into() });
        }
        let mut lines = Lines { rest: text.lines().enumerate() };
        while let Some((line, text)) = lines.next() {
            script.line(line, text, &mut lines).map_err(|what| ParseError { line, what })?;
        }
        Ok(script)
    }

    /// All the time that passes in it.
    pub fn duration(&self) -> Duration {
        self.steps.iter().map(|step| step.after).sum()
    }

    /// The steps that are played on `side`.
    pub fn steps_on(&self, side: Side) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.side.is_none_or(|it| it == side))
    }

    fn line(&mut self, line: usize, text: &str, lines: &mut Lines<'_>) -> Result<(), String> {
        let words = || text.split_whitespace().skip(1).map(String::from);
        if text.is_empty() || text.starts_with('#') {
        } else if let Some(rest) = text.strip_prefix("config ") {
            self.config = Some(lines.block(rest)?);
        } else if let Some(rest) = text.strip_prefix("key ") {
            self.roles.push(Role::key(rest)?);
        } else if let Some(rest) = text.strip_prefix("token ") {
            let (head, body) = rest.split_once('{').ok_or("a token takes claims, `{` … `}`")?;
            let body = lines.block(&format!("{{{body}"))?;
            self.roles.push(Role::token(head, &body)?);
        } else if text.starts_with("flags:") {
            self.flags = words().collect();
        } else if text.starts_with("only:") {
            self.only = words().collect();
            if let Some(other) =
                self.only.iter().find(|it| !["reference", "ours", "sim"].contains(&it.as_str()))
            {
                return Err(format!("no target `{other}`"));
            }
        } else if text.starts_with("unserved:") {
            self.unserved = words().next();
        } else if text == "fragmented" {
            self.fragmented = true;
        } else if let Some(reason) = text.strip_prefix("differs:") {
            let reason = reason.trim().into();
            self.differences.push(Difference { line, reason, reference: Vec::new(), ours: Vec::new() });
        } else {
            self.step(line, text, lines)?;
        }
        Ok(())
    }

    fn step(&mut self, line: usize, text: &str, lines: &mut Lines<'_>) -> Result<(), String> {
        let (side, text) = match (text.strip_prefix("reference: "), text.strip_prefix("ours: ")) {
            (Some(rest), _) => (Some(Side::Reference), rest),
            (_, Some(rest)) => (Some(Side::Ours), rest),
            _ => (None, text),
        };
        let text = text.trim_start();
        if let Some(side) = side {
            let difference = self.differences.last_mut();
            let difference = difference.ok_or("a marked line needs its reason, `differs: …`, above")?;
            match side {
                Side::Reference => difference.reference.push(text.into()),
                Side::Ours => difference.ours.push(text.into()),
            }
        }
        let (after, text) = match text.strip_prefix('+') {
            Some(rest) => {
                let (time, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                (duration(time).ok_or_else(|| format!("`+{time}` is no duration"))?, rest.trim_start())
            }
            None => (Duration::ZERO, text),
        };
        let action = if text.is_empty() {
            Action::Wait
        } else if let Some(order) = text.strip_prefix("! ") {
            operator(order, lines)?
        } else {
            exchange(text)?
        };
        // Adjacent lines of an unordered set are one step.
        if let Action::ExpectSet(client, more) = &action
            && let Some(Step { side: before, action: Action::ExpectSet(same, set), .. }) =
                self.steps.last_mut()
            && (client, side) == (same, *before)
        {
            set.extend_from_slice(more);
            return Ok(());
        }
        self.steps.push(Step { line, side, after, action });
        Ok(())
    }
}

impl Text {
    /// The bytes, with names replaced by what `lookup` finds for them.
    pub fn fill(&self, lookup: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Bytes(more) => bytes.extend_from_slice(more),
                Piece::Name(name) => {
                    bytes.extend_from_slice(
                        &lookup(name).ok_or_else(|| format!("nothing is bound to ${{{name}}}"))?,
                    );
                }
            }
        }
        Ok(bytes)
    }

    /// As [`fill`](Self::fill) does, with `${size}` for the bytes of the payload line, and `${head}` for those of the header
    /// block that it begins with.
    pub fn fill_measured(&self, lookup: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Vec<u8>, String> {
        let measure = |name: &str| matches!(name, "size" | "head");
        let bytes = self.fill(|name| if measure(name) { Some(Vec::new()) } else { lookup(name) })?;
        let find = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|it| it == text);
        let line = find(&bytes, b"\r\n").map_or(bytes.len(), |at| at + 2);
        let payload = bytes[line..].strip_suffix(b"\r\n").unwrap_or_default();
        let head = find(payload, b"\r\n\r\n").map_or(0, |at| at + 4);
        self.fill(|name| match name {
            "size" => Some(payload.len().to_string().into()),
            "head" => Some(head.to_string().into()),
            _ => lookup(name),
        })
    }

    /// The words that `bytes` has in the gaps, if the rest is the same.
    pub fn matches(
        &self,
        mut bytes: &[u8],
        lookup: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Option<Vec<(String, Vec<u8>)>> {
        let mut bound: Vec<(String, Vec<u8>)> = Vec::new();
        for (index, piece) in self.0.iter().enumerate() {
            match piece {
                Piece::Bytes(same) => bytes = bytes.strip_prefix(same.as_slice())?,
                Piece::Name(name) if name.ends_with("...") => {
                    let name = name.trim_end_matches('.');
                    let rest = self.0.get(index + 1);
                    let len = match rest {
                        None => bytes.len(),
                        // What ends the text is looked for at its end.
                        Some(Piece::Bytes(next)) if index + 2 == self.0.len() => {
                            bytes.len().checked_sub(next.len())?
                        }
                        Some(Piece::Bytes(next)) => bytes.windows(next.len()).position(|it| it == next)?,
                        Some(Piece::Name(_)) => return None,
                    };
                    let (all, after) = bytes.split_at(len);
                    if name != "_" {
                        bound.push((name.to_owned(), all.to_vec()));
                    }
                    bytes = after;
                }
                Piece::Name(name) => {
                    let known = bound.iter().find(|(it, _)| it == name).map(|(_, word)| word.clone());
                    if let Some(word) = known.or_else(|| lookup(name)) {
                        bytes = bytes.strip_prefix(word.as_slice())?;
                        continue;
                    }
                    let stop = match self.0.get(index + 1) {
                        Some(Piece::Bytes(next)) => next.first().copied(),
                        _ => None,
                    };
                    let end = |byte: &u8| byte.is_ascii_whitespace() || Some(*byte) == stop;
                    let word = &bytes[..bytes.iter().position(end).unwrap_or(bytes.len())];
                    bytes = &bytes[word.len()..];
                    if word.is_empty() {
                        return None;
                    }
                    if name != "_" {
                        bound.push((name.clone(), word.to_vec()));
                    }
                }
            }
        }
        bytes.is_empty().then_some(bound)
    }

    /// A control line, with the payload line behind ` | `.
    fn frame(text: &str) -> Result<Self, String> {
        let (head, payload) =
            match text.strip_suffix(" |").map(|head| (head, "")).or_else(|| text.split_once(" | ")) {
                Some((head, payload)) => (head, Some(payload)),
                None => (text, None),
            };
        let mut frame = Self::exact(head)?;
        frame.push(b"\r\n");
        if let Some(payload) = payload {
            frame.0.extend(Self::exact(payload)?.0);
            frame.push(b"\r\n");
        }
        Ok(frame)
    }

    fn exact(text: &str) -> Result<Self, String> {
        let mut out = Self(Vec::new());
        let mut rest = text;
        while let Some(at) = rest.find(['\\', '$']) {
            out.push(&rest.as_bytes()[..at]);
            rest = &rest[at..];
            if let Some(named) = rest.strip_prefix("${") {
                let (name, after) = named.split_once('}').ok_or("`${` without `}`")?;
                out.0.push(Piece::Name(name.into()));
                rest = after;
            } else if let Some(plain) = rest.strip_prefix('$') {
                out.push(b"$");
                rest = plain;
            } else {
                rest = out.escape(&rest[1..])?;
            }
        }
        out.push(rest.as_bytes());
        Ok(out)
    }

    /// Takes the escape behind a backslash and returns what follows it.
    fn escape<'t>(&mut self, text: &'t str) -> Result<&'t str, String> {
        let mut chars = text.chars();
        let kind = chars.next().ok_or("a lone `\\` at the end")?;
        let rest = chars.as_str();
        match kind {
            'r' => self.push(b"\r"),
            'n' => self.push(b"\n"),
            't' => self.push(b"\t"),
            's' => self.push(b" "),
            '\\' => self.push(b"\\"),
            'x' => {
                let digits = rest.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                self.push(&[digits.ok_or("`\\x` needs two hex digits")?]);
                return Ok(&rest[2..]);
            }
            '(' => {
                let (inside, rest) = rest.split_once(')').ok_or("`\\(` without `)`")?;
                let (text, times) = inside.rsplit_once('*').ok_or("`\\(text*N)` without `*`")?;
                let times: usize = times.parse().map_err(|_| format!("`{times}` is no number"))?;
                for _ in 0..times {
                    self.0.extend(Self::exact(text)?.0);
                }
                self.join();
                return Ok(rest);
            }
            _ => return Err(format!("unknown escape `\\{kind}`")),
        }
        Ok(rest)
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(Piece::Bytes(last)) = self.0.last_mut() {
            last.extend_from_slice(bytes);
        } else if !bytes.is_empty() {
            self.0.push(Piece::Bytes(bytes.to_vec()));
        }
    }

    fn join(&mut self) {
        for piece in std::mem::take(&mut self.0) {
            match piece {
                Piece::Bytes(bytes) => self.push(&bytes),
                name => self.0.push(name),
            }
        }
    }
}

struct Lines<'t> {
    rest: std::iter::Enumerate<std::str::Lines<'t>>,
}

impl<'t> Lines<'t> {
    fn next(&mut self) -> Option<(usize, &'t str)> {
        self.rest.next().map(|(index, text)| (index + 1, text.trim_end()))
    }

    /// The inside of a `{ … }` that begins in `text` and may go on over the following lines.
    fn block(&mut self, text: &str) -> Result<String, String> {
        let mut block = text.trim().to_owned();
        let depth =
            |text: &str| text.matches('{').count().cast_signed() - text.matches('}').count().cast_signed();
        while depth(&block) > 0 {
            let (_, line) = self.next().ok_or("a block is not closed")?;
            block.push('\n');
            block.push_str(line);
        }
        let inside = block.strip_prefix('{').and_then(|it| it.strip_suffix('}')).ok_or("expected `{ … }`")?;
        Ok(inside.trim().to_owned() + "\n")
    }
}

fn title(text: &str) -> String {
    let comment = text.lines().map_while(|line| line.strip_prefix('#'));
    comment.map(str::trim).collect::<Vec<_>>().join(" ")
}

fn operator(order: &str, lines: &mut Lines<'_>) -> Result<Action, String> {
    let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
    match verb {
        "reload" => Ok(Action::Reload(lines.block(rest)?)),
        "signal" => Ok(Action::Signal(match rest {
            "HUP" => Signal::Hup,
            "INT" => Signal::Int,
            "TERM" => Signal::Term,
            "USR1" => Signal::Usr1,
            "USR2" => Signal::Usr2,
            "KILL" => Signal::Kill,
            _ => return Err(format!("unknown signal `{rest}`")),
        })),
        "restart" => Ok(Action::Restart),
        "exit" => rest.parse().map(Action::Exit).map_err(|_| format!("`{rest}` is no exit code")),
        _ => Err(format!("unknown operator step `{verb}`")),
    }
}

fn exchange(text: &str) -> Result<Action, String> {
    let at = text.find(['<', '>']).ok_or_else(|| format!("neither `>` nor `<` in `{text}`"))?;
    let (who, rest) = text.split_at(at);
    let (who, shared) = match who.strip_prefix("one-of ") {
        Some(who) => (who, true),
        None => (who, false),
    };
    let (who, times) = match who.trim().split_once(' ') {
        Some((who, times)) => {
            let times = times.trim().strip_prefix('x').and_then(|times| times.parse().ok());
            (who, times.ok_or_else(|| format!("expected `xN` behind `{who}`"))?)
        }
        None => (who.trim(), 1),
    };
    let clients: Vec<String> = who.split(',').map(String::from).collect();
    if clients.iter().any(|name| name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric())) {
        return Err(format!("`{who}` names no client"));
    }
    if let Some(exact) = rest.strip_prefix(">|") {
        let exact = exact.strip_prefix(' ').unwrap_or(exact);
        return Ok(Action::Send(clients, times, Text::exact(exact)?));
    }
    if let Some(frame) = rest.strip_prefix('>') {
        return Ok(match frame.trim_start() {
            "EOF" => Action::Finish(clients),
            frame => Action::Send(clients, times, Text::frame(frame)?),
        });
    }
    if let Some(frame) = rest.strip_prefix("<*") {
        return Ok(Action::ExpectSet(who.into(), vec![Text::frame(frame.trim_start())?]));
    }
    let frame = rest[1..].trim_start();
    if shared {
        return Ok(Action::ExpectShared(clients, times, Text::frame(frame)?));
    }
    Ok(Action::Expect(clients, times, expected(frame)?))
}

fn expected(text: &str) -> Result<Expected, String> {
    if let Some(last) = text.strip_prefix("... ") {
        return Ok(Expected::Eventually(Box::new(expected(last)?)));
    }
    Ok(match text {
        "EOF" => Expected::Eof,
        "nothing" => Expected::Nothing,
        "refused" => Expected::Refused,
        _ => match text.strip_prefix("INFO ") {
            Some(json) => Expected::Info(serde_json::from_str(json).map_err(|err| err.to_string())?),
            None => Expected::Frame(Text::frame(text)?),
        },
    })
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3600),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_binds_and_reuses_words() {
        let text = Text::frame("MSG svc 1 ${reply} 2 | hi").unwrap();
        let all = Text::frame("MSG svc 1 ${_} | <${all...}>;${rest...}").unwrap();
        let bound = all.matches(b"MSG svc 1 9\r\n<a b\r\n>;\r\n\r\n", |_| None).unwrap();
        assert_eq!(bound, [("all".to_owned(), b"a b\r\n".to_vec()), ("rest".to_owned(), b"\r\n".to_vec())]);
        let bound = text.matches(b"MSG svc 1 _R_.x 2\r\nhi\r\n", |_| None).unwrap();
        assert_eq!(bound, [("reply".into(), b"_R_.x".to_vec())]);
        assert!(text.matches(b"MSG svc 1 y 2\r\nhi\r\n", |_| Some(b"x".to_vec())).is_none());
    }

    #[test]
    fn payloads_are_measured() {
        let text = Text::frame(r"HPUB a ${head} ${size} | NATS/1.0\r\nA: b\r\n\r\n${it}").unwrap();
        let sent = text.fill_measured(|name| (name == "it").then(|| b"hello".to_vec())).unwrap();
        assert_eq!(sent, b"HPUB a 18 23\r\nNATS/1.0\r\nA: b\r\n\r\nhello\r\n");
        assert_eq!(
            Text::frame("PUB a ${size} |").unwrap().fill_measured(|_| None).unwrap(),
            b"PUB a 0\r\n\r\n"
        );
    }

    #[test]
    fn escapes_spell_any_byte() {
        let text = Text::exact(r"\(ab*2)\r\n\x00\\\s").unwrap();
        assert_eq!(text.fill(|_| None).unwrap(), b"abab\r\n\0\\ ");
    }

    #[test]
    fn errors_name_their_line() {
        let error = Script::parse("x", "# title\na> PING\nwhat").unwrap_err();
        assert_eq!(error.to_string(), "line 3: neither `>` nor `<` in `what`");
    }

    #[test]
    fn an_unmarked_difference_is_refused() {
        let error = Script::parse("x", "# title\nours: a< EOF").unwrap_err();
        assert_eq!(error.to_string(), "line 2: a marked line needs its reason, `differs: …`, above");
    }
}
