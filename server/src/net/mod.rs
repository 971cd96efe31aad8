//! Sockets: where connections come from, and the task that each of them is.

mod conn;
pub(crate) mod flush;
mod listen;
mod refuse;
mod tls;
mod wire;

pub(crate) use conn::run_local;
pub(crate) use listen::{Listener, Protocol};
pub(crate) use tls::{Acceptor, Keeper};
pub(crate) use wire::Handle;
