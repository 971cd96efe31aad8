//! A server's lines, for the smallest processors: each byte is looked at once, and no digits are kept.
//!
//! The grammar is that of [`crate::parse`].

use crate::limits::MAX_SIZE_DIGITS;

/// What a line begins with.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Verb {
    Msg,
    Hmsg,
    Ping,
    Pong,
    Ok,
    Err,
    Info,
}

/// In lower case; a space stands for one or a tab. The most frequent first.
const VERBS: [(&[u8], Verb); 7] = [
    (b"msg ", Verb::Msg),
    (b"hmsg ", Verb::Hmsg),
    (b"ping", Verb::Ping),
    (b"pong", Verb::Pong),
    (b"+ok", Verb::Ok),
    (b"-err ", Verb::Err),
    (b"info ", Verb::Info),
];

/// The verb that `input` begins with, and its length. `None` if it is none; 0 if `input` is too short to tell.
pub(super) fn verb(input: &[u8]) -> Option<(Verb, usize)> {
    'verbs: for (name, verb) in &VERBS {
        let mut rest = input;
        for known in *name {
            let [byte, tail @ ..] = rest else { return Some((*verb, 0)) };
            let byte = if *byte == b'\t' { b' ' } else { byte.to_ascii_lowercase() };
            if byte != *known {
                continue 'verbs;
            }
            rest = tail;
        }
        return Some((*verb, name.len()));
    }
    None
}

/// The control line of MSG or HMSG.
#[derive(Clone, Copy)]
pub(super) struct Head<'b> {
    pub(super) sid: u32,
    pub(super) subject: &'b [u8],
    pub(super) reply: Option<&'b [u8]>,
    /// Bytes of the header block; 0 for MSG.
    pub(super) header_size: u32,
    /// Bytes of header block and payload.
    pub(super) size: u32,
}

impl<'b> Head<'b> {
    /// Reads what follows the verb: the head, and what follows its line. `Err(false)`: the line isn't whole yet;
    /// `Err(true)`: it is none.
    pub(super) fn read(input: &'b [u8], with_header: bool) -> Result<(Self, &'b [u8]), bool> {
        let mut words = Words { rest: input };
        match (words.head(with_header), words.rest) {
            (_, []) => Err(false),
            (Some(head), [b'\n', body @ ..]) => Ok((head, body)),
            _ => Err(true),
        }
    }
}

/// What is left of a line, and what follows it.
struct Words<'b> {
    rest: &'b [u8],
}

impl<'b> Words<'b> {
    /// `None` if the line is none, or if it isn't whole: then nothing is left.
    fn head(&mut self, with_header: bool) -> Option<Head<'b>> {
        let subject = self.next()?;
        // A sid is any word of ours, and ours are numbers.
        let sid = number(self.next()?)?;
        // Up to three words, of which the last is a size, the one before it too if there are headers.
        let (first, second, third) = (self.next()?, self.next(), self.next());
        let (reply, header_size, size) = match (with_header, second, third) {
            (false, None, _) => (None, None, first),
            (false, Some(size), None) => (Some(first), None, size),
            (true, Some(size), None) => (None, Some(first), size),
            (true, Some(header_size), Some(size)) => (Some(first), Some(header_size), size),
            _ => return None,
        };
        let header_size = if let Some(header_size) = header_size { number(header_size)? } else { 0 };
        let size = number(size)?;
        (header_size <= size).then_some(Head { sid, subject, reply, header_size, size })
    }

    /// The next word of the line; `None` at its end, and where the input ends.
    #[inline(never)]
    fn next(&mut self) -> Option<&'b [u8]> {
        while let [b' ' | b'\t', tail @ ..] = self.rest {
            self.rest = tail;
        }
        let mut len = 0usize;
        for byte in self.rest {
            // Most bytes are no control characters, and are looked at once.
            if *byte <= b' ' && (*byte == b' ' || *byte == b'\n' || *byte == b'\t') {
                break;
            }
            len = len.wrapping_add(1);
        }
        let (mut word, tail) = self.rest.split_at_checked(len)?;
        self.rest = tail;
        if let [b'\n', ..] = tail {
            word = word.strip_suffix(b"\r").unwrap_or(word);
        }
        if word.is_empty() || tail.is_empty() { None } else { Some(word) }
    }
}

/// Decimal digits, so few that they fit.
#[inline(never)]
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > MAX_SIZE_DIGITS {
        return None;
    }
    let mut number = 0u32;
    for byte in text {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        number = number.wrapping_mul(10).wrapping_add(digit);
    }
    Some(number)
}
