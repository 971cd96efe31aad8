//! The NATS text protocol: bytes to values and back. No heap, no I/O, no clock, no panic.
#![no_std]

pub mod subject;
