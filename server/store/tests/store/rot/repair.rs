//! What `midge store repair` makes of a store that rotted.

use std::collections::BTreeMap;

use midge_store::disk::sim::SimDisk;
use midge_store::{ReadError, Store};

use super::shared::Shared;
use super::{OPTIONS, sample};
use crate::common::Model;

/// Repairs, and judges what that leaves: nothing was destroyed, nothing is damaged any more, and what is lost is named.
fn judge_repair(disk: SimDisk, model: &Model, what: &str) -> u64 {
    let before: BTreeMap<String, Vec<u8>> =
        disk.files().map(|(name, _)| (name.to_owned(), disk.bytes(name).unwrap().to_vec())).collect();
    let fail = |error| -> ! { panic!("{what}: {error}") };
    let planned = midge_store::repair(disk.clone(), 1, true).unwrap_or_else(|error| fail(error));
    assert_eq!(planned.directory, None);
    let mut shared = Shared::new(disk);
    let done = midge_store::repair(shared.clone(), 1, false).unwrap_or_else(|error| fail(error));
    assert_eq!((&done.aside, &done.damages), (&planned.aside, &planned.damages), "{what}");
    assert!(done.left.is_empty(), "{what}: {done:?}");
    assert_eq!(done.directory.is_some(), !done.aside.is_empty(), "{what}");
    let disk = shared.take();
    for name in &done.aside {
        let kept = disk.bytes(&format!("{}/{name}", done.directory.as_ref().unwrap()));
        assert!(kept == before.get(name).map(Vec::as_slice), "{what}: {name} isn't as it was");
    }
    let again = midge_store::repair(disk.clone(), 1, false).unwrap_or_else(|error| fail(error));
    assert_eq!((&again.aside[..], &again.damages[..]), (&[][..], &[][..]), "{what}");
    assert_eq!((again.messages, &again.lost), (done.messages, &done.lost), "{what}");

    let (mut store, report) = Store::open(disk, OPTIONS).unwrap();
    assert_eq!((report.damages.len(), report.messages), (0, done.messages), "{what}: {report:?}");
    let mut lost = 0;
    for (id, stream) in &model.streams {
        for seq in stream.messages.keys() {
            match store.read(*id, *seq) {
                Ok(Some(message)) => assert_eq!(message.payload, stream.messages[seq].payload, "{what}"),
                Err(ReadError::Damaged(_)) => {
                    assert!(store.is_damaged(*id, *seq), "{what}");
                    lost += 1;
                }
                other => panic!("{what}: message {seq} of {id}: {other:?}"),
            }
        }
        let seq = store.append(*id, &midge_store::Append::default()).unwrap();
        assert!(seq > stream.last_seq, "{what}: {seq} is given again");
    }
    store.commit().unwrap();
    lost
}

/// Of every kind of place some: headers, heads, records, ops, feet, indexes, zeros.
#[test]
fn what_rotted_is_repaired() {
    let (disk, model) = sample(3, 170);
    assert_eq!(judge_repair(disk.clone(), &model, "well"), 0);
    let files: Vec<(String, usize)> = disk.files().map(|(name, size)| (name.to_owned(), size)).collect();
    let mut cost = 0;
    for (name, size) in &files {
        for bit in (0..size * 8).step_by(211) {
            let mut rotten = disk.clone();
            rotten.flip(name, bit);
            let lost = judge_repair(rotten, &model, &format!("{name} bit {bit}"));
            assert!(lost <= 1);
            cost += lost;
        }
        for page in 0..size / 512 {
            let mut rotten = disk.clone();
            rotten.page_bytes = 512;
            rotten.make_unreadable(name, page);
            judge_repair(rotten, &model, &format!("{name} page {page} can't be read"));
        }
    }
    assert!(cost > 10, "{cost} messages");
}

/// The power goes at each call of a repair: done again, it comes to the same.
#[test]
fn a_repair_may_be_cut_off() {
    let (mut disk, model) = sample(3, 170);
    let (name, size) = disk.files().next().map(|(name, size)| (name.to_owned(), size)).unwrap();
    for at in 1_024..1_536.min(size) {
        disk.damage(&name, at, |byte| byte ^ 0x55);
    }
    let mut at = 1;
    loop {
        let mut shared = Shared::new(disk.clone());
        shared.cut_at(disk.calls + at);
        let finished = midge_store::repair(shared.clone(), 1, false).is_ok();
        let after = shared.take().crash(at);
        judge_repair_after(after, &model, &format!("cut off at call {at}"));
        if finished {
            break;
        }
        at += 1;
    }
    assert!(at > 20, "{at} calls");
}

fn judge_repair_after(disk: SimDisk, model: &Model, what: &str) {
    let mut shared = Shared::new(disk);
    let done =
        midge_store::repair(shared.clone(), 1, false).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(done.left.is_empty(), "{what}: {done:?}");
    let (mut store, _) = Store::open(shared.take(), OPTIONS).unwrap();
    for (id, stream) in &model.streams {
        for seq in stream.messages.keys() {
            let read = store.read(*id, *seq);
            assert!(
                matches!(read, Ok(Some(_)) | Err(ReadError::Damaged(_))),
                "{what}: {seq} of {id}: {read:?}"
            );
        }
    }
}
