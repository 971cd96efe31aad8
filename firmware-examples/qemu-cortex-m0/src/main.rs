//! A sensor node on an nRF51822 (Cortex-M0, 256 kB of flash, 16 kB of RAM) as a micro:bit has it, over its serial port.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m_rt::{entry, exception};
use node::{Board, Instant, Log, Login, Memory, Names, names};

const NAMES: Names = names!("attic", "qemu-cortex-m0");
static LOGIN: Login<'_> = Login { name: Some("attic"), ..Login::ANONYMOUS };

/// Since the start, in ms.
static MILLIS: AtomicU32 = AtomicU32::new(0);

/// The only interrupt is that of the timer.
#[exception]
unsafe fn DefaultHandler(_: i16) {
    write(TIMER + 0x140, 0);
    // One writer, so a load and a store will do: this processor has nothing else.
    MILLIS.store(MILLIS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

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
    // A board with a random number generator, or a count in flash, has a better one.
    let start = node_start();
    node::run(&mut Nrf51 { heater: false, hundredths: 2150 }, &NAMES, &LOGIN, &mut memory, start)
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

/// Different at each start: the host's clock, which a debugger knows.
fn node_start() -> u32 {
    semihosting::experimental::time::SystemTime::now()
        .duration_since(semihosting::experimental::time::SystemTime::UNIX_EPOCH)
        .map_or(1, |since| since.as_secs() as u32)
}

struct Nrf51 {
    heater: bool,
    hundredths: i16,
}

impl Board for Nrf51 {
    type Line = Uart;

    fn line(&mut self) -> Uart {
        Uart
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::from(MILLIS.load(Ordering::Relaxed)) * 1_000)
    }

    fn sleep_ms(&mut self, ms: u32) {
        let start = MILLIS.load(Ordering::Relaxed);
        while MILLIS.load(Ordering::Relaxed).wrapping_sub(start) < ms {
            cortex_m::asm::wfi();
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

/// The UART. It keeps six bytes until they are read, and is looked at each ms: enough for 38,400 baud.
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

impl embedded_io::ErrorType for Uart {
    type Error = embedded_io::ErrorKind;
}

impl embedded_io::Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        for _ in 0..5 {
            let mut n = 0;
            while let Some(place) = buffer.get_mut(n)
                && read(UART + 0x108) != 0
            {
                write(UART + 0x108, 0);
                *place = read(UART + 0x518) as u8;
                n += 1;
            }
            if n > 0 {
                return Ok(n);
            }
            cortex_m::asm::wfi();
        }
        Err(embedded_io::ErrorKind::TimedOut)
    }
}

impl embedded_io::Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        for byte in bytes {
            write(UART + 0x11c, 0);
            write(UART + 0x51c, (*byte).into());
            while read(UART + 0x11c) == 0 {}
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
