//! A server's lines, for the smallest processors: each byte is looked at once, and no digits are kept.
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

/// What follows the verb of a control line, as far as it was read: what is kept doesn't depend on its length. Of its words the sid,
/// which is the second, and the sizes, which are the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) sid: u32,
    /// The values of the last two words, [`NONE`] where one is no number.
    number: u32,
    number_before: u32,
    words: u8,
    pub(super) verb: Verb,
    /// The last word began and nothing has ended it.
    in_word: bool,
    /// Longer than the buffer: what was read is gone.
    pub(super) is_cut: bool,
}

/// More than any size, and than any sid that we give.
const NONE: u32 = u32::MAX;

impl Line {
    pub(super) fn new(verb: Verb) -> Self {
        Self { sid: 0, number: 0, number_before: 0, words: 0, verb, in_word: false, is_cut: false }
    }

    /// Reads on, up to LF, or up to the end of `input`, where a CR waits for what follows it; gives how far that is. Leaves in
    /// `words` the first one and the third, if they begin and end in `input`.
    #[inline(never)]
    pub(super) fn read<'b>(&mut self, input: &'b [u8], words: &mut [&'b [u8]; 2]) -> usize {
        if !self.is_cut {
            // What was read before is read again, together with what followed it.
            (self.words, self.in_word) = (0, false);
        }
        let mut rest = input;
        loop {
            let mut behind = rest;
            while let [byte, tail @ ..] = behind
                && (*byte > b' ' || is_odd(*byte, tail))
            {
                behind = tail;
            }
            if let Some(word @ [_, ..]) = rest.get(..rest.len().wrapping_sub(behind.len())) {
                if !self.in_word {
                    if self.words == 2 {
                        self.sid = self.number;
                    }
                    self.words = self.words.wrapping_add(1);
                    (self.number_before, self.number) = (self.number, 0);
                }
                self.in_word = true;
                self.number = number(self.number, word);
                // The second is there until the third comes.
                if let Some(place) = words.get_mut(usize::from(self.words >> 1)) {
                    *place = word;
                }
            }
            match behind {
                [] | [b'\r'] | [b'\n', ..] => return input.len().wrapping_sub(behind.len()),
                [_, b'\n', ..] => return input.len().wrapping_sub(behind.len()).wrapping_add(1),
                [_, tail @ ..] => rest = tail,
            }
            self.in_word = false;
        }
    }

    /// The line of MSG or HMSG has ended: the sizes of its header block, and of that and the payload; and whether the third word
    /// is where an answer is wanted. `None` if it is not understood.
    pub(super) fn sizes(&self) -> Option<(u32, u32, bool)> {
        let (fewest, header_size) = if self.verb == HMSG { (4, self.number_before) } else { (3, 0) };
        let more = self.words.wrapping_sub(fewest);
        let known = self.sid != NONE && self.number != NONE && header_size <= self.number;
        if known && more <= 1 { Some((header_size, self.number, more == 1)) } else { None }
    }
}

/// True if a control character is part of a word, as all are but white space and a CR that ends the line or the input.
#[inline(always)]
fn is_odd(byte: u8, behind: &[u8]) -> bool {
    match byte {
        b' ' | b'\t' | b'\n' => false,
        b'\r' => !matches!(behind, [] | [b'\n', ..]),
        _ => true,
    }
}

/// Goes on with a number.
fn number(mut number: u32, digits: &[u8]) -> u32 {
    for byte in digits {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        // So far, nine digits and no more of ten are below that.
        if digit > 9 || number >> 27 != 0 {
            return NONE;
        }
        number = number.wrapping_mul(10).wrapping_add(digit);
    }
    number
}
