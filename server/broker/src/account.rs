//! One subject space: its subscriptions, its mappings, its figures.

use midge_router::{Router, SubId};
use smol_str::SmolStr;

use crate::conn::Counters;
use crate::mapping::Mapping;
use crate::settings::AccountLimits;
use crate::subs::{Sub, Subscriptions};

/// Where connections are that nobody assigned an account.
pub const GLOBAL_ACCOUNT: &str = "$G";
/// The server's own account, unless configured.
pub const SYSTEM_ACCOUNT: &str = "$SYS";

/// An account's place in the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccountId(pub(crate) u32);

impl AccountId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A subject space. Messages never leave it.
pub struct Account {
    pub(crate) name: SmolStr,
    pub(crate) router: Router,
    pub(crate) subs: Subscriptions,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) limits: AccountLimits,
    pub(crate) counters: Counters,
    pub(crate) connections: u32,
    pub(crate) slow_consumers: u64,
}

impl Account {
    pub(crate) fn new(name: SmolStr) -> Self {
        Self {
            name,
            router: Router::new(),
            subs: Subscriptions::default(),
            mappings: Vec::new(),
            limits: AccountLimits::default(),
            counters: Counters::default(),
            connections: 0,
            slow_consumers: 0,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What went in and out.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Connections in it.
    pub fn connections(&self) -> u32 {
        self.connections
    }

    /// Its subject tree, for figures.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// All subscriptions.
    pub fn subscriptions(&self) -> impl Iterator<Item = Sub<'_>> {
        self.subs.iter()
    }

    /// Those that a message on `subject` would reach.
    pub fn matching(&mut self, subject: &[u8]) -> Vec<SubId> {
        let matches = self.router.matches(subject);
        let groups = matches.groups().flatten();
        matches.plain().iter().chain(groups).copied().collect()
    }

    /// A subscription by its name in the router.
    pub fn subscription(&self, id: SubId) -> Option<Sub<'_>> {
        self.subs.get(id)
    }
}
