//! The daemon's allocator: the C library's, with a count of what is in use, and a way to give back what isn't.
//!
//! A count of every allocation is a figure that no table of buffers can match, and it is exact. It costs an addition.
//! Freed memory stays with the C library, which keeps it for the process. [`give_back`] is for the time after a rush:
//! ten thousand clients have left, and a board has other uses for 20 MB.
//!
//! What only the start or the rush needed of the program itself is given back too: [`unmap_program`].
//!
//! This crate is the only one with unsafe code. Its contract: every call is handed to [`System`] as it came, so what
//! `GlobalAlloc` asks of callers and promises to them is what `System` asks and promises. Counting can't fail.

mod program;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

pub use program::unmap_program;

/// The allocator. To be named by `#[global_allocator]`, once.
#[derive(Debug)]
pub struct Heap;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Bytes that were asked for and not freed, in all threads. What the C library adds for itself isn't counted: about 16
/// bytes a piece. Always 0 where [`Heap`] isn't the global allocator.
#[inline]
pub fn in_use() -> usize {
    IN_USE.load(Ordering::Relaxed)
}

/// Gives freed memory back to the system, as far as whole pages are free. Takes milliseconds for each 100 MB, and
/// allocations of other threads wait: not for event loops. Where the C library isn't glibc, nothing is done: musl gives
/// memory back as it is freed.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: glibc's own function, with this signature since 2.0 and safe to call from any thread at any time;
        // it touches memory only that nobody has.
        let _anything_given = unsafe { malloc_trim(0) };
    }
}

// SAFETY: see the crate's contract.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that `System` asks for.
        let start = unsafe { System.alloc(layout) };
        count(start, layout.size());
        start
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above. Passed on, as fresh pages are zero already.
        let start = unsafe { System.alloc_zeroed(layout) };
        count(start, layout.size());
        start
    }

    #[inline]
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(start, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above. Passed on, as large blocks can grow without a copy.
        let moved = unsafe { System.realloc(start, layout, size) };
        if !moved.is_null() {
            IN_USE.fetch_add(size, Ordering::Relaxed);
            IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        moved
    }
}

#[inline]
fn count(start: *mut u8, size: usize) {
    if !start.is_null() {
        IN_USE.fetch_add(size, Ordering::Relaxed);
    }
}
