//! When what a stream stores is made safe from a power cut.
//!
//! ```text
//!             written to the system     acknowledged     on the disk
//!   always            1                      3                2
//!   interval          1                      2                3  within the interval
//!   os                1                      2                3  whenever the system likes, or after 2 MiB
//! ```
//!
//! Whatever was written to the system outlives the process. All streams share one log, so what reaches the disk is always
//! what came first: a power cut takes the end of the log, never something from the middle of it.

use std::time::Duration;

use crate::config::StreamConfig;

/// When what was stored is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Before anybody is told that it is stored.
    #[default]
    Always,
    /// Within [`Settings::sync_every`](crate::Settings::sync_every) after that.
    Interval,
    /// When the operating system writes it.
    Os,
}

/// How often streams are made safe that don't say how often, and don't want it always.
pub const SYNC_EVERY: Duration = Duration::from_secs(10);

/// The metadata of a stream that says it.
pub(crate) const METADATA: &str = "midge.sync";

impl Sync {
    /// A stream's, which may say nothing. `None` if it says something else.
    pub(crate) fn read(config: &StreamConfig) -> Option<Option<Self>> {
        match config.metadata.get(METADATA).map(String::as_str) {
            None | Some("") => Some(None),
            Some("always") => Some(Some(Self::Always)),
            Some("interval") => Some(Some(Self::Interval)),
            Some("os") => Some(Some(Self::Os)),
            Some(_) => None,
        }
    }

    /// In a set of them.
    pub(crate) fn bit(self) -> u8 {
        1 << self as u8
    }
}
