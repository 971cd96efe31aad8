//! What goes over the line, in postcard's format. Firmware and the programs that read it share this file.

use serde::{Deserialize, Serialize};

/// On `plant.<name>.reading`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Counts from the start of the node; a gap is a reading that was dropped.
    pub number: u32,
    /// When it was taken, in ms since the start of the node.
    pub uptime_ms: u32,
    /// Hundredths of a degree.
    pub celsius_x100: i16,
    /// The heater was on.
    pub heater: bool,
}

/// The answer on `plant.<name>.status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Since the start, in ms.
    pub uptime_ms: u32,
    /// Readings taken.
    pub readings: u32,
    /// Readings that the stream has.
    pub stored: u32,
    /// Readings that went because the outbox was full.
    pub dropped: u32,
    /// Bytes that wait in the outbox.
    pub waiting: u32,
    /// Connections so far.
    pub connects: u32,
}

/// What a node does when it is told on `plant.<name>.command`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Take a reading so often.
    Interval {
        /// In ms; at least 50.
        ms: u32,
    },
    /// Switch the heater.
    Heater {
        /// On or off.
        on: bool,
    },
}

/// What a node is, or is to be: the keys `<name>.reported` and `<name>.desired` of the bucket `shadow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// Time between readings, in ms.
    pub interval_ms: u32,
    /// The heater is on.
    pub heater: bool,
}
