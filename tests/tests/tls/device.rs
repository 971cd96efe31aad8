//! The client for microcontrollers over embedded-tls: its example, and that over TLS, too, nothing is lost when a future is
//! dropped or a read ends without a result.

#![allow(clippy::large_futures, reason = "they hold the buffers")]

use std::cell::Cell;
use std::time::Instant;

use embedded_io_adapters::tokio_1::FromTokio;
use embedded_tls::blocking::{TlsConfig, TlsConnection, TlsContext};
use embedded_tls::{Aes128GcmSha256, TlsError};
use midge_client::tcp::{Clock, Tcp};
use midge_client::{Client, Config, Connection, Event, Login, Records, Subject, blocking};
use midge_tests::daemon::{Daemon, PATIENCE};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::both;
use crate::pki::Pki;

#[path = "../../../client-nostd/examples/tls.rs"]
mod example;

const USERS: &str = "authorization { user: sensor, password: secret }";

fn config(pki: &Pki, names: &[&str], more: &str) -> String {
    format!("tls {{ {}\n{more} }}\n{USERS}", pki.server_for("server", names).keys())
}

async fn dial(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect(daemon.address()).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn the_example_works_with_who_is_vouched_for() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    for (names, ca, works) in [
        (["localhost"], pki.root(), true),
        (["localhost"], stranger.root(), false),
        (["elsewhere"], pki.root(), false),
    ] {
        both(&config(&pki, &names, ""), |daemon, name| {
            let run = async {
                let stream = FromTokio::new(dial(&daemon).await);
                timeout(PATIENCE, example::run(stream, "localhost", &ca, 3)).await.expect("it ends")
            };
            let result = runtime().block_on(run);
            assert_eq!(result.is_ok(), works, "{name}, {names:?}: {result:?}\n{}", daemon.stderr().text());
        });
    }
}

/// A line that gives and takes a few bytes at a time, and waits before each of them.
struct Slow<T>(T);

impl<T: embedded_io_async::ErrorType> embedded_io_async::ErrorType for Slow<T> {
    type Error = T::Error;
}

impl<T: embedded_io_async::Read> embedded_io_async::Read for Slow<T> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, T::Error> {
        tokio::task::yield_now().await;
        let n = buffer.len().min(7);
        self.0.read(&mut buffer[..n]).await
    }
}

impl<T: embedded_io_async::Write> embedded_io_async::Write for Slow<T> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, T::Error> {
        tokio::task::yield_now().await;
        self.0.write(&bytes[..bytes.len().min(7)]).await
    }

    async fn flush(&mut self) -> Result<(), T::Error> {
        self.0.flush().await
    }
}

/// Each future is dropped whenever it waits, and what it began goes on with the next.
#[test]
fn dropped_futures_lose_nothing() {
    let pki = Pki::new();
    let root = pki.root();
    both(&config(&pki, &["localhost"], "handshake_first: true"), |daemon, name| {
        runtime().block_on(async {
            let clock = Clock::start();
            let (mut receive, mut transmit) = ([0; 256], [0; 256]);
            let mut client = Client::<1>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
            client.subscribe("plant.>", None).expect("a filter");
            let (mut records_in, mut records_out) = ([0; 4096], [0; 1024]);
            let (mut tls_in, mut tls_out) = ([0; 4096], [0; 512]);
            let stream = Slow(FromTokio::new(dial(&daemon).await));
            let records = Records::new(stream, &mut records_in, &mut records_out);
            let mut tls =
                embedded_tls::TlsConnection::<_, Aes128GcmSha256>::new(records, &mut tls_in, &mut tls_out);
            let config = TlsConfig::new().with_server_name("localhost");
            let context = TlsContext::new(&config, example::Authority::new(&root));
            timeout(PATIENCE, tls.open(context)).await.expect("in time").expect("a handshake");

            let login = Login::user("sensor", "secret");
            let mut connection = Connection::new(&mut client, tls, &login, clock.now());
            let (mut published, mut seen, mut dropped, end) = (0u8, Vec::new(), 0, Instant::now() + PATIENCE);
            let subject = Subject::new(b"plant.attic.temp").expect("a subject");
            while seen.len() < 30 {
                assert!(Instant::now() < end, "{name}: {} of {published} came", seen.len());
                // One more than has come back: there is room for two records on their way.
                if connection.client().is_ready() && published < 30 && usize::from(published) <= seen.len() {
                    let payload = [published; 20];
                    // Queued at once, and sent by this future or by one that comes later.
                    tokio::select! {
                        biased;
                        result = connection.publish(subject, &payload) => result.expect("it holds"),
                        () = tokio::task::yield_now() => dropped += 1,
                    }
                    published += 1;
                }
                tokio::select! {
                    biased;
                    event = connection.next(clock.now()) => {
                        if let Some(Event::Message { message, .. }) = event.expect("it holds") {
                            assert_eq!(message.payload, [message.payload[0]; 20]);
                            seen.push(message.payload[0]);
                        }
                    }
                    () = tokio::task::yield_now() => dropped += 1,
                }
            }
            assert!(seen.iter().copied().eq(0..30), "{name}: {seen:?}");
            assert!(dropped > 100, "{name}: only {dropped} were dropped");
        });
    });
}

/// Reads that end after a moment, in the middle of a record if it comes to that.
#[test]
fn a_blocking_device_waits_for_records_in_parts() {
    let pki = Pki::new();
    let root = pki.root();
    both(&config(&pki, &["localhost"], "handshake_first: true"), |daemon, name| {
        let clock = Clock::start();
        let (mut receive, mut transmit) = ([0; 256], [0; 256]);
        let mut client = Client::<1>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
        client.subscribe("plant.>", None).expect("a filter");
        let (mut records_in, mut records_out) = ([0; 4096], [0; 1024]);
        let (mut tls_in, mut tls_out) = ([0; 4096], [0; 512]);
        let (over, tcp) = (Cell::new(false), Tcp::connect(daemon.address(), PATIENCE).expect("it listens"));
        let tcp = Hasty { tcp, over: &over, calls: 0 };
        let records = Records::new(tcp, &mut records_in, &mut records_out);
        let mut tls = TlsConnection::<_, Aes128GcmSha256>::new(records, &mut tls_in, &mut tls_out);
        let config = TlsConfig::new().with_server_name("localhost");
        let opened: Result<(), TlsError> = tls.open(TlsContext::new(&config, example::Authority::new(&root)));
        opened.expect("a handshake");
        over.set(true);
        let login = Login::user("sensor", "secret");
        let mut connection = blocking::Connection::new(&mut client, tls, &login, clock.now());
        let (mut seen, mut nothing, end) = (0u8, 0, Instant::now() + PATIENCE);
        let subject = Subject::new(b"plant.attic.temp").expect("a subject");
        while seen < 10 {
            assert!(Instant::now() < end, "{name}: {seen} came");
            match connection.next(clock.now()).expect("it holds") {
                Some(Event::Message { message, .. }) => {
                    assert_eq!(message.payload, [seen; 20]);
                    seen += 1;
                }
                Some(Event::Connected) => {}
                None => {
                    nothing += 1;
                    continue;
                }
                _ => continue,
            }
            connection.publish(subject, &[seen; 20]).expect("it holds");
        }
        assert!(nothing > 20, "{name}: only {nothing} reads ended early");
    });
}

/// TCP that, once the handshake is over, gives three bytes at a time, and none at each second call.
struct Hasty<'a> {
    tcp: Tcp,
    over: &'a Cell<bool>,
    calls: usize,
}

impl embedded_io::ErrorType for Hasty<'_> {
    type Error = std::io::Error;
}

impl embedded_io::Read for Hasty<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, std::io::Error> {
        if !self.over.get() {
            // embedded-tls can't take a handshake up again.
            return embedded_io::Read::read(&mut self.tcp, buffer);
        }
        self.calls += 1;
        if self.calls.is_multiple_of(2) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        let n = buffer.len().min(3);
        embedded_io::Read::read(&mut self.tcp, &mut buffer[..n])
    }
}

impl embedded_io::Write for Hasty<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, std::io::Error> {
        embedded_io::Write::write(&mut self.tcp, bytes)
    }

    fn flush(&mut self) -> Result<(), std::io::Error> {
        embedded_io::Write::flush(&mut self.tcp)
    }
}
