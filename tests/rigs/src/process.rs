//! Processes by id: children, memory, signals.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::time::Timespec;

/// The last of the chain of children that starts with a process: what strace started, not strace.
pub fn innermost(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    match children.split_whitespace().next().and_then(|child| child.parse().ok()) {
        Some(child) => innermost(child),
        None => pid,
    }
}

/// Most memory that a process has had resident, in bytes.
pub fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// Kills a process of ours.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Asks a process of ours to end.
pub fn terminate(pid: u32) {
    signal(pid, Signal::TERM);
}

/// Waits until a process has ended, reaped or not; false if it hasn't by then.
pub fn wait_until_gone(pid: u32, patience: Duration) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return true };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let limit = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: 0 };
    poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process(pid, signal).ok();
    }
}

/// A directory in memory for stores that only a process ends, never the machine. Removed when it is dropped.
pub fn place() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { PathBuf::from(memory) } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("rigs.").tempdir_in(parent)
}

/// A control group that limits memory, removed when it is dropped.
pub struct Limit {
    group: PathBuf,
}

impl Limit {
    /// A group that may use so many bytes; none if this machine lets us make none.
    pub fn new(bytes: u64) -> Option<Self> {
        let (parent, file) = if Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            ("/sys/fs/cgroup", "memory.max")
        };
        let group = Path::new(parent).join(format!("rigs-{}", std::process::id()));
        fs::create_dir(&group).ok()?;
        let limit = Self { group };
        fs::write(limit.group.join(file), bytes.to_string()).ok()?;
        Some(limit)
    }

    /// Words that start a command within the group.
    pub fn prefix(&self) -> Vec<String> {
        let procs = self.group.join("cgroup.procs");
        let script = format!("echo $$ >'{}' && exec \"$@\"", procs.display());
        ["sh".into(), "-c".into(), script, "sh".into()].to_vec()
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        fs::remove_dir(&self.group).ok();
    }
}
