//! Every key of nats-server's configuration, what its value looks like, and whether midge serves it.
//!
//! This is the one place to edit when midge learns to serve a key: change its [`Stance`]. The stance of a block's
//! own key comes first; keys inside a block that is not served are not asked for theirs.
//!
//! Source: reference 3.7, "Every config key".

use Kind::*;
use Stance::*;

/// What midge does about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// The key has its effect.
    Served,
    /// The key has no effect, and the server works without it: a warning.
    Ignored,
    /// The key has no effect, and to run without it would be unsafe or not what the operator meant: the daemon
    /// should refuse to start.
    Refused,
}

/// One key of a block.
#[derive(Debug)]
pub struct Key {
    /// The key's names, the usual one first, separated by a space. Matched without regard to case.
    pub names: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// What midge does about it.
    pub stance: Stance,
}

impl Key {
    /// The usual name.
    pub fn name(&self) -> &'static str {
        self.names.split(' ').next().unwrap_or_default()
    }
}

/// What a key's value looks like.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// An integer in a range, both ends included.
    Int(i64, i64),
    /// A string.
    Text,
    /// A string without spaces.
    Name,
    /// A duration in Go's syntax; an integer means seconds and earns a warning.
    Duration,
    /// A duration in Go's syntax.
    Span,
    /// A duration in Go's syntax, not negative.
    Wait,
    /// Seconds as a number, or a duration in Go's syntax. The flag: more than a minute earns a warning.
    Seconds(bool),
    /// Bytes as an integer, or as a string such as `"10G"` with a power of 1024.
    Size,
    /// A port, or `host:port`.
    Listen,
    /// A string or a list of strings.
    Texts,
    /// A list of strings.
    List,
    /// A map from any name to a string.
    TextMap,
    /// A map from any name to a boolean.
    BoolMap,
    /// One of these words, in any case.
    Word(&'static [&'static str]),
    /// A public nkey of the type that this letter stands for; `*` stands for any.
    Nkey(char),
    /// A percentage from 1 to 100: an integer, or a string with or without `%`; also the word, if there is one.
    Percent(&'static str),
    /// A map with these keys.
    Block(&'static [Key]),
    /// A list of maps with these keys.
    Blocks(&'static [Key]),
    /// The same, or one such map.
    BlockOrBlocks(&'static [Key]),
    /// A map with these keys, or a string.
    TextOr(&'static [Key]),
    /// A map with these keys, or a string or boolean.
    WordOr(&'static [Key]),
    /// A map with these keys, or a boolean.
    BoolOr(&'static [Key]),
    /// A map with these keys, or a boolean, or `enabled` or `disabled`.
    Switch(&'static [Key]),
    /// A map from names to maps with these keys, or a list of names.
    Named(&'static [Key]),
    /// A subject or a list of them, or a map with these keys, which are lists of the same. The flag: an entry may
    /// be a subject and a queue name.
    Permission(&'static [Key], bool),
    /// A subject or a list of them. The flag is that of [`Kind::Permission`].
    Subjects(bool),
    /// A map from subjects to destinations, each a subject, a map with these keys, or a list of such maps.
    Mappings(&'static [Key]),
    /// A list of durations in Go's syntax.
    Spans,
    /// `handshake_first`: a boolean, a word or a duration.
    HandshakeFirst,
    /// `sync_interval`: a duration, or `always`.
    SyncInterval,
    /// Anything at all.
    Any,
}

impl Kind {
    /// The keys of the blocks that a value of this kind holds.
    pub fn keys(self) -> &'static [Key] {
        match self {
            Block(keys)
            | Blocks(keys)
            | BlockOrBlocks(keys)
            | TextOr(keys)
            | WordOr(keys)
            | BoolOr(keys)
            | Switch(keys)
            | Named(keys)
            | Permission(keys, _)
            | Mappings(keys) => keys,
            _ => &[],
        }
    }
}

const fn key(names: &'static str, kind: Kind, stance: Stance) -> Key {
    Key { names, kind, stance }
}

const ANY_INT: Kind = Int(i64::MIN, i64::MAX);
const COUNT: Kind = Int(0, i32::MAX as i64);
/// A port; 0 stands for the default and -1 for any free one.
const PORT: Kind = Int(-1, u16::MAX as i64);
const WRITE_TIMEOUT: Kind = Word(&["default", "close", "retry"]);

static RATE_LIMITS: &[Key] = &[key("users", Named(RATE), Served), key("default", Block(RATE), Served)];

static LOGIN_BACKOFF: &[Key] =
    &[key("after", COUNT, Served), key("longest", Wait, Served), key("loopback", Bool, Served)];

static SERIAL: &[Key] = &[
    key("device", Text, Served),
    key("baud", Int(50, 4_000_000), Served),
    key("data_bits", Int(7, 8), Served),
    key("parity", Word(&["none", "even", "odd"]), Served),
    key("stop_bits", Int(1, 2), Served),
    key("flow", Word(&["none", "rts_cts", "xon_xoff"]), Served),
    key("rs485", Bool, Served),
    key("framing", Word(&["text", "crc"]), Served),
    key("max_payload", Int(1, 1 << 20), Served),
    key("gap", Duration, Served),
    key("user", Text, Served),
    key("account", Text, Served),
    key("permissions permission", Block(PERMISSIONS), Served),
];

static CLOCK: &[Key] = &[key("trust", Any, Served), key("synchronised_file", Text, Served)];

/// Per second.
static RATE: &[Key] = &[key("msgs", COUNT, Served), key("bytes", Size, Served)];

/// The keys of the file itself.
pub static ROOT: &[Key] = &[
    key("listen", Listen, Served),
    key("client_advertise", Text, Served),
    key("port", PORT, Served),
    key("server_name", Name, Served),
    key("host net", Text, Served),
    key("debug", Bool, Served),
    key("trace", Bool, Served),
    key("trace_verbose", Bool, Served),
    key("trace_headers", Bool, Ignored),
    key("logtime", Bool, Served),
    key("logtime_utc", Bool, Served),
    key("mappings maps", Mappings(DESTINATION), Served),
    key("disable_sublist_cache no_sublist_cache", Bool, Served),
    key("accounts", Named(ACCOUNT), Served),
    key("default_sentinel", Text, Served),
    key("authorization", Block(AUTHORIZATION), Served),
    key("http", Listen, Served),
    key("https", Listen, Served),
    key("http_port monitor_port", PORT, Served),
    key("https_port", PORT, Served),
    key("http_base_path", Text, Served),
    key("cluster", Block(CLUSTER), Ignored),
    key("gateway", Block(GATEWAY), Ignored),
    key("leafnodes leaf", Block(LEAFNODES), Served),
    key("store_dir storedir", Text, Served),
    key("jetstream", Switch(JETSTREAM), Served),
    key("log_file logfile", Text, Served),
    key("logfile_size_limit log_size_limit", ANY_INT, Served),
    key("logfile_max_num log_max_num", ANY_INT, Served),
    key("syslog", Bool, Served),
    key("remote_syslog", Text, Served),
    // midge's own: nats-server listens on TCP alone, has no ceiling for all memory, and lets users flood it.
    key("unix_socket", Text, Served),
    key("serial", BlockOrBlocks(SERIAL), Served),
    key("memory_budget", Size, Served),
    key("clock", Block(CLOCK), Served),
    key("rate_limits", Block(RATE_LIMITS), Served),
    key("login_backoff", Block(LOGIN_BACKOFF), Served),
    key("pid_file pidfile", Text, Served),
    key("ports_file_dir", Text, Served),
    key("prof_port", PORT, Ignored),
    key("prof_block_rate", ANY_INT, Ignored),
    key("max_control_line", COUNT, Served),
    key("max_payload", COUNT, Served),
    key("max_pending", Int(0, i64::MAX), Served),
    key("proxy_protocol", Bool, Refused),
    key("max_connections max_conn", ANY_INT, Served),
    key("max_traced_msg_len", COUNT, Served),
    key("max_subscriptions max_subs", ANY_INT, Served),
    key("max_sub_tokens max_subscription_tokens", Int(1, 255), Served),
    key("ping_interval", Duration, Served),
    key("ping_max", COUNT, Served),
    key("tls", Block(TLS), Served),
    key("ocsp", BoolOr(OCSP), Ignored),
    key("allow_non_tls", Bool, Served),
    key("write_deadline", Duration, Served),
    key("write_timeout", WRITE_TIMEOUT, Ignored),
    key("lame_duck_duration", Wait, Served),
    key("lame_duck_grace_period", Wait, Served),
    key("operator operators roots root root_operators root_operator", Texts, Served),
    key("resolver account_resolver accounts_resolver", TextOr(RESOLVER), Served),
    key("resolver_tls", Block(TLS), Served),
    key("resolver_preload", TextMap, Served),
    key("resolver_pinned_accounts", Texts, Served),
    key("no_auth_user", Text, Served),
    key("system_account system", Text, Served),
    key("no_system_account no_system no_sys_acc", Bool, Served),
    key("no_header_support", Bool, Served),
    key("trusted_keys trusted", Texts, Served),
    key("connect_error_reports", ANY_INT, Served),
    key("reconnect_error_reports", ANY_INT, Ignored),
    key("websocket ws", Block(WEBSOCKET), Served),
    key("mqtt", Block(MQTT), Ignored),
    key("server_tags", Texts, Served),
    key("server_metadata", TextMap, Served),
    key("feature_flags", BoolMap, Served),
    key("default_js_domain", TextMap, Ignored),
    key("ocsp_cache", BoolOr(OCSP_CACHE), Ignored),
    key("no_fast_producer_stall", Bool, Served),
    key("max_closed_clients", COUNT, Served),
    key("proxies", Block(PROXIES), Refused),
];

static AUTHORIZATION: &[Key] = &[
    key("user username", Text, Served),
    key("password pass", Text, Served),
    key("token", Text, Served),
    key("timeout", Seconds(true), Served),
    key("users", Blocks(USER), Served),
    key("default_permissions default_permission permissions", Block(PERMISSIONS), Served),
    key("auth_callout auth_hook", Block(AUTH_CALLOUT), Served),
    key("proxy_required", Bool, Refused),
];

static USER: &[Key] = &[
    key("nkey", Nkey('U'), Served),
    key("user username", Text, Served),
    key("password pass", Text, Served),
    key("permissions permission authorization", Block(PERMISSIONS), Served),
    key("allowed_connection_types connection_types clients", Texts, Served),
    key("proxy_required", Bool, Refused),
];

static PERMISSIONS: &[Key] = &[
    key("publish pub import", Permission(ALLOW_DENY, false), Served),
    key("subscribe sub export", Permission(ALLOW_DENY_QUEUE, true), Served),
    key("allow_responses publish_allow_responses", BoolOr(RESPONSES), Served),
];

static ALLOW_DENY: &[Key] = &[key("allow", Subjects(false), Served), key("deny", Subjects(false), Served)];
static ALLOW_DENY_QUEUE: &[Key] =
    &[key("allow", Subjects(true), Served), key("deny", Subjects(true), Served)];

static RESPONSES: &[Key] = &[
    key("max max_msgs max_messages max_responses", Int(i32::MIN as i64, i32::MAX as i64), Served),
    key("expires expiration ttl", Span, Served),
];

static AUTH_CALLOUT: &[Key] = &[
    key("issuer", Nkey('A'), Served),
    key("account acc", Text, Served),
    key("auth_users users", List, Served),
    key("xkey key", Nkey('X'), Served),
    key("allowed_accounts", List, Served),
];

static ACCOUNT: &[Key] = &[
    key("nkey", Nkey('A'), Ignored),
    key("imports", Blocks(IMPORT), Served),
    key("exports", Blocks(EXPORT), Served),
    key("jetstream", Switch(ACCOUNT_JETSTREAM), Served),
    key("users", Blocks(USER), Served),
    key("default_permissions", Block(PERMISSIONS), Served),
    key("mappings maps", Mappings(DESTINATION), Served),
    key("limits", Block(ACCOUNT_LIMITS), Served),
    key("msg_trace trace_dest", TextOr(MSG_TRACE), Served),
];

static DESTINATION: &[Key] =
    &[key("destination dest", Text, Served), key("weight", Any, Served), key("cluster", Text, Served)];

static ACCOUNT_LIMITS: &[Key] = &[
    key("max_connections max_conn", Int(-1, i32::MAX as i64), Served),
    key("max_subscriptions max_subs", Int(-1, i32::MAX as i64), Served),
    key("max_payload max_pay", Int(-1, i32::MAX as i64), Served),
    key("max_leafnodes max_leafs", Int(-1, i32::MAX as i64), Served),
];

static MSG_TRACE: &[Key] = &[key("dest", Text, Served), key("sampling", Percent(""), Served)];

static EXPORT: &[Key] = &[
    key("stream", Text, Served),
    key("service", Text, Served),
    key("response_type response", Word(&["single", "singleton", "stream", "chunk", "chunked"]), Served),
    key("response_threshold threshold response_max_time response_time", Wait, Served),
    key("accounts", List, Served),
    key("latency", TextOr(LATENCY), Served),
    key("account_token_position", COUNT, Served),
    key("allow_trace", Bool, Served),
];

static LATENCY: &[Key] = &[key("sampling", Percent("headers"), Served), key("subject", Text, Served)];

static IMPORT: &[Key] = &[
    key("stream", Block(IMPORT_SOURCE), Served),
    key("service", Block(IMPORT_SOURCE), Served),
    key("prefix", Text, Served),
    key("to", Text, Served),
    key("share", Bool, Served),
    key("allow_trace", Bool, Served),
];

static IMPORT_SOURCE: &[Key] = &[key("account", Text, Served), key("subject", Text, Served)];

static ACCOUNT_JETSTREAM: &[Key] = &[
    key("max_memory max_mem mem memory", ANY_INT, Served),
    key("max_file max_store max_disk store disk", ANY_INT, Served),
    key("max_streams streams", ANY_INT, Served),
    key("max_consumers consumers", ANY_INT, Served),
    key("max_bytes_required max_stream_bytes max_bytes", Bool, Served),
    key("memory_max_stream_bytes mem_max_stream_bytes", ANY_INT, Served),
    key("store_max_stream_bytes disk_max_stream_bytes", ANY_INT, Served),
    key("max_ack_pending", ANY_INT, Served),
    key("cluster_traffic", Word(&["system", "owner", ""]), Ignored),
];

static TLS: &[Key] = &[
    key("cert_file", Text, Served),
    key("key_file", Text, Served),
    key("ca_file", Text, Served),
    key("insecure", Bool, Served),
    key("verify", Bool, Served),
    key("verify_and_map", Bool, Served),
    key("verify_cert_and_check_known_urls", Bool, Refused),
    key("allow_insecure_cipher_suites", Bool, Served),
    key("cipher_suites", List, Served),
    key("curve_preferences", List, Served),
    key("timeout", Seconds(false), Served),
    key("connection_rate_limit", Int(0, i64::MAX), Served),
    key("pinned_certs", List, Served),
    key("cert_store", Text, Refused),
    key("cert_match_by", Text, Refused),
    key("cert_match", Text, Refused),
    key("ca_certs_match", Texts, Refused),
    key("cert_match_skip_invalid", Bool, Refused),
    key("handshake_first first immediate", HandshakeFirst, Served),
    key("ocsp_peer", BoolOr(OCSP_PEER), Refused),
    key("certs certificates", Blocks(CERTIFICATE), Served),
    key("min_version", Text, Served),
];

static CERTIFICATE: &[Key] = &[key("cert_file", Text, Served), key("key_file", Text, Served)];

static OCSP: &[Key] = &[
    key("mode", Word(&["always", "must", "never", "auto"]), Served),
    key("urls", List, Served),
    key("url", Text, Served),
];

static OCSP_PEER: &[Key] = &[
    key("verify", Bool, Served),
    key("allowed_clockskew", Seconds(false), Served),
    key("ca_timeout", Seconds(false), Served),
    key("cache_ttl_when_next_update_unset", Seconds(false), Served),
    key("warn_only", Bool, Served),
    key("unknown_is_good", Bool, Served),
    key("allow_when_ca_unreachable", Bool, Served),
];

static OCSP_CACHE: &[Key] = &[
    key("type", Text, Served),
    key("local_store", Text, Served),
    key("preserve_revoked", Bool, Served),
    key("save_interval", Seconds(false), Served),
];

static RESOLVER: &[Key] = &[
    key("type", Word(&["cache", "full", "mem", "memory"]), Served),
    key("dir", Text, Served),
    key("allow_delete", Bool, Served),
    key("hard_delete", Bool, Served),
    key("limit", ANY_INT, Served),
    key("ttl", Span, Served),
    key("interval", Span, Served),
    key("timeout", Span, Served),
];

static JETSTREAM: &[Key] = &[
    key("enabled enable", Bool, Served),
    key("strict", Bool, Served),
    key("store_dir store storedir", Text, Served),
    key("sync_interval sync", SyncInterval, Served),
    // midge's own.
    key("commit_window", Duration, Served),
    key("max_memory_store max_mem_store max_mem", Size, Served),
    key("max_file_store max_file", Size, Served),
    key("domain", Text, Served),
    key("encryption_key key ek", Text, Refused),
    key("prev_encryption_key prev_key prev_ek", Text, Refused),
    key("cipher", CIPHER, Refused),
    key("extension_hint", Text, Ignored),
    key("limits", Block(JETSTREAM_LIMITS), Served),
    key("tpm", Block(JETSTREAM_TPM), Refused),
    key("unique_tag", Text, Ignored),
    key("max_outstanding_catchup", Size, Ignored),
    key("max_buffered_size", Size, Ignored),
    key("max_buffered_msgs", ANY_INT, Ignored),
    key("request_queue_limit", ANY_INT, Ignored),
    key("info_queue_limit", ANY_INT, Ignored),
    key("meta_compact", Int(0, i64::MAX), Ignored),
    key("meta_compact_size", Size, Ignored),
    key("meta_compact_sync", Bool, Ignored),
    key("max_concurrent_io", Int(4, 8192), Ignored),
];

const CIPHER: Kind = Word(&["chacha", "chachapoly", "aes"]);

static JETSTREAM_LIMITS: &[Key] = &[
    key("max_ack_pending", ANY_INT, Served),
    key("max_ha_assets", ANY_INT, Ignored),
    key("max_request_batch", ANY_INT, Served),
    key("duplicate_window", Span, Served),
    key("default_max_consumers", ANY_INT, Served),
    key("batch", Block(JETSTREAM_BATCH), Served),
];

static JETSTREAM_BATCH: &[Key] = &[
    key("max_inflight_per_stream", ANY_INT, Served),
    key("max_inflight_total", ANY_INT, Served),
    key("max_msgs", ANY_INT, Served),
    key("timeout", Span, Served),
];

static JETSTREAM_TPM: &[Key] = &[
    key("keys_file", Text, Served),
    key("encryption_password", Text, Served),
    key("srk_password", Text, Served),
    key("pcr", ANY_INT, Served),
    key("cipher", CIPHER, Served),
];

static CLUSTER: &[Key] = &[
    key("name", Name, Served),
    key("listen", Listen, Served),
    key("port", PORT, Served),
    key("host net", Text, Served),
    key("authorization", Block(ROUTE_AUTHORIZATION), Served),
    key("routes", List, Served),
    key("tls", Block(TLS), Served),
    key("cluster_advertise advertise", Text, Served),
    key("no_advertise", Bool, Served),
    key("connect_retries", ANY_INT, Served),
    key("connect_backoff", Bool, Served),
    key("permissions", Block(PERMISSIONS), Served),
    key("pool_size", ANY_INT, Served),
    key("accounts", Texts, Served),
    key("compression", WordOr(COMPRESSION), Served),
    key("ping_interval", Duration, Served),
    key("ping_max", ANY_INT, Served),
    key("write_deadline", Duration, Served),
    key("write_timeout", WRITE_TIMEOUT, Served),
];

/// Servers among themselves have a single user.
static ROUTE_AUTHORIZATION: &[Key] = &[
    key("user username", Text, Served),
    key("password pass", Text, Served),
    key("timeout", Seconds(true), Served),
    key("permissions default_permission default_permissions", Block(PERMISSIONS), Served),
    key("proxy_required", Bool, Served),
];

static COMPRESSION: &[Key] =
    &[key("mode", Text, Served), key("rtt_thresholds thresholds rtts rtt", Spans, Served)];

static GATEWAY: &[Key] = &[
    key("name", Name, Served),
    key("listen", Listen, Served),
    key("port", PORT, Served),
    key("host net", Text, Served),
    key("authorization", Block(ROUTE_AUTHORIZATION), Served),
    key("tls", Block(TLS), Served),
    key("advertise", Text, Served),
    key("connect_retries", ANY_INT, Served),
    key("connect_backoff", Bool, Served),
    key("gateways", Blocks(REMOTE_GATEWAY), Served),
    key("reject_unknown_cluster reject_unknown", Bool, Served),
    key("write_deadline", Duration, Served),
    key("write_timeout", WRITE_TIMEOUT, Served),
];

static REMOTE_GATEWAY: &[Key] = &[
    key("name", Text, Served),
    key("tls", Block(TLS), Served),
    key("url", Text, Served),
    key("urls", List, Served),
];

static LEAFNODES: &[Key] = &[
    key("listen", Listen, Ignored),
    key("port", PORT, Ignored),
    key("host net", Text, Ignored),
    key("authorization", Block(LEAF_AUTHORIZATION), Ignored),
    key("remotes", Blocks(LEAF_REMOTE), Served),
    key("reconnect reconnect_delay reconnect_interval", Duration, Served),
    key("dial_timeout", Duration, Served),
    key("tls", Block(TLS), Refused),
    key("advertise leafnode_advertise", Text, Ignored),
    key("no_advertise", Bool, Ignored),
    key("min_version minimum_version", Text, Ignored),
    key("compression", WordOr(COMPRESSION), Ignored),
    key("isolate_leafnode_interest isolate", Bool, Ignored),
    key("write_deadline", Duration, Ignored),
    key("write_timeout", WRITE_TIMEOUT, Ignored),
];

static LEAF_AUTHORIZATION: &[Key] = &[
    key("user username", Text, Served),
    key("password pass", Text, Served),
    key("nkey", Nkey('U'), Served),
    key("timeout", Seconds(true), Served),
    key("users", Blocks(LEAF_USER), Served),
    key("account", Text, Served),
    key("proxy_required", Bool, Refused),
];

static LEAF_USER: &[Key] = &[
    key("user username", Text, Served),
    key("password pass", Text, Served),
    key("account", Text, Served),
    key("proxy_required", Bool, Refused),
];

static LEAF_REMOTE: &[Key] = &[
    key("no_randomize dont_randomize", Bool, Served),
    key("urls url", Texts, Served),
    key("account local", Text, Served),
    key("credentials creds", Text, Served),
    key("nkey seed", Text, Served),
    key("tls", Block(TLS), Served),
    key("hub", Bool, Refused),
    key("deny_imports deny_import", Subjects(false), Served),
    key("deny_exports deny_export", Subjects(false), Served),
    key("ws_compression ws_compress websocket_compress websocket_compression", Bool, Ignored),
    key("ws_no_masking websocket_no_masking", Bool, Ignored),
    key("jetstream_cluster_migrate js_cluster_migrate", BoolOr(CLUSTER_MIGRATE), Ignored),
    key("isolate_leafnode_interest isolate", Bool, Ignored),
    key("request_isolation", Bool, Ignored),
    key("compression", WordOr(COMPRESSION), Ignored),
    key("first_info_timeout", Duration, Served),
    key("dial_timeout", Duration, Served),
    key("disabled", Bool, Served),
    key("proxy", Block(LEAF_PROXY), Refused),
    key("ignore_discovered_servers", Bool, Served),
];

static CLUSTER_MIGRATE: &[Key] = &[key("leader_migrate_delay", Duration, Served)];

static LEAF_PROXY: &[Key] = &[
    key("url", Text, Served),
    key("username", Text, Served),
    key("password", Text, Served),
    key("timeout", Duration, Served),
];

static SIMPLE_AUTHORIZATION: &[Key] = &[
    key("user username", Text, Served),
    key("password pass", Text, Served),
    key("token", Text, Served),
    key("timeout", Seconds(false), Served),
];

static WEBSOCKET: &[Key] = &[
    key("listen", Listen, Served),
    key("port", PORT, Served),
    key("host net", Text, Served),
    key("advertise", Text, Served),
    key("no_tls", Bool, Served),
    key("tls", Block(TLS), Served),
    key("same_origin", Bool, Served),
    key("allowed_origins allowed_origin allow_origins allow_origin origins origin", Texts, Served),
    key("handshake_timeout", Seconds(false), Served),
    key("compression compress", Bool, Served),
    key("authorization authentication", Block(SIMPLE_AUTHORIZATION), Served),
    key("jwt_cookie", Text, Served),
    key("user_cookie", Text, Served),
    key("pass_cookie", Text, Served),
    key("token_cookie", Text, Served),
    key("no_auth_user", Text, Served),
    key("headers", TextMap, Served),
    key("ping_interval", Duration, Served),
];

static MQTT: &[Key] = &[
    key("listen", Listen, Served),
    key("port", PORT, Served),
    key("host net", Text, Served),
    key("tls", Block(TLS), Refused),
    key("authorization authentication", Block(SIMPLE_AUTHORIZATION), Served),
    key("no_auth_user", Text, Served),
    key("ack_wait ackwait", Duration, Served),
    key("js_api_timeout api_timeout", Duration, Ignored),
    key("max_ack_pending max_pending max_inflight", Int(0, 0xffff), Served),
    key("js_domain", Text, Ignored),
    key("stream_replicas", ANY_INT, Ignored),
    key("consumer_replicas", Any, Ignored),
    key("consumer_memory_storage", Bool, Ignored),
    key("consumer_inactive_threshold consumer_auto_cleanup", Duration, Ignored),
    key("reject_qos2_publish", Bool, Served),
    key("downgrade_qos2_subscribe", Bool, Served),
];

static PROXIES: &[Key] = &[key("trusted", Blocks(TRUSTED_PROXY), Served)];
static TRUSTED_PROXY: &[Key] = &[key("key public_key", Nkey('*'), Served)];
