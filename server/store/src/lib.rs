//! The durable log under the streams.
//!
//! One log for all streams of a disk: whatever they stage together goes to the disk as one frame, with one write and one
//! sync, and an idle stream costs no file. The log is a sequence of segments, files of one size that were filled with
//! zeros once and are recycled; no page of a segment is written twice, so nothing that was acknowledged is ever under
//! way. `FORMAT.md` beside this crate draws the bytes and argues why no power cut, flipped bit or full disk loses
//! what a [`commit`](Store::commit) returned `Ok` for.
//!
//! ```
//! use midge_store::{Append, Options, Store, disk::sim::SimDisk};
//!
//! let (mut store, _) = Store::open(SimDisk::new(1), Options { segment_bytes: 1 << 20, ..Options::default() })?;
//! let stream = store.create_stream(b"configuration")?;
//! let seq = store.append(stream, &Append { subject: b"a.b", payload: b"21.5", ..Append::default() })?;
//! store.commit()?; // now it is on the disk
//! assert_eq!(store.read(stream, seq).unwrap().unwrap().payload, "21.5");
//! # Ok::<(), midge_store::Error>(())
//! ```
//!
//! No thread, no clock, no randomness: [`Store::maintain`] gets the time, [`Options::seed`] the salt. Files are touched
//! behind the trait [`Disk`](disk::Disk) only.
//!
//! # Memory
//!
//! Seven to nine bytes for a message, about 50 and its text for a subject, the states as they are, and what is
//! staged. Reads go through the system's page cache; the store has none of its own.

mod ahead;
mod checksum;
mod chunk;
mod clean;
mod commit;
pub mod disk;
mod error;
mod frame;
mod header;
mod index;
mod load;
mod maintain;
mod op;
mod query;
mod reclaim;
mod record;
mod recover;
mod repair;
mod replay;
mod roll;
mod room;
mod scan;
mod scrub;
mod segment;
mod select;
mod store;
mod stream;
mod subjects;

pub use error::{Damage, Damaged, Error, ReadError};
pub use maintain::Maintained;
pub use recover::Report;
pub use repair::{Repaired, repair};
pub use room::Change;
pub use select::Select;
pub use store::{Append, Erase, Health, Message, Options, Store, StreamId, StreamState, Usage};
pub use stream::State;
