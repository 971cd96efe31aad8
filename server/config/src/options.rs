//! Everything that a configuration can say, typed, with nats-server's defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::account::{Account, Mapping};
use crate::auth::{Authorization, User};
use crate::block::Block;
use crate::check::Unserved;
use crate::clock::Clock;
use crate::jetstream::JetStream;
use crate::keys::ROOT;
use crate::leafnodes::LeafNodes;
use crate::mqtt::Mqtt;
use crate::rate::{LoginBackoff, RateLimits};
use crate::report::Report;
use crate::serial::SerialLine;
use crate::tls::Tls;
use crate::trust::Trust;
use crate::value::Map;
use crate::websocket::WebSocket;

/// The account of everyone who has no other.
pub const GLOBAL_ACCOUNT: &str = "$G";
/// The system account, unless another is named.
pub const SYSTEM_ACCOUNT: &str = "$SYS";
/// A larger `max_payload`, in bytes, earns a warning.
pub const PAYLOAD_BYTES_ADVISED: u32 = 8 << 20;
/// The shortest `lame_duck_duration`.
pub const LAME_DUCK_MIN: Duration = Duration::from_secs(30);

/// The settings of a daemon: a configuration file, the command line over it, and defaults below both.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The file that was read.
    pub config_file: Option<PathBuf>,
    /// What identifies the file's content; see [`crate::config_digest`].
    pub config_digest: Option<String>,
    /// Where clients connect.
    pub listen: Listen,
    /// `host` or `host:port` that clients are told instead of the listener's own address.
    pub client_advertise: Option<String>,
    /// The server's name, without spaces. Without one, a name is made up.
    pub server_name: Option<String>,
    /// What is logged and where to.
    pub log: Log,
    /// The HTTP endpoints for monitoring.
    pub monitor: Monitor,
    /// Ceilings for one server and for one connection.
    pub limits: Limits,
    /// When a silent connection is looked after.
    pub keepalive: Keepalive,
    /// How the server leaves.
    pub lame_duck: LameDuck,
    /// A Unix socket that clients on this machine may connect to as well. midge's own key.
    pub unix_socket: Option<PathBuf>,
    /// Serial lines that devices talk over. midge's own key.
    pub serial: Vec<SerialLine>,
    /// Which time of day is believed. midge's own key.
    pub clock: Clock,
    /// How much users may publish. midge's own key.
    pub rate_limits: RateLimits,
    /// How long those wait who fail to log in. midge's own key.
    pub login_backoff: LoginBackoff,
    /// Where the process id is written to.
    pub pid_file: Option<PathBuf>,
    /// The directory of a file that lists the open ports.
    pub ports_file_dir: Option<PathBuf>,
    /// No message headers: clients are told that there are none. Default false.
    pub no_header_support: bool,
    /// A full consumer loses messages rather than slow its producers. Default false.
    pub no_fast_producer_stall: bool,
    /// Routing works without its cache. Default false.
    pub disable_sublist_cache: bool,
    /// Every how many failed attempts of the first connect to a peer are logged. Default 3600.
    pub connect_error_reports: u32,
    /// Words that operators file the server under.
    pub server_tags: Vec<String>,
    /// The same, with values.
    pub server_metadata: BTreeMap<String, String>,
    /// Subject mappings of [`GLOBAL_ACCOUNT`].
    pub mappings: Vec<Mapping>,
    /// Who may connect to [`GLOBAL_ACCOUNT`].
    pub authorization: Authorization,
    /// The other accounts.
    pub accounts: Vec<Account>,
    /// The user, one that is defined, that a connection without credentials is taken for.
    pub no_auth_user: Option<String>,
    /// The account of system messages, if it is another than [`SYSTEM_ACCOUNT`].
    pub system_account: Option<String>,
    /// There is no system account. Default false.
    pub no_system_account: bool,
    /// Encryption of client connections.
    pub tls: Option<Tls>,
    /// With [`Self::tls`], clients may still connect without. Default false.
    pub allow_non_tls: bool,
    /// Trust in identities that operators signed.
    pub trust: Trust,
    /// Streams.
    pub jetstream: JetStream,
    /// Leaf nodes, if the block is there.
    pub leafnodes: Option<LeafNodes>,
    /// WebSocket clients, if the block is there.
    pub websocket: Option<WebSocket>,
    /// MQTT clients, if the block is there.
    pub mqtt: Option<Mqtt>,
    /// Keys that were set and have no effect in midge; see [`crate::unserved`].
    pub(crate) unserved: Vec<Unserved>,
}

impl Options {
    /// Reads the keys of a file.
    pub(crate) fn read(root: &Block<'_>, report: &mut Report) -> Self {
        let authorization = root.block("authorization").map(|block| Authorization::read(&block, report));
        Self {
            listen: Listen::read(root, 4222),
            client_advertise: root.word("client_advertise"),
            server_name: root.word("server_name"),
            log: Log::read(root),
            monitor: Monitor::read(root),
            limits: Limits::read(root),
            keepalive: Keepalive::read(root),
            lame_duck: LameDuck::read(root),
            unix_socket: root.path("unix_socket"),
            serial: SerialLine::read_all(root, report),
            clock: Clock::read(root, report),
            rate_limits: RateLimits::read(root, report),
            login_backoff: LoginBackoff::read(root),
            pid_file: root.path("pid_file"),
            ports_file_dir: root.path("ports_file_dir"),
            no_header_support: root.bool("no_header_support").unwrap_or_default(),
            no_fast_producer_stall: root.bool("no_fast_producer_stall").unwrap_or_default(),
            disable_sublist_cache: root.bool("disable_sublist_cache").unwrap_or_default(),
            connect_error_reports: root.nonzero("connect_error_reports").unwrap_or(3600),
            server_tags: root.texts("server_tags"),
            server_metadata: root.text_map("server_metadata"),
            mappings: Mapping::read_all(root, report),
            authorization: authorization.unwrap_or_default(),
            accounts: Account::read_all(root, report),
            no_auth_user: root.word("no_auth_user"),
            system_account: root.word("system_account"),
            no_system_account: root.bool("no_system_account").unwrap_or_default(),
            tls: root.block("tls").map(|block| Tls::read(&block, report)),
            allow_non_tls: root.bool("allow_non_tls").unwrap_or_default(),
            trust: Trust::read(root, report),
            jetstream: JetStream::read(root, report),
            leafnodes: root.block("leafnodes").map(|block| LeafNodes::read(&block, report)),
            websocket: root.block("websocket").map(|block| WebSocket::read(&block, report)),
            mqtt: root.block("mqtt").map(|block| Mqtt::read(&block, report)),
            config_file: None,
            config_digest: None,
            unserved: Vec::new(),
        }
    }

    /// All users with the names of their accounts, those of the `authorization` block first.
    pub fn users(&self) -> impl Iterator<Item = (&str, &User)> {
        let global = self.authorization.users.iter().flatten().map(|user| (GLOBAL_ACCOUNT, user));
        global.chain(self.accounts.iter().flat_map(|a| a.users.iter().map(|user| (a.name.as_str(), user))))
    }

    /// How long a client may take to authenticate. Default: 2 s, with TLS a second more than its handshake may take.
    pub fn auth_timeout(&self) -> Duration {
        let default = match &self.tls {
            Some(tls) => tls.timeout + Duration::from_secs(1),
            None => Duration::from_secs(2),
        };
        self.authorization.timeout.unwrap_or(default)
    }
}

impl Default for Options {
    /// What an empty configuration says.
    fn default() -> Self {
        Self::read(&Block::new(ROOT, &Map::default(), None), &mut Report::default())
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Host name or address. Default `0.0.0.0`, every interface.
    pub host: String,
    /// Port; 0 takes any free one, which is written `-1` in files and flags. Default 4222 for clients; for the
    /// other listeners see there.
    pub port: u16,
}

impl Listen {
    /// Reads `listen`, `host` and `port`; the default port stands where no port is given.
    pub(crate) fn read(block: &Block<'_>, port: u16) -> Self {
        Self::read_optional(block).unwrap_or(Self { port, ..Self::read_host(block) })
    }

    /// Reads `listen`, `host` and `port`; without a port there is no listener.
    pub(crate) fn read_optional(block: &Block<'_>) -> Option<Self> {
        let port = block.port("port").or_else(|| block.listen("listen")?.1);
        port.map(|port| Self { port, ..Self::read_host(block) })
    }

    fn read_host(block: &Block<'_>) -> Self {
        let listen = block.listen("listen").map(|(host, _)| host).filter(|host| !host.is_empty());
        Self { host: block.word("host").or(listen).unwrap_or_else(any_host), port: 0 }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { host: any_host(), port: 4222 }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn any_host() -> String {
    "0.0.0.0".to_owned()
}

/// What is logged and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Log what helps to find a fault. Default false.
    pub debug: bool,
    /// Log the protocol. Default false; on with [`Self::trace_verbose`] or [`Self::trace_headers`].
    pub trace: bool,
    /// Log the protocol of the system account too. Default false.
    pub trace_verbose: bool,
    /// Of traced messages log the headers alone. Default false.
    pub trace_headers: bool,
    /// At most so many bytes of a traced message are logged. Default: all.
    pub max_traced_msg_len: Option<u32>,
    /// Lines begin with the time. Default true.
    pub time: bool,
    /// Times are UTC, not local. Default false.
    pub time_utc: bool,
    /// Log to this file, not to the standard error output.
    pub file: Option<PathBuf>,
    /// The file is set aside when it reaches so many bytes. Default: never.
    pub file_bytes_max: Option<u64>,
    /// So many files are kept. Default: all.
    pub files_max: Option<u64>,
    /// Log to the system's log. Default false.
    pub syslog: bool,
    /// Log to a system's log elsewhere, such as `udp://127.0.0.1:514`.
    pub remote_syslog: Option<String>,
}

impl Log {
    fn read(root: &Block<'_>) -> Self {
        let on = |name| root.bool(name).unwrap_or_default();
        Self {
            debug: on("debug"),
            trace: on("trace") || on("trace_verbose") || on("trace_headers"),
            trace_verbose: on("trace_verbose"),
            trace_headers: on("trace_headers"),
            max_traced_msg_len: root.nonzero("max_traced_msg_len"),
            time: root.bool("logtime").unwrap_or(true),
            time_utc: on("logtime_utc"),
            file: root.path("log_file"),
            file_bytes_max: root.nonzero("logfile_size_limit"),
            files_max: root.nonzero("logfile_max_num"),
            syslog: on("syslog"),
            remote_syslog: root.word("remote_syslog"),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            debug: false,
            trace: false,
            trace_verbose: false,
            trace_headers: false,
            max_traced_msg_len: None,
            time: true,
            time_utc: false,
            file: None,
            file_bytes_max: None,
            files_max: None,
            syslog: false,
            remote_syslog: None,
        }
    }
}

/// The HTTP endpoints for monitoring. Off without a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Monitor {
    /// Host to listen on. Default: that of the clients' listener.
    pub host: Option<String>,
    /// Port for HTTP; 0 takes any free one.
    pub http_port: Option<u16>,
    /// Port for HTTPS with the certificate of [`Options::tls`]; 0 takes any free one.
    pub https_port: Option<u16>,
    /// What the endpoints' paths begin with. Begins with `/` and does not end with one. Default: nothing.
    pub base_path: String,
}

impl Monitor {
    fn read(root: &Block<'_>) -> Self {
        let (http, https) = (root.listen("http"), root.listen("https"));
        let host = |listen: &Option<(String, Option<u16>)>| listen.as_ref().map(|(host, _)| host.clone());
        let base_path = root.text("http_base_path").unwrap_or_default();
        let base_path =
            base_path.split('/').filter(|part| !part.is_empty()).map(|part| format!("/{part}")).collect();
        Self {
            host: host(&http).or(host(&https)).filter(|host| !host.is_empty()),
            http_port: root.port("http_port").or(http.and_then(|(_, port)| port)),
            https_port: root.port("https_port").or(https.and_then(|(_, port)| port)),
            base_path,
        }
    }
}

/// Ceilings for one server and for one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at one time; 0, also written as less, lets nobody in. None: no ceiling. Default 65536.
    pub connections_max: Option<u32>,
    /// Subscriptions of one connection; none: no ceiling, the default.
    pub subscriptions_max: Option<u32>,
    /// Tokens of a subscription's subject, 1 to 255; none: no ceiling, the default.
    pub subscription_tokens_max: Option<u8>,
    /// Bytes of a protocol line. Default 4096.
    pub control_line_bytes_max: u32,
    /// Bytes of a message with its headers. Default 1 MiB. At most [`Self::pending_bytes_max`].
    pub payload_bytes_max: u32,
    /// Bytes that wait to be sent to one client before it counts as too slow. Default 64 MiB.
    pub pending_bytes_max: u64,
    /// Closed connections that monitoring remembers. Default 10000.
    pub closed_clients_max: u32,
    /// Bytes of memory for all connections, queues and subscriptions together. None: half of what there is. midge's
    /// own key, `memory_budget`.
    pub memory_budget: Option<u64>,
}

impl Limits {
    fn read(root: &Block<'_>) -> Self {
        let default = Self::default();
        Self {
            connections_max: root
                .int("max_connections")
                .map_or(default.connections_max, |most| Some(u32::try_from(most.max(0)).unwrap_or(u32::MAX))),
            subscriptions_max: root.ceiling("max_subscriptions").unwrap_or_default(),
            subscription_tokens_max: root.nonzero("max_sub_tokens"),
            control_line_bytes_max: root
                .nonzero("max_control_line")
                .unwrap_or(default.control_line_bytes_max),
            payload_bytes_max: root.nonzero("max_payload").unwrap_or(default.payload_bytes_max),
            pending_bytes_max: root.nonzero("max_pending").unwrap_or(default.pending_bytes_max),
            closed_clients_max: root.nonzero("max_closed_clients").unwrap_or(default.closed_clients_max),
            memory_budget: root
                .size("memory_budget")
                .and_then(|bytes| u64::try_from(bytes).ok())
                .filter(|b| *b > 0),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: Some(65536),
            subscriptions_max: None,
            subscription_tokens_max: None,
            control_line_bytes_max: 4096,
            payload_bytes_max: 1 << 20,
            pending_bytes_max: 64 << 20,
            closed_clients_max: 10000,
            memory_budget: None,
        }
    }
}

/// When a silent connection is looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence after which the server sends PING. Default 2 min.
    pub ping_interval: Duration,
    /// Unanswered PINGs after which the connection is closed. Default 2.
    pub pings_max: u32,
    /// How long a write may take. Default 10 s.
    pub write_deadline: Duration,
}

impl Keepalive {
    fn read(root: &Block<'_>) -> Self {
        let default = Self::default();
        Self {
            ping_interval: root.nonzero_duration("ping_interval").unwrap_or(default.ping_interval),
            pings_max: root.nonzero("ping_max").unwrap_or(default.pings_max),
            write_deadline: root.nonzero_duration("write_deadline").unwrap_or(default.write_deadline),
        }
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(120),
            pings_max: 2,
            write_deadline: Duration::from_secs(10),
        }
    }
}

/// How the server leaves: it refuses newcomers, waits, and then closes its clients one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LameDuck {
    /// From the start to the last client, at least [`LAME_DUCK_MIN`]. Default 2 min.
    pub duration: Duration,
    /// The wait before the first client is closed, shorter than [`Self::duration`]. Default 10 s.
    pub grace: Duration,
}

impl LameDuck {
    fn read(root: &Block<'_>) -> Self {
        let default = Self::default();
        Self {
            duration: root.nonzero_duration("lame_duck_duration").unwrap_or(default.duration),
            grace: root.nonzero_duration("lame_duck_grace_period").unwrap_or(default.grace),
        }
    }
}

impl Default for LameDuck {
    fn default() -> Self {
        Self { duration: Duration::from_secs(120), grace: Duration::from_secs(10) }
    }
}

/// A password, token or key. Shown only as `[hidden]`; [`Self::expose`] gives it away.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, not for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}
