//! One-off subjects on which a service answers requests of other accounts.
//!
//! A request that crosses into the account of a service gets a reply subject there, `_R_.<account>.<request>`, so that
//! the service learns nothing of the requester's subjects and can't publish to them. What comes in on it goes to the
//! requester once, or as often as the export says.
//!
//! Services that never answer must not fill the memory: an entry goes when its time is over, when the requester has no
//! more interest, and when there are [`OPEN_MAX`] or [`BYTES_MAX`] others, the oldest first.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};
use midge_protocol::time::Instant;
use midge_router::SubId;

use super::AccountId;
use super::export::ExportedService;
use super::latency::Tracking;
use crate::tokens;

/// Requests open in one account at most.
pub(crate) const OPEN_MAX: usize = 65_536;
/// Bytes that they take at most, about.
pub(crate) const BYTES_MAX: usize = 16 * 1024 * 1024;
/// All of them are looked at when the time of one is over, but not more often than this.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);
/// Characters that name the account.
const ACCOUNT_CHARS: usize = 6;
/// Characters that name the request: 59 bits, not to be guessed.
const REQUEST_CHARS: usize = 10;
/// Behind the name of a request whose answer is timed, as in nats-server.
const TRACKED: &[u8] = b".T";

/// The requests that are open in the account of a service.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// `_R_.8fhK2a.` and the subscription to all below it, from the first request on.
    prefix: Option<(Box<[u8]>, SubId)>,
    open: HashMap<u64, Answer>,
    /// By age. Holds names of requests that are gone, too, but never more than are open.
    order: VecDeque<u64>,
    bytes: usize,
    /// An alarm is set for the first one whose time is over.
    pub(crate) armed: bool,
}

/// Where an answer goes.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The requester's account.
    pub(crate) account: AccountId,
    /// The requester's reply subject.
    pub(crate) to: Box<[u8]>,
    pub(crate) export: Arc<ExportedService>,
    pub(crate) share: bool,
    /// When the request came, or the last answer to it.
    pub(crate) since: Instant,
    pub(crate) tracking: Option<Box<Tracking>>,
}

impl Answer {
    pub(crate) fn until(&self) -> Instant {
        self.since + self.export.export.threshold
    }

    fn bytes(&self) -> usize {
        // With the place in the order, and the requester's note.
        size_of::<(u64, Self)>() + 48 + self.to.len() + self.tracking.as_ref().map_or(0, |it| it.bytes())
    }
}

impl Answers {
    pub(crate) fn has_prefix(&self) -> bool {
        self.prefix.is_some()
    }

    /// Sets the account's name in reply subjects.
    pub(crate) fn set_prefix(&mut self, prefix: Vec<u8>, sub: SubId) {
        self.prefix = Some((prefix.into(), sub));
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Opens a request under a random number. Returns its reply subject, its number, and what had to make room.
    pub(crate) fn open(&mut self, number: u64, answer: Answer) -> (Vec<u8>, u64, Vec<(u64, Answer)>) {
        let number = number % tokens::numbers(REQUEST_CHARS);
        let mut subject = self.prefix.as_ref().map(|(prefix, _)| prefix.to_vec()).unwrap_or_default();
        tokens::write(number, REQUEST_CHARS, &mut subject);
        if answer.tracking.is_some() {
            subject.extend_from_slice(TRACKED);
        }
        self.bytes += answer.bytes();
        let mut gone: Vec<_> =
            self.open.insert(number, answer).map(|old| (number, old)).into_iter().collect();
        self.bytes -= gone.iter().map(|(_, old)| old.bytes()).sum::<usize>();
        self.order.push_back(number);
        while self.open.len() > OPEN_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            gone.extend(self.close(oldest).map(|answer| (oldest, answer)));
        }
        if self.order.len() > 2 * self.open.len() + 64 {
            let open = &self.open;
            self.order.retain(|number| open.contains_key(number));
        }
        (subject, number, gone)
    }

    /// The request that a subject below the prefix names.
    pub(crate) fn find(&self, subject: &[u8]) -> Option<u64> {
        let (prefix, _) = self.prefix.as_ref()?;
        let (name, rest) = subject.strip_prefix(&**prefix)?.split_at_checked(REQUEST_CHARS)?;
        let number = tokens::read(name)?;
        let tracked = self.open.get(&number)?.tracking.is_some();
        (rest == if tracked { TRACKED } else { b"" }).then_some(number)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Answer> {
        self.open.get_mut(&number)
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Answer> {
        self.open.get(&number)
    }

    /// Ends a request.
    pub(crate) fn close(&mut self, number: u64) -> Option<Answer> {
        let answer = self.open.remove(&number)?;
        self.bytes -= answer.bytes();
        if self.open.is_empty() {
            self.open = HashMap::new();
            self.order = VecDeque::new();
        }
        Some(answer)
    }

    /// Those whose time is over.
    pub(crate) fn over(&self, now: Instant) -> Vec<u64> {
        let over = self.open.iter().filter(|(_, answer)| answer.until() <= now);
        over.map(|(number, _)| *number).collect()
    }

    /// Those of this requester.
    pub(crate) fn of(&self, account: AccountId) -> Vec<u64> {
        let theirs = self.open.iter().filter(|(_, answer)| answer.account == account);
        theirs.map(|(number, _)| *number).collect()
    }

    /// When the time of the next one is over.
    pub(crate) fn next_over(&self) -> Option<Instant> {
        self.open.values().map(Answer::until).min()
    }

    /// All that are open, by their numbers.
    pub(crate) fn into_open(self) -> HashMap<u64, Answer> {
        self.open
    }

    /// All that are open: reply subject, and where answers go.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Vec<u8>, &Answer)> {
        self.open.iter().map(|(number, answer)| {
            let mut subject = self.prefix.as_ref().map(|(prefix, _)| prefix.to_vec()).unwrap_or_default();
            tokens::write(*number, REQUEST_CHARS, &mut subject);
            (subject, answer)
        })
    }
}

/// `_R_.8fhK2a.`, from a random number.
pub(crate) fn prefix(number: u64) -> Vec<u8> {
    let mut prefix = b"_R_.".to_vec();
    tokens::write(number % tokens::numbers(ACCOUNT_CHARS), ACCOUNT_CHARS, &mut prefix);
    prefix.push(b'.');
    prefix
}

/// Open requests by the requester's reply subject, so that they end with its interest.
#[derive(Default)]
pub(crate) struct Awaited {
    table: HashTable<Wait>,
    hasher: DefaultHashBuilder,
}

#[derive(Clone, Copy)]
struct Wait {
    hash: u64,
    exporter: AccountId,
    number: u64,
}

impl Awaited {
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(crate) fn insert(&mut self, reply: &[u8], exporter: AccountId, number: u64) {
        let hash = self.hasher.hash_one(reply);
        self.table.insert_unique(hash, Wait { hash, exporter, number }, |wait| wait.hash);
    }

    pub(crate) fn remove(&mut self, reply: &[u8], exporter: AccountId, number: u64) {
        let hash = self.hasher.hash_one(reply);
        if let Ok(entry) =
            self.table.find_entry(hash, |wait| wait.number == number && wait.exporter == exporter)
        {
            entry.remove();
        }
        if self.table.is_empty() {
            self.table = HashTable::new();
        } else if self.table.capacity() > 1024 && self.table.len() < self.table.capacity() / 8 {
            self.table.shrink_to(self.table.len() * 2, |wait| wait.hash);
        }
    }

    /// Requests that probably have this reply subject.
    pub(crate) fn with(&self, reply: &[u8]) -> Vec<(AccountId, u64)> {
        let hash = self.hasher.hash_one(reply);
        let found = self.table.iter_hash(hash).filter(|wait| wait.hash == hash);
        found.map(|wait| (wait.exporter, wait.number)).collect()
    }

    /// The first `most` requests.
    pub(crate) fn some(&self, most: usize) -> Vec<(AccountId, u64)> {
        self.table.iter().take(most).map(|wait| (wait.exporter, wait.number)).collect()
    }
}
