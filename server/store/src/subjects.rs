//! The subjects of a stream: a number for each, and what it has.
//!
//! A subject costs 24 bytes, its characters and 2, and 5 bytes a slot of the table, which is 44 % to 88 % full.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

#[derive(Clone, Copy, Debug)]
struct Subject {
    /// No message of it is before this.
    first: u64,
    /// No message of it is after this.
    last: u64,
    /// Messages; 0: the id is free.
    count: u32,
    /// Of its text in the arena.
    at: u32,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    list: Vec<Subject>,
    free: Vec<u32>,
    /// A u16 and the text, one after the other.
    arena: Vec<u8>,
    garbage: usize,
    /// Grows when an id comes to mean another subject.
    pub(crate) epoch: u64,
}

impl Subjects {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.table.allocation_size()
            + self.list.capacity() * size_of::<Subject>()
            + self.free.capacity() * 4
            + self.arena.capacity()
    }

    pub(crate) fn id(&self, subject: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(subject);
        self.table.find(hash, |id| self.text(*id) == subject).copied()
    }

    /// Empty for an id that is free.
    pub(crate) fn text(&self, id: u32) -> &[u8] {
        match self.list.get(id as usize) {
            Some(subject) if subject.count > 0 => text(&self.arena, subject.at),
            _ => &[],
        }
    }

    pub(crate) fn count(&self, id: u32) -> u32 {
        self.list.get(id as usize).map_or(0, |subject| subject.count)
    }

    /// No message of the subject is outside.
    pub(crate) fn bounds(&self, id: u32) -> (u64, u64) {
        self.list.get(id as usize).map_or((u64::MAX, 0), |subject| (subject.first, subject.last))
    }

    /// No message of the subject is before `first`.
    pub(crate) fn set_first(&mut self, id: u32, first: u64) {
        if let Some(subject) = self.list.get_mut(id as usize) {
            subject.first = first;
        }
    }

    /// No message of the subject is after `last`.
    pub(crate) fn set_last(&mut self, id: u32, last: u64) {
        if let Some(subject) = self.list.get_mut(id as usize) {
            subject.last = last;
        }
    }

    /// Ids in use, in any order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.table.iter().copied()
    }

    /// One more message. Returns the id, and after which sequence the subject had none before, if it had any.
    pub(crate) fn add(&mut self, subject: &[u8], seq: u64) -> (u32, Option<u64>) {
        if let Some(id) = self.id(subject) {
            let before = self.list[id as usize].last;
            return (self.add_again(id, seq), Some(before));
        }
        let new = Subject { first: seq, last: seq, count: 1, at: self.arena.len() as u32 };
        self.arena.extend_from_slice(&(subject.len() as u16).to_le_bytes());
        self.arena.extend_from_slice(subject);
        let id = match self.free.pop() {
            Some(id) => {
                self.epoch += 1;
                self.list[id as usize] = new;
                id
            }
            None => {
                self.list.push(new);
                self.list.len() as u32 - 1
            }
        };
        let (hasher, list, arena) = (&self.hasher, &self.list, &self.arena);
        let hash_of = |id: &u32| hasher.hash_one(text(arena, list[*id as usize].at));
        self.table.insert_unique(hasher.hash_one(subject), id, hash_of);
        (id, None)
    }

    /// One more message of a subject that has some. Returns the id.
    pub(crate) fn add_again(&mut self, id: u32, seq: u64) -> u32 {
        let subject = &mut self.list[id as usize];
        subject.count += 1;
        subject.first = subject.first.min(seq);
        subject.last = subject.last.max(seq);
        id
    }

    /// One message less.
    pub(crate) fn remove(&mut self, id: u32) {
        let Some(subject) = self.list.get(id as usize).filter(|subject| subject.count > 0) else { return };
        if subject.count == 1 {
            let text = text(&self.arena, subject.at);
            self.garbage += 2 + text.len();
            let hash = self.hasher.hash_one(text);
            if let Ok(entry) = self.table.find_entry(hash, |other| *other == id) {
                entry.remove();
            }
            self.free.push(id);
        }
        self.list[id as usize].count -= 1;
        if self.garbage > 4_096 && self.garbage * 2 > self.arena.len() {
            self.collect();
        }
    }

    /// Leaves the texts of subjects that are gone out of the arena.
    fn collect(&mut self) {
        let mut arena = Vec::with_capacity(self.arena.len() - self.garbage);
        for subject in self.list.iter_mut().filter(|subject| subject.count > 0) {
            let text = text(&self.arena, subject.at);
            subject.at = arena.len() as u32;
            arena.extend_from_slice(&(text.len() as u16).to_le_bytes());
            arena.extend_from_slice(text);
        }
        self.arena = arena;
        self.garbage = 0;
        if self.table.len() * 4 < self.table.capacity() {
            let (hasher, list, arena) = (&self.hasher, &self.list, &self.arena);
            self.table.shrink_to_fit(|id| hasher.hash_one(text(arena, list[*id as usize].at)));
        }
    }
}

fn text(arena: &[u8], at: u32) -> &[u8] {
    let at = at as usize;
    let len = usize::from(crate::checksum::u16_at(arena, at));
    arena.get(at + 2..at + 2 + len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_come_and_go() {
        let mut subjects = Subjects::default();
        for round in 0..3_u64 {
            for i in 0..1_000_u64 {
                subjects.add(format!("a.{round}.{i}").as_bytes(), round * 1_000 + i);
                subjects.add(format!("a.{round}.{i}").as_bytes(), round * 1_000 + i + 1);
            }
            assert_eq!(subjects.len(), 1_000);
            let id = subjects.id(format!("a.{round}.7").as_bytes()).unwrap();
            assert_eq!(subjects.text(id), format!("a.{round}.7").as_bytes());
            assert_eq!(
                (subjects.count(id), subjects.bounds(id)),
                (2, (round * 1_000 + 7, round * 1_000 + 8))
            );
            for id in subjects.ids().collect::<Vec<_>>() {
                subjects.remove(id);
                subjects.remove(id);
                assert_eq!(subjects.text(id), b"");
            }
            assert_eq!(subjects.len(), 0);
        }
        assert!(subjects.heap_bytes() < 200_000);
    }
}
