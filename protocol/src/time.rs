//! Points in time without a clock: whoever drives the code says what time it is.

use core::cmp::Ordering;
use core::ops::Add;
use core::time::Duration;

/// Microseconds since some fixed moment that the driver chose; only differences mean something. Good for 580,000
/// years.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Instant(Micros);

#[cfg(target_pointer_width = "64")]
type Micros = u64;

/// In two halves: on processors of 32 bits a structure with it is aligned to 4 bytes, as small as it looks, and cleared and
/// copied by the same routines as everything else.
#[cfg(not(target_pointer_width = "64"))]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Micros {
    low: u32,
    high: u32,
}

#[cfg(target_pointer_width = "64")]
impl Instant {
    /// The moment that is `micros` µs after the driver's start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// µs since the driver's start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }
}

#[cfg(not(target_pointer_width = "64"))]
impl Instant {
    /// The moment that is `micros` µs after the driver's start.
    #[inline]
    pub const fn from_micros(micros: u64) -> Self {
        Self(Micros { low: micros as u32, high: (micros >> 32) as u32 })
    }

    /// µs since the driver's start.
    #[inline]
    pub const fn as_micros(self) -> u64 {
        (self.0.high as u64) << 32 | self.0.low as u64
    }
}

impl Instant {
    /// How long ago `earlier` was; zero if it is yet to come.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.as_micros().saturating_sub(earlier.as_micros()))
    }

    /// The moment that is `ms` milliseconds later; the end of time if that is too far. One multiplication, where
    /// [`Instant::saturating_add`] takes a division by 1,000 of 128 bits.
    pub const fn after_ms(self, ms: u32) -> Self {
        // 32 bits times 1,000 fit into 64.
        Self::from_micros(self.as_micros().saturating_add((ms as u64).wrapping_mul(1000)))
    }

    /// As [`Instant::after_ms`], for moments that the end of time isn't near.
    #[inline]
    pub(crate) const fn wrapping_after_ms(self, ms: u32) -> Self {
        Self::from_micros(self.as_micros().wrapping_add((ms as u64).wrapping_mul(1000)))
    }

    /// The moment that is `after` later; the end of time if that is too far.
    pub fn saturating_add(self, after: Duration) -> Self {
        Self::from_micros(
            self.as_micros().saturating_add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

impl PartialOrd for Instant {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }

    #[inline]
    fn lt(&self, other: &Self) -> bool {
        self.as_micros() < other.as_micros()
    }

    #[inline]
    fn le(&self, other: &Self) -> bool {
        self.as_micros() <= other.as_micros()
    }

    #[inline]
    fn gt(&self, other: &Self) -> bool {
        self.as_micros() > other.as_micros()
    }

    #[inline]
    fn ge(&self, other: &Self) -> bool {
        self.as_micros() >= other.as_micros()
    }
}

impl Ord for Instant {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_micros().cmp(&other.as_micros())
    }
}

impl core::fmt::Debug for Instant {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Instant").field(&self.as_micros()).finish()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Instant {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Instant({=u64})", self.as_micros());
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
