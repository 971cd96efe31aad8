//! What goes wrong goes wrong for those whom it concerns, and they are told.

use std::time::Duration;

use midge_store::disk::sim::Fault;
use serde_json::json;

use crate::world::World;

const FAILED: &str =
    r#"{"error":{"code":503,"err_code":10077,"description":"the disk failed"},"stream":"S","seq":0}"#;

fn world() -> World {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"]}"#);
    world.good("STREAM.CREATE.D", r#"{"name":"D"}"#);
    world.good("STREAM.CREATE.M", r#"{"name":"M","subjects":["m.*"],"storage":"memory"}"#);
    world.good(
        "CONSUMER.CREATE.S.C",
        r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#,
    );
    world.ask("a.x", "1");
    world
}

#[test]
fn when_the_disk_fails_everybody_is_told_and_what_was_promised_is_there_again() {
    let mut world = world();
    let messages = world.fetch("S", "C", 1);
    // Where the consumer is, is on the disk by then.
    world.pass(Duration::from_millis(300));
    world.fail(Fault::Eio);
    // Many in one commit: all of them hear of it.
    for inbox in ["_IN.a", "_IN.b"] {
        world.stage("a.x", Some(inbox), "", "lost");
    }
    world.stage("$JS.API.STREAM.CREATE.T", Some("_IN.c"), "", r#"{"name":"T","subjects":["t"]}"#);
    world.stage("$JS.API.STREAM.DELETE.D", Some("_IN.d"), "", "");
    world.stage("$JS.API.STREAM.PURGE.S", Some("_IN.e"), "", "");
    world.run();
    let mut seen = world.take(|seen| seen.to.starts_with("_IN."));
    seen.sort_by(|one, other| one.to.cmp(&other.to));
    let told: Vec<&str> = seen.iter().map(|seen| seen.payload.as_str()).collect();
    assert_eq!(told[..2], [FAILED, FAILED]);
    assert!(told[2].contains("10077") && told[2].contains("stream_create_response"), "{}", told[2]);
    assert!(told[3].contains("10077") && told[3].contains("stream_delete_response"), "{}", told[3]);
    assert!(told[4].contains("10077") && told[4].contains("stream_purge_response"), "{}", told[4]);
    assert!(world.engine.has_failed());
    // What is in memory only goes on; what is on the disk is read.
    assert_eq!(world.text("m.x", ""), r#"{"stream":"M","seq":1}"#);
    assert_eq!(world.api("STREAM.CREATE.U", r#"{"name":"U"}"#)["error"]["err_code"], 10077);
    assert!(
        world.ask(&messages[0].1, "").is_empty(),
        "an acknowledgement that can't be kept isn't confirmed"
    );
    world.mend();
    assert_eq!(world.good("STREAM.NAMES", "")["streams"], json!(["D", "M", "S"]));
    let (messages, first, _) = world.sums("S");
    assert_eq!((messages, first), (1, 1));
    assert_eq!(world.consumer("S", "C")["num_ack_pending"], 1);
    let stored = world.text("a.x", "2");
    assert!(stored.starts_with(r#"{"stream":"S","seq":"#), "{stored}");
    world.pass(Duration::from_secs(31));
    let payloads: Vec<_> = world.fetch("S", "C", 9).into_iter().map(|(payload, _)| payload).collect();
    assert_eq!(payloads, ["1", "2"]);
    world.power_cut(5);
    assert_eq!(world.sums("S").0, 2);
}

#[test]
fn what_is_too_large_is_refused_alone() {
    let mut world = world();
    let large = "x".repeat(400_000);
    world.stage("a.x", Some("_IN.a"), "", "before");
    world.stage("a.x", Some("_IN.b"), "", &large);
    world.stage("a.x", Some("_IN.c"), "", "after");
    world.run();
    let mut seen = world.take(|seen| seen.to.starts_with("_IN."));
    seen.sort_by(|one, other| one.to.cmp(&other.to));
    assert_eq!(seen[0].payload, r#"{"stream":"S","seq":2}"#);
    assert!(seen[1].payload.contains("larger than the log takes"), "{}", seen[1].payload);
    assert_eq!(seen[2].payload, r#"{"stream":"S","seq":3}"#);
    // Consumers that fill what the disk keeps of them.
    let metadata: String = "y".repeat(100_000);
    let told = ["D", "E", "F"].map(|name| {
        let config =
            json!({ "stream_name": "S", "config": { "durable_name": name, "metadata": { "m": metadata } } });
        world.api(&format!("CONSUMER.CREATE.S.{name}"), &config.to_string())["error"]["err_code"].clone()
    });
    assert_eq!(told, [json!(null), json!(null), json!(10104)]);
    assert_eq!(world.good("CONSUMER.NAMES.S", "")["consumers"], json!(["C", "D", "E"]));
    assert_eq!(world.text("a.x", ""), r#"{"stream":"S","seq":4}"#);
    assert!(!world.engine.has_failed());
}

#[test]
fn damage_is_named() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"],"allow_direct":true}"#);
    for payload in ["first of all", "rotten one", "third of all"] {
        world.ask("a.x", payload);
    }
    world.good("STREAM.MSG.DELETE.S", r#"{"seq":1}"#);
    world.rot(b"rotten one");
    let told = world.api("STREAM.MSG.GET.S", r#"{"seq":2}"#);
    assert_eq!(
        told["error"],
        json!({ "code": 503, "err_code": 10077, "description": "message 2 is damaged" })
    );
    assert_eq!(
        world.api("STREAM.MSG.GET.S", r#"{"seq":1}"#)["error"]["err_code"],
        10037,
        "this one was deleted"
    );
    let direct = world.ask("$JS.API.DIRECT.GET.S", r#"{"seq":2}"#);
    assert_eq!(direct[0].header, "NATS/1.0 500 message 2 is damaged\r\n\r\n");
    let lost = &world.good("STREAM.INFO.S", "")["state"]["lost"];
    assert_eq!(lost["msgs"], json!([2]));
    let batch = world.ask("$JS.API.DIRECT.GET.S", r#"{"seq":2,"batch":5}"#);
    assert_eq!(batch[0].payload, "third of all", "those behind it are there");
    // A consumer passes over it, and says so.
    world.listen("$JS.EVENT.>", true);
    world.good(
        "CONSUMER.CREATE.S.C",
        r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#,
    );
    let payloads: Vec<_> = world.fetch("S", "C", 9).into_iter().map(|(payload, _)| payload).collect();
    assert_eq!(payloads, ["third of all"]);
    let events = world.take(|seen| seen.to.starts_with("$JS.EVENT.ADVISORY.CONSUMER.MSG_DAMAGED.S.C"));
    assert_eq!(events.len(), 1);
    assert!(events[0].payload.contains(r#""stream_seq":2"#), "{}", events[0].payload);
}
