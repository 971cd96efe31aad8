//! What the boards that QEMU plays have in common: a log that the debugger shows, a room instead of a thermometer, a start
//! that the host's clock tells from others, and ways to the broker over Ethernet.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "ethernet")]
pub mod ethernet;
#[cfg(feature = "tls")]
pub mod tls;

pub use node::blocking::{Clock, Port, Serial};

use node::{Board, Instant, Log, Room};
use semihosting::experimental::time::SystemTime;

/// Where firmware finds the broker. QEMU is told to carry what goes there to midged.
pub const BROKER: ([u8; 4], u16) = ([10, 0, 2, 100], 4222);

/// A board without anything on it.
pub struct Bare<C> {
    clock: C,
    room: Room,
}

impl<C: Clock> Bare<C> {
    /// One with this clock.
    pub fn new(clock: C) -> Self {
        Self { clock, room: Room::default() }
    }
}

impl<C: Clock> Board for Bare<C> {
    fn now(&self) -> Instant {
        Instant::from_micros(self.clock.now_us())
    }

    fn celsius_x100(&mut self) -> i16 {
        self.room.celsius_x100()
    }

    fn heat(&mut self, on: bool) {
        self.room.heat(on);
    }

    fn log(&mut self, line: Log) {
        semihosting::println!("{}", line.as_str());
    }
}

/// Different at each start: the host's clock. A board of your own has a random number generator, or a count in flash.
pub fn start() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs() as u32)
}
