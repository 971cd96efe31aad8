//! What the project says of itself: that layers, differences, security and the comparison are as they are written down.

mod bench;
mod compat;
mod formats;
mod layers;
mod security;
mod unrun;
