//! Dead letters.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{World, header};

fn world(retention: &str) -> World {
    let mut world = World::new();
    let jobs = json!({
        "name": "JOBS", "subjects": ["jobs.*"], "retention": retention, "metadata": { "midge.dlq": "DEAD" }
    });
    world.good("STREAM.CREATE.JOBS", &jobs.to_string());
    let worker = r#"{"stream_name":"JOBS","config":{"durable_name":"w","ack_policy":"explicit","max_deliver":2,"ack_wait":1000000000}}"#;
    world.good("CONSUMER.CREATE.JOBS.w", worker);
    world.ask_with("jobs.1", &header("Unit", "C"), "one");
    world.ask("jobs.2", "two");
    world
}

fn letter(world: &mut World, seq: u64) -> (String, String, String) {
    let message = &world.good("STREAM.MSG.GET.DEAD", &json!({ "seq": seq }).to_string())["message"];
    let decode = |value: &Value| {
        use base64::Engine as _;
        let bytes = base64::prelude::BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    (message["subject"].as_str().unwrap().to_owned(), decode(&message["hdrs"]), decode(&message["data"]))
}

#[test]
fn what_could_not_be_handled_is_copied_with_its_cause() {
    for retention in ["limits", "workqueue"] {
        let mut world = world(retention);
        world.good("STREAM.CREATE.DEAD", r#"{"name":"DEAD"}"#);
        let messages = world.fetch("JOBS", "w", 2);
        assert!(world.ask(&messages[1].1, "+TERM no such valve").len() == 1);
        let (subject, headers, payload) = letter(&mut world, 1);
        assert_eq!((subject.as_str(), payload.as_str()), ("DEAD.JOBS.w", "two"));
        assert_eq!(
            headers,
            "NATS/1.0\r\nMidge-Death-Stream: JOBS\r\nMidge-Death-Consumer: w\r\nMidge-Death-Seq: 2\r\n\
             Midge-Death-Subject: jobs.2\r\nMidge-Death-Reason: terminated: no such valve\r\nMidge-Death-Count: 1\r\n\
             Midge-Death-Time: 2026-01-01T00:00:00Z\r\n\r\n"
        );
        world.pass(Duration::from_millis(1100));
        assert_eq!(world.fetch("JOBS", "w", 2).len(), 1, "the other goes once more");
        world.pass(Duration::from_millis(1100));
        assert_eq!(world.sums("DEAD").0, 2);
        let (_, headers, payload) = letter(&mut world, 2);
        assert!(headers.starts_with("NATS/1.0\r\nUnit: C\r\nMidge-Death-Stream: JOBS\r\n"), "{headers}");
        assert!(headers.contains("Reason: max_deliver\r\nMidge-Death-Count: 2\r\n"), "{headers}");
        assert_eq!(payload, "one");
        // Once, whatever happens then.
        world.power_cut(3);
        world.pass(Duration::from_secs(9));
        assert!(world.fetch("JOBS", "w", 2).is_empty());
        assert_eq!(world.sums("DEAD").0, 2);
    }
}

#[test]
fn letters_that_have_nowhere_to_go_are_told_of() {
    let mut world = world("limits");
    let messages = world.fetch("JOBS", "w", 2);
    world.ask(&messages[0].1, "+TERM");
    assert_eq!(world.engine.take_complaints(), ["1 dead letters of JOBS have no stream DEAD to go to"]);
    world.good("STREAM.CREATE.DEAD", r#"{"name":"DEAD","discard":"new","max_bytes":10}"#);
    world.ask(&messages[1].1, "+TERM");
    assert_eq!(world.engine.take_complaints(), ["dead letters of JOBS can't go to DEAD: it is full"]);
    assert_eq!(world.sums("DEAD").0, 0);
}
