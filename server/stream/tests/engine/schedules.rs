//! Messages that make others.

use std::time::Duration;

use crate::world::World;

fn plan(world: &mut World, subject: &str, schedule: &str, more: &str) -> String {
    let block = format!("NATS/1.0\r\nNats-Schedule: {schedule}\r\n{more}\r\n");
    world.ask_with(subject, &block, "made").remove(0).payload
}

fn world() -> World {
    let mut world = World::new();
    world.good(
        "STREAM.CREATE.S",
        r#"{"name":"S","subjects":["plan.*","out.*","in"],"allow_msg_schedules":true,"allow_msg_ttl":true}"#,
    );
    world
}

fn count(world: &mut World, subject: &str) -> u64 {
    let info = world.good("STREAM.INFO.S", &format!(r#"{{"subjects_filter":"{subject}"}}"#));
    info["state"]["subjects"][subject].as_u64().unwrap_or(0)
}

#[test]
fn once_and_then_no_more() {
    let mut world = world();
    plan(&mut world, "plan.a", "@at 2026-01-01T00:00:05Z", "Nats-Schedule-Target: out.a\r\nX: 1\r\n");
    world.pass(Duration::from_secs(4));
    assert_eq!((count(&mut world, "plan.a"), count(&mut world, "out.a")), (1, 0));
    world.power_cut(1);
    world.pass(Duration::from_secs(2));
    assert_eq!((count(&mut world, "plan.a"), count(&mut world, "out.a")), (0, 1));
    let made = world.ask("$JS.API.STREAM.MSG.GET.S", r#"{"last_by_subj":"out.a"}"#).remove(0).payload;
    // X: 1, Nats-Scheduler: plan.a, Nats-Schedule-Next: purge
    assert!(
        made.contains(
            "TkFUUy8xLjANClg6IDENCk5hdHMtU2NoZWR1bGVyOiBwbGFuLmENCk5hdHMtU2NoZWR1bGUtTmV4dDogcHVyZ2UNCg0K"
        ),
        "{made}"
    );
}

#[test]
fn again_and_again_until_it_ends() {
    let mut world = world();
    plan(&mut world, "plan.a", "@every 2s", "Nats-Schedule-Target: out.a\r\nNats-Schedule-TTL: 60s\r\n");
    world.pass(Duration::from_millis(6500));
    assert_eq!((count(&mut world, "plan.a"), count(&mut world, "out.a")), (1, 3));
    plan(&mut world, "plan.a", "*/10 * * * * *", "Nats-Schedule-Target: out.b\r\n");
    world.pass(Duration::from_secs(20));
    assert_eq!((count(&mut world, "out.a"), count(&mut world, "out.b")), (3, 2), "a subject has one plan");
    let end = "NATS/1.0\r\nNats-Schedule-Next: purge\r\nNats-Scheduler: plan.a\r\n\r\n";
    world.ask_with("out.c", end, "");
    world.pass(Duration::from_secs(20));
    assert_eq!((count(&mut world, "plan.a"), count(&mut world, "out.b")), (0, 2));
}

#[test]
fn what_is_due_is_looked_for_a_quarter_of_a_second_after_a_change() {
    let mut world = world();
    plan(&mut world, "plan.a", "@at 2001-01-01T00:00:00Z", "Nats-Schedule-Target: out.a\r\n");
    world.pass(Duration::from_millis(200));
    plan(&mut world, "plan.b", "@at 2001-01-01T00:00:00Z", "Nats-Schedule-Target: out.b\r\n");
    world.pass(Duration::from_millis(40));
    assert_eq!(world.sums("S"), (2, 1, 2));
    world.pass(Duration::from_millis(20));
    assert_eq!((count(&mut world, "out.a"), count(&mut world, "out.b")), (1, 1), "both in one look");
}

#[test]
fn what_is_made_may_be_the_last_of_another_subject() {
    let mut world = world();
    world.ask("in", "sample");
    plan(&mut world, "plan.a", "@every 1s", "Nats-Schedule-Target: out.a\r\nNats-Schedule-Source: in\r\n");
    world.pass(Duration::from_millis(1500));
    let made = &world.good("STREAM.MSG.GET.S", r#"{"last_by_subj":"out.a"}"#)["message"];
    assert_eq!(made["data"], "c2FtcGxl");
}

#[test]
fn what_is_refused() {
    let mut world = world();
    let target = "Nats-Schedule-Target: out.a\r\n";
    for (schedule, more, err_code) in [
        ("@every 1s", "", 10190),
        ("@every 1s", "Nats-Schedule-Target: plan.a\r\n", 10190),
        ("@every 1s", "Nats-Schedule-Target: elsewhere\r\n", 10190),
        ("@every 1s", "Nats-Schedule-Target: out.*\r\n", 10190),
        ("@every 1ms", target, 10189),
        ("x", target, 10189),
        ("@every 1s", "Nats-Schedule-Target: out.a\r\nNats-Schedule-TTL: x\r\n", 10191),
        ("@every 1s", "Nats-Schedule-Target: out.a\r\nNats-Rollup: all\r\n", 10192),
        ("@every 1s", "Nats-Schedule-Target: out.a\r\nNats-Schedule-Source: out.a\r\n", 10203),
        ("@hourly", "Nats-Schedule-Target: out.a\r\nNats-Schedule-Time-Zone: Nowhere\r\n", 10223),
    ] {
        let answer = plan(&mut world, "plan.a", schedule, more);
        assert!(answer.contains(&format!("\"err_code\":{err_code},")), "{schedule} {more}: {answer}");
    }
    world.good("STREAM.CREATE.T", r#"{"name":"T","subjects":["t"]}"#);
    assert!(plan(&mut world, "t", "@every 1s", target).contains("10188"));
}
