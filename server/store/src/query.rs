//! What a store is asked. The disk is read only for a message's time.

use crate::disk::Disk;
use crate::error::{Damage, Error, ReadError};
use crate::segment::Waiting;
use crate::select::Select;
use crate::store::{Health, Store, StreamId, StreamState, Usage};

impl<D: Disk> Store<D> {
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
        self.streams.get_mut(&stream)?.next(seq, select).map(|(entry, _)| entry.seq)
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
        let staged: usize = self.unsynced.iter().map(|waiting| waiting.buffer.capacity()).sum();
        let streams: usize = self.streams.values().map(|stream| 400 + stream.heap_bytes()).sum();
        Usage {
            disk_bytes: self.disk_bytes(),
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
}
