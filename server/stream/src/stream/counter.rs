//! Messages that count: each adds to the last value of its subject, however large that is.
//!
//! ```text
//!   Nats-Incr: 5          ->   {"val":"12"}       the last was {"val":"7"}
//! ```
//!
//! From a source comes a value, not an increment: what it has grown by since the last one is added, so that counters of many
//! places add up in one. `Nats-Counter-Sources` keeps the last value of each.
//!
//! Source: nats-server's ADR-49 and `stream.go` (`processJetStreamMsg`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use num_bigint::BigInt;
use serde::{Deserialize, Serialize};

use super::Stream;
use super::ingest::{Arriving, Refusal};
use crate::error;
use crate::headers;
use crate::json;

/// A counter's value, as it is stored.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Value {
    val: String,
}

/// What a subject counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    total: BigInt,
    /// The last values of sources: stream, subject, value.
    sources: BTreeMap<String, BTreeMap<String, String>>,
}

fn number(text: &str) -> BigInt {
    text.parse().unwrap_or_default()
}

impl Counter {
    /// What the last message of a subject says.
    pub(super) fn load(stream: &Stream, subject: &[u8]) -> Result<Self, Refusal> {
        let broken = || Refusal::from(error::MESSAGE_COUNTER_BROKEN);
        let Some(seq) = stream.log.last_of(subject) else { return Ok(Self::default()) };
        let Some(message) = stream.log.get(seq).map_err(|_| broken())? else { return Ok(Self::default()) };
        let value: Value = serde_json::from_slice(&message.payload()).map_err(|_| broken())?;
        let sources = match headers::get(message.header(), headers::COUNTER_SOURCES) {
            Some(text) => serde_json::from_slice(text).map_err(|_| broken())?,
            None => BTreeMap::new(),
        };
        Ok(Self { total: number(&value.val), sources })
    }

    /// Counts a message, which becomes what is stored.
    pub(super) fn add(&mut self, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
        let Some(mut increment) = arriving.increment.clone() else { return Ok(()) };
        let source = headers::text(&arriving.header, headers::STREAM_SOURCE).map(str::to_owned);
        if let Some(line) = source {
            let value: Value = serde_json::from_slice(&arriving.payload)
                .map_err(|_| Refusal::from(error::MESSAGE_COUNTER_BROKEN))?;
            let fields: Vec<&str> = line.split(' ').collect();
            let stream = fields.first().copied().unwrap_or_default().to_owned();
            let subject = fields.get(4).map_or_else(
                || String::from_utf8_lossy(&arriving.subject).into_owned(),
                |subject| (*subject).to_owned(),
            );
            let value = number(&value.val);
            let before = self
                .sources
                .entry(stream)
                .or_default()
                .insert(subject, value.to_string())
                .unwrap_or_default();
            increment = value - number(&before);
            let header = headers::set(&arriving.header, headers::INCR, &increment.to_string());
            arriving.header = Cow::Owned(header);
        }
        self.total += increment;
        let value = self.total.to_string();
        arriving.payload = Cow::Owned(json::write(&Value { val: value.clone() }));
        arriving.value = Some(value);
        if !self.sources.is_empty() {
            let text = String::from_utf8_lossy(&json::write(&self.sources)).into_owned();
            arriving.header = Cow::Owned(headers::set(&arriving.header, headers::COUNTER_SOURCES, &text));
        }
        Ok(())
    }
}

/// Whether a message may count.
pub(super) fn increment_valid(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    let Some(text) = headers::get(&arriving.header, headers::INCR) else { return Ok(()) };
    // The library reads `1_000`, too.
    let read = std::str::from_utf8(text).ok().filter(|text| !text.contains('_'));
    let read = read.and_then(|text| text.parse::<BigInt>().ok());
    let increment = read.ok_or_else(|| Refusal::from(error::MESSAGE_INCR_INVALID))?;
    if !arriving.is_own() {
        if !stream.config.allow_msg_counter {
            return Err(error::MESSAGE_INCR_DISABLED.into());
        }
        if !arriving.payload.is_empty() {
            return Err(error::MESSAGE_INCR_PAYLOAD.into());
        }
        let with = |name| headers::get(&arriving.header, name).is_some();
        if NOT_WITH_INCREMENTS.iter().any(|name| with(name)) {
            return Err(error::MESSAGE_INCR_INVALID.into());
        }
    }
    arriving.increment = Some(increment);
    Ok(())
}

/// Headers that a message that counts must not have.
const NOT_WITH_INCREMENTS: &[&str] = &[
    headers::ROLLUP,
    headers::EXPECTED_STREAM,
    headers::EXPECTED_LAST_MSG_ID,
    headers::EXPECTED_LAST_SUBJECT_SEQ_SUBJECT,
    headers::EXPECTED_LAST_SEQ,
    headers::EXPECTED_LAST_SUBJECT_SEQ,
];

/// In a stream of counters, every message counts.
pub(super) fn increment_there(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    let missing = stream.config.allow_msg_counter && arriving.increment.is_none();
    if missing { Err(error::MESSAGE_INCR_MISSING.into()) } else { Ok(()) }
}

/// Counts a message.
pub(super) fn count(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    if !stream.config.allow_msg_counter || arriving.increment.is_none() {
        return Ok(());
    }
    Counter::load(stream, &arriving.subject)?.add(arriving)
}
