//! A sensor node on an nRF51822 (Cortex-M0, 256 kB of flash, 16 kB of RAM) as a micro:bit has it, over its serial port.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m_rt::{entry, exception};
use emulated::{Bare, Clock, Port, Serial};
use node::{Login, Memory, Names, names};

const NAMES: Names = names!("cellar", "qemu-cortex-m0");
static LOGIN: Login<'_> = Login::ANONYMOUS.named("cellar");

#[entry]
fn main() -> ! {
    // 32 bits, 1 MHz, begins anew at 1,000 and interrupts.
    write(TIMER + 0x508, 3);
    write(TIMER + 0x510, 4);
    write(TIMER + 0x540, 1_000);
    write(TIMER + 0x200, 1);
    write(TIMER + 0x304, 1 << 16);
    write(TIMER, 1);
    // Interrupt 8.
    write(0xe000_e100, 1 << 8);
    Uart::start();

    let mut memory = Memory::<512, 512, 4096>::new();
    let mut uplink = Serial::new(Uart, Ticks);
    node::blocking::run(&mut Bare::new(Ticks), &mut uplink, &NAMES, &LOGIN, &mut memory, emulated::start())
}

/// TIMER0.
const TIMER: usize = 0x4000_8000;
const UART: usize = 0x4000_2000;

fn write(register: usize, value: u32) {
    // Safety: all callers name a register of this chip.
    unsafe { (register as *mut u32).write_volatile(value) }
}

fn read(register: usize) -> u32 {
    // Safety: as above.
    unsafe { (register as *const u32).read_volatile() }
}

/// Since the start, in ms.
static MILLIS: AtomicU32 = AtomicU32::new(0);

/// The only interrupt is that of the timer.
#[exception]
unsafe fn DefaultHandler(_: i16) {
    write(TIMER + 0x140, 0);
    // One writer, so a load and a store will do: this processor has nothing else.
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

/// It keeps six bytes until they are read: enough for a ms at 38,400 baud.
struct Uart;

impl Uart {
    fn start() {
        // Pins 24 (out) and 25 (in) go to the USB interface of a micro:bit; 38,400 baud.
        write(UART + 0x50c, 24);
        write(UART + 0x514, 25);
        write(UART + 0x524, 0x009d_5000);
        write(UART + 0x500, 4);
        write(UART, 1);
        write(UART + 0x8, 1);
    }
}

impl Port for Uart {
    fn receive(&mut self) -> Option<u8> {
        (read(UART + 0x108) != 0).then(|| {
            write(UART + 0x108, 0);
            read(UART + 0x518) as u8
        })
    }

    fn send(&mut self, byte: u8) {
        write(UART + 0x11c, 0);
        write(UART + 0x51c, byte.into());
        while read(UART + 0x11c) == 0 {}
    }
}
