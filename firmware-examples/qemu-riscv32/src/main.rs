//! A sensor node on RISC-V of 32 bits, as QEMU's `virt` has it, over its serial port, a 16550.
#![no_std]
#![no_main]

use core::arch::asm;
use emulated::{Bare, Clock, Port, Serial};
use node::{Login, Memory, Names, names};

const NAMES: Names = names!("shed", "qemu-riscv32");
static LOGIN: Login<'_> = Login::ANONYMOUS.named("shed");

#[riscv_rt::entry]
fn main() -> ! {
    // Safety: lets the timer end `wfi`; interrupts as such stay off.
    unsafe { asm!("csrs mie, {}", in(reg) 1 << 7) };
    let mut memory = Memory::<512, 512, 4096>::new();
    let mut uplink = Serial::new(Uart, Timer);
    node::blocking::run(&mut Bare::new(Timer), &mut uplink, &NAMES, &LOGIN, &mut memory, emulated::start())
}

/// Counts 10 MHz.
const TIME: *const u32 = 0x0200_bff8 as *const u32;
/// When the timer is to wake the processor.
const COMPARE: *mut u32 = 0x0200_4000 as *mut u32;

#[derive(Clone, Copy)]
struct Timer;

impl Timer {
    /// Of 0.1 us.
    fn ticks() -> u64 {
        // Safety: registers of this board. The upper half may count up between two reads.
        unsafe {
            loop {
                let high = TIME.add(1).read_volatile();
                let low = TIME.read_volatile();
                if high == TIME.add(1).read_volatile() {
                    return u64::from(high) << 32 | u64::from(low);
                }
            }
        }
    }
}

impl Clock for Timer {
    fn now_us(self) -> u64 {
        Self::ticks() / 10
    }

    fn wait(self) {
        let until = Self::ticks() + 10_000;
        // Safety: registers of this board, and an instruction that waits.
        unsafe {
            COMPARE.add(1).write_volatile(u32::MAX);
            COMPARE.write_volatile(until as u32);
            COMPARE.add(1).write_volatile((until >> 32) as u32);
            asm!("wfi");
        }
    }
}

/// The 16550, with 16 bytes of queue either way: enough for a ms at 115,200 baud.
struct Uart;

const DATA: *mut u8 = 0x1000_0000 as *mut u8;
const STATUS: *const u8 = 0x1000_0005 as *const u8;
const RECEIVED: u8 = 1;
const TRANSMIT_EMPTY: u8 = 1 << 5;

impl Uart {
    fn status() -> u8 {
        // Safety: a register of this board.
        unsafe { STATUS.read_volatile() }
    }
}

impl Port for Uart {
    fn receive(&mut self) -> Option<u8> {
        // Safety: a register of this board.
        (Self::status() & RECEIVED != 0).then(|| unsafe { DATA.read_volatile() })
    }

    fn send(&mut self, byte: u8) {
        while Self::status() & TRANSMIT_EMPTY == 0 {}
        // Safety: a register of this board.
        unsafe { DATA.write_volatile(byte) };
    }
}
