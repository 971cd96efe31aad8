//! Values under dense `u32` ids, in chunks.

use core::ops::{Index, IndexMut};

/// Values of one type under ids that are small, reused and never moved.
///
/// Chunks of 64 keep growth free of large copies, and an empty chunk goes back to the allocator. The lowest free
/// id is given out first, so the upper chunks are the ones that empty.
pub(crate) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// A bit per chunk: it has a free slot.
    open: Vec<u64>,
    /// No word of `open` below this one has a bit.
    open_from: usize,
    len: usize,
}

struct Chunk<T> {
    slots: Option<Box<[T; CHUNK]>>,
    /// A bit per slot: it holds a value.
    used: u64,
}

impl<T: Copy + Default> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), open: Vec::new(), open_from: 0, len: 0 }
    }

    /// Values held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes asked of the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        let full = self.chunks.iter().filter(|chunk| chunk.slots.is_some()).count();
        full * size_of::<[T; CHUNK]>()
            + self.chunks.capacity() * size_of::<Chunk<T>>()
            + self.open.capacity() * size_of::<u64>()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let (at, bit) = place(id);
        let chunk = self.chunks.get(at)?;
        let slots = chunk.slots.as_ref()?;
        (chunk.used & 1 << bit != 0).then(|| &slots[bit])
    }

    /// The caller keeps `len` within what a `u32` can name.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let at = self.open_chunk();
        let chunk = &mut self.chunks[at];
        let bit = chunk.used.trailing_ones() as usize;
        let slots = chunk.slots.get_or_insert_with(|| Box::new([T::default(); CHUNK]));
        slots[bit] = value;
        chunk.used |= 1 << bit;
        if chunk.used == u64::MAX {
            self.open[at / WORD] &= !(1 << (at % WORD));
        }
        self.len += 1;
        (at * CHUNK + bit) as u32
    }

    /// The value of an id that is in use.
    pub(crate) fn remove(&mut self, id: u32) -> T {
        let value = self[id];
        let (at, bit) = place(id);
        let chunk = &mut self.chunks[at];
        chunk.used &= !(1 << bit);
        self.len -= 1;
        self.open[at / WORD] |= 1 << (at % WORD);
        self.open_from = self.open_from.min(at / WORD);
        if chunk.used == 0 {
            chunk.slots = None;
            self.drop_empty_tail();
        }
        value
    }

    /// The lowest chunk with a free slot.
    fn open_chunk(&mut self) -> usize {
        while let Some(word) = self.open.get(self.open_from) {
            if *word != 0 {
                return self.open_from * WORD + word.trailing_zeros() as usize;
            }
            self.open_from += 1;
        }
        let at = self.chunks.len();
        self.chunks.push(Chunk { slots: None, used: 0 });
        match self.open.get_mut(at / WORD) {
            Some(word) => *word |= 1 << (at % WORD),
            None => self.open.push(1),
        }
        self.open_from = at / WORD;
        at
    }

    fn drop_empty_tail(&mut self) {
        while self.chunks.pop_if(|chunk| chunk.used == 0).is_some() {
            let at = self.chunks.len();
            self.open[at / WORD] &= !(1 << (at % WORD));
        }
        self.open.truncate(self.chunks.len().div_ceil(WORD));
        self.open_from = self.open_from.min(self.open.len());
        if self.chunks.len() < self.chunks.capacity() / 8 {
            self.chunks.shrink_to(self.chunks.len() * 2);
            self.open.shrink_to(self.open.len() * 2);
        }
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, id: u32) -> &T {
        let (at, bit) = place(id);
        &self.chunks[at].slots.as_ref().expect("an id in use has its chunk")[bit]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, id: u32) -> &mut T {
        let (at, bit) = place(id);
        &mut self.chunks[at].slots.as_mut().expect("an id in use has its chunk")[bit]
    }
}

fn place(id: u32) -> (usize, usize) {
    (id as usize / CHUNK, id as usize % CHUNK)
}

/// Slots in a chunk: the bits of its `used`.
const CHUNK: usize = 64;
/// Bits in a word of `open`.
const WORD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dense_and_lowest_first() {
        let mut slab = Slab::new();
        for i in 0..10_000u32 {
            assert_eq!(slab.insert(i), i);
        }
        for i in [9_000, 70, 3] {
            assert_eq!(slab.remove(i), i);
            assert_eq!(slab.get(i), None);
        }
        assert_eq!(slab.len(), 9_997);
        assert_eq!([slab.insert(0), slab.insert(0), slab.insert(0), slab.insert(0)], [3, 70, 9_000, 10_000]);
        assert_eq!(slab.get(10_001), None);
        assert_eq!(slab.get(u32::MAX), None);
    }

    #[test]
    fn empty_chunks_are_given_back() {
        let mut slab = Slab::new();
        (0..100_000u32).for_each(|i| assert_eq!(slab.insert(i), i));
        let full = slab.heap_bytes();
        (1..100_000).for_each(|i| assert_eq!(slab.remove(i), i));
        assert!(slab.heap_bytes() < full / 50, "{} of {full}", slab.heap_bytes());
        assert_eq!(slab[0], 0);
        slab.remove(0);
        assert_eq!((slab.len(), slab.insert(7)), (0, 0));
    }
}
