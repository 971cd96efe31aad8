//! Where a message goes, for a publisher who wants to know. Source: nats-server's ADR-41 and `msgtrace.go`.
//!
//! A message with the header `Nats-Trace-Dest` is brought to its subscribers one by one, each step is noted, and the notes
//! go to the subject that the header names. With `Nats-Trace-Only` nobody gets the message itself. What lies behind another
//! account's border is not followed. What streams do with it they say later, so the report waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use midge_protocol::emit::{CRLF, Digits};
use midge_protocol::op::{Message, Size};
use midge_protocol::subject::Subject;
use midge_router::SubId;
use serde::Serialize;

use crate::account::target::Target;
use crate::account::{Account, AccountId, service};
use crate::broker::{Broker, Now};
use crate::conn::{Conn, ConnId, Port, at};
use crate::inside::{Inside, Traced};
use crate::publish::{Routed, may_receive};
use crate::system::{ServerIdentity, Time};

const DESTINATION: &[u8] = b"Nats-Trace-Dest";
/// A destination that is none: somebody before us has traced it.
const DISABLED: &str = "trace disabled";
const ONLY: &str = "Nats-Trace-Only";
/// What nats-server calls a client.
const CLIENT: u8 = 0;
/// Headers that a report repeats at most.
const HEADERS_MAX: usize = 64;

/// Bytes of traces that wait for streams at most. Those above say nothing of them.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

const NO_ECHO: &str = "Not delivered because of no echo";
const SUB_DENIED: &str = "Not delivered because subscription denies this subject";
const CLOSED: &str = "Not delivered because client is closed";
const EXCEEDED: &str = "Not delivered because auto-unsubscribe exceeded";
const SLOW: &str = "Not delivered because fast producer not stalled and consumer is slow";

/// Those that wait for what streams say.
#[derive(Default)]
pub(crate) struct Traces {
    last: u64,
    waiting: BTreeMap<u64, Trace>,
    bytes: usize,
}

/// What a stream did with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStep {
    /// Its name.
    pub stream: String,
    /// The subject that it is stored under, if it got so far.
    pub subject: String,
    /// It was not stored, for nobody wants it.
    pub no_interest: bool,
    /// Why it was refused; empty if it wasn't.
    pub error: String,
}

/// A message that is traced.
pub(crate) struct Trace {
    number: u64,
    /// Streams that have not said yet what they do with it.
    awaits: u32,
    account: AccountId,
    destination: String,
    only: bool,
    request: Request,
    steps: Vec<Step>,
}

/// What becomes of a message with trace headers.
pub(crate) enum Begun {
    /// It is a message like others.
    Untraced,
    Traced(Box<Trace>),
    /// It goes nowhere.
    Dropped,
    /// It goes nowhere, because its publisher may not publish here.
    Denied(String),
}

#[derive(Serialize)]
struct Report {
    server: ServerIdentity,
    request: Request,
    events: Vec<Step>,
}

#[derive(Serialize)]
struct Request {
    header: BTreeMap<String, Vec<String>>,
    msgsize: usize,
}

/// What happened to a message. Names are nats-server's.
#[derive(Serialize)]
#[serde(tag = "type")]
enum Step {
    #[serde(rename = "in")]
    Ingress {
        ts: Time,
        kind: u8,
        cid: u64,
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
        acc: String,
        subj: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        error: String,
    },
    #[serde(rename = "sm")]
    Mapping { ts: Time, to: String },
    #[serde(rename = "se")]
    StreamExport { ts: Time, acc: String, to: String },
    #[serde(rename = "si")]
    ServiceImport { ts: Time, acc: String, from: String, to: String },
    /// Without a stream: it has not been said yet.
    #[serde(rename = "js")]
    JetStream {
        ts: Time,
        stream: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        subject: String,
        #[serde(skip_serializing_if = "is_false")]
        nointerest: bool,
        #[serde(skip_serializing_if = "String::is_empty")]
        error: String,
    },
    #[serde(rename = "eg")]
    Egress {
        ts: Time,
        kind: u8,
        cid: u64,
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
        sub: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        queue: String,
        #[serde(skip_serializing_if = "str::is_empty")]
        error: &'static str,
    },
}

impl Trace {
    /// Memory that it takes, more or less.
    fn bytes(&self) -> usize {
        let fields = self.request.header.iter();
        let text = fields.map(|(name, values)| name.len() + values.iter().map(String::len).sum::<usize>());
        let steps = self.steps.len() * size_of::<Step>();
        size_of::<Self>() + self.destination.len() + text.sum::<usize>() + steps
    }

    /// Mappings of the account made another subject of it.
    pub(crate) fn mapped(&mut self, subject: &[u8], now: Now) {
        self.steps.push(Step::Mapping { ts: Time(now.wall), to: text(subject) });
    }

    /// It was refused.
    pub(crate) fn refused(&mut self, why: impl std::fmt::Display) {
        if let Some(Step::Ingress { error, .. }) = self.steps.first_mut() {
            *error = why.to_string();
        }
    }
}

/// Whether a header block asks for a trace, or seems to.
pub(crate) fn asks(header: &[u8]) -> bool {
    header.split(|byte| *byte == b'\n').any(|line| line.starts_with(DESTINATION))
}

impl<P: Port> Broker<P> {
    /// Looks at the headers of a message that seems to ask for a trace.
    #[cold]
    pub(crate) fn begin_trace(&mut self, from: ConnId, message: &Message<'_>, now: Now) -> Begun {
        let header = fields(message.header());
        let first = |name: &str| header.get(name).and_then(|values| values.first()).map(String::as_str);
        let Some(destination) = first("Nats-Trace-Dest").filter(|it| *it != DISABLED).map(str::to_owned)
        else {
            return Begun::Untraced;
        };
        let only = first(ONLY).is_some_and(|it| matches!(&*it.to_lowercase(), "1" | "true" | "on"));
        let Some(conn) = self.conn(from) else { return Begun::Dropped };
        if Subject::new(destination.as_bytes()).is_err() {
            return if only { Begun::Dropped } else { Begun::Untraced };
        }
        let is_system = self.system_account == Some(conn.account);
        let permitted = conn.permit.as_ref().is_none_or(|permit| permit.may_publish(destination.as_bytes()));
        if !permitted || crate::publish::reserved::subject(destination.as_bytes(), is_system) {
            return Begun::Denied(destination);
        }
        let account = conn.account;
        let ingress = Step::Ingress {
            ts: Time(now.wall),
            kind: CLIENT,
            cid: conn.cid,
            name: conn.name.to_string(),
            acc: self.accounts[account.index()].name().to_string(),
            subj: text(message.subject),
            error: String::new(),
        };
        let request = Request { header, msgsize: message.size.value as usize };
        self.traces.last += 1;
        let (number, steps) = (self.traces.last, vec![ingress]);
        Begun::Traced(Box::new(Trace { number, awaits: 0, account, destination, only, request, steps }))
    }

    /// Publishes what was noted, at the end of the turn, or once streams have said what they do.
    #[cold]
    pub(crate) fn end_trace(&mut self, trace: Trace, now: Now) {
        let bytes = trace.bytes();
        if trace.awaits > 0 && self.traces.bytes + bytes <= WAITING_BYTES_MAX {
            self.traces.bytes += bytes;
            self.traces.waiting.insert(trace.number, trace);
            return;
        }
        let Trace { account, destination, request, mut steps, .. } = trace;
        steps.retain(|step| !matches!(step, Step::JetStream { stream, .. } if stream.is_empty()));
        let report = Report { server: self.identity(now), request, events: steps };
        self.announce(account, destination, &report);
    }

    /// What became of a [`Traced`] message; `None` if it wasn't for a stream.
    pub fn traced(&mut self, number: u64, said: Option<StreamStep>, now: Now) {
        let Some(mut trace) = self.traces.waiting.remove(&number) else { return };
        self.traces.bytes = self.traces.bytes.saturating_sub(trace.bytes());
        let unsaid = |step: &&mut Step| matches!(step, Step::JetStream { stream, .. } if stream.is_empty());
        if let (Some(said), Some(step)) = (said, trace.steps.iter_mut().find(unsaid)) {
            let StreamStep { stream, subject, no_interest: nointerest, error } = said;
            *step = Step::JetStream { ts: Time(now.wall), stream, subject, nointerest, error };
        }
        trace.awaits = trace.awaits.saturating_sub(1);
        self.end_trace(trace, now);
    }

    /// Brings `message` to whom its subject reaches, one by one.
    #[cold]
    pub(crate) fn route_traced(
        &mut self,
        trace: &mut Trace,
        from: ConnId,
        message: &Message<'_>,
        now: Now,
    ) -> Routed {
        let account = trace.account;
        let matches = Arc::clone(self.accounts[account.index()].router.matches(message.subject));
        let mut routed = Routed::default();
        for sub in matches.plain() {
            self.deliver_traced(trace, *sub, from, message, now, &mut routed);
        }
        for group in matches.groups() {
            let start = self.random.below(u32::try_from(group.len()).unwrap_or(u32::MAX)) as usize;
            let (before, after) = group.split_at(start.min(group.len()));
            for sub in after.iter().chain(before) {
                if self.deliver_traced(trace, *sub, from, message, now, &mut routed) {
                    break;
                }
            }
        }
        if !self.uplinks.is_empty() && !trace.only {
            let untraced = Untraced::new(message);
            let (message, subs) = (untraced.message(message), matches.plain().iter().copied());
            let sent = self.send_to_hubs(account, message.subject, from, &message, subs, now);
            routed.delivered |= sent.delivered;
            routed.cost.deliveries += sent.cost.deliveries;
            routed.cost.bytes += sent.cost.bytes;
        }
        routed
    }

    /// Brings it to one. False if that one can't have it.
    fn deliver_traced(
        &mut self,
        trace: &mut Trace,
        id: SubId,
        from: ConnId,
        message: &Message<'_>,
        now: Now,
        routed: &mut Routed,
    ) -> bool {
        let (ts, account) = (Time(now.wall), trace.account);
        let mut goes_on = false;
        let step = match self.fate(account, id, from, message.subject) {
            Fate::Nobody => return false,
            Fate::Inside(Some(inside)) if self.mail.traces(inside) => {
                return self.post_for_trace(trace, id, inside, from, message, now, routed);
            }
            Fate::Inside(_) => {
                goes_on = true;
                None
            }
            Fate::Beyond(step) => {
                let step = step(ts);
                goes_on = matches!(step, Step::ServiceImport { .. });
                Some(step)
            }
            Fate::Connection(to, error) => {
                let Account { router, .. } = &self.accounts[account.index()];
                let (mut filter, mut queue) = (Vec::new(), Vec::new());
                router.filter_of(id, &mut filter);
                router.queue_of(id, &mut queue);
                let Some(conn) = self.conn(to) else { return false };
                trace.steps.push(Step::Egress {
                    ts,
                    kind: CLIENT,
                    cid: conn.cid,
                    name: conn.name.to_string(),
                    sub: text(&filter),
                    queue: text(&queue),
                    error,
                });
                if !error.is_empty() {
                    return false;
                }
                None
            }
        };
        trace.steps.extend(step);
        let one = match (trace.only, goes_on) {
            (true, _) => Routed { delivered: true, ..Routed::default() },
            (false, false) => self.route_one(account, id, from, message, now),
            (false, true) => {
                let untraced = Untraced::new(message);
                self.route_one(account, id, from, &untraced.message(message), now)
            }
        };
        routed.delivered |= one.delivered;
        routed.cost.deliveries += one.cost.deliveries;
        routed.cost.bytes += one.cost.bytes;
        one.delivered
    }

    /// Brings it to a part of the daemon that says what it does with it.
    #[allow(clippy::too_many_arguments, reason = "the rest of `deliver_traced`, for one kind of subscriber")]
    fn post_for_trace(
        &mut self,
        trace: &mut Trace,
        id: SubId,
        inside: Inside,
        from: ConnId,
        message: &Message<'_>,
        now: Now,
        routed: &mut Routed,
    ) -> bool {
        let traced = Traced { number: trace.number, only: trace.only };
        let untraced = (!trace.only).then(|| Untraced::new(message));
        let message = untraced.as_ref().map_or(*message, |untraced| untraced.message(message));
        if !self.post_traced(inside, trace.account, from, &message, traced) {
            return false;
        }
        if let Some((sub, _)) = self.accounts[trace.account.index()].subs.get_mut(id) {
            sub.delivered += 1;
        }
        let (stream, subject, error) = Default::default();
        trace.steps.push(Step::JetStream { ts: Time(now.wall), stream, subject, nointerest: false, error });
        trace.awaits += 1;
        routed.delivered = true;
        true
    }

    /// What stands behind a subscription, and what keeps it from getting a message.
    fn fate(&mut self, account: AccountId, id: SubId, from: ConnId, subject: &[u8]) -> Fate {
        let drop_above = self.settings.no_fast_producer_stall.then(|| self.stall_pending());
        let Account { subs, targets, .. } = &mut self.accounts[account.index()];
        let Some((sub, _)) = subs.get_mut(id) else { return Fate::Nobody };
        let to = sub.conn;
        if let Some(conn) = at(&mut self.conns, to) {
            let slow = |above: usize| conn.queued > above && conn.pending() > above;
            let why = if to == from && !conn.echo {
                NO_ECHO
            } else if sub.is_filtered() && !may_receive(conn, id, subject) {
                SUB_DENIED
            } else if sub.max > 0 && sub.delivered >= u64::from(sub.max) {
                EXCEEDED
            } else if drop_above.is_some_and(slow) {
                SLOW
            } else if conn.closing.is_some() {
                CLOSED
            } else {
                ""
            };
            return Fate::Connection(to, why);
        }
        match targets.get(to) {
            None => Fate::Nobody,
            Some(Target::Shadow(shadow)) => {
                let mut renamed = Vec::new();
                shadow.import.rename(subject, &mut renamed);
                let there =
                    self.conns.get(shadow.conn.0 as usize).and_then(Option::as_deref).map(Conn::account);
                let acc = there.map(|it| self.accounts[it.index()].name().to_string()).unwrap_or_default();
                Fate::Beyond(Box::new(move |ts| Step::StreamExport { ts, acc, to: text(&renamed) }))
            }
            Some(Target::Service(import)) => {
                let (to, from) = (text(&service::there(import, subject)), text(subject));
                let exporter = import.export.account;
                let acc = self.accounts[exporter.index()].name().to_string();
                Fate::Beyond(Box::new(move |ts| Step::ServiceImport { ts, acc, from, to }))
            }
            Some(Target::Inside(inside)) => Fate::Inside(Some(*inside)),
            Some(Target::Answers | Target::Beyond(_)) => Fate::Inside(None),
            // They get it at the end, once.
            Some(Target::Hub(_)) => Fate::Nobody,
        }
    }
}

/// What stands behind a subscription.
enum Fate {
    Nobody,
    /// A connection, and why it doesn't get the message; empty: it does.
    Connection(ConnId, &'static str),
    /// Another account, and the step that leads there.
    Beyond(Box<dyn FnOnce(Time) -> Step>),
    /// A part of the daemon.
    Inside(Option<Inside>),
}

/// A message whose header says that it was traced.
struct Untraced {
    header: Digits,
    size: Digits,
    body: Vec<u8>,
}

impl Untraced {
    fn new(message: &Message<'_>) -> Self {
        let mut body = Vec::with_capacity(message.body.len() + DISABLED.len());
        for line in message.header().split_inclusive(|byte| *byte == b'\n') {
            if !line.starts_with(DESTINATION) && line != CRLF {
                body.extend_from_slice(line);
            }
        }
        for part in [DESTINATION, b": ", DISABLED.as_bytes(), CRLF, CRLF] {
            body.extend_from_slice(part);
        }
        let header = Digits::new(body.len() as u64);
        body.extend_from_slice(message.payload());
        let size = Digits::new(body.len() as u64);
        body.extend_from_slice(CRLF);
        Self { header, size, body }
    }

    fn message<'a>(&'a self, like: &Message<'a>) -> Message<'a> {
        let (header_size, size) = (Some(Size::from(&self.header)), Size::from(&self.size));
        Message { header_size, size, body: &self.body, ..*like }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The fields of a header block, as they are written; what is no field is left out.
fn fields(header: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut fields = BTreeMap::<_, Vec<_>>::new();
    for line in header.split(|byte| *byte == b'\n').skip(1).take(HEADERS_MAX) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (text(&line[..colon]), text(&line[colon + 1..]));
        let value = value.trim_matches([' ', '\t', '\r']);
        if !name.is_empty() && !value.is_empty() {
            fields.entry(name).or_default().push(value.to_owned());
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_as_they_are_written() {
        let read = fields(b"NATS/1.0\r\na: 1\r\nA:2 \r\na:3\r\n:x\r\nb:\r\nnone\r\n\r\n");
        let wanted = [("A", vec!["2"]), ("a", vec!["1", "3"])];
        let wanted =
            wanted.map(|(name, values)| (name.to_owned(), values.into_iter().map(str::to_owned).collect()));
        assert_eq!(read, BTreeMap::from(wanted));
    }
}
