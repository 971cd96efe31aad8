//! What went wrong, and what helps.

use midge_protocol::client::{self, Breach, Silence};

/// Why a verb failed. [`Error::remedy`] says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Error<E> {
    /// The transport failed.
    Io(E),
    /// The connection has ended.
    Lost(Lost),
    /// The verb did nothing: it can't be done, or not now.
    Refused(client::Error),
}

/// Why a connection has ended. Drop it, and make a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Lost {
    /// The transport says that there is nothing more to read or write.
    Closed,
    /// The server was silent for too long.
    Silence(Silence),
    /// The server broke a rule of the protocol: perhaps it is none.
    Protocol(Breach),
    /// The server doesn't know these credentials, or no longer.
    Credentials,
    /// The server has given up; [`Event::Error`](crate::Event::Error) had its words.
    Server,
}

/// What helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Remedy {
    /// Connect again, after a while.
    Reconnect,
    /// Connecting again helps only with other credentials.
    Credentials,
    /// The same call will work later: before CONNECT was answered, or with a table or buffer full.
    Later,
    /// The call asks for what can't be: another subject, a smaller message, a larger buffer.
    Call,
}

impl<E> Error<E> {
    /// What helps.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Lost(Lost::Credentials) => Remedy::Credentials,
            Self::Io(_) | Self::Lost(_) => Remedy::Reconnect,
            Self::Refused(client::Error::Phase | client::Error::Full) => Remedy::Later,
            Self::Refused(_) => Remedy::Call,
        }
    }
}

impl<E> From<Lost> for Error<E> {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl<E> From<client::Error> for Error<E> {
    fn from(error: client::Error) -> Self {
        Self::Refused(error)
    }
}

impl core::fmt::Display for Lost {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection is closed"),
            Self::Silence(silence) => silence.fmt(f),
            Self::Protocol(breach) => breach.fmt(f),
            Self::Credentials => f.write_str("the server does not accept the credentials"),
            Self::Server => f.write_str("the server has ended the connection"),
        }
    }
}

impl<E: core::fmt::Display> core::fmt::Display for Error<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Lost(lost) => lost.fmt(f),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Lost {}
impl<E: core::fmt::Debug + core::fmt::Display> core::error::Error for Error<E> {}
