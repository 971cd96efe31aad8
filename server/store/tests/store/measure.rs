//! Counts that repeat exactly: flushes and bytes of a commit, and one log against a log for each stream on a disk whose
//! flush takes 5 ms. FORMAT.md and docs/RELIABILITY.md quote them; `-- --nocapture` prints them.

use std::time::Duration;

use midge_store::disk::sim::SimDisk;
use midge_store::{Append, Options, Store};

fn message(payload: &[u8]) -> Append<'_> {
    Append { subject: b"plant.attic.temp.7", payload, time: 1_700_000_000_000_000_000, ..Append::default() }
}

fn card() -> SimDisk {
    let mut disk = SimDisk::new(1);
    disk.sync_takes = Duration::from_millis(5);
    disk
}

/// 64 publishers with one message in flight each, spread over `streams`: durable messages a second.
fn one_log(streams: u32, rounds: u32) -> f64 {
    let (mut store, _) = Store::open(card(), Options::default()).unwrap();
    let ids: Vec<_> = (0..streams).map(|_| store.create_stream(b"{}").unwrap()).collect();
    store.commit().unwrap();
    let start = store.disk().clock;
    for _ in 0..rounds {
        for publisher in 0..64 {
            store.append(ids[publisher % ids.len()], &message(&[0; 128])).unwrap();
        }
        store.commit().unwrap();
    }
    f64::from(rounds * 64) / (store.disk().clock - start).as_secs_f64()
}

/// The same, with a store for each stream, and so a flush each: the card does one after the other.
fn log_each(streams: u32, rounds: u32) -> f64 {
    let mut busy = Duration::ZERO;
    for stream in 0..streams {
        let (mut store, _) = Store::open(card(), Options::default()).unwrap();
        let id = store.create_stream(b"{}").unwrap();
        store.commit().unwrap();
        let start = store.disk().clock;
        for _ in 0..rounds {
            for _ in (0..64).filter(|publisher| publisher % streams == stream) {
                store.append(id, &message(&[0; 128])).unwrap();
            }
            store.commit().unwrap();
        }
        busy += store.disk().clock - start;
    }
    f64::from(rounds * 64) / busy.as_secs_f64()
}

#[test]
fn one_log_for_all_streams_shares_the_flush() {
    for streams in [1, 4, 16, 64] {
        let (shared, each) = (one_log(streams, 100), log_each(streams, 20));
        println!("{streams:3} streams: one log {shared:6.0} msg/s, a log each {each:6.0} msg/s");
        assert!(shared > 5_000.0, "{shared}");
        assert!(shared > each * f64::from(streams) * 0.95);
    }
}

/// Bytes and flushes once slots are recycled, cleaning included: the stream keeps its last 20,000 messages.
fn cost(batch: u64) -> (f64, f64) {
    let options = Options {
        segment_bytes: if batch > 100 { 8 << 20 } else { 2 << 20 },
        slack_segments: 4,
        ..Options::default()
    };
    let (mut store, _) = Store::open(SimDisk::new(1), options).unwrap();
    let stream = store.create_stream(b"{}").unwrap();
    let mut before = None;
    let commits = 5_000_u64.min(400_000 / batch);
    for commit in 0..commits * 4 {
        if commit == commits * 3 {
            before = Some(store.usage());
        }
        for _ in 0..batch {
            let seq = store.append(stream, &message(&[7; 128])).unwrap();
            if seq > 20_000 {
                let first = store.state(stream).unwrap().first_seq;
                store.purge(stream, first + 1).unwrap();
            }
        }
        store.commit().unwrap();
        store.maintain(Duration::from_millis(commit * 10), 64 << 10);
    }
    let (before, after) = (before.unwrap(), store.usage());
    let commits = (after.commits - before.commits) as f64;
    (
        (after.written_bytes - before.written_bytes) as f64 / (commits * batch as f64),
        (after.syncs - before.syncs) as f64 / commits,
    )
}

#[test]
fn a_commit_is_one_flush_and_few_bytes() {
    for (batch, bytes_max) in [(1, 5_000.0), (16, 700.0), (256, 400.0)] {
        let (bytes, flushes) = cost(batch);
        println!("{batch:3} a commit: {bytes:5.0} B a message of 128 B, {flushes:.3} flushes a commit");
        assert!(bytes <= bytes_max, "{batch} a commit: {bytes} B");
        assert!(flushes <= 1.02, "{batch} a commit: {flushes}");
    }
}

/// Sealing costs nothing while messages come, and then a page and no flush.
#[test]
fn an_idle_log_is_sealed_for_a_page() {
    let options = Options { scrub_bytes_per_second: 0, ..Options::default() };
    let (mut store, _) = Store::open(card(), options).unwrap();
    let stream = store.create_stream(b"{}").unwrap();
    store.commit().unwrap();
    let (before, frame) = (store.usage(), store.last_frame());
    let mut now = Duration::from_secs(100);
    for _ in 0..400 {
        store.append(stream, &message(&[7; 200])).unwrap();
        store.commit().unwrap();
        now += Duration::from_millis(50);
        store.maintain(now, 64 << 10);
    }
    let after = store.usage();
    assert_eq!((store.last_frame() - frame, after.syncs - before.syncs), (400, 400));
    let next = store.maintain(now, 64 << 10).next.unwrap();
    assert!(next > now && next <= now + Duration::from_secs(2), "{next:?}");
    store.maintain(next, 64 << 10);
    let idle = store.usage();
    assert_eq!((store.last_frame() - frame, idle.syncs - after.syncs), (401, 0));
    assert_eq!(idle.written_bytes - after.written_bytes, 4_096);
    assert_eq!(store.maintain(next + Duration::from_secs(9), 64 << 10).next, None, "nothing is left to do");
    assert_eq!(store.last_frame() - frame, 401);
}

/// A store that keeps everything: each file that commits go to is written twice, first with zeros. Segments full of pages with a
/// message each are packed, into files that aren't, and theirs are used again.
#[test]
fn a_store_that_grows_packs_what_came_alone() {
    for (batch, bytes_max) in [(1, 5_000.0), (16, 700.0), (256, 400.0)] {
        let options =
            Options { segment_bytes: if batch > 100 { 8 << 20 } else { 1 << 20 }, ..Options::default() };
        let (mut store, _) = Store::open(SimDisk::new(1), options).unwrap();
        let stream = store.create_stream(b"{}").unwrap();
        let (mut before, mut now, commits) = (store.usage(), Duration::ZERO, 8_000_u64.min(400_000 / batch));
        for commit in 0..commits {
            if commit == commits / 4 {
                before = store.usage();
            }
            for _ in 0..batch {
                store.append(stream, &message(&[7; 128])).unwrap();
            }
            store.commit().unwrap();
            now += Duration::from_millis(10);
            store.maintain(now, 256 << 10);
        }
        let after = store.usage();
        let counted = (after.commits - before.commits) as f64;
        let bytes = (after.written_bytes - before.written_bytes) as f64 / (counted * batch as f64);
        let flushes = (after.syncs - before.syncs) as f64 / counted;
        println!(
            "{batch:3} a commit, all kept: {bytes:5.0} B a message of 128 B, {flushes:.3} flushes a commit"
        );
        assert!(bytes <= bytes_max && flushes <= 1.02, "{batch} a commit: {bytes} B, {flushes} flushes");
    }
}
