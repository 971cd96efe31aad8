//! From a connection in the clear to one with keys.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use midge_broker::{Attention, CloseReason, ConnId, Level, Port, TlsFacts};
use midge_config::HandshakeFirst;
use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, ProtocolVersion};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::Acceptor;
use super::record::{Progress, Record};
use crate::hub::Hub;
use crate::net::wire::{Handle, Reader};

/// The first byte of a handshake.
const HANDSHAKE: u8 = 0x16;
/// What a handshake reads at once; most of them are smaller.
const READ_BYTES: usize = 4096;

/// Brings a connection that has just arrived, with its INFO sent unless the handshake comes `first`, to where its
/// session can begin. False if it is over: the broker knows why.
pub(in crate::net) async fn establish(
    hub: &Hub,
    acceptor: Arc<Acceptor>,
    handle: &Handle,
    reader: &mut Reader,
    id: ConnId,
) -> bool {
    let closing = poll_fn(|context| match handle.outbox().poll_attention(context) {
        Attention::Close => Poll::Ready(()),
        Attention::None | Attention::Blocked => Poll::Pending,
    });
    // The future is large and short-lived: it isn't part of what an idle connection holds.
    let agreed = Box::pin(agree(hub, acceptor, handle, reader, id));
    tokio::select! {
        agreed = agreed => agreed,
        () = closing => false,
    }
}

async fn agree(hub: &Hub, acceptor: Arc<Acceptor>, handle: &Handle, reader: &mut Reader, id: ConnId) -> bool {
    let mut first = acceptor.first != HandshakeFirst::No;
    if let HandshakeFirst::Within(patience) = acceptor.first
        && peek(reader, patience).await.is_none()
    {
        first = false;
        hub.turn(|broker, _| broker.greet(id));
    }
    if !first && acceptor.mixed && peek(reader, acceptor.timeout).await != Some(HANDSHAKE) {
        hub.turn(|broker, now| broker.secured(id, None, now));
        return true;
    }
    let Some(layer) = handle.tls() else { return false };
    // INFO, if it is on its way, goes in the clear.
    handle.write_due();
    layer.hold();
    hub.turn(|broker, _| broker.debug(id, "Starting TLS client connection handshake"));
    let record =
        match shake(&acceptor, handle, reader, hub.clock.at(hub.clock.now().mono + acceptor.timeout)).await {
            Ok(record) => record,
            Err(error) => {
                hub.turn(|broker, now| {
                    broker.note(id, Level::Error, format_args!("TLS handshake error: {error}"));
                    broker.close(id, CloseReason::TlsHandshake, now);
                });
                return false;
            }
        };
    let facts = facts(&record, first);
    let (version, suite) = (facts.version, facts.cipher_suite);
    layer.secure(record);
    reader.secure(handle.clone());
    hub.turn(|broker, now| {
        broker.debug(id, "TLS handshake complete");
        broker.debug(id, format_args!("TLS version {version}, cipher suite {suite}"));
        broker.secured(id, Some(Arc::new(facts)), now);
    });
    handle.write_unblocked();
    true
}

/// The first byte of what the peer sends, if it sends something in this time.
async fn peek(reader: &mut Reader, patience: Duration) -> Option<u8> {
    let mut first = [0];
    let peeked = tokio::time::timeout(patience, reader.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(1))).then_some(first[0])
}

async fn shake(
    acceptor: &Acceptor,
    handle: &Handle,
    reader: &mut Reader,
    deadline: Instant,
) -> Result<Box<Record>, Failure> {
    // Nothing is held for a peer that says nothing.
    let mut first = [0];
    if timeout_at(deadline, reader.peek(&mut first)).await.map_err(|_| Failure::Timeout)?? == 0 {
        return Err(Failure::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    let connection = UnbufferedServerConnection::new(Arc::clone(&acceptor.config))?;
    let mut record = Box::new(Record::new(connection));
    let mut input = Vec::new();
    loop {
        input.clear();
        input.extend_from_slice(record.unused());
        input.reserve(READ_BYTES);
        let read = timeout_at(deadline, reader.read_buf(&mut input));
        if read.await.map_err(|_| Failure::Timeout)?? == 0 {
            return Err(Failure::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let progress = record.receive(&mut input);
        let answer = std::mem::take(&mut record.output);
        let written = timeout_at(deadline, write_all(handle, &answer)).await;
        let progress = progress?;
        written.map_err(|_| Failure::Timeout)??;
        if progress == Progress::Ready {
            return Ok(record);
        }
    }
}

async fn write_all(handle: &Handle, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match handle.try_write(bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|context| handle.poll_writable(context)).await;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn facts(record: &Record, first: bool) -> TlsFacts {
    let common: &CommonState = record.common();
    let version = match common.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "1.2",
    };
    let suite = common.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    TlsFacts { version, cipher_suite: suite.map_or("unknown", iana_name), first }
}

/// rustls writes `TLS13_` where the registry has `TLS_`.
fn iana_name(suite: &'static str) -> &'static str {
    match suite {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        other => other,
    }
}

/// Why a handshake failed.
enum Failure {
    Timeout,
    Io(io::Error),
    Tls(rustls::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("timeout"),
            Self::Io(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
        }
    }
}
