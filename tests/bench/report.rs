//! The tables.

use std::fmt;
use std::time::Duration;

use crate::servers::{Contender, OURS, REFERENCE};
use crate::shapes::Shape;
use crate::statistics::{Percentiles, Spread};
use crate::traffic::Figures;

/// All that was measured.
pub(crate) struct Report {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) rows: Vec<Row>,
}

/// A shape on all servers.
pub(crate) struct Row {
    pub(crate) shape: Shape,
    /// In the order of the contenders.
    pub(crate) cells: Vec<Cell>,
}

/// A shape on a server.
pub(crate) enum Cell {
    Rounds(Vec<Figures>),
    /// The server has no such thing.
    Unfit,
    Failed(String),
}

/// One figure of a run.
struct Figure {
    title: &'static str,
    of: fn(&Figures) -> Option<f64>,
    digits: usize,
    /// More is better.
    more: bool,
}

const FIGURES: &[Figure] = &[
    Figure {
        title: "Messages per second, thousands",
        of: |f| Some(f.per_second / 1e3),
        digits: 1,
        more: true,
    },
    Figure { title: "Server CPU per message, µs", of: |f| Some(f.cpu_us), digits: 3, more: false },
    Figure { title: "Latency p50, µs", of: |f| micros(f, |l| l.p50), digits: 0, more: false },
    Figure { title: "Latency p99, µs", of: |f| micros(f, |l| l.p99), digits: 0, more: false },
    Figure { title: "Latency p99.9, µs", of: |f| micros(f, |l| l.p999), digits: 0, more: false },
    Figure { title: "Peak RSS, MB", of: |f| Some(f.peak as f64 / 1e6), digits: 1, more: false },
    Figure { title: "Settled RSS, MB", of: |f| Some(f.settled as f64 / 1e6), digits: 1, more: false },
];

fn micros(figures: &Figures, which: impl Fn(&Percentiles) -> Duration) -> Option<f64> {
    figures.latency.as_ref().map(|latency| which(latency).as_secs_f64() * 1e6)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for figure in FIGURES {
            let rows: Vec<_> = self.rows.iter().filter(|row| row.has(figure)).collect();
            if rows.is_empty() {
                continue;
            }
            let names: Vec<_> = self.contenders.iter().map(|contender| contender.name).collect();
            writeln!(f, "\n{}\n\n| | {} | {OURS}/{REFERENCE} |", figure.title, names.join(" | "))?;
            writeln!(f, "|---|{}---:|", "---:|".repeat(names.len()))?;
            for row in rows {
                let cells: Vec<_> = row.cells.iter().map(|cell| cell.show(figure)).collect();
                let ratio = self.ratio(row, figure).map_or_else(String::new, |ratio| ratio.to_string());
                writeln!(f, "| {} | {} | {ratio} |", row.shape.title(), cells.join(" | "))?;
            }
        }
        Ok(())
    }
}

impl Report {
    /// Ours to the reference's, pair by pair.
    fn ratio(&self, row: &Row, figure: &Figure) -> Option<Ratio> {
        let values = |name: &str| {
            let at = self.contenders.iter().position(|contender| contender.name == name)?;
            Some(row.cells.get(at)?.values(figure))
        };
        let pairs = values(OURS)?.into_iter().zip(values(REFERENCE)?);
        let spread = Spread::of(pairs.map(|(ours, theirs)| ours / theirs))?;
        let lost = if figure.more { spread.median < 1.0 } else { spread.median > 1.0 };
        Some(Ratio { spread, lost })
    }
}

impl Row {
    fn has(&self, figure: &Figure) -> bool {
        self.cells.iter().any(|cell| !cell.values(figure).is_empty())
    }
}

impl Cell {
    fn values(&self, figure: &Figure) -> Vec<f64> {
        match self {
            Self::Rounds(runs) => runs.iter().filter_map(figure.of).collect(),
            Self::Unfit | Self::Failed(_) => Vec::new(),
        }
    }

    fn show(&self, figure: &Figure) -> String {
        match self {
            Self::Failed(why) => format!("failed: {why}"),
            _ => Spread::of(self.values(figure)).map_or_else(String::new, |s| show(s, figure.digits)),
        }
    }
}

struct Ratio {
    spread: Spread,
    lost: bool,
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = show(self.spread, 2);
        if self.lost { write!(f, "**lost:** {text}") } else { f.write_str(&text) }
    }
}

fn show(Spread { lowest, median, highest }: Spread, digits: usize) -> String {
    if lowest == highest {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({lowest:.digits$}–{highest:.digits$})")
}
