//! Which message goes next, and to whom.
//!
//! Source: nats-server's `consumer.go` (`getNextMsg`, `loopAndGatherMsgs`, `deliverMsg`).

use bytes::Bytes;
use midge_protocol::emit::Digits;

use super::Consumer;
use super::kept::Step;
use crate::config::{AckPolicy, PriorityPolicy};
use crate::cx::Cx;
use crate::headers;
use crate::log::{Log, Parts, Stored};
use crate::seam::{Output, Publish, Receipt, What};
use crate::time::{MILLISECOND, Nanos, duration};

/// What holds a consumer back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocked {
    /// There is nothing more.
    End,
    /// Acknowledgements, a subscriber, a request, or time.
    Waits,
}

/// A message that is to go next.
struct Next {
    message: Stored,
    /// Which time it goes.
    count: u64,
    fresh: bool,
}

impl Consumer {
    /// Sends what can be sent. False if more can, once outputs have been taken.
    pub(crate) fn pump(&mut self, log: &dyn Log, cx: &mut Cx<'_>) -> bool {
        self.touched = std::mem::take(&mut self.push.told);
        if self.touched {
            return false;
        }
        self.take_back();
        self.drop_gone(cx);
        loop {
            if cx.out.is_full() {
                self.touched = true;
                return false;
            }
            match self.send_one(log, cx) {
                Ok(()) => self.hold_replay(log, cx),
                Err(Blocked::End) => {
                    self.end_of_stream(cx);
                    break;
                }
                Err(Blocked::Waits) => {
                    // Those that don't wait don't wait for the end of a pause either.
                    if self.paused_until(cx.now.wall).is_some() {
                        self.end_of_stream(cx);
                    }
                    break;
                }
            }
        }
        self.watch_requests(cx);
        true
    }

    /// The last messages that went and that nobody took have never gone.
    fn take_back(&mut self) {
        while let Some((seq, last)) = self.pending.last_key_value().map(|(seq, last)| (*seq, *last)) {
            let newest = last.delivery + 1 == self.next_delivery && seq + 1 == self.cursor;
            if !last.lost || !newest || self.again.contains_key(&seq) {
                return;
            }
            self.pending.remove(&seq);
            self.next_delivery = last.delivery;
            self.cursor = seq;
            self.unseen += 1;
            let before = self.pending.last_key_value().map_or(self.floor.stream, |(seq, _)| *seq);
            self.delivered = super::Place { consumer: last.delivery - 1, stream: before };
            self.changed();
        }
    }

    fn may_send(&self, cx: &Cx<'_>) -> Result<(), Blocked> {
        let waits = self.paused_until(cx.now.wall).is_some()
            || self.replay.is_some_and(|replay| replay.hold > cx.now.mono)
            || if self.config.is_push() {
                !self.push.active || self.is_stalled() || self.push.rate_at > cx.now.mono
            } else {
                self.pull.waiting.is_empty()
            };
        if waits { Err(Blocked::Waits) } else { Ok(()) }
    }

    fn send_one(&mut self, log: &dyn Log, cx: &mut Cx<'_>) -> Result<(), Blocked> {
        self.may_send(cx)?;
        let next = match self.next_again(log, cx) {
            Some(next) => next,
            None => self.next_fresh(log, cx)?,
        };
        let Next { message, count, fresh } = next;
        let (seq, time) = (message.seq, message.time);
        let unseen = self.unseen.saturating_sub(u64::from(fresh));
        let reply = self.ack_subject(seq, time, count, unseen, cx);
        let Parts { subject: shown, mut header, mut payload } = message.into_parts();
        if self.config.headers_only {
            header = headers::with(&header, headers::MSG_SIZE, &payload.len().to_string()).into();
            payload = Bytes::new();
        }
        let size = shown.len() + reply.len() + header.len() + payload.len();
        let served = match self.config.is_push() {
            true => None,
            false => Some(self.choose_request(size, !fresh, cx).ok_or(Blocked::Waits)?),
        };
        if let (PriorityPolicy::PinnedClient, Some(pin)) = (self.config.priority_policy, &self.pull.pin) {
            header = headers::with(&header, headers::PIN_ID, &pin.id).into();
        }
        let subject = match &served {
            Some(served) => served.reply.clone(),
            None => self.push.subject.clone(),
        };
        self.note_sent(seq, count, fresh, cx);
        let bytes = subject.len() + reply.len() + header.len() + payload.len();
        cx.out.push(Output::Publish(Publish {
            account: cx.account,
            subject,
            shown: Some(shown),
            reply: Some(reply),
            header,
            payload,
            receipt: Some(Receipt { tag: self.tag(What::Next), seq }),
            ..Publish::default()
        }));
        match served {
            Some(served) if served.done && served.bytes > 0 => {
                let rest = super::pull::rest_lines(served.left, served.bytes);
                cx.status(&served.reply, "409 Batch Completed", &rest);
            }
            Some(_) => {}
            None => {
                self.beat_later(cx.now.mono);
                self.count_flow(bytes, cx);
            }
        }
        if let Some(replay) = &mut self.replay {
            replay.last = time;
        }
        Ok(())
    }

    /// The next of those that go again.
    fn next_again(&mut self, log: &dyn Log, cx: &mut Cx<'_>) -> Option<Next> {
        while let Some(seq) = self.queue.front().copied() {
            let queued = self.pending.get(&seq).filter(|pending| pending.queued);
            let Some(delivery) = queued.map(|pending| pending.delivery) else {
                self.queue.pop_front();
                continue;
            };
            let count = self.again.get(&seq).copied().unwrap_or(0) + 2;
            if self.is_exhausted(count - 1) {
                self.queue.pop_front();
                self.give_up(seq, count - 1, cx);
                continue;
            }
            match log.get(seq) {
                Ok(Some(message)) => return Some(Next { message, count, fresh: false }),
                _ => {
                    self.tell_damage(seq, log, cx);
                    self.queue.pop_front();
                    self.pending.remove(&seq);
                    self.again.remove(&seq);
                    self.move_floor(delivery, seq);
                    self.journal.step(Step::Done { seq });
                }
            }
        }
        None
    }

    /// The next of those that have never gone.
    fn next_fresh(&mut self, log: &dyn Log, cx: &mut Cx<'_>) -> Result<Next, Blocked> {
        let most = self.config.max_ack_pending;
        if most > 0 && i64::try_from(self.pending.len()).is_ok_and(|len| len >= most) {
            return Err(Blocked::Waits);
        }
        while let Some(seq) = self.skip.front().copied() {
            match log.get(seq) {
                Ok(Some(message)) => return Ok(Next { message, count: 1, fresh: true }),
                _ => {
                    self.tell_damage(seq, log, cx);
                    self.skip_done();
                }
            }
        }
        loop {
            let Some((seq, message)) = log.get_next(self.cursor, &self.filters) else {
                // What lies between is of no interest to it.
                self.cursor = self.cursor.max(log.state().last_seq + 1);
                self.unseen = 0;
                return Err(Blocked::End);
            };
            match message {
                Ok(Some(message)) => {
                    self.cursor = seq;
                    return Ok(Next { message, count: 1, fresh: true });
                }
                // What can't be read can't be sent.
                _ => {
                    self.tell_damage(seq, log, cx);
                    self.unseen = self.unseen.saturating_sub(1);
                    self.cursor = seq + 1;
                }
            }
        }
    }

    /// A message is passed over. Nobody is to believe that there was none.
    fn tell_damage(&self, seq: u64, log: &dyn Log, cx: &mut Cx<'_>) {
        if !log.is_damaged(seq) {
            return;
        }
        let (stream, name) = (&self.stream_name, &self.name);
        cx.out.complain(format!("consumer {stream} > {name} passes over message {seq}, which is damaged"));
        let subject = format!("$JS.EVENT.ADVISORY.CONSUMER.MSG_DAMAGED.{stream}.{name}");
        let body = serde_json::json!({ "stream": stream, "consumer": name, "stream_seq": seq });
        cx.event(&subject, "io.midge.jetstream.advisory.v1.damaged", body);
    }

    /// The first of the messages to begin with is done.
    pub(super) fn skip_done(&mut self) {
        let seq = self.skip.pop_front().unwrap_or(0);
        self.cursor = if self.skip.is_empty() { self.resume.max(seq) + 1 } else { seq + 1 };
    }

    /// A message goes out now.
    fn note_sent(&mut self, seq: u64, count: u64, fresh: bool, cx: &Cx<'_>) {
        self.journal.step(Step::Sent { seq, count, at: cx.now.wall });
        self.idle_since = cx.now.mono;
        if fresh {
            self.unseen = self.unseen.saturating_sub(1);
        } else {
            self.queue.pop_front();
        }
        self.advance(seq, count, cx.now.wall, cx.now.mono);
        if self.config.ack_policy == AckPolicy::None {
            self.settled.push(seq);
        }
    }

    /// How a message is acknowledged.
    fn ack_subject(&self, seq: u64, time: Nanos, count: u64, unseen: u64, cx: &mut Cx<'_>) -> Bytes {
        let time = u64::try_from(time).unwrap_or(0);
        let [count, seq, delivery, time, unseen] =
            [count, seq, self.next_delivery, time, unseen].map(Digits::new);
        cx.out.text(&[
            &self.ack_prefix,
            count.as_bytes(),
            b".",
            seq.as_bytes(),
            b".",
            delivery.as_bytes(),
            b".",
            time.as_bytes(),
            b".",
            unseen.as_bytes(),
        ])
    }

    /// Nobody took a message: it goes again, and that it went doesn't count.
    pub(crate) fn on_lost(&mut self, seq: u64, subject: &[u8], cx: &mut Cx<'_>) {
        match self.again.get_mut(&seq) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                self.again.remove(&seq);
            }
            None => {}
        }
        if self.config.is_push() {
            self.on_push_interest(self.config.deliver_subject.clone().as_bytes(), false, cx);
        } else {
            self.void_request(subject, cx);
        }
        if let Some(pending) = self.pending.get_mut(&seq)
            && !pending.queued
        {
            (pending.queued, pending.lost) = (true, true);
            self.queue.push_back(seq);
        }
        self.touched = true;
        self.changed();
    }

    /// With "original" replay: holds the message behind the one that was just sent until its time.
    fn hold_replay(&mut self, log: &dyn Log, cx: &Cx<'_>) {
        let Some(replay) = &mut self.replay else { return };
        if self.cursor > replay.until {
            self.replay = None;
            return;
        }
        let next = log.next(self.cursor, &self.filters).and_then(|seq| log.get(seq).ok().flatten());
        if let Some(next) = next.filter(|_| replay.last > 0) {
            let delay = next.time - replay.last;
            if delay > MILLISECOND && replay.hold <= cx.now.mono {
                replay.hold = cx.now.mono + duration(delay);
            }
        }
    }
}
