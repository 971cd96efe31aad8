//! Work whose instructions are counted: parse, route, deliver, store. `tests/instructions/run` runs it under callgrind.
//!
//! `instructions NAME COUNT` prepares what `NAME` needs and then does it `COUNT` times; what is prepared costs the same
//! for any count, so that two runs tell the instructions of one time. `instructions` alone lists the names.

#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../../broker/tests/broker/world/mod.rs"]
mod world;

mod streams;

use std::hint::black_box;
use std::sync::Arc;

use midge_broker::{Directory, Permit, Proof, Rules, Secret, Settings, User};
use midge_protocol::limits::Limits;
use midge_protocol::parse::{Step, client_op};
use midge_protocol::subject::Filter;
use midge_router::{Router, SubId};

use crate::world::{Client, World, publish};

/// Something that is done again and again, told how often it was done before.
type Work = Box<dyn FnMut(usize)>;

/// A name, and what prepares the work.
type Named = (&'static str, fn() -> Work);

const WORKS: &[Named] = &[
    ("parse PUB, 16 B", || parse("PUB plant.attic.temp 16\r\n0123456789abcdef\r\n")),
    ("parse PUB with reply, 16 B", || parse("PUB plant.attic.temp _INBOX.a.1 16\r\n0123456789abcdef\r\n")),
    ("parse HPUB, 35 + 16 B", || {
        parse("HPUB plant.attic.temp 35 51\r\nNATS/1.0\r\nNats-Msg-Id: 12345678\r\n\r\n0123456789abcdef\r\n")
    }),
    ("parse SUB", || parse("SUB plant.*.temp 17\r\n")),
    ("route, subject known", route_known),
    ("route, subject new", route_new),
    ("subscribe and unsubscribe, router", insert_and_remove),
    ("deliver 16 B to 1, of 100 in a turn", || deliver(1, "", 16, 100)),
    ("deliver 128 B to 1, of 100 in a turn", || deliver(1, "", 128, 100)),
    ("deliver 16 B to 10, of 100 in a turn", || deliver(10, "", 16, 100)),
    ("deliver 16 B to 1 of a group of 8, of 100 in a turn", || deliver(8, "group", 16, 100)),
    ("deliver 16 B to 1, alone in a turn", || deliver(1, "", 16, 1)),
    ("deliver 64 KiB to 10, alone in a turn", || deliver(10, "", 65_536, 1)),
    ("request and answer", request),
    ("SUB and UNSUB, session", sub_and_unsub),
    ("connect, SUB, leave", come_and_go),
    ("permission to publish, 1 rule", || permission(1)),
    ("permission to publish, 10 rules", || permission(10)),
    ("permission to publish, 1,000 rules", || permission(1_000)),
    ("deliver 16 B to 1, of 100 in a turn, by a user with 10 rules", deliver_by_rules),
    ("stream: store and answer 128 B, 20 in a commit", streams::publish),
    ("stream: 128 B to a consumer, 20 asked for", || streams::consume(false)),
    ("stream: 128 B to a consumer, 20 asked for and acknowledged", || streams::consume(true)),
    ("stream: get the last of a subject, alone in a turn", streams::get),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [name, count] = arguments.as_slice() else {
        WORKS.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let (_, prepare) = WORKS.iter().find(|(known, _)| known == name).expect("a name of the list");
    let mut work = prepare();
    for number in 0..count.parse().expect("a number of times") {
        work(number);
    }
}

fn parse(operation: &'static str) -> Work {
    Box::new(move |_| match client_op(black_box(operation.as_bytes()), black_box(&Limits::default())) {
        Step::Op(op, used) => assert_eq!((black_box(op), used).1, operation.len()),
        step => panic!("{step:?}"),
    })
}

fn insert(router: &mut Router, filter: &str) -> SubId {
    router.insert(Filter::new(filter.as_bytes()).expect("a valid filter"), None).expect("there is room")
}

/// 10,000 subscriptions, and some with wildcards above them.
fn router(cache: usize) -> Router {
    let mut router = Router::with_cache(cache);
    for number in 0..10_000 {
        insert(&mut router, &format!("plant.{number}.temp"));
    }
    for filter in ["plant.>", "plant.*.temp", "*.*.flow"] {
        insert(&mut router, filter);
    }
    router
}

fn route_known() -> Work {
    let mut router = router(1024);
    Box::new(move |_| assert_eq!(router.matches(black_box(b"plant.4711.temp")).fanout(), 3))
}

fn route_new() -> Work {
    let mut router = router(0);
    let subjects: Vec<String> = (0..1_000).map(|number| format!("plant.{}.temp", 1_000 + number)).collect();
    Box::new(move |number| {
        let subject = subjects[number % subjects.len()].as_bytes();
        assert_eq!(router.matches(black_box(subject)).fanout(), 3);
    })
}

fn insert_and_remove() -> Work {
    let mut router = router(1024);
    let filters: Vec<String> = (0..1_000).map(|number| format!("_INBOX.{number:022}.*")).collect();
    Box::new(move |number| {
        let id = insert(&mut router, &filters[number % filters.len()]);
        assert!(router.remove(id));
    })
}

/// The counted unit is a turn of `messages`.
fn deliver(subscribers: usize, queue: &str, size: usize, messages: usize) -> Work {
    let mut world = World::new(Settings::default());
    let subscribe = format!("SUB plant.attic.temp {queue} 1\r\n");
    let listening: Vec<Client> = (0..subscribers).map(|_| world.client(&subscribe)).collect();
    let mut publisher = world.client("");
    let input = publish("plant.attic.temp", size).repeat(messages);
    let deliveries = messages * if queue.is_empty() { listening.len() } else { 1 };
    let length = format!("MSG plant.attic.temp 1 {size}\r\n").len() + size + 2;
    Box::new(move |_| {
        world.written = 0;
        world.turn(&mut publisher, black_box(input.as_bytes()));
        assert_eq!(world.written, deliveries * length);
    })
}

fn request() -> Work {
    let mut world = World::new(Settings::default());
    let mut responder = world.client("SUB heater 1\r\n");
    let mut requester = world.client("SUB _INBOX.abcdefghijklmnopqrstuv.* 1\r\n");
    let mut exchange = move |number: usize| {
        let reply = format!("_INBOX.abcdefghijklmnopqrstuv.{number:08}");
        world.turn(&mut requester, format!("PUB heater {reply} 3\r\non?\r\n").as_bytes());
        world.turn(&mut responder, format!("PUB {reply} 3\r\nyes\r\n").as_bytes());
    };
    // The match cache has found its size then.
    const BEFORE: usize = 5_000;
    (0..BEFORE).for_each(&mut exchange);
    Box::new(move |number| exchange(BEFORE + number))
}

fn sub_and_unsub() -> Work {
    let mut world = World::new(Settings::default());
    let mut client = world.client("");
    Box::new(move |number| {
        let sid = number % 1_000;
        world.turn(&mut client, format!("SUB plant.{sid}.temp {sid}\r\nUNSUB {sid}\r\n").as_bytes());
    })
}

fn come_and_go() -> Work {
    let mut world = World::new(Settings { max_closed: 100, ..Settings::default() });
    Box::new(move |_| {
        let client = world.client("SUB plant.attic.temp 1\r\n");
        world.leave(client);
    })
}

/// Asks for a subject of the last rule. Prints once what the rules take.
fn permission(rules: usize) -> Work {
    let allow: Vec<String> = (0..rules).map(|number| format!("plant.{number}.temp")).collect();
    let publish = Rules::new(Some(allow.iter().map(String::as_str)), ["plant.*.secret"]);
    let permit = Permit::new(publish, Rules::default(), None);
    eprintln!("{rules} rules: {} bytes", permit.bytes());
    let subject = format!("plant.{}.temp", rules - 1);
    Box::new(move |_| assert!(permit.may_publish(black_box(subject.as_bytes()))))
}

/// As [`deliver`], by somebody who may publish on no more than ten subjects.
fn deliver_by_rules() -> Work {
    const MESSAGES: usize = 100;
    let allow: Vec<String> = (0..10).map(|number| format!("plant.{number}.temp")).collect();
    let publish_rules = Rules::new(Some(allow.iter().map(String::as_str)), []);
    let permit = Permit::new(publish_rules, Rules::default(), None);
    let user = User {
        proof: Proof::Secret(Secret::new("")),
        account: "$G".into(),
        permit: Some(Arc::new(permit)),
        welcome: true,
    };
    let directory = Directory {
        users: [("sensor".into(), user)].into(),
        no_auth_user: Some("sensor".into()),
        ..Directory::default()
    };
    let mut world = World::new(Settings { directory, ..Settings::default() });
    let _listening = world.client("SUB plant.> 1\r\n");
    let mut publisher = world.client("");
    let input = publish("plant.7.temp", 16).repeat(MESSAGES);
    let length = "MSG plant.7.temp 1 16\r\n".len() + 16 + 2;
    Box::new(move |_| {
        world.written = 0;
        world.turn(&mut publisher, black_box(input.as_bytes()));
        assert_eq!(world.written, MESSAGES * length);
    })
}
