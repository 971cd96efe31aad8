//! An Ethernet cable in memory, and a gateway at its far end: who connects to that one's port 4222 talks to the server. So the
//! examples of TCP stacks need neither a board nor root's rights.

#![allow(dead_code, reason = "each example has its stack")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a program on a desk"
)]

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

/// The board's addresses, and those of the gateway.
pub(crate) const BOARD: (Ipv4Addr, [u8; 6]) = (Ipv4Addr::new(192, 168, 7, 2), [2, 0, 0, 0, 0, 2]);
pub(crate) const GATEWAY: (Ipv4Addr, [u8; 6]) = (Ipv4Addr::new(192, 168, 7, 1), [2, 0, 0, 0, 0, 1]);
/// Where the gateway takes connections to the server.
pub(crate) const PORT: u16 = 4222;
const FRAME: usize = 1514;

/// One end of the cable.
pub(crate) struct End {
    out: Arc<Lane>,
    into: Arc<Lane>,
}

#[derive(Default)]
struct Lane {
    frames: Mutex<Frames>,
    arrived: Condvar,
}

#[derive(Default)]
struct Frames {
    waiting: VecDeque<Vec<u8>>,
    waker: Option<Waker>,
}

impl Lane {
    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cable to a gateway to `server`, which works until the end is dropped.
pub(crate) fn connect(server: SocketAddr) -> End {
    let (one, other) = (Arc::<Lane>::default(), Arc::<Lane>::default());
    let mut far = End { out: one.clone(), into: other.clone() };
    let interface = interface(&mut far, GATEWAY);
    let mut sockets = SocketSet::new(Vec::new());
    let buffer = || tcp::SocketBuffer::new(vec![0; 8192]);
    // It listens before anybody can knock.
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.listen(PORT).expect("it is closed");
    let handle = sockets.add(socket);
    std::thread::spawn(move || gateway(far, interface, sockets, handle, server));
    End { out: other, into: one }
}

impl End {
    /// Waits for a frame.
    pub(crate) fn wait(&self, at_most: Duration) {
        let frames = self.into.frames();
        if frames.waiting.is_empty() {
            drop(self.into.arrived.wait_timeout(frames, at_most));
        }
    }

    fn take(&self) -> Option<Frame> {
        self.into.frames().waiting.pop_front().map(Frame)
    }
}

/// A frame that has arrived, and the place for one that goes.
pub(crate) struct Frame(Vec<u8>);
pub(crate) struct Place<'e>(&'e Lane);

impl Place<'_> {
    fn send<R>(self, len: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut frame = vec![0; len];
        let result = write(&mut frame);
        let mut frames = self.0.frames();
        frames.waiting.push_back(frame);
        self.0.arrived.notify_one();
        if let Some(waker) = frames.waker.take() {
            waker.wake();
        }
        result
    }
}

impl smoltcp::phy::RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl smoltcp::phy::TxToken for Place<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        self.send(len, write)
    }
}

impl Device for End {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Place<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Frame, Place<'_>)> {
        Some((self.take()?, Place(&self.out)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Place<'_>> {
        Some(Place(&self.out))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ethernet, FRAME);
        capabilities
    }
}

impl embassy_net_driver::RxToken for Frame {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, read: F) -> R {
        read(&mut self.0)
    }
}

impl embassy_net_driver::TxToken for Place<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        self.send(len, write)
    }
}

impl Driver for End {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Place<'a>;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Frame, Place<'_>)> {
        // First, so that no frame comes between looking and asking to be woken.
        self.into.frames().waker = Some(context.waker().clone());
        Some((self.take()?, Place(&self.out)))
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<Place<'_>> {
        Some(Place(&self.out))
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(BOARD.1)
    }
}

/// A stack for one end of the cable.
pub(crate) fn interface(end: &mut End, (ip, ethernet): (Ipv4Addr, [u8; 6])) -> Interface {
    let config = Config::new(EthernetAddress(ethernet).into());
    let mut interface = Interface::new(config, end, Instant::now());
    interface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(ip.into(), 24)).expect("there is room for one");
    });
    interface
}

/// Carries bytes between one connection on the cable and the server.
fn gateway(
    mut end: End,
    mut interface: Interface,
    mut sockets: SocketSet<'_>,
    handle: SocketHandle,
    server: SocketAddr,
) {
    let mut behind: Option<TcpStream> = None;
    let mut bytes = [0; 4096];
    while Arc::strong_count(&end.out) > 1 {
        interface.poll(Instant::now(), &mut end, &mut sockets);
        let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
        if !socket.is_open() {
            behind = None;
            socket.listen(PORT).expect("it is closed");
        }
        if socket.may_send() && behind.is_none() {
            behind = TcpStream::connect(server).ok();
            match &behind {
                Some(stream) => stream.set_nonblocking(true).expect("a socket"),
                None => socket.abort(),
            }
        }
        if let Some(stream) = &mut behind {
            while socket.can_recv()
                && let Ok(n) = socket.peek_slice(&mut bytes)
                && let Ok(n) = stream.write(&bytes[..n])
            {
                socket.recv(|_| (n, ())).expect("they were there");
            }
            if !socket.may_recv() {
                let _ = stream.shutdown(Shutdown::Write);
            }
            let room = (socket.send_capacity() - socket.send_queue()).min(bytes.len());
            match stream.read(&mut bytes[..room]) {
                Ok(0) if room > 0 => socket.close(),
                Ok(n) => {
                    socket.send_slice(&bytes[..n]).expect("there is room");
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => socket.abort(),
            }
        }
        interface.poll(Instant::now(), &mut end, &mut sockets);
        end.wait(Duration::from_millis(1));
    }
}
