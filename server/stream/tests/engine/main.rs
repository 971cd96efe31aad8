//! The engine as its driver sees it, on a disk that loses what was not committed.

mod consumers;
mod copies;
mod model;
mod publishing;
mod renames;
mod streams;
mod world;
