//! Reading ahead: whoever reads one message after another reads the file in large pieces.
//!
//! A piece holds what is on the disk and will not be written again, so it stays true; messages are checked in it as they
//! would be in the file. Reading here and there, as key-value stores are, bypasses it.

use bytes::Bytes;

/// The largest piece, and so what a store keeps at most for reading.
pub(crate) const AHEAD_BYTES: u64 = 64 * 1024;
/// A reader that skips less than this reads on: what lies between messages, or a few of other streams.
const GAP_BYTES: u64 = 8 * 1024;

/// The last piece that was read.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    segment: u64,
    /// Where it is in the segment's file.
    offset: u64,
    bytes: Bytes,
    /// Where the last message that somebody read began, and where it ended at the latest: what is asked for is the most
    /// that a message can take.
    last: u64,
    end: u64,
}

/// What is to be done for a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Nothing: here it is.
    Here(Bytes),
    /// To read so many bytes from where it begins.
    Read(u64),
}

impl Ahead {
    /// Looks for `len` bytes at `offset`, of which nothing behind `fixed` may be kept.
    pub(crate) fn look(&mut self, segment: u64, offset: u64, len: u64, fixed: u64) -> Wanted {
        let on = self.segment == segment && offset > self.last && offset.saturating_sub(self.end) < GAP_BYTES;
        if self.segment == segment {
            let at = offset.checked_sub(self.offset).and_then(|at| usize::try_from(at).ok());
            let found = at.and_then(|at| Some((at, at.checked_add(usize::try_from(len).ok()?)?)));
            if let Some((at, end)) = found.filter(|(_, end)| *end <= self.bytes.len()) {
                (self.last, self.end) = (offset, offset + len);
                return Wanted::Here(self.bytes.slice(at..end));
            }
        }
        (self.segment, self.last, self.end) = (segment, offset, offset + len);
        self.bytes = Bytes::new();
        let piece = if on { AHEAD_BYTES.min(fixed.saturating_sub(offset)) } else { 0 };
        Wanted::Read(piece.max(len))
    }

    /// Keeps what was read for [`Wanted::Read`] if there is more in it than was asked for, and gives that.
    pub(crate) fn keep(&mut self, offset: u64, len: u64, bytes: Bytes) -> Bytes {
        let mine = bytes.slice(..bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX)));
        if bytes.len() > mine.len() {
            (self.offset, self.bytes) = (offset, bytes);
        }
        mine
    }

    /// Forgets it.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_goes_on_reads_large_pieces() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.look(1, 4096, 100, 1 << 20), Wanted::Read(100), "nobody knows yet");
        assert_eq!(ahead.keep(4096, 100, vec![1; 100].into()).len(), 100);
        assert_eq!(ahead.look(1, 4192, 100, 1 << 20), Wanted::Read(AHEAD_BYTES), "the first was shorter");
        ahead.clear();
        assert_eq!(ahead.look(1, 4096, 100, 1 << 20), Wanted::Read(100));
        assert_eq!(ahead.look(1, 4200, 100, 1 << 20), Wanted::Read(AHEAD_BYTES));
        assert_eq!(ahead.keep(4200, 100, vec![2; AHEAD_BYTES as usize].into()), vec![2; 100]);
        assert_eq!(ahead.look(1, 4304, 100, 1 << 20), Wanted::Here(vec![2; 100].into()));
        let last = 4200 + AHEAD_BYTES - 50;
        assert_eq!(ahead.look(1, last, 100, last + 100), Wanted::Read(100), "no further than what is fixed");
        assert_eq!(ahead.look(1, 0, 100, 1 << 20), Wanted::Read(100), "back");
        assert_eq!(ahead.look(2, 104, 100, 1 << 20), Wanted::Read(100), "another file");
    }

    #[test]
    fn nothing_that_may_change_is_kept() {
        let mut ahead = Ahead::default();
        ahead.look(1, 0, 100, 8192);
        assert_eq!(ahead.look(1, 104, 100, 8192), Wanted::Read(8192 - 104));
        ahead.keep(104, 100, vec![0; 8192 - 104].into());
        assert_eq!(ahead.look(1, 8192, 100, 16_384), Wanted::Read(8192));
        ahead.clear();
        assert_eq!(ahead.look(1, 104, 100, 8192), Wanted::Read(100));
    }
}
