//! Tables of what was measured, in Markdown.

use std::fmt;

use crate::servers::{ALWAYS, BASELINE, OURS, REFERENCE};
use crate::statistics::Spread;

/// Some lines about the same thing.
pub(crate) struct Table {
    pub(crate) heading: String,
    pub(crate) lines: Vec<Line>,
}

/// One figure of all servers.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) title: String,
    pub(crate) scale: Scale,
    /// In the order of the servers.
    pub(crate) cells: Vec<Cell>,
}

/// How a figure is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    /// Digits behind the point.
    pub(crate) digits: usize,
    pub(crate) better: Better,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

impl Scale {
    pub(crate) const fn less(digits: usize) -> Self {
        Self { digits, better: Better::Less }
    }

    pub(crate) const fn more(digits: usize) -> Self {
        Self { digits, better: Better::More }
    }
}

/// One figure of one server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// One of each round.
    Values(Vec<f64>),
    /// The server has no such thing.
    Unfit,
    /// It could not be measured, and why.
    Failed(String),
}

impl Cell {
    pub(crate) fn values(&self) -> &[f64] {
        match self {
            Self::Values(values) => values,
            Self::Unfit | Self::Failed(_) => &[],
        }
    }
}

impl Line {
    /// What `name` showed.
    pub(crate) fn spread(&self, names: &[&str], name: &str) -> Option<Spread> {
        Spread::of(self.values(names, name)?.iter().copied())
    }

    /// Ours to that of `other`, round by round.
    pub(crate) fn ratio(&self, names: &[&str], other: &str) -> Option<Spread> {
        let (ours, theirs) = (self.values(names, OURS)?, self.values(names, other)?);
        let pairs = ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0);
        Spread::of(pairs.map(|(ours, theirs)| ours / theirs))
    }

    fn values(&self, names: &[&str], name: &str) -> Option<&[f64]> {
        let at = names.iter().position(|found| *found == name)?;
        self.cells.get(at).map(Cell::values)
    }

    /// Whether a ratio says that ours is the worse one.
    fn is_lost(&self, ratio: Spread) -> bool {
        match self.scale.better {
            Better::More => ratio.median < 1.0,
            Better::Less => ratio.median > 1.0,
        }
    }
}

/// All tables of a run, as text.
pub(crate) fn tables(names: &[&str], tables: &[Table]) -> String {
    tables.iter().map(|table| Shown { names, table }.to_string()).collect()
}

struct Shown<'a> {
    names: &'a [&'a str],
    table: &'a Table,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { names, table } = self;
        let others: Vec<_> =
            [REFERENCE, ALWAYS, BASELINE].into_iter().filter(|other| names.contains(other)).collect();
        let heads = names.iter().map(ToString::to_string);
        let ratios = others.iter().map(|other| format!("{OURS} / {other}"));
        let heads: Vec<String> = heads.chain(ratios).collect();
        writeln!(f, "\n## {}\n", table.heading)?;
        writeln!(f, "| | {} |", heads.join(" | "))?;
        writeln!(f, "|---|{}", "---:|".repeat(heads.len()))?;
        for line in &table.lines {
            write!(f, "| {} |", line.title)?;
            for cell in &line.cells {
                match cell {
                    Cell::Values(values) => write!(f, " {} |", shown(values, line.scale.digits))?,
                    Cell::Unfit => write!(f, " |")?,
                    Cell::Failed(why) => write!(f, " skipped: {} |", why.replace('|', "\\|"))?,
                }
            }
            for other in &others {
                match line.ratio(names, other) {
                    None => write!(f, " |")?,
                    Some(ratio) if line.is_lost(ratio) => write!(f, " **lost** {} |", show(ratio, 2))?,
                    Some(ratio) => write!(f, " {} |", show(ratio, 2))?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn shown(values: &[f64], digits: usize) -> String {
    Spread::of(values.iter().copied()).map_or_else(String::new, |spread| show(spread, digits))
}

/// The median, and behind it the lowest and the highest unless they look the same.
pub(crate) fn show(spread: Spread, digits: usize) -> String {
    let [lowest, median, highest] =
        [spread.lowest, spread.median, spread.highest].map(|value| number(value, digits));
    if lowest == highest { median } else { format!("{median} ({lowest}–{highest})") }
}

/// With a comma between each three digits.
pub(crate) fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let fraction = fraction.map(|fraction| format!(".{fraction}")).unwrap_or_default();
    format!("{sign}{grouped}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::MOSQUITTO;

    #[test]
    fn numbers() {
        assert_eq!(number(1_234_567.0, 0), "1,234,567");
        assert_eq!(number(999.96, 1), "1,000.0");
        assert_eq!(number(-12.345, 2), "-12.35");
        assert_eq!(number(0.1, 3), "0.100");
    }

    #[test]
    fn a_table() {
        let line = |title: &str, scale, cells| Line { title: title.into(), scale, cells };
        let table = Table {
            heading: "Things".into(),
            lines: vec![
                line(
                    "speed",
                    Scale::more(0),
                    vec![
                        Cell::Values(vec![1.0, 3.0, 2.0]),
                        Cell::Values(vec![2.0, 2.0, 2.0]),
                        Cell::Values(vec![1.0]),
                    ],
                ),
                line(
                    "cost",
                    Scale::less(1),
                    vec![Cell::Values(vec![3.0]), Cell::Values(vec![2.0]), Cell::Unfit],
                ),
                line(
                    "tls",
                    Scale::less(1),
                    vec![Cell::Failed("no".into()), Cell::Values(vec![2.0]), Cell::Unfit],
                ),
            ],
        };
        let text = tables(&[OURS, REFERENCE, MOSQUITTO], &[table]);
        let expected = "
## Things

| | midged | nats-server | Mosquitto | midged / nats-server |
|---|---:|---:|---:|---:|
| speed | 2 (1–3) | 2 | 1 | 1.00 (0.50–1.50) |
| cost | 3.0 | 2.0 | | **lost** 1.50 |
| tls | skipped: no | 2.0 | | |
";
        assert_eq!(text, expected);
    }
}
