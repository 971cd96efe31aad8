//! When silence means something.

use crate::time::Instant;

/// The server was silent for too long: hang up, connect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Silence {
    /// No INFO in time.
    Greeting,
    /// No answer to CONNECT in time.
    Connecting,
    /// PINGs stayed without an answer.
    Stale,
}

impl core::fmt::Display for Silence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Greeting => "the server did not greet in time",
            Self::Connecting => "the server did not answer CONNECT in time",
            Self::Stale => "the server does not answer any more",
        })
    }
}

impl core::error::Error for Silence {}

/// One deadline. Whatever arrives is noted, not timed: reading needs no clock. A PING is sent when nothing arrived
/// between two deadlines, so a busy connection sends none.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Keepalive {
    /// A PING is to be sent.
    pub(super) ping_due: bool,
    /// The server gave a sign of life since the last deadline.
    pub(super) heard: bool,
    /// PINGs that were asked for since the server was last heard.
    unanswered: u8,
    pub(super) deadline: Instant,
}

impl Keepalive {
    pub(super) fn new(now: Instant, ms: u32) -> Self {
        Self { deadline: now.wrapping_after_ms(ms), ping_due: false, heard: false, unanswered: 0 }
    }

    /// Begins anew, with a deadline so many ms from now.
    #[inline(never)]
    pub(super) fn begin(&mut self, now: Instant, ms: u32) {
        *self = Self::new(now, ms);
    }

    /// The deadline has passed.
    pub(super) fn tick(&mut self, now: Instant, interval_ms: u32, pings_max: u8) -> Result<(), Silence> {
        let unanswered = if self.heard { 0 } else { self.unanswered.saturating_add(1) };
        if unanswered > pings_max {
            return Err(Silence::Stale);
        }
        self.begin(now, interval_ms);
        (self.unanswered, self.ping_due) = (unanswered, unanswered > 0);
        Ok(())
    }
}
