//! What readers get.

use std::time::Duration;

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

fn world(config: &str) -> World {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"]}"#);
    let request = format!("{{\"stream_name\":\"S\",\"config\":{config}}}");
    world.good("CONSUMER.CREATE.S.C", &request);
    world
}

fn publish(world: &mut World, payloads: &[&str]) {
    for payload in payloads {
        world.ask("a.x", payload);
    }
}

fn payloads(messages: &[(String, String)]) -> Vec<&str> {
    messages.iter().map(|(payload, _)| payload.as_str()).collect()
}

#[test]
fn what_is_not_acknowledged_goes_again() {
    let mut world = world(r#"{"durable_name":"C","ack_policy":"explicit","ack_wait":2000000000}"#);
    publish(&mut world, &["1", "2", "3"]);
    let messages = world.fetch("S", "C", 2);
    assert_eq!(payloads(&messages), ["1", "2"]);
    assert_eq!(world.text(&messages[0].1, ""), "", "the ack is acknowledged");
    assert_eq!(payloads(&world.fetch("S", "C", 5)), ["3"]);
    world.pass(SECOND * 3);
    let again = world.fetch("S", "C", 5);
    assert_eq!(payloads(&again), ["2", "3"]);
    assert!(again[0].1.starts_with("$JS.ACK.S.C.2.2.4."), "{}", again[0].1);
    for (_, reply) in again {
        world.ask(&reply, "+ACK");
    }
    let numbers = world.consumer("S", "C");
    assert_eq!((numbers["num_ack_pending"], numbers["num_pending"]), (0, 0));
}

#[test]
fn refusals_delays_and_terms() {
    let mut world = world(r#"{"durable_name":"C","ack_policy":"explicit"}"#);
    publish(&mut world, &["1", "2", "3"]);
    let messages = world.fetch("S", "C", 3);
    world.stage(&messages[0].1, None, "", "-NAK");
    world.stage(&messages[1].1, None, "", r#"-NAK {"delay":5000000000}"#);
    world.stage(&messages[2].1, None, "", "+TERM");
    world.run();
    assert_eq!(payloads(&world.fetch("S", "C", 5)), ["1"]);
    world.pass(SECOND * 6);
    assert_eq!(payloads(&world.fetch("S", "C", 5)), ["2"]);
    world.pass(SECOND * 60);
    assert_eq!(payloads(&world.fetch("S", "C", 5)), ["1", "2"], "not the one that was ended");
}

#[test]
fn a_place_survives_a_power_cut() {
    let mut world = world(r#"{"durable_name":"C","ack_policy":"explicit"}"#);
    publish(&mut world, &["1", "2", "3", "4"]);
    let messages = world.fetch("S", "C", 3);
    world.ask(&messages[1].1, "");
    for seed in 0..5 {
        world.power_cut(seed);
        let numbers = world.consumer("S", "C");
        assert_eq!((numbers["num_ack_pending"], numbers["num_pending"]), (2, 1), "seed {seed}");
    }
    world.pass(SECOND * 31);
    assert_eq!(payloads(&world.fetch("S", "C", 9)), ["1", "3", "4"], "what was acknowledged stays so");
}

#[test]
fn who_does_not_wait_does_not_wait_for_the_end_of_a_pause() {
    let mut world = world(r#"{"durable_name":"C","ack_policy":"explicit"}"#);
    publish(&mut world, &["1"]);
    world.good("CONSUMER.PAUSE.S.C", r#"{"pause_until":"2096-01-01T00:00:00Z"}"#);
    let seen = world.ask("$JS.API.CONSUMER.MSG.NEXT.S.C", r#"{"batch":1,"no_wait":true}"#);
    assert_eq!(seen[0].header, "NATS/1.0 404 No Messages\r\n\r\n");
    world.good("CONSUMER.PAUSE.S.C", "");
    assert_eq!(payloads(&world.fetch("S", "C", 1)), ["1"]);
}

#[test]
fn deliveries_do_not_wait_for_the_disk() {
    let mut world = world(r#"{"durable_name":"C","ack_policy":"explicit"}"#);
    publish(&mut world, &["1", "2", "3", "4"]);
    let before = world.syncs();
    let messages = world.fetch("S", "C", 3);
    world.stage(&messages[0].1, None, "", "+ACK");
    world.run();
    assert_eq!(world.syncs(), before, "nobody waits for where the consumer is");
    world.pass(Duration::from_millis(300));
    assert_eq!(world.syncs(), before + 1, "but it is written soon");
    world.pass(SECOND * 5);
    assert_eq!(world.syncs(), before + 1, "once");
    world.power_cut(1);
    assert_eq!(world.consumer("S", "C")["num_ack_pending"], 2);
    let before = world.syncs();
    world.ask(&messages[1].1, "");
    assert_eq!(world.syncs(), before + 1, "this one asked to be told");
}

#[test]
fn what_nobody_was_told_goes_again_after_a_power_cut() {
    let mut world = world(r#"{"durable_name":"C","ack_policy":"explicit"}"#);
    publish(&mut world, &["1", "2", "3"]);
    let messages = world.fetch("S", "C", 2);
    world.stage(&messages[0].1, None, "", "+ACK");
    world.run();
    world.power_cut(7);
    assert_eq!(payloads(&world.fetch("S", "C", 9)), ["1", "2", "3"]);
    world.engine.save(world.now).unwrap();
    world.power_cut(8);
    assert_eq!(world.consumer("S", "C")["num_ack_pending"], 3, "a driver that ends leaves nothing behind");
}

#[test]
fn requests_wait_expire_and_leave() {
    let mut world = world(r#"{"durable_name":"C","ack_policy":"explicit"}"#);
    world.stage(
        "$JS.API.CONSUMER.MSG.NEXT.S.C",
        Some("_IN.a"),
        "",
        r#"{"batch":2,"expires":3000000000,"idle_heartbeat":1000000000}"#,
    );
    world.run();
    assert_eq!(world.consumer("S", "C")["num_waiting"], 1);
    publish(&mut world, &["1"]);
    world.pass(SECOND * 4);
    let seen: Vec<String> =
        world.seen.drain(..).map(|seen| format!("{}{}", seen.header, seen.payload)).collect();
    assert_eq!(seen[0], "1");
    assert!(seen[1].starts_with("NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n"), "{seen:?}");
    assert_eq!(
        seen.last().unwrap(),
        "NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\nNats-Pending-Bytes: 0\r\n\r\n"
    );
    world.stage("$JS.API.CONSUMER.MSG.NEXT.S.C", Some("gone.a"), "", r#"{"batch":2,"expires":3000000000}"#);
    world.run();
    assert_eq!(world.consumer("S", "C")["num_waiting"], 0, "nobody listens there");
    publish(&mut world, &["2"]);
    assert_eq!(payloads(&world.fetch("S", "C", 1)), ["2"]);
}

#[test]
fn requests_outlive_their_clients_reconnecting() {
    let mut world = world(r#"{"durable_name":"C","ack_policy":"explicit"}"#);
    world.listen("there", true);
    world.stage("$JS.API.CONSUMER.MSG.NEXT.S.C", Some("there"), "", r#"{"batch":9}"#);
    world.run();
    world.listen("there", false);
    assert_eq!(world.consumer("S", "C")["num_waiting"], 0, "gone");
    world.listen("there", true);
    assert_eq!(world.consumer("S", "C")["num_waiting"], 1, "back");
    publish(&mut world, &["1"]);
    assert_eq!(world.seen.remove(0).payload, "1");

    world.listen("there", false);
    publish(&mut world, &["2"]);
    world.listen("there", true);
    assert_eq!(world.consumer("S", "C")["num_waiting"], 0, "back too late");
    assert_eq!(payloads(&world.fetch("S", "C", 1)), ["2"]);
}

#[test]
fn who_gets_messages_to_itself_gets_all_it_asked_for() {
    let mut world = world(
        r#"{"durable_name":"C","ack_policy":"explicit","priority_groups":["A"],"priority_policy":"pinned_client","priority_timeout":60000000000}"#,
    );
    let next = "$JS.API.CONSUMER.MSG.NEXT.S.C";
    for reply in ["one", "other"] {
        world.listen(reply, true);
        world.stage(next, Some(reply), "", r#"{"batch":2,"group":"A"}"#);
    }
    world.run();
    publish(&mut world, &["1", "2", "3"]);
    let to: Vec<_> = world.seen.iter().map(|seen| (seen.to.as_str(), seen.payload.as_str())).collect();
    assert_eq!(to, [("one", "1"), ("one", "2")], "the third is not for the other");
    let pin = world.seen[0].header.split("Nats-Pin-Id: ").nth(1).unwrap().trim_end().to_owned();
    assert_eq!(world.seen[0].header, world.seen[1].header);
    world.seen.clear();
    world.stage(next, Some("one"), "", &format!(r#"{{"batch":2,"group":"A","id":"{pin}"}}"#));
    world.run();
    assert_eq!(world.seen.remove(0).payload, "3");
}

#[test]
fn messages_are_pushed_to_whoever_listens() {
    let mut world = world(
        r#"{"durable_name":"C","ack_policy":"none","deliver_subject":"d","idle_heartbeat":1000000000}"#,
    );
    publish(&mut world, &["1"]);
    assert_eq!(world.seen, [], "nobody listens");
    world.listen("d", true);
    publish(&mut world, &["2"]);
    world.pass(SECOND);
    let seen: Vec<String> = world.seen.drain(..).map(|seen| seen.payload).collect();
    assert_eq!(seen, ["1", "2", ""], "and a heartbeat");
    world.listen("d", false);
    publish(&mut world, &["3"]);
    assert_eq!(world.seen, []);
}

#[test]
fn consumers_are_created_twice_if_they_are_the_same() {
    let mut world = world(r#"{"durable_name":"C"}"#);
    let mut create = |config: &str| {
        let ask = format!(r#"{{"stream_name":"S","config":{config},"action":"create"}}"#);
        let answer = world.api("CONSUMER.CREATE.S.E", &ask);
        answer["error"]["err_code"].as_u64()
    };
    assert_eq!(create(r#"{"name":"E"}"#), None);
    assert_eq!(create(r#"{"name":"E"}"#), Some(10148), "it has got a threshold since");
    assert_eq!(create(r#"{"name":"E","inactive_threshold":5000000000}"#), None);
}

#[test]
fn consumers_that_nobody_uses_go() {
    let mut world = world(r#"{"ack_policy":"explicit"}"#);
    world.pass(SECOND * 4);
    world.fetch("S", "C", 1);
    world.pass(SECOND * 4);
    assert_eq!(world.good("CONSUMER.NAMES.S", "")["consumers"], serde_json::json!(["C"]));
    world.pass(SECOND * 2);
    assert_eq!(world.good("CONSUMER.NAMES.S", "")["consumers"], serde_json::json!([]));
}

#[test]
fn work_goes_once_it_is_done_and_interest_once_all_have_it() {
    let mut world = World::new();
    world.good("STREAM.CREATE.W", r#"{"name":"W","subjects":["w"],"retention":"workqueue"}"#);
    let consumer = |stream: &str, name: &str| {
        format!(
            r#"{{"stream_name":"{stream}","config":{{"durable_name":"{name}","ack_policy":"explicit"}}}}"#
        )
    };
    world.good("CONSUMER.CREATE.W.C", &consumer("W", "C"));
    assert_eq!(world.api("CONSUMER.CREATE.W.D", &consumer("W", "D"))["error"]["err_code"], 10099);
    world.ask("w", "1");
    let work = world.fetch("W", "C", 1);
    world.ask(&work[0].1, "");
    assert_eq!(world.sums("W"), (0, 2, 1));

    world.good("STREAM.CREATE.I", r#"{"name":"I","subjects":["i"],"retention":"interest"}"#);
    assert_eq!(world.text("i", "nobody"), r#"{"stream":"I","seq":1}"#);
    assert_eq!(world.sums("I").0, 0);
    world.good("CONSUMER.CREATE.I.C", &consumer("I", "C"));
    world.good("CONSUMER.CREATE.I.D", &consumer("I", "D"));
    world.ask("i", "both");
    let message = world.fetch("I", "C", 1);
    world.ask(&message[0].1, "");
    assert_eq!(world.sums("I").0, 1, "one of them still wants it");
    world.good("CONSUMER.DELETE.I.D", "");
    assert_eq!(world.sums("I").0, 0);
}

#[test]
fn begins_where_it_is_told() {
    for (config, expected) in [
        (r#"{"deliver_policy":"all"}"#, &["1", "2", "3", "4"][..]),
        (r#"{"deliver_policy":"last"}"#, &["4"]),
        (r#"{"deliver_policy":"new"}"#, &[]),
        (r#"{"deliver_policy":"by_start_sequence","opt_start_seq":3}"#, &["3", "4"]),
        (r#"{"deliver_policy":"by_start_time","opt_start_time":"2026-01-01T00:00:02Z"}"#, &["3", "4"]),
        (r#"{"deliver_policy":"last_per_subject","filter_subject":"a.*"}"#, &["3", "4"]),
        (r#"{"filter_subjects":["a.y","a.z"]}"#, &["2", "4"]),
    ] {
        let mut world = World::new();
        world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"]}"#);
        for (subject, payload) in [("a.x", "1"), ("a.y", "2"), ("a.x", "3"), ("a.y", "4")] {
            world.ask(subject, payload);
            world.pass(SECOND);
        }
        world.good("CONSUMER.CREATE.S.C", &format!(r#"{{"stream_name":"S","config":{config}}}"#));
        assert_eq!(payloads(&world.fetch("S", "C", 9)), expected, "{config}");
        world.ask("a.y", "5");
        assert_eq!(payloads(&world.fetch("S", "C", 9)), ["5"], "{config}");
    }
}

/// More than a store's frame could hold if each took a few bytes of its own.
#[test]
fn a_million_messages_may_wait_for_their_acks() {
    const MESSAGES: u64 = 1_000_000;
    let mut world = World::of_segments(8 << 20);
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"]}"#);
    for at in 1..=MESSAGES {
        world.stage("a.x", None, "", "");
        if at % 20_000 == 0 {
            world.run();
        }
    }
    let config =
        r#"{"durable_name":"C","ack_policy":"explicit","max_ack_pending":2000000,"ack_wait":86400000000000}"#;
    world.good("CONSUMER.CREATE.S.C", &format!("{{\"stream_name\":\"S\",\"config\":{config}}}"));
    for _ in 0..MESSAGES / 20_000 {
        world.stage("$JS.API.CONSUMER.MSG.NEXT.S.C", Some("_IN.all"), "", r#"{"batch":20000}"#);
        world.run();
        world.seen.clear();
    }
    assert_eq!(world.consumer("S", "C")["num_ack_pending"], MESSAGES);
    world.pass(SECOND);
    world.power_cut(1);
    let numbers = world.consumer("S", "C");
    assert_eq!((numbers["num_ack_pending"], numbers["num_pending"]), (MESSAGES, 0));
    // Some are acknowledged, in no order, and the last of them is told so.
    let is_acked = |seq: u64| (seq * 2_654_435_761) % 97 < 40;
    let acked: Vec<u64> = (1..=MESSAGES).filter(|seq| is_acked(*seq)).collect();
    for seq in &acked {
        world.stage(&format!("$JS.ACK.S.C.1.{seq}.{seq}.0.0"), None, "", "");
        if seq % 20_000 == 0 {
            world.run();
        }
    }
    let last = acked.last().unwrap();
    assert_eq!(world.text(&format!("$JS.ACK.S.C.1.{last}.{last}.0.0"), ""), "");
    let before = world.good("CONSUMER.INFO.S.C", "");
    world.power_cut(2);
    let after = world.good("CONSUMER.INFO.S.C", "");
    for key in ["delivered", "ack_floor", "num_ack_pending", "num_redelivered", "num_pending"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    assert_eq!(after["num_ack_pending"], MESSAGES - acked.len() as u64);
    // What goes again is what wasn't acknowledged.
    world.pass(SECOND * 90_000);
    let again = world.fetch("S", "C", 1000);
    let expected: Vec<String> =
        (1..).filter(|seq| !is_acked(*seq)).take(1000).map(|seq| format!("$JS.ACK.S.C.2.{seq}.")).collect();
    assert!(again.iter().zip(&expected).all(|((_, reply), start)| reply.starts_with(start)));
    assert_eq!(again.len(), expected.len());
}
