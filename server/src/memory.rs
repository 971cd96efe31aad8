//! Giving memory back after a rush.
//!
//! Each turn compares what is in use with the most that was in use since the last time. Once much of it is free, and
//! still is a moment later, the C library's free pages go back to the system, beside the event loop. A board that idles
//! does nothing of this: there is no timer until a turn has seen memory fall.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use midge_heap::Heap;
use tokio::sync::Notify;

#[global_allocator]
static HEAP: Heap = Heap;

/// Less than this isn't worth the work.
const FREED_MIN: usize = 1024 * 1024;
/// A rush that comes again within this time finds its memory where it was.
const CALM: Duration = Duration::from_secs(1);

/// Watches the tide of memory.
#[derive(Default)]
pub(crate) struct Memory {
    /// The most that was in use since memory was given back.
    high: AtomicUsize,
    /// Somebody was told that memory fell.
    told: AtomicBool,
    fell: Notify,
}

impl Memory {
    /// To be called after each turn.
    pub(crate) fn watch(&self) {
        let used = midge_heap::in_use();
        if used > self.high.load(Ordering::Relaxed) {
            self.high.fetch_max(used, Ordering::Relaxed);
        } else if self.has_fallen(used) && !self.told.swap(true, Ordering::AcqRel) {
            self.fell.notify_one();
        }
    }

    fn has_fallen(&self, used: usize) -> bool {
        let high = self.high.load(Ordering::Relaxed);
        high.saturating_sub(used) > FREED_MIN.max(high / 4)
    }

    /// Gives memory back, whenever it fell. Never returns.
    pub(crate) async fn run(&self) {
        loop {
            self.fell.notified().await;
            tokio::time::sleep(CALM).await;
            let used = midge_heap::in_use();
            if self.has_fallen(used) {
                // Fails only if the runtime is going.
                let _ = tokio::task::spawn_blocking(midge_heap::give_back).await;
                self.high.store(used, Ordering::Relaxed);
            }
            self.told.store(false, Ordering::Release);
            // What fell meanwhile was not told.
            self.watch();
        }
    }
}
