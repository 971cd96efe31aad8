//! What nats-server tells of its parts that midge does without: routes, gateways, Raft groups, queues between its threads,
//! and what Go's runtime knows. Tools that gather everything ask for all of it, of each server.

use serde::Serialize;

use super::About;
use super::text::Time;
use crate::hub::Hub;

/// What `/raftz` says where there is nothing to list.
pub(super) const NO_RAFT: &str = "No Raft nodes registered";

/// nats-server's `Routez`.
#[derive(Serialize)]
pub(super) struct Routez {
    server_id: String,
    server_name: String,
    now: Time,
    num_routes: u32,
    routes: [(); 0],
}

impl Routez {
    pub(super) fn new(hub: &Hub, about: &About) -> Self {
        let info = about.info();
        Self { server_id: info.id, server_name: info.name, now: now(hub), num_routes: 0, routes: [] }
    }
}

/// No members: nats-server's `RaftzStatus` and `IpqueueszStatus`, and its lists of gateways.
#[derive(Default, Serialize)]
pub(super) struct Nothing {}

/// nats-server's `Gatewayz`.
#[derive(Serialize)]
pub(super) struct Gatewayz {
    server_id: String,
    now: Time,
    outbound_gateways: Nothing,
    inbound_gateways: Nothing,
}

impl Gatewayz {
    pub(super) fn new(hub: &Hub) -> Self {
        let id = hub.look(|broker, _| broker.settings().info.id.clone());
        Self { server_id: id, now: now(hub), outbound_gateways: Nothing {}, inbound_gateways: Nothing {} }
    }
}

/// nats-server's `ExpvarzStatus`.
#[derive(Default, Serialize)]
pub(super) struct Expvarz {
    memstats: Option<Nothing>,
    cmdline: Option<Nothing>,
}

/// nats-server's `ProfilezStatus`.
#[derive(Serialize)]
pub(super) struct Profilez {
    profile: Option<Nothing>,
    error: String,
}

impl Profilez {
    /// Why there is none of this name.
    pub(super) fn missing(name: &str) -> Self {
        let error = match name {
            "" => "Profile name not specified".to_owned(),
            name => format!("Profile {name:?} not found"),
        };
        Self { profile: None, error }
    }
}

fn now(hub: &Hub) -> Time {
    Time(hub.clock.now().wall)
}
