//! What streams and consumers are told to be, as clients write it, and what becomes of it.

mod consumer;
mod copies;
mod metadata;
mod stream;
mod words;

use std::time::Duration;

pub(crate) use consumer::is_group;
pub use consumer::{
    ConsumerConfig, ConsumerContext, CreateConsumer, check_consumer, consumer_defaults, sample_percent,
};
pub use copies::Find;
pub(crate) use copies::check_source_filters;
pub use metadata::{API_LEVEL, NATS_VERSION, stamp_consumer, stamp_stream, with_server};
pub(crate) use stream::overlaps;
pub use stream::{
    External, Republish, SourceConsumer, StreamConfig, StreamConsumerLimits, StreamSource, SubjectTransform,
    check_stream, check_stream_among, check_update,
};
pub use words::{
    AckPolicy, Action, Compression, DeliverPolicy, Discard, PersistMode, PriorityPolicy, ReplayPolicy,
    Retention, Storage,
};

/// Longest name of a stream or consumer, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 4 * 1024;
/// Keys and values of metadata, in bytes.
pub const METADATA_BYTES_MAX: usize = 128 * 1024;

/// Ceilings that the server sets, besides those that clients ask for. Source: nats-server's `jetstream{limits{}}`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest window in which duplicates are found, in ns; 0: any.
    pub duplicate_window: i64,
    /// Most messages that a consumer may leave without an ack; 0: any.
    pub max_ack_pending: i64,
    /// Most that one pull request asks for; 0: any.
    pub max_request_batch: i64,
    /// Consumers of one stream, unless it says otherwise.
    pub default_max_consumers: i64,
    /// Of batches.
    pub batches: BatchLimits,
}

/// Ceilings for batches. Source: nats-server's `jetstream{limits{batch{}}}`.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Atomic batches of one stream that are open.
    pub atomic: usize,
    /// Those of all streams.
    pub atomic_total: usize,
    /// Fast batches of one stream that are open.
    pub fast: usize,
    /// Those of all streams.
    pub fast_total: usize,
    /// Messages of one atomic batch.
    pub messages: u64,
    /// How long a batch may be silent.
    pub silence: Duration,
}

impl BatchLimits {
    /// Those of a configuration, which has one number for both kinds; 0: as it is by default.
    pub fn of(per_stream: u64, total: u64, messages: u64, silence: Duration) -> Self {
        let default = Self::default();
        let or = |asked: u64, default: usize| match usize::try_from(asked) {
            Ok(0) => default,
            Ok(asked) => asked,
            Err(_) => usize::MAX,
        };
        Self {
            atomic: or(per_stream, default.atomic),
            atomic_total: or(total, default.atomic_total),
            fast: or(per_stream, default.fast),
            fast_total: or(total, default.fast_total),
            messages: if messages == 0 { default.messages } else { messages },
            silence: if silence.is_zero() { default.silence } else { silence },
        }
    }
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            atomic: 50,
            atomic_total: 1000,
            fast: 1000,
            fast_total: 50_000,
            messages: 1000,
            silence: Duration::from_secs(10),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            duplicate_window: 0,
            max_ack_pending: 0,
            max_request_batch: 0,
            default_max_consumers: 1000,
            batches: BatchLimits::default(),
        }
    }
}

/// A name that a stream or consumer may have.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(|c: char| c.is_ascii_whitespace() || matches!(c, '.' | '*' | '>' | '/' | '\\'))
}

/// True for a default value, which isn't written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Points in time as RFC 3339.
pub(crate) mod time_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::time::{Nanos, parse_rfc3339, rfc3339};

    pub(crate) fn serialize<S: Serializer>(time: &Option<Nanos>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(time.unwrap_or(0)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Nanos>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = parse_rfc3339(&text).ok_or_else(|| {
            D::Error::custom(format_args!("parsing time {text:?} as RFC 3339: cannot parse"))
        })?;
        Ok(Some(time))
    }
}
