//! The blocking front: the same verbs, for a transport of [`embedded_io`].

use crate::client::Client;
use crate::error::{Error, Lost};
use embedded_io::{Error as _, ErrorKind, Read, Write};
use midge_protocol::client::{self, Event, Flush, Login, Publish, Token};
use midge_protocol::subject::Subject;
use midge_protocol::time::Instant;

/// A transport, and the client that it is lent to. Dropping it gives both back.
///
/// A read that blocks for ever keeps pings from being noticed to be missing: give the transport a time-out. One that
/// fails with [`ErrorKind::TimedOut`] or [`ErrorKind::Interrupted`] has lost nothing, and the connection goes on.
pub struct Connection<'c, 'b, T, const SUBS: usize, const REQUESTS: usize> {
    client: &'c mut Client<'b, SUBS, REQUESTS>,
    transport: T,
    login: Option<&'c Login<'c>>,
}

impl<'c, 'b, T, const SUBS: usize, const REQUESTS: usize> Connection<'c, 'b, T, SUBS, REQUESTS> {
    /// A connection over a transport that was just made. Nothing is sent yet: [`Connection::next`] reads the greeting
    /// and answers it with `login`, and then tells [`Event::Connected`].
    pub fn new(
        client: &'c mut Client<'b, SUBS, REQUESTS>,
        transport: T,
        login: &'c Login<'c>,
        now: Instant,
    ) -> Self {
        client.handle_connect(now);
        Self { client, transport, login: Some(login) }
    }

    /// A connection that tells [`Event::Greeting`] and waits for [`Connection::login`], for a login that depends on
    /// what the server says.
    pub fn greet(client: &'c mut Client<'b, SUBS, REQUESTS>, transport: T, now: Instant) -> Self {
        client.handle_connect(now);
        Self { client, transport, login: None }
    }

    /// Goes on with a connection whose transport was taken out with [`Connection::into_transport`] and wrapped in
    /// another one, as for TLS after the greeting. What came before and wasn't read is dropped.
    pub fn resume(client: &'c mut Client<'b, SUBS, REQUESTS>, transport: T) -> Self {
        client.handle_wrap();
        Self { client, transport, login: None }
    }

    /// The client: to subscribe, and to queue without sending.
    pub fn client(&mut self) -> &mut Client<'b, SUBS, REQUESTS> {
        self.client
    }

    /// When [`Connection::next`] is to be called even if nothing arrives.
    pub fn deadline(&self) -> Option<Instant> {
        self.client.deadline()
    }

    /// The transport, back.
    pub fn into_transport(self) -> T {
        self.transport
    }
}

impl<'b, T: Read + Write, const SUBS: usize, const REQUESTS: usize> Connection<'_, 'b, T, SUBS, REQUESTS> {
    /// Sends what is due, reads once if nothing is left to tell, and gives the next event. `None`: nothing yet, call
    /// again.
    pub fn next(&mut self, now: Instant) -> Result<Option<Event<'_>>, Error<T::Error>> {
        self.client.handle_time(now)?;
        self.drain()?;
        if self.client.wants_input(now) {
            match self.transport.read(self.client.space()) {
                Ok(0) => return Err(Error::Lost(Lost::Closed)),
                Ok(n) => self.client.handle_received(n),
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
        self.client.next_as(self.login, now)
    }

    /// Sends a message.
    pub fn publish(&mut self, subject: Subject<'_>, payload: &[u8]) -> Result<(), Error<T::Error>> {
        self.submit(|client| client.publish(subject, payload))
    }

    /// Sends a message with a reply subject or headers.
    pub fn publish_with(&mut self, message: &Publish<'_>) -> Result<(), Error<T::Error>> {
        self.submit(|client| client.publish_with(message))
    }

    /// Answers the message that [`Connection::next`] gave last.
    pub fn respond(&mut self, payload: &[u8]) -> Result<(), Error<T::Error>> {
        self.submit(|client| client.respond(payload))
    }

    /// Sends a request. What comes of it is an event with the token: [`Event::Answer`], [`Event::NoResponders`], or,
    /// at `deadline`, [`Event::Expired`].
    pub fn request(&mut self, message: &Publish<'_>, deadline: Instant) -> Result<Token, Error<T::Error>> {
        self.submit(|client| client.request(message, deadline))
    }

    /// Sends a PING; its answer is [`Event::Pong`].
    pub fn ping(&mut self) -> Result<Flush, Error<T::Error>> {
        self.submit(|client| client.ping())
    }

    /// Tells the server that this client is there, without reading: for a program that is busy with a message for longer than
    /// the server's ping interval, two minutes by default, and won't see its PING behind others in the meantime. A message
    /// can be answered afterwards all the same.
    pub fn keep_alive(&mut self) -> Result<(), Error<T::Error>> {
        self.client.keep_alive();
        self.drain()
    }

    /// Answers [`Event::Greeting`].
    pub fn login(&mut self, login: &Login<'_>, now: Instant) -> Result<(), Error<T::Error>> {
        self.submit(|client| client.login(login, now))
    }

    /// Queues what `verb` does, and sends it. If there is no room, what was queued before goes first.
    fn submit<R>(
        &mut self,
        mut verb: impl FnMut(&mut Client<'b, SUBS, REQUESTS>) -> Result<R, client::Error>,
    ) -> Result<R, Error<T::Error>> {
        loop {
            let done = match verb(self.client) {
                Ok(result) => Some(result),
                Err(client::Error::Room { .. }) if !self.client.is_drained() => None,
                Err(error) => return Err(Error::Refused(error)),
            };
            self.drain()?;
            if let Some(done) = done {
                return Ok(done);
            }
        }
    }

    /// Sends what waits, and has the transport send it on.
    fn drain(&mut self) -> Result<(), Error<T::Error>> {
        loop {
            let waiting = self.client.poll_transmit();
            if waiting.is_empty() {
                break;
            }
            let n = self.transport.write(waiting).map_err(Error::Io)?;
            if n == 0 {
                return Err(Error::Lost(Lost::Closed));
            }
            self.client.handle_sent(n);
            if !self.client.has_more() {
                break;
            }
        }
        if self.client.is_unflushed() {
            self.transport.flush().map_err(Error::Io)?;
            self.client.handle_flushed();
        }
        Ok(())
    }
}

#[cfg(feature = "defmt")]
impl<T, const SUBS: usize, const REQUESTS: usize> defmt::Format for Connection<'_, '_, T, SUBS, REQUESTS> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Connection({})", self.client);
    }
}
