//! Messages that are stored together or not at all.
//!
//! ```text
//!   Nats-Batch-Id: b, -Sequence: 1   ─┐
//!                     -Sequence: 2    ├─ kept aside, each acknowledged with nothing
//!   -Sequence: 3, -Commit: 1         ─┘  checked and stored in one commit, acknowledged once
//! ```
//!
//! Source: nats-server's ADR-50 and `stream.go` (`processJetStreamAtomicBatchMsg`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::Stream;
use super::fast::Fast;
use super::ingest::{Arriving, Origin, Refusal};
use super::staged::Staged;
use crate::config::BatchLimits;
use crate::cx::Cx;
use crate::error::{self, ApiError};
use crate::full::Full;
use crate::headers;
use crate::log::LogError;
use crate::seam::Message;
use crate::time::Instant;

/// Longest name of a batch, in bytes.
pub(super) const ID_BYTES_MAX: usize = 64;
/// The note that a batch is being stored: the number of the last message before it.
const NOTE: &str = "batch";
/// Bytes of all batches that are kept aside.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What batches of all streams take.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    batches: usize,
    bytes: usize,
    /// Fast batches, of which nothing is kept.
    pub(super) fast: usize,
}

/// The batches of a stream that are open.
#[derive(Debug, Default)]
pub(super) struct Batches {
    atomic: BTreeMap<Box<str>, Batch>,
    pub(super) fast: BTreeMap<Box<str>, Fast>,
}

#[derive(Debug)]
struct Batch {
    messages: Vec<Kept>,
    bytes: usize,
    /// The number of the last message.
    last: u64,
    until: Instant,
}

/// A message that is kept aside.
#[derive(Debug)]
struct Kept {
    subject: Bytes,
    header: Bytes,
    payload: Bytes,
}

impl Kept {
    fn new(message: &Message<'_>, header: Vec<u8>) -> Self {
        let subject = Bytes::copy_from_slice(message.subject);
        Self { subject, header: header.into(), payload: Bytes::copy_from_slice(message.payload) }
    }

    fn len(&self) -> usize {
        self.subject.len() + self.header.len() + self.payload.len() + size_of::<Self>()
    }
}

/// How a message ends its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is the last.
    Last,
    /// The one before it was.
    Before,
}

impl Batches {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let atomic = self.atomic.values().map(|batch| batch.until);
        atomic.chain(self.fast.values().map(|fast| fast.until)).min()
    }
}

#[derive(Serialize)]
struct Abandoned<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    account: &'a str,
    stream: &'a str,
}

/// What stands behind the domain.
#[derive(Serialize)]
struct Why<'a> {
    batch: &'a str,
    reason: &'static str,
}

impl Stream {
    /// Takes a message of a batch in.
    pub(super) fn ingest_batch(
        &mut self,
        id: &str,
        message: &Message<'_>,
        header: &[u8],
        room: Result<(), ApiError>,
        cx: &mut Cx<'_>,
    ) -> Result<(), LogError> {
        let reply = message.reply.filter(|_| !self.config.no_ack);
        match self.add_to_batch(id, message, header, room, cx) {
            Ok(Some(end)) => self.commit_batch(id, end, reply, cx),
            Ok(None) => {
                if let Some(reply) = reply {
                    // It says that the message came, not that it is stored, so it is true though the disk fails.
                    cx.answer(reply, "");
                }
                Ok(())
            }
            Err(error) => {
                self.refuse(reply, &error, cx);
                Ok(())
            }
        }
    }

    /// Keeps a message aside. Gives how the batch ends, if it does.
    fn add_to_batch(
        &mut self,
        id: &str,
        message: &Message<'_>,
        header: &[u8],
        room: Result<(), ApiError>,
        cx: &mut Cx<'_>,
    ) -> Result<Option<End>, ApiError> {
        if self.config.sealed {
            return Err(error::STREAM_SEALED.error());
        }
        room?;
        let size = header.len() + message.payload.len();
        if usize::try_from(self.config.max_msg_size).is_ok_and(|max| size > max) {
            return Err(error::STREAM_MESSAGE_EXCEEDS_MAXIMUM.error());
        }
        if !self.config.allow_atomic {
            return Err(error::ATOMIC_PUBLISH_DISABLED.error());
        }
        if id.len() > ID_BYTES_MAX {
            return Err(error::ATOMIC_PUBLISH_INVALID_BATCH_ID.error());
        }
        let seq = headers::number(header, headers::BATCH_SEQ).flatten();
        let Some(seq) = seq else { return Err(error::ATOMIC_PUBLISH_MISSING_SEQ.error()) };
        let commit = headers::raw(header, headers::BATCH_COMMIT);
        let end = match commit {
            Some(b"1") => Some(End::Last),
            Some(b"eob") => Some(End::Before),
            _ => None,
        };
        let limits = &cx.limits.batches;
        let length = seq - u64::from(end == Some(End::Before) && seq > 0);
        if !self.batches.atomic.contains_key(id) {
            if seq != 1 {
                return Err(if length > limits.messages { too_large(limits) } else { incomplete() });
            }
            if self.batches.atomic.len() >= limits.atomic || cx.aside.batches >= limits.atomic_total {
                return Err(error::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT.error());
            }
            cx.aside.batches += 1;
            let batch =
                Batch { messages: Vec::new(), bytes: 0, last: 0, until: cx.now.mono + limits.silence };
            self.batches.atomic.insert(id.into(), batch);
        }
        if commit.is_some() && end.is_none() {
            self.drop_batch(id, cx);
            return Err(error::ATOMIC_PUBLISH_INVALID_BATCH_COMMIT.error());
        }
        let mut header = header.to_vec();
        if headers::get(&header, headers::REQUIRED_API_LEVEL).is_some() {
            if headers::needs_newer_api(&header) {
                self.abandon_batch(id, "unsupported", cx);
                return Err(error::REQUIRED_API_LEVEL.error());
            }
            header = headers::without(&header, headers::REQUIRED_API_LEVEL);
        }
        let Some(batch) = self.batches.atomic.get_mut(id) else { return Err(incomplete()) };
        batch.until = cx.now.mono + limits.silence;
        batch.last += 1;
        if batch.last != seq || (seq == 1 && end == Some(End::Before)) {
            self.abandon_batch(id, "incomplete", cx);
            return Err(incomplete());
        }
        if length > limits.messages {
            self.abandon_batch(id, "large", cx);
            return Err(too_large(limits));
        }
        if end != Some(End::Before) {
            let kept = Kept::new(message, header);
            if cx.aside.bytes + kept.len() > BYTES_MAX {
                self.abandon_batch(id, "large", cx);
                return Err(error::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT.error());
            }
            batch.bytes += kept.len();
            cx.aside.bytes += kept.len();
            batch.messages.push(kept);
        }
        Ok(end)
    }

    /// Checks all messages of a batch, and stores them if all may be.
    fn commit_batch(
        &mut self,
        id: &str,
        end: End,
        reply: Option<&[u8]>,
        cx: &mut Cx<'_>,
    ) -> Result<(), LogError> {
        let Some(batch) = self.drop_batch(id, cx) else { return Ok(()) };
        let mut staged = Staged::default();
        let mut checked = Vec::with_capacity(batch.messages.len());
        for kept in &batch.messages {
            let subject = match self.renames.input(&kept.subject, cx.random) {
                Some(other) => Cow::Owned(other),
                None => Cow::Borrowed(&*kept.subject),
            };
            let (header, payload) = (Cow::Borrowed(&*kept.header), Cow::Borrowed(&*kept.payload));
            let mut arriving = Arriving::new(subject, header, payload, Origin::Client, cx);
            let passed = if headers::get(&kept.header, headers::EXPECTED_LAST_MSG_ID).is_some() {
                let row = error::ATOMIC_PUBLISH_UNSUPPORTED_HEADER_BATCH;
                Err(row.with(&[&headers::EXPECTED_LAST_MSG_ID]))
            } else {
                self.stage(&mut arriving, &mut staged).map_err(|refusal| match refusal {
                    Refusal::Error(error) => error,
                    Refusal::Duplicate(_) => error::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE.error(),
                })
            };
            if let Err(error) = passed {
                self.refuse(reply, &error, cx);
                return Ok(());
            }
            checked.push(arriving);
        }
        if let (Some(last), End::Before) = (checked.last_mut(), end) {
            last.header = Cow::Owned(headers::with(&last.header, headers::BATCH_COMMIT, "1"));
        }
        match self.store_batch(&mut checked, cx) {
            Ok(last) => {
                self.answer_batch(reply, last, id, checked.len() as u64, cx);
                Ok(())
            }
            Err(why) => {
                let error = match why {
                    LogError::Full => error::INSUFFICIENT_RESOURCES.error(),
                    _ => error::STREAM_STORE_FAILED.with(&[&why]),
                };
                self.refuse(reply, &error, cx);
                if why.is_of_all() { Err(why) } else { Ok(()) }
            }
        }
    }

    /// Stores all of it or nothing, whatever happens meanwhile. Gives the number of the last.
    fn store_batch(&mut self, checked: &mut [Arriving<'_>], cx: &mut Cx<'_>) -> Result<u64, LogError> {
        let bytes = checked.iter().map(Arriving::len).sum();
        let before = self.log.state().last_seq;
        // In several commits it is only if the last of them is there: this note is in the first, and not after the last.
        // Where the oldest go on a full disk, there may be a commit at any message.
        let drops = Full::read(&self.config) == Some(Full::DropOld);
        let noted = !self.log.can_take_at_once(checked.len(), bytes)? || drops;
        if noted {
            self.log.put_note(NOTE, &before.to_le_bytes())?;
        }
        let mut last = before;
        for arriving in &mut *checked {
            match self.put(arriving, cx) {
                Ok(seq) => last = seq,
                Err(why) if why.is_of_all() => return Err(why),
                Err(why) => {
                    self.remove_after(before, cx)?;
                    if noted {
                        self.log.drop_note(NOTE)?;
                    }
                    return Err(why);
                }
            }
        }
        if noted {
            self.log.drop_note(NOTE)?;
        }
        // Nothing goes for it before it is there.
        for (arriving, seq) in checked.iter().zip(before + 1..) {
            self.enforce_subject(&arriving.subject, cx)?;
            self.roll_up(arriving, seq, cx)?;
        }
        self.enforce_limits(cx)?;
        Ok(last)
    }

    fn remove_after(&mut self, before: u64, cx: &mut Cx<'_>) -> Result<(), LogError> {
        let last = self.log.state().last_seq;
        (before + 1..=last).try_for_each(|seq| self.remove(seq, false, cx).map(|_| ()))
    }

    /// Takes out what there is of a batch of which the power cut off the end.
    pub(crate) fn undo_batch(&mut self, cx: &mut Cx<'_>) -> Result<(), LogError> {
        let noted = self.log.notes().remove(NOTE);
        let before = noted.as_ref().and_then(|parts| <[u8; 8]>::try_from(parts.first()?.as_slice()).ok());
        if let Some(before) = before {
            self.remove_after(u64::from_le_bytes(before), cx)?;
        }
        if noted.is_some() { self.log.drop_note(NOTE) } else { Ok(()) }
    }

    /// The one acknowledgement of a batch.
    pub(super) fn answer_batch(&self, reply: Option<&[u8]>, seq: u64, id: &str, count: u64, cx: &mut Cx<'_>) {
        self.answer_with(reply, seq, &format!(",\"batch\":{id:?},\"count\":{count}}}"), cx);
    }

    fn drop_batch(&mut self, id: &str, cx: &mut Cx<'_>) -> Option<Batch> {
        let batch = self.batches.atomic.remove(id)?;
        cx.aside.batches = cx.aside.batches.saturating_sub(1);
        cx.aside.bytes = cx.aside.bytes.saturating_sub(batch.bytes);
        Some(batch)
    }

    fn abandon_batch(&mut self, id: &str, reason: &'static str, cx: &mut Cx<'_>) {
        self.drop_batch(id, cx);
        let name = format!("$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.{}", self.name());
        let body = Abandoned { account: "", stream: self.name() };
        let kind = "io.nats.jetstream.advisory.v1.stream_batch_abandoned";
        cx.event_with(&name, kind, body, Why { batch: id, reason });
    }

    /// Drops batches that nobody goes on with.
    pub(super) fn expire_batches(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let over = self.batches.atomic.iter().filter(|(_, batch)| batch.until <= now);
        let over: Vec<Box<str>> = over.map(|(id, _)| id.clone()).collect();
        over.iter().for_each(|id| self.abandon_batch(id, "timeout", cx));
        let before = self.batches.fast.len();
        self.batches.fast.retain(|_, fast| fast.until > now);
        cx.aside.fast = cx.aside.fast.saturating_sub(before - self.batches.fast.len());
    }

    /// Drops batches that are not allowed any more; all of them, if the stream ends.
    pub(super) fn drop_batches(&mut self, ends: bool, cx: &mut Cx<'_>) {
        if ends || !self.config.allow_atomic {
            let ids: Vec<Box<str>> = self.batches.atomic.keys().cloned().collect();
            ids.iter().for_each(|id| drop(self.drop_batch(id, cx)));
        }
        if ends || !self.config.allow_batched {
            cx.aside.fast = cx.aside.fast.saturating_sub(self.batches.fast.len());
            self.batches.fast.clear();
        }
    }
}

fn incomplete() -> ApiError {
    error::ATOMIC_PUBLISH_INCOMPLETE_BATCH.error()
}

fn too_large(limits: &BatchLimits) -> ApiError {
    error::ATOMIC_PUBLISH_TOO_LARGE_BATCH.with(&[&limits.messages])
}
