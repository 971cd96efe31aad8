//! Whom a subscription is for, if not for a connection of its own account.

use std::sync::Arc;

use midge_router::SubId;

use super::AccountId;
use super::import::{ImportedService, ImportedStream};
use crate::conn::ConnId;
use crate::inside::Inside;
use crate::leaf::HubSub;

/// What stands behind a subscription that is no connection's.
///
/// ```text
/// account A (exports)                       account B (imports)
///   router: out.x ──> Shadow ───────────────> connection, and its own subscription to from.a.out.x
///   router: help  ──> a connection  <── route ── Service <── router: ask.a
///   router: _R_.8fhK2a.> ──> Answers ── route ─> the requester's reply subject
/// ```
#[derive(Debug)]
pub(crate) enum Target {
    /// A connection of an account that imports a stream from here.
    Shadow(Box<Shadow>),
    /// A service of another account: requests on its subject go on there.
    Service(Arc<ImportedService>),
    /// The subjects on which services of this account answer requests of others.
    Answers,
    /// Something inside the daemon.
    Inside(Inside),
    /// The same of an account that imports a stream from here.
    Beyond(Box<Beyond>),
    /// A hub that this server is a leaf node of.
    #[cfg_attr(not(feature = "leafnode"), expect(dead_code, reason = "there are no hubs"))]
    Hub(Box<HubSub>),
}

/// The part of a subscription inside the daemon that is in an account that its own imports from.
#[derive(Debug)]
pub(crate) struct Beyond {
    pub(crate) inside: Inside,
    /// The subscription's own account.
    pub(crate) account: AccountId,
    pub(crate) import: Arc<ImportedStream>,
}

/// The part of a connection's subscription that is in an account it imports from.
#[derive(Debug)]
pub(crate) struct Shadow {
    pub(crate) conn: ConnId,
    pub(crate) sid: Box<[u8]>,
    /// The subscription in the connection's own account.
    pub(crate) main: SubId,
    pub(crate) import: Arc<ImportedStream>,
}

/// The targets of one account, by the numbers in its subscriptions' records.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    slots: Vec<Option<Target>>,
    free: Vec<u32>,
    /// Those behind which there is no connection.
    inner: usize,
}

impl Targets {
    pub(crate) fn get(&self, id: ConnId) -> Option<&Target> {
        self.slots.get(id.target()?)?.as_ref()
    }

    #[cfg_attr(not(feature = "leafnode"), expect(dead_code, reason = "hubs alone change"))]
    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Target> {
        self.slots.get_mut(id.target()?)?.as_mut()
    }

    /// How many have no connection behind them.
    pub(crate) fn inner(&self) -> usize {
        self.inner
    }

    /// Keeps a target, under an id that no connection has.
    pub(crate) fn insert(&mut self, target: Target) -> ConnId {
        self.inner += usize::from(!matches!(target, Target::Shadow(_)));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("subscriptions are numbered in 30 bits")
        });
        self.slots[slot as usize] = Some(target);
        ConnId::of_target(slot)
    }

    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Target> {
        let slot = id.target()?;
        let target = self.slots.get_mut(slot)?.take()?;
        self.free.extend(u32::try_from(slot));
        self.inner -= usize::from(!matches!(target, Target::Shadow(_)));
        if self.free.len() == self.slots.len() {
            *self = Self::default();
        }
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again() {
        let mut targets = Targets::default();
        let ids = [(); 3].map(|()| targets.insert(Target::Answers));
        assert!(targets.remove(ids[1]).is_some() && targets.get(ids[1]).is_none());
        assert!(targets.remove(ids[1]).is_none());
        assert_eq!(targets.insert(Target::Answers), ids[1]);
        assert!(targets.get(ConnId(1)).is_none(), "a connection's id");
        for id in ids {
            targets.remove(id);
        }
        assert!(targets.slots.is_empty() && targets.free.is_empty());
    }
}
