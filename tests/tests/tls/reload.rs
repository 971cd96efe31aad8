//! New certificates, pins and modes for a server that runs.

use midge_tests::daemon::{Daemon, PATIENCE};
use midge_tests::target::World as _;

use crate::both;
use crate::peer::{Peer, config, greeting, socket};
use crate::pki::Pki;

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
