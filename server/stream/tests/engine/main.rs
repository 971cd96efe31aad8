//! The engine as its driver sees it, on a disk that loses what was not committed.

mod consumers;
mod copies;
mod failures;
mod model;
mod publishing;
mod renames;
mod snapshots;
mod streams;
mod world;
