//! From a connection in the clear to one with keys.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use midge_broker::{
    Attention, CertificateNames, CloseReason, ConnId, DistinguishedName, Level, PeerCertificate, Port,
    TlsFacts,
};
use midge_config::HandshakeFirst;
use midge_tls::{Certificate, Progress, Record, Unreadable};
use midge_wire::{Handle, Reader};
use smol_str::SmolStr;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use super::{Acceptor, Keeper};
use crate::hub::Hub;

/// The first byte of a handshake, and of an alert.
const HANDSHAKE: u8 = 0x16;
const ALERT: u8 = 0x15;
/// A record's body, encrypted: 16 KiB and what encryption may add.
const RECORD_BYTES_MAX: usize = 16 * 1024 + 2048;

/// What a connection that has just arrived may become.
pub(in crate::net) struct Offer {
    pub(in crate::net) keeper: Arc<Keeper>,
    pub(in crate::net) acceptor: Arc<Acceptor>,
}

/// Brings a connection that has just arrived, with its INFO sent unless the handshake comes first, to where its
/// session can begin. False if it is over: the broker knows why.
///
/// Each step has a future of its own on the heap, because while many wait here, that is what they cost.
pub(in crate::net) async fn establish(
    hub: &Arc<Hub>,
    offer: Offer,
    handle: &Handle,
    reader: &mut Reader,
    id: ConnId,
) -> bool {
    let acceptor = &*offer.acceptor;
    let first = match acceptor.first {
        HandshakeFirst::Yes => true,
        HandshakeFirst::No if !acceptor.mixed => false,
        _ => match unless_closed(handle, Box::pin(choose(hub, acceptor, reader, id))).await {
            Some(Choice::Handshake { first }) => first,
            Some(Choice::Clear) => {
                hub.turn(|broker, now| broker.secured(id, None, now));
                return true;
            }
            None => return false,
        },
    };
    let now = hub.clock.now().mono;
    if let Err(throttled) = offer.keeper.admit(now) {
        if throttled.is_first {
            tokio::spawn(report_refused(Arc::clone(hub), Arc::clone(&offer.keeper)));
        }
        // No word of why: whoever waits for a handshake takes it for a broken one.
        hub.turn(|broker, now| broker.close(id, CloseReason::MaxConnections, now));
        return false;
    }
    let Some(layer) = handle.tls() else { return false };
    // INFO, if it is on its way, goes in the clear.
    handle.write_due();
    layer.hold();
    hub.turn(|broker, _| broker.debug(id, "Starting TLS client connection handshake"));
    let deadline = hub.clock.at(now + acceptor.timeout);
    let shaken = Box::pin(timeout_at(deadline, shake(acceptor, handle, reader)));
    let Some(shaken) = unless_closed(handle, shaken).await else {
        layer.give_up();
        return false;
    };
    let agreed = shaken.unwrap_or(Err(Failure::Timeout)).and_then(|record| {
        let facts = facts(&record, acceptor, first)?;
        layer.secure(record);
        reader.secure(handle.clone());
        handle.write_unblocked();
        Ok(facts)
    });
    if agreed.is_err() {
        layer.give_up();
    }
    hub.turn(|broker, now| match agreed {
        Ok(facts) => {
            broker.debug(id, "TLS handshake complete");
            let (version, suite) = (facts.version, facts.cipher_suite);
            broker.debug(id, format_args!("TLS version {version}, cipher suite {suite}"));
            broker.secured(id, Some(Arc::new(facts)), now);
            true
        }
        Err(failure) => {
            if matches!(failure, Failure::Timeout) {
                broker.debug(id, "TLS handshake timeout");
            }
            let level = if failure.is_probe() { Level::Debug } else { Level::Error };
            broker.remark(id, level, format_args!("TLS handshake error: {failure}"));
            broker.close(id, CloseReason::TlsHandshake, now);
            false
        }
    })
    .0
}

/// Shakes hands with a peer whom the broker doesn't know yet. The error is for the log, at this level.
#[cfg(feature = "websocket")]
pub(in crate::net) async fn secure(
    acceptor: &Acceptor,
    handle: &Handle,
    reader: &mut Reader,
) -> Result<TlsFacts, (Level, String)> {
    let shaken = shake(acceptor, handle, reader).await;
    let agreed = shaken.and_then(|record| facts(&record, acceptor, false).map(|facts| (record, facts)));
    match (agreed, handle.tls()) {
        (Ok((record, facts)), Some(layer)) => {
            layer.secure(record);
            reader.secure(handle.clone());
            Ok(facts)
        }
        (Ok(_), None) => Err((Level::Error, "there is no way to encrypt".to_owned())),
        (Err(failure), _) => {
            let level = if failure.is_probe() { Level::Debug } else { Level::Error };
            Err((level, failure.to_string()))
        }
    }
}

/// What a peer wants that may choose.
enum Choice {
    Clear,
    Handshake {
        /// It began before it was greeted.
        first: bool,
    },
}

async fn choose(hub: &Hub, acceptor: &Acceptor, reader: &mut Reader, id: ConnId) -> Choice {
    if let HandshakeFirst::Within(patience) = acceptor.first {
        // Who speaks before the greeting can't mean anything else.
        if peek(reader, patience).await.is_some() {
            return Choice::Handshake { first: true };
        }
        hub.turn(|broker, _| broker.greet(id));
    }
    if acceptor.mixed && peek(reader, acceptor.timeout).await != Some(HANDSHAKE) {
        return Choice::Clear;
    }
    Choice::Handshake { first: false }
}

/// Waits for `work`, unless the broker closes the connection.
async fn unless_closed<T>(handle: &Handle, mut work: Pin<Box<impl Future<Output = T>>>) -> Option<T> {
    poll_fn(|context| match handle.outbox().poll_attention(context) {
        Attention::Close => Poll::Ready(None),
        Attention::None | Attention::Blocked => work.as_mut().poll(context).map(Some),
    })
    .await
}

/// One line a second at most, however many are refused.
async fn report_refused(hub: Arc<Hub>, keeper: Arc<Keeper>) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = keeper.take_refused();
    hub.log.warn(format_args!("Rejected {refused} connections due to TLS rate limiting"));
}

/// The first byte of what the peer sends, if it sends something in this time.
async fn peek(reader: &mut Reader, patience: Duration) -> Option<u8> {
    let mut first = [0];
    let peeked = tokio::time::timeout(patience, reader.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(1))).then_some(first[0])
}

async fn shake(acceptor: &Acceptor, handle: &Handle, reader: &mut Reader) -> Result<Box<Record>, Failure> {
    let mut input = first_record(reader).await?;
    let mut record = Box::new(Record::new(&acceptor.tls.clients).map_err(midge_tls::Failure::from)?);
    loop {
        let (back, progress) = receive(record, input).await?;
        record = back;
        flush(&mut record, handle).await?;
        if progress? == Progress::Ready {
            return Ok(record);
        }
        input = record.unused().to_vec();
        read(reader, &mut input).await?;
    }
}

/// Waits for the first record, whole. Until it is there, nothing is held for a peer but what it has sent of it.
async fn first_record(reader: &mut Reader) -> Result<Vec<u8>, Failure> {
    let mut input = Vec::new();
    loop {
        read(reader, &mut input).await?;
        match *input.as_slice() {
            [HANDSHAKE | ALERT, _, _, high, low, ref body @ ..] => {
                let len = usize::from(u16::from_be_bytes([high, low]));
                // One that is too long is for rustls to refuse.
                if len > RECORD_BYTES_MAX || body.len() >= len {
                    return Ok(input);
                }
            }
            [HANDSHAKE | ALERT, ..] => {}
            _ => return Err(Failure::NotTls),
        }
    }
}

/// Appends what arrives, at least a byte.
async fn read(reader: &mut Reader, input: &mut Vec<u8>) -> Result<(), Failure> {
    let read = poll_fn(|context| {
        midge_wire::with_buffer(|buffer| {
            let mut arrived = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *reader).poll_read(context, &mut arrived))?;
            input.extend_from_slice(arrived.filled());
            Poll::Ready(Ok::<_, io::Error>(arrived.filled().len()))
        })
    });
    if read.await? > 0 { Ok(()) } else { Err(Failure::Gone) }
}

/// Lets the record work beside the event loop: a signature takes a small board milliseconds, and others are not to wait
/// for it. Work that nobody waits for any more isn't begun.
async fn receive(
    mut record: Box<Record>,
    mut input: Vec<u8>,
) -> io::Result<(Box<Record>, Result<Progress, midge_tls::Failure>)> {
    struct AbortOnDrop<T>(JoinHandle<T>);
    impl<T> Drop for AbortOnDrop<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let mut work = AbortOnDrop(tokio::task::spawn_blocking(move || {
        let progress = record.receive(&mut input);
        (record, progress)
    }));
    (&mut work.0).await.map_err(io::Error::other)
}

async fn flush(record: &mut Record, handle: &Handle) -> io::Result<()> {
    loop {
        match record.flush(|bytes| handle.try_write(bytes)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|context| handle.poll_writable(context)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What was agreed on, and with whom.
fn facts(record: &Record, acceptor: &Acceptor, first: bool) -> Result<TlsFacts, Failure> {
    let mut peer_certificates = Vec::new();
    let mut names = None;
    for (n, der) in record.peer_certificates().iter().enumerate() {
        let certificate = Certificate::read(der)?;
        let shown = certificate.shown();
        if n == 0 && !acceptor.pinned.is_empty() && !acceptor.pinned.contains(&shown.key_sha256) {
            return Err(Failure::NotPinned);
        }
        if n == 0 && acceptor.maps {
            names = Some(self::names(&certificate));
        }
        peer_certificates.push(PeerCertificate {
            subject: shown.subject.into(),
            key_sha256: shown.key_sha256,
            sha256: shown.sha256,
        });
    }
    if peer_certificates.is_empty() && !acceptor.pinned.is_empty() {
        return Err(Failure::NotPinned);
    }
    Ok(TlsFacts {
        version: record.version(),
        cipher_suite: record.cipher_suite(),
        first,
        peer_certificates,
        names,
    })
}

/// By which names its owner may be known as a user.
fn names(certificate: &Certificate) -> CertificateNames {
    let set = |set: Vec<(&'static str, String)>| {
        set.into_iter().map(|(kind, value)| (SmolStr::new_static(kind), value.into())).collect()
    };
    let subject = certificate.subject();
    let lines = [subject.with_domain(), Some(subject.standard())];
    CertificateNames {
        alternative: certificate.alternative_names().into_iter().map(SmolStr::from).collect(),
        subject: subject
            .distinguished_name()
            .map(|sets| DistinguishedName(sets.into_iter().map(set).collect())),
        lines: lines.into_iter().flatten().filter(|line| !line.is_empty()).map(SmolStr::from).collect(),
    }
}

/// Why a handshake failed.
enum Failure {
    Timeout,
    Gone,
    NotTls,
    NotPinned,
    Io(io::Error),
    Unreadable(Unreadable),
    Tls(midge_tls::Failure),
}

impl Failure {
    /// Load balancers and the curious open connections and say nothing that makes sense here: nobody's fault.
    fn is_probe(&self) -> bool {
        matches!(self, Self::Timeout | Self::NotTls)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(error)
    }
}

impl From<midge_tls::Failure> for Failure {
    fn from(failure: midge_tls::Failure) -> Self {
        Self::Tls(failure)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("i/o timeout"),
            Self::Gone => f.write_str("EOF"),
            Self::NotTls => f.write_str("tls: first record does not look like a TLS handshake"),
            Self::NotPinned => f.write_str("certificate not pinned"),
            Self::Io(error) => error.fmt(f),
            Self::Unreadable(error) => error.fmt(f),
            Self::Tls(failure) => f.write_str(&midge_tls::describe(failure)),
        }
    }
}
