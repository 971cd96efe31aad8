//! Drives midge from outside, through the same doors as everyone else.
//!
//! The heart is a corpus of transcripts, `scripts/<topic>/*.nats`: each reads like a capture of a few
//! connections and is played against several targets. nats-server, pinned, is the reference: what it does is
//! what a script says, and where midge means to differ the script carries both captures and the reason.
//!
//! * [`script`]: the language, text to steps.
//! * [`cast`]: the keys and tokens that a script names.
//! * [`run`]: plays a script's steps over connections and judges what comes back.
//! * [`target`]: what a script can be played on, and the seam between runner and target.
//! * [`daemon`]: a server process: started in its own directory, watched, and ended whatever happens.
//! * [`sim`]: a server inside the test, on a clock of its own.
//! * [`process`]: any other program that a test runs.
//! * [`peer`]: a connection by hand, for tests that are about something else.
//! * [`foreign`]: what tests need of async-nats.
//! * [`shape`]: JSON without its values.
//! * [`corpus`]: the scripts on disk, played on every target, and the table of differences made from them.

pub mod cast;
pub mod corpus;
pub mod daemon;
pub mod foreign;
mod frame;
mod mask;
pub mod peer;
pub mod process;
pub mod run;
pub mod script;
pub mod shape;
pub mod sim;
pub mod target;
