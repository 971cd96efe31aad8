//! The subscriptions of one account: which connection each belongs to, and under which sid.
//!
//! A subscription's place here is its [`SubId`]: the router knows filters, this table knows subscribers. Memory is
//! what a million subscriptions cost, so a record is 48 bytes, records live in chunks that are freed when empty, and
//! the index by (connection, sid) holds 4-byte numbers.

use hashbrown::{DefaultHashBuilder, HashTable};
use midge_router::SubId;
use std::hash::BuildHasher;

use crate::conn::ConnId;
use crate::sid::Sid;

/// Ends a list.
const NONE: u32 = u32::MAX;
/// Records per chunk; a power of two.
const CHUNK: usize = 256;

/// One subscription.
pub struct Sub {
    pub(crate) conn: ConnId,
    sid: Sid,
    /// Neighbours in the list of the connection's subscriptions.
    next: u32,
    previous: u32,
    id: SubId,
    /// Messages delivered since SUB.
    pub(crate) delivered: u64,
    /// Deliveries after which it ends; 0: none.
    pub(crate) max: u32,
    /// Part of what it asks for is denied to its connection.
    pub(crate) filtered: bool,
}

impl Sub {
    /// The connection that subscribed.
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// The subscriber's name for it.
    pub fn sid(&self) -> &[u8] {
        self.sid.as_bytes()
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
    records: Box<[Option<Sub>]>,
    live: u16,
}

#[derive(Default)]
pub(crate) struct Subscriptions {
    chunks: Vec<Chunk>,
    by_sid: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Subscriptions {
    #[inline]
    pub(crate) fn get(&self, id: SubId) -> Option<&Sub> {
        self.at(id.index())
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: SubId) -> Option<&mut Sub> {
        let at = id.index();
        self.chunks.get_mut(at / CHUNK)?.records.get_mut(at % CHUNK)?.as_mut()
    }

    fn at(&self, at: usize) -> Option<&Sub> {
        self.chunks.get(at / CHUNK)?.records.get(at % CHUNK)?.as_ref()
    }

    pub(crate) fn find(&self, conn: ConnId, sid: &[u8]) -> Option<SubId> {
        let hash = self.hasher.hash_one((conn, sid));
        let found = self.by_sid.find(hash, |at| {
            self.at(*at as usize).is_some_and(|sub| sub.conn == conn && sub.sid.as_bytes() == sid)
        })?;
        self.at(*found as usize).map(|sub| sub.id)
    }

    /// Notes that `conn` subscribed under `sid`, which it doesn't use yet.
    pub(crate) fn insert(&mut self, id: SubId, conn: ConnId, sid: &[u8], list: &mut SubList) {
        let at = id.index();
        while self.chunks.len() <= at / CHUNK {
            self.chunks.push(Chunk::default());
        }
        let chunk = &mut self.chunks[at / CHUNK];
        if chunk.records.is_empty() {
            chunk.records = (0..CHUNK).map(|_| None).collect();
        }
        let place = u32::try_from(at).expect("a router's ids are 32 bits wide");
        chunk.records[at % CHUNK] = Some(Sub {
            conn,
            sid: sid.into(),
            next: list.head,
            previous: NONE,
            id,
            delivered: 0,
            max: 0,
            filtered: false,
        });
        chunk.live += 1;
        if let Some(next) = self.place_mut(list.head) {
            next.previous = place;
        }
        list.head = place;
        list.len += 1;
        let (chunks, hasher) = (&self.chunks, &self.hasher);
        self.by_sid.insert_unique(hasher.hash_one((conn, sid)), place, |at| hash_of(chunks, hasher, *at));
    }

    /// Forgets `id`. Its connection's list must be given.
    pub(crate) fn remove(&mut self, id: SubId, list: &mut SubList) -> Option<Sub> {
        let at = id.index();
        let hash = {
            let sub = self.at(at)?;
            self.hasher.hash_one((sub.conn, sub.sid.as_bytes()))
        };
        if let Ok(entry) = self.by_sid.find_entry(hash, |place| *place as usize == at) {
            entry.remove();
        }
        let chunk = self.chunks.get_mut(at / CHUNK)?;
        let sub = chunk.records.get_mut(at % CHUNK)?.take()?;
        chunk.live -= 1;
        if chunk.live == 0 {
            chunk.records = Box::default();
            while self.chunks.last().is_some_and(|chunk| chunk.records.is_empty()) {
                self.chunks.pop();
            }
        }
        match self.place_mut(sub.previous) {
            Some(previous) => previous.next = sub.next,
            None => list.head = sub.next,
        }
        if let Some(next) = self.place_mut(sub.next) {
            next.previous = sub.previous;
        }
        list.len -= 1;
        self.shrink();
        Some(sub)
    }

    /// The newest subscription on a connection's list.
    pub(crate) fn first(&self, list: &SubList) -> Option<SubId> {
        self.at(list.head as usize).map(|sub| sub.id)
    }

    /// A connection's subscriptions, newest first.
    pub(crate) fn of<'a>(&'a self, list: &SubList) -> impl Iterator<Item = &'a Sub> {
        std::iter::successors(self.at(list.head as usize), |sub| self.at(sub.next as usize))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sub> {
        self.chunks.iter().flat_map(|chunk| chunk.records.iter().flatten())
    }

    fn place_mut(&mut self, place: u32) -> Option<&mut Sub> {
        let at = place as usize;
        self.chunks.get_mut(at / CHUNK)?.records.get_mut(at % CHUNK)?.as_mut()
    }

    /// Gives the index back when many have left.
    fn shrink(&mut self) {
        if self.by_sid.capacity() > 1024 && self.by_sid.len() < self.by_sid.capacity() / 8 {
            let (chunks, hasher) = (&self.chunks, &self.hasher);
            self.by_sid.shrink_to(self.by_sid.len() * 2, |at| hash_of(chunks, hasher, *at));
        }
    }
}

fn hash_of(chunks: &[Chunk], hasher: &DefaultHashBuilder, place: u32) -> u64 {
    let at = place as usize;
    let sub = chunks.get(at / CHUNK).and_then(|chunk| chunk.records.get(at % CHUNK)).and_then(Option::as_ref);
    sub.map_or(0, |sub| hasher.hash_one((sub.conn, sub.sid.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use midge_protocol::subject::Filter;
    use midge_router::Router;

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
            assert!(subs.remove(id, &mut mine).is_some());
        }
        assert_eq!(subs.of(&mine).count(), mine.len as usize);
        assert!(subs.of(&mine).all(|sub| sub.conn == me));
        while let Some(id) = subs.first(&theirs) {
            router.remove(id);
            subs.remove(id, &mut theirs);
        }
        assert_eq!((theirs.len, subs.iter().count()), (0, mine.len as usize));
    }
}
