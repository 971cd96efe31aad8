//! What a consumer is told to be.
//!
//! Sources: reference 3.12; nats-server's `consumer.go` (`setConsumerConfigDefaults`, `checkConsumerCfg`).

use std::collections::BTreeMap;

use midge_protocol::subject::Filter;
use serde::{Deserialize, Serialize};

use super::stream::overlaps;
use super::words::{AckPolicy, Action, DeliverPolicy, PriorityPolicy, ReplayPolicy, Retention};
use super::{
    DESCRIPTION_BYTES_MAX, Limits, METADATA_BYTES_MAX, StreamConfig, is_default, is_name, time_text,
};
use crate::error::{self, ApiError};
use crate::time::{MILLISECOND, Nanos, SECOND, go_duration};

/// A consumer's configuration, as clients write it. Lengths of time are in ns, limits of -1 are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the API's own names, explained in nats-server's documentation")]
pub struct ConsumerConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub durable_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub deliver_policy: DeliverPolicy,
    #[serde(skip_serializing_if = "is_default")]
    pub opt_start_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none", with = "time_text")]
    pub opt_start_time: Option<Nanos>,
    pub ack_policy: AckPolicy,
    #[serde(skip_serializing_if = "is_default")]
    pub ack_wait: Nanos,
    #[serde(skip_serializing_if = "is_default")]
    pub max_deliver: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backoff: Vec<Nanos>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filter_subjects: Vec<String>,
    pub replay_policy: ReplayPolicy,
    #[serde(skip_serializing_if = "is_default")]
    pub rate_limit_bps: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sample_freq: String,
    #[serde(skip_serializing_if = "is_default")]
    pub max_waiting: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub max_ack_pending: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub flow_control: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub headers_only: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub max_batch: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub max_expires: Nanos,
    #[serde(skip_serializing_if = "is_default")]
    pub max_bytes: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_subject: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_group: String,
    #[serde(skip_serializing_if = "is_default")]
    pub idle_heartbeat: Nanos,
    #[serde(skip_serializing_if = "is_default")]
    pub inactive_threshold: Nanos,
    pub num_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub mem_storage: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub direct: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub sourcing: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none", with = "time_text")]
    pub pause_until: Option<Nanos>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priority_groups: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub priority_policy: PriorityPolicy,
    #[serde(skip_serializing_if = "is_default")]
    pub priority_timeout: Nanos,
}

impl ConsumerConfig {
    /// The filters; none: everything.
    pub fn filters(&self) -> &[String] {
        if self.filter_subject.is_empty() {
            &self.filter_subjects
        } else {
            std::slice::from_ref(&self.filter_subject)
        }
    }

    /// Messages come without being asked for.
    pub fn is_push(&self) -> bool {
        !self.deliver_subject.is_empty()
    }

    /// It stays when nobody uses it.
    pub fn is_durable(&self) -> bool {
        !self.durable_name.is_empty()
    }
}

/// A request for a consumer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CreateConsumer {
    /// The stream, again.
    pub stream_name: String,
    /// What it shall be.
    pub config: ConsumerConfig,
    /// What is meant.
    pub action: Action,
    /// Nothing that the client wrote is changed silently.
    pub pedantic: bool,
}

/// What a consumer's configuration is checked against.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerContext<'a> {
    /// The stream's configuration.
    pub stream: &'a StreamConfig,
    /// The server's ceilings.
    pub limits: &'a Limits,
    /// Messages that a consumer of the account may leave without an ack; not above 0: any.
    pub account_ack_pending: i64,
}

/// Fills in what was left out.
pub fn consumer_defaults(
    config: &mut ConsumerConfig,
    context: ConsumerContext<'_>,
    pedantic: bool,
) -> Result<(), ApiError> {
    let wrong = |text: &str| Err(error::PEDANTIC.with(&[&text]));
    for (number, lowest, name) in [
        (&mut config.max_deliver, -1, "max_deliver must be set to -1"),
        (&mut config.max_waiting, 0, "max_waiting must not be negative"),
        (&mut config.max_ack_pending, -1, "max_ack_pending must be set to -1"),
        (&mut config.max_batch, 0, "max_batch must not be negative"),
        (&mut config.max_expires, 0, "max_expires must not be negative"),
        (&mut config.max_bytes, 0, "max_bytes must not be negative"),
        (&mut config.idle_heartbeat, 0, "idle_heartbeat must not be negative"),
        (&mut config.inactive_threshold, 0, "inactive_threshold must not be negative"),
        (&mut config.priority_timeout, 0, "priority_timeout must not be negative"),
    ] {
        if *number < lowest {
            if pedantic {
                return wrong(name);
            }
            *number = lowest;
        }
    }
    if config.max_deliver == 0 {
        config.max_deliver = -1;
    }
    if !config.is_push() && config.max_waiting == 0 {
        config.max_waiting = MAX_WAITING;
    }
    if config.ack_wait == 0 && matches!(config.ack_policy, AckPolicy::Explicit | AckPolicy::All) {
        config.ack_wait = ACK_WAIT;
    }
    if let Some(first) = config.backoff.first() {
        if pedantic && config.ack_wait != *first {
            return wrong("first backoff value has to equal batch AckWait");
        }
        config.ack_wait = *first;
    }
    let limits = context.stream.consumer_limits;
    if config.max_ack_pending == 0 {
        if pedantic && limits.max_ack_pending > 0 {
            return wrong("max_ack_pending must be set if it's configured in stream limits");
        }
        config.max_ack_pending = limits.max_ack_pending;
    }
    if config.inactive_threshold == 0 {
        if pedantic && limits.inactive_threshold > 0 {
            return wrong("inactive_threshold must be set if it's configured in stream limits");
        }
        config.inactive_threshold = limits.inactive_threshold;
    }
    if config.max_ack_pending == 0 && config.ack_policy != AckPolicy::None {
        let ceilings = [context.limits.max_ack_pending, context.account_ack_pending];
        config.max_ack_pending = ceilings.into_iter().filter(|max| *max > 0).fold(MAX_ACK_PENDING, i64::min);
    }
    if !config.is_push() && config.max_batch == 0 && context.limits.max_request_batch > 0 {
        if pedantic {
            return wrong("max_request_batch must be set if it's JetStream limits are set");
        }
        config.max_batch = context.limits.max_request_batch;
    }
    if config.priority_policy == PriorityPolicy::PinnedClient && config.priority_timeout == 0 {
        config.priority_timeout = PINNED_TTL;
    }
    if config.ack_policy == AckPolicy::FlowControl && !pedantic {
        config.flow_control = true;
        config.idle_heartbeat = SECOND;
    }
    Ok(())
}

/// Requests that may wait, unless it is said.
const MAX_WAITING: i64 = 512;
/// Time for an ack, unless it is said.
const ACK_WAIT: Nanos = 30 * SECOND;
/// Messages without an ack, unless it is said.
const MAX_ACK_PENDING: i64 = 1000;
/// How long a pinned client may be silent, unless it is said.
const PINNED_TTL: Nanos = 120 * SECOND;

fn refuse(wrong: bool, row: error::Row) -> Result<(), ApiError> {
    if wrong { Err(row.error()) } else { Ok(()) }
}

fn invalid(text: &str) -> ApiError {
    error::STREAM_INVALID_CONFIG.with(&[&text])
}

/// Checks a configuration whose defaults are filled in.
pub fn check_consumer(config: &ConsumerConfig, context: ConsumerContext<'_>) -> Result<(), ApiError> {
    let stream = context.stream;
    if !config.name.is_empty() && !is_name(&config.name) {
        return Err(invalid("consumer name can not contain '.', '*', '>', '\\', '/'"));
    }
    if config.is_durable() && !is_name(&config.durable_name) {
        return Err(invalid("consumer durable name can not contain '.', '*', '>', '\\', '/'"));
    }
    refuse(config.num_replicas > stream.num_replicas, error::CONSUMER_REPLICAS_EXCEEDS_STREAM)?;
    refuse(config.num_replicas < 0, error::REPLICAS_COUNT_CANNOT_BE_NEGATIVE)?;
    refuse(config.backoff.iter().any(|wait| *wait < 0), error::CONSUMER_BACK_OFF_NEGATIVE)?;
    refuse(config.ack_wait < 0, error::CONSUMER_ACK_WAIT_NEGATIVE)?;
    if config.ack_policy == AckPolicy::FlowControl {
        check_flow_control_acks(config)?;
    }
    refuse(
        !config.backoff.is_empty()
            && config.max_deliver != -1
            && i64::try_from(config.backoff.len()).is_ok_and(|steps| steps > config.max_deliver),
        error::CONSUMER_MAX_DELIVER_BACKOFF,
    )?;
    if config.description.len() > DESCRIPTION_BYTES_MAX {
        return Err(error::CONSUMER_DESCRIPTION_TOO_LONG.with(&[&DESCRIPTION_BYTES_MAX]));
    }
    if config.is_push() {
        check_push(config, stream)?
    } else {
        check_pull(config, context)?
    }
    check_ceilings(config, context)?;
    if config.direct {
        refuse(!config.is_push(), error::CONSUMER_DIRECT_REQUIRES_PUSH)?;
        refuse(config.is_durable(), error::CONSUMER_DIRECT_REQUIRES_EPHEMERAL)?;
    }
    check_filters(config)?;
    check_start(config)?;
    if sample_percent(config).is_none() {
        let text = config.sample_freq.trim_end_matches('%');
        let why = match text.parse::<i64>() {
            Ok(_) => "<nil>".to_owned(),
            Err(_) => format!("strconv.Atoi: parsing {text:?}: invalid syntax"),
        };
        return Err(error::CONSUMER_INVALID_SAMPLING.with(&[&why]));
    }
    refuse(
        config.flow_control && config.idle_heartbeat == 0,
        error::CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS,
    )?;
    refuse(
        config.is_durable() && !config.name.is_empty() && config.name != config.durable_name,
        error::CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH,
    )?;
    let metadata: usize = config.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata > METADATA_BYTES_MAX {
        let limit = format!("{}KB", METADATA_BYTES_MAX / 1024);
        return Err(error::CONSUMER_METADATA_LENGTH.with(&[&limit]));
    }
    check_priorities(config)
}

fn check_flow_control_acks(config: &ConsumerConfig) -> Result<(), ApiError> {
    refuse(!config.is_push(), error::CONSUMER_ACK_FC_REQUIRES_PUSH)?;
    refuse(!config.flow_control, error::CONSUMER_ACK_FC_REQUIRES_FC)?;
    if config.idle_heartbeat != SECOND {
        return Err(invalid("flow control ack policy heartbeat needs to be 1s"));
    }
    refuse(config.max_ack_pending <= 0, error::CONSUMER_ACK_FC_REQUIRES_MAX_ACK_PENDING)?;
    refuse(config.ack_wait != 0 || !config.backoff.is_empty(), error::CONSUMER_ACK_FC_REQUIRES_NO_ACK_WAIT)?;
    refuse(config.max_deliver > 0, error::CONSUMER_ACK_FC_REQUIRES_NO_MAX_DELIVER)
}

fn check_push(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    let subject = match Filter::new(config.deliver_subject.as_bytes()) {
        Ok(subject) if subject.is_literal() => subject,
        Ok(_) => return Err(error::CONSUMER_DELIVER_TO_WILDCARDS.error()),
        Err(_) => return Err(error::CONSUMER_INVALID_DELIVER_SUBJECT.error()),
    };
    let subjects: Vec<&str> = stream.subjects.iter().map(String::as_str).collect();
    refuse(overlaps(subject, &subjects), error::CONSUMER_DELIVER_CYCLE)?;
    refuse(config.max_waiting != 0, error::CONSUMER_PUSH_MAX_WAITING)?;
    refuse(
        config.max_ack_pending > 0 && config.ack_policy == AckPolicy::None,
        error::CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED,
    )?;
    refuse(
        config.idle_heartbeat > 0 && config.idle_heartbeat < 100 * MILLISECOND,
        error::CONSUMER_SMALL_HEARTBEAT,
    )
}

fn check_pull(config: &ConsumerConfig, context: ConsumerContext<'_>) -> Result<(), ApiError> {
    refuse(
        config.ack_policy == AckPolicy::None && context.stream.retention == Retention::WorkQueue,
        error::CONSUMER_PULL_REQUIRES_ACK,
    )?;
    refuse(config.rate_limit_bps > 0, error::CONSUMER_PULL_WITH_RATE_LIMIT)?;
    refuse(config.idle_heartbeat > 0, error::CONSUMER_HB_REQUIRES_PUSH)?;
    refuse(config.flow_control, error::CONSUMER_FC_REQUIRES_PUSH)?;
    refuse(
        config.max_expires != 0 && config.max_expires < MILLISECOND,
        error::CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL,
    )?;
    let most = context.limits.max_request_batch;
    if most > 0 && config.max_batch > most {
        return Err(error::CONSUMER_MAX_REQUEST_BATCH_EXCEEDED.with(&[&most]));
    }
    Ok(())
}

fn check_ceilings(config: &ConsumerConfig, context: ConsumerContext<'_>) -> Result<(), ApiError> {
    let limits = context.stream.consumer_limits;
    for most in [context.limits.max_ack_pending, context.account_ack_pending, limits.max_ack_pending] {
        if most > 0 && config.max_ack_pending > most {
            return Err(error::CONSUMER_MAX_PENDING_ACK_EXCESS.with(&[&most]));
        }
    }
    let longest = limits.inactive_threshold;
    if longest > 0 && config.inactive_threshold > longest {
        return Err(error::CONSUMER_INACTIVE_THRESHOLD_EXCESS.with(&[&go_duration(longest)]));
    }
    Ok(())
}

fn check_filters(config: &ConsumerConfig) -> Result<(), ApiError> {
    refuse(
        !config.filter_subject.is_empty() && !config.filter_subjects.is_empty(),
        error::CONSUMER_DUPLICATE_FILTER_SUBJECTS,
    )?;
    refuse(config.filter_subjects.iter().any(String::is_empty), error::CONSUMER_EMPTY_FILTER)?;
    let filters = config.filters().iter().map(|filter| Filter::new(filter.as_bytes()));
    let filters: Vec<_> = filters.collect::<Result<_, _>>().map_err(|_| invalid("invalid subject"))?;
    let overlap = filters.iter().enumerate().any(|(at, one)| {
        filters.iter().enumerate().any(|(other_at, other)| at != other_at && one.is_subset_of(*other))
    });
    refuse(overlap, error::CONSUMER_OVERLAPPING_SUBJECT_FILTERS)
}

fn check_start(config: &ConsumerConfig) -> Result<(), ApiError> {
    let (sequence, time) = (config.opt_start_seq > 0, config.opt_start_time.is_some());
    let policy = match config.deliver_policy {
        DeliverPolicy::All => "all",
        DeliverPolicy::Last => "last",
        DeliverPolicy::New => "new",
        DeliverPolicy::ByStartSequence => "by start sequence",
        DeliverPolicy::ByStartTime => "by start time",
        DeliverPolicy::LastPerSubject => "last per subject",
    };
    let also = |what: &str| {
        let text =
            format!("consumer delivery policy is deliver {policy}, but optional start {what} is also set");
        Err(error::CONSUMER_INVALID_POLICY.with(&[&text]))
    };
    let missing = |what: &str| {
        let text = format!("consumer delivery policy is deliver {policy}, but optional {what} is not set");
        Err(error::CONSUMER_INVALID_POLICY.with(&[&text]))
    };
    match config.deliver_policy {
        DeliverPolicy::ByStartSequence if !sequence => missing("start sequence"),
        DeliverPolicy::ByStartTime if !time => missing("start time"),
        DeliverPolicy::ByStartTime if sequence => also("start sequence"),
        DeliverPolicy::ByStartTime => Ok(()),
        DeliverPolicy::ByStartSequence if time => also("time"),
        DeliverPolicy::ByStartSequence => Ok(()),
        _ if sequence => also("sequence"),
        _ if time => also("time"),
        DeliverPolicy::LastPerSubject if config.filters().is_empty() => missing("filter subject"),
        _ => Ok(()),
    }
}

/// The share of acks that are reported, in percent. `None` if that is no number.
pub fn sample_percent(config: &ConsumerConfig) -> Option<u64> {
    match config.sample_freq.strip_suffix('%').unwrap_or(&config.sample_freq) {
        "" if config.sample_freq.is_empty() => Some(0),
        text => text.parse().ok(),
    }
}

fn check_priorities(config: &ConsumerConfig) -> Result<(), ApiError> {
    let groups = &config.priority_groups;
    if config.priority_policy == PriorityPolicy::None {
        refuse(!groups.is_empty(), error::CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE)?;
        return refuse(config.priority_timeout > 0, error::CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE);
    }
    refuse(config.is_push(), error::CONSUMER_PUSH_WITH_PRIORITY_GROUP)?;
    refuse(groups.is_empty(), error::CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP)?;
    for group in groups {
        refuse(group.is_empty(), error::CONSUMER_EMPTY_GROUP_NAME)?;
        refuse(!is_group(group), error::CONSUMER_INVALID_GROUP_NAME)?;
    }
    Ok(())
}

/// True if a priority group may have this name.
pub(crate) fn is_group(name: &str) -> bool {
    let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'=' | b'-'));
    !name.is_empty() && name.len() <= 16 && fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_stream;

    fn check(text: &str) -> Result<ConsumerConfig, String> {
        let limits = Limits::default();
        let stream =
            StreamConfig { name: "S".to_owned(), subjects: vec!["a.>".to_owned()], ..Default::default() };
        let stream = check_stream(&stream, &limits, false).unwrap();
        let context = ConsumerContext { stream: &stream, limits: &limits, account_ack_pending: -1 };
        let mut config: ConsumerConfig = serde_json::from_str(text).unwrap();
        consumer_defaults(&mut config, context, false)
            .and_then(|()| check_consumer(&config, context))
            .map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn defaults() {
        let config =
            check(r#"{"durable_name":"C","name":"C","ack_policy":"explicit","filter_subject":"a.b"}"#)
                .unwrap();
        assert_eq!(
            String::from_utf8(crate::json::write(&config)).unwrap(),
            r#"{"durable_name":"C","name":"C","deliver_policy":"all","ack_policy":"explicit","ack_wait":30000000000,"max_deliver":-1,"filter_subject":"a.b","replay_policy":"instant","max_waiting":512,"max_ack_pending":1000,"num_replicas":0}"#
        );
        let config = check(r#"{"ack_policy":"explicit","backoff":[5,6],"max_deliver":2}"#).unwrap();
        assert_eq!(config.ack_wait, 5);
    }

    #[test]
    fn what_is_refused() {
        for (text, why) in [
            (
                r#"{"durable_name":"a.b"}"#,
                "consumer durable name can not contain '.', '*', '>', '\\', '/' (10052)",
            ),
            (r#"{"deliver_subject":"a.b"}"#, "consumer deliver subject forms a cycle (10081)"),
            (r#"{"deliver_subject":"d.*"}"#, "consumer deliver subject has wildcards (10079)"),
            (
                r#"{"deliver_subject":"d","max_waiting":1}"#,
                "consumer in push mode can not set max waiting (10080)",
            ),
            (r#"{"flow_control":true}"#, "consumer flow control requires a push based consumer (10089)"),
            (
                r#"{"backoff":[1,2],"max_deliver":1,"ack_policy":"explicit"}"#,
                "max deliver is required to be > length of backoff values (10116)",
            ),
            (
                r#"{"filter_subject":"a.b","filter_subjects":["a.c"]}"#,
                "consumer cannot have both FilterSubject and FilterSubjects specified (10136)",
            ),
            (r#"{"filter_subjects":["a.b","a.*"]}"#, "consumer subject filters cannot overlap (10138)"),
            (r#"{"filter_subjects":[""]}"#, "consumer filter in FilterSubjects cannot be empty (10139)"),
            (
                r#"{"opt_start_seq":1}"#,
                "consumer delivery policy is deliver all, but optional start sequence is also set (10094)",
            ),
            (
                r#"{"deliver_policy":"by_start_sequence"}"#,
                "consumer delivery policy is deliver by start sequence, but optional start sequence is not set (10094)",
            ),
            (
                r#"{"deliver_policy":"last_per_subject"}"#,
                "consumer delivery policy is deliver last per subject, but optional filter subject is not set (10094)",
            ),
            (
                r#"{"deliver_subject":"d","flow_control":true}"#,
                "consumer with flow control also needs heartbeats (10108)",
            ),
            (
                r#"{"priority_groups":["A"]}"#,
                "consumer can not have priority groups when policy is none (10196)",
            ),
            (
                r#"{"priority_policy":"overflow"}"#,
                "Setting PriorityPolicy requires at least one PriorityGroup to be set (10159)",
            ),
        ] {
            assert_eq!(check(text).unwrap_err(), why, "{text}");
        }
    }
}
