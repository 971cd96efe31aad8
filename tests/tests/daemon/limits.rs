//! What one client may do to the others: a flood, a reader that stops, a forest of subscriptions, a stream of mistakes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use midge_tests::daemon::{Daemon, PATIENCE, Program};
use midge_tests::peer::Peer;
use midge_tests::process::eventually;
use midge_tests::target::World as _;

fn start(config: &str) -> Daemon {
    let program = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    Daemon::start(program, Some(config), &[]).unwrap_or_else(|why| panic!("{why}"))
}

fn client(daemon: &Daemon, options: &str) -> Peer {
    let options = if options.is_empty() { r#"{"verbose":false}"#.to_owned() } else { options.to_owned() };
    let mut peer = Peer::greeted(daemon.address(), &options).expect("a connection");
    peer.fence().expect("an answer");
    peer
}

/// A client's subscription on its own subject, and messages to itself: it notices if the daemon is kept busy or if it
/// is thrown out.
fn talk(peer: &mut Peer, times: usize) {
    for number in 0..times {
        peer.send(&format!("PUB mine {}\r\n{number}\r\n", number.to_string().len()));
        let (head, body) = (peer.line().expect("a line"), peer.line().expect("a line"));
        assert!(head.is_some_and(|head| head.starts_with("MSG mine")));
        assert_eq!(body, Some(number.to_string()));
    }
}

/// Most memory that a process ever held, in bytes.
fn peak(daemon: &Daemon) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

const MIB: usize = 1024 * 1024;

#[test]
fn a_flood_is_slowed_down_and_loses_nothing() {
    let daemon = start(
        "authorization { users: [{user: sensor, password: s}, {user: other, password: o}] }
         rate_limits { users { sensor { msgs: 400 } }, default { msgs: 1000000, bytes: 1GB } }",
    );
    let mut listener = client(&daemon, r#"{"verbose":false,"user":"other","pass":"o"}"#);
    listener.send("SUB flood 1\r\n");
    listener.fence().expect("subscribed");
    // Two connections of one user share its rate.
    for _ in 0..2 {
        let mut flooder = client(&daemon, r#"{"verbose":false,"user":"sensor","pass":"s"}"#);
        thread::spawn(move || {
            flooder.send(&(0..500).map(|n| format!("PUB flood 3\r\n{n:03}\r\n")).collect::<String>());
            // Stays until all is heard.
            while flooder.line().is_ok_and(|line| line.is_some()) {}
        });
    }
    let mut other = client(&daemon, r#"{"verbose":false,"user":"other","pass":"o"}"#);
    other.send("SUB mine 1\r\n");
    talk(&mut other, 200);

    let mut heard = vec![0; 500];
    for _ in 0..1000 {
        let head = listener.line().expect("a line");
        assert_eq!(head.as_deref(), Some("MSG flood 1 3"));
        let body = listener.line().expect("a line").expect("a body");
        heard[body.parse::<usize>().expect("a number")] += 1;
    }
    assert!(heard.iter().all(|times| *times == 2), "{heard:?}");
}

#[test]
fn a_reader_that_stops_costs_the_others_nothing() {
    let daemon = start("memory_budget: 12MB, max_pending: 1GB");
    let mut other = client(&daemon, "");
    other.send("SUB mine 1\r\n");
    // Some that don't read, each with more to come than there is memory for.
    let mut stopped: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut socket = TcpStream::connect(daemon.address()).expect("a connection");
            socket.write_all(b"CONNECT {\"verbose\":false}\r\nSUB big 1\r\nPING\r\n").expect("said");
            let (mut seen, mut byte) = (Vec::new(), [0]);
            while !seen.ends_with(b"PONG\r\n") {
                socket.read_exact(&mut byte).expect("an answer");
                seen.push(byte[0]);
            }
            socket
        })
        .collect();
    let mut publisher = client(&daemon, "");
    let message = format!("PUB big 1000\r\n{}\r\n", "x".repeat(1000));
    let batch = message.repeat(1000);
    for _ in 0..60 {
        publisher.send(&batch);
        publisher.fence().expect("the publisher stays");
        talk(&mut other, 1);
    }
    let slow = daemon.stderr().find(0, PATIENCE, |line| line.contains("Slow Consumer Detected"));
    slow.expect("those who don't read are told apart");
    // Sixty megabytes were published to each; the socket's own buffers hold some of that.
    assert!(peak(&daemon) < 28 * MIB, "{} bytes", peak(&daemon));
    for socket in &mut stopped {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut rest = Vec::new();
        // Closed, with or without a reset.
        let _ = socket.read_to_end(&mut rest);
        assert!(rest.len() < 60 * 1000 * 1000, "{} bytes", rest.len());
    }
}

#[test]
fn what_there_is_no_memory_for_is_refused() {
    let daemon = start("memory_budget: 3MB");
    let mut other = client(&daemon, "");
    other.send("SUB mine 1\r\n");
    talk(&mut other, 1);
    let mut greedy = client(&daemon, "");
    let mut refused = 0;
    for batch in 0..60 {
        let subs: String = (0..1000).map(|n| format!("SUB a.{batch}.{n} {}\r\n", batch * 1000 + n)).collect();
        greedy.send(&format!("{subs}PING\r\n"));
        loop {
            match greedy.line().expect("a line").expect("still connected").as_str() {
                "PONG" => break,
                "-ERR 'Memory Budget Exceeded'" => refused += 1,
                other => panic!("{other}"),
            }
        }
    }
    assert!(refused > 1000, "only {refused} refused");
    assert!(peak(&daemon) < 16 * MIB, "{} bytes", peak(&daemon));
    // Nobody new, and nothing large.
    let mut newcomer = Peer::connect(daemon.address()).expect("a socket");
    let said = newcomer.rest().expect("an answer");
    assert!(said.iter().any(|line| line == "-ERR 'Memory Budget Exceeded'"), "{said:?}");
    talk(&mut other, 10);
    // Once they are gone, there is room again.
    drop((greedy, other));
    let again = eventually(|| {
        let mut peer = Peer::greeted(daemon.address(), r#"{"verbose":false}"#).ok()?;
        peer.fence().ok().map(|()| peer)
    });
    let mut again = again.expect("let in again");
    again.send("SUB mine 1\r\n");
    talk(&mut again, 10);
}

#[test]
fn who_announces_much_and_sends_little_holds_little() {
    let daemon = start("memory_budget: 12MB, max_payload: 1MB");
    let slow: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut socket = TcpStream::connect(daemon.address()).expect("a connection");
            socket.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\nPUB a 1000000\r\nx").expect("said");
            let (mut seen, mut byte) = (Vec::new(), [0]);
            while !seen.ends_with(b"PONG\r\n") {
                socket.read_exact(&mut byte).expect("an answer");
                seen.push(byte[0]);
            }
            socket
        })
        .collect();
    // Somebody new, with a large message that comes at once.
    let mut other = client(&daemon, "");
    other.send("SUB mine 1\r\nSUB large 2\r\n");
    other.send(&format!("PUB large 1000000\r\n{}\r\n", "x".repeat(1_000_000)));
    let head = other.line().expect("a line").expect("still connected");
    assert_eq!(head, "MSG large 2 1000000");
    assert_eq!(other.line().expect("a line").map(|body| body.len()), Some(1_000_000));
    talk(&mut other, 10);
    assert!(peak(&daemon) < 14 * MIB, "{} bytes", peak(&daemon));
    drop(slow);
}

#[test]
fn mistakes_do_not_fill_the_log() {
    let daemon = start("authorization { user: u, password: p }");
    let mut clumsy = client(&daemon, r#"{"verbose":false,"user":"u","pass":"p"}"#);
    for _ in 0..500 {
        clumsy.send("SUB a..b 1\r\nPUB $GR.x 0\r\n\r\n");
    }
    clumsy.send("PING\r\n");
    while clumsy.line().expect("a line").as_deref() != Some("PONG") {}
    // Another one's mistake is logged, and behind all others.
    let mut other = client(&daemon, r#"{"verbose":false,"user":"u","pass":"p"}"#);
    other.send("PUB $GR.other 0\r\n\r\n");
    daemon.stderr().find(0, PATIENCE, |line| line.contains("$GR.other")).expect("a line");
    let lines = daemon.stderr().text().lines().filter(|line| line.contains("$GR.x")).count();
    assert!((1..=20).contains(&lines), "{lines} lines");
}

#[test]
fn whoever_guesses_again_and_again_is_not_looked_at() {
    let config = |after: u32, loopback: bool| {
        format!(
            "authorization {{ user: a, password: right }}
             login_backoff {{ after: {after}, longest: \"1h\", loopback: {loopback} }}"
        )
    };
    let mut daemon = start(&config(50, true));
    let answer = |daemon: &Daemon, pass: &str| {
        let options = format!(r#"{{"verbose":false,"user":"a","pass":"{pass}"}}"#);
        let mut peer = Peer::greeted(daemon.address(), &options).expect("a connection");
        peer.send("PING\r\n");
        peer.line().expect("an answer").expect("a line")
    };
    const REFUSED: &str = "-ERR 'Authorization Violation'";
    for _ in 0..40 {
        assert_eq!(answer(&daemon, "wrong"), REFUSED);
    }
    assert_eq!(answer(&daemon, "right"), "PONG", "not often enough");
    // With so many failures the wait is as long as it gets: nothing here depends on how fast this is.
    daemon.reload(&config(2, true)).expect("a reload");
    assert_eq!(answer(&daemon, "right"), REFUSED);
    daemon.reload(&config(2, false)).expect("a reload");
    assert_eq!(answer(&daemon, "right"), "PONG", "this machine itself needs not wait");
}
