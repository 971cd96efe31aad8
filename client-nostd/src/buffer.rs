//! The caller's two buffers.

use midge_protocol::emit::Sink;

/// What has arrived: `start..end` waits to be read.
pub(crate) struct Receive<'b> {
    pub(crate) buffer: &'b mut [u8],
    /// Moves on when something was read; the bytes stay where they are until [`Receive::space`].
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl<'b> Receive<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, start: 0, end: 0 }
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// True if less than `need` bytes wait.
    pub(crate) fn is_short(&self, need: usize) -> bool {
        self.end.wrapping_sub(self.start) < need
    }

    /// Room for more, after what waits was moved down if the `need` bytes of it wouldn't fit.
    pub(crate) fn space(&mut self, need: usize) -> &mut [u8] {
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start.wrapping_add(need) > self.buffer.len() {
            self.move_down();
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// `memmove` would take 1.6 KB of flash, so this is written such that no compiler sees one in it: it can end at each
    /// byte. Happens once for a frame that is cut by the end of the buffer.
    fn move_down(&mut self) {
        let (mut from, mut to) = (self.start, 0usize);
        while from < self.end {
            let Some(byte) = self.buffer.get(from).copied() else { break };
            let Some(place) = self.buffer.get_mut(to) else { break };
            *place = byte;
            (from, to) = (from.wrapping_add(1), to.wrapping_add(1));
        }
        (self.start, self.end) = (0, to);
    }

    /// `n` bytes have arrived in [`Receive::space`].
    pub(crate) fn filled(&mut self, n: usize) {
        self.end = self.end.wrapping_add(n).min(self.buffer.len());
    }
}

/// What is to be sent: `start..end`, whole frames but for the first, of which a part may be gone.
pub(crate) struct Transmit<'b> {
    buffer: &'b mut [u8],
    start: usize,
    end: usize,
}

impl<'b> Transmit<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, start: 0, end: 0 }
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    pub(crate) fn waiting(&self) -> &[u8] {
        self.buffer.get(..self.end).unwrap_or_default().get(self.start..).unwrap_or_default()
    }

    /// Puts `bytes` behind the others, as they are. False if they don't fit.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.room();
        if fits {
            self.put(bytes);
        }
        fits
    }

    /// The transport took `n` bytes.
    pub(crate) fn taken(&mut self, n: usize) {
        self.start = self.start.wrapping_add(n);
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

/// What finds no room is left out, but counted: [`Sink::end`] takes it back.
impl Sink for Transmit<'_> {
    #[inline(never)]
    fn put(&mut self, mut bytes: &[u8]) {
        let mut space = self.buffer.get_mut(self.end..).unwrap_or_default();
        // Slices that are there at once don't take all of the memory.
        self.end = self.end.wrapping_add(bytes.len());
        // Most are few: this is shorter than the way into and out of `memcpy`, which the compiler doesn't see in loops that have
        // two ends.
        while let Some((four, rest)) = bytes.split_first_chunk::<4>() {
            let Some((place, behind)) = core::mem::take(&mut space).split_first_chunk_mut::<4>() else {
                return;
            };
            *place = *four;
            (space, bytes) = (behind, rest);
        }
        while let Some((byte, rest)) = bytes.split_first() {
            let Some((place, behind)) = core::mem::take(&mut space).split_first_mut() else { return };
            *place = *byte;
            (space, bytes) = (behind, rest);
        }
    }

    fn position(&self) -> usize {
        self.end
    }

    fn end(&mut self, begin: usize) -> Result<(), usize> {
        if let Some(place) = self.buffer.get_mut(self.end..).and_then(<[u8]>::first_chunk_mut) {
            *place = *b"\r\n";
        }
        self.end = self.end.wrapping_add(2);
        let needed = self.end.wrapping_sub(begin);
        if self.end <= self.buffer.len() {
            return Ok(());
        }
        self.end = begin;
        Err(needed)
    }

    fn room(&self) -> usize {
        self.buffer.len().saturating_sub(self.end)
    }
}
