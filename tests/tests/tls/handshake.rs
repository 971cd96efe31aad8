//! When the handshake comes, and what becomes of those who don't shake hands.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use midge_tests::daemon::{Daemon, PATIENCE};
use midge_tests::peer::Peer as Plain;
use midge_tests::process::eventually;
use serde_json::Value;

use crate::peer::{Peer, config, config_of, greeting, socket};
use crate::pki::Pki;
use crate::{both, ours};

/// What the server says until it closes.
fn last_words(stream: &mut TcpStream) -> String {
    let mut words = Vec::new();
    // A server that closes without having read all resets the connection.
    let _ = stream.read_to_end(&mut words);
    String::from_utf8_lossy(&words).into_owned()
}

/// What INFO says of TLS.
fn flags(info: &Value) -> Vec<&str> {
    let all = ["tls_required", "tls_verify", "tls_available"];
    all.into_iter().filter(|flag| info[*flag] == true).collect()
}

/// The lines about one connection, without what differs between runs.
fn story(daemon: &Daemon, end: &str) -> Vec<String> {
    let last = daemon.stderr().find(0, PATIENCE, |line| line.contains(end)).expect("an end");
    let cid = last.split(" - ").find(|part| part.starts_with("cid:")).expect("a cid").to_owned();
    let mark = format!("{cid} - ");
    let of_it: Vec<_> = daemon
        .stderr()
        .text()
        .lines()
        .filter_map(|line| {
            let (head, text) = line.split_once(&mark)?;
            let level = head.split_once('[').map_or("", |_| if head.contains("[ERR]") { "ERR " } else { "" });
            Some(format!("{level}{text}"))
        })
        .collect();
    of_it
}

const CLOSED: &str = "Client connection closed: TLS Handshake Failure";

#[test]
fn upgrade_behind_info() {
    let pki = Pki::new();
    both(&format!("debug: true, tls {{ {} }}", pki.server("server").keys()), |daemon, name| {
        for (version, word, suite) in [
            (&rustls::version::TLS13, "1.3", "TLS_AES_128_GCM_SHA256"),
            (&rustls::version::TLS12, "1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        ] {
            let seen = daemon.stderr().count();
            let mut stream = socket(daemon.address());
            assert_eq!(flags(&greeting(&mut stream)), ["tls_required"], "{name}");
            let config = config_of(&pki, None, &[version]);
            let mut peer = Peer::over(stream, &config, "localhost").expect("a handshake");
            assert_eq!(peer.connect("").expect("a line").as_deref(), Some("PONG"), "{name}");
            let line = format!("TLS version {word}, cipher suite ");
            let line = daemon.stderr().find(seen, PATIENCE, |it| it.contains(&line)).expect("a line");
            // Which suite it is depends on what the processor can do.
            assert!(line.ends_with(suite) || line.contains("CHACHA20"), "{name}: {line}");
        }
    });
}

#[test]
fn a_later_info_says_the_same() {
    let pki = Pki::new();
    let config_text = format!("tls {{ {} }}", pki.server("server").keys());
    both(&config_text, |daemon, name| {
        let mut peer = Peer::upgrade(daemon.address(), &config(&pki, None)).expect("a handshake");
        peer.send("CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n").expect("a write");
        assert_eq!(peer.line().expect("a line").as_deref(), Some("PONG"));
        let info = peer.info();
        assert_eq!(
            (flags(&info), &info["connect_info"]),
            (vec!["tls_required"], &Value::Bool(true)),
            "{name}"
        );
    });
}

#[test]
fn a_client_that_speaks_in_the_clear_is_closed() {
    let pki = Pki::new();
    let config = format!("debug: true, tls {{ {} }}", pki.server("server").keys());
    both(&config, |daemon, name| {
        let mut stream = socket(daemon.address());
        greeting(&mut stream);
        stream.write_all(b"CONNECT {}\r\nPING\r\n").expect("a write");
        assert_eq!(last_words(&mut stream), "", "{name}");
        assert_eq!(
            story(&daemon, CLOSED),
            [
                "Client connection created",
                "Starting TLS client connection handshake",
                "TLS handshake error: tls: first record does not look like a TLS handshake",
                CLOSED
            ],
            "{name}"
        );
    });
}

#[test]
fn a_client_that_leaves_is_noted() {
    let pki = Pki::new();
    let config = format!("debug: true, tls {{ {} }}", pki.server("server").keys());
    both(&config, |daemon, name| {
        greeting(&mut socket(daemon.address()));
        let story = story(&daemon, CLOSED);
        assert!(story.contains(&"ERR TLS handshake error: EOF".to_owned()), "{name}: {story:?}");
    });
}

/// The time for a handshake is over. nats-server has two clocks for it, and each its own words.
fn timed_out(line: &str) -> bool {
    line.contains("TLS handshake timeout")
        || line.contains("TLS handshake error") && line.ends_with("i/o timeout")
}

#[test]
fn silence_and_crumbs_end_with_the_time() {
    let pki = Pki::new();
    let config = format!("debug: true, tls {{ {}, timeout: 0.3 }}", pki.server("server").keys());
    both(&config, |daemon, name| {
        let [mut silent, mut slow] = [(); 2].map(|()| socket(daemon.address()));
        greeting(&mut silent);
        greeting(&mut slow);
        // The beginning of a ClientHello, and then a byte now and again: the time doesn't begin anew.
        slow.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).expect("a write");
        let mut crumbs = slow.try_clone().expect("a socket");
        let crumbs = std::thread::spawn(move || {
            while crumbs.write_all(&[7]).is_ok() {
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        assert_eq!(last_words(&mut silent), "", "{name}");
        assert_eq!(last_words(&mut slow), "", "{name}");
        crumbs.join().expect("nothing more to write to");
        daemon.stderr().find(0, PATIENCE, timed_out).expect("a line");
    });
}

#[test]
fn nonsense_in_a_handshake_is_an_error() {
    let pki = Pki::new();
    let config = format!("debug: true, tls {{ {} }}", pki.server("server").keys());
    both(&config, |daemon, name| {
        for nonsense in
            [b"\x16\x03\x01\x00\x05hello".as_slice(), b"\x16\x03\x01\xff\xff", b"\x15\x03\x01\0\x02\x02\x28"]
        {
            let seen = daemon.stderr().count();
            let mut stream = socket(daemon.address());
            greeting(&mut stream);
            stream.write_all(nonsense).expect("a write");
            last_words(&mut stream);
            let line = daemon.stderr().find(seen, PATIENCE, |line| line.contains("TLS handshake error: "));
            let line = line.expect("a line");
            assert!(line.contains("[ERR]") && !line.contains("EOF"), "{name}: {nonsense:?}: {line}");
        }
        let mut peer =
            Peer::upgrade(daemon.address(), &crate::peer::config(&pki, None)).expect("still served");
        peer.fence();
    });
}

#[test]
fn the_handshake_first() {
    let pki = Pki::new();
    let config_text =
        format!("debug: true, tls {{ {}, handshake_first: true, timeout: 2 }}", pki.server("server").keys());
    both(&config_text, |daemon, name| {
        daemon
            .stderr()
            .find(0, PATIENCE, |line| {
                line.contains("[WRN] Clients that are not using \"TLS Handshake First\"")
            })
            .expect("a warning");
        let config = config(&pki, None);
        let mut peer = Peer::over(socket(daemon.address()), &config, "localhost").expect("a handshake");
        assert_eq!(flags(&peer.info()), ["tls_required"], "{name}");
        peer.fence();
        // Who waits to be greeted waits for nothing; who speaks in the clear isn't heard.
        let mut waiting = socket(daemon.address());
        let mut speaking = socket(daemon.address());
        speaking.write_all(b"PING\r\n").expect("a write");
        assert_eq!(last_words(&mut waiting), "", "{name}");
        assert_eq!(last_words(&mut speaking), "", "{name}");
    });
}

#[test]
fn the_handshake_first_or_not() {
    let pki = Pki::new();
    let tls = pki.server("server").keys();
    for (more, clear, first) in [
        ("", vec!["tls_required"], vec!["tls_required"]),
        ("allow_non_tls: true", vec!["tls_available"], vec!["tls_required", "tls_available"]),
    ] {
        both(&format!("{more}\ntls {{ {tls}, handshake_first: auto }}"), |daemon, name| {
            let config = config(&pki, None);
            // There are 50 ms to say hello in, which a machine that is busy may let pass.
            let mut peer = eventually(|| Peer::over(socket(daemon.address()), &config, "localhost").ok());
            let peer = peer.as_mut().expect("a handshake");
            assert_eq!(flags(&peer.info()), first, "{name}");
            peer.fence();
            let mut stream = socket(daemon.address());
            assert_eq!(flags(&greeting(&mut stream)), clear, "{name}");
            Peer::over(stream, &config, "localhost").expect("a handshake").fence();
        });
    }
}

#[test]
fn with_and_without() {
    let pki = Pki::new();
    let tls = pki.server("server").keys();
    both(&format!("debug: true, allow_non_tls: true\ntls {{ {tls}, timeout: 2 }}"), |daemon, name| {
        daemon
            .stderr()
            .find(0, PATIENCE, |line| line.ends_with("TLS available for client connections"))
            .expect("a line");
        let mut plain = Plain::connect(daemon.address()).expect("a connection");
        assert_eq!(flags(&plain.info().expect("a greeting")), ["tls_available"], "{name}");
        plain.send("CONNECT {\"verbose\":false}\r\nSUB a 1\r\n");
        plain.fence().expect("let in");
        let mut peer = Peer::upgrade(daemon.address(), &config(&pki, None)).expect("a handshake");
        peer.connect("").expect("let in");
        peer.send("PUB a 2\r\nhi\r\n").expect("a write");
        let heard = [plain.line(), plain.line()].map(|line| line.expect("a line").expect("no end"));
        assert_eq!(heard, ["MSG a 1 2", "hi"], "{name}");
        // Who says nothing in the time of a handshake is taken for somebody who does without.
        let mut late = Plain::connect(daemon.address()).expect("a connection");
        late.info().expect("a greeting");
        let seen = daemon.stderr().count();
        let mut stuck = socket(daemon.address());
        greeting(&mut stuck);
        stuck.write_all(&[0x16]).expect("a write");
        daemon.stderr().find(seen, PATIENCE, timed_out).expect("a line");
        assert_eq!(last_words(&mut stuck), "", "{name}");
        late.fence().expect("let in");
    });
}

#[test]
fn a_handshake_with_a_server_that_has_none() {
    let pki = Pki::new();
    both("debug: true", |daemon, name| {
        let refused = Peer::upgrade(daemon.address(), &config(&pki, None));
        assert!(refused.is_err(), "{name}");
        daemon
            .stderr()
            .find(0, PATIENCE, |line| line.contains("closed: Protocol Violation"))
            .expect("a line");
    });
}

#[test]
fn too_many_connections_are_told_in_the_clear() {
    let pki = Pki::new();
    let tls = pki.server("server").keys();
    for (first, greets) in [("false", true), ("true", false)] {
        let text = format!("max_connections: 1\ntls {{ {tls}, handshake_first: {first} }}");
        both(&text, |daemon, name| {
            let config = config(&pki, None);
            let mut stream = socket(daemon.address());
            if greets {
                greeting(&mut stream);
            }
            let _peer = Peer::over(stream, &config, "localhost").expect("a handshake");
            let mut late = socket(daemon.address());
            if greets {
                greeting(&mut late);
            }
            assert_eq!(last_words(&mut late), "-ERR 'maximum connections exceeded'\r\n", "{name}");
        });
    }
}

#[test]
fn so_many_handshakes_a_second() {
    let pki = Pki::new();
    let tls = pki.server("server").keys();
    both(&format!("debug: true, tls {{ {tls}, connection_rate_limit: 2 }}"), |daemon, name| {
        let config = config(&pki, None);
        // However slow this machine is, fifty connections don't take twenty-five seconds.
        let ended = (0..50).any(|_| Peer::upgrade(daemon.address(), &config).is_err());
        assert!(ended, "{name}");
        daemon
            .stderr()
            .find(0, PATIENCE, |line| line.contains("closed: Maximum Connections Exceeded"))
            .expect("a line");
        let warned = |line: &str| {
            line.contains("[WRN] Rejected ") && line.ends_with(" connections due to TLS rate limiting")
        };
        daemon.stderr().find(0, PATIENCE, warned).expect("a line");
    });
}

#[test]
fn the_time_to_authenticate_begins_behind_the_handshake() {
    let pki = Pki::new();
    let tls = pki.server("server").keys();
    let text = format!("authorization {{ user: a, password: b, timeout: 0.2 }}\ntls {{ {tls}, timeout: 5 }}");
    both(&text, |daemon, name| {
        let mut stream = socket(daemon.address());
        greeting(&mut stream);
        // Longer than there is for authenticating: the peer has said nothing of TLS yet.
        stream.set_read_timeout(Some(Duration::from_millis(600))).expect("a limit");
        assert!(stream.read(&mut [0]).is_err(), "{name} has said or closed something");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let mut peer = Peer::over(stream, &config(&pki, None), "localhost").expect("a handshake");
        assert_eq!(peer.line().expect("a line").as_deref(), Some("-ERR 'Authentication Timeout'"), "{name}");
    });
}

#[test]
fn who_waits_for_a_handshake_does_not_hold_up_the_end() {
    let pki = Pki::new();
    let text = format!("tls {{ {}, timeout: 60 }}", pki.server("server").keys());
    let mut daemon = ours(&text);
    let mut stream = socket(daemon.address());
    greeting(&mut stream);
    daemon.kill_with(midge_tests::script::Signal::Term).expect("a signal");
    assert_eq!(last_words(&mut stream), "");
    assert!(daemon.wait(PATIENCE).expect("an end").success());
}
