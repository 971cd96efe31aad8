//! Sockets: where connections come from, and the task that each of them is.

mod conn;
mod listen;
mod refuse;
mod tls;

pub(crate) use conn::run_local;
pub(crate) use listen::{Listener, Protocol};
pub(crate) use tls::{Acceptor, Keeper};
