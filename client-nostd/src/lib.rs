//! A NATS client for microcontrollers: no heap, no unsafe, no panic.
#![no_std]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::arithmetic_side_effects)
)]

mod backoff;
pub mod blocking;
mod buffer;
mod client;
mod connection;
mod error;
pub mod jetstream;
#[cfg(feature = "nkey")]
pub mod nkey;
pub mod outbox;
#[cfg(feature = "std")]
pub mod tcp;

pub use backoff::{Backoff, Servers};
pub use client::Client;
pub use connection::Connection;
pub use error::{Error, Lost, Remedy};
pub use midge_protocol::client::{
    Config, Error as Refused, Event, Flush, Login, Message, Oversized, Publish, Server, ServerError, Sid,
    Silence, Token,
};
pub use midge_protocol::error::Rule;
pub use midge_protocol::header;
pub use midge_protocol::subject;
pub use midge_protocol::subject::Subject;
pub use midge_protocol::time::Instant;
