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

use crate::emit::{CRLF, Sink};
use crate::header::Block;
use crate::limits::MAX_CONTROL_LINE;
use crate::subject::{Filter, Subject, SubjectError, is_word};
use crate::time::Instant;
use keepalive::Keepalive;
use line::{Cut, Verb};
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
        /// Bytes that the operation takes; the most that this can say if it is more.
        needed: u16,
    },
    /// The table of subscriptions or requests is full.
    Full,
    /// No subject, or no filter.
    Subject(SubjectError),
    /// A queue group's name is empty or has white space in it.
    Queue,
    /// Subject, reply and queue are longer together than a server reads.
    ControlLine,
    /// The message is larger than the server takes: [`Server::max_payload`].
    Payload,
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
            Self::Payload => f.write_str("the message is larger than the server takes"),
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
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
///
/// Small members first: the processors that this is for reach those with shorter instructions.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Session {
    phase: Phase,
    pings_max: u8,
    pongs_due: u8,
    /// PINGs that were sent; the n-th PONG answers the n-th. Both wrap.
    pings_sent: u16,
    pongs_seen: u16,
    keepalive: Keepalive,
    server: Server,
    reading: Reading,
    /// Bytes that it takes to go on.
    needs: usize,
    // With `pings_max` those of a `Config`.
    buffer_size: usize,
    connect_timeout_ms: u32,
    ping_interval_ms: u32,
    /// As [`Scan`] read them from the first INFO.
    names: [u32; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Phase {
    /// INFO is waited for.
    Greeting,
    /// INFO is there, the caller is to say CONNECT.
    Greeted,
    Closed,
    // From here on verbs may write.
    /// CONNECT and PING are sent.
    Connecting,
    Ready,
}

/// What a log has room for.
#[cfg(feature = "defmt")]
impl defmt::Format for Session {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Session {{ phase: {}, server: {}, .. }}", self.phase, self.server);
    }
}

/// What the next byte belongs to.
#[derive(Clone, Debug)]
#[repr(u32)]
enum Reading {
    Verb,
    /// More of a line that is longer than the buffer.
    Cut(Cut),
    /// What follows INFO.
    Info(Scan),
    /// The body of a message that is larger than the buffer: what is left of it, without the CR LF behind it.
    Body(u32),
}

/// What came of some input, if anything is to be told, and the bytes of it that are done with: two registers. An event is
/// written where the caller wants it: it is large, and passed on through a few functions.
type Flow = (Option<Next>, usize);

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
            reading: Reading::Verb,
            server: Server::default(),
            keepalive: Keepalive::new(now, connect_timeout_ms),
            pings_sent: 0,
            pongs_seen: 0,
            pongs_due: 0,
            names: [0; 2],
            needs: 1,
        }
    }

    /// Without a connection: what there is before [`Session::reset`].
    pub fn closed(config: Config) -> Self {
        let mut session = Self::new(config, Instant::default());
        (session.phase, session.keepalive.deadline) = (Phase::Closed, Instant::default());
        session
    }

    /// Begins anew, on another connection that was just made.
    pub fn reset(&mut self, now: Instant) {
        (self.phase, self.reading) = (Phase::Greeting, Reading::Verb);
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
        let mut rest = input;
        self.needs = 1;
        loop {
            let (next, used) = if self.phase == Phase::Closed {
                (Some(Next::Need), rest.len())
            } else if rest.is_empty() {
                (Some(Next::Need), 0)
            } else {
                match self.reading {
                    Reading::Verb | Reading::Cut(_) => self.line(rest, event),
                    Reading::Info(_) => self.info(rest, event),
                    Reading::Body(left) => self.rest_of_body(left, rest, event),
                }
            };
            rest = behind(rest, used);
            if used > 0 {
                self.keepalive.heard = true;
            }
            if let Some(next) = next {
                if matches!(next, Next::Bad(_)) {
                    self.phase = Phase::Closed;
                }
                return (input.len().wrapping_sub(rest.len()), next);
            }
        }
    }

    /// Waits for so many bytes.
    fn wait(&mut self, needs: usize) -> Flow {
        self.needs = needs;
        (Some(Next::Need), 0)
    }

    /// A line, or more of one that is longer than the buffer.
    #[inline(never)]
    fn line<'b>(&mut self, input: &'b [u8], event: &mut Event<'b>) -> Flow {
        let (verb, sid, at) = if let Reading::Cut(Cut { sid, verb }) = self.reading {
            (verb, sid, 0)
        } else {
            if input.len() < line::SHORTEST {
                return self.wait(line::SHORTEST);
            }
            let Some((verb, at)) = line::verb(input) else {
                return (Some(Next::Bad(Breach::Operation)), 0);
            };
            if verb == line::INFO {
                self.server.clear();
                self.reading = Reading::Info(Scan::default());
                return (None, at);
            }
            (verb, line::NONE, at)
        };
        if verb == line::MSG || verb == line::HMSG {
            self.message(verb, sid, input, at, event)
        } else {
            self.control(verb, input, at, event)
        }
    }

    /// A line of another verb than MSG and HMSG, whose first `at` bytes were read.
    #[inline(never)]
    fn control<'b>(&mut self, verb: Verb, input: &'b [u8], at: usize, event: &mut Event<'b>) -> Flow {
        let text = behind(input, at);
        let end = text.iter().position(|byte| *byte == b'\n');
        let (line, used) = match end.and_then(|end| text.split_at_checked(end)) {
            Some((line, _)) => {
                self.reading = Reading::Verb;
                (line, at.wrapping_add(line.len()).wrapping_add(1))
            }
            // It is read again, together with what follows.
            None if input.len() < self.buffer_size => return self.wait(input.len().wrapping_add(1)),
            None if verb != line::ERR => return (Some(Next::Bad(Breach::ControlLine)), 0),
            None => {
                self.reading = Reading::Cut(Cut { sid: 0, verb });
                (text, input.len())
            }
        };
        if verb == line::ERR {
            if at == 0 {
                return (None, used);
            }
            let error = ServerError::new(line);
            if error.is_fatal() {
                self.phase = Phase::Closed;
            }
            *event = Event::Error(error);
            return (Some(Next::Event), used);
        }
        if verb == line::PING {
            // Who sends 256 and takes no PONG isn't owed that many.
            self.pongs_due = self.pongs_due.wrapping_add(1);
        }
        if verb != line::PONG || self.pongs_seen == self.pings_sent {
            return (None, used);
        }
        self.pongs_seen = self.pongs_seen.wrapping_add(1);
        *event = Event::Pong;
        if self.phase == Phase::Connecting {
            self.phase = Phase::Ready;
            // What was left of the time for CONNECT is none for silence.
            self.keepalive.deadline = Instant::default();
            *event = Event::Connected;
        }
        (Some(Next::Event), used)
    }

    /// A message, of whose line `at` bytes were read; or more of one that is longer than the buffer.
    #[inline(always)]
    fn message<'b>(
        &mut self,
        verb: Verb,
        known: u32,
        input: &'b [u8],
        at: usize,
        event: &mut Event<'b>,
    ) -> Flow {
        if !self.may_speak() {
            return (Some(Next::Bad(Breach::Operation)), 0);
        }
        let mut rest = behind(input, at);
        let (mut subject, mut sid) = ([].as_slice(), known);
        if known == line::NONE {
            subject = line::word(&mut rest);
            sid = line::number(line::word(&mut rest));
        }
        let third = line::word(&mut rest);
        let (mut before, mut last, mut more) = (line::NONE, third, 0u32);
        let body = loop {
            if let [b'\n', body @ ..] | [b'\r', b'\n', body @ ..] = rest {
                break body;
            }
            let word = line::word(&mut rest);
            if word.is_empty() {
                if input.len() < self.buffer_size {
                    // It is read again, together with what follows.
                    return self.wait(input.len().wrapping_add(1));
                }
                // What goes is all before the third word, for then the sid is whole; or half of what fills the buffer, if what stays
                // begins with a part of the same word: the subject, or the third one.
                let mut word = third;
                if third.is_empty() {
                    (word, sid) = (subject, line::NONE);
                }
                let begin = word.as_ptr().addr().wrapping_sub(input.as_ptr().addr());
                let used = begin.max(input.len() >> 1);
                if used < begin.wrapping_add(word.len()) {
                    self.reading = Reading::Cut(Cut { sid, verb });
                    return (None, used);
                }
                return (Some(Next::Bad(Breach::Arguments)), 0);
            }
            (before, last) = (line::number(last), word);
            more = more.wrapping_add(1);
        };
        let (size, mut header_size) = (line::number(last), 0);
        if verb == line::HMSG {
            (header_size, more) = (before, more.wrapping_sub(1));
        }
        if sid == line::NONE || size == line::NONE || header_size > size || more > 1 {
            return (Some(Next::Bad(Breach::Arguments)), 0);
        }
        let reply = if more > 0 { Some(third) } else { None };
        let sid = Sid(sid);
        let used = input.len().wrapping_sub(body.len());
        // A size is less than 31 bits.
        let whole = used.wrapping_add(size as usize).wrapping_add(CRLF.len());
        let is_cut = at == 0;
        if !is_cut {
            match body.split_at_checked(size as usize) {
                Some((body, [b'\r', b'\n', ..])) => {
                    let (header, payload) =
                        body.split_at_checked(header_size as usize).unwrap_or((&[], body));
                    *event = Event::Message { sid, message: Message { subject, reply, header, payload } };
                    return (Some(Next::Event), whole);
                }
                Some((_, [_, _, ..])) => return (Some(Next::Bad(Breach::Operation)), 0),
                _ if whole <= self.buffer_size => return self.wait(whole),
                _ => {}
            }
        }
        self.reading = Reading::Body(size);
        // What is left of a word that was cut means nothing.
        let subject = if is_cut { &[] } else { subject };
        *event = Event::Oversized(Oversized { sid, size, header_size, subject });
        (Some(Next::Event), used)
    }

    /// What follows INFO, byte by byte.
    #[inline(never)]
    fn info<'b>(&mut self, input: &'b [u8], event: &mut Event<'b>) -> Flow {
        let Reading::Info(scan) = &mut self.reading else { return (None, 0) };
        let is_fresh = scan.is_fresh();
        let end = input.iter().position(|byte| *byte == b'\n');
        // The verb stood in the buffer, too.
        if is_fresh && end.is_none() && input.len().wrapping_add(line::SHORTEST) < self.buffer_size {
            return self.wait(input.len().wrapping_add(1));
        }
        let text = end.and_then(|end| input.get(..end)).unwrap_or(input);
        for byte in text {
            scan.byte(*byte, &mut self.server);
        }
        if end.is_none() {
            return (None, text.len());
        }
        let (is_done, [server, client]) = (scan.is_done(), scan.names());
        self.reading = Reading::Verb;
        if !is_done {
            return (Some(Next::Bad(Breach::Arguments)), 0);
        }
        let is_first = self.phase == Phase::Greeting;
        if is_first {
            (self.phase, self.names) = (Phase::Greeted, [server, client]);
        }
        // A line without an end of its own, as a UART, stays when the server is started anew.
        let differ = |one, other| one != other && one != 0 && other != 0;
        if differ(self.names[0], server) || differ(self.names[1], client) {
            return (Some(Next::Bad(Breach::Session)), 0);
        }
        let json = if is_fresh { Some(text) } else { None };
        *event = if is_first {
            Event::Greeting { json }
        } else if self.server.lame_duck() {
            Event::LameDuck { json }
        } else {
            Event::Info { json }
        };
        (Some(Next::Event), text.len().wrapping_add(1))
    }

    /// The next piece of a body. The last one comes only when the CR LF behind it is there, so that the end of the
    /// message and the end of its framing are one event.
    #[inline(never)]
    fn rest_of_body<'b>(&mut self, left: u32, input: &'b [u8], event: &mut Event<'b>) -> Flow {
        match input.split_at_checked(left as usize) {
            Some((data, [b'\r', b'\n', ..])) => {
                self.reading = Reading::Verb;
                *event = Event::Piece { data, left: 0 };
                (Some(Next::Event), data.len().wrapping_add(CRLF.len()))
            }
            Some((_, [_, _, ..])) => (Some(Next::Bad(Breach::Operation)), 0),
            _ => {
                // All but one byte, which stays for the last piece.
                let take = input.len().min((left as usize).saturating_sub(1));
                let Some(data @ [_, ..]) = input.get(..take) else {
                    return self.wait((left as usize).wrapping_add(CRLF.len()));
                };
                // `take` is less than `left`, which is 32 bits.
                let left = left.wrapping_sub(take as u32);
                self.reading = Reading::Body(left);
                *event = Event::Piece { data, left };
                (Some(Next::Event), take)
            }
        }
    }

    /// Answers INFO: writes CONNECT and a PING, whose PONG becomes [`Event::Connected`]. If the server wants TLS, its
    /// handshake comes first. From here on the other verbs work: what they write may follow at once.
    pub fn connect(&mut self, now: Instant, login: &Login<'_>, out: &mut impl Sink) -> Result<(), Error> {
        if self.phase != Phase::Greeted {
            return Err(Error::Phase);
        }
        let begin = out.position();
        login.write(&self.server, out);
        out.put(b"\r\nPING");
        end(out, begin)?;
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
        self.publish_with(&Publish { subject, reply, header: None, payload }, out)
    }

    /// Writes a message that may have headers.
    pub fn publish_with(&self, message: &Publish<'_>, out: &mut impl Sink) -> Result<(), Error> {
        let Publish { subject, reply, header, payload } = *message;
        self.can_speak()?;
        if header.is_some() && !self.server.headers() {
            return Err(Error::Headers);
        }
        let header_size = header.map_or(0, Block::size);
        let size = payload.len().saturating_add(header_size);
        let max = self.server.max_payload();
        let size = u32::try_from(size).ok().filter(|size| *size <= max).ok_or(Error::Payload)?;
        check_line(subject.as_bytes(), reply.map_or(&[], Subject::as_bytes))?;
        let begin = out.position();
        out.put(if header.is_some() { b"HPUB " } else { b"PUB " });
        out.put(subject.as_bytes());
        word(out, reply.map(Subject::as_bytes));
        if header.is_some() {
            // Not above the size of both, which is 32 bits.
            number(out, header_size as u32, false);
        }
        number(out, size, true);
        if let Some(header) = header {
            header.put(out);
        }
        out.put(payload);
        end(out, begin)
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
        let begin = out.position();
        out.put(b"SUB ");
        out.put(filter);
        word(out, queue);
        number(out, sid.0, false);
        end(out, begin)
    }

    /// Ends a subscription: now, or after `max` deliveries counted from its start.
    pub fn unsubscribe(&self, sid: Sid, max: Option<u32>, out: &mut impl Sink) -> Result<(), Error> {
        self.can_speak()?;
        let begin = out.position();
        out.put(b"UNSUB");
        number(out, sid.0, false);
        if let Some(max) = max {
            number(out, max, false);
        }
        end(out, begin)
    }

    /// Writes a PING. When its PONG is here the server has dealt with all that was written before, and all that it
    /// had to send in answer has been read.
    pub fn flush(&mut self, out: &mut impl Sink) -> Result<Flush, Error> {
        self.can_speak()?;
        line(out, b"PING")?;
        self.pings_sent = self.pings_sent.wrapping_add(1);
        Ok(Flush(self.pings_sent))
    }

    /// True if `flush` is done. Only for a flush of this session.
    pub fn is_flushed(&self, flush: Flush) -> bool {
        // Both numbers wrap, so "not before" is "less than half the circle ahead".
        self.pongs_seen.wrapping_sub(flush.0) < u16::MAX / 2
    }

    /// Owes the server a PONG, whether it has asked for one or not: for a caller who can't read on for a while, and with that
    /// can't see a PING. Servers take it for the answer to the last one they sent. Nothing before CONNECT.
    pub fn keep_alive(&mut self) {
        if self.may_speak() {
            self.pongs_due = self.pongs_due.max(1);
        }
    }

    /// True if [`Session::poll_transmit`] may have something to write.
    pub fn owes(&self) -> bool {
        self.pongs_due > 0 || self.keepalive.ping_due
    }

    /// Writes what the session owes, as far as there is room: PONGs, and the PING that [`Session::tick`] asked for.
    pub fn poll_transmit(&mut self, out: &mut impl Sink) {
        if !self.may_speak() {
            return;
        }
        while self.pongs_due > 0 && line(out, b"PONG").is_ok() {
            self.pongs_due = self.pongs_due.wrapping_sub(1);
        }
        if self.keepalive.ping_due && line(out, b"PING").is_ok() {
            self.pings_sent = self.pings_sent.wrapping_add(1);
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
        self.phase >= Phase::Connecting
    }

    fn can_speak(&self) -> Result<(), Error> {
        if self.may_speak() { Ok(()) } else { Err(Error::Phase) }
    }
}

/// `bytes` without the first `n`.
#[inline(always)]
fn behind(bytes: &[u8], n: usize) -> &[u8] {
    bytes.get(n.min(bytes.len())..).unwrap_or_default()
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

/// Ends a frame with CR LF; see [`Sink::end`].
#[inline(never)]
fn end(out: &mut impl Sink, begin: usize) -> Result<(), Error> {
    out.end(begin).map_err(no_room)
}

#[cold]
#[inline(never)]
fn no_room(needed: usize) -> Error {
    Error::Room { needed: u16::try_from(needed).unwrap_or(u16::MAX) }
}

/// Writes a line, and its end.
#[inline(never)]
fn line(out: &mut impl Sink, line: &[u8]) -> Result<(), Error> {
    let begin = out.position();
    out.put(line);
    end(out, begin)
}

/// Writes a blank and a word, if there is one.
fn word(out: &mut impl Sink, word: Option<&[u8]>) {
    if let Some(word) = word {
        out.put(b" ");
        out.put(word);
    }
}

/// Writes a blank and a number in decimal digits, and the end of the line if something follows that.
#[inline(never)]
fn number(out: &mut impl Sink, mut number: u32, ends_line: bool) {
    /// Where the digits end.
    const END: usize = 14;
    let (mut text, mut start) = (*b"              \r\n", END);
    if let Some(digits) = text.first_chunk_mut::<END>() {
        for place in digits.iter_mut().rev() {
            // The remainder is one digit, so it fits.
            *place = b'0'.wrapping_add((number % 10) as u8);
            number /= 10;
            start = start.wrapping_sub(1);
            if number == 0 {
                break;
            }
        }
    }
    let end = if ends_line { text.len() } else { END };
    // With the blank.
    out.put(text.get(start.wrapping_sub(1)..end).unwrap_or_default());
}
