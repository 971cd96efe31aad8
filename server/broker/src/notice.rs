//! What the operator should hear of: values, because the core writes no log.

use std::fmt;

/// How much an operator cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every operation on the wire.
    Trace,
    /// The life of each connection.
    Debug,
    /// What a calm log holds.
    Info,
    /// Something to look at.
    Warn,
    /// Something went wrong.
    Error,
}

/// One line for the log.
#[derive(Clone, Debug)]
pub struct Notice {
    /// How much an operator cares.
    pub level: Level,
    /// The line, with the connection that it is about in front, as nats-server writes it.
    pub text: String,
}

impl Notice {
    pub(crate) fn new(level: Level, text: impl fmt::Display) -> Self {
        Self { level, text: text.to_string() }
    }
}
