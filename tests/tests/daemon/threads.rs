//! Connections that go to the thread of the streams, and come back.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use midge_tests::daemon::{Daemon, Program};
use midge_tests::process::eventually;
use midge_tests::script::Signal;

/// midged with a stream `S` of `s.*` whose disk is memory: no machine is so slow that it takes a millisecond.
fn daemon(more: &str) -> (Daemon, tempfile::TempDir) {
    let program = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let store = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let config = format!("jetstream {{ store_dir: {:?}, {more} }}", store.path());
    let daemon = Daemon::start(program, Some(&config), &[]).unwrap_or_else(|why| panic!("{why}"));
    let mut talker = Talker::connect(&daemon);
    talker.send("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.*"]}"#);
    assert!(talker.hear().1.contains("\"did_create\":true"));
    (daemon, store)
}

/// Somebody who publishes, and hears answers.
struct Talker {
    socket: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Talker {
    fn connect(daemon: &Daemon) -> Self {
        let mut socket = TcpStream::connect(daemon.address()).expect("a connection");
        socket.set_nodelay(true).expect("an option");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let inbox = socket.local_addr().expect("an address").port();
        write!(socket, "CONNECT {{\"verbose\":false}}\r\nSUB in.{inbox}.* 1\r\nPING\r\n").expect("said");
        let mut reader = BufReader::new(socket.try_clone().expect("a second handle"));
        let mut line = String::new();
        while line != "PONG\r\n" {
            line.clear();
            assert!(reader.read_line(&mut line).expect("an answer") > 0, "closed");
        }
        Self { socket, reader }
    }

    fn request(&self, subject: &str, body: &str) -> String {
        let inbox = self.socket.local_addr().expect("an address").port();
        format!("PUB {subject} in.{inbox}.a {}\r\n{body}\r\n", body.len())
    }

    fn send(&mut self, subject: &str, body: &str) {
        let request = self.request(subject, body);
        self.socket.write_all(request.as_bytes()).expect("sent");
    }

    /// The next message: its subject and its body.
    fn hear(&mut self) -> (String, String) {
        loop {
            let mut line = String::new();
            assert!(self.reader.read_line(&mut line).expect("a line in time") > 0, "closed");
            if line == "PING\r\n" {
                self.socket.write_all(b"PONG\r\n").expect("said");
                continue;
            }
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            assert_eq!(words[0], "MSG", "{line}");
            let mut body = vec![0; words[words.len() - 1].parse::<usize>().expect("a length") + 2];
            self.reader.read_exact(&mut body).expect("a body in time");
            body.truncate(body.len() - 2);
            return (words[1].to_owned(), String::from_utf8(body).expect("text"));
        }
    }

    /// Publishes, and waits until it is stored.
    fn store(&mut self, subject: &str, body: &str) -> u64 {
        self.send(subject, body);
        sequence(&self.hear().1)
    }

    /// The same so often.
    fn store_singly(&mut self, times: usize) {
        for _ in 0..times {
            self.store("s.0", "x");
        }
    }
}

/// Of an acknowledgement.
fn sequence(ack: &str) -> u64 {
    let rest = ack.split("\"seq\":").nth(1).unwrap_or_else(|| panic!("not stored: {ack}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a sequence")
}

/// How often the event loops of the daemon went to sleep.
fn sleeps(daemon: &Daemon) -> u64 {
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("threads");
    let sleeps = threads.map(|thread| {
        let thread = thread.expect("a thread").path();
        if fs::read_to_string(thread.join("comm")).is_ok_and(|name| name == "streams\n") {
            return 0;
        }
        let status = fs::read_to_string(thread.join("status")).expect("the status of a thread");
        let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sleeps.expect("a count").trim().parse::<u64>().expect("a number")
    });
    sleeps.sum()
}

#[test]
fn who_waits_for_the_streams_is_served_by_their_thread() {
    let (daemon, _store) = daemon("");
    let mut talker = Talker::connect(&daemon);
    let sleeps = || sleeps(&daemon);
    // On a machine that is busy it may take longer until the disk is found to be quick.
    let stays_asleep = eventually(|| {
        let before = sleeps();
        talker.store_singly(200);
        (sleeps() - before < 50).then_some(())
    });
    assert!(stays_asleep.is_some(), "the event loop woke up for each message");

    // Much at once is parsed beside the disk again.
    let request = talker.request("s.a", "x");
    let comes_back = eventually(|| {
        talker.socket.write_all(request.repeat(500).as_bytes()).expect("sent");
        (0..500).for_each(|_| drop(talker.hear()));
        let before = sleeps();
        talker.store_singly(20);
        (sleeps() - before >= 15).then_some(())
    });
    assert!(comes_back.is_some(), "the event loop serves it no more");
}

/// With a window a publisher waits for others, and for nobody longer.
#[test]
fn a_commit_waits_for_as_long_as_its_window() {
    const WINDOW: Duration = Duration::from_millis(300);
    let (daemon, _store) = daemon("commit_window: 300ms");
    let (mut first, mut second) = (Talker::connect(&daemon), Talker::connect(&daemon));
    let began = Instant::now();
    first.send("s.a", "first");
    second.send("s.b", "second");
    let sequences = [&mut first, &mut second].map(|talker| sequence(&talker.hear().1));
    assert!(began.elapsed() >= WINDOW, "{:?}", began.elapsed());
    assert!(sequences == [1, 2] || sequences == [2, 1], "{sequences:?}");
}

/// What a connection is owed while it goes from thread to thread: its answers, in order, and what others send it meanwhile.
#[test]
fn nothing_is_lost_or_overtaken_on_the_way() {
    const ROUNDS: usize = 12;
    const SINGLE: usize = 150;
    const BULK: usize = 400;
    let (daemon, _store) = daemon("");
    let mut listener = Talker::connect(&daemon);
    listener.socket.write_all(b"SUB s.* 2\r\nPING\r\n").expect("said");
    let mut line = String::new();
    listener.reader.read_line(&mut line).expect("a line");
    assert_eq!(line, "PONG\r\n");
    let talk = |name: usize| {
        let mut talker = Talker::connect(&daemon);
        let subject = format!("s.{name}");
        move || {
            let (mut number, mut last) = (0, 0);
            let mut one = |sequence: u64| {
                assert!(sequence > last, "publisher {name}: {sequence} after {last}");
                last = sequence;
            };
            for round in 0..ROUNDS {
                for _ in 0..SINGLE {
                    number += 1;
                    one(talker.store(&subject, &number.to_string()));
                }
                let mut batch = String::new();
                for _ in 0..BULK {
                    number += 1;
                    batch += &talker.request(&subject, &number.to_string());
                }
                talker.socket.write_all(batch.as_bytes()).expect("sent");
                (0..BULK).for_each(|_| one(sequence(&talker.hear().1)));
                // Something of its own that no stream has to do with.
                for _ in 0..round {
                    let inbox = talker.socket.local_addr().expect("an address").port();
                    talker.send(&format!("in.{inbox}.self"), "echo");
                    assert_eq!(talker.hear(), (format!("in.{inbox}.self"), "echo".to_owned()));
                }
            }
        }
    };
    let publishers: Vec<_> = (0..4).map(|name| thread::spawn(talk(name))).collect();
    let mut next = [1; 4];
    for _ in 0..4 * ROUNDS * (SINGLE + BULK) {
        let (subject, body) = listener.hear();
        let publisher: usize = subject.strip_prefix("s.").and_then(|name| name.parse().ok()).expect("a name");
        assert_eq!(body, next[publisher].to_string(), "of publisher {publisher}");
        next[publisher] += 1;
    }
    publishers.into_iter().for_each(|publisher| publisher.join().expect("a publisher"));
    // Those who are on the thread of the streams when it ends are told, as others are.
    let mut talker = Talker::connect(&daemon);
    talker.store_singly(200);
    daemon.kill_with(Signal::Term).expect("told to end");
    let mut rest = String::new();
    talker.reader.read_to_string(&mut rest).expect("an end");
    assert!(rest.is_empty() || rest.contains("-ERR 'Server Shutdown'"), "{rest}");
}

/// Over Unix sockets, where what one end wrote is at the other at once.
#[test]
fn what_was_published_is_there_before_its_publisher_is_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let program = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let config = format!("unix_socket: {path:?}");
    let _daemon = Daemon::start(program, Some(&config), &[]).unwrap_or_else(|why| panic!("{why}"));
    let connect = |words: &str| {
        let mut socket = UnixStream::connect(&path).expect("a connection");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        write!(socket, "CONNECT {{\"verbose\":false}}\r\n{words}PING\r\n").expect("said");
        hear_until(&mut socket, "PONG\r\n");
        socket
    };
    let mut subscriber = connect("SUB a 1\r\n");
    subscriber.set_nonblocking(true).expect("an option");
    let mut publisher = connect("");
    for _ in 0..100 {
        publisher.write_all(b"PING\r\nPUB a 2\r\nhi\r\nPING\r\n").expect("said");
        hear_until(&mut publisher, "PONG\r\nPONG\r\n");
        let mut heard = [0; 64];
        let heard = subscriber.read(&mut heard).map(|length| heard[..length].to_vec());
        assert_eq!(heard.expect("the message is there"), b"MSG a 1 2\r\nhi\r\n");
    }
}

fn hear_until(socket: &mut UnixStream, end: &str) {
    let mut heard = String::new();
    while !heard.ends_with(end) {
        let mut bytes = [0; 4096];
        let length = socket.read(&mut bytes).expect("an answer in time");
        assert!(length > 0, "closed after {heard}");
        heard.push_str(std::str::from_utf8(&bytes[..length]).expect("text"));
    }
}
