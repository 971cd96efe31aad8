//! `/leafz`: the hubs that this server is a leaf node of.

use serde::Serialize;

use super::connz::round;
use super::text::{Span, Time};
use crate::hub::Hub;

/// nats-server's `Leafz`.
#[derive(Serialize)]
pub(super) struct Leafz {
    server_id: String,
    now: Time,
    leafnodes: usize,
    leafs: Vec<LeafInfo>,
}

/// nats-server's `LeafInfo`.
#[derive(Serialize)]
struct LeafInfo {
    id: u64,
    name: String,
    is_spoke: bool,
    account: String,
    ip: String,
    port: u16,
    rtt: Span,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    subscriptions: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    compression: &'static str,
    /// Messages that it had no room for. midge's own.
    dropped: u64,
}

impl Leafz {
    /// What is so now, of one account if it is named; with what the hubs subscribe to, if that is asked for.
    pub(super) fn collect(hub: &Hub, account: &str, subscriptions: bool) -> Self {
        hub.look(|broker, now| {
            let leafs: Vec<_> = broker
                .uplinks()
                .filter(|(_, conn, _)| account.is_empty() || broker.account(conn.account()).name() == account)
                .map(|(id, conn, info)| {
                    let counters = conn.counters();
                    let listed = broker.uplink_subscriptions(id).filter(|_| subscriptions);
                    LeafInfo {
                        id: conn.cid(),
                        name: info.name.to_owned(),
                        is_spoke: true,
                        account: broker.account(conn.account()).name().to_owned(),
                        ip: conn.peer().host.to_string(),
                        port: conn.peer().port,
                        rtt: Span(round(conn.rtt().unwrap_or_default())),
                        in_msgs: counters.in_msgs,
                        out_msgs: counters.out_msgs,
                        in_bytes: counters.in_bytes,
                        out_bytes: counters.out_bytes,
                        subscriptions: info.subscriptions,
                        subscriptions_list: listed
                            .map(|(subject, _)| String::from_utf8_lossy(&subject).into_owned())
                            .collect(),
                        compression: "not supported",
                        dropped: info.dropped,
                    }
                })
                .collect();
            let server_id = broker.settings().info.id.clone();
            Self { server_id, now: Time(now.wall), leafnodes: leafs.len(), leafs }
        })
    }
}
