//! Ctrl-C and SIGTERM as an ordinary end for commands that would run forever.

use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Failure, Outcome};

/// From its making on, the signals no longer kill the process.
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub(crate) fn catch() -> Outcome<Signals> {
        let catch = |kind| {
            signal(kind).map_err(|error| Failure::runtime(format_args!("cannot catch signals: {error}")))
        };
        Ok(Signals { interrupt: catch(SignalKind::interrupt())?, terminate: catch(SignalKind::terminate())? })
    }

    /// Completes when the operator or the system wants us to end.
    pub(crate) async fn wanted(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
