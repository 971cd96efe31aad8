//! A broker without sockets: who gets what, who may, and what it costs. One program: the broker is compiled for each that tests it.

mod accounts;
#[cfg(feature = "leafnode")]
mod hubs;
mod memory;
mod model;
mod order;
mod permissions;
mod world;
