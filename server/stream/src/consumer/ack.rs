//! What clients answer to messages.
//!
//! Source: reference 3.14; nats-server's `consumer.go` (`processAck`, `processAckMsg`, `processNak`, `processTerm`,
//! `moveAckFloor`).

use serde::{Deserialize, Serialize};

use super::kept::Step;
use super::{Consumer, Death, Place};
use crate::config::AckPolicy;
use crate::cx::Cx;
use crate::seam::Promise;
use crate::time::{Nanos, parse_go_duration};

/// The numbers in the subject that a message is acknowledged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Acked {
    count: u64,
    stream: u64,
    consumer: u64,
}

impl Acked {
    /// `$JS.ACK.<stream>.<consumer>.<count>.<stream seq>.<consumer seq>.<time>.<pending>`, or with domain and account in
    /// front of the stream, and perhaps more behind.
    fn read(subject: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(subject).ok()?;
        let front = if text.split('.').count() > 9 { 6 } else { 4 };
        let mut numbers = text.split('.').skip(front).map(str::parse::<u64>);
        let mut number = || numbers.next().and_then(Result::ok);
        let acked = Self { count: number()?, stream: number()?, consumer: number()? };
        (acked.stream > 0).then_some(acked)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NakOptions {
    delay: Nanos,
}

impl Consumer {
    /// Somebody answers.
    pub(crate) fn on_ack(&mut self, subject: &[u8], reply: Option<&[u8]>, payload: &[u8], cx: &mut Cx<'_>) {
        let Some(Acked { count, stream, consumer }) = Acked::read(subject) else { return };
        self.idle_since = cx.now.mono;
        let answered = match payload {
            [] | b"+ACK" | b"+OK" => self.acknowledge(stream, consumer, count, true, cx),
            [b'+', b'N', b'X', b'T', request @ ..] => {
                self.acknowledge(stream, consumer, count, true, cx);
                if let Some(reply) = reply {
                    self.on_next(reply, b"", request, cx);
                }
                false
            }
            [b'-', b'N', b'A', b'K', options @ ..] => {
                self.refuse(stream, consumer, count, options, cx);
                true
            }
            b"+WPI" => {
                self.extend(stream, cx);
                true
            }
            [b'+', b'T', b'E', b'R', b'M', reason @ ..] => {
                let was_open = self.pending.contains_key(&stream);
                let answered = self.acknowledge(stream, consumer, count, false, cx);
                let reason = String::from_utf8_lossy(reason.trim_ascii());
                if was_open {
                    let reason = match reason.is_empty() {
                        true => "terminated".to_owned(),
                        false => format!("terminated: {reason}"),
                    };
                    self.deaths.push(Death { seq: stream, reason, count });
                }
                self.event_terminated(stream, consumer, count, &reason, cx);
                answered
            }
            _ => true,
        };
        if let (true, Some(reply)) = (answered, reply) {
            cx.out.promise();
            cx.promise(reply, "", Promise::Acked(self.id));
        }
    }

    /// A message was dealt with. False if it can't have been, so that nobody is told.
    pub(super) fn acknowledge(
        &mut self,
        stream: u64,
        consumer: u64,
        count: u64,
        sample: bool,
        cx: &mut Cx<'_>,
    ) -> bool {
        if stream >= self.cursor && !self.config.flow_control && !self.pending.contains_key(&stream) {
            return false;
        }
        match self.config.ack_policy {
            AckPolicy::None => {}
            AckPolicy::Explicit => {
                if let Some(pending) = self.pending.remove(&stream) {
                    if sample {
                        self.event_acked(stream, consumer, count, pending.sent, cx);
                    }
                    self.move_floor(pending.delivery, stream);
                }
                // One that is not delivered again may be done with later, too.
                self.settled.push(stream);
                self.again.remove(&stream);
                self.journal.step(Step::Done { seq: stream });
            }
            AckPolicy::All | AckPolicy::FlowControl => {
                if consumer <= self.floor.consumer || stream <= self.floor.stream {
                    return true;
                }
                let rest = self.pending.split_off(&(stream + 1));
                let acked = std::mem::replace(&mut self.pending, rest);
                self.again = self.again.split_off(&(stream + 1));
                self.settled.extend(acked.into_keys());
                self.floor = Place { consumer, stream };
                self.journal.step(Step::DoneUpTo { consumer, stream });
            }
        }
        self.acked_at = cx.now.wall;
        self.touched = true;
        true
    }

    /// A message is not pending any more: the floor may rise.
    pub(super) fn move_floor(&mut self, delivery: u64, stream: u64) {
        if self.pending.is_empty() {
            self.floor = self.delivered;
        } else if delivery == self.floor.consumer + 1 {
            let next = self.pending.range(stream + 1..).next();
            self.floor = next.map_or(Place { consumer: delivery, stream }, |(seq, pending)| Place {
                consumer: pending.delivery.saturating_sub(1).max(delivery),
                stream: seq - 1,
            });
        }
    }

    /// The client doesn't want it now.
    fn refuse(&mut self, stream: u64, consumer: u64, count: u64, options: &[u8], cx: &mut Cx<'_>) {
        if consumer <= self.floor.consumer || consumer > self.next_delivery {
            return;
        }
        let Some(pending) = self.pending.get_mut(&stream) else { return };
        let options = options.trim_ascii();
        let delay = if options.first() == Some(&b'{') {
            crate::json::read_loose(options).ok().map(|NakOptions { delay }| delay)
        } else {
            std::str::from_utf8(options).ok().and_then(parse_go_duration)
        };
        match delay.filter(|delay| *delay > 0) {
            Some(delay) => {
                pending.queued = false;
                pending.again_at = cx.now.after(delay);
                self.expect_ack(cx.now.after(delay));
            }
            None if !pending.queued => {
                pending.queued = true;
                self.queue.push_back(stream);
            }
            None => {}
        }
        // A restart forgets the delay: the message goes again after the usual time.
        self.touched = true;
        let name = format!("$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.{}.{}", self.stream_name, self.name);
        let body = MessageEvent {
            stream: &self.stream_name,
            consumer: &self.name,
            consumer_seq: consumer,
            stream_seq: stream,
            deliveries: count,
            reason: "",
        };
        cx.event(&name, "io.nats.jetstream.advisory.v1.nak", body);
    }

    /// The client works on it, and needs more time.
    fn extend(&mut self, stream: u64, cx: &Cx<'_>) {
        let wait = self.ack_wait(self.again.get(&stream).copied().unwrap_or(0));
        if let Some(pending) = self.pending.get_mut(&stream) {
            pending.again_at = cx.now.after(wait);
            pending.sent = cx.now.wall;
            self.expect_ack(cx.now.after(wait));
            self.touched = true;
        }
    }

    /// True if a message that went `count` times may not go again.
    pub(super) fn is_exhausted(&self, count: u64) -> bool {
        u64::try_from(self.config.max_deliver).is_ok_and(|most| count >= most)
    }

    /// A message went as often as it may, `count` times.
    pub(super) fn give_up(&mut self, stream: u64, count: u64, cx: &mut Cx<'_>) {
        // The floor stays below it until something else is acknowledged, as it does in nats-server.
        if self.pending.remove(&stream).is_none() {
            return;
        }
        // Remembered, so that interest streams keep it.
        self.again.entry(stream).or_insert(1);
        self.journal.step(Step::Exhausted { seq: stream });
        self.deaths.push(Death { seq: stream, reason: "max_deliver".to_owned(), count });
        self.touched = true;
        let name = format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{}.{}", self.stream_name, self.name);
        let body = ExceededEvent {
            stream: &self.stream_name,
            consumer: &self.name,
            stream_seq: stream,
            deliveries: count,
        };
        cx.event(&name, "io.nats.jetstream.advisory.v1.max_deliver", body);
    }

    pub(super) fn event_terminated(
        &self,
        stream: u64,
        consumer: u64,
        count: u64,
        reason: &str,
        cx: &mut Cx<'_>,
    ) {
        let name = format!("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{}.{}", self.stream_name, self.name);
        let body = MessageEvent {
            stream: &self.stream_name,
            consumer: &self.name,
            consumer_seq: consumer,
            stream_seq: stream,
            deliveries: count,
            reason,
        };
        cx.event(&name, "io.nats.jetstream.advisory.v1.terminated", body);
    }

    fn event_acked(&self, stream: u64, consumer: u64, count: u64, sent: Nanos, cx: &mut Cx<'_>) {
        let percent = crate::config::sample_percent(&self.config).unwrap_or(0);
        if percent == 0 || cx.random.next() % 100 >= percent {
            return;
        }
        let name = format!("$JS.EVENT.METRIC.CONSUMER.ACK.{}.{}", self.stream_name, self.name);
        let body = AckedEvent {
            stream: &self.stream_name,
            consumer: &self.name,
            consumer_seq: consumer,
            stream_seq: stream,
            ack_time: cx.now.wall - sent,
            deliveries: count,
        };
        cx.event(&name, "io.nats.jetstream.metric.v1.consumer_ack", body);
    }
}

#[derive(Serialize)]
struct MessageEvent<'a> {
    stream: &'a str,
    consumer: &'a str,
    consumer_seq: u64,
    stream_seq: u64,
    deliveries: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

#[derive(Serialize)]
struct ExceededEvent<'a> {
    stream: &'a str,
    consumer: &'a str,
    stream_seq: u64,
    deliveries: u64,
}

#[derive(Serialize)]
struct AckedEvent<'a> {
    stream: &'a str,
    consumer: &'a str,
    consumer_seq: u64,
    stream_seq: u64,
    ack_time: Nanos,
    deliveries: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_read() {
        let acked = Acked::read(b"$JS.ACK.S.C.2.7.9.1795220540244149815.3");
        assert_eq!(acked, Some(Acked { count: 2, stream: 7, consumer: 9 }));
        let long = Acked::read(b"$JS.ACK._.hash.S.C.2.7.9.1795220540244149815.3.random");
        assert_eq!(long, acked);
        for bad in ["$JS.ACK.S.C", "$JS.ACK.S.C.1.0.1.1.1", "$JS.ACK.S.C.x.1.1.1.1", ""] {
            assert_eq!(Acked::read(bad.as_bytes()), None, "{bad}");
        }
    }
}
