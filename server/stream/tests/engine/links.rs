//! Streams of other accounts and servers, which are copied by asking for a consumer there: the test is the other side.

use std::time::Duration;

use serde_json::Value;

use crate::world::World;

/// What the engine asked the other side for.
struct Asked {
    subject: String,
    reply: String,
    header: String,
    body: Value,
}

impl Asked {
    fn config(&self, name: &str) -> &Value {
        &self.body["config"][name]
    }

    fn text(&self, name: &str) -> &str {
        self.config(name).as_str().unwrap_or_default()
    }
}

/// The last that was asked for; nothing else may have been.
fn asked(world: &mut World) -> Asked {
    let mut seen = world.take(|seen| seen.to.starts_with("OTHER.API."));
    assert_eq!(seen.len(), 1, "{seen:?}");
    let seen = seen.remove(0);
    let body = serde_json::from_str(&seen.payload).unwrap_or_default();
    Asked { subject: seen.subject, reply: seen.reply, header: seen.header, body }
}

/// The other side makes the consumer that was asked for, which begins behind `before`.
fn grant(world: &mut World, asked: &Asked, before: u64) {
    let (name, deliver) = (asked.text("name"), asked.text("deliver_subject"));
    let answer = format!(
        r#"{{"name":"{name}","config":{{"deliver_subject":"{deliver}"}},"delivered":{{"stream_seq":{before}}}}}"#
    );
    assert!(world.stage(&asked.reply, None, "", &answer));
    world.run();
}

/// A message of the origin, as its consumer delivers it.
fn deliver(world: &mut World, asked: &Asked, consumer_seq: u64, stream_seq: u64, pending: u64) {
    let name = asked.text("name");
    let reply =
        format!("$JS.ACK.S.{name}.1.{stream_seq}.{consumer_seq}.17000000000000000{stream_seq:02}.{pending}");
    // Where it came is what the driver subscribed to; the subject is the one that it was published on.
    world.stage_to(asked.text("deliver_subject"), "plant.temp", Some(&reply), "", &format!("m{stream_seq}"));
}

fn world() -> World {
    let mut world = World::new();
    world.listen("OTHER.>", true);
    world
}

const MIRROR: &str =
    r#"{"name":"M","mirror":{"name":"S","external":{"api":"OTHER.API","deliver":"OTHER.DELIVER"}}}"#;

fn mirror(world: &mut World) -> Value {
    world.good("STREAM.INFO.M", "")["mirror"].clone()
}

#[test]
fn a_mirror_has_what_its_origin_delivers_with_its_numbers_and_times() {
    let mut world = world();
    world.good("STREAM.CREATE.M", MIRROR);
    world.pass(Duration::from_millis(1));
    let ask = asked(&mut world);
    assert_eq!(ask.subject, "OTHER.API.CONSUMER.CREATE.S");
    assert_eq!((ask.text("deliver_policy"), ask.text("ack_policy")), ("all", "none"));
    assert!(ask.text("deliver_subject").starts_with("OTHER.DELIVER.M."), "{}", ask.body);
    assert_eq!(
        (ask.config("flow_control"), ask.config("idle_heartbeat")),
        (&true.into(), &1_000_000_000.into())
    );
    assert_eq!(mirror(&mut world)["active"], -1);
    grant(&mut world, &ask, 0);
    deliver(&mut world, &ask, 1, 3, 2);
    deliver(&mut world, &ask, 2, 5, 1);
    world.run();
    assert_eq!(world.sums("M"), (2, 3, 5));
    let message = world.good("STREAM.MSG.GET.M", r#"{"seq":5}"#)["message"].clone();
    assert_eq!(
        (&message["subject"], &message["time"]),
        (&"plant.temp".into(), &"2023-11-14T22:13:20.000000005Z".into())
    );
    assert_eq!(mirror(&mut world)["lag"], 0);

    // Again and out of order: nothing is stored twice.
    deliver(&mut world, &ask, 3, 5, 1);
    world.run();
    assert_eq!(world.sums("M"), (2, 3, 5));

    // Flow control is answered with where it is.
    let asks = "NATS/1.0 100 FlowControl Request\r\n\r\n";
    world.stage_to(ask.text("deliver_subject"), ask.text("deliver_subject"), Some("OTHER.FC.1"), asks, "");
    world.run();
    let answers = world.take(|seen| seen.to == "OTHER.FC.1");
    assert_eq!(answers.len(), 1);
    assert!(
        answers[0].header.contains("Nats-Last-Consumer: 3\r\nNats-Last-Stream: 5\r\n"),
        "{}",
        answers[0].header
    );
}

#[test]
fn a_gap_is_asked_for_again_and_so_is_what_a_power_cut_took() {
    let mut world = world();
    world.good("STREAM.CREATE.M", MIRROR);
    world.pass(Duration::from_millis(1));
    let ask = asked(&mut world);
    grant(&mut world, &ask, 0);
    deliver(&mut world, &ask, 1, 1, 5);
    // One was lost on the way.
    deliver(&mut world, &ask, 3, 3, 3);
    world.run();
    assert_eq!(world.sums("M"), (1, 1, 1));
    world.pass(Duration::from_secs(2));
    let again = asked(&mut world);
    assert_eq!(
        (again.text("deliver_policy"), again.config("opt_start_seq")),
        ("by_start_sequence", &2.into())
    );
    grant(&mut world, &again, 1);
    deliver(&mut world, &again, 1, 2, 1);
    // What the consumer of before still says is not for this one.
    deliver(&mut world, &ask, 4, 4, 1);
    world.run();
    assert_eq!(world.sums("M"), (2, 1, 2));

    world.power_cut(3);
    world.pass(Duration::from_millis(1));
    let after = asked(&mut world);
    assert_eq!(after.config("opt_start_seq"), 3);
    grant(&mut world, &after, 2);
    deliver(&mut world, &after, 1, 3, 1);
    world.run();
    assert_eq!(world.sums("M"), (3, 1, 3));
}

#[test]
fn who_is_silent_or_not_there_is_asked_again_each_time_later() {
    let mut world = World::new();
    world.good("STREAM.CREATE.M", MIRROR);
    // Nobody hears it, for a while.
    world.pass(Duration::from_secs(60));
    assert_eq!(mirror(&mut world)["active"], -1);
    world.listen("OTHER.>", true);
    world.pass(Duration::from_secs(8));
    let ask = asked(&mut world);
    grant(&mut world, &ask, 0);
    // A heartbeat is as good as a message.
    for _ in 0..4 {
        world.pass(Duration::from_secs(8));
        let beat = "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 0\r\nNats-Last-Stream: 0\r\n\r\n";
        world.stage_to(ask.text("deliver_subject"), ask.text("deliver_subject"), None, beat, "");
        world.run();
    }
    assert_eq!(mirror(&mut world)["active"], 0);
    world.pass(Duration::from_secs(12));
    let again = asked(&mut world);
    // One that refuses is quoted.
    let refusal = r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;
    assert!(world.stage(&again.reply, None, "", refusal));
    world.run();
    assert_eq!(mirror(&mut world)["error"]["err_code"], 10059);
    // A stream that is gone says so, and asks for nothing any more.
    world.good("STREAM.DELETE.M", "");
    let told = world.take(|seen| seen.to.starts_with("OTHER.API."));
    assert!(told.iter().all(|seen| seen.subject.starts_with("OTHER.API.CONSUMER.DELETE.S.JS_MIRROR_")));
    world.pass(Duration::from_secs(300));
    assert!(world.take(|seen| seen.to.starts_with("OTHER.API.")).is_empty());
    assert!(!world.stage(&again.reply, None, "", refusal));
}

#[test]
fn a_source_goes_on_where_it_was_though_all_of_it_was_purged() {
    let mut world = world();
    let external = r#"{"api":"OTHER.API","deliver":"OTHER.DELIVER"}"#;
    let create = format!(
        r#"{{"name":"X","subjects":["own"],"sources":[{{"name":"S","filter_subject":"plant.*","external":{external}}}]}}"#
    );
    world.good("STREAM.CREATE.X", &create);
    world.pass(Duration::from_millis(1));
    let ask = asked(&mut world);
    let (name, filter) = (ask.text("name"), ask.text("filter_subject"));
    assert_eq!(
        (ask.subject.as_str(), filter),
        (&*format!("OTHER.API.CONSUMER.CREATE.S.{name}.plant.*"), "plant.*")
    );
    assert!(ask.text("deliver_subject").starts_with("OTHER.DELIVER.S."));
    grant(&mut world, &ask, 0);
    for seq in 1..=3 {
        deliver(&mut world, &ask, seq, seq + 6, 3 - seq);
    }
    world.run();
    assert_eq!(world.sums("X"), (3, 1, 3));
    assert_eq!(world.good("STREAM.INFO.X", "")["sources"][0]["seq"], 9);
    world.good("STREAM.PURGE.X", "");
    world.power_cut(5);
    world.pass(Duration::from_millis(1));
    assert_eq!(asked(&mut world).config("opt_start_seq"), 10);
}

#[test]
fn an_origin_that_was_made_anew_is_copied_from_its_beginning() {
    let mut world = world();
    world.good("STREAM.CREATE.X", r#"{"name":"X","sources":[{"name":"S","external":{"api":"OTHER.API"}}]}"#);
    world.pass(Duration::from_millis(1));
    let ask = asked(&mut world);
    assert!(ask.text("deliver_subject").starts_with("$JS.S."), "{}", ask.body);
    let identity = |name: &str| format!("NATS/1.0\r\nNats-Stream-Identity: {name}\r\n\r\n");
    let granted = r#"{"name":"C","config":{},"delivered":{"stream_seq":0}}"#;
    assert!(world.stage(&ask.reply, None, &identity("first"), granted));
    let reply = "$JS.ACK.S.C.1.7.1.1700000000000000007.0";
    world.stage_to(ask.text("deliver_subject"), "plant.temp", Some(reply), "", "seven");
    world.run();
    let header =
        world.good("STREAM.MSG.GET.X", r#"{"seq":1}"#)["message"]["hdrs"].as_str().map(str::to_owned);
    assert!(header.is_some());
    // It is another one when it is asked again.
    world.pass(Duration::from_secs(13));
    let seen = world.take(|seen| seen.to.starts_with("OTHER.API."));
    assert_eq!(seen.len(), 1);
    let newest = "NATS/1.0\r\nNats-Required-Api-Level: 5\r\nNats-Stream-Identity: first\r\n\r\n";
    assert_eq!(seen[0].header, newest);
    assert!(seen[0].payload.contains(r#""opt_start_seq":8"#), "{}", seen[0].payload);
    let refusal = r#"{"error":{"code":400,"err_code":10225,"description":"another"}}"#;
    assert!(world.stage(&seen[0].reply, None, "", refusal));
    world.run();
    world.pass(Duration::from_secs(5));
    let again = asked(&mut world);
    assert_eq!(again.text("deliver_policy"), "all");
    assert!(world.stage(&again.reply, None, &identity("second"), granted));
    world.stage_to(
        again.text("deliver_subject"),
        "plant.temp",
        Some("$JS.ACK.S.C.1.1.1.1700000000000000008.0"),
        "",
        "one",
    );
    world.run();
    assert_eq!(world.sums("X"), (2, 1, 2));
}

#[test]
fn who_copies_learns_which_stream_it_is_and_its_consumer_is_not_shown() {
    let mut world = World::new();
    world.listen("deliver", true);
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["s"],"max_consumers":1}"#);
    let create = r#"{"stream_name":"S","config":{"name":"C","deliver_subject":"deliver","ack_policy":"none","direct":true,"flow_control":true,"idle_heartbeat":1000000000}}"#;
    let answer = world.ask("$JS.API.CONSUMER.CREATE.S.C", create).remove(0);
    let (_, identity) = answer.header.split_once("Nats-Stream-Identity: ").expect("an identity");
    let identity = identity.trim_end().to_owned();
    let asks = |identity: &str| format!("NATS/1.0\r\nNats-Stream-Identity: {identity}\r\n\r\n");
    let again = world.ask_with("$JS.API.CONSUMER.CREATE.S.C", &asks(&identity), create).remove(0);
    assert_eq!(again.header, answer.header);
    let other = world.ask_with("$JS.API.CONSUMER.CREATE.S.C", &asks("other"), create).remove(0);
    assert!(other.payload.contains("10225"), "{}", other.payload);
    assert_eq!(world.good("CONSUMER.LIST.S", "")["total"], 0);
    assert_eq!(world.good("CONSUMER.NAMES.S", "")["total"], 0);
    assert_eq!(world.good("STREAM.INFO.S", "")["state"]["consumer_count"], 0);
    // Nor does it count among those that there may be.
    let durable = r#"{"stream_name":"S","config":{"durable_name":"D","ack_policy":"explicit"}}"#;
    world.good("CONSUMER.CREATE.S.D", durable);
    assert_eq!(world.good("CONSUMER.NAMES.S", "")["consumers"], serde_json::json!(["D"]));
}

#[test]
fn an_origin_is_asked_as_nats_server_asks_and_for_less_if_it_is_older() {
    let mut world = world();
    let sources =
        r#"[{"name":"S","filter_subject":"a.*","external":{"api":"OTHER.API","deliver":"OTHER.DELIVER"}}]"#;
    world.good("STREAM.CREATE.C", &format!(r#"{{"name":"C","sources":{sources}}}"#));
    world.pass(Duration::from_millis(1));
    let refuse = |world: &mut World, asked: &Asked, code: u16| {
        let answer = format!(r#"{{"error":{{"code":412,"err_code":{code},"description":"no"}}}}"#);
        assert!(world.stage(&asked.reply, None, "", &answer));
        world.run();
    };
    let ask = asked(&mut world);
    let name = ask.text("name").to_owned();
    assert!(name.starts_with("JS_SRC_") && name.len() == 15, "{name}");
    assert_eq!(ask.subject, format!("OTHER.API.CONSUMER.CREATE.S.{name}.a.*"));
    assert_eq!(ask.header, "NATS/1.0\r\nNats-Required-Api-Level: 5\r\nNats-Stream-Identity: \r\n\r\n");
    assert_eq!((ask.config("direct"), ask.config("sourcing")), (&true.into(), &true.into()));
    assert_eq!(
        ask.config("metadata"),
        &serde_json::json!({ "_nats.src.acc": "$G", "_nats.src.stream": "C" })
    );
    refuse(&mut world, &ask, 10185);
    let ask = asked(&mut world);
    assert_eq!(ask.header, "NATS/1.0\r\nNats-Required-Api-Level: 4\r\n\r\n");
    assert_eq!((ask.text("name"), ask.config("sourcing")), (name.as_str(), &true.into()));
    refuse(&mut world, &ask, 10025);
    let ask = asked(&mut world);
    assert_eq!((ask.header.as_str(), ask.config("sourcing")), ("", &Value::Null));
    assert!(ask.text("name").starts_with(&format!("{name}_")), "{}", ask.body);
    // There is nothing less to ask for, and the next time it may be newer.
    refuse(&mut world, &ask, 10025);
    assert!(world.take(|seen| seen.to.starts_with("OTHER.API.")).is_empty());
    world.pass(Duration::from_secs(2));
    let ask = asked(&mut world);
    assert_eq!(ask.text("name"), name);
    grant(&mut world, &ask, 0);

    // What it is asked on the way is answered behind the messages that came before.
    deliver(&mut world, &ask, 1, 4, 0);
    let asks = "NATS/1.0 100 FlowControl Request\r\n\r\n";
    world.stage_to(ask.text("deliver_subject"), ask.text("deliver_subject"), Some("OTHER.FC.1"), asks, "");
    world.run();
    assert_eq!(world.sums("C").0, 1);
    let answer = world.take(|seen| seen.to == "OTHER.FC.1").remove(0);
    assert!(answer.header.contains("Nats-Last-Consumer: 1\r\nNats-Last-Stream: 4\r\n"), "{}", answer.header);

    // Nobody copies it any more.
    world.good("STREAM.DELETE.C", "");
    let gone = world.take(|seen| seen.to.starts_with("OTHER.API."));
    assert_eq!((gone.len(), &*gone[0].subject), (1, &*format!("OTHER.API.CONSUMER.DELETE.S.{name}")));
}

#[test]
fn a_message_for_which_there_is_no_room_is_not_let_go_of() {
    let mut world = world();
    let sources = r#"[{"name":"S","external":{"api":"OTHER.API","deliver":"OTHER.DELIVER"}}]"#;
    let limits = r#""max_msgs":1,"discard":"new""#;
    world.good("STREAM.CREATE.C", &format!(r#"{{"name":"C",{limits},"sources":{sources}}}"#));
    world.pass(Duration::from_millis(1));
    let ask = asked(&mut world);
    grant(&mut world, &ask, 0);
    deliver(&mut world, &ask, 1, 1, 1);
    deliver(&mut world, &ask, 2, 2, 0);
    let asks = "NATS/1.0 100 FlowControl Request\r\n\r\n";
    world.stage_to(ask.text("deliver_subject"), ask.text("deliver_subject"), Some("OTHER.FC.1"), asks, "");
    world.run();
    assert_eq!(world.sums("C").0, 1);
    assert!(world.take(|seen| seen.to == "OTHER.FC.1").is_empty());
}

#[test]
fn a_mirror_that_becomes_a_stream_ends_its_consumer() {
    let mut world = world();
    world.good("STREAM.CREATE.M", MIRROR);
    world.pass(Duration::from_millis(1));
    let ask = asked(&mut world);
    let name = ask.text("name").to_owned();
    grant(&mut world, &ask, 0);
    world.good("STREAM.UPDATE.M", r#"{"name":"M","subjects":["m"]}"#);
    let gone = world.take(|seen| seen.to.starts_with("OTHER.API."));
    assert_eq!((gone.len(), &*gone[0].subject), (1, &*format!("OTHER.API.CONSUMER.DELETE.S.{name}")));
}
