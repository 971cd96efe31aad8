//! A sensor node on an LM3S6965, over Ethernet and TLS 1.3: it talks to nobody but the broker that its authority vouches for.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use emulated::Bare;
use emulated::ethernet::{Buffers, Network, SocketStorage};
use emulated::tls::{Room, Secure};
use lm3s6965::{Ethernet, Ticks};
use node::{Login, Memory, Names, names};

const NAMES: Names = names!("vault", "qemu-tls");
static LOGIN: Login<'_> = Login::ANONYMOUS.named("vault");

/// What the broker's certificate says that it is.
const GATEWAY: &str = "gateway.local";
static AUTHORITY: &[u8] = include_bytes!(env!("CA"));

#[entry]
fn main() -> ! {
    let core = cortex_m::Peripherals::take().unwrap();
    let clock = Ticks::start(core.SYST);
    let device = Ethernet::start();
    let (address, start) = (device.address(), emulated::start());
    let (mut sockets, mut buffers, mut room) = ([SocketStorage::EMPTY], Buffers::new(), Room::new());
    let network = Network::new(device, address, clock, start, &mut sockets, &mut buffers);
    let mut uplink = Secure::new(network, &mut room, GATEWAY, AUTHORITY);
    let mut memory = Memory::<512, 512, 4096>::new();
    node::blocking::run(&mut Bare::new(clock), &mut uplink, &NAMES, &LOGIN, &mut memory, start)
}
