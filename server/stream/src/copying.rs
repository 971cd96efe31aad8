//! Messages go from streams to those that copy them.
//!
//! ```text
//!   a stream changes ──> those that copy it read what is next in its log ──> store it ──> and have changed
//! ```
//!
//! All of it within one commit, so a copy is as durable as what it is of, once it can be seen.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Retention, StreamSource};
use crate::engine::{Engine, cx};
use crate::log::{Filters, LogError};
use crate::seam::Account;
use crate::stream::{Link, Stream};
use crate::time::Now;

/// Messages that one stream copies from another in one go.
pub(crate) const AT_ONCE: usize = 512;
/// Bytes of them.
const BYTES_AT_ONCE: usize = 1024 * 1024;

/// Which streams copy from a stream, by its account and name. It needs not be there.
#[derive(Debug, Default)]
pub(crate) struct Copiers(BTreeMap<(Account, Box<str>), BTreeSet<u32>>);

impl Copiers {
    fn of(&self, account: Account, name: &str) -> impl Iterator<Item = u32> {
        self.0.get(&(account, name.into())).into_iter().flatten().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn forget(&mut self, id: u32) {
        self.0.retain(|_, ids| {
            ids.remove(&id);
            !ids.is_empty()
        });
    }
}

impl Engine {
    /// The account in which the origin of a copy is; `None` if it can't be reached.
    fn account_of(&self, account: Account, source: &StreamSource) -> Option<Account> {
        let Some(external) = &source.external else { return Some(account) };
        let own = self.settings.domain.as_ref().map(|domain| format!("$JS.{domain}.API"));
        (own.as_deref() == Some(external.api.as_str())).then_some(account)
    }

    /// A stream is new, or has changed what it copies.
    pub(crate) fn learn_copies(&mut self, id: u32) {
        self.copiers.forget(id);
        let Some(stream) = self.streams.get(&id) else { return };
        let account = stream.account;
        let origins: Vec<_> = stream
            .copies
            .iter()
            .filter_map(|copy| {
                Some((self.account_of(account, &copy.config)?, Box::from(copy.config.name.as_str())))
            })
            .collect();
        // Those that are out of reach are asked.
        let reached: Vec<bool> =
            stream.copies.iter().map(|copy| self.account_of(account, &copy.config).is_some()).collect();
        if let Some(stream) = self.streams.get_mut(&id) {
            for (copy, reached) in stream.copies.iter_mut().zip(reached) {
                if !reached && copy.link.is_none() {
                    copy.link = Some(Link::new());
                }
            }
        }
        for origin in origins {
            self.copiers.0.entry(origin).or_default().insert(id);
        }
        self.tell_copied();
        self.touch(id);
    }

    /// Tells streams that keep what somebody waits for who copies them.
    fn tell_copied(&mut self) {
        let waited = self.streams.values().filter(|stream| stream.config.retention == Retention::Interest);
        let waited: Vec<u32> = waited.map(|stream| stream.id).collect();
        for id in waited {
            let copied = self.copies_of(id);
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.copied = copied;
            }
        }
    }

    /// What copies of a stream want of it, and the first number that they haven't got.
    fn copies_of(&self, id: u32) -> Vec<(Filters, u64)> {
        let Some(stream) = self.streams.get(&id) else { return Vec::new() };
        let (account, name) = (stream.account, stream.name());
        let copiers = self.copiers.of(account, name).filter_map(|copier| self.streams.get(&copier));
        copiers
            .flat_map(|copier| &copier.copies)
            .filter(|copy| copy.config.name == *name)
            .map(|copy| (Filters::new(copy.config.filters()), copy.next.unwrap_or(0)))
            .collect()
    }

    /// A stream has gone: those that copied it wait for another of its name.
    pub(crate) fn forget_copies(&mut self, id: u32, account: Account, name: &str) {
        self.copiers.forget(id);
        let copiers: Vec<u32> = self.copiers.of(account, name).collect();
        for copier in copiers {
            if let Some(stream) = self.streams.get_mut(&copier) {
                let copies = stream.copies.iter_mut().filter(|copy| copy.config.name == name);
                copies.for_each(crate::stream::Copy::unlink);
            }
            self.touch(copier);
        }
        self.tell_copied();
    }

    /// Stores what came from origins that are out of reach.
    pub(crate) fn take_come(&mut self, dirty: &BTreeSet<u32>, now: Now) {
        let came = |id: &&u32| self.streams.get(id).is_some_and(Stream::has_come);
        let came: Vec<u32> = dirty.iter().filter(came).copied().collect();
        for id in came {
            if self.is_out_of_reach(id) {
                continue;
            }
            let Some((stream, mut cx)) = self.stream_cx(id, now) else { continue };
            match stream.take_come(&mut cx) {
                // What was taken is promised to whoever sees it.
                Ok(some) if some => self.out.promise(),
                Ok(_) => {}
                Err(error) => self.bear(Err(error)),
            }
        }
    }

    /// Lets streams copy what came to those that are `dirty`, and adds those that have changed by it. Gives those that
    /// have more to copy.
    pub(crate) fn copy(&mut self, dirty: &mut BTreeSet<u32>, now: Now) -> Result<BTreeSet<u32>, LogError> {
        let mut again = BTreeSet::new();
        if self.copiers.is_empty() {
            return Ok(again);
        }
        let mut queue: BTreeSet<u32> = dirty.clone();
        queue.extend(dirty.iter().flat_map(|id| self.copiers_of(*id)));
        let mut done = BTreeSet::new();
        while let Some(id) = queue.pop_first() {
            let (copied, more) = self.copy_into(id, now)?;
            if more {
                again.insert(id);
            }
            // A cycle, which only subjects hide, ends here; the rest follows after the outputs.
            if copied && done.insert(id) {
                dirty.insert(id);
                queue.extend(self.copiers_of(id));
            } else if copied {
                again.insert(id);
            }
        }
        Ok(again)
    }

    /// Lets streams copy what they had no room for. Gives those that have changed by it.
    pub(crate) fn copy_stalled(
        &mut self,
        stalled: &BTreeSet<u32>,
        now: Now,
    ) -> Result<BTreeSet<u32>, LogError> {
        let mut changed = BTreeSet::new();
        for id in stalled {
            if self.copy_into(*id, now)?.0 {
                changed.insert(*id);
            }
        }
        Ok(changed)
    }

    /// A mirror hears what its origin is asked for, and answers if that doesn't.
    pub(crate) fn is_for_origin(&self, id: u32, subject: &[u8]) -> bool {
        let Some(stream) = self.streams.get(&id) else { return false };
        let Some(mirror) = &stream.config.mirror else { return false };
        if stream.direct_name(subject) == Some(stream.name()) {
            return false;
        }
        let origin = self
            .account_of(stream.account, mirror)
            .and_then(|account| self.spaces.get(&account))
            .and_then(|space| space.streams.get(mirror.name.as_str()))
            .and_then(|id| self.streams.get(id));
        origin.is_some_and(|origin| origin.config.allow_direct)
    }

    fn copiers_of(&self, id: u32) -> Vec<u32> {
        let stream = self.streams.get(&id);
        stream.map_or(Vec::new(), |stream| self.copiers.of(stream.account, stream.name()).collect())
    }

    /// Copies into one stream. Whether anything was, and whether there is more.
    fn copy_into(&mut self, id: u32, now: Now) -> Result<(bool, bool), LogError> {
        if self.is_out_of_reach(id) {
            return Ok((false, false));
        }
        let (mut copied, mut more) = (false, false);
        let count = self.streams.get(&id).map_or(0, |stream| stream.copies.len());
        for at in 0..count {
            // Out of the map, so that two streams are at hand.
            let Some(mut stream) = self.streams.remove(&id) else { break };
            let result = self.copy_one(&mut stream, at, now);
            self.streams.insert(id, stream);
            let (origin, some, rest) = result?;
            (copied, more) = (copied || some, more || rest);
            if some {
                self.drop_copied(origin, now)?;
            }
        }
        Ok((copied, more))
    }

    /// The origin, whether anything was copied, and whether there is more.
    fn copy_one(&mut self, stream: &mut Stream, at: usize, now: Now) -> Result<(u32, bool, bool), LogError> {
        let Some(copy) = stream.copies.get_mut(at) else { return Ok((0, false, false)) };
        let Some(account) = self.account_of(stream.account, &copy.config) else {
            return Ok((0, false, false));
        };
        let origin = self
            .spaces
            .get(&account)
            .and_then(|space| space.streams.get(copy.config.name.as_str()))
            .and_then(|id| self.streams.get(id));
        let Some(origin) = origin else {
            copy.unlink();
            return Ok((0, false, false));
        };
        let ident = origin.identity();
        let mut cx = cx!(self, stream.account, now);
        let mut from = stream.begin_copy(at, &*origin.log, &ident, &cx)?;
        let Some(copy) = stream.copies.get_mut(at) else { return Ok((0, false, false)) };
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while messages.len() < AT_ONCE
            && bytes < BYTES_AT_ONCE
            && let Some(seq) = origin.log.next(from, &copy.filters)
        {
            match origin.log.get(seq) {
                Ok(Some(message)) => {
                    bytes += message.len();
                    messages.push(message);
                }
                // What is not what was stored is not copied.
                Ok(None) | Err(LogError::Damaged(_)) => {}
                Err(error) if error.is_of_all() => return Err(error),
                Err(_) => break,
            }
            from = seq + 1;
        }
        let left = origin.log.count(from, &copy.filters);
        let taken = stream.take_copies(at, &messages, &mut cx)?;
        if let Some(copy) = stream.copies.get_mut(at) {
            copy.lag = left + (messages.len() - taken) as u64;
            if taken == messages.len() {
                copy.next = Some(from.max(copy.next.unwrap_or(0)));
            }
        }
        Ok((origin.id, taken > 0, left > 0 && taken == messages.len()))
    }

    /// Where what was read goes, what all copies have goes.
    fn drop_copied(&mut self, id: u32, now: Now) -> Result<(), LogError> {
        let Some(stream) = self.streams.get(&id) else { return Ok(()) };
        if stream.config.retention == Retention::Limits {
            return Ok(());
        }
        let copies = self.copies_of(id);
        let mut gone = BTreeSet::new();
        for (filters, next) in &copies {
            let mut from = 0;
            while gone.len() < AT_ONCE
                && let Some(seq) = stream.log.next(from, filters).filter(|seq| seq < next)
            {
                from = seq + 1;
                let subject = stream.log.subject_of(seq).unwrap_or_default();
                if copies.iter().all(|(filters, next)| seq < *next || !filters.matches(&subject)) {
                    gone.insert(seq);
                }
            }
        }
        let gone: Vec<u64> = gone.into_iter().collect();
        if let Some((stream, mut cx)) = self.stream_cx(id, now) {
            stream.copied = copies;
            stream.settle(&gone, &mut cx)?;
        }
        Ok(())
    }
}
