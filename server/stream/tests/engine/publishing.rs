//! What publishers are told, and when.

use std::time::Duration;

use midge_stream::Fate;

use crate::world::{World, header};

#[test]
fn an_acknowledgement_comes_after_the_commit_and_survives_a_power_cut() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a"]}"#);
    assert_eq!(world.text("a", "kept"), r#"{"stream":"S","seq":1}"#);
    world.stage("a", Some("_IN.x"), "", "lost");
    assert_eq!(world.engine.poll(), None, "nothing was committed");
    for seed in 0..20 {
        world.power_cut(seed);
        assert_eq!(world.sums("S"), (1, 1, 1), "seed {seed}");
        assert_eq!(world.good("STREAM.MSG.GET.S", r#"{"seq":1}"#)["message"]["data"], "a2VwdA==");
        world.stage("a", Some("_IN.x"), "", "lost");
    }
}

#[test]
fn ids_are_known_within_the_window_and_across_a_restart() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a"],"duplicate_window":60000000000}"#);
    let publish =
        move |world: &mut World| world.ask_with("a", &header("Nats-Msg-Id", "x"), "")[0].payload.clone();
    assert_eq!(publish(&mut world), r#"{"stream":"S","seq":1}"#);
    assert_eq!(publish(&mut world), r#"{"stream":"S","seq":1,"duplicate": true}"#);
    world.pass(Duration::from_secs(30));
    world.power_cut(1);
    assert_eq!(publish(&mut world), r#"{"stream":"S","seq":1,"duplicate": true}"#);
    world.pass(Duration::from_secs(31));
    assert_eq!(publish(&mut world), r#"{"stream":"S","seq":2}"#);
}

#[test]
fn expectations_are_checked() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"]}"#);
    let mut code = move |name: &str, value: &str| -> u64 {
        let answer = world.ask_with("a.x", &header(name, value), "")[0].payload.clone();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        answer["error"]["err_code"].as_u64().unwrap_or(0)
    };
    for (name, value, err_code) in [
        ("Nats-Expected-Last-Subject-Sequence", "0", 0),
        ("Nats-Expected-Last-Subject-Sequence", "0", 10071),
        ("Nats-Expected-Last-Subject-Sequence", "x", 10071),
        ("Nats-Expected-Last-Subject-Sequence-Subject", "a.x", 10193),
        ("Nats-Expected-Last-Sequence", "1", 0),
        ("Nats-Expected-Last-Sequence", "1", 10071),
        ("Nats-Expected-Stream", "T", 10060),
        ("Nats-Expected-Last-Msg-Id", "y", 10070),
        ("Nats-TTL", "1s", 10166),
        ("Nats-TTL", "x", 10165),
        ("Nats-Rollup", "sub", 10111),
        ("Nats-Batch-Id", "b", 10174),
    ] {
        assert_eq!(code(name, value), err_code, "{name}: {value}");
    }
}

#[test]
fn rollups_take_what_was_before() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"],"allow_rollup_hdrs":true}"#);
    for subject in ["a.x", "a.y", "a.x"] {
        world.ask(subject, "");
    }
    world.ask_with("a.x", &header("Nats-Rollup", "sub"), "");
    assert_eq!(world.sums("S"), (2, 2, 4));
    world.ask_with("a.x", &header("Nats-Rollup", "all"), "");
    assert_eq!(world.sums("S"), (1, 5, 5));
}

#[test]
fn a_message_that_is_only_traced_is_judged_and_not_stored() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["s.*"]}"#);
    let fate = |subject: &str, error: &str| {
        let (stream, subject, error) = ("S".to_owned(), subject.to_owned(), error.to_owned());
        Some(Fate { stream, subject, no_interest: false, error })
    };
    world.trace(1, true, "s.a", "");
    world.trace(2, true, "s.a", &header("Nats-Expected-Stream", "T"));
    assert_eq!(world.sums("S"), (0, 0, 0));
    world.trace(3, false, "s.a", "");
    world.trace(4, true, "$JS.API.STREAM.DELETE.S", "");
    assert_eq!(world.sums("S"), (1, 1, 1));
    let expected = [
        (1, fate("s.a", "")),
        (2, fate("", "expected stream does not match")),
        (3, fate("s.a", "")),
        (4, None),
    ];
    assert_eq!(world.traced, expected);
}
