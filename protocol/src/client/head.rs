//! Control lines that are longer than the buffer.

use super::Sid;

/// A control line of MSG or HMSG that is longer than the buffer. Of its words only the sid, the second after the verb,
/// and the sizes, the last, are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LongHead {
    words: u8,
    /// The last word began and no white space has ended it.
    in_word: bool,
    with_header: bool,
    /// The values of the last two words, [`NONE`] where one is no number.
    number: u32,
    number_before: u32,
    sid: u32,
}

/// More than nine digits hold, and than any sid that we give.
const NONE: u32 = u32::MAX;

impl LongHead {
    /// Reads the next byte of the line, from its verb on.
    pub(super) fn byte(&mut self, byte: u8) {
        if matches!(byte, b' ' | b'\t' | b'\r') {
            self.in_word = false;
            return;
        }
        if !self.in_word {
            match self.words {
                0 => self.with_header = byte | 0x20 == b'h',
                // The word that has ended is the sid: verb, subject, sid.
                3 => self.sid = self.number,
                _ => {}
            }
            self.words = self.words.saturating_add(1);
            (self.in_word, self.number_before, self.number) = (true, self.number, 0);
        }
        let digit = u32::from(byte.wrapping_sub(b'0'));
        let number = self.number.wrapping_mul(10).wrapping_add(digit);
        self.number = if digit > 9 || self.number > NONE / 20 { NONE } else { number };
    }

    /// The line has ended: the sid, and the sizes of header block and message. `None` if it is not understood.
    pub(super) fn end(&self) -> Option<(Sid, u32, u32)> {
        let fewest = if self.with_header { 5u8 } else { 4 };
        let header_size = if self.with_header { self.number_before } else { 0 };
        let known = self.sid != NONE && self.number != NONE && header_size <= self.number;
        let counted = self.words == fewest || self.words == fewest.saturating_add(1);
        (known && counted).then_some((Sid(self.sid), header_size, self.number))
    }
}
