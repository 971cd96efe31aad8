//! Sockets: where connections come from, and the task that each of them is.

mod conn;
mod habit;
mod listen;
mod refuse;
mod tls;
#[cfg(feature = "websocket")]
mod websocket;
#[cfg(not(feature = "websocket"))]
#[path = "no_websocket.rs"]
mod websocket;

pub(crate) use conn::run_local;
#[cfg(feature = "leafnode")]
pub(crate) use conn::{Joining, run_uplink};
pub(crate) use listen::{Listener, Protocol, Service};
pub(crate) use tls::{Acceptor, Keeper};
pub(crate) use websocket::Gate;
