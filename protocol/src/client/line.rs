//! A server's lines, for the smallest processors.
//!
//! The grammar is that of [`crate::parse`].

/// What a line begins with: a place among [`VERBS`].
pub(super) type Verb = u8;
pub(super) const MSG: Verb = 0;
const OK: Verb = 1;
pub(super) const HMSG: Verb = 2;
pub(super) const ERR: Verb = 3;
pub(super) const INFO: Verb = 4;
pub(super) const PING: Verb = 5;
pub(super) const PONG: Verb = 6;

/// Bytes that it takes to tell a verb; no line has fewer.
pub(super) const SHORTEST: usize = 5;

/// The first four bytes of a line, letters in capitals.
const VERBS: [u32; 7] = [
    u32::from_le_bytes(*b"MSG\0"),
    u32::from_le_bytes(*b"+OK\0"),
    u32::from_le_bytes(*b"HMSG"),
    u32::from_le_bytes(*b"-ERR"),
    u32::from_le_bytes(*b"INFO"),
    u32::from_le_bytes(*b"PING"),
    u32::from_le_bytes(*b"PONG"),
];

/// The verb that `input` begins with, and the bytes that it takes with the blank behind it. `None` if it is none. `input` has at
/// least [`SHORTEST`] bytes.
pub(super) fn verb(input: &[u8]) -> Option<(Verb, usize)> {
    let four = u32::from_le_bytes(*input.first_chunk()?);
    // What most lines begin with.
    if four == u32::from_le_bytes(*b"MSG ") {
        return Some((MSG, 4));
    }
    // A bit tells small letters from capitals. What begins with no letter has it as it is.
    let four = four & if four & 0x40 == 0 { !0x2020_2000 } else { !0x2020_2020 };
    let verb = VERBS.iter().position(|known| *known == four || *known == four << 8 >> 8)? as Verb;
    let len = if verb <= OK { 3usize } else { 4 };
    match input.get(len) {
        Some(b' ' | b'\t') => Some((verb, len.wrapping_add(1))),
        _ if verb == OK || verb >= PING => Some((verb, len)),
        _ => None,
    }
}

/// A MSG, HMSG or -ERR that is longer than the buffer: its beginning is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// [`NONE`] if it is yet to come.
    pub(super) sid: u32,
    pub(super) verb: Verb,
}

/// More than any size, and than any sid that we give.
pub(super) const NONE: u32 = u32::MAX;

/// The next word; what follows it, and the blank behind it, stays. None is left at the end of the line, or of `rest`, where a CR
/// waits for what follows it.
#[inline(never)]
pub(super) fn word<'b>(rest: &mut &'b [u8]) -> &'b [u8] {
    loop {
        let text = *rest;
        let mut behind = text;
        loop {
            // Four at once. Of those that are a blank or less the first one has the lowest bit.
            while let Some((four, tail)) = behind.split_first_chunk::<4>() {
                let four = u32::from_le_bytes(*four);
                let low = four.wrapping_sub(0x2121_2121) & !four & 0x8080_8080;
                if low != 0 {
                    behind = behind.get(low.trailing_zeros() as usize >> 3..).unwrap_or_default();
                    break;
                }
                behind = tail;
            }
            match behind {
                // Control characters are part of a word, but for white space and a CR that ends the line or the input.
                [] | [b' ' | b'\t' | b'\n', ..] | [b'\r'] | [b'\r', b'\n', ..] => break,
                [_, tail @ ..] => behind = tail,
            }
        }
        let word = text.get(..text.len().wrapping_sub(behind.len())).unwrap_or_default();
        let [b' ' | b'\t', tail @ ..] = behind else {
            *rest = behind;
            return word;
        };
        *rest = tail;
        if !word.is_empty() {
            return word;
        }
    }
}

/// The number that a word is, or [`NONE`].
#[inline(never)]
pub(super) fn number(word: &[u8]) -> u32 {
    let mut number = 0u32;
    for byte in word {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        // So far, nine digits and no more of ten are below that.
        if digit > 9 || number >> 27 != 0 {
            return NONE;
        }
        number = number.wrapping_mul(10).wrapping_add(digit);
    }
    if word.is_empty() { NONE } else { number }
}
