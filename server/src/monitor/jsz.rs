//! /jsz: the streams.

use midge_config::{Options, Sync};
use midge_inquiry::{Sums, Wanted};
use serde::Serialize;

use super::about::Room;
use super::query::{BadRequest, Query};
use super::text::{Nanos, Time, is_false, is_zero};
use super::{About, ROWS_MAX};
use crate::hub::Hub;
use crate::inquiry::{Answer, Question, Unresponsive};

/// Accounts in an answer, unless it is said.
const LIMIT: usize = 1024;
/// How often nats-server waits for the disk, unless it is said.
const SYNC: std::time::Duration = std::time::Duration::from_secs(120);

/// nats-server's `JSInfo`, without what belongs to clusters, up to where the report on the streams begins.
#[derive(Serialize)]
struct Head {
    #[serde(flatten)]
    stats: Stats,
    server_id: String,
    now: Time,
    #[serde(skip_serializing_if = "is_false")]
    disabled: bool,
    config: Config,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
}

/// What follows if there are no streams.
const NO_STREAMS: &str = r#""streams":0,"consumers":0,"messages":0,"bytes":0,"total":0"#;

/// nats-server's `JetStreamStats`.
#[derive(Default, Serialize)]
pub(super) struct Stats {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    accounts: usize,
    ha_assets: u64,
    api: Api,
}

#[derive(Default, Serialize)]
struct Api {
    level: u64,
    total: u64,
    errors: u64,
}

/// Which of nats-server's API is there.
const API_LEVEL: u64 = 5;

impl Stats {
    fn new(sums: Sums) -> Self {
        Self {
            memory: sums.memory,
            storage: sums.file,
            reserved_memory: sums.memory_reserved,
            reserved_storage: sums.file_reserved,
            accounts: sums.accounts,
            ha_assets: 0,
            api: Api { level: API_LEVEL, total: sums.requests, errors: sums.errors },
        }
    }
}

/// nats-server's `JetStreamConfig`. Where no ceiling is configured, it has what there is room for.
#[derive(Default, Serialize)]
pub(super) struct Config {
    max_memory: u64,
    max_storage: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    store_dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_interval: Option<Nanos>,
    #[serde(skip_serializing_if = "is_false")]
    sync_always: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    domain: String,
    #[serde(skip_serializing_if = "is_false")]
    compress_ok: bool,
    #[serde(skip_serializing_if = "is_false")]
    strict: bool,
}

impl Config {
    fn new(options: &Options, room: Room) -> Self {
        let jetstream = &options.jetstream;
        Self {
            max_memory: jetstream.memory_bytes_max.unwrap_or(room.memory),
            max_storage: jetstream.file_bytes_max.unwrap_or(room.disk),
            store_dir: jetstream.store().display().to_string(),
            sync_interval: Some(Nanos(match jetstream.sync {
                Some(Sync::Every(interval)) => interval,
                _ => SYNC,
            })),
            sync_always: !matches!(jetstream.sync, Some(Sync::Every(_))),
            domain: jetstream.domain.clone().unwrap_or_default(),
            compress_ok: true,
            strict: jetstream.strict,
        }
    }
}

/// nats-server's `JSLimitOpts`.
#[derive(Serialize)]
pub(super) struct Limits {
    #[serde(skip_serializing_if = "is_zero")]
    max_request_batch: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_ack_pending: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duplicate_window: Option<Nanos>,
    #[serde(skip_serializing_if = "is_zero")]
    max_batch_inflight_per_stream: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_batch_inflight_total: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_batch_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_batch_timeout: Option<Nanos>,
    default_max_consumers: u64,
}

impl Limits {
    fn new(options: &Options) -> Self {
        let limits = &options.jetstream.limits;
        Self {
            max_request_batch: limits.request_batch_max,
            max_ack_pending: limits.ack_pending_max,
            max_duplicate_window: limits.duplicate_window_max.map(Nanos),
            max_batch_inflight_per_stream: limits.batch.per_stream_max,
            max_batch_inflight_total: limits.batch.total_max,
            max_batch_size: limits.batch.messages_max,
            max_batch_timeout: Some(limits.batch.timeout).filter(|timeout| !timeout.is_zero()).map(Nanos),
            default_max_consumers: match limits.consumers_default {
                0 => DEFAULT_MAX_CONSUMERS,
                asked => asked,
            },
        }
    }
}

/// Consumers of one stream, unless it says otherwise.
const DEFAULT_MAX_CONSUMERS: u64 = 1000;

/// nats-server's `JetStreamVarz`: nothing if there are no streams.
#[derive(Default, Serialize)]
pub(super) struct JetStreamVarz {
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Config>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Stats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
}

impl JetStreamVarz {
    /// As /varz has it: without figures if the streams don't answer.
    pub(super) async fn collect(hub: &Hub, about: &About) -> Self {
        let stats = match hub.ask_streams(Question::Sums).await {
            Ok(Some(Answer::Sums(sums))) => Some(Stats::new(sums)),
            Ok(_) => return Self::default(),
            Err(Unresponsive) => None,
        };
        let options = about.options();
        Self { config: Some(Config::new(&options, about.room)), stats, limits: Some(Limits::new(&options)) }
    }

    /// As the figures have it that a server publishes: without its directory. `None` if there are no streams.
    pub(super) fn published(self) -> Option<Self> {
        let config = Config { store_dir: String::new(), ..self.config? };
        Some(Self { config: Some(config), ..self })
    }
}

/// What stands behind the `?`.
pub(super) fn wanted(query: &Query) -> Result<Wanted, BadRequest> {
    // As nats-server reads them: the first that makes no sense is what is told.
    let [accounts, streams, consumers] =
        [query.flag("accounts")?, query.flag("streams")?, query.flag("consumers")?];
    let direct_consumers = query.flag("direct-consumers")?;
    let config = query.flag("config")?;
    let (offset, limit) = (query.int("offset")?, query.int("limit")?);
    query.flag("leader-only")?;
    let leaders = query.flag("raft")?;
    query.flag("stream-leader-only")?;
    Ok(Wanted {
        account: query.text("acc").unwrap_or_default().to_owned(),
        accounts,
        streams,
        consumers,
        direct_consumers,
        config,
        leaders,
        ..page(offset, limit)
    })
}

/// Some of all accounts.
pub(super) fn page(offset: i64, limit: i64) -> Wanted {
    let limit = match limit {
        0 => LIMIT,
        limit => usize::try_from(limit).unwrap_or(ROWS_MAX).min(ROWS_MAX),
    };
    Wanted { offset: usize::try_from(offset).unwrap_or(0), limit, rows: ROWS_MAX, ..Wanted::default() }
}

/// The page, in one line.
pub(super) async fn collect(hub: &Hub, about: &About, mut wanted: Wanted) -> Result<Vec<u8>, Unresponsive> {
    wanted.streams |= wanted.consumers;
    wanted.accounts |= wanted.streams && wanted.account.is_empty();
    let options = about.options();
    let (server_id, now) = (about.info().id, Time(hub.clock.now().wall));
    let (head, rest) = match hub.ask_streams(Question::Report(wanted)).await? {
        Some(Answer::Report(sums, report)) => {
            let (config, limits) = (Config::new(&options, about.room), Some(Limits::new(&options)));
            (Head { stats: Stats::new(sums), server_id, now, disabled: false, config, limits }, report)
        }
        _ => {
            let (stats, config) = (Stats::default(), Config::default());
            (Head { stats, server_id, now, disabled: true, config, limits: None }, NO_STREAMS.to_owned())
        }
    };
    let mut json = serde_json::to_vec(&head).unwrap_or_default();
    json.pop();
    json.push(b',');
    json.extend_from_slice(rest.as_bytes());
    json.push(b'}');
    Ok(json)
}

/// What is wanted of one account.
pub(super) async fn account(hub: &Hub, wanted: Wanted) -> Result<Result<Vec<u8>, BadRequest>, Unresponsive> {
    let name = wanted.account.clone();
    Ok(match hub.ask_streams(Question::Account(wanted)).await? {
        Some(Answer::Report(_, members)) => Ok(format!("{{{members}}}").into_bytes()),
        None => Err(BadRequest("jetstream not enabled".to_owned())),
        Some(_) if hub.look(|broker, _| broker.account_named(&name)).is_some() => {
            Err(BadRequest(format!("account {name:?} not jetstream enabled")))
        }
        Some(_) => Err(BadRequest(format!("account {name:?} not found"))),
    })
}
