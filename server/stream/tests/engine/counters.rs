//! Messages that count.

use crate::world::{World, header};

fn add(world: &mut World, subject: &str, increment: &str) -> String {
    world.ask_with(subject, &header("Nats-Incr", increment), "").remove(0).payload
}

#[test]
fn increments_add_up() {
    let mut world = World::new();
    world.good(
        "STREAM.CREATE.S",
        r#"{"name":"S","subjects":["a.*"],"allow_msg_counter":true,"allow_atomic":true}"#,
    );
    assert_eq!(add(&mut world, "a.x", "5"), r#"{"stream":"S","seq":1,"val":"5"}"#);
    assert_eq!(add(&mut world, "a.x", "-7"), r#"{"stream":"S","seq":2,"val":"-2"}"#);
    assert_eq!(add(&mut world, "a.y", "+1"), r#"{"stream":"S","seq":3,"val":"1"}"#);
    let large = "99999999999999999999999999999999999999";
    add(&mut world, "a.y", large);
    world.power_cut(1);
    assert_eq!(
        add(&mut world, "a.y", "1"),
        r#"{"stream":"S","seq":5,"val":"100000000000000000000000000000000000001"}"#
    );
    assert!(add(&mut world, "a.x", "x").contains("10171"));
    assert!(world.text("a.x", "").contains("10169"));
    assert!(world.ask_with("a.x", &header("Nats-Incr", "1"), "payload")[0].payload.contains("10170"));
    let batch = |world: &mut World, seq: u64, more: &str| {
        let block = format!(
            "NATS/1.0\r\nNats-Incr: 2\r\nNats-Batch-Id: b\r\nNats-Batch-Sequence: {seq}\r\n{more}\r\n"
        );
        world.ask_with("a.x", &block, "").remove(0).payload
    };
    batch(&mut world, 1, "");
    assert!(batch(&mut world, 2, "Nats-Batch-Commit: 1\r\n").contains(r#""count":2"#));
    assert_eq!(add(&mut world, "a.x", "0"), r#"{"stream":"S","seq":8,"val":"2"}"#);
    world.good("STREAM.CREATE.T", r#"{"name":"T","subjects":["t"]}"#);
    assert!(add(&mut world, "t", "1").contains("10168"));
}

#[test]
fn counters_of_sources_add_up() {
    let mut world = World::new();
    for name in ["A", "B"] {
        let config = format!(r#"{{"name":"{name}","subjects":["{name}.c"],"allow_msg_counter":true}}"#);
        world.good(&format!("STREAM.CREATE.{name}"), &config);
    }
    world.good(
        "STREAM.CREATE.S",
        r#"{"name":"S","allow_msg_counter":true,"sources":[{"name":"A","subject_transforms":[{"src":"A.c","dest":"c"}]},{"name":"B","subject_transforms":[{"src":"B.c","dest":"c"}]}]}"#,
    );
    add(&mut world, "A.c", "5");
    add(&mut world, "B.c", "10");
    add(&mut world, "A.c", "-2");
    let last = &world.good("STREAM.MSG.GET.S", r#"{"last_by_subj":"c"}"#)["message"];
    assert_eq!(last["data"], "eyJ2YWwiOiIxMyJ9", "13 in all");
    assert_eq!(world.sums("S"), (3, 1, 3));
}
