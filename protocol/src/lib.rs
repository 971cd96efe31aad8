//! The NATS text protocol: bytes to values and back. No heap, no I/O, no clock, no panic.
//!
//! Read a peer's bytes with [`parse`], which gives the [`op`]s; write your own with [`emit`]. The JSON that INFO and
//! CONNECT carry is in [`info`] and [`connect`]; what a subject is, in [`mod@subject`]; what a header block is, in
//! [`header`]. Over a line with noise on it, operations stand in [`frame`]s. [`error`] names what a peer can do wrong and has the text that a server answers.
//!
//! The server, the client for microcontrollers, the tests and the load generator share this crate, so there is one
//! place where bytes get a meaning.
#![no_std]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::arithmetic_side_effects)
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod client;
pub mod connect;
pub mod emit;
pub mod error;
pub mod frame;
pub mod header;
pub mod info;
pub mod json;
pub mod limits;
pub mod op;
pub mod parse;
pub mod subject;
pub mod time;
