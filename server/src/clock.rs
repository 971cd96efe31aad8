//! The only place that reads the clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use midge_broker::{Instant, Now};

/// The daemon's clocks: time since it started, and the calendar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// Starts counting.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// Both times at once.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn now(self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        // A board without a clock battery may believe that it is before 1970.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Instant::from_micros(mono), wall }
    }

    /// The moment of `instant` for the runtime's timers.
    pub(crate) fn at(self, instant: Instant) -> tokio::time::Instant {
        (self.start + Duration::from_micros(instant.as_micros())).into()
    }
}

/// Random bytes from the operating system.
pub(crate) fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    if read.is_err() {
        // A sandbox without /dev: a name that is merely unlikely to be met twice has to do.
        let seed = Clock::start().now().wall.as_nanos() ^ u128::from(std::process::id()) << 64;
        for (slot, byte) in bytes.iter_mut().zip(seed.to_le_bytes().into_iter().cycle()) {
            *slot = byte;
        }
    }
    bytes
}
