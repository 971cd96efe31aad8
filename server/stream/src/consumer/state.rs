//! A consumer's place as a snapshot has it.
//!
//! Source: nats-server's `store.go` (`ConsumerState`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Consumer, Pending, Place};
use crate::cx::Cx;
use crate::log::Log;
use crate::time::{Nanos, duration};

/// Where it is, what is pending and since when, and what went more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConsumerState {
    delivered: Pair,
    ack_floor: Pair,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pending: BTreeMap<u64, Sent>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    redelivered: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Pair {
    consumer_seq: u64,
    stream_seq: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Sent {
    /// The delivery.
    sequence: u64,
    timestamp: Nanos,
}

impl From<Place> for Pair {
    fn from(place: Place) -> Self {
        Self { consumer_seq: place.consumer, stream_seq: place.stream }
    }
}

impl From<Pair> for Place {
    fn from(pair: Pair) -> Self {
        Self { consumer: pair.consumer_seq, stream: pair.stream_seq }
    }
}

impl Consumer {
    /// Its place.
    pub(crate) fn state(&self) -> ConsumerState {
        // Collecting sorts first, in some kilobytes of program.
        let mut all = BTreeMap::new();
        let sent = |pending: &Pending| Sent { sequence: pending.delivery, timestamp: pending.sent };
        all.extend(self.pending.iter().map(|(seq, pending)| (*seq, sent(pending))));
        ConsumerState {
            delivered: self.delivered.into(),
            ack_floor: self.floor.into(),
            pending: all,
            redelivered: self.again.clone(),
        }
    }

    /// Goes to that place. What is pending goes again when its time is over, counted from when it was sent.
    pub(crate) fn set_state(&mut self, state: &ConsumerState, log: &dyn Log, cx: &Cx<'_>) {
        (self.delivered, self.floor) = (state.delivered.into(), state.ack_floor.into());
        self.next_delivery = self.delivered.consumer.saturating_add(1);
        self.cursor = self.delivered.stream.saturating_add(1);
        self.again = state.redelivered.clone();
        self.skip.clear();
        self.queue.clear();
        self.pending.clear();
        for (seq, sent) in &state.pending {
            let wait = self.ack_wait(self.again.get(seq).copied().unwrap_or(0));
            let left = sent.timestamp.saturating_add(wait).saturating_sub(cx.now.wall).clamp(0, wait.max(0));
            let pending = Pending {
                delivery: sent.sequence,
                again_at: cx.now.mono + duration(left),
                sent: sent.timestamp,
                queued: false,
                lost: false,
            };
            self.insert_pending(*seq, pending);
        }
        self.drop_missing(log);
    }
}
