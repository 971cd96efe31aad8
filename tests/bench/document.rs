//! docs/BENCHMARKS.md: the text around the tables. And the few figures in README.md.

use std::fmt::Write as _;

use crate::machine::Machine;
use crate::report::{Table, number, show, tables};
use crate::rounds::FOOTPRINT_ROUNDS;
use crate::servers::{ALWAYS, Contender, OURS, REFERENCE, names};
use crate::streams::STREAMS;
use crate::targets::{self, FOOTPRINT};
use crate::traffic::{CPU, P50, RATE};

/// Where it stands, from the project's root.
pub(crate) const PATH: &str = "docs/BENCHMARKS.md";

/// What has the few figures that [`figures`] writes.
pub(crate) const README: &str = "README.md";

/// The lines of README.md between which they stand.
const MARKS: [&str; 2] = ["<!-- figures: written by tests/bench/run -->\n", "<!-- end of figures -->\n"];

/// Table and line of each, and what it is called there.
const FIGURES: &[(&str, &str, &str)] = &[
    (RATE.heading, "1:1, 128 B", "messages per second, thousands, 1:1, 128 B"),
    (CPU.heading, "1:1, 128 B", "server CPU for each of them, µs"),
    (P50.heading, "request-reply, 1 requester, 16 B", "request-reply p50, µs"),
    (FOOTPRINT, "idle: RSS without clients, MB", "RSS when idle, MB"),
    (FOOTPRINT, "10,000 idle connections: bytes each", "bytes per idle connection"),
    (
        STREAMS,
        "8 publishers, 64 unanswered: messages per second",
        "published to a stream per second, 8 publishers with 64 unanswered each",
    ),
    (STREAMS, "consume, acknowledge each: messages per second", "consumed per second, each acknowledged"),
    (STREAMS, "key-value put: messages per second", "key-value puts per second, one after the other"),
    (STREAMS, "key-value get: messages per second", "key-value gets per second, one after the other"),
    (STREAMS, "500 MB stored, killed: knows all after, ms", "ready with 500 MB after kill -9, ms"),
];

/// Who took part, and what came out.
pub(crate) struct Measured<'a> {
    pub(crate) contenders: &'a [Contender],
    pub(crate) tables: &'a [Table],
    /// Those who have streams.
    pub(crate) with_streams: &'a [Contender],
    pub(crate) streams: &'a Table,
}

/// All of it.
pub(crate) fn document(machine: &Machine, command: &str, rounds: u32, measured: &Measured<'_>) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "\
# Benchmarks

Written by `{command}`; changes by hand would be overwritten. Cases that midge loses stand in the same tables, marked.

## Targets

{}
## How this was measured

| | |
|---|---|
| machine | {}, {} cores, {} GB |
| system | {}, kernel {} |
| commit | {} |
| compiler | {} |
| date | {} |
| command | `{command}` |
",
        targets::table(measured),
        machine.cpu,
        machine.cores,
        number(machine.memory as f64 / 1e9, 1),
        machine.system,
        machine.kernel,
        machine.commit,
        machine.compiler,
        machine.date,
    );
    for contender in measured.contenders {
        let _ = writeln!(text, "| {} | {} |", contender.name, contender.version);
    }
    let footprint_rounds = rounds.min(FOOTPRINT_ROUNDS);
    let _ = write!(
        text,
        "
Figures are medians of {rounds} rounds, {footprint_rounds} for the footprint, behind them the lowest and the highest. In a round all servers take their turn,
each as a fresh process with its defaults, so that what else happens on the machine happens to all of them. A ratio is
the median of the rounds' own ratios; lower is better for everything but messages per second.

The generator runs on the same machine as the server, so messages per second are what both can do together on its
cores. CPU time is the server's alone, by the kernel's clock of its process. Publishers write prepared batches as fast
as they are taken; a run ends when every subscriber has got its last byte, and fails if one gets more. Before each run a
tenth of its work goes by unmeasured. A request and its reply count as one message, as does one that nobody listens to.
Mosquitto, where a shape fits it, does the same over MQTT 3.1.1 at QoS 0, with a smaller number of messages.

Memory is resident memory (RSS) of the process, 1 MB = 1,000,000 bytes. It has settled when it stays within 1 % for
half a second. Wake-ups are context switches of all threads.
"
    );
    text.push_str(&tables(&names(measured.contenders), measured.tables));
    text.push_str(&tables(&names(measured.with_streams), std::slice::from_ref(measured.streams)));
    text.push_str(
        "
Messages of 128 B in streams on disk, on this machine's disk. midged answers when a message is on the disk, and so does
nats-server with `sync_interval: always`, for each message alone; as it comes, nats-server syncs every two minutes, and
what it has acknowledged since is lost with the power. Each run has a new store; rates where somebody waits for the disk
are from fewer messages. The disk whose flush takes 5 ms is in memory, with ext4 on it. What reaches the device for each byte, at 20
messages a second too, is in [RELIABILITY.md](RELIABILITY.md).
",
    );
    text
}

/// README.md with the figures that were measured now. `None`: it has no place for them.
pub(crate) fn figures(readme: &str, measured: &Measured<'_>) -> Option<String> {
    let (before, rest) = readme.split_once(MARKS[0])?;
    let (_, after) = rest.split_once(MARKS[1])?;
    let heads = [OURS, REFERENCE, ALWAYS];
    let mut text = format!("| | {} |\n|---|---:|---:|---:|\n", heads.join(" | "));
    let with_streams = names(measured.with_streams);
    let all = measured.tables.iter().chain([measured.streams]);
    for (heading, title, called) in FIGURES {
        let names = if *heading == STREAMS { &with_streams } else { &names(measured.contenders) };
        let mut lines = all.clone().filter(|table| table.heading == *heading).flat_map(|table| &table.lines);
        let Some(line) = lines.find(|line| line.title == *title) else { continue };
        let shown = heads.map(|head| {
            line.spread(names, head).map_or_else(String::new, |spread| show(spread, line.scale.digits))
        });
        let row = format!("| {called} | {} |", shown.join(" | "));
        let _ = writeln!(text, "{}", row.replace("|  |", "| |"));
    }
    Some([before, MARKS[0], &text, MARKS[1], after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Cell, Line, Scale};

    #[test]
    fn a_document() {
        let machine = Machine {
            cpu: "Board 3000".into(),
            cores: 4,
            memory: 2_000_000_000,
            kernel: "6.1".into(),
            system: "Debian".into(),
            commit: "abc-dirty".into(),
            compiler: "rustc 1".into(),
            date: "2026-01-02".into(),
        };
        let contenders = [OURS, REFERENCE].map(|name| Contender::fake(name, "v1"));
        let line = Line {
            title: "1:1, 16 B".into(),
            scale: Scale::less(3),
            cells: vec![Cell::Values(vec![1.0, 2.0]), Cell::Values(vec![4.0, 4.0])],
        };
        let table = Table { heading: CPU.heading.into(), lines: vec![line] };
        let streams = Table { heading: STREAMS.into(), lines: Vec::new() };
        let (contenders, tables) = (&contenders[..], &[table][..]);
        let measured = Measured { contenders, tables, with_streams: contenders, streams: &streams };
        let text = document(&machine, "tests/bench/run", 2, &measured);
        for part in [
            "Written by `tests/bench/run`;",
            "| CPU per message, 1:1 and 1:10, 16 B and 128 B | ≤ 0.5 × nats-server | 0.38 (0.25–0.50) | met |",
            "| machine | Board 3000, 4 cores, 2.0 GB |",
            "| commit | abc-dirty |",
            "| midged | v1 |",
            "medians of 2 rounds, 2 for the footprint",
            "| 1:1, 16 B | 1.500 (1.000–2.000) | 4.000 | 0.38 (0.25–0.50) |",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
    #[test]
    fn readme_has_a_place_for_the_figures() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
        let line = |values: &[f64]| Line {
            title: "key-value put: messages per second".into(),
            scale: Scale::more(0),
            cells: values.iter().map(|value| Cell::Values(vec![*value])).collect(),
        };
        let streams = Table { heading: STREAMS.into(), lines: vec![line(&[5_000.0, 10_000.0, 2_500.0])] };
        let contenders = [OURS, REFERENCE, ALWAYS].map(|name| Contender::fake(name, "v1"));
        let (contenders, streams) = (&contenders[..], &streams);
        let measured = Measured { contenders, tables: &[], with_streams: contenders, streams };
        let text = figures(&readme, &measured).unwrap();
        let table = "| | midged | nats-server | nats-server, sync always |\n|---|---:|---:|---:|\n\
            | key-value puts per second, one after the other | 5,000 | 10,000 | 2,500 |\n<!-- end of figures -->\n";
        assert!(text.contains(table), "{text}");
        assert_eq!(figures(&text, &measured), Some(text.clone()));
        assert_eq!(figures("no marks", &measured), None);
    }
}
