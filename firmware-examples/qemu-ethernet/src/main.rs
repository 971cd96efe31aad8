//! A sensor node on an LM3S6965, over Ethernet: smoltcp, no scheduler.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use emulated::Bare;
use emulated::ethernet::{Buffers, Network, SocketStorage};
use lm3s6965::{Ethernet, Ticks};
use node::{Login, Memory, Names, names};

const NAMES: Names = names!("kitchen", "qemu-ethernet");
static LOGIN: Login<'_> = Login::ANONYMOUS.named("kitchen");

#[entry]
fn main() -> ! {
    let core = cortex_m::Peripherals::take().unwrap();
    let clock = Ticks::start(core.SYST);
    let device = Ethernet::start();
    let (address, start) = (device.address(), emulated::start());
    let (mut sockets, mut buffers) = ([SocketStorage::EMPTY], Buffers::new());
    let mut uplink = Network::new(device, address, clock, start, &mut sockets, &mut buffers);
    let mut memory = Memory::<512, 512, 4096>::new();
    node::blocking::run(&mut Bare::new(clock), &mut uplink, &NAMES, &LOGIN, &mut memory, start)
}
