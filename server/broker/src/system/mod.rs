//! The server's own account: what it publishes there of itself, and what others may ask it.
//!
//! ```text
//!   events        connections that come and go, accounts' figures, the end of the server
//!   requests      who asks what: $SYS.REQ.…, handed to the driver as letters
//!   orders        what is asked of single connections and accounts
//!   client_info   a connection in events, in reports on services and in the header of requests
//!   text          how nats-server writes times and spans
//! ```
//!
//! Source: reference 3.5.

mod client_info;
mod events;
mod orders;
mod requests;
mod text;

pub use client_info::ClientInfo;
pub use events::{AccountStat, DataStats, ServerIdentity, TypedEvent};
pub use orders::NotSent;
pub use requests::Request;
pub use text::{Nanos, Time};

pub(crate) use events::System;
pub(crate) use requests::{add_exports, imports};
