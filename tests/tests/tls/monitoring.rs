//! What monitoring says of encrypted connections, and monitoring that is encrypted itself.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use midge_tests::daemon::{Daemon, PATIENCE};
use midge_tests::target::World as _;
use serde_json::Value;

use crate::both;
use crate::peer::{Peer, config, socket};
use crate::pki::{Names, Pki, Subject};

fn monitor(daemon: &Daemon, scheme: &str) -> SocketAddr {
    let start = format!("Starting {scheme} monitor on");
    let line = daemon.stderr().find(0, PATIENCE, |line| line.contains(&start)).expect("a monitor");
    let (_, address) = line.rsplit_once(' ').expect("an address");
    address.parse().expect("an address")
}

fn body(answer: &[u8]) -> Value {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains(" 200 OK"), "{head}");
    serde_json::from_str(body).expect("JSON")
}

fn get(address: SocketAddr, path: &str) -> Value {
    let mut stream = TcpStream::connect(address).expect("a monitor");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("a write");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    body(&answer)
}

fn get_encrypted(address: SocketAddr, pki: &Pki, path: &str) -> Value {
    let mut peer = Peer::over(socket(address), &config(pki, None), "localhost").expect("a handshake");
    peer.send(&format!("GET {path} HTTP/1.0\r\n\r\n")).expect("a write");
    let mut answer = Vec::new();
    peer.stream().read_to_end(&mut answer).expect("an orderly end");
    body(&answer)
}

#[test]
fn connections_show_how_they_are_encrypted() {
    let pki = Pki::new();
    let sensor = pki.client("sensor");
    let text = format!(
        "http: '127.0.0.1:-1', tls {{ {}, {}, verify: true, handshake_first: auto, timeout: 3 }}",
        pki.server("server").keys(),
        pki.ca_key()
    );
    both(&text, |daemon, name| {
        let http = monitor(&daemon, "http");
        let client = config(&pki, Some(&sensor));
        let mut first = Peer::over(socket(daemon.address()), &client, "localhost").expect("a handshake");
        first.info();
        first.connect("").expect("let in");
        let mut second = Peer::upgrade(daemon.address(), &client).expect("a handshake");
        second.connect("").expect("let in");
        let connz = get(http, "/connz?auth=1");
        let rows = connz["connections"].as_array().expect("a list");
        assert_eq!(rows.len(), 2, "{name}: {connz}");
        for (row, first) in rows.iter().zip([Value::Bool(true), Value::Null]) {
            assert_eq!((&row["tls_version"], &row["tls_first"]), (&Value::from("1.3"), &first), "{name}");
            assert!(row["tls_cipher_suite"].as_str().is_some_and(|it| it.starts_with("TLS_")), "{name}");
            let shown = &row["tls_peer_certs"][0];
            assert_eq!(
                (&shown["subject"], &shown["spki_sha256"]),
                (&"CN=sensor".into(), &sensor.pin.clone().into())
            );
            assert_eq!(shown["cert_sha256"].as_str().map(str::len), Some(64), "{name}");
        }
        assert_eq!(get(http, "/connz")["connections"][0]["tls_peer_certs"], Value::Null, "{name}");
        drop(first);
        let closed = || get(http, "/connz?state=closed")["connections"][0].clone();
        let row = midge_tests::process::eventually(|| Some(closed()).filter(|row| !row.is_null()));
        assert_eq!(row.expect("a closed connection")["tls_version"], "1.3", "{name}");
        let varz = get(http, "/varz");
        assert_eq!(
            [&varz["tls_required"], &varz["tls_verify"], &varz["tls_timeout"]],
            [&Value::from(true), &Value::from(true), &Value::from(3)],
            "{name}"
        );
        assert!(
            varz["tls_cert_not_after"].as_str().is_some_and(|it| it.starts_with("4096-01-01T")),
            "{varz}"
        );
    });
}

#[test]
fn monitoring_is_encrypted_and_asks_nobody_for_a_certificate() {
    let pki = Pki::new();
    both("", |_, name| {
        let (server, renewed) = (pki.server("server"), pki.server("renewed"));
        let text =
            format!("https: '127.0.0.1:-1', tls {{ {}, {}, verify: true }}", server.keys(), pki.ca_key());
        let program = crate::programs().into_iter().find(|program| program.name() == name).expect("this one");
        let mut daemon = Daemon::start(program, Some(&text), &[]).expect("a server");
        let https = monitor(&daemon, "https");
        let varz = get_encrypted(https, &pki, "/varz");
        assert_eq!((varz["https_port"] == 0, &varz["http_port"]), (false, &Value::from(0)), "{name}");
        // In the clear there is nothing to hear.
        let mut plain = TcpStream::connect(https).expect("a monitor");
        plain.write_all(b"GET /varz HTTP/1.0\r\n\r\n").expect("a write");
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).contains("server_id"), "{name}");
        let shown = |pki: &Pki| {
            Peer::over(socket(https), &config(pki, None), "localhost").expect("a handshake").certificate()
        };
        let before = shown(&pki);
        renewed.replace(&server);
        daemon.reload(&text).expect("an answer in the log");
        assert_ne!(shown(&pki), before, "{name}");
    });
}

#[test]
fn the_ports_file_tells_that_ports_are_encrypted() {
    let pki = Pki::new();
    let text =
        format!("ports_file_dir: '.', https: '127.0.0.1:-1', tls {{ {} }}", pki.server("server").keys());
    both(&text, |daemon, name| {
        let written = || {
            let files = std::fs::read_dir(daemon.directory()).ok()?.filter_map(Result::ok);
            let file = files
                .map(|file| file.path())
                .find(|path| path.extension().is_some_and(|it| it == "ports"))?;
            std::fs::read_to_string(file).ok().filter(|text| text.contains('}'))
        };
        let ports =
            midge_tests::process::eventually(written).unwrap_or_else(|| panic!("{name} writes no file"));
        let ports: Value = serde_json::from_str(&ports).expect("JSON");
        let is = |list: &Value, scheme: &str| list[0].as_str().is_some_and(|url| url.starts_with(scheme));
        assert!(is(&ports["nats"], "tls://") && is(&ports["monitoring"], "https://"), "{name}: {ports}");
    });
}

#[test]
fn subjects_are_written_alike() {
    let pki = Pki::new();
    let subjects: [Subject<'_>; 6] = [
        &[&[("C", "CH")], &[("O", "Attic")], &[("OU", "a")], &[("OU", "b")], &[("CN", "sensor-7")]],
        &[&[("CN", "first")], &[("L", "Zug")], &[("CN", "last")]],
        &[&[("DC", "lan")], &[("DC", "attic")], &[("CN", "gate")]],
        &[&[("O", "Both")], &[("CN", "pair"), ("OU", "Twins")], &[("emailAddress", "ann@attic.lan")]],
        &[&[("CN", " #odd, \"names\" \\<;>+ ")]],
        &[&[("CN", "Grüße")]],
    ];
    let shown: Vec<_> = subjects
        .iter()
        .enumerate()
        .map(|(n, subject)| pki.client_of(&format!("c{n}"), &Names { subject, ..Names::default() }))
        .collect();
    let text = format!(
        "http: '127.0.0.1:-1', tls {{ {}, {}, verify: true }}",
        pki.server("server").keys(),
        pki.ca_key()
    );
    let mut seen = Vec::new();
    both(&text, |daemon, _| {
        let http = monitor(&daemon, "http");
        let lines: Vec<_> = shown
            .iter()
            .map(|pair| {
                let mut peer =
                    Peer::upgrade(daemon.address(), &config(&pki, Some(pair))).expect("a handshake");
                peer.connect("").expect("let in");
                let connz = get(http, "/connz?auth=1&sort=start");
                let rows = connz["connections"].as_array().expect("a list");
                let of_it = |row: &&Value| row["tls_peer_certs"][0]["spki_sha256"] == pair.pin.as_str();
                rows.iter().find(of_it).expect("this one")["tls_peer_certs"][0]["subject"].clone()
            })
            .collect();
        seen.push(lines);
    });
    assert_eq!(seen[0][0], "CN=sensor-7,OU=a+OU=b,O=Attic,C=CH");
    assert!(seen.iter().all(|lines| *lines == seen[0]), "{seen:#?}");
}
