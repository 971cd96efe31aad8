//! What a peer can do wrong, and the text that nats-server 2.15.1 answers (reference 3.1).

use core::fmt;

/// A rule of the grammar, or a ceiling, that a peer broke. After any of these the connection can't go on: what
/// follows on the wire has no known meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Rule {
    /// No verb begins like this, or a payload isn't followed by CR LF.
    UnknownOperation,
    /// The verb is known, its arguments are not understood.
    Arguments,
    /// A control line is longer than `max_control_line`.
    ControlLine,
    /// A message is larger than `max_payload`.
    Payload {
        /// The size that was announced, in bytes.
        size: u32,
    },
    /// HPUB on a connection that did not agree on headers.
    Headers,
}

impl Rule {
    /// The text of the -ERR that tells the peer, or `None` where the connection closes without one.
    pub fn err_text(self) -> Option<&'static str> {
        match self {
            Self::UnknownOperation => Some(UNKNOWN_OPERATION),
            Self::ControlLine => Some(MAX_CONTROL_LINE),
            Self::Payload { .. } => Some(MAX_PAYLOAD),
            Self::Arguments | Self::Headers => None,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOperation => f.write_str("unknown protocol operation"),
            Self::Arguments => f.write_str("the arguments of the operation are not understood"),
            Self::ControlLine => f.write_str("maximum control line exceeded"),
            Self::Payload { size } => write!(f, "maximum payload exceeded by a message of {size} bytes"),
            Self::Headers => f.write_str("message headers not supported"),
        }
    }
}

impl core::error::Error for Rule {}

/// -ERR: bytes that no verb begins with.
pub const UNKNOWN_OPERATION: &str = "Unknown Protocol Operation";
/// -ERR: credentials missing or wrong; one text for all causes.
pub const AUTHORIZATION_VIOLATION: &str = "Authorization Violation";
/// -ERR: no CONNECT in time.
pub const AUTHENTICATION_TIMEOUT: &str = "Authentication Timeout";
/// -ERR: the token that a user came in with has expired, or the hours are over.
pub const USER_EXPIRED: &str = "User Authentication Expired";
/// -ERR: the account of the user has expired, or was deleted.
pub const ACCOUNT_EXPIRED: &str = "Account Authentication Expired";
/// -ERR: the account takes back what it said of the user.
pub const USER_REVOKED: &str = "User Authentication Revoked";
/// -ERR: SUB on something that is not a filter.
pub const INVALID_SUBJECT: &str = "Invalid Subject";
/// -ERR: PUB on something that is not a literal subject; said to pedantic clients only.
pub const INVALID_PUBLISH_SUBJECT: &str = "Invalid Publish Subject";
/// -ERR: a message larger than `max_payload`.
pub const MAX_PAYLOAD: &str = "Maximum Payload Violation";
/// -ERR: a control line longer than `max_control_line`.
pub const MAX_CONTROL_LINE: &str = "maximum control line exceeded";
/// -ERR: more subscriptions than `max_subscriptions`.
pub const MAX_SUBSCRIPTIONS: &str = "maximum subscriptions exceeded";
/// -ERR: more connections than `max_connections`.
pub const MAX_CONNECTIONS: &str = "maximum connections exceeded";
/// -ERR: more connections than the account may have.
pub const MAX_ACCOUNT_CONNECTIONS: &str = "maximum account active connections exceeded";
/// -ERR: pings stayed without an answer.
pub const STALE_CONNECTION: &str = "Stale Connection";
/// -ERR: CONNECT asked for a protocol other than 0 and 1.
pub const INVALID_PROTOCOL: &str = "invalid client protocol";
/// -ERR: CONNECT asked for no_responders without headers.
pub const NO_RESPONDERS_NEEDS_HEADERS: &str = "no responders requires headers support";
/// -ERR: the listener wants TLS.
pub const TLS_REQUIRED: &str = "Secure Connection - TLS Required";

/// -ERR texts that name a subject. Displayed as nats-server writes them, the subject in Go's `%q` quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation<'a> {
    /// Publishing there isn't allowed.
    Publish(&'a [u8]),
    /// Asking for answers there isn't allowed.
    Reply(&'a [u8]),
    /// Subscribing to that isn't allowed.
    Subscribe {
        /// The filter.
        subject: &'a [u8],
        /// The queue group, if one was named.
        queue: Option<&'a [u8]>,
    },
    /// A subscription that was allowed is so no longer, and ended.
    Removed {
        /// The filter.
        subject: &'a [u8],
        /// The queue group, if one was named.
        queue: Option<&'a [u8]>,
        /// The subscriber's own name for it.
        sid: &'a [u8],
    },
    /// The filter has more tokens than `max_sub_tokens`.
    TooManyTokens(&'a [u8]),
}

impl fmt::Display for Violation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Publish(subject) => write!(f, "Permissions Violation for Publish to {}", Quoted(subject)),
            Self::Reply(reply) => {
                write!(f, "Permissions Violation for Publish with Reply of {}", Quoted(reply))
            }
            Self::Subscribe { subject, queue: None } => {
                write!(f, "Permissions Violation for Subscription to {}", Quoted(subject))
            }
            Self::Subscribe { subject, queue: Some(queue) } => {
                let (subject, queue) = (Quoted(subject), Quoted(queue));
                write!(f, "Permissions Violation for Subscription to {subject} using queue {queue}")
            }
            Self::Removed { subject, queue, sid } => {
                write!(f, "{} (sid {})", Self::Subscribe { subject, queue }, Quoted(sid))
            }
            Self::TooManyTokens(subject) => {
                write!(f, "Permissions Violation for Subscription to {}, too many tokens", Quoted(subject))
            }
        }
    }
}

/// Bytes in double quotes with escapes, one line whatever they hold.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' => f.write_str("\\\"")?,
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    '\x07' => f.write_str("\\a")?,
                    '\x08' => f.write_str("\\b")?,
                    '\x0b' => f.write_str("\\v")?,
                    '\x0c' => f.write_str("\\f")?,
                    c if c.is_control() && u32::from(c) < 0x80 => write!(f, "\\x{:02x}", u32::from(c))?,
                    c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                    c => write!(f, "{c}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_str("\"")
    }
}
