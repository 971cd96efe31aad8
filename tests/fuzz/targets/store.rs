//! Opening a store: whatever the files hold, nothing panics, a store that opens once opens again and says the same, and what
//! it serves is what was written.
//!
//! Half of the inputs are pokes into a store that we wrote: six bytes each, a file, an offset and a value. The others
//! are a file of their own, so that everything in them is made up.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use midge_store::disk::sim::SimDisk;
use midge_store::{Append, Erase, Options, Store};

const OPTIONS: Options = Options {
    segment_bytes: 8 << 10,
    page_bytes: 512,
    frame_bytes_max: 1 << 10,
    store_bytes_max: 1 << 20,
    slack_segments: 0,
    scrub_bytes_per_second: 0,
    seed: 1,
    read_only: false,
};

fuzz_target!(|data: &[u8]| {
    let [how, rest @ ..] = data else { return };
    let mut disk = if how % 2 == 0 { sample().clone() } else { SimDisk::new(1) };
    if how % 2 == 0 {
        let names: Vec<String> = disk.files().map(|(name, _)| name.to_owned()).collect();
        for poke in rest.chunks_exact(6) {
            let at = usize::from(u16::from_le_bytes([poke[2], poke[3]])) % (8 << 10);
            disk.damage(&names[usize::from(poke[0]) % names.len()], at, |byte| byte ^ poke[4]);
        }
    } else {
        let mut file = rest.to_vec();
        file.resize(8 << 10, 0);
        disk.put("00000000.seg", file);
    }
    let Ok((mut store, _)) = Store::open(disk, OPTIONS) else { return };
    let first = see(&mut store, how % 2 == 0);
    let Ok((mut store, _)) = Store::open(store.into_disk(), OPTIONS) else { panic!("opens once and not twice") };
    assert_eq!(first, see(&mut store, how % 2 == 0));
    for stream in store.streams().collect::<Vec<_>>() {
        let after = store.state(stream).map(|state| state.last_seq).unwrap_or_default();
        if let Ok(seq) = store.append(stream, &Append { subject: b"new", ..Append::default() }) {
            assert!(seq > after);
        }
    }
    let _ = store.commit();
});

/// What a store says that it has.
fn see(store: &mut Store<SimDisk>, ours: bool) -> Vec<(u32, u64, u64, Vec<u64>)> {
    let mut seen = Vec::new();
    for stream in store.streams().collect::<Vec<_>>() {
        let Ok(state) = store.state(stream) else { continue };
        let seqs: Vec<u64> = store.entries(stream, 0).map(|(seq, ..)| seq).collect();
        assert_eq!(seqs.len() as u64, state.messages);
        for seq in &seqs {
            if let Ok(Some(message)) = store.read(stream, *seq)
                && ours
            {
                assert_eq!((message.subject.as_ref(), message.payload.as_ref()), content(*seq).as_slices());
            }
        }
        seen.push((stream, state.first_seq, state.last_seq, seqs));
    }
    seen
}

struct Content(String, Vec<u8>);

impl Content {
    fn as_slices(&self) -> (&[u8], &[u8]) {
        (self.0.as_bytes(), &self.1)
    }
}

fn content(seq: u64) -> Content {
    Content(format!("a.{}", seq % 5), vec![seq as u8; seq as usize % 90])
}

/// A store with sealed segments, a cold one perhaps, and an active one.
fn sample() -> &'static SimDisk {
    static SAMPLE: OnceLock<SimDisk> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let (mut store, _) = Store::open(SimDisk::new(1), OPTIONS).expect("a new disk is fine");
        let streams = [b"one", b"two"].map(|config| store.create_stream(config).expect("there is room"));
        for round in 0..60_u64 {
            for stream in streams {
                let Content(subject, payload) = content(round + 1);
                let message = Append { subject: subject.as_bytes(), payload: &payload, ..Append::default() };
                store.append(stream, &message).expect("there is room");
            }
            if round % 3 == 0 {
                store.remove(streams[1], round / 2, Erase::Lazily).expect("there is room");
                store.put_state(streams[0], b"consumer", &[round as u8; 9]).expect("there is room");
            }
            store.commit().expect("the disk is fine");
            store.maintain(std::time::Duration::from_secs(round), 4_096);
        }
        store.commit().expect("the disk is fine");
        store.into_disk()
    })
}
