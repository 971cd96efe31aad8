//! How much memory there may be, and giving it back after a rush.
//!
//! Each turn compares what is in use with the most that was in use since the last time. Once much of it is free, and
//! still is a moment later, the C library's free pages go back to the system, beside the event loop. A board that idles
//! does nothing of this: there is no timer until a turn has seen memory fall.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use midge_heap::Heap;
use tokio::sync::Notify;

#[global_allocator]
static HEAP: Heap = Heap;

/// Less than this isn't worth the work.
const FREED_MIN: usize = 1024 * 1024;
/// A rush that comes again within this time finds its memory where it was.
const CALM: Duration = Duration::from_secs(1);

/// Watches the tide of memory.
#[derive(Default)]
pub(crate) struct Memory {
    /// The most that was in use since memory was given back.
    high: AtomicUsize,
    /// Somebody was told that memory fell.
    told: AtomicBool,
    fell: Notify,
}

impl Memory {
    /// To be called after each turn.
    pub(crate) fn watch(&self) {
        let used = midge_heap::in_use();
        if used > self.high.load(Ordering::Relaxed) {
            self.high.fetch_max(used, Ordering::Relaxed);
        } else if self.has_fallen(used) && !self.told.swap(true, Ordering::AcqRel) {
            self.fell.notify_one();
        }
    }

    fn has_fallen(&self, used: usize) -> bool {
        let high = self.high.load(Ordering::Relaxed);
        high.saturating_sub(used) > FREED_MIN.max(high / 4)
    }

    /// Gives memory back, whenever it fell. Never returns.
    pub(crate) async fn run(&self) {
        loop {
            self.fell.notified().await;
            tokio::time::sleep(CALM).await;
            let used = midge_heap::in_use();
            if self.has_fallen(used) {
                let give_back = || {
                    midge_heap::give_back();
                    // Clients that come and go take other ways through the program than those that stay.
                    midge_heap::unmap_program();
                };
                // Fails only if the runtime is going.
                let _ = tokio::task::spawn_blocking(give_back).await;
                self.high.store(used, Ordering::Relaxed);
            }
            self.told.store(false, Ordering::Release);
            // What fell meanwhile was not told.
            self.watch();
        }
    }
}

/// What an idle connection with a subscription takes, about. Source: docs/BENCHMARKS.md.
const CONNECTION_BYTES: u64 = 1_850;
/// What a subscription takes, about. Source: docs/BENCHMARKS.md.
const SUBSCRIPTION_BYTES: u64 = 100;

/// The ceiling for all that the daemon holds, and why it is what it is.
pub(crate) struct Budget {
    pub(crate) bytes: u64,
    reason: String,
}

impl Budget {
    /// The configured one, or half of what this machine, or the control group that the daemon is in, has. Without
    /// either there is no ceiling.
    pub(crate) fn find(configured: Option<u64>) -> Self {
        if let Some(bytes) = configured {
            return Self { bytes, reason: "configured".to_owned() };
        }
        match most() {
            Some((whole, whose)) => {
                Self { bytes: whole / 2, reason: format!("half of the {} that {whose}", Size(whole)) }
            }
            None => Self { bytes: u64::MAX, reason: "nothing tells how much memory there is".to_owned() },
        }
    }

    /// The arithmetic, for the log.
    pub(crate) fn explain(&self, max_pending: u64) -> String {
        let Self { bytes, reason } = self;
        if *bytes == u64::MAX {
            return format!("Memory budget: none, {reason}");
        }
        format!(
            "Memory budget: {} ({reason}): about {} idle connections, or {} subscriptions, or {:.1} slow readers with \
             max_pending of {}",
            Size(*bytes),
            bytes / CONNECTION_BYTES,
            bytes / SUBSCRIPTION_BYTES,
            *bytes as f64 / max_pending.max(1) as f64,
            Size(max_pending),
        )
    }
}

/// Bytes of memory that there is for the daemon; `None` if nothing tells.
pub(crate) fn installed() -> Option<u64> {
    most().map(|(bytes, _)| bytes)
}

/// The same, and who says so: this machine or the daemon's control group, whichever has less.
fn most() -> Option<(u64, &'static str)> {
    let group = group_limit().map(|bytes| (bytes, "its control group may use"));
    let machine = machine_memory().map(|bytes| (bytes, "this machine has"));
    group.into_iter().chain(machine).min()
}

/// The smallest limit of the control groups that this process is in; `None`: no limit.
fn group_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut least = None;
    for line in groups.lines() {
        // Version 2 has one line, `0::path`; version 1 one for each controller, `4:memory:path`.
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // A limit of a group above holds, too; in a container the path may not be visible, but its own root is.
        let mut path = std::path::Path::new(path.trim_start_matches('/'));
        loop {
            let text = std::fs::read_to_string(std::path::Path::new(root).join(path).join(file));
            let limit = text.ok().and_then(|text| text.trim().parse::<u64>().ok());
            least = least.into_iter().chain(limit).min();
            match path.parent() {
                Some(parent) => path = parent,
                None => break,
            }
        }
    }
    // Version 1 says "no limit" with a number near 2^63.
    least.filter(|bytes| *bytes < 1 << 62)
}

/// Bytes of memory of this machine.
fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Bytes as people write them.
struct Size(u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = self.0 as f64 / (1024.0 * 1024.0);
        if mib >= 1024.0 { write!(f, "{:.1} GiB", mib / 1024.0) } else { write!(f, "{mib:.1} MiB") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_there_is() {
        let machine = machine_memory().expect("Linux says how much memory there is");
        let budget = Budget::find(None);
        assert!(budget.bytes <= machine / 2 && budget.bytes > 0);
        assert_eq!(Budget::find(Some(128 << 20)).bytes, 128 << 20);
        let said = Budget::find(Some(128 << 20)).explain(64 << 20);
        assert!(said.starts_with("Memory budget: 128.0 MiB (configured): about 72550 idle"), "{said}");
        assert!(said.ends_with("or 2.0 slow readers with max_pending of 64.0 MiB"), "{said}");
    }
}
