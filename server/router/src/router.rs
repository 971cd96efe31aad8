//! The router: the tree with a cache in front.

use core::fmt;
use std::sync::Arc;

use midge_protocol::subject::Filter;

use crate::cache::{Cache, Lookup};
use crate::matches::Matches;
use crate::tree::{Scratch, Tree};

/// Names a subscription in its [`Router`]. Ids are dense, the lowest free one is given out first, and an id is
/// reused once its subscription is removed: a caller can keep what it knows of subscriptions in a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubId(pub(crate) u32);

impl SubId {
    /// For use as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The id that has this [`SubId::index`].
    pub fn from_index(index: u32) -> Self {
        Self(index)
    }
}

/// No subscription can be added before another one leaves: ids have run out, at 2^30.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the router holds as many subscriptions as it can name")
    }
}

impl core::error::Error for Full {}

/// Subscriptions by filter; tells whom a subject reaches.
///
/// ```
/// use midge_protocol::subject::Filter;
/// use midge_router::Router;
///
/// let filter = |text: &'static str| Filter::new(text.as_bytes()).unwrap();
/// let mut router = Router::new();
/// let all = router.insert(filter("plant.>"), None)?;
/// let one = router.insert(filter("plant.*.temp"), Some(b"w"))?;
/// let two = router.insert(filter("plant.7.*"), Some(b"w"))?;
///
/// let matches = router.matches(b"plant.7.temp");
/// assert_eq!(matches.plain(), [all]);
/// assert_eq!(matches.groups().collect::<Vec<_>>(), [[one, two]], "one name, one group, whatever the filter");
///
/// router.remove(all);
/// assert!(!router.has_interest(b"plant.7"));
/// # Ok::<(), midge_router::Full>(())
/// ```
pub struct Router {
    tree: Tree,
    cache: Cache,
    cache_entries: usize,
    scratch: Scratch,
    /// A result that is not in the cache, or the buffer for the next one.
    last: Arc<Matches>,
    text: Vec<u8>,
    inserts: u64,
    removes: u64,
    lookups: u64,
    hits: u64,
}

/// Figures of a router, as in the `/subsz` page of nats-server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Subscriptions held.
    pub subs: usize,
    /// Subjects in the cache.
    pub cache: usize,
    /// Subscriptions ever added.
    pub inserts: u64,
    /// Subscriptions ever removed.
    pub removes: u64,
    /// Subjects ever looked up.
    pub matches: u64,
    /// Those of them that the cache answered.
    pub cache_hits: u64,
    /// Most deliveries of one message, over the cached subjects.
    pub fanout_max: usize,
    /// Sum of the deliveries of one message on each cached subject; divide by `cache` for the average.
    pub fanout_total: usize,
    /// Bytes that the router has asked of the allocator. Exact up to the caller's own [`Arc`]s.
    pub heap_bytes: usize,
}

impl Router {
    /// A router with a cache of 1,024 subjects and 1 MiB.
    pub fn new() -> Self {
        Self::with_cache(CACHE_ENTRIES)
    }

    /// A router with a cache of this many subjects and as many KiB. With 0 every match walks the tree.
    pub fn with_cache(entries: usize) -> Self {
        Self {
            tree: Tree::new(),
            cache: Cache::new(entries),
            cache_entries: entries,
            scratch: Scratch::default(),
            last: Arc::default(),
            text: Vec::new(),
            inserts: 0,
            removes: 0,
            lookups: 0,
            hits: 0,
        }
    }

    /// Adds a subscription, to a queue group if `queue` names one. Equal filters and names may be added again;
    /// each gets its own id.
    pub fn insert(&mut self, filter: Filter<'_>, queue: Option<&[u8]>) -> Result<SubId, Full> {
        let id = self.tree.insert(filter, queue)?;
        self.inserts += 1;
        self.cache.invalidate(filter.as_bytes());
        Ok(id)
    }

    /// Removes a subscription. False if there is none with this id.
    pub fn remove(&mut self, id: SubId) -> bool {
        if !self.tree.contains(id) {
            return false;
        }
        self.removes += 1;
        self.text.clear();
        self.tree.first_token_of(id, &mut self.text);
        self.cache.invalidate(&self.text);
        self.tree.remove(id);
        if self.is_empty() || (self.len() <= FEW && self.cache.heap_bytes() > FEW_BYTES) {
            self.drop_buffers();
        }
        true
    }

    /// Whom a message on `subject` reaches. A subject with an empty token reaches nobody; a wildcard character in
    /// a subject is an ordinary character.
    ///
    /// Allocates nothing if the subject is cached. Clone the [`Arc`] to keep the result while the router changes;
    /// ids in it that are removed meanwhile may come to mean other subscriptions.
    pub fn matches(&mut self, subject: &[u8]) -> &Arc<Matches> {
        self.lookups += 1;
        if !self.cache.is_on() {
            self.collect(subject);
            return &self.last;
        }
        match self.cache.find(subject) {
            Lookup::Fresh(at) => {
                self.hits += 1;
                self.cache.result(at)
            }
            Lookup::Missing(found, hash) => {
                self.collect(subject);
                match self.cache.put(found, hash, subject, &mut self.last) {
                    Some(at) => self.cache.result(at),
                    None => &self.last,
                }
            }
        }
    }

    /// True if a message on `subject` reaches anyone. Cheaper than [`matches`](Self::matches) if the subject is
    /// not cached, and does not cache it.
    pub fn has_interest(&mut self, subject: &[u8]) -> bool {
        if self.cache.is_on()
            && let Lookup::Fresh(at) = self.cache.find(subject)
        {
            return !self.cache.result(at).is_empty();
        }
        self.tree.reaches_any(subject, &mut self.scratch)
    }

    /// Appends the filter of a subscription to `out`. False if there is none with this id.
    pub fn filter_of(&self, id: SubId, out: &mut Vec<u8>) -> bool {
        let found = self.tree.contains(id);
        if found {
            self.tree.filter_of(id, out);
        }
        found
    }

    /// Appends the queue name of a subscription to `out`. False if it has none, or there is none with this id.
    pub fn queue_of(&self, id: SubId, out: &mut Vec<u8>) -> bool {
        self.tree.contains(id) && self.tree.queue_of(id, out)
    }

    /// Number of subscriptions.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// True if there is no subscription.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The figures of this moment. Takes time in proportion to the cache and to the subscriptions / 64.
    pub fn stats(&self) -> Stats {
        let fanouts = || self.cache.results().map(Matches::fanout);
        Stats {
            subs: self.len(),
            cache: self.cache.len(),
            inserts: self.inserts,
            removes: self.removes,
            matches: self.lookups,
            cache_hits: self.hits,
            fanout_max: fanouts().max().unwrap_or(0),
            fanout_total: fanouts().sum(),
            heap_bytes: self.tree.heap_bytes()
                + self.cache.heap_bytes()
                + self.scratch.heap_bytes()
                + self.last.heap_bytes()
                + self.text.capacity(),
        }
    }

    /// Matches without the cache, into `last`.
    fn collect(&mut self, subject: &[u8]) {
        if Arc::get_mut(&mut self.last).is_none() {
            self.last = Arc::default();
        }
        let matches = Arc::get_mut(&mut self.last).expect("nobody else has it");
        matches.clear();
        self.tree.collect(subject, &mut self.scratch, matches);
        matches.trim();
    }

    fn drop_buffers(&mut self) {
        self.cache = Cache::new(self.cache_entries);
        self.scratch = Scratch::default();
        self.last = Arc::default();
        self.text = Vec::new();
    }
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

/// As in nats-server.
const CACHE_ENTRIES: usize = 1024;
/// When no more subscriptions than this are left, as a server has some of its own, a cache of more bytes than
const FEW: usize = 16;
/// this was for those that have left.
const FEW_BYTES: usize = 16 * 1024;
