//! What a store takes in memory, counted by the allocator. The bounds are promises of the crate's documentation.

use std::hint::black_box;

use allocation_counter::measure;
use midge_store::disk::OsDisk;
use midge_store::{Append, Options, Select, Store};

#[test]
fn a_million_messages_take_16_mb_and_open_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = None;
    let mut subject = String::new();
    let filled = measure(|| {
        let disk = OsDisk::open(&directory.path().join("store")).unwrap();
        let (mut filling, _) = Store::open(disk, Options::default()).unwrap();
        let stream = filling.create_stream(b"{}").unwrap();
        for i in 0..1_000_000_u32 {
            subject = format!("plant.{}.temp", i % 1_000);
            let message = Append { subject: subject.as_bytes(), payload: &[7; 128], ..Append::default() };
            filling.append(stream, &message).unwrap();
            if i % 4_096 == 0 {
                filling.flush().unwrap();
            }
        }
        filling.commit().unwrap();
        store = Some(filling);
    });
    println!("filled: {} B held, {} B at most", filled.bytes_current, filled.bytes_max);
    assert!(filled.bytes_current <= 16_000_000, "{} B", filled.bytes_current);
    let on_disk = store.as_ref().unwrap().usage().disk_bytes;

    // As after a kill: only the last segment is read.
    drop(store.take());
    let opened = measure(|| {
        let disk = OsDisk::open(&directory.path().join("store")).unwrap();
        store = Some(Store::open(disk, Options::default()).unwrap().0);
    });
    let mut store = store.unwrap();
    println!("opened {on_disk} B: {} B held, {} B at most", opened.bytes_current, opened.bytes_max);
    assert!(opened.bytes_max <= 32_000_000 && opened.bytes_current <= 16_000_000, "{opened:?}");
    let stream = store.streams().next().unwrap();
    assert_eq!(store.state(stream).unwrap().messages, 1_000_000);
    assert_eq!(store.read(stream, 500_000).unwrap().unwrap().subject, "plant.999.temp");
    let seventh = black_box(store.count(stream, 1, &mut Select::subject(b"plant.7.temp")));
    assert_eq!(seventh, 1_000);
}

#[test]
fn a_subject_costs_its_text_and_about_50_bytes() {
    const SUBJECTS: u32 = 200_000;
    let directory = tempfile::tempdir().unwrap();
    let mut store = None;
    let filled = measure(|| {
        let disk = OsDisk::open(&directory.path().join("store")).unwrap();
        let (mut filling, _) = Store::open(disk, Options::default()).unwrap();
        let stream = filling.create_stream(b"{}").unwrap();
        for i in 0..SUBJECTS {
            let subject = format!("$KV.bucket.{i:09}");
            let message = Append { subject: subject.as_bytes(), payload: b"value", ..Append::default() };
            filling.append(stream, &message).unwrap();
            if i % 4_096 == 0 {
                filling.commit().unwrap();
            }
        }
        filling.commit().unwrap();
        store = Some(filling);
    });
    // The message's own entry, some 9 bytes, is in it.
    let bytes = filled.bytes_current as f64 / f64::from(SUBJECTS);
    println!("{bytes:.1} B a key of 20 characters");
    assert!(bytes <= 90.0, "{bytes}");
    drop(store);
}

/// A file for each segment, and descriptors for some of them.
#[test]
#[expect(clippy::disallowed_methods, reason = "it looks at what the system has open")]
fn a_large_store_needs_few_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("store");
    let options = Options { segment_bytes: 64 << 10, ..Options::default() };
    let (mut store, _) = Store::open(OsDisk::open(&at).unwrap(), options).unwrap();
    let stream = store.create_stream(b"{}").unwrap();
    for _ in 0..1_000 {
        store.append(stream, &Append { payload: &[7; 8_000], ..Append::default() }).unwrap();
        store.flush().unwrap();
    }
    store.commit().unwrap();
    drop(store);
    let (mut store, _) = Store::open(OsDisk::open(&at).unwrap(), options).unwrap();
    for seq in (1..=1_000).rev() {
        assert_eq!(store.read(stream, seq).unwrap().unwrap().payload.len(), 8_000);
    }
    let files = std::fs::read_dir(&at).unwrap().count();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
        std::fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|file| file.starts_with(&at))
    });
    let open = open.count();
    assert!(files > 140 && open <= 40, "{open} descriptors for {files} files");
}
