//! The API of streams.

use crate::world::{World, header};

#[test]
fn a_stream_is_made_shown_changed_and_ended() {
    let mut world = World::new();
    let made = world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.>"]}"#);
    assert_eq!(made["did_create"], true);
    assert_eq!(made["created"], "2026-01-01T00:00:00Z");
    assert_eq!(
        world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.>"]}"#)["did_create"],
        true,
        "again"
    );
    let other = world.api("STREAM.CREATE.S", r#"{"name":"S","subjects":["b.>"]}"#);
    assert_eq!(other["error"]["err_code"], 10058);
    assert_eq!(
        world.api("STREAM.CREATE.T", r#"{"name":"T","subjects":["a.b"]}"#)["error"]["err_code"],
        10065
    );
    assert_eq!(world.good("STREAM.NAMES", "")["streams"], serde_json::json!(["S"]));
    world.good("STREAM.UPDATE.S", r#"{"name":"S","subjects":["b.>"]}"#);
    assert!(!world.stage("a.x", None, "", ""), "not its subject any more");
    assert_eq!(world.text("b.x", "1"), r#"{"stream":"S","seq":1}"#);
    world.good("STREAM.DELETE.S", "");
    assert!(!world.stage("b.x", None, "", ""));
    assert_eq!(world.api("STREAM.INFO.S", "")["error"]["err_code"], 10059);
}

#[test]
fn messages_are_found_by_number_subject_and_time() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"],"allow_direct":true}"#);
    for (subject, payload) in [("a.x", "1"), ("a.y", "2"), ("a.x", "3")] {
        world.ask(subject, payload);
    }
    let message = &world.good("STREAM.MSG.GET.S", r#"{"last_by_subj":"a.x"}"#)["message"];
    assert_eq!((&message["seq"], &message["data"]), (&3.into(), &"Mw==".into()));
    assert_eq!(world.api("STREAM.MSG.GET.S", r#"{"seq":9}"#)["error"]["err_code"], 10037);
    let direct = world.ask("$JS.API.DIRECT.GET.S.a.y", "");
    assert_eq!(direct[0].payload, "2");
    assert!(direct[0].header.contains("Nats-Sequence: 2\r\n"), "{}", direct[0].header);
    let batch = world.ask("$JS.API.DIRECT.GET.S", r#"{"seq":1,"batch":2,"next_by_subj":"a.x"}"#);
    assert_eq!(batch.iter().map(|seen| seen.payload.as_str()).collect::<Vec<_>>(), ["1", "3", ""]);
    assert!(batch[2].header.starts_with("NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 3"));
    let lasts = world.ask("$JS.API.DIRECT.GET.S", r#"{"multi_last":["a.*"],"up_to_seq":2}"#);
    assert_eq!(lasts.iter().map(|seen| seen.payload.as_str()).collect::<Vec<_>>(), ["1", "2", ""]);
}

#[test]
fn one_message_is_answered_at_once_unless_something_is_to_be_committed() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"],"allow_direct":true}"#);
    for (subject, payload) in [("a.x", "1"), ("a.y", "2"), ("a.x", "3")] {
        world.ask_with(subject, &header("K", "v"), payload);
    }
    let by_number = "$JS.API.DIRECT.GET.S";
    for (subject, payload) in [
        ("$JS.API.DIRECT.GET.S.a.x", ""),
        (by_number, r#"{"seq":2}"#),
        (by_number, r#"{"seq":2,"no_hdr":true}"#),
        (by_number, r#"{"last_by_subj":"a.y"}"#),
    ] {
        let at_once = world.ask_at_once(subject, payload).expect("an answer at once");
        let later = world.ask(subject, payload);
        let what = |seen: &crate::world::Seen| (seen.header.clone(), seen.payload.clone());
        assert_eq!(vec![what(&at_once)], later.iter().map(what).collect::<Vec<_>>(), "{subject} {payload}");
    }
    for (subject, payload) in [
        ("$JS.API.DIRECT.GET.S.a.z", ""),
        ("$JS.API.STREAM.INFO.S", ""),
        (by_number, r#"{"seq":9}"#),
        (by_number, r#"{"seq":"x"}"#),
        (by_number, r#"{"seq":1,"batch":2}"#),
        (by_number, r#"{"last_by_subj":"a.*"}"#),
        (by_number, r#"{"next_by_subj":"a.x"}"#),
        (by_number, r#"{"multi_last":["a.x"]}"#),
        (by_number, r#"{"start_time":"2020-01-01T00:00:00Z"}"#),
    ] {
        assert_eq!(world.ask_at_once(subject, payload), None, "{subject} {payload}");
    }
    // Nobody is shown what the power may still take.
    world.stage("a.x", Some("_IN.z"), "", "4");
    assert_eq!(world.ask_at_once("$JS.API.DIRECT.GET.S.a.y", ""), None);
    world.run();
    let last = world.ask_at_once("$JS.API.DIRECT.GET.S.a.x", "").expect("an answer at once");
    assert_eq!(last.payload, "4");
}

#[test]
fn purging_leaves_what_was_not_meant() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"]}"#);
    for subject in ["a.x", "a.y", "a.x", "a.y", "a.x"] {
        world.ask(subject, "");
    }
    assert_eq!(world.good("STREAM.PURGE.S", r#"{"filter":"a.x","keep":1}"#)["purged"], 2);
    assert_eq!(world.sums("S"), (3, 2, 5));
    assert_eq!(world.good("STREAM.PURGE.S", r#"{"seq":4}"#)["purged"], 1);
    assert_eq!(world.good("STREAM.MSG.DELETE.S", r#"{"seq":4}"#)["success"], true);
    assert_eq!(world.good("STREAM.PURGE.S", "")["purged"], 1);
    assert_eq!(world.sums("S"), (0, 6, 5));
}

#[test]
fn limits_take_the_oldest_or_refuse_the_new() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"],"max_msgs":3,"max_msgs_per_subject":2}"#);
    for subject in ["a.x", "a.y", "a.x", "a.x", "a.z", "a.z"] {
        world.ask(subject, "");
    }
    assert_eq!(world.sums("S"), (3, 4, 6));
    world.good("STREAM.CREATE.N", r#"{"name":"N","subjects":["n"],"max_msgs":1,"discard":"new"}"#);
    assert_eq!(world.text("n", ""), r#"{"stream":"N","seq":1}"#);
    assert_eq!(
        world.text("n", ""),
        r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"N","seq":0}"#
    );
}

/// A key-value store's purge says what a mark would.
#[test]
fn a_purge_marker_that_grows_old_leaves_no_mark() {
    let mut world = World::new();
    world.good(
        "STREAM.CREATE.S",
        r#"{"name":"S","subjects":["a.*"],"allow_msg_ttl":true,"subject_delete_marker_ttl":1000000000}"#,
    );
    for (subject, operation) in [("a.deleted", "DEL"), ("a.purged", "PURGE")] {
        let ttl = header("Nats-TTL", "2s");
        world.ask_with(subject, &ttl.replacen("\r\n", &format!("\r\nKV-Operation: {operation}\r\n"), 1), "");
    }
    world.pass(std::time::Duration::from_secs(2));
    assert_eq!(world.sums("S"), (1, 3, 3));
    let mark = world.good("STREAM.MSG.GET.S", r#"{"seq":3}"#);
    assert_eq!(mark["message"]["subject"], "a.deleted");
}

#[test]
fn messages_grow_old() {
    let mut world = World::new();
    let second = std::time::Duration::from_secs(1);
    world.good(
        "STREAM.CREATE.S",
        r#"{"name":"S","subjects":["a.*"],"max_age":10000000000,"allow_msg_ttl":true,"subject_delete_marker_ttl":3000000000}"#,
    );
    world.ask_with("a.x", &header("Nats-TTL", "4s"), "");
    world.ask_with("a.y", &header("Nats-TTL", "never"), "");
    world.ask("a.z", "");
    world.pass(second * 4);
    assert_eq!(world.sums("S"), (3, 2, 4), "a.x left a mark");
    let mark = world.good("STREAM.MSG.GET.S", r#"{"seq":4}"#);
    assert_eq!(mark["message"]["subject"], "a.x");
    world.pass(second * 3);
    assert_eq!(world.sums("S"), (2, 2, 4), "the mark went without one");
    world.pass(second * 60);
    assert_eq!(
        world.good("STREAM.INFO.S", r#"{"subjects_filter":">"}"#)["state"]["subjects"],
        serde_json::json!({"a.y": 1})
    );
}
