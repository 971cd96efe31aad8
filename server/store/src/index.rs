//! The index that a sealed segment ends with: what opening would otherwise have to read the segment for.
//!
//! It is only a shortcut. One that isn't right is as good as none: the segment is read then.

use serde::{Deserialize, Serialize};

use crate::checksum::{Seed, u32_at};
use crate::chunk::{Entry, put, take};

/// Bytes before the items.
pub(crate) const HEAD: usize = 16;
const MAGIC: u32 = u32::from_le_bytes(*b"mIdx");
/// The subject of an entry that is dead.
pub(crate) const DEAD: u32 = 0;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Item<'a> {
    /// Messages of a stream, by sequence: a run of the stream that no other segment has messages in the middle of.
    Messages {
        stream: u32,
        /// Of each a u16 with its length and its text.
        #[serde(borrow)]
        subjects: &'a [u8],
        /// As in `chunk.rs`, with subjects by their position here, from 1 on; 0 for one that is dead.
        entries: &'a [u8],
    },
    /// What was removed by ops in this segment and lies in some segment: pairs of varints, the distance to the end of the
    /// range before, and the length.
    Removed { stream: u32, ranges: &'a [u8] },
}

/// Collects the index of a segment.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; HEAD] }
    }

    /// Entries, and whether each is dead; `text` gives the subject of an id.
    pub(crate) fn messages<'t>(
        &mut self,
        stream: u32,
        entries: impl Iterator<Item = (Entry, bool)>,
        text: impl Fn(u32) -> &'t [u8],
    ) {
        let (mut subjects, mut packed) = (Vec::new(), Vec::new());
        let mut locals = hashbrown::HashMap::new();
        let mut before: Option<Entry> = None;
        for (entry, dead) in entries {
            let next = locals.len() as u32 + 1;
            let local = match dead {
                true => DEAD,
                false => *locals.entry(entry.subject).or_insert_with(|| {
                    let text = text(entry.subject);
                    subjects.extend_from_slice(&(text.len() as u16).to_le_bytes());
                    subjects.extend_from_slice(text);
                    next
                }),
            };
            let (seq, place) = before.map_or((0, 0), |before| (before.seq, before.place));
            put(&mut packed, entry.seq.wrapping_sub(seq) << 1 | u64::from(entry.expires != 0));
            put(&mut packed, u64::from(entry.place.wrapping_sub(place)));
            put(&mut packed, u64::from(entry.size));
            put(&mut packed, u64::from(local));
            if entry.expires != 0 {
                put(&mut packed, entry.expires.cast_unsigned());
            }
            before = Some(entry);
        }
        if !packed.is_empty() {
            self.item(&Item::Messages { stream, subjects: &subjects, entries: &packed });
        }
    }

    /// `ranges` don't touch and are in order.
    pub(crate) fn removed(&mut self, stream: u32, ranges: &[(u64, u64)]) {
        let (mut packed, mut end) = (Vec::new(), 0);
        for (first, last) in ranges {
            put(&mut packed, first.wrapping_sub(end));
            put(&mut packed, last - first);
            end = *last;
        }
        if !ranges.is_empty() {
            self.item(&Item::Removed { stream, ranges: &packed });
        }
    }

    fn item(&mut self, item: &Item<'_>) {
        if let Ok(longer) = postcard::to_extend(item, std::mem::take(&mut self.bytes)) {
            self.bytes = longer;
        }
    }

    /// The index, for its place in the segment.
    pub(crate) fn finish(mut self, seed: Seed, offset: u64) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&length.to_le_bytes());
        let sum = seed.sum(offset, &[&self.bytes[8..]]);
        self.bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The items of an index that is right.
pub(crate) fn read(bytes: &[u8], seed: Seed, offset: u64) -> Option<Vec<Item<'_>>> {
    if bytes.len() < HEAD
        || u32_at(bytes, 0) != MAGIC
        || u32_at(bytes, 8) as usize != bytes.len()
        || seed.sum(offset, &[&bytes[8..]]) != u32_at(bytes, 4)
    {
        return None;
    }
    let (mut items, mut rest) = (Vec::new(), &bytes[HEAD..]);
    while !rest.is_empty() {
        let (item, tail) = postcard::take_from_bytes(rest).ok()?;
        items.push(item);
        rest = tail;
    }
    Some(items)
}

/// The texts of an item's subjects.
pub(crate) fn subjects(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let len = usize::from(u16::from_le_bytes([*bytes.first()?, *bytes.get(1)?]));
        texts.push(bytes.get(2..2 + len)?);
        bytes = &bytes[2 + len..];
    }
    Some(texts)
}

/// Unpacks the entries of an item, subjects by position.
pub(crate) fn entries(mut bytes: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    let (mut seq, mut place) = (0_u64, 0_u32);
    std::iter::from_fn(move || {
        let step = take(&mut bytes)?;
        seq = seq.wrapping_add(step >> 1);
        place = place.wrapping_add(take(&mut bytes)? as u32);
        let size = take(&mut bytes)? as u32;
        let subject = take(&mut bytes)? as u32;
        let expires = if step & 1 == 1 { take(&mut bytes)?.cast_signed() } else { 0 };
        Some(Entry { seq, place, size, subject, expires })
    })
}

/// Unpacks ranges.
pub(crate) fn ranges(mut bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> + '_ {
    let mut end = 0_u64;
    std::iter::from_fn(move || {
        let first = end.wrapping_add(take(&mut bytes)?);
        end = first.wrapping_add(take(&mut bytes)?);
        Some((first, end))
    })
}
