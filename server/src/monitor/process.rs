//! What the operating system knows of the process.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use midge_broker::Instant;
use rustix::time::{ClockId, clock_gettime};

/// Resident memory in bytes; 0 where the system doesn't tell.
pub(super) fn memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Bytes that the process had written to disks; `None` where the system doesn't count them.
pub(super) fn written() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).and_then(|bytes| bytes.parse().ok())
}

/// Bytes that are free to us, and all there are, on the file system of a directory that exists.
pub(super) fn space(directory: &Path) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(directory).ok()?;
    Some((found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize)))
}

/// How much of a core the process used lately. Nothing is measured but when somebody asks.
#[derive(Default)]
pub(super) struct CpuMeter(Mutex<Sample>);

#[derive(Clone, Copy, Default)]
struct Sample {
    at: Instant,
    used: Duration,
    percent: f64,
}

/// Who asks sooner gets the last figure once more, as in nats-server, which measures each second.
const WINDOW: Duration = Duration::from_secs(1);

impl CpuMeter {
    /// Percent of one core since the last measurement, in steps of 0.1; more than 100 if several were busy.
    pub(super) fn percent(&self, now: Instant) -> f64 {
        let used = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.since(last.at);
        if elapsed >= WINDOW {
            let share = used.saturating_sub(last.used).as_secs_f64() / elapsed.as_secs_f64();
            *last = Sample { at: now, used, percent: (share * 1000.0).round() / 10.0 };
        }
        last.percent
    }
}
