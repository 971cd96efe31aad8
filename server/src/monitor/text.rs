//! How nats-server writes times, spans and numbers.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// A moment since the Unix epoch, written as RFC 3339 with up to nine digits behind the point.
#[derive(Clone, Copy)]
pub(super) struct Time(pub(super) Duration);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = i128::try_from(self.0.as_nanos()).ok().and_then(|ns| Timestamp::from_nanosecond(ns).ok());
        serializer.collect_str(&time.unwrap_or(Timestamp::MAX))
    }
}

/// A span in whole seconds, the largest unit that is needed first: `1d2h3m4s`.
#[derive(Clone, Copy)]
pub(super) struct Uptime(pub(super) Duration);

impl fmt::Display for Uptime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        let years = days / 365;
        let units = [
            (years, years, 'y'),
            (days, days % 365, 'd'),
            (hours, hours % 24, 'h'),
            (minutes, minutes % 60, 'm'),
        ];
        for (total, rest, unit) in units {
            if total > 0 {
                write!(f, "{rest}{unit}")?;
            }
        }
        write!(f, "{}s", seconds % 60)
    }
}

impl Serialize for Uptime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A span as Go writes it: `300µs`, `1.5ms`, `1m2.5s`.
#[derive(Clone, Copy)]
pub(super) struct Span(pub(super) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        // Up to 11 digits: a float's shortest form gives back just these.
        let seconds = (nanos % 60_000_000_000) as f64 / 1e9;
        let minutes = nanos / 60_000_000_000;
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}µs", nanos as f64 / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{}ms", nanos as f64 / 1e6),
            _ if minutes == 0 => write!(f, "{seconds}s"),
            _ if minutes < 60 => write!(f, "{minutes}m{seconds}s"),
            _ => write!(f, "{}h{}m{seconds}s", minutes / 60, minutes % 60),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A span as a number of nanoseconds.
#[derive(Clone, Copy)]
pub(super) struct Nanos(pub(super) Duration);

impl Serialize for Nanos {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A number that is written without a point if it is whole.
#[derive(Clone, Copy)]
pub(super) struct Number(pub(super) f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Beyond 2^53 a float has no digits behind the point to lose.
        if self.0.fract() == 0.0 && self.0.abs() < 9e15 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// The same JSON for people: a line for each member. For pages, which are then written in one way only: a second one is code for
/// each type in them.
pub(super) fn indented(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let (mut quoted, mut escaped) = (false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    for byte in json {
        if quoted {
            out.push(*byte);
            (quoted, escaped) = (escaped || *byte != b'"', !escaped && *byte == b'\\');
            continue;
        }
        let begins = matches!(out.last(), Some(b'{' | b'['));
        match byte {
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !begins {
                    line(&mut out, depth);
                }
            }
            _ if begins => line(&mut out, depth),
            _ => {}
        }
        out.push(*byte);
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => depth += 1,
            b',' => line(&mut out, depth),
            b':' => out.push(b' '),
            _ => {}
        }
    }
    out
}

/// For members that are left out when they are 0.
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// For members that are left out when they are false.
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_begin_with_their_largest_unit() {
        let text = |seconds| Uptime(Duration::from_secs(seconds)).to_string();
        assert_eq!(text(0), "0s");
        assert_eq!(text(59), "59s");
        assert_eq!(text(60), "1m0s");
        assert_eq!(text(3 * 3600 + 5), "3h0m5s");
        assert_eq!(text(86_400), "1d0h0m0s");
        assert_eq!(text(366 * 86_400 + 61), "1y1d0h1m1s");
    }

    #[test]
    fn spans_are_those_of_go() {
        let text = |nanos| Span(Duration::from_nanos(nanos)).to_string();
        assert_eq!(text(0), "0s");
        assert_eq!(text(999), "999ns");
        assert_eq!(text(300_000), "300µs");
        assert_eq!(text(1_001), "1.001µs");
        assert_eq!(text(1_500_000), "1.5ms");
        assert_eq!(text(2_000_000_001), "2.000000001s");
        assert_eq!(text(60_000_000_000), "1m0s");
        assert_eq!(text(3_600_500_000_000), "1h0m0.5s");
    }

    #[test]
    fn values_in_json() {
        assert_eq!(json(Time(Duration::new(1, 500_000_000))), r#""1970-01-01T00:00:01.5Z""#);
        assert_eq!(json(Number(2.0)), "2");
        assert_eq!(json(Number(0.125)), "0.125");
        assert_eq!(json(Nanos(Duration::from_secs(120))), "120000000000");
    }

    #[test]
    fn indented_json_has_a_line_for_each_member() {
        for value in [
            serde_json::json!({"a": [1, -2.5, {"b": {}}, []], "c": "}]\\\",:{[ \u{e9}", "d": null, "": {"e": true}}),
            serde_json::json!([]),
            serde_json::json!("{\\"),
            serde_json::json!([[[1], []], {"\\\\\"": "\\"}]),
        ] {
            let text = String::from_utf8(indented(value.to_string().as_bytes())).unwrap();
            assert_eq!(text, serde_json::to_string_pretty(&value).unwrap());
        }
    }

    fn json(value: impl Serialize) -> String {
        serde_json::to_string(&value).unwrap()
    }
}
