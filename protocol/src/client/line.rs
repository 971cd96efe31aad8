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

/// Bytes that it takes to tell a verb; no line has fewer.
pub(super) const SHORTEST: usize = 5;

/// The first four bytes: the bits that count, and what they are. The most frequent first.
const VERBS: [(u32, u32, Verb); 7] = [
    (letters(b"...\0"), letters(b"MSG\0"), Verb::Msg),
    (letters(b"...."), letters(b"HMSG"), Verb::Hmsg),
    (letters(b"...."), letters(b"PING"), Verb::Ping),
    (letters(b"...."), letters(b"PONG"), Verb::Pong),
    (letters(b"=..\0"), letters(b"+OK\0"), Verb::Ok),
    (letters(b"=..."), letters(b"-ERR"), Verb::Err),
    (letters(b"...."), letters(b"INFO"), Verb::Info),
];

/// Four bytes as a number; `.` are the bits of a letter of any case, `=` all bits.
pub(super) const fn letters(four: &[u8; 4]) -> u32 {
    let (mut sum, mut rest): (u32, &[u8]) = (0, four);
    while let [byte, tail @ ..] = rest {
        let byte = match *byte {
            b'.' => !0x20,
            b'=' => !0,
            byte => byte,
        };
        (sum, rest) = (sum << 8 | byte as u32, tail);
    }
    sum
}

/// The verb that `input` begins with, and what follows it: its arguments for one that has them. `None` if it is none.
/// `input` is at least [`SHORTEST`].
pub(super) fn verb(input: &[u8]) -> Option<(Verb, &[u8])> {
    let (four, rest) = input.split_first_chunk::<4>()?;
    let number = u32::from_be_bytes(*four);
    let (_, _, verb) = VERBS.iter().find(|(mask, known, _)| number & mask == *known)?;
    let rest = if matches!(verb, Verb::Msg | Verb::Ok) { input.get(3..)? } else { rest };
    match (verb, rest) {
        (Verb::Ping | Verb::Pong | Verb::Ok, _) => Some((*verb, rest)),
        (_, [b' ' | b'\t', rest @ ..]) => Some((*verb, rest)),
        _ => None,
    }
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
    /// Leaves LF and what follows it. `None` if the line is none, or if it isn't whole: then nothing is left.
    fn head(&mut self, with_header: bool) -> Option<Head<'b>> {
        let subject = self.word()?;
        // A sid is any word of ours, and ours are numbers.
        let sid = self.number()?;
        let behind_sid = self.rest;
        let (reply, (header_size, size)) = match self.sizes(with_header) {
            Some(sizes) => (None, sizes),
            None if self.rest.is_empty() => return None,
            None => {
                self.rest = behind_sid;
                if !matches!(behind_sid, [b' ' | b'\t', ..]) {
                    return None;
                }
                (Some(self.word()?), self.sizes(with_header)?)
            }
        };
        (header_size <= size).then_some(Head { sid, subject, reply, header_size, size })
    }

    /// The next word; `None` if it is the last of the line.
    #[inline(never)]
    fn word(&mut self) -> Option<&'b [u8]> {
        let rest = skip_blanks(self.rest);
        // Most bytes are no control characters, and are looked at once.
        let mut len = rest.iter().position(|byte| *byte <= b' ');
        if let Some(at) = len
            && !matches!(rest.get(at), Some(b' ' | b'\t' | b'\n'))
        {
            len = rest.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\n'));
        }
        let Some(len) = len else {
            self.rest = &[];
            return None;
        };
        let (word, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        if let [b'\n', ..] = rest { None } else { Some(word) }
    }

    /// The sizes that end a line: of the header block, and of all.
    #[inline(never)]
    fn sizes(&mut self, with_header: bool) -> Option<(u32, u32)> {
        let header_size = if with_header { self.number()? } else { 0 };
        let size = self.number()?;
        let rest = skip_blanks(self.rest);
        self.rest = rest.strip_prefix(b"\r").unwrap_or(rest);
        if let [b'\n', ..] = self.rest { Some((header_size, size)) } else { None }
    }

    /// Blanks, then decimal digits, so few that they fit. Who comes next looks at what ends them.
    #[inline(never)]
    fn number(&mut self) -> Option<u32> {
        let mut rest = skip_blanks(self.rest);
        if rest.len() == self.rest.len() {
            return None;
        }
        let (mut number, digits) = (0u32, rest.len());
        while let [byte, tail @ ..] = rest {
            let digit = u32::from(byte.wrapping_sub(b'0'));
            if digit > 9 {
                self.rest = rest;
                let digits = digits.wrapping_sub(rest.len());
                return if digits.wrapping_sub(1) < MAX_SIZE_DIGITS { Some(number) } else { None };
            }
            (number, rest) = (number.wrapping_mul(10).wrapping_add(digit), tail);
        }
        self.rest = &[];
        None
    }
}

fn skip_blanks(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', tail @ ..] = bytes {
        bytes = tail;
    }
    bytes
}
