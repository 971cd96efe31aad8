//! A disk that fills up, and later has space again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::mount::Small;
use crate::history::{Answer, Deed, History, LOG, RING, SCRAP};
use crate::oracle::Verdict;
use crate::subject::{Start, Subject};
use crate::workload::{Driver, Tally, Workload, check};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Sizes tried.
    pub sizes: u64,
    /// Sizes at which it did not start, and said so.
    pub unstarted: u64,
    /// Sizes that filled up.
    pub filled: u64,
    /// Sizes after which something was wrong.
    pub wrong: u64,
    /// How answers came.
    pub tally: Tally,
    /// While full: a delete, a purge and an acknowledgement that were not done.
    pub stuck: [u64; 3],
    /// Sizes at which a stream that drops its oldest filled the disk, and did.
    pub rolled: u64,
    /// Messages that it refused once it had.
    pub unrolled: u64,
    /// Sizes at which no publish was done within a second after there was space.
    pub dead: u64,
    /// Slowest return to service.
    pub back: Duration,
    /// Messages acknowledged.
    pub acked: u64,
    /// All verdicts together.
    pub verdict: Verdict,
}

/// Tries `sizes` sizes up to `most` bytes.
pub fn run(subject: &Subject, sizes: u64, most: u64, seed: u64) -> io::Result<Found> {
    let mut found = Found::default();
    let mut random = StdRng::seed_from_u64(seed);
    for index in 0..sizes {
        // Evenly, each by chance within its share.
        let share = most / sizes;
        let free = share * index + random.random_range(0..share);
        one(subject, free, most, seed.wrapping_add(index), &mut found)?;
    }
    Ok(found)
}

fn one(subject: &Subject, free: u64, most: u64, seed: u64, found: &mut Found) -> io::Result<()> {
    found.sizes += 1;
    let small = Small::new(2 * most)?;
    let filler = small.path().join("filler");
    fill(&filler, 2 * most - free)?;
    let dir = small.path().join("store");
    let mut history = History::new(seed);
    let mut wrong = Verdict::default();
    let clock = || 0;
    match subject.start_within(&Start::on(&dir), Duration::from_secs(5)) {
        Err(_) => found.unstarted += 1,
        Ok(mut instance) => {
            let mut driver = Driver::new(&mut *instance.port, &mut history, &clock, 16);
            let ring = found.sizes.is_multiple_of(2);
            let lived = until_full(&mut driver, most, ring, &filler, found, &mut wrong);
            found.tally.add(&driver.tally);
            if let Err(error) = lived {
                wrong.unavailable += 1;
                wrong.say(|| format!("P5: it ended when the disk was full: {error}"));
            }
            instance.kill()?;
        }
    }
    fs::remove_file(&filler).ok();
    found.acked += history.acked_count() as u64;
    let checked = check(subject, &Start::on(&dir), &mut history);
    wrong.add(&checked.verdict);
    if !wrong.right() || checked.verdict.named > 0 {
        found.wrong += 1;
        found.verdict.say(|| format!("{free} bytes free:"));
    }
    found.verdict.add(&wrong);
    Ok(())
}

fn until_full(
    driver: &mut Driver<'_>,
    most: u64,
    ring: bool,
    filler: &std::path::Path,
    found: &mut Found,
    wrong: &mut Verdict,
) -> io::Result<()> {
    Workload::create(driver)?;
    for number in 0..20 {
        for stream in [LOG.name, SCRAP.name] {
            driver.ask(Deed::Publish { stream, subject: format!("{stream}.{number}"), length: 100 })?;
        }
    }
    driver.settle()?;
    let delivered = driver.fetch(LOG.name, 5)?;
    let rolled = ring && roll(driver, most, found)?;

    // As much again as could be stored, so that it is full whatever else is on it.
    let mut asked = 0;
    while driver.tally.refused + driver.tally.unanswered == 0 && asked < 2 * most {
        asked += 4_000;
        driver.ask(Deed::Publish { stream: LOG.name, subject: "log.more".into(), length: 4_000 })?;
    }
    driver.settle()?;
    if driver.tally.refused + driver.tally.unanswered == 0 {
        return Ok(());
    }
    found.filled += 1;

    let through = driver.history.last_acked(SCRAP.name);
    let mut deeds =
        vec![Deed::Delete { stream: SCRAP.name, seq: 3 }, Deed::Purge { stream: SCRAP.name, through }];
    deeds.extend(delivered.first().map(|seq| Deed::Acknowledge { stream: LOG.name, seq: *seq }));
    // What a stream that couldn't be made doesn't do is not counted.
    if through > 0 && !delivered.is_empty() {
        for (deed, stuck) in deeds.into_iter().zip(&mut found.stuck) {
            if !matches!(driver.ask_and_wait(deed)?, Some(Answer::Done(_))) {
                *stuck += 1;
            }
        }
    }

    if rolled {
        // The log can't, and this one still can, if what it has fills files of its own.
        let held = driver.history.last_acked(RING.name) - driver.first_seq(RING.name)?.unwrap_or(0);
        let refused = refused_of(driver, 200)?;
        if held * RING_BYTES > most / 6 && refused > 0 {
            found.unrolled += refused;
            found
                .verdict
                .say(|| format!("the ring has {held} messages and refuses {refused} after the log did"));
        }
    }

    fs::remove_file(filler)?;
    let since = Instant::now();
    loop {
        let deed = Deed::Publish { stream: LOG.name, subject: "log.again".into(), length: 100 };
        let answer = driver.ask_and_wait(deed)?;
        let took = since.elapsed();
        if matches!(answer, Some(Answer::Done(_))) {
            found.back = found.back.max(took);
            found.dead += u64::from(took > WITHIN);
            return Ok(());
        }
        if took > WITHIN {
            found.dead += 1;
            wrong.say(|| format!("no publish {took:?} after there was space: {answer:?}"));
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Publishes to the stream that drops its oldest until it has done so for a while. `false` if the disk never filled up, or is so
/// small that what it could drop makes no room.
fn roll(driver: &mut Driver<'_>, most: u64, found: &mut Found) -> io::Result<bool> {
    let mut asked = 0;
    while asked < 2 * most {
        asked += 200 * RING_BYTES;
        let refused = refused_of(driver, 200)?;
        let first = driver.first_seq(RING.name)?.unwrap_or(1);
        if refused > 0 && first <= 1 {
            return Ok(false);
        }
        if refused > 0 {
            found.unrolled += refused;
            let last = driver.history.last_acked(RING.name);
            found.verdict.say(|| format!("the ring has {first} to {last} and refuses {refused}"));
        }
        // Twice what it held when it began to drop has gone through it.
        if refused > 0 || 2 * first > driver.history.last_acked(RING.name) {
            break;
        }
    }
    let rolled = driver.first_seq(RING.name)?.is_some_and(|first| first > 1);
    found.rolled += u64::from(rolled);
    Ok(rolled)
}

/// Publishes to it, and counts what isn't stored.
fn refused_of(driver: &mut Driver<'_>, count: usize) -> io::Result<u64> {
    let before = driver.tally.refused + driver.tally.unanswered;
    for _ in 0..count {
        let length = RING_BYTES as usize;
        driver.ask(Deed::Publish { stream: RING.name, subject: "ring.a".into(), length })?;
    }
    driver.settle()?;
    Ok(driver.tally.refused + driver.tally.unanswered - before)
}

/// Of a message to the stream that drops its oldest.
const RING_BYTES: u64 = 4_000;

fn fill(path: &std::path::Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let piece = vec![1; 1 << 16];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(piece.len() as u64);
        file.write_all(&piece[..length as usize])?;
        left -= length;
    }
    Ok(())
}

/// A store that is in service again later than this has failed.
const WITHIN: Duration = Duration::from_secs(1);
