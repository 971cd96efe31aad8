//! Compares midged with nats-server and Mosquitto: the same work, side by side, on this machine's loopback.
//!
//! `tests/bench/run` builds everything and starts this program. Each figure comes from a fresh process, and servers
//! take turns (A B A B …), so that what else happens on the machine happens to all of them.
//!
//! * [`shapes`]: the kinds of traffic, and [`traffic`]: one of them on one server.
//! * [`servers`]: who takes part; [`client`]: a connection of the generator; [`wire`]: what it says.
//! * [`accounting`]: what the kernel knows of a server; [`statistics`]: what several rounds say together.
//! * [`report`]: the tables.

mod accounting;
mod certificate;
mod client;
mod report;
mod servers;
mod shapes;
mod statistics;
mod traffic;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::certificate::Certificate;
use crate::report::{Cell, Report, Row};
use crate::servers::{BASELINE, Contender, NAMES};
use crate::shapes::{SHAPES, Shape};
use crate::wire::Wire;

/// Compares midged with nats-server and Mosquitto on this machine's loopback.
#[derive(Debug, Parser)]
#[command(name = "tests/bench/run")]
struct Options {
    /// Rounds of each measurement; in each all servers take their turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// One round of a tenth of the work, unless --rounds says otherwise: shows that all works.
    #[arg(long)]
    quick: bool,
    /// Only measurements whose title contains this; may be given again.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Servers that take part.
    #[arg(long, value_delimiter = ',', default_values = NAMES, value_parser = NAMES)]
    servers: Vec<String>,
    /// Another midged, to be measured beside this one.
    #[arg(long, value_name = "BINARY")]
    baseline: Option<PathBuf>,
    /// Say what would be measured.
    #[arg(long)]
    list: bool,
}

impl Options {
    fn rounds(&self) -> u32 {
        if self.quick && self.rounds == 5 { 1 } else { self.rounds }
    }

    /// Of the work.
    fn share(&self) -> f64 {
        if self.quick { 0.1 } else { 1.0 }
    }

    fn wants(&self, title: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| title.contains(part.as_str()))
    }
}

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
    let shapes: Vec<&Shape> = SHAPES.iter().filter(|shape| options.wants(&shape.title())).collect();
    if options.list {
        shapes.iter().for_each(|shape| println!("{}", shape.title()));
        return Ok(true);
    }
    let contenders = contenders(options)?;
    for contender in &contenders {
        eprintln!("{}: {}", contender.name, contender.version);
    }
    let certificate = Certificate::new()?;
    let mut rows = Vec::new();
    for shape in shapes {
        rows.push(measure(shape, options, &contenders, &certificate));
    }
    let report = Report { contenders, rows };
    print!("{report}");
    Ok(report.rows.iter().all(|row| row.cells.iter().all(|cell| !matches!(cell, Cell::Failed(_)))))
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

/// All rounds of one shape.
fn measure(shape: &Shape, options: &Options, contenders: &[Contender], certificate: &Certificate) -> Row {
    let mut cells: Vec<Cell> = contenders
        .iter()
        .map(|contender| match contender.wire() {
            Wire::Mqtt if !shape.fits_mqtt() => Cell::Unfit,
            _ => Cell::Rounds(Vec::new()),
        })
        .collect();
    for round in 1..=options.rounds() {
        for (contender, cell) in contenders.iter().zip(&mut cells) {
            let Cell::Rounds(runs) = cell else { continue };
            eprint!("{}, round {round}, {}: ", shape.title(), contender.name);
            match traffic::run(shape, options.share(), contender, certificate) {
                Ok(figures) => {
                    eprintln!(
                        "{} messages, {:.0} a second, {:.3} µs of CPU each",
                        figures.deliveries, figures.per_second, figures.cpu_us
                    );
                    runs.push(figures);
                }
                Err(why) => {
                    eprintln!("{why}");
                    *cell = Cell::Failed(why);
                }
            }
        }
    }
    Row { shape: *shape, cells }
}
