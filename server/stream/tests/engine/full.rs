//! A disk that is full: `midge.full` in a stream's metadata.

use serde_json::json;

use crate::world::World;

/// A stream that drops its oldest, with a consumer, and one that refuses.
fn world() -> World {
    let mut world = World::of_segments(64 << 10);
    let config = json!({"name": "S", "subjects": ["s"], "metadata": {"midge.full": "drop_old"}});
    world.good("STREAM.CREATE.S", &config.to_string());
    world.good("STREAM.CREATE.R", r#"{"name":"R","subjects":["r"],"metadata":{"midge.full":"refuse"}}"#);
    world.good(
        "CONSUMER.CREATE.S.C",
        r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#,
    );
    world
}

#[test]
fn the_oldest_go_for_new_messages() {
    let mut world = world();
    world.leave_room(4 << 16);
    let payload = "x".repeat(1_000);
    assert_eq!(world.text("r", &payload), r#"{"stream":"R","seq":1}"#);
    for n in 1..=1_500 {
        assert_eq!(world.text("s", &payload), format!(r#"{{"stream":"S","seq":{n}}}"#));
    }
    let (messages, first, last) = world.sums("S");
    assert!(first > 1 && last == 1_500 && messages == last + 1 - first, "{messages}: {first} to {last}");
    assert!(messages > 60, "{messages}");
    assert_eq!(world.consumer("S", "C")["num_pending"], messages);
    assert_eq!(world.sums("R").0, 1, "others' messages stay");
    let told = world.engine.take_complaints();
    assert!(told.iter().any(|line| line.starts_with("stream S: the disk is full, 1 to ")), "{told:?}");
    world.power_cut(1);
    assert_eq!(world.sums("S"), (messages, first, last));
}

/// Room for a batch is made in the midst of it, which takes a commit.
#[test]
fn a_batch_that_the_oldest_go_for_is_there_as_a_whole_or_not_at_all() {
    let payload = "x".repeat(1_000);
    let mut cut = 0;
    for more in 0..60 {
        let mut world = World::of_segments(64 << 10);
        let config = json!({
            "name": "S", "subjects": ["s"], "allow_atomic": true, "metadata": {"midge.full": "drop_old"},
        });
        world.good("STREAM.CREATE.S", &config.to_string());
        world.leave_room(4 << 16);
        for _ in 0..250 + more {
            world.text("s", &payload);
        }
        let (_, _, before) = world.sums("S");
        for seq in 1..10 {
            let header = format!("NATS/1.0\r\nNats-Batch-Id: b\r\nNats-Batch-Sequence: {seq}\r\n\r\n");
            world.ask_with("s", &header, &payload);
        }
        let syncs = world.syncs();
        let last = "NATS/1.0\r\nNats-Batch-Id: b\r\nNats-Batch-Sequence: 10\r\nNats-Batch-Commit: 1\r\n\r\n";
        world.stage("s", Some("_IN.ack"), last, &payload);
        cut += u32::from(world.syncs() > syncs);
        world.power_cut(more);
        let found = (before + 1..=before + 10).filter(|seq| {
            world.text("$JS.API.STREAM.MSG.GET.S", &format!(r#"{{"seq":{seq}}}"#)).contains("\"data\"")
        });
        let found = found.count();
        assert!(found == 0 || found == 10, "{found} of 10, with {more} more");
    }
    assert!(cut > 0, "room was never made in the midst");
}

#[test]
fn whoever_does_not_say_so_is_refused() {
    let mut world = world();
    world.leave_room(4 << 16);
    let payload = "x".repeat(8_000);
    assert_eq!(world.text("s", "a few"), r#"{"stream":"S","seq":1}"#);
    let (mut few, mut stored) = (1, 0);
    loop {
        let refused = loop {
            let answer = world.text("r", &payload);
            if answer.contains("\"error\"") {
                break answer;
            }
            stored += 1;
        };
        assert!(refused.contains("10023"), "{refused}");
        // What lies loosely is packed for this one. Then all that it has makes no room either, and stays.
        let answer = world.text("s", &payload);
        if answer.contains("10023") {
            break;
        }
        few += 1;
        assert_eq!(answer, format!(r#"{{"stream":"S","seq":{few}}}"#));
        assert!(few < 10, "{few}");
    }
    assert_eq!(world.sums("R"), (stored, 1, stored));
    assert_eq!(world.sums("S"), (few, 1, few));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let mut world = World::new();
    for (full, key, value, why) in [
        ("sometimes", "discard", "old", "midge.full is refuse or drop_old"),
        ("drop_old", "discard", "new", "requires discard old"),
        ("drop_old", "storage", "memory", "requires file storage"),
    ] {
        let config = json!({"name": "S", "subjects": ["s"], "metadata": {"midge.full": full}, key: value});
        let answer = world.api("STREAM.CREATE.S", &config.to_string());
        assert_eq!(answer["error"]["err_code"], 10052);
        assert!(answer.to_string().contains(why), "{answer}");
    }
}
