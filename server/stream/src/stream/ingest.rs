//! A published message comes in: the checks, in their order, and what follows once it is stored.
//!
//! Source: reference 3.13; nats-server's `stream.go` (`processJetStreamMsg`).

use std::borrow::Cow;

use midge_protocol::emit::Digits;
use num_bigint::BigInt;
use serde::Serialize;

use super::Stream;
use super::counter;
use super::fast::Part;
use super::purge::PurgeRequest;
use super::schedule;
use super::ttl::MessageTtl;
use crate::cx::Cx;
use crate::engine::Zone;
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
    /// When it came, in ns since the Unix epoch.
    pub(super) now: Nanos,
    pub(super) zones: Zone,
    /// What it adds to its subject's counter.
    pub(super) increment: Option<BigInt>,
    /// What the counter became.
    pub(super) value: Option<String>,
    /// It makes other messages.
    pub(super) scheduled: bool,
    /// Nobody wanted it, so that it has only a number.
    skipped: bool,
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
    /// A message in this stream that makes others.
    Schedule,
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
        cx: &Cx<'_>,
    ) -> Self {
        let (now, zones) = (cx.now.wall, cx.zones);
        let (increment, value) = (None, None);
        Self {
            subject,
            header,
            payload,
            origin,
            now,
            zones,
            increment,
            value,
            scheduled: false,
            skipped: false,
            rollup: None,
            ttl: None,
        }
    }

    /// Bytes that it consists of.
    pub(super) fn len(&self) -> usize {
        self.subject.len() + self.header.len() + self.payload.len()
    }

    /// It takes the place of others, if that is allowed.
    pub(super) fn has_rollup(&self) -> bool {
        self.rollup.is_some()
    }

    /// A stream made it, so that what clients may not say is not asked.
    pub(super) fn is_own(&self) -> bool {
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
pub(super) enum Refusal {
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
    not_too_large,
    counter::increment_valid,
    expected_stream,
    ttl_allowed,
    expected_last_of_subject,
    expected_last,
    schedule::schedule_valid,
    schedule::scheduler_valid,
    no_source,
    not_seen,
    expected_last_id,
    rollup_allowed,
    counter::increment_there,
    counter::count,
    not_too_large,
    ttl_valid,
];

/// Those of them that a message without headers can fail.
const CHECKS_BARE: &[Check] = &[not_sealed, not_too_large, counter::increment_there];

fn not_sealed(stream: &Stream, _: &mut Arriving<'_>) -> Result<(), Refusal> {
    if stream.config.sealed { Err(error::STREAM_SEALED.into()) } else { Ok(()) }
}

pub(super) fn expected_stream(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    match headers::get(&arriving.header, headers::EXPECTED_STREAM) {
        Some(name) if name != stream.name().as_bytes() => Err(error::STREAM_NOT_MATCH.into()),
        _ => Ok(()),
    }
}

fn ttl_allowed(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    let asked = MessageTtl::of(&arriving.header).is_some_and(|ttl| ttl != MessageTtl::For(0));
    if asked && !arriving.is_own() && !stream.config.allow_msg_ttl {
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
    let Some(expected) = headers::number(&arriving.header, headers::EXPECTED_LAST_SEQ) else { return Ok(()) };
    let last = stream.log.state().last_seq;
    if expected == Some(last) { Ok(()) } else { Err(error::STREAM_WRONG_LAST_SEQUENCE.with(&[&last]).into()) }
}

pub(super) fn no_source(_: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    match headers::get(&arriving.header, headers::STREAM_SOURCE) {
        Some(_) if !arriving.is_own() => Err(error::MESSAGE_SOURCE_HDR_NOT_ALLOWED.into()),
        _ => Ok(()),
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

pub(super) fn rollup_allowed(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    let Some(value) = headers::text(&arriving.header, headers::ROLLUP) else { return Ok(()) };
    let allowed = stream.config.allow_rollup_hdrs && !stream.config.deny_purge;
    if !allowed && !arriving.is_own() {
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

pub(super) fn not_too_large(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    let size = arriving.header.len() + arriving.payload.len();
    if usize::try_from(stream.config.max_msg_size).is_ok_and(|max| size > max) {
        return Err(error::STREAM_MESSAGE_EXCEEDS_MAXIMUM.into());
    }
    if arriving.header.len() > usize::from(u16::MAX) {
        return Err(error::STREAM_HEADER_EXCEEDS_MAXIMUM.into());
    }
    Ok(())
}

pub(super) fn ttl_valid(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    let Some(value) = headers::get(&arriving.header, headers::TTL) else { return Ok(()) };
    if stream.is_uninteresting(&arriving.subject) {
        return Ok(());
    }
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
        if let Some(part) = Part::read(message.reply) {
            return self.ingest_fast(part, message, &header, room, cx);
        }
        if let Some(id) = headers::text(&header, headers::BATCH_ID).map(str::to_owned) {
            return self.ingest_batch(&id, message, &header, room, cx);
        }
        let subject = match self.renames.input(message.subject, cx.random) {
            Some(other) => Cow::Owned(other),
            None => Cow::Borrowed(message.subject),
        };
        let payload = Cow::Borrowed(message.payload);
        let mut arriving = Arriving::new(subject, header, payload, Origin::Client, cx);
        let reply = message.reply.filter(|_| !self.config.no_ack);
        match self.pass(&mut arriving, room) {
            Passed::Yes => match self.admit(&mut arriving, cx) {
                Ok(seq) => match &arriving.value {
                    Some(value) => self.answer_with(reply, seq, &format!(",\"val\":\"{value}\"}}"), cx),
                    None => self.answer_with(reply, seq, "}", cx),
                },
                Err(LogError::Full) => self.refuse(reply, &error::INSUFFICIENT_RESOURCES.error(), cx),
                Err(why) => {
                    self.refuse(reply, &error::STREAM_STORE_FAILED.with(&[&why]), cx);
                    if why.is_of_all() {
                        return Err(why);
                    }
                }
            },
            Passed::Duplicate(seq) => self.answer_with(reply, seq, ",\"duplicate\": true}", cx),
            Passed::No(error) => self.refuse(reply, &error, cx),
        }
        Ok(())
    }

    /// Whether a message may be stored. `room` is what the server says to its size.
    pub(super) fn pass(&self, arriving: &mut Arriving<'_>, room: Result<(), ApiError>) -> Passed {
        let checks = if arriving.header.is_empty() { CHECKS_BARE } else { CHECKS };
        let passed = checks.iter().try_for_each(|check| check(self, arriving));
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

    pub(super) fn refuse(&self, reply: Option<&[u8]>, error: &ApiError, cx: &mut Cx<'_>) {
        if let Some(reply) = reply {
            let text = json::write(&Refused { error, stream: self.name(), seq: 0 });
            cx.answer(reply, text);
        }
    }

    /// An acknowledgement, with what follows the number in it.
    pub(super) fn answer_with(&self, reply: Option<&[u8]>, seq: u64, rest: &str, cx: &mut Cx<'_>) {
        let Some(reply) = reply else { return };
        cx.answer_of(reply, &[&self.ack, Digits::new(seq).as_bytes(), rest.as_bytes()]);
    }

    /// Stores a message that passed.
    pub(super) fn admit(&mut self, arriving: &mut Arriving<'_>, cx: &mut Cx<'_>) -> Result<u64, LogError> {
        let seq = self.put(arriving, cx)?;
        self.enforce_subject(&arriving.subject, cx)?;
        // Limits come first: what they take out isn't rolled up.
        self.enforce_limits(cx)?;
        self.roll_up(arriving, seq, cx)?;
        Ok(seq)
    }

    /// Stores a message. What it takes the place of stays.
    pub(super) fn put(&mut self, arriving: &mut Arriving<'_>, cx: &mut Cx<'_>) -> Result<u64, LogError> {
        let time = match arriving.origin {
            Origin::Mirror { time } => time,
            Origin::Client | Origin::Source | Origin::Schedule => cx.now.wall,
        };
        // Copies keep what they say, even where it is of no effect.
        let ttl = arriving.ttl.filter(|_| self.config.allow_msg_ttl);
        arriving.skipped = self.is_uninteresting(&arriving.subject);
        if arriving.skipped {
            let seq = self.log.state().last_seq + 1;
            self.log.skip_to(seq, cx.now.wall)?;
            self.skipped_at = cx.now.wall;
            self.note_id(&arriving.header, seq, cx);
            return Ok(seq);
        }
        let entry = Entry {
            subject: &arriving.subject,
            header: &arriving.header,
            payload: &arriving.payload,
            time,
            expires: ttl.map_or(0, |ttl| ttl.expires(time)),
        };
        self.store(&entry, cx)
    }

    /// Takes out what a message takes the place of, which was stored as `seq`.
    pub(super) fn roll_up(
        &mut self,
        arriving: &Arriving<'_>,
        seq: u64,
        cx: &mut Cx<'_>,
    ) -> Result<(), LogError> {
        if let Some(rollup) = arriving.rollup {
            let filter = match rollup {
                Rollup::Subject => String::from_utf8_lossy(&arriving.subject).into_owned(),
                Rollup::All => String::new(),
            };
            let end = seq + u64::from(arriving.skipped);
            if end > 1 {
                self.purge(&PurgeRequest { seq: end, filter, keep: 0 }, true, cx)?;
            }
        }
        if self.config.allow_msg_schedules {
            self.end_schedule(&arriving.header, cx)?;
        }
        Ok(())
    }

    /// Puts an entry into the log, and what hangs on it where it belongs. There may be more on its subject now than may be.
    pub(super) fn store(&mut self, entry: &Entry<'_>, cx: &mut Cx<'_>) -> Result<u64, LogError> {
        let again = self.again(entry.subject, cx.random);
        let seq = self.append(entry, cx)?;
        self.note_id(entry.header, seq, cx);
        self.ttl.insert(seq, entry.expires, entry.time.saturating_sub(cx.calendar.age_of(entry.time)));
        self.note_schedule(entry.subject, entry.header, seq, entry.time, cx);
        for consumer in self.consumers.values_mut() {
            consumer.on_stored(seq, entry.subject);
        }
        if let Some(again) = again {
            self.publish_again(&again, entry, seq, cx);
        }
        Ok(seq)
    }

    fn note_id(&mut self, header: &[u8], seq: u64, cx: &Cx<'_>) {
        let id = headers::text(header, headers::MSG_ID);
        if let Some(id) = id {
            self.dedup.insert(id, seq, duration(self.config.duplicate_window), cx.now.mono);
        }
        if id.is_some() || !self.last_msg_id.is_empty() {
            self.last_msg_id = id.unwrap_or_default().into();
        }
    }

    /// Remembers the ids of the messages that are within the window.
    pub(crate) fn rebuild_dedup(&mut self, cx: &Cx<'_>) -> Result<(), LogError> {
        let window = self.config.duplicate_window;
        let calendar = cx.calendar;
        let mut from = self.log.at_time(calendar.stamp_of(calendar.age().saturating_sub(window)));
        while let Some(seq) = self.log.next(from, &Filters::all()) {
            if let Some(message) = self.log.get(seq)? {
                let id = headers::text(message.header(), headers::MSG_ID);
                if let Some(id) = id {
                    let passed = calendar.age().saturating_sub(calendar.age_of(message.time));
                    let left = window.saturating_sub(passed).clamp(0, window);
                    self.dedup.insert(id, seq, duration(left), cx.now.mono);
                }
                self.last_msg_id = id.unwrap_or_default().into();
            }
            from = seq + 1;
        }
        Ok(())
    }
}
