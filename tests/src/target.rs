//! What a script is played on, and the seam that every target fits behind.
//!
//! The runner knows a [`World`] (one fresh server) and its [`Wire`]s (connections). Servers as processes are one
//! kind; a broker inside the test, on a clock of its own, is another: there `advance` moves the clock and `read`
//! returns at once, because nothing can arrive that has not arrived.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::daemon::{Daemon, Program};
use crate::script::{Script, Side, Signal};

/// Where scripts are played.
#[derive(Debug, Clone)]
pub enum Target {
    /// A server process.
    Process(Program),
}

/// One server, started for one play of one script.
pub trait World {
    /// Opens a connection.
    fn connect(&mut self) -> Result<Box<dyn Wire>, String>;
    /// Whether its time passes by itself.
    fn is_real(&self) -> bool;
    /// Lets time pass.
    fn advance(&mut self, time: Duration);
    /// Replaces the configuration and returns when the server has taken or refused it.
    fn reload(&mut self, config: &str) -> Result<(), String>;
    /// Delivers a signal.
    fn signal(&mut self, signal: Signal) -> Result<(), String>;
    /// Waits for the server's end and returns its exit code.
    fn exit(&mut self, within: Duration) -> Result<i32, String>;
    /// What the server has logged.
    fn log(&self) -> String;
}

/// One connection, as a client holds it.
pub trait Wire {
    /// Sends bytes. A peer that has closed is no error here: reading tells.
    fn send(&mut self, bytes: &[u8]);
    /// Returns when the server has taken everything sent so far, so that what is sent next is read apart from it.
    fn settle(&mut self);
    /// Closes the sending half.
    fn finish(&mut self);
    /// Waits for bytes and appends them to `buffer`.
    fn read(&mut self, buffer: &mut Vec<u8>, within: Duration) -> Read;
}

/// What came of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Bytes were appended.
    Bytes,
    /// The stream has ended.
    Eof,
    /// Nothing within the time given.
    Quiet,
}

impl Target {
    /// The server to compare with: `MIDGE_REFERENCE`, else the one that `tests/setup` has installed.
    pub fn reference() -> Result<Self, String> {
        let path = match std::env::var_os("MIDGE_REFERENCE") {
            Some(path) => PathBuf::from(path),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/nats-server"),
        };
        match path.is_file() {
            true => Ok(Self::Process(Program::Reference(path))),
            false => Err(format!(
                "no {}: run tests/setup, or name a nats-server in MIDGE_REFERENCE",
                path.display()
            )),
        }
    }

    /// Our daemon: `MIDGED`, else the one built beside this test.
    pub fn ours() -> Result<Self, String> {
        let path = match std::env::var_os("MIDGED") {
            Some(path) => PathBuf::from(path),
            None => beside_this_test("midged").unwrap_or_default(),
        };
        match path.is_file() {
            true => Ok(Self::Process(Program::Ours(path))),
            false => Err(format!("no {}: run `cargo build -p midged`, or name it in MIDGED", path.display())),
        }
    }

    /// How scripts and reports call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Process(Program::Reference(_)) => "reference",
            Self::Process(Program::Ours(_)) => "ours",
        }
    }

    /// Whose side of a marked difference it takes.
    pub fn side(&self) -> Side {
        match self {
            Self::Process(Program::Reference(_)) => Side::Reference,
            Self::Process(Program::Ours(_)) => Side::Ours,
        }
    }

    /// Whether `script` is for this target: real clocks play only what is over soon.
    pub fn plays(&self, script: &Script) -> bool {
        let named = script.only.is_empty() || script.only.iter().any(|name| name == self.name());
        named && script.duration() < Duration::from_secs(3)
    }

    /// Starts a server for `script`.
    pub fn start(&self, script: &Script) -> Result<Box<dyn World>, String> {
        match self {
            Self::Process(program) => {
                Ok(Box::new(Daemon::start(program.clone(), script.config.as_deref(), &script.flags)?))
            }
        }
    }
}

/// A binary in the directory that cargo puts binaries in: that of this executable, or the one above `deps`.
fn beside_this_test(name: &str) -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let directory = executable.parent()?;
    let directory = if directory.ends_with("deps") { directory.parent()? } else { directory };
    Some(directory.join(name).with_extension(std::env::consts::EXE_EXTENSION))
}
