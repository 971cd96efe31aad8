//! The store beside plain maps: any calls, in any order, give the same answers, before and after it was opened again.

use crate::common::{self, Model, Op, small};
use midge_store::disk::sim::SimDisk;
use midge_store::{Options, Store};
use proptest::prelude::*;

fn run(ops: &[Op], seed: u64) {
    let (mut store, report) = Store::open(SimDisk::new(seed), small(seed)).unwrap();
    assert!(report.created);
    let mut model = Model::default();
    for op in ops {
        match op {
            Op::Reopen => {
                let disk = store.close().unwrap();
                let (again, report) = Store::open(disk, small(seed)).unwrap();
                assert!(report.clean && report.damages.is_empty(), "{report:?}");
                store = again;
            }
            Op::Kill => {
                // The process dies after a commit; the disk has all that was given to it.
                store.commit().unwrap();
                let (again, report) = Store::open(store.into_disk(), small(seed)).unwrap();
                assert!(report.cut.is_none() && report.damages.is_empty(), "{report:?}");
                store = again;
            }
            op => model.apply(&mut store, op),
        }
        model.check(&mut store);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_give_the_answers_of_plain_maps(ops in prop::collection::vec(common::op(), 1..120), seed: u64) {
        run(&ops, seed);
    }
}

#[test]
fn long_runs_roll_retire_and_recycle_segments() {
    let mut all_moved = 0;
    for seed in 0..20 {
        let mut random = common::Random(seed);
        let ops: Vec<Op> = (0..3_000).map(|_| common::random_op(&mut random)).collect();
        let (moved, recycled) = run_sparse(&ops, seed);
        assert!(recycled > 10, "seed {seed}: {recycled} segments recycled, {moved} bytes moved");
        all_moved += moved;
    }
    assert!(all_moved > 20_000, "{all_moved} bytes moved");
}

/// As [`run`], comparing now and then. Returns bytes that cleaning moved, and segments recycled.
fn run_sparse(ops: &[Op], seed: u64) -> (u64, u64) {
    let (mut moved, mut recycled) = (0, 0);
    let (mut store, _) = Store::open(SimDisk::new(seed), small(seed)).unwrap();
    let mut model = Model::default();
    for (at, op) in ops.iter().enumerate() {
        match op {
            Op::Reopen | Op::Kill => {
                store.commit().unwrap();
                moved += store.usage().moved_bytes;
                recycled += store.usage().recycled;
                let (again, report) = Store::open(store.into_disk(), small(seed)).unwrap();
                assert!(report.cut.is_none() && report.damages.is_empty(), "seed {seed} at {at}: {report:?}");
                store = again;
                model.check(&mut store);
            }
            op => model.apply(&mut store, op),
        }
        if at % 100 == 0 {
            model.check(&mut store);
        }
    }
    model.check(&mut store);
    (moved + store.usage().moved_bytes, recycled + store.usage().recycled)
}

/// Sizes that can't be are brought to the next that can: files hold whole pages, and sixteen of them at least.
#[test]
fn odd_sizes_are_made_right() {
    for (segment_bytes, page_bytes, file) in
        [(100_001, 700, 99_328), (1, 1, 16 * 512), (40_000, 4_096, 65_536), (40_000, 512, 39_936)]
    {
        let options = Options { segment_bytes, page_bytes, ..Options::default() };
        let (mut store, _) = Store::open(SimDisk::new(1), options).unwrap();
        let stream = store.create_stream(b"s").unwrap();
        store
            .append(stream, &midge_store::Append { subject: b"s", payload: b"1", ..Default::default() })
            .unwrap();
        store.commit().unwrap();
        let sizes: Vec<usize> =
            store.disk().files().map(|(name, _)| store.disk().bytes(name).unwrap().len()).collect();
        assert!(
            sizes.contains(&file) && sizes.iter().all(|size| *size <= file),
            "{segment_bytes}: {sizes:?}"
        );
    }
}
