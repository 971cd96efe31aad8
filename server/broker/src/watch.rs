//! Parts of the daemon that want to know whether anybody subscribes to a subject.
//!
//! A watched subject is noted in its account. A subscription that comes or goes looks there, which costs nothing where
//! nothing is watched and one look-up where only literal subjects are. What has changed is told by
//! [`Broker::take_interest`], once for each subject however often it changed, so what waits is bounded by what is watched.

use std::collections::{HashMap, VecDeque};

use midge_protocol::subject::{Filter, is_literal};

use crate::account::{Account, AccountId};
use crate::broker::Broker;
use crate::conn::{ConnId, Port};
use crate::inside::MailboxId;

/// Somebody subscribes to a watched subject, or nobody does any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// What the watcher called it.
    pub tag: u64,
    /// The account.
    pub account: AccountId,
    /// The watched subject.
    pub subject: Box<[u8]>,
    /// Somebody does.
    pub exists: bool,
}

/// Whose subscriptions count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Everybody's who would get a message on the subject.
    Anyhow,
    /// Those that are to this very subject, without wildcards, and in this queue group; an empty one: in none.
    Literally(&'a [u8]),
}

/// A watched subject.
#[derive(Debug)]
struct Watched {
    mailbox: MailboxId,
    tag: u64,
    /// Only subscriptions to this very subject count, and in this queue group; empty: in none.
    group: Option<Box<[u8]>>,
    /// Subscriptions that match. For a literal subject no more than "some" and "none".
    subscriptions: usize,
    /// It stands among those that are to be told.
    queued: bool,
}

/// The watched subjects of one account.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    literal: HashMap<Box<[u8]>, Vec<Watched>>,
    wild: Vec<(Box<[u8]>, Watched)>,
    /// Connections to hubs that are to hear of every subscription.
    pub(crate) links: Vec<ConnId>,
}

impl Watches {
    pub(crate) fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.wild.is_empty() && self.links.is_empty()
    }

    fn get(&self, subject: &[u8], mailbox: MailboxId, tag: u64) -> Option<&Watched> {
        let is_it = |watched: &&Watched| watched.mailbox == mailbox && watched.tag == tag;
        if is_literal(subject) {
            return self.literal.get(subject)?.iter().find(is_it);
        }
        self.wild.iter().filter(|(theirs, _)| **theirs == *subject).map(|(_, watched)| watched).find(is_it)
    }

    fn get_mut(&mut self, subject: &[u8], mailbox: MailboxId, tag: u64) -> Option<&mut Watched> {
        let is_it = |watched: &&mut Watched| watched.mailbox == mailbox && watched.tag == tag;
        if is_literal(subject) {
            return self.literal.get_mut(subject)?.iter_mut().find(is_it);
        }
        self.wild
            .iter_mut()
            .filter(|(theirs, _)| **theirs == *subject)
            .map(|(_, watched)| watched)
            .find(is_it)
    }
}

/// What is to be told: account, subject, mailbox, tag.
pub(crate) type Told = (AccountId, Box<[u8]>, MailboxId, u64);

impl<P: Port> Broker<P> {
    /// Tells `mailbox` whether anybody subscribes to `subject`: soon, and whenever that changes. A subject with wildcards
    /// is subscribed to by whoever might get a message on one that it matches. False if it is no subject, or watched so
    /// already.
    pub fn watch(
        &mut self,
        account: AccountId,
        subject: &[u8],
        heard: Heard<'_>,
        mailbox: MailboxId,
        tag: u64,
    ) -> bool {
        let Some(found) = self.accounts.get_mut(account.index()) else { return false };
        let Ok(filter) = Filter::new(subject) else { return false };
        if found.watches.get(subject, mailbox, tag).is_some() {
            return false;
        }
        let group = match heard {
            Heard::Anyhow => None,
            Heard::Literally(group) => Some(group.into()),
        };
        let mut watched = Watched { mailbox, tag, group, subscriptions: 0, queued: true };
        if filter.is_literal() {
            watched.subscriptions = usize::from(found.hears_as(subject, watched.group.as_deref()));
            found.watches.literal.entry(subject.into()).or_default().push(watched);
        } else {
            let Account { router, subs, .. } = found;
            let mut theirs = Vec::new();
            watched.subscriptions = subs
                .iter()
                .filter(|sub| {
                    theirs.clear();
                    router.filter_of(sub.id(), &mut theirs)
                        && Filter::new(&theirs).is_ok_and(|theirs| theirs.overlaps(filter))
                })
                .count();
            found.watches.wild.push((subject.into(), watched));
        }
        self.mail.tell((account, subject.into(), mailbox, tag));
        true
    }

    /// No more of that.
    pub fn unwatch(&mut self, account: AccountId, subject: &[u8], mailbox: MailboxId, tag: u64) {
        let Some(found) = self.accounts.get_mut(account.index()) else { return };
        let is_it = |watched: &Watched| watched.mailbox == mailbox && watched.tag == tag;
        let Watches { literal, wild, .. } = &mut found.watches;
        if let Some(list) = literal.get_mut(subject) {
            list.retain(|watched| !is_it(watched));
            if list.is_empty() {
                literal.remove(subject);
            }
            if literal.capacity() > 64 && literal.len() < literal.capacity() / 8 {
                literal.shrink_to(literal.len() * 2);
            }
        } else {
            wild.retain(|(theirs, watched)| **theirs != *subject || !is_it(watched));
        }
    }

    /// What has changed for a mailbox since the last call.
    pub fn take_interest(&mut self, mailbox: MailboxId) -> Vec<Interest> {
        let mut told = Vec::new();
        for (account, subject, mailbox, tag) in self.mail.take_told(mailbox) {
            let Some(found) = self.accounts.get_mut(account.index()) else { continue };
            let Some(watched) = found.watches.get_mut(&subject, mailbox, tag) else { continue };
            watched.queued = false;
            let exists = watched.subscriptions > 0;
            told.push(Interest { tag, account, subject, exists });
        }
        told
    }

    /// A subscription to `filter` came, or went, that is no hub's.
    #[cold]
    pub(crate) fn heed_interest(
        &mut self,
        account: AccountId,
        filter: &[u8],
        queue: Option<&[u8]>,
        came: bool,
    ) {
        self.heed_watches(account, filter, came);
        self.heed_uplinks(account, filter, queue, came);
    }

    /// A subscription to `filter` came, or went.
    #[cold]
    pub(crate) fn heed_watches(&mut self, account: AccountId, filter: &[u8], came: bool) {
        let Ok(filter) = Filter::new(filter) else { return };
        let found = &mut self.accounts[account.index()];
        let mut touched: Vec<Box<[u8]>> = Vec::new();
        if filter.is_literal() {
            let known = found.watches.literal.get_key_value(filter.as_bytes());
            touched.extend(known.map(|(subject, _)| subject.clone()));
        } else {
            let subjects = found.watches.literal.keys();
            touched.extend(subjects.filter(|subject| filter.matches(subject)).cloned());
        }
        let mut changed: Vec<Told> = Vec::new();
        for subject in touched {
            let heard = came || found.hears(&subject);
            let mut list = found.watches.literal.remove(&subject).unwrap_or_default();
            for watched in &mut list {
                let exists = match watched.group.as_deref() {
                    None => heard,
                    group => heard && found.hears_as(&subject, group),
                };
                let differs = (watched.subscriptions > 0) != exists;
                watched.subscriptions = usize::from(exists);
                if differs && !std::mem::replace(&mut watched.queued, true) {
                    changed.push((account, subject.clone(), watched.mailbox, watched.tag));
                }
            }
            found.watches.literal.insert(subject, list);
        }
        for (subject, watched) in &mut found.watches.wild {
            if !Filter::new(subject).is_ok_and(|subject| subject.overlaps(filter)) {
                continue;
            }
            let before = watched.subscriptions > 0;
            watched.subscriptions =
                if came { watched.subscriptions + 1 } else { watched.subscriptions.saturating_sub(1) };
            if before != (watched.subscriptions > 0) && !std::mem::replace(&mut watched.queued, true) {
                changed.push((account, subject.clone(), watched.mailbox, watched.tag));
            }
        }
        changed.into_iter().for_each(|told| self.mail.tell(told));
    }
}

/// Changes that the parts of the daemon don't know of yet, by mailbox.
pub(crate) type ToldQueue = VecDeque<Told>;
