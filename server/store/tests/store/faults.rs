//! Disks that fail at a call, once or for good, and disks that are full: what was committed stays, everybody is told, and
//! all goes on when the disk does.

use std::time::Duration;

use crate::common::{self, Model, Op, Random, small};
use midge_store::disk::sim::{Fault, SimDisk};
use midge_store::{Append, Change, Erase, Error, Health, Options, Store, StreamId};

/// Does random things on a disk that fails at its n-th call. Returns whether there was such a call.
fn run(seed: u64, at: u64, fault: Fault, forever: bool) -> bool {
    let name = format!("seed {seed}, call {at}, {fault:?}, forever {forever}");
    let mut random = Random(seed);
    let mut model = Model::default();
    let mut disk = SimDisk::new(seed);
    disk.page_bytes = 512;
    let (mut store, _) = Store::open(disk, small(seed)).unwrap();
    let start = store.disk().calls;
    store.disk_mut().fail_at = Some((start + at, fault));
    store.disk_mut().fail_forever = forever;
    let mut candidates = vec![model.clone()];
    let mut read_only = false;
    for _ in 0..150 {
        let mut op = common::random_op(&mut random);
        if matches!(op, Op::Kill | Op::Reopen) {
            op = Op::Commit;
        }
        let (before, commits) = (model.clone(), store.usage().commits);
        match model.try_apply(&mut store, &op) {
            Ok(()) => match op {
                Op::Commit => candidates = vec![model.clone()],
                Op::Flush => candidates.push(model.clone()),
                _ if store.usage().commits > commits => candidates = vec![before],
                _ => {}
            },
            // Nothing was done, and everything else goes on.
            Err(Error::Full) => {
                candidates.push(before.clone());
                model = before;
            }
            Err(Error::ReadOnly) => {
                candidates.push(before);
                read_only = true;
                break;
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    let happened = store.disk().calls >= start + at;
    assert!(!read_only || forever, "{name}: one failure is survived");

    // What a crash leaves now.
    for state in 0..4 {
        let (mut after, report) = Store::open(store.disk().crash(state), small(seed)).unwrap();
        assert!(report.damages.iter().all(|damage| damage.stream.is_none()), "{name}: {report:?}");
        let differences: Vec<_> =
            candidates.iter().map(|candidate| candidate.difference(&mut after)).collect();
        assert!(differences.contains(&None), "{name}, state {state}: {differences:?}");
    }

    // The disk works again: within a second, without a restart, so does the store.
    store.disk_mut().fail_at = None;
    let mut now = Duration::from_secs(3_600);
    for _ in 0..4 {
        now += Duration::from_millis(250);
        store.maintain(now, 1 << 20);
    }
    assert_eq!(store.health(), Health::Good, "{name}");
    // What was refused is undone: removals, states and streams as well as messages.
    let expected = if read_only { candidates } else { vec![model] };
    let differences: Vec<_> = expected.iter().map(|expected| expected.difference(&mut store)).collect();
    assert!(differences.contains(&None), "{name}: {differences:?}");
    let stream = store.create_stream(b"again").unwrap_or_else(|error| panic!("{name}: {error}"));
    let seq = store.append(stream, &Append { subject: b"again", ..Append::default() }).unwrap();
    store.commit().unwrap_or_else(|error| panic!("{name}: {error}"));
    let (mut after, _) = Store::open(store.disk().crash(9), small(seed)).unwrap();
    assert_eq!(after.read(stream, seq).unwrap().unwrap().subject, "again", "{name}");
    happened
}

#[test]
fn every_call_may_fail_once_or_for_good() {
    for fault in [Fault::Eio, Fault::Enospc, Fault::Short] {
        for forever in [false, true] {
            for seed in 0..4 {
                let mut at = 1;
                while run(seed, at, fault, forever) {
                    at += 1;
                }
                assert!(at > 20, "{at} calls");
            }
        }
    }
}

/// The disk fails, the process is started again, all is well, and then the power goes: a file that the first process had
/// made, and whose name wasn't on the disk yet, took what was acknowledged with it.
#[test]
fn what_an_earlier_process_left_is_made_to_last() {
    for seed in 0..4 {
        let mut at = 1;
        loop {
            let mut random = Random(seed);
            let mut model = Model::default();
            let mut disk = SimDisk::new(seed);
            disk.page_bytes = 512;
            let (mut store, _) = Store::open(disk, small(seed)).unwrap();
            store.disk_mut().fail_at = Some((store.disk().calls + at, Fault::Eio));
            store.disk_mut().fail_forever = true;
            let failed = (0..150).any(|_| {
                let op = match common::random_op(&mut random) {
                    Op::Kill | Op::Reopen => Op::Commit,
                    op => op,
                };
                matches!(model.try_apply(&mut store, &op), Err(Error::ReadOnly))
            });
            if !failed {
                break;
            }
            store.disk_mut().fail_at = None;
            let (mut store, _) = Store::open(store.into_disk(), small(seed)).unwrap();
            let stream = store.create_stream(b"again").unwrap();
            let seq = store.append(stream, &Append { subject: b"again", ..Append::default() }).unwrap();
            store.commit().unwrap();
            let (mut after, report) = Store::open(store.disk().crash(9), small(seed)).unwrap();
            let read = after.read(stream, seq);
            assert!(matches!(&read, Ok(Some(_))), "seed {seed}, call {at}: {read:?}, {report:?}");
            at += 1;
        }
        assert!(at > 20, "{at} calls");
    }
}

/// The room for `segments` segments, and a bit.
fn full(room: u64) -> SimDisk {
    let mut disk = SimDisk::new(room);
    disk.page_bytes = 512;
    disk.room = room;
    disk
}

fn message(payload: &[u8]) -> Append<'_> {
    Append { subject: b"full.of.it", payload, ..Append::default() }
}

#[test]
fn a_disk_may_be_full_at_any_byte() {
    let options =
        Options { segment_bytes: 8 << 10, page_bytes: 512, frame_bytes_max: 2 << 10, ..Options::default() };
    let segment = u64::from(options.segment_bytes);
    for room in (0..4 * segment).step_by(97) {
        // Not even the start fits. When it does, all is well.
        let mut disk = full(room);
        assert!(matches!(Store::open(disk.clone(), options), Err(Error::Full)), "{room}");
        disk.room = u64::MAX;
        assert!(Store::open(disk, options).is_ok());
    }
    for room in 4 * segment..6 * segment {
        if room % segment > 40 && room % 7 != 0 {
            continue;
        }
        let (mut store, _) = Store::open(full(room), options).unwrap();
        let stream = store.create_stream(b"s").unwrap();
        let mut acknowledged = 0;
        let refused = loop {
            match store.append(stream, &message(&[7; 300])) {
                Ok(seq) => {
                    store.commit().unwrap();
                    acknowledged = seq;
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::Full), "{room}: {refused}");
        assert!(acknowledged >= 10, "{room}: {acknowledged}");
        // Whatever isn't a message goes on for as long as one likes.
        for round in 0..100_u64 {
            store.put_state(stream, b"consumer", &round.to_le_bytes()).unwrap();
            store.commit().unwrap();
            // So it does if the power goes, now or after the next step.
            for _ in 0..if room % segment == 0 { 2 } else { 0 } {
                let (mut again, _) = Store::open(store.disk().crash(round), options).unwrap();
                again.put_state(stream, b"consumer", b"again").unwrap();
                again.commit().unwrap_or_else(|error| panic!("{room}, {round}: {error}"));
                store.maintain(Duration::from_millis(round), 4_096);
            }
            store.maintain(Duration::from_millis(round), 4_096);
        }
        assert!(store.append(stream, &message(&[7; 300])).is_err());
        for seq in 1..=acknowledged {
            assert_eq!(store.read(stream, seq).unwrap().unwrap().payload.len(), 300, "{room}: {seq}");
        }
        let (mut again, report) = Store::open(store.disk().crash(room), options).unwrap();
        assert!(report.damages.is_empty() && report.messages == acknowledged, "{room}: {report:?}");
        assert_eq!(again.health(), Health::Good);
        again.commit().unwrap();

        // Messages go, and there is room, within a second and without a restart.
        store.remove(stream, 1, Erase::Lazily).unwrap();
        store.purge(stream, acknowledged + 1).unwrap();
        store.commit().unwrap();
        store.maintain(Duration::from_secs(9), 4_096);
        store.commit().unwrap();
        store.maintain(Duration::from_secs(10), 4_096);
        assert_eq!(store.append(stream, &message(&[8; 300])).ok(), Some(acknowledged + 1), "{room}");
        store.commit().unwrap();
        // Or the disk gets room.
        while store.append(stream, &message(&[7; 300])).is_ok() {
            store.commit().unwrap();
        }
        store.disk_mut().room = u64::MAX;
        store.maintain(Duration::from_secs(20), 4_096);
        store.append(stream, &message(&[8; 300])).unwrap();
        store.commit().unwrap();
    }
}

/// On a full disk the oldest of a stream make room: no message is refused, no more goes than has to, and those of another stream
/// stay, however they lie between.
#[test]
fn the_oldest_make_room() {
    for (kib, page_bytes, room, other_every) in [
        (32, 512, 5, 0),
        (32, 512, 6, 0),
        (32, 512, 8, 9),
        (32, 512, 12, 3),
        (64, 4_096, 8, 700),
        (64, 4_096, 9, 5),
    ] {
        let segment = kib << 10;
        let options = Options {
            segment_bytes: segment as u32,
            page_bytes,
            frame_bytes_max: 1 << 20,
            ..Options::default()
        };
        let size = page_bytes as usize / 4;
        let (mut store, _) = Store::open(full(room * segment), options).unwrap();
        let (stream, other) = (store.create_stream(b"s").unwrap(), store.create_stream(b"o").unwrap());
        let (mut others, mut reclaimed) = (0, 0);
        for round in 1..=3_000_u64 {
            let name = format!("{room} segments, each {other_every}. another's, round {round}");
            if other_every > 0 && round % other_every == 0 && others < 150 {
                others = store.append(other, &message(&vec![9; size])).unwrap_or(others);
            }
            let mut appended = store.append(stream, &message(&vec![7; size]));
            while let Err(error) = appended {
                assert!(matches!(error, Error::Full), "{name}: {error}");
                if !store.reclaim().unwrap() {
                    let before = store.reclaimable(stream).unwrap_or_else(|| panic!("{name}: nothing helps"));
                    let (messages, bytes) = store.purge(stream, before).unwrap();
                    assert!(
                        messages > 0 && bytes <= 3 * segment,
                        "{name}: {messages} messages of {bytes} bytes"
                    );
                }
                reclaimed += 1;
                appended = store.append(stream, &message(&vec![7; size]));
            }
            assert_eq!(appended.unwrap(), round, "{name}");
            store.commit().unwrap();
        }
        assert!(reclaimed > 10, "{room}: {reclaimed}");
        for again in [false, true] {
            let kept = store.state(stream).unwrap();
            assert_eq!((kept.last_seq, kept.deleted), (3_000, 0));
            assert!(kept.messages >= 30, "{room}: {kept:?}");
            assert_eq!(store.state(other).unwrap().messages, others);
            assert!(!again || store.read(stream, kept.first_seq).unwrap().unwrap().payload == vec![7; size]);
            store = Store::open(store.disk().crash(room), options).unwrap().0;
        }
    }
}

/// The disk is full, and what is allowed then takes a segment of the reserve. Once another has gone in its place, messages are taken
/// into that one, though no more are free than before.
#[test]
fn a_segment_that_removing_began_takes_messages() {
    let segment = 32 << 10;
    let options = Options {
        segment_bytes: segment as u32,
        page_bytes: 512,
        frame_bytes_max: 4 << 10,
        ..Options::default()
    };
    for segments in [5, 6] {
        let (mut store, _) = Store::open(full(segments * segment), options).unwrap();
        let stream = store.create_stream(b"s").unwrap();
        while store.append(stream, &message(&[7; 900])).is_ok() {
            store.commit().unwrap();
        }
        // Acknowledgements until the log has rolled.
        let before = store.usage().free_segments;
        while store.usage().free_segments == before {
            store.put_state(stream, b"acks", b"some").unwrap();
            store.commit().unwrap();
        }
        assert_eq!(store.health(), Health::Full);
        store.purge(stream, store.reclaimable(stream).unwrap()).unwrap();
        for step in 1..40 {
            if store.health() == Health::Good {
                break;
            }
            store.maintain(Duration::from_secs(step), 4_096);
            store.commit().unwrap();
        }
        assert!(store.health() == Health::Good && store.usage().free_segments <= before, "{segments}");
        store.append(stream, &message(&[8; 900])).unwrap();
        store.commit().unwrap();
    }
}

/// What isn't a message and may be kept apart from messages.
fn acknowledge(store: &mut Store<SimDisk>, stream: StreamId, floor: u64) -> Result<(), Error> {
    match store.put_state(stream, b"consumer", &floor.to_le_bytes()) {
        Err(Error::CommitFirst) => {
            store.commit()?;
            store.put_state(stream, b"consumer", &floor.to_le_bytes())
        }
        done => done,
    }
}

/// However the disk got full, what isn't a message goes on for as long as one likes, and the process may be killed at any time:
/// messages leave the reserve whole. What is removed makes room for them again.
#[test]
fn messages_leave_the_reserve_whole() {
    let segment = 32_u64 << 10;
    let options = Options {
        segment_bytes: segment as u32,
        page_bytes: 512,
        frame_bytes_max: 4 << 10,
        ..Options::default()
    };
    for seed in 0..std::env::var("CASES").map_or(40, |it| it.parse().unwrap()) {
        let mut random = Random(seed);
        let room = (5 + random.below(3)) * segment + random.below(segment);
        let (mut store, _) = Store::open(full(room), options).unwrap();
        let stream = store.create_stream(b"s").unwrap();
        store.commit().unwrap();
        let (messages, upkeep) = (1 + random.below(9), 1 + random.below(100));
        let (mut now, mut refused, mut step) = (0, None, 0);
        while refused.is_none_or(|refused| step < refused + 800) {
            step += 1;
            let name = format!("seed {seed}, step {step}, {messages} of 10, refused {refused:?}");
            if refused.is_none() && random.below(10) < messages {
                match store.append(stream, &message(&vec![7; random.below(2_000) as usize])) {
                    Ok(_) => {}
                    Err(Error::CommitFirst) => store.commit().unwrap(),
                    Err(Error::Full) => refused = Some(step),
                    Err(error) => panic!("{name}: {error}"),
                }
            } else {
                acknowledge(&mut store, stream, step).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            if random.below(3) == 0 {
                store.commit().unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            if random.below(upkeep) == 0 {
                now += 10;
                store.maintain(Duration::from_millis(now), 4_096);
            }
            if random.below(100) == 0 {
                store.commit().unwrap_or_else(|error| panic!("{name}: {error}"));
                let held = store.state(stream).unwrap().messages;
                for _ in 0..1 + random.below(4) {
                    let mut disk = store.disk().crash(step);
                    disk.room = room;
                    store = Store::open(disk, options).unwrap().0;
                }
                assert_eq!(
                    (store.health(), store.state(stream).unwrap().messages),
                    (Health::Good, held),
                    "{name}"
                );
            }
        }
        let last_seq = store.state(stream).unwrap().last_seq;
        store.purge(stream, last_seq + 1).unwrap();
        for step in 1..=20 {
            store.commit().unwrap();
            store.maintain(Duration::from_secs(now + step), 4_096);
        }
        store.append(stream, &message(&[8; 900])).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        store.commit().unwrap();
    }
}

/// A ring that drops its oldest has filled the disk, then a log fills what is left. The log is refused, the ring isn't, wherever
/// its messages lie: between the log's, in the segment that is being written, with little of others in a segment.
#[test]
fn the_oldest_make_room_beside_a_log_that_is_full() {
    let segment = 64_u64 << 10;
    let options = Options {
        segment_bytes: segment as u32,
        page_bytes: 512,
        frame_bytes_max: 16 << 10,
        ..Options::default()
    };
    let publish = |store: &mut Store<SimDisk>, ring, name: &str| {
        while let Err(error) = store.append(ring, &message(&[7; 250])) {
            match error {
                Error::CommitFirst => store.commit().unwrap(),
                Error::Full if store.reclaim().unwrap() => {}
                Error::Full => {
                    let Some(before) = store.reclaimable(ring) else {
                        let (state, usage) = (store.state(ring).unwrap(), store.usage());
                        panic!("{name}: refused, {state:?}, {usage:?}");
                    };
                    assert!(store.purge(ring, before).unwrap().0 > 0, "{name}");
                }
                error => panic!("{name}: {error}"),
            }
        }
    };
    for seed in 0..std::env::var("CASES").map_or(100, |it| it.parse().unwrap()) {
        let mut random = Random(seed);
        let room = 5 * segment + random.below(segment);
        let (mut store, _) = Store::open(full(room), options).unwrap();
        let (ring, log) = (store.create_stream(b"ring").unwrap(), store.create_stream(b"log").unwrap());
        for _ in 0..40 {
            store.append(log, &message(&[1; 100])).unwrap();
        }
        let mut now = 0;
        let mut idle = |store: &mut Store<SimDisk>, random: &mut Random| {
            store.commit().unwrap();
            for _ in 0..random.below(3) {
                now += random.below(40);
                store.maintain(Duration::from_millis(now), 16 << 10);
            }
        };
        let mut more = 100 + random.below(500);
        while more > 0 {
            publish(&mut store, ring, &format!("{seed}, alone"));
            if random.below(8) == 0 {
                idle(&mut store, &mut random);
            }
            more -= u64::from(store.state(ring).unwrap().first_seq > 1);
        }
        let mut others = 40;
        loop {
            match store.append(log, &message(&[2; 250])) {
                Ok(_) => others += 1,
                Err(Error::CommitFirst) => store.commit().unwrap(),
                Err(Error::Full) => break,
                Err(error) => panic!("{seed}: {error}"),
            }
            if random.below(16) == 0 {
                idle(&mut store, &mut random);
            }
        }
        for floor in 0..random.below(30) {
            acknowledge(&mut store, log, floor).unwrap();
            idle(&mut store, &mut random);
        }
        // If it has more than could lie with the log's in one segment.
        if store.state(ring).unwrap().bytes < segment {
            continue;
        }
        for _ in 0..300 {
            publish(&mut store, ring, &format!("{seed}, after the log"));
            if random.below(8) == 0 {
                idle(&mut store, &mut random);
            }
        }
        store.commit().unwrap();
        let (again, report) = Store::open(store.disk().crash(seed), options).unwrap();
        assert!(report.damages.is_empty(), "{seed}: {report:?}");
        assert_eq!(again.state(log).unwrap().messages, others, "{seed}");
        let kept = again.state(ring).unwrap();
        assert_eq!((kept.deleted, Some(kept.last_seq)), (0, store.state(ring).ok().map(|it| it.last_seq)));
    }
}

/// A store takes no more than it may, whatever the disk has, and goes on when something is removed.
#[test]
fn a_store_may_be_given_less_than_the_disk() {
    let max = 7 * (32 << 10);
    let options = Options {
        segment_bytes: 32 << 10,
        page_bytes: 512,
        frame_bytes_max: 4 << 10,
        store_bytes_max: max,
        ..Options::default()
    };
    let (mut store, _) = Store::open(SimDisk::new(1), options).unwrap();
    let stream = store.create_stream(b"s").unwrap();
    for round in 0..3 {
        let mut appended = 0;
        while store.append(stream, &message(&[7; 900])).is_ok() {
            store.commit().unwrap();
            appended += 1;
        }
        assert_eq!(store.health(), Health::Full);
        assert!(appended > 40, "round {round}: {appended} messages");
        let there: usize = store.disk().files().map(|(_, size)| size).sum();
        assert!(there as u64 <= max && store.usage().disk_bytes <= max, "{there} bytes, {:?}", store.usage());
        assert!(matches!(store.append(stream, &message(b"one")), Err(Error::Full)));
        let last_seq = store.state(stream).unwrap().last_seq;
        store.purge(stream, last_seq + 1).unwrap();
        store.commit().unwrap();
        for at in 1..=20 {
            store.maintain(Duration::from_secs(round * 20 + at), 1 << 20);
            store.commit().unwrap();
        }
        assert_eq!(store.health(), Health::Good);
    }
}

/// Numbers at their ends, streams that aren't there, and answers that are bounded.
#[test]
fn questions_have_ends() {
    let (mut store, _) = Store::open(SimDisk::new(1), Options::default()).unwrap();
    let stream = store.create_stream(b"s").unwrap();
    for _ in 0..10 {
        store.append(stream, &message(b"1234567")).unwrap();
    }
    for seq in [2, 4, 6, 8, 10] {
        assert!(store.remove(stream, seq, Erase::Lazily).unwrap());
    }
    store.commit().unwrap();
    assert_eq!(store.deleted(stream, 1, 10, 2), [(2, 2), (4, 4)]);
    assert_eq!(store.deleted(stream, 3, 5, 9), [(4, 4)]);
    assert_eq!(store.deleted(stream, 9, 90, 9), [(10, 10)]);
    assert_eq!(store.size_of(stream, 1), Some(30 + 10 + 7));
    assert_eq!(store.size_of(stream, 2), None);
    assert!(matches!(store.append_at(stream, u64::MAX, &message(b"")), Err(Error::Sequence)));
    store.skip(stream, u64::MAX).unwrap();
    assert_eq!(store.state(stream).unwrap().last_seq, 10);
    let none = stream + 1;
    assert!(matches!(store.state(none), Err(Error::NoStream)));
    assert!(matches!(store.append(none, &message(b"")), Err(Error::NoStream)));
    assert!(store.read(none, 1).unwrap().is_none() && store.size_of(none, 1).is_none());
    assert!(store.deleted(none, 1, 9, 9).is_empty() && store.damaged(none, 9).is_empty());
    assert_eq!((store.count_of(none, b"s"), store.at_time(none, 0).unwrap()), (0, None));
    // Numbers that are used up stay so, and damage doesn't make them run over.
    store.purge(stream, u64::MAX).unwrap();
    store.commit().unwrap();
    assert_eq!(store.append(stream, &message(b"")).unwrap(), u64::MAX - 1);
    assert!(matches!(store.append(stream, &message(b"")), Err(Error::Sequence)));
}

/// What can't make room doesn't go for it.
#[test]
fn what_makes_no_room_stays() {
    let options =
        Options { segment_bytes: 32 << 10, page_bytes: 512, frame_bytes_max: 2 << 10, ..Options::default() };
    let (mut store, _) = Store::open(full(8 << 15), options).unwrap();
    let (stream, other) = (store.create_stream(b"s").unwrap(), store.create_stream(b"o").unwrap());
    while store.append(other, &message(&[9; 900])).is_ok() {
        let _ = store.append(stream, &message(b"few"));
        store.commit().unwrap();
    }
    assert!(!store.reclaim().unwrap());
    assert_eq!(store.health(), Health::Full);
    assert_eq!(store.reclaimable(stream), None);
    let first = store.state(other).unwrap().first_seq;
    assert!(store.reclaimable(other).is_some_and(|before| before > first));
    // The disk gets room, or what was there goes anyway.
    store.disk_mut().room += 32 << 10;
    assert!(store.reclaim().unwrap());
    store.append(stream, &message(b"one more")).unwrap();
    store.commit().unwrap();
    store.disk_mut().fail_at = Some((store.disk().calls, Fault::Eio));
    store.disk_mut().fail_forever = true;
    store.append(stream, &message(b"one too many")).unwrap();
    assert!(matches!(store.reclaim(), Err(Error::ReadOnly)));
    assert!(matches!(store.reclaim(), Err(Error::ReadOnly)));
}

/// What isn't a message has taken a slot of the reserve, and something is left in each segment: cleaning goes on all the same.
#[test]
fn half_of_the_reserve_is_enough_for_cleaning() {
    let options =
        Options { segment_bytes: 8 << 10, page_bytes: 512, frame_bytes_max: 2 << 10, ..Options::default() };
    for rounds in 1..20_u64 {
        let (mut store, _) = Store::open(full(8 << 13), options).unwrap();
        let stream = store.create_stream(b"s").unwrap();
        while store.append(stream, &message(&[9; 300])).is_ok() {
            store.commit().unwrap();
        }
        for round in 0..rounds {
            store.put_state(stream, b"consumer", &round.to_le_bytes()).unwrap();
            store.commit().unwrap();
        }
        let last = store.state(stream).unwrap().last_seq;
        for seq in (1..=last).filter(|seq| seq % 8 != 0) {
            store.remove(stream, seq, Erase::Lazily).unwrap();
        }
        store.commit().unwrap();
        for step in 0..200_u64 {
            store.maintain(Duration::from_millis(step), 4_096);
            store.commit().unwrap();
        }
        assert_eq!(store.health(), Health::Good, "{rounds} commits");
        store.append(stream, &message(&[9; 300])).unwrap();
        store.commit().unwrap();
        let (mut again, _) = Store::open(store.disk().crash(rounds), options).unwrap();
        assert_eq!(again.state(stream).unwrap().messages, last / 8 + 1, "{rounds} commits");
        assert_eq!(again.read(stream, 8).unwrap().unwrap().payload, [9; 300][..]);
    }
}

/// Who is told that a change would be taken can rely on it, whatever is committed before, and who isn't is refused the same.
#[test]
fn what_check_says_is_what_happens() {
    let options =
        Options { segment_bytes: 32 << 10, page_bytes: 512, frame_bytes_max: 2 << 10, ..Options::default() };
    let (mut too_large, mut too_much, mut taken) = (0, 0, 0);
    for seed in 0..20 {
        let mut random = Random(seed);
        let (mut store, _) = Store::open(SimDisk::new(seed), options).unwrap();
        let mut streams = vec![store.create_stream(b"s").unwrap()];
        for _ in 0..2_000 {
            let stream = streams[random.below(streams.len() as u64) as usize];
            let size = match random.below(8) {
                0 => random.below(4_000),
                1 => store.message_bytes_max() as u64 - 8 + random.below(16),
                _ => random.below(120),
            };
            let bytes = vec![7; size as usize];
            let key = format!("consumer of a long name {}", random.below(12)).into_bytes();
            let entry = message(&bytes[..bytes.len().saturating_sub(10)]);
            let change = match random.below(12) {
                0 => Change::CreateStream { config: &bytes },
                1 => Change::SetConfig { stream, config: &bytes },
                2 | 3 => Change::PutState { stream, key: &key, value: &bytes },
                4..8 => Change::AppendState { stream, key: &key, delta: &bytes[..bytes.len().min(9)] },
                _ => Change::Append { stream, message: &entry },
            };
            let said = store.check(&change);
            let mut make = || match change {
                Change::CreateStream { config } => store.create_stream(config).map(|id| streams.push(id)),
                Change::SetConfig { stream, config } => store.set_config(stream, config),
                Change::PutState { stream, key, value } => store.put_state(stream, key, value),
                Change::AppendState { stream, key, delta } => {
                    store.append_state(stream, key, delta).map(drop)
                }
                Change::Append { stream, message } => store.append(stream, message).map(drop),
            };
            let mut done = make();
            if matches!(done, Err(Error::CommitFirst)) {
                store.commit().unwrap();
                done = match change {
                    Change::CreateStream { config } => store.create_stream(config).map(|id| streams.push(id)),
                    Change::SetConfig { stream, config } => store.set_config(stream, config),
                    Change::PutState { stream, key, value } => store.put_state(stream, key, value),
                    Change::AppendState { stream, key, delta } => {
                        store.append_state(stream, key, delta).map(drop)
                    }
                    Change::Append { stream, message } => store.append(stream, message).map(drop),
                };
            }
            match (said, done) {
                (Ok(()), Ok(())) => taken += 1,
                (Err(Error::TooLarge), Err(Error::TooLarge)) => too_large += 1,
                // The room for a segment that a commit might have begun is kept back.
                (Err(Error::TooMuchState), Ok(()) | Err(Error::TooMuchState)) => too_much += 1,
                (said, done) => panic!("seed {seed}: {change:?}: {said:?}, then {done:?}"),
            }
            let state = store.state(stream).unwrap();
            if state.messages > 60 {
                store.purge(stream, state.first_seq + 50).unwrap();
            }
            if random.below(6) == 0 {
                store.commit().unwrap();
                store.maintain(Duration::from_millis(random.below(1_000)), 64 << 10);
            }
        }
        store.commit().unwrap();
        assert_eq!(store.health(), Health::Good, "seed {seed}");
        let known: Vec<_> = streams.iter().map(|stream| store.states(*stream).unwrap().count()).collect();
        let (again, report) = Store::open(store.into_disk(), options).unwrap();
        assert!(report.damages.is_empty(), "seed {seed}: {report:?}");
        assert!(streams.iter().map(|stream| again.states(*stream).unwrap().count()).eq(known));
    }
    assert!(too_large > 100 && too_much > 100 && taken > 10_000, "{too_large}, {too_much}, {taken}");
}

/// Whatever fills the checkpoint, down to acknowledgements of a few bytes under a long name, there is still a next segment,
/// and what removes goes on.
#[test]
fn a_full_checkpoint_still_fits_its_segment() {
    let options =
        Options { segment_bytes: 32 << 10, page_bytes: 512, frame_bytes_max: 2 << 10, ..Options::default() };
    let (mut store, _) = Store::open(SimDisk::new(1), options).unwrap();
    let stream = store.create_stream(b"s").unwrap();
    let key = [b'k'; 100];
    store.put_state(stream, &key, b"").unwrap();
    let retried =
        |store: &mut Store<SimDisk>, what: &dyn Fn(&mut Store<SimDisk>) -> Result<(), Error>| match what(
            store,
        ) {
            Err(Error::CommitFirst) => store.commit().and_then(|()| what(store)),
            done => done,
        };
    // New things are refused first, and what is there goes on for a while.
    let mut made = 0;
    while retried(&mut store, &|store| store.create_stream(&[7; 30]).map(drop)).is_ok() {
        made += 1;
    }
    let mut acks = 0;
    while retried(&mut store, &|store| store.append_state(stream, &key, b"+1").map(drop)).is_ok() {
        acks += 1;
    }
    assert!(made > 50 && acks > 3, "{made} streams, {acks} acknowledgements");
    // Segment after segment.
    let segments = store.usage().recycled;
    for round in 0..300_u64 {
        retried(&mut store, &|store| store.append(stream, &message(&[7; 700])).map(drop)).unwrap();
        store.commit().unwrap_or_else(|error| panic!("round {round}: {error}"));
        let last = store.state(stream).unwrap().last_seq;
        store.purge(stream, last.saturating_sub(5)).unwrap();
        store.maintain(Duration::from_millis(round), 64 << 10);
    }
    assert!(store.usage().recycled > segments + 10 && store.health() == Health::Good);
    retried(&mut store, &|store| store.put_state(stream, &key, b"all of them")).unwrap();
    retried(&mut store, &|store| store.append_state(stream, &key, b"+1").map(drop)).unwrap();
    store.commit().unwrap();
    let (again, report) = Store::open(store.into_disk(), options).unwrap();
    assert!(report.damages.is_empty() && again.health() == Health::Good, "{report:?}");
}
