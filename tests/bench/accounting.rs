//! What the kernel has written down about a server's process.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// A process that is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pid: u32,
    /// Counts ns of all its threads, those that ended too.
    clock: ClockId,
}

impl Account {
    pub(crate) fn of(pid: u32) -> Result<Self, String> {
        let raw = i32::try_from(pid).map_err(|_| format!("{pid} is no process"))?;
        let clock = clock_getcpuclockid(Pid::from_raw(raw)).map_err(|error| format!("CPU clock: {error}"))?;
        Ok(Self { pid, clock })
    }

    /// CPU time used so far, user and system.
    pub(crate) fn cpu(&self) -> Result<Duration, String> {
        clock_gettime(self.clock).map(Duration::from).map_err(|error| format!("CPU clock: {error}"))
    }

    /// Resident memory now, in bytes. Counted page by page, so exact.
    pub(crate) fn resident(&self) -> Result<u64, String> {
        kilobytes(&self.file("smaps_rollup")?, "Rss:")
    }

    /// The most that ever was resident, in bytes.
    pub(crate) fn resident_max(&self) -> Result<u64, String> {
        kilobytes(&self.file("status")?, "VmHWM:")
    }

    /// Times that one of its threads gave up or lost a processor: about as many as wake-ups.
    pub(crate) fn switches(&self) -> Result<u64, String> {
        let directory = format!("/proc/{}/task", self.pid);
        let mut sum = 0;
        for task in fs::read_dir(&directory).map_err(|error| format!("{directory}: {error}"))? {
            let Ok(task) = task else { continue };
            // A thread may end while it is looked at.
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
            for key in ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"] {
                sum += number(&status, key)?;
            }
        }
        Ok(sum)
    }

    /// Resident memory once it has come to rest: unchanged within 1 % for half a second, or after `patience`.
    pub(crate) fn settled(&self, patience: Duration) -> Result<u64, String> {
        const STEP: Duration = Duration::from_millis(100);
        let deadline = Instant::now() + patience;
        let mut calm = 0;
        let mut last = self.resident()?;
        while calm < 5 && Instant::now() < deadline {
            thread::sleep(STEP);
            let now = self.resident()?;
            calm = if now.abs_diff(last) * 100 <= last { calm + 1 } else { 0 };
            last = now;
        }
        Ok(last)
    }

    fn file(&self, name: &str) -> Result<String, String> {
        let path = format!("/proc/{}/{name}", self.pid);
        fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
    }
}

fn kilobytes(text: &str, key: &str) -> Result<u64, String> {
    Ok(number(text, key)? * 1024)
}

/// The number behind `key` at the start of a line.
fn number(text: &str, key: &str) -> Result<u64, String> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("the kernel says nothing of {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_an_account() {
        let account = Account::of(std::process::id()).unwrap();
        let before = account.cpu().unwrap();
        let mut sum = 0_u64;
        while account.cpu().unwrap() == before {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        let resident = account.resident().unwrap();
        assert!(resident > 100_000, "{resident}");
        assert!(account.resident_max().unwrap() >= 100_000);
        assert!(account.switches().is_ok());
    }

    #[test]
    fn keys_stand_at_the_start_of_a_line() {
        let text = "nonvoluntary_ctxt_switches:\t3\nvoluntary_ctxt_switches:\t150\nRss:    12 kB\n";
        assert_eq!(number(text, "voluntary_ctxt_switches:"), Ok(150));
        assert_eq!(kilobytes(text, "Rss:"), Ok(12_288));
        assert!(number(text, "Pss:").is_err());
    }
}
