//! Streams, from a device: readings that are stored exactly once, commands that are taken one by one, and the
//! key-value store.
//!
//! All of it is requests. What these verbs queue leaves with the next call of the connection's methods, and what comes
//! of it is an event:
//!
//! ```text
//!   Delivery::poll      ->  Answer         -> Delivery::handle      stored, or refused
//!   Client::pull        ->  Pulled         -> respond(ACK)          a command
//!                           Answer         -> pull_status           none, or not any more
//!   Client::kv_get      ->  Answer         -> kv_entry
//!   Client::kv_put ...  ->  Answer         -> pub_ack               a revision
//! ```
//!
//! A client needs a place in its table of requests for each that waits at once.

use crate::client::Client;
use midge_protocol::client::{Error, Event, Message, Publish, Sid, Token};
use midge_protocol::emit::{Digits, Sink, Slice};
use midge_protocol::header::{Block, Field, Header, NO_RESPONDERS, Status};
use midge_protocol::json::{self, Value};
use midge_protocol::subject::{Subject, SubjectError, is_word, tokens};
use midge_protocol::time::Instant;

/// The payload that acknowledges a message of a consumer: done with it.
pub const ACK: &[u8] = b"+ACK";
/// Not done: deliver it again, now.
pub const NAK: &[u8] = b"-NAK";
/// Still at it: the time for an acknowledgement begins anew.
pub const IN_PROGRESS: &[u8] = b"+WPI";
/// Never deliver it again.
pub const TERM: &[u8] = b"+TERM";

/// Where a stream keeps a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PubAck {
    /// Its number in the stream; the revision, if the stream is a key-value bucket.
    pub sequence: u64,
    /// It was there already: its `Nats-Msg-Id` was seen within the stream's window.
    pub duplicate: bool,
}

/// Why something wasn't done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Failure {
    /// Nobody is there for it: no stream has the subject, or streams are off.
    NoStream,
    /// No answer came in time. It may have been done.
    Expired,
    /// The server's own words on it.
    Api {
        /// As in HTTP: 400 to 499 won't change by itself, 500 to 599 may.
        code: u16,
        /// nats-server's number of the cause.
        err_code: u32,
    },
    /// The answer isn't understood.
    Malformed,
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoStream => f.write_str("no stream takes it"),
            Self::Expired => f.write_str("no answer in time"),
            Self::Api { code, err_code } => write!(f, "refused with {code} ({err_code})"),
            Self::Malformed => f.write_str("the answer is not understood"),
        }
    }
}

impl core::error::Error for Failure {}

/// Reads the answer of a stream to a message.
pub fn pub_ack(payload: &[u8]) -> Result<PubAck, Failure> {
    let (mut sequence, mut duplicate, mut failure) = (None, false, None);
    let read = json::object(payload, |key, value| {
        match (key.as_plain(), value) {
            (Some("seq"), value) => sequence = value.integer()?,
            (Some("duplicate"), value) => duplicate = value.bool()?.unwrap_or(false),
            (Some("error"), Value::Nested(error)) => failure = Some(api_failure(error)),
            _ => {}
        }
        Ok(())
    });
    match (read, failure, sequence.and_then(|sequence| u64::try_from(sequence).ok())) {
        (Ok(()), Some(failure), _) => Err(failure),
        (Ok(()), None, Some(sequence)) => Ok(PubAck { sequence, duplicate }),
        _ => Err(Failure::Malformed),
    }
}

fn api_failure(error: &[u8]) -> Failure {
    let (mut code, mut err_code) = (0, 0);
    let read = json::object(error, |key, value| {
        let number = match key.as_plain() {
            Some("code") => &mut code,
            Some("err_code") => &mut err_code,
            _ => return Ok(()),
        };
        *number = value.integer()?.unwrap_or(0);
        Ok(())
    });
    match (read, u16::try_from(code), u32::try_from(err_code)) {
        (Ok(()), Ok(code), Ok(err_code)) => Failure::Api { code, err_code },
        _ => Failure::Malformed,
    }
}

/// A message on its way into a stream: sent again until the stream says that it has it. With an id that is the same
/// each time and no other message's, the stream keeps it once.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Delivery<'a> {
    subject: Subject<'a>,
    id: &'a str,
    payload: &'a [u8],
    timeout_ms: u32,
    state: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Progress {
    /// To be sent at the next poll.
    Due,
    Sent(Token),
    Stored,
}

impl<'a> Delivery<'a> {
    /// A message with the `Nats-Msg-Id` `id`; sent again each `timeout_ms` without an answer.
    pub const fn new(subject: Subject<'a>, id: &'a str, payload: &'a [u8], timeout_ms: u32) -> Self {
        Self { subject, id, payload, timeout_ms, state: Progress::Due }
    }

    /// Queues the message if that is due; call it before each `next`.
    pub fn poll<const S: usize, const R: usize>(
        &mut self,
        client: &mut Client<'_, S, R>,
        now: Instant,
    ) -> Result<(), Error> {
        if self.state == Progress::Due && client.is_ready() {
            let fields = [Field::new("Nats-Msg-Id", self.id)];
            let header = Block::new(&fields).map_err(|_| Error::Headers)?;
            let message = Publish { header: Some(&header), ..Publish::new(self.subject, self.payload) };
            self.state = Progress::Sent(client.request(&message, now.after_ms(self.timeout_ms))?);
        }
        Ok(())
    }

    /// Looks at an event. `Some`: the stream has the message, or said no; after a no the next poll sends it again.
    pub fn handle(&mut self, event: &Event<'_>) -> Option<Result<PubAck, Failure>> {
        let Progress::Sent(ours) = self.state else { return None };
        let result = match event {
            Event::Answer { token, message } if *token == ours => pub_ack(message.payload),
            Event::NoResponders { token } if *token == ours => Err(Failure::NoStream),
            Event::Expired { token } if *token == ours => {
                self.state = Progress::Due;
                return None;
            }
            _ => return None,
        };
        self.state = if result.is_ok() { Progress::Stored } else { Progress::Due };
        Some(result)
    }

    /// True once the stream has it.
    pub fn is_stored(&self) -> bool {
        self.state == Progress::Stored
    }
}

/// Why a pull ended without a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PullEnd {
    /// There is none, or none came in time: pull again.
    Empty,
    /// The consumer is gone, or something else is wrong with the request.
    Status(u16),
}

/// Reads the answer to [`Client::pull`], which is never a message.
pub fn pull_status(message: &Message<'_>) -> PullEnd {
    match message.status() {
        Some(Status { code: 404 | 408, .. }) => PullEnd::Empty,
        Some(Status { code, .. }) => PullEnd::Status(code),
        None => PullEnd::Status(0),
    }
}

/// A value of a key-value bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Entry<'m> {
    /// Which change of the bucket wrote it.
    pub revision: u64,
    /// The value; `None` if the last change deleted it.
    pub value: Option<&'m [u8]>,
}

/// Reads the answer to [`Client::kv_get`]. `None`: the key was never written.
pub fn kv_entry<'m>(message: &Message<'m>) -> Result<Option<Entry<'m>>, Failure> {
    let header = Header::parse(message.header).map_err(|_| Failure::Malformed)?;
    match header.status().map(|status| status.code) {
        Some(404) => return Ok(None),
        Some(NO_RESPONDERS) => return Err(Failure::NoStream),
        Some(code) => return Err(Failure::Api { code, err_code: 0 }),
        None => {}
    }
    let revision = header.get(b"Nats-Sequence").and_then(number).ok_or(Failure::Malformed)?;
    Ok(Some(entry(message, revision)))
}

/// What a change to a key-value bucket depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Expect {
    /// Nothing.
    Anything,
    /// The key's revision is still this one; 0: it was never written.
    Revision(u64),
}

impl<const SUBS: usize, const REQUESTS: usize> Client<'_, SUBS, REQUESTS> {
    /// Asks a pull consumer for one message. It comes as [`Event::Pulled`]; `respond` with [`ACK`] or its like tells
    /// the consumer. If there is none it waits for `expires_ms`, then comes [`Event::Answer`] for [`pull_status`].
    ///
    /// One pull at a time: another one while the first waits takes its place, and a message for either ends it.
    pub fn pull(
        &mut self,
        stream: &str,
        consumer: &str,
        expires_ms: u32,
        now: Instant,
    ) -> Result<Token, Error> {
        let (mut subject, mut payload) = ([0; SUBJECT_MAX], [0; 64]);
        let subject =
            concat(&mut subject, &["$JS.API.CONSUMER.MSG.NEXT.", name(stream)?, ".", name(consumer)?])?;
        let mut out = Slice::new(&mut payload);
        if expires_ms > 0 {
            out.put(b"{\"batch\":1,\"expires\":");
            out.put(Digits::new(expires_ms).as_bytes());
            out.put(b"000000}");
        } else {
            out.put(b"{\"batch\":1,\"no_wait\":true}");
        }
        let payload = out.written().unwrap_or_default();
        // The server ends it; if that gets lost, we do.
        let deadline = now.after_ms(expires_ms.saturating_add(PULL_MARGIN_MS));
        self.end_pull();
        let token = self.request(&Publish::new(subject, payload), deadline)?;
        self.begin_pull(token);
        Ok(token)
    }

    /// Asks for the value of `key` in `bucket`; [`Event::Answer`] has it for [`kv_entry`].
    pub fn kv_get(&mut self, bucket: &str, key: &str, deadline: Instant) -> Result<Token, Error> {
        let mut subject = [0; SUBJECT_MAX];
        let bucket = name(bucket)?;
        let subject = concat(&mut subject, &["$JS.API.DIRECT.GET.KV_", bucket, ".$KV.", bucket, ".", key])?;
        self.request(&Publish::new(subject, b""), deadline)
    }

    /// Writes a value; [`Event::Answer`] has its revision for [`pub_ack`].
    pub fn kv_put(
        &mut self,
        bucket: &str,
        key: &str,
        value: &[u8],
        expect: Expect,
        deadline: Instant,
    ) -> Result<Token, Error> {
        self.kv_change(bucket, key, value, None, expect, deadline)
    }

    /// Deletes a key: its history stays. As [`Client::kv_put`].
    pub fn kv_delete(
        &mut self,
        bucket: &str,
        key: &str,
        expect: Expect,
        deadline: Instant,
    ) -> Result<Token, Error> {
        self.kv_change(bucket, key, b"", Some(Field::new("KV-Operation", "DEL")), expect, deadline)
    }

    fn kv_change(
        &mut self,
        bucket: &str,
        key: &str,
        value: &[u8],
        operation: Option<Field<'_>>,
        expect: Expect,
        deadline: Instant,
    ) -> Result<Token, Error> {
        let mut subject = [0; SUBJECT_MAX];
        let subject = concat(&mut subject, &["$KV.", name(bucket)?, ".", key])?;
        let revision = match expect {
            Expect::Anything => None,
            Expect::Revision(revision) => Some(Digits::new(revision)),
        };
        let expected = revision.as_ref().map(|revision| Field {
            name: b"Nats-Expected-Last-Subject-Sequence",
            value: revision.as_bytes(),
        });
        let fields = match (operation, expected) {
            (Some(one), Some(other)) => [one, other],
            (Some(one), None) | (None, Some(one)) => [one, one],
            (None, None) => return self.request(&Publish::new(subject, value), deadline),
        };
        let count = if operation.is_some() && expected.is_some() { 2 } else { 1 };
        let header = Block::new(fields.get(..count).unwrap_or_default()).map_err(|_| Error::Headers)?;
        self.request(&Publish { header: Some(&header), ..Publish::new(subject, value) }, deadline)
    }
}

/// Follows one key, as for the shadow of a device: the value once connected, then each change.
///
/// On each connection it makes a consumer that lives as long as the subscription does, and that begins with the last
/// value; what was seen before is passed over. So after a gap the newest value comes, but not each one before it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Watch<'a> {
    bucket: &'a str,
    key: &'a str,
    sid: Sid,
    deliver: &'a str,
    timeout_ms: u32,
    is_due: bool,
    asked: Option<Token>,
    revision: u64,
}

impl<'a> Watch<'a> {
    /// Watches `key` in `bucket`. The values come as messages on `deliver`, a subject of this device's own, to which
    /// `sid` is the subscription; the consumer is asked for again each `timeout_ms` without an answer.
    pub const fn new(bucket: &'a str, key: &'a str, sid: Sid, deliver: &'a str, timeout_ms: u32) -> Self {
        Self { bucket, key, sid, deliver, timeout_ms, is_due: true, asked: None, revision: 0 }
    }

    /// Asks for the consumer if that is due; call it before each `next`.
    pub fn poll<const S: usize, const R: usize>(
        &mut self,
        client: &mut Client<'_, S, R>,
        now: Instant,
    ) -> Result<(), Error> {
        if !self.is_due || !client.is_ready() {
            return Ok(());
        }
        let (bucket, mut subject, mut payload) = (name(self.bucket)?, [0; SUBJECT_MAX], [0; 2 * SUBJECT_MAX]);
        let plain = |text: &str| text.bytes().all(|byte| byte > b' ' && !matches!(byte, b'"' | b'\\'));
        if !plain(bucket) || !plain(self.key) || !plain(self.deliver) {
            return Err(Error::Subject(SubjectError::Whitespace));
        }
        let subject = concat(&mut subject, &["$JS.API.CONSUMER.CREATE.KV_", bucket])?;
        let mut out = Slice::new(&mut payload);
        for part in [
            "{\"stream_name\":\"KV_",
            bucket,
            "\",\"config\":{\"deliver_policy\":\"last_per_subject\",\"ack_policy\":\"none\",\"mem_storage\":true,\
             \"deliver_subject\":\"",
            self.deliver,
            "\",\"filter_subject\":\"$KV.",
            bucket,
            ".",
            self.key,
            "\"}}",
        ] {
            out.put(part.as_bytes());
        }
        let payload = out.written().ok_or(Error::ControlLine)?;
        // What an earlier connection asked for.
        if let Some(token) = self.asked.take() {
            client.cancel(token);
        }
        self.asked = Some(client.request(&Publish::new(subject, payload), now.after_ms(self.timeout_ms))?);
        self.is_due = false;
        Ok(())
    }

    /// Looks at an event. `Some`: a value that is newer than the last one, or why there will be none on this
    /// connection.
    pub fn handle<'m>(&mut self, event: &Event<'m>) -> Option<Result<Entry<'m>, Failure>> {
        match event {
            Event::Connected => self.is_due = true,
            Event::Message { sid, message } if *sid == self.sid => {
                let revision = message.reply.and_then(stream_sequence)?;
                if revision > self.revision {
                    self.revision = revision;
                    return Some(Ok(entry(message, revision)));
                }
            }
            Event::Answer { token, message } if self.asked == Some(*token) => {
                self.asked = None;
                return created(message.payload).err().map(Err);
            }
            Event::Expired { token } if self.asked == Some(*token) => {
                (self.is_due, self.asked) = (true, None)
            }
            Event::NoResponders { token } if self.asked == Some(*token) => {
                self.asked = None;
                return Some(Err(Failure::NoStream));
            }
            _ => {}
        }
        None
    }
}

/// Reads an answer of the API that has nothing more to tell than whether it was a yes.
fn created(payload: &[u8]) -> Result<(), Failure> {
    let mut failure = None;
    let read = json::object(payload, |key, value| {
        if let (Some("error"), Value::Nested(error)) = (key.as_plain(), value) {
            failure = Some(api_failure(error));
        }
        Ok(())
    });
    match (read, failure) {
        (Ok(()), None) => Ok(()),
        (_, Some(failure)) => Err(failure),
        (Err(_), None) => Err(Failure::Malformed),
    }
}

/// A message's number in its stream, from the subject that it is acknowledged on: `$JS.ACK.`, and with version 2 a
/// domain and an account, then stream, consumer, deliveries, and the number.
pub fn stream_sequence(reply: &[u8]) -> Option<u64> {
    let count = tokens(reply).count();
    let mut tokens = tokens(reply);
    if tokens.next() != Some(b"$JS") || tokens.next() != Some(b"ACK") || count < 9 {
        return None;
    }
    number(tokens.nth(if count > 9 { 5 } else { 3 })?)
}

fn entry<'m>(message: &Message<'m>, revision: u64) -> Entry<'m> {
    let deleted = message.field("KV-Operation").is_some() || message.field("Nats-Marker-Reason").is_some();
    Entry { revision, value: (!deleted).then_some(message.payload) }
}

/// The longest subject that is put together here.
const SUBJECT_MAX: usize = 192;
/// How much later than the server a pull ends.
const PULL_MARGIN_MS: u32 = 2_000;

/// A name that is one token.
fn name(text: &str) -> Result<&str, Error> {
    if is_word(text.as_bytes()) && !text.bytes().any(|byte| matches!(byte, b'.' | b'*' | b'>')) {
        Ok(text)
    } else {
        Err(Error::Subject(SubjectError::EmptyToken))
    }
}

fn concat<'b>(buffer: &'b mut [u8], parts: &[&str]) -> Result<Subject<'b>, Error> {
    let mut out = Slice::new(buffer);
    parts.iter().for_each(|part| out.put(part.as_bytes()));
    let written = out.written().ok_or(Error::ControlLine)?;
    Ok(Subject::new(written)?)
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 { number.checked_mul(10)?.checked_add(digit.into()) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_are_read() {
        let ack = |sequence, duplicate| Ok(PubAck { sequence, duplicate });
        for (payload, expected) in [
            (r#"{"stream":"S","seq":5}"#, ack(5, false)),
            (r#"{"stream":"S","domain":"D","seq":6,"duplicate": true}"#, ack(6, true)),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"S","seq":0}"#,
                Err(Failure::Api { code: 503, err_code: 10077 }),
            ),
            (r#"{"error":{"code":-1}}"#, Err(Failure::Malformed)),
            ("{}", Err(Failure::Malformed)),
            ("", Err(Failure::Malformed)),
            (r#"{"seq":-5}"#, Err(Failure::Malformed)),
        ] {
            assert_eq!(pub_ack(payload.as_bytes()), expected, "{payload}");
        }
    }

    #[test]
    fn numbers_of_messages() {
        for (reply, sequence) in [
            ("$JS.ACK.S.c.1.42.7.1700000000000000000.0", Some(42)),
            ("$JS.ACK.d.hash.S.c.1.43.7.1700000000000000000.0.random", Some(43)),
            ("$JS.ACK.d.hash.S.c.1.44.7.1700000000000000000.0", Some(44)),
            ("$JS.ACK.S.c.1.x.7.0.0", None),
            ("$JS.ACK.S.c.1.42", None),
            ("_INBOX.S.c.1.42.7.1.0.0.0", None),
        ] {
            assert_eq!(stream_sequence(reply.as_bytes()), sequence, "{reply}");
        }
    }

    #[test]
    fn names_are_one_token() {
        for bad in ["", "a.b", "a b", "*", "a>", "a\r\n"] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            (number(b"18446744073709551615"), number(b"18446744073709551616"), number(b"")),
            (Some(u64::MAX), None, None)
        );
    }
}
