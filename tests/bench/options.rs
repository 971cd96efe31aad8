//! What is asked for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::footprint::{FOOTPRINTS, Footprint, Patience};
use crate::servers::NAMES;
use crate::shapes::{SHAPES, Shape};
use crate::streams::{WORKS, Work};

/// Compares midged with nats-server and Mosquitto on this machine's loopback.
///
/// A whole run writes docs/BENCHMARKS.md and the figures in README.md. Where something is left out, the tables go to the standard output instead.
#[derive(Debug, Parser)]
#[command(name = "tests/bench/run")]
pub(crate) struct Options {
    /// Rounds of each measurement; in each all servers take their turn [default: 5, with --quick 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: Option<u32>,
    /// A tenth of the work, and short pauses: shows that all works.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only so much of the work, in percent. Below 40 nothing is written.
    #[arg(long, value_name = "PERCENT", default_value_t = 100.0, conflicts_with = "quick")]
    pub(crate) work: f64,
    /// Only measurements whose title contains this; may be given again.
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Vec<String>,
    /// Servers that take part.
    #[arg(long, value_delimiter = ',', default_values = NAMES, value_parser = NAMES)]
    pub(crate) servers: Vec<String>,
    /// Another midged, to be measured beside this one.
    #[arg(long, value_name = "BINARY")]
    pub(crate) baseline: Option<PathBuf>,
    /// A midged with other cargo features, whose size is to be told: NAME=BINARY.
    #[arg(long, value_name = "VARIANT", value_parser = variant)]
    pub(crate) variant: Vec<(String, PathBuf)>,
    /// Say what would be measured.
    #[arg(long)]
    pub(crate) list: bool,
}

fn variant(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("expected NAME=BINARY")?;
    Ok((name.to_owned(), path.into()))
}

impl Options {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    /// Of the work.
    pub(crate) fn share(&self) -> f64 {
        if self.quick { 0.1 } else { self.work / 100.0 }
    }

    pub(crate) fn patience(&self) -> Patience {
        let [idle, rest, settling] = match self.share() {
            most if most >= 0.4 => [10, 2, 2],
            part if part >= 0.01 => [2, 1, 5],
            // Figures don't matter then.
            _ => [0; 3],
        };
        let [idle, rest, settling] = [idle, rest, settling].map(Duration::from_secs);
        Patience { idle, rest, settling }
    }

    pub(crate) fn is_full_work(&self) -> bool {
        self.share() >= 0.4
    }

    pub(crate) fn wants(&self, title: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| title.contains(part.as_str()))
    }

    pub(crate) fn shapes(&self) -> impl Iterator<Item = &'static Shape> {
        SHAPES.iter().filter(|shape| self.wants(&shape.title()))
    }

    /// A tenth of the traffic still goes with whole crowds; less than that, with smaller ones.
    pub(crate) fn footprints(&self) -> impl Iterator<Item = Footprint> {
        let share = (self.share() * 10.0).min(1.0);
        FOOTPRINTS.iter().map(move |footprint| footprint.scaled(share)).filter(|f| self.wants(&f.title()))
    }

    pub(crate) fn works(&self) -> impl Iterator<Item = Work> {
        WORKS.iter().copied().filter(|work| work.is_possible() && self.wants(&work.title()))
    }

    /// Whether nothing is left out, so that the result may be kept.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_full_work()
            && self.rounds() >= 5
            && self.only.is_empty()
            && self.servers.len() == NAMES.len()
            && self.baseline.is_none()
    }

    /// As somebody would type it.
    pub(crate) fn command(&self) -> String {
        let rounds = self.rounds.map(|rounds| format!(" --rounds {rounds}")).unwrap_or_default();
        let work = if self.work < 100.0 { format!(" --work {}", self.work) } else { String::new() };
        format!("tests/bench/run{rounds}{work}")
    }
}
