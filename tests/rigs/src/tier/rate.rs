//! How many durable messages a second a slow card allows, and what they cost it.

use std::io;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::disk::files::Files;
use crate::disk::mount::{Kind, Mounted};
use crate::history::{Deed, History, Keeps, Stream};
use crate::subject::{Instance, PATIENCE, Reply, Request, Start, Subject};
use crate::workload::Driver;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Acknowledged messages.
    pub acked: u64,
    /// In this time.
    pub took: Duration,
    /// Half were acknowledged within, in microseconds.
    pub p50_us: u64,
    /// Of a hundred, ninety-nine were acknowledged within, in microseconds.
    pub p99_us: u64,
    /// Bytes that reached the device.
    pub bytes: u64,
    /// Writes that reached the device.
    pub writes: u64,
    /// Flushes that reached the device.
    pub flushes: u64,
    /// Commits, if the subject counts them.
    pub commits: Option<u64>,
}

impl Found {
    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.acked as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// Publishes 128-byte messages for a while on ext4 on a disk whose flush takes `flush`.
/// With `keeps`, the stream keeps no more of them. What the first `warm` messages cost isn't counted, nor what comes in the
/// first half of that time.
pub fn run(
    subject: &Subject,
    window: usize,
    flush: Duration,
    time: Duration,
    keeps: Keeps,
    warm: u64,
    seed: u64,
) -> io::Result<Found> {
    let stream = Stream { name: "rate", keeps };
    let files = Files::mount()?;
    let disk = Disk::new(512 << 20, flush);
    let mounted = Mounted::fresh(&files, &disk, Kind::Ext4)?;
    let mut history = History::new(seed);
    let mut instance = subject.start(&Start::on(&mounted.path().join("store")))?;
    let clock = || 0;
    let mut driver = Driver::new(&mut *instance.port, &mut history, &clock, window);
    driver.ask_and_wait(Deed::Create(stream))?;
    let message = || Deed::Publish { stream: stream.name, subject: "rate.plant.temp".into(), length: 128 };
    // The first messages make files and segments.
    let (began, mut asked) = (Instant::now(), 0);
    while began.elapsed() < time / 2 || asked < warm {
        driver.ask(message())?;
        asked += 1;
    }
    driver.settle()?;
    let commits_before = commits(&mut instance);
    let mut driver = Driver::new(&mut *instance.port, &mut history, &clock, window);
    let before = disk.counts();
    let began = Instant::now();
    while began.elapsed() < time {
        driver.ask(message())?;
    }
    driver.settle()?;
    let took = began.elapsed();
    let counts = disk.counts() - before;
    let mut tally = std::mem::take(&mut driver.tally);
    let commits = commits(&mut instance).zip(commits_before).map(|(after, before)| after - before);
    instance.kill()?;
    mounted.unmount()?;
    Ok(Found {
        acked: tally.latencies_us.len() as u64,
        took,
        p50_us: tally.quantile_us(0.5),
        p99_us: tally.quantile_us(0.99),
        bytes: counts.bytes,
        writes: counts.writes,
        flushes: counts.flushes,
        commits,
    })
}

fn commits(instance: &mut Instance) -> Option<u64> {
    match instance.ask(&Request::Commits, PATIENCE) {
        Ok(Reply::Done(commits)) => Some(commits),
        _ => None,
    }
}
