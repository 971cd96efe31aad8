//! Signals: those that come in, and those that `--signal` sends to another midged.

use std::fs;
use std::io;

use midge_config::SignalCommand;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Exit;

/// What a signal asks of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// INT: end now.
    Interrupt,
    /// TERM: end now, unless lame duck mode is ending the daemon already.
    Terminate,
    /// HUP: read the configuration again.
    Reload,
    /// USR1: open the log file again.
    Reopen,
    /// USR2: lame duck mode.
    LameDuck,
}

/// The signals of this process.
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    user1: tokio::signal::unix::Signal,
    user2: tokio::signal::unix::Signal,
}

impl Signals {
    /// From here on they come here.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.interrupt.recv() => Request::Interrupt,
            _ = self.terminate.recv() => Request::Terminate,
            _ = self.hangup.recv() => Request::Reload,
            _ = self.user1.recv() => Request::Reopen,
            _ = self.user2.recv() => Request::LameDuck,
        }
    }
}

/// Tells a running daemon something: the process that `target` names by number or by a file, or the only one there is.
pub(crate) fn send(command: SignalCommand, target: Option<&str>) -> Exit {
    let signal = match command {
        SignalCommand::LameDuck => Signal::USR2,
        SignalCommand::Stop => Signal::KILL,
        SignalCommand::Quit => Signal::INT,
        SignalCommand::Term => Signal::TERM,
        SignalCommand::Reopen => Signal::USR1,
        SignalCommand::Reload => Signal::HUP,
    };
    let sent = find(target).and_then(|pid| {
        kill_process(pid, signal).map_err(|error| format!("process {}: {error}", pid.as_raw_nonzero()))
    });
    match sent {
        Ok(()) => Exit::Ok,
        Err(error) => {
            eprintln!("midged: {error}");
            Exit::Failure
        }
    }
}

fn find(target: Option<&str>) -> Result<Pid, String> {
    let parse = |text: &str| text.trim().parse().ok().and_then(Pid::from_raw);
    match target {
        Some(text) => match parse(text) {
            Some(pid) => Ok(pid),
            None => {
                let content = fs::read_to_string(text).map_err(|error| format!("{text}: {error}"))?;
                parse(&content).ok_or_else(|| format!("{text}: holds no process id"))
            }
        },
        None => match others().as_slice() {
            [] => Err("no midged is running".to_owned()),
            [pid] => Ok(*pid),
            many => {
                let list: Vec<_> = many.iter().map(|pid| pid.as_raw_nonzero().to_string()).collect();
                Err(format!(
                    "more than one midged is running ({}): name one with --signal CMD=PID",
                    list.join(", ")
                ))
            }
        },
    }
}

/// Other processes of this program.
fn others() -> Vec<Pid> {
    let Ok(exe) = std::env::current_exe() else { return Vec::new() };
    let Some(name) = exe.file_name() else { return Vec::new() };
    let own = std::process::id();
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.file_name() == Some(name))
        })
        .filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .collect()
}
