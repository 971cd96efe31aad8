//! TLS without sockets, over rustls.
//!
//! * [`ServerTls`]: what handshakes are offered, by a `tls` block and the files that it names.
//! * [`ClientTls`]: the same where this side is the client.
//! * [`Certificate`]: what a certificate says of its owner, in the words that nats-server uses.
//! * [`Record`]: the record layer of one connection, bytes to bytes.
//! * [`describe`]: what went wrong, in nats-server's words.
//!
//! rustls does all cryptography and all of the protocol, with ring. What it can't honour of a configuration is an
//! error or a warning, never silence.

mod certificate;
mod client;
mod failure;
mod picker;
mod record;
mod server;
mod subject;
mod suites;
mod verifier;

pub use certificate::{Certificate, PeerCertificate, Unreadable};
pub use client::ClientTls;
pub use failure::describe;
pub use record::{Failure, Progress, Record};
pub use server::{Loaded, ServerTls};
pub use subject::Subject;
