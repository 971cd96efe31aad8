//! Hurts a store from outside, and judges what it holds afterwards. `./run` builds this and starts it; docs/RELIABILITY.md
//! says what came out.
//!
//! [`tier`] are the ways to hurt, [`subject`] what is hurt, [`workload`] what it is doing then, [`oracle`] the judge,
//! [`disk`] a disk with a tape.

mod disk;
mod history;
mod oracle;
mod process;
mod subject;
mod tier;
mod workload;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use disk::mount::Kind;
use history::Keeps;
use oracle::Verdict;
use subject::Subject;
use tier::calls::Pace;
use tier::{calls, card, cut, flip, full, kill, large, rate};

/// Power cuts, failing calls, full disks, flipped bits and kills, done to a store.
#[derive(Parser)]
#[command(name = "tests/rigs/run")]
struct Options {
    /// What to do to it; without any, everything that the machine can do.
    tiers: Vec<Tier>,
    /// To whom.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "store")]
    subject: Vec<Who>,
    /// The sizes of a night instead of those of a change.
    #[arg(long)]
    long: bool,
    /// What chance starts from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many states, kills, flips or sizes instead of the usual.
    #[arg(long)]
    count: Option<u64>,
    /// The server that speaks NATS, for `nats` and `nats-always`.
    #[arg(long, default_value = "tests/.venv/bin/nats-server")]
    nats: PathBuf,
    /// midged, for `midged`.
    #[arg(long, default_value = "target/debug/midged")]
    midged: PathBuf,
    /// The program with midge's store in it.
    #[arg(long, default_value = "tests/rigs/target/release/store-load")]
    load: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// Power cuts: states of a real file system's disk.
    Cut,
    /// kill -9 under load.
    Kill,
    /// The n-th system call fails.
    Calls,
    /// The n-th request to the disk below the file system fails.
    Card,
    /// A disk that fills up.
    Full,
    /// One wrong bit.
    Flip,
    /// Durable messages a second on a slow card, and their cost.
    Rate,
    /// How a large store starts after it was killed.
    Large,
    /// Tests the tests: stores with a part left out must be caught by each tier.
    Broken,
}

const TIERS: [Tier; 9] = [
    Tier::Cut,
    Tier::Kill,
    Tier::Calls,
    Tier::Card,
    Tier::Full,
    Tier::Flip,
    Tier::Rate,
    Tier::Large,
    Tier::Broken,
];

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    /// midge's store, in a small program.
    Store,
    /// midged with JetStream.
    Midged,
    /// nats-server as it comes.
    Nats,
    /// nats-server that syncs before it acknowledges.
    NatsAlways,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let tiers = if options.tiers.is_empty() { TIERS.to_vec() } else { options.tiers.clone() };
    let mut wrong = Vec::new();
    for who in &options.subject {
        for tier in &tiers {
            let subject = options.subject_of(*who, *tier);
            let began = Instant::now();
            let name = tier.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            if let Err(missing) = tier.needs() {
                println!("{name:<6} SKIPPED: {missing}");
                continue;
            }
            match options.run(*tier, &subject) {
                Ok(true) => {}
                Ok(false) => wrong.push(format!("{name} of {}", subject.name())),
                Err(error) => {
                    println!("{name:<6} {:<12} the rig failed: {error}", subject.name());
                    wrong.push(format!("{name} of {}", subject.name()));
                }
            }
            println!(
                "{name:<6} {:<12} seed {} took {:.1} s",
                subject.name(),
                options.seed,
                began.elapsed().as_secs_f64()
            );
        }
    }
    if wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("wrong: {}", wrong.join(", "));
    ExitCode::FAILURE
}

impl Tier {
    /// How midge's store is set up for it: small segments where little is stored, so that they fill up, too.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Rate => &["quiet=2000"],
            Self::Large => &[],
            Self::Kill | Self::Full => &["segment=1048576"],
            _ => &["segment=262144"],
        }
    }

    /// An error says what this machine lacks.
    fn needs(self) -> Result<(), String> {
        let root = rustix::process::geteuid().is_root();
        let mounts = || if root { Ok(()) } else { Err("only root mounts file systems".to_owned()) };
        let disks = || {
            mounts()?;
            for device in ["/dev/fuse", "/dev/loop-control"] {
                std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(device)
                    .map_err(|error| format!("{device}: {error}"))?;
            }
            if Kind::Ext4.is_here() { Ok(()) } else { Err("no mkfs.ext4".to_owned()) }
        };
        match self {
            Self::Cut | Self::Card | Self::Rate => disks(),
            Self::Full => mounts(),
            Self::Calls => {
                let quiet = Command::new("strace")
                    .args(["-f", "-qq", "-o", "/dev/null", "true"])
                    .stderr(Stdio::null())
                    .status();
                match quiet {
                    Ok(status) if status.success() => Ok(()),
                    Ok(_) => Err("strace may not trace here".to_owned()),
                    Err(error) => Err(format!("no strace: {error}")),
                }
            }
            Self::Kill | Self::Flip | Self::Large | Self::Broken => Ok(()),
        }
    }
}

impl Options {
    fn subject_of(&self, who: Who, tier: Tier) -> Subject {
        let nats = |name: &str, binary: &PathBuf, sync: Option<&str>| Subject::Nats {
            name: name.into(),
            binary: binary.clone(),
            sync: sync.map(str::to_owned),
        };
        match who {
            Who::Store => self.store("store", &self.load, tier.words()),
            Who::Midged => nats("midged", &self.midged, None),
            Who::Nats => nats("nats", &self.nats, None),
            Who::NatsAlways => nats("nats-always", &self.nats, Some("always")),
        }
    }

    fn store(&self, name: &str, binary: &Path, words: &[&str]) -> Subject {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Subject::Line { name: name.into(), binary: binary.into(), words }
    }

    fn count(&self, gate: u64, night: u64) -> u64 {
        self.count.unwrap_or(if self.long { night } else { gate })
    }

    /// True if nothing was wrong, or it isn't ours.
    fn run(&self, tier: Tier, subject: &Subject) -> io::Result<bool> {
        let name = subject.name();
        let right = match tier {
            Tier::Cut => {
                let mut right = true;
                for kind in [Kind::Ext4, Kind::Xfs] {
                    if !kind.is_here() {
                        println!("cut    {kind:?} SKIPPED: it can't be made here");
                        continue;
                    }
                    let states = self.count(if kind == Kind::Ext4 { 80 } else { 20 }, 5_000) as usize;
                    let found =
                        cut::run(subject, kind, if self.long { 1_500 } else { 300 }, states, self.seed)?;
                    println!(
                        "cut    {name:<12} {kind:?} states {} wrong {} unmountable {}; acked {} on a tape of {} writes, {} flushes",
                        found.states, found.wrong, found.unmountable, found.acked, found.tape.0, found.tape.1
                    );
                    tell(&found.verdict);
                    right &= found.wrong == 0 && found.unmountable == 0;
                }
                right
            }
            Tier::Kill => {
                let found = kill::run(subject, self.count(10, 1_000), Duration::from_millis(200), self.seed)?;
                println!(
                    "kill   {name:<12} kills {} wrong {}; acked {}",
                    found.kills, found.wrong, found.acked
                );
                tell(&found.verdict);
                found.wrong == 0
            }
            Tier::Calls | Tier::Card => {
                let pace = if self.long { Pace::Each } else { Pace::Growing };
                let deeds = self.count(20, 60) as usize;
                let (word, found) = match tier {
                    Tier::Calls => ("calls", calls::run(subject, deeds, pace, self.seed)?),
                    _ => ("card", card::run(subject, deeds, pace, self.seed)?),
                };
                println!(
                    "{word:<6} {name:<12} runs with a fault {} (killed {}) wrong {} silent {}; acked {} refused {} late {} unanswered {}",
                    found.faults,
                    found.kills,
                    found.wrong,
                    found.silent,
                    found.acked,
                    found.tally.refused,
                    found.tally.late,
                    found.tally.unanswered
                );
                tell(&found.verdict);
                found.wrong == 0 && found.silent == 0
            }
            Tier::Full => {
                let found = full::run(subject, self.count(4, 200), self.full_at(subject), self.seed)?;
                println!(
                    "full   {name:<12} sizes {} unstarted {} filled {} (the oldest dropped for new ones {}, not dropped {}) wrong {} dead after space {} back within {:?}; stuck while full: delete {} purge {} ack {}; acked {} refused {} late {} unanswered {}",
                    found.sizes,
                    found.unstarted,
                    found.filled,
                    found.rolled,
                    found.unrolled,
                    found.wrong,
                    found.dead,
                    found.back,
                    found.stuck[0],
                    found.stuck[1],
                    found.stuck[2],
                    found.acked,
                    found.tally.refused,
                    found.tally.late,
                    found.tally.unanswered
                );
                tell(&found.verdict);
                found.wrong == 0
                    && found.dead == 0
                    && found.stuck == [0; 3]
                    && found.unrolled == 0
                    && found.tally.unanswered == 0
            }
            Tier::Flip => {
                let found = flip::run(subject, 250, self.count(300, 10_000) as usize, self.seed)?;
                let mut right = true;
                for (kind, found) in &found {
                    println!(
                        "flip   {name:<12} {kind:<16} flips {} harmless {} named {} wrong {} cost at most {} messages; peak {} MiB, over 64 MiB {}, start {:?}",
                        found.flips,
                        found.harmless,
                        found.named,
                        found.wrong,
                        found.worst,
                        found.peak_bytes >> 20,
                        found.hungry,
                        found.start
                    );
                    if kind == flip::ALL {
                        tell(&found.verdict);
                        right = found.wrong == 0 && found.hungry == 0 && found.worst <= 1;
                    }
                }
                right
            }
            Tier::Large => {
                let found = large::run(subject, self.count(50_000, 1_000_000), 900, self.seed)?;
                println!(
                    "large  {name:<12} {} messages in {} MiB; first message after {:?}, {:.1} MiB resident, {:.1} after 1,000 reads, {} wrong",
                    found.messages,
                    found.bytes >> 20,
                    found.start,
                    found.peak_bytes as f64 / 1_048_576.0,
                    found.read_peak_bytes as f64 / 1_048_576.0,
                    found.wrong
                );
                found.wrong == 0 && found.read_peak_bytes <= 32 << 20
            }
            Tier::Rate => self.rate(subject)?,
            Tier::Broken => self.broken()?,
        };
        Ok(right || !subject.is_ours())
    }

    /// The largest disk that is filled: several times what a store takes when it is new.
    fn full_at(&self, subject: &Subject) -> u64 {
        match subject {
            Subject::Nats { name, .. } if name == "midged" => 96 << 20, // it has 32 MiB of segments when it is new
            _ => 24 << 20,
        }
    }

    fn rate(&self, subject: &Subject) -> io::Result<bool> {
        let time = Duration::from_millis(if self.long { 10_000 } else { 1_500 });
        let mut right = true;
        // With twice as many in flight as are to be in a commit: one half waits while the other is written. What is kept
        // is so little that segments are used again, which is how a store lives; a store that grows writes each segment
        // twice, first with zeros.
        let mut rows = vec![
            (1, Keeps::Newest(20), Some("segment=262144")),
            (32, Keeps::Newest(500), Some("segment=262144")),
            (512, Keeps::Newest(4_000), Some("segment=1048576")),
            (64, Keeps::All, None),
        ];
        if self.long {
            // There is time to fill larger ones: to begin a segment takes a flush of its own.
            rows = vec![
                (1, Keeps::Newest(20), Some("segment=1048576")),
                (32, Keeps::Newest(500), Some("segment=1048576")),
                (512, Keeps::Newest(4_000), None),
                (64, Keeps::All, None),
                (1, Keeps::All, Some("segment=1048576")),
                (32, Keeps::All, Some("segment=1048576")),
                (512, Keeps::All, None),
            ];
        }
        for (window, keeps, segment) in rows {
            let subject = subject.with_words(segment);
            // So many, however slow the machine is, that all segments have been used once.
            let warm = match (&subject, keeps) {
                (Subject::Line { .. }, Keeps::Newest(_)) => 300 * (window as u64 / 2).clamp(1, 80),
                _ => 0,
            };
            let warm = if self.long { 5 * warm } else { warm };
            let found = rate::run(&subject, window, FLUSH, time, keeps, warm, self.seed)?;
            let acked = found.acked.max(1) as f64;
            print!(
                "rate   {:<12} in flight {window:>3}, kept {keeps:?}: {:>6.0}/s, p50 {:.1} ms, p99 {:.1} ms; a message costs {:.0} bytes, {:.3} writes, {:.4} flushes",
                subject.name(),
                found.rate(),
                found.p50_us as f64 / 1e3,
                found.p99_us as f64 / 1e3,
                found.bytes as f64 / acked,
                found.writes as f64 / acked,
                found.flushes as f64 / acked
            );
            match found.commits {
                Some(commits) if commits > 0 => {
                    let (per_commit, flushes) =
                        (acked / commits as f64, found.flushes as f64 / commits as f64);
                    println!("; {per_commit:.1} messages and {flushes:.3} flushes a commit");
                    // Time is the machine's, bytes and flushes are the store's. A commit without a flush isn't one.
                    let bytes = found.bytes as f64 / acked;
                    right &= flushes >= 0.99 && (keeps == Keeps::All || bytes <= bytes_max(per_commit));
                }
                _ => println!(),
            }
            right &= found.acked > 0;
        }
        Ok(right)
    }

    /// Each tier must see what is left out of these.
    fn broken(&self) -> io::Result<bool> {
        let mut all = true;
        let mut saw = |tier: &str, part: &str, found: Option<String>| {
            all &= found.is_some();
            println!("broken {tier:<6} {part:<22} {}", found.unwrap_or_else(|| "NOT CAUGHT".into()));
        };
        let small = "segment=262144";
        let store = |part: &str| self.store(part, &self.load, &[small, part]);
        let in_words = |wrong: u64, of: u64, verdict: &Verdict| {
            (wrong > 0).then(|| format!("caught in {wrong} of {of}: {verdict}"))
        };
        if Tier::Cut.needs().is_ok() {
            let found = cut::run(&store("broken=sync"), Kind::Ext4, 200, 24, self.seed)?;
            saw("cut", "sync of files", in_words(found.wrong, found.states, &found.verdict));
            let rate = rate::run(
                &store("broken=sync"),
                16,
                FLUSH,
                Duration::from_millis(500),
                Keeps::All,
                0,
                self.seed,
            )?;
            let flushes = rate.flushes as f64 / rate.commits.unwrap_or(0).max(1) as f64;
            saw(
                "rate",
                "sync of files",
                (flushes < 0.99).then(|| format!("caught: {flushes:.3} flushes a commit")),
            );
            let found = card::run(&store("broken=deaf"), 30, Pace::Growing, self.seed)?;
            saw("card", "errors of write, sync", in_words(found.wrong, found.faults, &found.verdict));
        }
        if Tier::Calls.needs().is_ok() {
            for (part, what) in
                [("broken=deaf", "errors of write, sync"), ("broken=late", "write before answer")]
            {
                let found = calls::run(&store(part), 20, Pace::Growing, self.seed)?;
                saw("calls", what, in_words(found.wrong, found.faults, &found.verdict));
            }
        }
        let found = kill::run(&store("broken=late"), 6, Duration::from_millis(100), self.seed)?;
        saw("kill", "write before answer", in_words(found.wrong, found.kills, &found.verdict));
        let found =
            large::run(&self.store("broken=late", &self.load, &["broken=late"]), 2_000, 900, self.seed)?;
        saw(
            "large",
            "write before answer",
            (found.wrong > 0).then(|| format!("caught: {} of 1,000 reads", found.wrong)),
        );
        if Tier::Full.needs().is_ok() {
            let found = full::run(&store("broken=deaf"), 2, 8 << 20, self.seed)?;
            saw("full", "errors of write, sync", in_words(found.wrong, found.sizes, &found.verdict));
        }
        let blind = self.load.with_file_name("store-load-blind");
        let found = flip::run(&self.store("blind", &blind, &[small]), 100, 60, self.seed)?;
        let found = found.get(flip::ALL).cloned().unwrap_or_default();
        saw("flip", "checksums", in_words(found.wrong, found.flips, &found.verdict));
        Ok(all)
    }
}

/// What a durable message of 128 bytes may cost the device at so many to a commit.
fn bytes_max(per_commit: f64) -> f64 {
    match per_commit {
        ..8.0 => 5_000.0,
        ..64.0 => 700.0,
        _ => 400.0,
    }
}

/// The disk of [`Tier::Rate`], as slow as a good card.
const FLUSH: Duration = Duration::from_millis(5);

fn tell(verdict: &Verdict) {
    println!("       {verdict}");
    for words in &verdict.words {
        println!("       | {words}");
    }
}
