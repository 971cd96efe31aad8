//! Power cuts: at any call, in any way in which the disk may come back, what a commit returned `Ok` for is there, and
//! a commit that was under way is there as a whole or not at all.
//!
//! `STATES=100000000 SEED=7 cargo test -p midge-store --test store crash` looks at more states, or others.

use crate::common::{self, Model, Op, Random, small};
use midge_store::disk::sim::{Fault, SimDisk};
use midge_store::{Error, Store};

/// What a store may be after a crash: the last of these that was committed, or any after it.
struct Run {
    disk: SimDisk,
    candidates: Vec<Model>,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Does random things until the power goes at the n-th call, or the ops end.
fn run(seed: u64, ops: usize, cut_at: Option<u64>, spoil: fn(&mut SimDisk)) -> Run {
    let mut random = Random(seed);
    let mut disk = SimDisk::new(seed);
    disk.page_bytes = 512;
    spoil(&mut disk);
    let mut model = Model::default();
    let Ok((mut store, _)) = Store::open(disk, small(seed)) else { panic!("a new disk is fine") };
    store.disk_mut().fail_at = cut_at.map(|at| (store.disk().calls + at, Fault::PowerCut));
    let mut candidates = vec![model.clone()];
    for _ in 0..ops {
        let mut op = common::random_op(&mut random);
        if matches!(op, Op::Kill | Op::Reopen) {
            op = Op::Commit;
        }
        let (before, commits) = (model.clone(), store.usage().commits);
        let done = model.try_apply(&mut store, &op);
        if done.is_err() {
            candidates.push(before);
            return Run { disk: store.into_disk(), candidates };
        }
        match op {
            Op::Commit => candidates = vec![model.clone()],
            Op::Flush => candidates.push(model.clone()),
            // The op had to commit first what was staged.
            _ if store.usage().commits > commits => candidates = vec![before],
            _ => {}
        }
    }
    candidates.push(model);
    Run { disk: store.into_disk(), candidates }
}

/// Opens what a crash left, maybe losing power again on the way, and says what is wrong with it.
fn judge(run: &Run, seed: u64) -> Option<String> {
    let mut disk = run.disk.crash(seed);
    let mut random = Random(seed);
    if random.below(8) == 0 {
        disk.fail_at = Some((1 + random.below(12), Fault::PowerCut));
        match Store::open(disk.clone(), small(seed)) {
            Ok((store, _)) => disk = store.into_disk().crash(random.next()),
            // The disk went with the store that couldn't be opened: the calls until then are replayed on a copy.
            Err(Error::Disk(_)) => disk.fail_at = None,
            Err(error) => return Some(format!("interrupted opening: {error}")),
        }
    }
    let (mut store, report) = match Store::open(disk, small(seed)) {
        Ok(opened) => opened,
        Err(error) => return Some(format!("doesn't open: {error}")),
    };
    let serious = report.damages.iter().find(|damage| damage.stream.is_some());
    if let Some(damage) = serious {
        return Some(format!("names damage: {damage}"));
    }
    let mut why = None;
    for candidate in run.candidates.iter().rev() {
        match candidate.difference(&mut store) {
            None => return after(&mut store, &run.candidates[0]),
            Some(difference) => why = Some(difference),
        }
    }
    why.map(|why| format!("none of {} fits; the committed one: {why}", run.candidates.len()))
}

/// What was found works, and no sequence that was acknowledged is given out again.
fn after(store: &mut Store<SimDisk>, committed: &Model) -> Option<String> {
    for (id, stream) in &committed.streams {
        if !store.streams().any(|stream| stream == *id) {
            continue;
        }
        match store.append(*id, &midge_store::Append { subject: b"after", ..Default::default() }) {
            Ok(seq) if seq <= stream.last_seq => {
                return Some(format!("sequence {seq} of {id} is given out again"));
            }
            Ok(_) => {}
            Err(error) => return Some(format!("can't go on: {error}")),
        }
    }
    store.commit().err().map(|error| format!("can't go on: {error}"))
}

/// Looks at `states` crash states; returns how many were wrong and the first that was.
fn explore(states: u64, first_seed: u64, spoil: fn(&mut SimDisk)) -> (u64, Option<String>) {
    const STATES_A_RUN: u64 = 200;
    let (mut wrong, mut first, mut done, mut seed) = (0, None, 0, first_seed);
    while done < states {
        let mut random = Random(seed);
        // Some runs are so long that segments are cleaned.
        let long = random.below(4) == 0;
        let ops = 20 + random.below(if long { 1_500 } else { 150 }) as usize;
        let cut_at = (random.below(4) != 0).then(|| 1 + random.below(if long { 1_000 } else { 80 }));
        let run = run(seed, ops, cut_at, spoil);
        for state in 0..STATES_A_RUN {
            if let Some(why) = judge(&run, seed.wrapping_mul(1_000_003) + state) {
                wrong += 1;
                first.get_or_insert_with(|| format!("seed {seed}, state {state}: {why}"));
            }
        }
        done += STATES_A_RUN;
        seed += 1;
    }
    (wrong, first)
}

#[test]
fn nothing_committed_is_lost_in_any_power_cut() {
    let (states, seed) = (number("STATES", 100_000), number("SEED", 1));
    let (wrong, first) = explore(states, seed, |_| {});
    assert_eq!(wrong, 0, "of {states} states from seed {seed}: {first:?}");
}

/// The tests of this test: stores that forget something must not get through.
#[test]
fn a_store_without_syncs_is_noticed() {
    let (wrong, _) = explore(2_000, 1, |disk| disk.ignore_syncs = true);
    assert!(wrong > 100, "{wrong} of 2,000");
}

#[test]
fn a_store_without_directory_syncs_is_noticed() {
    let (wrong, _) = explore(2_000, 1, |disk| disk.ignore_dir_syncs = true);
    assert!(wrong > 100, "{wrong} of 2,000");
}

#[test]
fn pages_smaller_than_those_of_the_medium_are_noticed() {
    let (wrong, _) = explore(4_000, 1, |disk| disk.page_bytes = 4_096);
    assert!(wrong > 10, "{wrong} of 4,000");
}
