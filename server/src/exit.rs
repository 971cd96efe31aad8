//! How the process ends, for scripts and service managers.

use std::process::ExitCode;

/// What became of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As asked.
    Ok,
    /// Something failed while running.
    Failure,
    /// The command line makes no sense.
    Usage,
    /// An address can't be listened on now; trying again may help. BSD's EX_TEMPFAIL.
    Unavailable,
    /// The configuration is wrong; trying again won't help. BSD's EX_CONFIG.
    Config,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Unavailable => 75,
            Exit::Config => 78,
        })
    }
}
