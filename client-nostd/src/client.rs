//! What outlives a connection, and the machine that both fronts drive.

use crate::buffer::{Receive, Transmit};
use crate::error::Lost;
use midge_protocol::client::{
    Answer, Config, Error, Event, Flush, Login, Next, Publish, Requests, Server, ServerError, Session, Sid,
    Subs, Token,
};
use midge_protocol::subject::Subject;
use midge_protocol::time::Instant;

/// The long-lived state of a client: buffers, subscriptions, requests. A [`Connection`](crate::Connection) lends it a transport;
/// when that is dropped, the next one goes on with it.
///
/// `SUBS` is how many subscriptions there can be, `REQUESTS` how many requests can wait for an answer at once. A
/// subscription takes 32 bytes on a processor of 32 bits, a request 12.
///
/// Small members first: the processors that this is for reach those with shorter instructions.
#[repr(C)]
pub struct Client<'b, const SUBS: usize = 4, const REQUESTS: usize = 0> {
    lost: Option<Lost>,
    /// Answers are to be subscribed to.
    inbox_due: bool,
    /// The transport has taken bytes since its last flush.
    unflushed: bool,
    /// The length of the last message's reply subject in the receive buffer.
    reply_len: usize,
    session: Session,
    receive: Receive<'b>,
    transmit: Transmit<'b>,
    /// Where it stands.
    reply_start: usize,
    subs: Subs<&'b str, SUBS>,
    requests: Requests<REQUESTS>,
    /// The request that a message from a consumer ends.
    pulling: Option<Token>,
}

impl<'b, const SUBS: usize, const REQUESTS: usize> Client<'b, SUBS, REQUESTS> {
    /// A client that isn't connected.
    ///
    /// `receive` holds the longest message that is handed over in one piece, with its control line; at least 64 bytes.
    /// `transmit` holds the longest frame that is sent: CONNECT, or a message with its control line.
    /// `random` names the inbox that answers go to: 128 random bits, or whatever no other device has.
    pub fn new(config: Config, receive: &'b mut [u8], transmit: &'b mut [u8], random: [u8; 16]) -> Self {
        let config = Config { buffer_size: receive.len(), ..config };
        Self {
            session: Session::closed(config),
            receive: Receive::new(receive),
            transmit: Transmit::new(transmit),
            subs: Subs::new(),
            requests: Requests::new(random),
            inbox_due: false,
            lost: Some(Lost::Closed),
            pulling: None,
            reply_start: 0,
            reply_len: 0,
            unflushed: false,
        }
    }

    /// Asks for the messages that reach `filter`; of all members of the group `queue` one gets each. Works with and
    /// without a connection, and survives connections.
    pub fn subscribe(&mut self, filter: &'b str, queue: Option<&'b str>) -> Result<Sid, Error> {
        self.subs.subscribe(filter, queue)
    }

    /// Ends a subscription: now, or after `max` messages counted from its start.
    pub fn unsubscribe(&mut self, sid: Sid, max: Option<u32>) {
        self.subs.unsubscribe(sid, max);
    }

    /// The subscriptions, with their filters.
    pub fn subscriptions(&self) -> impl Iterator<Item = (Sid, &'b str)> {
        self.subs.iter().map(|(sid, filter)| (sid, *filter))
    }

    /// What the server last said of itself.
    pub fn server(&self) -> &Server {
        self.session.server()
    }

    /// True from [`Event::Connected`] to the end of the connection.
    pub fn is_ready(&self) -> bool {
        self.session.is_ready()
    }

    /// True if all that was written before [`Client::ping`] gave `flush` has reached the server.
    pub fn is_flushed(&self, flush: Flush) -> bool {
        self.session.is_flushed(flush)
    }

    /// When [`Client::handle_time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.session.deadline(), self.requests.deadline()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// A transport was connected. What the last one left behind goes: input that wasn't read, output that wasn't sent.
    pub fn handle_connect(&mut self, now: Instant) {
        self.session.reset(now);
        self.receive.clear();
        self.transmit.clear();
        self.subs.handle_disconnect();
        (self.inbox_due, self.lost, self.reply_len, self.unflushed) = (REQUESTS > 0, None, 0, false);
    }

    /// The transport was wrapped in another one, as for TLS. What came before that and wasn't read goes: whoever can put
    /// bytes on the bare line must not have them taken for the server's.
    pub fn handle_wrap(&mut self) {
        self.receive.clear();
        self.reply_len = 0;
    }

    /// Looks at the time, and at whether the connection has ended.
    #[inline(never)]
    pub fn handle_time(&mut self, now: Instant) -> Result<(), Lost> {
        if let Err(silence) = self.session.tick(now) {
            // Nothing else has ended the connection: a session that has ended is silent about time.
            self.lost = Some(Lost::Silence(silence));
        }
        self.lost.map_or(Ok(()), Err)
    }

    /// True if nothing is to be told before more has arrived.
    pub fn wants_input(&self, now: Instant) -> bool {
        self.receive.is_short(self.session.needs())
            && self.requests.deadline().is_none_or(|deadline| now < deadline)
    }

    /// Where what arrives goes. Invalidates what [`Client::respond`] needs.
    pub fn space(&mut self) -> &mut [u8] {
        self.receive.space(self.session.needs())
    }

    /// `n` bytes have arrived in [`Client::space`].
    pub fn handle_received(&mut self, n: usize) {
        self.receive.filled(n);
    }

    /// What is to be sent next. Ask again after [`Client::handle_sent`], there may be more.
    #[inline(never)]
    pub fn poll_transmit(&mut self) -> &[u8] {
        self.session.poll_transmit(&mut self.transmit);
        // What finds no room is due again when there is some.
        let _ = self.catch_up();
        self.transmit.waiting()
    }

    /// Writes what was subscribed to, before anything that is said later.
    #[inline]
    fn catch_up(&mut self) -> Result<(), Error> {
        if self.is_due() { self.write_due() } else { Ok(()) }
    }

    #[inline(never)]
    fn write_due(&mut self) -> Result<(), Error> {
        if REQUESTS > 0 && self.inbox_due {
            self.requests.subscribe(&self.session, &mut self.transmit)?;
            self.inbox_due = false;
        }
        self.subs.poll_transmit(&self.session, &mut self.transmit)
    }

    /// The transport took `n` bytes of [`Client::poll_transmit`].
    pub fn handle_sent(&mut self, n: usize) {
        self.transmit.taken(n);
        self.unflushed = true;
    }

    /// True if the transport was given bytes since [`Client::handle_flushed`].
    pub fn is_unflushed(&self) -> bool {
        self.unflushed
    }

    /// The transport was flushed.
    pub fn handle_flushed(&mut self) {
        self.unflushed = false;
    }

    /// False if [`Client::poll_transmit`] has nothing more.
    pub(crate) fn has_more(&self) -> bool {
        !self.transmit.is_empty() || self.session.owes() || self.is_due()
    }

    /// Something is to be subscribed to.
    fn is_due(&self) -> bool {
        self.subs.is_due() || (REQUESTS > 0 && self.inbox_due)
    }

    /// Nothing waits to be sent.
    pub(crate) fn is_drained(&self) -> bool {
        self.transmit.is_empty()
    }

    /// What the server said, from what has arrived. With `login`, its greeting is answered at once.
    pub fn next(&mut self, login: Option<&Login<'_>>, now: Instant) -> Result<Option<Event<'_>>, Error> {
        self.next_as(login, now)
    }

    /// As [`Client::next`], with the caller's error: an event is large, and is not passed on twice.
    #[inline(never)]
    pub(crate) fn next_as<E: From<Error>>(
        &mut self,
        login: Option<&Login<'_>>,
        now: Instant,
    ) -> Result<Option<Event<'_>>, E> {
        self.reply_len = 0;
        if REQUESTS > 0
            && let Some(token) = self.requests.next_expired(now)
        {
            return Ok(Some(Event::Expired { token }));
        }
        let Receive { buffer, start, end } = &mut self.receive;
        let input = buffer.get(..*end).unwrap_or_default().get(*start..).unwrap_or_default();
        let mut event = Event::Pong;
        let (used, next) = self.session.next_into(input, &mut event);
        *start = start.wrapping_add(used);
        match next {
            Next::Event => {}
            Next::Need => return Ok(None),
            Next::Bad(breach) => {
                self.lost = Some(Lost::Protocol(breach));
                return Ok(None);
            }
        }
        match event {
            Event::Message { sid: Sid::INBOX, message } if REQUESTS > 0 => {
                (self.reply_start, self.reply_len) = span(buffer, message.reply);
                return Ok(match self.requests.handle_answer(message.subject) {
                    Answer::To(token) if message.is_no_responders() => Some(Event::NoResponders { token }),
                    Answer::To(token) => Some(Event::Answer { token, message }),
                    Answer::Late => None,
                    Answer::Foreign => {
                        if let Some(token) = self.pulling.take() {
                            self.requests.cancel(token);
                        }
                        Some(Event::Pulled { message })
                    }
                });
            }
            Event::Message { sid, message } => {
                if !self.subs.handle_message(sid) {
                    return Ok(None);
                }
                (self.reply_start, self.reply_len) = span(buffer, message.reply);
            }
            Event::Oversized(message) if !self.subs.handle_message(message.sid) => return Ok(None),
            Event::Greeting { .. } => {
                if let Some(login) = login {
                    self.session.connect(now, login, &mut self.transmit)?;
                }
            }
            Event::Error(ServerError::Authorization(_)) => self.lost = Some(Lost::Credentials),
            Event::Error(ServerError::Other(_)) => self.lost = Some(Lost::Server),
            _ => {}
        }
        Ok(Some(event))
    }

    /// Answers [`Event::Greeting`].
    pub fn login(&mut self, login: &Login<'_>, now: Instant) -> Result<(), Error> {
        self.session.connect(now, login, &mut self.transmit)
    }

    /// Queues a message, whole or not at all.
    #[inline(never)]
    pub fn publish(&mut self, subject: Subject<'_>, payload: &[u8]) -> Result<(), Error> {
        self.catch_up()?;
        self.session.publish(subject, None, payload, &mut self.transmit)
    }

    /// Queues a message with a reply subject or headers, whole or not at all.
    pub fn publish_with(&mut self, message: &Publish<'_>) -> Result<(), Error> {
        self.catch_up()?;
        self.session.publish_with(message, &mut self.transmit)
    }

    /// Queues an answer to the message that [`Client::next`] gave last. [`Error::Phase`] if that was none that wants
    /// one.
    pub fn respond(&mut self, payload: &[u8]) -> Result<(), Error> {
        let reply = self.receive.buffer.get(self.reply_start..);
        let reply = reply.and_then(|rest| rest.get(..self.reply_len)).unwrap_or_default();
        if reply.is_empty() {
            return Err(Error::Phase);
        }
        self.session.publish(Subject::new(reply)?, None, payload, &mut self.transmit)
    }

    /// Queues a request; its answer, or the lack of one, is an event with the token. The reply subject is set here.
    pub fn request(&mut self, message: &Publish<'_>, deadline: Instant) -> Result<Token, Error> {
        self.catch_up()?;
        let (token, reply) = self.requests.begin(deadline)?;
        let message = Publish { reply: Some(reply.subject()), ..*message };
        match self.session.publish_with(&message, &mut self.transmit) {
            Ok(()) => Ok(token),
            Err(error) => {
                self.requests.cancel(token);
                Err(error)
            }
        }
    }

    /// Gives up waiting for an answer. False if the request had ended.
    pub fn cancel(&mut self, token: Token) -> bool {
        self.requests.cancel(token)
    }

    pub(crate) fn begin_pull(&mut self, token: Token) {
        self.pulling = Some(token);
    }

    pub(crate) fn end_pull(&mut self) {
        if let Some(token) = self.pulling.take() {
            self.requests.cancel(token);
        }
    }

    /// Queues a PONG that wasn't asked for; see [`Connection::keep_alive`](crate::Connection::keep_alive).
    pub fn keep_alive(&mut self) {
        self.session.keep_alive();
    }

    /// Queues a PING; see [`Client::is_flushed`].
    pub fn ping(&mut self) -> Result<Flush, Error> {
        self.catch_up()?;
        self.session.flush(&mut self.transmit)
    }
}

/// What a log has room for.
#[cfg(feature = "defmt")]
impl<const SUBS: usize, const REQUESTS: usize> defmt::Format for Client<'_, SUBS, REQUESTS> {
    fn format(&self, f: defmt::Formatter<'_>) {
        let Self { lost, session, subs, requests, .. } = self;
        defmt::write!(
            f,
            "Client {{ lost: {}, session: {}, subs: {}, requests: {} }}",
            lost,
            session,
            subs,
            requests
        );
    }
}

/// Where `part` stands in `buffer`: to find it again once nothing borrows the buffer.
fn span(buffer: &[u8], part: Option<&[u8]>) -> (usize, usize) {
    let Some(part) = part else { return (0, 0) };
    let start = part.as_ptr().addr().wrapping_sub(buffer.as_ptr().addr());
    (start, part.len())
}
