//! What a consumer tells of itself.

use serde::Serialize;

use super::{Consumer, Place};
use crate::config::{ConsumerConfig, with_server};
use crate::cx::Cx;
use crate::json::Members;
use crate::time::{Nanos, rfc3339};

/// A consumer as the API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    stream_name: Box<str>,
    name: Box<str>,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Box<ConsumerConfig>>,
    delivered: Sequences,
    ack_floor: Sequences,
    num_ack_pending: usize,
    num_redelivered: usize,
    num_waiting: usize,
    num_pending: u64,
    #[serde(skip_serializing_if = "crate::config::is_default")]
    push_bound: bool,
    #[serde(skip_serializing_if = "crate::config::is_default")]
    paused: bool,
    #[serde(skip_serializing_if = "crate::config::is_default")]
    pause_remaining: Nanos,
    ts: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    priority_groups: Vec<Group>,
}

#[derive(Debug, Serialize)]
struct Sequences {
    consumer_seq: u64,
    stream_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_active: Option<String>,
}

#[derive(Debug, Serialize)]
struct Group {
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pinned_client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned_ts: Option<String>,
}

impl Sequences {
    fn new(place: Place, at: Nanos) -> Self {
        let last_active = (at != 0).then(|| rfc3339(at));
        Self { consumer_seq: place.consumer, stream_seq: place.stream, last_active }
    }
}

impl Consumer {
    /// As lists show it: without what the server notes. So it is in nats-server.
    pub(crate) fn listed(&self, now: Nanos) -> Info {
        Info { config: Some(self.config.clone()), ..self.info(now) }
    }

    /// As monitoring shows it.
    pub(crate) fn reported(&self, with_config: bool, now: Nanos) -> Info {
        Info { config: with_config.then(|| self.config.clone()), ..self.info(now) }
    }

    /// What the API shows.
    pub(crate) fn info(&self, now: Nanos) -> Info {
        let mut config = self.config.clone();
        config.metadata = with_server(&config.metadata);
        let paused = self.paused_until(now);
        let groups = self.config.priority_groups.first().map(|group| Group {
            group: group.clone(),
            pinned_client_id: self.pull.pin.as_ref().map(|pin| pin.id.clone()).unwrap_or_default(),
            pinned_ts: Some(rfc3339(self.pull.pin.as_ref().map_or(0, |pin| pin.since))),
        });
        Info {
            stream_name: self.stream_name.clone(),
            name: self.name.clone(),
            created: rfc3339(self.created),
            delivered: Sequences::new(self.delivered, self.delivered_at),
            ack_floor: Sequences::new(self.floor, self.acked_at),
            num_ack_pending: self.pending.len(),
            num_redelivered: if config.max_deliver == 1 { 0 } else { self.again.len() },
            num_waiting: self.waiting(),
            num_pending: self.unseen,
            push_bound: self.is_bound(),
            paused: paused.is_some(),
            pause_remaining: paused.map_or(0, |until| until - now),
            ts: rfc3339(now),
            priority_groups: groups.into_iter().collect(),
            config: Some(config),
        }
    }

    pub(crate) fn event_action(&self, action: &str, cx: &mut Cx<'_>) {
        let verb = if action == "create" { "CREATED" } else { "DELETED" };
        let name = format!("$JS.EVENT.ADVISORY.CONSUMER.{verb}.{}.{}", self.stream_name, self.name);
        let body = [
            ("stream", (*self.stream_name).into()),
            ("consumer", (*self.name).into()),
            ("action", action.into()),
        ];
        cx.event(&name, "io.nats.jetstream.advisory.v1.consumer_action", Members(&body));
    }

    pub(crate) fn event_paused(&self, cx: &mut Cx<'_>) {
        let name = format!("$JS.EVENT.ADVISORY.CONSUMER.PAUSE.{}.{}", self.stream_name, self.name);
        let paused = self.paused_until(cx.now.wall);
        let body = [
            ("stream", (*self.stream_name).into()),
            ("consumer", (*self.name).into()),
            ("paused", paused.is_some().into()),
            ("pause_until", rfc3339(self.config.pause_until.unwrap_or(0)).into()),
        ];
        cx.event(&name, "io.nats.jetstream.advisory.v1.consumer_pause", Members(&body));
    }

    pub(super) fn event_pinned(&self, id: &str, cx: &mut Cx<'_>) {
        let name = format!("$JS.EVENT.ADVISORY.CONSUMER.PINNED.{}.{}", self.stream_name, self.name);
        let group = self.config.priority_groups.first().cloned().unwrap_or_default();
        let body = [
            ("account", cx.account_name().into()),
            ("stream", (*self.stream_name).into()),
            ("consumer", (*self.name).into()),
        ];
        let tail = [("group", group.into()), ("pinned_id", id.into())];
        let kind = "io.nats.jetstream.advisory.v1.consumer_group_pinned";
        cx.event_with(&name, kind, Members(&body), Members(&tail));
    }

    pub(super) fn event_unpinned(&self, group: &str, reason: &str, cx: &mut Cx<'_>) {
        let name = format!("$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.{}.{}", self.stream_name, self.name);
        let body = [
            ("account", cx.account_name().into()),
            ("stream", (*self.stream_name).into()),
            ("consumer", (*self.name).into()),
        ];
        let tail = [("group", group.into()), ("reason", reason.into())];
        let kind = "io.nats.jetstream.advisory.v1.consumer_group_unpinned";
        cx.event_with(&name, kind, Members(&body), Members(&tail));
    }
}
