//! What the store holds in memory of one stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::chunk::{Chunk, Entry};
use crate::select::Select;
use crate::subjects::Subjects;

/// A message that isn't known to be on the disk yet. Its place is the offset in the buffer of its frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub(crate) entry: Entry,
    /// The waiting frame, by its ticket.
    pub(crate) frame: u64,
    pub(crate) dead: bool,
}

/// Messages that were there and can't be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

impl Lost {
    /// Whether it says of all that the other says it of.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.first_seq <= other.first_seq && other.last_seq <= self.last_seq
    }

    /// First and last sequence that both say it of.
    pub(crate) fn common(&self, other: &Self) -> Option<(u64, u64)> {
        let (first, last) = (self.first_seq.max(other.first_seq), self.last_seq.min(other.last_seq));
        (first <= last).then_some((first, last))
    }

    /// What is left of it when messages were removed after all: nothing, one part or two.
    pub(crate) fn without(&self, first: u64, last: u64) -> impl Iterator<Item = Self> + use<> {
        let before = Self { last_seq: self.last_seq.min(first.saturating_sub(1)), ..*self };
        let after = Self { first_seq: self.first_seq.max(last.saturating_add(1)), ..*self };
        [before, after].into_iter().filter(|part| part.first_seq <= part.last_seq)
    }
}

/// A state of the engine's, by its key: a whole, and what came to it since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// As it was put.
    pub whole: Vec<u8>,
    /// As they were appended, in order.
    pub deltas: Vec<Vec<u8>>,
}

impl State {
    pub(crate) fn bytes(&self) -> usize {
        self.whole.len() + self.deltas.iter().map(|delta| delta.len() + 8).sum::<usize>()
    }
}

/// Where a message is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// In this segment.
    Segment(u64),
    /// In this waiting frame.
    Waiting(u64),
}

/// A message that was there until now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Removed {
    pub(crate) entry: Entry,
    pub(crate) place: Place,
    /// It was the first.
    pub(crate) first: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) config: Box<[u8]>,
    /// Of the first message, or what comes after the last.
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) last_time: i64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// By sequence; their ranges don't touch.
    pub(crate) chunks: VecDeque<Chunk>,
    pub(crate) tail: VecDeque<Tail>,
    pub(crate) subjects: Subjects,
    pub(crate) states: BTreeMap<Box<[u8]>, State>,
    pub(crate) lost: Vec<Lost>,
    /// Messages that are in the index and were seen not to be what was written.
    pub(crate) rotten: BTreeSet<u64>,
    /// The last sequence before the active segment's first.
    pub(crate) segment_mark: u64,
    /// Of the first message, once somebody asked.
    pub(crate) first_time: Option<(u64, i64)>,
}

impl Stream {
    pub(crate) fn new(config: &[u8]) -> Self {
        Self { config: config.into(), first_seq: 1, ..Self::default() }
    }

    /// Counts a new last message and returns its subject's id, as [`Subjects::add`] does.
    pub(crate) fn count_in(&mut self, seq: u64, time: i64, size: u32, subject: &[u8]) -> (u32, Option<u64>) {
        if self.messages == 0 {
            self.first_seq = seq;
        }
        self.last_seq = self.last_seq.max(seq);
        self.last_time = time;
        self.messages += 1;
        self.bytes += u64::from(size);
        self.subjects.add(subject, seq)
    }

    /// The chunk that the segment's next message goes to.
    pub(crate) fn chunk_for(&mut self, segment: u64) -> &mut Chunk {
        if self.chunks.back().is_none_or(|chunk| chunk.segment != segment) {
            if let Some(last) = self.chunks.back_mut() {
                last.shrink();
            }
            self.chunks.push_back(Chunk::new(segment));
        }
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }

    pub(crate) fn find(&self, seq: u64) -> Option<(Entry, Place)> {
        if seq < self.first_seq {
            return None;
        }
        if let Some(tail) = self.tail_at(seq) {
            let tail = &self.tail[tail];
            return (!tail.dead).then_some((tail.entry, Place::Waiting(tail.frame)));
        }
        let chunk = self.chunks.get(self.chunk_at(seq))?;
        let (ordinal, entry) = chunk.find(seq)?;
        (!chunk.is_dead(ordinal)).then_some((entry, Place::Segment(chunk.segment)))
    }

    /// Sequences in the range that lie dead in other segments than `except`, and would come alive if nothing said that
    /// they are: as ranges.
    pub(crate) fn dead_in(&self, first: u64, last: u64, except: &[u64], mut found: impl FnMut(u64, u64)) {
        let first = first.max(self.first_seq);
        let mut run: Option<(u64, u64)> = None;
        for chunk in self.chunks.iter().skip(self.chunk_at(first)) {
            if chunk.seqs().0 > last {
                break;
            }
            if except.contains(&chunk.segment) {
                // What is alive there must not fall into a range.
                if let Some((start, end)) = run.take() {
                    found(start, end);
                }
                continue;
            }
            for (ordinal, entry) in chunk.all().skip_while(|(_, entry)| entry.seq < first) {
                if entry.seq > last {
                    break;
                }
                let dead = chunk.is_dead(ordinal);
                run = match (run, dead) {
                    (None, false) => None,
                    (None, true) => Some((entry.seq, entry.seq)),
                    // Nothing alive is between them.
                    (Some((start, _)), true) => Some((start, entry.seq)),
                    (Some((start, end)), false) => {
                        found(start, end);
                        None
                    }
                };
            }
        }
        if let Some((start, end)) = run {
            found(start, end);
        }
    }

    /// Removes a message.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<Removed> {
        let removed = self.kill(seq)?;
        if removed.first {
            self.settle_first();
        }
        Some(removed)
    }

    /// Removes a message, and leaves `first_seq` where it is.
    pub(crate) fn kill(&mut self, seq: u64) -> Option<Removed> {
        if seq < self.first_seq {
            return None;
        }
        let (entry, place) = match self.tail_at(seq) {
            Some(tail) => {
                let tail = &mut self.tail[tail];
                if tail.dead {
                    return None;
                }
                tail.dead = true;
                (tail.entry, Place::Waiting(tail.frame))
            }
            None => {
                let at = self.chunk_at(seq);
                let chunk = self.chunks.get_mut(at)?;
                let (ordinal, entry) = chunk.find(seq)?;
                if !chunk.kill(ordinal) {
                    return None;
                }
                (entry, Place::Segment(chunk.segment))
            }
        };
        self.count_out(&entry);
        Some(Removed { entry, place, first: seq == self.first_seq })
    }

    /// Puts chunks in order that were loaded in any.
    pub(crate) fn sort_chunks(&mut self) {
        let chunks = self.chunks.make_contiguous();
        chunks.sort_by_key(|chunk| chunk.seqs().0);
        if chunks.is_sorted_by(|one, two| one.seqs().1 < two.seqs().0) {
            return;
        }
        // A cold segment was read without its index: its runs lie between those of others.
        let chunks = std::mem::take(&mut self.chunks);
        let mut all: Vec<(Entry, u64, bool)> = Vec::new();
        for chunk in &chunks {
            all.extend(chunk.all().map(|(ordinal, entry)| (entry, chunk.segment, chunk.is_dead(ordinal))));
        }
        all.sort_by_key(|(entry, segment, dead)| (entry.seq, *dead, *segment));
        let mut before = None;
        for (entry, segment, dead) in all {
            if before == Some(entry.seq) {
                // Nothing that we write has a message twice.
                if !dead {
                    self.count_out(&entry);
                }
                continue;
            }
            before = Some(entry.seq);
            self.chunk_for(segment).push(entry, dead);
        }
    }

    fn count_out(&mut self, entry: &Entry) {
        self.rotten.remove(&entry.seq);
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(entry.size));
        self.subjects.remove(entry.subject);
    }

    /// Removes every message before `first_seq`, and tells where each was.
    pub(crate) fn purge(&mut self, first_seq: u64, mut gone: impl FnMut(&Entry, Place)) {
        while let Some(chunk) = self.chunks.front_mut().filter(|chunk| chunk.seqs().0 < first_seq) {
            let dead: Vec<_> = chunk.live_from(0).take_while(|(_, entry)| entry.seq < first_seq).collect();
            let (segment, whole) = (chunk.segment, chunk.seqs().1 < first_seq);
            for (ordinal, _) in &dead {
                chunk.kill(*ordinal);
            }
            if whole {
                self.chunks.pop_front();
            }
            for (_, entry) in &dead {
                self.count_out(entry);
                gone(entry, Place::Segment(segment));
            }
            if !whole {
                break;
            }
        }
        for at in 0..self.tail.len() {
            let tail = self.tail[at];
            if tail.entry.seq >= first_seq {
                break;
            }
            if !tail.dead {
                self.tail[at].dead = true;
                self.count_out(&tail.entry);
                gone(&tail.entry, Place::Waiting(tail.frame));
            }
        }
        self.first_seq = self.first_seq.max(first_seq);
        self.last_seq = self.last_seq.max(first_seq.saturating_sub(1));
        self.forget_lost(self.first_seq);
        self.settle_first();
    }

    /// What is lost stays named until it would have been removed: with everything before a sequence, which is known of nothing
    /// that goes alone.
    pub(crate) fn forget_lost(&mut self, before: u64) {
        self.lost.retain(|lost| lost.last_seq >= before);
    }

    /// Something before this sequence is lost.
    pub(crate) fn has_lost(&self, before: u64) -> bool {
        self.lost.iter().any(|lost| lost.first_seq < before)
    }

    /// What is there isn't lost, dead or alive: frames of cold segments have messages of which others lie between. And nothing is
    /// lost twice.
    pub(crate) fn forget_found(&mut self) {
        let mut all = std::mem::take(&mut self.lost);
        all.sort_by_key(|lost| lost.first_seq);
        let mut from = 0;
        for lost in all {
            from = lost.first_seq.max(from);
            let chunks = self.chunks.iter().skip(self.chunk_at(from));
            let there = chunks.take_while(|chunk| chunk.seqs().0 <= lost.last_seq).flat_map(Chunk::all);
            let first = from;
            for (_, entry) in there.skip_while(|(_, entry)| entry.seq < first) {
                if entry.seq > lost.last_seq {
                    break;
                }
                if entry.seq > from {
                    self.lost.push(Lost { first_seq: from, last_seq: entry.seq - 1, ..lost });
                }
                from = entry.seq.saturating_add(1);
            }
            if from <= lost.last_seq {
                self.lost.push(Lost { first_seq: from, ..lost });
                from = lost.last_seq.saturating_add(1);
            }
        }
    }

    /// Moves `first_seq` to the first message that is left.
    pub(crate) fn settle_first(&mut self) {
        let first = self.live_from(self.first_seq).next().map(|(entry, _)| entry.seq);
        self.first_seq = first.unwrap_or(self.last_seq + 1);
        let first = self.first_seq;
        while self.chunks.front().is_some_and(|chunk| chunk.seqs().1 < first) {
            self.chunks.pop_front();
        }
    }

    /// Messages from `seq` on.
    pub(crate) fn live_from(&self, seq: u64) -> impl Iterator<Item = (Entry, Place)> + '_ {
        let chunks = self.chunks.iter().skip(self.chunk_at(seq)).filter(|chunk| chunk.live() > 0);
        let settled = chunks.flat_map(move |chunk| {
            chunk.live_from(seq).map(|(_, entry)| (entry, Place::Segment(chunk.segment)))
        });
        let from = self.tail.partition_point(|tail| tail.entry.seq < seq);
        let waiting = self.tail.iter().skip(from).filter(|tail| !tail.dead);
        settled.chain(waiting.map(|tail| (tail.entry, Place::Waiting(tail.frame))))
    }

    /// Messages from `seq` backwards.
    pub(crate) fn live_back_from(&self, seq: u64) -> impl Iterator<Item = Entry> + '_ {
        let until = self.tail.partition_point(|tail| tail.entry.seq <= seq);
        let waiting = self.tail.iter().take(until).rev().filter(|tail| !tail.dead).map(|tail| tail.entry);
        let until = self.chunks.partition_point(|chunk| chunk.seqs().0 <= seq);
        let chunks = self.chunks.iter().take(until).rev().filter(|chunk| chunk.live() > 0);
        waiting.chain(chunks.flat_map(move |chunk| chunk.live_back_from(seq).map(|(_, entry)| entry)))
    }

    /// The first message from `seq` on that is wanted.
    pub(crate) fn next(&mut self, seq: u64, select: &mut Select) -> Option<(Entry, Place)> {
        if select.is_all() {
            return self.first_from(seq);
        }
        let Some(only) = select.only(&self.subjects) else {
            let subjects = &self.subjects;
            return self.live_from(seq).find(|(entry, _)| select.wants(subjects, entry.subject));
        };
        let id = only?;
        let (first, last) = self.subjects.bounds(id);
        if seq > last {
            return None;
        }
        let found = self
            .live_from(seq.max(first))
            .take_while(|(entry, _)| entry.seq <= last)
            .find(|(entry, _)| entry.subject == id);
        match found {
            Some((found, _)) if seq <= first => self.subjects.set_first(id, found.seq),
            None if seq <= last => self.subjects.set_last(id, seq.saturating_sub(1)),
            _ => {}
        }
        found
    }

    /// The first message from `seq` on. Mostly it is the next one, and there.
    fn first_from(&self, seq: u64) -> Option<(Entry, Place)> {
        self.find(seq.max(self.first_seq)).or_else(|| self.live_from(seq).next())
    }

    /// The last message up to `seq` that is wanted.
    pub(crate) fn previous(&mut self, seq: u64, select: &mut Select) -> Option<u64> {
        let Some(only) = select.only(&self.subjects) else {
            let subjects = &self.subjects;
            return self
                .live_back_from(seq)
                .find(|entry| select.wants(subjects, entry.subject))
                .map(|entry| entry.seq);
        };
        let id = only?;
        let (first, last) = self.subjects.bounds(id);
        if seq < first {
            return None;
        }
        // The last of them is mostly where it was, and looking there is cheaper than walking back.
        if seq >= last && self.find(last).is_some_and(|(entry, _)| entry.subject == id) {
            return Some(last);
        }
        let found = self
            .live_back_from(seq.min(last))
            .take_while(|entry| entry.seq >= first)
            .find(|entry| entry.subject == id)
            .map(|entry| entry.seq);
        if let Some(found) = found
            && seq >= last
        {
            self.subjects.set_last(id, found);
        }
        found
    }

    /// How many messages from `seq` on are wanted, and the last of them.
    pub(crate) fn count(&self, seq: u64, select: &mut Select) -> u64 {
        let subjects = &self.subjects;
        if let Some(only) = select.only(subjects) {
            let Some(id) = only else { return 0 };
            let (first, last) = subjects.bounds(id);
            if seq <= first {
                return u64::from(subjects.count(id));
            }
            let from = self.live_from(seq).take_while(|(entry, _)| entry.seq <= last);
            return from.filter(|(entry, _)| entry.subject == id).count() as u64;
        }
        if select.is_all() {
            let at = self.chunk_at(seq);
            let part = self.chunks.get(at).map_or(0, |chunk| chunk.live_from(seq).count() as u64);
            let whole: u64 = self.chunks.iter().skip(at + 1).map(|chunk| u64::from(chunk.live())).sum();
            let waiting = self.tail.iter().rev().take_while(|tail| tail.entry.seq >= seq);
            return part + whole + waiting.filter(|tail| !tail.dead).count() as u64;
        }
        if seq <= self.first_seq {
            let ids = subjects.ids().filter(|id| select.wants(subjects, *id));
            return ids.map(|id| u64::from(subjects.count(id))).sum();
        }
        self.live_from(seq).filter(|(entry, _)| select.wants(subjects, entry.subject)).count() as u64
    }

    /// Adds to what is lost. `false` if nothing had to be written for it: it is known, or goes on where the last ended.
    pub(crate) fn add_lost(&mut self, lost: Lost) -> bool {
        if self.lost.iter().any(|known| known.covers(&lost)) {
            return false;
        }
        // A segment that is garbage all through is one range, not one for each of its messages.
        let goes_on = |last: &&mut Lost| {
            last.segment == lost.segment && last.last_seq.checked_add(1) == Some(lost.first_seq)
        };
        match self.lost.last_mut().filter(goes_on) {
            Some(last) => {
                last.last_seq = lost.last_seq;
                false
            }
            None => {
                self.lost.push(lost);
                true
            }
        }
    }

    pub(crate) fn lost_at(&self, seq: u64) -> Option<&Lost> {
        self.lost.iter().find(|lost| (lost.first_seq..=lost.last_seq).contains(&seq))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| size_of::<Chunk>() + chunk.heap_bytes()).sum::<usize>()
            + self.tail.capacity() * size_of::<Tail>()
            + self.subjects.heap_bytes()
            + self.states.iter().map(|(key, state)| 64 + key.len() + state.bytes()).sum::<usize>()
            + self.config.len()
    }

    /// Index of the first chunk that can have the sequence or a later one.
    fn chunk_at(&self, seq: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.seqs().1 < seq)
    }

    fn tail_at(&self, seq: u64) -> Option<usize> {
        self.tail.binary_search_by_key(&seq, |tail| tail.entry.seq).ok()
    }
}
