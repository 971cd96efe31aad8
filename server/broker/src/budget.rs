//! One ceiling for all memory: what is refused when it is reached, and how long queues may be before.
//!
//! The driver says at each turn how much is in use; nothing is charged by hand, so nothing is forgotten. A queue may be
//! as long as `max_pending`, and never longer than what is left of the budget: as that shrinks, the longest queues go
//! first, and those who keep up notice nothing.

use crate::broker::{Broker, Now};
use crate::conn::Port;

/// Memory that the daemon may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Bytes; `u64::MAX`: any amount.
    total: u64,
    in_use: u64,
    /// Times that something was refused.
    pub(crate) refusals: u64,
}

/// What a connection may always be owed, so that whoever keeps up survives the flood of another.
const PENDING_MIN: u64 = 64 * 1024;

impl Budget {
    pub(crate) fn new(total: u64) -> Self {
        Self { total, in_use: 0, refusals: 0 }
    }

    pub(crate) fn set_total(&mut self, total: u64) {
        self.total = total;
    }

    #[inline]
    pub(crate) fn set_in_use(&mut self, bytes: u64) {
        self.in_use = bytes;
    }

    /// Bytes that are left.
    #[inline]
    fn left(&self) -> u64 {
        self.total.saturating_sub(self.in_use)
    }

    /// Whether there is room for `bytes` more; counts a refusal if not.
    #[inline]
    pub(crate) fn admits(&mut self, bytes: u64) -> bool {
        let admits = self.left() >= bytes;
        self.refusals += u64::from(!admits);
        admits
    }

    /// Most bytes that one connection may be owed now, where `max` is configured.
    #[inline]
    pub(crate) fn pending_max(&self, max: u64) -> u64 {
        max.min(self.left().max(PENDING_MIN))
    }
}

impl<P: Port> Broker<P> {
    /// To be called at the beginning of each turn, with the bytes of memory that are in use.
    pub fn begin_turn(&mut self, now: Now, memory_in_use: usize) {
        self.turn = now.mono;
        self.budget.set_in_use(memory_in_use as u64);
    }

    /// Times that something was refused because there was no memory left within the budget.
    pub fn memory_refusals(&self) -> u64 {
        self.budget.refusals
    }

    /// Pending bytes from which a connection is closed as too slow, now.
    pub(crate) fn max_pending(&self) -> u64 {
        self.budget.pending_max(self.settings.max_pending)
    }

    /// Pending bytes from which a connection counts as nearly full, now: its publishers are slowed down.
    pub(crate) fn stall_pending(&self) -> usize {
        usize::try_from(self.max_pending() / 4 * 3).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_shrink_with_what_is_left() {
        let mut budget = Budget::new(1 << 30);
        assert_eq!(budget.pending_max(64 << 20), 64 << 20);
        budget.set_in_use((1 << 30) - (10 << 20));
        assert_eq!(budget.pending_max(64 << 20), 10 << 20);
        assert!(budget.admits(10 << 20) && !budget.admits((10 << 20) + 1));
        budget.set_in_use(2 << 30);
        assert_eq!((budget.pending_max(64 << 20), budget.pending_max(1000)), (PENDING_MIN, 1000));
        assert!(!budget.admits(1));
        assert_eq!(budget.refusals, 2);
    }
}
