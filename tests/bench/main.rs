//! Compares midged with nats-server and Mosquitto: the same work, side by side, on this machine's loopback.
//!
//! `tests/bench/run` builds everything and starts this program. Each figure comes from a fresh process, and servers
//! take turns (A B A B …), so that what else happens on the machine happens to all of them.
//!
//! * [`shapes`]: the kinds of traffic; [`traffic`] and [`timed`]: one of them on one server.
//! * [`footprint`]: what servers cost at rest.
//! * [`streams`]: what streams cost, on disk.
//! * [`options`]: what is asked for; [`rounds`]: who is measured when.
//! * [`servers`]: who takes part; [`client`]: a connection of the generator; [`wire`]: what it says.
//! * [`accounting`]: what the kernel knows of a server; [`statistics`]: what several rounds say together.
//! * [`report`]: tables; [`targets`]: what we want to reach; [`document`]: the text around them; [`machine`]: where.

mod accounting;
mod certificate;
mod client;
mod document;
mod footprint;
mod machine;
mod options;
mod report;
mod rounds;
mod servers;
mod shapes;
mod statistics;
mod streams;
mod targets;
mod timed;
mod traffic;
mod wire;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::document::Measured;
use crate::machine::Machine;
use crate::options::Options;
use crate::report::Cell;
use crate::servers::{BASELINE, Contender, NAMES, REFERENCE};
use crate::wire::Wire;

fn main() -> ExitCode {
    let options = Options::parse();
    match compare(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// True if all that was tried went well.
fn compare(options: &Options) -> Result<bool, String> {
    if options.list {
        options.shapes().for_each(|shape| println!("{}", shape.title()));
        options.footprints().for_each(|footprint| println!("{}", footprint.title()));
        options.works().for_each(|work| println!("{}", work.title()));
        return Ok(true);
    }
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // Asked first: what changes while this runs is not what is measured.
    let machine = Machine::this(root, document::PATH)?;
    let contenders = contenders(options)?;
    for contender in &contenders {
        eprintln!("{}: {}", contender.name, contender.version);
    }
    let with_streams = with_streams(options, &contenders)?;
    let tables = rounds::measure(options, &contenders)?;
    let streams = rounds::streams(options, &with_streams);
    if options.is_whole() {
        let measured = Measured {
            contenders: &contenders,
            tables: &tables,
            with_streams: &with_streams,
            streams: &streams,
        };
        let text = document::document(&machine, &options.command(), options.rounds(), &measured);
        std::fs::write(root.join(document::PATH), text).map_err(|error| error.to_string())?;
        eprintln!("written: {}", document::PATH);
        let readme = root.join(document::README);
        let text = std::fs::read_to_string(&readme).map_err(|error| error.to_string())?;
        let text = document::figures(&text, &measured)
            .ok_or_else(|| format!("{} has no place for figures", document::README))?;
        std::fs::write(&readme, text).map_err(|error| error.to_string())?;
        eprintln!("written: the figures in {}", document::README);
    } else {
        print!("{}", report::tables(&servers::names(&contenders), &tables));
        if !streams.lines.is_empty() {
            print!("{}", report::tables(&servers::names(&with_streams), std::slice::from_ref(&streams)));
        }
    }
    let cells =
        || tables.iter().chain([&streams]).flat_map(|table| &table.lines).flat_map(|line| &line.cells);
    Ok(!cells().any(|cell| matches!(cell, Cell::Failed(_))))
}

/// Those of `contenders` that have streams, and nats-server that waits for the disk.
fn with_streams(options: &Options, contenders: &[Contender]) -> Result<Vec<Contender>, String> {
    let mut with: Vec<_> =
        contenders.iter().filter(|contender| contender.wire() == Wire::Nats).cloned().collect();
    if options.servers.iter().any(|name| name == REFERENCE) {
        with.push(Contender::always()?);
    }
    Ok(with)
}

fn contenders(options: &Options) -> Result<Vec<Contender>, String> {
    let mut contenders = Vec::new();
    for name in NAMES.into_iter().filter(|name| options.servers.iter().any(|wanted| wanted == name)) {
        match Contender::named(name) {
            Ok(contender) => contenders.push(contender),
            Err(why) if name == servers::MOSQUITTO => eprintln!("without {name}: {why}"),
            Err(why) => return Err(why),
        }
    }
    if let Some(path) = &options.baseline {
        contenders.insert(contenders.len().min(1), Contender::nats(BASELINE, path)?);
    }
    Ok(contenders)
}
