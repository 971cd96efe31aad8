//! From a hash to the id of the thing that has it.

use hashbrown::HashTable;

/// A hash table of ids; keys stay with the things. Cut into shards, so that growth rehashes a sixteenth at a time
/// instead of everything under the caller's lock.
pub(crate) struct Index {
    shards: [HashTable<u32>; SHARDS],
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { shards: [const { HashTable::new() }; SHARDS] }
    }

    /// Bytes asked of the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.shards.iter().map(HashTable::allocation_size).sum()
    }

    pub(crate) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.shards[shard(hash)].find(hash, |id| is(*id)).copied()
    }

    /// Adds `id`, which is not there yet; `rehash` tells the hash of an id.
    pub(crate) fn insert(&mut self, hash: u64, id: u32, rehash: impl Fn(u32) -> u64) {
        self.shards[shard(hash)].insert_unique(hash, id, |id| rehash(*id));
    }

    /// Puts `new` where `old` is. Both have the same hash.
    pub(crate) fn replace(&mut self, hash: u64, old: u32, new: u32) {
        if let Some(id) = self.shards[shard(hash)].find_mut(hash, |id| *id == old) {
            *id = new;
        }
    }

    /// Takes `id` out, and gives memory back once seven eighths of it are unused.
    pub(crate) fn remove(&mut self, hash: u64, id: u32, rehash: impl Fn(u32) -> u64) {
        let shard = &mut self.shards[shard(hash)];
        if let Ok(entry) = shard.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        if shard.len() < shard.capacity() / 8 {
            shard.shrink_to(shard.len() * 2, |id| rehash(*id));
        }
    }
}

/// The table takes its place from the lowest bits of the hash and its tag from the highest: use others.
fn shard(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

const SHARDS: usize = 16;
