//! What those who watch the daemon ask of its streams, and the plain part of the answers.
//!
//! The engine answers with these values and the daemon's pages are made from them. They are a crate of their own
//! because the pages are there without streams, too.

#![no_std]

extern crate alloc;

use alloc::string::String;

/// What is wanted of a report on streams: nats-server's `JSzOptions`.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Of this account only; empty: of all.
    pub account: String,
    /// Each account's figures.
    pub accounts: bool,
    /// Each stream's, too.
    pub streams: bool,
    /// Each consumer's, too.
    pub consumers: bool,
    /// Those, too, by which others copy.
    pub direct_consumers: bool,
    /// How streams and consumers are configured.
    pub config: bool,
    /// Who leads what, as if there could be others.
    pub leaders: bool,
    /// Accounts that are left out, in the order of their names.
    pub offset: usize,
    /// Accounts at most.
    pub limit: usize,
    /// Streams and consumers at most.
    pub rows: usize,
}

/// Sums of a server's streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Bytes of all streams in memory.
    pub memory: u64,
    /// Bytes of all streams on disk.
    pub file: u64,
    /// Bytes that streams may take in memory in any case.
    pub memory_reserved: u64,
    /// Bytes that streams may take on disk in any case.
    pub file_reserved: u64,
    /// Accounts that have streams.
    pub accounts: usize,
    /// Requests since the start.
    pub requests: u64,
    /// Of those, the ones that could not be done.
    pub errors: u64,
}

/// Why there is no report on an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It has no streams, or isn't there.
    Account,
    /// It has no stream of that name.
    Stream,
    /// That stream has no consumer of that name.
    Consumer,
}
