//! What crosses between accounts and what comes from inside, on a broker without sockets.

mod answers;
mod inside;
mod leaks;
mod traces;
mod world;
