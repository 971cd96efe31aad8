//! From a connection in the clear to one with keys.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use midge_broker::{
    Attention, CertificateNames, CloseReason, ConnId, DistinguishedName, Level, PeerCertificate, Port,
    TlsFacts,
};
use midge_config::HandshakeFirst;
use midge_tls::{Certificate, Progress, Record, Unreadable};
use smol_str::SmolStr;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::{Acceptor, Keeper};
use crate::hub::Hub;
use crate::net::wire::{Handle, Reader};

/// The first byte of a handshake, and of an alert.
const HANDSHAKE: u8 = 0x16;
const ALERT: u8 = 0x15;
/// What a handshake reads at once; most of them are smaller.
const READ_BYTES: usize = 4096;

/// What a connection that has just arrived may become.
pub(in crate::net) struct Offer {
    pub(in crate::net) keeper: Arc<Keeper>,
    pub(in crate::net) acceptor: Arc<Acceptor>,
}

/// Brings a connection that has just arrived, with its INFO sent unless the handshake comes first, to where its
/// session can begin. False if it is over: the broker knows why.
pub(in crate::net) async fn establish(
    hub: &Arc<Hub>,
    offer: Offer,
    handle: &Handle,
    reader: &mut Reader,
    id: ConnId,
) -> bool {
    let closing = poll_fn(|context| match handle.outbox().poll_attention(context) {
        Attention::Close => Poll::Ready(()),
        Attention::None | Attention::Blocked => Poll::Pending,
    });
    // The future is large and short-lived: it isn't part of what an idle connection holds.
    let agreed = Box::pin(agree(hub, &offer, handle, reader, id));
    tokio::select! {
        biased;
        () = closing => false,
        agreed = agreed => agreed,
    }
}

async fn agree(hub: &Arc<Hub>, offer: &Offer, handle: &Handle, reader: &mut Reader, id: ConnId) -> bool {
    let acceptor = &*offer.acceptor;
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
    let shaken = shake(acceptor, handle, reader, deadline).await;
    match shaken.and_then(|record| Ok((facts(&record, acceptor, first)?, record))) {
        Ok((facts, record)) => {
            layer.secure(record);
            reader.secure(handle.clone());
            hub.turn(|broker, now| {
                broker.debug(id, "TLS handshake complete");
                let (version, suite) = (facts.version, facts.cipher_suite);
                broker.debug(id, format_args!("TLS version {version}, cipher suite {suite}"));
                broker.secured(id, Some(Arc::new(facts)), now);
            });
            handle.write_unblocked();
            true
        }
        Err(failure) => {
            hub.turn(|broker, now| {
                if matches!(failure, Failure::Timeout) {
                    broker.debug(id, "TLS handshake timeout");
                }
                if failure.is_probe() {
                    broker.debug(id, format_args!("TLS handshake error: {failure}"));
                } else {
                    broker.note(id, Level::Error, format_args!("TLS handshake error: {failure}"));
                }
                broker.close(id, CloseReason::TlsHandshake, now);
            });
            false
        }
    }
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

async fn shake(
    acceptor: &Acceptor,
    handle: &Handle,
    reader: &mut Reader,
    deadline: Instant,
) -> Result<Box<Record>, Failure> {
    // Nothing is held for a peer that says nothing, or something else.
    let mut first = [0];
    match timeout_at(deadline, reader.peek(&mut first)).await?? {
        0 => return Err(Failure::Gone),
        _ if !matches!(first[0], HANDSHAKE | ALERT) => return Err(Failure::NotTls),
        _ => {}
    }
    let mut record = Box::new(Record::new(&acceptor.tls.clients).map_err(midge_tls::Failure::from)?);
    let mut input = Vec::new();
    loop {
        input.clear();
        input.extend_from_slice(record.unused());
        input.reserve(READ_BYTES);
        if timeout_at(deadline, reader.read_buf(&mut input)).await?? == 0 {
            return Err(Failure::Gone);
        }
        let progress = record.receive(&mut input);
        timeout_at(deadline, flush(&mut record, handle)).await??;
        if progress? == Progress::Ready {
            return Ok(record);
        }
    }
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
    let subject = certificate.distinguished_name();
    let lines = [certificate.subject_with_domain(), Some(certificate.standard_subject())];
    CertificateNames {
        alternative: certificate.alternative_names().into_iter().map(SmolStr::from).collect(),
        subject: subject.map(|sets| DistinguishedName(sets.into_iter().map(set).collect())),
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

impl From<tokio::time::error::Elapsed> for Failure {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::Timeout
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
