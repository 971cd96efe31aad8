//! One bit of one file is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify;

use crate::history::History;
use crate::oracle::Verdict;
use crate::process::{self, Limit};
use crate::subject::{PATIENCE, Start, Subject};
use crate::workload::{Driver, Workload, check};

/// What was found about one kind of file, or all.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Flips.
    pub flips: u64,
    /// Flips after which all was there and right.
    pub harmless: u64,
    /// Flips after which what was lost was named, and nothing else was wrong.
    pub named: u64,
    /// Flips after which something was wrong: lost without a word, false, gone.
    pub wrong: u64,
    /// Most messages that one flip cost, named or not.
    pub worst: u64,
    /// Most memory resident, in bytes.
    pub peak_bytes: u64,
    /// Flips with which it took more memory than the goal, or was ended for it.
    pub hungry: u64,
    /// Slowest start.
    pub start: Duration,
    /// All verdicts together.
    pub verdict: Verdict,
}

impl Found {
    fn add(&mut self, other: &Self) {
        self.flips += other.flips;
        self.harmless += other.harmless;
        self.named += other.named;
        self.wrong += other.wrong;
        self.worst = self.worst.max(other.worst);
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
        self.hungry += other.hungry;
        self.start = self.start.max(other.start);
        self.verdict.add(&other.verdict);
    }
}

/// Most memory that a start with one wrong bit may take.
const MOST_BYTES: u64 = 64 << 20;
/// The control group that it is started in.
const LIMIT_BYTES: u64 = 128 << 20;

/// Flips `flips` bits, one at a time, each in a copy of a store that was killed or, every second time, ended well.
/// Returns what was found in all and by kind of file.
pub fn run(subject: &Subject, deeds: usize, flips: usize, seed: u64) -> io::Result<BTreeMap<String, Found>> {
    let place = process::place()?;
    let mut sources = Vec::new();
    for clean in [false, true] {
        let dir = place.path().join(if clean { "ended" } else { "killed" });
        let mut history = History::new(seed);
        let mut instance = subject.start(&Start::on(&dir))?;
        let clock = || 0;
        let mut driver = Driver::new(&mut *instance.port, &mut history, &clock, 8);
        Workload::create(&mut driver)?;
        Workload::new(seed).run(&mut driver, deeds)?;
        rest(&dir)?;
        if clean {
            instance.terminate()?
        } else {
            instance.kill()?
        }
        sources.push((files_below(&dir)?, dir, history));
    }

    let limit = Limit::new(LIMIT_BYTES);
    let mut random = StdRng::seed_from_u64(seed ^ 0xf11b);
    let mut by_kind: BTreeMap<String, Found> = BTreeMap::new();
    for flip in 0..flips {
        let (files, dir, history) = &sources[flip % 2];
        let Some((file, used)) = pick(files, &mut random) else { continue };
        let offset = random.random_range(0..*used);
        let bit = random.random_range(0..8);
        let victim = place.path().join(format!("flip-{flip}"));
        copy_tree(dir, &victim)?;
        let name = file.strip_prefix(dir).unwrap_or(file).to_path_buf();
        flip_bit(&victim.join(&name), offset, bit)?;

        let mut history = history.clone();
        let prefix = limit.as_ref().map(Limit::prefix).unwrap_or_default();
        let checked = check(subject, &Start { prefix, dir: victim.clone() }, &mut history);
        fs::remove_dir_all(&victim)?;

        let verdict = checked.verdict;
        let right = verdict.right();
        let mut one = Found {
            flips: 1,
            harmless: u64::from(right && verdict.named == 0),
            named: u64::from(right && verdict.named > 0),
            wrong: u64::from(!right),
            worst: verdict.lost + verdict.named,
            peak_bytes: checked.peak_bytes,
            hungry: u64::from(checked.peak_bytes > MOST_BYTES),
            start: checked.start,
            verdict: Verdict::default(),
        };
        if !right {
            one.verdict.say(|| {
                format!(
                    "{} offset {offset} bit {bit}, store {}:",
                    name.display(),
                    ["killed", "ended"][flip % 2]
                )
            });
        }
        one.verdict.add(&verdict);
        by_kind.entry(kind_of(&name)).or_default().add(&one);
        by_kind.entry(ALL.into()).or_default().add(&one);
    }
    Ok(by_kind)
}

/// Waits until nothing has been written below `dir` for a while: until a store has done what it does when nothing happens.
/// What rots isn't what was written a moment ago.
fn rest(dir: &Path) -> io::Result<()> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        inotify::add_watch(&watch, &dir, inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let mut events = [0; 4_096];
    while rustix::event::poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&AT_REST))? > 0 {
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it never rests"));
        }
        rustix::io::read(&watch, &mut events)?;
    }
    Ok(())
}

/// Longer than a store waits until it takes it that nothing happens.
const AT_REST: Timespec = Timespec { tv_sec: 3, tv_nsec: 0 };

/// The key of what was found in all files.
pub const ALL: &str = "all";

/// Files with the length up to the last byte that isn't zero: a tail of zeros is no likelier than the rest.
fn files_below(dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            let bytes = fs::read(entry.path())?;
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if used > 0 {
                files.push((entry.path(), used as u64));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Half of the time any file, half of the time any byte: small files matter as much as large ones.
fn pick<'a>(files: &'a [(PathBuf, u64)], random: &mut StdRng) -> Option<&'a (PathBuf, u64)> {
    let total: u64 = files.iter().map(|(_, used)| used).sum();
    if total == 0 {
        return None;
    }
    if random.random_bool(0.5) {
        return files.get(random.random_range(0..files.len()));
    }
    let mut at = random.random_range(0..total);
    files.iter().find(|(_, used)| {
        let here = at < *used;
        at = at.saturating_sub(*used);
        here
    })
}

fn flip_bit(path: &Path, offset: u64, bit: u32) -> io::Result<()> {
    let mut bytes = fs::read(path)?;
    let byte = bytes.get_mut(offset as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
    *byte ^= 1 << bit;
    fs::write(path, bytes)
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A file's name without its numbers.
fn kind_of(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let mut kind = String::new();
    for character in name.chars() {
        match character {
            '0'..='9' if kind.ends_with('#') => {}
            '0'..='9' => kind.push('#'),
            other => kind.push(other),
        }
    }
    match parent.as_deref() {
        Some("rig") => format!("consumer {kind}"),
        _ => kind,
    }
}
