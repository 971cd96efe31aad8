//! Stored messages, given to whoever asks.
//!
//! Source: reference 3.12 (`STREAM.MSG.GET`), 3.16; nats-server's `stream.go` (`processDirectGetRequest`,
//! `getDirectRequest`, `getDirectMulti`).

use midge_protocol::emit::Digits;
use midge_protocol::subject::is_literal;
use serde::Deserialize;

use super::Stream;
use crate::config::time_text;
use crate::cx::Cx;
use crate::headers;
use crate::log::{Filters, LogError, Stored};
use crate::seam::Message;
use crate::time::{Nanos, rfc3339};

/// Which messages are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GetRequest {
    pub(crate) seq: u64,
    pub(crate) last_by_subj: String,
    pub(crate) next_by_subj: String,
    pub(crate) batch: i64,
    pub(crate) max_bytes: i64,
    #[serde(with = "time_text")]
    pub(crate) start_time: Option<Nanos>,
    pub(crate) multi_last: Vec<String>,
    pub(crate) up_to_seq: u64,
    #[serde(with = "time_text")]
    pub(crate) up_to_time: Option<Nanos>,
    pub(crate) no_hdr: bool,
}

/// Subjects that one request may ask the last messages of.
const MULTI_LAST_MAX: usize = 1024;
/// Bytes of one answer, unless it is said: as many as may wait for a connection. Ours is smaller, since answers are made
/// before they are sent.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

impl GetRequest {
    /// True if nothing is asked.
    fn is_empty(&self) -> bool {
        self.seq == 0
            && self.last_by_subj.is_empty()
            && self.next_by_subj.is_empty()
            && self.multi_last.is_empty()
            && self.start_time.is_none()
    }

    /// True if it says which one message is asked for; what else it says, of several, doesn't count.
    pub(crate) fn is_for_one(&self) -> bool {
        let (last, next) = (!self.last_by_subj.is_empty(), !self.next_by_subj.is_empty());
        let (seq, time) = (self.seq > 0, self.start_time.is_some());
        (seq || last || next || time) && !(seq && (last || time)) && !(last && (time || next))
    }

    /// True if what is asked contradicts itself.
    pub(crate) fn conflicts(&self) -> bool {
        let last = !self.last_by_subj.is_empty();
        let next = !self.next_by_subj.is_empty();
        let multi = !self.multi_last.is_empty();
        (self.seq > 0 && (last || self.start_time.is_some()))
            || (last && (self.start_time.is_some() || next || self.batch > 0 || multi))
            || (next && multi)
            || (self.up_to_seq > 0 && self.up_to_time.is_some())
    }

    fn bytes_max(&self) -> usize {
        usize::try_from(self.max_bytes).ok().filter(|max| *max > 0).unwrap_or(ANSWER_BYTES_MAX)
    }
}

impl Stream {
    /// The one message that is asked for.
    pub(crate) fn find(&self, request: &GetRequest) -> Result<Option<Stored>, LogError> {
        let from = request.start_time.map_or(request.seq, |time| self.log.at_time(time));
        let seq = if !request.next_by_subj.is_empty() {
            self.log.next(from, &Filters::new([&request.next_by_subj]))
        } else if from > 0 {
            Some(from)
        } else {
            self.log.last(&Filters::new([&request.last_by_subj]), u64::MAX)
        };
        let Some(seq) = seq else { return Ok(None) };
        match self.log.get(seq)? {
            None if self.log.is_damaged(seq) => Err(LogError::Damaged(seq)),
            found => Ok(found),
        }
    }

    /// A direct request, whose answers are messages.
    pub(crate) fn on_direct(&self, message: &Message<'_>, cx: &mut Cx<'_>) -> Result<(), LogError> {
        let Some(reply) = message.reply else { return Ok(()) };
        let sent = match self.read_direct(message) {
            Err(status) => {
                cx.status(reply, status, "");
                Ok(())
            }
            Ok(request) if request.multi_last.is_empty() => self.send_range(&request, reply, cx),
            Ok(request) => self.send_lasts(&request, reply, cx),
        };
        if let Err(error) = &sent {
            cx.status(reply, &format!("500 {error}"), "");
        }
        sent
    }

    /// Answers a direct request for one message, if that is found and read without waiting. False: nothing was done.
    pub(crate) fn answer_at_once(&self, message: &Message<'_>, cx: &mut Cx<'_>) -> bool {
        let (Some(reply), Ok(mut asked)) = (message.reply, self.read_direct(message)) else { return false };
        let (seq, subject) = (std::mem::take(&mut asked.seq), std::mem::take(&mut asked.last_by_subj));
        let GetRequest { no_hdr, max_bytes, .. } = asked;
        if asked != (GetRequest { no_hdr, max_bytes, ..Default::default() }) {
            return false;
        }
        let seq = match seq {
            0 if is_literal(subject.as_bytes()) => self.log.last_of(subject.as_bytes()),
            0 => None,
            seq => Some(seq),
        };
        let Some(found) = seq.and_then(|seq| self.log.get_at_once(seq)) else { return false };
        self.send(&found, (!no_hdr).then_some(""), reply, cx);
        true
    }

    fn read_direct(&self, message: &Message<'_>) -> Result<GetRequest, &'static str> {
        if headers::needs_newer_api(message.header) {
            return Err("412 Required Api Level");
        }
        // Not strict here, as in nats-server.
        let read =
            || crate::json::read::<GetRequest>(message.payload, false).map_err(|_| "408 Malformed Request");
        let whole = super::DIRECT.len() + self.direct_name(message.subject).map_or(0, str::len);
        let subject = message.subject.get(whole + 1..).filter(|subject| !subject.is_empty());
        match subject {
            Some(subject) => {
                let request = read()?;
                let plain =
                    GetRequest { no_hdr: request.no_hdr, max_bytes: request.max_bytes, ..Default::default() };
                if request != plain {
                    return Err("408 Bad Request");
                }
                Ok(GetRequest { last_by_subj: String::from_utf8_lossy(subject).into_owned(), ..plain })
            }
            None if message.subject.len() > whole => Err("408 Bad Request"),
            None if message.payload.is_empty() => Err("408 Empty Request"),
            None => {
                let request = read()?;
                match (request.is_empty(), request.conflicts()) {
                    (true, _) => Err("408 Empty Request"),
                    (_, true) => Err("408 Bad Request"),
                    _ => Ok(request),
                }
            }
        }
    }

    /// A message; unless `more` is `None`, with header lines that say where it is from, and then these.
    fn send(&self, message: &Stored, more: Option<&str>, reply: &[u8], cx: &mut Cx<'_>) {
        let header = more.map_or_else(Vec::new, |more| {
            let (seq, time) = (Digits::new(message.seq), rfc3339(message.time));
            [
                message.header().strip_suffix(b"\r\n").unwrap_or(b"NATS/1.0\r\n"),
                b"Nats-Stream: ",
                self.name().as_bytes(),
                b"\r\nNats-Subject: ",
                message.subject(),
                b"\r\nNats-Sequence: ",
                seq.as_bytes(),
                b"\r\nNats-Time-Stamp: ",
                time.as_bytes(),
                b"\r\n",
                more.as_bytes(),
                b"\r\n",
            ]
            .concat()
        });
        cx.publish(reply, header, message.payload());
    }

    /// One message, or a number of them from somewhere on.
    fn send_range(&self, request: &GetRequest, reply: &[u8], cx: &mut Cx<'_>) -> Result<(), LogError> {
        if request.batch == 0 {
            match self.find(request)? {
                None => cx.status(reply, "404 Message Not Found", ""),
                Some(message) => {
                    self.send(&message, (!request.no_hdr).then_some(""), reply, cx);
                }
            }
            return Ok(());
        }
        let filters = Filters::new(Some(&request.next_by_subj).filter(|subject| !subject.is_empty()));
        let mut from = request.start_time.map_or(request.seq, |time| self.log.at_time(time));
        let all = self.log.count(from, &filters);
        let mut left = all;
        let (mut sent, mut bytes, mut last) = (0, 0, 0);
        while sent < request.batch && bytes < request.bytes_max() {
            let Some(seq) = self.log.next(from, &filters) else { break };
            left = left.saturating_sub(1);
            let Some(message) = self.log.get(seq)? else {
                // What is damaged is told to those who ask for it alone.
                from = seq + 1;
                continue;
            };
            let lines = format!("Nats-Num-Pending: {left}\r\nNats-Last-Sequence: {last}\r\n");
            self.send(&message, (!request.no_hdr).then_some(&lines), reply, cx);
            (from, last) = (message.seq + 1, message.seq);
            (sent, bytes) = (sent + 1, bytes + message.len());
        }
        // Nobody counts down for those who want no headers.
        let left = if request.no_hdr { all } else { left };
        if sent == 0 && request.batch > 0 {
            cx.status(reply, "404 Message Not Found", "");
        } else {
            let lines = format!("Nats-Num-Pending: {left}\r\nNats-Last-Sequence: {last}\r\n");
            cx.status(reply, "204 EOB", &lines);
        }
        Ok(())
    }

    /// The last messages of many subjects.
    fn send_lasts(&self, request: &GetRequest, reply: &[u8], cx: &mut Cx<'_>) -> Result<(), LogError> {
        let state = self.log.state();
        let mut upto = request.up_to_seq;
        if let Some(time) = request.up_to_time {
            upto = self.log.at_time(time);
            if upto <= state.first_seq {
                cx.status(reply, "404 No Results", "");
                return Ok(());
            }
            upto -= 1;
        }
        if upto == 0 {
            upto = state.last_seq;
        }
        // Elsewhere an empty filter is everything; here it is the subject of no message.
        let wanted: Vec<&String> = request.multi_last.iter().filter(|text| !text.is_empty()).collect();
        let mut subjects: Vec<Box<[u8]>> = Vec::new();
        if !wanted.is_empty() {
            self.log.subjects(&Filters::new(wanted), &mut |subject, _| subjects.push(subject.into()));
        }
        let last_of = |subject: Box<[u8]>| match self.log.last_of(&subject) {
            Some(last) if last > upto => {
                self.log.last(&Filters::new([String::from_utf8_lossy(&subject)]), upto)
            }
            last => last,
        };
        let mut lasts: Vec<u64> =
            subjects.into_iter().filter_map(last_of).filter(|seq| *seq >= request.seq).collect();
        lasts.sort_unstable();
        if lasts.len() > MULTI_LAST_MAX {
            cx.status(reply, "413 Too Many Results", "");
            return Ok(());
        }
        if lasts.is_empty() {
            cx.status(reply, "404 No Results", "");
            return Ok(());
        }
        let mut left = lasts.len() as u64;
        let (mut bytes, mut last) = (0, 0);
        let most = usize::try_from(request.batch).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
        for seq in lasts.into_iter().take(most) {
            let Some(message) = self.log.get(seq)? else { continue };
            left -= 1;
            let lines = format!("Nats-Num-Pending: {left}\r\nNats-Last-Sequence: {last}\r\n");
            self.send(&message, Some(&lines), reply, cx);
            (last, bytes) = (seq, bytes + message.len());
            if bytes >= request.bytes_max() {
                break;
            }
        }
        let lines = format!(
            "Nats-Num-Pending: {left}\r\nNats-Last-Sequence: {last}\r\nNats-UpTo-Sequence: {upto}\r\n"
        );
        cx.status(reply, "204 EOB", &lines);
        Ok(())
    }
}
