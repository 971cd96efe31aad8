//! A large store after `kill -9`, none of it in the kernel's memory: how long until it serves, and what it holds in
//! memory.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::mount::run as run_command;
use crate::history::{Deed, History, LOG, body};
use crate::process;
use crate::subject::{PATIENCE, Reply, Request, Start, Subject};
use crate::workload::Driver;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Messages stored.
    pub messages: u64,
    /// Bytes of the store's files.
    pub bytes: u64,
    /// From its start to the first message read.
    pub start: Duration,
    /// Most memory resident by then, in bytes.
    pub peak_bytes: u64,
    /// And after a thousand messages were read at random.
    pub read_peak_bytes: u64,
    /// Messages that were read and weren't what was stored.
    pub wrong: u64,
}

/// Stores `messages` messages of `length` bytes, kills the store and starts it again.
pub fn run(subject: &Subject, messages: u64, length: usize, seed: u64) -> io::Result<Found> {
    let place = tempfile::tempdir()?;
    let start = Start::on(&place.path().join("store"));
    let mut history = History::new(seed);
    let clock = || 0;
    let mut instance = subject.start(&start)?;
    let mut driver = Driver::new(&mut *instance.port, &mut history, &clock, 1_024);
    driver.ask_and_wait(Deed::Create(LOG))?;
    for number in 0..messages {
        let subject = format!("log.{}", number % 1_000);
        driver.ask(Deed::Publish { stream: LOG.name, subject, length })?;
    }
    driver.settle()?;
    instance.kill()?;

    let bytes = forget_files(&start.dir)?;
    let acked = history.acked(LOG.name);
    let mut random = StdRng::seed_from_u64(seed);
    let mut found = Found { messages: acked.len() as u64, bytes, ..Found::default() };
    let began = Instant::now();
    let mut instance = subject.start(&start)?;
    for index in 0..1_000 {
        let seq = random.random_range(1..=messages);
        let read = instance.ask(&Request::Get { stream: LOG.name, seq }, PATIENCE)?;
        let stored = acked.get(&seq).map(|number| body(seed, *number, length));
        found.wrong += u64::from(
            !matches!((read, stored), (Reply::Message { body, .. }, Some(stored)) if body == stored),
        );
        if index == 0 {
            found.start = began.elapsed();
            found.peak_bytes = process::peak_bytes(instance.pid).unwrap_or(0);
        }
    }
    found.read_peak_bytes = process::peak_bytes(instance.pid).unwrap_or(0);
    instance.kill()?;
    Ok(found)
}

/// Writes files below a directory out and takes them from the kernel's memory. Returns their bytes.
fn forget_files(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            bytes += forget_files(&entry.path())?;
        } else {
            bytes += entry.metadata()?.len();
            run_command(Command::new("sync").arg(entry.path()))?;
            let file = format!("if={}", entry.path().display());
            run_command(Command::new("dd").arg(file).args(["iflag=nocache", "count=0", "status=none"]))?;
        }
    }
    Ok(bytes)
}
