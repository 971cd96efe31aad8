//! An account's streams, and what it may have of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{self, ApiError};

/// What an account may do with streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It has streams.
    Enabled(Share),
    /// It has none, and whoever asks is told so.
    Disabled,
    /// It is the server's own, and has none.
    System,
}

/// How much an account may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    /// For all its streams.
    Flat(AccountLimits),
    /// By the number of a stream's copies: `R1`, `R3`. Here all streams have one.
    Tiers(BTreeMap<Box<str>, AccountLimits>),
}

/// The tier of streams with one copy.
pub(crate) const TIER: &str = "R1";

/// The tier of streams with so many copies; none said is one.
fn tier(replicas: i64) -> String {
    format!("R{}", if replicas == 0 { 1 } else { replicas })
}

impl Share {
    /// The ceilings of what is here.
    pub(crate) fn limits(&self) -> Result<&AccountLimits, ApiError> {
        self.limits_for(1)
    }

    /// The ceilings of streams with so many copies, which are none here but may be asked for.
    pub(crate) fn limits_for(&self, replicas: i64) -> Result<&AccountLimits, ApiError> {
        match self {
            Self::Flat(limits) => Ok(limits),
            Self::Tiers(tiers) => tiers.get(tier(replicas).as_str()).ok_or_else(|| error::NO_LIMITS.error()),
        }
    }

    /// Whether the streams that are here, which have one copy, are among those with so many.
    pub(crate) fn counts(&self, replicas: i64) -> bool {
        match self {
            Self::Flat(_) => true,
            Self::Tiers(_) => tier(replicas) == TIER,
        }
    }

    /// How often the bytes of a stream with so many copies count: a tier is of copies of one server already.
    pub(crate) fn copies(&self, replicas: i64) -> u64 {
        match self {
            Self::Flat(_) => u64::try_from(replicas).unwrap_or(1).max(1),
            Self::Tiers(_) => 1,
        }
    }

    /// Bytes that it sets aside in memory and on disk.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        let all = match self {
            Self::Flat(limits) => std::slice::from_ref(limits).to_vec(),
            Self::Tiers(tiers) => tiers.values().copied().collect(),
        };
        let sum =
            |of: fn(&AccountLimits) -> Option<u64>| all.iter().filter_map(of).fold(0, u64::saturating_add);
        [sum(|it| it.memory_bytes_max), sum(|it| it.file_bytes_max)]
    }
}

/// An account's ceilings; `None`: none of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// Bytes of all its streams in memory.
    pub memory_bytes_max: Option<u64>,
    /// Bytes of all its streams on disk.
    pub file_bytes_max: Option<u64>,
    /// Streams; 0: any number.
    pub streams_max: Option<u32>,
    /// Consumers of one stream; 0: any number.
    pub consumers_max: Option<u32>,
    /// Messages that a consumer may leave without an ack.
    pub ack_pending_max: Option<u32>,
    /// Bytes of one stream in memory.
    pub memory_stream_bytes_max: Option<u64>,
    /// Bytes of one stream on disk.
    pub file_stream_bytes_max: Option<u64>,
    /// A stream must come with a ceiling of bytes.
    pub max_bytes_required: bool,
}

/// An account, and its streams.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) name: Box<str>,
    /// `<domain>.<short name>.`: what longer subjects of acks have in front of the stream.
    pub(crate) place: Arc<str>,
    pub(crate) grant: Grant,
    pub(crate) streams: BTreeMap<Box<str>, u32>,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    /// Somebody listens to events.
    pub(crate) events: bool,
}

impl Space {
    pub(crate) fn is_enabled(&self) -> bool {
        matches!(self.grant, Grant::Enabled(_))
    }

    /// The ceilings of its streams.
    pub(crate) fn limits(&self) -> Result<&AccountLimits, ApiError> {
        self.share()?.limits()
    }

    /// What it may have.
    pub(crate) fn share(&self) -> Result<&Share, ApiError> {
        match &self.grant {
            Grant::Enabled(share) => Ok(share),
            Grant::Disabled | Grant::System => Err(error::NOT_ENABLED_FOR_ACCOUNT.error()),
        }
    }
}
