//! A build without leaf nodes: nobody connects to a hub, so nothing is to be done for any.

use midge_protocol::op::Message;
use midge_router::SubId;

use crate::account::AccountId;
use crate::broker::{Broker, Now};
use crate::closed::CloseReason;
use crate::conn::{Conn, ConnId, Port};
use crate::publish::Routed;
use crate::session::{Next, Received};

/// A subscription of a hub's, of which there are none.
#[derive(Debug)]
pub(crate) enum HubSub {}

/// A connection to a hub, for those who look; there are none.
#[derive(Clone, Copy, Debug)]
pub struct UplinkInfo<'a> {
    /// What the hub calls itself.
    pub name: &'a str,
    /// Subjects and queue groups that the hub wants.
    pub subscriptions: usize,
    /// Messages that it had no room for.
    pub dropped: u64,
}

/// No connections to hubs.
#[derive(Default)]
pub(crate) struct Uplinks {}

impl Uplinks {
    #[inline]
    #[expect(clippy::unused_self, reason = "as with hubs")]
    pub(crate) fn is_empty(&self) -> bool {
        true
    }
}

pub(crate) fn receive<P: Port>(_: &mut Broker<P>, _: ConnId, _: Now, input: &[u8]) -> Received {
    Received { used: input.len(), next: Next::Close }
}

#[expect(clippy::unused_self, reason = "as with hubs")]
impl<P: Port> Broker<P> {
    /// The connections to hubs: none.
    pub fn uplinks(&self) -> impl Iterator<Item = (ConnId, &Conn<P>, UplinkInfo<'_>)> {
        std::iter::empty()
    }

    /// What a hub subscribes to: nothing.
    pub fn uplink_subscriptions(&self, _: ConnId) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        std::iter::empty()
    }

    pub(crate) fn hub_is_overdue(&mut self, _: ConnId, _: Now) -> bool {
        false
    }

    pub(crate) fn heed_uplinks(&mut self, _: AccountId, _: &[u8], _: Option<&[u8]>, _: bool) {}

    pub(crate) fn refresh_uplinks(&mut self) {}

    pub(crate) fn hub_has_gone(&mut self, _: ConnId, _: CloseReason) {}

    pub(crate) fn forget_hub(&mut self, _: ConnId) {}

    pub(crate) fn send_to_hubs(
        &mut self,
        _: AccountId,
        _: &[u8],
        _: ConnId,
        _: &Message<'_>,
        _: impl Iterator<Item = SubId>,
        _: Now,
    ) -> Routed {
        Routed::default()
    }
}
