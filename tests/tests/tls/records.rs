//! What happens behind the handshake: sizes, pieces, new keys, ends, and readers that are too slow.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use async_nats::ConnectOptions;
use futures_util::StreamExt as _;
use midge_tests::daemon::PATIENCE;
use midge_tests::peer::Peer as Plain;
use tokio::time::timeout;

use crate::both;
use crate::peer::{Peer, config, config_of};
use crate::pki::Pki;
use crate::{ours, programs};

#[tokio::test]
async fn messages_of_all_sizes() {
    let pki = Pki::new();
    let config = format!("tls {{ {} }}", pki.server("server").keys());
    for program in programs() {
        let name = program.name();
        let daemon = midge_tests::daemon::Daemon::start(program, Some(&config), &[]).expect("a server");
        let url = format!("tls://localhost:{}", daemon.address().port());
        let connect = || ConnectOptions::new().add_root_certificates(pki.ca()).connect(&url);
        let (one, other) = (connect().await.expect("let in"), connect().await.expect("let in"));
        assert!(one.server_info().tls_required, "{name}");
        let mut sub = other.subscribe("sizes").await.expect("a subscription");
        // An answer tells that the subscription is there.
        let nobody = other.request("nobody", "".into());
        timeout(PATIENCE, nobody).await.expect("an answer").expect_err("nobody is there");
        let most = one.server_info().max_payload;
        assert_eq!(most, 1 << 20);
        for size in (0..300).map(|n| n * 97).chain([0, most, 16_384, most - 1]) {
            let body: Vec<u8> = (0..size).map(|n| (n * 31 + size) as u8).collect();
            one.publish("sizes", body.clone().into()).await.expect("a publish");
            let message = timeout(PATIENCE, sub.next()).await.expect("in time").expect("a message");
            assert!(message.payload == body, "{size} bytes on {name}");
        }
    }
}

#[test]
fn records_that_come_in_crumbs() {
    let pki = Pki::new();
    both(&format!("tls {{ {} }}", pki.server("server").keys()), |daemon, name| {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let config = config_of(&pki, None, &[version]);
            let mut peer = Peer::upgrade(daemon.address(), &config).expect("a handshake");
            let text = b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPUB a 3\r\nabc\r\n";
            for piece in text.chunks(7) {
                peer.session().writer().write_all(piece).expect("room");
            }
            let mut records = Vec::new();
            while peer.session().wants_write() {
                peer.session().write_tls(&mut records).expect("room");
            }
            for byte in records.chunks(1) {
                peer.stream().sock.write_all(byte).expect("a write");
            }
            let heard = [peer.line(), peer.line()].map(|line| line.expect("a line").expect("no end"));
            assert_eq!(heard, ["MSG a 1 3", "abc"], "{name}");
        }
    });
}

#[test]
fn keys_are_renewed_on_the_way() {
    let pki = Pki::new();
    both(&format!("tls {{ {} }}", pki.server("server").keys()), |daemon, name| {
        let mut peer = Peer::upgrade(daemon.address(), &config(&pki, None)).expect("a handshake");
        peer.connect("").expect("let in");
        peer.send("SUB a 1\r\n").expect("a write");
        for round in 0..20 {
            // Ours are new from here on, and the server is asked for new ones as well.
            peer.session().refresh_traffic_keys().expect("TLS 1.3");
            let text = format!("PUB a 2\r\n{round:02}\r\n");
            peer.send(&text).expect("a write");
            let heard = [peer.line(), peer.line()].map(|line| line.expect("a line").expect("no end"));
            assert_eq!(heard, ["MSG a 1 2".to_owned(), format!("{round:02}")], "{name}");
        }
    });
}

#[test]
fn a_closing_peer_is_answered_in_kind() {
    let pki = Pki::new();
    both(&format!("debug: true, tls {{ {} }}", pki.server("server").keys()), |daemon, name| {
        let mut peer = Peer::upgrade(daemon.address(), &config(&pki, None)).expect("a handshake");
        peer.connect("").expect("let in");
        peer.session().send_close_notify();
        peer.stream().flush().expect("a write");
        // An end that is announced, and not an error of a stream that was cut.
        assert_eq!(peer.line().expect("an orderly end"), None, "{name}");
        daemon.stderr().find(0, PATIENCE, |line| line.contains("closed: Client Closed")).expect("a line");
    });
}

#[test]
fn an_end_without_a_word_is_an_end() {
    let pki = Pki::new();
    both(&format!("debug: true, tls {{ {} }}", pki.server("server").keys()), |daemon, name| {
        let mut peer = Peer::upgrade(daemon.address(), &config(&pki, None)).expect("a handshake");
        peer.connect("").expect("let in");
        peer.stream().sock.shutdown(std::net::Shutdown::Write).expect("a half-closed socket");
        assert_eq!(peer.line().expect("an orderly end"), None, "{name}");
        daemon.stderr().find(0, PATIENCE, |line| line.contains("closed: Client Closed")).expect("a line");
    });
}

#[test]
fn a_record_that_was_tampered_with_ends_it() {
    let pki = Pki::new();
    both(&format!("debug: true, tls {{ {} }}", pki.server("server").keys()), |daemon, name| {
        let mut peer = Peer::upgrade(daemon.address(), &config(&pki, None)).expect("a handshake");
        peer.connect("").expect("let in");
        peer.session().writer().write_all(b"PING\r\n").expect("room");
        let mut record = Vec::new();
        peer.session().write_tls(&mut record).expect("room");
        *record.last_mut().expect("a record") ^= 1;
        peer.stream().sock.write_all(&record).expect("a write");
        let ended = peer.line();
        assert!(matches!(ended, Err(_) | Ok(None)), "{name}: {ended:?}");
        daemon.stderr().find(0, PATIENCE, |line| line.contains("closed: Read Error")).expect("a line");
    });
}

#[test]
fn errors_come_before_the_end() {
    let pki = Pki::new();
    both(&format!("tls {{ {} }}", pki.server("server").keys()), |daemon, name| {
        let mut peer = Peer::upgrade(daemon.address(), &config(&pki, None)).expect("a handshake");
        peer.send("nonsense\r\n").expect("a write");
        let line = peer.line().expect("a line").expect("no end");
        assert!(line.starts_with("-ERR 'Unknown Protocol Operation"), "{name}: {line}");
        assert_eq!(peer.line().expect("an orderly end"), None, "{name}");
    });
}

#[test]
fn a_reader_that_is_too_slow() {
    let pki = Pki::new();
    let text = format!(
        "debug: true, max_pending: 2000000, write_deadline: '500ms', allow_non_tls: true\ntls {{ {} }}",
        pki.server("server").keys()
    );
    both(&text, |daemon, name| {
        let mut slow = Peer::upgrade(daemon.address(), &config(&pki, None)).expect("a handshake");
        slow.connect("").expect("let in");
        slow.send("SUB a 1\r\n").expect("a write");
        slow.fence();
        let mut publisher = Plain::greeted(daemon.address(), "{\"verbose\":false}").expect("a greeting");
        publisher.fence().expect("let in");
        let body = "x".repeat(100_000);
        let message = format!("PUB a {}\r\n{body}\r\n", body.len());
        let was_slow = |line: &str| line.contains("Slow Consumer Detected");
        // The kernel keeps some for a reader; much more than that it can't.
        let noticed = (0..1000).any(|_| {
            publisher.send(&message);
            daemon.stderr().text().lines().any(was_slow)
        });
        assert!(noticed || daemon.stderr().find(0, PATIENCE, was_slow).is_ok(), "{name}");
        publisher.fence().expect("others go on");
        daemon.stderr().find(0, PATIENCE, |line| line.contains("closed: Slow Consumer")).expect("an end");
    });
}

/// What waits for a reader comes when it reads again, whole and in order, although records were written in part.
#[test]
fn a_reader_that_pauses() {
    let pki = Pki::new();
    let text =
        format!("write_deadline: '60s', allow_non_tls: true\ntls {{ {} }}", pki.server("server").keys());
    let daemon = ours(&text);
    let mut reader = Peer::upgrade(daemon.address(), &config(&pki, None)).expect("a handshake");
    reader.connect("").expect("let in");
    reader.send("SUB a 1\r\n").expect("a write");
    reader.fence();
    let mut publisher = Plain::greeted(daemon.address(), "{\"verbose\":false}").expect("a greeting");
    publisher.fence().expect("let in");
    let mut wanted = Vec::new();
    for number in 0..600 {
        // Small ones, that share a record, and large ones, that take several.
        let body = format!("{number}:").repeat(1 + (number % 7) * (number % 7) * 700);
        publisher.send(&format!("PUB a {}\r\n{body}\r\n", body.len()));
        wanted.extend_from_slice(format!("MSG a 1 {}\r\n{body}\r\n", body.len()).as_bytes());
    }
    publisher.fence().expect("all of it is queued");
    assert!(wanted.len() > 16 << 20, "more than a socket holds");
    let mut got = vec![0; wanted.len()];
    let mut filled = 0;
    while filled < got.len() {
        let end = got.len().min(filled + 10_000);
        filled += reader.stream().read(&mut got[filled..end]).expect("more");
    }
    assert!(got == wanted, "what was published and what came differ");
    reader.fence();
}

/// Many write to one encrypted connection at the same time, from connections on whatever threads.
#[test]
fn many_publishers_and_one_reader() {
    let pki = Pki::new();
    let daemon = ours(&format!("allow_non_tls: true\ntls {{ {} }}", pki.server("server").keys()));
    let mut reader = Peer::upgrade(daemon.address(), &config(&pki, None)).expect("a handshake");
    reader.connect("").expect("let in");
    reader.send("SUB a.* 1\r\n").expect("a write");
    reader.fence();
    const PUBLISHERS: usize = 8;
    const EACH: usize = 500;
    let address = daemon.address();
    let threads: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            std::thread::spawn(move || {
                let mut peer = Plain::greeted(address, "{\"verbose\":false}").expect("a greeting");
                for number in 0..EACH {
                    peer.send(&format!("PUB a.{publisher} 4\r\n{number:04}\r\n"));
                    // The reader talks, too: both directions share the keys' lock.
                }
                peer.fence().expect("let in");
            })
        })
        .collect();
    let mut next = [0; PUBLISHERS];
    for number in 0..PUBLISHERS * EACH {
        if number % 50 == 0 {
            reader.send("PONG\r\n").expect("a write");
        }
        let head = reader.line().expect("a line").expect("no end");
        let publisher: usize =
            head["MSG a.".len()..].split(' ').next().and_then(|it| it.parse().ok()).expect("who");
        let body = reader.line().expect("a line").expect("no end");
        assert_eq!(body, format!("{:04}", next[publisher]), "of {publisher}");
        next[publisher] += 1;
    }
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    reader.set_patience(Duration::from_secs(5));
    reader.fence();
}

/// After the end of all, `io` is what is left.
#[test]
fn shutting_down_says_goodbye() {
    let pki = Pki::new();
    both(&format!("tls {{ {} }}", pki.server("server").keys()), |mut daemon, name| {
        let mut peer = Peer::upgrade(daemon.address(), &config(&pki, None)).expect("a handshake");
        peer.connect("").expect("let in");
        daemon.kill_with(midge_tests::script::Signal::Term).expect("a signal");
        let end: io::Result<Option<String>> = peer.line();
        assert_eq!(end.expect("an orderly end"), None, "{name}");
        drop(peer);
        assert!(daemon.wait(PATIENCE).is_some(), "{name}");
    });
}
