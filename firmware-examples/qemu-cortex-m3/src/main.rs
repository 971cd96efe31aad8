//! A sensor node on an LM3S6965, over its first serial port.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use emulated::{Bare, Serial};
use lm3s6965::{Ticks, Uart0};
use node::{Login, Memory, Names, names};

const NAMES: Names = names!("attic", "qemu-cortex-m3");
static LOGIN: Login<'_> = Login::ANONYMOUS.named("attic");

#[entry]
fn main() -> ! {
    let core = cortex_m::Peripherals::take().unwrap();
    let clock = Ticks::start(core.SYST);
    let mut uplink = Serial::new(Uart0::start(), clock);
    let mut memory = Memory::<512, 512, 4096>::new();
    node::blocking::run(&mut Bare::new(clock), &mut uplink, &NAMES, &LOGIN, &mut memory, emulated::start())
}
