//! The engine as its driver sees it, on a disk that loses what was not committed.

mod accounts;
mod batches;
mod clock;
mod consumers;
mod copies;
mod costs;
mod counters;
mod dead;
mod failures;
mod full;
mod groups;
mod links;
mod model;
mod plans;
mod publishing;
mod renames;
mod rules;
mod schedules;
mod snapshots;
mod streams;
mod sync;
mod world;
