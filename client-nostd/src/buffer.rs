//! The caller's two buffers.

use midge_protocol::emit::{CRLF, Sink};

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
        self.end.saturating_sub(self.start) < need
    }

    /// Room for more, after what waits was moved down if the `need` bytes of it wouldn't fit.
    pub(crate) fn space(&mut self, need: usize) -> &mut [u8] {
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start.saturating_add(need) > self.buffer.len() {
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

/// What finds no room is left out: who puts more than was measured takes it back.
impl Sink for Transmit<'_> {
    #[inline(never)]
    fn put(&mut self, bytes: &[u8]) {
        if let Some(space) = self.buffer.get_mut(self.end..).and_then(|space| space.get_mut(..bytes.len())) {
            space.copy_from_slice(bytes);
            self.end = self.end.wrapping_add(bytes.len());
        }
    }

    #[inline(never)]
    fn put_line(&mut self, pieces: &[&[u8]], behind: usize) -> Result<(), usize> {
        let mut space = self.buffer.get_mut(self.end..);
        // Slices that are there at once don't take all of the memory.
        let mut size = behind.wrapping_add(CRLF.len());
        for piece in pieces {
            if !piece.is_empty() {
                size = size.wrapping_add(piece.len());
                space = space.and_then(|space| copy(space, piece));
            }
        }
        if let Some((end, rest)) = space.and_then(<[u8]>::split_first_chunk_mut::<2>)
            && rest.len() >= behind
        {
            *end = *b"\r\n";
            let left = rest.len();
            self.end = self.buffer.len().wrapping_sub(left);
            return Ok(());
        }
        Err(size)
    }

    fn take_back(&mut self, room: usize) {
        self.end = self.buffer.len().saturating_sub(room);
    }

    fn room(&self) -> usize {
        self.buffer.len().saturating_sub(self.end)
    }
}

/// Copies `bytes`, and gives the space behind them. Most are few: this is shorter than the way into and out of `memcpy`, which
/// the compiler must not see in it.
#[inline(always)]
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
