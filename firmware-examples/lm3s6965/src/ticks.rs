//! A clock of ms.

use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m::peripheral::SYST;
use cortex_m_rt::exception;

/// Since the start.
static MILLIS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    // One writer, so a load and a store will do.
    MILLIS.store(MILLIS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// The clock.
#[derive(Clone, Copy)]
pub struct Ticks(());

impl Ticks {
    /// Has it run.
    pub fn start(timer: SYST) -> Self {
        crate::start_ticks(timer);
        Self(())
    }
}

impl emulated::Clock for Ticks {
    fn now_us(self) -> u64 {
        u64::from(MILLIS.load(Ordering::Relaxed)) * 1_000
    }

    fn wait(self) {
        cortex_m::asm::wfi();
    }
}
