//! /varz: the server as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_broker::{Account, Broker, Now, Refusals, ServerInfo, Stats};
use midge_config::{Options, SYSTEM_ACCOUNT};
use midge_wire::Handle;
use serde::Serialize;

use super::About;
use super::jsz::JetStreamVarz;
use super::process;
use super::text::{Nanos, Number, Time, Uptime, is_false, is_zero};
use crate::hub::Hub;
use crate::net::Keeper;
use crate::vitals::ClockVital;

/// nats-server's `Varz`, without what belongs to parts that midge doesn't have, and with midge's own version.
#[derive(Serialize)]
pub(super) struct Varz {
    server_id: String,
    server_name: String,
    version: String,
    midge: String,
    proto: u8,
    #[serde(skip_serializing_if = "String::is_empty")]
    git_commit: String,
    go: String,
    host: String,
    port: u16,
    #[serde(skip_serializing_if = "is_false")]
    auth_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_verify: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connect_urls: Vec<String>,
    /// -1: no limit.
    max_connections: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_subscriptions: Option<u32>,
    ping_interval: Nanos,
    ping_max: u32,
    http_host: String,
    http_port: u16,
    http_base_path: String,
    https_port: u16,
    auth_timeout: Number,
    max_control_line: u32,
    max_payload: u32,
    max_pending: u64,
    cluster: Absent,
    gateway: Absent,
    leaf: Absent,
    mqtt: Absent,
    websocket: WebSocketVarz,
    jetstream: JetStreamVarz,
    tls_timeout: Number,
    write_deadline: Nanos,
    start: Time,
    now: Time,
    uptime: Uptime,
    mem: u64,
    cores: usize,
    /// Threads that serve connections.
    gomaxprocs: usize,
    cpu: Number,
    connections: u32,
    total_connections: u64,
    routes: u32,
    remotes: u32,
    leafnodes: u32,
    in_msgs: u64,
    in_bytes: u64,
    in_client_msgs: u64,
    in_client_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    out_client_msgs: u64,
    out_client_bytes: u64,
    slow_consumers: u64,
    stale_connections: u64,
    stalled_clients: u64,
    /// Bytes on the heap, and how many there may be. midge's own, as the two that follow.
    memory_in_use: u64,
    memory_budget: u64,
    /// Times that something was refused because there was no memory left.
    memory_refusals: u64,
    /// Times that a user was held to its rate.
    rate_pauses: u64,
    /// Times that something was refused because it was over a ceiling or not allowed.
    refusals: Refused,
    /// Whether streams believe the machine's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<ClockVital>,
    subscriptions: usize,
    http_req_stats: BTreeMap<&'static str, u64>,
    config_load_time: Time,
    config_digest: String,
    /// The end of the first certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<Time>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    feature_flags: FeatureFlags,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_account: Option<String>,
    slow_consumer_stats: ByKind,
    stale_connection_stats: ByKind,
    disk_io_wait_stats: DiskWaits,
}

/// nats-server's flags. Those of what midge doesn't do are off.
#[derive(Default, Serialize)]
struct FeatureFlags {
    js_ack_fc_v2: bool,
    js_api_reply_v2: bool,
    js_raft_delete_range: bool,
    js_snapshot_sources: bool,
}

/// [`Refusals`], as /varz has them.
#[derive(Serialize)]
struct Refused {
    connections: u64,
    handshakes: u64,
    credentials: u64,
    subscriptions: u64,
    tokens: u64,
    control_lines: u64,
    payloads: u64,
    permissions: u64,
}

impl Refused {
    fn new(refusals: Refusals) -> Self {
        let Refusals { connections, handshakes, credentials, subscriptions, .. } = refusals;
        let Refusals { tokens, control_lines, payloads, permissions, .. } = refusals;
        Self {
            connections,
            handshakes,
            credentials,
            subscriptions,
            tokens,
            control_lines,
            payloads,
            permissions,
        }
    }
}

/// A part that isn't there; nats-server shows those as empty objects too.
#[derive(Default, Serialize)]
struct Absent {}

/// WebSocket; empty without a listener.
#[derive(Default, Serialize)]
struct WebSocketVarz {
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    #[serde(skip_serializing_if = "is_zero")]
    port: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    advertise: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    no_auth_user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    jwt_cookie: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake_timeout: Option<Nanos>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_timeout: Option<Number>,
    #[serde(skip_serializing_if = "is_false")]
    no_tls: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_map: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls_pinned_certs: Vec<String>,
    #[serde(skip_serializing_if = "is_false")]
    same_origin: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_origins: Vec<String>,
    #[serde(skip_serializing_if = "is_false")]
    compression: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<Time>,
}

impl WebSocketVarz {
    fn collect(about: &About, options: &Options) -> Self {
        let Some(websocket) = &options.websocket else { return Self::default() };
        let Some(listen) = &websocket.listen else { return Self::default() };
        let (keeper, port) = &about.websocket;
        let tls = websocket.tls.as_ref();
        Self {
            host: listen.host.clone(),
            port: u64::from(*port),
            advertise: websocket.advertise.clone().unwrap_or_default(),
            no_auth_user: websocket.no_auth_user.clone().unwrap_or_default(),
            jwt_cookie: websocket.cookies.jwt.clone(),
            handshake_timeout: websocket.handshake_timeout.map(Nanos),
            auth_timeout: websocket.authorization.timeout.map(|time| Number(time.as_secs_f64())),
            no_tls: websocket.no_tls,
            tls_map: tls.is_some_and(|tls| tls.map),
            tls_pinned_certs: tls.map(|tls| tls.pinned_certs.clone()).unwrap_or_default(),
            same_origin: websocket.same_origin,
            allowed_origins: websocket.allowed_origins.clone(),
            compression: websocket.compression,
            tls_cert_not_after: not_after(keeper),
        }
    }
}

/// The end of the first certificate.
fn not_after(keeper: &Keeper) -> Option<Time> {
    keeper.current().map(|acceptor| Time(Duration::from_secs(acceptor.tls.not_after)))
}

/// A figure by kind of connection. Without peers, all are clients.
#[derive(Serialize)]
pub(super) struct ByKind {
    clients: u64,
    routes: u64,
    gateways: u64,
    leafs: u64,
}

impl ByKind {
    pub(super) fn clients(clients: u64) -> Self {
        Self { clients, routes: 0, gateways: 0, leafs: 0 }
    }
}

/// Waits for a turn at the disk. Without streams nobody waits.
#[derive(Default, Serialize)]
struct DiskWaits {
    waiters: u64,
    waits: u64,
    wait_time: u64,
    max_wait_time: u64,
}

/// What the broker is asked for.
struct Figures {
    now: Now,
    stats: Stats,
    connections: u32,
    leafnodes: u32,
    subscriptions: usize,
    auth_required: bool,
    memory_budget: u64,
    memory_refusals: u64,
}

impl Figures {
    fn collect(broker: &Broker<Handle>, now: Now) -> Self {
        let directory = &broker.settings().directory;
        Self {
            now,
            stats: broker.stats(),
            connections: broker.open(),
            leafnodes: broker.accounts().map(Account::leafnodes).sum(),
            subscriptions: broker.accounts().map(|account| account.router().len()).sum(),
            auth_required: directory.is_required(),
            memory_budget: broker.settings().memory_budget,
            memory_refusals: broker.memory_refusals(),
        }
    }
}

impl Varz {
    pub(super) fn collect(hub: &Hub, about: &About, jetstream: JetStreamVarz) -> Self {
        let (http_port, https_port) = match about.port {
            Some((port, false)) => (port, 0),
            Some((port, true)) => (0, port),
            None => (0, 0),
        };
        let (info, options): (ServerInfo, _) = (about.info(), about.options());
        let options: &Options = &options;
        let Figures {
            now,
            stats,
            connections,
            leafnodes,
            subscriptions,
            auth_required,
            memory_budget,
            memory_refusals,
        } = hub.look(|broker, now| Figures::collect(broker, now));
        let counters = stats.counters;
        Self {
            server_id: info.id,
            server_name: info.name,
            version: info.version,
            midge: info.midge,
            proto: 1,
            git_commit: info.git_commit,
            go: info.go,
            host: info.host,
            port: info.port,
            auth_required,
            tls_required: info.tls.required,
            tls_verify: info.tls.verify,
            connect_urls: info.connect_urls,
            max_connections: options.limits.connections_max.map_or(-1, i64::from),
            max_subscriptions: options.limits.subscriptions_max,
            ping_interval: Nanos(options.keepalive.ping_interval),
            ping_max: options.keepalive.pings_max,
            http_host: options.monitor.host.clone().unwrap_or_else(|| options.listen.host.clone()),
            http_port,
            http_base_path: options.monitor.base_path.clone(),
            https_port,
            auth_timeout: Number(options.auth_timeout().as_secs_f64()),
            max_control_line: options.limits.control_line_bytes_max,
            max_payload: options.limits.payload_bytes_max,
            max_pending: options.limits.pending_bytes_max,
            cluster: Absent {},
            gateway: Absent {},
            leaf: Absent {},
            mqtt: Absent {},
            websocket: WebSocketVarz::collect(about, options),
            jetstream,
            tls_timeout: Number(options.tls.as_ref().map_or(TLS_TIMEOUT, |tls| tls.timeout.as_secs_f64())),
            write_deadline: Nanos(options.keepalive.write_deadline),
            start: Time(about.start),
            now: Time(now.wall),
            uptime: Uptime(now.mono.since(midge_broker::Instant::default())),
            mem: process::memory(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            gomaxprocs: about.threads,
            cpu: Number(about.cpu.percent(now.mono)),
            connections,
            total_connections: stats.total_connections,
            routes: 0,
            remotes: 0,
            leafnodes,
            in_msgs: counters.in_msgs,
            in_bytes: counters.in_bytes,
            in_client_msgs: counters.in_msgs,
            in_client_bytes: counters.in_bytes,
            out_msgs: counters.out_msgs,
            out_bytes: counters.out_bytes,
            out_client_msgs: counters.out_msgs,
            out_client_bytes: counters.out_bytes,
            slow_consumers: stats.slow_consumers,
            stale_connections: stats.stale_connections,
            stalled_clients: stats.stalls,
            memory_in_use: midge_heap::in_use() as u64,
            memory_budget,
            memory_refusals,
            rate_pauses: stats.pauses,
            refusals: Refused::new(stats.refusals),
            clock: hub.vitals.clock(),
            subscriptions,
            http_req_stats: about.requests.counts(),
            config_load_time: Time(about.loaded()),
            config_digest: options.config_digest.clone().unwrap_or_default(),
            tls_cert_not_after: not_after(&about.tls),
            tags: options.server_tags.clone(),
            metadata: options.server_metadata.clone(),
            feature_flags: FeatureFlags {
                js_ack_fc_v2: options.jetstream.long_acks,
                ..FeatureFlags::default()
            },
            system_account: (!options.no_system_account)
                .then(|| options.system_account.clone().unwrap_or_else(|| SYSTEM_ACCOUNT.to_owned())),
            slow_consumer_stats: ByKind::clients(stats.slow_consumers),
            stale_connection_stats: ByKind::clients(stats.stale_connections),
            disk_io_wait_stats: DiskWaits::default(),
        }
    }
}

/// Seconds for a TLS handshake, where none are configured.
const TLS_TIMEOUT: f64 = 2.0;
