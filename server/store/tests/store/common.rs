//! Plain maps that do what a store does, and work for both.
#![allow(dead_code, unreachable_pub, reason = "no test uses all of it")]

use std::collections::BTreeMap;
use std::time::Duration;

use midge_store::disk::Disk;
use midge_store::{Append, Erase, Error, Options, Select, State, Store};
use proptest::prelude::*;

/// Sizes so small that a few dozen messages fill a segment.
pub fn small(seed: u64) -> Options {
    Options {
        segment_bytes: 16 << 10,
        page_bytes: 512,
        frame_bytes_max: 2 << 10,
        slack_segments: 0,
        seed,
        ..Options::default()
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What can be asked of a store. Streams and sequences are picked among those that are there.
#[derive(Clone, Debug)]
pub enum Op {
    Create(u8),
    Config(u8, u8),
    Delete(u8),
    Append { stream: u8, subject: u8, size: u16, headers: bool, expires: bool },
    AppendAt { stream: u8, skip: u8 },
    Skip { stream: u8, more: u8 },
    Remove { stream: u8, pick: u16, erase: bool },
    RemoveFirst(u8),
    Purge { stream: u8, pick: u16 },
    Put { stream: u8, key: u8, size: u8 },
    Delta { stream: u8, key: u8, size: u8 },
    Drop { stream: u8, key: u8 },
    Commit,
    Flush,
    Seal,
    Maintain,
    Reopen,
    Kill,
}

pub fn op() -> impl Strategy<Value = Op> {
    any::<u64>().prop_map(|seed| random_op(&mut Random(seed)))
}

pub fn random_op(random: &mut Random) -> Op {
    let stream = random.below(3) as u8;
    let key = random.below(3) as u8;
    match random.below(100) {
        0..2 => Op::Create(random.next() as u8),
        2 => Op::Config(stream, random.next() as u8),
        3 if random.below(4) == 0 => Op::Delete(stream),
        4..45 => Op::Append {
            stream,
            subject: random.below(12) as u8,
            size: if random.below(20) == 0 { 1_500 } else { random.below(200) as u16 },
            headers: random.below(4) == 0,
            expires: random.below(8) == 0,
        },
        45..47 => Op::AppendAt { stream, skip: random.below(9) as u8 },
        47 => Op::Skip { stream, more: random.below(9) as u8 },
        48..58 => Op::Remove { stream, pick: random.next() as u16, erase: random.below(8) == 0 },
        58..64 => Op::RemoveFirst(stream),
        64 => Op::Purge { stream, pick: random.next() as u16 },
        65..68 => Op::Put { stream, key, size: random.below(60) as u8 },
        68..74 => Op::Delta { stream, key, size: random.below(10) as u8 },
        74 => Op::Drop { stream, key },
        75..88 => Op::Commit,
        88..91 => Op::Flush,
        91 => Op::Seal,
        92..98 => Op::Maintain,
        98 => Op::Reopen,
        _ => Op::Kill,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub subject: Vec<u8>,
    pub headers: Vec<u8>,
    pub payload: Vec<u8>,
    pub time: i64,
    pub expires: i64,
}

impl Stored {
    fn size(&self) -> u64 {
        let headers = if self.headers.is_empty() { 0 } else { 4 + self.headers.len() };
        (30 + self.subject.len() + headers + self.payload.len()) as u64
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    pub config: Vec<u8>,
    pub floor: u64,
    pub last_seq: u64,
    pub last_time: i64,
    pub messages: BTreeMap<u64, Stored>,
    pub states: BTreeMap<Vec<u8>, State>,
}

impl Stream {
    pub fn first_seq(&self) -> u64 {
        self.messages.keys().next().copied().unwrap_or(self.last_seq + 1)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub streams: BTreeMap<u32, Stream>,
    pub clock: i64,
    pub now: Duration,
}

/// Commits and asks again if that is what the store wants.
fn retry<D: Disk, T>(
    store: &mut Store<D>,
    mut call: impl FnMut(&mut Store<D>) -> Result<T, Error>,
) -> Result<T, Error> {
    match call(store) {
        Err(Error::CommitFirst) => {
            store.commit()?;
            call(store)
        }
        other => other,
    }
}

impl Model {
    fn pick(&self, stream: u8) -> Option<u32> {
        let at = usize::from(stream) % self.streams.len().max(1);
        self.streams.keys().nth(at).copied()
    }

    /// Does the same to both.
    pub fn apply<D: Disk>(&mut self, store: &mut Store<D>, op: &Op) {
        self.try_apply(store, op).unwrap();
    }

    /// As [`apply`](Self::apply); an error leaves the model as it was.
    pub fn try_apply<D: Disk>(&mut self, store: &mut Store<D>, op: &Op) -> Result<(), Error> {
        self.clock += 1_000_003;
        match *op {
            Op::Create(config) => {
                if self.streams.len() < 3 {
                    let config = vec![config; 5];
                    let id = retry(store, |store| store.create_stream(&config))?;
                    let old = self.streams.insert(id, Stream { config, floor: 1, ..Stream::default() });
                    assert!(old.is_none(), "an id was given twice");
                }
                return Ok(());
            }
            Op::Commit => return store.commit(),
            Op::Flush => return store.flush(),
            Op::Seal => return store.seal().map(drop),
            Op::Maintain => {
                self.now += Duration::from_millis(100);
                store.maintain(self.now, 4_096);
                return Ok(());
            }
            Op::Reopen | Op::Kill => return Ok(()),
            _ => {}
        }
        let which = match *op {
            Op::Config(stream, _)
            | Op::Delete(stream)
            | Op::RemoveFirst(stream)
            | Op::Append { stream, .. }
            | Op::AppendAt { stream, .. }
            | Op::Skip { stream, .. }
            | Op::Remove { stream, .. }
            | Op::Purge { stream, .. }
            | Op::Put { stream, .. }
            | Op::Delta { stream, .. }
            | Op::Drop { stream, .. } => stream,
            _ => return Ok(()),
        };
        let Some(id) = self.pick(which) else { return Ok(()) };
        let clock = self.clock;
        let stream = self.streams.get_mut(&id).unwrap();
        match *op {
            Op::Config(_, config) => {
                retry(store, |store| store.set_config(id, &[config; 7]))?;
                stream.config = vec![config; 7];
            }
            Op::Delete(_) => {
                retry(store, |store| store.delete_stream(id))?;
                self.streams.remove(&id);
            }
            Op::Append { subject, size, headers, expires, .. } => {
                let seq = stream.last_seq + 1;
                let message = Stored {
                    subject: format!("s{}.{subject}", id % 2).into_bytes(),
                    headers: if headers { b"NATS/1.0\r\nA: b\r\n\r\n".to_vec() } else { Vec::new() },
                    payload: (0..size).map(|at| (at as u64 * 7 + seq) as u8).collect(),
                    time: clock,
                    expires: if expires { clock + 5 } else { 0 },
                };
                let got = retry(store, |store| store.append(id, &append(&message)))?;
                assert_eq!(got, seq);
                stream.last_seq = seq;
                stream.last_time = clock;
                stream.messages.insert(seq, message);
            }
            Op::AppendAt { skip, .. } => {
                let seq = stream.last_seq + 1 + u64::from(skip);
                let subject = b"at".to_vec();
                let message = Stored { subject, headers: vec![], payload: vec![1], time: clock, expires: 0 };
                retry(store, |store| store.append_at(id, seq, &append(&message)))?;
                assert!(matches!(store.append_at(id, seq, &append(&message)), Err(Error::Sequence)));
                stream.last_seq = seq;
                stream.last_time = clock;
                stream.messages.insert(seq, message);
            }
            Op::Skip { more, .. } => {
                let last_seq = stream.last_seq + u64::from(more);
                retry(store, |store| store.skip(id, last_seq))?;
                stream.last_seq = last_seq;
            }
            Op::Remove { pick, erase, .. } => {
                let span = stream.last_seq + 2 - stream.first_seq();
                let seq = stream.first_seq() + u64::from(pick) % span;
                let erase = if erase { Erase::Soon } else { Erase::Lazily };
                let removed = retry(store, |store| store.remove(id, seq, erase))?;
                assert_eq!(removed, stream.messages.remove(&seq).is_some());
            }
            Op::RemoveFirst(_) => {
                let seq = stream.first_seq();
                let removed = retry(store, |store| store.remove(id, seq, Erase::Lazily))?;
                assert_eq!(removed, stream.messages.remove(&seq).is_some());
            }
            Op::Purge { pick, .. } => {
                let span = stream.last_seq + 4 - stream.first_seq();
                let seq = stream.first_seq() + u64::from(pick) % span;
                let (messages, _) = retry(store, |store| store.purge(id, seq))?;
                let kept = stream.messages.split_off(&seq);
                assert_eq!(messages, stream.messages.len() as u64);
                stream.messages = kept;
                stream.last_seq = stream.last_seq.max(seq.saturating_sub(1));
            }
            Op::Put { key, size, .. } => {
                let (key, value) = (vec![b'k', key], vec![size; usize::from(size)]);
                retry(store, |store| store.put_state(id, &key, &value))?;
                stream.states.insert(key, State { whole: value, deltas: Vec::new() });
            }
            Op::Delta { key, size, .. } => {
                let (key, delta) = (vec![b'k', key], vec![size; usize::from(size)]);
                let old = stream.states.get(&key).map_or(0, |state| state.deltas.len());
                if old > 20 {
                    return Ok(());
                }
                retry(store, |store| store.append_state(id, &key, &delta))?;
                stream.states.entry(key).or_default().deltas.push(delta);
            }
            Op::Drop { key, .. } => {
                let key = vec![b'k', key];
                retry(store, |store| store.remove_state(id, &key))?;
                stream.states.remove(&key);
            }
            _ => {}
        }
        Ok(())
    }

    /// How the store differs from this, if it does. Sequences may have been used up that nobody knows of.
    pub fn difference<D: Disk>(&self, store: &mut Store<D>) -> Option<String> {
        if !store.streams().eq(self.streams.keys().copied()) {
            return Some(format!("streams {:?}", store.streams().collect::<Vec<_>>()));
        }
        for (id, stream) in &self.streams {
            let id = *id;
            let state = store.state(id).ok()?;
            if store.config(id).ok()? != stream.config {
                return Some(format!("configuration of {id}"));
            }
            if state.messages != stream.messages.len() as u64 || state.last_seq < stream.last_seq {
                return Some(format!("{id} is {state:?} and should be {:?}", stream.messages.keys()));
            }
            let mut states = stream.states.iter();
            for (key, state) in store.states(id).ok()? {
                match states.next() {
                    Some((expected_key, expected)) if expected_key == key && expected == state => {}
                    _ => return Some(format!("state {key:?} of {id}")),
                }
            }
            if states.next().is_some() {
                return Some(format!("states of {id}"));
            }
            for (seq, expected) in &stream.messages {
                let same = match store.read(id, *seq) {
                    Ok(Some(message)) => {
                        message.subject == expected.subject
                            && message.headers == expected.headers
                            && message.payload == expected.payload
                            && message.time == expected.time
                            && message.expires == expected.expires
                            && message.seq == *seq
                    }
                    _ => false,
                };
                if !same {
                    return Some(format!("message {seq} of {id}"));
                }
            }
        }
        None
    }

    /// Asks everything.
    pub fn check<D: Disk>(&self, store: &mut Store<D>) {
        let ids: Vec<u32> = store.streams().collect();
        assert!(ids.iter().eq(self.streams.keys()), "{ids:?}");
        for (id, stream) in &self.streams {
            let id = *id;
            assert_eq!(store.config(id).unwrap(), stream.config);
            let states: BTreeMap<Vec<u8>, _> =
                store.states(id).unwrap().map(|(key, state)| (key.to_vec(), state.clone())).collect();
            assert_eq!(states, stream.states);

            let state = store.state(id).unwrap();
            assert_eq!(state.messages, stream.messages.len() as u64);
            assert_eq!(state.bytes, stream.messages.values().map(Stored::size).sum::<u64>());
            assert_eq!((state.first_seq, state.last_seq), (stream.first_seq(), stream.last_seq));
            assert_eq!(state.last_time, stream.last_time);
            assert_eq!(state.lost, 0);
            for (seq, expected) in &stream.messages {
                let message = store.read(id, *seq).unwrap().unwrap();
                assert!(store.read_at_once(id, *seq).is_none_or(|at_once| at_once == message));
                assert_eq!(message.seq, *seq);
                assert_eq!(
                    (&*message.subject, &*message.headers, &*message.payload, message.time, message.expires),
                    (
                        &*expected.subject,
                        &*expected.headers,
                        &*expected.payload,
                        expected.time,
                        expected.expires
                    ),
                );
            }
            assert!(store.read(id, stream.last_seq + 1).unwrap().is_none());
            self.check_queries(store, id, stream);
        }
    }

    fn check_queries<D: Disk>(&self, store: &mut Store<D>, id: u32, stream: &Stream) {
        let mut counts = BTreeMap::<Vec<u8>, u64>::new();
        for message in stream.messages.values() {
            *counts.entry(message.subject.clone()).or_default() += 1;
        }
        let mut subjects = BTreeMap::new();
        store.subjects(id, |subject, count| {
            subjects.insert(subject.to_vec(), count);
        });
        assert_eq!(subjects, counts);
        assert_eq!(store.state(id).unwrap().subjects, counts.len() as u64);

        let odd: fn(&[u8]) -> bool = |subject| subject.last().is_some_and(|last| last % 2 == 1);
        let from = stream.first_seq() + (stream.last_seq + 1 - stream.first_seq()) / 2;
        type Wanted = fn(&[u8]) -> bool;
        let mut selects: [(Select, Wanted); 4] = [
            (Select::all(), |_| true),
            (Select::filter(odd), odd),
            (Select::subject(b"s1.3"), |subject| subject == b"s1.3"),
            (Select::subject(b"none"), |_| false),
        ];
        for (select, wanted) in &mut selects {
            for from in [0, from, stream.last_seq, stream.last_seq + 1] {
                let mut after = stream.messages.range(from..).filter(|(_, message)| wanted(&message.subject));
                assert_eq!(
                    store.count(id, from, select),
                    after.clone().count() as u64,
                    "{select:?} from {from}"
                );
                assert_eq!(
                    store.next(id, from, select),
                    after.next().map(|(seq, _)| *seq),
                    "{select:?} from {from}"
                );
                let before = stream.messages.range(..=from).rfind(|(_, message)| wanted(&message.subject));
                assert_eq!(
                    store.previous(id, from, select),
                    before.map(|(seq, _)| *seq),
                    "{select:?} to {from}"
                );
            }
        }
        for (subject, count) in counts {
            let last = stream.messages.iter().rfind(|(_, message)| message.subject == subject);
            assert_eq!(store.last_of(id, &subject), last.map(|(seq, _)| *seq));
            assert_eq!(store.count_of(id, &subject), count);
        }
        let seqs: Vec<_> =
            store.entries(id, 0).map(|(seq, subject, expires)| (seq, subject.to_vec(), expires)).collect();
        let expected =
            stream.messages.iter().map(|(seq, message)| (*seq, message.subject.clone(), message.expires));
        assert!(seqs.into_iter().eq(expected));

        let deleted = store.deleted(id, 0, u64::MAX, usize::MAX);
        let mut missing = deleted.iter().flat_map(|(first, last)| *first..=*last);
        for seq in stream.first_seq()..=stream.last_seq {
            if !stream.messages.contains_key(&seq) {
                assert_eq!(missing.next(), Some(seq));
            }
        }
        assert_eq!(missing.next(), None);
        if let Some((seq, middle)) = stream.messages.range(from..).next() {
            assert_eq!(store.at_time(id, middle.time).unwrap(), Some(*seq));
            assert_eq!(store.time_of(id, *seq).unwrap(), Some(middle.time));
        }
        assert_eq!(store.at_time(id, self.clock + 1).unwrap(), None);
    }
}

fn append(message: &Stored) -> Append<'_> {
    Append {
        subject: &message.subject,
        headers: &message.headers,
        payload: &message.payload,
        time: message.time,
        expires: message.expires,
    }
}
