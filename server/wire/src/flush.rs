//! Writing what turns brought, once per round of a thread's event loop.
//!
//! ```text
//! sockets ready: 1 2 3 ──> task 1 reads, turn ┐
//!                          task 2 reads, turn ├─ each notes whom it owes
//!                          task 3 reads, turn ┘
//!                          flusher ──> one write per connection that is owed something
//! ```
//!
//! A turn doesn't write. It notes the connections that it owes something and wakes the thread's flusher, which by that
//! stands in the queue behind all tasks that were ready already. Sixteen requests that arrived together so reach their
//! responder in one write. A thread that owes much writes at once, so that bulk neither piles up nor waits.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::wire::Handle;

/// Bytes that a thread owes at most before it writes.
const OWED_MAX: usize = 64 * 1024;

thread_local! {
    static DUE: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
    static OWED: Cell<usize> = const { Cell::new(0) };
    static FLUSHER: Cell<Option<Waker>> = const { Cell::new(None) };
}

/// Notes that `handle` has `bytes` to write, and maybe others, too.
pub(crate) fn note(handle: &Handle, bytes: usize) {
    OWED.set(OWED.get().saturating_add(bytes));
    if handle.becomes_due() {
        DUE.with_borrow_mut(|due| due.push(handle.clone()));
    }
}

/// The end of a turn: writes now if much is owed, else soon. To be called without any lock.
pub fn settle() {
    if OWED.get() >= OWED_MAX {
        write();
    } else if DUE.with_borrow(|due| !due.is_empty()) {
        match FLUSHER.take() {
            Some(flusher) => flusher.wake(),
            // It was woken already and hasn't run yet, or this thread has none.
            None if RUNS.get() => {}
            None => write(),
        }
    }
}

thread_local! {
    /// This thread has a flusher.
    static RUNS: Cell<bool> = const { Cell::new(false) };
}

/// The flusher of the thread that it runs on. Never ends.
pub async fn run_flusher() {
    RUNS.set(true);
    poll_fn(|context| {
        write();
        FLUSHER.set(Some(context.waker().clone()));
        Poll::Pending
    })
    .await
}

fn write() {
    OWED.set(0);
    // Writing notes nobody, so the list can be lent to it; its memory is kept.
    DUE.with_borrow_mut(|due| due.drain(..).for_each(|handle| handle.write_due()));
}
