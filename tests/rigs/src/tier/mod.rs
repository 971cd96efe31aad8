//! The ways to hurt a store.

pub mod calls;
pub mod card;
pub mod cut;
pub mod flip;
pub mod full;
pub mod kill;
pub mod large;
pub mod rate;
