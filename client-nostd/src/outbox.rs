//! A bounded queue of readings that waits while the link is down, in RAM or in flash, and drains in order.
//!
//! ```text
//!   reading -> Outbox::push -> Queue (Ram, Flash)
//!                                |  Outbox::poll: the oldest, if the client is ready and none is on its way
//!                                v
//!                             server -> Outbox::handle: it is there, or stored; the oldest goes
//! ```
//!
//! A reading goes only when the server has it, so after a lost connection or a power cut it may be sent twice. Into a
//! stream it is sent with a `Nats-Msg-Id` that stays the same, so there it is kept once.

#[cfg(feature = "flash")]
mod flash;
mod ram;

#[cfg(feature = "flash")]
pub use flash::Flash;
pub use ram::Ram;

use crate::client::Client;
use crate::jetstream::{self, Failure};
use midge_protocol::client::{Error, Event, Flush, Publish, Token};
use midge_protocol::emit::{Digits, Sink, Slice};
use midge_protocol::header::{Block, Field};
use midge_protocol::subject::Subject;
use midge_protocol::time::Instant;

/// Where readings wait: first in, first out.
pub trait Queue {
    /// What the storage may say.
    type Error;

    /// Keeps a reading behind all others.
    fn push(&mut self, subject: Subject<'_>, payload: &[u8]) -> Result<(), QueueError<Self::Error>>;

    /// The oldest reading, read into `buffer`.
    fn front<'r>(&mut self, buffer: &'r mut [u8]) -> Result<Option<Reading<'r>>, QueueError<Self::Error>>;

    /// Forgets the oldest reading.
    fn pop(&mut self) -> Result<(), QueueError<Self::Error>>;
}

/// A reading that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Reading<'r> {
    /// No other reading of this queue has it, or had it.
    pub id: u64,
    /// Where it is to go.
    pub subject: &'r [u8],
    /// What it is.
    pub payload: &'r [u8],
}

/// Why a queue did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum QueueError<E> {
    /// There is no room: pop first, or leave it.
    Full,
    /// No room will ever be enough.
    Large,
    /// The buffer is shorter than the reading.
    Buffer {
        /// Bytes that it takes.
        needed: usize,
    },
    /// The storage failed.
    Storage(E),
}

impl<E: core::fmt::Display> core::fmt::Display for QueueError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full => f.write_str("the queue is full"),
            Self::Large => f.write_str("the reading is larger than the queue"),
            Self::Buffer { needed } => write!(f, "the reading takes a buffer of {needed} bytes"),
            Self::Storage(error) => error.fmt(f),
        }
    }
}

impl<E: core::fmt::Debug + core::fmt::Display> core::error::Error for QueueError<E> {}

/// Why [`Outbox::poll`] did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PollError<E> {
    /// The queue did not give the reading.
    Queue(QueueError<E>),
    /// The client did not take it.
    Client(Error),
}

/// When a reading has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Confirm<'a> {
    /// When the server has read it. If nobody is subscribed, it is lost.
    Server,
    /// When a stream has stored it. The text begins each `Nats-Msg-Id`, and must be this device's own.
    Stream(&'a str),
}

/// Readings that wait for a server.
#[derive(Debug)]
pub struct Outbox<'a, Q> {
    queue: Q,
    confirm: Confirm<'a>,
    timeout_ms: u32,
    on_its_way: Option<Sent>,
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Sent {
    what: What,
    /// When it is sent again.
    deadline: Instant,
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum What {
    Flush(Flush),
    Request(Token),
    /// No stream took it.
    Refused,
}

impl<'a, Q: Queue> Outbox<'a, Q> {
    /// An outbox over `queue`, whatever is in it already. A reading is sent again each `timeout_ms` without an answer.
    pub const fn new(queue: Q, confirm: Confirm<'a>, timeout_ms: u32) -> Self {
        Self { queue, confirm, timeout_ms, on_its_way: None }
    }

    /// Keeps a reading.
    pub fn push(&mut self, subject: Subject<'_>, payload: &[u8]) -> Result<(), QueueError<Q::Error>> {
        self.queue.push(subject, payload)
    }

    /// Makes room by forgetting the oldest reading, even if it is on its way.
    pub fn drop_oldest(&mut self) -> Result<(), QueueError<Q::Error>> {
        self.on_its_way = None;
        self.queue.pop()
    }

    /// When [`Outbox::poll`] is to be called even if nothing happens: the oldest reading is to be sent again.
    pub fn deadline(&self) -> Option<Instant> {
        self.on_its_way.map(|sent| sent.deadline)
    }

    /// The queue.
    pub fn queue(&mut self) -> &mut Q {
        &mut self.queue
    }

    /// Queues the oldest reading for sending, if the client is ready and none is on its way; call it before each `next`.
    /// `buffer` must hold the longest reading, and is free again afterwards. True if there was one to send.
    pub fn poll<const S: usize, const R: usize>(
        &mut self,
        client: &mut Client<'_, S, R>,
        buffer: &mut [u8],
        now: Instant,
    ) -> Result<bool, PollError<Q::Error>> {
        if let Some(Sent { what, deadline }) = self.on_its_way {
            // A request that waited too long ends with an event.
            if now < deadline || matches!(what, What::Request(_)) {
                return Ok(false);
            }
            self.on_its_way = None;
        }
        if !client.is_ready() {
            return Ok(false);
        }
        let Some(reading) = self.queue.front(buffer).map_err(PollError::Queue)? else { return Ok(false) };
        let deadline = now.after_ms(self.timeout_ms);
        let what = match self.confirm {
            Confirm::Server => send(client, &reading).map(What::Flush),
            Confirm::Stream(prefix) => store(client, &reading, prefix, deadline).map(What::Request),
        };
        self.on_its_way = Some(Sent { what: what.map_err(PollError::Client)?, deadline });
        Ok(true)
    }

    /// Looks at an event. `Some(Ok)`: the oldest reading has arrived, and is gone from the queue. `Some(Err)`: a stream
    /// refused it, or there is none, or the storage did not forget it; it stays, and is sent again at [`Outbox::deadline`],
    /// or when a connection begins.
    pub fn handle<const S: usize, const R: usize>(
        &mut self,
        client: &mut Client<'_, S, R>,
        event: &Progress,
    ) -> Option<Result<(), OutboxError<Q::Error>>> {
        let sent = self.on_its_way?;
        let arrived = match (sent.what, event) {
            // The next connection begins with what the last one did not confirm.
            (what, Progress::Connected) => {
                if let What::Request(token) = what {
                    client.cancel(token);
                }
                self.on_its_way = None;
                return None;
            }
            (What::Flush(flush), Progress::Pong) if client.is_flushed(flush) => Ok(()),
            (What::Request(ours), Progress::Answered(token, result)) if ours == *token => *result,
            (What::Request(ours), Progress::Expired(token)) if ours == *token => {
                self.on_its_way = None;
                return None;
            }
            _ => return None,
        };
        let result = match arrived {
            Ok(()) => self.queue.pop().map_err(OutboxError::Queue),
            Err(failure) => Err(OutboxError::Stream(failure)),
        };
        self.on_its_way = result.is_err().then_some(Sent { what: What::Refused, ..sent });
        Some(result)
    }
}

/// Whatever the queue is.
#[cfg(feature = "defmt")]
impl<Q> defmt::Format for Outbox<'_, Q> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Outbox {{ confirm: {}, on_its_way: {} }}", self.confirm, self.on_its_way);
    }
}

/// What of an event matters to an outbox. It borrows nothing, so the client can be used beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Progress {
    /// A connection begins.
    Connected,
    /// A PING was answered.
    Pong,
    /// A stream answered.
    Answered(Token, Result<(), Failure>),
    /// No stream answered.
    Expired(Token),
    /// Nothing that matters.
    Other,
}

impl From<&Event<'_>> for Progress {
    fn from(event: &Event<'_>) -> Self {
        match event {
            Event::Connected => Self::Connected,
            Event::Pong => Self::Pong,
            Event::Answer { token, message } => {
                Self::Answered(*token, jetstream::pub_ack(message.payload).map(|_| ()))
            }
            Event::NoResponders { token } => Self::Answered(*token, Err(Failure::NoStream)),
            Event::Expired { token } => Self::Expired(*token),
            _ => Self::Other,
        }
    }
}

/// Why a reading that was sent is still in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum OutboxError<E> {
    /// The stream's answer.
    Stream(Failure),
    /// The queue's.
    Queue(QueueError<E>),
}

fn send<const S: usize, const R: usize>(
    client: &mut Client<'_, S, R>,
    reading: &Reading<'_>,
) -> Result<Flush, Error> {
    client.publish(Subject::new(reading.subject)?, reading.payload)?;
    // If there is no room for the PING, the reading goes twice.
    client.ping()
}

fn store<const S: usize, const R: usize>(
    client: &mut Client<'_, S, R>,
    reading: &Reading<'_>,
    prefix: &str,
    deadline: Instant,
) -> Result<Token, Error> {
    let mut id = [0; ID_MAX];
    let mut out = Slice::new(&mut id);
    out.put(prefix.as_bytes());
    out.put(b"-");
    out.put(Digits::new(reading.id).as_bytes());
    let id = out.written().ok_or(Error::Headers)?;
    let fields = [Field { name: b"Nats-Msg-Id", value: id }];
    let header = Block::new(&fields).map_err(|_| Error::Headers)?;
    let message =
        Publish { header: Some(&header), ..Publish::new(Subject::new(reading.subject)?, reading.payload) };
    client.request(&message, deadline)
}

/// The longest `Nats-Msg-Id`: a prefix of 43 bytes.
const ID_MAX: usize = 64;
