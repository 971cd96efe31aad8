//! What is kept of a consumer on disk.
//!
//! A note per consumer: its configuration, and its place. Times within it are on the calendar; they become moments of the
//! clock that never goes back when it is read.

use serde::{Deserialize, Serialize};

use super::{Consumer, Pending, Place};
use crate::config::ConsumerConfig;
use crate::cx::Cx;
use crate::json;
use crate::log::Log;
use crate::time::{Nanos, duration};

/// A consumer as it is written.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    name: Box<str>,
    created: Nanos,
    config: ConsumerConfig,
    cursor: u64,
    next_delivery: u64,
    delivered: (u64, u64),
    delivered_at: Nanos,
    floor: (u64, u64),
    acked_at: Nanos,
    /// Number, delivery, ns until it goes again.
    pending: Vec<(u64, u64, Nanos)>,
    again: Vec<(u64, u64)>,
    skip: Vec<u64>,
    resume: u64,
}

impl Consumer {
    /// What is to be written.
    pub(crate) fn keep(&self, cx: &Cx<'_>) -> Vec<u8> {
        let place = |place: Place| (place.consumer, place.stream);
        let wait = |pending: &Pending| {
            if pending.queued { 0 } else { nanos(pending.again_at.since(cx.now.mono)) }
        };
        json::write(&Kept {
            name: self.name.clone(),
            created: self.created,
            config: (*self.config).clone(),
            cursor: self.cursor,
            next_delivery: self.next_delivery,
            delivered: place(self.delivered),
            delivered_at: self.delivered_at,
            floor: place(self.floor),
            acked_at: self.acked_at,
            pending: self.pending.iter().map(|(seq, it)| (*seq, it.delivery, wait(it))).collect(),
            again: self.again.iter().map(|(seq, count)| (*seq, *count)).collect(),
            skip: self.skip.iter().copied().collect(),
            resume: self.resume,
        })
    }

    /// A consumer that was kept. `None` if the text is none.
    pub(crate) fn revive(
        text: &[u8],
        id: u32,
        stream_id: u32,
        stream_name: &str,
        log: &dyn Log,
        cx: &Cx<'_>,
    ) -> Option<Self> {
        let kept: Kept = serde_json::from_slice(text).ok()?;
        let place = |(consumer, stream)| Place { consumer, stream };
        let mut consumer = Self::new(id, stream_id, stream_name, &kept.name, kept.config, cx);
        consumer.created = kept.created;
        consumer.cursor = kept.cursor.max(1);
        consumer.next_delivery = kept.next_delivery.max(1);
        (consumer.delivered, consumer.delivered_at) = (place(kept.delivered), kept.delivered_at);
        (consumer.floor, consumer.acked_at) = (place(kept.floor), kept.acked_at);
        for (seq, delivery, wait) in kept.pending {
            let again_at = cx.now.mono + duration(wait);
            let pending = Pending { delivery, again_at, sent: kept.delivered_at, queued: false };
            consumer.pending.insert(seq, pending);
        }
        consumer.again = kept.again.into_iter().collect();
        consumer.skip = kept.skip.into();
        consumer.resume = kept.resume;
        consumer.unsaved = false;
        consumer.on_purged(log);
        Some(consumer)
    }
}

fn nanos(wait: std::time::Duration) -> Nanos {
    Nanos::try_from(wait.as_nanos()).unwrap_or(Nanos::MAX)
}
