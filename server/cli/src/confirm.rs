//! What can't be undone is asked about.

use std::io::{self, IsTerminal, Write};

use crate::cli::Force;
use crate::exit::{Failure, Outcome};

/// Returns if it shall be done: because of `--force`, or because someone at a terminal says so.
///
/// `what` completes "Really …?". Where nobody can be asked, nothing is done.
pub(crate) fn confirm(force: Force, what: &str) -> Outcome {
    if force.force {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(format_args!(
            "would {what}: say --force, there is no terminal to ask on"
        )));
    }
    eprint!("Really {what}? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::runtime(format_args!("no answer: {error}")))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::runtime("nothing was changed")),
    }
}
