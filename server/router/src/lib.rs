//! Subject router: which subscriptions does a subject reach?
//!
//! A pure data structure: no lock, no clock, no I/O, no thread. What a subject or filter is, it takes from
//! [`midge_protocol::subject`](mod@midge_protocol::subject); what a subscription is, only its caller knows. Start at [`Router`].
//!
//! # Structure
//!
//! Filters are paths of nodes, and one hash table finds the child of a node by *(node, token)*. A node stands for
//! several tokens until another filter branches off between them. After inserting `plant.*.temp`,
//! `plant.7.temp` (twice), `plant.7.hum` (once in group `w`) and `plant.>`:
//!
//! ```text
//! table: (0,plant)→2  (2,*)→1  (2,7)→4  (4,temp)→3  (4,hum)→5  (2,>)→6
//!
//! 0 root ─── 2 plant ─┬─ 1 *.temp ─ sub 0
//!            has_star │
//!            has_rest ├─ 4 7 ─┬─ 3 temp ─ sub 1 ⇄ sub 2
//!                     │       └─ 5 hum ── group w ─ sub 3
//!                     └─ 6 > ──── sub 4
//! ```
//!
//! Everything is a `u32` id into a slab of 64-slot chunks: growth copies nothing, an empty chunk is freed. A
//! node knows whether it has the children `*` and `>`, so a match asks the table only for what may be there: one
//! question for each literal token of the subject, plus one for each wildcard on its way. Subscriptions hang in
//! doubly linked lists, so that removal is a matter of constant time; so do the queue groups of a node.
//!
//! In front of the tree a cache keeps the results of recent subjects. A change of interest makes outdated only
//! the results whose first token falls into the same one of 128 classes, in constant time; a filter that starts
//! with a wildcard makes all outdated. See `cache.rs`.
//!
//! # Memory
//!
//! | part | bytes |
//! |---|---|
//! | node: parent, subscriptions, groups, children (4 each), label (15 characters inline) | 32 |
//! | its place in the table: 5 bytes a slot, 44 % to 88 % full | 6 to 11.5 |
//! | subscription: owner, next, previous | 12 |
//! | queue group, if first of its name on the filter: 32 and a place in a table | 38 to 44 |
//! | characters of a label beyond its 15: the first 7 stay, the rest in cells of 20 | 24 a cell |
//!
//! So a subscription with a filter of its own costs 50 to 56 bytes: 55 with a million of `sensors.<i>` or of
//! `plant.<i>.temp`, where it needs one node; one that branches off in the middle of an existing label adds a
//! node. An inbox `_INBOX.<22 characters>.*` costs 79, another subscription on the same filter 12. The router
//! itself is 3 KiB, the cache at most 1 MiB by default. When all subscriptions leave, all but a page goes back;
//! when most leave, tables shrink, and a chunk goes back when its 64 neighbours by age have left.
//!
//! A node that was cut stays cut until its children leave: after the worst history the tree holds one node for
//! each token, as if labels were single tokens.

mod cache;
mod index;
mod label;
pub mod mapping;
mod matches;
mod router;
mod slab;
mod tree;

pub use matches::Matches;
pub use router::{Full, Router, Stats, SubId};
