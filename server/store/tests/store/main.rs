//! What a store keeps, forgets, refuses, costs and survives. One program: the store is compiled for each that tests it.

mod common;
mod crash;
mod faults;
mod measure;
mod memory;
mod model;
mod rot;
