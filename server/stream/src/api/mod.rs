//! What clients ask about streams and consumers.
//!
//! ```text
//!   $JS.API.STREAM.CREATE.ORDERS  {"name":"ORDERS"}   ->   {"type":"io.nats.jetstream.api.v1.stream_create_response",…}
//! ```
//!
//! Source: reference 3.12; nats-server's `jetstream_api.go`. What only clusters do is answered as a server alone does.

mod account;
mod backups;
mod consumers;
mod messages;
mod streams;

use std::borrow::Cow;

use serde::Serialize;

use crate::asker::Asker;
use crate::engine::{Engine, cx};
use crate::error::{self, ApiError};
use crate::headers;
use crate::json;
use crate::log::LogError;
use crate::seam::{Account, Message};
use crate::space::{Grant, Space};
use crate::time::Now;

/// What the engine listens to in each account; consumers' own subjects are theirs.
pub(crate) const SUBJECTS: &[&str] = &[
    "$JS.API.*",
    "$JS.API.STREAM.>",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.>",
    "$JS.API.CONSUMER.NAMES.*",
    "$JS.API.CONSUMER.LIST.*",
    "$JS.API.CONSUMER.INFO.*.*",
    "$JS.API.CONSUMER.DELETE.*.*",
    "$JS.API.CONSUMER.PAUSE.*.*",
    "$JS.API.CONSUMER.UNPIN.*.*",
    "$JS.API.CONSUMER.LEADER.STEPDOWN.*.*",
    // Consumers hear those themselves; that others are silent is nats-server's way.
    "$JS.API.CONSUMER.RESET.*.*",
    "$JS.API.META.>",
    "$JS.API.SERVER.>",
    "$JS.API.ACCOUNT.>",
];

/// Names in one answer.
const NAMES_MAX: usize = 1024;
/// Streams or consumers in one answer.
const LIST_MAX: usize = 256;

/// One request.
pub(crate) struct Request<'a> {
    account: Account,
    message: &'a Message<'a>,
    /// The subject's tokens behind `$JS.API`.
    tokens: Vec<&'a str>,
    now: Now,
    strict: bool,
}

impl<'a> Request<'a> {
    /// The token, counted behind the first two.
    fn token(&self, at: usize) -> &'a str {
        self.tokens.get(at).copied().unwrap_or_default()
    }

    /// The payload as a request, whatever it is.
    fn read<T: serde::de::DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        json::read(self.message.payload, self.strict)
    }

    /// The payload as a request, if it is one.
    fn read_optional<T: serde::de::DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        if json::is_object_or_array(self.message.payload) { self.read() } else { Ok(T::default()) }
    }

    /// The payload must be empty.
    fn expect_nothing(&self) -> Result<(), ApiError> {
        if json::is_empty(self.message.payload) { Ok(()) } else { Err(error::NOT_EMPTY_REQUEST.error()) }
    }
}

/// Why there is no answer of the kind that was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client is told.
    Api(ApiError),
    /// The disk failed.
    Log(LogError),
    /// It follows, once more is known.
    Later,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<error::Row> for Failure {
    fn from(row: error::Row) -> Self {
        Self::Api(row.error())
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

type Answer = Result<Vec<u8>, Failure>;

/// An answer as it is written.
#[derive(Serialize)]
struct Response<'a, T> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ApiError>,
    #[serde(flatten)]
    body: T,
}

/// What an answer has that has nothing else.
#[derive(Serialize)]
struct Nothing {}

/// It worked.
#[derive(Serialize)]
struct Success {
    success: bool,
}

const SUCCESS: Success = Success { success: true };

/// A part of a longer answer.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Page {
    total: usize,
    offset: usize,
    limit: usize,
}

/// A request for a part.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PageRequest {
    offset: i64,
    subject: String,
}

/// The same, where there is nothing to choose from.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OffsetRequest {
    offset: i64,
}

impl PageRequest {
    fn page(&self, total: usize, limit: usize) -> Page {
        Page::new(self.offset, total, limit)
    }
}

impl Page {
    fn new(offset: i64, total: usize, limit: usize) -> Self {
        Self { total, offset: usize::try_from(offset).unwrap_or(0).min(total), limit }
    }
}

pub(crate) fn write<T: Serialize>(kind: &str, error: Option<&ApiError>, body: T) -> Vec<u8> {
    json::write(&Response { kind: format!("io.nats.jetstream.api.v1.{kind}_response"), error, body })
}

fn answer<T: Serialize>(kind: &str, body: T) -> Answer {
    Ok(write(kind, None, body))
}

/// What a failed answer has besides the error: members that Go writes even if there is nothing in them.
pub(crate) fn write_failure(kind: &str, error: &ApiError) -> Vec<u8> {
    #[derive(Serialize)]
    struct Purged {
        purged: u64,
    }
    #[derive(Serialize)]
    struct Names {
        #[serde(flatten)]
        page: Page,
        #[serde(skip_serializing_if = "Option::is_none")]
        streams: Option<Option<Vec<String>>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        consumers: Option<Vec<String>>,
    }
    #[derive(Serialize)]
    struct Paused {
        paused: bool,
        pause_until: &'static str,
    }
    #[derive(Serialize)]
    struct Restore {
        deliver_subject: &'static str,
    }
    let names = |streams, consumers| Names { page: Page::default(), streams, consumers };
    let error = Some(error);
    match kind {
        "stream_info" => write(kind, error, Page::default()),
        "stream_names" => write(kind, error, names(Some(None), None)),
        "stream_list" => write(kind, error, names(Some(Some(Vec::new())), None)),
        "consumer_names" | "consumer_list" => write(kind, error, names(None, Some(Vec::new()))),
        "stream_purge" => write(kind, error, Purged { purged: 0 }),
        "stream_restore" => write(kind, error, Restore { deliver_subject: "" }),
        "consumer_pause" => write(kind, error, Paused { paused: false, pause_until: crate::time::NO_TIME }),
        _ => write(kind, error, Nothing {}),
    }
}

/// What promised that something was done says that the disk failed.
pub(crate) fn not_done(text: &[u8]) -> Vec<u8> {
    let error = error::STREAM_STORE_FAILED.with(&[&LogError::Failed]);
    let said = serde_json::from_slice(text).unwrap_or(serde_json::Value::Null);
    if said.get("error").is_some() {
        return text.to_vec();
    }
    let kind = said["type"].as_str().and_then(|kind| kind.strip_prefix("io.nats.jetstream.api.v1."));
    match (kind.and_then(|kind| kind.strip_suffix("_response")), said["stream"].as_str()) {
        (Some(kind), _) => write_failure(kind, &error),
        (None, Some(stream)) => json::write(&crate::stream::Refused { error: &error, stream, seq: 0 }),
        (None, None) => Vec::new(),
    }
}

/// What whoever audits is told.
#[derive(Serialize)]
struct Audit<'a> {
    server: &'a str,
    client: Asker,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Cow<'a, str>>,
    response: Cow<'a, str>,
}

/// Kinds of answers that need nothing of the disk but what is there.
const READS: &[&str] = &[
    "account_info",
    "stream_names",
    "stream_list",
    "stream_info",
    "stream_msg_get",
    "consumer_names",
    "consumer_list",
    "consumer_info",
];

/// Kinds of answers that say something else first than that an account has no streams.
const CHECKED_LATER: &[&str] = &[
    "consumer_create",
    "consumer_unpin",
    "stream_leader_stepdown",
    "stream_remove_peer",
    "consumer_leader_stepdown",
    // Who may ask is in the system account, which has none.
    "account_purge",
];

fn is_of_message(error: &ApiError) -> bool {
    [error::SEQUENCE_NOT_FOUND.err_code, error::STREAM_MSG_DELETE_FAILED.err_code].contains(&error.err_code)
}

impl Engine {
    /// Answers a request of an account.
    pub(crate) fn on_request(
        &mut self,
        account: Account,
        message: &Message<'_>,
        now: Now,
    ) -> Result<(), LogError> {
        let Ok(subject) = std::str::from_utf8(message.subject) else { return Ok(()) };
        self.out.promise();
        let request = Request {
            account,
            message,
            tokens: subject.split('.').skip(2).collect(),
            now,
            strict: self.settings.strict,
        };
        let Some((kind, answered)) = self.dispatch(&request) else { return Ok(()) };
        let mut fatal = Ok(());
        let (text, failed) = match answered {
            Ok(text) => (text, false),
            // nats-server counts a message that could not be deleted as done.
            Err(Failure::Api(error)) => (write_failure(kind, &error), !is_of_message(&error)),
            Err(Failure::Log(error)) => {
                if error.is_of_all() {
                    fatal = Err(error);
                    (write_failure(kind, &error::STREAM_STORE_FAILED.with(&[&LogError::Failed])), true)
                } else {
                    (write_failure(kind, &error::STREAM_STORE_FAILED.with(&[&error])), true)
                }
            }
            Err(Failure::Later) => {
                self.count(account, true, false);
                return Ok(());
            }
        };
        // Messages that were found are not counted, nor audited.
        self.count(account, failed || kind != "stream_msg_get", failed);
        let mut cx = cx!(self, account, now);
        if let Some(reply) = message.reply {
            cx.answer(reply, text.clone());
        }
        // Messages that were read are not audited.
        if cx.is_listened() && (failed || kind != "stream_msg_get") {
            let asked = Some(message.payload).filter(|payload| !payload.is_empty());
            let audit = Audit {
                server: &self.settings.server_name,
                client: Asker::of(message.header, cx.account_name(), &self.settings.server_name),
                subject,
                request: asked.map(String::from_utf8_lossy),
                response: String::from_utf8_lossy(&text),
            };
            cx.event("$JS.EVENT.ADVISORY.API", "io.nats.jetstream.advisory.v1.api_audit", audit);
        }
        fatal
    }

    fn count(&mut self, account: Account, done: bool, failed: bool) {
        let Some(space) = self.spaces.get_mut(&account).filter(|space| space.is_enabled()) else { return };
        space.requests += u64::from(done);
        space.errors += u64::from(failed);
        self.requests += u64::from(done);
        self.errors += u64::from(failed);
    }

    /// The kind of answer that a request gets, and the answer. `None`: nobody answers such a request.
    fn dispatch(&mut self, request: &Request<'_>) -> Option<(&'static str, Answer)> {
        type Handler = fn(&mut Engine, &Request<'_>) -> Answer;
        let (kind, handler): (_, Handler) = match &request.tokens[..] {
            ["INFO"] => ("account_info", Engine::account_info),
            ["ACCOUNT", "PURGE", _] if self.is_system(request.account) => {
                ("account_purge", Engine::account_purge)
            }
            ["STREAM", "NAMES"] => ("stream_names", Engine::stream_names),
            ["STREAM", "LIST"] => ("stream_list", Engine::stream_list),
            ["STREAM", "CREATE", _] => ("stream_create", Engine::stream_create),
            ["STREAM", "UPDATE", _] => ("stream_update", Engine::stream_update),
            ["STREAM", "INFO", _] => ("stream_info", Engine::stream_info),
            ["STREAM", "DELETE", _] => ("stream_delete", Engine::stream_delete),
            ["STREAM", "PURGE", _] => ("stream_purge", Engine::stream_purge),
            ["STREAM", "SNAPSHOT", _] => ("stream_snapshot", Engine::stream_snapshot),
            ["STREAM", "RESTORE", _] => ("stream_restore", Engine::stream_restore),
            ["STREAM", "MSG", "GET", _] => ("stream_msg_get", Engine::message_get),
            ["STREAM", "MSG", "DELETE", _] => ("stream_msg_delete", Engine::message_delete),
            ["STREAM", "LEADER", "STEPDOWN", _] => ("stream_leader_stepdown", Engine::needs_cluster),
            ["STREAM", "PEER", "REMOVE", _] => ("stream_remove_peer", Engine::needs_cluster),
            ["CONSUMER", "LEADER", "STEPDOWN", _, _] => ("consumer_leader_stepdown", Engine::needs_cluster),
            ["CONSUMER", "CREATE", _, ..] => ("consumer_create", Engine::consumer_create),
            ["CONSUMER", "DURABLE", "CREATE", _, _] => ("consumer_create", Engine::consumer_create),
            ["CONSUMER", "NAMES", _] => ("consumer_names", Engine::consumer_names),
            ["CONSUMER", "LIST", _] => ("consumer_list", Engine::consumer_list),
            ["CONSUMER", "INFO", _, _] => ("consumer_info", Engine::consumer_info),
            ["CONSUMER", "DELETE", _, _] => ("consumer_delete", Engine::consumer_delete),
            ["CONSUMER", "PAUSE", _, _] => ("consumer_pause", Engine::consumer_pause),
            ["CONSUMER", "UNPIN", _, _] => ("consumer_unpin", Engine::consumer_unpin),
            _ => return None,
        };
        if self.is_system(request.account) && !["account_info", "account_purge"].contains(&kind) {
            return Some(("system", Err(error::NOT_ENABLED_FOR_ACCOUNT.into())));
        }
        if headers::needs_newer_api(request.message.header) {
            return Some((kind, Err(error::REQUIRED_API_LEVEL.into())));
        }
        if !CHECKED_LATER.contains(&kind)
            && let Err(error) = self.check_enabled(request.account)
        {
            return Some((kind, Err(error.into())));
        }
        if self.has_failed() && !READS.contains(&kind) {
            return Some((kind, Err(error::STREAM_STORE_FAILED.with(&[&LogError::Failed]).into())));
        }
        Some((kind, handler(self, request)))
    }

    /// An account without streams is told so.
    fn check_enabled(&self, account: Account) -> Result<(), ApiError> {
        let enabled = self.spaces.get(&account).is_some_and(Space::is_enabled);
        if enabled { Ok(()) } else { Err(error::NOT_ENABLED_FOR_ACCOUNT.error()) }
    }

    fn is_system(&self, account: Account) -> bool {
        self.spaces.get(&account).is_some_and(|space| space.grant == Grant::System)
    }

    fn needs_cluster(&mut self, _: &Request<'_>) -> Answer {
        Err(error::CLUSTER_REQUIRED.into())
    }

    /// The number of an account's stream.
    fn stream_id(&self, account: Account, name: &str) -> Result<u32, ApiError> {
        let space = self.spaces.get(&account);
        space
            .and_then(|space| space.streams.get(name))
            .copied()
            .ok_or_else(|| error::STREAM_NOT_FOUND.error())
    }
}
