//! Servers that cut, flood, lie and fall silent. Whatever they do, the client sees the same messages, forges none and
//! says what has happened.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;

use common::{INFO, Seen, Wire, block_on};
use midge_client::jetstream::Failure;
use midge_client::outbox::{Confirm, Outbox, OutboxError, Progress, Ram};
use midge_client::{
    Backoff, Breach, Client, Config, Connection, Error, Event, Instant, Login, Lost, Publish, Remedy, Sid,
    Silence, Subject, blocking,
};
use proptest::prelude::*;

/// What a program with four subscriptions sees, until the connection is lost.
fn see(wire: &[u8], receive: usize, piece: usize, asynchronous: bool) -> (Vec<String>, Vec<u8>) {
    let (mut receive, mut transmit) = (vec![0; receive], [0; 256]);
    let mut client = Client::<4>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
    for filter in ["a", "b", "s.>", ">"] {
        client.subscribe(filter, None).unwrap();
    }
    let (mut seen, login) = (Seen::default(), Login::ANONYMOUS);
    let mut transport = Wire::new(wire, piece);
    let lost = if asynchronous {
        let mut connection = Connection::new(&mut client, &mut transport, &login, Instant::default());
        loop {
            match block_on(connection.next(Instant::default())) {
                Ok(event) => event.iter().for_each(|event| seen.note(event)),
                Err(Error::Lost(lost)) => break lost,
                Err(error) => panic!("{error:?}"),
            }
        }
    } else {
        let mut connection =
            blocking::Connection::new(&mut client, &mut transport, &login, Instant::default());
        loop {
            match connection.next(Instant::default()) {
                Ok(event) => event.iter().for_each(|event| seen.note(event)),
                Err(Error::Lost(lost)) => break lost,
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    seen.note_end(lost);
    (seen.lines, transport.heard)
}

/// A conversation with all that a server may say, more than fits most buffers.
fn conversation() -> String {
    let long_info = INFO.replace("2.15.1", &"2".repeat(500));
    let forged = "MSG forged 1 2\r\nno\r\n".repeat(20);
    let subject = "s.".repeat(60) + "s";
    format!(
        "{long_info}\r\n{long_info}\r\nPONG\r\nMSG a 1 2\r\nhi\r\nPING\r\n{long_info}\r\nMSG a.b 2 r {}\r\n{forged}\r\n+OK\r\n\
        HMSG a 3 r 17 19\r\nNATS/1.0\r\nA:b\r\n\r\nhi\r\nMSG {subject} 3 r 100\r\n{}\r\n\
        -ERR 'Permissions Violation for Publish to \"{subject}\"'\r\nMSG x 9 7\r\nnobody!\r\nMSG a 1 0\r\n\r\nPING\r\n\
        INFO {{\"ldm\":true}}\r\n-ERR 'Stale Connection'\r\nMSG after 1 3\r\nend\r\n",
        forged.len(),
        "x".repeat(100)
    )
}

#[test]
fn neither_cuts_nor_buffers_nor_fronts_make_a_difference() {
    let wire = conversation();
    let (whole, heard) = see(wire.as_bytes(), 4096, 4096, false);
    assert_eq!(
        whole,
        [
            "greeting",
            "info",
            "Connected",
            "message 1 hi",
            "info",
            &format!("message 2 {}", "MSG forged 1 2\r\nno\r\n".repeat(20)),
            "message 3 NATS/1.0\r\nA:b\r\n\r\nhi",
            &format!("message 3 {}", "x".repeat(100)),
            "error Permissions Violatio",
            "message 1 ",
            "lame duck",
            "error Stale Connection",
            "Server"
        ]
    );
    let heard = String::from_utf8(heard).unwrap();
    let (connect, rest) = heard.split_once("\r\n").unwrap();
    assert!(connect.starts_with("CONNECT {"), "{connect}");
    assert_eq!(rest, "PING\r\nSUB a 1\r\nSUB b 2\r\nSUB s.> 3\r\nSUB > 4\r\nPONG\r\nPONG\r\n");
    for receive in [64, 65, 100, 300, 4096] {
        for piece in (1..300).chain([wire.len()]) {
            for asynchronous in [false, true] {
                let (seen, answers) = see(wire.as_bytes(), receive, piece, asynchronous);
                assert_eq!(seen, whole, "buffer of {receive}, pieces of {piece}");
                assert!(answers.starts_with(b"CONNECT {") && answers.ends_with(b"PONG\r\n"));
            }
        }
    }
}

#[test]
fn a_server_that_is_none_is_left() {
    for (wire, lost) in [
        ("", Lost::Closed),
        ("HTTP/1.1 400 Bad Request\r\n", Lost::Protocol(Breach::Operation)),
        ("INFO {}\r\nPONG\r\n", Lost::Closed),
        ("INFO {}\r\nPONG\r\nMSG a 1 5\r\nhi", Lost::Closed),
        ("INFO {}\r\nPONG\r\nMSG a 1 x\r\n", Lost::Protocol(Breach::Arguments)),
        ("INFO {\"client_id\":1}\r\nPONG\r\nINFO {\"client_id\":2}\r\n", Lost::Protocol(Breach::Session)),
        ("INFO {}\r\n-ERR 'Authorization Violation'\r\n", Lost::Credentials),
        ("INFO {}\r\n-ERR 'maximum connections exceeded'\r\n", Lost::Server),
    ] {
        for piece in 1..40 {
            let (seen, _) = see(wire.as_bytes(), 64, piece, piece % 2 == 0);
            assert_eq!(seen.last(), Some(&format!("{lost:?}")), "{wire}");
        }
        let remedy = if lost == Lost::Credentials { Remedy::Credentials } else { Remedy::Reconnect };
        assert_eq!(Error::<()>::Lost(lost).remedy(), remedy);
    }
}

/// A server that dies again and again, after each byte that it could have said, and the same client throughout.
#[test]
fn a_storm_of_connections_leaves_nothing_behind() {
    let wire = conversation();
    let (mut receive, mut transmit) = ([0; 128], [0; 512]);
    let mut client = Client::<4, 2>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
    for filter in ["a", "b", "s.>", ">"] {
        client.subscribe(filter, None).unwrap();
    }
    let (mut backoff, mut waited, mut longest) = (Backoff::new(10, 1_000, 7), 0u64, 0);
    for cut in 0..=wire.len() {
        let mut transport = Wire::new(&wire.as_bytes()[..cut], 1 + cut % 61);
        let login = Login::ANONYMOUS;
        let mut connection =
            blocking::Connection::new(&mut client, &mut transport, &login, Instant::default());
        let mut seen = Seen::default();
        let lost = loop {
            match connection.next(Instant::default()) {
                Ok(Some(event)) => {
                    seen.note(&event);
                    if event == Event::Connected {
                        backoff.reset();
                        // One request is under way when each of them ends, and none of them is ever answered.
                        let ask = Publish::new(Subject::new(b"ask").unwrap(), b"");
                        let token = connection.request(&ask, Instant::default().after_ms(1)).unwrap();
                        assert!(connection.client().cancel(token));
                    }
                }
                Ok(None) => {}
                Err(Error::Lost(lost)) => break lost,
                Err(error) => panic!("{error:?}"),
            }
        };
        let heard = String::from_utf8(transport.heard).unwrap();
        let is_greeted = seen.lines.first().is_some_and(|line| line == "greeting");
        for sub in ["CONNECT {", "SUB _INBOX.", "SUB a 1\r\n", "SUB b 2\r\n", "SUB s.> 3\r\n", "SUB > 4\r\n"]
        {
            assert_eq!(heard.matches(sub).count(), usize::from(is_greeted), "{sub:?} after {cut} bytes");
        }
        let ends_itself = seen.lines.iter().any(|line| line.starts_with("error Stale"));
        assert_eq!(lost, if ends_itself { Lost::Server } else { Lost::Closed }, "after {cut} bytes");
        longest = longest.max(backoff.attempts());
        waited += u64::from(backoff.next_ms());
    }
    // Waits grow while the server dies before it is one, and only then.
    assert!(longest > 100, "{longest}");
    assert!(waited < wire.len() as u64 * 1_000, "{waited}");
    let (seen, _) = see(wire.as_bytes(), 128, 7, false);
    assert_eq!(seen.last().map(String::as_str), Some("Server"));
}

/// A reading for a stream that isn't there is not sent again in a hurry.
#[test]
fn an_outbox_that_nobody_takes_from_waits() {
    let at = |ms| Instant::default().after_ms(ms);
    let (mut receive, mut transmit, mut ring) = ([0; 256], [0; 512], [0; 128]);
    let mut client = Client::<1, 1>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
    let mut outbox = Outbox::new(Ram::new(&mut ring, 1), Confirm::Stream("dev7"), 5_000);
    outbox.push(Subject::new(b"readings.temp").unwrap(), b"21.5").unwrap();
    client.handle_connect(at(0));

    let hear = |client: &mut Client<'_, 1, 1>, outbox: &mut Outbox<'_, Ram<'_>>, bytes: &[u8]| {
        client.space()[..bytes.len()].copy_from_slice(bytes);
        client.handle_received(bytes.len());
        let mut results = Vec::new();
        while let Some(event) = client.next(Some(&Login::ANONYMOUS), at(0)).unwrap() {
            let progress = Progress::from(&event);
            results.extend(outbox.handle(client, &progress));
        }
        results
    };
    let sent = |client: &mut Client<'_, 1, 1>| {
        let sent = String::from_utf8(client.poll_transmit().to_vec()).unwrap();
        client.handle_sent(sent.len());
        sent
    };
    assert_eq!(hear(&mut client, &mut outbox, format!("{INFO}\r\nPONG\r\n").as_bytes()), []);
    assert!(outbox.poll(&mut client, &mut [0; 64], at(0)).unwrap());
    let publish = sent(&mut client);
    let reply = publish.rsplit_once("HPUB readings.temp ").unwrap().1.split(' ').next().unwrap();
    let nobody = format!("HMSG {reply} 0 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
    let refused = Err(OutboxError::Stream(Failure::NoStream));
    assert_eq!(hear(&mut client, &mut outbox, nobody.as_bytes()), [refused]);

    // Until the time that an answer would have had is over.
    assert_eq!(outbox.deadline(), Some(at(5_000)));
    assert!(!outbox.poll(&mut client, &mut [0; 64], at(4_999)).unwrap());
    assert!(outbox.poll(&mut client, &mut [0; 64], at(5_000)).unwrap());
    assert!(sent(&mut client).contains("HPUB readings.temp "));
    // A new connection may lead to a server that has the stream.
    client.handle_connect(at(5_001));
    assert_eq!(hear(&mut client, &mut outbox, format!("{INFO}\r\nPONG\r\n").as_bytes()), []);
    assert!(outbox.poll(&mut client, &mut [0; 64], at(5_002)).unwrap());
}

#[test]
fn silence_ends_it() {
    let at = |ms| Instant::default().after_ms(ms);
    let (mut receive, mut transmit) = ([0; 128], [0; 256]);
    let config = Config { connect_timeout_ms: 50, ping_interval_ms: 100, ..Config::new(0) };
    let mut client = Client::<1>::new(config, &mut receive, &mut transmit, [0; 16]);
    for (says, silence) in [("", Silence::Greeting), ("INFO {}\r\n", Silence::Connecting)] {
        let mut connection =
            blocking::Connection::new(&mut client, Quiet(says.as_bytes()), &Login::ANONYMOUS, at(0));
        for _ in 0..4 {
            assert!(matches!(connection.next(at(10)).unwrap(), None | Some(Event::Greeting { .. })));
        }
        let deadline = connection.deadline().unwrap();
        assert_eq!(connection.next(deadline), Err(Error::Lost(Lost::Silence(silence))));
        assert_eq!(connection.next(deadline), Err(Error::Lost(Lost::Silence(silence))), "and stays so");
    }
    // Half-open: it greets, answers, and is never heard again.
    let mut connection =
        blocking::Connection::new(&mut client, Quiet(b"INFO {}\r\nPONG\r\n"), &Login::ANONYMOUS, at(0));
    while connection.next(at(0)).unwrap() != Some(Event::Connected) {}
    let mut deadlines = Vec::new();
    let lost = loop {
        let deadline = connection.deadline().unwrap();
        deadlines.push(deadline.since(at(0)).as_millis());
        match connection.next(deadline) {
            Ok(event) => assert_eq!(event, None),
            Err(error) => break error,
        }
    };
    assert_eq!((lost, &deadlines[..]), (Error::Lost(Lost::Silence(Silence::Stale)), &[0, 100, 200, 300][..]));
}

/// Says its words and then nothing, as a transport with a time-out.
struct Quiet<'a>(&'a [u8]);

#[derive(Debug, PartialEq)]
struct TimedOut;

impl core::fmt::Display for TimedOut {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("timed out")
    }
}

impl core::error::Error for TimedOut {}

impl embedded_io::Error for TimedOut {
    fn kind(&self) -> embedded_io::ErrorKind {
        embedded_io::ErrorKind::TimedOut
    }
}

impl embedded_io::ErrorType for Quiet<'_> {
    type Error = TimedOut;
}

impl embedded_io::Read for Quiet<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TimedOut> {
        let n = buffer.len().min(self.0.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        if n > 0 { Ok(n) } else { Err(TimedOut) }
    }
}

impl embedded_io::Write for Quiet<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, TimedOut> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), TimedOut> {
        Ok(())
    }
}

#[test]
fn a_message_is_answered_where_it_wanted() {
    let wire = format!("{INFO}\r\nPONG\r\nMSG a 1 reply.to.7 2\r\nhiMSG\r\nMSG a 1 2\r\nho\r\n")
        .replace("hiMSG", "hi");
    let (mut receive, mut transmit) = ([0; 64], [0; 256]);
    let mut client = Client::<1>::new(Config::new(0), &mut receive, &mut transmit, [0; 16]);
    client.subscribe("a", None).unwrap();
    let mut transport = Wire::new(wire.as_bytes(), 9);
    let mut connection =
        blocking::Connection::new(&mut client, &mut transport, &Login::ANONYMOUS, Instant::default());
    let mut messages = 0;
    while messages < 2 {
        if let Some(Event::Message { sid: Sid(1), message }) = connection.next(Instant::default()).unwrap() {
            let asked = message.reply.is_some();
            messages += 1;
            assert_eq!(connection.respond(b"yes").is_ok(), asked);
        }
    }
    assert!(transport.heard.ends_with(b"SUB a 1\r\nPUB reply.to.7 3\r\nyes\r\n"));
}

/// Who is busy with a message says so without reading on, and answers the message afterwards.
#[test]
fn a_busy_program_gives_a_sign_of_life() {
    let wire = format!("{INFO}\r\nPONG\r\nMSG a 1 r 2\r\nhi\r\nPING\r\nMSG a 1 2\r\nho\r\n");
    let (mut receive, mut transmit) = ([0; 64], [0; 256]);
    let mut client = Client::<1>::new(Config::new(0), &mut receive, &mut transmit, [0; 16]);
    client.subscribe("a", None).unwrap();
    let mut transport = Wire::new(wire.as_bytes(), 4096);
    let mut connection =
        blocking::Connection::new(&mut client, &mut transport, &Login::ANONYMOUS, Instant::default());
    // Before CONNECT there is nothing to be said.
    connection.keep_alive().unwrap();
    while !matches!(connection.next(Instant::default()).unwrap(), Some(Event::Message { .. })) {}
    for _ in 0..300 {
        connection.keep_alive().unwrap();
    }
    connection.respond(b"yes").unwrap();
    while connection.next(Instant::default()).is_ok() {}
    let heard = String::from_utf8(transport.heard).unwrap();
    let expected = format!("SUB a 1\r\n{}PUB r 3\r\nyes\r\nPONG\r\n", "PONG\r\n".repeat(300));
    assert!(heard.ends_with(&expected), "{heard}");
}

#[test]
fn a_frame_leaves_in_one_write() {
    let wire = format!("{INFO}\r\nPONG\r\n");
    let (mut receive, mut transmit) = ([0; 128], [0; 256]);
    let mut client = Client::<1>::new(Config::new(0), &mut receive, &mut transmit, [0; 16]);
    let mut transport = Wire::new(wire.as_bytes(), 4096);
    let mut connection = Connection::new(&mut client, &mut transport, &Login::ANONYMOUS, Instant::default());
    block_on(async {
        while connection.next(Instant::default()).await.unwrap() != Some(Event::Connected) {}
        for _ in 0..3 {
            connection.publish(Subject::new(b"a.b").unwrap(), b"21.5").await.unwrap();
        }
        let large = [0; 300];
        let refused = connection.publish(Subject::new(b"a.b").unwrap(), &large).await.unwrap_err();
        assert_eq!(refused.remedy(), Remedy::Call, "{refused}");
    });
    assert_eq!((transport.writes, transport.flushes), (4, 4), "CONNECT and three messages");
    assert!(transport.heard.ends_with(&b"PUB a.b 4\r\n21.5\r\n".repeat(3)));
}

proptest! {
    /// Any bytes at all: no panic, no endless loop, and the front that waits sees what the front that blocks sees.
    #[test]
    fn garbage(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        ready in any::<bool>(),
        receive in 64usize..200,
        piece in 1usize..50,
    ) {
        let mut wire = if ready { format!("{INFO}\r\nPONG\r\n").into_bytes() } else { Vec::new() };
        wire.extend_from_slice(&bytes);
        prop_assert_eq!(see(&wire, receive, piece, false), see(&wire, receive, piece, true));
    }

    /// Pieces of protocol in any order.
    #[test]
    fn nonsense(words in prop::collection::vec(prop::sample::select(vec![
        "MSG a 1 2\r\nhi\r\n", "MSG", " ", "a", "1", "\r\n", "HMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\n", "PING\r\n", "PONG\r\n",
        "INFO {}\r\n", "INFO {\"a\":[", "-ERR 'x'\r\n", "-ERR 'Permissions Violation'\r\n", "+OK\r\n", "99", "\"", "MSG a 1 700\r\n",
    ]), 0..30), receive in 64usize..200, piece in 1usize..50) {
        let wire = format!("{INFO}\r\nPONG\r\n{}", words.concat());
        let (seen, _) = see(wire.as_bytes(), receive, piece, true);
        prop_assert_eq!(&seen, &see(wire.as_bytes(), receive, piece, false).0);
        prop_assert_eq!(&seen[..2], ["greeting", "Connected"]);
    }
}
