//! A device over smoltcp, without an executor: the transport polls the stack while it waits.
//!
//! ```sh
//! cargo run -p midge-client --features std --example smoltcp 127.0.0.1:4222
//! ```
//!
//! On a board the device is its Ethernet or Wi-Fi driver, and [`Tcp::wait`] lets the processor sleep.

#![allow(clippy::arithmetic_side_effects, clippy::expect_used, reason = "a program on a desk may end")]

#[path = "device/mod.rs"]
mod device;
#[path = "wire/mod.rs"]
mod wire;

use embedded_io::{ErrorKind, ErrorType, Read, Write};
use midge_client::blocking::Connection;
use midge_client::tcp::Clock;
use midge_client::{Client, Config, Error, Login};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use std::net::SocketAddr;

#[allow(dead_code, reason = "tests call what it calls")]
fn main() {
    let server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4222".into());
    run(server.parse().expect("an address"), 5).expect("it works");
}

/// A device that publishes so many readings.
pub(crate) fn run(server: SocketAddr, rounds: usize) -> Result<(), Error<ErrorKind>> {
    let mut end = wire::connect(server);
    let interface = wire::interface(&mut end, wire::BOARD);
    let (mut arrive, mut leave) = ([0; 1024], [0; 1024]);
    let mut places = [smoltcp::iface::SocketStorage::EMPTY];
    let mut sockets = SocketSet::new(&mut places[..]);
    let socket =
        tcp::Socket::new(tcp::SocketBuffer::new(&mut arrive[..]), tcp::SocketBuffer::new(&mut leave[..]));
    let handle = sockets.add(socket);
    let mut transport = Tcp { end, interface, sockets, handle };

    let clock = Clock::start();
    let (mut receive, mut transmit) = ([0; 256], [0; 256]);
    let mut client = Client::<1>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
    client.subscribe("plant.attic.*", None)?;
    transport.connect().map_err(Error::Io)?;
    let mut connection = Connection::new(&mut client, transport, &Login::ANONYMOUS, clock.now());
    device::converse_blocking(&mut connection, clock, rounds)
}

/// A socket of smoltcp, with the stack that it belongs to.
struct Tcp<'s> {
    end: wire::End,
    interface: Interface,
    sockets: SocketSet<'s>,
    handle: SocketHandle,
}

/// A read ends without a result after so long, so that the client looks at the time.
const PATIENCE: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl<'s> Tcp<'s> {
    fn connect(&mut self) -> Result<(), ErrorKind> {
        // Each attempt from another port: what the last one left behind must not be taken for this one's.
        let port = 49152 + Instant::now().total_millis() as u16 % 16384;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        socket
            .connect(self.interface.context(), (wire::GATEWAY.0, wire::PORT), port)
            .map_err(|_| ErrorKind::InvalidInput)?;
        let end = Instant::now() + CONNECT_TIMEOUT;
        while !self.poll().may_send() {
            if !self.poll().is_active() {
                return Err(ErrorKind::ConnectionRefused);
            }
            self.wait(end)?;
        }
        Ok(())
    }

    /// Lets the stack work.
    fn poll(&mut self) -> &mut tcp::Socket<'s> {
        self.interface.poll(Instant::now(), &mut self.end, &mut self.sockets);
        self.sockets.get_mut(self.handle)
    }

    /// Sleeps until a frame arrives or the stack has something to do.
    fn wait(&mut self, end: Instant) -> Result<(), ErrorKind> {
        let now = Instant::now();
        if now >= end {
            return Err(ErrorKind::TimedOut);
        }
        let delay = self.interface.poll_delay(now, &self.sockets);
        self.end.wait(delay.unwrap_or(PATIENCE).min(end - now).into());
        Ok(())
    }
}

impl ErrorType for Tcp<'_> {
    type Error = ErrorKind;
}

impl Read for Tcp<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let end = Instant::now() + PATIENCE;
        loop {
            let socket = self.poll();
            if socket.can_recv() {
                return socket.recv_slice(buffer).map_err(|_| ErrorKind::ConnectionReset);
            }
            if !socket.may_recv() {
                return Ok(0);
            }
            self.wait(end)?;
        }
    }
}

impl Write for Tcp<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let end = Instant::now() + CONNECT_TIMEOUT;
        loop {
            let socket = self.poll();
            if !socket.may_send() {
                return Err(ErrorKind::ConnectionReset);
            }
            if socket.can_send() {
                return socket.send_slice(bytes).map_err(|_| ErrorKind::ConnectionReset);
            }
            self.wait(end)?;
        }
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        self.poll();
        Ok(())
    }
}
