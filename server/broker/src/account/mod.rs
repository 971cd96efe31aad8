//! One subject space: its subscriptions, its mappings, its figures, and what crosses its border.
//!
//! ```text
//!   export    what others may have          import    what is taken from others, and who allows it
//!   stream    messages that flow in         service   requests that go out, and their way back
//!   answers   one-off reply subjects        latency   reports on how long answers take
//!   target    what subscriptions lead to that are no connection's
//! ```

pub(crate) mod answers;
pub(crate) mod export;
pub(crate) mod import;
mod latency;
pub(crate) mod service;
mod stream;
pub(crate) mod target;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use midge_router::{Router, SubId};
use smol_str::SmolStr;

use crate::conn::Counters;
use crate::settings::{AccountLimits, StreamShare, Tracing};
use crate::subs::{Sub, Subscriptions};
use answers::{Answers, Awaited};
use export::{Exported, Latency, StreamExport};
use import::{ImportedService, ImportedStream};
use midge_router::mapping::Mapping;
use target::Targets;

use crate::watch::Watches;

/// Where connections are that nobody assigned an account.
pub const GLOBAL_ACCOUNT: &str = "$G";
/// The server's own account, unless configured.
pub const SYSTEM_ACCOUNT: &str = "$SYS";

/// An account's place in the broker. Used again once the account is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub(crate) u32);

impl AccountId {
    #[inline]
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A subject space. Messages leave it by way of exports only.
pub struct Account {
    pub(crate) name: SmolStr,
    /// Tells it from one of its name that was there before.
    pub(crate) birth: u64,
    /// What people call it, if that is something else.
    pub(crate) tag: SmolStr,
    pub(crate) router: Router,
    pub(crate) subs: Subscriptions,
    pub(crate) targets: Targets,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) limits: AccountLimits,
    pub(crate) streams: Option<StreamShare>,
    pub(crate) tracing: Option<Tracing>,
    pub(crate) counters: Counters,
    pub(crate) connections: u32,
    /// Hubs that it is connected to.
    pub(crate) leafnodes: u32,
    pub(crate) slow_consumers: u64,
    pub(crate) ties: AccountTies,
    /// What each subscription here that also takes from other accounts has there.
    pub(crate) shadows: HashMap<SubId, Vec<(AccountId, SubId)>>,
    /// Subscriptions inside the daemon that also take from other accounts.
    pub(crate) with_imports: HashSet<SubId>,
    /// Requests of others that services here have not answered.
    pub(crate) answers: Answers,
    /// Requests of connections here that services elsewhere have not answered.
    pub(crate) awaited: Awaited,
    /// Subjects that parts of the daemon want to know of.
    pub(crate) watches: Watches,
    /// The settings don't name it any more.
    pub(crate) retired: bool,
    /// An alarm is set for the next time that its figures are published.
    pub(crate) connections_alarm: bool,
}

/// An import in force, for those who look.
#[derive(Clone, Copy, Debug)]
pub struct Imported<'a> {
    /// The account that exports it.
    pub exporter: AccountId,
    /// The subject there.
    pub subject: &'a str,
    /// The subject here, as a filter.
    pub to: &'a str,
    /// The exporting account is told who asks.
    pub share: bool,
    /// The exporting account has it reported how long answers take.
    pub latency: Option<&'a Latency>,
    /// Until when it counts, since the Unix epoch; `None`: for ever.
    pub expires: Option<Duration>,
}

/// A request that waits for an answer, for those who look.
#[derive(Clone, Debug)]
pub struct OpenRequest<'a> {
    /// The subject that an answer is to be published on.
    pub reply: Vec<u8>,
    /// The account that asked.
    pub requester: AccountId,
    /// The subject that an answer goes to there.
    pub to: &'a [u8],
    /// The account of the service is told who asks.
    pub share: bool,
    /// It will be reported how long the answer took.
    pub is_timed: bool,
}

/// An account's exports and imports in force.
#[derive(Default)]
pub(crate) struct AccountTies {
    pub(crate) exported: Exported,
    pub(crate) streams: Vec<Arc<ImportedStream>>,
    pub(crate) services: Vec<Arc<ImportedService>>,
    /// The subscriptions that the service imports are.
    pub(crate) service_subs: Vec<SubId>,
}

impl Account {
    pub(crate) fn new(name: SmolStr) -> Self {
        Self {
            name,
            birth: 0,
            tag: SmolStr::default(),
            router: Router::new(),
            subs: Subscriptions::default(),
            targets: Targets::default(),
            mappings: Vec::new(),
            limits: AccountLimits::default(),
            streams: None,
            tracing: None,
            counters: Counters::default(),
            connections: 0,
            leafnodes: 0,
            slow_consumers: 0,
            ties: AccountTies::default(),
            shadows: HashMap::new(),
            with_imports: HashSet::new(),
            answers: Answers::default(),
            awaited: Awaited::default(),
            watches: Watches::default(),
            retired: false,
            connections_alarm: false,
        }
    }

    /// A place that no account has.
    pub(crate) fn vacant() -> Self {
        Self::new(SmolStr::default())
    }

    #[inline]
    pub(crate) fn is_vacant(&self) -> bool {
        self.name.is_empty()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What people call it: the name in its token, or its name.
    pub fn tag(&self) -> &SmolStr {
        if self.tag.is_empty() { &self.name } else { &self.tag }
    }

    /// A number that no other account has, of this name or another, before or after it.
    pub fn birth(&self) -> u64 {
        self.birth
    }

    /// What its streams may take; `None`: it has none.
    pub fn streams(&self) -> Option<&StreamShare> {
        self.streams.as_ref()
    }

    /// What went in and out.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Connections in it.
    pub fn connections(&self) -> u32 {
        self.connections
    }

    /// Hubs that it is connected to.
    pub fn leafnodes(&self) -> u32 {
        self.leafnodes
    }

    /// Its connections that were closed because they read too slowly.
    pub fn slow_consumers(&self) -> u64 {
        self.slow_consumers
    }

    /// Its subject tree, for figures.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Its subject mappings.
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// All subscriptions.
    pub fn subscriptions(&self) -> impl Iterator<Item = Sub<'_>> {
        self.subs.iter()
    }

    /// Whether a message on `subject` would reach anyone.
    #[inline]
    pub(crate) fn hears(&mut self, subject: &[u8]) -> bool {
        !self.matching(subject).is_empty()
    }

    /// The same; with a group, only subscriptions to this very subject count, in that queue group, or in none if it is
    /// empty.
    pub(crate) fn hears_as(&mut self, subject: &[u8], group: Option<&[u8]>) -> bool {
        let Some(group) = group else { return self.hears(subject) };
        let (mut filter, mut queue) = (Vec::new(), Vec::new());
        self.matching(subject).into_iter().any(|id| {
            filter.clear();
            queue.clear();
            self.router.filter_of(id, &mut filter) && filter == subject && {
                self.router.queue_of(id, &mut queue);
                queue == group
            }
        })
    }

    /// Those that a message on `subject` would reach.
    // Another place that asks the router directly would cost each published message a few instructions.
    #[inline(never)]
    pub fn matching(&mut self, subject: &[u8]) -> Vec<SubId> {
        let matches = self.router.matches(subject);
        let groups = matches.groups().flatten();
        matches.plain().iter().chain(groups).copied().collect()
    }

    /// A subscription by its name in the router.
    pub fn subscription(&self, id: SubId) -> Option<Sub<'_>> {
        self.subs.get(id)
    }

    /// What it offers to others: streams and services.
    pub fn exports(&self) -> (&[StreamExport], impl Iterator<Item = &export::ServiceExport>) {
        let services = self.ties.exported.services.iter().map(|service| &service.export);
        (&self.ties.exported.streams, services)
    }

    /// The streams that it takes from others.
    pub fn stream_imports(&self) -> impl Iterator<Item = Imported<'_>> {
        self.ties.streams.iter().map(|import| Imported {
            exporter: import.exporter,
            subject: &import.there,
            to: &import.here,
            share: false,
            latency: None,
            expires: import.expires,
        })
    }

    /// The services that it takes from others.
    pub fn service_imports(&self) -> impl Iterator<Item = Imported<'_>> {
        self.ties.services.iter().map(|import| Imported {
            exporter: import.export.account,
            subject: &import.there,
            to: &import.here,
            share: import.share,
            latency: import.export.export.latency.as_ref(),
            expires: import.expires,
        })
    }

    /// The requests of others that services here have not answered.
    pub fn requests(&self) -> impl Iterator<Item = OpenRequest<'_>> {
        self.answers.iter().map(|(reply, answer)| OpenRequest {
            reply,
            requester: answer.account,
            to: &answer.to,
            share: answer.share,
            is_timed: answer.tracking.is_some(),
        })
    }

    /// Requests of other accounts that its services have not answered.
    pub fn open_requests(&self) -> usize {
        self.answers.len()
    }
}
