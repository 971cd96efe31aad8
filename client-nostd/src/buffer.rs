//! The caller's two buffers.

use midge_protocol::emit::{Sink, frame_size};

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
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Puts `bytes` behind the others, as they are. False if they don't fit.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> bool {
        let room = self.room();
        self.put(bytes);
        bytes.len() <= room
    }

    /// The transport took `n` bytes.
    pub(crate) fn taken(&mut self, n: usize) {
        self.start = self.start.saturating_add(n);
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

/// What is put fits: frames are measured, and for all else room was asked for.
impl Sink for Transmit<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let Some(space) = self.buffer.get_mut(self.end..) else { return };
        if copy(space, bytes).is_some() {
            self.end = self.end.wrapping_add(bytes.len());
        }
    }

    fn put_frame(&mut self, words: &[&[u8]], body: Option<&[u8]>, behind: usize) -> Result<(), usize> {
        match self.write(words, body) {
            Some(left) if left >= behind => {
                self.end = self.buffer.len().wrapping_sub(left);
                Ok(())
            }
            // Only now, so that a frame that fits is looked at once.
            _ => Err(frame_size(words, body).saturating_add(behind)),
        }
    }

    fn room(&self) -> usize {
        self.buffer.len().saturating_sub(self.end)
    }
}

impl Transmit<'_> {
    /// Writes a frame behind the others, and tells the room that it would leave. `None` if it doesn't fit.
    #[inline]
    fn write(&mut self, words: &[&[u8]], body: Option<&[u8]>) -> Option<usize> {
        let [verb, first, words @ ..] = words else { return None };
        let space = copy(self.buffer.get_mut(self.end..)?, verb)?;
        let mut space = copy(space, first)?;
        for word in words {
            if !word.is_empty() {
                let (blank, rest) = space.split_first_mut()?;
                *blank = b' ';
                space = copy(rest, word)?;
            }
        }
        let (end, mut space) = space.split_first_chunk_mut::<2>()?;
        *end = *b"\r\n";
        if let Some(body) = body {
            let (end, rest) = copy(space, body)?.split_first_chunk_mut::<2>()?;
            (*end, space) = (*b"\r\n", rest);
        }
        Some(space.len())
    }
}

/// Copies `bytes`, and gives the space behind them. Most are few: this is shorter than the way into and out of `memcpy`, which
/// the compiler must not see in it.
#[inline(never)]
fn copy<'s>(space: &'s mut [u8], bytes: &[u8]) -> Option<&'s mut [u8]> {
    let (space, rest) = space.split_at_mut_checked(bytes.len())?;
    let ((places, tail), (fours, bytes)) = (space.as_chunks_mut::<4>(), bytes.as_chunks::<4>());
    for (place, four) in places.iter_mut().zip(fours) {
        *place = core::hint::black_box(*four);
    }
    for (place, byte) in tail.iter_mut().zip(bytes) {
        *place = core::hint::black_box(*byte);
    }
    Some(rest)
}
