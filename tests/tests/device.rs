//! The client for microcontrollers against midged and nats-server: on both the same, and it sees what async-nats sees.

#![allow(clippy::duplicate_mod, reason = "two examples stand on the same modules")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant as StdInstant};

use bytes::Bytes;
use embedded_io_adapters::tokio_1::FromTokio;
use futures_util::StreamExt as _;
use midge_client::blocking::Connection;
use midge_client::header::{Block, Field};
use midge_client::jetstream::{self, ACK, Delivery, Entry, Expect, Failure, PubAck, PullEnd, Watch};
use midge_client::nkey::UserKey;
use midge_client::outbox::{Confirm, Outbox, Progress, Ram};
use midge_client::tcp::{Clock, Tcp};
use midge_client::{
    Backoff, Client, Config, Error, Event, Login, Lost, Message, Publish, Remedy, ServerError, Servers,
    Subject,
};
use midge_tests::daemon::{Daemon, PATIENCE, Program};
use midge_tests::foreign::round_trip;

#[path = "../../client-nostd/examples/embassy.rs"]
mod over_embassy;
#[path = "../../client-nostd/examples/smoltcp.rs"]
mod over_smoltcp;

const CONFIG: &str = r#"
    max_payload: 4096
    authorization {
        users: [
            { user: sensor, password: secret, permissions: { publish: { deny: "forbidden.>" }, subscribe: { deny: "forbidden.>" } } }
            { user: other, password: "pass \"word\"" }
        ]
    }
"#;

/// Runs `test` on both servers.
fn on_both(config: &str, test: impl Fn(&mut Daemon)) {
    for program in [Program::reference(), Program::ours()] {
        let program = program.expect("run tests/setup, and build midged");
        println!("on {}", program.name());
        test(&mut Daemon::start(program, Some(config), &[]).expect("the server starts"));
    }
}

/// Buffers, and a clock.
struct Device {
    receive: Vec<u8>,
    transmit: Vec<u8>,
    clock: Clock,
}

impl Device {
    fn new(receive: usize) -> Self {
        Self { receive: vec![0; receive], transmit: vec![0; 4608], clock: Clock::start() }
    }

    fn client<const S: usize, const R: usize>(&mut self) -> Client<'_, S, R> {
        Client::new(Config::new(0), &mut self.receive, &mut self.transmit, rand_bytes())
    }
}

/// Bytes that no other client of this test has.
fn rand_bytes() -> [u8; 16] {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let half = || RandomState::new().build_hasher().finish().to_le_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&half());
    bytes[8..].copy_from_slice(&half());
    bytes
}

fn tcp(daemon: &Daemon) -> Tcp {
    Tcp::connect(daemon.address(), Duration::from_millis(20)).expect("the server listens")
}

/// Goes on until `see` says that it has seen enough; fails if that takes too long.
fn until<'c, 'b, const S: usize, const R: usize>(
    connection: &mut Connection<'c, 'b, Tcp, S, R>,
    clock: Clock,
    mut see: impl FnMut(&Event<'_>) -> bool,
) {
    let end = StdInstant::now() + PATIENCE;
    loop {
        if connection.next(clock.now()).expect("the connection holds").is_some_and(|event| see(&event)) {
            return;
        }
        assert!(StdInstant::now() < end, "nothing comes");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The examples, over a cable in memory.
#[test]
fn over_tcp_stacks_of_microcontrollers() {
    on_both("", |daemon| {
        over_smoltcp::run(daemon.address(), 10).expect("it works over smoltcp");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let run = async { tokio::time::timeout(PATIENCE, over_embassy::run(daemon.address(), 10)).await };
        runtime.block_on(run).expect("it ends").expect("it works over embassy-net");
    });
}

const LOGIN: Login<'_> = Login::user("sensor", "secret");

#[test]
fn messages_come_and_go() {
    on_both(CONFIG, |daemon| {
        let mut device = Device::new(1024);
        let clock = device.clock;
        let mut client = device.client::<4, 2>();
        let all = client.subscribe("plant.>", None).expect("a filter");
        let shared = client.subscribe("work", Some("q")).expect("a filter");
        let limited = client.subscribe("limited", None).expect("a filter");
        client.unsubscribe(limited, Some(2));
        let mut connection = Connection::new(&mut client, tcp(daemon), &LOGIN, clock.now());
        until(&mut connection, clock, |event| *event == Event::Connected);
        assert!(connection.client().server().headers() && connection.client().server().auth_required());
        assert_eq!(connection.client().server().max_payload(), 4096);

        let fields = [Field::new("Unit", "°C"), Field::new("Nats-Msg-Id", "7")];
        let header = Block::new(&fields).expect("a header");
        let subject = Subject::new(b"plant.attic.temp").expect("a subject");
        let full = Publish { reply: Some(subject), header: Some(&header), ..Publish::new(subject, b"21.5") };
        connection.publish(subject, b"21").expect("sent");
        connection.publish_with(&full).expect("sent");
        for _ in 0..3 {
            connection.publish(Subject::new(b"limited").expect("a subject"), b"").expect("sent");
            connection.publish(Subject::new(b"work").expect("a subject"), &[7; 4096]).expect("sent");
        }
        // A server refuses the one and the other, and goes on.
        connection.publish(Subject::new(b"forbidden.a").expect("a subject"), b"").expect("sent");
        connection.client().subscribe("forbidden.b", None).expect("a filter");
        connection.ping().expect("sent");
        let mut seen = Vec::new();
        until(&mut connection, clock, |event| {
            seen.push(match event {
                Event::Message { sid, message: Message { subject, reply, header, payload } } => {
                    format!(
                        "{} {} {:?} {} {}",
                        sid.0,
                        text(subject),
                        reply.map(text),
                        header.len(),
                        text(payload)
                    )
                }
                Event::Oversized(message) => {
                    format!("{} {} too large: {}", message.sid.0, text(message.subject), message.size)
                }
                Event::Piece { left: 0, .. } => "the end".into(),
                Event::Piece { data, .. } => return data.iter().any(|byte| *byte != 7),
                Event::Error(ServerError::Permissions(text_)) => text(text_),
                // nats-server says after CONNECT which account that led to.
                Event::Info { .. } => return false,
                other => format!("{other:?}"),
            });
            *event == Event::Pong
        });
        let work = [format!("{} work too large: 4096", shared.0), "the end".into()];
        let mut expected = vec![
            format!("{} plant.attic.temp None 0 21", all.0),
            format!("{} plant.attic.temp Some(\"plant.attic.temp\") 39 21.5", all.0),
        ];
        for round in 0..3 {
            if round < 2 {
                expected.push(format!("{} limited None 0 ", limited.0));
            }
            expected.extend(work.clone());
        }
        expected.push("Permissions Violation for Publish to \"forbidden.a\"".into());
        expected.push("Permissions Violation for Subscription to \"forbidden.b\"".into());
        expected.push("Pong".into());
        // The two servers send what belongs to one turn in orders of their own.
        expected.sort();
        seen.sort();
        assert_eq!(seen, expected);
    });
}

#[test]
fn requests_and_answers() {
    on_both(CONFIG, |daemon| {
        let (mut one, mut other) = (Device::new(512), Device::new(512));
        let clock = one.clock;
        let mut asking = one.client::<1, 3>();
        let mut answering = other.client::<1, 0>();
        answering.subscribe("heater.>", None).expect("a filter");
        let login = Login::user("other", "pass \"word\"");
        let mut service = Connection::new(&mut answering, tcp(daemon), &login, clock.now());
        until(&mut service, clock, |event| *event == Event::Connected);
        service.ping().expect("sent");
        until(&mut service, clock, |event| *event == Event::Pong);

        let mut connection = Connection::new(&mut asking, tcp(daemon), &LOGIN, clock.now());
        until(&mut connection, clock, |event| *event == Event::Connected);
        let ask = |subject: &'static str| Publish::new(Subject::try_from(subject).expect("a subject"), b"on");
        let far = clock.now().after_ms(60_000);
        let answered = connection.request(&ask("heater.answered"), far).expect("sent");
        let nobody = connection.request(&ask("nobody"), far).expect("sent");
        let expires = connection.request(&ask("heater.ignored"), clock.now().after_ms(50)).expect("sent");
        let full = connection.request(&ask("heater.more"), far);
        assert!(matches!(full, Err(Error::Refused(midge_client::Refused::Full))), "{full:?}");

        let mut asked = 0;
        while asked < 2 {
            let subject = match service.next(clock.now()).expect("the connection holds") {
                Some(Event::Message { message, .. }) => message.subject.to_vec(),
                _ => continue,
            };
            asked += 1;
            if subject.ends_with(b".answered") {
                service.respond(b"warm").expect("sent");
            }
        }
        let mut seen = Vec::new();
        until(&mut connection, clock, |event| {
            seen.push(match event {
                Event::Answer { token, message } => {
                    format!("{} {}", *token == answered, text(message.payload))
                }
                Event::NoResponders { token } => format!("{} nobody", *token == nobody),
                Event::Expired { token } => format!("{} expired", *token == expires),
                Event::Info { .. } => return false,
                other => format!("{other:?}"),
            });
            seen.len() == 3
        });
        seen.sort();
        assert_eq!(seen, ["true expired", "true nobody", "true warm"]);
    });
}

#[test]
fn logins() {
    for (config, login, end) in [
        ("authorization { token: t0ken }", Login::token("t0ken"), None),
        ("authorization { token: t0ken }", Login::token("other"), Some(Lost::Credentials)),
        ("authorization { token: t0ken }", Login::ANONYMOUS, Some(Lost::Credentials)),
        (CONFIG, Login::user("sensor", "wrong"), Some(Lost::Credentials)),
        ("", Login::ANONYMOUS.named("attic \"7\"").without_headers(), None),
    ] {
        on_both(config, |daemon| {
            let mut device = Device::new(256);
            let clock = device.clock;
            let mut client = device.client::<1, 0>();
            let mut connection = Connection::new(&mut client, tcp(daemon), &login, clock.now());
            let ended = loop {
                match connection.next(clock.now()) {
                    Ok(Some(Event::Connected)) => break None,
                    Ok(_) => {}
                    Err(Error::Lost(lost)) => break Some(lost),
                    Err(error) => panic!("{error}"),
                }
            };
            assert_eq!(ended, end);
            if let Some(lost) = ended {
                assert_eq!(Error::<()>::Lost(lost).remedy(), Remedy::Credentials);
            }
        });
    }
}

/// A server dies and comes back; the device finds it and has its messages again.
#[test]
fn reconnecting() {
    on_both(CONFIG, |daemon| {
        let mut device = Device::new(512);
        let clock = device.clock;
        let mut client = device.client::<2, 1>();
        client.subscribe("plant.>", None).expect("a filter");
        let mut backoff = Backoff::new(1, 50, 7);
        let mut servers = Servers::<2>::new(&["127.0.0.1:1"]);
        let own = daemon.address().to_string();
        let json = format!("{{\"connect_urls\":[\"{own}\"]}}");
        servers.learn(Some(json.as_bytes()));
        let end = StdInstant::now() + PATIENCE;
        for round in 0..3 {
            'attempts: loop {
                assert!(StdInstant::now() < end, "it doesn't come back");
                let address = servers.current().expect("there are two").to_owned();
                let Ok(transport) = Tcp::connect(&*address, Duration::from_millis(20)) else {
                    servers.advance();
                    // What a device would sleep for.
                    let _ = backoff.next_ms();
                    continue;
                };
                let mut connection = Connection::new(&mut client, transport, &LOGIN, clock.now());
                let mut messages = 0;
                loop {
                    match connection.next(clock.now()) {
                        Ok(Some(Event::Connected)) => {
                            backoff.reset();
                            let subject = Subject::new(b"plant.a").expect("a subject");
                            connection.publish(subject, b"1").expect("sent");
                        }
                        Ok(Some(Event::Message { .. })) => {
                            messages += 1;
                            daemon.restart().expect("it starts again");
                        }
                        Ok(_) => {}
                        Err(error) => {
                            assert_eq!(error.remedy(), Remedy::Reconnect, "round {round}: {error}");
                            if messages > 0 {
                                break 'attempts;
                            }
                            break;
                        }
                    }
                }
            }
        }
    });
}

/// A program that can't read for a while isn't taken for dead if it says that it is there; one that says nothing is.
#[test]
fn a_busy_program_is_waited_for() {
    on_both("ping_interval: \"300ms\"\nping_max: 8", |daemon| {
        let mut device = Device::new(128);
        let clock = device.clock;
        let mut client = device.client::<1, 0>();
        client.subscribe("busy", None).expect("a filter");
        let mut connection = Connection::new(&mut client, tcp(daemon), &Login::ANONYMOUS, clock.now());
        until(&mut connection, clock, |event| *event == Event::Connected);
        connection.ping().expect("sent");
        until(&mut connection, clock, |event| *event == Event::Pong);

        // The other one is silent after this, and is the clock.
        let mut silent = TcpStream::connect(daemon.address()).expect("the server listens");
        silent.set_read_timeout(Some(PATIENCE)).expect("a socket");
        silent.write_all(b"CONNECT {\"verbose\":false}\r\n").expect("it takes it");
        silent.write_all(&b"PUB busy 5\r\nhello\r\n".repeat(20)).expect("it takes it");
        let (mut pings, mut is_stale) = (0, false);
        for line in BufReader::new(silent).lines().map_while(Result::ok) {
            pings += usize::from(line == "PING");
            is_stale |= line.starts_with("-ERR 'Stale Connection'");
            connection.keep_alive().expect("the connection holds");
        }
        assert_eq!((pings, is_stale), (8, true));

        connection.ping().expect("sent");
        let mut messages = 0;
        until(&mut connection, clock, |event| {
            messages += usize::from(matches!(event, Event::Message { .. }));
            *event == Event::Pong
        });
        assert_eq!(messages, 20);
    });
}

/// What async-nats sends, ours receives like async-nats does; and the other way round. Over tokio's sockets.
#[tokio::test]
async fn as_async_nats() {
    for program in [Program::reference(), Program::ours()] {
        let daemon = Daemon::start(program.expect("run tests/setup, and build midged"), Some(CONFIG), &[])
            .expect("it starts");
        let options = async_nats::ConnectOptions::with_user_and_password("sensor".into(), "secret".into());
        let foreign = options.connect(daemon.address().to_string()).await.expect("async-nats connects");
        let mut foreign_sees = foreign.subscribe("x.>").await.expect("async-nats subscribes");
        round_trip(&foreign).await.expect("the server knows of it");

        let mut device = Device::new(700);
        let clock = device.clock;
        let mut client = device.client::<1, 0>();
        client.subscribe("x.>", None).expect("a filter");
        let stream = tokio::net::TcpStream::connect(daemon.address()).await.expect("it listens");
        let mut connection =
            midge_client::Connection::new(&mut client, FromTokio::new(stream), &LOGIN, clock.now());
        while connection.next(clock.now()).await.expect("it holds") != Some(Event::Connected) {}
        let flush = connection.ping().await.expect("sent");
        while !connection.client().is_flushed(flush) {
            connection.next(clock.now()).await.expect("it holds");
        }

        // Any mixture of subjects, replies, headers and sizes, some of them more than the device's buffer holds.
        let mut sent = 0;
        for round in 0..40usize {
            let subject = format!("x.{}{}", "s".repeat(round % 7 * 20), round);
            let payload: Vec<u8> = (0..round * round % 1500).map(|at| (at * 31 + round) as u8).collect();
            let value = "v".repeat(round % 5 * 9);
            match round % 4 {
                0 => foreign.publish(subject, Bytes::from(payload)).await.expect("sent"),
                1 => {
                    let mut headers = async_nats::HeaderMap::new();
                    headers.insert("Key", &*value);
                    headers.append("Key", "second");
                    let reply = format!("r.{round}");
                    foreign
                        .publish_with_reply_and_headers(subject, reply, headers, Bytes::from(payload))
                        .await
                        .expect("sent");
                }
                2 => connection
                    .publish(Subject::new(subject.as_bytes()).expect("a subject"), &payload)
                    .await
                    .expect("sent"),
                _ => {
                    let fields = [Field::new("Key", &*value), Field::new("Key", "second")];
                    let header = Block::new(&fields).expect("a header");
                    let subject = Subject::new(subject.as_bytes()).expect("a subject");
                    let reply = Some(Subject::new(b"r.ours").expect("a subject"));
                    let message = Publish { reply, header: Some(&header), ..Publish::new(subject, &payload) };
                    connection.publish_with(&message).await.expect("sent");
                }
            }
            sent += 1;
        }
        foreign.flush().await.expect("it flushes");

        let mut theirs = Vec::new();
        while theirs.len() < sent {
            let next = tokio::time::timeout(PATIENCE, foreign_sees.next()).await.expect("it comes");
            let message = next.expect("the subscription holds");
            let keys = message.headers.as_ref().map(|headers| {
                headers.get_all("Key").map(|value| value.as_str().to_owned()).collect::<Vec<_>>()
            });
            let reply = message.reply.as_ref().map(|reply| reply.to_string());
            theirs.push((
                message.subject.to_string(),
                reply,
                keys.unwrap_or_default(),
                message.payload.to_vec(),
            ));
        }
        let (mut ours, mut large) = (Vec::new(), None);
        while ours.len() < sent {
            let event = tokio::time::timeout(PATIENCE, connection.next(clock.now())).await.expect("it comes");
            match event.expect("it holds") {
                Some(Event::Message { message, .. }) => {
                    ours.push(read(message.subject, message.reply, message.header, message.payload))
                }
                Some(Event::Oversized(message)) => {
                    large = Some((message.subject.to_vec(), message.header_size as usize, Vec::new()));
                }
                Some(Event::Piece { data, left }) => {
                    let (subject, header, body) = large.as_mut().expect("pieces follow their message");
                    body.extend_from_slice(data);
                    if left == 0 {
                        let (header, payload) = body.split_at(*header);
                        ours.push(read(subject, None, header, payload));
                    }
                }
                _ => {}
            }
        }
        // The reply of a message that doesn't fit isn't kept, and two publishers have no order between them.
        for (subject, reply, ..) in &mut theirs {
            if ours.iter().any(|(ours, reply, ..)| ours == subject && reply.is_none()) {
                *reply = None;
            }
        }
        let large = theirs.iter().filter(|(.., payload)| payload.len() > 700).count();
        assert!(large > 3, "the test is of both kinds");
        theirs.sort();
        ours.sort();
        assert_eq!(ours, theirs);
    }
}

type Read = (String, Option<String>, Vec<String>, Vec<u8>);

fn read(subject: &[u8], reply: Option<&[u8]>, header: &[u8], payload: &[u8]) -> Read {
    let header = midge_client::header::Header::parse(header).ok();
    let keys = header.map(|header| header.get_all(b"Key").map(text).collect());
    (text(subject), reply.map(text), keys.unwrap_or_default(), payload.to_vec())
}

/// An nkey that was made for this test, as `nk -gen user` makes them.
#[test]
fn nkeys() {
    let pair = nkeys::KeyPair::new_user();
    let seed = pair.seed().expect("a pair has a seed");
    let key = UserKey::from_seed(&seed).expect("a user's seed");
    assert_eq!(key.public(), pair.public_key());
    for bad in [
        "",
        "SU",
        &seed[1..],
        &seed.replace("SU", "SA"),
        &format!("{seed}A"),
        &nkeys::KeyPair::new_account().seed().expect("a seed"),
    ] {
        assert!(UserKey::from_seed(bad).is_err(), "{bad}");
    }
    let mut flipped = seed.clone().into_bytes();
    flipped[30] = if flipped[30] == b'A' { b'B' } else { b'A' };
    assert!(UserKey::from_seed(&text(&flipped)).is_err(), "the checksum is looked at");

    let config = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public());
    on_both(&config, |daemon| {
        for own in [true, false] {
            let mut device = Device::new(256);
            let clock = device.clock;
            let mut client = device.client::<1, 0>();
            let mut connection = Connection::greet(&mut client, tcp(daemon), clock.now());
            until(&mut connection, clock, |event| matches!(event, Event::Greeting { .. }));
            let other = UserKey::from_seed(&nkeys::KeyPair::new_user().seed().expect("a seed"))
                .expect("a user's seed");
            let key = if own { &key } else { &other };
            let signature = key.sign(connection.client().server()).expect("it sent a nonce");
            connection.login(&key.login(&signature), clock.now()).expect("sent");
            let ended = loop {
                match connection.next(clock.now()) {
                    Ok(Some(Event::Connected)) => break None,
                    Ok(_) => {}
                    Err(error) => break Some(error.remedy()),
                }
            };
            assert_eq!(ended, (!own).then_some(Remedy::Credentials));
        }
    });
}

#[test]
fn streams_of_nats_server() {
    streams(Program::reference().expect("run tests/setup"));
}

#[test]
fn streams_of_midged() {
    streams(Program::ours().expect("build midged"));
}

/// A device and its streams.
fn streams(program: Program) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = directory.path().join("js");
    let config = format!("jetstream {{ store_dir: {:?} }}", PathBuf::from(&store));
    let daemon = Daemon::start(program, Some(&config), &[]).expect("it starts");
    let mut device = Device::new(2048);
    let clock = device.clock;
    let mut client = device.client::<2, 4>();
    let shadow = client.subscribe("watch.dev7", None).expect("a filter");
    let login = Login::ANONYMOUS;
    let mut connection = Connection::new(&mut client, tcp(&daemon), &login, clock.now());
    until(&mut connection, clock, |event| *event == Event::Connected);
    for (subject, request) in [
        (
            "$JS.API.STREAM.CREATE.READINGS",
            r#"{"name":"READINGS","subjects":["readings.>"],"max_msg_size":100}"#,
        ),
        (
            "$JS.API.STREAM.CREATE.COMMANDS",
            r#"{"name":"COMMANDS","subjects":["commands.>"],"retention":"workqueue"}"#,
        ),
        (
            "$JS.API.CONSUMER.CREATE.COMMANDS.dev7",
            r#"{"stream_name":"COMMANDS","config":{"durable_name":"dev7","ack_policy":"explicit","filter_subject":"commands.dev7"}}"#,
        ),
        (
            "$JS.API.STREAM.CREATE.KV_shadow",
            r#"{"name":"KV_shadow","subjects":["$KV.shadow.>"],"max_msgs_per_subject":5,"allow_rollup_hdrs":true,"deny_delete":true,"allow_direct":true,"discard":"new"}"#,
        ),
    ] {
        let request = Publish::new(Subject::try_from(subject).expect("a subject"), request.as_bytes());
        let token = connection.request(&request, clock.now().after_ms(5_000)).expect("sent");
        until(&mut connection, clock, |event| {
            let Event::Answer { token: answered, message } = event else { return false };
            assert!(!text(message.payload).contains("\"error\""), "{}", text(message.payload));
            *answered == token
        });
    }

    // A reading that is sent twice is stored once.
    let subject = Subject::new(b"readings.temp").expect("a subject");
    let deliver = |connection: &mut Connection<'_, '_, Tcp, 2, 4>, subject, id, payload, timeout_ms| {
        let mut delivery = Delivery::new(subject, id, payload, timeout_ms);
        let end = StdInstant::now() + PATIENCE;
        loop {
            delivery.poll(connection.client(), clock.now()).expect("there is room");
            if let Some(event) = connection.next(clock.now()).expect("it holds")
                && let Some(result) = delivery.handle(&event)
            {
                assert_eq!(delivery.is_stored(), result.is_ok());
                return result;
            }
            assert!(StdInstant::now() < end, "no answer");
        }
    };
    assert_eq!(
        deliver(&mut connection, subject, "7", b"21.5", 5_000),
        Ok(PubAck { sequence: 1, duplicate: false })
    );
    assert_eq!(
        deliver(&mut connection, subject, "7", b"21.5", 5_000),
        Ok(PubAck { sequence: 1, duplicate: true })
    );
    // Sent again for want of an answer in time, until there is one; however often that was, it is there once.
    assert!(deliver(&mut connection, subject, "8", b"21.6", 1).is_ok_and(|ack| ack.sequence == 2));
    assert!(matches!(
        deliver(&mut connection, subject, "9", &[0; 200], 5_000),
        Err(Failure::Api { code: 400, .. })
    ));
    let nowhere = Subject::new(b"nowhere").expect("a subject");
    assert_eq!(deliver(&mut connection, nowhere, "9", b"", 5_000), Err(Failure::NoStream));

    // Commands are taken one by one, and acknowledged.
    let command = Subject::new(b"commands.dev7").expect("a subject");
    for id in ["on", "off"] {
        deliver(&mut connection, command, id, id.as_bytes(), 5_000).expect("stored");
    }
    for expected in ["on", "off"] {
        connection.client().pull("COMMANDS", "dev7", 5_000, clock.now()).expect("there is room");
        until(&mut connection, clock, |event| {
            let Event::Pulled { message } = event else { return false };
            assert_eq!((message.subject, text(message.payload)), (&b"commands.dev7"[..], expected.into()));
            true
        });
        connection.respond(ACK).expect("sent");
    }
    for expires_ms in [0, 50] {
        let token =
            connection.client().pull("COMMANDS", "dev7", expires_ms, clock.now()).expect("there is room");
        until(&mut connection, clock, |event| {
            let Event::Answer { token: answered, message } = event else { return false };
            assert_eq!((*answered, jetstream::pull_status(message)), (token, PullEnd::Empty));
            true
        });
    }
    let gone = connection.client().pull("COMMANDS", "dev8", 50, clock.now()).expect("there is room");
    until(
        &mut connection,
        clock,
        |event| matches!(event, Event::NoResponders { token } | Event::Expired { token } if *token == gone),
    );

    // A shadow: written, changed under a condition, watched, deleted.
    let far = clock.now().after_ms(30_000);
    let mut watch = Watch::new("shadow", "dev7", shadow, "watch.dev7", 5_000);
    let mut changes = Vec::new();
    let mut change = |connection: &mut Connection<'_, '_, Tcp, 2, 4>, value: Option<&[u8]>, expect| {
        let token = match value {
            Some(value) => connection.client().kv_put("shadow", "dev7", value, expect, far),
            None => connection.client().kv_delete("shadow", "dev7", expect, far),
        };
        let (token, mut result, count) = (token.expect("there is room"), None, changes.len());
        let end = StdInstant::now() + PATIENCE;
        // Until it is answered, and, if that was a yes, the watch has seen it.
        while result.is_none_or(|result: Result<PubAck, _>| result.is_ok()) && changes.len() == count {
            watch.poll(connection.client(), clock.now()).expect("there is room");
            if let Some(event) = connection.next(clock.now()).expect("it holds") {
                if let Some(entry) = watch.handle(&event) {
                    let Entry { revision, value } = entry.expect("there is a bucket");
                    changes.push((revision, value.map(text)));
                } else if let Event::Answer { token: answered, message } = event
                    && answered == token
                {
                    result = Some(jetstream::pub_ack(message.payload));
                }
            }
            assert!(StdInstant::now() < end, "no answer");
        }
        result
    };
    change(&mut connection, Some(b"on"), Expect::Revision(0));
    change(&mut connection, Some(b"off"), Expect::Revision(1));
    let late = change(&mut connection, Some(b"on"), Expect::Revision(1));
    assert!(matches!(late, Some(Err(Failure::Api { code: 400, err_code: 10071 }))), "{late:?}");
    change(&mut connection, None, Expect::Anything);
    assert_eq!(changes, [(1, Some("on".into())), (2, Some("off".into())), (3, None)]);
    let get = connection.client().kv_get("shadow", "unknown", far).expect("there is room");
    until(&mut connection, clock, |event| {
        let Event::Answer { token, message } = event else { return false };
        *token == get && jetstream::kv_entry(message) == Ok(None)
    });

    // What changed while nobody watched is seen once somebody does again, the last of it.
    let mut connection = Connection::new(&mut client, tcp(&daemon), &login, clock.now());
    until(&mut connection, clock, |event| *event == Event::Connected);
    watch.handle(&Event::Connected);
    for value in ["missed", "newest"] {
        let put = connection.client().kv_put("shadow", "dev7", value.as_bytes(), Expect::Anything, far);
        let put = put.expect("there is room");
        until(&mut connection, clock, |event| matches!(event, Event::Answer { token, .. } if *token == put));
    }
    watch.poll(connection.client(), clock.now()).expect("there is room");
    until(&mut connection, clock, |event| {
        // The last connection's consumer may be there still, and tell of both.
        let Some(entry) = watch.handle(event) else { return false };
        let entry = entry.expect("there is a bucket");
        let missed = Entry { revision: 4, value: Some(b"missed") };
        assert!(entry == missed || entry == Entry { revision: 5, value: Some(b"newest") }, "{entry:?}");
        entry != missed
    });
}

/// Readings wait while the server is away, and arrive in their order: into a stream each once, elsewhere at least once.
#[test]
fn an_outbox_outlives_servers() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = format!("jetstream {{ store_dir: {:?} }}", directory.path().join("js"));
    for (program, confirm) in [
        (Program::reference(), Confirm::Stream("dev7")),
        (Program::reference(), Confirm::Server),
        (Program::ours(), Confirm::Stream("dev7")),
        (Program::ours(), Confirm::Server),
    ] {
        let is_stream = confirm != Confirm::Server;
        let program = program.expect("run tests/setup, and build midged");
        let mut daemon = Daemon::start(program, is_stream.then_some(&*config), &[]).expect("it starts");
        let (mut device, mut ring) = (Device::new(1024), [0; 256]);
        let clock = device.clock;
        let mut client = device.client::<1, 2>();
        client.subscribe("readings.>", None).expect("a filter");
        let mut outbox = Outbox::new(Ram::new(&mut ring, 1), confirm, 5_000);
        let subject = Subject::new(b"readings.temp").expect("a subject");
        let (mut pushed, mut arrived, mut received, mut restarts, mut is_made) =
            (0u8, 0, Vec::new(), 0, !is_stream);
        let end = StdInstant::now() + 3 * PATIENCE;
        'connections: while arrived < 30 {
            assert!(StdInstant::now() < end, "{arrived} of {pushed}");
            let Ok(transport) = Tcp::connect(daemon.address(), Duration::from_millis(20)) else { continue };
            let login = Login::ANONYMOUS;
            let mut connection = Connection::new(&mut client, transport, &login, clock.now());
            while arrived < 30 {
                while pushed < 30 && outbox.push(subject, &[pushed]).is_ok() {
                    pushed += 1;
                }
                if connection.client().is_ready() && !is_made {
                    let request = br#"{"name":"READINGS","subjects":["readings.>"]}"#;
                    let create = Subject::new(b"$JS.API.STREAM.CREATE.READINGS").expect("a subject");
                    let token =
                        connection.request(&Publish::new(create, request), clock.now().after_ms(5_000));
                    let token = token.expect("sent");
                    until(
                        &mut connection,
                        clock,
                        |event| matches!(event, Event::Answer { token: t, .. } if *t == token),
                    );
                    is_made = true;
                }
                if is_made {
                    outbox.poll(connection.client(), &mut [0; 64], clock.now()).expect("there is room");
                }
                let progress = match connection.next(clock.now()) {
                    Ok(Some(event)) => {
                        if let Event::Message { message, .. } = event {
                            received.push(message.payload[0]);
                        }
                        Progress::from(&event)
                    }
                    Ok(None) => continue,
                    Err(_) => continue 'connections,
                };
                if let Some(result) = outbox.handle(connection.client(), &progress) {
                    result.expect("nothing refuses it");
                    arrived += 1;
                    if arrived % 10 == 5 {
                        restarts += 1;
                        daemon.restart().expect("it starts again");
                    }
                }
            }
            if is_stream {
                let info = Subject::new(b"$JS.API.STREAM.INFO.READINGS").expect("a subject");
                let token =
                    connection.request(&Publish::new(info, b""), clock.now().after_ms(5_000)).expect("sent");
                until(&mut connection, clock, |event| {
                    let Event::Answer { token: answered, message } = event else { return false };
                    let info = text(message.payload);
                    assert!(*answered != token || info.contains("\"messages\":30,"), "{info}");
                    *answered == token
                });
            }
        }
        assert_eq!((pushed, restarts), (30, 3));
        received.dedup();
        // A message on its way to us can be lost with its server, but none comes late.
        assert!(received.is_sorted() && received.len() > 20, "{received:?}");
    }
}
