//! `kill -9` at any moment under load, again and again on the same store.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::history::History;
use crate::oracle::Verdict;
use crate::process;
use crate::subject::{Start, Subject};
use crate::workload::{Driver, Workload, check};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Kills.
    pub kills: u64,
    /// Kills after which something was wrong.
    pub wrong: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// All verdicts together.
    pub verdict: Verdict,
}

/// Kills a store `kills` times, each within `longest` of its being ready. Every tenth time it starts with a new store.
pub fn run(subject: &Subject, kills: u64, longest: Duration, seed: u64) -> io::Result<Found> {
    let mut found = Found::default();
    let mut random = StdRng::seed_from_u64(seed);
    let mut place = process::place()?;
    let mut history = History::new(seed);
    let mut fresh = true;
    for kill in 0..kills {
        fresh |= kill % 10 == 0;
        let create = std::mem::take(&mut fresh);
        if create {
            place = process::place()?;
            history = History::new(seed.wrapping_add(kill));
        }
        let start = Start::on(&place.path().join("store"));
        let mut instance = subject.start(&start)?;
        let pid = instance.pid;
        let after = Duration::from_micros(random.random_range(0..longest.as_micros() as u64));
        let (stop, stopped) = mpsc::channel::<()>();
        let killer = thread::spawn(move || {
            // Ends early only if the workload did, which it doesn't.
            stopped.recv_timeout(after).ok();
            process::kill(pid);
        });
        let acked = history.acked_count();
        let clock = || 0;
        let mut driver = Driver::new(&mut *instance.port, &mut history, &clock, 32);
        let mut workload = Workload::new(random.random());
        // It ends when the store is gone.
        let gone = (if create { Workload::create(&mut driver) } else { Ok(()) }).and_then(|()| {
            loop {
                workload.run(&mut driver, 50)?;
            }
        });
        drop(stop);
        killer.join().ok();
        instance.kill()?;
        let io::Result::<()>::Err(_) = gone else { continue };
        found.kills += 1;
        found.acked += (history.acked_count() - acked) as u64;
        let checked = check(subject, &start, &mut history);
        if !checked.verdict.right() || checked.verdict.named > 0 {
            found.wrong += 1;
            found.verdict.say(|| format!("kill {kill} after {after:?}:"));
            // What is wrong once stays wrong; count each loss once.
            fresh = true;
        }
        found.verdict.add(&checked.verdict);
    }
    Ok(found)
}
