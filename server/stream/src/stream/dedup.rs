//! Message ids that were seen lately.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::time::Instant;

/// Ids within the window, each with the number of its message. Counted on the clock that never goes back.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    seen: HashMap<Box<str>, u64>,
    order: VecDeque<(Instant, Box<str>)>,
}

/// Ids that are dropped in one go.
const AT_ONCE: usize = 10_000;

impl Dedup {
    /// The message that had this id.
    pub(super) fn find(&self, id: &str) -> Option<u64> {
        self.seen.get(id).copied()
    }

    /// Remembers an id until `now + window`.
    pub(super) fn insert(&mut self, id: &str, seq: u64, window: Duration, now: Instant) {
        if window.is_zero() {
            return;
        }
        self.seen.insert(id.into(), seq);
        self.order.push_back((now + window, id.into()));
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(until, _)| *until)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        for _ in 0..AT_ONCE {
            let Some((_, id)) = self.order.pop_front_if(|(until, _)| *until <= now) else { break };
            self.seen.remove(&id);
        }
        if self.order.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_forgotten_in_time() {
        let mut dedup = Dedup::default();
        let window = Duration::from_secs(1);
        dedup.insert("a", 1, window, Instant::from_micros(0));
        dedup.insert("b", 2, window, Instant::from_micros(10));
        dedup.expire(Instant::from_micros(1_000_000));
        assert_eq!((dedup.find("a"), dedup.find("b")), (None, Some(2)));
        assert_eq!(dedup.deadline(), Some(Instant::from_micros(1_000_010)));
        dedup.insert("c", 3, Duration::ZERO, Instant::from_micros(0));
        assert_eq!(dedup.find("c"), None);
    }
}
