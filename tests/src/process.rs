//! A program under test, or one that tests: its lines are collected as they come, and its end is ours.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::daemon::{Lines, PATIENCE};

/// A running program and what it starts. Dropping it kills all of them.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Its id may be somebody else's by now.
    ended: bool,
    stdout: Lines,
    stderr: Lines,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// All that it wrote on the standard output.
    pub stdout: String,
    /// All that it wrote on the standard error output.
    pub stderr: String,
}

impl Process {
    /// Starts `command` with nothing to read.
    pub fn start(command: &mut Command) -> Result<Self, String> {
        let command =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|err| format!("{name}: {err}"))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("no pipes to the program".into());
        };
        let (stdout, stderr) = (Lines::collect(stdout), Lines::collect(stderr));
        Ok(Self { child, ended: false, stdout, stderr })
    }

    /// Its lines on the standard output.
    pub fn stdout(&self) -> &Lines {
        &self.stdout
    }

    /// Its lines on the standard error output.
    pub fn stderr(&self) -> &Lines {
        &self.stderr
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        kill_process(self.leader().ok_or("no process")?, signal).map_err(|err| err.to_string())
    }

    /// Waits for its end, and for the last of its lines.
    pub fn end(mut self) -> Result<Ended, String> {
        let ended = eventually(|| self.child.try_wait().ok().flatten());
        let (stdout, stderr) = (self.stdout.clone(), self.stderr.clone());
        let Some(status) = ended else {
            return Err(format!("the program still runs; it wrote:\n{}\n{}", stdout.text(), stderr.text()));
        };
        let ended =
            Ended { code: status.code(), stdout: stdout.whole(PATIENCE)?, stderr: stderr.whole(PATIENCE)? };
        // Nobody is left of its group, or a pipe would still be open.
        self.ended = true;
        Ok(ended)
    }

    fn leader(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.leader().map(|leader| kill_process_group(leader, Signal::KILL));
            let _ = self.child.wait();
        }
    }
}

/// Looks until there is what is looked for, or for [`PATIENCE`]. For what can only be looked at, as files are.
pub fn eventually<T>(look: impl FnMut() -> Option<T>) -> Option<T> {
    let mut look = look;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = look();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        thread::park_timeout(Duration::from_millis(2));
    }
}
