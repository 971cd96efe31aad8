//! The n-th call fails: strace makes the first, second, third … write, sync, open, rename of a run fail, or kills the
//! program at it, until a run is too short to have such a call.

use std::fs;
use std::io;

use crate::history::{Deed, History, STREAMS};
use crate::oracle::Verdict;
use crate::process;
use crate::subject::{Start, Subject};
use crate::workload::{Driver, Tally, Workload, check};

/// Calls that fail together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// In reports.
    pub name: &'static str,
    /// As strace names them; a question mark allows it to be unknown on this machine.
    calls: &'static str,
    /// The faults that make sense.
    faults: &'static [&'static str],
}

/// What can fail. Acknowledgements are written by other calls than data in all programs here.
pub const CALLS: [Calls; 5] = [
    Calls {
        name: "write",
        calls: "pwrite64,?pwritev,?pwritev2",
        faults: &["error=EIO", "error=ENOSPC", "signal=SIGKILL"],
    },
    Calls { name: "sync", calls: "fsync,fdatasync", faults: &["error=EIO", "signal=SIGKILL"] },
    Calls {
        name: "space",
        calls: "?ftruncate,?fallocate",
        faults: &["error=EIO", "error=ENOSPC", "signal=SIGKILL"],
    },
    Calls {
        name: "name",
        calls: "?rename,renameat,?renameat2,?unlink,unlinkat,?link,?linkat,?mkdir,mkdirat",
        faults: &["error=EIO", "error=ENOSPC", "signal=SIGKILL"],
    },
    Calls { name: "open", calls: "?open,openat", faults: &["error=EIO", "error=EMFILE", "signal=SIGKILL"] },
];

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Runs with a fault.
    pub faults: u64,
    /// Of these, runs that were killed.
    pub kills: u64,
    /// Runs after which something was wrong.
    pub wrong: u64,
    /// Runs that left publishers without an answer within a second.
    pub silent: u64,
    /// How answers came.
    pub tally: Tally,
    /// Messages acknowledged.
    pub acked: u64,
    /// All verdicts together.
    pub verdict: Verdict,
}

impl Found {
    /// Adds a run with a fault, which `words` describe.
    pub(super) fn add(&mut self, words: &str, tally: &Tally, acked: usize, verdict: &Verdict) {
        self.faults += 1;
        self.acked += acked as u64;
        self.tally.add(tally);
        let silent = tally.late + tally.unanswered;
        if silent > 0 {
            self.silent += 1;
            self.verdict.say(|| format!("{words}: {silent} without a prompt answer"));
        }
        if !verdict.right() || verdict.named > 0 {
            self.wrong += 1;
            self.verdict.say(|| format!("{words}:"));
        }
        self.verdict.add(verdict);
    }
}

/// Which requests: each, or the first of them and ever fewer of the later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// 1, 2, 3, …
    Each,
    /// 1, 2, 3, 4, 6, 9, 13, …
    Growing,
}

impl Pace {
    /// The next after one.
    pub(super) fn after(self, index: u64) -> u64 {
        match self {
            Self::Each => index + 1,
            Self::Growing => index + 1 + index / 3,
        }
    }
}

/// Does `deeds` things, once for every call that can fail.
pub fn run(subject: &Subject, deeds: usize, pace: Pace, seed: u64) -> io::Result<Found> {
    let mut found = Found::default();
    for calls in CALLS {
        for fault in calls.faults {
            // Once, and from then on.
            let lasting: &[&str] = if fault.starts_with("error") { &["", "+"] } else { &[""] };
            for lasts in lasting {
                let mut index = 1;
                while one(subject, calls, fault, &format!("{index}{lasts}"), deeds, seed, &mut found)? {
                    index = pace.after(index);
                }
            }
        }
    }
    Ok(found)
}

/// One run. False if there was no such call.
fn one(
    subject: &Subject,
    calls: Calls,
    fault: &str,
    when: &str,
    deeds: usize,
    seed: u64,
    found: &mut Found,
) -> io::Result<bool> {
    let place = process::place()?;
    let log = place.path().join("strace");
    let dir = place.path().join("store");
    let mut prefix: Vec<String> = ["strace", "-f", "-qq", "-o"].map(String::from).to_vec();
    prefix.push(log.display().to_string());
    prefix.extend([
        "-e".into(),
        format!("trace={}", calls.calls),
        "-e".into(),
        format!("inject={}:{fault}:when={when}", calls.calls),
    ]);
    let mut history = History::new(seed);
    let clock = || 0;
    let mut tally = Tally::default();
    let mut killed = fault.contains("SIGKILL");
    // A store that a fault keeps from starting has promised nothing.
    if let Ok(mut instance) = subject.start(&Start { prefix, dir: dir.clone() }) {
        let mut driver = Driver::new(&mut *instance.port, &mut history, &clock, 4);
        driver.silence = SILENCE;
        // It may be gone at any time.
        let ended = Workload::create(&mut driver)
            .and_then(|()| Workload::new(seed).run(&mut driver, deeds))
            .and_then(|()| last_words(&mut driver));
        killed &= ended.is_err();
        tally = std::mem::take(&mut driver.tally);
        instance.kill()?;
    }
    let log = fs::read_to_string(&log).unwrap_or_default();
    if !killed && !log.contains("(INJECTED)") {
        return Ok(false);
    }
    let acked = history.acked_count();
    let checked = check(subject, &Start::on(&dir), &mut history);
    found.kills += u64::from(killed);
    let words = format!("{} {fault} {when}", calls.name);
    found.add(&words, &tally, acked, &checked.verdict);
    Ok(true)
}

/// Every stream answers once more, whatever it says.
pub(super) fn last_words(driver: &mut Driver<'_>) -> io::Result<()> {
    for stream in STREAMS {
        let subject = format!("{}.0", stream.name);
        driver.ask_and_wait(Deed::Publish { stream: stream.name, subject, length: 100 })?;
    }
    Ok(())
}

/// Publishers that weren't answered, after which nothing more is asked.
pub(super) const SILENCE: u64 = 4;
