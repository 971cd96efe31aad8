//! nats-server's configuration language and keys, as typed options.
//!
//! ```text
//! bytes ──parse──▶ Map (a tree that knows where it was written) ──check──▶ errors, warnings, unserved keys
//!                   └──────────────────────────────────────────▶ Options ◀── command line
//! ```
//!
//! All findings are collected, each with its `file:line:column`. Which keys midge serves is said in one table,
//! [`keys`]. Nothing here acts on the options; only [`OsFiles`] touches the disk.
//!
//! The language and the keys are nats-server 2.15.1's: reference 3.7 and 3.8, checked against the real binary.

mod account;
mod args;
mod auth;
mod block;
mod check;
mod clock;
mod diff;
mod digest;
mod jetstream;
pub mod keys;
mod leafnodes;
mod lex;
mod load;
mod loader;
mod mqtt;
mod options;
mod parse;
mod rate;
mod report;
mod serial;
mod text;
mod tls;
mod transform;
mod trust;
mod validate;
mod value;
mod websocket;

pub use account::{
    Account, AccountJetStream, AccountLimits, Crossing, Destination, Export, Import, Latency, Mapping,
    Response,
};
pub use args::{HELP, Invocation, LogFormat, Run, SignalCommand, parse_args};
pub use auth::{
    AuthCallout, Authorization, CONNECTION_TYPES, Identity, Permissions, Responses, Subjects, User,
};
pub use check::Unserved;
pub use clock::{Clock, ClockTrust};
pub use diff::{Change, Verdict, diff};
pub use digest::{config_digest, to_json};
pub use jetstream::{BatchLimits, JetStream, JetStreamLimits, Sync};
pub use leafnodes::{LeafAuthorization, LeafNodes, LeafUser, Remote};
pub use load::{Loaded, load_file, load_text, unserved};
pub use loader::{FILE_BYTES_MAX, Loader, MemoryFiles, OsFiles};
pub use mqtt::Mqtt;
pub use options::{
    GLOBAL_ACCOUNT, Keepalive, LAME_DUCK_MIN, LameDuck, Limits, Listen, Log, Monitor, Options,
    PAYLOAD_BYTES_ADVISED, SYSTEM_ACCOUNT, Secret,
};
pub use parse::{DEPTH_MAX, INCLUDES_MAX, REPEATED_BYTES_MAX, World, parse, parse_file};
pub use rate::{LoginBackoff, RateLimit, RateLimits};
pub use report::{Problem, Report};
pub use serial::{Flow, Framing, Parity, SerialLine};
pub use tls::{Certificate, HandshakeFirst, Tls, TlsVersion};
pub use trust::{Deletion, Resolver, ResolverDirectory, ResolverWeb, Trust};
pub use value::{Data, Entry, Map, Position, Value, Written};
pub use websocket::{Cookies, SimpleAuthorization, WebSocket};
