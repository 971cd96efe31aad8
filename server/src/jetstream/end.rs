//! How the thread of the streams is told of the daemon's end, in two steps: before connections close, and after.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Asked for by the daemon, done by the thread, which has to be woken for it.
#[derive(Default)]
pub(super) struct End {
    parts: AtomicBool,
    parted: Notify,
    asked: AtomicBool,
}

impl End {
    /// Connections are about to be closed.
    pub(super) fn part(&self) {
        self.parts.store(true, Ordering::Release);
    }

    /// Whether clients are to be told of it, and weren't yet.
    pub(super) fn is_parting(&self) -> bool {
        self.parts.load(Ordering::Acquire)
    }

    /// Clients were told.
    pub(super) fn parted(&self) {
        self.parts.store(false, Ordering::Release);
        self.parted.notify_one();
    }

    /// Waits until they were.
    pub(super) async fn until_parted(&self) {
        self.parted.notified().await;
    }

    /// The thread is to end.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// Whether it is.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}
