//! The client session against a real server: `MIDGE_TEST_SERVER=/path/to/nats-server cargo test`. Any server that takes
//! nats-server's flags and says on stderr where it listens will do. Without the variable there is nothing to test.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use midge_protocol::client::{
    Answer, Config, Event, Flush, Login, Message, Publish, Requests, ServerError, Session, Sid, Step, Subs,
};
use midge_protocol::emit::Sink;
use midge_protocol::header::{Block, Field, Header};
use midge_protocol::subject::{Filter, Subject};
use midge_protocol::time::Instant;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Nothing here takes longer, on any machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server on a port of its own, until it is dropped.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(binary: &std::ffi::OsStr) -> Self {
        let mut process = Command::new(binary)
            .args(["--addr", "127.0.0.1", "--port", "-1"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        let log = BufReader::new(process.stderr.take().unwrap());
        let (found, address) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads on to the end, so that the server never blocks on its log.
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, at)) = line.split_once("Listening for client connections on ") {
                    let _ = found.send(at.trim().parse::<SocketAddr>());
                }
            }
        });
        match address.recv_timeout(PATIENCE) {
            Ok(Ok(address)) => Self { process, address },
            other => {
                let _ = process.kill();
                panic!("the server did not say where it listens: {other:?}")
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Default)]
struct Out(Vec<u8>);

impl Sink for Out {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// What the tests ask about, kept.
#[derive(Debug, Default)]
struct Seen {
    /// sid, subject, header block, payload
    messages: Vec<(u32, String, Vec<u8>, Vec<u8>)>,
    nobody: Vec<String>,
    errors: Vec<String>,
    pieces: Vec<u8>,
}

struct Client {
    session: Session,
    stream: TcpStream,
    received: Vec<u8>,
    buffer_size: usize,
    clock: std::time::Instant,
    seen: Seen,
}

impl Client {
    fn connect(server: &Server, buffer_size: usize) -> Self {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self {
            session: Session::new(Config::new(buffer_size), Instant::default()),
            stream,
            received: Vec::new(),
            buffer_size,
            clock: std::time::Instant::now(),
            seen: Seen::default(),
        };
        client.read_until(Session::is_ready);
        client
    }

    /// Runs the loop of the module's documentation until `done`.
    fn read_until(&mut self, done: impl Fn(&Session) -> bool) {
        while !done(&self.session) {
            let now = Instant::from_micros(self.clock.elapsed().as_micros() as u64);
            self.session.tick(now).unwrap();
            let mut out = Out::default();
            let used = match self.session.next(&self.received) {
                Step::Need { used, .. } => {
                    self.received.drain(..used);
                    self.session.poll_transmit(&mut out);
                    self.stream.write_all(&out.0).unwrap();
                    self.read_more();
                    continue;
                }
                Step::Event(event, used) => {
                    match event {
                        Event::Greeting { .. } => {
                            self.session.connect(now, &Login::ANONYMOUS, &mut out).unwrap()
                        }
                        Event::Message { message, .. } if message.is_no_responders() => {
                            self.seen.nobody.push(text(message.subject));
                        }
                        Event::Message { sid, message } => self.seen.messages.push(kept(sid, &message)),
                        Event::Error(error @ (ServerError::Permissions(_) | ServerError::Refused(_))) => {
                            self.seen.errors.push(text(error.text()));
                        }
                        Event::Piece { data, .. } => self.seen.pieces.extend_from_slice(data),
                        Event::Connected | Event::Info { .. } | Event::Pong | Event::Oversized(_) => {}
                        other => panic!("{other:?}"),
                    }
                    used
                }
                Step::Bad(rule) => panic!("{rule:?}: {:?}", text(&self.received)),
            };
            self.received.drain(..used);
            self.stream.write_all(&out.0).unwrap();
        }
    }

    fn read_more(&mut self) {
        let have = self.received.len();
        self.received.resize(self.buffer_size, 0);
        let count = self.stream.read(&mut self.received[have..]).unwrap();
        assert!(count > 0, "the server hung up");
        self.received.truncate(have + count);
    }

    /// Writes what `verbs` put and waits until the server has dealt with it.
    fn settle(&mut self, verbs: impl FnOnce(&mut Session, &mut Out)) {
        let mut out = Out::default();
        verbs(&mut self.session, &mut out);
        let flush: Flush = self.session.flush(&mut out).unwrap();
        self.stream.write_all(&out.0).unwrap();
        self.read_until(|session| session.is_flushed(flush));
    }
}

fn kept(sid: Sid, message: &Message<'_>) -> (u32, String, Vec<u8>, Vec<u8>) {
    (sid.0, text(message.subject), message.header.to_vec(), message.payload.to_vec())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_real_server_understands() {
    let Some(binary) = std::env::var_os("MIDGE_TEST_SERVER") else {
        println!("skipped: MIDGE_TEST_SERVER names no server");
        return;
    };
    let server = Server::start(&binary);
    let subject = |text: &'static str| Subject::new(text.as_bytes()).unwrap();

    let mut client = Client::connect(&server, 4096);
    assert!(client.session.server().headers());
    assert_eq!(client.session.server().max_payload(), 1024 * 1024);

    // Messages, headers, and subscriptions that end by themselves.
    let mut subs = Subs::<&str, 4>::new();
    let all = subs.subscribe("plant.>", None).unwrap();
    let once = subs.subscribe("plant.*", Some("workers")).unwrap();
    subs.unsubscribe(once, Some(1));
    let fields = [Field::new("Nats-Msg-Id", "7"), Field::new("a", "b c")];
    let header = Block::new(&fields).unwrap();
    client.settle(|session, out| {
        subs.poll_transmit(session, out).unwrap();
        session.publish_with(&Publish::new(subject("plant.a"), b"hi"), out).unwrap();
        let with_header = Publish { header: Some(&header), ..Publish::new(subject("plant.b"), b"ho") };
        session.publish_with(&with_header, out).unwrap();
        session.publish_with(&Publish::new(subject("elsewhere"), b"no"), out).unwrap();
    });
    let messages = std::mem::take(&mut client.seen.messages);
    let heard = |sid: Sid| messages.iter().filter(|m| m.0 == sid.0).map(|m| &m.1[..]).collect::<Vec<_>>();
    assert_eq!((heard(all), heard(once)), (vec!["plant.a", "plant.b"], vec!["plant.a"]));
    let (_, _, block, payload) = messages.last().unwrap();
    assert_eq!(payload, b"ho");
    assert_eq!(Header::parse(block).unwrap().fields().collect::<Vec<_>>(), fields);

    // Requests: one is answered, nobody is there for the other.
    let mut service = Client::connect(&server, 4096);
    service.settle(|s, out| s.subscribe(Sid(1), Filter::new(b"ask").unwrap(), None, out).unwrap());
    let mut requests = Requests::<2>::new([7; 16]);
    let (asked, answer) = requests.begin(Instant::default()).unwrap();
    let (in_vain, no_answer) = requests.begin(Instant::default()).unwrap();
    client.settle(|session, out| {
        requests.subscribe(session, out).unwrap();
        for (to, reply) in [("ask", &answer), ("nobody", &no_answer)] {
            let ask = Publish { reply: Some(reply.subject()), ..Publish::new(subject(to), b"") };
            session.publish_with(&ask, out).unwrap();
        }
    });
    assert_eq!(client.seen.nobody, [text(no_answer.subject().as_bytes())]);
    assert_eq!(requests.handle_answer(client.seen.nobody[0].as_bytes()), Answer::To(in_vain));
    service.settle(|s, out| s.publish_with(&Publish::new(answer.subject(), b"yes"), out).unwrap());
    client.settle(|_, _| {});
    assert_eq!(client.seen.messages[0].3, b"yes");
    assert_eq!(requests.handle_answer(client.seen.messages[0].1.as_bytes()), Answer::To(asked));

    // A complaint that is no end.
    client.settle(|_, out| out.put(b"SUB a..b 99\r\n"));
    assert_eq!(client.seen.errors, ["Invalid Subject"]);

    // 128 bytes are enough for any INFO, and for a message that would forge another one.
    let mut tiny = Client::connect(&server, 128);
    assert_eq!(tiny.session.server(), client.session.server());
    let forged = "MSG forged 1 2\r\nno\r\n".repeat(100);
    tiny.settle(|session, out| {
        session.subscribe(Sid(1), Filter::new(b"big").unwrap(), None, out).unwrap();
        session.publish_with(&Publish::new(subject("big"), forged.as_bytes()), out).unwrap();
        session.publish_with(&Publish::new(subject("big"), b"hi"), out).unwrap();
    });
    assert_eq!(tiny.seen.pieces, forged.as_bytes());
    assert_eq!(tiny.seen.messages, [(1, "big".into(), Vec::new(), b"hi".to_vec())]);
}
