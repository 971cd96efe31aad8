//! Subject tree: which subscriptions does a subject reach.

mod cache;
mod index;
mod label;
mod matches;
mod router;
mod slab;
mod tree;

pub use matches::Matches;
pub use router::{Full, Router, Stats, SubId};
