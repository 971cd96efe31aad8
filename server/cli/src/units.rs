//! Sizes, durations and ages as people write and read them.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, Zoned, tz::TimeZone};

/// Reads `1s`, `250ms`, `1m30s`, `7d`. A day is 24 hours here.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number with a unit, such as 500ms, 2s, 1m30s or 7d".to_owned();
    let span: Span = text.parse().map_err(|_| wrong())?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    signed.try_into().map_err(|_| "a duration cannot be negative".to_owned())
}

/// Reads a limit in bytes: `512`, `64K`, `10MB`, `1GiB`, `unlimited`. Units are powers of 1024, as natscli has them.
pub(crate) fn size_limit(text: &str) -> Result<i64, String> {
    if unlimited(text) {
        return Ok(-1);
    }
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err("expected a size such as 512, 64KB or 10MB".to_owned()),
    };
    let number: i64 = number.parse().map_err(|_| "expected a size such as 512, 64KB or 10MB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than any disk has".to_owned())
}

/// Reads a limit in things that are counted: a number, or `unlimited`.
pub(crate) fn count_limit(text: &str) -> Result<i64, String> {
    match unlimited(text) {
        true => Ok(-1),
        false => text.parse().map_err(|_| "expected a number or `unlimited`".to_owned()),
    }
}

/// Reads when something shall be: a time from now (`30m`), or a point in time (`2026-11-27 10:00:00`, local, or with
/// an offset as RFC 3339 has it).
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(wait) = duration(text) {
        let wait = SignedDuration::try_from(wait).map_err(|error| error.to_string())?;
        return Timestamp::now().checked_add(wait).map_err(|error| error.to_string());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let local = text.parse::<jiff::civil::DateTime>().and_then(|time| time.to_zoned(TimeZone::system()));
    local
        .map(|zoned| zoned.timestamp())
        .map_err(|_| "expected a time from now, such as 30m, or a date and time".to_owned())
}

/// `1,204`
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// `1.18 MiB`
pub(crate) fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// `unlimited` for what servers say with -1 (or 0), else what `show` makes of it.
pub(crate) fn limit(number: i64, show: impl FnOnce(u64) -> String) -> String {
    match u64::try_from(number) {
        Ok(number) if number > 0 => show(number),
        _ => "unlimited".to_owned(),
    }
}

/// All of a duration: `2m`, `1h30m`, `7d`, `100ms`.
pub(crate) fn exact(duration: Duration) -> String {
    let parts = parts(duration);
    match parts.is_empty() {
        true => "0s".to_owned(),
        false => parts.concat(),
    }
}

/// The two largest parts of a duration, seconds being the smallest: `2d4h`, `3m12s`, `0s`.
pub(crate) fn rough(duration: Duration) -> String {
    let parts = parts(Duration::from_secs(duration.as_secs()));
    match parts.is_empty() {
        true => "0s".to_owned(),
        false => parts.into_iter().take(2).collect(),
    }
}

/// How long ago that was. A time ahead of our clock, which may be wrong, is no age.
pub(crate) fn age(time: Timestamp) -> String {
    rough(Timestamp::now().duration_since(time).try_into().unwrap_or_default())
}

/// The local time, to the second.
pub(crate) fn local(time: Timestamp) -> String {
    Zoned::new(time, TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `2026-11-27 10:00:00 (3m12s ago)`
pub(crate) fn local_and_age(time: Timestamp) -> String {
    format!("{} ({} ago)", local(time), age(time))
}

/// What servers call a duration.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn unlimited(text: &str) -> bool {
    text == "-1" || text.eq_ignore_ascii_case("unlimited")
}

/// The parts that aren't zero, largest first.
fn parts(duration: Duration) -> Vec<String> {
    let mut rest = duration.as_nanos();
    let mut parts = Vec::new();
    for (unit, nanos) in UNITS {
        let number = rest / nanos;
        rest %= nanos;
        if number > 0 {
            parts.push(format!("{number}{unit}"));
        }
    }
    parts
}

/// Names and lengths in nanoseconds.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("µs", 1_000),
    ("ns", 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_sign_they_can_have() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("1w2d"), Ok(Duration::from_secs(9 * 86_400)));
        for text in ["5", "-1s", "", "1 month", "1y", "abc"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size_limit("512"), Ok(512));
        assert_eq!(size_limit("64KB"), Ok(64 << 10));
        assert_eq!(size_limit("10MiB"), Ok(10 << 20));
        assert_eq!(size_limit("1g"), Ok(1 << 30));
        assert_eq!(size_limit("-1"), Ok(-1));
        assert_eq!(size_limit("unlimited"), Ok(-1));
        for text in ["", "KB", "1.5G", "-5", "9000000T", "1 2", "1QB"] {
            assert!(size_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_full_or_roughly() {
        assert_eq!(exact(Duration::from_secs(120)), "2m");
        assert_eq!(exact(Duration::from_millis(90_500)), "1m30s500ms");
        assert_eq!(exact(Duration::ZERO), "0s");
        assert_eq!(rough(Duration::from_secs(2 * 86_400 + 4 * 3_600 + 59)), "2d4h");
        assert_eq!(rough(Duration::from_millis(999)), "0s");
    }

    #[test]
    fn a_moment_is_ahead_or_named() {
        let now = Timestamp::now();
        let ahead = moment("1h").unwrap().duration_since(now);
        assert!(ahead >= SignedDuration::from_hours(1) && ahead < SignedDuration::from_hours(2), "{ahead}");
        assert_eq!(moment("2026-11-27T10:00:00Z").unwrap().as_second(), 1_795_773_600);
        assert!(moment("2026-11-27 10:00:00").is_ok());
        assert!(moment("tomorrow").is_err());
    }

    #[test]
    fn what_lies_ahead_of_our_clock_has_no_age() {
        let ahead = Timestamp::now() + SignedDuration::from_hours(5);
        assert_eq!(age(ahead), "0s");
    }
}
