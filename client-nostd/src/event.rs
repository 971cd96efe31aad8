//! What a server said.

pub use midge_protocol::client::{Oversized, ServerError};
pub use midge_protocol::op::Message;

use midge_protocol::client::{Sid, Token};

/// What came of the input. Borrows the receive buffer until the connection is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'m> {
    /// The server is there. A connection made with a login has answered; one made with
    /// [`Connection::greet`](crate::Connection::greet) waits for [`Connection::login`](crate::Connection::login).
    Greeting {
        /// What the server says of itself, as JSON; `None` if that is longer than the receive buffer. What a client
        /// needs of it is in [`Client::server`](crate::Client::server) either way.
        json: Option<&'m [u8]>,
    },
    /// The server took the login. Subscriptions are asked for again by themselves.
    Connected,
    /// A message for a subscription.
    Message {
        /// Which one.
        sid: Sid,
        /// The message.
        message: Message<'m>,
    },
    /// The answer to a request.
    Answer {
        /// Which one.
        token: Token,
        /// The answer.
        message: Message<'m>,
    },
    /// A message that came to the inbox and is no answer: what a stream's consumer was asked for. Its reply subject
    /// is where it is acknowledged.
    Pulled {
        /// The message, with the subject that it was published to.
        message: Message<'m>,
    },
    /// Nobody subscribed to the subject of a request.
    NoResponders {
        /// Which one.
        token: Token,
    },
    /// No answer to a request came in time.
    Expired {
        /// Which one.
        token: Token,
    },
    /// A message that is larger than the receive buffer begins: [`Event::Piece`]s follow, the last one with nothing
    /// left. Who isn't interested passes over all of them.
    Oversized(Oversized<'m>),
    /// A part of an oversized message: its header block, if it has one, then its payload.
    Piece {
        /// The bytes; may be none.
        data: &'m [u8],
        /// Bytes that are still to come.
        left: u32,
    },
    /// The answer to a PING.
    Pong,
    /// The server said something new of itself.
    Info {
        /// As in [`Event::Greeting`].
        json: Option<&'m [u8]>,
    },
    /// The server is about to leave: connect elsewhere.
    LameDuck {
        /// As in [`Event::Greeting`].
        json: Option<&'m [u8]>,
    },
    /// The server complains. If that [is fatal](ServerError::is_fatal), the connection has ended.
    Error(ServerError<'m>),
}
