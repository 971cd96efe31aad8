//! What the broker asks of the world: local times, and accounts that it doesn't know.

use std::time::{Duration, UNIX_EPOCH};

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use midge_broker::{Elsewhere, Zones};

use crate::accounts::Sources;
use crate::clock::Clock;

/// The machine's files.
#[derive(Clone)]
pub(crate) struct Outside {
    pub(crate) clock: Clock,
    pub(crate) accounts: Sources,
}

impl Zones for Outside {
    fn until(&self, zone: &str, now: Duration, second: u32, tomorrow: bool) -> Option<i64> {
        let zone = if zone.is_empty() { TimeZone::system() } else { TimeZone::get(zone).ok()? };
        let now = Timestamp::from_duration(now.try_into().ok()?).ok()?;
        let day = now.to_zoned(zone.clone()).date().checked_add(i64::from(tomorrow).days()).ok()?;
        let part = |number: u32| i8::try_from(number).ok();
        let time = Time::new(part(second / 3600)?, part(second / 60 % 60)?, part(second % 60)?, 0).ok()?;
        let then = day.to_datetime(time).to_zoned(zone).ok()?.timestamp();
        i64::try_from(then.as_nanosecond() - now.as_nanosecond()).ok()
    }
}

impl Elsewhere for Outside {
    fn account(&self, key: &str) -> Option<String> {
        // A directory that can't be read is as good as an empty one; whoever looks into it for others says so.
        self.accounts.store.as_ref()?.load(key, UNIX_EPOCH + self.clock.now().wall).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_where_the_zone_is() {
        // Noon of the first of January 2026 in London.
        let now = Duration::from_secs(1_767_268_800);
        let outside = Outside { clock: Clock::start(), accounts: Sources::default() };
        let hours = |zone: &str, hour: u32, tomorrow| {
            outside.until(zone, now, hour * 3600, tomorrow).map(|nanos| nanos / 3_600_000_000_000)
        };
        assert_eq!(hours("UTC", 13, false), Some(1));
        assert_eq!(hours("UTC", 11, true), Some(23));
        assert_eq!(hours("Nowhere/Land", 11, false), None);
        // The machine may have no zones at all.
        if let Some(left) = hours("Asia/Tokyo", 22, false) {
            assert_eq!((left, hours("Asia/Tokyo", 0, false)), (1, Some(-21)));
        }
        assert!(hours("", 0, false).is_some());
    }
}
