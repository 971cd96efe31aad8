//! Connections that begin and don't go on.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use midge_tests::daemon::PATIENCE;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Socket, Type};

use crate::pki::Pki;
use crate::{Siege, is_full, report};

/// A connection from 127.0.0.`host`, so that ports of one address need not last for all.
fn connect(to: SocketAddr, host: u8) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into())?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Opens connections that say `begin` and nothing else, and waits until the daemon has thrown all of them out.
fn half_open(siege: &Siege, what: &str, options: &str, count: usize, host: u8, begin: &[u8]) {
    siege.endures(what, options, || {
        let mut open = Vec::with_capacity(count);
        for _ in 0..count {
            let mut stream = connect(siege.daemon.address(), host).expect("the listener accepts");
            // One that was thrown out at once can't be written to.
            let _ = stream.write_all(begin);
            open.push(stream);
        }
        // Whoever is let in has two seconds.
        for mut stream in open {
            let mut rest = Vec::new();
            match stream.read_to_end(&mut rest) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
            }
        }
    });
}

const USER: &str = r#""user":"u","pass":"p""#;

#[test]
fn half_open_connections() {
    let siege = Siege::lay("authorization { user: u, password: p, timeout: 2 }, max_connections: 20000");
    half_open(&siege, "10,000 connections that say nothing", USER, 10_000, 1, b"");
    half_open(&siege, "10,000 connections in the middle of CONNECT", USER, 10_000, 2, b"CONNECT {\"user\":");
}

#[test]
fn half_open_handshakes() {
    let pki = Pki::new();
    let keys = pki.server("server").keys();
    let siege =
        Siege::lay(&format!("allow_non_tls: true, max_connections: 20000, tls {{ {keys}, timeout: 2 }}"));
    half_open(&siege, "10,000 handshakes of three bytes", "", 10_000, 3, &[22, 3, 1]);
    // Each of these costs a signature, so there are fewer unless there is time.
    let hello = client_hello(&pki);
    let count = if is_full() { 10_000 } else { 2_000 };
    half_open(&siege, &format!("{count} handshakes left after the first flight"), "", count, 4, &hello);
    let cut = hello.len() - 1;
    half_open(&siege, "10,000 handshakes that lack a byte", "", 10_000, 5, &hello[..cut]);
    if !is_full() {
        report("left after the first flight: 2,000 of 10,000, MIDGE_ADVERSARY=full takes all");
    }
}

fn client_hello(pki: &Pki) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    roots.add(pki.root()).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("memory");
    hello
}
