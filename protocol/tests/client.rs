//! The client session against a server that is a string: each conversation is read whole, cut at every place, and
//! through buffers far too small for it. What the caller sees must be the same.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use midge_protocol::client::{
    Answer, Breach, Config, Error, Event, Login, Publish, Requests, ServerError, Session, Sid, Silence, Step,
};
use midge_protocol::emit::Slice;
use midge_protocol::header::{Block, Field};
use midge_protocol::limits::Limits;
use midge_protocol::op::{ClientOp, ServerOp};
use midge_protocol::parse;
use midge_protocol::subject::{Filter, Subject};
use midge_protocol::time::Instant;
use proptest::prelude::*;

const INFO: &str = r#"INFO {"server_id":"N","version":"2.15.1","headers":true,"max_payload":1000} "#;

/// A client with a buffer of so many bytes, and what it saw and wrote.
struct Client {
    session: Session,
    buffer_size: usize,
    buffer: Vec<u8>,
    seen: Vec<String>,
    /// The oversized message whose pieces are coming in.
    pieces: Option<(Sid, Vec<u8>)>,
    sent: Vec<u8>,
}

impl Client {
    fn new(buffer_size: usize) -> Self {
        let session = Session::new(Config::new(buffer_size), Instant::default());
        let (buffer, seen, sent) = (Vec::new(), Vec::new(), Vec::new());
        Self { session, buffer_size, buffer, seen, pieces: None, sent }
    }

    /// A client that has shaken hands.
    fn ready(buffer_size: usize) -> Self {
        let mut client = Self::new(buffer_size);
        client.receive(format!("{INFO}\r\nPONG\r\n").as_bytes());
        assert!(client.session.is_ready());
        (client.seen, client.sent) = (Vec::new(), Vec::new());
        client
    }

    fn write(&mut self, verb: impl FnOnce(&mut Session, &mut Slice<'_>)) {
        let mut buffer = [0; 8192];
        let mut out = Slice::new(&mut buffer);
        verb(&mut self.session, &mut out);
        self.sent.extend_from_slice(out.written().unwrap());
    }

    /// Takes what arrives, never more than the buffer holds.
    fn receive(&mut self, mut wire: &[u8]) {
        while !wire.is_empty() {
            let take = wire.len().min(self.buffer_size - self.buffer.len());
            assert!(take > 0, "the buffer is full and the session asks for more");
            self.buffer.extend_from_slice(&wire[..take]);
            wire = &wire[take..];
            self.read();
        }
    }

    fn read(&mut self) {
        loop {
            let input = self.buffer.clone();
            let used = match self.session.next(&input) {
                Step::Need { used, need } => {
                    assert!(need > input.len() - used, "asks for no more than it has");
                    assert!(need <= self.buffer_size, "asks for more than fits");
                    self.buffer.drain(..used);
                    return;
                }
                Step::Event(event, used) => {
                    self.note(&event);
                    used
                }
                Step::Bad(rule) => {
                    self.seen.push(format!("{rule:?}"));
                    self.buffer.clear();
                    return;
                }
            };
            self.buffer.drain(..used);
        }
    }

    fn note(&mut self, event: &Event<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = match event {
            Event::Greeting { .. } => {
                self.write(|session, out| {
                    session.connect(Instant::default(), &Login::ANONYMOUS, out).unwrap()
                });
                format!("greeting {}", self.session.server().max_payload())
            }
            Event::Info { .. } => format!("info {}", self.session.server().max_payload()),
            Event::Message { sid, message } => {
                let kind = if message.is_no_responders() { "nobody" } else { "message" };
                format!("{kind} {} {}{}", sid.0, text(message.header), text(message.payload))
            }
            Event::Oversized(message) => {
                assert!(self.pieces.is_none());
                self.pieces = Some((message.sid, Vec::new()));
                return;
            }
            Event::Piece { data, left } => {
                let (sid, body) = self.pieces.as_mut().unwrap();
                body.extend_from_slice(data);
                if *left > 0 {
                    return;
                }
                let line = format!("message {} {}", sid.0, text(body));
                self.pieces = None;
                line
            }
            Event::Error(error) => format!("error {}", text(&error.text()[..20.min(error.text().len())])),
            Event::LameDuck { .. } => "lame duck".into(),
            other => format!("{other:?}"),
        };
        self.seen.push(line);
    }
}

#[test]
fn neither_cuts_nor_buffers_make_a_difference() {
    let long_info = INFO.replace("2.15.1", &"2".repeat(500));
    let forged = "MSG forged 1 2\r\nno\r\n".repeat(20);
    let subject = "s.".repeat(60) + "s";
    let wire = format!(
        "{INFO}\r\nPONG\r\nMSG a 1 2\r\nhi\r\nPING\r\n{long_info}\r\nMSG a.b 2 r {}\r\n{forged}\r\n+OK\r\n\
        HMSG a 7 r 17 19\r\nNATS/1.0\r\nA:b\r\n\r\nhi\r\nHMSG i 0 16 16\r\nNATS/1.0 503\r\n\r\n\r\nMSG {subject} 9 r 100\r\n{}\r\n\
        -ERR 'Permissions Violation for Publish to \"{subject}\"'\r\nMSG a 1 0\r\n\r\nPING\r\n\
        INFO {{\"ldm\":true}}\r\n-ERR 'Stale Connection'\r\nMSG after the end",
        forged.len(),
        "x".repeat(100)
    );
    let mut whole = Client::new(4096);
    whole.receive(wire.as_bytes());
    assert_eq!(
        whole.seen,
        [
            "greeting 1000",
            "Connected",
            "message 1 hi",
            "info 1000",
            &format!("message 2 {forged}"),
            "message 7 NATS/1.0\r\nA:b\r\n\r\nhi",
            "nobody 0 NATS/1.0 503\r\n\r\n",
            &format!("message 9 {}", "x".repeat(100)),
            "error Permissions Violatio",
            "message 1 ",
            "lame duck",
            "error Stale Connection"
        ]
    );
    for buffer_size in [64, 65, 100, 300, 4096] {
        // Miri, which is slow, looks at fewer.
        for piece in (if cfg!(miri) { 7 } else { 1 }..=wire.len()).step_by(if cfg!(miri) { 211 } else { 1 }) {
            let mut cut = Client::new(buffer_size);
            wire.as_bytes().chunks(piece).for_each(|piece| cut.receive(piece));
            assert_eq!(cut.seen, whole.seen, "buffer of {buffer_size}, pieces of {piece}");
            assert!(cut.session.is_closed());
        }
    }
}

#[test]
fn broken_rules_end_it() {
    let ready = format!("{INFO}\r\nPONG\r\n");
    for (wire, rule) in [
        ("MSG a 1 2\r\nhi\r\n".into(), Breach::Operation),
        ("INFO x\r\n".into(), Breach::Arguments),
        ("HTTP/1.1 400 Bad Request\r\n".into(), Breach::Operation),
        (format!("{ready}MSG a one 2\r\nhi\r\n"), Breach::Arguments),
        (format!("{ready}MSG a 1 2\r\nhi!\r\n"), Breach::Operation),
        (format!("{ready}MSG a 1 200\r\n{}", "x".repeat(300)), Breach::Operation),
        (format!("{ready}MSG {} 1 x\r\n", "a".repeat(100)), Breach::Arguments),
        (format!("{ready}MSG {} 1\r\n", "a".repeat(100)), Breach::Arguments),
        (format!("{ready}HMSG a 1 r 3 99999999999\r\n"), Breach::Arguments),
        (format!("{ready}HMSG a 1 r 201 200\r\n"), Breach::Arguments),
        // Padded beyond the buffer.
        (format!("{ready}MSG a 1 1234{}\r\n", " ".repeat(100)), Breach::Arguments),
        (format!("{ready}MSG a 1{}r 5\r\nMSG a 1 2\r\n", " ".repeat(100)), Breach::Arguments),
        (format!("{ready}MSG {} 1{}5 5\r\n", "a".repeat(100), " ".repeat(100)), Breach::Arguments),
        (format!("INFO {{{}}}}}\r\n", " ".repeat(300)), Breach::Arguments),
        (format!("+OK{}\r\n", " ".repeat(300)), Breach::ControlLine),
    ] {
        let mut client = Client::new(64);
        client.receive(wire.as_bytes());
        assert_eq!(client.seen.last(), Some(&format!("{rule:?}")), "{wire}");
        assert!(client.session.is_closed());
    }
}

#[test]
fn what_is_written_a_server_can_read() {
    let mut client = Client::new(512);
    client.receive(format!("{INFO}\r\nPING\r\n").as_bytes());
    let fields = [Field::new("Nats-Msg-Id", "7")];
    let header = Block::new(&fields).unwrap();
    client.write(|session, out| {
        session.poll_transmit(out);
        session.subscribe(Sid(1), Filter::new(b"a.>").unwrap(), Some(b"q"), out).unwrap();
        session.unsubscribe(Sid(1), Some(3), out).unwrap();
        let subject = Subject::new(b"a.b").unwrap();
        session.publish_with(&Publish::new(subject, b"hi"), out).unwrap();
        let full = Publish { reply: Some(subject), header: Some(&header), ..Publish::new(subject, b"ho") };
        session.publish_with(&full, out).unwrap();
        session.flush(out).unwrap();
    });
    let (mut rest, mut seen) = (&client.sent[..], Vec::new());
    while !rest.is_empty() {
        let parse::Step::Op(op, used) = parse::client_op(rest, &Limits::default()) else {
            panic!("{rest:?}")
        };
        seen.push(match op {
            ClientOp::Connect(json) => String::from_utf8(json.to_vec()).unwrap(),
            ClientOp::Pub(message) => format!(
                "PUB {:?} {:?} {:?}",
                str::from_utf8(message.subject),
                message.reply.map(str::from_utf8),
                str::from_utf8(&message.body[..message.size.value as usize])
            ),
            other => format!("{other:?}"),
        });
        rest = &rest[used..];
    }
    let connect = concat!(
        r#"{"verbose":false,"pedantic":false,"protocol":1,"version":""#,
        env!("CARGO_PKG_VERSION"),
        r#"","headers":true,"no_responders":true}"#
    );
    assert_eq!(seen[..3], [connect, "Ping", "Pong"]);
    assert_eq!(
        seen[5..7],
        [
            r#"PUB Ok("a.b") None Ok("hi")"#,
            r#"PUB Ok("a.b") Some(Ok("a.b")) Ok("NATS/1.0\r\nNats-Msg-Id: 7\r\n\r\nho")"#
        ]
    );
    assert_eq!((seen.len(), &seen[7][..]), (8, "Ping"));
}

#[test]
fn verbs_refuse_what_a_server_would() {
    let client = Client::new(512);
    let subject = Subject::new(b"a").unwrap();
    let mut buffer = [0; 64];
    let mut out = Slice::new(&mut buffer);
    let hi = Publish::new(subject, b"hi");
    assert_eq!(client.session.publish_with(&hi, &mut out), Err(Error::Phase));

    let client = Client::ready(512);
    let large = [0; 1001];
    let long = "a".repeat(4096);
    for (message, error) in [
        (Publish::new(subject, &large), Error::Payload),
        (Publish::new(Subject::new(long.as_bytes()).unwrap(), b""), Error::ControlLine),
        (Publish::new(subject, &large[..900]), Error::Room { needed: 913 }),
    ] {
        assert_eq!(client.session.publish_with(&message, &mut out), Err(error));
    }
    let filter = Filter::new(b"a").unwrap();
    assert_eq!(client.session.subscribe(Sid(1), filter, Some(b"q\r\n"), &mut out), Err(Error::Queue));
    assert!(out.is_empty(), "nothing was written");

    let mut old = Client::new(512);
    old.receive(b"INFO {}\r\n");
    assert!(!String::from_utf8_lossy(&old.sent).contains("headers"), "a server assumes none");
    let block = Block::new(&[]).unwrap();
    let with_header = Publish { header: Some(&block), ..hi };
    assert_eq!(old.session.publish_with(&with_header, &mut out), Err(Error::Headers));
}

#[test]
fn flushes_end_in_their_order() {
    let mut client = Client::ready(512);
    let mut flushes = Vec::new();
    client.write(|session, out| flushes.extend([session.flush(out).unwrap(), session.flush(out).unwrap()]));
    let done = |client: &Client| flushes.iter().map(|f| client.session.is_flushed(*f)).collect::<Vec<_>>();
    assert_eq!(done(&client), [false, false]);
    client.receive(b"PONG\r\n");
    assert_eq!(done(&client), [true, false]);
    client.receive(b"PONG\r\nPONG\r\n");
    assert_eq!(done(&client), [true, true]);
    assert_eq!(client.seen, ["Pong", "Pong"], "a PONG that nobody asked for is nothing");
}

#[test]
fn silence_is_noticed() {
    let at = |ms| Instant::default().after_ms(ms);
    let config = Config { ping_interval_ms: 100, connect_timeout_ms: 50, ..Config::new(512) };
    let mut buffer = [0; 512];

    let mut session = Session::new(config, at(0));
    assert_eq!((session.deadline(), session.tick(at(49))), (Some(at(50)), Ok(())));
    assert_eq!(session.tick(at(50)), Err(Silence::Greeting));
    assert!(session.is_closed() && session.deadline().is_none());

    let mut session = Session::new(config, at(0));
    session.next(format!("{INFO}\r\n").as_bytes());
    assert_eq!(session.deadline(), None, "it is our turn");
    session.connect(at(20), &Login::ANONYMOUS, &mut Slice::new(&mut buffer)).unwrap();
    assert_eq!(session.clone().tick(at(70)), Err(Silence::Connecting));

    let mut pings = |session: &mut Session| {
        let mut out = Slice::new(&mut buffer);
        session.poll_transmit(&mut out);
        out.len()
    };
    session.next(b"PONG\r\n");
    assert_eq!(session.deadline(), Some(at(0)), "however long CONNECT could have taken");
    assert_eq!((session.tick(at(70)), session.deadline()), (Ok(()), Some(at(170))));
    session.next(b"MSG a 1 0\r\n\r\n");
    assert_eq!(
        (session.tick(at(170)), pings(&mut session)),
        (Ok(()), 0),
        "whatever arrives is a sign of life"
    );
    for asked in [270, 370] {
        assert_eq!(session.tick(at(asked)), Ok(()));
        assert_eq!((pings(&mut session), pings(&mut session)), (6, 0), "one PING each time");
    }
    let mut heard = session.clone();
    heard.next(b"PONG\r\n");
    assert_eq!((heard.tick(at(470)), pings(&mut heard)), (Ok(()), 0));
    assert_eq!((heard.tick(at(570)), pings(&mut heard)), (Ok(()), 6));
    assert_eq!(session.tick(at(470)), Err(Silence::Stale));
}

#[test]
fn requests_find_their_answers() {
    let mut client = Client::ready(512);
    let mut requests = Requests::<4>::new([1; 16]);
    let (token, reply) = requests.begin(Instant::from_micros(1)).unwrap();
    client.write(|session, out| {
        requests.subscribe(session, out).unwrap();
        let ask = Publish::new(Subject::new(b"ask").unwrap(), b"");
        session.publish_with(&Publish { reply: Some(reply.subject()), ..ask }, out).unwrap();
    });
    let inbox = str::from_utf8(reply.subject().as_bytes()).unwrap();
    let answer = format!("MSG {inbox} 0 2\r\nhi\r\n");
    let Step::Event(Event::Message { sid: Sid::INBOX, message }, _) = client.session.next(answer.as_bytes())
    else {
        panic!()
    };
    assert_eq!(requests.handle_answer(message.subject), Answer::To(token));
}

/// As on a UART, where nothing else tells that the server at the other end is another one.
#[test]
fn a_server_that_was_started_anew_is_noticed() {
    let info = |server: &str, client: &str| {
        format!("INFO {{{server}{client}\"headers\":true,\"max_payload\":1000}}\r\n")
    };
    let first = info("\"server_id\":\"NA\",", "\"client_id\":7,");
    for (server, number, same) in [
        ("\"server_id\":\"NA\",", "\"client_id\":7,", true),
        ("\"server_id\" : \"NA\" ,", "", true),
        ("", "\"client_id\":7,\"cluster\":\"x\",", true),
        ("", "", true),
        ("\"server_id\":\"NB\",", "\"client_id\":7,", false),
        ("\"server_id\":\"NA\",", "\"client_id\":8,", false),
        ("\"server_id\":\"NA\",", "\"client_id\":77,", false),
    ] {
        for size in [64, 512] {
            let mut client = Client::new(size);
            client.receive(format!("{first}PONG\r\n{}PING\r\n", info(server, number)).as_bytes());
            let last = if same { "info 1000" } else { "Session" };
            assert_eq!(client.seen, ["greeting 1000", "Connected", last]);
            assert_eq!(client.session.is_closed(), !same);
        }
    }
}

#[test]
fn complaints_have_weight() {
    for (text, fatal) in [
        ("Permissions Violation for Publish to \"a\"", false),
        ("Invalid Subject", false),
        ("maximum subscriptions exceeded", false),
        ("Authorization Violation", true),
        ("User Authentication Expired", true),
        ("Maximum Payload Violation", true),
        ("maximum connections exceeded", true),
        ("something new", true),
    ] {
        let mut client = Client::ready(512);
        let wire = format!("-ERR '{text}'\r\n");
        let Step::Event(Event::Error(error), _) = client.session.next(wire.as_bytes()) else { panic!() };
        assert_eq!((error.text(), error.is_fatal()), (text.as_bytes(), fatal));
        assert_eq!(client.session.is_closed(), fatal, "{text}");
        assert_eq!(matches!(error, ServerError::Authorization(_)), text.contains("Auth"));
    }
}

proptest! {
    /// Whatever of a line fits the buffer: the message arrives, and what follows it is read from its beginning.
    #[test]
    fn long_lines_lose_nothing(
        subject in 1..300usize, reply in 0..300usize, sid in 1..1_000_000_000u32, header in any::<bool>(), payload in 0..150usize,
        buffer_size in 64..200usize, piece in 1..250usize,
    ) {
        let (subject, payload) = ("s".repeat(subject), "p".repeat(payload));
        let reply = if reply > 0 { format!(" {}", "5".repeat(reply)) } else { String::new() };
        let (verb, header) = if header { ("HMSG", "NATS/1.0\r\n\r\n") } else { ("MSG", "") };
        let sizes = if header.is_empty() { String::new() } else { format!(" {}", header.len()) };
        let size = header.len() + payload.len();
        let wire = format!(
            "{INFO}\r\nPONG\r\n{verb} {subject} {sid}{reply}{sizes} {size}\r\n{header}{payload}\r\n-ERR 'Permissions'\r\nMSG a 1 2\r\nhi\r\n",
        );
        let mut client = Client::new(buffer_size);
        wire.as_bytes().chunks(piece).for_each(|piece| client.receive(piece));
        let message = format!("message {sid} {header}{payload}");
        prop_assert_eq!(&client.seen, &["greeting 1000", "Connected", &message, "error Permissions", "message 1 hi"]);
    }

    /// The session has a reader of its own for lines, and it reads what `server_op` reads.
    #[test]
    fn a_grammar_is_one(words in prop::collection::vec(prop::sample::select(vec![
        "MSG", "msg", "HMSG", "PING", "PONG", "+OK", "-ERR", "INFO", " ", " ", "\t", "a.b", "\x01", "r", "0", "1", "2", "12", "999999999",
        "4294967296", "x", "\r", "\r\n", "\r\n", "\n", "hi", "{}", "'no'", "NATS/1.0\r\n\r\n",
    ]), 1..12)) {
        let wire = words.concat();
        let limits = Limits { max_control_line: 4096, max_payload: u32::MAX, headers: true };
        let mut client = Client::ready(8192);
        let ours = client.session.next(wire.as_bytes());
        match parse::server_op(wire.as_bytes(), &limits) {
            parse::Step::Op(ServerOp::Msg { sid, message }, used) => {
                let sid = str::from_utf8(sid).unwrap().parse().ok().filter(|_| sid.len() <= 10 && sid.iter().all(u8::is_ascii_digit));
                let Some(sid) = sid else {
                    prop_assert!(matches!(ours, Step::Bad(_)), "{ours:?}");
                    return Ok(());
                };
                let Step::Event(Event::Message { sid: read, message: m }, length) = ours else { panic!("{ours:?}") };
                prop_assert_eq!((read, length, m.subject, m.reply), (Sid(sid), used, message.subject, message.reply));
                prop_assert_eq!((m.header, m.payload), (message.header(), message.payload()));
            }
            // INFO is read as it passes, and control characters in it count as white space.
            parse::Step::Op(ServerOp::Info(json), _) if json.iter().filter(|byte| **byte > b' ').ne(b"{}") => prop_assert_eq!(ours, Step::Bad(Breach::Arguments)),
            parse::Step::Op(ServerOp::Info(_), used) => prop_assert!(matches!(ours, Step::Event(Event::Info { .. }, n) if n == used), "{ours:?}"),
            parse::Step::Op(ServerOp::Err(_), used) => prop_assert!(matches!(ours, Step::Event(Event::Error(_), n) if n == used), "{ours:?}"),
            // What gives no event is passed over: what follows it may be anything.
            parse::Step::Op(ServerOp::Ping | ServerOp::Pong | ServerOp::Ok, used) => {
                // The shortest line of all, that of no server: it waits for the first byte of the next.
                if wire.len() == used && used == 4 {
                    return Ok(());
                }
                let rest = Client::ready(8192).session.next(&wire.as_bytes()[used..]);
                let same = match (ours, rest) {
                    (Step::Need { used: n, need }, Step::Need { used: m, need: other }) => n == used + m && need == other,
                    (Step::Event(event, n), Step::Event(other, m)) => event == other && n == used + m,
                    (ours, rest) => ours == rest,
                };
                prop_assert!(same, "{ours:?} {rest:?}");
            }
            parse::Step::Need(_) => prop_assert!(
                // A verb is done with before its line ends.
                matches!(ours, Step::Need { used: 0..=5, .. } | Step::Event(Event::Oversized(_), _) | Step::Bad(Breach::Arguments)),
                "{ours:?}"
            ),
            parse::Step::Bad(_) => prop_assert!(matches!(ours, Step::Bad(_) | Step::Need { .. } | Step::Event(Event::Oversized(_), _)), "{ours:?}"),
        }
    }
}
