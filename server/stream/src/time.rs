//! The two times that everything here is told, and how the calendar is written.

use jiff::Timestamp;
pub use midge_protocol::time::Instant;

/// The time, twice: for measuring and for showing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For timers; never goes back.
    pub mono: Instant,
    /// Nanoseconds since the Unix epoch; may jump.
    pub wall: Nanos,
}

/// Nanoseconds: a length of time, or a point in time since the Unix epoch.
pub type Nanos = i64;

/// One second.
pub const SECOND: Nanos = 1_000_000_000;
/// One millisecond.
pub const MILLISECOND: Nanos = 1_000_000;

/// What Go writes for a time that is none.
pub const NO_TIME: &str = "0001-01-01T00:00:00Z";

impl Now {
    /// The moment that is `nanos` later, on the clock that never goes back.
    pub fn after(self, nanos: Nanos) -> Instant {
        self.mono + duration(nanos)
    }
}

/// As the standard library has it; nothing if it is negative. Rounded up to microseconds, so that a timer that was set
/// with it is never early.
pub fn duration(nanos: Nanos) -> std::time::Duration {
    std::time::Duration::from_micros(u64::try_from(nanos).unwrap_or(0).div_ceil(1000))
}

/// RFC 3339 with as many digits as it takes, in UTC, as Go's `RFC3339Nano`. 0 is no time at all.
pub fn rfc3339(nanos: Nanos) -> String {
    if nanos == 0 {
        return NO_TIME.to_owned();
    }
    // Jiff writes any point in time that 64 bits of nanoseconds reach.
    Timestamp::from_nanosecond(nanos.into()).map_or_else(|_| NO_TIME.to_owned(), |time| time.to_string())
}

/// Reads RFC 3339 with any offset. Times that don't fit, and Go's "no time", are 0.
pub fn parse_rfc3339(text: &str) -> Option<Nanos> {
    let has_offset =
        text.ends_with(['Z', 'z']) || text.get(10..).is_some_and(|rest| rest.contains(['+', '-']));
    if !has_offset || !text.get(10..11).is_some_and(|t| t.eq_ignore_ascii_case("t")) {
        return None;
    }
    let time: Timestamp = text.parse().ok()?;
    Some(Nanos::try_from(time.as_nanosecond()).unwrap_or(0))
}

/// Go's `Duration.String`: `1h2m3.5s`, `1.5ms`, `0s`.
pub fn go_duration(nanos: Nanos) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64, name: &str| {
        let digits = unit.ilog10() as usize;
        let rest = format!("{:0digits$}", value % unit);
        let rest = rest.trim_end_matches('0');
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{}{dot}{rest}{name}", value / unit)
    };
    let text = match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(nanos, 1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = fraction(rest, 1_000_000_000, "s");
            match minutes {
                0 => seconds,
                1..60 => format!("{minutes}m{seconds}"),
                _ => format!("{}h{}m{seconds}", minutes / 60, minutes % 60),
            }
        }
    };
    format!("{sign}{text}")
}

/// Go's `time.ParseDuration`: `1h2m3.5s`, `300ms`. `None` if it isn't one, or too long.
pub fn parse_go_duration(text: &str) -> Option<Nanos> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total += whole * unit;
        let fraction = fraction.get(..18).unwrap_or(fraction);
        if !fraction.is_empty() {
            let power = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
            total += fraction.parse::<i128>().ok()? * unit / power;
        }
        rest = tail;
    }
    Nanos::try_from(if negative { -total } else { total }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        for (nanos, text) in [
            (0, NO_TIME),
            (1, "1970-01-01T00:00:00.000000001Z"),
            (1_795_220_540_244_149_815, "2026-11-21T00:22:20.244149815Z"),
            (1_795_220_540_240_000_000, "2026-11-21T00:22:20.24Z"),
            (1_795_220_540_000_000_000, "2026-11-21T00:22:20Z"),
        ] {
            assert_eq!(rfc3339(nanos), text);
            assert_eq!(parse_rfc3339(text), Some(nanos), "{text}");
        }
        assert_eq!(parse_rfc3339("1970-01-01T02:00:00.5+02:00"), Some(500_000_000));
        for bad in ["", "now", "1970-01-01", "1970-01-01T00:00:00", "1970-01-01 00:00:00Z"] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_written_and_read_as_go_does() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100 * MILLISECOND, "100ms"),
            (1_500 * MILLISECOND, "1.5s"),
            (90 * SECOND, "1m30s"),
            (3_600 * SECOND, "1h0m0s"),
            (-2 * SECOND, "-2s"),
        ] {
            assert_eq!(go_duration(nanos), text);
            assert_eq!(parse_go_duration(text), Some(nanos), "{text}");
        }
        assert_eq!(parse_go_duration(".5s"), Some(SECOND / 2));
        assert_eq!(parse_go_duration("0"), Some(0));
        for bad in ["", "1", "s", "1x", "-", "1.2.3s", ".s", "99999999999999999999s", "9999999999h"] {
            assert_eq!(parse_go_duration(bad), None, "{bad}");
        }
    }
}
