//! The client's side of a connection, as a machine of values: no heap, no I/O, no clock.
//!
//! ```text
//!   bytes ---> Session::next ---> Event        what a server sent
//!   verbs ---> Session::publish, ... ---> Sink  what we send
//!   time ----> Session::tick, deadline         when silence means something
//!
//!   Greeting --INFO--> Greeted --connect()--> Connecting --PONG--> Ready
//!       '----------------'--- fatal -ERR, broken rule, silence ---'---> Closed
//! ```
//!
//! A [`Session`] is one connection; make a new one for the next. What outlives a connection lives beside it:
//! [`Subs`], the subscriptions that are asked for again, and [`Requests`], the answers that are waited for.
//!
//! The caller owns all memory. It hands [`Session::next`] what has arrived and was not used, drops what the answer
//! says was used, and never needs a buffer larger than it has: an INFO of any length is read as it passes, a message
//! that doesn't fit is announced and then handed out in pieces, and its payload is never taken for protocol.
//!
//! A loop around it, for one thread:
//!
//! ```text
//!   loop
//!     match session.next(received)
//!       Event(event, used)     act on it, drop `used` bytes
//!       Need { used, .. }      drop `used` bytes, session.poll_transmit(out), write `out`,
//!                              read more, or session.tick(now) when session.deadline() comes first
//!       Bad(rule)              hang up, connect again
//! ```

mod event;
mod keepalive;
mod login;
mod oversize;
mod request;
mod scan;
mod server;
mod subs;

pub use event::{Event, Oversized, ServerError, Step};
pub use keepalive::Silence;
pub use login::Login;
pub use request::{Answer, Answers, Inbox, Reply, Requests, Token};
pub use server::{Nonce, Server};
pub use subs::Subs;

use crate::emit::{self, CRLF, Sink};
use crate::error::Rule;
use crate::header::{Block, Header, NO_RESPONDERS};
use crate::limits::{Limits, MAX_CONTROL_LINE};
use crate::op::ServerOp;
use crate::parse::{self, server_op};
use crate::subject::{Filter, Subject, SubjectError, is_word};
use crate::time::Instant;
use keepalive::Keepalive;
use oversize::{Body, LongHead};
use scan::Scan;

/// What a caller settles before it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes that the caller's receive buffer holds; what is longer is handed out in pieces. At least 64.
    pub buffer_size: usize,
    /// How long INFO may take, and then how long the answer to CONNECT may take, in ms. Default: 2 s.
    pub connect_timeout_ms: u32,
    /// Silence after which a PING asks whether the server is there, in ms; up to twice as long passes before it is
    /// sent. Default: 1 min.
    pub ping_interval_ms: u32,
    /// PINGs without an answer before the connection counts as lost. Default: 2.
    pub pings_max: u8,
}

impl Config {
    /// The defaults, for a receive buffer of `buffer_size` bytes.
    pub const fn new(buffer_size: usize) -> Self {
        Self { buffer_size, connect_timeout_ms: 2_000, ping_interval_ms: 60_000, pings_max: 2 }
    }
}

/// Why a verb did nothing. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The session isn't in a phase for that: before CONNECT, or after the end.
    Phase,
    /// The sink has less room than this many bytes. Write out what it holds and try again.
    Room {
        /// Bytes that the operation takes.
        needed: usize,
    },
    /// The table of subscriptions or requests is full.
    Full,
    /// No subject, or no filter.
    Subject(SubjectError),
    /// A queue group's name is empty or has white space in it.
    Queue,
    /// Subject, reply and queue are longer together than a server reads.
    ControlLine,
    /// The message is larger than the server takes.
    Payload {
        /// The server's limit, in bytes.
        max: u32,
    },
    /// The server takes no headers.
    Headers,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Phase => f.write_str("the session is not connected"),
            Self::Room { needed } => write!(f, "no room for {needed} bytes to send"),
            Self::Full => f.write_str("the table is full"),
            Self::Subject(error) => error.fmt(f),
            Self::Queue => f.write_str("a queue group's name must be one word"),
            Self::ControlLine => f.write_str("the subject is too long"),
            Self::Payload { max } => write!(f, "the server takes at most {max} bytes"),
            Self::Headers => f.write_str("the server takes no headers"),
        }
    }
}

impl core::error::Error for Error {}

impl From<SubjectError> for Error {
    fn from(error: SubjectError) -> Self {
        Self::Subject(error)
    }
}

/// A client's own name of a subscription on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid(pub u32);

impl Sid {
    /// Kept for the inbox of [`Requests`]; [`Subs`] never gives it out.
    pub const INBOX: Self = Self(0);

    fn parse(text: &[u8]) -> Option<Self> {
        let mut sid = 0u32;
        for byte in text {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            sid = sid.checked_mul(10)?.checked_add(u32::from(digit))?;
        }
        Some(Self(sid))
    }
}

/// A message to send.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Where it goes.
    pub subject: Subject<'a>,
    /// Where an answer is wanted.
    pub reply: Option<Subject<'a>>,
    /// Its headers.
    pub header: Option<&'a Block<'a>>,
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// A message without reply and headers.
    pub fn new(subject: Subject<'a>, payload: &'a [u8]) -> Self {
        Self { subject, reply: None, header: None, payload }
    }
}

/// A promise that [`Session::is_flushed`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush(u16);

/// One connection to a server. See the [module](self).
#[derive(Clone, Debug)]
pub struct Session {
    config: Config,
    phase: Phase,
    reading: Reading,
    server: Server,
    keepalive: Keepalive,
    /// PINGs that were sent; the n-th PONG answers the n-th. Both wrap.
    pings_sent: u16,
    pongs_seen: u16,
    pongs_due: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// INFO is waited for.
    Greeting,
    /// INFO is there, the caller is to say CONNECT.
    Greeted,
    /// CONNECT and PING are sent.
    Connecting,
    Ready,
    Closed,
}

/// What the next byte belongs to.
#[derive(Clone, Debug)]
enum Reading {
    Operation,
    /// An INFO that is longer than the buffer.
    Info(Scan),
    /// A control line of MSG or HMSG that is longer than the buffer.
    Head(LongHead),
    /// The body of a message that is larger than the buffer.
    Body(Body),
    /// The rest of an -ERR that is longer than the buffer.
    RestOfLine,
}

/// What came of some input.
enum Progress<'b> {
    Need(usize),
    Used(usize),
    Event(Event<'b>, usize),
    Bad(Rule),
}

/// Sizes are the server's affair: what is too large for us is skipped, not refused.
const LIMITS: Limits = Limits { max_control_line: u32::MAX, max_payload: u32::MAX, headers: true };

impl Session {
    /// A connection that was just made.
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            config,
            phase: Phase::Greeting,
            reading: Reading::Operation,
            server: Server::default(),
            keepalive: Keepalive::new(now.after_ms(config.connect_timeout_ms)),
            pings_sent: 0,
            pongs_seen: 0,
            pongs_due: 0,
        }
    }

    /// Begins anew, on another connection that was just made.
    pub fn reset(&mut self, now: Instant) {
        *self = Self::new(self.config, now);
    }

    /// What the server last said of itself.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// True from [`Event::Connected`] to the end.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// True if the server, or a rule that it broke, has ended the connection.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Reads `input`: all that has arrived and was not used. PINGs are answered by the next
    /// [`Session::poll_transmit`]. After the end, input is dropped unread.
    pub fn next<'b>(&mut self, input: &'b [u8]) -> Step<'b> {
        let mut used = 0usize;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let progress = match &mut self.reading {
                _ if self.phase == Phase::Closed => return Step::Need { used: input.len(), need: 1 },
                _ if rest.is_empty() => Progress::Need(1),
                Reading::Operation => self.operation(rest),
                Reading::Info(_) => self.rest_of_info(rest),
                Reading::Head(_) => self.rest_of_head(rest),
                Reading::Body(_) => self.rest_of_body(rest),
                Reading::RestOfLine => self.rest_of_line(rest),
            };
            match progress {
                Progress::Used(n) => used = used.saturating_add(n),
                Progress::Need(need) => return Step::Need { used, need },
                Progress::Event(event, n) => {
                    self.keepalive.heard = true;
                    return Step::Event(event, used.saturating_add(n));
                }
                Progress::Bad(rule) => {
                    self.phase = Phase::Closed;
                    return Step::Bad(rule);
                }
            }
        }
    }

    fn operation<'b>(&mut self, input: &'b [u8]) -> Progress<'b> {
        let (op, used) = match server_op(input, &LIMITS) {
            parse::Step::Op(op, used) => (op, used),
            parse::Step::Need(need) if need <= self.config.buffer_size => return Progress::Need(need),
            parse::Step::Need(_) => return self.oversized(input),
            parse::Step::Bad(rule) => return Progress::Bad(rule),
        };
        let event = match op {
            ServerOp::Ping => {
                self.keepalive.heard = true;
                self.pongs_due = self.pongs_due.saturating_add(1);
                return Progress::Used(used);
            }
            ServerOp::Ok => return Progress::Used(used),
            ServerOp::Pong => match self.pong() {
                Some(event) => event,
                None => return Progress::Used(used),
            },
            ServerOp::Info(json) => {
                self.server = Server::default();
                let mut scan = Scan::default();
                scan.read(json, &mut self.server);
                if !scan.is_done() {
                    return Progress::Bad(Rule::Arguments);
                }
                self.info(Some(json))
            }
            ServerOp::Err(text) => self.error(text),
            ServerOp::Msg { sid, message } => {
                let Some(sid) = Sid::parse(sid) else { return Progress::Bad(Rule::Arguments) };
                if !self.may_speak() {
                    return Progress::Bad(Rule::UnknownOperation);
                }
                let no_responders =
                    message.header_size.is_some_and(|header| header.value == message.size.value)
                        && Header::parse(message.header())
                            .is_ok_and(|header| header.status().is_some_and(|s| s.code == NO_RESPONDERS));
                if no_responders {
                    Event::NoResponders { sid, message }
                } else {
                    Event::Message { sid, message }
                }
            }
        };
        Progress::Event(event, used)
    }

    /// The input fills the buffer and isn't one operation yet: go on in pieces.
    fn oversized<'b>(&mut self, input: &'b [u8]) -> Progress<'b> {
        let (verb, rest) = input.split_at_checked(5).unwrap_or((input, &[]));
        match verb {
            [b'i' | b'I', ..] => {
                self.server = Server::default();
                self.reading = Reading::Info(Scan::default());
                Progress::Used(verb.len())
            }
            [b'-', ..] => {
                self.reading = Reading::RestOfLine;
                let text = rest.trim_ascii_start();
                Progress::Event(self.error(text.strip_prefix(b"'").unwrap_or(text)), input.len())
            }
            _ if !self.may_speak() => Progress::Bad(Rule::UnknownOperation),
            [b'm' | b'M' | b'h' | b'H', ..] => match parse::server_head(input, &LIMITS) {
                parse::Step::Op(head, used) => {
                    let Some(sid) = Sid::parse(head.sid) else { return Progress::Bad(Rule::Arguments) };
                    self.reading = Reading::Body(Body::new(head.size.value));
                    let event = Event::Oversized(Oversized { sid, size: head.size.value, head: Some(head) });
                    Progress::Event(event, used)
                }
                parse::Step::Need(_) => {
                    self.reading = Reading::Head(LongHead::default());
                    self.rest_of_head(input)
                }
                parse::Step::Bad(rule) => Progress::Bad(rule),
            },
            _ => Progress::Bad(Rule::ControlLine),
        }
    }

    fn rest_of_info<'b>(&mut self, input: &'b [u8]) -> Progress<'b> {
        let Reading::Info(scan) = &mut self.reading else { return Progress::Need(1) };
        let (json, ended) = line_end(input);
        scan.read(json, &mut self.server);
        if !ended {
            return Progress::Used(input.len());
        }
        if !scan.is_done() {
            return Progress::Bad(Rule::Arguments);
        }
        self.reading = Reading::Operation;
        Progress::Event(self.info(None), json.len().saturating_add(1))
    }

    fn rest_of_head<'b>(&mut self, input: &'b [u8]) -> Progress<'b> {
        let Reading::Head(head) = &mut self.reading else { return Progress::Need(1) };
        let (line, ended) = line_end(input);
        head.read(line);
        if !ended {
            return Progress::Used(input.len());
        }
        let Some((sid, size)) = head.end() else { return Progress::Bad(Rule::Arguments) };
        self.reading = Reading::Body(Body::new(size));
        Progress::Event(Event::Oversized(Oversized { sid, size, head: None }), line.len().saturating_add(1))
    }

    fn rest_of_body<'b>(&mut self, input: &'b [u8]) -> Progress<'b> {
        let Reading::Body(body) = &mut self.reading else { return Progress::Need(1) };
        let progress = body.read(input);
        if let Progress::Event(Event::Piece { left: 0, .. }, _) = progress {
            self.reading = Reading::Operation;
        }
        progress
    }

    fn rest_of_line<'b>(&mut self, input: &'b [u8]) -> Progress<'b> {
        let (line, ended) = line_end(input);
        if !ended {
            return Progress::Used(input.len());
        }
        self.reading = Reading::Operation;
        Progress::Used(line.len().saturating_add(1))
    }

    fn info<'b>(&mut self, json: Option<&'b [u8]>) -> Event<'b> {
        if self.phase == Phase::Greeting {
            self.phase = Phase::Greeted;
            Event::Greeting { json }
        } else if self.server.lame_duck {
            Event::LameDuck { json }
        } else {
            Event::Info { json }
        }
    }

    fn error<'b>(&mut self, text: &'b [u8]) -> Event<'b> {
        let error = ServerError::new(text);
        if error.is_fatal() {
            self.phase = Phase::Closed;
        }
        Event::Error(error)
    }

    fn pong(&mut self) -> Option<Event<'static>> {
        if self.pongs_seen == self.pings_sent {
            return None;
        }
        self.pongs_seen = self.pongs_seen.wrapping_add(1);
        if self.phase == Phase::Connecting {
            self.phase = Phase::Ready;
            return Some(Event::Connected);
        }
        Some(Event::Pong)
    }

    /// Answers INFO: writes CONNECT and a PING, whose PONG becomes [`Event::Connected`]. If the server wants TLS, its
    /// handshake comes first. From here on the other verbs work: what they write may follow at once.
    pub fn connect(&mut self, now: Instant, login: &Login<'_>, out: &mut impl Sink) -> Result<(), Error> {
        if self.phase != Phase::Greeted {
            return Err(Error::Phase);
        }
        let size = emit::size_of(|out| login.write(&self.server, out));
        needs(out, size.saturating_add(emit::PING.len()))?;
        login.write(&self.server, out);
        out.put(emit::PING);
        self.pings_sent = self.pings_sent.wrapping_add(1);
        self.keepalive = Keepalive::new(now.after_ms(self.config.connect_timeout_ms));
        self.phase = Phase::Connecting;
        Ok(())
    }

    /// Writes a message.
    pub fn publish(&self, message: &Publish<'_>, out: &mut impl Sink) -> Result<(), Error> {
        self.can_speak()?;
        let Publish { subject, reply, header, payload } = *message;
        let header_size = header.map(Block::size);
        if header.is_some() && !self.server.headers {
            return Err(Error::Headers);
        }
        let body = payload.len().saturating_add(header_size.unwrap_or(0));
        let max = self.server.max_payload;
        let size = u32::try_from(body).ok().filter(|size| *size <= max).ok_or(Error::Payload { max })?;
        let size = emit::Digits::new(size);
        // Not above `body`, so it fits.
        let header_size = header_size.map(|size| emit::Digits::new(size as u32));
        let header_size = header_size.as_ref().map(emit::Digits::as_bytes);
        let (subject, reply, size) = (subject.as_bytes(), reply.map(Subject::as_bytes), size.as_bytes());
        let words = [Some(subject), reply, header_size, Some(size)];
        let verb = if header.is_some() { "HPUB" } else { "PUB" };
        let line = control_line(verb.len(), words)?;
        needs(out, line.saturating_add(body).saturating_add(CRLF.len()))?;
        emit::publish(out, subject, reply, header_size, size);
        if let Some(header) = header {
            header.put(out);
        }
        out.put(payload);
        out.put(CRLF);
        Ok(())
    }

    /// Asks for the messages that reach `filter`; of all members of the group `queue` one gets each. `sid` is the
    /// caller's to choose; [`Subs`] keeps a table of them.
    pub fn subscribe(
        &self,
        sid: Sid,
        filter: Filter<'_>,
        queue: Option<&[u8]>,
        out: &mut impl Sink,
    ) -> Result<(), Error> {
        self.can_speak()?;
        if queue.is_some_and(|queue| !is_word(queue)) {
            return Err(Error::Queue);
        }
        let sid = emit::Digits::new(sid.0);
        needs(out, control_line("SUB".len(), [Some(filter.as_bytes()), queue, Some(sid.as_bytes())])?)?;
        emit::sub(out, filter.as_bytes(), queue, sid.as_bytes());
        Ok(())
    }

    /// Ends a subscription: now, or after `max` deliveries counted from its start.
    pub fn unsubscribe(&self, sid: Sid, max: Option<u32>, out: &mut impl Sink) -> Result<(), Error> {
        self.can_speak()?;
        let sid = emit::Digits::new(sid.0);
        needs(out, emit::size_of(|out| emit::unsub(out, sid.as_bytes(), max)))?;
        emit::unsub(out, sid.as_bytes(), max);
        Ok(())
    }

    /// Writes a PING. When its PONG is here the server has dealt with all that was written before, and all that it
    /// had to send in answer has been read.
    pub fn flush(&mut self, out: &mut impl Sink) -> Result<Flush, Error> {
        self.can_speak()?;
        needs(out, emit::PING.len())?;
        out.put(emit::PING);
        self.pings_sent = self.pings_sent.wrapping_add(1);
        Ok(Flush(self.pings_sent))
    }

    /// True if `flush` is done. Only for a flush of this session.
    pub fn is_flushed(&self, flush: Flush) -> bool {
        // Both numbers wrap, so "not before" is "less than half the circle ahead".
        self.pongs_seen.wrapping_sub(flush.0) < u16::MAX / 2
    }

    /// Writes what the session owes, as far as there is room: PONGs, and the PING that [`Session::tick`] asked for.
    pub fn poll_transmit(&mut self, out: &mut impl Sink) {
        if !self.may_speak() {
            return;
        }
        while self.pongs_due > 0 && needs(out, emit::PONG.len()).is_ok() {
            out.put(emit::PONG);
            self.pongs_due = self.pongs_due.saturating_sub(1);
        }
        if self.keepalive.ping_due && self.flush(out).is_ok() {
            self.keepalive.ping_due = false;
        }
    }

    /// When [`Session::tick`] has something to do. Never while the caller is to say CONNECT.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Greeting | Phase::Connecting | Phase::Ready => Some(self.keepalive.deadline),
            Phase::Greeted | Phase::Closed => None,
        }
    }

    /// Looks at the time. A silent server is asked for a sign of life; one that stays silent is given up.
    pub fn tick(&mut self, now: Instant) -> Result<(), Silence> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        let result = match self.phase {
            Phase::Greeting => Err(Silence::Greeting),
            Phase::Connecting => Err(Silence::Connecting),
            Phase::Ready => self.keepalive.tick(now, &self.config),
            Phase::Greeted | Phase::Closed => Ok(()),
        };
        if result.is_err() {
            self.phase = Phase::Closed;
        }
        result
    }

    /// True from [`Session::connect`] to the end: verbs may write.
    pub fn may_speak(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Ready)
    }

    fn can_speak(&self) -> Result<(), Error> {
        if self.may_speak() { Ok(()) } else { Err(Error::Phase) }
    }
}

/// The bytes up to LF, and whether there is one.
fn line_end(input: &[u8]) -> (&[u8], bool) {
    let end = input.iter().position(|b| *b == b'\n');
    (end.and_then(|end| input.get(..end)).unwrap_or(input), end.is_some())
}

fn needs(out: &impl Sink, needed: usize) -> Result<(), Error> {
    if out.room() >= needed { Ok(()) } else { Err(Error::Room { needed }) }
}

/// The length of a control line of these words behind a verb, with its end, if a server will read it.
fn control_line<const N: usize>(verb: usize, words: [Option<&[u8]>; N]) -> Result<usize, Error> {
    let size = words.into_iter().flatten().fold(verb.saturating_add(CRLF.len()), |size, word| {
        size.saturating_add(1).saturating_add(word.len())
    });
    if size <= MAX_CONTROL_LINE as usize { Ok(size) } else { Err(Error::ControlLine) }
}
