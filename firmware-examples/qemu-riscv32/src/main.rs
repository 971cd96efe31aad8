//! A sensor node on RISC-V of 32 bits, as QEMU's `virt` has it, over its serial port, a 16550.
#![no_std]
#![no_main]

use core::arch::asm;
use node::{Board, Instant, Log, Login, Memory, Names, names};

const NAMES: Names = names!("attic", "qemu-riscv32");
static LOGIN: Login<'_> = Login { name: Some("attic"), ..Login::ANONYMOUS };

/// Counts 10 MHz.
const TIME: *const u32 = 0x0200_bff8 as *const u32;
/// When the timer is to wake the processor.
const COMPARE: *mut u32 = 0x0200_4000 as *mut u32;

#[riscv_rt::entry]
fn main() -> ! {
    // Safety: lets the timer end `wfi`; interrupts as such stay off.
    unsafe { asm!("csrs mie, {}", in(reg) 1 << 7) };
    let mut memory = Memory::<512, 512, 4096>::new();
    // A board with a random number generator, or a count in flash, has a better one.
    let start = node_start();
    node::run(&mut Virt { heater: false, hundredths: 2150 }, &NAMES, &LOGIN, &mut memory, start)
}

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

/// Waits for a ms.
fn wait() {
    let until = ticks() + 10_000;
    // Safety: registers of this board, and an instruction that waits.
    unsafe {
        COMPARE.add(1).write_volatile(u32::MAX);
        COMPARE.write_volatile(until as u32);
        COMPARE.add(1).write_volatile((until >> 32) as u32);
        asm!("wfi");
    }
}

/// Different at each start: the host's clock, which a debugger knows.
fn node_start() -> u32 {
    semihosting::experimental::time::SystemTime::now()
        .duration_since(semihosting::experimental::time::SystemTime::UNIX_EPOCH)
        .map_or(1, |since| since.as_secs() as u32)
}

struct Virt {
    heater: bool,
    hundredths: i16,
}

impl Board for Virt {
    type Line = Uart;

    fn line(&mut self) -> Uart {
        Uart
    }

    fn now(&self) -> Instant {
        Instant::from_micros(ticks() / 10)
    }

    fn sleep_ms(&mut self, ms: u32) {
        let until = ticks() + u64::from(ms) * 10_000;
        while ticks() < until {
            wait();
        }
    }

    /// No thermometer: a room that warms while the heater is on.
    fn celsius_x100(&mut self) -> i16 {
        self.hundredths += if self.heater { 7 } else { -3 };
        self.hundredths = self.hundredths.clamp(1_500, 3_000);
        self.hundredths
    }

    fn heat(&mut self, on: bool) {
        self.heater = on;
    }

    fn log(&mut self, line: Log) {
        semihosting::println!("{}", line.as_str());
    }
}

/// The 16550, with 16 bytes of queue either way: enough for a ms at 115,200 baud, and it is looked at each ms.
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

impl embedded_io::ErrorType for Uart {
    type Error = embedded_io::ErrorKind;
}

impl embedded_io::Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        for _ in 0..5 {
            let mut n = 0;
            while let Some(place) = buffer.get_mut(n)
                && Self::status() & RECEIVED != 0
            {
                // Safety: a register of this board.
                *place = unsafe { DATA.read_volatile() };
                n += 1;
            }
            if n > 0 {
                return Ok(n);
            }
            wait();
        }
        Err(embedded_io::ErrorKind::TimedOut)
    }
}

impl embedded_io::Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        for byte in bytes {
            while Self::status() & TRANSMIT_EMPTY == 0 {}
            // Safety: a register of this board.
            unsafe { DATA.write_volatile(*byte) };
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
