//! A network with a fixed address, and TCP to the broker.

use crate::{BROKER, Clock};
use core::cell::Cell;
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use node::blocking::Uplink;
pub use smoltcp::iface::SocketStorage;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Address};

/// Where QEMU's network expects a machine.
const ADDRESS: Ipv4Address = Ipv4Address::new(10, 0, 2, 15);
/// How long a read waits for a byte, if nobody wants it longer.
pub(crate) const READ_US: u64 = 5_000;

/// Room for what TCP has on its way.
pub struct Buffers {
    receive: [u8; 1_536],
    transmit: [u8; 1_536],
    read_us: Cell<u64>,
}

impl Buffers {
    /// All clear.
    pub const fn new() -> Self {
        Self { receive: [0; 1_536], transmit: [0; 1_536], read_us: Cell::new(READ_US) }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// The network.
pub struct Network<'b, D, C> {
    device: D,
    interface: Interface,
    sockets: SocketSet<'b>,
    socket: SocketHandle,
    clock: C,
    /// A port for each connection.
    port: u16,
    read_us: &'b Cell<u64>,
}

impl<'b, D: Device, C: Clock> Network<'b, D, C> {
    /// One over this controller. `start` is different at each start.
    pub fn new(
        mut device: D,
        address: [u8; 6],
        clock: C,
        start: u32,
        storage: &'b mut [SocketStorage<'b>; 1],
        buffers: &'b mut Buffers,
    ) -> Self {
        let mut config = Config::new(EthernetAddress(address).into());
        config.random_seed = start.into();
        let mut interface = Interface::new(config, &mut device, time(clock));
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(ADDRESS), 24));
        });
        let mut sockets = SocketSet::new(&mut storage[..]);
        let Buffers { receive, transmit, read_us } = buffers;
        let receive = SocketBuffer::new(&mut receive[..]);
        let socket = sockets.add(Socket::new(receive, SocketBuffer::new(&mut transmit[..])));
        let port = 49_152 + (start % 16_384) as u16;
        Self { device, interface, sockets, socket, clock, port, read_us }
    }

    /// Begins a connection to the broker. What becomes of it, reads tell.
    pub fn dial(&mut self) -> Option<Tcp<'_, 'b, D, C>> {
        self.socket().abort();
        self.poll();
        self.port = self.port.checked_add(1).unwrap_or(49_152);
        let socket = self.sockets.get_mut::<Socket>(self.socket);
        socket.set_nagle_enabled(false);
        socket.connect(self.interface.context(), (Ipv4Address::from(BROKER.0), BROKER.1), self.port).ok()?;
        Some(Tcp { network: self })
    }

    fn socket(&mut self) -> &mut Socket<'b> {
        self.sockets.get_mut(self.socket)
    }

    fn poll(&mut self) {
        self.interface.poll(time(self.clock), &mut self.device, &mut self.sockets);
    }

    /// Has the clock tick, as long as the connection is one.
    fn wait(&mut self) -> Result<(), ErrorKind> {
        match self.socket().state() {
            State::Closed | State::TimeWait => Err(ErrorKind::ConnectionReset),
            _ => {
                self.clock.wait();
                Ok(())
            }
        }
    }
}

impl<'b, D: Device, C: Clock> Uplink for Network<'b, D, C> {
    type Plain<'l>
        = Tcp<'l, 'b, D, C>
    where
        Self: 'l;
    type Line<'l>
        = Tcp<'l, 'b, D, C>
    where
        Self: 'l;

    fn connect(&mut self) -> Option<Tcp<'_, 'b, D, C>> {
        self.dial()
    }

    fn secure<'l>(plain: Tcp<'l, 'b, D, C>) -> Option<Tcp<'l, 'b, D, C>>
    where
        Self: 'l,
    {
        Some(plain)
    }

    fn rest(&mut self) {
        self.clock.wait();
        self.poll();
    }
}

/// A connection.
pub struct Tcp<'l, 'b, D, C> {
    network: &'l mut Network<'b, D, C>,
}

impl<'b, D, C> Tcp<'_, 'b, D, C> {
    /// How long a read waits, in us: to be changed for a while, and put back to [`READ_US`].
    #[cfg(feature = "tls")]
    pub(crate) fn read_us(&self) -> &'b Cell<u64> {
        self.network.read_us
    }
}

impl<D, C> ErrorType for Tcp<'_, '_, D, C> {
    type Error = ErrorKind;
}

impl<D: Device, C: Clock> Read for Tcp<'_, '_, D, C> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let until = self.network.clock.now_us() + self.network.read_us.get();
        loop {
            self.network.poll();
            let socket = self.network.socket();
            if socket.can_recv() {
                return socket.recv_slice(buffer).map_err(|_| ErrorKind::ConnectionReset);
            }
            if !socket.may_recv() && !matches!(socket.state(), State::SynSent | State::SynReceived) {
                return Ok(0);
            }
            if self.network.clock.now_us() >= until {
                return Err(ErrorKind::TimedOut);
            }
            self.network.wait()?;
        }
    }
}

impl<D: Device, C: Clock> Write for Tcp<'_, '_, D, C> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        loop {
            self.network.poll();
            let socket = self.network.socket();
            if !socket.may_send() {
                return Err(ErrorKind::ConnectionReset);
            }
            if socket.can_send() {
                return socket.send_slice(bytes).map_err(|_| ErrorKind::ConnectionReset);
            }
            self.network.wait()?;
        }
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        self.network.poll();
        Ok(())
    }
}

fn time<C: Clock>(clock: C) -> Instant {
    Instant::from_micros(clock.now_us() as i64)
}
