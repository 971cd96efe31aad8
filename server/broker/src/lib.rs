//! The shared core of the daemon: who is connected, who wants what, and what each connection is still owed.
//!
//! ```text
//!   bytes in ──> Session ──> Broker ──> Router (per account)
//!   (one per         │          │
//!    connection)     │          └──> Stage of every subscriber ──> Outbox ──> bytes out
//!                    └── -ERR, +OK, INFO, PONG ──┘
//! ```
//!
//! No I/O, no clock, no locks but the [`Outbox`]'s own: a driver brings bytes and the time, and takes bytes away. The
//! daemon does so with sockets, the tests with vectors and a counter.
//!
//! A driver's turn, once per read: lock the broker, [`Session::receive`], [`Broker::flush`], unlock, then write the
//! outboxes that flush named. Timers are [`Broker::deadline`] and [`Broker::tick`].
//!
//! **Invariants.** A [`Session`] is the only code that answers a client. A delivery is an append to a bounded buffer,
//! so a broker call never waits. What a closing connection subscribed to is gone when the call that closed it
//! returns.

mod account;
mod alarm;
mod auth;
mod backoff;
mod broker;
mod budget;
mod claims;
mod closed;
mod configure;
mod conn;
mod identity;
mod inside;
mod interest;
#[cfg(feature = "leafnode")]
mod leaf;
#[cfg(not(feature = "leafnode"))]
#[path = "no_leaf.rs"]
mod leaf;

mod notice;
mod outbox;
mod publish;
mod rate;
mod replies;
mod security;
mod session;
mod settings;
mod sort;
mod subs;
pub mod system;
mod tokens;
mod trace;
mod watch;

pub use account::export::{
    Access, Export, Exports, Latency, RESPONSE_THRESHOLD, Response, ServiceExport, StreamExport,
};
pub use account::import::{
    Activation, Crossing, CrossingProblem, Imports, ServiceImport, StreamImport, crossing_problems,
};
pub use account::{Account, AccountId, GLOBAL_ACCOUNT, Imported, OpenRequest, SYSTEM_ACCOUNT};
pub use auth::{
    AccountClaims, Answer, CALLOUT_SUBJECT, Callout, CalloutRule, CertificateNames, Certificates, Consulted,
    Directory, DistinguishedName, Elsewhere, Identity, Line, LineDevice, Permit, Proof, Question, Responses,
    Rules, Secret, Trust, User, Warrant, Way,
};
pub use backoff::Backoff;
pub use broker::{Broker, Now, Refusals, Stall, Stats};
pub use closed::{CloseReason, ClosedConn};
pub use conn::{Conn, ConnId, Counters, Peer, Port};
pub use identity::ServerKeys;
pub use inside::{InsideSub, Letter, MailboxId, Post, Rings, Traced};
pub use leaf::UplinkInfo;
#[cfg(feature = "leafnode")]
pub use leaf::{Parting, Uplink};
pub use midge_jwt::Zones;
pub use midge_protocol::time::Instant;
pub use midge_router::mapping::{Destination, Mapping, MappingError, Outcome};
pub use notice::{Level, Notice};
pub use outbox::{Attention, Batch, Chunk, Outbox};
pub use rate::{Rate, Rates};
pub use security::{PeerCertificate, TlsFacts, TlsOffer};
pub use session::{Next, Received, Session};
pub use settings::{
    AccountLimits, AccountSettings, ServerInfo, Settings, StreamShare, Tracing, WebSocketSettings,
};
pub use subs::Sub;
pub use trace::StreamStep;
pub use watch::{Heard, Interest};
