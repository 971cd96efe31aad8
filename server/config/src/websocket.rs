//! WebSocket clients.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::block::Block;
use crate::options::{Listen, Secret};
use crate::report::Report;
use crate::tls::Tls;

/// The `websocket` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocket {
    /// Where clients connect; none: nowhere.
    pub listen: Option<Listen>,
    /// `host:port` that clients are told instead of the listener's own address.
    pub advertise: Option<String>,
    /// Connections in clear. Default false: a listener without [`Self::tls`] is refused.
    pub no_tls: bool,
    /// Encryption.
    pub tls: Option<Tls>,
    /// Browsers connect only from the listener's own host. Default false.
    pub same_origin: bool,
    /// Browsers connect only from these origins. Empty: from any.
    pub allowed_origins: Vec<String>,
    /// Messages may be compressed. Default false.
    pub compression: bool,
    /// The cookies that credentials may come in.
    pub cookies: Cookies,
    /// How long the upgrade may take, with its TLS handshake. Default 2 s.
    pub handshake_timeout: Option<Duration>,
    /// Who may connect, instead of what holds for other clients.
    pub authorization: SimpleAuthorization,
    /// The user that a connection without credentials is taken for, instead of [`crate::Options::no_auth_user`].
    pub no_auth_user: Option<String>,
    /// Headers that the answer to an upgrade carries.
    pub headers: BTreeMap<String, String>,
    /// Silence after which the server sends PING. Default: that of other clients.
    pub ping_interval: Option<Duration>,
}

/// Names of cookies; empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookies {
    /// For a user's token.
    pub jwt: String,
    /// For a user's name.
    pub user: String,
    /// For a password.
    pub pass: String,
    /// For the token that all share.
    pub token: String,
}

/// A single user or token that counts on one listener. Not together with users of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimpleAuthorization {
    /// The name.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The token.
    pub token: Option<Secret>,
    /// How long a client may take to authenticate. Default: that of other clients.
    pub timeout: Option<Duration>,
}

impl WebSocket {
    pub(crate) fn read(block: &Block<'_>, report: &mut Report) -> Self {
        let headers = block.text_map("headers");
        for name in headers.keys() {
            let small = name.to_ascii_lowercase();
            let reserved = ["host", "content-length", "connection", "upgrade", "nats-no-masking"];
            if let Some(value) = block.get("headers")
                && (reserved.contains(&small.as_str()) || small.starts_with("sec-websocket-"))
            {
                report.error(&value.at, format!("websocket: invalid header {name:?} not allowed"));
            }
        }
        let this = Self {
            listen: Listen::read_optional(block),
            advertise: block.word("advertise"),
            no_tls: block.bool("no_tls").unwrap_or_default(),
            tls: block.block("tls").map(|block| Tls::read(&block, report)),
            same_origin: block.bool("same_origin").unwrap_or_default(),
            allowed_origins: block.texts("allowed_origins"),
            compression: block.bool("compression").unwrap_or_default(),
            cookies: {
                let name = |key| block.word(key).unwrap_or_default();
                let (jwt, user) = (name("jwt_cookie"), name("user_cookie"));
                Cookies { jwt, user, pass: name("pass_cookie"), token: name("token_cookie") }
            },
            handshake_timeout: block.seconds("handshake_timeout"),
            authorization: block
                .block("authorization")
                .map(|block| SimpleAuthorization::read(&block))
                .unwrap_or_default(),
            no_auth_user: block.word("no_auth_user"),
            headers,
            ping_interval: block.nonzero_duration("ping_interval"),
        };
        for origin in &this.allowed_origins {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if let Some(value) = block.get("allowed_origins")
                && host.is_none_or(|host| host.is_empty() || host.starts_with(['/', ':']))
            {
                report
                    .error(&value.at, format!("allowed origin {origin:?} is no http:// or https:// address"));
            }
        }
        this
    }
}

impl SimpleAuthorization {
    pub(crate) fn read(block: &Block<'_>) -> Self {
        Self {
            user: block.word("user"),
            password: block.secret("password"),
            token: block.secret("token"),
            timeout: block.seconds("timeout"),
        }
    }
}
