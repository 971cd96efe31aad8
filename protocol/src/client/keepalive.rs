//! When silence means something.

use super::Config;
use crate::time::Instant;

/// The server was silent for too long: hang up, connect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// One deadline. Whatever arrives moves it on, so a busy connection sends no PINGs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keepalive {
    pub(super) deadline: Instant,
    /// A PING is to be sent.
    pub(super) ping_due: bool,
    /// PINGs that were asked for since the server was last heard.
    unanswered: u8,
}

impl Keepalive {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { deadline, ping_due: false, unanswered: 0 }
    }

    /// The server gave a sign of life.
    pub(super) fn heard(&mut self, now: Instant, config: &Config) {
        *self = Self::new(now.saturating_add(config.ping_interval));
    }

    /// The deadline has passed.
    pub(super) fn tick(&mut self, now: Instant, config: &Config) -> Result<(), Silence> {
        if self.unanswered >= config.pings_max {
            return Err(Silence::Stale);
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.ping_due = true;
        self.deadline = now.saturating_add(config.ping_interval);
        Ok(())
    }
}
