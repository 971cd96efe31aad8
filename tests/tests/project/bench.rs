//! The comparison of tests/bench, with next to no work: that all of it arrives. Times are not looked at.

use std::process::Command;

use midge_tests::daemon::Program;

/// What a thousandth of each shape comes to, in deliveries or answered requests.
const SHAPES: &[(&str, u64)] = &[
    ("publish only, 16 B", 5_000),
    ("1:1, 16 B", 3_000),
    ("1:1, 64 KiB", 10),
    ("1:10, 128 B", 3_000),
    ("10:1, 128 B", 1_200),
    ("100 publishers, 1,000 subjects, wildcards, 128 B", 2_000),
    ("queue group of 8, 128 B", 1_500),
    ("1:1, TLS, 128 B", 600),
    ("1:1, subscriptions come and go, 128 B", 1_000),
    ("request-reply, 1 requester, 16 B", 10),
    ("request-reply, 16 requesters, 16 B", 48),
    ("1:1, 1,000 a second, 128 B", 3),
];
const FOOTPRINTS: &[&str] = &["start", "100 idle connections", "1,000 subscriptions"];
const STREAMS: &[&str] = &[
    "1 publisher, 1,000 unanswered",
    "8 publishers, 64 unanswered",
    "publish, wait for each answer",
    "consume",
    "key-value put",
    "key-value get",
];
const SERVERS: [&str; 2] = ["midged", "nats-server"];

#[test]
fn a_little_of_everything_arrives() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
    command.args(["--work", "0.1", "--rounds", "1", "--servers", &SERVERS.join(",")]);
    command.env("MIDGED", Program::ours().unwrap().path());
    for title in SHAPES.iter().map(|(title, _)| title).chain(FOOTPRINTS).chain(STREAMS) {
        command.args(["--only", title]);
    }
    // It ends by itself: nothing in it waits for a server without a deadline.
    let output = command.output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{stderr}");
    for server in SERVERS {
        for (title, messages) in SHAPES {
            let line = format!("{title}, round 1, {server}: {messages} messages, ");
            assert!(stderr.contains(&line), "{line} is not among\n{stderr}");
        }
    }
    for title in FOOTPRINTS.iter().chain(STREAMS) {
        let lines = stdout.lines().filter(|line| line.starts_with(&format!("| {title}")));
        let cells: Vec<Vec<&str>> = lines.map(|line| line.split('|').map(str::trim).collect()).collect();
        assert!(!cells.is_empty(), "{title} is not among\n{stdout}");
        // Each line has a figure for both servers.
        let figures =
            |line: &Vec<&str>| line[2..4].iter().all(|cell| cell.replace(',', "").parse::<f64>().is_ok());
        assert!(cells.iter().all(figures), "{cells:?}");
    }
}
