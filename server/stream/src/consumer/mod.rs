//! One reader's place in a stream: what it was sent, what it has acknowledged, who waits for more.
//!
//! ```text
//!            floor                    cursor
//!              v                        v
//!    … 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 …      the stream's numbers
//!                ^     ^^
//!                pending: sent, not acknowledged;   what is over time, or refused, goes into the queue again
//! ```
//!
//! `request` reads what clients ask, `deliver` decides what goes to whom, `ack` what an answer means, `watch` what
//! happens as time passes. A consumer knows no other consumer; what an acknowledgement does to the stream is told to it
//! by [`Consumer::take_settled`].

mod ack;
mod deliver;
mod info;
mod kept;
mod packed;
mod pull;
mod push;
mod start;
mod state;
mod tick;
mod update;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(crate) use info::Info;
use kept::{Journal, Step};
use pull::Pull;
use push::Push;
pub(crate) use state::ConsumerState;
pub(crate) use tick::Alive;

use crate::config::{AckPolicy, ConsumerConfig, ReplayPolicy};
use crate::cx::Cx;
use crate::log::{Filters, Log};
use crate::seam::{Tag, What};
use crate::time::{Instant, Nanos, SECOND, duration};

/// How long an ephemeral consumer may be idle, unless it is said.
pub(crate) const INACTIVE: Nanos = 5 * SECOND;

/// When a message goes again that doesn't.
const NEVER: Instant = Instant::from_micros(u64::MAX);

/// A message that was sent and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Which delivery it was, the first time.
    delivery: u64,
    /// When it is sent again.
    again_at: Instant,
    /// When it was sent, in ns since the Unix epoch.
    sent: Nanos,
    /// It waits in the queue to be sent again.
    queued: bool,
    /// Nobody took it.
    lost: bool,
}

/// A delivery and a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) consumer: u64,
    pub(crate) stream: u64,
}

/// A consumer of a stream.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) id: u32,
    pub(crate) stream_id: u32,
    pub(crate) stream_name: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) config: Box<ConsumerConfig>,
    pub(crate) created: Nanos,
    filters: Filters,
    /// `<domain>.<account>.`, what longer subjects of acks and flow control have in front of the stream.
    place: Arc<str>,
    /// `$JS.ACK.<stream>.<name>.`, or with the place in front of the stream.
    ack_prefix: Box<[u8]>,
    /// The number of the next message to look at.
    cursor: u64,
    /// The number of the next delivery.
    next_delivery: u64,
    /// The last that was sent.
    delivered: Place,
    delivered_at: Nanos,
    /// Everything up to here is acknowledged.
    floor: Place,
    acked_at: Nanos,
    pending: BTreeMap<u64, Pending>,
    /// None of them goes again before this; `None`: none at all.
    again_from: Option<Instant>,
    /// How often messages were sent again.
    again: BTreeMap<u64, u64>,
    /// Messages to be sent again, in this order. Those that are not pending any more are passed over.
    queue: VecDeque<u64>,
    /// With "last per subject": the messages to begin with.
    skip: VecDeque<u64>,
    /// Where to go on once they are sent.
    resume: u64,
    /// Messages from the cursor on that are wanted.
    unseen: u64,
    pull: Pull,
    push: Push,
    /// Nobody has used it since then.
    idle_since: Instant,
    /// With "original" replay: the time of the last message, and until when the next is held.
    replay: Option<Replay>,
    /// When its pause ends.
    resumes: Option<Instant>,
    /// Acknowledged messages that the stream was not told of.
    settled: Vec<u64>,
    /// Messages that it could not handle, of which the stream was not told.
    deaths: Vec<Death>,
    /// Something may be to be done for it.
    pub(crate) touched: bool,
    /// The timer that is set for it.
    pub(crate) armed: Option<Instant>,
    /// How it differs from what is on disk.
    journal: Journal,
}

/// A message that could not be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) seq: u64,
    /// `max_deliver`, or `terminated` and what the client said.
    pub(crate) reason: String,
    /// How often it was delivered.
    pub(crate) count: u64,
}

#[derive(Clone, Copy, Debug)]
struct Replay {
    last: Nanos,
    until: u64,
    hold: Instant,
}

impl Consumer {
    /// A new consumer, which has not begun: see [`Consumer::start`].
    pub(crate) fn new(
        id: u32,
        stream_id: u32,
        stream_name: &str,
        name: &str,
        config: ConsumerConfig,
        cx: &Cx<'_>,
    ) -> Self {
        let filters = Filters::new(config.filters());
        let place = cx.space.map_or_else(|| Arc::from("_._."), |space| Arc::clone(&space.place));
        let front = if cx.long_acks { &*place } else { "" };
        let replay = (config.replay_policy == ReplayPolicy::Original).then(|| Replay {
            last: 0,
            until: 0,
            hold: Instant::default(),
        });
        Self {
            id,
            stream_id,
            stream_name: stream_name.into(),
            name: name.into(),
            push: Push::new(&config),
            config: Box::new(config),
            created: cx.now.wall,
            filters,
            ack_prefix: format!("$JS.ACK.{front}{stream_name}.{name}.").into_bytes().into(),
            place,
            cursor: 1,
            next_delivery: 1,
            delivered: Place::default(),
            delivered_at: 0,
            floor: Place::default(),
            acked_at: 0,
            pending: BTreeMap::new(),
            again_from: None,
            again: BTreeMap::new(),
            queue: VecDeque::new(),
            skip: VecDeque::new(),
            resume: 0,
            unseen: 0,
            pull: Pull::default(),
            idle_since: cx.now.mono,
            replay,
            resumes: None,
            settled: Vec::new(),
            deaths: Vec::new(),
            touched: true,
            armed: None,
            journal: Journal::new(),
        }
    }

    /// The subjects that it needs messages on, each with its tag.
    fn subscriptions(&self) -> Vec<(String, Tag)> {
        let (stream, name) = (&self.stream_name, &self.name);
        let mut list = vec![
            (format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"), self.tag(What::Next)),
            (format!("$JS.API.CONSUMER.RESET.{stream}.{name}"), self.tag(What::Reset)),
        ];
        let place = &self.place;
        if !matches!(self.config.ack_policy, AckPolicy::None | AckPolicy::FlowControl) {
            list.push((format!("$JS.ACK.{stream}.{name}.*.*.*.*.*"), self.tag(What::Ack)));
            list.push((format!("$JS.ACK.{place}{stream}.{name}.*.*.*.*.>"), self.tag(What::Ack)));
        }
        if self.config.flow_control {
            list.push((format!("$JS.FC.{stream}.{name}.*"), self.tag(What::Flow)));
            list.push((format!("$JS.FC.{place}{stream}.{name}.*"), self.tag(What::Flow)));
        }
        list
    }

    /// Its life begins now.
    pub(crate) fn begin(&mut self, cx: &mut Cx<'_>) {
        self.arm_pause(cx);
        if self.resumes.is_some() {
            self.event_paused(cx);
        }
    }

    /// Makes it hear.
    pub(crate) fn subscribe(&mut self, cx: &mut Cx<'_>) {
        for (filter, tag) in self.subscriptions() {
            cx.subscribe(filter, tag);
        }
        self.watch_push(cx);
    }

    /// Ends it: nobody hears of it again.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_>) {
        for (filter, tag) in self.subscriptions() {
            cx.unsubscribe(filter, tag);
        }
        self.unwatch_push(cx);
        self.answer_owed(cx);
        self.dismiss_requests("409 Consumer Deleted", false, cx);
    }

    pub(crate) fn tag(&self, what: What) -> Tag {
        Tag::new(what, self.stream_id, self.id)
    }

    pub(crate) fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Messages that were acknowledged since the last call.
    pub(crate) fn take_settled(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.settled)
    }

    /// Messages that it could not handle since the last call.
    pub(crate) fn take_deaths(&mut self) -> Vec<Death> {
        std::mem::take(&mut self.deaths)
    }

    /// A message was stored. Ordered: `seq` is the stream's last.
    pub(crate) fn on_stored(&mut self, seq: u64, subject: &[u8]) {
        if seq >= self.cursor && self.filters.matches(subject) {
            self.unseen += 1;
            self.touched = true;
        }
    }

    /// A message went.
    pub(crate) fn on_removed(&mut self, seq: u64, subject: &[u8], cx: &mut Cx<'_>) {
        let ahead = if self.skip.is_empty() { seq >= self.cursor } else { self.is_ahead(seq) };
        if ahead && self.filters.matches(subject) {
            self.unseen = self.unseen.saturating_sub(1);
        }
        self.let_go(seq, cx);
    }

    /// Waits no more for an ack of a message that isn't there any more.
    pub(crate) fn let_go(&mut self, seq: u64, cx: &mut Cx<'_>) {
        if let Some(pending) = self.pending.remove(&seq) {
            let deliveries = self.again.remove(&seq).unwrap_or(0) + 1;
            self.move_floor(pending.delivery, seq);
            self.acked_at = cx.now.wall;
            self.journal.step(Step::Done { seq });
            self.event_terminated(
                seq,
                pending.delivery,
                deliveries,
                "Unacknowledged message was deleted",
                cx,
            );
            self.touched = true;
        } else if self.again.remove(&seq).is_some() {
            self.journal.step(Step::Done { seq });
        }
    }

    /// With a list of messages to begin with, those on it and those after it are ahead.
    fn is_ahead(&self, seq: u64) -> bool {
        seq > self.resume || self.skip.contains(&seq)
    }

    /// Counts again what is ahead.
    pub(crate) fn recount(&mut self, log: &dyn Log) {
        self.unseen = if self.skip.is_empty() {
            log.count(self.cursor, &self.filters)
        } else {
            self.skip.len() as u64 + log.count(self.resume + 1, &self.filters)
        };
    }

    /// True if it must still be sent the message, or has been and hasn't acknowledged it.
    pub(crate) fn needs(&self, seq: u64, subject: &[u8]) -> bool {
        if !self.filters.matches(subject) {
            return false;
        }
        let open = match self.config.ack_policy {
            AckPolicy::Explicit => seq >= self.cursor || self.pending.contains_key(&seq),
            AckPolicy::None | AckPolicy::All | AckPolicy::FlowControl => seq > self.floor.stream,
        };
        open || self.again.contains_key(&seq)
    }

    /// A message is pending from now on, or goes again at another time.
    fn insert_pending(&mut self, seq: u64, pending: Pending) {
        self.pending.insert(seq, pending);
        self.expect_ack(pending.again_at);
    }

    /// When [`Consumer::tick`] has something to do next.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.timers(now).into_iter().flatten().min()
    }

    /// How long it waits for an acknowledgement of a message that was sent again `again` times.
    fn ack_wait(&self, again: u64) -> Nanos {
        let backoff = &self.config.backoff;
        let step = usize::try_from(again).unwrap_or(usize::MAX).min(backoff.len().saturating_sub(1));
        backoff.get(step).copied().unwrap_or(self.config.ack_wait)
    }

    /// How long it may be unused; `None`: for ever.
    fn inactive_after(&self) -> Option<std::time::Duration> {
        let threshold = match self.config.inactive_threshold {
            0 if !self.config.is_durable() => INACTIVE,
            threshold => threshold,
        };
        (threshold > 0).then(|| duration(threshold))
    }

    /// A message goes again then, unless it is acknowledged.
    fn expect_ack(&mut self, by: Instant) {
        self.again_from = Some(self.again_from.map_or(by, |known| known.min(by)));
    }

    /// It is not to send anything until then.
    fn paused_until(&self, now: Nanos) -> Option<Nanos> {
        self.config.pause_until.filter(|until| *until > now)
    }
}
