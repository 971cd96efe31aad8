//! What a node needs of its board.

use crate::Log;
use midge_client::Instant;

/// A clock, a thermometer, a heater, a log.
pub trait Board {
    /// Time since the start.
    fn now(&self) -> Instant;

    /// The temperature, in hundredths of a degree.
    fn celsius_x100(&mut self) -> i16;

    /// Switches the heater.
    fn heat(&mut self, on: bool);

    /// Something that a person may want to read.
    fn log(&mut self, line: Log);
}

/// For boards without a thermometer: a room that warms while the heater is on.
#[derive(Debug)]
pub struct Room {
    hundredths: i16,
    is_heated: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self { hundredths: 2_150, is_heated: false }
    }
}

impl Room {
    /// How warm it is now, in hundredths of a degree; each call is a moment later.
    pub fn celsius_x100(&mut self) -> i16 {
        self.hundredths = (self.hundredths + if self.is_heated { 7 } else { -3 }).clamp(1_500, 3_000);
        self.hundredths
    }

    /// Switches the heater.
    pub fn heat(&mut self, on: bool) {
        self.is_heated = on;
    }
}
