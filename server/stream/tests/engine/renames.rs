//! Subjects that change.

use std::time::Duration;

use crate::world::{World, header};

#[test]
fn messages_are_stored_under_the_subject_that_theirs_becomes() {
    let mut world = World::new();
    world.good(
        "STREAM.CREATE.S",
        r#"{"name":"S","subjects":["a.*","x"],"subject_transform":{"src":"a.*","dest":"b.$1"}}"#,
    );
    world.ask("a.1", "");
    world.ask("x", "");
    let subject = |world: &mut World, seq| {
        world.good("STREAM.MSG.GET.S", &format!(r#"{{"seq":{seq}}}"#))["message"]["subject"].clone()
    };
    assert_eq!((subject(&mut world, 1), subject(&mut world, 2)), ("b.1".into(), "x".into()));
    world.ask_with("a.1", &header("Nats-Expected-Last-Subject-Sequence", "1"), "");
    assert_eq!(world.sums("S"), (3, 1, 3));
    world.power_cut(1);
    world.ask("a.2", "");
    assert_eq!(subject(&mut world, 4), "b.2");
    world.good("STREAM.UPDATE.S", r#"{"name":"S","subjects":["a.*","x"]}"#);
    world.ask("a.2", "");
    assert_eq!(subject(&mut world, 5), "a.2");
}

#[test]
fn what_was_stored_is_published_again() {
    let mut world = World::new();
    world.good(
        "STREAM.CREATE.S",
        r#"{"name":"S","subjects":["a.*"],"republish":{"src":"a.*","dest":"again.$1","headers_only":true},
            "max_age":1000000000,"subject_delete_marker_ttl":1000000000}"#,
    );
    world.listen("again.*", true);
    world.ask_with("a.1", &header("X", "1"), "hello");
    let seen: Vec<_> = world.seen.drain(..).collect();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].to.as_str(), seen[0].payload.as_str()), ("again.1", ""));
    assert_eq!(
        seen[0].header,
        "NATS/1.0\r\nX: 1\r\nNats-Stream: S\r\nNats-Subject: a.1\r\nNats-Sequence: 1\r\n\
         Nats-Time-Stamp: 2026-01-01T00:00:00Z\r\nNats-Last-Sequence: 0\r\nNats-Msg-Size: 5\r\n\r\n"
    );
    world.pass(Duration::from_secs(1));
    let mark = world.seen.pop().expect("a mark is a message");
    assert!(
        mark.header.contains("Nats-Sequence: 2\r\n") && mark.header.contains("Nats-Last-Sequence: 1\r\n")
    );
    world.good("STREAM.UPDATE.S", r#"{"name":"S","subjects":["a.*"],"allow_msg_ttl":true}"#);
    world.seen.clear();
    world.ask("a.1", "");
    assert_eq!(world.seen, []);
}

#[test]
fn what_is_refused() {
    let mut world = World::new();
    for (config, err_code) in [
        (r#""subject_transform":{"src":"a..b","dest":"b"}"#, 10155),
        (r#""subject_transform":{"src":"a.*","dest":"b.$2"}"#, 10156),
        (r#""republish":{"src":"a.*","dest":"a.$1"}"#, 10052),
        (r#""republish":{"src":"a.*","dest":"b.*"}"#, 10052),
        (r#""republish":{"dest":"b.>"},"pedantic":true"#, 10157),
        (r#""mirror":{"name":"T"}"#, 10034),
    ] {
        let config = format!(r#"{{"name":"S","subjects":["a.*"],{config}}}"#);
        assert_eq!(world.api("STREAM.CREATE.S", &config)["error"]["err_code"], err_code, "{config}");
    }
}
