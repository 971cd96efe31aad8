//! When something is due that is due again and again: six fields, from seconds to days of the week.
//!
//! ```text
//!   0 30 9 * * mon-fri       at half past nine on working days
//!   s mi h d mo dow
//! ```
//!
//! Source: nats-server's `cron.go`: what fields may say, and that days of month and week are both to match if one of them is
//! `*`, and otherwise one of them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use crate::time::Nanos;

/// The values that a field allows.
#[derive(Clone, Copy, Debug)]
struct Field {
    bits: u64,
    /// Any value is as good.
    star: bool,
}

/// What a field is of.
struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const BOUNDS: [Bounds; 6] = [
    Bounds { least: 0, most: 59, names: &[] },
    Bounds { least: 0, most: 59, names: &[] },
    Bounds { least: 0, most: 23, names: &[] },
    Bounds { least: 1, most: 31, names: &[] },
    Bounds {
        least: 1,
        most: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Bounds { least: 0, most: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

impl Field {
    fn read(text: &str, bounds: &Bounds) -> Option<Self> {
        let mut field = Self { bits: 0, star: false };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(number(step)?)),
                None => (part, None),
            };
            let (least, most, star) = match range.split_once('-') {
                None if matches!(range, "*" | "?") => (bounds.least, bounds.most, true),
                None => {
                    let one = bounds.value(range)?;
                    (one, if step.is_some() { bounds.most } else { one }, false)
                }
                Some(("*" | "?", _)) => (bounds.least, bounds.most, true),
                Some((least, most)) => (bounds.value(least)?, bounds.value(most)?, false),
            };
            let step = step.unwrap_or(1);
            if least < bounds.least || most > bounds.most || least > most || step == 0 {
                return None;
            }
            let values = (least..=most).step_by(usize::try_from(step).ok()?);
            field.bits |= values.fold(0, |bits, value| bits | 1 << value);
            field.star |= star && step == 1;
        }
        Some(field)
    }

    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits & (1 << value) != 0)
    }
}

impl Bounds {
    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        match named {
            Some(at) => Some(self.least + u32::try_from(at).ok()?),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|value| *value < 1 << 16)
}

/// Years that are searched.
const YEARS: i16 = 5;

/// The first time after `after` that `pattern` allows. `None` if it isn't one, or nothing comes within five years.
pub(crate) fn next(pattern: &str, zone: &TimeZone, after: Nanos) -> Option<Nanos> {
    let texts: Vec<&str> = pattern.split_whitespace().collect();
    if texts.len() != BOUNDS.len() {
        return None;
    }
    let mut fields = texts.iter().zip(&BOUNDS).map(|(text, bounds)| Field::read(text, bounds));
    let mut field = || fields.next().flatten();
    let (seconds, minutes, hours) = (field()?, field()?, field()?);
    let (days, months, weekdays) = (field()?, field()?, field()?);
    let second = after.div_euclid(1_000_000_000) + 1;
    let mut at = Timestamp::from_second(second).ok()?.to_zoned(zone.clone());
    let last_year = at.year().saturating_add(YEARS);
    // Each step goes to the beginning of the next month, day, hour, minute or second: some thousands of them at most.
    while at.year() <= last_year {
        let day = days.has(at.day());
        let weekday = weekdays.has(at.weekday().to_sunday_zero_offset());
        let day_fits = if days.star || weekdays.star { day && weekday } else { day || weekday };
        at = if !months.has(at.month()) {
            let first = at.date().first_of_month().checked_add(1.month()).ok()?;
            begin(first.into(), &at)?
        } else if !day_fits {
            begin(at.date().tomorrow().ok()?.into(), &at)?
        } else if !hours.has(at.hour()) {
            let left = 3600 - i64::from(at.minute()) * 60 - i64::from(at.second());
            at.checked_add(left.seconds()).ok()?
        } else if !minutes.has(at.minute()) {
            at.checked_add((60 - i64::from(at.second())).seconds()).ok()?
        } else if !seconds.has(at.second()) {
            at.checked_add(1.second()).ok()?
        } else {
            return Nanos::try_from(at.timestamp().as_nanosecond()).ok();
        };
    }
    None
}

/// A point in local time, which comes after `from`.
fn begin(local: DateTime, from: &Zoned) -> Option<Zoned> {
    let at = local.to_zoned(from.time_zone().clone()).ok()?;
    if at > *from { Some(at) } else { from.checked_add(1.hour()).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{parse_rfc3339, rfc3339};

    #[test]
    fn the_next_time() {
        for (pattern, after, then) in [
            ("* * * * * *", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:01Z"),
            ("0 0 0 1 1 *", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 30 9 * * mon-fri", "2026-01-02T10:00:00Z", "2026-01-05T09:30:00Z"),
            ("*/15 * * * * *", "2026-01-01T00:00:16Z", "2026-01-01T00:00:30Z"),
            ("10/20 59 23 31 12 ?", "2026-01-01T00:00:00Z", "2026-12-31T23:59:10Z"),
            ("0 0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 12 1,15 FEB *", "2026-02-02T00:00:00Z", "2026-02-15T12:00:00Z"),
        ] {
            let found = next(pattern, &TimeZone::UTC, parse_rfc3339(after).unwrap());
            assert_eq!(found.map(rfc3339).as_deref(), Some(then), "{pattern}");
        }
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let found = next("0 0 6 * * *", &zone, parse_rfc3339("2026-01-01T05:00:00Z").unwrap());
        assert_eq!(found.map(rfc3339).as_deref(), Some("2026-01-02T04:00:00Z"));
    }

    #[test]
    fn what_is_none() {
        for pattern in [
            "",
            "* * * * *",
            "60 * * * * *",
            "* * * 0 * *",
            "a * * * * *",
            "5-1 * * * * *",
            "*/0 * * * * *",
            "0 0 0 31 2 *",
        ] {
            assert_eq!(next(pattern, &TimeZone::UTC, 0), None, "{pattern}");
        }
    }
}
