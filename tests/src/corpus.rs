//! The scripts on disk, played on every target, and the table of differences made from them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::run;
use crate::script::{Difference, Script, Side};
use crate::target::Target;

/// What came of playing scripts on one target.
#[derive(Debug, Default)]
pub struct Report {
    /// Scripts played.
    pub scripts: usize,
    /// Plays of them, counting every cut of a fragmented one.
    pub plays: usize,
    /// Scripts that are not for this target.
    pub others: usize,
    /// Scripts that the peer played as they are written only when it was asked again.
    pub again: Vec<String>,
    /// What failed, in the scripts' order.
    pub failures: Vec<String>,
    /// How long it took.
    pub time: Duration,
}

impl Report {
    /// All of it in one line.
    pub fn summary(&self, target: &str) -> String {
        let Self { scripts, plays, others, again, failures, time } = self;
        let passed = scripts - failures.len();
        let mut line = format!(
            "{target:>9}: {passed} of {scripts} scripts pass ({plays} plays in {time:.1?}), {others} not for it"
        );
        if !again.is_empty() {
            let _ = write!(line, "; played again: {}", again.join(", "));
        }
        line
    }
}

/// Where the scripts are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// Reads all scripts whose name contains `filter`, sorted by name.
pub fn read(filter: &str) -> Result<Vec<Script>, String> {
    let mut scripts = Vec::new();
    let entries = |path: &Path| {
        let entries = path.read_dir().map_err(|err| format!("{}: {err}", path.display()))?;
        Ok::<_, String>(entries.filter_map(Result::ok).map(|entry| entry.path()))
    };
    for topic in entries(&directory())?.filter(|path| path.is_dir()) {
        for path in entries(&topic)?.filter(|path| path.extension().is_some_and(|it| it == "nats")) {
            let relative = path.strip_prefix(directory()).map_err(|err| err.to_string())?.with_extension("");
            let name = relative.to_string_lossy().replace('\\', "/");
            if name.contains(filter) {
                let text =
                    std::fs::read_to_string(&path).map_err(|err| format!("{}: {err}", path.display()))?;
                scripts
                    .push(Script::parse(&name, &text).map_err(|err| format!("{}: {err}", path.display()))?);
            }
        }
    }
    scripts.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(scripts)
}

/// How often the peer is asked. Its threads race in places (what a consumer knows of its subscribers, which request of
/// two streams is answered first), and a script tells what it does then most of the time: to do so in one play of these
/// shows it. Midge is asked once.
const PEER_PLAYS: usize = 3;

/// Plays a script, and says how many plays it took besides what came of the last.
fn play_one(script: &Script, target: &Target) -> (usize, Result<usize, run::Failure>) {
    let most = if target.side() == Side::Reference { PEER_PLAYS } else { 1 };
    let mut taken = 1;
    loop {
        let result = run::play(script, target);
        if result.is_ok() || taken == most {
            return (taken, result);
        }
        taken += 1;
    }
}

/// Plays scripts on a target, a few at a time.
pub fn play(scripts: &[Script], target: &Target) -> Report {
    let begin = Instant::now();
    let (mine, others): (Vec<_>, Vec<_>) = scripts.iter().partition(|script| target.plays(script));
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    // Twice the cores: a play mostly waits for its server.
    let workers = thread::available_parallelism().map_or(2, |cores| cores.get() * 2);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(script) = mine.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = play_one(script, target);
                    results.lock().expect("no play panics").push((&script.name, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no play panics");
    results.sort_by_key(|(name, _)| *name);
    let mut report = Report { scripts: mine.len(), others: others.len(), ..Report::default() };
    for (name, (taken, result)) in results {
        if taken > 1 && result.is_ok() {
            report.again.push(name.clone());
        }
        match result {
            Ok(plays) => report.plays += plays,
            Err(failure) => report.failures.push(failure.to_string()),
        }
    }
    report.time = begin.elapsed();
    report
}

/// The marked differences of all scripts, as the text of `COMPAT.md`.
pub fn differences(scripts: &[Script]) -> String {
    let mut text = String::from(
        "# Where midge differs from nats-server\n\n\
         Generated from the marks in `tests/scripts` by `cargo run -p midge-tests --bin transcript -- compat`; a test\n\
         keeps it so. What a script shows without a mark is the same on both.\n\n\
         | What | nats-server 2.15.1 | midge | Why | Script |\n|---|---|---|---|---|\n",
    );
    for script in scripts {
        for Difference { line, reason, reference, ours } in &script.differences {
            let (title, name) = (&script.title, &script.name);
            let (reference, ours) = (cell(reference), cell(ours));
            let link = format!("[{name}](tests/scripts/{name}.nats#L{line})");
            let _ = writeln!(text, "| {title} | {reference} | {ours} | {reason} | {link} |");
        }
    }
    let mut unserved: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for script in scripts {
        if let Some(key) = &script.unserved {
            let link = format!("[{name}](tests/scripts/{name}.nats)", name = script.name);
            unserved.entry(key).or_default().push(link);
        }
    }
    text += "\n## Not served\n\n\
        midge says at its start that it does not serve these keys yet. Where running without would let others in, it\n\
        does not start.\n\n| Key | Scripts that wait for it |\n|---|---|\n";
    for (key, scripts) in unserved {
        let _ = writeln!(text, "| `{key}` | {} |", scripts.join(", "));
    }
    text
}

fn cell(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| format!("`{}`", line.replace('|', "\\|"))).collect();
    if lines.is_empty() { "nothing more".into() } else { lines.join("<br>") }
}
