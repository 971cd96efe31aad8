//! How connections end, and the memory of those that did.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use crate::auth::Way;
use crate::conn::{Counters, Peer};
use crate::security::TlsFacts;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a connection was closed. The texts are nats-server's, as tools look for them (reference 3.1).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseReason { $($(#[$doc])* $name,)* }

        impl CloseReason {
            /// The text shown in logs and in /connz.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// The peer went away.
    ClientClosed = "Client Closed",
    /// The peers could not agree on keys, in time or at all.
    TlsHandshake = "TLS Handshake Failure",
    /// No CONNECT in time.
    AuthenticationTimeout = "Authentication Timeout",
    /// Credentials missing or wrong.
    AuthenticationFailure = "Authentication Failure",
    /// More bytes pending than `max_pending`.
    SlowConsumerPending = "Slow Consumer (Pending Bytes)",
    /// A write took longer than `write_deadline`.
    SlowConsumerDeadline = "Slow Consumer (Write Deadline)",
    /// The socket failed on write.
    WriteError = "Write Error",
    /// The socket failed on read.
    ReadError = "Read Error",
    /// The peer sent -ERR.
    ParseError = "Parse Error",
    /// Pings stayed without an answer.
    StaleConnection = "Stale Connection",
    /// The peer broke the grammar.
    ProtocolViolation = "Protocol Violation",
    /// CONNECT asked for a protocol that doesn't exist.
    BadClientProtocol = "Bad Client Protocol Version",
    /// A client on a port for something else.
    IncorrectPort = "Incorrect Port",
    /// `max_connections` reached.
    MaxConnections = "Maximum Connections Exceeded",
    /// No memory left within the budget; midge's own.
    MemoryBudget = "Memory Budget Exceeded",
    /// The account's ceiling reached.
    MaxAccountConnections = "Maximum Account Connections Exceeded",
    /// A message larger than `max_payload`.
    MaxPayload = "Maximum Message Payload Exceeded",
    /// A control line longer than `max_control_line`.
    MaxControlLine = "Maximum Control Line Exceeded",
    /// A user that may have no subscriptions.
    MaxSubscriptions = "Maximum Subscriptions Exceeded",
    /// The daemon stops.
    ServerShutdown = "Server Shutdown",
    /// A reload took the user away, or its account did.
    CredentialsRevoked = "Credentials Revoked",
    /// The time of a user or of its account is over.
    AuthenticationExpired = "Authentication Expired",
    /// no_responders asked for without headers.
    NoRespondersNeedsHeaders = "No Responders Requires Headers",
    /// An operator asked for it.
    Kicked = "Kicked",
}

impl CloseReason {
    /// Whether what is queued for the peer is still written.
    pub fn flushes(self) -> bool {
        !matches!(
            self,
            Self::ReadError
                | Self::WriteError
                | Self::SlowConsumerPending
                | Self::SlowConsumerDeadline
                | Self::TlsHandshake
        )
    }
}

/// What is remembered of a connection that ended.
#[derive(Clone, Debug)]
pub struct ClosedConn {
    /// Its number.
    pub cid: u64,
    /// Where it came from.
    pub peer: Peer,
    /// Which way it came.
    pub way: Way,
    /// When it was accepted, in time since the Unix epoch.
    pub start: Duration,
    /// When it last did something, in time since the Unix epoch.
    pub last: Duration,
    /// When it ended, in time since the Unix epoch.
    pub stop: Duration,
    /// Why it ended.
    pub reason: CloseReason,
    /// Last round trip.
    pub rtt: Option<Duration>,
    /// What it sent and got.
    pub counters: Counters,
    /// Subscriptions when it ended.
    pub subs: u32,
    /// The name it gave.
    pub name: SmolStr,
    /// The language it gave.
    pub lang: SmolStr,
    /// The library version it gave.
    pub version: SmolStr,
    /// The user it was.
    pub user: SmolStr,
    /// The account it was in.
    pub account: SmolStr,
    /// The key that vouched for its user; empty: none.
    pub issuer: SmolStr,
    /// How it was encrypted, if it was.
    pub tls: Option<Arc<TlsFacts>>,
}
