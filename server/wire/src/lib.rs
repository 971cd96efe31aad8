//! What every message passes in the daemon, from the session to the socket.
//!
//! ```text
//!   bytes read ──> receive ──> Session, Broker ──> flush ──> outboxes noted
//!                                                               │ settle, run_flusher
//!          socket <── Layer (TLS, frames) <── Handle <──────────┘
//! ```
//!
//! The daemon is compiled for size, this crate for speed (see the profile in the root `Cargo.toml`). The broker is generic
//! over its connections' handles, and generic code is compiled where it is used: so [`receive`], [`inject`] and
//! [`flush()`], and all of the broker that they call, are compiled here, while what the daemon calls itself is small.

mod flush;
#[cfg(feature = "websocket")]
mod framed;
#[cfg(not(feature = "websocket"))]
#[path = "unframed.rs"]
mod framed;
mod layer;
mod turn;
mod wire;

pub use flush::{run_flusher, settle};
pub use layer::{Layer, with_buffer};
pub use turn::{flush, inject, receive};
pub use wire::{Accepted, Handle, Lifted, Reader};
