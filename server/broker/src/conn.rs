//! The broker's half of a connection.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use midge_protocol::time::Instant;
use midge_router::SubId;
use smol_str::SmolStr;

use crate::account::AccountId;
use crate::auth::{Held, Permit, Warrant, Way};
use crate::closed::CloseReason;
use crate::notice::Noted;
use crate::outbox::{Outbox, Stage};
use crate::rate::Meter;
use crate::replies::Replies;
use crate::security::TlsFacts;
use crate::subs::SubList;

/// A connection's place in the broker. Used again after [`crate::Broker::detach`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(pub(crate) u32);

impl ConnId {
    /// No connection's id.
    pub(crate) const NOBODY: Self = Self(u32::MAX);
    /// Ids with this bit are those of targets that are no connections, which `account/target.rs` keeps.
    const TARGET: u32 = 1 << 31;

    #[inline]
    pub(crate) fn of_target(number: u32) -> Self {
        Self(number | Self::TARGET)
    }

    #[inline]
    pub(crate) fn target(self) -> Option<usize> {
        (self.0 & Self::TARGET != 0).then_some((self.0 & !Self::TARGET) as usize)
    }
}

/// A driver's handle on a connection, given back by [`crate::Broker::flush`] when there is something to write.
pub trait Port: Clone {
    /// Where the connection's output goes.
    fn outbox(&self) -> &Outbox;
}

impl Port for Arc<Outbox> {
    fn outbox(&self) -> &Outbox {
        self
    }
}

/// The connection in a slot, for those who hold other parts of the broker at the same time.
#[inline]
pub(crate) fn at<P>(conns: &mut [Option<Box<Conn<P>>>], id: ConnId) -> Option<&mut Conn<P>> {
    conns.get_mut(id.0 as usize)?.as_deref_mut()
}

/// The other end's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// IP address, or the kind of transport where there is none.
    pub host: SmolStr,
    /// Port; 0 where there is none.
    pub port: u16,
}

impl fmt::Display for Peer {
    /// `host:port`, as it stands in log lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Messages and their bytes (header and payload), seen from the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages received.
    pub in_msgs: u64,
    /// Bytes received.
    pub in_bytes: u64,
    /// Messages sent.
    pub out_msgs: u64,
    /// Bytes sent.
    pub out_bytes: u64,
}

/// An instant or none. Nine bytes, in a structure with other small members; as an `Option` it would be sixteen.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed)]
pub(crate) struct Maybe {
    at: Instant,
    is_some: bool,
}

impl Maybe {
    #[inline]
    pub(crate) fn get(self) -> Option<Instant> {
        self.is_some.then_some(self.at)
    }

    #[inline]
    pub(crate) fn set(&mut self, at: Option<Instant>) {
        *self = at.into();
    }
}

impl From<Option<Instant>> for Maybe {
    fn from(at: Option<Instant>) -> Self {
        Self { at: at.unwrap_or_default(), is_some: at.is_some() }
    }
}

/// What the broker knows of a connection.
pub struct Conn<P> {
    pub(crate) port: P,
    pub(crate) cid: u64,
    pub(crate) peer: Peer,
    pub(crate) account: AccountId,
    pub(crate) stage: Stage,
    /// Bytes that the outbox held after the last flush; it may hold fewer now.
    pub(crate) queued: usize,
    pub(crate) dirty: bool,
    pub(crate) closing: Option<CloseReason>,
    pub(crate) subs: SubList,
    pub(crate) counters: Counters,
    pub(crate) stalls: u32,

    /// Messages go to their own publisher too.
    pub(crate) echo: bool,
    /// Headers were agreed on.
    pub(crate) headers: bool,
    /// Wants a 503 when nobody got a request.
    pub(crate) no_responders: bool,
    /// CONNECT said that INFO may come at any time.
    pub(crate) async_info: bool,
    /// The first PING was answered, so that INFO may come now.
    pub(crate) greeted: bool,
    pub(crate) connected: bool,
    /// It came in without saying who it is.
    pub(crate) unasked: bool,

    /// Bytes of one message at most.
    pub(crate) max_payload: u32,
    /// Subscriptions at most; 0: any number.
    pub(crate) max_subs: u32,
    pub(crate) permit: Option<Box<Held>>,
    /// Shared with the user's other connections; none if it may publish any amount.
    pub(crate) meter: Option<Meter>,
    /// Lines for the log about it.
    pub(crate) noted: Noted,
    /// Reply subjects that may be answered on, for those who may only answer.
    pub(crate) replies: Option<Box<Replies>>,
    /// Queue groups of subscriptions whose messages are looked at one by one.
    #[expect(clippy::box_collection, reason = "hardly anybody has any, and everybody pays for its head")]
    pub(crate) filtered_queues: Option<Box<BTreeMap<SubId, Box<[u8]>>>>,

    pub(crate) name: SmolStr,
    pub(crate) lang: SmolStr,
    pub(crate) version: SmolStr,
    pub(crate) user: SmolStr,
    /// By what right it is in, if that was a token.
    pub(crate) warrant: Option<Arc<Warrant>>,

    /// Accepted at.
    pub(crate) start: Instant,
    /// Accepted at, since the Unix epoch.
    pub(crate) start_wall_us: u64,
    /// Last message or change of interest, either way.
    pub(crate) last: Instant,
    /// Last sign of life from the peer.
    pub(crate) last_in: Instant,
    /// The last round trip in nanoseconds, at least 1; 0: not measured yet.
    pub(crate) rtt_ns: u64,
    pub(crate) ping_sent: Maybe,
    pub(crate) pings_out: u32,
    pub(crate) ping_at: Instant,
    /// CONNECT must have come by then; once it has, the user's time is over then.
    pub(crate) until: Maybe,
    pub(crate) way: Way,
    pub(crate) tls: Option<Arc<TlsFacts>>,
}

impl<P> Conn<P> {
    /// The connection's number, as in INFO and /connz.
    pub fn cid(&self) -> u64 {
        self.cid
    }

    /// Where it comes from.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Which way it came.
    pub fn way(&self) -> Way {
        self.way
    }

    /// The account that it is in.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// What it sent and got.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many subscriptions it has.
    pub fn subscriptions(&self) -> u32 {
        self.subs.len
    }

    /// The name that it gave in CONNECT.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The language that it gave in CONNECT.
    pub fn lang(&self) -> &str {
        &self.lang
    }

    /// The library version that it gave in CONNECT.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The user that it came in as; empty where nobody was asked.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// By what right it is in, if that was a token.
    pub fn warrant(&self) -> Option<&Arc<Warrant>> {
        self.warrant.as_ref()
    }

    /// The key that vouches for its user: the one that signed the token, or the account for one that is a key itself.
    pub fn issuer<'a>(&'a self, account: &'a SmolStr) -> Option<&'a SmolStr> {
        match &self.warrant {
            Some(warrant) => Some(&warrant.issuer),
            None => midge_jwt::nkey::is(&self.user, midge_jwt::Kind::User).then_some(account),
        }
    }

    /// How long its user may still stay; `None`: for ever.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.until.get().filter(|_| self.connected).map(|until| until.since(now))
    }

    /// When it was accepted, since the Unix epoch.
    pub fn start_wall(&self) -> Duration {
        Duration::from_micros(self.start_wall_us)
    }

    /// When it was accepted.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Its last message or change of interest.
    pub fn last_activity(&self) -> Instant {
        self.last
    }

    /// The last round trip.
    pub fn rtt(&self) -> Option<Duration> {
        (self.rtt_ns > 0).then(|| Duration::from_nanos(self.rtt_ns))
    }

    /// What it may do; `None`: everything.
    pub fn permit(&self) -> Option<&Arc<Permit>> {
        self.permit.as_deref().map(Held::shared)
    }

    /// How it is encrypted, if it is.
    pub fn tls(&self) -> Option<&Arc<TlsFacts>> {
        self.tls.as_ref()
    }

    /// Times that publishers were slowed down for it.
    pub fn stalls(&self) -> u64 {
        self.stalls.into()
    }

    /// False once it is on its way out.
    pub fn is_open(&self) -> bool {
        self.closing.is_none()
    }

    /// The connection in log lines, as nats-server writes it.
    pub(crate) fn label(&self) -> Label<'_, P> {
        Label(self)
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.until.get().map_or(self.ping_at, |until| until.min(self.ping_at))
    }

    /// True if it has to send CONNECT and didn't yet.
    pub(crate) fn owes_connect(&self) -> bool {
        self.until.get().is_some() && !self.connected
    }
}

impl<P: Port> Conn<P> {
    /// Bytes that wait to be written to it.
    pub fn pending(&self) -> usize {
        self.stage.len() + self.port.outbox().pending()
    }
}

pub(crate) struct Label<'a, P>(&'a Conn<P>);

impl<P> fmt::Display for Label<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conn = self.0;
        let kind = match conn.way {
            Way::WebSocket => "wid",
            Way::Hub => "lid",
            _ => "cid",
        };
        write!(f, "{} - {kind}:{}", conn.peer, conn.cid)?;
        let parts = [
            if conn.version.is_empty() { String::new() } else { format!("v{}", conn.version) },
            conn.lang.to_string(),
            conn.name.to_string(),
        ];
        let given: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if given.is_empty() { Ok(()) } else { write!(f, " - {:?}", given.join(":")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the allocator's eight bytes it fills what it takes on the heap.
    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Conn<Arc<Outbox>>>() <= 408, "{} bytes", size_of::<Conn<Arc<Outbox>>>());
        assert_eq!(size_of::<Maybe>(), 9);
    }
}
