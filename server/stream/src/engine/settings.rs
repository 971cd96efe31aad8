//! What the engine is told once.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::calendar::Trust;
use crate::config::Limits;
use crate::sync::{SYNC_EVERY, Sync};

/// What the engine is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name by which these streams are told from those of a hub.
    pub domain: Option<String>,
    /// Subjects that messages are acknowledged on, and flow control is answered on, name domain and account. Answers on
    /// either form are taken. Source: nats-server's feature flag `js_ack_fc_v2`.
    pub long_acks: bool,
    /// Requests with unknown members are refused.
    pub strict: bool,
    /// Bytes of all streams in memory; `None`: any number.
    pub memory_bytes_max: Option<u64>,
    /// Bytes of all streams on disk; `None`: any number.
    pub file_bytes_max: Option<u64>,
    /// Further ceilings.
    pub limits: Limits,
    /// The server's name.
    pub server_name: String,
    /// Names that nobody chose are made of it.
    pub seed: u64,
    /// Time zones by their names, for schedules.
    pub zones: Zone,
    /// Which wall clock is believed.
    pub trust: Trust,
    /// When streams are made safe that don't say it.
    pub sync: Sync,
    /// How often those are that want it neither always nor never.
    pub sync_every: Duration,
}

/// Gives a time zone by its name.
pub type Zone = fn(&str) -> Option<TimeZone>;

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: None,
            long_acks: false,
            strict: true,
            memory_bytes_max: None,
            file_bytes_max: None,
            limits: Limits::default(),
            server_name: String::new(),
            seed: 0,
            zones: |name| (name == "UTC").then_some(TimeZone::UTC),
            trust: Trust::default(),
            sync: Sync::Always,
            sync_every: SYNC_EVERY,
        }
    }
}
