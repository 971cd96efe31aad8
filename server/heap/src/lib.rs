//! The daemon's allocator: the C library's, with a count of what is in use, and a way to give back what isn't.
//!
//! A count of every allocation is a figure that no table of buffers can match, and it is exact. It costs an addition.
//! Freed memory stays with the C library, which keeps it for the process. [`give_back`] is for the time after a rush:
//! ten thousand clients have left, and a board has other uses for 20 MB.
//!
//! This crate is the only one with unsafe code. Its contract: every call is handed to [`System`] as it came, so what
//! `GlobalAlloc` asks of callers and promises to them is what `System` asks and promises. Counting can't fail.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static HEAP: Heap = Heap;

    const MIB: usize = 1024 * 1024;

    /// Other tests of this process would be counted, too: it is the only one.
    #[test]
    fn all_is_counted_and_given_back() {
        let slack = MIB / 2;
        let before = in_use();
        let mut grown = vec![1u8; 8 * MIB];
        grown.reserve_exact(24 * MIB);
        let zeroed = vec![0u8; 8 * MIB];
        let used = in_use() - before;
        assert!((40 * MIB..40 * MIB + slack).contains(&used), "{used}");
        drop((grown, zeroed));
        assert!(in_use() < before + slack);

        // Small pieces with one in use behind them, which glibc keeps by itself.
        let pieces: Vec<_> = (0..20_000).map(|n| vec![n as u8; 1000]).collect();
        let last = Box::new([1u8; 1000]);
        let (full, _) = (resident(), drop(pieces));
        give_back();
        if cfg!(target_env = "gnu") {
            assert!(resident() + 15 * MIB < full, "{} of {full} bytes are still resident", resident());
        }
        drop(last);
    }

    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap() * 4096
    }
}
