//! How a command ends: what it says on stderr and the code that scripts see.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// The result of every command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command ended early. The text is one line without a full stop; `main` puts `midge: ` before it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was tried and did not work, or the server refused it.
    Runtime(String),
    /// The arguments cannot be meant: nothing was tried.
    Usage(String),
    /// Nobody answered: no server, no responder, or not in time.
    Unavailable(String),
    /// Files are damaged.
    Damaged(String),
    /// A configuration file is wrong.
    Config(String),
    /// Whoever read our output went away. `midge sub foo | head` is no error.
    OutputClosed,
}

impl Failure {
    pub(crate) fn runtime(text: impl Display) -> Failure {
        Failure::Runtime(text.to_string())
    }

    pub(crate) fn usage(text: impl Display) -> Failure {
        Failure::Usage(text.to_string())
    }

    pub(crate) fn unavailable(text: impl Display) -> Failure {
        Failure::Unavailable(text.to_string())
    }

    pub(crate) fn damaged(text: impl Display) -> Failure {
        Failure::Damaged(text.to_string())
    }

    pub(crate) fn config(text: impl Display) -> Failure {
        Failure::Config(text.to_string())
    }

    /// Says the reason on stderr and gives the exit code: clap's 2 for usage, sysexits.h for the rest.
    pub(crate) fn report(self) -> ExitCode {
        let (code, text) = match self {
            Failure::Runtime(text) => (1, text),
            Failure::Usage(text) => (2, text),
            Failure::Unavailable(text) => (69, text),
            Failure::Damaged(text) => (74, text),
            Failure::Config(text) => (78, text),
            Failure::OutputClosed => return ExitCode::SUCCESS,
        };
        if !text.is_empty() {
            eprintln!("midge: {text}");
        }
        ExitCode::from(code)
    }
}

/// Only writes to stdout use `?` on an I/O error; other sources name what they were reading.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::runtime(format_args!("cannot write the output: {error}")),
        }
    }
}
