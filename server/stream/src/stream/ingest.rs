//! A published message comes in: the checks, in their order, and what follows once it is stored.
//!
//! Source: reference 3.13; nats-server's `stream.go` (`processJetStreamMsg`).

use std::borrow::Cow;

use midge_protocol::emit::Digits;
use serde::Serialize;

use super::Stream;
use super::purge::PurgeRequest;
use super::ttl::MessageTtl;
use crate::cx::Cx;
use crate::error::{self, ApiError};
use crate::headers;
use crate::json;
use crate::log::{Entry, Filters, LogError};
use crate::seam::Message;
use crate::time::{Nanos, SECOND, duration};

/// A message on its way in.
pub(super) struct Arriving<'a> {
    pub(super) subject: Cow<'a, [u8]>,
    pub(super) header: Cow<'a, [u8]>,
    pub(super) payload: Cow<'a, [u8]>,
    pub(super) origin: Origin,
    rollup: Option<Rollup>,
    ttl: Option<MessageTtl>,
}

/// Where it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Somebody published it.
    Client,
    /// A stream that this one copies from.
    Source,
    /// The stream that this one is a mirror of, which stored it then.
    Mirror {
        /// In ns since the Unix epoch.
        time: Nanos,
    },
}

/// What became of a message that was checked.
pub(super) enum Passed {
    /// It may be stored.
    Yes,
    /// It breaks a rule.
    No(ApiError),
    /// It is there already, under this number.
    Duplicate(u64),
}

impl<'a> Arriving<'a> {
    pub(super) fn new(
        subject: Cow<'a, [u8]>,
        header: Cow<'a, [u8]>,
        payload: Cow<'a, [u8]>,
        origin: Origin,
    ) -> Self {
        Self { subject, header, payload, origin, rollup: None, ttl: None }
    }

    /// Another stream has it already.
    pub(super) fn is_copy(&self) -> bool {
        self.origin != Origin::Client
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rollup {
    Subject,
    All,
}

/// Why a message is not stored.
#[derive(Debug)]
enum Refusal {
    /// It breaks a rule.
    Error(ApiError),
    /// It is there already, under this number.
    Duplicate(u64),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl From<error::Row> for Refusal {
    fn from(row: error::Row) -> Self {
        Self::Error(row.error())
    }
}

type Check = fn(&Stream, &mut Arriving<'_>) -> Result<(), Refusal>;

/// What a message must pass, in this order. The first that fails is what the publisher is told.
const CHECKS: &[Check] = &[
    not_sealed,
    no_counter,
    expected_stream,
    ttl_allowed,
    expected_last_of_subject,
    expected_last,
    no_schedule,
    no_source,
    no_batch,
    not_seen,
    expected_last_id,
    rollup_allowed,
    not_too_large,
    ttl_valid,
];

fn not_sealed(stream: &Stream, _: &mut Arriving<'_>) -> Result<(), Refusal> {
    if stream.config.sealed { Err(error::STREAM_SEALED.into()) } else { Ok(()) }
}

fn no_counter(_: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    match headers::get(&arriving.header, headers::INCR) {
        Some(_) if !arriving.is_copy() => Err(error::MESSAGE_INCR_DISABLED.into()),
        _ => Ok(()),
    }
}

fn expected_stream(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    match headers::get(&arriving.header, headers::EXPECTED_STREAM) {
        Some(name) if name != stream.name().as_bytes() => Err(error::STREAM_NOT_MATCH.into()),
        _ => Ok(()),
    }
}

fn ttl_allowed(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    let asked = MessageTtl::of(&arriving.header).is_some_and(|ttl| ttl != MessageTtl::For(0));
    if asked && !arriving.is_copy() && !stream.config.allow_msg_ttl {
        Err(error::MESSAGE_TTL_DISABLED.into())
    } else {
        Ok(())
    }
}

fn expected_last_of_subject(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    let other = headers::text(&arriving.header, headers::EXPECTED_LAST_SUBJECT_SEQ_SUBJECT);
    match (headers::number(&arriving.header, headers::EXPECTED_LAST_SUBJECT_SEQ), other) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(error::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID.into()),
        (Some(expected), other) => {
            let last = match other {
                Some(other) => stream.log.last(&Filters::new([other]), u64::MAX).unwrap_or(0),
                None => stream.log.last_of(&arriving.subject).unwrap_or(0),
            };
            if expected == Some(last) {
                Ok(())
            } else {
                Err(error::STREAM_WRONG_LAST_SEQUENCE.with(&[&last]).into())
            }
        }
    }
}

fn expected_last(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    let last = stream.log.state().last_seq;
    match headers::number(&arriving.header, headers::EXPECTED_LAST_SEQ) {
        Some(expected) if expected != Some(last) => {
            Err(error::STREAM_WRONG_LAST_SEQUENCE.with(&[&last]).into())
        }
        _ => Ok(()),
    }
}

fn no_schedule(_: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    if arriving.is_copy() {
        return Ok(());
    }
    if headers::get(&arriving.header, headers::SCHEDULE).is_some() {
        return Err(error::MESSAGE_SCHEDULES_DISABLED.into());
    }
    for name in [headers::SCHEDULE_NEXT, headers::SCHEDULER] {
        if headers::get(&arriving.header, name).is_some() {
            return Err(error::MESSAGE_SCHEDULES_SCHEDULER_INVALID.into());
        }
    }
    Ok(())
}

fn no_source(_: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    match headers::get(&arriving.header, headers::STREAM_SOURCE) {
        Some(_) if !arriving.is_copy() => Err(error::MESSAGE_SOURCE_HDR_NOT_ALLOWED.into()),
        _ => Ok(()),
    }
}

fn no_batch(_: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    match headers::get(&arriving.header, headers::BATCH_ID) {
        Some(_) => Err(error::ATOMIC_PUBLISH_DISABLED.into()),
        None => Ok(()),
    }
}

fn not_seen(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    if matches!(arriving.origin, Origin::Mirror { .. }) {
        // It has what its origin has.
        return Ok(());
    }
    match headers::text(&arriving.header, headers::MSG_ID).and_then(|id| stream.dedup.find(id)) {
        Some(seq) => Err(Refusal::Duplicate(seq)),
        None => Ok(()),
    }
}

fn expected_last_id(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    match headers::text(&arriving.header, headers::EXPECTED_LAST_MSG_ID) {
        Some(id) if *id != *stream.last_msg_id => {
            Err(error::STREAM_WRONG_LAST_MSG_ID.with(&[&stream.last_msg_id]).into())
        }
        _ => Ok(()),
    }
}

fn rollup_allowed(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    let Some(value) = headers::text(&arriving.header, headers::ROLLUP) else { return Ok(()) };
    let allowed = stream.config.allow_rollup_hdrs && !stream.config.deny_purge;
    if !allowed && !arriving.is_copy() {
        return Err(error::STREAM_ROLLUP_FAILED.with(&[&"rollup not permitted"]).into());
    }
    let rollup = match value.to_lowercase().as_str() {
        "sub" => Some(Rollup::Subject),
        "all" => Some(Rollup::All),
        other => {
            let text = format!("rollup value invalid: {other:?}");
            return Err(error::STREAM_ROLLUP_FAILED.with(&[&text]).into());
        }
    };
    arriving.rollup = rollup.filter(|_| allowed);
    Ok(())
}

fn not_too_large(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    let size = arriving.header.len() + arriving.payload.len();
    if usize::try_from(stream.config.max_msg_size).is_ok_and(|max| size > max) {
        return Err(error::STREAM_MESSAGE_EXCEEDS_MAXIMUM.into());
    }
    if arriving.header.len() > usize::from(u16::MAX) {
        return Err(error::STREAM_HEADER_EXCEEDS_MAXIMUM.into());
    }
    Ok(())
}

fn ttl_valid(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    let Some(value) = headers::get(&arriving.header, headers::TTL) else { return Ok(()) };
    let read = std::str::from_utf8(value).ok().and_then(MessageTtl::read);
    let ttl = read.ok_or_else(|| Refusal::from(error::MESSAGE_TTL_INVALID))?;
    // A mark must not outlive what it marks, or it would be missed.
    let least = stream.config.subject_delete_marker_ttl / SECOND * SECOND;
    arriving.ttl = Some(ttl);
    if let MessageTtl::For(nanos @ 1..) = ttl
        && nanos < least
        && stream.config.max_msgs_per_subject != 1
    {
        let without = headers::without(&arriving.header, headers::TTL);
        let seconds = (least / SECOND).to_string();
        arriving.header = Cow::Owned(headers::with(&without, headers::TTL, &seconds));
        arriving.ttl = Some(MessageTtl::For(least));
    }
    Ok(())
}

/// What a publisher is told if it failed.
#[derive(Serialize)]
pub(crate) struct Refused<'a> {
    pub(crate) error: &'a ApiError,
    pub(crate) stream: &'a str,
    pub(crate) seq: u64,
}

impl Stream {
    /// Takes a published message in, or says why not.
    pub(crate) fn ingest(
        &mut self,
        message: &Message<'_>,
        room: Result<(), ApiError>,
        cx: &mut Cx<'_>,
    ) -> Result<(), LogError> {
        let header = if headers::get(message.header, headers::REQUEST_INFO).is_some() {
            Cow::Owned(headers::without(message.header, headers::REQUEST_INFO))
        } else {
            Cow::Borrowed(message.header)
        };
        let subject = match self.renames.input(message.subject, cx.random) {
            Some(other) => Cow::Owned(other),
            None => Cow::Borrowed(message.subject),
        };
        let payload = Cow::Borrowed(message.payload);
        let mut arriving = Arriving::new(subject, header, payload, Origin::Client);
        let reply = message.reply.filter(|_| !self.config.no_ack);
        match self.pass(&mut arriving, room) {
            Passed::Yes => match self.admit(&mut arriving, cx) {
                Ok(seq) => self.answer(reply, seq, false, cx),
                Err(LogError::Full) => self.refuse(reply, &error::INSUFFICIENT_RESOURCES.error(), cx),
                Err(why) => {
                    self.refuse(reply, &error::STREAM_STORE_FAILED.with(&[&why]), cx);
                    if why.is_of_all() {
                        return Err(why);
                    }
                }
            },
            Passed::Duplicate(seq) => self.answer(reply, seq, true, cx),
            Passed::No(error) => self.refuse(reply, &error, cx),
        }
        Ok(())
    }

    /// Whether a message may be stored. `room` is what the server says to its size.
    pub(super) fn pass(&self, arriving: &mut Arriving<'_>, room: Result<(), ApiError>) -> Passed {
        let passed = CHECKS.iter().try_for_each(|check| check(self, arriving));
        let passed = passed.and_then(|()| {
            room?;
            if self.is_uninteresting(&arriving.subject) { Ok(()) } else { Ok(self.check_room(arriving)?) }
        });
        match passed {
            Ok(()) => Passed::Yes,
            Err(Refusal::Duplicate(seq)) => Passed::Duplicate(seq),
            Err(Refusal::Error(error)) => Passed::No(error),
        }
    }

    fn refuse(&self, reply: Option<&[u8]>, error: &ApiError, cx: &mut Cx<'_>) {
        if let Some(reply) = reply {
            let text = json::write(&Refused { error, stream: self.name(), seq: 0 });
            cx.answer(reply, text);
        }
    }

    fn answer(&self, reply: Option<&[u8]>, seq: u64, duplicate: bool, cx: &mut Cx<'_>) {
        let Some(reply) = reply else { return };
        let seq = Digits::new(seq);
        let end: &[u8] = if duplicate { b",\"duplicate\": true}" } else { b"}" };
        let mut text = Vec::with_capacity(self.ack.len() + seq.as_bytes().len() + end.len());
        for part in [&self.ack[..], seq.as_bytes(), end] {
            text.extend_from_slice(part);
        }
        cx.answer(reply, text);
    }

    /// Stores a message that passed.
    pub(super) fn admit(&mut self, arriving: &mut Arriving<'_>, cx: &mut Cx<'_>) -> Result<u64, LogError> {
        let time = match arriving.origin {
            Origin::Mirror { time } => time,
            Origin::Client | Origin::Source => cx.now.wall,
        };
        // Copies keep what they say, even where it is of no effect.
        let ttl = arriving.ttl.filter(|_| self.config.allow_msg_ttl);
        let skipped = self.is_uninteresting(&arriving.subject);
        let seq = if skipped {
            let seq = self.log.state().last_seq + 1;
            self.log.skip_to(seq, cx.now.wall)?;
            seq
        } else {
            let entry = Entry {
                subject: &arriving.subject,
                header: &arriving.header,
                payload: &arriving.payload,
                time,
                expires: ttl.map_or(0, |ttl| ttl.expires(time)),
            };
            self.store(&entry, cx)?
        };
        match arriving.rollup {
            None => {}
            Some(rollup) => {
                let filter = match rollup {
                    Rollup::Subject => String::from_utf8_lossy(&arriving.subject).into_owned(),
                    Rollup::All => String::new(),
                };
                let keep = u64::from(!skipped);
                self.purge(&PurgeRequest { seq: 0, filter, keep }, cx)?;
            }
        }
        self.enforce_limits(cx)?;
        Ok(seq)
    }

    /// Puts an entry into the log, and what hangs on it where it belongs.
    pub(super) fn store(&mut self, entry: &Entry<'_>, cx: &mut Cx<'_>) -> Result<u64, LogError> {
        let again = self.again(entry.subject, cx.random);
        let seq = self.log.append(entry)?;
        let id = headers::text(entry.header, headers::MSG_ID);
        if let Some(id) = id {
            self.dedup.insert(id, seq, duration(self.config.duplicate_window), cx.now.mono);
        }
        if id.is_some() || !self.last_msg_id.is_empty() {
            self.last_msg_id = id.unwrap_or_default().into();
        }
        self.ttl.insert(seq, entry.expires);
        for consumer in self.consumers.values_mut() {
            consumer.on_stored(seq, entry.subject);
        }
        self.enforce_subject(entry.subject, cx)?;
        if let Some(again) = again {
            self.publish_again(&again, entry, seq, cx);
        }
        Ok(seq)
    }

    /// Remembers the ids of the messages that are within the window.
    pub(crate) fn rebuild_dedup(&mut self, cx: &Cx<'_>) -> Result<(), LogError> {
        let window = self.config.duplicate_window;
        let mut from = self.log.at_time(cx.now.wall - window);
        while let Some(seq) = self.log.next(from, &Filters::all()) {
            if let Some(message) = self.log.get(seq)? {
                let id = headers::text(message.header(), headers::MSG_ID);
                if let Some(id) = id {
                    let left = (window - (cx.now.wall - message.time)).clamp(0, window);
                    self.dedup.insert(id, seq, duration(left), cx.now.mono);
                }
                self.last_msg_id = id.unwrap_or_default().into();
            }
            from = seq + 1;
        }
        Ok(())
    }
}
