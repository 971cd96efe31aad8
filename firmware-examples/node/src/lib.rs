//! A sensor node: what all firmware in this directory does, on whatever board.
//!
//! - publishes a [`Reading`] each interval, through an outbox, into the stream `READINGS`, where each is stored once: also
//!   those that were taken while the broker was away;
//! - says hello with headers when it has connected;
//! - answers requests on `plant.<name>.status` with a [`Status`];
//! - takes [`Command`]s one by one from the consumer `<name>` of the stream `COMMANDS`;
//! - keeps its [`Shadow`] in the key-value bucket `shadow`: follows `<name>.desired`, writes `<name>.reported`.
//!
//! A board gives it a clock, a thermometer, a heater and a place for log lines, which is [`Board`], and a way to the
//! broker: [`blocking::Uplink`] or [`asynchronous::Uplink`]. Both drive the same [`Node`], which does no I/O.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "asynchronous")]
pub mod asynchronous;
pub mod blocking;
mod board;
mod log;
mod names;
mod node;
mod serial;
mod thermometer;
mod values;

pub use board::{Board, Room};
pub use log::Log;
pub use midge_client::{Instant, Login, Records};
pub use names::Names;
pub use node::{Memory, Node};
pub use thermometer::Thermometer;
pub use values::{Command, Reading, Shadow, Status};

#[doc(hidden)]
pub use midge_client::subject as __subject;
