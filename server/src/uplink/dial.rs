//! One connection to a hub, from the address to its end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use midge_broker::{Parting, Peer};
use midge_config::HandshakeFirst;
use midge_leaf::HubUrl;
use midge_tls::ClientTls;
use midge_wire::Accepted;
use smol_str::ToSmolStr;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Plan, uplink};
use crate::hub::Hub;
use crate::net::{Joining, run_uplink};
use crate::workers::Seat;

/// Bytes of a hub's INFO at most.
const INFO_MAX: usize = 64 * 1024;

/// Connects to a hub and serves the connection to its end. An error says why there was none.
pub(super) async fn attempt(
    plan: &Plan,
    url: &HubUrl,
    hub: &Arc<Hub>,
    tls: &mut Option<Arc<ClientTls>>,
    seat: &Seat,
    mut left: watch::Receiver<()>,
) -> Result<Parting, String> {
    let reached = tokio::select! {
        reached = reach(plan, url, tls) => reached?,
        _ = left.changed() => return Ok(Parting::default()),
    };
    let uplink = uplink(plan, url, hub)?;
    let Reached { peer, line, first } = reached;
    let joining =
        |socket| Joining { hub: Arc::clone(hub), socket, peer, uplink, first, seat: seat.another() };
    let leaving = async move { drop(left.changed().await) };
    let served = match line {
        Line::Clear(socket) => {
            let socket = socket.into_std().map_err(|error| error.to_string())?;
            run_uplink(joining(Accepted::Tcp(socket)), leaving).await
        }
        Line::Encrypted(mut stream) => {
            let (ours, theirs) = pair().map_err(|error| error.to_string())?;
            let mut theirs = UnixStream::from_std(theirs).map_err(|error| error.to_string())?;
            // Either way round: whichever end closes, the other sees it.
            let carried = async move { drop(tokio::io::copy_bidirectional(&mut stream, &mut theirs).await) };
            let served = run_uplink(joining(Accepted::Unix(ours)), leaving);
            both(served, carried).await
        }
    };
    served.map_err(|error| error.to_string())
}

/// Runs `work` to its end, and `beside` it for as long as both go on.
async fn both<R>(work: impl Future<Output = R>, beside: impl Future<Output = ()>) -> R {
    tokio::pin!(work, beside);
    tokio::select! {
        result = &mut work => return result,
        () = &mut beside => {}
    }
    work.await
}

/// A socket pair, neither end of which blocks.
fn pair() -> io::Result<(std::os::unix::net::UnixStream, std::os::unix::net::UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    Ok((ours, theirs))
}

/// A hub that was reached.
struct Reached {
    peer: Peer,
    line: Line,
    /// What it has said so far: its INFO, unless that comes encrypted.
    first: BytesMut,
}

enum Line {
    Clear(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

async fn reach(plan: &Plan, url: &HubUrl, tls: &mut Option<Arc<ClientTls>>) -> Result<Reached, String> {
    let place = (url.host.as_str(), url.port);
    let mut socket = within(plan.dial_timeout, "i/o timeout", TcpStream::connect(place)).await?;
    // Messages are small and late ones are useless.
    let _ = socket.set_nodelay(true);
    let from = socket.peer_addr().map_err(|error| error.to_string())?;
    let peer = Peer { host: from.ip().to_canonical().to_smolstr(), port: from.port() };
    let mut first = BytesMut::new();
    let settings = plan.remote.tls.as_ref();
    let handshake_first = settings.is_some_and(|tls| tls.handshake_first == HandshakeFirst::Yes);
    let mut secure = url.tls || settings.is_some();
    if !handshake_first {
        let read = read_info(&mut socket, &mut first);
        within(plan.remote.first_info_timeout, "the hub said nothing in time", read).await?;
        secure |= asks_for_tls(&first);
    }
    if !secure {
        return Ok(Reached { peer, line: Line::Clear(socket), first });
    }
    let client = match tls {
        Some(client) => client,
        None => tls.insert(Arc::new(ClientTls::load(settings)?)),
    };
    let name = url.tls_name.as_ref().unwrap_or(&url.host).clone();
    let name = ServerName::try_from(name).map_err(|_| "its name can't stand in a certificate".to_owned())?;
    let timeout = settings.map_or_else(|| midge_config::Tls::default().timeout, |tls| tls.timeout);
    let connector = TlsConnector::from(Arc::clone(&client.config));
    let stream = within(timeout, "TLS handshake timeout", connector.connect(name, socket)).await?;
    Ok(Reached { peer, line: Line::Encrypted(Box::new(stream)), first })
}

async fn within<T>(
    time: Duration,
    late: &str,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, String> {
    match tokio::time::timeout(time, work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(late.to_owned()),
    }
}

/// Reads up to the end of the first line, and maybe a little more.
async fn read_info(socket: &mut (impl AsyncRead + Unpin), first: &mut BytesMut) -> io::Result<()> {
    while !first.contains(&b'\n') {
        if first.len() > INFO_MAX {
            return Err(io::Error::other("the hub's INFO is too long"));
        }
        if socket.read_buf(first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Whether a hub's INFO asks for encryption.
fn asks_for_tls(first: &[u8]) -> bool {
    let line = first.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let json = line.iter().position(|byte| *byte == b'{').and_then(|at| line.get(at..)).unwrap_or_default();
    midge_leaf::Hub::parse(json.trim_ascii_end()).is_some_and(|hub| hub.tls_required)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encryption_is_asked_for_in_info() {
        assert!(asks_for_tls(b"INFO {\"tls_required\":true} \r\n"));
        assert!(!asks_for_tls(b"INFO {\"tls_required\":false} \r\nINFO {\"tls_required\":true}\r\n"));
        assert!(!asks_for_tls(b"nonsense\r\n"));
    }
}
