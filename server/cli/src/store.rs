//! `midge store`: what is in the files, without a daemon; only `repair` changes them.

use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use midge_store::disk::OsDisk;
use midge_store::{Damage, Damaged, Error, Options, ReadError, Report, Store};
use serde_json::json;

use crate::cli;
use crate::exit::{Failure, Outcome};

pub(crate) fn run(command: &cli::Store) -> Outcome {
    match command {
        cli::Store::Check { directory } => check(directory),
        cli::Store::Dump { directory, stream, no_payload } => dump(directory, *stream, !no_payload),
        cli::Store::Repair { directory, dry_run } => repair(directory, *dry_run),
    }
}

/// Opens it to look, and takes nothing for granted: what opening found is in the report.
fn open(directory: &Path) -> Outcome<(Store<OsDisk>, Report)> {
    OsDisk::open_read_only(directory)
        .map_err(Error::from)
        .and_then(|disk| Store::open(disk, Options { read_only: true, ..Options::default() }))
        .map_err(|error| refused(directory, error))
}

fn refused(directory: &Path, error: Error) -> Failure {
    let at = directory.display();
    match error {
        Error::Locked => Failure::unavailable(format_args!("{at}: a daemon has it; stop it first")),
        Error::NotAStore(why) => Failure::damaged(format_args!("{at}: {why}")),
        error => Failure::runtime(format_args!("{at}: {error}")),
    }
}

fn repair(directory: &Path, dry_run: bool) -> Outcome {
    let disk = match dry_run {
        true => OsDisk::open_read_only(directory),
        // What isn't there isn't made.
        false => std::fs::metadata(directory).and_then(|_| OsDisk::open(directory)),
    };
    let repaired =
        disk.map_err(Error::from).and_then(|disk| midge_store::repair(disk, rand::random(), dry_run));
    let repaired = repaired.map_err(|error| refused(directory, error))?;
    let mut out = std::io::stdout().lock();
    for damage in &repaired.damages {
        writeln!(out, "{damage}")?;
    }
    for file in &repaired.aside {
        match &repaired.directory {
            Some(aside) => writeln!(out, "{file} is kept in {}", directory.join(aside).display())?,
            None => writeln!(out, "{file} would be kept aside, and a copy be repaired")?,
        }
    }
    for (stream, first, last) in &repaired.lost {
        writeln!(out, "lost: stream {stream}, sequence {first} to {last}")?;
    }
    writeln!(out, "{} messages as they were written", repaired.messages)?;
    if dry_run && !repaired.aside.is_empty() {
        return Err(Failure::damaged(format_args!("{} files would be repaired", repaired.aside.len())));
    }
    for damage in &repaired.left {
        writeln!(out, "still: {damage}")?;
    }
    match repaired.left.len() {
        0 => Ok(()),
        left => Err(Failure::damaged(format_args!("{left} places are still damaged; is the disk full?"))),
    }
}

fn check(directory: &Path) -> Outcome {
    let (mut store, report) = open(directory)?;
    let mut damages = report.damages;
    // Sealed segments from front to back, then every message that the index knows.
    let passes = store.scrubs();
    while store.scrubs() == passes {
        if let Err(error) = store.scrub_step() {
            eprintln!("midge: reading: {error}");
        }
    }
    damages.append(&mut store.take_damages());
    let mut messages = 0_u64;
    for stream in store.streams().collect::<Vec<_>>() {
        let seqs: Vec<u64> = store.entries(stream, 0).map(|(seq, ..)| seq).collect();
        for seq in seqs {
            match store.read(stream, seq) {
                Ok(_) => messages += 1,
                Err(ReadError::Damaged(damage)) => damages.push(*damage),
                Err(ReadError::Disk(error)) => eprintln!("midge: stream {stream}, sequence {seq}: {error}"),
            }
        }
    }
    let mut named: Vec<&Damage> = Vec::new();
    for damage in &damages {
        if !named.contains(&damage) {
            named.push(damage);
        }
    }
    let mut out = std::io::stdout().lock();
    for damage in &named {
        writeln!(out, "{damage}")?;
    }
    if let Some((file, offset)) = report.cut {
        writeln!(
            out,
            "the log ends in a frame that isn't whole at {file}:{offset}; it was not acknowledged"
        )?;
    }
    for stream in store.streams().collect::<Vec<_>>() {
        for (first, last) in store.lost(stream) {
            writeln!(out, "lost: stream {stream}, sequence {first} to {last}")?;
        }
    }
    writeln!(out, "{} streams, {messages} messages as they were written", store.streams().count())?;
    // What has a second copy, or a shortcut, is mended by the next start.
    let mended = |damage: &&&Damage| matches!(damage.what, Damaged::Copy | Damaged::Index);
    match (named.len(), named.iter().filter(mended).count()) {
        (0, _) => Ok(()),
        (all, mended) => {
            Err(Failure::damaged(format_args!("{all} places are damaged, {mended} of them cost nothing")))
        }
    }
}

fn dump(directory: &Path, only: Option<u32>, payload: bool) -> Outcome {
    let (mut store, report) = open(directory)?;
    let mut out = std::io::stdout().lock();
    let mut damaged = report.damages.len();
    for damage in report.damages {
        eprintln!("midge: {damage}");
    }
    for stream in store.streams().filter(|stream| only.is_none_or(|only| only == *stream)).collect::<Vec<_>>()
    {
        let (Ok(state), Ok(config)) = (store.state(stream), store.config(stream)) else { continue };
        let line = json!({
            "stream": stream, "config": text(config), "messages": state.messages, "bytes": state.bytes,
            "first_seq": state.first_seq, "last_seq": state.last_seq, "lost": state.lost,
        });
        writeln!(out, "{line}")?;
        if let Ok(states) = store.states(stream) {
            for (key, state) in states {
                let deltas: Vec<String> = state.deltas.iter().map(|delta| STANDARD.encode(delta)).collect();
                let line = json!({
                    "stream": stream, "key": text(key), "state": STANDARD.encode(&state.whole), "deltas": deltas,
                });
                writeln!(out, "{line}")?;
            }
        }
        let seqs: Vec<u64> = store.entries(stream, 0).map(|(seq, ..)| seq).collect();
        for seq in seqs {
            match store.read(stream, seq) {
                Ok(Some(message)) => {
                    let mut line = json!({
                        "stream": stream, "seq": seq, "time": message.time, "subject": text(&message.subject),
                        "headers": text(&message.headers),
                    });
                    if payload {
                        line["payload"] = STANDARD.encode(&message.payload).into();
                    }
                    writeln!(out, "{line}")?;
                }
                Ok(None) => {}
                Err(error) => {
                    damaged += 1;
                    eprintln!("midge: {error}");
                }
            }
        }
    }
    match damaged {
        0 => Ok(()),
        damaged => Err(Failure::damaged(format_args!("{damaged} places are damaged"))),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
