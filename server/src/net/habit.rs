//! Which thread serves a connection.
//!
//! ```text
//!   an event loop ── one thing at a time for the streams, and no other ──> the thread of the streams
//!         ^                                                                       │
//!         └───────── much at once, or something else, or the disk is slow ────────┘
//! ```
//!
//! Who publishes to a stream and waits for the answer wakes two threads for each message: the event loop, which has nothing
//! to do but to wake the thread of the streams. Waking a processor that sleeps takes longer than all the work on the
//! message, and where the disk is quick, longer than the disk. So a connection that does nothing else is served by the
//! thread of the streams itself. Everybody else is never made to wait for a disk, however long it takes.

use crate::hub::Brought;

/// Turns in a row, each with one thing for the streams, after which a connection goes to their thread.
const TURNS: u16 = 32;
/// Each return doubles them, up to so many times.
const DOUBLED_MAX: u8 = 7;
/// A turn that brought something else counts as so many that brought one thing.
const OTHERWISE: u16 = 4;
/// What a turn brings alone: a message, or an acknowledgement and the request for the next.
const ALONE_LETTERS: usize = 2;
/// Bytes of that. The larger a message, the less a thread more matters.
const ALONE_BYTES: usize = 4096;
/// Connections on the thread of the streams. More of them share commits, and the waking of threads with that.
pub(super) const RESIDENTS_MAX: usize = 16;

/// What a connection has done lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Habit {
    /// Towards the thread of the streams.
    score: u16,
    doubled: u8,
    /// It is there.
    moved: bool,
}

impl Habit {
    /// Notes what a turn on `bytes` of input brought. Says whether the connection should be on another thread.
    pub(super) fn note(&mut self, brought: Brought, bytes: usize, streams: Streams) -> bool {
        match brought.letters {
            // Answered on the way, on whichever thread.
            1..=ALONE_LETTERS if !brought.woke => {}
            1..=ALONE_LETTERS if bytes <= ALONE_BYTES => self.score += 1,
            0..=ALONE_LETTERS => self.score = self.score.saturating_sub(OTHERWISE),
            _ => self.score = 0,
        }
        if self.moved {
            self.score = self.score.min(TURNS);
            return self.score == 0 || !streams.quick;
        }
        self.score = self.score.min(TURNS << self.doubled);
        self.score == TURNS << self.doubled && streams.quick && streams.residents < RESIDENTS_MAX
    }

    /// Whether the connection is on the thread of the streams.
    pub(super) fn has_moved(self) -> bool {
        self.moved
    }

    /// It goes to the other thread.
    pub(super) fn turn_over(&mut self) {
        if self.moved {
            self.doubled = (self.doubled + 1).min(DOUBLED_MAX);
        }
        self.moved = !self.moved;
        self.score = if self.moved { TURNS } else { 0 };
    }
}

/// How the thread of the streams is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    /// The disk takes no longer than waking a thread.
    pub(super) quick: bool,
    /// Connections on it.
    pub(super) residents: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Streams = Streams { quick: true, residents: 0 };
    const SINGLE: Brought = Brought { letters: 1, woke: true };
    const BULK: Brought = Brought { letters: 40, woke: true };
    const OTHER: Brought = Brought { letters: 0, woke: false };

    /// Turns until the connection moves.
    fn turns(habit: &mut Habit, brought: Brought, streams: Streams) -> Option<usize> {
        let moves = (1..10_000).find(|_| habit.note(brought, 200, streams))?;
        habit.turn_over();
        Some(moves)
    }

    #[test]
    fn one_thing_at_a_time_goes_to_the_streams_and_much_at_once_comes_back() {
        let mut habit = Habit::default();
        for doubled in [32, 64, 128] {
            assert_eq!(turns(&mut habit, SINGLE, FREE), Some(doubled));
            assert!(habit.has_moved());
            assert_eq!(turns(&mut habit, SINGLE, FREE), None, "it stays");
            assert_eq!(turns(&mut habit, BULK, FREE), Some(1));
            assert!(!habit.has_moved());
        }
        for _ in 0..20 {
            turns(&mut habit, SINGLE, FREE).unwrap();
            turns(&mut habit, BULK, FREE).unwrap();
        }
        assert_eq!(turns(&mut habit, SINGLE, FREE), Some(4096), "the most that it takes");
    }

    #[test]
    fn who_does_something_else_too_stays_with_the_others() {
        let mut habit = Habit::default();
        for _ in 0..10_000 {
            assert!(!habit.note(SINGLE, 200, FREE));
            assert!(!habit.note(OTHER, 200, FREE));
        }
        assert_eq!(turns(&mut habit, Brought { letters: 1, woke: false }, FREE), None, "answered on the way");
        for _ in 0..10_000 {
            assert!(!habit.note(SINGLE, ALONE_BYTES + 1, FREE), "large messages");
        }
        assert_eq!(turns(&mut habit, SINGLE, FREE), Some(32));
        assert_eq!(turns(&mut habit, OTHER, FREE), Some(8), "and comes back");
    }

    #[test]
    fn nobody_moves_to_a_slow_disk_or_a_full_thread() {
        let mut habit = Habit::default();
        assert_eq!(turns(&mut habit, SINGLE, Streams { quick: false, residents: 0 }), None);
        assert_eq!(turns(&mut habit, SINGLE, Streams { quick: true, residents: RESIDENTS_MAX }), None);
        assert_eq!(turns(&mut habit, SINGLE, FREE), Some(1), "it was only waited for");
        assert_eq!(turns(&mut habit, SINGLE, Streams { quick: false, residents: 1 }), Some(1), "it got slow");
    }
}
