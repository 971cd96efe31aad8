//! What cleaning, merging, erasing and the scrub do where something rotted.

use midge_store::disk::sim::SimDisk;
use midge_store::{Damaged, Health, Options, ReadError, Store};

use super::{OPTIONS, maintain};

/// A store of which six segments have one message in ten left, the tenth of each ten, and its stream. Each message has a page.
fn sparse(options: Options) -> (Store<SimDisk>, u32) {
    let mut disk = SimDisk::new(1);
    disk.page_bytes = 512;
    let (mut store, _) = Store::open(disk, options).unwrap();
    let stream = store.create_stream(b"kept").unwrap();
    for seq in 1..=60 {
        let payload = numbered(seq);
        let message = midge_store::Append { subject: b"s", payload: &payload, ..Default::default() };
        store.append(stream, &message).unwrap();
        store.commit().unwrap();
    }
    for seq in (1..=60).filter(|seq| seq % 10 > 0) {
        store.remove(stream, seq, midge_store::Erase::Lazily).unwrap();
    }
    store.commit().unwrap();
    (store, stream)
}

fn numbered(seq: u64) -> Vec<u8> {
    format!("message {seq:03} {}", "x".repeat(280)).into_bytes()
}

/// Where the message is: file and offset of its payload.
fn place(disk: &SimDisk, seq: u64) -> (String, usize) {
    let payload = numbered(seq);
    let find = |name: &str| disk.bytes(name)?.windows(payload.len()).position(|window| window == payload);
    disk.files().find_map(|(name, _)| Some((name.to_owned(), find(name)?))).unwrap()
}

/// A message that rotted can't be moved: it stays named, its bytes stay in a file, and all others are moved.
#[test]
fn what_cleaning_cannot_move_it_sets_aside() {
    let options = Options { slack_segments: 0, ..OPTIONS };
    for (offset, in_head) in [(40, false), (0, true)] {
        let (mut store, stream) = sparse(options);
        let (name, at) = place(store.disk(), 20);
        // The payload, or so much of the head that it can't be mended.
        let at = if in_head { at - 33 } else { at + offset };
        (at..at + 12).for_each(|at| assert!(store.disk_mut().damage(&name, at, |byte| !byte)));
        maintain(&mut store, 40);
        assert!(store.usage().moved_bytes > 0, "{:?}", store.usage());
        let damages = store.take_damages();
        assert!(
            damages.iter().any(|damage| (damage.stream, damage.first_seq) == (Some(stream), 20)),
            "{damages:?}"
        );
        for _ in 0..2 {
            for seq in (10..=60).step_by(10) {
                match store.read(stream, seq) {
                    Ok(Some(message)) if seq != 20 => assert_eq!(message.payload, numbered(seq)),
                    Err(ReadError::Damaged(_)) if seq == 20 => assert!(store.is_damaged(stream, 20)),
                    other => panic!("{seq}: {other:?}"),
                }
            }
            assert_eq!(store.lost(stream).collect::<Vec<_>>(), [(20, 20)]);
            let disk = store.close().unwrap();
            let kept: Vec<&[u8]> = disk
                .files()
                .filter(|(name, _)| name.starts_with("damaged-"))
                .filter_map(|(name, _)| disk.bytes(name))
                .collect();
            let tail = &numbered(20)[100..];
            assert!(
                matches!(kept[..], [bytes] if bytes.windows(tail.len()).any(|window| window == tail)),
                "{kept:?}"
            );
            store = Store::open(disk, options).unwrap().0;
        }
    }
}

/// What is lost before the first message stays named when messages behind it go alone, and not when they go as the oldest or
/// with all before them.
#[test]
fn what_is_lost_in_front_stays_named() {
    let options = Options { slack_segments: 0, ..OPTIONS };
    let mut disk = SimDisk::new(1);
    disk.page_bytes = 512;
    let (mut store, _) = Store::open(disk, options).unwrap();
    let stream = store.create_stream(b"kept").unwrap();
    for seq in 1..=9 {
        let payload = numbered(seq);
        let message = midge_store::Append { subject: b"s", payload: &payload, ..Default::default() };
        store.append(stream, &message).unwrap();
        store.commit().unwrap();
    }
    let mut disk = store.disk().clone();
    let (name, at) = place(&disk, 1);
    (at - 33..at).for_each(|at| assert!(disk.damage(&name, at, |byte| !byte)));
    let (mut store, _) = Store::open(disk, options).unwrap();
    let lost = |store: &Store<SimDisk>| store.lost(stream).collect::<Vec<_>>();
    let again = |store: Store<SimDisk>, closes: bool| {
        let disk = if closes { store.close().unwrap() } else { store.disk().clone() };
        Store::open(disk, options).unwrap().0
    };
    assert_eq!(lost(&store), [(1, 1)]);

    // One by one, in both orders, over ends and kills, and until cleaning has given the files up.
    for (round, seq) in [2, 4, 3, 5].into_iter().enumerate() {
        assert!(store.remove(stream, seq, midge_store::Erase::Lazily).unwrap());
        store.commit().unwrap();
        for closes in [round % 2 == 0, round % 2 == 1] {
            store = again(store, closes);
            assert_eq!(lost(&store), [(1, 1)], "{seq} was removed");
            assert!(matches!(store.read(stream, 1), Err(ReadError::Damaged(_))));
            assert!(store.read(stream, seq).unwrap().is_none());
        }
    }
    assert_eq!(store.state(stream).unwrap().first_seq, 6);
    maintain(&mut store, 40);
    store = again(store, true);
    assert_eq!((lost(&store), store.state(stream).unwrap().messages), (vec![(1, 1)], 4));

    assert!(!store.remove_oldest(stream, 7).unwrap(), "it isn't the first");
    let kept = store.disk().clone();
    for oldest in [true, false] {
        let (mut store, _) = Store::open(kept.clone(), options).unwrap();
        match oldest {
            true => assert!(store.remove_oldest(stream, 6).unwrap()),
            false => assert_eq!(store.purge(stream, 7).unwrap().0, 1),
        }
        store.commit().unwrap();
        for closes in [false, true] {
            assert_eq!((lost(&store), store.state(stream).unwrap().first_seq), (vec![], 7));
            assert!(store.read(stream, 1).unwrap().is_none());
            store = again(store, closes);
        }
    }
}

/// A page that can't be read stops the cleaning of its segment and of no other, and costs the message on it and no other.
#[test]
fn what_cleaning_cannot_read_stays() {
    let options = Options { slack_segments: 0, ..OPTIONS };
    let (mut store, stream) = sparse(options);
    let (name, at) = place(store.disk(), 20);
    assert!(store.disk_mut().make_unreadable(&name, at / 512));
    maintain(&mut store, 40);
    assert_eq!(store.health(), Health::Good);
    assert!(store.usage().moved_bytes > 0, "{:?}", store.usage());
    for seq in (10..=60).step_by(10) {
        match store.read(stream, seq) {
            Ok(Some(message)) if seq != 20 => assert_eq!(message.payload, numbered(seq)),
            Err(ReadError::Disk(_)) if seq == 20 => {}
            other => panic!("{seq}: {other:?}"),
        }
    }
    assert_eq!(place(store.disk(), 20), (name, at), "it is where it was");
}

/// Who reads on reads ahead; a page that can't be read costs the message on it and not the one before.
#[test]
fn a_page_further_on_may_be_unreadable() {
    let mut disk = SimDisk::new(1);
    disk.page_bytes = 512;
    let (mut store, _) = Store::open(disk, Options { segment_bytes: 64 << 10, ..OPTIONS }).unwrap();
    let stream = store.create_stream(b"s").unwrap();
    for seq in 1..=40 {
        let payload = numbered(seq);
        let message = midge_store::Append { subject: b"s", payload: &payload, ..Default::default() };
        assert_eq!(store.append(stream, &message).unwrap(), seq);
        store.commit().unwrap();
    }
    let (name, at) = place(store.disk(), 30);
    assert!(store.disk_mut().make_unreadable(&name, at / 512));
    let mut all = midge_store::Select::all();
    for seq in 1..=40 {
        match store.read_next(stream, seq, &mut all).unwrap() {
            (at, Ok(Some(message))) if seq != 30 => {
                assert_eq!((at, &message.payload[..]), (seq, &numbered(seq)[..]))
            }
            (30, Err(ReadError::Disk(_))) => {}
            other => panic!("{seq}: {other:?}"),
        }
    }
    assert!(store.read_next(stream, 41, &mut all).is_none());
}

/// The scrub finds what nobody has asked for: a payload, a head, a copy of ops and an index that rotted, each named once.
#[test]
fn the_scrub_finds_what_rotted() {
    let options = Options { slack_segments: 9, scrub_bytes_per_second: 1 << 20, ..OPTIONS };
    let (mut store, stream) = sparse(options);
    maintain(&mut store, 20);
    assert_eq!(store.take_damages(), []);
    let (name, payload) = place(store.disk(), 10);
    assert!(store.disk_mut().damage(&name, payload + 9, |byte| !byte));
    let (other, head) = place(store.disk(), 30);
    (head - 33..head - 21).for_each(|at| assert!(store.disk_mut().damage(&other, at, |byte| !byte)));
    let (third, at) = place(store.disk(), 50);
    assert!(name != other && other != third);
    let start = at / 512 * 512;
    let bytes = store.disk().bytes(&third).unwrap();
    let records = u32::from_le_bytes(bytes[start + 36..start + 40].try_into().unwrap()) as usize;
    let index =
        (2..bytes.len() / 512).map(|page| page * 512).find(|at| &bytes[*at..at + 4] == b"mIdx").unwrap();
    for at in [start + 64 + records, index + 20] {
        assert!(store.disk_mut().damage(&third, at, |byte| !byte));
    }
    maintain(&mut store, 200_000);
    let mut found: Vec<_> = store
        .take_damages()
        .into_iter()
        .map(|damage| (damage.what, damage.file, damage.stream.map(|_| damage.first_seq)))
        .collect();
    found.sort_by_key(|(what, file, seq)| (format!("{what:?}"), file.clone(), *seq));
    let expected = [
        (Damaged::Copy, third.clone(), None),
        (Damaged::Index, third, None),
        (Damaged::Messages, name, Some(10)),
        (Damaged::Messages, other, Some(30)),
    ];
    let mut expected = expected.to_vec();
    expected.sort_by_key(|(what, file, seq)| (format!("{what:?}"), file.clone(), *seq));
    assert_eq!(found, expected);
    assert!(store.is_damaged(stream, 10) && store.is_damaged(stream, 30) && !store.is_damaged(stream, 50));
    assert_eq!(store.damaged(stream, 1), [(10, 10)]);
}

/// What is erased is nowhere on the disk after cleaning, though nothing else asks for that, and what lay beside it is there.
#[test]
fn what_is_erased_is_overwritten() {
    let options = Options { slack_segments: 50, ..OPTIONS };
    let (mut store, stream) = sparse(options);
    maintain(&mut store, 20);
    assert_eq!(store.usage().moved_bytes, 0);
    assert!(store.remove(stream, 20, midge_store::Erase::Soon).unwrap());
    store.commit().unwrap();
    maintain(&mut store, 20);
    let payload = numbered(20);
    let has =
        |name: &str| store.disk().bytes(name).unwrap().windows(payload.len()).any(|window| window == payload);
    let files: Vec<&str> = store.disk().files().map(|(name, _)| name).filter(|name| has(name)).collect();
    assert_eq!(files, [""; 0]);
    for seq in (10..=60).step_by(10).filter(|seq| *seq != 20) {
        assert_eq!(store.read(stream, seq).unwrap().unwrap().payload, numbered(seq));
    }
}

/// Cleaning leaves files of a few messages each; when there are many, they become one.
#[test]
fn small_files_are_merged() {
    let options = Options { slack_segments: 0, ..OPTIONS };
    let (mut store, stream) = sparse(options);
    let mut kept: Vec<u64> = (10..=60).step_by(10).collect();
    let mut most = 0;
    for round in 0..30 {
        maintain(&mut store, 20);
        most = most.max(store.usage().segments);
        for _ in 0..40 {
            let seq = store.state(stream).unwrap().last_seq + 1;
            let payload = numbered(seq);
            let message = midge_store::Append { subject: b"s", payload: &payload, ..Default::default() };
            store.append(stream, &message).unwrap();
            store.commit().unwrap();
        }
        let last = store.state(stream).unwrap().last_seq;
        for seq in (last - 39..=last).filter(|seq| *seq != last - 20) {
            store.remove(stream, seq, midge_store::Erase::Lazily).unwrap();
        }
        kept.push(last - 20);
        store.commit().unwrap();
        assert_eq!(store.state(stream).unwrap().messages, kept.len() as u64, "round {round}");
    }
    maintain(&mut store, 20);
    assert!(most < 16, "{most} segments");
    for again in [false, true] {
        for seq in &kept {
            assert_eq!(store.read(stream, *seq).unwrap().unwrap().payload, numbered(*seq), "{again}");
        }
        store = Store::open(store.into_disk(), options).unwrap().0;
    }
}
