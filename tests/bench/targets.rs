//! What midge is to reach, and whether it does.

use std::fmt::Write as _;

use crate::document::Measured;
use crate::report::{Better, Line, number, show};
use crate::servers::{ALWAYS, OURS, REFERENCE, names};
use crate::streams::STREAMS;
use crate::traffic::{CPU, P50, P99, RATE};

/// The heading of the table of [`crate::footprint`].
pub(crate) const FOOTPRINT: &str = "Footprint";

struct Target {
    what: &'static str,
    measure: Measure,
    limit: f64,
    better: Better,
    /// The heading of the table that tells.
    table: &'static str,
    /// Which of its lines count.
    counts: fn(&str) -> bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// Ours to that of this one, of the same round.
    To(&'static str),
    Ours,
}

/// Ours to nats-server's.
const RATIO: Measure = Measure::To(REFERENCE);

const fn at_most(
    what: &'static str,
    measure: Measure,
    limit: f64,
    table: &'static str,
    counts: fn(&str) -> bool,
) -> Target {
    Target { what, measure, limit, better: Better::Less, table, counts }
}

const fn at_least(what: &'static str, limit: f64, counts: fn(&str) -> bool) -> Target {
    Target { what, measure: RATIO, limit, better: Better::More, table: RATE.heading, counts }
}

const fn streams_at_least(
    what: &'static str,
    other: &'static str,
    limit: f64,
    counts: fn(&str) -> bool,
) -> Target {
    Target { what, measure: Measure::To(other), limit, better: Better::More, table: STREAMS, counts }
}

const TARGETS: &[Target] = &[
    at_most("CPU per message, 1:1 and 1:10, 16 B and 128 B", RATIO, 0.5, CPU.heading, |title| {
        ["1:1, 16 B", "1:1, 128 B", "1:10, 16 B", "1:10, 128 B"].contains(&title)
    }),
    at_least("messages per second, every shape", 1.0, |_| true),
    at_least("messages per second, fan-out and request-reply", 1.5, |title| {
        title.starts_with("1:10") || title.contains("wildcards") || title.starts_with("request-reply")
    }),
    at_most("request-reply p50, 1 requester", RATIO, 0.8, P50.heading, one_requester),
    at_most("request-reply p99, 1 requester", RATIO, 0.8, P99.heading, one_requester),
    at_most("CPU per request-reply", RATIO, 0.5, CPU.heading, |title| title.starts_with("request-reply")),
    at_most("RSS when idle, MB", Measure::Ours, 4.0, FOOTPRINT, |title| {
        title == "idle: RSS without clients, MB"
    }),
    at_most("bytes per idle connection with a subscription", Measure::Ours, 2_000.0, FOOTPRINT, |title| {
        title.ends_with("idle connections: bytes each")
    }),
    at_most("bytes per connection that stay when 10,000 leave", Measure::Ours, 200.0, FOOTPRINT, |title| {
        title == "10,000 idle connections: bytes each that stay behind"
    }),
    at_most("wake-ups per second when idle", Measure::Ours, 0.1, FOOTPRINT, |title| {
        title == "idle: wake-ups per second without clients"
    }),
    at_most("stripped binary, MB", Measure::Ours, 4.0, FOOTPRINT, |title| {
        title.starts_with("stripped binary")
    }),
    at_most("bytes per subscription at 1,000,000", Measure::Ours, 100.0, FOOTPRINT, |title| {
        title == "1,000,000 subscriptions: bytes each"
    }),
    streams_at_least("published to disk per second, many unanswered", ALWAYS, 30.0, many_unanswered),
    streams_at_least("the same", REFERENCE, 1.0, many_unanswered),
    streams_at_least("published to disk per second, a flush takes 5 ms", ALWAYS, 100.0, |title| {
        title.starts_with("a flush takes 5 ms")
    }),
    streams_at_least("consumed per second", REFERENCE, 1.5, |title| {
        title.starts_with("consume") && title.ends_with("per second")
    }),
    streams_at_least("key-value gets per second", REFERENCE, 1.0, |title| {
        title == "key-value get: messages per second"
    }),
    streams_at_least(
        "single publishes and puts per second, on disk before the answer",
        ALWAYS,
        1.0,
        |title| waits_alone(title) && title.ends_with("per second"),
    ),
    at_most("CPU per message of a stream", RATIO, 0.5, STREAMS, is_cpu),
    at_most("the same, both on disk before the answer", Measure::To(ALWAYS), 0.5, STREAMS, |title| {
        is_cpu(title) && (title.contains("publish") || waits_alone(title))
    }),
    at_most("peak RSS with streams", RATIO, 0.25, STREAMS, |title| title.ends_with("peak RSS, MB")),
    at_most("ready with 500 MB after kill -9, ms", Measure::Ours, 100.0, STREAMS, |title| {
        title == "500 MB stored, killed: knows all after, ms"
    }),
    at_most("RSS with 200,000 keys, 200 streams and consumers", RATIO, 0.4, STREAMS, |title| {
        title.starts_with("200,000 keys")
    }),
];

fn many_unanswered(title: &str) -> bool {
    !title.starts_with("a flush") && title.ends_with("unanswered: messages per second")
}

/// What waits for a sync of its own.
fn waits_alone(title: &str) -> bool {
    title.starts_with("publish, wait for each answer") || title.starts_with("key-value put")
}

fn is_cpu(title: &str) -> bool {
    title.ends_with("CPU per message, µs")
}

fn one_requester(title: &str) -> bool {
    title.starts_with("request-reply, 1 requester")
}

/// The table of targets. Where several lines count, the worst stands for all, and those that miss are named.
pub(crate) fn table(measured: &Measured<'_>) -> String {
    let mut text = format!("| figure | target | {OURS} | |\n|---|---:|---:|---|\n");
    let (names, with_streams) = (names(measured.contenders), names(measured.with_streams));
    for target in TARGETS {
        let (names, tables) = match target.table {
            STREAMS => (&with_streams, std::slice::from_ref(measured.streams)),
            _ => (&names, measured.tables),
        };
        let lines =
            tables.iter().filter(|table| table.heading == target.table).flat_map(|table| &table.lines);
        let counted = lines.filter(|line| (target.counts)(&line.title));
        let _ = writeln!(text, "{}", target.judge(names, counted));
    }
    text
}

impl Target {
    fn judge<'a>(&self, names: &[&str], lines: impl Iterator<Item = &'a Line>) -> String {
        let mut found: Vec<_> = Vec::new();
        let mut unknown = Vec::new();
        for line in lines {
            let spread = match self.measure {
                Measure::To(other) => line.ratio(names, other),
                Measure::Ours => line.spread(names, OURS),
            };
            match spread {
                Some(spread) => found.push((line, spread)),
                None => unknown.push(line.title.as_str()),
            }
        }
        let sign = match self.better {
            Better::More => "≥",
            Better::Less => "≤",
        };
        let unit = match self.measure {
            Measure::To(other) => format!(" × {other}"),
            Measure::Ours => String::new(),
        };
        let digits = |line: &Line| if self.measure != Measure::Ours { 2 } else { line.scale.digits };
        let worst =
            found.iter().max_by(|(_, a), (_, b)| self.excess(a.median).total_cmp(&self.excess(b.median)));
        let measured = worst.map_or_else(String::new, |(line, spread)| {
            let shown = show(*spread, digits(line));
            if found.len() > 1 { format!("{shown}, {}", line.title) } else { shown }
        });
        let missed: Vec<_> = found.iter().filter(|(_, spread)| self.excess(spread.median) > 0.0).collect();
        let mut verdict = match missed.as_slice() {
            [] if found.is_empty() => "not measured".to_owned(),
            [] => "met".to_owned(),
            missed => {
                let each = missed.iter().map(|(line, spread)| {
                    let by = self.excess(spread.median) * 100.0;
                    let by = if by < 1.0 { "less than 1 %".into() } else { format!("{by:.0} %") };
                    if found.len() > 1 { format!("{} by {by}", line.title) } else { format!("by {by}") }
                });
                format!("**missed** {}", each.collect::<Vec<_>>().join("; "))
            }
        };
        if !found.is_empty() && !unknown.is_empty() {
            let _ = write!(verdict, "; not measured: {}", unknown.join("; "));
        }
        let limit_digits = match self.limit {
            whole if whole.fract() == 0.0 && self.measure == Measure::Ours => 0,
            tenths if (tenths * 10.0).fract() == 0.0 => 1,
            _ => 2,
        };
        let limit = number(self.limit, limit_digits);
        format!("| {} | {sign} {limit}{unit} | {measured} | {verdict} |", self.what)
    }

    /// How far beyond the limit a value is, as a part of the limit; negative or 0 where the target is met.
    fn excess(&self, value: f64) -> f64 {
        match self.better {
            Better::Less => value / self.limit - 1.0,
            Better::More => 1.0 - value / self.limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Cell, Scale, Table};
    use crate::servers::Contender;

    const NAMES: [&str; 2] = [OURS, REFERENCE];

    fn table_of(heading: &str, lines: &[(&str, f64, f64)]) -> Table {
        let line = |(title, ours, theirs): &(&str, f64, f64)| Line {
            title: (*title).to_owned(),
            scale: Scale::less(2),
            cells: vec![Cell::Values(vec![*ours]), Cell::Values(vec![*theirs])],
        };
        Table { heading: heading.into(), lines: lines.iter().map(line).collect() }
    }

    fn verdict(tables: &[Table], what: &str) -> String {
        let contenders = NAMES.map(|name| Contender::fake(name, "v1"));
        let streams = Table { heading: STREAMS.into(), lines: Vec::new() };
        let measured =
            Measured { contenders: &contenders, tables, with_streams: &contenders, streams: &streams };
        let text = table(&measured);
        text.lines().find(|line| line.starts_with(&format!("| {what} |"))).expect("such a target").to_owned()
    }

    #[test]
    fn met_and_missed() {
        let rate = table_of(RATE.heading, &[("1:1, 16 B", 3.0, 2.0), ("1:10, 16 B", 6.0, 5.0)]);
        let footprint = table_of(FOOTPRINT, &[("idle: RSS without clients, MB", 5.0, 14.0)]);
        let tables = [rate, footprint];
        assert_eq!(
            verdict(&tables, "messages per second, every shape"),
            "| messages per second, every shape | ≥ 1.0 × nats-server | 1.20, 1:10, 16 B | met |"
        );
        assert_eq!(
            verdict(&tables, "messages per second, fan-out and request-reply"),
            "| messages per second, fan-out and request-reply | ≥ 1.5 × nats-server | 1.20 | **missed** by 20 % |"
        );
        assert_eq!(
            verdict(&tables, "RSS when idle, MB"),
            "| RSS when idle, MB | ≤ 4 | 5.00 | **missed** by 25 % |"
        );
        assert!(verdict(&tables, "peak RSS with streams").contains("| ≤ 0.25 × nats-server |"));
        assert!(verdict(&tables, "CPU per request-reply").ends_with("| not measured |"));
    }

    #[test]
    fn what_waits_for_the_disk_is_judged_beside_both() {
        let line = |title: &str, values: [f64; 3]| Line {
            title: format!("{title}: {}", "CPU per message, µs"),
            scale: Scale::less(2),
            cells: values.map(|value| Cell::Values(vec![value])).to_vec(),
        };
        let mut get = line("key-value get", [4.0, 10.0, 1.0]);
        get.cells[2] = Cell::Unfit;
        let lines = vec![line("key-value put", [12.0, 10.0, 30.0]), get];
        let streams = Table { heading: STREAMS.into(), lines };
        let contenders = [OURS, REFERENCE, ALWAYS].map(|name| Contender::fake(name, "v1"));
        let measured =
            Measured { contenders: &contenders, tables: &[], with_streams: &contenders, streams: &streams };
        let text = table(&measured);
        for judged in [
            "| CPU per message of a stream | ≤ 0.5 × nats-server | 1.20, key-value put: CPU per message, µs | **missed** key-value put: CPU per message, µs by 140 % |",
            "| the same, both on disk before the answer | ≤ 0.5 × nats-server, sync always | 0.40 | met |",
        ] {
            assert!(text.contains(judged), "{judged} is not in\n{text}");
        }
    }

    #[test]
    fn all_that_miss_are_named() {
        let cpu = table_of(
            CPU.heading,
            &[("1:1, 16 B", 6.0, 10.0), ("1:1, 128 B", 7.0, 10.0), ("1:10, 16 B", 1.0, 10.0)],
        );
        let line = verdict(&[cpu], "CPU per message, 1:1 and 1:10, 16 B and 128 B");
        assert!(line.contains("| 0.70, 1:1, 128 B |"), "{line}");
        assert!(line.ends_with("| **missed** 1:1, 16 B by 20 %; 1:1, 128 B by 40 % |"), "{line}");
    }
}
