//! Messages that are stored together, or with few acknowledgements.

use std::time::Duration;

use crate::world::World;

fn world(config: &str) -> World {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", &format!(r#"{{"name":"S","subjects":["a.*"],{config}}}"#));
    world
}

fn block(lines: &[(&str, &str)]) -> String {
    let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("NATS/1.0\r\n{lines}\r\n")
}

/// Publishes a message of a batch, and gives what the publisher is told.
fn part(world: &mut World, id: &str, seq: u64, more: &[(&str, &str)]) -> String {
    let seq = seq.to_string();
    let mut lines = vec![("Nats-Batch-Id", id), ("Nats-Batch-Sequence", seq.as_str())];
    lines.extend(more);
    world.ask_with("a.x", &block(&lines), "m").remove(0).payload
}

const COMMIT: (&str, &str) = ("Nats-Batch-Commit", "1");

#[test]
fn a_batch_is_there_once_it_is_committed() {
    let mut world = world(r#""allow_atomic":true"#);
    assert_eq!(part(&mut world, "b", 1, &[]), "");
    assert_eq!(part(&mut world, "b", 2, &[]), "");
    assert_eq!(world.sums("S").0, 0);
    assert_eq!(part(&mut world, "b", 3, &[COMMIT]), r#"{"stream":"S","seq":3,"batch":"b","count":3}"#);
    assert_eq!(part(&mut world, "c", 1, &[]), "");
    assert_eq!(
        part(&mut world, "c", 2, &[("Nats-Batch-Commit", "eob")]),
        r#"{"stream":"S","seq":4,"batch":"c","count":1}"#
    );
    world.power_cut(1);
    assert_eq!(world.sums("S"), (4, 1, 4));
}

#[test]
fn a_batch_is_refused_as_a_whole() {
    let mut world = world(r#""allow_atomic":true"#);
    world.listen("$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.S", true);
    let mut code = |id: &str, seq, more: &[(&str, &str)]| -> u64 {
        let answer = part(&mut world, id, seq, more);
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        answer["error"]["err_code"].as_u64().unwrap_or(0)
    };
    assert_eq!(code("late", 2, &[]), 10176);
    assert_eq!(code("late", 1000, &[]), 10176);
    assert_eq!(code("large", 1001, &[]), 10199);
    assert_eq!(code(&"x".repeat(65), 1, &[]), 10179);
    assert_eq!((code("gap", 1, &[]), code("gap", 3, &[]), code("gap", 2, &[])), (0, 10176, 10176));
    assert_eq!(code("odd", 1, &[("Nats-Batch-Commit", "x")]), 10200);
    assert_eq!(code("last", 1, &[COMMIT, ("Nats-Expected-Last-Msg-Id", "x")]), 10177);
    assert_eq!(
        (code("ids", 1, &[("Nats-Msg-Id", "i")]), code("ids", 2, &[COMMIT, ("Nats-Msg-Id", "i")])),
        (0, 10201)
    );
    assert_eq!(
        (code("seq", 1, &[]), code("seq", 2, &[COMMIT, ("Nats-Expected-Last-Sequence", "1")])),
        (0, 10164)
    );
    let expected = ("Nats-Expected-Last-Subject-Sequence", "0");
    assert_eq!((code("sub", 1, &[expected]), code("sub", 2, &[COMMIT, expected])), (0, 10164));
    assert_eq!(code("level", 1, &[("Nats-Required-Api-Level", "99")]), 10185);
    assert_eq!(world.sums("S").2, 0, "nothing of them is there");
    let reasons: Vec<&str> = world
        .seen
        .iter()
        .map(|seen| {
            ["incomplete", "unsupported"].into_iter().find(|it| seen.payload.contains(it)).unwrap_or("?")
        })
        .collect();
    assert_eq!(reasons, ["incomplete", "unsupported"]);
}

#[test]
fn batches_are_few_and_not_silent_for_long() {
    let mut world = world(r#""allow_atomic":true"#);
    world.listen("$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.S", true);
    for number in 0..50 {
        assert_eq!(part(&mut world, &number.to_string(), 1, &[]), "");
    }
    assert!(part(&mut world, "more", 1, &[]).contains("10210"));
    world.pass(Duration::from_secs(9));
    assert_eq!(part(&mut world, "7", 2, &[]), "");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.seen.len(), 49);
    assert!(part(&mut world, "8", 2, &[COMMIT]).contains("10176"));
    assert!(part(&mut world, "7", 3, &[COMMIT]).contains(r#""count":3"#));
}

/// A batch of 64 kB, more than the store of these worlds writes at once, up to its last message, in a stream that has two
/// messages, of which it may keep so many.
fn large(max_msgs: i64) -> World {
    let mut world = World::of_segments(1 << 17);
    world.good(
        "STREAM.CREATE.S",
        &format!(
            r#"{{"name":"S","subjects":["a.*"],"allow_atomic":true,"allow_rollup_hdrs":true,"max_msgs":{max_msgs}}}"#
        ),
    );
    world.ask("a.old", "1");
    world.ask("a.old", "2");
    let body = "x".repeat(4000);
    for seq in 1..=15 {
        let seq = seq.to_string();
        let mut lines = vec![("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", &*seq), ("Nats-Msg-Id", &*seq)];
        if seq == "1" {
            lines.push(("Nats-Rollup", "all"));
        }
        assert_eq!(world.ask_with("a.new", &block(&lines), &body).remove(0).payload, "");
    }
    world
}

const LAST: &str = "NATS/1.0\r\nNats-Batch-Id: b\r\nNats-Batch-Sequence: 16\r\nNats-Batch-Commit: 1\r\n\r\n";

#[test]
fn a_batch_that_takes_several_writes_is_there_as_a_whole_or_not_at_all() {
    for (seed, max_msgs) in [(1, -1), (2, 3)] {
        let mut world = large(max_msgs);
        let before = world.syncs();
        world.stage("a.new", Some("_IN.ack"), LAST, "last");
        assert!(world.syncs() > before, "a part of it is on the disk");
        world.power_cut(seed);
        let text = world.text("$JS.API.STREAM.MSG.GET.S", r#"{"seq":2}"#);
        assert!(text.contains(r#""data":"Mg==""#), "what it would have replaced is still there: {text}");
        assert_eq!(world.sums("S").0, 2);
        let again = world.ask_with("a.new", "NATS/1.0\r\nNats-Msg-Id: 3\r\n\r\n", "").remove(0).payload;
        assert!(!again.contains("duplicate"), "{again}");
    }
    for (max_msgs, left) in [(-1, 16), (3, 3)] {
        let mut world = large(max_msgs);
        let ack = world.ask_with("a.new", LAST, "last").remove(0).payload;
        assert_eq!(ack, r#"{"stream":"S","seq":18,"batch":"b","count":16}"#);
        world.power_cut(3);
        assert_eq!(world.sums("S"), (left, 19 - left, 18));
    }
}

/// Publishes a message of a fast batch, and gives what its subject for answers gets.
fn fast(world: &mut World, reply: &str) -> Vec<String> {
    world.stage("a.x", Some(&format!("_IN.{reply}.$FI")), "", "m");
    world.run();
    world.seen.drain(..).map(|seen| seen.payload).collect()
}

#[test]
fn fast_batches_are_acknowledged_now_and_then() {
    let mut world = world(r#""allow_batched":true"#);
    assert_eq!(fast(&mut world, "b.2.fail.1.0"), [r#"{"type":"ack","seq":0,"msgs":2}"#]);
    assert_eq!(fast(&mut world, "b.2.fail.2.1"), [r#"{"type":"ack","seq":2,"msgs":2}"#]);
    assert_eq!(fast(&mut world, "b.2.fail.3.1"), [""; 0]);
    assert_eq!(fast(&mut world, "b.2.fail.3.4"), [r#"{"type":"ack","seq":2,"msgs":2}"#]);
    assert_eq!(fast(&mut world, "b.2.fail.4.2"), [r#"{"stream":"S","seq":4,"batch":"b","count":4}"#]);
    assert_eq!(fast(&mut world, "g.10.ok.1.0").len(), 1);
    assert_eq!(fast(&mut world, "g.10.ok.5.1"), [r#"{"type":"gap","last_seq":2,"seq":5}"#]);
    assert_eq!(fast(&mut world, "g.10.ok.6.3"), [r#"{"stream":"S","seq":6,"batch":"g","count":5}"#]);
    fast(&mut world, "f.10.fail.1.0");
    assert_eq!(
        fast(&mut world, "f.10.fail.3.1"),
        [r#"{"type":"gap","last_seq":2,"seq":3}"#, r#"{"stream":"S","seq":7,"batch":"f","count":1}"#]
    );
    assert!(fast(&mut world, "n.10.fail.2.1")[0].contains("10208"));
    assert!(fast(&mut world, "n.10.fail.1.9")[0].contains("10206"));
    assert_eq!(world.sums("S"), (7, 1, 7));
}
