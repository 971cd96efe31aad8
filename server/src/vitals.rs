//! What ails the streams, for those who ask whether the daemon is fit to serve.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// What is wrong. Nothing, at first.
#[derive(Debug, Default)]
pub(crate) struct Vitals(AtomicU8, Mutex<Option<ClockVital>>);

/// How far the machine's clock is believed.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ClockVital {
    /// It is.
    pub(crate) trusted: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    /// How far what messages are stamped with is ahead of it, in ms.
    pub(crate) stamps_ahead_ms: i64,
    /// Times that it was set forward while it was believed.
    pub(crate) jumps: u64,
    /// How long the machine was off before this start, as far as it is known, in ms.
    pub(crate) off_ms: i64,
}

const FULL: u8 = 1;
const FAILED: u8 = 2;
const DAMAGED: u8 = 4;

#[cfg_attr(not(feature = "jetstream"), expect(dead_code, reason = "streams alone can be ill"))]
impl Vitals {
    /// The disk takes everything again.
    pub(crate) fn recover(&self) {
        self.0.fetch_and(DAMAGED, Ordering::Relaxed);
    }

    /// The disk is full.
    pub(crate) fn fill(&self) {
        self.recover();
        self.0.fetch_or(FULL, Ordering::Relaxed);
    }

    /// The disk failed.
    pub(crate) fn fail(&self) {
        self.recover();
        self.0.fetch_or(FAILED, Ordering::Relaxed);
    }

    /// How the clock stands.
    pub(crate) fn set_clock(&self, clock: ClockVital) {
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
    }

    /// Something that was stored isn't what it was.
    pub(crate) fn damage(&self) {
        self.0.fetch_or(DAMAGED, Ordering::Relaxed);
    }
}

impl Vitals {
    /// How the clock stands. None without streams, which alone need one.
    pub(crate) fn clock(&self) -> Option<ClockVital> {
        *self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why messages are refused.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match self.0.load(Ordering::Relaxed) & !DAMAGED {
            0 => None,
            FULL => Some("the disk is full: messages for streams are refused"),
            _ => Some("the disk failed: streams are only read"),
        }
    }

    /// What has been lost.
    pub(crate) fn degraded(&self) -> Option<&'static str> {
        (self.0.load(Ordering::Relaxed) & DAMAGED != 0)
            .then_some("stored messages are damaged: see the log, or midge store check")
    }
}
