//! Who may connect, and what they may do.

use std::time::Duration;

use crate::block::Block;
use crate::options::Secret;
use crate::report::Report;
use crate::text;
use crate::value::{Data, Written};

/// The `authorization` block. If users are listed, here or in an account, they count and a single user or token
/// from the command line does not; else the single user; else the token. Nothing of all that: anyone may connect.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Authorization {
    /// There is such a block, even if nothing is in it.
    pub given: bool,
    /// The single user's name.
    pub user: Option<String>,
    /// The single user's password.
    pub password: Option<Secret>,
    /// The token that everyone shows.
    pub token: Option<Secret>,
    /// How long a client may take to authenticate; see [`crate::Options::auth_timeout`].
    pub timeout: Option<Duration>,
    /// The users of the global account. `Some` of no user: nobody may connect without an account's user.
    pub users: Option<Vec<User>>,
    /// Who is asked about users elsewhere.
    pub auth_callout: Option<AuthCallout>,
    /// Clients connect only through a trusted proxy. Default false.
    pub proxy_required: bool,
}

impl Authorization {
    pub(crate) fn read(block: &Block<'_>, report: &mut Report) -> Self {
        let default_permissions = Permissions::read(block, "default_permissions");
        let this = Self {
            given: true,
            user: block.word("user"),
            password: block.secret("password"),
            token: block.secret("token"),
            timeout: block.seconds("timeout"),
            users: block.has("users").then(|| User::read_all(block, default_permissions.as_ref(), report)),
            auth_callout: block.block("auth_callout").map(|block| AuthCallout::read(&block, report)),
            proxy_required: block.bool("proxy_required").unwrap_or_default(),
        };
        let single = this.user.is_some() || this.password.is_some();
        if let Some(at) = block.at() {
            if single && this.token.is_some() {
                report.error(at, "Cannot have a user/pass and token");
            }
            if this.users.is_some() && this.user.is_some() {
                report.error(at, "Can not have a single user/pass and a users array");
            }
            if this.users.is_some() && this.token.is_some() {
                report.error(at, "Can not have a token and a users array");
            }
        }
        this
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// How the user proves who they are.
    pub identity: Identity,
    /// What the user may do; the block's default permissions if they have none of their own. None: everything.
    pub permissions: Option<Permissions>,
    /// The kinds of connection that the user may use, from [`CONNECTION_TYPES`]. Empty: all.
    pub connection_types: Vec<String>,
    /// The user connects only through a trusted proxy. Default false.
    pub proxy_required: bool,
    /// Where the user was written.
    pub at: Written,
}

/// How a user proves who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By name and password. The password may be a bcrypt hash; an empty one is none.
    Password {
        /// The name, not empty.
        name: String,
        /// The password or its hash.
        password: Secret,
    },
    /// By a signature with the private key of this public one.
    Nkey(String),
}

impl Identity {
    /// The name or the public key: what no two users share.
    pub fn name(&self) -> &str {
        match self {
            Self::Password { name, .. } | Self::Nkey(name) => name,
        }
    }
}

/// The values of `allowed_connection_types`.
pub const CONNECTION_TYPES: [&str; 7] =
    ["STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS", "IN_PROCESS"];

impl User {
    /// Reads the `users` of a block.
    pub(crate) fn read_all(
        block: &Block<'_>,
        default: Option<&Permissions>,
        report: &mut Report,
    ) -> Vec<Self> {
        block.blocks("users").into_iter().filter_map(|block| Self::read(&block, default, report)).collect()
    }

    fn read(block: &Block<'_>, default: Option<&Permissions>, report: &mut Report) -> Option<Self> {
        let at = block.at()?;
        let identity = match (block.word("nkey"), block.word("user"), block.word("password")) {
            (None, None, _) => {
                report.error(at, "User entry requires a user");
                return None;
            }
            (Some(nkey), None, None) => Identity::Nkey(nkey),
            (Some(_), _, _) => {
                report.error(at, "Nkey users do not take usernames or passwords");
                return None;
            }
            (None, Some(name), password) => {
                Identity::Password { name, password: Secret::from(password.unwrap_or_default()) }
            }
        };
        let connection_types: Vec<_> =
            block.texts("allowed_connection_types").iter().map(|name| name.to_ascii_uppercase()).collect();
        for name in connection_types.iter().filter(|name| !CONNECTION_TYPES.contains(&name.as_str())) {
            report.error(at, format!("invalid connection type {name:?}; there are {CONNECTION_TYPES:?}"));
        }
        Some(Self {
            identity,
            permissions: Permissions::read(block, "permissions").or_else(|| default.cloned()),
            connection_types,
            proxy_required: block.bool("proxy_required").unwrap_or_default(),
            at: Written(at.clone()),
        })
    }
}

/// What a user may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects to publish to.
    pub publish: Subjects,
    /// Subjects to subscribe to. An entry may be a subject and a queue name with a space between.
    pub subscribe: Subjects,
    /// Publishing to the reply subjects of received messages. With it, [`Self::publish`] allows nothing else
    /// unless it says so.
    pub allow_responses: Option<Responses>,
}

/// Allowed and denied subjects; what is denied stays denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subjects {
    /// The allowed ones; none: all.
    pub allow: Option<Vec<String>>,
    /// The denied ones.
    pub deny: Vec<String>,
}

/// How far responses are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Responses {
    /// Responses to one message; none: any number, written as less than 0. Default 1.
    pub messages_max: Option<u32>,
    /// Time after the message; none: any time, written as less than 0. Default 2 min.
    pub expires: Option<Duration>,
}

impl Default for Responses {
    fn default() -> Self {
        Self { messages_max: Some(1), expires: Some(Duration::from_secs(120)) }
    }
}

impl Permissions {
    pub(crate) fn read(block: &Block<'_>, name: &str) -> Option<Self> {
        let block = block.block(name)?;
        let mut this = Self {
            publish: Subjects::read(&block, "publish"),
            subscribe: Subjects::read(&block, "subscribe"),
            allow_responses: Responses::read(&block),
        };
        if this.allow_responses.is_some() {
            this.publish.allow.get_or_insert_default();
        }
        Some(this)
    }
}

impl Subjects {
    fn read(block: &Block<'_>, name: &str) -> Self {
        match block.block(name) {
            Some(block) => Self { allow: Self::list(&block, "allow"), deny: block.texts("deny") },
            None => Self { allow: Self::list(block, name), deny: Vec::new() },
        }
    }

    /// An empty list is as good as no list, as in nats-server.
    fn list(block: &Block<'_>, name: &str) -> Option<Vec<String>> {
        Some(block.texts(name)).filter(|list| !list.is_empty())
    }
}

impl Responses {
    fn read(block: &Block<'_>) -> Option<Self> {
        let Some(inner) = block.block("allow_responses") else {
            return block.bool("allow_responses").unwrap_or_default().then(Self::default);
        };
        let default = Self::default();
        let expires = match inner.get("expires").map(|value| &value.data) {
            Some(Data::Text(text)) => text::nanos(text).ok().filter(|nanos| *nanos != 0),
            _ => None,
        };
        Some(Self {
            messages_max: match inner.int("max") {
                None | Some(0) => default.messages_max,
                Some(max) => u32::try_from(max).ok(),
            },
            expires: match expires {
                None => default.expires,
                Some(nanos) => u64::try_from(nanos).ok().map(Duration::from_nanos),
            },
        })
    }
}

/// The service that is asked about users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthCallout {
    /// The public account nkey that signs the answers.
    pub issuer: String,
    /// The service's account. Default: the global one.
    pub account: String,
    /// The users as which the service connects; they are not asked about.
    pub auth_users: Vec<String>,
    /// The public curve nkey that the questions are encrypted for.
    pub xkey: Option<String>,
    /// The accounts that the service may place users in. Empty: all.
    pub allowed_accounts: Vec<String>,
}

impl AuthCallout {
    fn read(block: &Block<'_>, report: &mut Report) -> Self {
        let this = Self {
            issuer: block.word("issuer").unwrap_or_default(),
            account: block.word("account").unwrap_or_else(|| crate::options::GLOBAL_ACCOUNT.to_owned()),
            auth_users: block.texts("auth_users"),
            xkey: block.word("xkey"),
            allowed_accounts: block.texts("allowed_accounts"),
        };
        if let Some(at) = block.at() {
            if this.issuer.is_empty() {
                report.error(at, "Authorization callouts require an issuer to be specified");
            }
            if this.auth_users.is_empty() {
                report.error(at, "Authorization callouts require authorized users to be specified");
            }
        }
        this
    }
}
