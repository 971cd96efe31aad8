//! The store: streams in one log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::{Buf, Bytes};

use crate::ahead::{Ahead, Wanted};
use crate::chunk::Entry;
use crate::disk::{Disk, read_full};
use crate::error::{Damage, Damaged, Error, ReadError};
use crate::op::{self, Op};
use crate::record::{self, Found};
use crate::room::{Change, Cost, delta_weight, record_head, state_bytes, state_weight, stream_weight};
use crate::segment::{Active, Messages, Queue, Segment, Slot, Waiting, file_name};
use crate::select::Select;
use crate::stream::{self, Place, State, Stream, Tail};

/// A stream by its number. Numbers aren't given twice.
pub type StreamId = u32;

/// Sizes of a store. They may differ from one opening to the next.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of one segment file; a power of two isn't needed. Default 8 MiB. At least 16 pages.
    pub segment_bytes: u32,
    /// What the disk writes as one: a page that is being written when the power goes may come back as garbage, and nothing
    /// that was acknowledged is in it. Power of two from 512 to 65,536; default 4,096.
    pub page_bytes: u32,
    /// What may be staged between commits, and so the largest message. Default, and at most, a quarter of a segment.
    pub frame_bytes_max: u32,
    /// What all segment files may take; 0, the default: as much as there is.
    pub store_bytes_max: u64,
    /// Segments that may be mostly dead, beyond as much as is alive, before cleaning starts. Default 4.
    pub slack_segments: u32,
    /// How fast [`maintain`](Store::maintain) reads all sealed segments again, looking for rot; a pass a day. 0: not at all.
    /// Default 1 MiB a second.
    pub scrub_bytes_per_second: u32,
    /// Where salts come from: 64 bits that nobody can guess.
    pub seed: u64,
    /// Nothing is written, not even what opening would mend.
    pub read_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 8 << 20,
            page_bytes: 4_096,
            frame_bytes_max: 2 << 20,
            store_bytes_max: 0,
            slack_segments: 4,
            scrub_bytes_per_second: 1 << 20,
            seed: 0,
            read_only: false,
        }
    }
}

/// A message to store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Append<'a> {
    /// At most 65,535 bytes.
    pub subject: &'a [u8],
    /// The header block as it came; empty if there is none.
    pub headers: &'a [u8],
    /// The body.
    pub payload: &'a [u8],
    /// Nanoseconds since 1970.
    pub time: i64,
    /// When it expires, in nanoseconds since 1970; 0 for never. The store only keeps it.
    pub expires: i64,
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the stream.
    pub seq: u64,
    /// Nanoseconds since 1970.
    pub time: i64,
    /// When it expires, in nanoseconds since 1970; 0 for never.
    pub expires: i64,
    /// As published.
    pub subject: Bytes,
    /// The header block; empty if there is none.
    pub headers: Bytes,
    /// The body.
    pub payload: Bytes,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// Messages that are there.
    pub messages: u64,
    /// What they count for: subject, payload and 30 bytes each, headers and 4 bytes where there are any. This is how
    /// nats-server counts in its file store.
    pub bytes: u64,
    /// Of the first message; one more than `last_seq` if there is none.
    pub first_seq: u64,
    /// The highest that was ever used; 0 if none was.
    pub last_seq: u64,
    /// Of the last message that was appended, in nanoseconds since 1970; 0 if none was.
    pub last_time: i64,
    /// Subjects with messages.
    pub subjects: u64,
    /// Sequences between the first and the last that have no message.
    pub deleted: u64,
    /// Of those, how many had one that is lost to damage.
    pub lost: u64,
}

/// What happens to the bytes of a message that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erase {
    /// They are overwritten when their segment is next rewritten or recycled.
    Lazily,
    /// Their segment is rewritten as soon as [`maintain`](Store::maintain) may, and the old one filled with zeros.
    /// What the medium itself keeps of overwritten bytes is beyond us.
    Soon,
}

/// What may be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Everything.
    Good,
    /// Everything but messages: there is no room. See [`Error::Full`].
    Full,
    /// Nothing. See [`Error::ReadOnly`].
    ReadOnly,
}

/// How much the store takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all segment files.
    pub disk_bytes: u64,
    /// Bytes in them that messages use that are there.
    pub live_bytes: u64,
    /// Segments in force.
    pub segments: u64,
    /// Segments that are free.
    pub free_segments: u64,
    /// An estimate of the heap: indexes, subjects, states and what is staged.
    pub memory_bytes: u64,
    /// Commits that wrote something.
    pub commits: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Bytes given to the disk.
    pub written_bytes: u64,
    /// Of those, what cleaning moved.
    pub moved_bytes: u64,
    /// Segments that became free again.
    pub recycled: u64,
}

/// Streams in one log on one disk. See the crate's head.
///
/// Everything that changes something is *staged* at once, visible to every query at once, and on the disk when
/// [`commit`](Self::commit) has returned `Ok`. Acknowledge nothing before.
pub struct Store<D: Disk> {
    pub(crate) disk: D,
    pub(crate) options: Options,
    pub(crate) random: u64,
    pub(crate) store: u64,
    pub(crate) segments: BTreeMap<u64, Segment<D::File>>,
    pub(crate) active: Active,
    pub(crate) next_segment: u64,
    pub(crate) next_frame: u64,
    pub(crate) durable_frame: u64,
    /// The last frame is empty.
    pub(crate) sealed: bool,
    /// When it will be, unless there is a frame after this one.
    pub(crate) seal_due: (u64, std::time::Duration),
    pub(crate) free: Vec<Slot<D::File>>,
    /// The slot of the segment before the active one, if nothing in it is alive: it is the third copy of the checkpoint.
    pub(crate) held: Option<Slot<D::File>>,
    /// Retired by frames that wait.
    pub(crate) leaving: BTreeMap<u64, Segment<D::File>>,
    pub(crate) next_slot: u32,
    pub(crate) streams: BTreeMap<u32, Stream>,
    pub(crate) next_stream: u32,
    pub(crate) open: Waiting,
    pub(crate) unsynced: Queue,
    pub(crate) state_bytes: usize,
    pub(crate) health: Health,
    pub(crate) damages: Vec<Damage>,
    /// What opening misses, of which stream and in which slot, until all is read and the rest of it can be named.
    pub(crate) missed: Vec<(u32, u32, stream::Lost)>,
    /// Files with damage, all of them.
    pub(crate) damaged_files: BTreeSet<String>,
    pub(crate) usage: Usage,
    pub(crate) filling: Option<crate::maintain::Filling<D::File>>,
    pub(crate) scrub: crate::scrub::Scrub,
    pub(crate) cleaning: Option<crate::clean::Cleaning<D::File>>,
    pub(crate) to_fill: Vec<Slot<D::File>>,
    pub(crate) retry_at: std::time::Duration,
    pub(crate) ahead: Ahead,
}

/// Damages that are kept until somebody takes them.
pub(crate) const DAMAGES_MAX: usize = 1_000;
/// Messages of a stream that are in the index, are damaged, and are remembered to be.
const ROTTEN_MAX: usize = 16_384;

impl<D: Disk> Store<D> {
    // ---- streams and their states ----

    /// Makes a stream. The configuration is the caller's.
    ///
    /// # Errors
    /// [`TooLarge`](Error::TooLarge), [`TooMuchState`](Error::TooMuchState), [`CommitFirst`](Error::CommitFirst),
    /// [`Full`](Error::Full) only if even the reserve is used up, [`ReadOnly`](Error::ReadOnly).
    pub fn create_stream(&mut self, config: &[u8]) -> Result<StreamId, Error> {
        self.make_room(&self.cost(&Change::CreateStream { config })?)?;
        let stream = self.next_stream;
        self.next_stream += 1;
        op::push(&mut self.open.ops, &Op::Create { stream, config });
        self.streams.insert(stream, Stream::new(config));
        self.state_bytes += stream_weight(config);
        Ok(stream)
    }

    /// Replaces a stream's configuration.
    ///
    /// # Errors
    /// As [`create_stream`](Self::create_stream), and [`NoStream`](Error::NoStream).
    pub fn set_config(&mut self, stream: StreamId, config: &[u8]) -> Result<(), Error> {
        self.make_room(&self.cost(&Change::SetConfig { stream, config })?)?;
        let old = self.stream(stream)?.config.len();
        op::push(&mut self.open.ops, &Op::Config { stream, config });
        let stream = self.streams.get_mut(&stream).ok_or(Error::NoStream)?;
        stream.config = config.into();
        self.state_bytes = self.state_bytes + config.len() - old;
        Ok(())
    }

    /// Removes a stream with everything it has.
    ///
    /// # Errors
    /// [`NoStream`](Error::NoStream), [`CommitFirst`](Error::CommitFirst), [`ReadOnly`](Error::ReadOnly).
    pub fn delete_stream(&mut self, stream: StreamId) -> Result<(), Error> {
        self.stream(stream)?;
        self.make_room(&Cost::of_removal(0))?;
        op::push(&mut self.open.ops, &Op::Delete { stream });
        self.forget(stream);
        Ok(())
    }

    /// Takes a stream out of memory.
    pub(crate) fn forget(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else { return };
        self.state_bytes = self.state_bytes.saturating_sub(state_bytes(&stream));
        for chunk in &stream.chunks {
            if let Some(segment) = self.segments.get_mut(&chunk.segment) {
                let gone: u64 = chunk.live_from(0).map(|(_, entry)| weight(entry.size)).sum();
                segment.live_bytes = segment.live_bytes.saturating_sub(gone);
            }
        }
        self.active.removed.remove(&id);
    }

    /// All streams.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.keys().copied()
    }

    /// A stream's configuration.
    ///
    /// # Errors
    /// [`NoStream`](Error::NoStream).
    pub fn config(&self, stream: StreamId) -> Result<&[u8], Error> {
        Ok(&self.stream(stream)?.config)
    }

    /// Sets a state of the stream's whole, a consumer's for example. It replaces what was put and appended under the key.
    ///
    /// # Errors
    /// As [`set_config`](Self::set_config).
    pub fn put_state(&mut self, stream: StreamId, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.make_room(&self.cost(&Change::PutState { stream, key, value })?)?;
        op::push(&mut self.open.ops, &Op::Put { stream, key, value });
        let stream = self.streams.get_mut(&stream).ok_or(Error::NoStream)?;
        let state = State { whole: value.to_vec(), deltas: Vec::new() };
        let new = state_weight(key, &state);
        let old = stream.states.insert(key.into(), state).map_or(0, |old| state_weight(key, &old));
        self.state_bytes = (self.state_bytes + new).saturating_sub(old);
        Ok(())
    }

    /// Appends to a state. Returns how many bytes of deltas it has now; put it whole when they are more than it is worth.
    ///
    /// # Errors
    /// As [`set_config`](Self::set_config).
    pub fn append_state(&mut self, stream: StreamId, key: &[u8], delta: &[u8]) -> Result<usize, Error> {
        self.make_room(&self.cost(&Change::AppendState { stream, key, delta })?)?;
        op::push(&mut self.open.ops, &Op::Append { stream, key, delta });
        let stream = self.streams.get_mut(&stream).ok_or(Error::NoStream)?;
        if !stream.states.contains_key(key) {
            self.state_bytes += state_weight(key, &State::default());
        }
        let state = stream.states.entry(key.into()).or_default();
        state.deltas.push(delta.to_vec());
        self.state_bytes += delta_weight(key, delta);
        Ok(state.bytes() - state.whole.len())
    }

    /// Removes a state.
    ///
    /// # Errors
    /// As [`delete_stream`](Self::delete_stream).
    pub fn remove_state(&mut self, stream: StreamId, key: &[u8]) -> Result<(), Error> {
        self.stream(stream)?;
        self.make_room(&Cost::of_removal(key.len()))?;
        op::push(&mut self.open.ops, &Op::Drop { stream, key });
        let stream = self.streams.get_mut(&stream).ok_or(Error::NoStream)?;
        if let Some(state) = stream.states.remove(key) {
            self.state_bytes = self.state_bytes.saturating_sub(state_weight(key, &state));
        }
        Ok(())
    }

    /// A stream's states, by key.
    ///
    /// # Errors
    /// [`NoStream`](Error::NoStream).
    pub fn states(&self, stream: StreamId) -> Result<impl Iterator<Item = (&[u8], &State)> + '_, Error> {
        Ok(self.stream(stream)?.states.iter().map(|(key, state)| (&**key, state)))
    }

    // ---- messages ----

    /// Appends a message and returns its sequence, the one after the last.
    ///
    /// # Errors
    /// [`NoStream`](Error::NoStream), [`TooLarge`](Error::TooLarge), [`CommitFirst`](Error::CommitFirst),
    /// [`Full`](Error::Full), [`ReadOnly`](Error::ReadOnly).
    pub fn append(&mut self, stream: StreamId, message: &Append<'_>) -> Result<u64, Error> {
        let seq = self.stream(stream)?.last_seq + 1;
        self.append_at(stream, seq, message)?;
        Ok(seq)
    }

    /// Appends a message with a sequence of the caller's, for mirrors and restores: any that is after the last one.
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`Sequence`](Error::Sequence).
    pub fn append_at(&mut self, stream: StreamId, seq: u64, message: &Append<'_>) -> Result<(), Error> {
        let after = self.stream(stream)?.last_seq;
        if seq <= after || seq == u64::MAX {
            return Err(Error::Sequence);
        }
        let head = record_head(stream, seq, message).ok_or(Error::TooLarge)?;
        self.make_room(&self.cost(&Change::Append { stream, message })?)?;

        let at = self.open.records_end;
        record::write(&mut self.open.buffer, &head, message.subject, message.headers, message.payload);
        self.open.records_end = self.open.buffer.len();
        match self.open.messages.iter_mut().rev().find(|messages| messages.stream == stream) {
            Some(messages) => {
                messages.last_seq = seq;
                messages.count += 1;
            }
            None => {
                self.open.messages.push(Messages { stream, after, first_seq: seq, last_seq: seq, count: 1 })
            }
        }
        let into = self.streams.get_mut(&stream).ok_or(Error::NoStream)?;
        let size = head.size();
        let (subject, before) = into.count_in(seq, message.time, size, message.subject);
        let entry = Entry { seq, place: at as u32, size, subject, expires: message.expires };
        into.tail.push_back(Tail { entry, frame: self.open.ticket, dead: false });
        // The subject's text is in the segment's index once.
        let known = before.is_some_and(|before| before > into.segment_mark);
        self.active.index_estimate += 12 + if known { 0 } else { 2 + message.subject.len() };
        Ok(())
    }

    /// Uses up sequences: the next message gets one after `last_seq`. Nothing happens if it would anyway.
    ///
    /// # Errors
    /// As [`delete_stream`](Self::delete_stream).
    pub fn skip(&mut self, stream: StreamId, last_seq: u64) -> Result<(), Error> {
        if last_seq <= self.stream(stream)?.last_seq || last_seq == u64::MAX {
            return Ok(());
        }
        self.make_room(&Cost::of_removal(0))?;
        op::push(&mut self.open.ops, &Op::Skip { stream, last_seq });
        let stream = self.streams.get_mut(&stream).ok_or(Error::NoStream)?;
        stream.last_seq = last_seq;
        stream.settle_first();
        Ok(())
    }

    /// Removes a message. `false` if there is none. What is lost stays named, before it too: nobody knows whether it would have
    /// gone.
    ///
    /// # Errors
    /// As [`delete_stream`](Self::delete_stream).
    pub fn remove(&mut self, stream: StreamId, seq: u64, erase: Erase) -> Result<bool, Error> {
        if self.stream(stream)?.find(seq).is_none() {
            return Ok(false);
        }
        self.make_room(&Cost::of_removal(0))?;
        let from = self.streams.get_mut(&stream).ok_or(Error::NoStream)?;
        let Some(removed) = from.remove(seq) else { return Ok(false) };
        let first_seq = from.first_seq;
        // A purge would say that what is lost before it was removed as well.
        let purges = removed.first && !from.has_lost(first_seq);
        match removed.place {
            Place::Segment(number) => {
                if let Some(segment) = self.segments.get_mut(&number) {
                    segment.live_bytes = segment.live_bytes.saturating_sub(weight(removed.entry.size));
                    segment.erase |= erase == Erase::Soon;
                }
            }
            Place::Waiting(_) => {
                let active = self.active.number;
                if erase == Erase::Soon
                    && let Some(segment) = self.segments.get_mut(&active)
                {
                    segment.erase = true;
                }
            }
        }
        if purges {
            self.stage_purge(stream, first_seq);
        } else {
            self.active.index_estimate += 8;
            match self.open.removed.last_mut() {
                Some((of, _, last)) if *of == stream && *last + 1 == seq => *last = seq,
                _ => self.open.removed.push((stream, seq, seq)),
            }
        }
        Ok(true)
    }

    /// Removes a stream's first message because it is the oldest, as limits of age and size do. What is lost before it would
    /// have gone before it, and isn't named any more. `false` if the first is another.
    ///
    /// # Errors
    /// As [`delete_stream`](Self::delete_stream).
    pub fn remove_oldest(&mut self, stream: StreamId, seq: u64) -> Result<bool, Error> {
        if self.stream(stream)?.first_seq != seq || !self.remove(stream, seq, Erase::Lazily)? {
            return Ok(false);
        }
        let from = self.streams.get_mut(&stream).ok_or(Error::NoStream)?;
        if from.has_lost(seq) {
            from.forget_lost(seq);
            self.stage_purge(stream, seq + 1);
        }
        Ok(true)
    }

    /// Removes every message before `first_seq`. The stream goes on after its last sequence, or at `first_seq` if that is
    /// higher. Returns how many messages and bytes went.
    ///
    /// # Errors
    /// As [`delete_stream`](Self::delete_stream).
    pub fn purge(&mut self, stream: StreamId, first_seq: u64) -> Result<(u64, u64), Error> {
        let old = self.stream(stream)?;
        if first_seq <= old.first_seq && first_seq <= old.last_seq + 1 {
            return Ok((0, 0));
        }
        self.make_room(&Cost::of_removal(0))?;
        let before = self.state(stream)?;
        self.purge_in_memory(stream, first_seq.min(u64::MAX - 1));
        let after = self.state(stream)?;
        self.stage_purge(stream, first_seq.min(u64::MAX - 1));
        Ok((before.messages - after.messages, before.bytes - after.bytes))
    }

    pub(crate) fn purge_in_memory(&mut self, stream: StreamId, first_seq: u64) {
        let Some(from) = self.streams.get_mut(&stream) else { return };
        let segments = &mut self.segments;
        from.purge(first_seq, |entry, place| {
            if let Place::Segment(number) = place
                && let Some(segment) = segments.get_mut(&number)
            {
                segment.live_bytes = segment.live_bytes.saturating_sub(weight(entry.size));
            }
        });
    }

    pub(crate) fn stage_purge(&mut self, stream: StreamId, first_seq: u64) {
        match self.open.purged.iter_mut().find(|(of, _)| *of == stream) {
            Some((_, until)) => *until = first_seq.max(*until),
            None => self.open.purged.push((stream, first_seq)),
        }
    }

    /// Reads a message, staged or not. `None` if there is none.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if there was one and what is there now isn't it; what is damaged is named.
    pub fn read(&mut self, stream: StreamId, seq: u64) -> Result<Option<Message>, ReadError> {
        let Some(from) = self.streams.get(&stream) else { return Ok(None) };
        let Some((entry, place)) = from.find(seq) else {
            return match from.lost_at(seq) {
                Some(lost) => Err(ReadError::Damaged(Box::new(self.lost_damage(stream, lost)))),
                None => Ok(None),
            };
        };
        self.read_at(stream, &entry, place)
    }

    /// Reads a message, if that doesn't wait for the disk and nothing is wrong with it. `None` says nothing:
    /// [`read`](Self::read) knows more.
    pub fn read_at_once(&mut self, stream: StreamId, seq: u64) -> Option<Message> {
        let (entry, place) = self.streams.get(&stream)?.find(seq)?;
        let Place::Segment(number) = place else { return None };
        let segment = self.segments.get(&number)?;
        let (offset, len) = extent(segment, &entry);
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        let read = self.disk.read_at_once(&segment.file, &mut bytes, offset).ok()??;
        let head = record::check(&bytes, segment.seed, offset).filter(|_| read == bytes.len())?;
        if (head.stream, head.seq) == (stream, seq) { message(bytes.into(), &head) } else { None }
    }

    /// The first message from `seq` on that is wanted: its sequence, and what [`read`](Self::read) says of it.
    pub fn read_next(
        &mut self,
        stream: StreamId,
        seq: u64,
        select: &mut Select,
    ) -> Option<(u64, Result<Option<Message>, ReadError>)> {
        let (entry, place) = self.streams.get_mut(&stream)?.next(seq, select)?;
        Some((entry.seq, self.read_at(stream, &entry, place)))
    }

    fn read_at(
        &mut self,
        stream: StreamId,
        entry: &Entry,
        place: Place,
    ) -> Result<Option<Message>, ReadError> {
        let seq = entry.seq;
        let number = match place {
            Place::Waiting(ticket) => {
                return Ok(self.waiting(ticket).and_then(|waiting| {
                    let record = waiting.buffer.get(entry.place as usize..waiting.records_end)?;
                    let head = record::Head::read(record)?;
                    let record = record.get(..usize::try_from(head.len()).ok()?)?;
                    message(Bytes::copy_from_slice(record), &head)
                }));
            }
            Place::Segment(number) => number,
        };
        let offset = u64::from(entry.place) * record::ALIGN as u64;
        let bytes = self.read_record(number, entry)?;
        let Some(segment) = self.segments.get(&number) else { return Ok(None) };
        if let Some(head) = record::check(&bytes, segment.seed, offset)
            && (head.stream, head.seq) == (stream, seq)
        {
            return Ok(message(bytes, &head));
        }
        match record::inspect(&bytes, segment.seed, offset) {
            Found::Whole { head, repaired } if head.stream == stream && head.seq == seq => {
                let message = message(bytes, &head);
                if repaired {
                    self.note(Damage { what: Damaged::Copy, ..self.damage_at(number, stream, seq, offset) });
                }
                Ok(message)
            }
            _ => {
                let damage = self.damage_at(number, stream, seq, offset);
                self.note_rotten(stream, seq, damage.clone());
                Err(ReadError::Damaged(Box::new(damage)))
            }
        }
    }

    /// The bytes where the entry's record is, no more than it can take.
    pub(crate) fn read_record(&mut self, number: u64, entry: &Entry) -> io::Result<Bytes> {
        let Some(segment) = self.segments.get(&number) else { return Ok(Bytes::new()) };
        let (offset, len) = extent(segment, entry);
        let end = segment.offset(segment.header.pages);
        let fixed = if number == self.active.number { segment.offset(self.active.durable_page) } else { end };
        let piece = match self.ahead.look(number, offset, len, fixed) {
            Wanted::Here(bytes) => return Ok(bytes),
            Wanted::Read(piece) => piece,
        };
        let mut bytes = vec![0; piece as usize];
        let read = read_full(&self.disk, &segment.file, &mut bytes, offset, false);
        if read.is_err() && piece > len {
            // What is further on may be what can't be read.
            self.ahead.clear();
            bytes.truncate(len as usize);
            read_full(&self.disk, &segment.file, &mut bytes, offset, false)?;
            return Ok(bytes.into());
        }
        read?;
        Ok(self.ahead.keep(offset, len, bytes.into()))
    }

    pub(crate) fn waiting(&self, ticket: u64) -> Option<&Waiting> {
        if self.open.ticket == ticket {
            return Some(&self.open);
        }
        self.unsynced.iter().find(|waiting| waiting.ticket == ticket)
    }

    // ---- odds and ends ----

    /// The disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk, to change how a simulated one behaves.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// The disk as it is when the process dies now.
    pub fn into_disk(self) -> D {
        self.disk
    }

    pub(crate) fn stream(&self, stream: StreamId) -> Result<&Stream, Error> {
        self.streams.get(&stream).ok_or(Error::NoStream)
    }

    /// SplitMix64.
    pub(crate) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn note(&mut self, damage: Damage) {
        if !self.damaged_files.contains(&damage.file) {
            self.damaged_files.insert(damage.file.clone());
        }
        if self.damages.len() < DAMAGES_MAX && !self.damages.contains(&damage) {
            self.damages.push(damage);
        }
    }

    /// Names a message that the index has and that isn't right on the disk.
    pub(crate) fn note_rotten(&mut self, stream: StreamId, seq: u64, damage: Damage) {
        if let Some(of) = self.streams.get_mut(&stream)
            && of.rotten.len() < ROTTEN_MAX
        {
            of.rotten.insert(seq);
        }
        self.note(damage);
    }

    pub(crate) fn damage_at(&self, segment: u64, stream: StreamId, seq: u64, offset: u64) -> Damage {
        let slot = self.segments.get(&segment).map(|segment| segment.slot);
        Damage {
            stream: Some(stream),
            first_seq: seq,
            last_seq: seq,
            file: slot.map(file_name).unwrap_or_default(),
            offset,
            what: Damaged::Messages,
        }
    }

    pub(crate) fn lost_damage(&self, stream: StreamId, lost: &stream::Lost) -> Damage {
        let at = self.damage_at(lost.segment, stream, lost.first_seq, lost.offset);
        Damage { last_seq: lost.last_seq, ..at }
    }
}

impl<D: Disk> std::fmt::Debug for Store<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("streams", &self.streams.len())
            .field("segments", &self.segments.len())
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

/// Where the entry's record is in its segment's file, and the bytes that it can take there.
fn extent<F>(segment: &Segment<F>, entry: &Entry) -> (u64, u64) {
    let offset = u64::from(entry.place) * record::ALIGN as u64;
    let longest = record::HEAD as u64 + u64::from(entry.size).saturating_sub(30) + 8;
    let end = segment.offset(segment.header.pages);
    (offset, longest.min(end.saturating_sub(offset)))
}

/// What the message's record weighs in its segment, near enough: the same when it comes and when it goes.
pub(crate) fn weight(size: u32) -> u64 {
    (u64::from(size) + 18).next_multiple_of(record::ALIGN as u64)
}

/// Adds a range to those that the active segment's ops removed.
pub(crate) fn note_removed(removed: &mut BTreeMap<u32, Vec<(u64, u64)>>, stream: u32, first: u64, last: u64) {
    let ranges = removed.entry(stream).or_default();
    match ranges.last_mut() {
        Some((_, end)) if *end + 1 == first => *end = last,
        _ => ranges.push((first, last)),
    }
}

/// Takes a record apart. Its parts share its memory, and none is counted that needn't be.
fn message(mut record: Bytes, head: &record::Head) -> Option<Message> {
    let (subject, headers) = (usize::from(head.subject_len), head.headers_len as usize);
    let body = usize::try_from(head.body_len()).ok()?;
    if record.len() < head.head_len().checked_add(body)? {
        return None;
    }
    record.advance(head.head_len());
    record.truncate(body);
    let subject = record.split_to(subject);
    let headers = if headers == 0 { Bytes::new() } else { record.split_to(headers) };
    Some(Message { seq: head.seq, time: head.time, expires: head.expires, subject, headers, payload: record })
}
