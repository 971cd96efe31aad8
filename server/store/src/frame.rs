//! One commit as it lies in a segment: whole pages, never written again.
//!
//! ```text
//! ┌ head ┬ records … ┬ ops, first copy ┬ zeros ┬ ops, second copy ┬ foot ┐
//! ```
//! Head and foot say the same.

use std::borrow::Cow;

use crate::checksum::{Seed, u32_at, u64_at};
use crate::record;

/// Bytes of the head, and of the foot.
pub(crate) const HEAD: usize = 64;
const HEAD_MAGIC: u32 = u32::from_le_bytes(*b"mFrm");
const FOOT_MAGIC: u32 = u32::from_le_bytes(*b"mEnd");

/// Starts a segment: its ops tell everything but messages, and what is in force.
pub(crate) const CHECKPOINT: u32 = 1;
/// Written when the store was closed: nothing follows that isn't after another opening.
pub(crate) const CLOSED: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Counts the frames of the log.
    pub(crate) number: u64,
    /// Every frame up to this one had been synced when this one was written.
    pub(crate) durable: u64,
    /// Checksum in the head of the frame before it in the segment; 0 for the first.
    pub(crate) previous: u32,
    pub(crate) pages: u32,
    pub(crate) records: u32,
    pub(crate) records_bytes: u32,
    /// Of one copy.
    pub(crate) ops_bytes: u32,
    pub(crate) ops_sum: u32,
    /// Over the checksums of the records, in order.
    pub(crate) records_sum: u32,
    pub(crate) flags: u32,
}

impl Head {
    fn encode(&self, magic: u32, seed: Seed, page_offset: u64) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[0..4].copy_from_slice(&magic.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.durable.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.previous.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.pages.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.records.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.records_bytes.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.ops_bytes.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.ops_sum.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.records_sum.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.flags.to_le_bytes());
        // The same for head and foot, so that either gives the chain.
        let sum = seed.sum(page_offset, &[&bytes[8..]]);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], magic: u32, seed: Seed, page_offset: u64) -> Option<(Self, u32)> {
        let bytes = bytes.get(..HEAD)?;
        let stored = u32_at(bytes, 4);
        if u32_at(bytes, 0) != magic || seed.sum(page_offset, &[&bytes[8..]]) != stored {
            return None;
        }
        let head = Self {
            number: u64_at(bytes, 8),
            durable: u64_at(bytes, 16),
            previous: u32_at(bytes, 24),
            pages: u32_at(bytes, 28),
            records: u32_at(bytes, 32),
            records_bytes: u32_at(bytes, 36),
            ops_bytes: u32_at(bytes, 40),
            ops_sum: u32_at(bytes, 44),
            records_sum: u32_at(bytes, 48),
            flags: u32_at(bytes, 52),
        };
        (head.pages > 0).then_some((head, stored))
    }

    /// Reads the head that lies at the start of `bytes`, the page at `page_offset` of the file. With its checksum.
    pub(crate) fn at_start(bytes: &[u8], seed: Seed, page_offset: u64) -> Option<(Self, u32)> {
        Self::decode(bytes, HEAD_MAGIC, seed, page_offset)
    }

    /// Reads the foot at the end of `page`, the page that ends at `end` of the file. With its checksum and the offset of
    /// its frame.
    pub(crate) fn at_end(page: &[u8], seed: Seed, end: u64, page_bytes: u32) -> Option<(Self, u32, u64)> {
        let foot = page.get(page.len().checked_sub(HEAD)?..)?;
        if u32_at(foot, 0) != FOOT_MAGIC {
            return None;
        }
        let start = end.checked_sub(u64::from(u32_at(foot, 28)) * u64::from(page_bytes))?;
        let (head, sum) = Self::decode(foot, FOOT_MAGIC, seed, start)?;
        Some((head, sum, start))
    }
}

/// Bytes between two places where the copies of the ops differ that were damaged apart.
const MEND_GAP: usize = 64;
/// Such places at most: each doubles what is tried, and what the checksum could take for right by chance.
const MEND_RUNS_MAX: usize = 6;

/// Pages that a frame takes.
pub(crate) fn pages(records_bytes: usize, ops_bytes: usize, apart: bool, page_bytes: u32) -> u32 {
    let page = page_bytes as usize;
    let first = HEAD + records_bytes + ops_bytes;
    let total = match apart {
        // The copies of the ops share no page.
        true => first.next_multiple_of(page) + ops_bytes + HEAD,
        false => first + ops_bytes + HEAD,
    };
    u32::try_from(total.div_ceil(page)).unwrap_or(u32::MAX)
}

/// What [`finish`] needs to know of the frame's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) seed: Seed,
    /// In the file.
    pub(crate) offset: u64,
    pub(crate) page_bytes: u32,
    pub(crate) number: u64,
    pub(crate) durable: u64,
    pub(crate) previous: u32,
    pub(crate) flags: u32,
}

/// Makes a frame of `buffer`, which holds [`HEAD`] free bytes and the records. Returns its checksum.
pub(crate) fn finish(buffer: &mut Vec<u8>, ops: &[u8], apart: bool, place: &Place) -> u32 {
    let records_end = buffer.len();
    let (mut at, mut records, mut records_sum) = (HEAD, 0, 0);
    while let Some((len, sums)) = buffer
        .get_mut(at..records_end)
        .and_then(|record| record::seal(record, place.seed, place.offset + at as u64))
    {
        records_sum = crc32c::crc32c_append(records_sum, &sums);
        records += 1;
        at += len;
    }
    let pages = pages(records_end - HEAD, ops.len(), apart, place.page_bytes);
    let end = pages as usize * place.page_bytes as usize;
    buffer.extend_from_slice(ops);
    buffer.resize(end - HEAD - ops.len(), 0);
    buffer.extend_from_slice(ops);
    let head = Head {
        number: place.number,
        durable: place.durable,
        previous: place.previous,
        pages,
        records,
        records_bytes: (records_end - HEAD) as u32,
        ops_bytes: ops.len() as u32,
        ops_sum: place.seed.sum(place.offset, &[ops]),
        records_sum,
        flags: place.flags,
    };
    let start = head.encode(HEAD_MAGIC, place.seed, place.offset);
    buffer[..HEAD].copy_from_slice(&start);
    buffer.extend_from_slice(&head.encode(FOOT_MAGIC, place.seed, place.offset));
    u32_at(&start, 4)
}

/// A frame in memory whose head or foot was right.
pub(crate) struct Frame<'a> {
    pub(crate) head: Head,
    bytes: &'a [u8],
    seed: Seed,
    offset: u64,
}

impl<'a> Frame<'a> {
    /// `bytes` are all of its pages, which lie at `offset`. `None` if the lengths in the head don't fit into them.
    pub(crate) fn new(head: Head, bytes: &'a [u8], seed: Seed, offset: u64) -> Option<Self> {
        let inside = HEAD as u64 * 2 + u64::from(head.records_bytes) + 2 * u64::from(head.ops_bytes);
        (inside <= bytes.len() as u64).then_some(Self { head, bytes, seed, offset })
    }

    /// The records, and where they lie in the file.
    pub(crate) fn records(&self) -> (&'a [u8], u64) {
        let end = HEAD + self.head.records_bytes as usize;
        (self.bytes.get(HEAD..end).unwrap_or_default(), self.offset + HEAD as u64)
    }

    pub(crate) fn walk(&self) -> record::Walk<'a> {
        let (records, base) = self.records();
        record::Walk::new(records, self.seed, base)
    }

    /// The copies of the ops that are right.
    pub(crate) fn ops(&self) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
        let (one, two) = self.copies();
        let right = |copy: &&[u8]| self.seed.sum(self.offset, &[copy]) == self.head.ops_sum;
        (Some(one).filter(right), Some(two).filter(right))
    }

    /// The ops: a copy that is right, or what two make that are damaged in different places.
    pub(crate) fn any_ops(&self) -> Option<Cow<'a, [u8]>> {
        let (one, two) = self.ops();
        one.or(two).map(Cow::Borrowed).or_else(|| self.mended_ops().map(Cow::Owned))
    }

    /// Whether there are fewer heads of records than there were, and no ops to say of what messages.
    pub(crate) fn lacks_messages(&self) -> bool {
        let heads = || self.walk().filter(|at| !matches!(at.found, record::Found::Nothing)).count();
        self.any_ops().is_none() && (heads() as u64) < u64::from(self.head.records)
    }

    fn copies(&self) -> (&'a [u8], &'a [u8]) {
        let len = self.head.ops_bytes as usize;
        let first = HEAD + self.head.records_bytes as usize;
        let second = self.bytes.len() - HEAD - len;
        let copy = |at: usize| self.bytes.get(at..at + len).unwrap_or_default();
        (copy(first), copy(second))
    }

    /// Where the copies differ, one of them is right if they are damaged in different places.
    fn mended_ops(&self) -> Option<Vec<u8>> {
        let (one, two) = self.copies();
        let mut runs: Vec<(usize, usize)> = Vec::new();
        let differs = one.iter().zip(two).enumerate().filter(|(_, (one, two))| one != two);
        for (at, _) in differs {
            let full = runs.len() == MEND_RUNS_MAX;
            match runs.last_mut() {
                Some((_, end)) if at < *end + MEND_GAP => *end = at + 1,
                _ if full => return None,
                _ => runs.push((at, at + 1)),
            }
        }
        let mut ops = one.to_vec();
        (1..1_u32 << runs.len()).find_map(|choice| {
            for (bit, (start, end)) in runs.iter().enumerate() {
                let from = if choice >> bit & 1 == 1 { two } else { one };
                ops[*start..*end].copy_from_slice(from.get(*start..*end)?);
            }
            (self.seed.sum(self.offset, &[&ops]) == self.head.ops_sum).then(|| ops.clone())
        })
    }
}
