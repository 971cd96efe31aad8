//! What a script is played on, and the seam that every target fits behind.
//!
//! The runner knows a [`World`] (one fresh server) and its [`Wire`]s (connections). Servers as processes are one
//! kind; a broker inside the test is another, on a clock that only `advance` moves, and `read` where it must wait.

use std::time::{Duration, SystemTime};

use crate::daemon::{Daemon, Program};
use crate::script::{Script, Side, Signal};
use crate::sim::Sim;

/// Where scripts are played.
#[derive(Debug, Clone)]
pub enum Target {
    /// A server process.
    Process(Program),
    /// Our daemon's core inside the test, on a clock of its own.
    Sim,
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
    /// Ends it as an operator does, and starts it again on what it has kept. All connections are gone.
    fn restart(&mut self) -> Result<(), String>;
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
    /// The server to compare with, as a process.
    pub fn reference() -> Result<Self, String> {
        Program::reference().map(Self::Process)
    }

    /// Our daemon, as a process.
    pub fn ours() -> Result<Self, String> {
        Program::ours().map(Self::Process)
    }

    /// How scripts and reports call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Process(program) => program.name(),
            Self::Sim => "sim",
        }
    }

    /// Whose side of a marked difference it takes.
    pub fn side(&self) -> Side {
        match self {
            Self::Process(Program::Reference(_)) => Side::Reference,
            Self::Process(Program::Ours(_)) | Self::Sim => Side::Ours,
        }
    }

    /// Whether `script` is for this target: real clocks play only what is over soon.
    pub fn plays(&self, script: &Script) -> bool {
        let named = script.only.is_empty() || script.only.iter().any(|name| name == self.name());
        let soon = matches!(self, Self::Sim) || script.duration() < Duration::from_secs(3);
        named && soon
    }

    /// What the calendar of a server that is started now shows, since the Unix epoch.
    pub fn now(&self) -> Duration {
        match self {
            Self::Process(_) => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            Self::Sim => crate::sim::EPOCH,
        }
    }

    /// Starts a server for `script`, with this configuration.
    pub fn start(&self, script: &Script, config: Option<&str>) -> Result<Box<dyn World>, String> {
        match self {
            Self::Process(program) => Ok(Box::new(Daemon::start(program.clone(), config, &script.flags)?)),
            Self::Sim => Ok(Box::new(Sim::start(config, &script.flags)?)),
        }
    }
}
