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

#[test]
fn whoever_does_not_say_so_is_refused() {
    let mut world = world();
    world.leave_room(4 << 16);
    let payload = "x".repeat(8_000);
    assert_eq!(world.text("s", "a few"), r#"{"stream":"S","seq":1}"#);
    let mut stored = 0;
    let refused = loop {
        let answer = world.text("r", &payload);
        if answer.contains("\"error\"") {
            break answer;
        }
        stored += 1;
    };
    assert!(refused.contains("10023"), "{refused}");
    assert_eq!(world.sums("R"), (stored, 1, stored));
    // All that this one has makes no room either, and stays.
    assert!(world.text("s", &payload).contains("10023"));
    assert_eq!(world.sums("S"), (1, 1, 1));
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
