//! midged as a process that is configured, watched, told and loaded. One program: each costs a link.

mod cli;
mod limits;
mod monitor;
mod reload;
mod stress;
mod system;
mod threads;
mod uplink;
