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
mod head;
mod keepalive;
mod line;
mod login;
mod request;
mod scan;
mod server;
mod subs;

pub use event::{Breach, Event, Message, Next, Oversized, ServerError, Step};
pub use keepalive::Silence;
pub use login::Login;
pub use request::{Answer, Answers, Inbox, Reply, Requests, Token};
pub use server::{Nonce, Server};
pub use subs::Subs;

use crate::emit::{self, CRLF, Sink};
use crate::header::Block;
use crate::limits::MAX_CONTROL_LINE;
use crate::subject::{Filter, Subject, SubjectError, is_word};
use crate::time::Instant;
use head::LongHead;
use keepalive::Keepalive;
use line::{Head, Verb};
use scan::Scan;

/// What a caller settles before it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sid(pub u32);

impl Sid {
    /// Kept for the inbox of [`Requests`]; [`Subs`] never gives it out.
    pub const INBOX: Self = Self(0);
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
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Flush(u16);

/// One connection to a server. See the [module](self).
#[derive(Clone, Debug)]
pub struct Session {
    // Those of a `Config`, which would take more room as one.
    buffer_size: usize,
    connect_timeout_ms: u32,
    ping_interval_ms: u32,
    pings_max: u8,
    phase: Phase,
    reading: Reading,
    server: Server,
    keepalive: Keepalive,
    /// PINGs that were sent; the n-th PONG answers the n-th. Both wrap.
    pings_sent: u16,
    pongs_seen: u16,
    pongs_due: u8,
    /// As [`Scan`] read them from the first INFO.
    names: [u32; 2],
    /// Bytes that it takes to go on.
    needs: usize,
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
    /// The body of a message that is larger than the buffer: what is left of it, without the CR LF behind it.
    Body(u32),
    /// The rest of an -ERR that is longer than the buffer.
    RestOfLine,
}

/// What came of some input, with bytes: two registers. An event is written where the caller wants it: it is large, and
/// passed on through a few functions.
enum Flow {
    Need(usize),
    Used(usize),
    Event(usize),
    Operation,
    Arguments,
    ControlLine,
    Session,
}

impl Session {
    /// A connection that was just made.
    pub fn new(config: Config, now: Instant) -> Self {
        let Config { buffer_size, connect_timeout_ms, ping_interval_ms, pings_max } = config;
        Self {
            buffer_size,
            connect_timeout_ms,
            ping_interval_ms,
            pings_max,
            phase: Phase::Greeting,
            reading: Reading::Operation,
            server: Server::default(),
            keepalive: Keepalive::new(now, connect_timeout_ms),
            pings_sent: 0,
            pongs_seen: 0,
            pongs_due: 0,
            names: [0; 2],
            needs: 1,
        }
    }

    /// Begins anew, on another connection that was just made.
    pub fn reset(&mut self, now: Instant) {
        (self.phase, self.reading) = (Phase::Greeting, Reading::Operation);
        self.server.clear();
        self.keepalive.begin(now, self.connect_timeout_ms);
        (self.pings_sent, self.pongs_seen, self.pongs_due, self.needs) = (0, 0, 0, 1);
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
        let mut event = Event::Pong;
        match self.next_into(input, &mut event) {
            (used, Next::Need) => Step::Need { used, need: self.needs },
            (used, Next::Event) => Step::Event(event, used),
            (_, Next::Bad(breach)) => Step::Bad(breach),
        }
    }

    /// Bytes of input that it takes to go on, counted from behind those used.
    pub fn needs(&self) -> usize {
        self.needs
    }

    /// As [`Session::next`], for a caller that has a place for the event. The first number is of the bytes used.
    #[inline(never)]
    pub fn next_into<'b>(&mut self, input: &'b [u8], event: &mut Event<'b>) -> (usize, Next) {
        let mut used = 0usize;
        self.needs = 1;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let flow = match self.reading {
                _ if self.phase == Phase::Closed => return (input.len(), Next::Need),
                _ if rest.is_empty() => return (used, Next::Need),
                Reading::Operation => self.operation(rest, event),
                Reading::Body(left) => self.rest_of_body(left, rest, event),
                _ => self.rest_of_line(rest, event),
            };
            let breach = match flow {
                Flow::Used(n) => {
                    used = used.wrapping_add(n);
                    continue;
                }
                Flow::Need(need) => {
                    self.needs = need;
                    return (used, Next::Need);
                }
                Flow::Event(n) => {
                    self.keepalive.heard = true;
                    return (used.wrapping_add(n), Next::Event);
                }
                Flow::Operation => Breach::Operation,
                Flow::Arguments => Breach::Arguments,
                Flow::ControlLine => Breach::ControlLine,
                Flow::Session => Breach::Session,
            };
            self.phase = Phase::Closed;
            return (used, Next::Bad(breach));
        }
    }

    fn operation<'b>(&mut self, input: &'b [u8], event: &mut Event<'b>) -> Flow {
        if input.len() < line::SHORTEST {
            return Flow::Need(line::SHORTEST);
        }
        let Some((verb, rest)) = line::verb(input) else { return Flow::Operation };
        let begin = input.len().wrapping_sub(rest.len());
        if matches!(verb, Verb::Msg | Verb::Hmsg) {
            return match Head::read(rest, verb == Verb::Hmsg) {
                Ok((head, body)) => self.message(&head, body, input, event),
                Err(true) => Flow::Arguments,
                Err(false) => self.part_of_line(verb, begin, input, event),
            };
        }
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            return self.part_of_line(verb, begin, input, event);
        };
        let used = begin.wrapping_add(end).wrapping_add(1);
        match verb {
            Verb::Info => return self.begin_info(begin),
            Verb::Pong => return self.pong(used, event),
            Verb::Err => return self.error(rest.get(..end).unwrap_or_default(), used, event),
            _ => {}
        }
        self.pongs_due = self.pongs_due.saturating_add(u8::from(verb == Verb::Ping));
        self.keepalive.heard = true;
        Flow::Used(used)
    }

    /// The argument of INFO follows.
    fn begin_info(&mut self, used: usize) -> Flow {
        self.server.clear();
        self.reading = Reading::Info(Scan::default());
        Flow::Used(used)
    }

    /// A message whose control line is there; `body` follows it.
    fn message<'b>(
        &mut self,
        head: &Head<'b>,
        body: &'b [u8],
        input: &'b [u8],
        event: &mut Event<'b>,
    ) -> Flow {
        let Head { sid, subject, reply, header_size, size } = *head;
        if !self.may_speak() {
            return Flow::Operation;
        }
        let (sid, line) = (Sid(sid), input.len().wrapping_sub(body.len()));
        // A size has nine digits at most.
        let whole = line.wrapping_add(size as usize).wrapping_add(CRLF.len());
        match body.split_at_checked(size as usize) {
            Some((body, [b'\r', b'\n', ..])) => {
                let (header, payload) = body.split_at_checked(header_size as usize).unwrap_or((&[], body));
                *event = Event::Message { sid, message: Message { subject, reply, header, payload } };
                Flow::Event(whole)
            }
            Some((_, [_, _, ..])) => Flow::Operation,
            _ if whole <= self.buffer_size => Flow::Need(whole),
            _ => {
                self.reading = Reading::Body(size);
                *event = Event::Oversized(Oversized { sid, size, header_size, subject });
                Flow::Event(line)
            }
        }
    }

    /// The line isn't whole: wait, or, if it already fills the buffer, go on in pieces. Its arguments begin at `begin`.
    fn part_of_line<'b>(&mut self, verb: Verb, begin: usize, input: &'b [u8], event: &mut Event<'b>) -> Flow {
        if input.len() < self.buffer_size {
            return Flow::Need(input.len().wrapping_add(1));
        }
        match verb {
            Verb::Info => self.begin_info(begin),
            Verb::Err => {
                self.reading = Reading::RestOfLine;
                self.error(input.get(begin..).unwrap_or_default(), input.len(), event)
            }
            Verb::Msg | Verb::Hmsg if self.may_speak() => {
                self.reading = Reading::Head(LongHead::default());
                Flow::Used(0)
            }
            _ => Flow::ControlLine,
        }
    }

    /// More of a line that is read byte by byte: INFO, or one that is longer than the buffer.
    fn rest_of_line<'b>(&mut self, input: &'b [u8], event: &mut Event<'b>) -> Flow {
        let is_begin = matches!(&self.reading, Reading::Info(scan) if scan.is_fresh());
        let mut used = 0usize;
        for byte in input {
            used = used.wrapping_add(1);
            if *byte == b'\n' {
                let json = if is_begin { input.get(..used.wrapping_sub(1)) } else { None };
                return self.end_of_line(json, used, event);
            }
            match &mut self.reading {
                Reading::Info(scan) => scan.byte(*byte, &mut self.server),
                Reading::Head(head) => head.byte(*byte),
                _ => {}
            }
        }
        Flow::Used(used)
    }

    fn end_of_line<'b>(&mut self, json: Option<&'b [u8]>, used: usize, event: &mut Event<'b>) -> Flow {
        match core::mem::replace(&mut self.reading, Reading::Operation) {
            Reading::Info(scan) => self.info(&scan, json, used, event),
            Reading::Head(head) => match head.end() {
                Some((sid, header_size, size)) => {
                    self.reading = Reading::Body(size);
                    *event = Event::Oversized(Oversized { sid, size, header_size, subject: &[] });
                    Flow::Event(used)
                }
                None => Flow::Arguments,
            },
            _ => Flow::Used(used),
        }
    }

    /// The next piece of a body. The last one comes only when the CR LF behind it is there, so that the end of the
    /// message and the end of its framing are one event.
    fn rest_of_body<'b>(&mut self, left: u32, input: &'b [u8], event: &mut Event<'b>) -> Flow {
        match input.split_at_checked(left as usize) {
            Some((data, [b'\r', b'\n', ..])) => {
                self.reading = Reading::Operation;
                *event = Event::Piece { data, left: 0 };
                Flow::Event(data.len().saturating_add(CRLF.len()))
            }
            Some((_, [_, _, ..])) => Flow::Operation,
            _ => {
                // All but one byte, which stays for the last piece.
                let take = input.len().min((left as usize).saturating_sub(1));
                let Some(data @ [_, ..]) = input.get(..take) else {
                    return Flow::Need((left as usize).saturating_add(CRLF.len()));
                };
                // `take` is less than `left`, which is 32 bits.
                let left = left.saturating_sub(take as u32);
                self.reading = Reading::Body(left);
                *event = Event::Piece { data, left };
                Flow::Event(take)
            }
        }
    }

    fn info<'b>(&mut self, scan: &Scan, json: Option<&'b [u8]>, used: usize, event: &mut Event<'b>) -> Flow {
        if !scan.is_done() {
            return Flow::Arguments;
        }
        if self.phase == Phase::Greeting {
            (self.phase, self.names) = (Phase::Greeted, scan.names);
            *event = Event::Greeting { json };
            return Flow::Event(used);
        }
        // A line without an end of its own, as a UART, stays when the server is started anew.
        if self.names.iter().zip(scan.names).any(|(first, now)| *first != 0 && now != 0 && *first != now) {
            return Flow::Session;
        }
        *event = if self.server.lame_duck() { Event::LameDuck { json } } else { Event::Info { json } };
        Flow::Event(used)
    }

    fn error<'b>(&mut self, text: &'b [u8], used: usize, event: &mut Event<'b>) -> Flow {
        let error = ServerError::new(text);
        if error.is_fatal() {
            self.phase = Phase::Closed;
        }
        *event = Event::Error(error);
        Flow::Event(used)
    }

    fn pong(&mut self, used: usize, event: &mut Event<'_>) -> Flow {
        if self.pongs_seen == self.pings_sent {
            return Flow::Used(used);
        }
        self.pongs_seen = self.pongs_seen.wrapping_add(1);
        *event = Event::Pong;
        if self.phase == Phase::Connecting {
            self.phase = Phase::Ready;
            // What was left of the time for CONNECT is none for silence.
            self.keepalive.begin(Instant::default(), 0);
            *event = Event::Connected;
        }
        Flow::Event(used)
    }

    /// Answers INFO: writes CONNECT and a PING, whose PONG becomes [`Event::Connected`]. If the server wants TLS, its
    /// handshake comes first. From here on the other verbs work: what they write may follow at once.
    pub fn connect(&mut self, now: Instant, login: &Login<'_>, out: &mut impl Sink) -> Result<(), Error> {
        if self.phase != Phase::Greeted {
            return Err(Error::Phase);
        }
        let room = out.room();
        let mut counted = Counted { out, size: 0 };
        login.write(&self.server, &mut counted);
        counted.put(emit::PING);
        let Counted { out, size: needed } = counted;
        if needed > room {
            out.take_back(room);
            return Err(Error::Room { needed });
        }
        self.pings_sent = self.pings_sent.wrapping_add(1);
        self.keepalive.begin(now, self.connect_timeout_ms);
        self.phase = Phase::Connecting;
        Ok(())
    }

    /// Writes a message; [`Session::publish_with`] is for headers.
    pub fn publish(
        &self,
        subject: Subject<'_>,
        reply: Option<Subject<'_>>,
        payload: &[u8],
        out: &mut impl Sink,
    ) -> Result<(), Error> {
        let size = Number::new(self.size(0, payload)?);
        let [blank, reply] = optional(reply.map(Subject::as_bytes));
        check_line(subject.as_bytes(), reply)?;
        put(out, &[b"PUB ", subject.as_bytes(), blank, reply, size.last(), payload], 0)
    }

    /// Writes a message that may have headers.
    pub fn publish_with(&self, message: &Publish<'_>, out: &mut impl Sink) -> Result<(), Error> {
        let Publish { subject, reply, header, payload } = *message;
        let Some(header) = header else { return self.publish(subject, reply, payload, out) };
        if !self.server.headers() && self.may_speak() {
            return Err(Error::Headers);
        }
        let header_size = header.size();
        let size = Number::new(self.size(header_size, payload)?);
        let body = header_size.saturating_add(payload.len()).saturating_add(CRLF.len());
        // Not above the size of both, which is 32 bits.
        let header_size = Number::new(header_size as u32);
        let [blank, reply] = optional(reply.map(Subject::as_bytes));
        check_line(subject.as_bytes(), reply)?;
        put(out, &[b"HPUB ", subject.as_bytes(), blank, reply, header_size.word(), size.word()], body)?;
        header.put(out);
        out.put(payload);
        out.put(CRLF);
        Ok(())
    }

    /// The size of a message, if the server takes it.
    fn size(&self, header_size: usize, payload: &[u8]) -> Result<u32, Error> {
        self.can_speak()?;
        let max = self.server.max_payload();
        let size = payload.len().saturating_add(header_size);
        u32::try_from(size).ok().filter(|size| *size <= max).ok_or(Error::Payload { max })
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
        check_queue(filter.as_bytes(), queue)?;
        self.subscribe_checked(sid, filter.as_bytes(), queue, out)
    }

    /// As [`Session::subscribe`], for what was checked before.
    fn subscribe_checked(
        &self,
        sid: Sid,
        filter: &[u8],
        queue: Option<&[u8]>,
        out: &mut impl Sink,
    ) -> Result<(), Error> {
        self.can_speak()?;
        let ([blank, queue], sid) = (optional(queue), Number::new(sid.0));
        put(out, &[b"SUB ", filter, blank, queue, sid.word()], 0)
    }

    /// Ends a subscription: now, or after `max` deliveries counted from its start.
    pub fn unsubscribe(&self, sid: Sid, max: Option<u32>, out: &mut impl Sink) -> Result<(), Error> {
        self.can_speak()?;
        let (sid, number) = (Number::new(sid.0), Number::new(max.unwrap_or_default()));
        let max = if max.is_some() { number.word() } else { &[] };
        put(out, &[b"UNSUB", sid.word(), max], 0)
    }

    /// Writes a PING. When its PONG is here the server has dealt with all that was written before, and all that it
    /// had to send in answer has been read.
    pub fn flush(&mut self, out: &mut impl Sink) -> Result<Flush, Error> {
        self.can_speak()?;
        put(out, &[b"PING"], 0)?;
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
        // The usual case: this is asked after each message that is sent.
        if (self.pongs_due == 0 && !self.keepalive.ping_due) || !self.may_speak() {
            return;
        }
        while self.pongs_due > 0 && put(out, &[b"PONG"], 0).is_ok() {
            self.pongs_due = self.pongs_due.saturating_sub(1);
        }
        if self.keepalive.ping_due && self.flush(out).is_ok() {
            self.keepalive.ping_due = false;
        }
    }

    /// When [`Session::tick`] has something to do. Never while the caller is to say CONNECT.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Greeting | Phase::Connecting | Phase::Ready => Some(self.keepalive.deadline()),
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
            Phase::Ready => self.keepalive.tick(now, self.ping_interval_ms, self.pings_max),
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

/// Counts what is put.
struct Counted<'s, S> {
    out: &'s mut S,
    size: usize,
}

impl<S: Sink> Sink for Counted<'_, S> {
    #[inline(never)]
    fn put(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(bytes.len());
        self.out.put(bytes);
    }
}

/// True if a control line with these two is one that a server reads: what else it holds takes less than 32 bytes.
fn check_line(one: &[u8], other: &[u8]) -> Result<(), Error> {
    let line = one.len().saturating_add(other.len()).saturating_add(32);
    if line > MAX_CONTROL_LINE as usize { Err(Error::ControlLine) } else { Ok(()) }
}

/// What must be true of a subscription.
fn check_queue(filter: &[u8], queue: Option<&[u8]>) -> Result<(), Error> {
    if queue.is_some_and(|queue| !is_word(queue)) {
        return Err(Error::Queue);
    }
    check_line(filter, queue.unwrap_or_default())
}

/// Writes a line, see [`Sink::put_line`].
fn put(out: &mut impl Sink, pieces: &[&[u8]], behind: usize) -> Result<(), Error> {
    out.put_line(pieces, behind).map_err(|needed| Error::Room { needed })
}

/// A word that may not be there, and the blank before it.
fn optional(word: Option<&[u8]>) -> [&[u8]; 2] {
    word.map_or([&[], &[]], |word| [b" ", word])
}

/// A number in decimal digits, as it stands in a line: behind a blank.
struct Number {
    text: [u8; 16],
    start: usize,
}

impl Number {
    /// Where the digits end.
    const END: usize = 14;

    #[inline(never)]
    fn new(mut number: u32) -> Self {
        let mut this = Self { text: *b"              \r\n", start: Self::END.wrapping_sub(1) };
        if let Some(digits) = this.text.first_chunk_mut::<{ Self::END }>() {
            for place in digits.iter_mut().rev() {
                // The remainder is one digit, so it fits.
                *place = b'0'.wrapping_add((number % 10) as u8);
                number /= 10;
                this.start = this.start.wrapping_sub(1);
                if number == 0 {
                    break;
                }
            }
        }
        this
    }

    /// With the blank.
    fn word(&self) -> &[u8] {
        self.text.get(self.start..Self::END).unwrap_or_default()
    }

    /// With the blank, and the end of the line.
    fn last(&self) -> &[u8] {
        self.text.get(self.start..).unwrap_or_default()
    }
}
