//! What joins the engine of streams to a broker.
//!
//! ```text
//!   broker ── letters, interest ──> input ──> Engine ──> output ──> Outputs ──> broker
//!   broker ── its accounts ──> Accounts ──> Engine's accounts
//!   configuration ──> settings ──> Engine
//! ```
//!
//! Neither knows the other: [`midge_broker`] no streams, [`midge_stream`] no connections. Here one's words are put into the
//! other's, for whoever runs both: the daemon's storage thread, the simulator of the tests, and what counts instructions.
//! When that is, and on which thread and disk, is theirs to say.

mod accounts;
mod letters;
mod outputs;
mod settings;

pub use accounts::{Accounts, Change, Wanted};
pub use letters::{input, interest, message, moment};
pub use outputs::Outputs;
pub use settings::settings;
