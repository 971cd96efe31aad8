//! Room: what a commit, a checkpoint and the disk can take, and whether a change fits before anything of it is staged.

use std::io;

use crate::disk::Disk;
use crate::error::Error;
use crate::frame;
use crate::index;
use crate::record;
use crate::segment::Waiting;
use crate::store::{Append, Health, Store, StreamId};
use crate::stream::{State, Stream};

/// Free slots that messages don't get: one for removing and acknowledging, one for cleaning.
pub(crate) const RESERVE: usize = 2;

/// A call that may be refused for its size, to be [checked](Store::check) before it is made.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// [`Store::create_stream`].
    CreateStream {
        /// The configuration.
        config: &'a [u8],
    },
    /// [`Store::set_config`].
    SetConfig {
        /// Whose.
        stream: StreamId,
        /// The configuration.
        config: &'a [u8],
    },
    /// [`Store::put_state`].
    PutState {
        /// Whose.
        stream: StreamId,
        /// The state's name.
        key: &'a [u8],
        /// All of it.
        value: &'a [u8],
    },
    /// [`Store::append_state`].
    AppendState {
        /// Whose.
        stream: StreamId,
        /// The state's name.
        key: &'a [u8],
        /// What comes to it.
        delta: &'a [u8],
    },
    /// [`Store::append`] and [`Store::append_at`].
    Append {
        /// Where to.
        stream: StreamId,
        /// The message.
        message: &'a Append<'a>,
    },
}

/// What a change takes, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Of the record in a frame; 0 if the change isn't a message.
    pub(crate) record: usize,
    /// Of the ops in a frame, one copy.
    ops: usize,
    /// What checkpoints grow by.
    state: usize,
    /// Something that wasn't there before comes to be, and is refused earlier than what goes on.
    new: bool,
}

impl Cost {
    /// Of an op that only takes away, and names what with a text of so many bytes.
    pub(crate) const fn of_removal(name: usize) -> Self {
        Self { record: 0, ops: name + OP_BYTES, state: 0, new: false }
    }

    const TOO_LARGE: Self = Self { record: usize::MAX, ops: 0, state: 0, new: false };
}

/// An upper bound of an op's fields that aren't bytes of the caller's.
const OP_BYTES: usize = 40;
/// Of a stream in a checkpoint, beyond its configuration.
const STREAM_OVERHEAD: usize = 72;
/// Of a state in a checkpoint, beyond key and value.
const STATE_OVERHEAD: usize = 16;
/// Of a delta in a checkpoint, beyond the key, which it repeats, and itself.
const DELTA_OVERHEAD: usize = 12;
/// Of a segment in a checkpoint.
const SEGMENT_OVERHEAD: usize = 48;
/// Of a range of lost messages in a checkpoint.
pub(crate) const LOST_OVERHEAD: usize = 40;

/// What a state takes in a checkpoint.
pub(crate) fn state_weight(key: &[u8], state: &State) -> usize {
    let deltas: usize = state.deltas.iter().map(|delta| delta_weight(key, delta)).sum();
    STATE_OVERHEAD + key.len() + state.whole.len() + deltas
}

/// What a delta takes in a checkpoint.
pub(crate) fn delta_weight(key: &[u8], delta: &[u8]) -> usize {
    DELTA_OVERHEAD + key.len() + delta.len()
}

/// What a stream that has nothing yet takes in a checkpoint.
pub(crate) fn stream_weight(config: &[u8]) -> usize {
    STREAM_OVERHEAD + config.len()
}

/// What a stream with its states takes in a checkpoint.
pub(crate) fn state_bytes(stream: &Stream) -> usize {
    let states: usize = stream.states.iter().map(|(key, state)| state_weight(key, state)).sum();
    stream_weight(&stream.config) + states + stream.lost.len() * LOST_OVERHEAD
}

impl<D: Disk> Store<D> {
    /// Whether a change would be taken now. If it would, the call with the same arguments is refused only because the disk
    /// is full or fails, or with [`CommitFirst`](Error::CommitFirst), and after a commit not for that either. So one who
    /// has many changes to commit together finds out which of them can't be, and can refuse it alone.
    ///
    /// # Errors
    /// What the call would fail with, but never [`CommitFirst`](Error::CommitFirst). [`Full`](Error::Full) is known only
    /// once a message was refused for it.
    pub fn check(&self, change: &Change<'_>) -> Result<(), Error> {
        let cost = self.cost(change)?;
        // A commit that comes between may begin a segment, or two if the disk fails.
        self.is_possible(&cost, 2)
    }

    /// Bytes of subject, headers and payload that a message may have at most, all together.
    pub fn message_bytes_max(&self) -> usize {
        let record = (self.options.frame_bytes_max as usize).saturating_sub(2 * OP_BYTES);
        (record / record::ALIGN * record::ALIGN).saturating_sub(record::HEAD)
    }

    pub(crate) fn cost(&self, change: &Change<'_>) -> Result<Cost, Error> {
        Ok(match *change {
            Change::CreateStream { config } => {
                Cost { record: 0, ops: config.len() + OP_BYTES, state: stream_weight(config), new: true }
            }
            Change::SetConfig { stream, config } => {
                let old = self.stream(stream)?.config.len();
                let state = config.len().saturating_sub(old);
                Cost { record: 0, ops: config.len() + OP_BYTES, state, new: true }
            }
            Change::PutState { stream, key, value } => {
                let old = self.stream(stream)?.states.get(key).map(|state| state_weight(key, state));
                let new = STATE_OVERHEAD + key.len() + value.len();
                let state = new.saturating_sub(old.unwrap_or(0));
                Cost { record: 0, ops: key.len() + value.len() + OP_BYTES, state, new: old.is_none() }
            }
            Change::AppendState { stream, key, delta } => {
                let new = !self.stream(stream)?.states.contains_key(key);
                let more = if new { STATE_OVERHEAD + key.len() } else { 0 };
                let state = more + delta_weight(key, delta);
                Cost { record: 0, ops: key.len() + delta.len() + OP_BYTES, state, new }
            }
            Change::Append { stream, message } => {
                self.stream(stream)?;
                match record_head(stream, 0, message).map(|head| usize::try_from(head.len())) {
                    Some(Ok(record)) => Cost { record, ops: OP_BYTES, state: 0, new: true },
                    _ => Cost::TOO_LARGE,
                }
            }
        })
    }

    /// Refuses what no commit makes possible, with so many more segments than there are.
    fn is_possible(&self, cost: &Cost, more_segments: usize) -> Result<(), Error> {
        match self.health {
            Health::ReadOnly => return Err(Error::ReadOnly),
            Health::Full if cost.record > 0 => return Err(Error::Full),
            _ => {}
        }
        if cost.record.saturating_add(2 * cost.ops) > self.options.frame_bytes_max as usize {
            return Err(Error::TooLarge);
        }
        let segments = (self.segments.len() + more_segments) * SEGMENT_OVERHEAD;
        let max = self.state_bytes_max() + if cost.new { 0 } else { self.state_bytes_reserve() };
        if cost.state > 0 && self.state_bytes + segments + cost.state > max {
            return Err(Error::TooMuchState);
        }
        Ok(())
    }

    /// What a checkpoint may take, one copy.
    fn state_bytes_max(&self) -> usize {
        let room = self.options.segment_bytes as usize - 4 * self.options.page_bytes as usize;
        room.saturating_sub(self.options.frame_bytes_max as usize * 2) / 2
    }

    /// What it may take beyond that for states that are there already, such as acknowledgements.
    fn state_bytes_reserve(&self) -> usize {
        self.options.frame_bytes_max as usize / 4
    }

    /// Makes sure that the next commit has room for what is staged and for this.
    pub(crate) fn make_room(&mut self, cost: &Cost) -> Result<(), Error> {
        self.is_possible(cost, 0)?;
        let max = self.options.frame_bytes_max as usize;
        let staged_records = self.open.records_end - frame::HEAD;
        if staged_records + cost.record + 2 * (self.open.ops_bytes() + cost.ops) > max {
            return Err(Error::CommitFirst);
        }
        let Some(segment) = self.segments.get(&self.active.number) else { return Err(Error::ReadOnly) };
        let page = segment.header.page_bytes;
        let pages = frame::pages(staged_records + cost.record, self.open.ops_bytes() + cost.ops, false, page);
        // A message may bring its subject into the index.
        let index = index::HEAD + self.active.index_estimate + cost.record + 16;
        let end = u64::from(segment.end_page) + u64::from(pages) + index.div_ceil(page as usize) as u64;
        let fits = end <= u64::from(segment.header.pages);
        if cost.record == 0 {
            // With messages it would take a slot of the reserve for them, too.
            if !fits && staged_records > 0 && self.available() <= RESERVE {
                return Err(Error::CommitFirst);
            }
            return Ok(());
        }
        // Behind them, too, the log has to be able to go on in the reserve.
        while if fits { self.reserve() < RESERVE } else { self.available() <= RESERVE } {
            if self.allocate().is_err() {
                self.health = Health::Full;
                return Err(Error::Full);
            }
        }
        Ok(())
    }

    /// Whether the frame has room in the active segment, with the index behind it.
    pub(crate) fn fits(&self, waiting: &Waiting) -> bool {
        self.fits_with(waiting, 0)
    }

    /// The same, with so many bytes of ops more.
    pub(crate) fn fits_with(&self, waiting: &Waiting, ops: usize) -> bool {
        let Some(segment) = self.segments.get(&self.active.number) else { return false };
        let page = segment.header.page_bytes;
        let pages = frame::pages(waiting.records_end - frame::HEAD, waiting.ops_bytes() + ops, false, page);
        let index = (index::HEAD + self.active.index_estimate).div_ceil(page as usize) as u64;
        u64::from(segment.end_page) + u64::from(pages) + index <= u64::from(segment.header.pages)
    }

    /// Whether the active segment has room for any message, and the reserve is whole: what removes has been given a segment since
    /// there was no room, and got others back.
    pub(crate) fn has_room(&self) -> bool {
        self.available() >= RESERVE && self.fits_with(&self.open, self.options.frame_bytes_max as usize)
    }

    pub(crate) fn pages(&self) -> u32 {
        self.options.segment_bytes / self.options.page_bytes
    }

    /// Of all files, those in full that are still growing.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let growing = usize::from(self.filling.is_some()) + usize::from(self.cleaning.is_some());
        let slots = self.free.len() + self.to_fill.len() + usize::from(self.held.is_some()) + growing;
        let segments = self.segments.values().chain(self.leaving.values());
        let segments: u64 = segments.map(|segment| segment.file_bytes).sum();
        segments + slots as u64 * u64::from(self.options.segment_bytes)
    }

    /// Whether the store may have one more file.
    pub(crate) fn may_grow(&self) -> bool {
        let max = self.options.store_bytes_max;
        max == 0 || self.disk_bytes() + u64::from(self.options.segment_bytes) <= max
    }

    /// Slots that could become segments now.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + usize::from(self.held.is_some())
    }

    /// The same, and the one that cleaning would give up.
    fn reserve(&self) -> usize {
        self.available() + usize::from(self.cleaning_has_slot())
    }

    /// Makes a free slot, now.
    pub(crate) fn allocate(&mut self) -> io::Result<()> {
        self.start_new_slot()?;
        while self.filling.is_some() {
            self.fill(u64::from(self.options.segment_bytes))?;
        }
        Ok(())
    }
}

/// The head of a message's record; `None` if a length isn't one.
pub(crate) fn record_head(stream: StreamId, seq: u64, message: &Append<'_>) -> Option<record::Head> {
    Some(record::Head {
        stream,
        seq,
        time: message.time,
        expires: message.expires,
        subject_len: u16::try_from(message.subject.len()).ok()?,
        headers_len: u32::try_from(message.headers.len()).ok()?,
        payload_len: u32::try_from(message.payload.len()).ok()?,
    })
}
