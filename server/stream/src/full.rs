//! What a stream does when the disk is full.

use crate::config::StreamConfig;

/// What becomes of a message that there is no room for on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Full {
    /// Its publisher is told.
    #[default]
    Refuse,
    /// The stream's oldest go for it.
    DropOld,
}

/// The metadata of a stream that says it.
const METADATA: &str = "midge.full";

impl Full {
    /// A stream's. `None` if it says something else.
    pub(crate) fn read(config: &StreamConfig) -> Option<Self> {
        match config.metadata.get(METADATA).map(String::as_str) {
            None | Some("" | "refuse") => Some(Self::Refuse),
            Some("drop_old") => Some(Self::DropOld),
            Some(_) => None,
        }
    }
}
