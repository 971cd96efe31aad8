//! What the core is told: limits, names, who may come in. Replaced as a whole on reload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use midge_protocol::limits::{MAX_CONTROL_LINE, MAX_PAYLOAD};
use smol_str::SmolStr;

use crate::auth::{Directory, Way};
use crate::backoff::Backoff;
use crate::identity::ServerKeys;
use crate::rate::Rates;
use crate::security::TlsOffer;

/// How the server presents itself in INFO.
#[derive(Clone, Debug, Default)]
pub struct ServerInfo {
    /// Unique for each start: what [`ServerKeys::id`] says.
    pub id: String,
    /// The keys behind the id.
    pub keys: Arc<ServerKeys>,
    /// The configured name, or the id.
    pub name: String,
    /// The nats-server version whose behaviour clients may count on.
    pub version: String,
    /// midge's own version.
    pub midge: String,
    /// Commit of the build.
    pub git_commit: String,
    /// The compiler; nats-server has its Go version here and clients expect the member.
    pub go: String,
    /// The configured listen address.
    pub host: String,
    /// The port that is listened on.
    pub port: u16,
    /// Addresses to advertise, `host:port`.
    pub connect_urls: Vec<String>,
    /// Streams are on.
    pub jetstream: bool,
    /// The name by which these streams are told from those of a hub.
    pub domain: Option<String>,
    /// What the operator calls it besides.
    pub tags: Vec<String>,
    /// What those who come over a listener with TLS are told of it.
    pub tls: TlsOffer,
}

/// What holds for those who come over WebSocket, besides who they may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebSocketSettings {
    /// The configured listen address.
    pub host: String,
    /// The port that is listened on.
    pub port: u16,
    /// Credentials are configured for it alone.
    pub asks: bool,
    /// Silence after which a connection is pinged; `None`: as others.
    pub ping_interval: Option<Duration>,
    /// Time for CONNECT; `None`: as others.
    pub auth_timeout: Option<Duration>,
}

/// Limits and policies, with nats-server's defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// INFO.
    pub info: ServerInfo,
    /// Who may come in, as whom.
    pub directory: Directory,
    /// WebSocket; `None`: nobody comes that way.
    pub websocket: Option<WebSocketSettings>,
    /// Accounts, besides those that exist anyway.
    pub accounts: Vec<AccountSettings>,
    /// The server's own account; `None`: it tells nobody of itself.
    pub system_account: Option<SmolStr>,
    /// Longest argument of a control line, in bytes.
    pub max_control_line: u32,
    /// Largest message, in bytes.
    pub max_payload: u32,
    /// Most bytes that may wait for one connection.
    pub max_pending: u64,
    /// Bytes of memory that the daemon may use in all; `u64::MAX`: any amount.
    pub memory_budget: u64,
    /// How much users may publish.
    pub rates: Rates,
    /// Most connections; `None`: no limit.
    pub max_connections: Option<u32>,
    /// Most subscriptions of one connection; 0: no limit.
    pub max_subscriptions: u32,
    /// Most tokens of a subscription's filter; 0: no limit.
    pub max_sub_tokens: u32,
    /// Message headers are understood.
    pub headers: bool,
    /// Silence after which a connection is pinged.
    pub ping_interval: Duration,
    /// Pings that may stay without an answer.
    pub ping_max: u32,
    /// Time for CONNECT, where credentials are asked for.
    pub auth_timeout: Duration,
    /// How long those wait who fail to log in.
    pub login_backoff: Backoff,
    /// How long a peer may take nothing of what is written to it. Kept by the driver.
    pub write_deadline: Duration,
    /// Drop messages for a connection that is nearly full instead of slowing the publisher down.
    pub no_fast_producer_stall: bool,
    /// Ended connections that are remembered for /connz.
    pub max_closed: usize,
    /// Report the life of connections.
    pub debug: bool,
    /// Report every operation.
    pub trace: bool,
    /// Longest payload that is reported, in bytes; 0: all.
    pub max_traced: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            info: ServerInfo::default(),
            directory: Directory::default(),
            websocket: None,
            accounts: Vec::new(),
            system_account: Some(crate::account::SYSTEM_ACCOUNT.into()),
            max_control_line: MAX_CONTROL_LINE,
            max_payload: MAX_PAYLOAD,
            max_pending: 64 * 1024 * 1024,
            memory_budget: u64::MAX,
            rates: Rates::default(),
            max_connections: Some(65_536),
            max_subscriptions: 0,
            max_sub_tokens: 0,
            headers: true,
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
            auth_timeout: Duration::from_secs(2),
            login_backoff: Backoff::default(),
            write_deadline: Duration::from_secs(10),
            no_fast_producer_stall: false,
            max_closed: 10_000,
            debug: false,
            trace: false,
            max_traced: 0,
        }
    }
}

impl Settings {
    pub(crate) fn ping_interval_of(&self, way: Way) -> Duration {
        self.websocket_of(way).and_then(|it| it.ping_interval).unwrap_or(self.ping_interval)
    }

    pub(crate) fn auth_timeout_of(&self, way: Way) -> Duration {
        self.websocket_of(way).and_then(|it| it.auth_timeout).unwrap_or(self.auth_timeout)
    }

    fn websocket_of(&self, way: Way) -> Option<&WebSocketSettings> {
        self.websocket.as_ref().filter(|_| way == Way::WebSocket)
    }
}

/// An account of the configuration.
#[derive(Clone, Debug, Default)]
pub struct AccountSettings {
    /// Its name.
    pub name: SmolStr,
    /// What people call it; empty: its name.
    pub tag: SmolStr,
    /// Subject mappings, in order.
    pub mappings: Vec<midge_router::mapping::Mapping>,
    /// What its connections may have at most.
    pub limits: AccountLimits,
    /// What its streams may take; `None`: it has none.
    pub streams: Option<StreamShare>,
    /// What it offers to other accounts.
    pub exports: crate::account::export::Exports,
    /// What it takes from other accounts.
    pub imports: crate::account::import::Imports,
    /// Where messages with a `traceparent` are reported.
    pub tracing: Option<Tracing>,
}

/// What becomes of messages whose `traceparent` says that they are sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// The subject that reports are published on.
    pub destination: SmolStr,
    /// So many of a hundred are reported; 0 and 100 and more: all.
    pub percent: u8,
}

/// An account's share of the streams; `None`: as much as the server has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamShare {
    /// Bytes in memory.
    pub memory_bytes: Option<u64>,
    /// Bytes on disk.
    pub file_bytes: Option<u64>,
    /// Streams.
    pub streams: Option<u32>,
    /// Consumers.
    pub consumers: Option<u32>,
    /// Bytes of one stream in memory.
    pub memory_stream_bytes: Option<u64>,
    /// Bytes of one stream on disk.
    pub file_stream_bytes: Option<u64>,
    /// Unacknowledged messages of one consumer.
    pub ack_pending: Option<u32>,
    /// A stream must say how many bytes it may take.
    pub max_bytes_required: bool,
    /// The shares of streams by the number of their copies, `R1` and so on. If there are any, they count, not the rest.
    pub tiers: BTreeMap<SmolStr, StreamShare>,
}

impl StreamShare {
    /// As an account's token says it.
    pub(crate) fn claimed(limits: &midge_jwt::Limits) -> Option<Self> {
        let some = |limits: &midge_jwt::StreamLimits| limits.mem_storage != 0 || limits.disk_storage != 0;
        if limits.tiered_limits.is_empty() {
            return some(&limits.streams).then(|| Self::of(&limits.streams));
        }
        let tiers = limits.tiered_limits.iter().map(|(tier, limits)| (tier.into(), Self::of(limits)));
        // Collecting sorts first, in some kilobytes of program.
        let mut all = BTreeMap::new();
        all.extend(tiers);
        limits.tiered_limits.values().any(some).then(|| Self { tiers: all, ..Self::default() })
    }

    fn of(claimed: &midge_jwt::StreamLimits) -> Self {
        let bytes = |limit: i64| u64::try_from(limit).ok();
        let some = |limit: i64| bytes(limit).filter(|limit| *limit > 0);
        let count = |limit: i64| bytes(limit).map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
        Self {
            memory_bytes: bytes(claimed.mem_storage),
            file_bytes: bytes(claimed.disk_storage),
            streams: count(claimed.streams),
            consumers: count(claimed.consumer),
            memory_stream_bytes: some(claimed.mem_max_stream_bytes),
            file_stream_bytes: some(claimed.disk_max_stream_bytes),
            ack_pending: count(claimed.max_ack_pending).filter(|count| *count > 0),
            max_bytes_required: claimed.max_bytes_required,
            tiers: BTreeMap::new(),
        }
    }
}

/// Ceilings of an account; `None`: the server's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// Connections at one time.
    pub connections: Option<u32>,
    /// Subscriptions of one connection.
    pub subscriptions: Option<u32>,
    /// Bytes of one message.
    pub payload: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_streams_are_what_a_token_says() {
        let read = |json: &str| StreamShare::claimed(&serde_json::from_str(json).unwrap());
        assert_eq!(read("{}"), None);
        let some = StreamShare { memory_bytes: Some(0), file_bytes: Some(5), ..StreamShare::default() };
        let none_of = |share: StreamShare| StreamShare { streams: Some(0), consumers: Some(0), ..share };
        assert_eq!(read(r#"{"disk_storage":5}"#), Some(none_of(some)));
        let all = StreamShare { streams: Some(3), ..StreamShare::default() };
        let json =
            r#"{"tiered_limits":{"R1":{"mem_storage":-1,"disk_storage":-1,"streams":3,"consumer":-1}}}"#;
        let tiers = [("R1".into(), all)].into();
        assert_eq!(read(json), Some(StreamShare { tiers, ..StreamShare::default() }));
        assert_eq!(read(r#"{"tiered_limits":{"R1":{"streams":3}}}"#), None);
    }
}
