//! TLS on sockets: whom we let begin a handshake, the handshake, and the way to the records after it.
//!
//! ```text
//!   tls block, PEM files ──> Acceptor ──> Keeper (the one in force; a reload replaces it)
//!                                            │ each new connection asks for it
//!                                            ▼
//!   first byte ──> handshake::establish ──> Layer::Secured(Record) inside the connection's Wire
//!                                            │
//!              its own task decrypts ────────┴──────── whoever has something for it encrypts
//! ```
//!
//! A connection holds no memory of TLS before the first byte of its peer's handshake, and between records nothing but
//! its keys. The buffers of records belong to threads.

mod acceptor;
mod handshake;

pub(crate) use acceptor::{Acceptor, Keeper};
#[cfg(feature = "websocket")]
pub(super) use handshake::secure;
pub(super) use handshake::{Offer, establish};
