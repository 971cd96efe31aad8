//! What a server tells of itself at intervals, and to those who ask with PING.

use serde::Serialize;

use midge_broker::system::{DataStats, ServerIdentity};

use super::jsz::JetStreamVarz;
use super::text::{Number, Time, is_zero};
use super::varz::ByKind;
use super::{About, process};
use crate::hub::Hub;

/// nats-server's `ServerStatsMsg`.
#[derive(Serialize)]
pub(super) struct Statsz {
    server: ServerIdentity,
    statsz: Stats,
}

/// nats-server's `ServerStats`.
#[derive(Serialize)]
struct Stats {
    start: Time,
    mem: u64,
    cores: usize,
    cpu: Number,
    connections: u32,
    total_connections: u64,
    active_accounts: usize,
    subscriptions: usize,
    sent: DataStats,
    sent_to_clients: DataStats,
    received: DataStats,
    received_from_clients: DataStats,
    slow_consumers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_consumer_stats: Option<ByKind>,
    #[serde(skip_serializing_if = "is_zero")]
    stale_connections: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_connection_stats: Option<ByKind>,
    #[serde(skip_serializing_if = "is_zero")]
    stalled_clients: u64,
    active_servers: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    jetstream: Option<JetStreamVarz>,
    gomaxprocs: usize,
}

impl Statsz {
    pub(super) fn collect(hub: &Hub, about: &About, jetstream: JetStreamVarz) -> Self {
        hub.look(|broker, now| {
            let (stats, counters) = (broker.stats(), broker.stats().counters);
            let sent = DataStats::new(counters.out_msgs, counters.out_bytes);
            let received = DataStats::new(counters.in_msgs, counters.in_bytes);
            let by_kind = |count: u64| (count > 0).then(|| ByKind::clients(count));
            let server = broker.identity(now);
            let statsz = Stats {
                start: Time(about.start),
                mem: process::memory(),
                cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
                cpu: Number(about.cpu.percent(now.mono)),
                connections: broker.open(),
                total_connections: stats.total_connections,
                active_accounts: broker.accounts().filter(|account| account.connections() > 0).count(),
                subscriptions: broker.accounts().map(|account| account.router().len()).sum(),
                sent,
                sent_to_clients: sent,
                received,
                received_from_clients: received,
                slow_consumers: stats.slow_consumers,
                slow_consumer_stats: by_kind(stats.slow_consumers),
                stale_connections: stats.stale_connections,
                stale_connection_stats: by_kind(stats.stale_connections),
                stalled_clients: stats.stalls,
                active_servers: 1,
                jetstream: jetstream.published(),
                gomaxprocs: about.threads,
            };
            Self { server, statsz }
        })
    }
}
