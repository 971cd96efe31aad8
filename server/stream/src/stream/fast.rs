//! Many messages one after the other, with few acknowledgements: how often is told to the publisher.
//!
//! ```text
//!   reply  <inbox>.<batch>.<flow>.<gap>.<number>.<operation>.$FI
//!
//!   1 ──>   <── {"type":"ack","seq":0,"msgs":10}
//!   2 3 … 10 ──>   <── {"type":"ack","seq":10,"msgs":20}
//!   … last ──>   <── {"stream":"S","seq":40,"batch":"b","count":40}
//! ```
//!
//! Source: nats-server's ADR-50, `stream.go` (`getFastBatch`, `processJetStreamFastBatchMsg`) and `jetstream_batching.go`.

use std::borrow::Cow;

use serde::Serialize;

use super::Stream;
use super::batch::ID_BYTES_MAX;
use super::ingest::{Arriving, Origin, Refusal};
use super::staged::Staged;
use crate::cx::Cx;
use crate::error::{self, ApiError};
use crate::headers;
use crate::json;
use crate::log::LogError;
use crate::seam::Message;
use crate::time::Instant;

/// Ends the subjects of answers to such messages.
const SUFFIX: &[u8] = b".$FI";
/// Messages for one acknowledgement, at most, of all batches together.
const FLOW_MAX: u16 = 500;

/// A batch that is open.
#[derive(Debug)]
pub(super) struct Fast {
    /// The last number that came.
    last: u64,
    /// The last that was stored.
    stored: u64,
    /// Under this number in the stream.
    seq: u64,
    /// The number that was acknowledged last.
    told: u64,
    /// Messages for each acknowledgement, and how many the publisher allows.
    flow: u16,
    flow_max: u16,
    /// Numbers may be missing.
    gaps: bool,
    pub(super) until: Instant,
}

/// What the subject for answers says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    id: &'a str,
    flow: u16,
    gaps: bool,
    number: u64,
    operation: Operation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// Another message, the first among them.
    Add,
    /// The last message.
    Commit,
    /// The one before was the last.
    CommitBefore,
    /// What is the state?
    Ping,
}

impl<'a> Part<'a> {
    /// `None`: it is a message like any other. `Some(None)`: the subject is not as it should be.
    pub(super) fn read(reply: Option<&'a [u8]>) -> Option<Option<Self>> {
        let reply = reply?.strip_suffix(SUFFIX)?;
        Some(std::str::from_utf8(reply).ok().and_then(Self::read_text))
    }

    fn read_text(text: &'a str) -> Option<Self> {
        let mut parts = text.rsplitn(6, '.');
        let operation: u8 = parts.next()?.parse().ok()?;
        let number: u64 = parts.next()?.parse().ok().filter(|number| *number != 0 && *number != u64::MAX)?;
        let gaps = match parts.next()? {
            "ok" => true,
            "fail" => false,
            _ => return None,
        };
        let flow = parts.next()?;
        let flow = match flow.parse::<u64>() {
            Ok(flow @ 1..) => u16::try_from(flow).unwrap_or(u16::MAX),
            _ => 10,
        };
        let id = parts.next()?;
        parts.next()?;
        let operation = match operation {
            0 if number == 1 => Operation::Add,
            1 if number > 1 => Operation::Add,
            2 => Operation::Commit,
            3 if number > 1 => Operation::CommitBefore,
            4 => Operation::Ping,
            _ => return None,
        };
        Some(Self { id, flow, gaps, number, operation })
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Told<'a> {
    Ack { seq: u64, msgs: u16 },
    Gap { last_seq: u64, seq: u64 },
    Err { seq: u64, error: &'a ApiError },
}

impl Stream {
    /// Takes a message of a fast batch in. `part` is what its subject for answers says.
    pub(super) fn ingest_fast(
        &mut self,
        part: Option<Part<'_>>,
        message: &Message<'_>,
        header: &[u8],
        room: Result<(), ApiError>,
        cx: &mut Cx<'_>,
    ) -> Result<(), LogError> {
        let reply = message.reply.unwrap_or_default();
        let part = match self.open_fast(part, header, message.payload.len(), room, cx) {
            Ok(part) => part,
            Err(error) => {
                self.refuse(message.reply.filter(|_| !self.config.no_ack), &error, cx);
                return Ok(());
            }
        };
        let Some(fast) = self.batches.fast.get_mut(part.id) else { return Ok(()) };
        fast.until = cx.now.mono + cx.limits.batches.silence;
        if part.operation == Operation::Ping {
            self.ping_fast(part, reply, cx);
            return Ok(());
        }
        fast.last += 1;
        if fast.last != part.number {
            let (expected, ahead) = (fast.last, part.number > fast.last);
            let goes_on = fast.gaps && ahead;
            fast.last = if goes_on { part.number } else { fast.last - 1 };
            if ahead {
                tell(&Told::Gap { last_seq: expected, seq: part.number }, reply, cx);
            }
            if !goes_on {
                self.end_fast(part.id, reply, cx);
                return Ok(());
            }
        }
        if part.operation == Operation::CommitBefore {
            if let Some(fast) = self.batches.fast.get_mut(part.id) {
                fast.last -= 1;
                fast.stored = fast.last;
            }
            self.end_fast(part.id, reply, cx);
            return Ok(());
        }
        if part.number == 1 && part.operation == Operation::Add && !self.config.no_ack {
            let msgs = self.batches.fast.get(part.id).map_or(1, |fast| fast.flow);
            tell(&Told::Ack { seq: 0, msgs }, reply, cx);
        }
        self.store_fast(part, message, header, cx)
    }

    /// Finds or begins the batch of a message.
    fn open_fast<'a>(
        &mut self,
        part: Option<Part<'a>>,
        header: &[u8],
        payload: usize,
        room: Result<(), ApiError>,
        cx: &mut Cx<'_>,
    ) -> Result<Part<'a>, ApiError> {
        if self.config.sealed {
            return Err(error::STREAM_SEALED.error());
        }
        room?;
        if usize::try_from(self.config.max_msg_size).is_ok_and(|max| header.len() + payload > max) {
            return Err(error::STREAM_MESSAGE_EXCEEDS_MAXIMUM.error());
        }
        if !self.config.allow_batched {
            return Err(error::BATCH_PUBLISH_DISABLED.error());
        }
        let Some(part) = part else { return Err(error::BATCH_PUBLISH_INVALID_PATTERN.error()) };
        if part.id.len() > ID_BYTES_MAX {
            return Err(error::BATCH_PUBLISH_INVALID_BATCH_ID.error());
        }
        let others = self.batches.fast.len();
        if !self.batches.fast.contains_key(part.id) {
            if part.number != 1 {
                return Err(error::BATCH_PUBLISH_UNKNOWN_BATCH_ID.error());
            }
            let limits = &cx.limits.batches;
            if others >= limits.fast || cx.aside.fast >= limits.fast_total {
                return Err(error::BATCH_PUBLISH_TOO_MANY_INFLIGHT.error());
            }
            // Who is alone may go on as it likes; others begin slowly.
            let flow = if others > 0 { 1 } else { part.flow.min(FLOW_MAX) };
            let fast = Fast {
                last: 0,
                stored: 0,
                seq: 0,
                told: 0,
                flow,
                flow_max: part.flow,
                gaps: part.gaps,
                until: cx.now.mono + cx.limits.batches.silence,
            };
            self.batches.fast.insert(part.id.into(), fast);
            cx.aside.fast += 1;
        }
        if headers::needs_newer_api(header) {
            self.forget_fast(part.id, cx);
            return Err(error::REQUIRED_API_LEVEL.error());
        }
        Ok(part)
    }

    /// Tells the state again, and what is missing.
    fn ping_fast(&mut self, part: Part<'_>, reply: &[u8], cx: &mut Cx<'_>) {
        let Some(fast) = self.batches.fast.get_mut(part.id) else { return };
        if part.number > fast.last {
            tell(&Told::Gap { last_seq: fast.last + 1, seq: part.number + 1 }, reply, cx);
            if !fast.gaps {
                self.end_fast(part.id, reply, cx);
                return;
            }
            fast.last = part.number;
            fast.stored = fast.last;
            if self.tell_flow(part.id, reply, cx) {
                return;
            }
        }
        if let Some(fast) = self.batches.fast.get(part.id) {
            tell(&Told::Ack { seq: fast.told, msgs: fast.flow }, reply, cx);
        }
    }

    fn store_fast(
        &mut self,
        part: Part<'_>,
        message: &Message<'_>,
        header: &[u8],
        cx: &mut Cx<'_>,
    ) -> Result<(), LogError> {
        let reply = message.reply.unwrap_or_default();
        let commits = part.operation == Operation::Commit;
        let header = Cow::Owned(headers::without(header, headers::REQUIRED_API_LEVEL));
        let subject = match self.renames.input(message.subject, cx.random) {
            Some(other) => Cow::Owned(other),
            None => Cow::Borrowed(message.subject),
        };
        let payload = Cow::Borrowed(message.payload);
        let mut arriving = Arriving::new(subject, header, payload, Origin::Client, cx);
        let passed = match self.stage(&mut arriving, &mut Staged::default()) {
            Ok(()) => match self.admit(&mut arriving, cx) {
                Ok(seq) => Ok(seq),
                Err(why) if why.is_of_all() => return Err(why),
                Err(LogError::Full) => Err(Refusal::from(error::INSUFFICIENT_RESOURCES)),
                Err(why) => Err(error::STREAM_STORE_FAILED.with(&[&why]).into()),
            },
            Err(refusal) => Err(refusal),
        };
        let Some(fast) = self.batches.fast.get_mut(part.id) else { return Ok(()) };
        match passed {
            Ok(seq) => {
                (fast.seq, fast.stored) = (seq, fast.last);
                if commits {
                    self.end_fast(part.id, reply, cx);
                } else {
                    self.tell_flow(part.id, reply, cx);
                }
            }
            Err(refusal) => self.refuse_fast(part, refusal, commits, reply, cx),
        }
        Ok(())
    }

    /// A message could not be stored, or is there already.
    fn refuse_fast(
        &mut self,
        part: Part<'_>,
        refusal: Refusal,
        commits: bool,
        reply: &[u8],
        cx: &mut Cx<'_>,
    ) {
        let Some(fast) = self.batches.fast.get_mut(part.id) else { return };
        let (gaps, first) = (fast.gaps, fast.last == 1);
        if let Refusal::Duplicate(_) = refusal {
            fast.stored = part.number;
            self.tell_flow(part.id, reply, cx);
            if !commits {
                return;
            }
        }
        if !gaps && first {
            match &refusal {
                Refusal::Duplicate(seq) => {
                    let rest =
                        format!(",\"duplicate\": true,\"batch\":{:?},\"count\":{}}}", part.id, part.number);
                    self.answer_with(Some(reply), *seq, &rest, cx);
                }
                Refusal::Error(error) => self.refuse(Some(reply), error, cx),
            }
            self.forget_fast(part.id, cx);
            return;
        }
        if let Refusal::Error(error) = &refusal {
            tell(&Told::Err { seq: part.number, error }, reply, cx);
            if gaps && !commits {
                return;
            }
            if let Some(fast) = self.batches.fast.get_mut(part.id) {
                fast.last -= 1;
                fast.stored = fast.last;
            }
        }
        self.end_fast(part.id, reply, cx);
    }

    /// Acknowledges, if enough messages came since the last time. True if so.
    fn tell_flow(&mut self, id: &str, reply: &[u8], cx: &mut Cx<'_>) -> bool {
        let share = u16::try_from(self.batches.fast.len()).unwrap_or(u16::MAX).max(1);
        let Some(fast) = self.batches.fast.get_mut(id) else { return false };
        let flow = u64::from(fast.flow.max(1));
        if fast.stored < fast.told + flow {
            return false;
        }
        fast.told += (fast.stored - fast.told) / flow * flow;
        let most = (FLOW_MAX / share).max(1).min(fast.flow_max);
        if fast.flow < most {
            fast.flow = fast.flow.saturating_mul(2).min(most);
        } else if fast.flow > most {
            fast.flow = (fast.flow / 2).max(most);
        }
        tell(&Told::Ack { seq: fast.told, msgs: fast.flow }, reply, cx);
        true
    }

    /// Ends a batch with what came so far.
    fn end_fast(&mut self, id: &str, reply: &[u8], cx: &mut Cx<'_>) {
        if let Some(fast) = self.forget_fast(id, cx) {
            self.answer_batch(Some(reply), fast.seq, id, fast.last, cx);
        }
    }

    fn forget_fast(&mut self, id: &str, cx: &mut Cx<'_>) -> Option<Fast> {
        let fast = self.batches.fast.remove(id)?;
        cx.aside.fast = cx.aside.fast.saturating_sub(1);
        Some(fast)
    }
}

fn tell(told: &Told<'_>, reply: &[u8], cx: &mut Cx<'_>) {
    if !reply.is_empty() {
        cx.answer(reply, json::write(told));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read() {
        let read = |text: &'static str| Part::read(Some(text.as_bytes()));
        let part = Part { id: "b", flow: 10, gaps: true, number: 1, operation: Operation::Add };
        assert_eq!(read("_IN.b.10.ok.1.0.$FI"), Some(Some(part)));
        assert_eq!(read("_IN.x"), None);
        let ping = Part { number: 7, operation: Operation::Ping, gaps: false, flow: u16::MAX, ..part };
        assert_eq!(read("_IN.b.99999.fail.7.4.$FI"), Some(Some(ping)));
        for wrong in [
            "b.10.ok.1.0.$FI",
            "_IN.b.10.ok.2.0.$FI",
            "_IN.b.10.ok.1.1.$FI",
            "_IN.b.10.maybe.1.0.$FI",
            "_IN.b.10.ok.0.0.$FI",
            "_IN.b.10.ok.1.5.$FI",
            ".$FI",
        ] {
            assert_eq!(read(wrong), Some(None), "{wrong}");
        }
    }
}
