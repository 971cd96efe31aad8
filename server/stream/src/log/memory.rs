//! A log in memory.
//!
//! ```text
//!   messages  1 2 . 4 5 . 7      by number; what was taken out leaves nothing behind
//!   subjects  a: 1 4 7           by subject, in order, each with its numbers
//!             b: 2 5
//! ```
//!
//! Memory: what the message itself takes, and about 80 bytes; for each subject about 150 more.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::{Entry, Filters, Loaded, Log, LogError, Shelf, State, Stored};
use crate::sync::Sync;
use crate::time::Nanos;

/// One message: subject, header block and payload in one piece.
#[derive(Debug)]
struct Kept {
    time: Nanos,
    expires: Nanos,
    text: Bytes,
    subject: u32,
    header: u32,
}

impl Kept {
    fn new(entry: &Entry<'_>) -> Self {
        let mut text = Vec::with_capacity(entry.subject.len() + entry.header.len() + entry.payload.len());
        for part in [entry.subject, entry.header, entry.payload] {
            text.extend_from_slice(part);
        }
        let len = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX);
        let (subject, header) = (len(entry.subject), len(entry.header));
        Self { time: entry.time, expires: entry.expires, text: text.into(), subject, header }
    }

    fn subject(&self) -> &[u8] {
        self.text.get(..self.subject as usize).unwrap_or_default()
    }

    fn stored(&self, seq: u64) -> Stored {
        let header = (self.subject as usize).min(self.text.len());
        let payload = (header + self.header as usize).min(self.text.len());
        let part = |from, to| self.text.slice(from..to);
        let (subject, header) = (part(0, header), part(header, payload));
        Stored::of_parts(seq, self.time, subject, header, part(payload, self.text.len()))
    }
}

/// Messages in memory.
#[derive(Debug, Default)]
pub struct MemoryLog {
    messages: BTreeMap<u64, Kept>,
    subjects: BTreeMap<Box<[u8]>, VecDeque<u64>>,
    state: State,
}

impl MemoryLog {
    /// An empty log whose first message will be `first`, at least 1.
    pub fn new(first: u64) -> Self {
        let mut log = Self::default();
        if first > 0 {
            log.state.first_seq = first;
            log.state.last_seq = first - 1;
        }
        log
    }

    /// Bytes that a message counts for. Source: nats-server's `memStoreMsgSize`.
    pub fn size_of(len: usize) -> u64 {
        len as u64 + 16
    }

    /// The lists of numbers of the subjects that are wanted.
    fn lists<'a>(&'a self, filters: &'a Filters) -> impl Iterator<Item = (&'a [u8], &'a VecDeque<u64>)> {
        filters.prefixes().flat_map(|(prefix, filter)| {
            let literal = filter.is_some_and(|filter| filter.is_literal());
            let range = self.subjects.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
            let within =
                range.take_while(
                    move |(subject, _)| {
                        if literal { &***subject == prefix } else { subject.starts_with(prefix) }
                    },
                );
            let wanted =
                within.filter(move |(subject, _)| filter.is_none_or(|filter| filter.matches(subject)));
            wanted.map(|(subject, list)| (&**subject, list))
        })
    }

    fn forget(&mut self, seq: u64, message: &Kept) {
        self.state.messages -= 1;
        self.state.bytes -= Self::size_of(message.text.len());
        if let Some(list) = self.subjects.get_mut(message.subject()) {
            if let Ok(at) = list.binary_search(&seq) {
                list.remove(at);
            }
            if list.is_empty() {
                self.subjects.remove(message.subject());
            } else if list.capacity() > 64 && list.len() < list.capacity() / 4 {
                list.shrink_to(list.len() * 2);
            }
        }
        if seq == self.state.first_seq {
            self.settle_first();
        }
    }

    fn settle_first(&mut self) {
        let first = self.messages.first_key_value();
        self.state.first_seq = first.map_or(self.state.last_seq + 1, |(seq, _)| *seq);
    }
}

impl Log for MemoryLog {
    fn state(&self) -> State {
        self.state
    }

    fn append(&mut self, entry: &Entry<'_>) -> Result<u64, LogError> {
        let seq = self.state.last_seq + 1;
        let message = Kept::new(entry);
        match self.subjects.get_mut(entry.subject) {
            Some(list) => list.push_back(seq),
            None => {
                self.subjects.insert(entry.subject.into(), VecDeque::from([seq]));
            }
        }
        if self.messages.is_empty() {
            self.state.first_seq = seq;
        }
        self.state.messages += 1;
        self.state.bytes += Self::size_of(message.text.len());
        (self.state.last_seq, self.state.last_time) = (seq, entry.time);
        self.messages.insert(seq, message);
        Ok(seq)
    }

    fn skip_to(&mut self, seq: u64, time: Nanos) -> Result<(), LogError> {
        if seq > self.state.last_seq {
            (self.state.last_seq, self.state.last_time) = (seq, time);
            if self.messages.is_empty() {
                self.settle_first();
            }
        }
        Ok(())
    }

    fn get(&self, seq: u64) -> Result<Option<Stored>, LogError> {
        Ok(self.messages.get(&seq).map(|message| message.stored(seq)))
    }

    fn time_of(&self, seq: u64) -> Result<Option<Nanos>, LogError> {
        Ok(self.messages.get(&seq).map(|message| message.time))
    }

    fn subject_of(&self, seq: u64) -> Option<Box<[u8]>> {
        self.messages.get(&seq).map(|message| message.subject().into())
    }

    fn remove(&mut self, seq: u64, _erase: bool) -> Result<bool, LogError> {
        let Some(message) = self.messages.remove(&seq) else { return Ok(false) };
        self.forget(seq, &message);
        Ok(true)
    }

    fn remove_oldest(&mut self, seq: u64) -> Result<bool, LogError> {
        if self.state.first_seq == seq { self.remove(seq, false) } else { Ok(false) }
    }

    fn truncate_front(&mut self, seq: u64, now: Nanos) -> Result<u64, LogError> {
        let before = self.state.messages;
        if seq > self.state.last_seq {
            // Everything goes: no need to look at each. Numbers that were never used count as a change, as in nats-server.
            let skips = seq > self.state.last_seq + 1;
            let last_time = if skips { now } else { self.state.last_time };
            self.messages = BTreeMap::new();
            self.subjects = BTreeMap::new();
            self.state =
                State { first_seq: seq, last_seq: seq.saturating_sub(1), last_time, ..State::default() };
            return Ok(before);
        }
        while let Some(entry) = self.messages.first_entry().filter(|entry| *entry.key() < seq) {
            let (seq, message) = entry.remove_entry();
            self.forget(seq, &message);
        }
        Ok(before - self.state.messages)
    }

    fn next(&self, from: u64, filters: &Filters) -> Option<u64> {
        let first_in = |list: &VecDeque<u64>| list.get(list.partition_point(|seq| *seq < from)).copied();
        if filters.is_all() {
            return self.messages.range(from..).next().map(|(seq, _)| *seq);
        }
        if let Some(literals) = filters.literals() {
            let lists = literals.filter_map(|subject| self.subjects.get(subject));
            return lists.filter_map(first_in).min();
        }
        // Either look at the subjects or at the messages, whichever are fewer; with few messages to go, at those.
        let near =
            self.messages.range(from..).take(NEAR).find(|(_, message)| filters.matches(message.subject()));
        if let Some((seq, _)) = near {
            return Some(*seq);
        }
        if (self.subjects.len() as u64) < self.state.messages / 8 {
            return self.lists(filters).filter_map(|(_, list)| first_in(list)).min();
        }
        self.messages
            .range(from..)
            .find(|(_, message)| filters.matches(message.subject()))
            .map(|(seq, _)| *seq)
    }

    fn count(&self, from: u64, filters: &Filters) -> u64 {
        if filters.is_all() && from <= self.state.first_seq {
            return self.state.messages;
        }
        if from > self.state.last_seq {
            return 0;
        }
        let lists = self.lists(filters);
        lists.map(|(_, list)| (list.len() - list.partition_point(|seq| *seq < from)) as u64).sum()
    }

    fn last(&self, filters: &Filters, upto: u64) -> Option<u64> {
        if filters.is_all() {
            return self.messages.range(..=upto).next_back().map(|(seq, _)| *seq);
        }
        let last_in = |list: &VecDeque<u64>| {
            list.partition_point(|seq| *seq <= upto).checked_sub(1).and_then(|at| list.get(at)).copied()
        };
        self.lists(filters).filter_map(|(_, list)| last_in(list)).max()
    }

    fn count_of(&self, subject: &[u8]) -> u64 {
        self.subjects.get(subject).map_or(0, |list| list.len() as u64)
    }

    fn first_of(&self, subject: &[u8]) -> Option<u64> {
        self.subjects.get(subject)?.front().copied()
    }

    fn last_of(&self, subject: &[u8]) -> Option<u64> {
        self.subjects.get(subject)?.back().copied()
    }

    fn subjects(&self, filters: &Filters, each: &mut dyn FnMut(&[u8], u64)) {
        self.lists(filters).for_each(|(subject, list)| each(subject, list.len() as u64));
    }

    fn subject_count(&self) -> u64 {
        self.subjects.len() as u64
    }

    fn at_time(&self, time: Nanos) -> u64 {
        let (mut low, mut high) = (self.state.first_seq, self.state.last_seq + 1);
        // Messages in front of `low` are older, those from `high` on are not.
        while low < high {
            let middle = low + (high - low) / 2;
            match self.messages.range(middle..).next() {
                Some((seq, message)) if message.time < time => low = seq + 1,
                _ => high = middle,
            }
        }
        self.messages.range(low..).next().map_or(self.state.last_seq + 1, |(seq, _)| *seq)
    }

    fn expiring(&self, each: &mut dyn FnMut(u64, Nanos)) {
        let with = self.messages.iter().filter(|(_, message)| message.expires != 0);
        with.for_each(|(seq, message)| each(*seq, message.expires));
    }

    // Nothing outlives the process, so nothing needs to be noted.

    fn can_take_at_once(&mut self, _messages: usize, _bytes: usize) -> Result<bool, LogError> {
        Ok(true)
    }

    fn put_note(&mut self, _key: &str, _value: &[u8]) -> Result<(), LogError> {
        Ok(())
    }

    fn add_to_note(&mut self, _key: &str, _value: &[u8]) -> Result<usize, LogError> {
        Ok(0)
    }

    fn drop_note(&mut self, _key: &str) -> Result<(), LogError> {
        Ok(())
    }

    fn notes(&self) -> BTreeMap<String, Vec<Vec<u8>>> {
        BTreeMap::new()
    }

    fn set_config(&mut self, _config: &[u8]) -> Result<(), LogError> {
        Ok(())
    }

    fn destroy(self: Box<Self>) -> Result<(), LogError> {
        Ok(())
    }
}

/// Logs in memory. They go with the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryShelf;

impl Shelf for MemoryShelf {
    fn create(&mut self, _config: &[u8], first: u64) -> Result<Box<dyn Log>, LogError> {
        Ok(Box::new(MemoryLog::new(first)))
    }

    fn load(&mut self) -> Result<Vec<Loaded>, LogError> {
        Ok(Vec::new())
    }

    fn keep_clock(&mut self, _kept: &[u8]) -> Result<(), LogError> {
        Ok(())
    }

    fn kept_clock(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        Ok(None)
    }

    fn is_owed(&self) -> bool {
        false
    }

    fn is_owed_to_disk(&self) -> bool {
        false
    }

    fn is_staged(&self) -> bool {
        false
    }

    fn holds(&self, _sync: Sync) -> bool {
        false
    }

    fn commit(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        Ok(())
    }
}

/// Messages that are looked at before it is asked where to look.
const NEAR: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(log: &mut MemoryLog, subject: &str, time: Nanos) -> u64 {
        let entry = Entry { subject: subject.as_bytes(), header: b"", payload: b"hello", time, expires: 0 };
        log.append(&entry).unwrap()
    }

    #[test]
    fn sums_follow_what_is_there() {
        let mut log = MemoryLog::new(0);
        assert_eq!(log.state(), State::default());
        for (time, subject) in ["a", "b", "a"].iter().enumerate() {
            put(&mut log, subject, time as Nanos + 10);
        }
        let state = log.state();
        assert_eq!((state.messages, state.bytes, state.first_seq, state.last_seq), (3, 66, 1, 3));
        assert_eq!(log.subject_of(2).as_deref(), Some(&b"b"[..]));
        assert!(log.remove(2, false).unwrap());
        assert_eq!((log.state().deleted(), log.subject_count()), (1, 1));
        assert!(!log.remove(2, false).unwrap());
        log.remove(1, false).unwrap();
        assert_eq!((log.state().first_seq, log.time_of(3).unwrap()), (3, Some(12)));
        log.remove(3, false).unwrap();
        let state = log.state();
        assert_eq!((state.first_seq, state.last_seq, state.last_time), (4, 3, 12));
        assert_eq!(put(&mut log, "c", 20), 4);
        assert_eq!(log.truncate_front(5, 30).unwrap(), 1);
        assert_eq!((log.state().first_seq, log.state().last_seq, log.state().last_time), (5, 4, 20));
        log.truncate_front(9, 30).unwrap();
        assert_eq!((log.state().first_seq, log.state().last_seq, log.state().last_time), (9, 8, 30));
    }

    #[test]
    fn a_first_number_may_be_asked_for() {
        let mut log = MemoryLog::new(100);
        assert_eq!((log.state().first_seq, log.state().last_seq), (100, 99));
        assert_eq!(put(&mut log, "a", 1), 100);
        log.skip_to(200, 2).unwrap();
        assert_eq!(put(&mut log, "a", 3), 201);
        assert_eq!(log.state().deleted(), 100);
    }

    proptest! {
        #[test]
        fn answers_are_those_of_a_walk(
            subjects in prop::collection::vec("[ab](\\.[ab]){0,2}", 1..60),
            removed in prop::collection::vec(0_u64..60, 0..30),
            filters in prop::collection::vec(prop_oneof!["[ab*](\\.[ab*]){0,2}", Just("a.>".to_owned())], 0..3),
            from in 0_u64..70,
        ) {
            let mut log = MemoryLog::new(0);
            for (time, subject) in subjects.iter().enumerate() {
                put(&mut log, subject, time as Nanos * 10 + 10);
            }
            for seq in removed {
                log.remove(seq, false).unwrap();
            }
            // Overlapping filters would count twice; consumers can't have them.
            let filters: Vec<_> = filters.iter().enumerate().filter(|(at, one)| {
                let one = midge_protocol::subject::Filter::new(one.as_bytes()).unwrap();
                filters[..*at].iter().all(|other| !crate::config::overlaps(one, &[other]))
            }).map(|(_, one)| one.as_str()).collect();
            let filters = Filters::new(filters);
            let wanted: Vec<u64> = (0..=subjects.len() as u64 + 1)
                .filter(|seq| log.get(*seq).unwrap().is_some_and(|message| filters.matches(message.subject())))
                .collect();
            let after = wanted.iter().copied().filter(|seq| *seq >= from);
            prop_assert_eq!(log.next(from, &filters), after.clone().min());
            prop_assert_eq!(log.count(from, &filters), after.count() as u64);
            prop_assert_eq!(log.last(&filters, from), wanted.iter().copied().filter(|seq| *seq <= from).max());
            let mut total = 0;
            log.subjects(&filters, &mut |_, count| total += count);
            prop_assert_eq!(total, wanted.len() as u64);
            let at = log.at_time(from as Nanos * 10);
            let walked = (1..=subjects.len() as u64)
                .find(|seq| log.get(*seq).unwrap().is_some_and(|message| message.time >= from as Nanos * 10));
            prop_assert_eq!(at, walked.unwrap_or(subjects.len() as u64 + 1));
        }
    }
}
