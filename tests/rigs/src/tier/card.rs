//! The card fails: the n-th write or flush that reaches the disk below ext4 ends with an I/O error, once or from then
//! on. The kernel then drops what it couldn't write and reports that to one `fsync`; whoever asks again is told that all
//! is well. So what is there afterwards is read from the disk, not from the kernel's memory.

use std::io;
use std::time::Duration;

use super::calls::{Found, Pace, SILENCE, last_words};
use crate::disk::files::Files;
use crate::disk::mount::{Kind, Mounted};
use crate::disk::{Disk, Fault, Of};
use crate::history::History;
use crate::subject::{Start, Subject};
use crate::workload::{Driver, Workload, check};

/// Does `deeds` things, once for every request that can fail.
pub fn run(subject: &Subject, deeds: usize, pace: Pace, seed: u64) -> io::Result<Found> {
    let files = Files::mount()?;
    let blank = Disk::new(SIZE, Duration::ZERO);
    Mounted::fresh(&files, &blank, Kind::Ext4)?.unmount()?;
    let mut found = Found::default();
    for (of, lasting) in [(Of::Write, false), (Of::Write, true), (Of::Flush, false), (Of::Flush, true)] {
        // A store may write much when it is made, so what comes then is counted apart.
        for from in [From::Making, From::Serving] {
            let mut index = 1;
            loop {
                let disk = Disk::with(blank.contents(), SIZE, Duration::ZERO);
                let fault = Fault { of, after: index - 1, lasting };
                if !one(&files, &disk, subject, from, fault, deeds, seed, &mut found)? {
                    break;
                }
                index = pace.after(index);
            }
        }
    }
    Ok(found)
}

/// Where requests are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// The start of a new store.
    Making,
    /// When it is ready.
    Serving,
}

/// One run. False if there was no such request.
#[expect(clippy::too_many_arguments, reason = "the parts of one run, called in one place")]
fn one(
    files: &Files,
    disk: &std::sync::Arc<Disk>,
    subject: &Subject,
    from: From,
    fault: Fault,
    deeds: usize,
    seed: u64,
    found: &mut Found,
) -> io::Result<bool> {
    let mounted = Mounted::new(files, disk, Kind::Ext4)?;
    let mut history = History::new(seed);
    let clock = || 0;
    let mut tally = crate::workload::Tally::default();
    if from == From::Making {
        disk.set_fault(Some(fault));
    }
    if let Ok(mut instance) =
        subject.start_within(&Start::on(&mounted.path().join("store")), Duration::from_secs(5))
    {
        if from == From::Serving {
            disk.set_fault(Some(fault));
        }
        let mut driver = Driver::new(&mut *instance.port, &mut history, &clock, 4);
        driver.silence = SILENCE;
        Workload::create(&mut driver)
            .and_then(|()| Workload::new(seed).run(&mut driver, deeds))
            .and_then(|()| last_words(&mut driver))
            .ok();
        tally = std::mem::take(&mut driver.tally);
        instance.kill()?;
    }
    let happened = disk.set_fault(None);
    let left = Disk::with(disk.contents(), SIZE, Duration::ZERO);
    mounted.unmount()?;
    if !happened {
        return Ok(false);
    }
    let mounted = Mounted::new(files, &left, Kind::Ext4)?;
    let acked = history.acked_count();
    let checked = check(subject, &Start::on(&mounted.path().join("store")), &mut history);
    mounted.unmount()?;
    found.add(&format!("{from:?}: {fault:?}"), &tally, acked, &checked.verdict);
    Ok(true)
}

const SIZE: u64 = 192 << 20;
