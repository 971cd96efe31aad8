//! Points in time without a clock: whoever drives the code says what time it is.

use core::ops::Add;
use core::time::Duration;

/// Microseconds since some fixed moment that the driver chose; only differences mean something. Good for 580,000
/// years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instant(u64);

impl Instant {
    /// The moment that is `micros` µs after the driver's start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// µs since the driver's start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is yet to come.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The moment that is `ms` milliseconds later; the end of time if that is too far. One multiplication, where
    /// [`Instant::saturating_add`] takes a division by 1,000 of 128 bits.
    pub const fn after_ms(self, ms: u32) -> Self {
        // 32 bits times 1,000 fit into 64.
        Self(self.0.saturating_add((ms as u64).wrapping_mul(1000)))
    }

    /// The moment that is `after` later; the end of time if that is too far.
    pub fn saturating_add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// An [`Instant`] at rest, aligned to 4 bytes: on processors of 32 bits a structure with it is as small as it looks, and
/// cleared by the same routine as everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    high: u32,
    low: u32,
}

impl From<Instant> for Kept {
    fn from(Instant(micros): Instant) -> Self {
        Self { high: (micros >> 32) as u32, low: micros as u32 }
    }
}

impl From<Kept> for Instant {
    fn from(Kept { high, low }: Kept) -> Self {
        Self(u64::from(high) << 32 | u64::from(low))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates, so that "never" can be written as a very long time.
    fn add(self, after: Duration) -> Self {
        self.saturating_add(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let start = Instant::from_micros(5_000);
        assert_eq!((start + Duration::from_millis(2)).as_micros(), 7_000);
        assert_eq!(start.since(Instant::from_micros(2_000)), Duration::from_millis(3));
        assert_eq!(Instant::default().since(start), Duration::ZERO);
        assert_eq!(start.after_ms(u32::MAX).since(start), Duration::from_millis(u32::MAX.into()));
        assert_eq!(Instant::from_micros(u64::MAX).after_ms(1), Instant::from_micros(u64::MAX));
        assert_eq!(start + Duration::MAX, Instant::from_micros(u64::MAX));
    }
}
