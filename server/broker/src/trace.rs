//! Where a message goes, for a publisher who wants to know. Source: nats-server's ADR-41 and `msgtrace.go`.
//!
//! A message with the header `Nats-Trace-Dest` is brought to its subscribers one by one, each step is noted, and the notes
//! go to the subject that the header names. With `Nats-Trace-Only` nobody gets the message itself. A `traceparent` that is
//! sampled does the same where the account says where reports go. Behind another account's border it is followed if that
//! account allows it (`allow_trace`). What streams do with it they say later, so the report waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use midge_protocol::emit::{CRLF, Digits};
use midge_protocol::op::{Message, Size};
use midge_protocol::subject::Subject;
use midge_router::SubId;
use serde::Serialize;

use crate::account::import::ImportedService;
use crate::account::service::Hop;
use crate::account::target::Target;
use crate::account::{Account, AccountId, service};
use crate::broker::{Broker, Now};
use crate::conn::{Conn, ConnId, Port, at};
use crate::inside::{Inside, Traced};
use crate::publish::{Routed, may_receive};
use crate::system::{ServerIdentity, Time};

const DESTINATION: &[u8] = b"Nats-Trace-Dest";
/// Of any case. Source: <https://www.w3.org/TR/trace-context/>.
const PARENT: &[u8] = b"traceparent";
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
    /// It is one, and says that nobody else is to trace it.
    Marked,
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
        /// If it is another account's.
        #[serde(skip_serializing_if = "String::is_empty")]
        acc: String,
        sub: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        queue: String,
        #[serde(skip_serializing_if = "str::is_empty")]
        error: &'static str,
    },
}

impl Trace {
    /// Of the publisher.
    pub(crate) fn account(&self) -> AccountId {
        self.account
    }

    /// The trace is all: nobody gets the message.
    pub(crate) fn is_all(&self) -> bool {
        self.only
    }

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
    header.split(|byte| *byte == b'\n').any(|line| match line.first() {
        Some(b'N') => line.starts_with(DESTINATION),
        Some(b't' | b'T') => line.get(..PARENT.len()).is_some_and(|name| name.eq_ignore_ascii_case(PARENT)),
        _ => false,
    })
}

/// Whether a `traceparent` says that its message is sampled: the lowest bit of its fourth part, which nats-server reads
/// as a number with a sign.
fn is_sampled(header: &BTreeMap<String, Vec<String>>) -> bool {
    let sampled = |value: &String| match value.split('-').collect::<Vec<_>>()[..] {
        [_, _, _, flags] if flags.len() == 2 => {
            i8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1)
        }
        _ => false,
    };
    let parents = header.iter().filter(|(name, _)| name.as_bytes().eq_ignore_ascii_case(PARENT));
    parents.flat_map(|(_, values)| values).any(sampled)
}

impl<P: Port> Broker<P> {
    /// Looks at the headers of a message that seems to ask for a trace.
    #[cold]
    pub(crate) fn begin_trace(&mut self, from: ConnId, message: &Message<'_>, now: Now) -> Begun {
        let header = fields(message.header());
        let first = |name: &str| header.get(name).and_then(|values| values.first()).map(String::as_str);
        let Some(account) = self.conn(from).map(Conn::account) else { return Begun::Dropped };
        let (destination, only) = match first("Nats-Trace-Dest") {
            Some(DISABLED) => return Begun::Untraced,
            Some(destination) => {
                let only = first(ONLY).is_some_and(|it| matches!(&*it.to_lowercase(), "1" | "true" | "on"));
                (destination.to_owned(), only)
            }
            None if is_sampled(&header) => match &self.accounts[account.index()].tracing {
                None => return Begun::Untraced,
                Some(tracing) => {
                    let all = !(1..100).contains(&tracing.percent);
                    if !all && self.random.below(100) > u32::from(tracing.percent) {
                        return Begun::Marked;
                    }
                    (tracing.destination.to_string(), false)
                }
            },
            None => return Begun::Untraced,
        };
        let Some(conn) = self.conn(from) else { return Begun::Dropped };
        if Subject::new(destination.as_bytes()).is_err() {
            return if only { Begun::Dropped } else { Begun::Untraced };
        }
        let is_system = self.system_account == Some(conn.account);
        let permitted = conn.permit.as_ref().is_none_or(|permit| permit.may_publish(destination.as_bytes()));
        if !permitted || crate::publish::reserved::subject(destination.as_bytes(), is_system) {
            return Begun::Denied(destination);
        }
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
    pub(crate) fn route_traced(&mut self, trace: &mut Trace, way: Way<'_>, message: &Message<'_>) -> Routed {
        let Way { account, from, now, .. } = way;
        let matches = Arc::clone(self.accounts[account.index()].router.matches(message.subject));
        let mut routed = Routed::default();
        for sub in matches.plain() {
            self.deliver_traced(trace, *sub, way, message, &mut routed);
        }
        for group in matches.groups() {
            let start = self.random.below(u32::try_from(group.len()).unwrap_or(u32::MAX)) as usize;
            let (before, after) = group.split_at(start.min(group.len()));
            for sub in after.iter().chain(before) {
                if self.deliver_traced(trace, *sub, way, message, &mut routed) {
                    break;
                }
            }
        }
        if !self.uplinks.is_empty() && !trace.only {
            let untraced = Untraced::new(message);
            let (message, subs) = (untraced.message(message), matches.plain().iter().copied());
            let sent = self.send_to_hubs(account, message.subject, from, &message, subs, now);
            routed.add(sent);
        }
        routed
    }

    /// Brings it to one. False if that one can't have it.
    fn deliver_traced(
        &mut self,
        trace: &mut Trace,
        id: SubId,
        way: Way<'_>,
        message: &Message<'_>,
        routed: &mut Routed,
    ) -> bool {
        let Way { account, from, hop, now } = way;
        let ts = Time(now.wall);
        let mut goes_on = false;
        match self.fate(account, id, from, message.subject) {
            Fate::Nobody => return false,
            Fate::Inside(Some(inside)) if self.mail.traces(inside) => {
                return self.post_for_trace(trace, id, inside, way, message, routed);
            }
            Fate::Inside(_) => goes_on = true,
            Fate::Request(import) => {
                let (to, from) = (text(&service::there(&import, message.subject)), text(message.subject));
                let acc = self.account_name(import.export.account);
                trace.steps.push(Step::ServiceImport { ts, acc, from, to });
                // Nobody gets it, so a requester is told that.
                if trace.only && !import.export.export.allow_trace {
                    return false;
                }
                return self.request_traced(trace, id, &import, way, message, routed);
            }
            Fate::Border { importer, to, followed } => {
                let acc = self.account_name(importer);
                trace.steps.push(Step::StreamExport { ts, acc, to: text(&to) });
                if let Some((to, error)) = followed {
                    trace.steps.extend(self.egress(trace, account, id, to, error, now));
                    if !error.is_empty() {
                        return false;
                    }
                }
            }
            Fate::Connection(to, error) => {
                let Some(step) = self.egress(trace, account, id, to, error, now) else { return false };
                trace.steps.push(step);
                if !error.is_empty() {
                    return false;
                }
            }
        }
        let one = match (trace.only, goes_on) {
            (true, _) => Routed { delivered: true, ..Routed::default() },
            (false, false) => self.route_one(account, id, from, message, hop, now),
            (false, true) => {
                let untraced = Untraced::new(message);
                self.route_one(account, id, from, &untraced.message(message), hop, now)
            }
        };
        routed.add(one);
        one.delivered
    }

    /// Brings it to a service of another account, and follows it there if it may.
    fn request_traced(
        &mut self,
        trace: &mut Trace,
        id: SubId,
        import: &Arc<ImportedService>,
        way: Way<'_>,
        message: &Message<'_>,
        routed: &mut Routed,
    ) -> bool {
        let Way { account, from, hop, now } = way;
        if let Some((sub, _)) = self.accounts[account.index()].subs.get_mut(id) {
            sub.delivered += 1;
        }
        let one = self.request(account, import, message.subject, from, message, hop, Some(trace), now);
        routed.add(one);
        one.delivered
    }

    /// That a connection gets it by way of a subscription of `account`, or why not.
    fn egress(
        &self,
        trace: &Trace,
        account: AccountId,
        id: SubId,
        to: ConnId,
        error: &'static str,
        now: Now,
    ) -> Option<Step> {
        let router = &self.accounts[account.index()].router;
        let (mut filter, mut queue) = (Vec::new(), Vec::new());
        router.filter_of(id, &mut filter);
        router.queue_of(id, &mut queue);
        let conn = self.conn(to)?;
        let elsewhere = conn.account != trace.account;
        Some(Step::Egress {
            ts: Time(now.wall),
            kind: CLIENT,
            cid: conn.cid,
            name: conn.name.to_string(),
            acc: if elsewhere { self.account_name(conn.account) } else { String::new() },
            sub: text(&filter),
            queue: text(&queue),
            error,
        })
    }

    fn account_name(&self, account: AccountId) -> String {
        self.accounts.get(account.index()).map(|it| it.name().to_string()).unwrap_or_default()
    }

    /// Brings it to a part of the daemon that says what it does with it.
    fn post_for_trace(
        &mut self,
        trace: &mut Trace,
        id: SubId,
        inside: Inside,
        way: Way<'_>,
        message: &Message<'_>,
        routed: &mut Routed,
    ) -> bool {
        let Way { account, from, now, .. } = way;
        let traced = Traced { number: trace.number, only: trace.only };
        let untraced = (!trace.only).then(|| Untraced::new(message));
        let message = untraced.as_ref().map_or(*message, |untraced| untraced.message(message));
        if !self.post_traced(inside, account, from, &message, traced) {
            return false;
        }
        if let Some((sub, _)) = self.accounts[account.index()].subs.get_mut(id) {
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
                let Some(conn) = self.conns.get(shadow.conn.0 as usize).and_then(Option::as_deref) else {
                    return Fate::Nobody;
                };
                let error = match () {
                    () if shadow.conn == from && !conn.echo => NO_ECHO,
                    () if conn.closing.is_some() => CLOSED,
                    () => "",
                };
                let followed = shadow.import.allow_trace.then_some((shadow.conn, error));
                Fate::Border { importer: conn.account, to: renamed, followed }
            }
            Some(Target::Service(import)) => Fate::Request(Arc::clone(import)),
            Some(Target::Inside(inside)) => Fate::Inside(Some(*inside)),
            Some(Target::Answers | Target::Beyond(_)) => Fate::Inside(None),
            // They get it at the end, once.
            Some(Target::Hub(_)) => Fate::Nobody,
        }
    }
}

/// How a traced message got where it is.
#[derive(Clone, Copy)]
pub(crate) struct Way<'w> {
    /// Where it is.
    pub(crate) account: AccountId,
    /// Who published it.
    pub(crate) from: ConnId,
    /// The border that it came over.
    pub(crate) hop: Option<&'w Hop<'w>>,
    pub(crate) now: Now,
}

/// What stands behind a subscription.
enum Fate {
    Nobody,
    /// A connection, and why it doesn't get the message; empty: it does.
    Connection(ConnId, &'static str),
    /// A service of another account.
    Request(Arc<ImportedService>),
    /// A connection of another account that imports it.
    Border {
        importer: AccountId,
        /// What it is called there.
        to: Vec<u8>,
        /// The connection, if it may be named, and why it doesn't get it; empty: it does.
        followed: Option<(ConnId, &'static str)>,
    },
    /// A part of the daemon.
    Inside(Option<Inside>),
}

/// A message whose header says that it was traced.
pub(crate) struct Untraced {
    header: Digits,
    size: Digits,
    body: Vec<u8>,
}

/// The header block that says so.
pub(crate) fn untraced(header: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(header.len() + DESTINATION.len() + DISABLED.len() + 2 * CRLF.len());
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        if !line.starts_with(DESTINATION) && line != CRLF {
            block.extend_from_slice(line);
        }
    }
    for part in [DESTINATION, b": ", DISABLED.as_bytes(), CRLF, CRLF] {
        block.extend_from_slice(part);
    }
    block
}

impl Untraced {
    pub(crate) fn new(message: &Message<'_>) -> Self {
        let mut body = untraced(message.header());
        let header = Digits::new(body.len() as u64);
        body.extend_from_slice(message.payload());
        let size = Digits::new(body.len() as u64);
        body.extend_from_slice(CRLF);
        Self { header, size, body }
    }

    pub(crate) fn message<'a>(&'a self, like: &Message<'a>) -> Message<'a> {
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
    fn a_parent_is_sampled_by_its_last_bit() {
        let traced = |line: &str| {
            let block = format!("NATS/1.0\r\n{line}\r\n\r\n");
            (asks(block.as_bytes()), is_sampled(&fields(block.as_bytes())))
        };
        for line in ["traceparent: 00-a-b-01", "TraceParent:00-a-b-7f", "TRACEPARENT: 00-a-b-03"] {
            assert_eq!(traced(line), (true, true), "{line}");
        }
        for line in
            ["traceparent: 00-a-b-00", "traceparent: 00-a-b-1", "traceparent: 00-a-01", "traceparent:"]
        {
            assert_eq!(traced(line), (true, false), "{line}");
        }
        assert_eq!(traced("tracestate: 00-a-b-01"), (false, false));
        assert_eq!(traced("Nats-Trace-Dest: x"), (true, false));
    }

    #[test]
    fn fields_are_as_they_are_written() {
        let read = fields(b"NATS/1.0\r\na: 1\r\nA:2 \r\na:3\r\n:x\r\nb:\r\nnone\r\n\r\n");
        let wanted = [("A", vec!["2"]), ("a", vec!["1", "3"])];
        let wanted =
            wanted.map(|(name, values)| (name.to_owned(), values.into_iter().map(str::to_owned).collect()));
        assert_eq!(read, BTreeMap::from(wanted));
    }
}
