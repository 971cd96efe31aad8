//! What may be asked of single connections and accounts by whoever is in the system account.

use midge_protocol::subject::Filter;
use midge_router::SubId;

use crate::account::AccountId;
use crate::broker::{Broker, Now};
use crate::closed::CloseReason;
use crate::conn::{Conn, ConnId, Port};

/// Why a connection isn't told to go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// There is none of this number.
    Unknown,
    /// It can't be told, or not yet: it takes no INFO besides the first.
    Unable,
}

impl<P: Port> Broker<P> {
    /// The open connection of this number.
    pub fn numbered(&self, cid: u64) -> Option<(ConnId, &Conn<P>)> {
        self.connections().find(|(_, conn)| conn.cid() == cid)
    }

    /// Closes a connection. False if there is none of this number.
    pub fn kick(&mut self, cid: u64, now: Now) -> bool {
        let found = self.numbered(cid).map(|(id, _)| id);
        found.into_iter().for_each(|id| self.close(id, CloseReason::Kicked, now));
        found.is_some()
    }

    /// Tells one connection to go elsewhere.
    pub fn send_away(&mut self, cid: u64) -> Result<(), NotSent> {
        let (id, conn) = self.numbered(cid).ok_or(NotSent::Unknown)?;
        if !conn.async_info || !conn.greeted {
            return Err(NotSent::Unable);
        }
        self.debug(id, "Sending Lame Duck Mode info to client");
        self.stage_info_as(id, false, true);
        Ok(())
    }

    /// How many subscriptions of connections in `account` a message on `filter` would reach; if it has wildcards, how
    /// many ask for nothing else. With `queue`, those of this group only. Looks at each subscription if `filter` has
    /// wildcards.
    pub fn count_subscribers(&mut self, account: AccountId, filter: &[u8], queue: Option<&[u8]>) -> usize {
        let Some(here) = self.accounts.get_mut(account.index()) else { return 0 };
        let Ok(asked) = Filter::new(filter) else { return 0 };
        let candidates: Vec<SubId> = match asked.is_literal() {
            true => here.matching(filter),
            false => here.subs.iter().map(|sub| sub.id()).collect(),
        };
        let (mut own, mut group) = (Vec::new(), Vec::new());
        let counts = |id: &&SubId| {
            own.clear();
            group.clear();
            let is_named = here.router.queue_of(**id, &mut group);
            here.subs.get(**id).is_some_and(|sub| sub.conn().target().is_none())
                && queue.is_none_or(|queue| is_named && group == queue)
                && here.router.filter_of(**id, &mut own)
                && (asked.is_literal() || Filter::new(&own).is_ok_and(|own| own.is_subset_of(asked)))
        };
        candidates.iter().filter(counts).count()
    }
}
