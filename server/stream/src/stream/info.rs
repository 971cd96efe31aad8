//! What a stream tells of itself.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Stream;
use super::copy::CopyInfo;
use crate::config::{Storage, StreamConfig, with_server};
use crate::cx::Cx;
use crate::json::Members;
use crate::log::Filters;
use crate::time::rfc3339;

/// A stream as the API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct StreamInfo<'a> {
    config: StreamConfig,
    created: String,
    pub(crate) state: StateInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<Cluster<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<CopyInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<CopyInfo>,
    ts: String,
}

/// A cluster of one.
#[derive(Debug, Serialize)]
pub(crate) struct Cluster<'a> {
    pub(crate) leader: &'a str,
}

/// Its sums.
#[derive(Debug, Default, Serialize)]
pub(crate) struct StateInfo {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    first_ts: String,
    last_seq: u64,
    last_ts: String,
    #[serde(skip_serializing_if = "crate::config::is_default")]
    num_subjects: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subjects: Option<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "crate::config::is_default")]
    num_deleted: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deleted: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<Lost>,
    pub(crate) consumer_count: usize,
}

/// Messages that were there and are damaged.
#[derive(Debug, Serialize)]
struct Lost {
    msgs: Vec<u64>,
    bytes: u64,
}

/// Of those, numbers that are listed at most.
const LOST_MAX: usize = 10_000;

/// Numbers of deleted messages that are listed at most.
const DELETED_MAX: usize = 1_000_000;

impl Stream {
    /// What the API shows. With `details`, the numbers that are not there any more are named.
    pub(crate) fn info<'a>(&self, details: bool, domain: Option<&'a str>, cx: &Cx<'_>) -> StreamInfo<'a> {
        let mut config = (*self.config).clone();
        config.metadata = with_server(&config.metadata);
        let (mirror, sources) = self.copy_infos(cx.now.mono);
        StreamInfo {
            config,
            created: rfc3339(self.created),
            state: self.state_info(details),
            domain,
            cluster: None,
            mirror,
            sources,
            ts: rfc3339(cx.now.wall),
        }
    }

    /// As lists show it: without what the server notes. So it is in nats-server.
    pub(crate) fn listed<'a>(&self, domain: Option<&'a str>, cx: &Cx<'_>) -> StreamInfo<'a> {
        StreamInfo { config: (*self.config).clone(), ..self.info(false, domain, cx) }
    }

    pub(crate) fn state_info(&self, details: bool) -> StateInfo {
        let state = self.log.state();
        let deleted = if details { self.deleted() } else { Vec::new() };
        StateInfo {
            messages: state.messages,
            bytes: state.bytes,
            first_seq: state.first_seq,
            first_ts: rfc3339(self.log.time_of(state.first_seq).ok().flatten().unwrap_or(0)),
            last_seq: state.last_seq,
            last_ts: rfc3339(state.last_time.max(self.skipped_at)),
            num_subjects: self.log.subject_count(),
            subjects: None,
            num_deleted: if deleted == [0] { 1 } else { state.deleted() },
            deleted,
            lost: Some(self.log.damaged(LOST_MAX))
                .filter(|(msgs, _)| !msgs.is_empty())
                .map(|(msgs, bytes)| Lost { msgs, bytes }),
            consumer_count: self.shown().count(),
        }
    }

    fn deleted(&self) -> Vec<u64> {
        let mut deleted = Vec::new();
        // One on disk to which nothing was ever done misses number 0, in nats-server.
        if self.log.state().last_seq == 0 && self.config.storage == Storage::Memory {
            return deleted;
        }
        let mut from = self.log.state().first_seq;
        while let Some(seq) = self.log.next(from, &Filters::all()) {
            deleted.extend((from..seq).take(DELETED_MAX.saturating_sub(deleted.len())));
            from = seq + 1;
        }
        deleted.extend((from..=self.log.state().last_seq).take(DELETED_MAX.saturating_sub(deleted.len())));
        deleted
    }

    /// How many messages each subject has.
    pub(crate) fn subject_totals(&self, filter: &str) -> BTreeMap<String, u64> {
        let mut totals = BTreeMap::new();
        self.log.subjects(&Filters::new([filter]), &mut |subject, count| {
            totals.insert(String::from_utf8_lossy(subject).into_owned(), count);
        });
        totals
    }

    pub(crate) fn event_action(&self, action: &str, cx: &mut Cx<'_>) {
        let verb = match action {
            "create" => "CREATED",
            "delete" => "DELETED",
            _ => "UPDATED",
        };
        let name = format!("$JS.EVENT.ADVISORY.STREAM.{verb}.{}", self.config.name);
        let body = [("stream", self.name().into()), ("action", action.into())];
        cx.event(&name, "io.nats.jetstream.advisory.v1.stream_action", Members(&body));
    }
}
