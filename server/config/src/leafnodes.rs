//! Leaf nodes: servers that hang below this one, and the hubs that this one hangs below.

use std::path::PathBuf;
use std::time::Duration;

use crate::block::Block;
use crate::options::{GLOBAL_ACCOUNT, Listen, Secret};
use crate::report::Report;
use crate::text::is_user_seed;
use crate::tls::Tls;

/// The `leafnodes` block.
#[derive(Clone, Debug, PartialEq)]
pub struct LeafNodes {
    /// Where leaf nodes connect; none: nowhere. nats-server's port by convention is 7422.
    pub listen: Option<Listen>,
    /// `host:port` that leaf nodes are told instead of the listener's own address.
    pub advertise: Option<String>,
    /// Leaf nodes are told no address at all. Default false.
    pub no_advertise: bool,
    /// Who may connect.
    pub authorization: Option<LeafAuthorization>,
    /// The hubs to connect to.
    pub remotes: Vec<Remote>,
    /// The wait before a lost hub is tried again. Default 1 s.
    pub reconnect: Duration,
    /// How long a connect may take. Default 1 s.
    pub dial_timeout: Duration,
    /// How long a write may take. Default: that of clients.
    pub write_deadline: Option<Duration>,
    /// Encryption of the listener.
    pub tls: Option<Tls>,
}

/// Who may connect as a leaf node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafAuthorization {
    /// The single user. A user of the server may connect too if there is none and no list.
    pub user: Option<LeafUser>,
    /// The single user's public nkey.
    pub nkey: Option<String>,
    /// Several users. Not together with a single one.
    pub users: Vec<LeafUser>,
    /// How long a leaf node may take to authenticate. Default 2 s.
    pub timeout: Option<Duration>,
    /// The account that leaf nodes join, unless their user names another. Default: the global one.
    pub account: Option<String>,
}

/// A user as whom a leaf node connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafUser {
    /// The name.
    pub name: String,
    /// The password or its bcrypt hash.
    pub password: Secret,
    /// The account that the leaf node joins.
    pub account: Option<String>,
}

/// A hub to connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    /// The hub's addresses, as URLs. A user and password in them are sent to the hub.
    pub urls: Vec<Secret>,
    /// The addresses are tried in their order. Default false: in random order.
    pub no_randomize: bool,
    /// The account here whose messages cross. Default: the global one.
    pub account: String,
    /// A file with a JWT and a seed. `~` and variables of the environment are not resolved here.
    pub credentials: Option<PathBuf>,
    /// A user's nkey seed.
    pub nkey_seed: Option<Secret>,
    /// Encryption.
    pub tls: Option<Tls>,
    /// This side is the hub. Default false.
    pub hub: bool,
    /// Subjects that do not cross inwards.
    pub deny_imports: Vec<String>,
    /// Subjects that do not cross outwards.
    pub deny_exports: Vec<String>,
    /// How long the hub's INFO may take. Default 1 s.
    pub first_info_timeout: Duration,
    /// How long a connect may take. Default: that of the block.
    pub dial_timeout: Option<Duration>,
    /// The remote is left alone. Default false.
    pub disabled: bool,
    /// Addresses that the hub tells are not used. Default false.
    pub ignore_discovered_servers: bool,
}

impl LeafNodes {
    pub(crate) fn read(block: &Block<'_>, report: &mut Report) -> Self {
        if let (Some(version), Some(value)) = (block.text("min_version"), block.get("min_version"))
            && !is_version_since_2_8(&version)
        {
            report.error(&value.at, format!("the minimum version is \"2.8.0\" or later, got {version:?}"));
        }
        Self {
            listen: Listen::read_optional(block),
            advertise: block.word("advertise"),
            no_advertise: block.bool("no_advertise").unwrap_or_default(),
            authorization: block.block("authorization").map(|block| LeafAuthorization::read(&block, report)),
            remotes: Remote::read_all(block, report),
            reconnect: block.nonzero_duration("reconnect").unwrap_or(Duration::from_secs(1)),
            dial_timeout: block.nonzero_duration("dial_timeout").unwrap_or(Duration::from_secs(1)),
            write_deadline: block.nonzero_duration("write_deadline"),
            tls: block.block("tls").map(|block| Tls::read(&block, report)),
        }
    }
}

impl LeafAuthorization {
    fn read(block: &Block<'_>, report: &mut Report) -> Self {
        let mut users: Vec<LeafUser> = Vec::new();
        for inner in block.blocks("users") {
            let Some(at) = inner.at() else { continue };
            match LeafUser::read(&inner) {
                None => report.error(at, "User entry requires a user"),
                Some(user) if users.iter().any(|other| other.name == user.name) => {
                    report.error(
                        at,
                        format!("duplicate user {:?} detected in leafnode authorization", user.name),
                    );
                }
                Some(user) => users.push(user),
            }
        }
        let this = Self {
            user: LeafUser::read(block),
            nkey: block.word("nkey"),
            users,
            timeout: block.seconds("timeout"),
            account: block.word("account"),
        };
        if let Some(at) = block.at().filter(|_| !this.users.is_empty()) {
            if this.user.is_some() {
                report.error(at, "can not have a single user/pass and a users array");
            }
            if this.nkey.is_some() {
                report.error(at, "can not have a single nkey and a users array");
            }
        }
        this
    }
}

impl LeafUser {
    fn read(block: &Block<'_>) -> Option<Self> {
        Some(Self {
            name: block.word("user")?,
            password: block.secret("password").unwrap_or_default(),
            account: block.word("account"),
        })
    }
}

impl Remote {
    fn read_all(block: &Block<'_>, report: &mut Report) -> Vec<Self> {
        let mut remotes: Vec<Self> = Vec::new();
        for inner in block.blocks("remotes") {
            let remote = Self::read(&inner, report);
            let same = |other: &Self| {
                (&other.urls, &other.account, &other.credentials, &other.nkey_seed)
                    == (&remote.urls, &remote.account, &remote.credentials, &remote.nkey_seed)
            };
            match inner.at() {
                Some(at) if remotes.iter().any(same) => report.error(at, "duplicate remote leafnode"),
                _ => remotes.push(remote),
            }
        }
        remotes
    }

    fn read(block: &Block<'_>, report: &mut Report) -> Self {
        if let Some(at) = block.at()
            && block.has("credentials")
            && block.has("nkey")
        {
            report.error(at, "Remote leafnode can not have both creds and nkey defined");
        }
        let nkey_seed = block.secret("nkey");
        if let (Some(seed), Some(value)) = (&nkey_seed, block.get("nkey"))
            && !is_user_seed(seed.expose())
        {
            report.error(&value.at, "Remote leafnode nkey is not a valid seed");
        }
        Self {
            urls: block.texts("urls").into_iter().map(|url| Secret::from(url.trim().to_owned())).collect(),
            no_randomize: block.bool("no_randomize").unwrap_or_default(),
            account: block.word("account").unwrap_or_else(|| GLOBAL_ACCOUNT.to_owned()),
            credentials: block.path("credentials"),
            nkey_seed,
            tls: block.block("tls").map(|block| Tls::read(&block, report)),
            hub: block.bool("hub").unwrap_or_default(),
            deny_imports: block.texts("deny_imports"),
            deny_exports: block.texts("deny_exports"),
            first_info_timeout: block
                .nonzero_duration("first_info_timeout")
                .unwrap_or(Duration::from_secs(1)),
            dial_timeout: block.nonzero_duration("dial_timeout"),
            disabled: block.bool("disabled").unwrap_or_default(),
            ignore_discovered_servers: block.bool("ignore_discovered_servers").unwrap_or_default(),
        }
    }
}

/// A version of nats-server that leaf nodes can ask for.
fn is_version_since_2_8(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Option<Vec<u32>> = core.split('.').map(|number| number.parse().ok()).collect();
    matches!(numbers.as_deref(), Some([major, minor, _]) if (*major, *minor) >= (2, 8))
}
