//! The caller's two buffers.

use midge_protocol::emit::Sink;

/// What has arrived: `start..end` waits to be read.
pub(crate) struct Receive<'b> {
    pub(crate) buffer: &'b mut [u8],
    /// Moves on when something was read; the bytes stay where they are until [`Receive::space`].
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Bytes that must be there, from `start` on, before reading tells anything new.
    pub(crate) need: usize,
}

impl<'b> Receive<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, start: 0, end: 0, need: 1 }
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.end, self.need) = (0, 0, 1);
    }

    /// True if reading what is here would tell nothing new.
    pub(crate) fn is_short(&self) -> bool {
        self.end.saturating_sub(self.start) < self.need
    }

    /// Room for more, after what waits was moved down if what is needed wouldn't fit behind it.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start.saturating_add(self.need) > self.buffer.len() {
            self.move_down();
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// `memmove` would take 1.6 KB of flash, so this is written such that no compiler sees one in it. Happens once for
    /// a frame that is cut by the end of the buffer.
    fn move_down(&mut self) {
        let mut to = 0usize;
        while let Some(byte) = self.buffer.get(core::hint::black_box(self.start)).copied()
            && self.start < self.end
        {
            if let Some(place) = self.buffer.get_mut(to) {
                *place = byte;
            }
            to = to.wrapping_add(1);
            self.start = self.start.wrapping_add(1);
        }
        (self.start, self.end) = (0, to);
    }

    /// `n` bytes have arrived in [`Receive::space`].
    pub(crate) fn filled(&mut self, n: usize) {
        self.end = self.end.saturating_add(n).min(self.buffer.len());
    }
}

/// What is to be sent: `start..end`, whole frames but for the first, of which a part may be gone.
pub(crate) struct Transmit<'b> {
    buffer: &'b mut [u8],
    start: usize,
    end: usize,
    /// The transport has taken bytes since its last flush.
    pub(crate) unflushed: bool,
}

impl<'b> Transmit<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, start: 0, end: 0, unflushed: false }
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.end, self.unflushed) = (0, 0, false);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    pub(crate) fn waiting(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The transport took `n` bytes.
    pub(crate) fn taken(&mut self, n: usize) {
        self.start = self.start.saturating_add(n);
        self.unflushed = true;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

/// Longer ones are left to `memcpy`.
const SHORT: usize = 32;

impl Sink for Transmit<'_> {
    /// All verbs ask for room first, so this always fits. Short ones are copied here, see [`Transmit::put_word`].
    fn put(&mut self, bytes: &[u8]) {
        let Some(space) = self.buffer.get_mut(self.end..).and_then(|rest| rest.get_mut(..bytes.len())) else {
            return;
        };
        self.end = self.end.wrapping_add(bytes.len());
        if bytes.len() > SHORT {
            space.copy_from_slice(bytes);
            return;
        }
        let ((places, rest), (fours, bytes)) = (space.as_chunks_mut::<4>(), bytes.as_chunks::<4>());
        for (place, four) in places.iter_mut().zip(fours) {
            *place = core::hint::black_box(*four);
        }
        for (place, byte) in rest.iter_mut().zip(bytes) {
            *place = core::hint::black_box(*byte);
        }
    }

    /// As [`Sink::put`], for few bytes: loops are shorter than the way into and out of `memcpy`. They stop at LF, which
    /// no word holds; that keeps the compiler from calling `memcpy` after all.
    fn put_word(&mut self, word: &[u8], end: u8) {
        let Some(space) = self.buffer.get_mut(self.end..) else { return };
        let (Some((space, [last, ..])), (fours, bytes)) =
            (space.split_at_mut_checked(word.len()), word.as_chunks::<4>())
        else {
            return;
        };
        let (places, rest) = space.as_chunks_mut::<4>();
        for (place, four) in places.iter_mut().zip(fours) {
            if *four == *b"\n\n\n\n" {
                return;
            }
            *place = *four;
        }
        for (place, byte) in rest.iter_mut().zip(bytes) {
            if *byte == b'\n' {
                return;
            }
            *place = *byte;
        }
        *last = end;
        self.end = self.end.wrapping_add(word.len()).wrapping_add(1);
    }

    fn room(&self) -> usize {
        self.buffer.len().saturating_sub(self.end)
    }
}
