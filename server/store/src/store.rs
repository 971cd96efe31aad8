//! The store: streams in one log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;

use crate::ahead::{Ahead, Wanted};
use crate::chunk::Entry;
use crate::disk::{Disk, read_full, write_full};
use crate::error::{Damage, Damaged, Error, ReadError};
use crate::frame;
use crate::header::{self, Header, Kind};
use crate::index;
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
const DAMAGES_MAX: usize = 1_000;
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

    /// Removes a message. `false` if there is none.
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
        if removed.first {
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

    fn stage_purge(&mut self, stream: StreamId, first_seq: u64) {
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
        let number = match place {
            Place::Waiting(ticket) => {
                return Ok(self.waiting(ticket).and_then(|waiting| {
                    let record = waiting.buffer.get(entry.place as usize..waiting.records_end)?;
                    message(Bytes::copy_from_slice(record), &record::Head::read(record)?)
                }));
            }
            Place::Segment(number) => number,
        };
        let offset = u64::from(entry.place) * record::ALIGN as u64;
        let bytes = self.read_record(number, &entry)?;
        let Some(segment) = self.segments.get(&number) else { return Ok(None) };
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
        let offset = u64::from(entry.place) * record::ALIGN as u64;
        let longest = record::HEAD as u64 + u64::from(entry.size).saturating_sub(30) + 8;
        let end = segment.offset(segment.header.pages);
        let fixed = if number == self.active.number { segment.offset(self.active.durable_page) } else { end };
        let len = longest.min(end.saturating_sub(offset));
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

    fn waiting(&self, ticket: u64) -> Option<&Waiting> {
        if self.open.ticket == ticket {
            return Some(&self.open);
        }
        self.unsynced.iter().find(|waiting| waiting.ticket == ticket)
    }

    // ---- queries; none of them reads the disk ----

    /// Where the stream stands.
    ///
    /// # Errors
    /// [`NoStream`](Error::NoStream).
    pub fn state(&self, stream: StreamId) -> Result<StreamState, Error> {
        let stream = self.stream(stream)?;
        let lost = stream.lost.iter().map(|lost| lost.last_seq - lost.first_seq + 1).sum();
        Ok(StreamState {
            messages: stream.messages,
            bytes: stream.bytes,
            first_seq: stream.first_seq,
            last_seq: stream.last_seq,
            last_time: stream.last_time,
            subjects: stream.subjects.len() as u64,
            deleted: (stream.last_seq + 1).saturating_sub(stream.first_seq).saturating_sub(stream.messages),
            lost,
        })
    }

    /// The sequence of the first message from `seq` on that is wanted.
    pub fn next(&mut self, stream: StreamId, seq: u64, select: &mut Select) -> Option<u64> {
        self.streams.get_mut(&stream)?.next(seq, select)
    }

    /// The sequence of the last message up to `seq` that is wanted.
    pub fn previous(&mut self, stream: StreamId, seq: u64, select: &mut Select) -> Option<u64> {
        self.streams.get_mut(&stream)?.previous(seq, select)
    }

    /// The last message of a subject.
    pub fn last_of(&mut self, stream: StreamId, subject: &[u8]) -> Option<u64> {
        self.previous(stream, u64::MAX, &mut Select::subject(subject))
    }

    /// How many messages a subject has.
    pub fn count_of(&self, stream: StreamId, subject: &[u8]) -> u64 {
        let Some(stream) = self.streams.get(&stream) else { return 0 };
        stream.subjects.id(subject).map_or(0, |id| u64::from(stream.subjects.count(id)))
    }

    /// How many messages from `seq` on are wanted. Costs little from the first message on, or if all are wanted; else it
    /// walks the index.
    pub fn count(&self, stream: StreamId, seq: u64, select: &mut Select) -> u64 {
        self.streams.get(&stream).map_or(0, |stream| stream.count(seq, select))
    }

    /// Calls back with each subject that has messages and how many, in no order.
    pub fn subjects(&self, stream: StreamId, mut each: impl FnMut(&[u8], u64)) {
        if let Some(stream) = self.streams.get(&stream) {
            for id in stream.subjects.ids() {
                each(stream.subjects.text(id), u64::from(stream.subjects.count(id)));
            }
        }
    }

    /// What a message counts for, if there is one. See [`StreamState::bytes`].
    pub fn size_of(&self, stream: StreamId, seq: u64) -> Option<u32> {
        self.streams.get(&stream)?.find(seq).map(|(entry, _)| entry.size)
    }

    /// The messages from `seq` on, one after the other: sequence, subject and when it expires.
    pub fn entries(&self, stream: StreamId, seq: u64) -> impl Iterator<Item = (u64, &[u8], i64)> + '_ {
        self.streams.get(&stream).into_iter().flat_map(move |stream| {
            stream
                .live_from(seq)
                .map(|(entry, _)| (entry.seq, stream.subjects.text(entry.subject), entry.expires))
        })
    }

    /// The sequences from `first_seq` to `last_seq` that have no message, as ranges, at most `max` of them. Those that are
    /// lost to damage are among them.
    pub fn deleted(&self, stream: StreamId, first_seq: u64, last_seq: u64, max: usize) -> Vec<(u64, u64)> {
        let mut ranges = Vec::new();
        let Some(stream) = self.streams.get(&stream) else { return ranges };
        let mut next = first_seq.max(stream.first_seq);
        let last_seq = last_seq.min(stream.last_seq);
        for (entry, _) in stream.live_from(next) {
            if ranges.len() >= max || entry.seq > last_seq {
                break;
            }
            if entry.seq > next {
                ranges.push((next, entry.seq - 1));
            }
            next = entry.seq + 1;
        }
        if next <= last_seq
            && ranges.len() < max
            && stream.live_from(next).next().is_none_or(|(entry, _)| entry.seq > last_seq)
        {
            ranges.push((next, last_seq));
        }
        ranges
    }

    /// Whether the sequence has, or had, a message that isn't what was written any more, as opposed to one that was removed
    /// or never was. What nobody has read or scrubbed since it rotted isn't known yet; [`read`](Self::read) always tells.
    pub fn is_damaged(&self, stream: StreamId, seq: u64) -> bool {
        self.streams
            .get(&stream)
            .is_some_and(|stream| stream.rotten.contains(&seq) || stream.lost_at(seq).is_some())
    }

    /// The sequences that [`is_damaged`](Self::is_damaged) says yes to, as ranges, in order, at most `max` of them.
    pub fn damaged(&self, stream: StreamId, max: usize) -> Vec<(u64, u64)> {
        let Some(stream) = self.streams.get(&stream) else { return Vec::new() };
        let lost = stream.lost.iter().map(|lost| (lost.first_seq, lost.last_seq));
        let mut all: Vec<(u64, u64)> = lost.chain(stream.rotten.iter().map(|seq| (*seq, *seq))).collect();
        all.sort_unstable();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (first, last) in all {
            if let Some((_, end)) = ranges.last_mut().filter(|(_, end)| first <= end.saturating_add(1)) {
                *end = last.max(*end);
            } else if ranges.len() < max {
                ranges.push((first, last));
            } else {
                break;
            }
        }
        ranges
    }

    /// What is known to be lost of a stream: first and last sequence of each range.
    pub fn lost(&self, stream: StreamId) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.streams
            .get(&stream)
            .into_iter()
            .flat_map(|stream| stream.lost.iter().map(|lost| (lost.first_seq, lost.last_seq)))
    }

    /// The first message that was stored at `time` or later, if the stream's times grow. Reads a few messages' heads.
    ///
    /// # Errors
    /// [`ReadError::Disk`]. Messages that are damaged are passed over.
    pub fn at_time(&mut self, stream: StreamId, time: i64) -> Result<Option<u64>, ReadError> {
        let Some(of) = self.streams.get(&stream) else { return Ok(None) };
        if of.messages == 0 || of.last_time < time {
            return Ok(None);
        }
        let (mut low, mut high) = (of.first_seq, of.last_seq + 1);
        let mut all = Select::all();
        // The first message at or after `high` is late enough, all before `low` are too early.
        while low < high {
            let middle = low + (high - low) / 2;
            match self.next(stream, middle, &mut all) {
                Some(seq) if seq < high => match self.time_of(stream, seq) {
                    Ok(Some(at)) if at < time => low = seq + 1,
                    Ok(_) | Err(ReadError::Damaged(_)) => high = middle,
                    Err(error) => return Err(error),
                },
                _ => high = middle,
            }
        }
        Ok(self.next(stream, low, &mut all))
    }

    /// When a message was stored.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn time_of(&mut self, stream: StreamId, seq: u64) -> Result<Option<i64>, ReadError> {
        if let Some(of) = self.streams.get(&stream)
            && let Some((first, time)) = of.first_time
            && first == seq
            && of.find(seq).is_some()
        {
            return Ok(Some(time));
        }
        let time = self.read(stream, seq)?.map(|message| message.time);
        if let Some(of) = self.streams.get_mut(&stream)
            && of.first_seq == seq
        {
            of.first_time = time.map(|time| (seq, time));
        }
        Ok(time)
    }

    /// What may be written now.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Bytes that are staged.
    pub fn staged_bytes(&self) -> usize {
        self.open.bytes() + self.unsynced.iter().map(Waiting::bytes).sum::<usize>()
    }

    /// How much the store takes.
    pub fn usage(&self) -> Usage {
        let slots =
            self.segments.len() + self.leaving.len() + self.free.len() + usize::from(self.held.is_some());
        let staged: usize = self.unsynced.iter().map(|waiting| waiting.buffer.capacity()).sum();
        let streams: usize = self.streams.values().map(|stream| 400 + stream.heap_bytes()).sum();
        Usage {
            disk_bytes: slots as u64 * u64::from(self.options.segment_bytes),
            live_bytes: self.segments.values().map(|segment| segment.live_bytes).sum(),
            segments: self.segments.len() as u64,
            free_segments: self.free.len() as u64,
            memory_bytes: (streams + staged + self.open.buffer.capacity() + self.segments.len() * 200) as u64,
            ..self.usage
        }
    }

    /// Damage that was found since the last call, at most 1,000 of it.
    pub fn take_damages(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damages)
    }

    // ---- commit ----

    /// Puts everything staged on the disk: one write, one sync. Returns without either if there is nothing.
    ///
    /// # Errors
    /// [`ReadOnly`](Error::ReadOnly): nothing staged is on the disk, as far as anybody can rely on it, and nothing is staged
    /// any more. A disk that fails once isn't an error: what is staged goes to a new segment then.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.write(true)
    }

    /// Gives everything staged to the system without waiting for the disk: it outlives this process, not a power cut. After
    /// that, an earlier frame is never missing where a later one is there.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn flush(&mut self) -> Result<(), Error> {
        let waiting: usize = self.unsynced.iter().map(Waiting::bytes).sum();
        self.write(waiting + self.open.bytes() > self.options.frame_bytes_max as usize)
    }

    /// Writes an empty frame behind the last one, so that rot in that one isn't taken for a write that the power cut tore.
    /// It isn't waited for: whatever is synced next takes it along, and nothing is lost with it. `false` if there was nothing
    /// to do, or no room in the segment; the next commit does the same then. Anything staged is committed first.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn seal(&mut self) -> Result<bool, Error> {
        self.commit()?;
        if self.sealed || !self.fits(&self.open) || self.health == Health::ReadOnly {
            return Ok(false);
        }
        if self.write_open(0).is_err() {
            self.go_elsewhere()?;
            return Ok(true);
        }
        self.unsynced.pop_back();
        self.sealed = true;
        Ok(true)
    }

    /// Number of the last frame: grows with each commit that writes something.
    pub fn last_frame(&self) -> u64 {
        self.next_frame - 1
    }

    /// Commits, and leaves the log as opening likes it best. Dropping a store without is like losing power.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn close(mut self) -> Result<D, Error> {
        if self.options.read_only {
            return Ok(self.disk);
        }
        self.commit()?;
        if !self.fits(&self.open) {
            self.roll(true)?;
        }
        self.write_open(frame::CLOSED)?;
        self.sync_active()?;
        Ok(self.disk)
    }

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

    fn write(&mut self, sync: bool) -> Result<(), Error> {
        if self.open.is_empty() && (self.unsynced.is_empty() || !sync) {
            return Ok(());
        }
        if self.health == Health::ReadOnly {
            self.drop_staged();
            return Err(Error::ReadOnly);
        }
        self.usage.commits += 1;
        let written = match self.open.is_empty() {
            true => Ok(()),
            false if self.fits(&self.open) => self.write_open(0),
            // What waits in the old segment has to be there before anything in the new one is.
            false => match self.unsynced.is_empty() {
                true => self.roll(true),
                false => self.sync_active().and_then(|()| self.roll(true)),
            },
        };
        let done = written.and_then(|()| if sync { self.sync_active() } else { Ok(()) });
        if done.is_err() {
            self.go_elsewhere()?;
        }
        Ok(())
    }

    /// The active file can't be believed any more. What waits goes to another.
    fn go_elsewhere(&mut self) -> Result<(), Error> {
        self.merge_waiting();
        if self.roll(false).is_err() {
            self.health = Health::ReadOnly;
            self.drop_staged();
            return Err(Error::ReadOnly);
        }
        Ok(())
    }

    /// Writes the open frame behind the last one, and opens another.
    fn write_open(&mut self, flags: u32) -> io::Result<()> {
        let mut ops = std::mem::take(&mut self.open.ops);
        for messages in &self.open.messages {
            push_messages(&mut ops, messages);
        }
        for (stream, first_seq, last_seq) in &self.open.removed {
            let (stream, first_seq, last_seq) = (*stream, *first_seq, *last_seq);
            op::push(&mut ops, &Op::Remove { stream, first_seq, last_seq });
        }
        for (stream, first_seq) in &self.open.purged {
            op::push(&mut ops, &Op::Purge { stream: *stream, first_seq: *first_seq });
        }
        let Some(segment) = self.segments.get_mut(&self.active.number) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let offset = segment.offset(segment.end_page);
        let place = frame::Place {
            seed: segment.seed,
            offset,
            page_bytes: segment.header.page_bytes,
            number: self.next_frame,
            durable: self.durable_frame,
            previous: self.active.last_sum,
            flags,
        };
        let mut waiting = self.next_waiting();
        let Some(segment) = self.segments.get_mut(&self.active.number) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.active.last_sum = frame::finish(&mut waiting.buffer, &ops, false, &place);
        waiting.offset = offset;
        segment.end_page += (waiting.buffer.len() / segment.header.page_bytes as usize) as u32;
        segment.index_page = segment.end_page;
        self.next_frame += 1;
        self.sealed = false;
        for (stream, first, last) in &waiting.removed {
            note_removed(&mut self.active.removed, *stream, *first, *last);
        }
        self.usage.written_bytes += waiting.buffer.len() as u64;
        let written = write_full(&mut self.disk, &segment.file, &waiting.buffer, offset);
        waiting.ops = ops;
        self.unsynced.push_back(waiting);
        written
    }

    /// Takes the open frame, and opens another.
    fn next_waiting(&mut self) -> Waiting {
        let next = Waiting::new(self.open.ticket + 1);
        std::mem::replace(&mut self.open, next)
    }

    pub(crate) fn sync_active(&mut self) -> io::Result<()> {
        let Some(segment) = self.segments.get(&self.active.number) else { return Ok(()) };
        self.usage.syncs += 1;
        self.disk.sync(&segment.file)?;
        self.settle();
        Ok(())
    }

    /// Everything that was written is on the disk: moves it from what waits to the index.
    fn settle(&mut self) {
        self.durable_frame = self.next_frame - 1;
        let Some(segment) = self.segments.get_mut(&self.active.number) else { return };
        self.active.durable_page = segment.end_page;
        let mut freed = Vec::new();
        for waiting in self.unsynced.drain(..) {
            for messages in &waiting.messages {
                let Some(stream) = self.streams.get_mut(&messages.stream) else { continue };
                while let Some(tail) =
                    stream.tail.front().copied().filter(|tail| tail.frame == waiting.ticket)
                {
                    stream.tail.pop_front();
                    let place = (waiting.offset + u64::from(tail.entry.place)) / record::ALIGN as u64;
                    let entry = Entry { place: place as u32, ..tail.entry };
                    if entry.seq >= stream.first_seq {
                        stream.chunk_for(self.active.number).push(entry, tail.dead);
                    }
                    if !tail.dead {
                        segment.live_bytes += weight(entry.size);
                    }
                }
            }
            freed.extend(waiting.retires);
        }
        for number in freed {
            self.free_segment(number);
        }
    }

    /// Nothing on the disk needs this segment any more.
    fn free_segment(&mut self, number: u64) {
        let Some(segment) = self.leaving.remove(&number) else { return };
        self.usage.recycled += 1;
        if segment.header.pages != self.pages() || segment.header.page_bytes != self.options.page_bytes {
            // Of another size than this opening uses.
            drop(segment.file);
            let _ = self.disk.remove(&file_name(segment.slot));
            return;
        }
        let slot = Slot { number: segment.slot, file: segment.file };
        if segment.erase {
            self.start_filling(slot);
            return;
        }
        let before =
            self.segments.range(..self.active.number).rev().find(|(_, s)| s.header.kind == Kind::Hot);
        let is_last_hot =
            segment.header.kind == Kind::Hot && before.is_none_or(|(before, _)| *before < number);
        if is_last_hot && number < self.active.number {
            if let Some(held) = self.held.replace(slot) {
                self.free.push(held);
            }
        } else {
            self.free.push(slot);
        }
    }

    /// Puts everything that waits into the open frame again, for another segment.
    fn merge_waiting(&mut self) {
        let mut frames = std::mem::take(&mut self.unsynced);
        let open = self.next_waiting();
        if !open.is_empty() {
            frames.push_back(open);
        }
        for mut waiting in frames {
            let shift = self.open.records_end - frame::HEAD;
            let records = waiting.buffer.get(frame::HEAD..waiting.records_end).unwrap_or_default();
            self.open.buffer.extend_from_slice(records);
            self.open.records_end = self.open.buffer.len();
            for messages in &waiting.messages {
                if let Some(stream) = self.streams.get_mut(&messages.stream) {
                    for tail in stream.tail.iter_mut().filter(|tail| tail.frame == waiting.ticket) {
                        tail.entry.place += shift as u32;
                        tail.frame = self.open.ticket;
                    }
                }
            }
            self.open.ops.append(&mut waiting.ops);
            self.open.messages.append(&mut waiting.messages);
            self.open.removed.append(&mut waiting.removed);
            self.open.purged.append(&mut waiting.purged);
            self.open.retires.append(&mut waiting.retires);
        }
        self.next_frame = self.durable_frame + 1;
    }

    /// Gives up what is staged. Its sequences stay used.
    fn drop_staged(&mut self) {
        self.merge_waiting();
        let dropped = self.next_waiting();
        for messages in &dropped.messages {
            if let Some(stream) = self.streams.get_mut(&messages.stream) {
                while let Some(tail) = stream.tail.pop_front() {
                    if !tail.dead {
                        stream.tail.push_front(tail);
                        let _ = stream.remove(tail.entry.seq);
                        stream.tail.pop_front();
                    }
                }
                stream.settle_first();
            }
        }
        // They stay as they are until a checkpoint can be written.
        self.open.retires = dropped.retires;
    }

    /// Goes on in a new segment, with the open frame in its checkpoint, and syncs it. With `seal`, the old segment gets its
    /// index; without, it can't be believed from its last sync on.
    pub(crate) fn roll(&mut self, seal: bool) -> io::Result<()> {
        let old = self.active.number;
        if seal {
            self.write_index(old);
        } else if let Some(segment) = self.segments.get_mut(&old) {
            segment.end_page = self.active.durable_page;
            segment.index_page = segment.end_page;
            segment.index_bytes = 0;
        }
        let mut last_error = io::Error::from(io::ErrorKind::StorageFull);
        for _ in 0..2 {
            let Some(slot) = self.take_slot() else { return Err(last_error) };
            match self.roll_into(slot) {
                Ok(()) => return Ok(()),
                // That file is left alone from now on, too.
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    fn take_slot(&mut self) -> Option<Slot<D::File>> {
        if self.free.is_empty() && self.held.is_none() {
            let _ = self.allocate();
        }
        self.free.pop().or_else(|| self.held.take())
    }

    fn roll_into(&mut self, slot: Slot<D::File>) -> io::Result<()> {
        let header = Header {
            kind: Kind::Hot,
            page_bytes: self.options.page_bytes,
            pages: self.pages(),
            store: self.store,
            segment: self.next_segment,
            salt: self.random(),
            first_frame: self.next_frame,
        };
        self.next_segment += 1;
        let mut ops = Vec::new();
        self.checkpoint(&mut ops);
        for messages in &self.open.messages {
            push_messages(&mut ops, messages);
        }
        for (stream, first_seq, last_seq) in &self.open.removed {
            let (stream, first_seq, last_seq) = (*stream, *first_seq, *last_seq);
            op::push(&mut ops, &Op::Remove { stream, first_seq, last_seq });
        }
        let start = header::PAGES as usize * header.page_bytes as usize;
        let place = frame::Place {
            seed: header.seed(),
            offset: start as u64,
            page_bytes: header.page_bytes,
            number: self.next_frame,
            durable: self.durable_frame,
            previous: 0,
            flags: frame::CHECKPOINT,
        };
        let mut buffer = self.open.buffer.clone();
        let sum = frame::finish(&mut buffer, &ops, true, &place);
        let end_page = header::PAGES + (buffer.len() / header.page_bytes as usize) as u32;
        if end_page > header.pages {
            self.free.push(slot);
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut bytes = vec![0; start];
        for page in 0..header::PAGES as usize {
            let at = page * header.page_bytes as usize;
            bytes[at..at + header::LEN].copy_from_slice(&header.encode());
        }
        bytes.extend_from_slice(&buffer);
        self.usage.written_bytes += bytes.len() as u64;
        self.usage.syncs += 1;
        write_full(&mut self.disk, &slot.file, &bytes, 0)?;
        self.disk.sync(&slot.file)?;

        // From here on the log is there.
        if let Some(held) = self.held.take() {
            self.free.push(held);
        }
        let mut waiting = self.next_waiting();
        waiting.offset = start as u64;
        self.active = Active {
            number: header.segment,
            last_sum: sum,
            durable_page: end_page,
            removed: BTreeMap::new(),
            index_estimate: 0,
        };
        for (stream, first, last) in &waiting.removed {
            note_removed(&mut self.active.removed, *stream, *first, *last);
        }
        for stream in self.streams.values_mut() {
            stream.segment_mark = stream.last_seq;
        }
        for messages in &waiting.messages {
            if let Some(stream) = self.streams.get_mut(&messages.stream) {
                stream.segment_mark = stream.segment_mark.min(messages.after);
                for tail in &stream.tail {
                    let text = stream.subjects.text(tail.entry.subject).len();
                    self.active.index_estimate += 14 + text;
                }
            }
        }
        let segment = Segment {
            seed: header.seed(),
            header,
            slot: slot.number,
            file: slot.file,
            end_page,
            index_page: end_page,
            index_bytes: 0,
            live_bytes: 0,
            erase: false,
            stuck: false,
        };
        self.segments.insert(header.segment, segment);
        self.next_frame += 1;
        self.sealed = false;
        self.unsynced.push_back(waiting);
        self.settle();
        Ok(())
    }

    /// Writes the index of a segment that gets no more frames. One that doesn't come to be costs time at the next opening.
    fn write_index(&mut self, number: u64) {
        let Some(segment) = self.segments.get(&number) else { return };
        let mut writer = index::Writer::new();
        for (id, stream) in &self.streams {
            for chunk in stream.chunks.iter().filter(|chunk| chunk.segment == number) {
                let lying = chunk.all().filter(|(_, entry)| entry.seq >= stream.first_seq);
                let lying = lying.map(|(ordinal, entry)| (entry, chunk.is_dead(ordinal)));
                writer.messages(*id, lying, |id| stream.subjects.text(id));
            }
        }
        for (id, ranges) in &self.active.removed {
            let Some(stream) = self.streams.get(id) else { continue };
            let mut needed = Vec::new();
            for (first, last) in ranges {
                stream.dead_in(*first, *last, &[number], |first, last| needed.push((first, last)));
            }
            needed.sort_unstable();
            needed.dedup();
            writer.removed(*id, &needed);
        }
        let offset = segment.offset(segment.index_page);
        let room = segment.offset(segment.header.pages) - offset;
        if writer.len() as u64 > room {
            return;
        }
        let bytes = writer.finish(segment.seed, offset);
        self.usage.written_bytes += bytes.len() as u64;
        self.usage.syncs += 1;
        let written = write_full(&mut self.disk, &segment.file, &bytes, offset)
            .and_then(|()| self.disk.sync(&segment.file));
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.index_bytes = if written.is_ok() { bytes.len() as u32 } else { 0 };
        }
    }

    /// Everything but messages, as ops.
    fn checkpoint(&self, ops: &mut Vec<u8>) {
        op::push(ops, &Op::NextStream { id: self.next_stream });
        for segment in self.segments.values() {
            op::push(ops, &Op::Segment(segment.op()));
        }
        for (id, stream) in &self.streams {
            let id = *id;
            op::push(
                ops,
                &Op::Stream {
                    id,
                    first_seq: stream.first_seq,
                    last_seq: stream.last_seq,
                    last_time: stream.last_time,
                    messages: stream.messages,
                    bytes: stream.bytes,
                    config: &stream.config,
                },
            );
            for lost in &stream.lost {
                let stream::Lost { first_seq, last_seq, segment, offset } = *lost;
                op::push(ops, &Op::Lost { stream: id, first_seq, last_seq, segment, offset });
            }
            for (key, state) in &stream.states {
                op::push(ops, &Op::Put { stream: id, key, value: &state.whole });
                for delta in &state.deltas {
                    op::push(ops, &Op::Append { stream: id, key, delta });
                }
            }
        }
    }

    // ---- odds and ends ----

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

    fn lost_damage(&self, stream: StreamId, lost: &stream::Lost) -> Damage {
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

/// What the message's record weighs in its segment, near enough: the same when it comes and when it goes.
pub(crate) fn weight(size: u32) -> u64 {
    (u64::from(size) + 18).next_multiple_of(record::ALIGN as u64)
}

fn push_messages(ops: &mut Vec<u8>, messages: &Messages) {
    let Messages { stream, after, first_seq, last_seq, count } = *messages;
    op::push(ops, &Op::Messages { stream, after, first_seq, last_seq, count });
}

/// Adds a range to those that the active segment's ops removed.
pub(crate) fn note_removed(removed: &mut BTreeMap<u32, Vec<(u64, u64)>>, stream: u32, first: u64, last: u64) {
    let ranges = removed.entry(stream).or_default();
    match ranges.last_mut() {
        Some((_, end)) if *end + 1 == first => *end = last,
        _ => ranges.push((first, last)),
    }
}

fn message(record: Bytes, head: &record::Head) -> Option<Message> {
    let (subject, headers) = (usize::from(head.subject_len), head.headers_len as usize);
    let body = record::HEAD..record::HEAD + usize::try_from(head.body_len()).ok()?;
    if record.len() < body.end {
        return None;
    }
    let body = record.slice(body);
    Some(Message {
        seq: head.seq,
        time: head.time,
        expires: head.expires,
        subject: body.slice(..subject),
        headers: body.slice(subject..subject + headers),
        payload: body.slice(subject + headers..),
    })
}
