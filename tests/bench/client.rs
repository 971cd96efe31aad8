//! A connection of the generator, and many of them read at once.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::certificate::NAME;
use crate::servers::Server;
use crate::wire::{PING, PONG, Wire};

/// A connection that was let in.
pub(crate) struct Client {
    stream: Stream,
    wire: Wire,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How long a server may say nothing while something is awaited.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Room for what one read brings.
pub(crate) const READ_BYTES: usize = 256 * 1024;

impl Client {
    /// Connects, and waits until the server has heard it.
    pub(crate) fn connect(server: &Server, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        Self::open(TcpStream::connect(server.address)?, server.wire, tls, &[])
    }

    /// Connects from an address of loopback of which `number` decides, so that ports suffice for any number of
    /// connections, and says `words` at once.
    pub(crate) fn connect_one_of_many(server: &Server, number: u32, words: &[u8]) -> io::Result<Self> {
        /// Fewer than an address has ports for outgoing connections.
        const EACH: u32 = 2_000;
        let [_, _, high, low] = (number / EACH).to_be_bytes();
        let from = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&from.into())?;
        socket.connect(&server.address.into())?;
        Self::open(socket.into(), server.wire, None, words)
    }

    fn open(
        mut socket: TcpStream,
        wire: Wire,
        tls: Option<&Arc<ClientConfig>>,
        words: &[u8],
    ) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(config) => {
                // INFO comes in the clear, and nothing behind it before the handshake.
                read_past(&mut socket, b"\r\n")?;
                let name = NAME.try_into().map_err(io::Error::other)?;
                let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(session, socket)))
            }
        };
        let mut client = Self { stream, wire };
        client.write_all(&[wire.hello().as_slice(), words, wire.fence()].concat())?;
        read_past(&mut client, wire.fenced())?;
        Ok(client)
    }

    /// Says `words`, and waits until the server has heard them.
    pub(crate) fn say(&mut self, words: &[u8]) -> io::Result<()> {
        self.write_all(words)?;
        self.fence()
    }

    /// Waits until the server has heard all that was said. What else has come is passed over.
    pub(crate) fn fence(&mut self) -> io::Result<()> {
        self.ask().map(drop)
    }

    /// As [`Client::fence`], and fails if anything else has come that is not the server's own ping.
    pub(crate) fn fence_in_silence(&mut self) -> io::Result<()> {
        let heard = self.ask()?;
        let mut rest = heard.as_slice();
        while let Some(more) = rest.strip_prefix(PING).or_else(|| rest.strip_prefix(self.wire.fenced())) {
            rest = more;
        }
        if rest.is_empty() {
            return Ok(());
        }
        Err(io::Error::other(format!("more came than was awaited: {}", String::from_utf8_lossy(rest))))
    }

    /// Answers a ping that came, if one did. For a connection that nothing else comes to.
    pub(crate) fn answer_ping(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        self.socket().set_nonblocking(true)?;
        let taken = match self.take(&mut buffer) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        };
        self.socket().set_nonblocking(false)?;
        taken
    }

    fn ask(&mut self) -> io::Result<Vec<u8>> {
        let wire = self.wire;
        self.write_all(wire.fence())?;
        read_past(self, wire.fenced())
    }

    /// Subscribes, once: deliveries are counted as those of the subscription 1.
    pub(crate) fn subscribe(&mut self, filter: &str, queue: Option<&str>) -> io::Result<()> {
        self.say(&self.wire.subscribe(filter, queue, 1))
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_ref(),
        }
    }

    /// Reads what has come and returns the bytes that belong to deliveries. The server's pings are answered.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<u64> {
        let n = self.read(buffer)?;
        let taken = buffer.get(..n).unwrap_or_default();
        if taken.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let pings = match self.wire {
            // Searched by a library, since a plain loop over 64 KiB takes longer than the server with them.
            Wire::Nats => memchr::memchr_iter(PING[0], taken).count(),
            Wire::Mqtt => 0,
        };
        let mut rest = n as u64;
        for _ in 0..pings {
            self.write_all(PONG)?;
            // A ping in two pieces is subtracted with its first; the sum is right in the end.
            rest = rest.wrapping_sub(PING.len() as u64);
        }
        Ok(rest)
    }
}

impl Read for Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

/// How many bytes a set of subscribers is to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Each its own number.
    Each(Vec<u64>),
    /// All together.
    Total(u64),
}

/// Reads from all `clients` until they have what they are to get. Where each has its own share, they are divided among
/// as many threads as there are cores: one thread alone would set the pace of fan-out for every server.
pub(crate) fn gather(clients: &mut [Client], share: &Share) -> io::Result<()> {
    let threads = match share {
        Share::Each(_) => thread::available_parallelism().map_or(1, NonZero::get),
        // Nobody knows who gets how much, so one has to see all of it.
        Share::Total(_) => 1,
    };
    let each = clients.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let mut parts = Vec::new();
        for (number, part) in clients.chunks_mut(each).enumerate() {
            let share = match share {
                Share::Each(all) => Share::Each(all.iter().skip(number * each).take(each).copied().collect()),
                total => total.clone(),
            };
            parts.push(scope.spawn(move || gather_part(part, &share)));
        }
        parts.into_iter().try_for_each(|part| part.join().expect("a generator's thread does not panic"))
    })
}

fn gather_part(clients: &mut [Client], share: &Share) -> io::Result<()> {
    let expected = match share {
        Share::Each(each) => each.iter().sum(),
        Share::Total(total) => *total,
    };
    let mut got = vec![0_u64; clients.len()];
    let mut buffer = vec![0; READ_BYTES];
    for client in clients.iter() {
        client.socket().set_nonblocking(true)?;
    }
    let patience = Timespec { tv_sec: PATIENCE.as_secs().try_into().unwrap_or(30), tv_nsec: 0 };
    while got.iter().copied().fold(0, u64::wrapping_add) < expected {
        let mut sockets: Vec<PollFd<'_>> =
            clients.iter().map(|client| PollFd::new(client.socket(), PollFlags::IN)).collect();
        if poll(&mut sockets, Some(&patience))? == 0 {
            return Err(short(&got, expected));
        }
        let ready: Vec<bool> = sockets.iter().map(|socket| !socket.revents().is_empty()).collect();
        for ((client, got), _) in clients.iter_mut().zip(&mut got).zip(ready).filter(|(_, ready)| *ready) {
            loop {
                match client.take(&mut buffer) {
                    Ok(n) => *got = got.wrapping_add(n),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
                // A socket says at the next poll whether there is more; a TLS session may hold some itself.
                if matches!(client.stream, Stream::Plain(_)) {
                    break;
                }
            }
        }
    }
    for client in clients.iter() {
        client.socket().set_nonblocking(false)?;
    }
    let exact = match share {
        Share::Each(each) => got == *each,
        Share::Total(total) => got.iter().sum::<u64>() == *total,
    };
    if exact { Ok(()) } else { Err(short(&got, expected)) }
}

fn short(got: &[u64], expected: u64) -> io::Error {
    io::Error::other(format!("subscribers got {got:?} bytes of {expected}"))
}

/// Reads until `end` has come, and returns all that came.
fn read_past(stream: &mut impl Read, end: &[u8]) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(end.len()).any(|window| window == end) {
        let n = stream.read(&mut buffer)?;
        let text = String::from_utf8_lossy(&seen);
        if n == 0 || Instant::now() > deadline {
            return Err(io::Error::other(format!("the server left, or went on for too long: {text}")));
        }
        seen.extend_from_slice(&buffer[..n]);
    }
    Ok(seen)
}
