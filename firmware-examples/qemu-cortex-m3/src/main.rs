//! A sensor node on an LM3S6965 (Cortex-M3, 256 kB of flash, 64 kB of RAM), over its first serial port.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::{entry, exception};
use emulated::{Bare, Clock, Port, Serial};
use node::{Login, Memory, Names, names};

const NAMES: Names = names!("attic", "qemu-cortex-m3");
static LOGIN: Login<'_> = Login { name: Some("attic"), ..Login::ANONYMOUS };

#[entry]
fn main() -> ! {
    let mut core = cortex_m::Peripherals::take().unwrap();
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(CYCLES_PER_MS - 1);
    core.SYST.clear_current();
    core.SYST.enable_interrupt();
    core.SYST.enable_counter();
    Uart0::start();

    let mut memory = Memory::<512, 512, 4096>::new();
    let mut uplink = Serial::new(Uart0, Ticks);
    node::blocking::run(&mut Bare::new(Ticks), &mut uplink, &NAMES, &LOGIN, &mut memory, emulated::start())
}

/// Processor cycles in a ms: the chip starts with 12.5 MHz, or what is near enough.
const CYCLES_PER_MS: u32 = 12_500;

/// Since the start.
static MILLIS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    // One writer, so a load and a store will do.
    MILLIS.store(MILLIS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

#[derive(Clone, Copy)]
struct Ticks;

impl Clock for Ticks {
    fn now_us(self) -> u64 {
        u64::from(MILLIS.load(Ordering::Relaxed)) * 1_000
    }

    fn wait(self) {
        cortex_m::asm::wfi();
    }
}

/// A PL011 with 16 bytes of queue either way: enough for a ms at 115,200 baud.
#[derive(Clone, Copy)]
struct Uart0;

const DATA: *mut u32 = 0x4000_c000 as *mut u32;
const FLAGS: *mut u32 = 0x4000_c018 as *mut u32;
const LINE: *mut u32 = 0x4000_c02c as *mut u32;
const CONTROL: *mut u32 = 0x4000_c030 as *mut u32;
const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;

impl Uart0 {
    fn start() {
        // Safety: registers of this chip. Eight bits, queues on; then receiver, transmitter and the whole.
        unsafe {
            LINE.write_volatile(0x70);
            CONTROL.write_volatile(0x301);
        }
    }

    fn flags() -> u32 {
        // Safety: a register of this chip.
        unsafe { FLAGS.read_volatile() }
    }
}

impl Port for Uart0 {
    fn receive(self) -> Option<u8> {
        // Safety: a register of this chip.
        (Self::flags() & RECEIVE_EMPTY == 0).then(|| unsafe { DATA.read_volatile() } as u8)
    }

    fn send(self, byte: u8) {
        while Self::flags() & TRANSMIT_FULL != 0 {}
        // Safety: a register of this chip.
        unsafe { DATA.write_volatile(byte.into()) };
    }
}
