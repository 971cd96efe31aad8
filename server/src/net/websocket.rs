//! WebSocket: from a socket to a connection whose bytes go in frames.
//!
//! ```text
//!   accepted ──> TLS, unless no_tls ──> one HTTP request ──> 101 ──> frames ──> a connection like others
//!                                               └──────────> 4xx, closed
//! ```
//!
//! Until the request is granted nobody in the broker knows of the peer.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use midge_broker::{CloseReason, Level, Peer, Session, TlsFacts};
use midge_config::WebSocket;
use midge_websocket::{Cookies, Decoder, Policy, Refusal, Request, Upgrade};
use midge_wire::{Accepted, Handle, Layer, Reader};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};

use super::conn::Task;
use super::tls::{self, Keeper};
use crate::hub::Hub;
use crate::workers::Seat;

/// Requests that may be on their way at one time; more are closed. With TLS one may hold 150 KB.
const UPGRADES_MAX: usize = 256;
/// Time for all of it, where none is configured.
const PATIENCE: Duration = Duration::from_secs(2);
/// Who was refused may go on talking for this long, so that it gets to read why.
const LINGER: Duration = Duration::from_millis(250);

/// What stands between a listener and its connections.
pub(crate) struct Gate {
    policy: Policy,
    keeper: Arc<Keeper>,
    patience: Duration,
    upgrades: Semaphore,
}

impl Gate {
    /// As the configuration asks for, with `keeper` for TLS.
    pub(crate) fn new(websocket: &WebSocket, keeper: Arc<Keeper>) -> Result<Self, String> {
        let names = &websocket.cookies;
        let headers = websocket.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let policy = Policy {
            compression: websocket.compression,
            same_origin: websocket.same_origin,
            allowed_origins: websocket.allowed_origins.clone(),
            secure: websocket.tls.is_some(),
            headers: headers.collect(),
            cookies: Cookies {
                jwt: names.jwt.clone(),
                user: names.user.clone(),
                pass: names.pass.clone(),
                token: names.token.clone(),
            },
        };
        let patience = websocket.handshake_timeout.filter(|time| !time.is_zero()).unwrap_or(PATIENCE);
        Ok(Self { policy, keeper, patience, upgrades: Semaphore::new(UPGRADES_MAX) })
    }
}

/// A peer that was accepted, and all that its task needs.
pub(crate) struct Caller {
    pub(crate) hub: Arc<Hub>,
    pub(crate) socket: Accepted,
    pub(crate) peer: Peer,
    pub(crate) gate: Arc<Gate>,
    pub(crate) seat: Seat,
}

/// Runs a connection from its first byte to its last.
pub(crate) async fn run(caller: Box<Caller>) {
    // As for other connections, beginning and end are large and short.
    let Some(mut task) = Box::pin(admit(caller)).await else { return };
    let served = task.serve().await;
    Box::pin(task.leave(served)).await;
}

/// Brings a peer to where its session can begin.
async fn admit(caller: Box<Caller>) -> Option<Task> {
    let Caller { hub, socket, peer, gate, seat } = *caller;
    let Ok(_permit) = gate.upgrades.try_acquire() else {
        hub.log.debug(format_args!("{peer} - websocket handshake error: too many are on their way"));
        return None;
    };
    let (handle, mut reader) = match Handle::open(socket, Some(Layer::default())) {
        Ok(opened) => opened,
        Err(error) => {
            hub.log.error(format_args!("{peer} - the socket can't be watched: {error}"));
            return None;
        }
    };
    poll_fn(|context| handle.poll_writable(context)).await;
    let deadline = hub.clock.at(hub.clock.now().mono + gate.patience);
    let negotiated = timeout_at(deadline, negotiate(&hub, &gate, &handle, &mut reader)).await;
    let (upgrade, facts) = match negotiated.unwrap_or(Err(Failure::Timeout)) {
        Ok(negotiated) => negotiated,
        Err(failure) => {
            match failure.level() {
                Level::Error => hub.log.error(format_args!("{peer} - websocket handshake error: {failure}")),
                _ => hub.log.debug(format_args!("{peer} - websocket handshake error: {failure}")),
            }
            if let Failure::Refused(refusal) = failure {
                turn_away(&refusal, &handle, &mut reader).await;
            }
            return None;
        }
    };
    let life = hub.life();
    let Upgrade { forwarded_for, cookies, .. } = upgrade;
    let (session, _) = hub.turn(|broker, now| {
        let id = broker.attach_websocket(handle.clone(), peer, facts.map(Arc::new), now);
        if !forwarded_for.is_empty() {
            broker.debug(id, format_args!("forwarded for {forwarded_for}"));
        }
        let mut session = Session::new(broker, id);
        session.carry(cookies.user, cookies.pass, cookies.token, cookies.jwt);
        session
    });
    Some(Task::new(hub, (handle, reader), session, life, seat))
}

/// Agrees on keys, where there is TLS, and on frames.
async fn negotiate(
    hub: &Hub,
    gate: &Gate,
    handle: &Handle,
    reader: &mut Reader,
) -> Result<(Upgrade, Option<TlsFacts>), Failure> {
    let layer = handle.tls().ok_or(Failure::Gone)?;
    let facts = match gate.keeper.current() {
        None => None,
        Some(acceptor) => {
            gate.keeper.admit(hub.clock.now().mono).map_err(|_| Failure::Throttled)?;
            Some(Box::pin(tls::secure(&acceptor, handle, reader)).await.map_err(Failure::Tls)?)
        }
    };
    let mut head = Vec::new();
    let upgrade = loop {
        read(reader, &mut head).await?;
        if let Some((request, length)) = Request::read(&head).map_err(Failure::Refused)? {
            if head.len() > length {
                return Err(Failure::Early);
            }
            break request.judge(&gate.policy).map_err(Failure::Refused)?;
        }
    };
    layer.say(&upgrade.answer, handle).map_err(Failure::Io)?;
    layer.frame(upgrade.encoder, Decoder::new(upgrade.masked, upgrade.encoder.compressed));
    reader.secure(handle.clone());
    Ok((upgrade, facts))
}

/// Appends what arrives, at least a byte.
async fn read(reader: &mut Reader, input: &mut Vec<u8>) -> Result<(), Failure> {
    let read = poll_fn(|context| {
        let mut piece = [0; 1024];
        let mut arrived = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut *reader).poll_read(context, &mut arrived))?;
        input.extend_from_slice(arrived.filled());
        Poll::Ready(Ok::<_, io::Error>(arrived.filled().len()))
    });
    match read.await {
        Ok(0) => Err(Failure::Gone),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Io(error)),
    }
}

/// Says why not, and waits until that is read.
async fn turn_away(refusal: &Refusal, handle: &Handle, reader: &mut Reader) {
    let said = handle.tls().is_some_and(|layer| layer.say(&refusal.answer(), handle).is_ok());
    handle.shut_down(CloseReason::ProtocolViolation);
    let rest = async {
        let mut sink = [0; 1024];
        while said && reader.read(&mut sink).await.is_ok_and(|n| n > 0) {}
    };
    let _ = timeout(LINGER, rest).await;
}

/// Why a peer wasn't let in.
enum Failure {
    Timeout,
    Gone,
    Throttled,
    /// It spoke before it was answered.
    Early,
    Io(io::Error),
    Tls((Level, String)),
    Refused(Refusal),
}

impl Failure {
    /// Load balancers and the curious open connections and say nothing: nobody's fault.
    fn level(&self) -> Level {
        match self {
            Self::Timeout | Self::Gone | Self::Throttled | Self::Io(_) => Level::Debug,
            Self::Tls((level, _)) => *level,
            Self::Early | Self::Refused(_) => Level::Error,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("i/o timeout"),
            Self::Gone => f.write_str("EOF"),
            Self::Throttled => f.write_str("too many TLS handshakes"),
            Self::Early => f.write_str("client sent data before handshake is complete"),
            Self::Io(error) => error.fmt(f),
            Self::Tls((_, text)) => write!(f, "TLS handshake error: {text}"),
            Self::Refused(refusal) => f.write_str(&refusal.reason),
        }
    }
}
