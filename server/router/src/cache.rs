//! Results of recent matches.

use core::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use midge_protocol::subject::{self, REST, STAR};

use crate::matches::Matches;

/// Results by subject, bounded in number and bytes.
///
/// A change of interest costs one increment: it moves the epoch of the *realm* that the filter's first token
/// hashes to, or the one epoch that everybody shares if that token is a wildcard. A result is valid as long as
/// neither epoch moved. So the coming and going of inboxes does not touch what is known of `sensors.*`.
pub(crate) struct Cache {
    hasher: DefaultHashBuilder,
    index: HashTable<u32>,
    entries: Vec<Entry>,
    /// Where the search for an entry to give up goes on.
    hand: usize,
    entries_max: usize,
    /// Held by the subjects and results of all entries.
    bytes: usize,
    epochs: [u64; REALMS],
    shared_epoch: u64,
}

#[derive(Default)]
struct Entry {
    hash: u64,
    subject: Vec<u8>,
    matches: Arc<Matches>,
    /// Sum of both epochs at the time of the match. Both only grow, so the sum is equal if and only if both are.
    epoch: u64,
    realm: usize,
    /// Asked for since the hand came by.
    wanted: bool,
}

/// What [`Cache::find`] found.
pub(crate) enum Lookup {
    Fresh(usize),
    /// The place of an outdated result, or none; with the subject's hash.
    Missing(Option<usize>, u64),
}

impl Cache {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            index: HashTable::new(),
            entries: Vec::new(),
            hand: 0,
            entries_max,
            bytes: 0,
            epochs: [0; REALMS],
            shared_epoch: 0,
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.entries_max > 0
    }

    /// Subjects known, outdated ones included.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes asked of the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes + self.index.allocation_size() + self.entries.capacity() * size_of::<Entry>()
    }

    pub(crate) fn results(&self) -> impl Iterator<Item = &Matches> {
        self.entries.iter().map(|entry| &*entry.matches)
    }

    /// Interest in what `filter` covers has changed.
    pub(crate) fn invalidate(&mut self, filter: &[u8]) {
        match first_token(filter) {
            STAR | REST => self.shared_epoch += 1,
            token => {
                let realm = self.realm(token);
                self.epochs[realm] += 1;
            }
        }
    }

    pub(crate) fn find(&mut self, subject: &[u8]) -> Lookup {
        let hash = self.hasher.hash_one(subject);
        let found = self.index.find(hash, |at| self.entries[*at as usize].subject == subject);
        let Some(at) = found.map(|at| *at as usize) else { return Lookup::Missing(None, hash) };
        if !self.is_fresh(at) {
            return Lookup::Missing(Some(at), hash);
        }
        self.entries[at].wanted = true;
        Lookup::Fresh(at)
    }

    pub(crate) fn result(&self, at: usize) -> &Arc<Matches> {
        &self.entries[at].matches
    }

    /// Keeps `matches` and returns its place; what it pushes out comes back in `matches`, for reuse. A result too
    /// large to keep stays where it is.
    pub(crate) fn put(
        &mut self,
        found: Option<usize>,
        hash: u64,
        subject: &[u8],
        matches: &mut Arc<Matches>,
    ) -> Option<usize> {
        if subject.len() + matches.heap_bytes() > self.bytes_max() / 2 {
            return None;
        }
        let at = found.unwrap_or_else(|| self.make_entry(hash, subject));
        let realm = self.realm(first_token(subject));
        let epoch = self.epoch(realm);
        let entry = &mut self.entries[at];
        self.bytes -= entry.matches.heap_bytes();
        core::mem::swap(&mut entry.matches, matches);
        self.bytes += entry.matches.heap_bytes();
        (entry.epoch, entry.realm, entry.wanted) = (epoch, realm, true);
        Some(self.make_room_beside(at))
    }

    /// An entry for `subject`, whose result is yet to come: a new one or someone else's.
    fn make_entry(&mut self, hash: u64, subject: &[u8]) -> usize {
        let at = if self.entries.len() < self.entries_max {
            self.entries.push(Entry::default());
            self.entries.len() - 1
        } else {
            let at = self.next_to_leave(None);
            self.unindex(at);
            at
        };
        let Self { index, entries, .. } = self;
        let entry = &mut entries[at];
        self.bytes -= entry.subject.capacity();
        entry.subject.clear();
        entry.subject.shrink_to(2 * subject.len());
        entry.subject.extend_from_slice(subject);
        self.bytes += entry.subject.capacity();
        entry.hash = hash;
        index.insert_unique(hash, at as u32, |at| entries[*at as usize].hash);
        at
    }

    /// Gives up entries until the bytes are within bounds. Returns where entry `at` is now.
    fn make_room_beside(&mut self, mut at: usize) -> usize {
        while self.bytes > self.bytes_max() && self.entries.len() > 1 {
            let leaver = self.next_to_leave(Some(at));
            self.unindex(leaver);
            let last = self.entries.len() - 1;
            if let Some(moved) = self.index.find_mut(self.entries[last].hash, |at| *at as usize == last) {
                *moved = leaver as u32;
            }
            let entry = self.entries.swap_remove(leaver);
            self.bytes -= entry.subject.capacity() + entry.matches.heap_bytes();
            if at == last {
                at = leaver;
            }
        }
        at
    }

    /// An outdated entry, or one that nobody asked for during the last round of the hand (the clock algorithm).
    fn next_to_leave(&mut self, stays: Option<usize>) -> usize {
        loop {
            self.hand = (self.hand + 1) % self.entries.len();
            if Some(self.hand) == stays {
                continue;
            }
            let fresh = self.is_fresh(self.hand);
            let entry = &mut self.entries[self.hand];
            if !(fresh && core::mem::take(&mut entry.wanted)) {
                return self.hand;
            }
        }
    }

    fn unindex(&mut self, at: usize) {
        if let Ok(found) = self.index.find_entry(self.entries[at].hash, |other| *other as usize == at) {
            found.remove();
        }
    }

    fn is_fresh(&self, at: usize) -> bool {
        let entry = &self.entries[at];
        entry.epoch == self.epoch(entry.realm)
    }

    fn epoch(&self, realm: usize) -> u64 {
        self.shared_epoch + self.epochs[realm]
    }

    fn realm(&self, token: &[u8]) -> usize {
        self.hasher.hash_one(token) as usize % REALMS
    }

    fn bytes_max(&self) -> usize {
        self.entries_max.saturating_mul(BYTES_PER_ENTRY)
    }
}

fn first_token(text: &[u8]) -> &[u8] {
    subject::tokens(text).next().unwrap_or_default()
}

/// Sets of first tokens that are invalidated together.
const REALMS: usize = 128;
/// The bound on bytes for each entry that the bound on entries allows.
const BYTES_PER_ENTRY: usize = 1024;
