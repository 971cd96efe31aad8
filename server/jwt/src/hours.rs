//! Times of day at which a user may be connected.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// From one time of day to another, `15:04:05` each; over midnight if the second is the smaller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeRange {
    /// The first moment.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub start: String,
    /// The last one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub end: String,
}

impl TimeRange {
    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        for (which, time) in [("start", &self.start), ("end", &self.end)] {
            if time_of_day(time).is_none() {
                problems.push(format!("{which} in time range is invalid {time:?}"));
            }
        }
    }
}

/// Several ranges, in one time zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hours {
    /// The ranges.
    pub ranges: Vec<TimeRange>,
    /// The zone's name; empty: the server's own.
    pub zone: String,
}

/// Knows time zones. Asked for the time from `now`, since the Unix epoch, to a moment of the day that `now` is in, or of
/// the day after it, in nanoseconds, negative if it has passed. `None`: there is no such zone.
pub trait Zones {
    /// See [`Zones`]. `second` is the moment's, of its day.
    fn until(&self, zone: &str, now: Duration, second: u32, tomorrow: bool) -> Option<i64>;
}

impl Hours {
    /// How long one may stay who comes `now`; `None`: one may not come.
    pub fn open(&self, now: Duration, zones: &(impl Zones + ?Sized)) -> Option<Duration> {
        let left = self.ranges.iter().map(|range| {
            let (start, end) = (time_of_day(&range.start)?, time_of_day(&range.end)?);
            let until = |second, tomorrow| zones.until(&self.zone, now, second, tomorrow);
            let (to_start, to_end) = (until(start, false)?, until(end, false)?);
            Some(match () {
                () if to_start < 0 && to_end > 0 => Some(to_end),
                () if to_start <= to_end => None,
                // Over midnight, which is behind us or before us.
                () if to_end > 0 => Some(to_end),
                () => Some(until(end, true)?).filter(|to_end| to_start < 0 && *to_end > 0),
            })
        });
        // A range that can't be read closes all.
        let left: Option<Vec<_>> = left.collect();
        let longest = left?.into_iter().flatten().max()?;
        u64::try_from(longest).ok().map(Duration::from_nanos)
    }
}

/// The second of the day.
fn time_of_day(text: &str) -> Option<u32> {
    let mut parts = text.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || hour.len() > 2 || minute.len() != 2 {
        return None;
    }
    // Parts of a second are read and don't count.
    let second = match second.split_once(['.', ',']) {
        Some((second, rest)) => Some(second).filter(|_| !rest.is_empty() && digits(rest))?,
        None => second,
    };
    let number = |text: &str, below| {
        let number: Option<u32> = text.parse().ok();
        number.filter(|number| digits(text) && *number < below)
    };
    let second = number(second, 60).filter(|_| second.len() == 2)?;
    Some(3600 * number(hour, 24)? + 60 * number(minute, 60)? + second)
}

fn digits(text: &str) -> bool {
    text.bytes().all(|digit| digit.is_ascii_digit())
}

/// UTC, and no other zone, for those who know none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utc;

impl Zones for Utc {
    fn until(&self, zone: &str, now: Duration, second: u32, tomorrow: bool) -> Option<i64> {
        if !["", "UTC", "Etc/UTC"].contains(&zone) {
            return None;
        }
        let day = 86_400_000_000_000;
        let now = i64::try_from(now.as_nanos()).ok()?;
        let then = i64::from(second) * 1_000_000_000 + if tomorrow { day } else { 0 };
        Some(then - now.rem_euclid(day))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> TimeRange {
        TimeRange { start: start.into(), end: end.into() }
    }

    fn open(ranges: &[TimeRange], hour: u64) -> Option<u64> {
        let hours = Hours { ranges: ranges.to_vec(), zone: String::new() };
        hours.open(Duration::from_secs((20_000 * 24 + hour) * 3600), &Utc).map(|left| left.as_secs() / 3600)
    }

    #[test]
    fn over_the_day_and_over_midnight() {
        let day = [range("11:00:00", "22:00:00")];
        assert_eq!(
            (open(&day, 13), open(&day, 10), open(&day, 11), open(&day, 22)),
            (Some(9), None, None, None)
        );
        let night = [range("22:00:00", "6:00:00")];
        assert_eq!((open(&night, 5), open(&night, 23), open(&night, 12)), (Some(1), Some(7), None));
        let both = [range("11:00:00", "14:00:00"), range("12:00:00", "22:00:00")];
        assert_eq!(open(&both, 13), Some(9), "the one that lasts longest");
        assert_eq!(open(&[range("11:00:00", "22:00:00"), range("1", "2")], 13), None);
    }

    #[test]
    fn times_as_go_reads_them() {
        for (text, second) in [
            ("00:00:00", Some(0)),
            ("9:05:06", Some(9 * 3600 + 5 * 60 + 6)),
            ("23:59:59.5", Some(86_399)),
            ("24:00:00", None),
            ("09:5:06", None),
            ("09:05:6", None),
            ("09:05", None),
            ("09:05:06:07", None),
            ("+9:05:06", None),
            ("", None),
        ] {
            assert_eq!(time_of_day(text), second, "{text}");
        }
    }
}
