//! Who subscribed, and under what name: records beside an account's router.
//!
//! A record has the index of the router's id. Connections link theirs into a list, so that leaving costs what one had.
//!
//! ```text
//! record, 32 bytes       delivered 8 | conn 4 | next 4 | previous 4 | max 4 | sid 7 | tag 1
//! index by (conn, sid)   4 bytes and a byte of hash, at most 7/8 full
//! ```
//!
//! Clients count sids upwards from 1, so nearly all fit into 7 bytes; longer ones stand in a table beside.

use std::collections::HashMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use midge_router::SubId;

use crate::conn::ConnId;

/// Ends a list.
const NONE: u32 = u32::MAX;
/// Records per chunk; a power of two.
const CHUNK: usize = 256;
/// Bytes of a sid that stand in the record.
const SHORT: usize = 7;

/// One subscription, as others may see it.
#[derive(Clone, Copy, Debug)]
pub struct Sub<'a> {
    id: SubId,
    sid: &'a [u8],
    conn: ConnId,
    delivered: u64,
    max: u32,
}

impl<'a> Sub<'a> {
    /// The connection that subscribed.
    #[inline]
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// The subscriber's name for it.
    #[inline]
    pub fn sid(&self) -> &'a [u8] {
        self.sid
    }

    /// Messages delivered since SUB.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Deliveries after which it ends; 0: none.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// Its name in the router.
    pub fn id(&self) -> SubId {
        self.id
    }
}

/// What is kept of a subscription.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    /// Messages delivered since SUB.
    pub(crate) delivered: u64,
    /// [`VACANT`] where there is no subscription.
    pub(crate) conn: ConnId,
    /// Neighbours in the list of the connection's subscriptions.
    next: u32,
    previous: u32,
    /// Deliveries after which it ends; 0: none.
    pub(crate) max: u32,
    sid: [u8; SHORT],
    /// The sid's length, [`Record::LONG`], and [`Record::FILTERED`].
    tag: u8,
}

const VACANT: ConnId = ConnId::NOBODY;

impl Record {
    /// The sid doesn't fit and stands in [`Subscriptions::long_sids`].
    const LONG: u8 = 0x0f;
    /// Part of what it asks for is denied to its connection.
    const FILTERED: u8 = 0x80;

    const EMPTY: Self =
        Self { delivered: 0, conn: VACANT, next: NONE, previous: NONE, max: 0, sid: [0; SHORT], tag: 0 };

    /// Whether its messages must be looked at one by one, because part of what it asks for is denied.
    #[inline]
    pub(crate) fn is_filtered(&self) -> bool {
        self.tag & Self::FILTERED != 0
    }

    #[inline]
    pub(crate) fn set_filtered(&mut self, filtered: bool) {
        self.tag = (self.tag & !Self::FILTERED) | if filtered { Self::FILTERED } else { 0 };
    }

    #[inline]
    fn short_sid(&self) -> Option<&[u8]> {
        self.sid.get(..usize::from(self.tag & Self::LONG))
    }
}

/// The head of a connection's list; lives in the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubList {
    head: u32,
    pub(crate) len: u32,
}

impl Default for SubList {
    fn default() -> Self {
        Self { head: NONE, len: 0 }
    }
}

#[derive(Default)]
struct Chunk {
    records: Box<[Record]>,
    live: u16,
}

#[derive(Default)]
pub(crate) struct Subscriptions {
    chunks: Vec<Chunk>,
    long_sids: HashMap<u32, Box<[u8]>>,
    by_sid: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Subscriptions {
    #[inline]
    pub(crate) fn get(&self, id: SubId) -> Option<Sub<'_>> {
        let record = record(&self.chunks, place(id))?;
        let sid = sid(&self.long_sids, record, place(id));
        Some(Sub { id, sid, conn: record.conn, delivered: record.delivered, max: record.max })
    }

    /// A subscription's record, and its sid.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: SubId) -> Option<(&mut Record, SidText<'_>)> {
        let long_sids = &self.long_sids;
        let record = record_mut(&mut self.chunks, place(id))?;
        let text = match record.tag & Record::LONG {
            Record::LONG => SidText::Long(long_sids.get(&place(id)).map_or(&[][..], |sid| sid)),
            len => SidText::Short(record.sid, len),
        };
        Some((record, text))
    }

    #[inline]
    pub(crate) fn is_filtered(&self, id: SubId) -> bool {
        record(&self.chunks, place(id)).is_some_and(Record::is_filtered)
    }

    #[inline]
    pub(crate) fn find(&self, conn: ConnId, sid: &[u8]) -> Option<SubId> {
        let hash = self.hasher.hash_one((conn, sid));
        self.by_sid.find(hash, |at| self.is_at(*at, conn, sid)).map(|at| SubId::from_index(*at))
    }

    #[inline]
    fn is_at(&self, at: u32, conn: ConnId, text: &[u8]) -> bool {
        record(&self.chunks, at).is_some_and(|r| r.conn == conn && sid(&self.long_sids, r, at) == text)
    }

    /// Notes that a subscription is for something else than a connection. It has no sid and is on no list.
    pub(crate) fn insert_target(&mut self, id: SubId, target: ConnId) {
        self.put(id, Record { conn: target, ..Record::EMPTY });
    }

    /// Forgets such a subscription.
    pub(crate) fn remove_target(&mut self, id: SubId) {
        if record(&self.chunks, place(id)).is_some() {
            self.clear(id);
            self.shrink();
        }
    }

    #[inline]
    fn put(&mut self, id: SubId, record: Record) {
        let at = id.index();
        while self.chunks.len() <= at / CHUNK {
            self.chunks.push(Chunk::default());
        }
        let chunk = &mut self.chunks[at / CHUNK];
        if chunk.records.is_empty() {
            chunk.records = vec![Record::EMPTY; CHUNK].into_boxed_slice();
        }
        chunk.records[at % CHUNK] = record;
        chunk.live += 1;
    }

    #[inline]
    fn clear(&mut self, id: SubId) {
        let chunk = &mut self.chunks[id.index() / CHUNK];
        chunk.records[id.index() % CHUNK] = Record::EMPTY;
        chunk.live -= 1;
        if chunk.live == 0 {
            chunk.records = Box::default();
            while self.chunks.pop_if(|chunk| chunk.live == 0).is_some() {}
        }
    }

    /// Notes that `conn` subscribed under `sid`, which it doesn't use yet.
    #[inline]
    pub(crate) fn insert(&mut self, id: SubId, conn: ConnId, sid: &[u8], list: &mut SubList) {
        let at = place(id);
        let mut record = Record { conn, next: list.head, ..Record::EMPTY };
        match record.sid.get_mut(..sid.len()) {
            Some(short) => {
                short.copy_from_slice(sid);
                record.tag = sid.len() as u8;
            }
            None => {
                record.tag = Record::LONG;
                self.long_sids.insert(at, sid.into());
            }
        }
        self.put(id, record);
        if let Some(next) = record_mut(&mut self.chunks, list.head) {
            next.previous = at;
        }
        list.head = at;
        list.len += 1;
        let hash = self.hasher.hash_one((conn, sid));
        let Self { chunks, long_sids, by_sid, hasher } = self;
        by_sid.insert_unique(hash, at, |at| hash_of(chunks, long_sids, hasher, *at));
    }

    /// Forgets `id`. Its connection's list must be given.
    #[inline]
    pub(crate) fn remove(&mut self, id: SubId, list: &mut SubList) {
        let at = place(id);
        let Some(old) = record(&self.chunks, at).copied() else { return };
        let hash = hash_of(&self.chunks, &self.long_sids, &self.hasher, at);
        if let Ok(entry) = self.by_sid.find_entry(hash, |place| *place == at) {
            entry.remove();
        }
        if old.short_sid().is_none() {
            self.long_sids.remove(&at);
        }
        match record_mut(&mut self.chunks, old.previous) {
            Some(previous) => previous.next = old.next,
            None => list.head = old.next,
        }
        if let Some(next) = record_mut(&mut self.chunks, old.next) {
            next.previous = old.previous;
        }
        list.len -= 1;
        self.clear(id);
        self.shrink();
    }

    /// The newest subscription on a connection's list.
    #[inline]
    pub(crate) fn first(&self, list: &SubList) -> Option<SubId> {
        record(&self.chunks, list.head).map(|_| SubId::from_index(list.head))
    }

    /// A connection's subscriptions, newest first.
    pub(crate) fn of(&self, list: &SubList) -> impl Iterator<Item = Sub<'_>> {
        let next = |at: &u32| record(&self.chunks, *at).map(|record| record.next);
        std::iter::successors(Some(list.head), next).map_while(|at| self.get(SubId::from_index(at)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Sub<'_>> {
        let slots = (0u32..).take(self.chunks.len() * CHUNK);
        slots.filter_map(|at| self.get(SubId::from_index(at)))
    }

    /// Gives memory back when many have left.
    #[inline]
    fn shrink(&mut self) {
        if self.by_sid.capacity() > 1024 && self.by_sid.len() < self.by_sid.capacity() / 8 {
            let Self { chunks, long_sids, by_sid, hasher } = self;
            by_sid.shrink_to(by_sid.len() * 2, |at| hash_of(chunks, long_sids, hasher, *at));
            chunks.shrink_to(chunks.len() * 2);
            long_sids.shrink_to(long_sids.len() * 2);
        }
    }
}

/// A sid that outlives changes of its record.
#[derive(Clone, Copy)]
pub(crate) enum SidText<'a> {
    Short([u8; SHORT], u8),
    Long(&'a [u8]),
}

impl SidText<'_> {
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes, len) => &bytes[..usize::from(*len).min(SHORT)],
            Self::Long(bytes) => bytes,
        }
    }
}

#[inline]
fn place(id: SubId) -> u32 {
    u32::try_from(id.index()).expect("a router's ids are 32 bits wide")
}

#[inline]
fn record(chunks: &[Chunk], at: u32) -> Option<&Record> {
    let record = chunks.get(at as usize / CHUNK)?.records.get(at as usize % CHUNK)?;
    (record.conn != VACANT).then_some(record)
}

#[inline]
fn record_mut(chunks: &mut [Chunk], at: u32) -> Option<&mut Record> {
    let record = chunks.get_mut(at as usize / CHUNK)?.records.get_mut(at as usize % CHUNK)?;
    (record.conn != VACANT).then_some(record)
}

#[inline]
fn sid<'a>(long_sids: &'a HashMap<u32, Box<[u8]>>, record: &'a Record, at: u32) -> &'a [u8] {
    record.short_sid().or_else(|| long_sids.get(&at).map(|sid| &**sid)).unwrap_or_default()
}

#[inline]
fn hash_of(
    chunks: &[Chunk],
    long_sids: &HashMap<u32, Box<[u8]>>,
    hasher: &DefaultHashBuilder,
    at: u32,
) -> u64 {
    record(chunks, at).map_or(0, |record| hasher.hash_one((record.conn, sid(long_sids, record, at))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use midge_protocol::subject::Filter;
    use midge_router::Router;

    #[test]
    fn a_record_is_small() {
        assert_eq!(size_of::<Record>(), 32);
    }

    #[test]
    fn sids_of_any_length_are_kept() {
        let (mut router, mut subs, mut list) = (Router::new(), Subscriptions::default(), SubList::default());
        let sids: Vec<_> = (1..40).map(|len| vec![b'7'; len]).collect();
        let filter = Filter::new(b"a").unwrap();
        for sid in &sids {
            subs.insert(router.insert(filter, None).unwrap(), ConnId(3), sid, &mut list);
        }
        for sid in &sids {
            let id = subs.find(ConnId(3), sid).unwrap();
            assert_eq!(subs.get(id).unwrap().sid(), sid);
            let (record, text) = subs.get_mut(id).unwrap();
            record.set_filtered(true);
            assert_eq!(text.as_bytes(), sid);
            assert!(subs.get_mut(id).unwrap().0.is_filtered());
            router.remove(id);
            subs.remove(id, &mut list);
            assert!(subs.find(ConnId(3), sid).is_none());
        }
        assert!(subs.long_sids.is_empty() && subs.chunks.is_empty());
    }

    #[test]
    fn lists_and_index_stay_in_step() {
        let mut router = Router::new();
        let mut subs = Subscriptions::default();
        let (mut mine, mut theirs) = (SubList::default(), SubList::default());
        let (me, them) = (ConnId(1), ConnId(2));
        for i in 0..1000u32 {
            let id = router.insert(Filter::new(b"a.b").unwrap(), None).unwrap();
            let sid = i.to_string();
            let (conn, list) = if i % 3 == 0 { (them, &mut theirs) } else { (me, &mut mine) };
            subs.insert(id, conn, sid.as_bytes(), list);
        }
        assert_eq!((mine.len, theirs.len), (666, 334));
        assert!(subs.find(me, b"3").is_none());
        for i in (0..1000u32).filter(|i| i % 3 != 0 && i % 2 == 0) {
            let id = subs.find(me, i.to_string().as_bytes()).unwrap();
            router.remove(id);
            subs.remove(id, &mut mine);
        }
        assert_eq!(subs.of(&mine).count(), mine.len as usize);
        assert!(subs.of(&mine).all(|sub| sub.conn() == me));
        while let Some(id) = subs.first(&theirs) {
            router.remove(id);
            subs.remove(id, &mut theirs);
        }
        assert_eq!((theirs.len, subs.iter().count()), (0, mine.len as usize));
    }
}
