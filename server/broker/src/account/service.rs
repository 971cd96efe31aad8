//! Requests that go to services of other accounts, and answers that come back.
//!
//! ```text
//! B: PUB ask.a in.1          ── request ──> A: MSG help _R_.8fhK2a.x7Gq…   (subject as exported, reply made up,
//! B: MSG in.1    <── answer ── A: PUB _R_.8fhK2a.x7Gq…                      header says who asks)
//! ```
//!
//! Both are ordinary messages of the account they end up in: its mappings and its subscribers decide, and another import
//! may lead on. A message never passes the same export twice, and at most [`HOPS_MAX`] borders.

use std::sync::Arc;

use midge_protocol::emit::{CRLF, Digits};
use midge_protocol::op::{Message, Size};
use midge_router::SubId;

use super::AccountId;
use super::answers::{self, Answer};
use super::export::{ExportedService, Response};
use super::import::{ImportedService, Name};
use super::latency::Tracking;
use super::target::{Beyond, Target};
use crate::broker::{Broker, Now};
use crate::conn::{ConnId, Port};
use crate::publish::Routed;
use crate::system::ClientInfo;
use crate::trace::{Trace, Way, untraced};

/// Borders that one message passes at most.
pub(crate) const HOPS_MAX: u32 = 32;
/// The header that says who asks. What a client sends under this name is taken out.
const REQUEST_INFO: &[u8] = b"Nats-Request-Info";
/// Replies to acknowledge a stream's message on; they stay as they are.
const ACK_PREFIX: &[u8] = b"$JS.ACK.";

/// A border that a message has passed.
pub(crate) struct Hop<'h> {
    export: &'h Arc<ExportedService>,
    share: bool,
    /// Who asked, as the header says.
    info: Option<&'h ClientInfo>,
    number: u32,
    previous: Option<&'h Hop<'h>>,
}

impl<'h> Hop<'h> {
    fn new(
        export: &'h Arc<ExportedService>,
        share: bool,
        info: Option<&'h ClientInfo>,
        previous: Option<&'h Hop<'h>>,
    ) -> Self {
        let number = previous.map_or(1, |hop| hop.number + 1);
        Self { export, share, info, number, previous }
    }

    /// Whether a message that came this way must not pass `export`.
    fn forbids(this: Option<&Hop<'_>>, export: &Arc<ExportedService>) -> bool {
        let mut hops = std::iter::successors(this, |hop| hop.previous);
        this.is_some_and(|hop| hop.number >= HOPS_MAX) || hops.any(|hop| Arc::ptr_eq(hop.export, export))
    }
}

/// The subject that a request on `subject` has where the service is.
pub(crate) fn there(import: &ImportedService, subject: &[u8]) -> Vec<u8> {
    let mut there = Vec::new();
    match &import.name {
        Name::Same => there.extend_from_slice(subject),
        Name::Fixed => there.extend_from_slice(import.there.as_bytes()),
        Name::Other(rename) => rename.back(subject, &mut there),
    }
    there
}

/// The subject that a message which came on `on` has beyond the border, where that is called `next`: what a consumer sends
/// keeps the subject that it is shown with.
pub(crate) fn shown<'m>(on: &[u8], message: &Message<'m>, next: &'m [u8]) -> &'m [u8] {
    if message.subject == on { next } else { message.subject }
}

/// Why a request ends without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nobody got the request.
    Service,
    /// The time for an answer is over.
    Time,
    /// The requester doesn't listen any more.
    Interest,
    /// It made room for others.
    Room,
}

impl<P: Port> Broker<P> {
    /// Brings a message to what a subscription of `account` leads to, if that is no connection. `on` is the subject that
    /// led there; what a consumer sends shows another, and shows it beyond the border, too.
    #[allow(clippy::too_many_arguments, reason = "one more than `route` has")]
    pub(crate) fn cross(
        &mut self,
        account: AccountId,
        sub: SubId,
        on: &[u8],
        from: ConnId,
        message: &Message<'_>,
        hop: Option<&Hop<'_>>,
        now: Now,
    ) -> Routed {
        let Some(here) = self.accounts.get_mut(account.index()) else { return Routed::default() };
        let Some((record, _)) = here.subs.get_mut(sub) else { return Routed::default() };
        record.delivered += 1;
        match here.targets.get(record.conn) {
            Some(Target::Service(import)) => {
                let import = Arc::clone(import);
                self.request(account, &import, on, from, message, hop, None, now)
            }
            Some(Target::Answers) => self.answer(account, on, from, message, hop, now),
            Some(Target::Inside(inside)) => {
                let inside = *inside;
                let delivered = self.post_inside(inside, account, from, message);
                Routed { delivered, ..Routed::default() }
            }
            Some(Target::Beyond(beyond)) => {
                let Beyond { inside, account, import } = &**beyond;
                // What comes by one border doesn't leave by another.
                if hop.is_some() || import.expires.is_some_and(|at| at <= now.wall) {
                    return Routed::default();
                }
                let mut subject = Vec::new();
                import.rename(on, &mut subject);
                let (inside, account) = (*inside, *account);
                let message = Message { subject: shown(on, message, &subject), ..*message };
                let delivered = self.post_inside(inside, account, from, &message);
                Routed { delivered, ..Routed::default() }
            }
            // Hubs got it already.
            Some(Target::Shadow(_) | Target::Hub(_)) | None => Routed::default(),
        }
    }

    /// Brings a request on `on` to a service of another account. With a trace, what becomes of it there is noted, if that
    /// account allows it.
    #[allow(clippy::too_many_arguments, reason = "what `cross` has")]
    pub(crate) fn request(
        &mut self,
        account: AccountId,
        import: &Arc<ImportedService>,
        on: &[u8],
        from: ConnId,
        message: &Message<'_>,
        hop: Option<&Hop<'_>>,
        trace: Option<&mut Trace>,
        now: Now,
    ) -> Routed {
        let export = &import.export;
        let exporter = export.account;
        let expired = import.expires.is_some_and(|at| at <= now.wall);
        if expired || Hop::forbids(hop, export) {
            return Routed::default();
        }
        let share = hop.map_or(import.share, |hop| hop.share);
        let sampled = self.samples(export, message);
        let requestor = |broker: &Self| broker.client_info(from, account, share);
        let (reply, opened) = match message.reply {
            Some(reply) if reply.starts_with(ACK_PREFIX) => (Some(reply.to_vec()), None),
            Some(reply) => {
                let single = export.export.response == Response::Single;
                let tracking = sampled
                    .filter(|_| single)
                    .map(|header| Box::new(Tracking::new(requestor(self), header, now)));
                let (subject, number) =
                    self.open_answer(exporter, account, reply, export, import.share, tracking, now);
                (Some(subject), Some(number))
            }
            None => {
                if let Some(header) = sampled {
                    self.report_bad_request(export, requestor(self), header, now);
                }
                (None, None)
            }
        };

        let subject = there(import, on);
        let mut mapped = Vec::new();
        let subject = match self.map_subject(exporter, &subject, &mut mapped) {
            Some(mapped) => mapped,
            None => &subject,
        };

        let info = self.request_info(account, import, from, hop, share);
        let mut header = info_header(message.header(), &info.to_json());
        if trace.is_some() {
            header = untraced(&header);
        }
        let mut body = Vec::with_capacity(header.len() + message.body.len());
        body.extend_from_slice(&header);
        body.extend_from_slice(message.payload());
        let size = Digits::new(body.len() as u64);
        body.extend_from_slice(CRLF);
        let header = Digits::new(header.len() as u64);
        let request = Message {
            subject: shown(on, message, subject),
            reply: reply.as_deref(),
            header_size: Some(Size::from(&header)),
            size: Size::from(&size),
            body: &body,
        };
        let next = Hop::new(export, import.share, Some(&info), hop);
        let mut nobody = false;
        let routed = match trace {
            None => self.route(exporter, subject, from, &request, Some(&next), now),
            // What becomes of it there is nobody's business.
            Some(_) if !export.export.allow_trace => {
                self.route(exporter, subject, from, &request, Some(&next), now)
            }
            Some(trace) => {
                nobody = trace.is_all();
                self.route_traced(trace, Way { account: exporter, from, hop: Some(&next), now }, &request)
            }
        };
        if let Some(number) = opened.filter(|_| nobody || !routed.delivered) {
            self.close_answer(exporter, number, Lost::Service, now);
        }
        routed
    }

    /// What the exporting account gets to know of who asks.
    fn request_info(
        &self,
        account: AccountId,
        import: &ImportedService,
        from: ConnId,
        hop: Option<&Hop<'_>>,
        share: bool,
    ) -> ClientInfo {
        let to_system = self.system_account == Some(import.export.account);
        let mut info = match hop.and_then(|hop| hop.info) {
            Some(asked) => {
                let service = self.accounts[account.index()].name.clone();
                ClientInfo { service, ..asked.clone() }
            }
            None => self.client_info(from, account, share),
        };
        let opens = hop.is_some() && import.share;
        if !share && (to_system || opens) {
            info.server = self.settings.info.name.as_str().into();
        }
        info
    }

    fn answer(
        &mut self,
        account: AccountId,
        on: &[u8],
        from: ConnId,
        message: &Message<'_>,
        hop: Option<&Hop<'_>>,
        now: Now,
    ) -> Routed {
        let answers = &mut self.accounts[account.index()].answers;
        let found = answers.find(on);
        let Some((number, open)) = found.and_then(|number| Some((number, answers.get_mut(number)?))) else {
            // Too late, or made up. Nobody waits for this, but the responder need not know.
            return Routed { delivered: true, ..Routed::default() };
        };
        let (requester, to, export, share) =
            (open.account, open.to.clone(), Arc::clone(&open.export), open.share);
        if Hop::forbids(hop, &export) {
            return Routed::default();
        }
        let tracking = open.tracking.take();
        let mut opened = None;
        let reply = match message.reply {
            Some(reply) if reply.starts_with(ACK_PREFIX) => Some(reply.to_vec()),
            Some(reply) => {
                let (subject, number) =
                    self.open_answer(requester, account, reply, &export, share, None, now);
                opened = Some(number);
                Some(subject)
            }
            None => None,
        };
        if let Some(tracking) = tracking {
            let responder = self.client_info(from, account, true);
            self.report_answered(&export, &tracking, responder, now);
        }
        let mut mapped = Vec::new();
        let to = match self.map_subject(requester, &to, &mut mapped) {
            Some(mapped) => mapped,
            None => &to,
        };
        let answer = Message { subject: shown(on, message, to), reply: reply.as_deref(), ..*message };
        let next = Hop::new(&export, share, None, hop);
        let routed = self.route(requester, to, from, &answer, Some(&next), now);
        if let Some(number) = opened.filter(|_| !routed.delivered) {
            self.close_answer(requester, number, Lost::Service, now);
        }
        let last = export.export.response == Response::Single || message.size.value == 0;
        if last || !routed.delivered {
            self.close_answer(account, number, Lost::Service, now);
        } else if let Some(open) = self.accounts[account.index()].answers.get_mut(number) {
            open.since = now.mono;
        }
        routed
    }

    /// Makes a reply subject in `exporter` whose answers go to `reply` in `account`.
    #[allow(clippy::too_many_arguments, reason = "they are what an answer is made of")]
    fn open_answer(
        &mut self,
        exporter: AccountId,
        account: AccountId,
        reply: &[u8],
        export: &Arc<ExportedService>,
        share: bool,
        tracking: Option<Box<Tracking>>,
        now: Now,
    ) -> (Vec<u8>, u64) {
        if !self.accounts[exporter.index()].answers.has_prefix() {
            let prefix = answers::prefix(self.secret.next());
            let filter = [&prefix[..], b">"].concat();
            if let Some(sub) = self.insert_target(exporter, &filter, Target::Answers) {
                self.accounts[exporter.index()].answers.set_prefix(prefix, sub);
            }
        }
        let answer = Answer {
            account,
            to: reply.into(),
            export: Arc::clone(export),
            share,
            since: now.mono,
            tracking,
        };
        let until = answer.until();
        let number = self.secret.next();
        let (subject, number, gone) = self.accounts[exporter.index()].answers.open(number, answer);
        self.accounts[account.index()].awaited.insert(reply, exporter, number);
        for (number, answer) in gone {
            self.stats.answers_dropped += 1;
            self.answer_closed(exporter, number, answer, Lost::Room, now);
        }
        self.arm_answers(exporter, until);
        (subject, number)
    }

    /// Ends a request.
    pub(crate) fn close_answer(&mut self, exporter: AccountId, number: u64, why: Lost, now: Now) {
        let Some(account) = self.accounts.get_mut(exporter.index()) else { return };
        if let Some(answer) = account.answers.close(number) {
            self.answer_closed(exporter, number, answer, why, now);
        }
    }

    fn answer_closed(&mut self, exporter: AccountId, number: u64, answer: Answer, why: Lost, now: Now) {
        if let Some(account) = self.accounts.get_mut(answer.account.index()) {
            account.awaited.remove(&answer.to, exporter, number);
        }
        if let Some(tracking) = &answer.tracking {
            self.report_lost(&answer.export, tracking, why, now);
        }
    }

    /// Ends the requests of an account whose time is over, and sets the next alarm.
    pub(crate) fn expire_answers(&mut self, exporter: AccountId, now: Now) {
        let Some(account) = self.accounts.get_mut(exporter.index()) else { return };
        account.answers.armed = false;
        for number in account.answers.over(now.mono) {
            self.close_answer(exporter, number, Lost::Time, now);
        }
        if let Some(next) = self.accounts[exporter.index()].answers.next_over() {
            self.arm_answers(exporter, next.max(now.mono + answers::PAUSE));
        }
    }
}

/// The header block with `json` as the only [`REQUEST_INFO`], last.
pub(crate) fn info_header(block: &[u8], json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + REQUEST_INFO.len() + json.len() + 16);
    let mut lines = block.split_inclusive(|byte| *byte == b'\n');
    match lines.next() {
        Some(version) if version.ends_with(CRLF) => out.extend_from_slice(version),
        _ => out.extend_from_slice(b"NATS/1.0\r\n"),
    }
    for line in lines.filter(|line| *line != CRLF && !is_request_info(line)) {
        out.extend_from_slice(line);
    }
    if !out.ends_with(CRLF) {
        out.extend_from_slice(CRLF);
    }
    for part in [REQUEST_INFO, b": ", json, CRLF, CRLF] {
        out.extend_from_slice(part);
    }
    out
}

/// In any case of letters: who reads it may not care either.
fn is_request_info(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(REQUEST_INFO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(block: &str) -> String {
        String::from_utf8(info_header(block.as_bytes(), b"{}")).unwrap()
    }

    #[test]
    fn who_asks_is_said_once_and_by_the_server() {
        let info = "Nats-Request-Info: {}\r\n\r\n";
        assert_eq!(header(""), format!("NATS/1.0\r\n{info}"));
        assert_eq!(header("NATS/1.0\r\n\r\n"), format!("NATS/1.0\r\n{info}"));
        assert_eq!(header("NATS/1.0\r\nA: b\r\n\r\n"), format!("NATS/1.0\r\nA: b\r\n{info}"));
        assert_eq!(header("NATS/1.0 503 x\r\n\r\n"), format!("NATS/1.0 503 x\r\n{info}"));
        for forged in ["Nats-Request-Info: {\"acc\":\"X\"}", "nats-request-INFO:x", " Nats-Request-Info : x"]
        {
            let block = format!("NATS/1.0\r\n{forged}\r\nA: b\r\n{forged}\r\n\r\n");
            assert_eq!(header(&block), format!("NATS/1.0\r\nA: b\r\n{info}"), "{forged}");
        }
        assert_eq!(header("garbage"), format!("NATS/1.0\r\n{info}"));
        assert_eq!(header("NATS/1.0\r\nA: b"), format!("NATS/1.0\r\nA: b\r\n{info}"));
    }
}
