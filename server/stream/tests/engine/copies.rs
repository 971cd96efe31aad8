//! Streams that copy others.

use std::time::Duration;

use crate::world::World;

fn payloads(world: &mut World, stream: &str) -> Vec<String> {
    let (_, first, last) = world.sums(stream);
    let ask = |seq: u64| world.api(&format!("STREAM.MSG.GET.{stream}"), &format!(r#"{{"seq":{seq}}}"#));
    let messages: Vec<_> = (first..=last).map(ask).collect();
    let with = messages.iter().filter(|message| message.get("error").is_none());
    with.map(|message| {
        let message = &message["message"];
        format!("{} {}", message["subject"].as_str().unwrap(), message["data"].as_str().unwrap_or_default())
    })
    .collect()
}

fn origin() -> World {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"],"allow_direct":true}"#);
    for subject in ["a.x", "a.y", "a.x", "a.y"] {
        world.ask(subject, "");
    }
    world.good("STREAM.MSG.DELETE.S", r#"{"seq":2}"#);
    world
}

#[test]
fn a_mirror_has_the_numbers_and_times_of_its_origin() {
    let mut world = origin();
    world.pass(Duration::from_secs(5));
    world.good("STREAM.CREATE.M", r#"{"name":"M","mirror":{"name":"S"}}"#);
    assert_eq!(world.sums("M"), (3, 1, 4));
    let time = |world: &mut World, stream| {
        world.good(&format!("STREAM.MSG.GET.{stream}"), r#"{"seq":3}"#)["message"]["time"].clone()
    };
    assert_eq!(time(&mut world, "M"), time(&mut world, "S"));
    world.ask("a.x", "");
    assert_eq!(world.sums("M"), (4, 1, 5));
    world.good("STREAM.DELETE.S", "");
    let info = world.good("STREAM.INFO.M", "");
    assert_eq!(info["mirror"]["error"]["err_code"], 10059);
    // What its origin was asked for, it answers.
    assert_eq!(world.ask("$JS.API.DIRECT.GET.S.a.x", "").len(), 1);
    world.good("STREAM.UPDATE.M", r#"{"name":"M","subjects":["m"]}"#);
    assert_eq!(world.text("m", ""), r#"{"stream":"M","seq":6}"#);
    assert_eq!(world.good("STREAM.INFO.M", "").get("mirror"), None);
}

#[test]
fn mirrors_begin_and_filter_as_they_are_told() {
    for (mirror, sums) in [
        (r#""opt_start_seq":3"#, (2, 3, 4)),
        (r#""filter_subject":"a.x""#, (2, 1, 3)),
        (r#""filter_subject":"a.y""#, (1, 4, 4)),
        (r#""subject_transforms":[{"src":"a.x","dest":"b"}]"#, (2, 1, 3)),
        (r#""opt_start_time":"2027-01-01T00:00:00Z""#, (0, 5, 4)),
    ] {
        let mut world = origin();
        world.good("STREAM.CREATE.M", &format!(r#"{{"name":"M","mirror":{{"name":"S",{mirror}}}}}"#));
        assert_eq!(world.sums("M"), sums, "{mirror}");
    }
}

#[test]
fn sources_say_where_messages_are_from_and_go_on_where_they_were() {
    let mut world = origin();
    world.good("STREAM.CREATE.T", r#"{"name":"T","subjects":["t"]}"#);
    world.good(
        "STREAM.CREATE.C",
        r#"{"name":"C","subjects":["own"],"sources":[{"name":"S","subject_transforms":[{"src":"a.*","dest":"b.$1"}]},{"name":"T"}]}"#,
    );
    assert_eq!(world.sums("C"), (3, 1, 3));
    world.ask("t", "");
    world.ask("own", "");
    assert_eq!(payloads(&mut world, "C"), ["b.x ", "b.x ", "b.y ", "t ", "own "]);
    let direct = world.ask("$JS.API.STREAM.MSG.GET.C", r#"{"seq":3}"#)[0].payload.clone();
    assert!(direct.contains("TkFUUy8xLjANCk5hdHMtU3RyZWFtLVNvdXJjZTogUyA0IGEuKiBiLiQxIGEueS"), "{direct}");
    for (seed, purge) in [(1, false), (2, true)] {
        if purge {
            world.good("STREAM.PURGE.C", "");
        }
        world.power_cut(seed);
        world.ask("a.x", "");
        world.ask("t", "");
    }
    assert_eq!(payloads(&mut world, "C"), ["b.x ", "t "], "nothing came again");
    let lags: Vec<_> = world.good("STREAM.INFO.C", "")["sources"].as_array().unwrap().clone();
    assert_eq!((&lags[0]["lag"], &lags[0]["seq"], &lags[1]["seq"]), (&0.into(), &6.into(), &3.into()));
    // Another stream of the name begins anew.
    world.good("STREAM.DELETE.T", "");
    world.pass(Duration::from_secs(1));
    world.good("STREAM.CREATE.T", r#"{"name":"T","subjects":["t"]}"#);
    world.ask("t", "");
    assert_eq!(world.sums("C").0, 3);
}

#[test]
fn what_has_no_room_waits_and_work_is_taken() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a"],"retention":"workqueue"}"#);
    world.good(
        "STREAM.CREATE.C",
        r#"{"name":"C","retention":"workqueue","max_msgs":2,"discard":"new","sources":[{"name":"S"}]}"#,
    );
    world.good(
        "CONSUMER.CREATE.C.D",
        r#"{"stream_name":"C","config":{"durable_name":"D","ack_policy":"explicit"}}"#,
    );
    for payload in ["1", "2", "3", "4"] {
        world.ask("a", payload);
    }
    assert_eq!((world.sums("S").0, world.sums("C").0), (2, 2));
    assert_eq!(world.good("STREAM.INFO.C", "")["sources"][0]["lag"], 2);
    for expected in ["1", "2", "3", "4"] {
        let got = world.fetch("C", "D", 1);
        assert_eq!(got[0].0, expected);
        world.ask(&got[0].1, "");
    }
    assert_eq!((world.sums("S").0, world.sums("C").0), (0, 0));
}

#[test]
fn a_stream_does_not_get_back_what_it_gave() {
    let mut world = origin();
    world.good("STREAM.CREATE.M", r#"{"name":"M","sources":[{"name":"S"}]}"#);
    let update = world.api(
        "STREAM.UPDATE.S",
        r#"{"name":"S","subjects":["a.*"],"allow_direct":true,"sources":[{"name":"M"}]}"#,
    );
    assert_eq!(update["error"]["description"], "detected cycle");
}
