//! Identities that are keys: nkeys, and the tokens that they sign.
//!
//! ```text
//!   operator   whom to trust with accounts          user        who somebody is, in one account
//!   account    ceilings, exports, imports, keys     activation  leave to import something
//!   token      what they have in common: text, claims, signature
//!   template   permissions made for each user       hours, network   when and from where
//!   authorization   what a service is asked about a user, and what it says
//!   sealed          messages that only one other can read
//! ```
//!
//! Pure: bytes in, values out, no I/O and no clock. What costs more than a look at some bytes says so: a signature
//! takes 40 to 60 µs to check on a server's core and ten times that on a small board's.
//!
//! Reading a token verifies that whoever it names has signed it. Whether that is somebody to trust, and whether what it
//! says makes sense, is asked separately (`problems`), as nats-server does: some of it counts at a login only.
//!
//! Sources: the libraries `nkeys` and `jwt/v2` of nats-io, which nats-server 2.15.1 uses, and its transcripts.

mod account;
mod activation;
mod authorization;
mod crossing;
mod hours;
mod network;
pub mod nkey;
mod operator;
mod permissions;
mod sealed;
mod template;
mod token;
mod user;

pub use account::{
    Account, ExternalAuthorization, Limits, MsgTrace, Scope, SigningKeys, StreamLimits, Template,
    WeightedMapping, ceiling,
};
pub use activation::Activation;
pub use authorization::{
    AuthorizationRequest, AuthorizationResponse, ClientInformation, ClientTls, ConnectOptions, ServerId,
};
pub use crossing::{Export, Import, Kind as Crossing, Revocations, ServiceLatency, is_revoked};
pub use hours::{Hours, TimeRange, Utc, Zones};
pub use network::Network;
pub use nkey::{KeyPair, Kind, PublicKey, signature};
pub use operator::{Deletion, Operator};
pub use permissions::{Permission, Permissions, ResponsePermission};
pub use sealed::CurveKey;
pub use template::{Unfit, fill};
pub use token::{Body, Claims, Refused, TOKEN_BYTES_MAX, Token, sign, undecorated};
pub use user::{Grant, NO_LIMIT, Networks, User};
