//! As much of the LM3S6965 (Cortex-M3, 256 kB of flash, 64 kB of RAM) as a node needs: a clock, a serial port, Ethernet.
//! Source: its data sheet, DS-LM3S6965.
#![no_std]

#[cfg(any(feature = "smoltcp", feature = "embassy"))]
mod ethernet;
#[cfg(feature = "ticks")]
mod ticks;
#[cfg(feature = "embassy")]
mod time;
mod uart;

#[cfg(any(feature = "smoltcp", feature = "embassy"))]
pub use ethernet::Ethernet;
#[cfg(feature = "ticks")]
pub use ticks::Ticks;
#[cfg(feature = "embassy")]
pub use time::run;
pub use uart::Uart0;

/// Processor cycles in a ms: the chip starts with 12.5 MHz, or what is near enough.
#[cfg(any(feature = "ticks", feature = "embassy"))]
const CYCLES_PER_MS: u32 = 12_500;

#[cfg(any(feature = "ticks", feature = "embassy"))]
fn start_ticks(mut timer: cortex_m::peripheral::SYST) {
    timer.set_clock_source(cortex_m::peripheral::syst::SystClkSource::Core);
    timer.set_reload(CYCLES_PER_MS - 1);
    timer.clear_current();
    timer.enable_interrupt();
    timer.enable_counter();
}
