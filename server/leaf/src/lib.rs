//! Leaf nodes without sockets: what a server says to the hub that it hangs below, and what it hears.
//!
//! ```text
//!   dialler ── which address, and when ──> the driver connects
//!   hub     <── INFO ── what the hub says of itself ── Link::receive ── CONNECT ──> hello
//!   interest ── what clients here want, once each ── LS+, LS- ──> hub
//!   hub ── LS+, LS-, LMSG ── Link::receive ── Heard ──> the broker
//! ```
//!
//! [`Link`] is one connection's conversation, from INFO to the end: operations in, what they mean out. [`Interest`] counts
//! what is subscribed to here and says what the hub must hear of it. [`Dialler`] knows the addresses and how long to wait.
//! The broker routes, the daemon has sockets and clocks; here are values.

mod credentials;
mod dialler;
mod fault;
mod hello;
mod hub;
mod interest;
mod link;
mod url;

pub use credentials::{Credentials, CredentialsError, Key};
pub use dialler::Dialler;
pub use fault::Fault;
pub use hello::Identity;
pub use hub::{Hub, Rules};
pub use interest::{Change, Interest};
pub use link::{Heard, LOOP_PREFIX, Link};
pub use url::{HubUrl, UrlError};
