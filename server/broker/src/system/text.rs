//! How nats-server writes times and spans.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// A moment since the Unix epoch, written as RFC 3339 with up to nine digits behind the point.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub Duration);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = i128::try_from(self.0.as_nanos()).ok().and_then(|ns| Timestamp::from_nanosecond(ns).ok());
        serializer.collect_str(&time.unwrap_or(Timestamp::MAX))
    }
}

/// A span as a number of nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nanos(pub Duration);

impl Serialize for Nanos {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Nanos {
    /// For members that are left out when they are 0.
    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_json() {
        let time = serde_json::to_string(&Time(Duration::new(1, 500_000_000))).unwrap();
        let span = serde_json::to_string(&Nanos(Duration::from_secs(120))).unwrap();
        assert_eq!((time.as_str(), span.as_str()), (r#""1970-01-01T00:00:01.5Z""#, "120000000000"));
    }
}
