//! Rot: every bit of every file of a small store, one after the other, and whole pages. What is wrong is never served, it
//! is named, and everything else is there.

mod common;

use std::collections::BTreeMap;

use common::{Model, Op, Random};
use midge_store::disk::sim::SimDisk;
use midge_store::{Damaged, Error, Options, ReadError, Store};

const OPTIONS: Options = Options {
    segment_bytes: 8 << 10,
    page_bytes: 512,
    frame_bytes_max: 1 << 10,
    store_bytes_max: 0,
    slack_segments: 1,
    scrub_bytes_per_second: 0,
    seed: 1,
    read_only: false,
};

/// A store of some segments, sealed and active, and what is in it.
fn sample(seed: u64, ops: usize) -> (SimDisk, Model) {
    let (mut store, _) = Store::open(SimDisk::new(seed), OPTIONS).unwrap();
    let (mut model, mut random) = (Model::default(), Random(seed));
    for _ in 0..ops {
        match common::random_op(&mut random) {
            Op::Kill | Op::Reopen | Op::Delete(_) | Op::Purge { .. } | Op::RemoveFirst(_) => {}
            Op::Append { size, .. } if size > 900 => {}
            op => match model.try_apply(&mut store, &op) {
                Ok(()) | Err(Error::TooMuchState) => {}
                Err(error) => panic!("{error}"),
            },
        }
    }
    store.commit().unwrap();
    (store.close().unwrap(), model)
}

/// Judges a store that rotted, as it is opened once and again: what is lost stays named.
fn judge(disk: SimDisk, model: &Model, what: &str) -> (u64, Vec<Damaged>) {
    let (store, _) = Store::open(disk.clone(), OPTIONS).unwrap_or_else(|error| panic!("{what}: {error}"));
    let once = judge_once(disk, model, what);
    let again = judge_once(store.into_disk(), model, &format!("{what}, opened again"));
    assert!(once.1.contains(&Damaged::Frame) || once.0 == again.0, "{what}: {} and {} lost", once.0, again.0);
    once
}

/// Opens a store that rotted, and counts the messages that are named as damaged.
fn judge_once(disk: SimDisk, model: &Model, what: &str) -> (u64, Vec<Damaged>) {
    let (mut store, report) = Store::open(disk, OPTIONS).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut named: Vec<Damaged> = report.damages.iter().map(|damage| damage.what).collect();
    assert!(store.streams().eq(model.streams.keys().copied()), "{what}: streams");
    let mut lost = 0;
    for (id, stream) in &model.streams {
        assert_eq!(store.config(*id).unwrap(), stream.config, "{what}: configuration");
        let states: BTreeMap<_, _> =
            store.states(*id).unwrap().map(|(key, state)| (key.to_vec(), state.clone())).collect();
        assert!(states == stream.states || named.contains(&Damaged::Frame), "{what}: states");
        let state = store.state(*id).unwrap();
        assert!(state.last_seq >= stream.last_seq, "{what}: {state:?}, not {}; {report:?}", stream.last_seq);
        for (seq, expected) in &stream.messages {
            match store.read(*id, *seq) {
                Ok(Some(message)) => assert!(
                    !store.is_damaged(*id, *seq)
                        && message.subject == expected.subject
                        && message.headers == expected.headers
                        && message.payload == expected.payload
                        && (message.time, message.expires) == (expected.time, expected.expires),
                    "{what}: message {seq} of {id} is wrong"
                ),
                Ok(None) => panic!("{what}: message {seq} of {id} is gone without a word; {report:?}"),
                Err(ReadError::Damaged(damage)) => {
                    assert_eq!(damage.stream, Some(*id));
                    assert!(
                        (damage.first_seq..=damage.last_seq).contains(seq) && damage.file.ends_with(".seg")
                    );
                    assert!(store.is_damaged(*id, *seq), "{what}: {seq} of {id} isn't remembered as damaged");
                    let ranges = store.damaged(*id, usize::MAX);
                    assert!(ranges.iter().any(|(first, last)| (*first..=*last).contains(seq)), "{what}");
                    named.push(damage.what);
                    lost += 1;
                }
                Err(ReadError::Disk(error)) => panic!("{what}: {error}"),
            }
        }
        // Removed messages don't come back, unless the op that removed them is gone, and that is named.
        if !named.contains(&Damaged::Frame) {
            assert!(
                store.state(*id).unwrap().messages <= stream.messages.len() as u64,
                "{what}: more messages than before"
            );
        }
    }
    (lost, named)
}

#[test]
fn every_bit_may_flip() {
    let (disk, model) = sample(3, 170);
    let files: Vec<(String, usize)> = disk.files().map(|(name, size)| (name.to_owned(), size)).collect();
    let messages: usize = model.streams.values().map(|stream| stream.messages.len()).sum();
    let payload: usize =
        model.streams.values().flat_map(|s| s.messages.values()).map(|m| m.payload.len()).sum();
    assert!(files.len() >= 5 && messages > 30, "{files:?}, {messages} messages");
    let (disk, model, files) = (&disk, &model, &files);
    let part = |part: usize| {
        let (mut flips, mut noticed, mut damaged) = (0_u64, 0_u64, 0_u64);
        for (name, size) in files {
            for bit in (part..size * 8).step_by(2) {
                let mut rotten = disk.clone();
                assert!(rotten.flip(name, bit));
                let what = format!("{name} bit {bit}");
                // Opening twice is dear; each place gets it for one of its bits.
                let judge = if bit % 7 == 0 { judge } else { judge_once };
                let (lost, named) = judge(rotten, model, &what);
                assert!(lost <= 1, "{what}: {lost} messages are lost");
                flips += 1;
                noticed += u64::from(!named.is_empty());
                damaged += lost;
            }
        }
        (flips, noticed, damaged)
    };
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| part(1));
        (part(0), other.join().unwrap())
    });
    let (flips, noticed, damaged) = (one.0 + two.0, one.1 + two.1, one.2 + two.2);
    println!(
        "{flips} flips, {noticed} noticed, {damaged} cost a message; {messages} messages, {payload} B of payload"
    );
    assert!(damaged >= payload as u64 * 8, "a bit of a payload can't be right by itself");
}

#[test]
fn every_page_may_be_zeroed_or_garbled() {
    let (disk, model) = sample(5, 600);
    let files: Vec<(String, usize)> = disk.files().map(|(name, size)| (name.to_owned(), size)).collect();
    let mut random = Random(9);
    for (name, size) in &files {
        for page in 0..size / 512 {
            for garble in [false, true] {
                let mut rotten = disk.clone();
                for at in page * 512..(page + 1) * 512 {
                    let byte = random.next() as u8;
                    rotten.damage(name, at, |_| if garble { byte } else { 0 });
                }
                judge(rotten, &model, &format!("{name} page {page} garbled {garble}"));
            }
        }
    }
}

/// The test of these tests: if checksums weren't looked at, they would notice. A byte of a payload is changed, and the
/// record's checksums are made to fit, by what FORMAT.md says of them.
#[test]
fn a_store_that_checked_nothing_would_be_noticed() {
    let (disk, model) = sample(3, 170);
    let files: Vec<(String, usize)> = disk.files().map(|(name, size)| (name.to_owned(), size)).collect();
    let mut forged = 0;
    for (name, _) in &files {
        let bytes = disk.bytes(name).unwrap().to_vec();
        if !bytes.starts_with(b"midgeseg") {
            continue;
        }
        let seed = crc32c::crc32c(&[&bytes[16..24], &bytes[24..32], &bytes[32..40]].concat());
        let sum = |at: usize, parts: &[&[u8]]| {
            let start = crc32c::crc32c_append(seed, &(at as u64).to_le_bytes());
            parts.iter().fold(start, |sum, part| crc32c::crc32c_append(sum, part))
        };
        for at in (0..bytes.len() - 48).step_by(8) {
            let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            if bytes[at + 8] != 0xC7 || sum(at, &[&bytes[at + 4..at + 48]]) != field(at) {
                continue;
            }
            let subject = usize::from(u16::from_le_bytes([bytes[at + 10], bytes[at + 11]]));
            let end = at + 48 + subject + field(at + 32) as usize + field(at + 36) as usize;
            if field(at + 36) == 0 {
                continue;
            }
            let mut rotten = bytes.clone();
            rotten[end - 1] ^= 1;
            let body = sum(at, &[&rotten[at + 8..end]]);
            rotten[at + 4..at + 8].copy_from_slice(&body.to_le_bytes());
            let head = sum(at, &[&rotten[at + 4..at + 48]]);
            rotten[at..at + 4].copy_from_slice(&head.to_le_bytes());
            let mut disk = disk.clone();
            for (at, byte) in rotten.iter().enumerate() {
                disk.damage(name, at, |_| *byte);
            }
            let (mut store, _) = Store::open(disk, OPTIONS).unwrap();
            forged += u64::from(model.difference(&mut store).is_some());
        }
    }
    let messages: usize = model.streams.values().map(|stream| stream.messages.len()).sum();
    assert!(forged > messages as u64 / 2, "{forged} of {messages} forgeries were noticed");
}
