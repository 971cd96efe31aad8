//! A sensor node on an LM3S6965 (Cortex-M3, 256 kB of flash, 64 kB of RAM), over its first serial port.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::{entry, exception};
use node::{Board, Instant, Log, Login, Memory, Names, names};

const NAMES: Names = names!("attic", "qemu-cortex-m3");
static LOGIN: Login<'_> = Login { name: Some("attic"), ..Login::ANONYMOUS };

/// Processor cycles in a ms: the chip starts with 12.5 MHz, or what is near enough.
const CYCLES_PER_MS: u32 = 12_500;

/// Since the start.
static MILLIS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    // One writer, so a load and a store will do: a Cortex-M0 has nothing else.
    MILLIS.store(MILLIS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

#[entry]
fn main() -> ! {
    let mut core = cortex_m::Peripherals::take().unwrap();
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(CYCLES_PER_MS - 1);
    core.SYST.clear_current();
    core.SYST.enable_interrupt();
    core.SYST.enable_counter();
    Uart::start();

    let mut memory = Memory::<512, 512, 4096>::new();
    // A board with a random number generator, or a count in flash, has a better one.
    let start = node_start();
    node::run(&mut Lm3s6965 { heater: false, hundredths: 2150 }, &NAMES, &LOGIN, &mut memory, start)
}

/// Different at each start: the host's clock, which a debugger knows.
fn node_start() -> u32 {
    semihosting::experimental::time::SystemTime::now()
        .duration_since(semihosting::experimental::time::SystemTime::UNIX_EPOCH)
        .map_or(1, |since| since.as_secs() as u32)
}

struct Lm3s6965 {
    heater: bool,
    hundredths: i16,
}

impl Board for Lm3s6965 {
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

/// UART0, a PL011 with 16 bytes of queue either way: enough for a ms at 115,200 baud, and it is looked at each ms.
struct Uart;

const DATA: *mut u32 = 0x4000_c000 as *mut u32;
const FLAGS: *mut u32 = 0x4000_c018 as *mut u32;
const LINE: *mut u32 = 0x4000_c02c as *mut u32;
const CONTROL: *mut u32 = 0x4000_c030 as *mut u32;
const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;

impl Uart {
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

impl embedded_io::ErrorType for Uart {
    type Error = embedded_io::ErrorKind;
}

impl embedded_io::Read for Uart {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        for _ in 0..5 {
            let mut n = 0;
            while let Some(place) = buffer.get_mut(n)
                && Self::flags() & RECEIVE_EMPTY == 0
            {
                // Safety: a register of this chip.
                *place = unsafe { DATA.read_volatile() } as u8;
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
            while Self::flags() & TRANSMIT_FULL != 0 {}
            // Safety: a register of this chip.
            unsafe { DATA.write_volatile((*byte).into()) };
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
