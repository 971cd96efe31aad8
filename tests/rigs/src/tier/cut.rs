//! Power cuts on a real file system: a workload on a disk with a tape, then any state that a cut could have left.

use std::io;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::files::Files;
use crate::disk::mount::{Kind, Mounted};
use crate::disk::{Cutter, Disk, Event, Fate};
use crate::history::History;
use crate::oracle::Verdict;
use crate::subject::{Start, Subject};
use crate::workload::{Driver, Workload, check};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// States looked at.
    pub states: u64,
    /// States with something wrong.
    pub wrong: u64,
    /// States of which no file system could be mounted.
    pub unmountable: u64,
    /// Messages acknowledged in all of the workload.
    pub acked: u64,
    /// Writes and flushes on the tape.
    pub tape: (u64, u64),
    /// All verdicts together.
    pub verdict: Verdict,
}

/// Does `deeds` things, and looks at `states` states of the disk.
pub fn run(subject: &Subject, kind: Kind, deeds: usize, states: usize, seed: u64) -> io::Result<Found> {
    let files = Files::mount()?;
    let disk = Disk::new(kind.size(), Duration::ZERO);
    let mounted = Mounted::fresh(&files, &disk, kind)?;
    disk.record();
    let mut history = History::new(seed);
    {
        let mut instance = subject.start(&Start::on(&mounted.path().join("store")))?;
        let clock = || disk.position();
        let mut driver = Driver::new(&mut *instance.port, &mut history, &clock, 8);
        Workload::create(&mut driver)?;
        Workload::new(seed).run(&mut driver, deeds)?;
        instance.kill()?;
    }
    let end = disk.position();
    mounted.unmount()?;
    let mut tape = disk.take_tape();
    // What unmounting wrote came after all.
    tape.events.truncate(end as usize);
    let flushes = tape.events.iter().filter(|event| matches!(event, Event::Flush)).count() as u64;
    let mut found =
        Found { acked: history.acked_count() as u64, tape: (end - flushes, flushes), ..Found::default() };

    let mut random = StdRng::seed_from_u64(seed ^ 0xc07);
    let mut positions: Vec<usize> = (0..states).map(|_| random.random_range(0..=end as usize)).collect();
    positions.sort_unstable();
    let mut cutter = Cutter::new(&tape);
    for (index, position) in positions.into_iter().enumerate() {
        let fate = Fate::of(index);
        let state = Disk::with(cutter.cut(position, fate, &mut random), kind.size(), Duration::ZERO);
        let mounted = match Mounted::new(&files, &state, kind) {
            Ok(mounted) => mounted,
            Err(error) => {
                found.unmountable += 1;
                found.verdict.say(|| format!("state {index} at {position}, {fate:?}: {error}"));
                continue;
            }
        };
        let mut known = history.until(position as u64);
        let checked = check(subject, &Start::on(&mounted.path().join("store")), &mut known);
        mounted.unmount()?;
        found.states += 1;
        if !checked.verdict.right() || checked.verdict.named > 0 {
            found.wrong += 1;
            found.verdict.say(|| format!("state {index} at {position} of {end}, {fate:?}:"));
        }
        found.verdict.add(&checked.verdict);
    }
    Ok(found)
}
