//! Rot: every bit of every file of a small store, one after the other, and whole pages. What is wrong is never served, it
//! is named, and everything else is there.

mod repair;
mod shared;
mod upkeep;

use std::collections::BTreeMap;

use self::shared::Shared;
use crate::common::{self, Model, Op, Random};
use midge_store::disk::sim::SimDisk;
use midge_store::{Damaged, Error, Health, Options, ReadError, Store};

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
    sample_without(seed, ops, |_| false)
}

fn sample_without(seed: u64, ops: usize, without: impl Fn(&Op) -> bool) -> (SimDisk, Model) {
    let (mut store, _) = Store::open(SimDisk::new(seed), OPTIONS).unwrap();
    let (mut model, mut random) = (Model::default(), Random(seed));
    for _ in 0..ops {
        match common::random_op(&mut random) {
            Op::Kill | Op::Reopen | Op::Delete(_) | Op::Purge { .. } | Op::RemoveFirst(_) => {}
            Op::Append { size, .. } if size > 900 => {}
            op if without(&op) => {}
            op => match model.try_apply(&mut store, &op) {
                Ok(()) | Err(Error::TooMuchState) => {}
                Err(error) => panic!("{error}"),
            },
        }
    }
    store.commit().unwrap();
    (store.close().unwrap(), model)
}

/// A store of which every third commit removes a message, somewhere in its older half, and cleaning follows.
fn thinned(rounds: u16) -> (SimDisk, Model) {
    let (mut store, _) = Store::open(SimDisk::new(1), OPTIONS).unwrap();
    let mut model = Model::default();
    let mut ops = vec![Op::Create(1), Op::Create(2)];
    for round in 0..rounds {
        let size = round * 7 % 90;
        ops.extend([0, 1].map(|stream| Op::Append {
            stream,
            subject: 1,
            size,
            headers: false,
            expires: false,
        }));
        if round % 3 == 0 {
            ops.push(Op::Remove { stream: 1, pick: round / 2, erase: false });
        }
        ops.extend([Op::Commit, Op::Maintain]);
    }
    ops.iter().for_each(|op| model.apply(&mut store, op));
    store.commit().unwrap();
    (store.into_disk(), model)
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
        let config = store.config(*id).unwrap();
        assert!(config == stream.config || named.contains(&Damaged::Frame), "{what}: configuration");
        let states: BTreeMap<_, _> =
            store.states(*id).unwrap().map(|(key, state)| (key.to_vec(), state.clone())).collect();
        assert!(states == stream.states || named.contains(&Damaged::Frame), "{what}: states");
        let state = store.state(*id).unwrap();
        assert!(state.last_seq >= stream.last_seq, "{what}: {state:?}, not {}; {report:?}", stream.last_seq);
        for (seq, expected) in &stream.messages {
            let at_once = store.read_at_once(*id, *seq);
            assert!(
                at_once.is_none_or(|it| it.subject == expected.subject
                    && it.headers == expected.headers
                    && it.payload == expected.payload
                    && (it.time, it.expires) == (expected.time, expected.expires)),
                "{what}: message {seq} of {id} is wrong at once"
            );
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
                    assert!((damage.first_seq..=damage.last_seq).contains(seq), "{what}: {damage}");
                    // A segment that is no more has no file.
                    let gone = what.contains(" gone") && damage.file.is_empty();
                    assert!(damage.file.ends_with(".seg") || gone, "{what}: {damage}");
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

/// With and without the indexes of the segments, for what a frame doesn't say any more an index may.
#[test]
fn every_page_may_be_zeroed_or_garbled() {
    let (whole, model) = sample(5, 600);
    let files: Vec<(String, usize)> = whole.files().map(|(name, size)| (name.to_owned(), size)).collect();
    let mut bare = whole.clone();
    let mut indexes = 0;
    for (name, size) in &files {
        for page in (0..size / 512).filter(|page| &whole.bytes(name).unwrap()[page * 512..][..4] == b"mIdx") {
            bare.damage(name, page * 512, |byte| !byte);
            indexes += 1;
        }
    }
    assert!(indexes > 5, "{indexes} indexes");
    let mut random = Random(9);
    for (disk, indexed) in [(&whole, true), (&bare, false)] {
        for (name, size) in &files {
            for page in 0..size / 512 {
                for garble in [false, true] {
                    let mut rotten = disk.clone();
                    for at in page * 512..(page + 1) * 512 {
                        let byte = random.next() as u8;
                        rotten.damage(name, at, |_| if garble { byte } else { 0 });
                    }
                    judge(rotten, &model, &format!("{name} page {page} garbled {garble} indexed {indexed}"));
                }
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
            let flags = usize::from(bytes[at + 8] & 7);
            if bytes[at + 8] & 0xF0 != 0xD0 {
                continue;
            }
            let head = 32 + (flags & 1) * 4 + (flags & 2) * 2 + (flags & 4) * 2;
            if sum(at, &[&bytes[at + 4..at + head]]) != field(at) {
                continue;
            }
            let subject = usize::from(u16::from_le_bytes([bytes[at + 10], bytes[at + 11]]));
            let end = at + head + subject + field(at + 16) as usize;
            let headers = if flags & 1 == 0 { 0 } else { field(at + 32) as usize };
            let end = end + headers;
            if field(at + 16) == 0 {
                continue;
            }
            let mut rotten = bytes.clone();
            rotten[end - 1] ^= 1;
            let body = sum(at, &[&rotten[at + 8..end]]);
            rotten[at + 4..at + 8].copy_from_slice(&body.to_le_bytes());
            let sum = sum(at, &[&rotten[at + 4..at + head]]);
            rotten[at..at + 4].copy_from_slice(&sum.to_le_bytes());
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

/// Both copies of the checkpoints of the newest segments are gone, so the log is taken up in an older one, and what cleaning moved
/// since lies in two places.
#[test]
fn the_newest_checkpoints_may_be_gone() {
    let mut opened = 0;
    for seed in 0..40 {
        let (disk, model) = sample(seed, 400);
        let mut hot: Vec<(u64, String)> = disk
            .files()
            .map(|(name, _)| name.to_owned())
            .filter_map(|name| {
                let bytes = disk.bytes(&name).unwrap();
                (bytes.starts_with(b"midgeseg") && bytes[9] == 1)
                    .then(|| (u64::from_le_bytes(bytes[24..32].try_into().unwrap()), name))
            })
            .collect();
        hot.sort_unstable();
        let mut rotten = disk.clone();
        for (segment, name) in hot.iter().rev().take(2) {
            let frame = &disk.bytes(name).unwrap()[2 * 512..];
            let field = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
            if &frame[..4] != b"mFrm" {
                break;
            }
            for at in [64 + field(36), field(28) * 512 - 64 - field(40)] {
                rotten.damage(name, 2 * 512 + at, |byte| !byte);
            }
            let what = format!("seed {seed}, checkpoints gone from segment {segment} on");
            let Ok((mut store, report)) = Store::open(rotten.clone(), OPTIONS) else { continue };
            opened += 1;
            assert!(report.damages.iter().any(|damage| damage.what == Damaged::Frame), "{what}");
            for (id, stream) in &model.streams {
                let Ok(state) = store.state(*id) else { continue };
                let seqs: Vec<u64> = store.entries(*id, 0).map(|(seq, ..)| seq).collect();
                assert_eq!(seqs.len() as u64, state.messages, "{what}: {state:?}, {seqs:?}");
                assert!(seqs.is_sorted(), "{what}: {seqs:?}");
                for (seq, expected) in &stream.messages {
                    match store.read(*id, *seq) {
                        Ok(Some(message)) => assert_eq!(message.payload, expected.payload, "{what}"),
                        Ok(None) => panic!("{what}: message {seq} of {id} is gone without a word"),
                        Err(error) => assert!(store.is_damaged(*id, *seq), "{what}: {error:?}"),
                    }
                }
            }
        }
    }
    assert!(opened > 20, "{opened}");
}

/// The newest checkpoint is gone, and of a cold segment the last frame and the index: what the frames of a segment that is given
/// up removed, only that opening sees. The next one sees the same, and so does one after a power cut at any call of the first.
#[test]
fn what_only_one_opening_can_see_it_writes_down() {
    let (mut spoilt, mut opened) = (0, 0);
    for rounds in (40..160).step_by(3) {
        let (disk, model) = thinned(rounds);
        for (number, cold) in segments(&disk, 2) {
            // All of it is on the medium, zeros on their way to a free file, too.
            let mut rotten = SimDisk::new(1);
            disk.files().for_each(|(name, _)| rotten.put(name, disk.bytes(name).unwrap().to_vec()));
            rotten.page_bytes = 512;
            spoil_newest_checkpoint(&mut rotten);
            let bytes = disk.bytes(&cold).unwrap();
            let pages: Vec<usize> = (2..bytes.len() / 512)
                .filter(|page| matches!(&bytes[page * 512..page * 512 + 4], b"mFrm" | b"mIdx"))
                .collect();
            let [.., frame, _] = pages[..] else { continue };
            for at in frame * 512..bytes.len() {
                rotten.damage(&cold, at, |byte| !byte);
            }
            spoilt += 1;
            let what = format!("{rounds} rounds, segment {number}");
            let mut shared = Shared::new(rotten.clone());
            let Ok((mut store, _)) = Store::open(shared.clone(), OPTIONS) else { continue };
            opened += 1;
            let first = see(&mut store, &model, &what);
            let (mut store, _) = Store::open(shared.take(), OPTIONS).unwrap();
            assert_eq!(first, see(&mut store, &model, &what), "{what}");
            for at in 1.. {
                let mut shared = Shared::new(rotten.clone());
                shared.cut_at(rotten.calls + at);
                let opened = Store::open(shared.clone(), OPTIONS)
                    .is_ok_and(|(store, _)| store.health() == Health::Good);
                let cut = shared.take().crash(at);
                let (mut store, _) =
                    Store::open(cut, OPTIONS).unwrap_or_else(|error| panic!("{what}, call {at}: {error}"));
                assert_eq!(first, see(&mut store, &model, &what), "{what}, cut off at call {at}");
                if opened {
                    break;
                }
            }
        }
    }
    assert!(spoilt > 50 && opened > 20, "{opened} of {spoilt}");
}

/// Number and file of the segments of a kind: 1 hot, 2 cold.
fn segments(disk: &SimDisk, kind: u8) -> Vec<(u64, String)> {
    let mut found: Vec<(u64, String)> = disk
        .files()
        .filter_map(|(name, _)| Some((disk.bytes(name)?, name)))
        .filter(|(bytes, _)| bytes.starts_with(b"midgeseg") && bytes[9] == kind)
        .map(|(bytes, name)| (u64::from_le_bytes(bytes[24..32].try_into().unwrap()), name.to_owned()))
        .collect();
    found.sort_unstable();
    found
}

/// Garbles both copies of the ops of the newest checkpoint.
fn spoil_newest_checkpoint(disk: &mut SimDisk) {
    let (_, newest) = segments(disk, 1).pop().unwrap();
    let frame = &disk.bytes(&newest).unwrap()[1_024..];
    let field = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
    for at in [64 + field(36), field(28) * 512 - 64 - field(40)] {
        disk.damage(&newest, 1_024 + at, |byte| !byte);
    }
}

/// Both copies of the ops of a frame are damaged, but not in the same places: together they still say all.
#[test]
fn two_damaged_copies_make_one() {
    let (disk, model) = sample(3, 170);
    let (_, newest) = segments(&disk, 1).pop().unwrap();
    let frame = &disk.bytes(&newest).unwrap()[1_024..];
    let field = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
    let (one, two, len) = (1_024 + 64 + field(36), 1_024 + field(28) * 512 - 64 - field(40), field(40));
    assert!(len > 200, "{len}");
    for (first, second) in [(0, 100), (len - 1, 3), (90, 0)] {
        let mut rotten = disk.clone();
        (0..9.min(len - first))
            .for_each(|more| assert!(rotten.damage(&newest, one + first + more, |byte| !byte)));
        (0..9).for_each(|more| assert!(rotten.damage(&newest, two + second + more, |byte| !byte)));
        let (mut store, report) = Store::open(rotten, OPTIONS).unwrap();
        assert_eq!(model.difference(&mut store), None);
        let what: Vec<Damaged> = report.damages.iter().map(|damage| damage.what).collect();
        assert_eq!(what, [Damaged::Copy]);
    }
}

/// While there are other slots, the one with the checkpoint before the newest isn't used for anything else, though nothing in it
/// is alive: the newest may be gone at any time. There are many free ones here, which cleaning takes at once.
#[test]
fn the_checkpoint_before_the_newest_stays() {
    let mut looked = 0;
    for seed in 0..12 {
        let (mut store, _) = Store::open(SimDisk::new(seed), OPTIONS).unwrap();
        let (mut model, mut random) = (Model::default(), Random(seed));
        model.apply(&mut store, &Op::Create(1));
        for _ in 0..200 {
            model.apply(
                &mut store,
                &Op::Append { stream: 0, subject: 1, size: 800, headers: false, expires: false },
            );
        }
        model.apply(&mut store, &Op::Purge { stream: 0, pick: u16::MAX });
        for at in 0..1_500 {
            let op = match common::random_op(&mut random) {
                Op::Kill | Op::Reopen | Op::Delete(_) | Op::Flush | Op::Seal => Op::Maintain,
                Op::Append { size, .. } if size > 900 => Op::Maintain,
                Op::Create(_) => Op::Maintain,
                Op::Put { .. } | Op::Remove { .. } => {
                    Op::Remove { stream: 0, pick: random.next() as u16, erase: false }
                }
                op => op,
            };
            match model.try_apply(&mut store, &op) {
                Ok(()) | Err(Error::TooMuchState) => {}
                Err(error) => panic!("{error}"),
            }
            // A checkpoint that nothing follows is taken for one that the power cut tore.
            if matches!(op, Op::Maintain | Op::Commit) && store.seal().unwrap() {
                let mut rotten = store.disk().clone();
                spoil_newest_checkpoint(&mut rotten);
                let what = format!("{seed}, {at}");
                let (mut again, report) =
                    Store::open(rotten, OPTIONS).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(again.streams().eq(model.streams.keys().copied()), "{what}: streams");
                // The checkpoint that is gone repeats what frames before it say, and nothing else is gone with it.
                let checkpoint = report.damages.iter().filter(|damage| damage.what == Damaged::Frame);
                assert!(checkpoint.count() <= 2, "{what}: {report:?}");
                see(&mut again, &model, &what);
                let there: usize = store.disk().files().map(|(_, size)| size).sum();
                assert!(store.usage().disk_bytes >= there as u64, "{what}: a slot is forgotten");
                looked += 1;
            }
        }
    }
    assert!(looked > 1_000, "{looked}");
}

/// The same with sequences that don't follow each other: a later record of the stream in the frame says how far it went.
#[test]
fn a_message_after_a_jump_may_lose_its_head() {
    let (mut store, _) = Store::open(SimDisk::new(1), OPTIONS).unwrap();
    let (stream, other) = (store.create_stream(b"s").unwrap(), store.create_stream(b"o").unwrap());
    let message = midge_store::Append { subject: b"s", payload: b"jumped", ..Default::default() };
    store.append(stream, &message).unwrap();
    store.commit().unwrap();
    store.append_at(stream, 200, &message).unwrap();
    store.append_at(stream, 300, &message).unwrap();
    store.commit().unwrap();
    store.append(other, &message).unwrap();
    let mut disk = store.close().unwrap();
    let (_, name) = segments(&disk, 1).pop().unwrap();
    let bytes = disk.bytes(&name).unwrap().to_vec();
    let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let is_it = |start: &usize| &bytes[*start..*start + 4] == b"mFrm" && field(*start + 32) == 2;
    let start = (2..bytes.len() / 512).map(|page| page * 512).find(is_it).unwrap();
    let (records, ops) = (field(start + 36), field(start + 40));
    for at in [start + 64 + records, start + field(start + 28) * 512 - 64 - ops] {
        disk.damage(&name, at, |byte| !byte);
    }
    (start + 64..start + 76).for_each(|at| assert!(disk.damage(&name, at, |byte| !byte)));
    let (mut store, _) = Store::open(disk, OPTIONS).unwrap();
    // The frame may have made streams, and their numbers aren't given again.
    assert!(store.create_stream(b"n").unwrap() > other + 1);
    assert!(matches!(store.read(stream, 200), Err(ReadError::Damaged(_))));
    assert_eq!(store.lost(stream).collect::<Vec<_>>(), [(2, 299)]);
    assert!(matches!((store.read(stream, 1), store.read(stream, 300)), (Ok(Some(_)), Ok(Some(_)))));
}

/// Lets the store do what there is to do.
fn maintain(store: &mut Store<SimDisk>, rounds: u64) {
    for round in 1..=rounds {
        store.maintain(std::time::Duration::from_secs(round), 4_096);
        store.commit().unwrap();
    }
}

/// A segment of another store is nobody's business, and no store is made to be only read.
#[test]
fn what_is_another_stores_stays() {
    let (disk, model) = sample(3, 170);
    let (mut other, _) = Store::open(SimDisk::new(9), Options { seed: 77, ..OPTIONS }).unwrap();
    other.create_stream(b"other").unwrap();
    let other = other.close().unwrap();
    let (_, name) = segments(&other, 1).pop().unwrap();
    let bytes = other.bytes(&name).unwrap().to_vec();
    let mut both = disk.clone();
    both.put("0000ff00.seg", bytes.clone());
    let (mut store, report) = Store::open(both, OPTIONS).unwrap();
    assert!(
        report.damages.iter().any(|it| (&*it.file, it.what) == ("0000ff00.seg", Damaged::Segment)),
        "{report:?}"
    );
    assert_eq!(model.difference(&mut store), None);
    maintain(&mut store, 20);
    assert_eq!(store.disk().bytes("0000ff00.seg"), Some(&bytes[..]));
    let read_only = Options { read_only: true, ..OPTIONS };
    assert!(matches!(Store::open(SimDisk::new(1), read_only), Err(Error::NotAStore(_))));
}

/// Nothing is alive in the segment before the newest, and cleaning needs a slot: it takes another, for what the frames of that
/// segment said, only its own checkpoint and the newest one know.
#[test]
fn the_slot_before_the_newest_is_taken_last() {
    let options = Options { slack_segments: 0, ..OPTIONS };
    let (mut store, _) = Store::open(SimDisk::new(1), options).unwrap();
    let (kept, passing) = (store.create_stream(b"kept").unwrap(), store.create_stream(b"passing").unwrap());
    let payload = [5; 300];
    let message = midge_store::Append { subject: b"s", payload: &payload, ..Default::default() };
    let newest = |store: &Store<SimDisk>| segments(store.disk(), 1).last().map_or(0, |(number, _)| *number);
    let mut now = std::time::Duration::ZERO;
    let mut maintain = |store: &mut Store<SimDisk>| {
        now += std::time::Duration::from_millis(100);
        store.maintain(now, 4_096);
        store.commit().unwrap();
    };
    // Many slots that are free.
    for _ in 0..150 {
        store.append(passing, &message).unwrap();
        store.commit().unwrap();
    }
    store.purge(passing, u64::MAX).unwrap();
    (0..5).for_each(|_| maintain(&mut store));
    assert!(store.usage().free_segments > 8, "{:?}", store.usage());
    // Something to clean.
    for _ in 0..60 {
        store.append(kept, &message).unwrap();
        store.commit().unwrap();
    }
    for seq in (1..=60).filter(|seq| seq % 10 > 0) {
        store.remove(kept, seq, midge_store::Erase::Lazily).unwrap();
    }
    let stream = store.create_stream(b"more").unwrap();
    let roll = |store: &mut Store<SimDisk>| {
        let before = newest(store);
        while newest(store) == before {
            store.append(stream, &message).unwrap();
            store.commit().unwrap();
        }
    };
    roll(&mut store);
    store.put_state(kept, b"key", b"value").unwrap();
    roll(&mut store);
    store.purge(stream, u64::MAX).unwrap();
    // That segment goes, and nothing is cleaned yet.
    assert!(store.reclaim().unwrap());
    let last = newest(&store);
    while segments(store.disk(), 2).last().is_none_or(|(number, _)| *number < last) {
        maintain(&mut store);
        assert_eq!(newest(&store), last, "it has to be cleaned before the log rolls");
    }
    assert!(store.seal().unwrap());
    let mut rotten = store.into_disk();
    spoil_newest_checkpoint(&mut rotten);
    let (mut store, report) = Store::open(rotten, options).unwrap();
    let state =
        store.states(kept).unwrap().find(|(key, _)| *key == b"key").map(|(_, state)| state.whole.clone());
    assert_eq!(state.as_deref(), Some(&b"value"[..]), "{report:?}");
    assert!((10..=60).step_by(10).all(|seq| matches!(store.read(kept, seq), Ok(Some(_)))), "{report:?}");
}

/// The newest checkpoint is gone and the segment before it is, too: what its frames said can't be known, and that is named.
#[test]
fn a_segment_between_may_be_gone() {
    let (mut opened, mut named) = (0, 0);
    for seed in 0..60 {
        let (disk, model) = sample(seed, 400);
        let [.., (_, before), _] = &segments(&disk, 1)[..] else { continue };
        let mut rotten = disk.clone();
        spoil_newest_checkpoint(&mut rotten);
        midge_store::disk::Disk::remove(&mut rotten, before).unwrap();
        let what = format!("seed {seed}, {before} gone");
        let Ok((mut store, report)) = Store::open(rotten, OPTIONS) else { continue };
        opened += 1;
        assert!(report.damages.iter().any(|damage| damage.what == Damaged::Frame), "{what}: {report:?}");
        for id in store.streams().collect::<Vec<_>>() {
            for (seq, expected) in &model.streams[&id].messages {
                match store.read(id, *seq) {
                    Ok(Some(message)) => assert_eq!(message.payload, expected.payload, "{what}"),
                    Ok(None) => panic!("{what}: message {seq} of {id} is gone without a word; {report:?}"),
                    Err(error) => {
                        assert!(store.is_damaged(id, *seq), "{what}: {error:?}");
                        named += 1;
                    }
                }
            }
            let seq = store.append(id, &midge_store::Append::default()).unwrap();
            assert!(seq > model.streams[&id].last_seq, "{what}: {seq} of {id} is given again");
        }
    }
    assert!(opened > 20 && named > 100, "{opened} opened, {named} messages named");
}

/// Both copies of a frame's ops are gone, and with them the head of a record: nothing says which message that was, so what may have
/// been there is named, if sequences follow each other.
#[test]
fn a_frame_may_lose_its_ops_and_the_head_of_a_record() {
    let (whole, model) = sample_without(5, 600, |op| matches!(op, Op::AppendAt { .. } | Op::Skip { .. }));
    let mut bare = whole.clone();
    let files: Vec<(String, usize)> = whole.files().map(|(name, size)| (name.to_owned(), size)).collect();
    for (name, size) in &files {
        for page in (0..size / 512).filter(|page| &whole.bytes(name).unwrap()[page * 512..][..4] == b"mIdx") {
            bare.damage(name, page * 512, |byte| !byte);
        }
    }
    let (mut spoilt, mut cost) = (0, 0);
    for disk in [&whole, &bare] {
        for (name, size) in &files {
            let bytes = disk.bytes(name).unwrap();
            let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            let hot = bytes.starts_with(b"midgeseg") && bytes[9] == 1;
            let first = if hot { 3 } else { 2 };
            for start in (first..size / 512).map(|page| page * 512) {
                if &bytes[start..start + 4] != b"mFrm" || start + field(start + 28) * 512 > *size {
                    continue;
                }
                let (records, ops) = (field(start + 36), field(start + 40));
                let mut bad = disk.clone();
                for ops_at in [start + 64 + records, start + field(start + 28) * 512 - 64 - ops] {
                    bad.damage(name, ops_at, |byte| !byte);
                }
                let lost = judge(bad.clone(), &model, &format!("{name} ops at {start}")).0;
                assert_eq!(lost, 0, "{name} ops at {start}: all heads are there");
                let (store, _) = Store::open(bad.clone(), OPTIONS).unwrap();
                assert!(store.streams().all(|id| store.lost(id).next().is_none()), "{name} ops at {start}");
                let mut at = start + 64;
                while at < start + 64 + records {
                    let flags = usize::from(bytes[at + 8] & 7);
                    let headers = if flags & 1 == 0 { 0 } else { field(at + 32) };
                    let head = 32 + (flags & 1) * 4 + (flags & 2) * 2 + (flags & 4) * 2;
                    let subject = usize::from(u16::from_le_bytes([bytes[at + 10], bytes[at + 11]]));
                    let mut rotten = bad.clone();
                    (at..at + 12).for_each(|at| assert!(rotten.damage(name, at, |byte| !byte)));
                    cost += judge(rotten, &model, &format!("{name} record at {at}")).0;
                    spoilt += 1;
                    at += (head + subject + headers + field(at + 16)).next_multiple_of(8);
                }
            }
        }
    }
    assert!(spoilt > 200 && cost > 50, "{cost} of {spoilt}");
}

/// Files of which no header can be read are somebody's: they stay as they are. Files of zeros are nobody's.
#[test]
fn what_has_no_header_is_not_touched() {
    let (disk, _) = sample(3, 170);
    let (mut rotten, mut blank) = (disk.clone(), disk.clone());
    let files: Vec<(String, usize)> = disk.files().map(|(name, size)| (name.to_owned(), size)).collect();
    for (name, size) in &files {
        for at in [0, 512] {
            rotten.damage(name, at, |byte| !byte);
        }
        blank.put(name, vec![0; *size]);
    }
    let mut shared = Shared::new(rotten.clone());
    assert!(matches!(Store::open(shared.clone(), OPTIONS), Err(Error::NotAStore(_))));
    let after = shared.take();
    assert!(files.iter().all(|(name, _)| after.bytes(name) == rotten.bytes(name)));
    assert_eq!(after.files().count(), files.len());
    let (store, report) = Store::open(blank, OPTIONS).unwrap();
    assert!(report.created && store.streams().count() == 0);
}

/// The sequences of each stream. All that isn't there is named or was removed.
fn see<D: midge_store::disk::Disk>(store: &mut Store<D>, model: &Model, what: &str) -> Vec<(u32, Vec<u64>)> {
    let mut seen = Vec::new();
    for id in store.streams().collect::<Vec<_>>() {
        seen.push((id, store.entries(id, 0).map(|(seq, ..)| seq).collect()));
        for (seq, expected) in &model.streams[&id].messages {
            match store.read(id, *seq) {
                Ok(Some(message)) => assert_eq!(message.payload, expected.payload, "{what}"),
                Ok(None) => panic!("{what}: message {seq} of {id} is gone without a word"),
                Err(error) => assert!(store.is_damaged(id, *seq), "{what}: {error:?}"),
            }
        }
    }
    seen
}

/// A sealed segment is gone with its file: the messages that were in it are named, and all others are there.
#[test]
fn a_file_may_be_gone() {
    let (disk, model) = sample(5, 600);
    let files: Vec<String> = disk.files().map(|(name, _)| name.to_owned()).collect();
    let number = |name: &str| {
        let bytes = disk.bytes(name).unwrap();
        bytes.starts_with(b"midgeseg").then(|| u64::from_le_bytes(bytes[24..32].try_into().unwrap()))
    };
    let newest = files.iter().max_by_key(|name| number(name)).unwrap();
    let mut cost = 0;
    for name in files.iter().filter(|name| *name != newest) {
        let mut rotten = disk.clone();
        midge_store::disk::Disk::remove(&mut rotten, name).unwrap();
        cost += judge(rotten, &model, &format!("{name} gone")).0;
    }
    assert!(cost > 50, "{cost} messages");
}

/// The last commit of a store that was left, not closed: once the log is sealed, rot in it is told from a torn write, and costs
/// the message that it hit.
#[test]
fn the_last_commit_of_a_sealed_log_may_rot() {
    let (disk, mut model) = sample(3, 170);
    let (mut store, _) = Store::open(disk, OPTIONS).unwrap();
    for _ in 0..3 {
        for _ in 0..3 {
            model.apply(
                &mut store,
                &Op::Append { stream: 0, subject: 1, size: 60, headers: true, expires: false },
            );
        }
        store.commit().unwrap();
    }
    let torn = store.disk().clone();
    let before = store.usage();
    assert!(store.seal().unwrap() && !store.seal().unwrap());
    let after = store.usage();
    assert_eq!((after.syncs - before.syncs, after.written_bytes - before.written_bytes), (0, 512));
    let disk = store.into_disk();
    let number = |name: &str| {
        let bytes = disk.bytes(name).unwrap();
        bytes.starts_with(b"midgeseg").then(|| u64::from_le_bytes(bytes[24..32].try_into().unwrap()))
    };
    let (name, size) = disk.files().max_by_key(|(name, _)| number(name)).unwrap();
    let (mut cost, mut cut) = (0, 0);
    for bit in 0..size * 8 {
        let mut rotten = disk.clone();
        rotten.flip(name, bit);
        let (lost, _) = judge_once(rotten, &model, &format!("sealed, {name} bit {bit}"));
        assert!(lost <= 1, "{name} bit {bit}: {lost} messages");
        cost += lost;
        let mut rotten = torn.clone();
        rotten.flip(name, bit);
        let (mut store, _) = Store::open(rotten, OPTIONS).unwrap();
        cut += u64::from(
            model
                .difference(&mut store)
                .is_some_and(|what| store.take_damages().is_empty() && what.starts_with("1 is")),
        );
    }
    assert!(cost > 1_000 && cut > 1_000, "{cost} lost, {cut} cut off");
}
