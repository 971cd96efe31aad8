//! How much users may publish, and how often an address may fail to log in; midge's own blocks.

use std::time::Duration;

use crate::block::{Block, block_of};
use crate::report::Report;
use crate::value::Data;

/// The `rate_limits` block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// By the name or public key of a user: its connections together.
    pub users: Vec<(String, RateLimit)>,
    /// For every other user, and for each connection without one.
    pub default: RateLimit,
}

/// Most that may be published in a second; a second's worth may come at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Messages. None or 0: any number.
    pub msgs: Option<u32>,
    /// Bytes of headers and payloads. None or 0: any amount.
    pub bytes: Option<u64>,
}

/// The `login_backoff` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginBackoff {
    /// Failed logins from one address that cost nothing; 0: none ever does. Default 10.
    pub after: u32,
    /// The longest that the address then has to wait. Default 30 s.
    pub longest: Duration,
    /// The machine itself has to wait, too. Default false.
    pub loopback: bool,
}

impl LoginBackoff {
    pub(crate) fn read(root: &Block<'_>) -> Self {
        let block = root.block("login_backoff");
        let after = block.as_ref().and_then(|block| u32::try_from(block.int("after")?).ok());
        let longest = block.as_ref().and_then(|block| block.nonzero_duration("longest"));
        let loopback = block.as_ref().and_then(|block| block.bool("loopback"));
        Self {
            after: after.unwrap_or(10),
            longest: longest.unwrap_or(Duration::from_secs(30)),
            loopback: loopback.unwrap_or_default(),
        }
    }
}

impl RateLimits {
    pub(crate) fn read(root: &Block<'_>, report: &mut Report) -> Self {
        let Some(block) = root.block("rate_limits") else { return Self::default() };
        let mut users = Vec::new();
        if let Some(value) = block.get("users") {
            if let Data::Map(map) = &value.data {
                for (name, entry) in map.iter().filter(|(_, entry)| !entry.used) {
                    if let Some(inner) = block_of(block.inner("users"), &entry.value) {
                        users.push((name.to_owned(), RateLimit::read(&inner)));
                    }
                }
            } else {
                report.error(&value.at, "rate_limits: users is a map from users' names to their limits");
            }
        }
        let default = block.block("default").map(|block| RateLimit::read(&block)).unwrap_or_default();
        Self { users, default }
    }
}

impl RateLimit {
    fn read(block: &Block<'_>) -> Self {
        let bytes = block.size("bytes").and_then(|bytes| u64::try_from(bytes).ok());
        Self { msgs: block.nonzero("msgs"), bytes: bytes.filter(|bytes| *bytes > 0) }
    }
}
