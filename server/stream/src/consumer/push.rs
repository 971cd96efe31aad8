//! Messages that come without being asked for: to whom, how fast, and how one knows that it is still there.
//!
//! Source: reference 3.14; nats-server's `consumer.go` (`needFlowControl`, `processFlowControl`, `sendIdleHeartbeat`).

use std::time::Duration;

use bytes::Bytes;

use super::Consumer;
use crate::config::{AckPolicy, ConsumerConfig};
use crate::cx::Cx;
use crate::headers;
use crate::seam::What;
use crate::time::{Instant, duration};

/// Bytes that may be under way without an answer, at most.
const WINDOW_MAX: usize = 32 * 1024 * 1024;
/// The first window.
const WINDOW_MIN: usize = WINDOW_MAX / 16;
/// A burst that a rate limit allows, in bytes: the largest message.
const BURST: u64 = 1024 * 1024;

/// What a push consumer keeps besides.
#[derive(Debug)]
pub(crate) struct Push {
    /// Where it delivers.
    pub(super) subject: Bytes,
    /// Somebody subscribes to where it delivers.
    pub(super) active: bool,
    /// That is known.
    pub(super) known: bool,
    /// Who made it, would have, or asks about it, and is told once that is known.
    pub(super) owed: Vec<Owed>,
    /// They are told in these outputs, and what it delivers comes in the next: who made it hears of that first, however
    /// much there is to deliver.
    pub(super) told: bool,
    /// Bytes under way, and how many there may be; 0: any number.
    pub(super) under_way: usize,
    pub(super) window: usize,
    /// The question that has not been answered, and the bytes that its answer is about.
    pub(super) question: Option<(String, usize)>,
    /// How often to say that it is alive, and when next.
    pub(super) heartbeat: Option<(Duration, Instant)>,
    /// When the rate limit allows the next message.
    pub(super) rate_at: Instant,
}

/// Somebody who waits for an answer.
#[derive(Debug)]
pub(super) struct Owed {
    reply: Box<[u8]>,
    header: Bytes,
    /// What was asked.
    kind: &'static str,
}

impl Push {
    pub(super) fn new(config: &ConsumerConfig) -> Self {
        Self {
            subject: config.deliver_subject.clone().into(),
            active: false,
            known: false,
            owed: Vec::new(),
            told: false,
            under_way: 0,
            window: if config.flow_control { WINDOW_MIN } else { 0 },
            question: None,
            heartbeat: (config.is_push() && config.idle_heartbeat > 0)
                .then(|| (duration(config.idle_heartbeat), Instant::default())),
            rate_at: Instant::default(),
        }
    }
}

impl Consumer {
    pub(super) fn watch_push(&self, cx: &mut Cx<'_>) {
        if self.config.is_push() {
            cx.watch_group(&self.config.deliver_subject, &self.config.deliver_group, self.tag(What::Push));
        }
    }

    pub(super) fn unwatch_push(&self, cx: &mut Cx<'_>) {
        if self.config.is_push() {
            cx.unwatch(self.config.deliver_subject.as_bytes(), self.tag(What::Push));
        }
    }

    /// Somebody subscribes to where it delivers, or nobody does any more.
    pub(crate) fn on_push_interest(&mut self, subject: &[u8], exists: bool, cx: &mut Cx<'_>) {
        if subject != self.config.deliver_subject.as_bytes() {
            return;
        }
        let changed = self.push.active != exists;
        (self.push.active, self.push.known) = (exists, true);
        self.answer_owed(cx);
        if !changed {
            return;
        }
        self.idle_since = cx.now.mono;
        self.touched = true;
        if exists {
            self.beat_later(cx.now.mono);
            // Whoever comes now knows of no question that was open.
            self.push.under_way = 0;
            self.push.question = None;
        }
    }

    /// Keeps the answer to whoever made it, or asks about it, until it is known whether somebody listens, which the answer
    /// tells. False if that is known, or doesn't matter.
    pub(crate) fn answer_later(&mut self, kind: &'static str, reply: &[u8], header: Bytes) -> bool {
        let later = self.config.is_push() && !self.push.known;
        if later {
            self.push.owed.push(Owed { reply: reply.into(), header, kind });
        }
        later
    }

    /// Tells those who wait what is known.
    pub(super) fn answer_owed(&mut self, cx: &mut Cx<'_>) {
        for Owed { reply, header, kind } in std::mem::take(&mut self.push.owed) {
            let text = crate::api::write(kind, None, self.info(cx.now.wall));
            cx.answer_with(&reply, header, text);
            self.push.told = true;
        }
    }

    pub(crate) fn is_bound(&self) -> bool {
        self.config.is_push() && self.push.active
    }

    /// True if nothing more may be under way.
    pub(super) fn is_stalled(&self) -> bool {
        self.push.window > 0 && self.push.under_way > self.push.window
    }

    pub(super) fn beat_later(&mut self, now: Instant) {
        if let Some((every, next)) = &mut self.push.heartbeat {
            *next = now + *every;
        }
    }

    /// Counts `bytes` that were sent, and asks whether they arrived once they are many.
    pub(super) fn count_flow(&mut self, bytes: usize, cx: &mut Cx<'_>) {
        let limit = self.config.rate_limit_bps / 8;
        let takes =
            |bytes: u64| bytes.saturating_mul(1_000_000).checked_div(limit).map(Duration::from_micros);
        if let (Some(cost), Some(burst)) = (takes(bytes as u64), takes(BURST)) {
            // A limiter that was idle has saved up no more than a burst.
            let full = Instant::from_micros(
                cx.now.mono.as_micros().saturating_sub(u64::try_from(burst.as_micros()).unwrap_or(u64::MAX)),
            );
            self.push.rate_at = self.push.rate_at.max(full) + cost;
        }
        if self.push.window == 0 {
            return;
        }
        self.push.under_way += bytes;
        let acks = self.config.ack_policy == AckPolicy::FlowControl
            && i64::try_from(self.pending.len()).is_ok_and(|len| len >= self.config.max_ack_pending);
        match &mut self.push.question {
            None if self.push.under_way > self.push.window / 2 || acks => self.ask(cx),
            Some((_, about)) if self.push.under_way - *about >= self.push.window => *about += bytes,
            _ => {}
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>) {
        let front = if cx.long_acks { &*self.place } else { "" };
        let reply = format!("$JS.FC.{front}{}.{}.{}", self.stream_name, self.name, cx.random.name(4));
        let publish = crate::seam::Publish {
            account: cx.account,
            subject: self.push.subject.clone(),
            reply: Some(reply.clone().into()),
            header: Bytes::from_static(b"NATS/1.0 100 FlowControl Request\r\n\r\n"),
            ..Default::default()
        };
        self.push.question = Some((reply, self.push.under_way));
        cx.out.push(crate::seam::Output::Publish(publish));
    }

    /// An answer to flow control.
    pub(crate) fn on_flow(&mut self, subject: &[u8], header: &[u8], cx: &mut Cx<'_>) {
        match self.push.question.take_if(|(asked, _)| asked.as_bytes() == subject) {
            None => return,
            Some((_, about)) => {
                self.push.window = (self.push.window * 2).min(WINDOW_MAX);
                self.push.under_way = self.push.under_way.saturating_sub(about);
            }
        }
        self.touched = true;
        if self.config.ack_policy == AckPolicy::FlowControl
            && let Some(Some(stream)) = headers::number(header, "Nats-Last-Stream")
        {
            let consumer = headers::number(header, "Nats-Last-Consumer").flatten().unwrap_or(0);
            self.acknowledge(stream, consumer, 1, false, cx);
        }
    }

    /// Says that it is alive, to a subscriber or to a request.
    pub(super) fn beat(&self, subject: &[u8], cx: &mut Cx<'_>) {
        let (consumer, stream) = (self.next_delivery - 1, self.cursor.saturating_sub(1));
        let mut lines = format!("Nats-Last-Consumer: {consumer}\r\nNats-Last-Stream: {stream}\r\n");
        if let Some((question, _)) = &self.push.question {
            lines.push_str(&format!("Nats-Consumer-Stalled: {question}\r\n"));
        }
        cx.status(subject, "100 Idle Heartbeat", &lines);
    }

    /// A heartbeat of a push consumer is due.
    pub(super) fn beat_push(&mut self, cx: &mut Cx<'_>) {
        let due = self.push.heartbeat.is_some_and(|(_, next)| next <= cx.now.mono);
        if !due || !self.push.active {
            return;
        }
        self.beat(self.config.deliver_subject.clone().as_bytes(), cx);
        if self.config.ack_policy == AckPolicy::FlowControl
            && !self.pending.is_empty()
            && self.push.question.is_none()
        {
            self.ask(cx);
        }
        self.beat_later(cx.now.mono);
    }
}
