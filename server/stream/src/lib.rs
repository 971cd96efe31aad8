//! Streams and consumers: what nats-server calls JetStream.
//!
//! ```text
//!   Input ──> Engine ──> api      what clients ask about streams and consumers
//!               │    ──> stream   what is published, what goes again        ──> log: memory or disk
//!               │    ──> consumer what is read, acknowledged, sent again
//!               v
//!             Output, once it is committed
//! ```
//!
//! No sockets, no clock, no threads: a driver brings inputs and the time, and takes outputs away. See [`Engine`].
//!
//! **Invariants.** An output that follows from a change comes out after the change was committed. A message in a log is
//! changed by nobody. Whoever is sent something is named by a subject; there are no connections here.

mod api;
mod asker;
mod backup;
mod calendar;
pub mod config;
mod consumer;
mod copying;
mod cron;
mod cx;
mod engine;
pub mod error;
mod full;
mod hash;
mod headers;
mod json;
pub mod log;
mod random;
mod report;
mod seam;
mod space;
mod stream;
mod sync;
pub mod time;

pub use calendar::{ClockState, EARLIEST, Standing, Trust};
pub use engine::{Engine, Settings, Zone};
pub use midge_inquiry::{Missing, Sums, Wanted};
pub use report::{AccountReport, Report};
pub use seam::{Account, Fate, Input, Message, Output, Publish, Receipt, Tag};
pub use space::{AccountLimits, Grant, Share};
pub use sync::{SYNC_EVERY, Sync};
