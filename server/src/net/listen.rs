//! Listening sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use midge_broker::Peer;
use midge_wire::Accepted;
use smol_str::{SmolStr, ToSmolStr};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::conn::{self, Arrival};
use super::refuse;
use super::tls::{Keeper, Offer};
use super::websocket::{self, Caller, Gate};
use crate::hub::Hub;
use crate::workers::Workers;

/// What is spoken on a listener besides that of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Leaf nodes; refused until midge serves them.
    Leafnode,
    /// NATS clients, in frames.
    Websocket,
    /// MQTT; refused until midge serves it.
    Mqtt,
}

/// Who looks after those who connect.
pub(crate) enum Service {
    /// Clients, with what they are offered of TLS.
    Clients(Arc<Keeper>),
    /// Clients over WebSocket.
    WebSocket(Arc<Gate>),
    /// Nobody: they are told so.
    Refused(Protocol),
}

/// A bound socket that nobody was accepted on yet.
pub(crate) enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// The wait after a failed accept grows up to this.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

impl Listener {
    /// Binds the first address that `host` stands for. Port 0 takes a free one. `0.0.0.0` and `::` are all addresses, of IPv4
    /// and of IPv6, as they are for nats-server: names like `localhost` often stand for one of the latter first.
    pub(crate) fn tcp(host: &str, port: u16) -> io::Result<Self> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no address"));
        for address in (bare, port).to_socket_addrs()? {
            match Self::bind(address) {
                Ok(listener) => return Ok(Self::Tcp(listener)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
        if address.ip() == Ipv4Addr::UNSPECIFIED {
            match Self::bind((Ipv6Addr::UNSPECIFIED, address.port()).into()) {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {} // There is no IPv6 here.
                bound => return bound,
            }
        }
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.ip() == Ipv6Addr::UNSPECIFIED {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    /// Binds a Unix socket. One that a dead process left behind is replaced.
    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        let stale = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
            && std::os::unix::net::UnixStream::connect(path).is_err();
        if stale {
            std::fs::remove_file(path)?;
        }
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self::Unix(listener, path.to_owned()))
    }

    /// The port that was bound; 0 for a Unix socket.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or(0, |address| address.port()),
            Self::Unix(..) => 0,
        }
    }

    /// Accepts until the task is aborted.
    pub(crate) async fn serve(self, hub: Arc<Hub>, workers: Workers, service: Service) -> io::Result<()> {
        let mut pause = Duration::ZERO;
        let accept: Accept = match self {
            Self::Tcp(listener) => Accept::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener, path) => Accept::Unix(UnixListener::from_std(listener)?, Unlink(path)),
        };
        loop {
            let mut tls = None;
            let accepted = match &accept {
                Accept::Tcp(listener) => listener.accept().await.and_then(|(stream, from)| {
                    if let Service::Clients(keeper) = &service {
                        tls = keeper.current();
                    }
                    // Messages are small and late ones are useless.
                    let _ = stream.set_nodelay(true);
                    let peer = Peer { host: from.ip().to_canonical().to_smolstr(), port: from.port() };
                    Ok((Accepted::Tcp(stream.into_std()?), peer))
                }),
                Accept::Unix(listener, _) => listener.accept().await.and_then(|(stream, _)| {
                    let peer = Peer { host: SmolStr::new_static("unix"), port: 0 };
                    Ok((Accepted::Unix(stream.into_std()?), peer))
                }),
            };
            match accepted {
                Ok((socket, peer)) => {
                    pause = Duration::ZERO;
                    let hub = Arc::clone(&hub);
                    match &service {
                        Service::Clients(keeper) => {
                            let keeper = Arc::clone(keeper);
                            let tls = tls.map(|acceptor| Offer { keeper, acceptor });
                            workers
                                .spawn(|seat| conn::run(Box::new(Arrival { hub, socket, peer, tls, seat })));
                        }
                        Service::WebSocket(gate) => {
                            let gate = Arc::clone(gate);
                            workers.spawn(|seat| {
                                websocket::run(Box::new(Caller { hub, socket, peer, gate, seat }))
                            });
                        }
                        Service::Refused(protocol) => {
                            workers.spawn(|seat| refuse::run(hub, socket, peer, *protocol, seat));
                        }
                    }
                }
                // The peer left before it was let in.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // No descriptors left, most likely: those that end give theirs back.
                Err(error) => {
                    pause = (pause * 2).clamp(Duration::from_millis(10), ACCEPT_PAUSE_MAX);
                    hub.log.error(format_args!("Temporary Client Accept Error({error}), sleeping {pause:?}"));
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

enum Accept {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "held for its drop")] Unlink),
}

/// Removes a Unix socket's file when its listener ends.
struct Unlink(PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn all_addresses_are_those_of_ipv6_too() {
        let there_is_v6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        for host in ["0.0.0.0", "::", "[::]"] {
            if host != "0.0.0.0" && !there_is_v6 {
                continue;
            }
            let listener = Listener::tcp(host, 0).unwrap();
            let reached = |ip: std::net::IpAddr| TcpStream::connect((ip, listener.port())).is_ok();
            assert!(reached(Ipv4Addr::LOCALHOST.into()), "{host}");
            assert_eq!(reached(Ipv6Addr::LOCALHOST.into()), there_is_v6, "{host}");
        }
        let only = Listener::tcp("127.0.0.1", 0).unwrap();
        assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, only.port())).is_err());
    }
}
