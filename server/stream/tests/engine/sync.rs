//! When what is stored is on the disk: `midge.sync` in a stream's metadata.

use std::time::Duration;

use serde_json::json;

use crate::world::World;

fn world(sync: &str) -> World {
    let mut world = World::new();
    let config = json!({"name": "S", "subjects": ["s.*"], "metadata": {"midge.sync": sync}});
    world.good("STREAM.CREATE.S", &config.to_string());
    world.good(
        "CONSUMER.CREATE.S.C",
        r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#,
    );
    world.good("STREAM.CREATE.A", r#"{"name":"A","subjects":["a"],"metadata":{"midge.sync":"always"}}"#);
    world.pass(Duration::from_secs(1));
    world
}

/// Ten messages are published, one is acknowledged, and that is confirmed. Gives the syncs that it took.
fn work(world: &mut World) -> u64 {
    let before = world.syncs();
    for n in 0..10 {
        assert!(world.text("s.x", &n.to_string()).contains("\"seq\""));
    }
    let got = world.fetch("S", "C", 1);
    assert_eq!(world.ask(&got[0].1, "").len(), 1);
    world.syncs() - before
}

#[test]
fn always_is_the_default() {
    assert_eq!(work(&mut world("always")), 11);
    assert_eq!(work(&mut world("")), 11);
}

#[test]
fn within_an_interval() {
    let mut world = world("interval");
    assert_eq!(work(&mut world), 0);
    let before = world.syncs();
    world.pass(Duration::from_secs(9));
    assert_eq!(world.syncs(), before);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.syncs(), before + 1);
    world.pass(Duration::from_secs(100));
    assert_eq!(world.syncs(), before + 1, "nothing is left to sync");
    world.power_cut(1);
    assert_eq!(world.sums("S"), (10, 1, 10));
    assert_eq!(world.consumer("S", "C")["num_pending"], 9);
}

#[test]
fn when_the_system_likes_or_with_what_others_wait_for() {
    let mut world = world("os");
    assert_eq!(work(&mut world), 0);
    let before = world.syncs();
    world.pass(Duration::from_secs(1000));
    assert_eq!(world.syncs(), before);
    // All share one log: what is behind them isn't there without them.
    world.ask("a", "");
    assert_eq!(world.syncs(), before + 1);
    world.power_cut(1);
    assert_eq!(world.sums("S"), (10, 1, 10));
    world.ask("s.x", "");
    world.power_cut(2);
    let (messages, _, last) = world.sums("S");
    assert!((10..=11).contains(&messages) && messages == last, "all, or all but the last");
}

#[test]
fn other_words_are_refused_and_it_can_be_changed() {
    let mut world = world("os");
    let config =
        json!({"name": "S", "subjects": ["s.*"], "metadata": {"midge.sync": "sometimes"}}).to_string();
    let answer = world.api("STREAM.UPDATE.S", &config);
    assert_eq!(answer["error"]["err_code"], 10052);
    assert!(answer.to_string().contains("midge.sync is always, interval or os"), "{answer}");
    world.good("STREAM.UPDATE.S", r#"{"name":"S","subjects":["s.*"]}"#);
    assert_eq!(work(&mut world), 11);
}
