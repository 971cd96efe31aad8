//! What is in use is counted, and what was freed is given back.

use midge_heap::{Heap, give_back, in_use};

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
