//! What a server said.

use super::{Sid, Token};
use crate::header::{Header, NO_RESPONDERS, Status};

/// What came of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
    Bad(Breach),
}

/// As [`Step`], with event and numbers elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Next {
    /// As [`Step::Need`]; [`Session::needs`](super::Session::needs) says how much.
    Need,
    /// As [`Step::Event`].
    Event,
    /// As [`Step::Bad`].
    Bad(Breach),
}

/// A rule that a server broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Breach {
    /// No verb begins like this, or a payload isn't followed by CR LF.
    Operation,
    /// The verb is known, its arguments are not understood.
    Arguments,
    /// A control line is longer than the buffer, and none that can be read in parts.
    ControlLine,
    /// An INFO names another session than the first one: the line stayed, and the server at its end is another, or was
    /// started anew.
    Session,
}

impl core::fmt::Display for Breach {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Operation => "unknown protocol operation",
            Self::Arguments => "the arguments of the operation are not understood",
            Self::ControlLine => "a control line is too long",
            Self::Session => "the server was started anew",
        })
    }
}

impl core::error::Error for Breach {}

/// What happened. Borrows the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
    /// The answer to a request. From here on to [`Event::Pulled`]: what [`Requests`](super::Requests) tells.
    Answer {
        /// Which one.
        token: Token,
        /// The answer.
        message: Message<'b>,
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
    /// A message that came to the inbox and is no answer: a stream's consumer delivers under the subject that was
    /// published to.
    Pulled {
        /// The message.
        message: Message<'b>,
    },
    /// A message that is larger than the buffer begins. [`Event::Piece`]s follow, the last one with nothing left. Who
    /// isn't interested passes over all of them.
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

/// A message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Message<'b> {
    /// Where it was published to.
    pub subject: &'b [u8],
    /// Where an answer is wanted.
    pub reply: Option<&'b [u8]>,
    /// The header block, for [`Header::parse`]; empty if there is none.
    pub header: &'b [u8],
    /// The payload.
    pub payload: &'b [u8],
}

impl<'b> Message<'b> {
    /// The subject as text; `None` if it isn't UTF-8.
    pub fn subject_str(&self) -> Option<&'b str> {
        core::str::from_utf8(self.subject).ok()
    }

    /// The first value of a header field, case minded.
    pub fn field(&self, name: &str) -> Option<&'b [u8]> {
        Header::parse(self.header).ok()?.get(name.as_bytes())
    }

    /// What a server says instead of a payload.
    pub fn status(&self) -> Option<Status<'b>> {
        Header::parse(self.header).ok()?.status()
    }

    /// True if it says that nobody subscribed to the subject of a request.
    pub fn is_no_responders(&self) -> bool {
        self.payload.is_empty() && self.status().is_some_and(|status| status.code == NO_RESPONDERS)
    }
}

/// The beginning of a message that is larger than the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Oversized<'b> {
    /// The subscription that it is for.
    pub sid: Sid,
    /// Bytes of header block and payload together.
    pub size: u32,
    /// Bytes of the header block.
    pub header_size: u32,
    /// Where it was published to; empty if not even its control line fits the buffer.
    pub subject: &'b [u8],
}

/// An -ERR. Which of them end the connection: reference 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
    /// What follows the verb, with its quotes.
    pub(super) fn new(mut text: &'b [u8]) -> Self {
        while let [b'\'' | ..=b' ', rest @ ..] | [rest @ .., b'\'' | ..=b' '] = text {
            text = rest;
        }
        let mut begin = text;
        while let Some(four) = begin.first_chunk::<4>() {
            let four = small(*four);
            match BEGINNINGS.iter().position(|known| *known == four) {
                Some(PERMISSIONS) => return Self::Permissions(text),
                Some(at) if at < AUTHORIZATION => return Self::Refused(text),
                Some(at) if at < INVALID => return Self::Authorization(text),
                // Followed by what it is about.
                Some(_) => begin = super::behind(begin, 8),
                None => break,
            }
        }
        Self::Other(text)
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

/// Four letters as a number, whatever their case.
const fn small(four: [u8; 4]) -> u32 {
    u32::from_le_bytes(four) | 0x2020_2020
}

/// How a text begins that isn't [`ServerError::Other`]. "User" and "account" are followed by "authentication".
const BEGINNINGS: [u32; 9] = [
    small(*b"perm"),
    small(*b"subj"),
    small(*b"publ"),
    small(*b"subs"),
    small(*b"auth"),
    small(*b"user"),
    small(*b"acco"),
    small(*b"inva"),
    small(*b"maxi"),
];
/// The place of the first, of the first of those that are about credentials, and of "invalid" and "maximum".
const PERMISSIONS: usize = 0;
const AUTHORIZATION: usize = 4;
const INVALID: usize = 7;
