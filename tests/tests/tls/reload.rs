//! New certificates, pins and modes for a server that runs.

use midge_tests::daemon::{Daemon, PATIENCE};
use midge_tests::target::World as _;

use crate::both;
use crate::peer::{Peer, config, greeting, socket};
use crate::pki::{Names, Pki};

fn reload(daemon: &mut Daemon, text: &str) -> String {
    let seen = daemon.stderr().count();
    daemon.reload(text).expect("an answer in the log");
    daemon.stderr().text().lines().skip(seen).collect::<Vec<_>>().join("\n")
}

fn connected(daemon: &Daemon, pki: &Pki) -> Peer {
    let mut peer = Peer::upgrade(daemon.address(), &config(pki, None)).expect("a handshake");
    peer.connect("").expect("let in");
    peer
}

#[test]
fn a_renewed_certificate_is_for_newcomers() {
    let pki = Pki::new();
    both("", |_, name| {
        let (first, renewed) = (pki.server("first"), pki.server("renewed"));
        let text = format!("tls {{ {} }}", first.keys());
        let program = crate::programs().into_iter().find(|program| program.name() == name).expect("this one");
        let mut daemon = Daemon::start(program, Some(&text), &[]).expect("a server");
        let mut old = connected(&daemon, &pki);
        // The files have the same names; only what is in them is new.
        renewed.replace(&first);
        let log = reload(&mut daemon, &text);
        assert!(log.contains("Reloaded: tls = enabled"), "{name}: {log}");
        let mut new = connected(&daemon, &pki);
        assert_ne!(old.certificate(), new.certificate(), "{name}");
        old.send("SUB a 1\r\n").expect("a write");
        old.fence();
        new.send("PUB a 2\r\nhi\r\n").expect("a write");
        let heard = [old.line(), old.line()].map(|line| line.expect("a line").expect("no end"));
        assert_eq!(heard, ["MSG a 1 2", "hi"], "{name}");
    });
}

#[test]
fn files_that_make_no_sense_change_nothing() {
    let pki = Pki::new();
    both("", |_, name| {
        let (good, other) = (pki.server("good"), pki.server("other"));
        let text = format!("tls {{ {} }}", good.keys());
        let program = crate::programs().into_iter().find(|program| program.name() == name).expect("this one");
        let mut daemon = Daemon::start(program, Some(&text), &[]).expect("a server");
        let shown = connected(&daemon, &pki).certificate();
        std::fs::copy(&other.key, &good.key).expect("a copy");
        let log = reload(&mut daemon, &text);
        assert!(log.contains("[ERR] Failed to reload server configuration: "), "{name}: {log}");
        assert!(log.contains("error parsing X509 certificate/key pair"), "{name}: {log}");
        assert_eq!(connected(&daemon, &pki).certificate(), shown, "{name}");
    });
}

#[test]
fn tls_comes_and_goes() {
    let pki = Pki::new();
    let tls = format!("tls {{ {} }}", pki.server("server").keys());
    both("max_payload: 1000", |mut daemon, name| {
        let mut plain =
            midge_tests::peer::Peer::greeted(daemon.address(), "{\"verbose\":false}").expect("a greeting");
        let log = reload(&mut daemon, &format!("max_payload: 1000\n{tls}"));
        assert!(log.contains("Reloaded: tls = enabled"), "{name}: {log}");
        let mut encrypted = connected(&daemon, &pki);
        plain.fence().expect("still there");
        let log = reload(&mut daemon, "max_payload: 1000");
        assert!(log.contains("Reloaded: tls = disabled"), "{name}: {log}");
        encrypted.fence();
        let mut stream = socket(daemon.address());
        assert_eq!(greeting(&mut stream)["tls_required"], serde_json::Value::Null, "{name}");
    });
}

#[test]
fn who_is_not_pinned_any_more_must_go() {
    let pki = Pki::new();
    let server = pki.server("server").keys();
    let (stays, goes) = (pki.client("stays"), pki.client("goes"));
    let text = |pins: &[&str]| {
        format!("debug: true, tls {{ {server}, {}, verify: true, pinned_certs: {pins:?} }}", pki.ca_key())
    };
    both(&text(&[&stays.pin, &goes.pin]), |mut daemon, name| {
        let [mut staying, mut going] = [&stays, &goes].map(|pair| {
            let mut peer = Peer::upgrade(daemon.address(), &config(&pki, Some(pair))).expect("a handshake");
            peer.connect("").expect("let in");
            peer
        });
        let seen = daemon.stderr().count();
        reload(&mut daemon, &text(&[&stays.pin]));
        // nats-server says so before or behind its last word about the reload.
        let told = |line: &str| line.contains("Disconnect 1 clients due to pinned certs reload");
        daemon.stderr().find(seen, PATIENCE, told).unwrap_or_else(|why| panic!("{name}: {why}"));
        // The connection is cut: keys that are not believed are told nothing.
        assert!(!matches!(going.line(), Ok(Some(_))), "{name}");
        staying.fence();
        daemon
            .stderr()
            .find(0, PATIENCE, |line| line.contains("closed: TLS Handshake Failure"))
            .expect("a line");
    });
}

/// A certificate with two names: which of them is a user decides who its owner is, and whether they may stay.
#[test]
fn users_by_certificate_are_judged_by_their_certificates() {
    let pki = Pki::new();
    let pair = pki.client_of(
        "two-names",
        &Names { email: &["ann@attic.lan"], subject: &[&[("CN", "sensor-7")]], ..Names::default() },
    );
    both("", |_, name| {
        let keys = format!("{}, {}", pki.server("server").keys(), pki.ca_key());
        let text = |map: &str, users: &[(&str, &str)]| {
            let users: Vec<_> = users
                .iter()
                .map(|(user, subject)| {
                    format!("{{ user: '{user}', permissions: {{ publish: '{subject}' }} }}")
                })
                .collect();
            format!("tls {{ {keys}, {map} }}\nauthorization {{ users: [ {} ] }}", users.join(", "))
        };
        let map = "verify_and_map: true";
        let program = crate::programs().into_iter().find(|program| program.name() == name).expect("this one");
        let start = text(map, &[("CN=sensor-7", "seven"), ("other", "o")]);
        let mut daemon = Daemon::start(program, Some(&start), &[]).expect("a server");
        let mut peer = Peer::upgrade(daemon.address(), &config(&pki, Some(&pair))).expect("a handshake");
        peer.connect("").expect("let in");
        let mut may = |subject: &str| {
            peer.send(&format!("PUB {subject} 0\r\n\r\nPING\r\n")).expect("a write");
            let answer =
                peer.line().expect("a line").unwrap_or_else(|| panic!("{name}: the end, at {subject}"));
            if answer != "PONG" {
                assert!(answer.contains("Permissions Violation"), "{name}: {answer}");
                assert_eq!(peer.line().expect("a line").as_deref(), Some("PONG"), "{name}");
            }
            answer == "PONG"
        };
        assert!(may("seven") && !may("ann"), "{name}");
        // A name that comes first in the certificate is a user now.
        reload(
            &mut daemon,
            &text(map, &[("CN=sensor-7", "seven"), ("ann@attic.lan", "ann"), ("other", "o")]),
        );
        assert!(may("ann") && !may("seven"), "{name}");
        // Who it was is gone, though another of its names is still a user: it may come again as that.
        reload(&mut daemon, &text(map, &[("CN=sensor-7", "eight"), ("other", "o")]));
        let told = peer.line().expect("a line");
        assert!(told.is_none_or(|told| told == "-ERR 'Authorization Violation'"), "{name}");
    });
}
