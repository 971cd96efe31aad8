//! What a server said.

use super::Sid;
use crate::error::{self, Rule};
use crate::op::{Head, Message};

/// What came of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'b> {
    /// Nothing to tell. Drop `used` bytes of the input and come back when there are `need`, counted from behind them.
    /// Before waiting, send what [`Session::poll_transmit`](super::Session::poll_transmit) has.
    Need {
        /// Bytes that are done with.
        used: usize,
        /// Bytes that it takes to go on; never more than the buffer holds.
        need: usize,
    },
    /// Something happened. Drop so many bytes of the input when the event has been dealt with.
    Event(Event<'b>, usize),
    /// The server broke a rule. What follows has no meaning: hang up.
    Bad(Rule),
}

/// What a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// The first INFO: [`Session::server`](super::Session::server) is known, and
    /// [`Session::connect`](super::Session::connect) is to be called.
    Greeting {
        /// The argument of INFO, for [`Info::parse`](crate::info::Info::parse); `None` if it was longer than the
        /// buffer.
        json: Option<&'b [u8]>,
    },
    /// The server took CONNECT.
    Connected,
    /// A later INFO; [`Session::server`](super::Session::server) has changed.
    Info {
        /// As in [`Event::Greeting`].
        json: Option<&'b [u8]>,
    },
    /// A later INFO that says that the server is about to leave: connect elsewhere.
    LameDuck {
        /// As in [`Event::Greeting`].
        json: Option<&'b [u8]>,
    },
    /// A message for a subscription.
    Message {
        /// Which one.
        sid: Sid,
        /// The message.
        message: Message<'b>,
    },
    /// Nobody subscribed to the subject of a request.
    NoResponders {
        /// The subscription that waits for the answer.
        sid: Sid,
        /// The answer; its subject tells which request it was.
        message: Message<'b>,
    },
    /// A message that is larger than the buffer begins. [`Event::Piece`]s follow, the last one with nothing left.
    Oversized(Oversized<'b>),
    /// A part of an oversized message: its header block, if it has one, then its payload.
    Piece {
        /// The bytes; may be none.
        data: &'b [u8],
        /// Bytes that are still to come.
        left: u32,
    },
    /// The answer to a PING after [`Event::Connected`]; see [`Session::is_flushed`](super::Session::is_flushed).
    Pong,
    /// The server complains.
    Error(ServerError<'b>),
}

/// The beginning of a message that is larger than the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversized<'b> {
    /// The subscription that it is for.
    pub sid: Sid,
    /// Bytes of header block and payload together.
    pub size: u32,
    /// The control line; `None` if not even that fits.
    pub head: Option<Head<'b>>,
}

/// An -ERR. Which of them end the connection: reference 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerError<'b> {
    /// Credentials are missing, wrong or expired: connecting again with the same ones will not help. Fatal.
    Authorization(&'b [u8]),
    /// A publish or subscription isn't allowed. The connection goes on.
    Permissions(&'b [u8]),
    /// A publish or subscription was refused for its subject, or because there are too many. The connection goes on.
    Refused(&'b [u8]),
    /// Anything else. Fatal.
    Other(&'b [u8]),
}

impl<'b> ServerError<'b> {
    pub(super) fn new(text: &'b [u8]) -> Self {
        let begins = |known: &str| {
            text.get(..known.len()).is_some_and(|head| head.eq_ignore_ascii_case(known.as_bytes()))
        };
        let any = |known: &[&str]| known.iter().any(|known| begins(known));
        if begins("Permissions Violation") {
            Self::Permissions(text)
        } else if any(&[error::INVALID_SUBJECT, error::INVALID_PUBLISH_SUBJECT, error::MAX_SUBSCRIPTIONS]) {
            Self::Refused(text)
        } else if any(&[
            error::AUTHORIZATION_VIOLATION,
            error::AUTHENTICATION_TIMEOUT,
            "User Authentication",
            "Account Authentication",
        ]) {
            Self::Authorization(text)
        } else {
            Self::Other(text)
        }
    }

    /// The server's words, without quotes; cut to what the buffer holds.
    pub fn text(self) -> &'b [u8] {
        match self {
            Self::Authorization(text) | Self::Permissions(text) | Self::Refused(text) | Self::Other(text) => {
                text
            }
        }
    }

    /// True if the server closes the connection.
    pub fn is_fatal(self) -> bool {
        matches!(self, Self::Authorization(_) | Self::Other(_))
    }
}
