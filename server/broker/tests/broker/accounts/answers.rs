//! Open requests between accounts: how they end, and how many there can be.

use std::time::Duration;

use midge_broker::{
    AccountSettings, Exports, Imports, Response, ServiceExport, ServiceImport, StreamExport, StreamImport,
};

use super::world::{World, settings};

const THRESHOLD: Duration = Duration::from_secs(10);

fn world(response: Response) -> World {
    let export = ServiceExport { response, threshold: THRESHOLD, ..ServiceExport::new("help") };
    let import = ServiceImport {
        account: "A".into(),
        subject: "help".into(),
        to: "help".into(),
        share: false,
        activation: None,
    };
    World::new(settings(vec![
        AccountSettings {
            name: "A".into(),
            exports: Exports { services: vec![export], ..Exports::default() },
            ..AccountSettings::default()
        },
        AccountSettings {
            name: "B".into(),
            imports: Imports { services: vec![import], ..Imports::default() },
            ..AccountSettings::default()
        },
    ]))
}

fn open(world: &World) -> usize {
    world.broker.accounts().map(|account| account.open_requests()).sum()
}

#[test]
fn requests_end_with_the_answer_with_time_and_with_interest() {
    let mut world = world(Response::Single);
    let (mut a, mut b) = (world.connect("A"), world.connect("B"));
    a.say(&mut world, "SUB help 1");
    b.say(&mut world, "SUB in.* 1");
    for reply in ["in.1", "in.2", "in.3"] {
        b.publish(&mut world, "help", reply, "?");
    }
    let asked = a.read();
    assert_eq!(open(&world), 3);
    a.publish(&mut world, asked[0].reply.as_deref().unwrap(), "", "!");
    assert_eq!((b.one().subject.as_str(), open(&world)), ("in.1", 2));
    world.pass(THRESHOLD / 2);
    b.publish(&mut world, "help", "in.4", "?");
    world.pass(THRESHOLD / 2 + Duration::from_secs(1));
    assert_eq!(open(&world), 1, "the time of two is over");
    a.publish(&mut world, asked[1].reply.as_deref().unwrap(), "", "late");
    assert!(b.read().is_empty());
    b.say(&mut world, "UNSUB 1");
    assert_eq!(open(&world), 0, "nobody waits for the last one");
}

#[test]
fn nobody_waits_for_one_who_has_left() {
    let mut world = world(Response::Single);
    let (mut a, mut b) = (world.connect("A"), world.connect("B"));
    a.say(&mut world, "SUB help 1");
    b.say(&mut world, "SUB in.1 1");
    b.publish(&mut world, "help", "in.1", "?");
    assert_eq!(open(&world), 1);
    b.leave(&mut world);
    assert_eq!(open(&world), 0);
}

#[test]
fn a_stream_of_answers_ends_with_an_empty_one_or_a_pause() {
    let mut world = world(Response::Stream);
    let (mut a, mut b) = (world.connect("A"), world.connect("B"));
    a.say(&mut world, "SUB help 1");
    b.say(&mut world, "SUB in.* 1");
    b.publish(&mut world, "help", "in.1", "?");
    b.publish(&mut world, "help", "in.2", "?");
    let asked = a.read();
    let [one, two] = [0, 1].map(|request: usize| asked[request].reply.clone().unwrap());
    for _ in 0..4 {
        world.pass(THRESHOLD / 2);
        a.publish(&mut world, &one, "", "!");
        a.publish(&mut world, &two, "", "!");
    }
    assert_eq!((b.read().len(), open(&world)), (8, 2), "each answer gives more time");
    a.publish(&mut world, &one, "", "");
    assert_eq!((b.read().len(), open(&world)), (1, 1));
    world.pass(THRESHOLD * 2);
    assert_eq!(open(&world), 0);
}

#[test]
fn services_that_never_answer_fill_no_memory() {
    let mut world = world(Response::Single);
    let (mut a, mut b) = (world.connect("A"), world.connect("B"));
    a.say(&mut world, "SUB help 1");
    b.say(&mut world, "SUB in.> 1");
    let reply = format!("in.{}", "x".repeat(200));
    let lines: String = (0..100).map(|i| format!("PUB help {reply}.{i} 0\r\n\r\n")).collect();
    let mut last = None;
    for _ in 0..1000 {
        b.say(&mut world, lines.strip_suffix("\r\n").unwrap());
        last = a.read().pop().or(last);
    }
    let left = open(&world);
    assert!(left < 60_000 && left > 10_000, "{left} open");
    assert_eq!(world.broker.stats().answers_dropped, 100_000 - left as u64);
    let last = last.unwrap().reply.unwrap();
    a.publish(&mut world, &last, "", "!");
    assert_eq!(b.one().subject, format!("{reply}.99"), "the newest are still open");
    world.pass(THRESHOLD * 2);
    assert_eq!(open(&world), 0);
}

#[test]
fn made_up_answers_go_nowhere() {
    let mut world = world(Response::Single);
    let (mut a, mut b) = (world.connect("A"), world.connect("B"));
    a.say(&mut world, "SUB help 1");
    b.say(&mut world, "SUB > 1");
    b.publish(&mut world, "help", "in.1", "?");
    b.read();
    let reply = a.one().reply.unwrap();
    let other = if reply.ends_with('0') { "1" } else { "0" };
    for forged in [
        format!("{}{other}", &reply[..reply.len() - 1]),
        format!("{reply}.T"),
        format!("{reply}0"),
        reply[..reply.len() - 1].to_owned(),
        reply.to_ascii_uppercase(),
    ] {
        a.publish(&mut world, &forged, "", "forged");
    }
    b.publish(&mut world, &reply, "", "from the wrong account");
    assert!(b.read().iter().all(|got| got.payload != "forged" && got.subject != "in.1"));
    a.publish(&mut world, &reply, "", "!");
    assert_eq!(b.one().payload, "!");
}

#[test]
fn borders_are_passed_a_bounded_number_of_times() {
    // A chain of forty accounts, each with the next one's service.
    let name = |i: usize| format!("A{i:02}");
    let account = |i: usize| AccountSettings {
        name: name(i).into(),
        exports: Exports { services: vec![ServiceExport::new("s")], ..Exports::default() },
        imports: Imports {
            services: (i > 0)
                .then(|| ServiceImport {
                    account: name(i - 1).into(),
                    subject: "s".into(),
                    to: "s".into(),
                    share: false,
                    activation: None,
                })
                .into_iter()
                .collect(),
            ..Imports::default()
        },
        ..AccountSettings::default()
    };
    let mut world = World::new(settings((0..40).map(account).collect()));
    let mut services: Vec<_> = [0, 7, 8].map(|i| world.connect(&name(i))).into();
    services.iter_mut().for_each(|service| service.say(&mut world, "SUB s 1"));
    let mut far = world.connect(&name(39));
    far.publish(&mut world, "s", "", "?");
    let reached: Vec<_> = services.iter().map(|service| service.read().len()).collect();
    assert_eq!(reached, [0, 1, 1], "32 borders and no more");
    let mut near = world.connect(&name(32));
    near.say(&mut world, "SUB in 1");
    near.publish(&mut world, "s", "in", "?");
    let reply = services[0].one().reply.unwrap();
    services[0].publish(&mut world, &reply, "", "!");
    assert_eq!(near.one().payload, "!", "the answer comes all the way back");
}

#[test]
fn what_comes_by_a_service_leaves_by_no_stream() {
    let service = ServiceImport {
        account: "A".into(),
        subject: "s".into(),
        to: "s".into(),
        share: false,
        activation: None,
    };
    let stream = StreamImport {
        account: "A".into(),
        subject: ">".into(),
        to: ">".into(),
        activation: None,
        allow_trace: false,
    };
    let public =
        |subject: &str| StreamExport { subject: subject.into(), access: midge_broker::Access::Public };
    let mut world = World::new(settings(vec![
        AccountSettings {
            name: "A".into(),
            exports: Exports { streams: vec![public(">")], services: vec![ServiceExport::new("s")] },
            ..AccountSettings::default()
        },
        AccountSettings {
            name: "B".into(),
            imports: Imports { services: vec![service], ..Imports::default() },
            ..AccountSettings::default()
        },
        AccountSettings {
            name: "C".into(),
            imports: Imports { streams: vec![stream], ..Imports::default() },
            ..AccountSettings::default()
        },
    ]));
    let (mut a, mut b, mut c) = (world.connect("A"), world.connect("B"), world.connect("C"));
    c.say(&mut world, "SUB s 1");
    b.publish(&mut world, "s", "", "?");
    assert!(c.read().is_empty());
    a.publish(&mut world, "s", "", "!");
    assert_eq!(c.one().payload, "!");
}
