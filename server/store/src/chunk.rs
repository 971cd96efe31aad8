//! The messages that one stream has in one segment: where they are, packed into a few bytes each.
//!
//! An entry is four varints, or five: what the sequence grew by since the entry before, times two, plus one if the message
//! expires; what the place grew by; the size; the subject's id; when it expires. Every [`BLOCK`] entries an anchor tells
//! where the next one is and what came before it, so finding one unpacks at most a block.

use std::cell::Cell;
use std::ops::Range;

/// Entries between anchors.
const BLOCK: u32 = 32;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    /// Of the record in its segment, in units of eight bytes.
    pub(crate) place: u32,
    /// As limits count it.
    pub(crate) size: u32,
    pub(crate) subject: u32,
    /// 0: never.
    pub(crate) expires: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Anchor {
    at: u32,
    place: u32,
    /// Of the entry before, as is the place.
    seq: u64,
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Number of the segment.
    pub(crate) segment: u64,
    first_seq: u64,
    last_seq: u64,
    last_place: u32,
    count: u32,
    live: u32,
    /// Entries before this one are all dead.
    head: u32,
    packed: Vec<u8>,
    anchors: Vec<Anchor>,
    /// A bit for each entry that is dead; short where none is.
    dead: Vec<u64>,
    /// The entry that was found last: who reads on finds the next one at once.
    near: Cell<Mark>,
}

/// Where an entry is, and what came before it.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    ordinal: u32,
    before: Anchor,
}

impl Chunk {
    pub(crate) fn new(segment: u64) -> Self {
        Self {
            segment,
            first_seq: 0,
            last_seq: 0,
            last_place: 0,
            count: 0,
            live: 0,
            head: 0,
            packed: Vec::new(),
            anchors: Vec::new(),
            dead: Vec::new(),
            near: Cell::default(),
        }
    }

    /// With room for so many bytes of entries.
    pub(crate) fn with_capacity(segment: u64, bytes: usize) -> Self {
        Self { packed: Vec::with_capacity(bytes), ..Self::new(segment) }
    }

    /// Of all entries, dead ones too.
    pub(crate) fn seqs(&self) -> (u64, u64) {
        (self.first_seq, self.last_seq)
    }

    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.packed.capacity() + self.anchors.capacity() * size_of::<Anchor>() + self.dead.capacity() * 8
    }

    /// Appends; the sequence and the place have to be larger than the last.
    pub(crate) fn push(&mut self, entry: Entry, dead: bool) {
        if self.count == 0 {
            self.first_seq = entry.seq;
            self.last_seq = entry.seq;
        }
        if self.count.is_multiple_of(BLOCK) {
            let at = self.packed.len() as u32;
            self.anchors.push(Anchor { at, place: self.last_place, seq: self.last_seq });
        }
        let step = entry.seq.wrapping_sub(self.last_seq) << 1 | u64::from(entry.expires != 0);
        put(&mut self.packed, step);
        put(&mut self.packed, u64::from(entry.place.wrapping_sub(self.last_place)));
        put(&mut self.packed, u64::from(entry.size));
        put(&mut self.packed, u64::from(entry.subject));
        if entry.expires != 0 {
            put(&mut self.packed, entry.expires.cast_unsigned());
        }
        self.last_seq = entry.seq;
        self.last_place = entry.place;
        self.count += 1;
        self.live += 1;
        if dead {
            self.kill(self.count - 1);
        }
    }

    /// No more will be pushed.
    pub(crate) fn shrink(&mut self) {
        self.packed.shrink_to_fit();
        self.anchors.shrink_to_fit();
    }

    pub(crate) fn is_dead(&self, ordinal: u32) -> bool {
        self.dead.get(ordinal as usize / 64).is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
    }

    /// Marks an entry as dead; `false` if it was, or isn't there.
    pub(crate) fn kill(&mut self, ordinal: u32) -> bool {
        if ordinal >= self.count || self.is_dead(ordinal) {
            return false;
        }
        let word = ordinal as usize / 64;
        if self.dead.len() <= word {
            self.dead.reserve_exact((self.count as usize).div_ceil(64).max(word + 1) - self.dead.len());
            self.dead.resize(word + 1, 0);
        }
        self.dead[word] |= 1 << (ordinal % 64);
        self.live -= 1;
        if ordinal == self.head {
            while self.head < self.count && self.is_dead(self.head) {
                self.head += 1;
            }
        }
        true
    }

    /// Entries that aren't dead, from the first whose sequence is at least `seq`.
    pub(crate) fn live_from(&self, seq: u64) -> impl Iterator<Item = (u32, Entry)> + '_ {
        let start = match seq <= self.first_seq {
            true => self.walk(self.head / BLOCK),
            false => self.walk_near(seq),
        };
        start.filter(move |(ordinal, entry)| entry.seq >= seq && !self.is_dead(*ordinal))
    }

    /// Entries that aren't dead, backwards from the last whose sequence is at most `seq`.
    pub(crate) fn live_back_from(&self, seq: u64) -> impl Iterator<Item = (u32, Entry)> + '_ {
        let last = if seq < self.first_seq { None } else { Some(self.block_of(seq)) };
        let blocks = last.map_or(0..0, |last| self.head / BLOCK..last + 1);
        blocks.rev().flat_map(move |block| {
            let mut entries: Vec<_> = self
                .walk(block)
                .take(BLOCK as usize)
                .filter(|(ordinal, entry)| entry.seq <= seq && !self.is_dead(*ordinal))
                .collect();
            entries.reverse();
            entries
        })
    }

    /// All entries, dead ones too.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, Entry)> + '_ {
        self.walk(0)
    }

    pub(crate) fn find(&self, seq: u64) -> Option<(u32, Entry)> {
        if seq < self.first_seq || seq > self.last_seq {
            return None;
        }
        let mut walk = self.walk_near(seq);
        loop {
            let mark = walk.mark(self.packed.len());
            let (ordinal, entry) = walk.next()?;
            if entry.seq >= seq {
                self.near.set(mark);
                return (entry.seq == seq).then_some((ordinal, entry));
            }
        }
    }

    /// From the block in which the sequence is, if it is anywhere, or from the entry that was found last.
    #[inline]
    fn walk_near(&self, seq: u64) -> Walk<'_> {
        let Mark { ordinal, before } = self.near.get();
        // Sequences grow by at least one an entry: so close, walking is cheaper than looking for a block.
        let is_close = ordinal > 0 && seq.wrapping_sub(before.seq).wrapping_sub(1) < u64::from(BLOCK);
        if !is_close {
            let block = self.block_of(seq).max(self.head / BLOCK);
            if ordinal <= block * BLOCK || before.seq >= seq {
                return self.walk(block);
            }
        }
        let rest = self.packed.get(before.at as usize..).unwrap_or_default();
        Walk { rest, ordinals: ordinal..self.count, seq: before.seq, place: before.place }
    }

    /// The block in which the sequence is, if it is anywhere.
    fn block_of(&self, seq: u64) -> u32 {
        // An anchor knows the sequence before its block: the first of the chunk for block 0.
        let after = self.anchors.partition_point(|anchor| anchor.seq < seq);
        (after as u32).saturating_sub(1)
    }

    fn walk(&self, block: u32) -> Walk<'_> {
        let anchor = self.anchors.get(block as usize);
        let (rest, seq, place) = match anchor {
            Some(anchor) => (self.packed.get(anchor.at as usize..), anchor.seq, anchor.place),
            None => (None, 0, 0),
        };
        Walk { rest: rest.unwrap_or_default(), ordinals: block * BLOCK..self.count, seq, place }
    }
}

struct Walk<'a> {
    rest: &'a [u8],
    ordinals: Range<u32>,
    seq: u64,
    place: u32,
}

impl Walk<'_> {
    /// Where it is, of so many bytes.
    fn mark(&self, packed: usize) -> Mark {
        let at = packed.saturating_sub(self.rest.len()) as u32;
        Mark { ordinal: self.ordinals.start, before: Anchor { at, place: self.place, seq: self.seq } }
    }
}

impl Iterator for Walk<'_> {
    type Item = (u32, Entry);

    fn next(&mut self) -> Option<Self::Item> {
        let step = take(&mut self.rest)?;
        self.seq = self.seq.wrapping_add(step >> 1);
        self.place = self.place.wrapping_add(take(&mut self.rest)? as u32);
        let size = take(&mut self.rest)? as u32;
        let subject = take(&mut self.rest)? as u32;
        let expires = if step & 1 == 1 { take(&mut self.rest)?.cast_signed() } else { 0 };
        let entry = Entry { seq: self.seq, place: self.place, size, subject, expires };
        Some((self.ordinals.next()?, entry))
    }
}

/// Appends a varint.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a varint.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_found_walked_and_killed() {
        let mut chunk = Chunk::new(1);
        let entry = |i: u64| Entry {
            seq: 10 + i * 3,
            place: 100 + i as u32 * 26,
            size: 200,
            subject: i as u32 % 7,
            expires: if i.is_multiple_of(5) { 1_700_000_000_000_000_000 + i as i64 } else { 0 },
        };
        for i in 0..1_000 {
            chunk.push(entry(i), i == 0 || i == 500);
        }
        assert_eq!((chunk.seqs(), chunk.count(), chunk.live()), ((10, 3_007), 1_000, 998));
        for i in 0..1_000 {
            assert_eq!(chunk.find(10 + i * 3), Some((i as u32, entry(i))));
            assert_eq!(chunk.find(11 + i * 3), None);
            let next = chunk.live_from(9 + i * 3).next().map(|(ordinal, _)| u64::from(ordinal));
            assert_eq!(next, Some(if i == 0 || i == 500 { i + 1 } else { i }));
            let back = chunk.live_back_from(11 + i * 3).next().map(|(ordinal, _)| u64::from(ordinal));
            assert_eq!(back, if i == 0 { None } else { Some(if i == 500 { 499 } else { i }) });
        }
        assert_eq!(chunk.live_from(0).count(), 998);
        assert_eq!(chunk.live_back_from(u64::MAX).count(), 998);
        assert!((0..1_000).filter(|i| chunk.kill(*i)).count() == 998);
        assert_eq!((chunk.live(), chunk.live_from(0).count()), (0, 0));
    }
}
