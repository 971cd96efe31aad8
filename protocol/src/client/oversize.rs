//! Messages that are larger than the buffer: their parts, a piece at a time.

use super::{Event, Progress, Sid};
use crate::error::Rule;

/// What is left of a body, without the CR LF behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    left: u32,
}

impl Body {
    pub(super) fn new(left: u32) -> Self {
        Self { left }
    }

    /// The next piece. The last one comes only when the CR LF behind it is there, so that the end of the message and
    /// the end of its framing are one event.
    pub(super) fn read<'b>(&mut self, input: &'b [u8]) -> Progress<'b> {
        let left = self.left as usize;
        match input.split_at_checked(left) {
            Some((data, [b'\r', b'\n', ..])) => {
                Progress::Event(Event::Piece { data, left: 0 }, left.saturating_add(2))
            }
            Some((_, [] | [b'\r'])) | None => {
                let take = input.len().min(left.saturating_sub(1));
                let Some(data @ [_, ..]) = input.get(..take) else {
                    return Progress::Need(left.saturating_add(2));
                };
                // `take` is less than `left`, which came from a u32.
                self.left = u32::try_from(left.saturating_sub(take)).unwrap_or(u32::MAX);
                Progress::Event(Event::Piece { data, left: self.left }, take)
            }
            Some(_) => Progress::Bad(Rule::UnknownOperation),
        }
    }
}

/// A control line of MSG or HMSG that is longer than the buffer. Of its words only the sid, the second after the verb,
/// and the size, the last, are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LongHead {
    words: u8,
    /// The last word began and no white space has ended it.
    in_word: bool,
    /// The value of the last word; `None` if it is no number of 32 bits.
    number: Option<u32>,
    sid: Option<u32>,
    with_header: bool,
}

impl LongHead {
    /// Reads more of the line, from its verb on.
    pub(super) fn read(&mut self, line: &[u8]) {
        for &byte in line {
            if matches!(byte, b' ' | b'\t' | b'\r') {
                self.in_word = false;
                continue;
            }
            if !self.in_word {
                self.begin_word(byte);
            }
            let digit = byte.wrapping_sub(b'0');
            self.number = self
                .number
                .filter(|_| digit <= 9)
                .and_then(|number| number.checked_mul(10)?.checked_add(u32::from(digit)));
        }
    }

    fn begin_word(&mut self, byte: u8) {
        match self.words {
            0 => self.with_header = byte | 0x20 == b'h',
            // The word that ends here is the sid: verb, subject, sid.
            3 => self.sid = self.number,
            _ => {}
        }
        self.words = self.words.saturating_add(1);
        (self.in_word, self.number) = (true, Some(0));
    }

    /// The line has ended. `None` if it is not understood.
    pub(super) fn end(&self) -> Option<(Sid, u32)> {
        let fewest = if self.with_header { 5u8 } else { 4 };
        if !(fewest..=fewest.saturating_add(1)).contains(&self.words) {
            return None;
        }
        Some((Sid(self.sid?), self.number?))
    }
}
