//! Where a message goes, as nats-server 2.15.1 says it.

use midge_broker::{
    Access, AccountSettings, Destination, Exports, Imports, Mapping, StreamExport, StreamImport,
};
use serde_json::{Value, json};

use super::world::{Client, World, settings};

/// Publishes with headers. The lines of those end in `|`.
fn publish(client: &mut Client, world: &mut World, subject: &str, headers: &str) {
    let block = format!("NATS/1.0\r\n{}\r\n", headers.replace('|', "\r\n"));
    let head = block.len();
    client.say(world, &format!("HPUB {subject} {head} {}\r\n{block}x", head + 1));
}

/// The only report, without times.
fn events(client: &Client) -> (Value, Value) {
    let mut report: Value = serde_json::from_str(&client.one().payload).expect("JSON");
    let mut events = report["events"].take();
    for event in events.as_array_mut().expect("events") {
        let time = event.as_object_mut().expect("an event").remove("ts");
        assert!(time.is_some_and(|time| time.is_string()));
    }
    (report["request"].take(), events)
}

fn world() -> World {
    let mapped = Destination { subject: "new.$1".into(), weight: 100, cluster: None };
    let exports = Exports {
        streams: vec![StreamExport { subject: "ex.>".into(), access: Access::Public }],
        ..Exports::default()
    };
    let (subject, to) = ("ex.>".into(), "imp.ex.>".into());
    let import = StreamImport { account: "A".into(), subject, to, activation: None, allow_trace: false };
    World::new(settings(vec![
        AccountSettings {
            name: "A".into(),
            mappings: vec![Mapping::new("old.*", &[mapped]).expect("a mapping")],
            exports,
            ..AccountSettings::default()
        },
        AccountSettings {
            name: "B".into(),
            imports: Imports { streams: vec![import], ..Imports::default() },
            ..AccountSettings::default()
        },
    ]))
}

#[test]
fn a_report_names_who_gets_a_message() {
    let mut world = world();
    let (mut publisher, mut worker, mut watcher) =
        (world.connect("A"), world.connect("A"), world.connect("A"));
    worker.say(&mut world, "SUB new.* work 1");
    watcher.say(&mut world, "SUB traces 1");
    publish(&mut publisher, &mut world, "old.a", "Nats-Trace-Dest: traces|X: 1|X: 2|");
    assert_eq!(worker.one().subject, "new.a");
    let (request, steps) = events(&watcher);
    assert_eq!(request["header"], json!({"Nats-Trace-Dest": ["traces"], "X": ["1", "2"]}));
    let wanted = json!([
        {"type": "in", "kind": 0, "cid": 1, "acc": "A", "subj": "old.a"},
        {"type": "sm", "to": "new.a"},
        {"type": "eg", "kind": 0, "cid": 2, "sub": "new.*", "queue": "work"},
    ]);
    assert_eq!(steps, wanted);
    // Nobody gets the message itself.
    publish(&mut publisher, &mut world, "old.a", "Nats-Trace-Dest: traces|Nats-Trace-Only: true|");
    assert_eq!(events(&watcher).1, wanted);
    assert_eq!(worker.read(), []);
}

#[test]
fn what_is_no_wish_for_a_report_is_a_message() {
    let mut world = world();
    let (mut publisher, mut worker) = (world.connect("A"), world.connect("A"));
    worker.say(&mut world, "SUB foo 1");
    for headers in ["Nats-Trace-Only: true|", "Nats-Trace-Dest: trace disabled|", "Nats-Trace-Dest: a.*|"] {
        publish(&mut publisher, &mut world, "foo", headers);
        assert_eq!(worker.one().payload, "x", "{headers}");
    }
    publish(&mut publisher, &mut world, "foo", "Nats-Trace-Dest: a.*|Nats-Trace-Only: on|");
    assert_eq!(worker.read(), []);
}

#[test]
fn a_report_ends_at_the_border_of_an_account() {
    let mut world = world();
    let (mut publisher, mut other) = (world.connect("A"), world.connect("B"));
    other.say(&mut world, "SUB imp.ex.> 1");
    publisher.say(&mut world, "SUB traces 1");
    publish(&mut publisher, &mut world, "ex.a", "Nats-Trace-Dest: traces|");
    assert_eq!(other.one().subject, "imp.ex.a");
    let wanted = json!([
        {"type": "in", "kind": 0, "cid": 1, "acc": "A", "subj": "ex.a"},
        {"type": "se", "acc": "B", "to": "imp.ex.a"},
    ]);
    assert_eq!(events(&publisher).1, wanted);
}
