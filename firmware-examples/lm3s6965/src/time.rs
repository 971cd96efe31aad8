//! embassy's clock, of ms, and its executor.

use core::cell::{Cell, RefCell};
use core::task::Waker;
use cortex_m::peripheral::SYST;
use cortex_m_rt::exception;
use critical_section::Mutex;
use embassy_executor::{Spawner, raw};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;
use static_cell::StaticCell;

struct Clock {
    millis: Mutex<Cell<u64>>,
    due: Mutex<Cell<u64>>,
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock {
    millis: Mutex::new(Cell::new(0)),
    due: Mutex::new(Cell::new(u64::MAX)),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

/// Runs embassy. Its own executor for this processor waits for events, which QEMU takes for being busy; this one waits for
/// interrupts. One that comes just before that is seen with the next tick.
pub fn run(timer: SYST, start: impl FnOnce(Spawner)) -> ! {
    static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();
    crate::start_ticks(timer);
    let executor: &'static raw::Executor = EXECUTOR.init(raw::Executor::new(core::ptr::null_mut()));
    start(executor.spawner());
    loop {
        // Safety: this is the only place that polls it.
        unsafe { executor.poll() };
        cortex_m::asm::wfi();
    }
}

/// A task was woken: by an interrupt, which has ended the waiting.
#[unsafe(no_mangle)]
extern "Rust" fn __pender(_: *mut ()) {}

#[exception]
fn SysTick() {
    critical_section::with(|cs| {
        let now = CLOCK.millis.borrow(cs).get() + 1;
        CLOCK.millis.borrow(cs).set(now);
        if now >= CLOCK.due.borrow(cs).get() {
            let next = CLOCK.queue.borrow(cs).borrow_mut().next_expiration(now);
            CLOCK.due.borrow(cs).set(next);
        }
    });
}

impl Driver for Clock {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.millis.borrow(cs).get())
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            let mut queue = self.queue.borrow(cs).borrow_mut();
            if queue.schedule_wake(at, waker) {
                let next = queue.next_expiration(self.millis.borrow(cs).get());
                self.due.borrow(cs).set(next);
            }
        });
    }
}
