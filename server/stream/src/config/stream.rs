//! What a stream is told to be.
//!
//! Sources: reference 3.12; nats-server's `stream.go` (`checkStreamCfg`, `configUpdateCheck`).

use std::collections::BTreeMap;

use midge_protocol::subject::Filter;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::copies::{self, Find};
use super::words::{Compression, Discard, PersistMode, Retention, Storage};
use super::{
    DESCRIPTION_BYTES_MAX, Limits, METADATA_BYTES_MAX, NAME_BYTES_MAX, is_default, is_name, time_text,
};
use crate::error::{self, ApiError};
use crate::full::Full;
use crate::sync::Sync;
use crate::time::{MILLISECOND, Nanos, SECOND};

/// A stream's configuration, as clients write it. Lengths of time are in ns, limits of -1 are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the API's own names, explained in nats-server's documentation")]
pub struct StreamConfig {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    pub retention: Retention,
    pub max_consumers: i64,
    pub max_msgs: i64,
    pub max_bytes: i64,
    pub max_age: Nanos,
    pub max_msgs_per_subject: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub max_msg_size: i32,
    pub discard: Discard,
    pub storage: Storage,
    pub num_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub no_ack: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub duplicate_window: Nanos,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<StreamSource>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<StreamSource>,
    pub compression: Compression,
    #[serde(skip_serializing_if = "is_default")]
    pub first_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_transform: Option<SubjectTransform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub republish: Option<Republish>,
    pub allow_direct: bool,
    pub mirror_direct: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub discard_new_per_subject: bool,
    pub sealed: bool,
    pub deny_delete: bool,
    pub deny_purge: bool,
    pub allow_rollup_hdrs: bool,
    pub consumer_limits: StreamConsumerLimits,
    pub allow_msg_ttl: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub subject_delete_marker_ttl: Nanos,
    #[serde(skip_serializing_if = "is_default")]
    pub allow_msg_counter: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub allow_atomic: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub allow_msg_schedules: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub persist_mode: PersistMode,
    #[serde(skip_serializing_if = "is_default")]
    pub allow_batched: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// What a stream's consumers have at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConsumerLimits {
    /// How long they may be idle, in ns.
    #[serde(skip_serializing_if = "is_default")]
    pub inactive_threshold: Nanos,
    /// Messages without an ack.
    #[serde(skip_serializing_if = "is_default")]
    pub max_ack_pending: i64,
}

/// From one subject to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubjectTransform {
    /// What it covers; empty: everything.
    pub src: String,
    /// What becomes of it.
    pub dest: String,
}

/// Where what was stored is published again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Republish {
    /// What it covers; empty: everything.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub src: String,
    /// Where to.
    pub dest: String,
    /// Without the payload.
    #[serde(skip_serializing_if = "is_default")]
    pub headers_only: bool,
}

/// A stream to copy from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the API's own names, explained in nats-server's documentation")]
pub struct StreamSource {
    pub name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub opt_start_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none", with = "time_text")]
    pub opt_start_time: Option<Nanos>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_transforms: Vec<SubjectTransform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<SourceConsumer>,
}

/// How another account or domain is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct External {
    /// Begins the subjects of its API.
    pub api: String,
    /// Begins the subjects on which it delivers.
    pub deliver: String,
}

/// The consumer to copy by, if it is there already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConsumer {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it delivers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_subject: String,
}

pub(super) fn invalid(text: impl std::fmt::Display) -> ApiError {
    error::STREAM_INVALID_CONFIG.with(&[&text])
}

/// Refuses it if `wrong`.
pub(super) fn refuse(wrong: bool, text: &str) -> Result<(), ApiError> {
    if wrong { Err(invalid(text)) } else { Ok(()) }
}

/// A configuration as it is kept, with all defaults filled in. With `pedantic`, nothing that a client wrote is changed
/// silently.
pub fn check_stream(
    config: &StreamConfig,
    limits: &Limits,
    pedantic: bool,
) -> Result<StreamConfig, ApiError> {
    check_stream_among(config, limits, pedantic, &|_| None)
}

/// As [`check_stream`], beside other streams of the account, which `find` gives by their names.
pub fn check_stream_among(
    config: &StreamConfig,
    limits: &Limits,
    pedantic: bool,
    find: Find<'_>,
) -> Result<StreamConfig, ApiError> {
    let mut config = config.clone();
    check_names(&config)?;
    settle_numbers(&mut config, pedantic)?;
    settle_duplicates(&mut config, limits, pedantic)?;
    refuse(config.deny_purge && config.allow_rollup_hdrs, "roll-ups require the purge permission")?;
    check_counter(&config)?;
    check_discard(&config)?;
    settle_markers(&mut config, pedantic)?;
    settle_schedules(&mut config, pedantic)?;
    check_persistence(&config)?;
    refuse(Sync::read(&config).is_none(), "metadata midge.sync is always, interval or os")?;
    check_full(&config)?;
    copies::check(&mut config, pedantic, find)?;
    settle_subjects(&mut config)?;
    copies::check_transform(&config)?;
    copies::settle_republish(&mut config, pedantic)?;
    check_placement(&mut config)?;
    Ok(config)
}

fn check_names(config: &StreamConfig) -> Result<(), ApiError> {
    refuse(!is_name(&config.name), "stream name is required and can not contain '.', '*', '>', '\\', '/'")?;
    if config.name.len() > NAME_BYTES_MAX {
        return Err(invalid(format_args!("stream name is too long, maximum allowed is {NAME_BYTES_MAX}")));
    }
    if config.description.len() > DESCRIPTION_BYTES_MAX {
        return Err(invalid(format_args!(
            "stream description is too long, maximum allowed is {DESCRIPTION_BYTES_MAX}"
        )));
    }
    let metadata: usize = config.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata > METADATA_BYTES_MAX {
        return Err(invalid(format_args!(
            "stream metadata exceeds maximum size of {METADATA_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

fn check_full(config: &StreamConfig) -> Result<(), ApiError> {
    let full = Full::read(config);
    refuse(full.is_none(), "metadata midge.full is refuse or drop_old")?;
    let drops = full == Some(Full::DropOld);
    refuse(drops && config.discard == Discard::New, "metadata midge.full drop_old requires discard old")?;
    refuse(drops && config.storage == Storage::Memory, "metadata midge.full drop_old requires file storage")
}

fn settle_numbers(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    match config.num_replicas {
        0 => config.num_replicas = 1,
        6.. => return Err(invalid("maximum replicas is 5")),
        ..0 => return Err(error::REPLICAS_COUNT_CANNOT_BE_NEGATIVE.error()),
        _ => {}
    }
    let mut max_msg_size = i64::from(config.max_msg_size);
    for (number, name) in [
        (&mut config.max_msgs, "max_msgs"),
        (&mut config.max_msgs_per_subject, "max_msgs_per_subject"),
        (&mut config.max_bytes, "max_bytes"),
        (&mut max_msg_size, "max_msg_size"),
        (&mut config.max_consumers, "max_consumers"),
    ] {
        if pedantic && *number < -1 {
            return Err(error::PEDANTIC.with(&[&format_args!("{name} must be set to -1")]));
        }
        if *number <= 0 {
            *number = -1;
        }
    }
    config.max_msg_size = i32::try_from(max_msg_size).unwrap_or(-1);
    refuse(config.max_age < 0, "max age can not be negative")?;
    refuse(config.max_age != 0 && config.max_age < 100 * MILLISECOND, "max age needs to be >= 100ms")
}

fn settle_duplicates(config: &mut StreamConfig, limits: &Limits, pedantic: bool) -> Result<(), ApiError> {
    let pedantic_error = |text: &str| Err(error::PEDANTIC.with(&[&text]));
    let limit = limits.duplicate_window;
    if config.duplicate_window == 0 && config.mirror.is_none() && config.sources.is_empty() {
        let mut window = DUPLICATE_WINDOW;
        if limit > 0 && window > limit {
            if pedantic {
                return pedantic_error("duplicate window limits are higher than current limits");
            }
            window = limit;
        }
        if config.max_age != 0 && config.max_age < window {
            if pedantic {
                return pedantic_error("duplicate window cannot be bigger than max age");
            }
            window = config.max_age;
        }
        config.duplicate_window = window;
    }
    let window = config.duplicate_window;
    refuse(window < 0, "duplicates window can not be negative")?;
    refuse(
        config.max_age != 0 && window > config.max_age,
        "duplicates window can not be larger then max age",
    )?;
    if limit > 0 && window > limit {
        let limit = crate::time::go_duration(limit);
        return Err(invalid(format_args!(
            "duplicates window can not be larger then server limit of {limit}"
        )));
    }
    refuse(window > 0 && window < 100 * MILLISECOND, "duplicates window needs to be >= 100ms")
}

/// How long message ids are remembered, unless it is said.
const DUPLICATE_WINDOW: Nanos = 120 * SECOND;

fn check_counter(config: &StreamConfig) -> Result<(), ApiError> {
    if !config.allow_msg_counter {
        return Ok(());
    }
    refuse(config.discard == Discard::New, "counter stream cannot use discard new")?;
    refuse(config.allow_msg_ttl, "counter stream cannot use message TTLs")?;
    refuse(config.allow_msg_schedules, "counter stream cannot use message schedules")?;
    refuse(config.retention != Retention::Limits, "counter stream can only use limits retention")
}

fn check_discard(config: &StreamConfig) -> Result<(), ApiError> {
    if !config.discard_new_per_subject {
        return Ok(());
    }
    refuse(config.discard != Discard::New, "discard new per subject requires discard new policy to be set")?;
    refuse(config.max_msgs_per_subject <= 0, "discard new per subject requires max msgs per subject > 0")
}

fn settle_markers(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let ttl = config.subject_delete_marker_ttl;
    refuse(ttl < 0, "subject delete marker TTL must not be negative")?;
    if ttl == 0 {
        return Ok(());
    }
    refuse(ttl < SECOND, "subject delete marker TTL must be at least 1 second")?;
    refuse(
        pedantic && !config.allow_msg_ttl,
        "subject delete marker cannot be set if message TTLs are disabled",
    )?;
    refuse(
        pedantic && !config.allow_rollup_hdrs,
        "subject delete marker cannot be set if roll-ups are disabled",
    )?;
    config.allow_msg_ttl = true;
    if !config.allow_rollup_hdrs {
        (config.allow_rollup_hdrs, config.deny_purge) = (true, false);
    }
    Ok(())
}

fn settle_schedules(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if !config.allow_msg_schedules {
        return Ok(());
    }
    refuse(config.discard == Discard::New, "message scheduling cannot use discard new")?;
    if !config.allow_rollup_hdrs {
        refuse(pedantic, "message scheduling cannot be set if roll-ups are disabled")?;
        (config.allow_rollup_hdrs, config.deny_purge) = (true, false);
    }
    Ok(())
}

fn check_persistence(config: &StreamConfig) -> Result<(), ApiError> {
    if config.persist_mode != PersistMode::Async {
        return Ok(());
    }
    refuse(config.storage != Storage::File, "async persist mode is only supported on file storage")?;
    refuse(config.num_replicas > 1, "async persist mode is not supported on replicated streams")?;
    refuse(config.allow_atomic, "async persist mode is not supported with atomic batch publish")
}

fn settle_subjects(config: &mut StreamConfig) -> Result<(), ApiError> {
    if config.subjects.is_empty() && config.mirror.is_none() && config.sources.is_empty() {
        config.subjects.push(config.name.clone());
    }
    for (at, text) in config.subjects.iter().enumerate() {
        let Ok(subject) = Filter::new(text.as_bytes()) else { return Err(invalid("invalid subject")) };
        if text == ">" {
            refuse(!config.no_ack, "capturing all subjects requires no-ack to be true")?;
            refuse(config.num_replicas != 1, "capturing all subjects requires replicas of 1")?;
        }
        if !config.no_ack {
            refuse(
                overlaps(subject, &["$JS.>", "$JSC.>", "$NRG.>"]) && !within(subject, "$JS.EVENT.>"),
                "subjects that overlap with jetstream api require no-ack to be true",
            )?;
            refuse(
                overlaps(subject, &["$SYS.>"]) && !within(subject, "$SYS.ACCOUNT.>"),
                "subjects that overlap with system api require no-ack to be true",
            )?;
        }
        for other in config.subjects.iter().skip(at + 1) {
            if overlaps(subject, &[other]) {
                return Err(invalid(format_args!("subject {text:?} overlaps with {other:?}")));
            }
        }
    }
    Ok(())
}

/// True if something reaches `subject` and one of `others`.
pub(crate) fn overlaps(subject: Filter<'_>, others: &[&str]) -> bool {
    let mut others = others.iter().filter_map(|other| Filter::new(other.as_bytes()).ok());
    others.any(|other| subject.overlaps(other))
}

fn within(subject: Filter<'_>, other: &str) -> bool {
    Filter::new(other.as_bytes()).is_ok_and(|other| subject.is_subset_of(other))
}

fn check_placement(config: &mut StreamConfig) -> Result<(), ApiError> {
    let Some(placement) = &config.placement else { return Ok(()) };
    let has = |name: &str| {
        placement.get(name).is_some_and(|value| {
            !matches!(value, Value::Null)
                && value.as_str() != Some("")
                && value.as_array().is_none_or(|list| !list.is_empty())
        })
    };
    refuse(has("preferred"), "preferred server not permitted in placement")?;
    if !has("cluster") && !has("tags") {
        config.placement = None;
    }
    Ok(())
}

/// What becomes of a stream that is `old` when it is told to be `new`, which was checked.
pub fn check_update(old: &StreamConfig, new: StreamConfig) -> Result<StreamConfig, ApiError> {
    let mut new = new;
    let update =
        |wrong: bool, text: &str| refuse(wrong, &format!("stream configuration update can not {text}"));
    refuse(new.name != old.name, "stream configuration name must match original")?;
    if new.num_replicas > 1 {
        return Err(error::STREAM_REPLICAS_NOT_SUPPORTED.error());
    }
    update(new.storage != old.storage, "change storage type")?;
    update(
        new.retention != old.retention
            && (old.retention == Retention::WorkQueue || new.retention == Retention::WorkQueue),
        "change retention policy to/from workqueue",
    )?;
    update(!new.sealed && old.sealed, "unseal a sealed stream")?;
    update(!new.deny_delete && old.deny_delete, "cancel deny message deletes")?;
    update(!new.deny_purge && old.deny_purge, "cancel deny purge")?;
    if new.mirror.is_some() && new.mirror != old.mirror {
        return Err(error::STREAM_MIRROR_NOT_UPDATABLE.error());
    }
    refuse(old.allow_msg_ttl && !new.allow_msg_ttl, "message TTL status can not be disabled")?;
    update(new.allow_msg_counter != old.allow_msg_counter, "change message counter setting")?;
    refuse(old.allow_msg_schedules && !new.allow_msg_schedules, "message schedules can not be disabled")?;
    update(new.persist_mode != old.persist_mode, "change persist mode")?;
    if new.sealed {
        new.max_age = 0;
        new.discard = Discard::New;
        (new.deny_delete, new.deny_purge) = (true, true);
        new.allow_rollup_hdrs = false;
    }
    copies::check_source_filters(&new)?;
    copies::settle_republish_again(&mut new)?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> StreamConfig {
        serde_json::from_str(text).unwrap()
    }

    fn check(text: &str) -> Result<StreamConfig, String> {
        check_stream(&read(text), &Limits::default(), false).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults() {
        let config = check(r#"{"name":"S"}"#).unwrap();
        let text = String::from_utf8(crate::json::write(&config)).unwrap();
        assert_eq!(
            text,
            r#"{"name":"S","subjects":["S"],"retention":"limits","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"max_msgs_per_subject":-1,"max_msg_size":-1,"discard":"old","storage":"file","num_replicas":1,"duplicate_window":120000000000,"compression":"none","allow_direct":false,"mirror_direct":false,"sealed":false,"deny_delete":false,"deny_purge":false,"allow_rollup_hdrs":false,"consumer_limits":{},"allow_msg_ttl":false}"#
        );
        assert_eq!(read(&text), config);
        let config = check(r#"{"name":"S","max_age":1000000000}"#).unwrap();
        assert_eq!(config.duplicate_window, SECOND);
        let config = check(r#"{"name":"S","subject_delete_marker_ttl":2000000000}"#).unwrap();
        assert!(config.allow_msg_ttl && config.allow_rollup_hdrs);
    }

    #[test]
    fn what_is_refused() {
        for (text, why) in [
            (r#"{}"#, "stream name is required and can not contain '.', '*', '>', '\\', '/' (10052)"),
            (
                r#"{"name":"a b"}"#,
                "stream name is required and can not contain '.', '*', '>', '\\', '/' (10052)",
            ),
            (r#"{"name":"S","max_age":5}"#, "max age needs to be >= 100ms (10052)"),
            (r#"{"name":"S","duplicate_window":5}"#, "duplicates window needs to be >= 100ms (10052)"),
            (r#"{"name":"S","num_replicas":-1}"#, "replicas count cannot be negative (10133)"),
            (r#"{"name":"S","subjects":["a..b"]}"#, "invalid subject (10052)"),
            (r#"{"name":"S","subjects":["a","a"]}"#, "subject \"a\" overlaps with \"a\" (10052)"),
            (r#"{"name":"S","subjects":["a.*","a.b"]}"#, "subject \"a.*\" overlaps with \"a.b\" (10052)"),
            (r#"{"name":"S","subjects":[">"]}"#, "capturing all subjects requires no-ack to be true (10052)"),
            (
                r#"{"name":"S","subjects":["$JS.API.>"]}"#,
                "subjects that overlap with jetstream api require no-ack to be true (10052)",
            ),
            (
                r#"{"name":"S","discard_new_per_subject":true}"#,
                "discard new per subject requires discard new policy to be set (10052)",
            ),
            (
                r#"{"name":"S","mirror":{"name":"O","consumer":{"name":"","deliver_subject":"d"}}}"#,
                "stream mirror consumer config is invalid (10213)",
            ),
            (
                r#"{"name":"S","mirror":{"name":"O","consumer":{"name":"C","deliver_subject":""}}}"#,
                "stream mirror consumer config is invalid (10213)",
            ),
            (
                r#"{"name":"S","sources":[{"name":"O","consumer":{"name":"C","deliver_subject":"d.*"}}]}"#,
                "stream source consumer config is invalid (10215)",
            ),
        ] {
            assert_eq!(check(text).unwrap_err(), why, "{text}");
        }
        assert!(check(r#"{"name":"S","subjects":["$JS.EVENT.ADVISORY.>"]}"#).is_ok());
        let word =
            serde_json::from_str::<StreamConfig>(r#"{"name":"S","retention":"x"}"#).unwrap_err().to_string();
        assert!(word.starts_with(r#"can not unmarshal "\"x\"""#), "{word}");
    }

    #[test]
    fn pedantic_changes_nothing() {
        let error = |text| check_stream(&read(text), &Limits::default(), true).unwrap_err().to_string();
        assert_eq!(
            error(r#"{"name":"S","max_msgs":-2}"#),
            "pedantic mode: max_msgs must be set to -1 (10157)"
        );
        assert_eq!(
            error(r#"{"name":"S","max_age":1000000000}"#),
            "pedantic mode: duplicate window cannot be bigger than max age (10157)"
        );
    }

    #[test]
    fn updates() {
        let old = check(r#"{"name":"S","deny_purge":true}"#).unwrap();
        let update = |text| check_update(&old, check(text).unwrap()).map_err(|error| error.to_string());
        assert!(update(r#"{"name":"S","deny_purge":true,"retention":"interest"}"#).is_ok());
        for (text, why) in [
            (r#"{"name":"S"}"#, "stream configuration update can not cancel deny purge (10052)"),
            (
                r#"{"name":"S","deny_purge":true,"retention":"workqueue"}"#,
                "stream configuration update can not change retention policy to/from workqueue (10052)",
            ),
            (
                r#"{"name":"S","deny_purge":true,"storage":"memory"}"#,
                "stream configuration update can not change storage type (10052)",
            ),
        ] {
            assert_eq!(update(text).unwrap_err(), why);
        }
        let sealed = update(r#"{"name":"S","deny_purge":true,"sealed":true,"max_age":1000000000}"#).unwrap();
        assert_eq!((sealed.max_age, sealed.discard, sealed.deny_delete), (0, Discard::New, true));
    }
}
