//! A disk in memory that keeps a tape: every write and every flush that reached it, in order. From the tape any state
//! is made that a power cut could have left: all that was flushed, and some of what wasn't.

pub mod files;
pub mod mount;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

/// Sparse contents: 4 KiB blocks, the absent ones are zero. A copy shares them.
#[derive(Clone, Debug, Default)]
pub struct Blocks(HashMap<u64, Arc<[u8; BLOCK]>>);

const BLOCK: usize = 4096;
/// What a disk writes whole, or not at all.
const SECTOR: usize = 512;

impl Blocks {
    fn read(&self, offset: u64, into: &mut [u8]) {
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            let (index, start) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let length = (BLOCK - start).min(into.len() - done);
            match self.0.get(&index) {
                Some(block) => into[done..done + length].copy_from_slice(&block[start..start + length]),
                None => into[done..done + length].fill(0),
            }
            done += length;
        }
    }

    fn write(&mut self, offset: u64, from: &[u8]) {
        let mut done = 0;
        while done < from.len() {
            let at = offset + done as u64;
            let (index, start) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let length = (BLOCK - start).min(from.len() - done);
            let piece = &from[done..done + length];
            // Zeros over nothing are nothing: a file of zeros takes no memory.
            if self.0.contains_key(&index) || piece.iter().any(|byte| *byte != 0) {
                let block = self.0.entry(index).or_insert_with(|| Arc::new([0; BLOCK]));
                Arc::make_mut(block)[start..start + length].copy_from_slice(piece);
            }
            done += length;
        }
    }
}

/// What reached the disk.
#[derive(Clone, Debug)]
pub enum Event {
    /// Bytes at an offset.
    Write { offset: u64, bytes: Arc<[u8]> },
    /// Everything before is to be durable.
    Flush,
}

/// What reached the disk, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Flushes.
    pub flushes: u64,
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            writes: self.writes - before.writes,
            bytes: self.bytes - before.bytes,
            flushes: self.flushes - before.flushes,
        }
    }
}

/// A disk. Requests are served one at a time, as a card does.
#[derive(Debug)]
pub struct Disk {
    /// Its size in bytes.
    pub size: u64,
    /// How long a flush takes.
    pub flush: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blocks: Blocks,
    counts: Counts,
    tape: Option<Tape>,
    fault: Option<Fault>,
}

/// A request that fails, and whether those like it fail from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which requests.
    pub of: Of,
    /// How many of them succeed before.
    pub after: u64,
    /// If all later ones fail too.
    pub lasting: bool,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Writes.
    Write,
    /// Flushes.
    Flush,
}

impl State {
    /// True if this request fails.
    fn fails(&mut self, of: Of) -> bool {
        let Some(fault) = self.fault.as_mut().filter(|fault| fault.of == of) else { return false };
        if fault.after > 0 {
            fault.after -= 1;
            return false;
        }
        if !fault.lasting {
            self.fault = None;
        }
        true
    }
}

/// All that happened to a disk since recording began.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    base: Blocks,
    /// In order. A position on the tape is the number of events before it.
    pub events: Vec<Event>,
}

impl Disk {
    /// An empty disk.
    pub fn new(size: u64, flush: Duration) -> Arc<Self> {
        Self::with(Blocks::default(), size, flush)
    }

    /// A disk with contents.
    pub fn with(blocks: Blocks, size: u64, flush: Duration) -> Arc<Self> {
        Arc::new(Self { size, flush, state: Mutex::new(State { blocks, ..State::default() }) })
    }

    /// Starts a tape.
    pub fn record(&self) {
        let mut state = self.state();
        state.tape = Some(Tape { base: state.blocks.clone(), events: Vec::new() });
    }

    /// Ends the tape and takes it.
    pub fn take_tape(&self) -> Tape {
        self.state().tape.take().unwrap_or_default()
    }

    /// Where the tape is.
    pub fn position(&self) -> u64 {
        self.state().tape.as_ref().map_or(0, |tape| tape.events.len() as u64)
    }

    /// What reached it so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        self.state().blocks.read(offset, into);
    }

    /// Has a request fail; none lifts what was set before. False if the last fault hadn't happened yet.
    pub fn set_fault(&self, fault: Option<Fault>) -> bool {
        let before = std::mem::replace(&mut self.state().fault, fault);
        before.is_none_or(|fault| fault.lasting && fault.after == 0)
    }

    /// What is on it.
    pub fn contents(&self) -> Blocks {
        self.state().blocks.clone()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Failed> {
        let mut state = self.state();
        if state.fails(Of::Write) {
            return Err(Failed);
        }
        state.blocks.write(offset, bytes);
        state.counts.writes += 1;
        state.counts.bytes += bytes.len() as u64;
        if let Some(tape) = &mut state.tape {
            tape.events.push(Event::Write { offset, bytes: bytes.into() });
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Failed> {
        // What takes so long is the card; nothing else is served meanwhile.
        if !self.flush.is_zero() {
            thread::sleep(self.flush);
        }
        let mut state = self.state();
        if state.fails(Of::Flush) {
            return Err(Failed);
        }
        state.counts.flushes += 1;
        if let Some(tape) = &mut state.tape {
            tape.events.push(Event::Flush);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that was made to fail: an I/O error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failed;

/// What becomes of the writes after the last flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// None is there.
    None,
    /// All are.
    All,
    /// Each by chance.
    Some,
    /// Each sector of each by chance.
    Torn,
}

impl Fate {
    /// The four in turn.
    pub fn of(index: usize) -> Self {
        [Self::None, Self::Torn, Self::Some, Self::All][index % 4]
    }
}

/// Makes crash states from a tape, at positions that don't go back.
pub struct Cutter<'a> {
    tape: &'a Tape,
    durable: Blocks,
    /// Events before this one are in `durable`.
    reached: usize,
}

impl<'a> Cutter<'a> {
    /// At the start of a tape.
    pub fn new(tape: &'a Tape) -> Self {
        Self { tape, durable: tape.base.clone(), reached: 0 }
    }

    /// The contents after a power cut at a position. Positions must not decrease from call to call.
    pub fn cut(&mut self, position: usize, fate: Fate, random: &mut StdRng) -> Blocks {
        let before = &self.tape.events[..position.min(self.tape.events.len())];
        let flushed = before.iter().rposition(|event| matches!(event, Event::Flush)).map_or(0, |at| at + 1);
        for event in &before[self.reached.min(flushed)..flushed] {
            if let Event::Write { offset, bytes } = event {
                self.durable.write(*offset, bytes);
            }
        }
        self.reached = self.reached.max(flushed);
        let mut state = self.durable.clone();
        for event in &before[flushed..] {
            let Event::Write { offset, bytes } = event else { continue };
            match fate {
                Fate::None => {}
                Fate::All => state.write(*offset, bytes),
                Fate::Some => {
                    if coin(random) {
                        state.write(*offset, bytes);
                    }
                }
                Fate::Torn => {
                    for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                        if coin(random) {
                            state.write(offset + (index * SECTOR) as u64, sector);
                        }
                    }
                }
            }
        }
        state
    }
}

fn coin(random: &mut impl Rng) -> bool {
    random.random_bool(0.5)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn recorded() -> Tape {
        let disk = Disk::new(1 << 20, Duration::ZERO);
        disk.write(0, &[1; 4096]).unwrap();
        disk.record();
        disk.write(4096, &[2; 1024]).unwrap();
        disk.flush().unwrap();
        disk.write(100, &[3; 8]).unwrap();
        disk.write(8192, &[4; 4096]).unwrap();
        let tape = disk.take_tape();
        assert_eq!(disk.counts(), Counts { writes: 4, bytes: 4096 + 1024 + 8 + 4096, flushes: 1 });
        tape
    }

    fn byte(blocks: &Blocks, offset: u64) -> u8 {
        let mut byte = [0];
        blocks.read(offset, &mut byte);
        byte[0]
    }

    #[test]
    fn flushed_writes_are_in_every_state() {
        let (tape, mut random) = (recorded(), StdRng::seed_from_u64(1));
        for fate in [Fate::None, Fate::All, Fate::Some, Fate::Torn] {
            let state = Cutter::new(&tape).cut(4, fate, &mut random);
            assert_eq!((byte(&state, 0), byte(&state, 4096)), (1, 2), "{fate:?}");
        }
        let mut cutter = Cutter::new(&tape);
        assert_eq!(byte(&cutter.cut(1, Fate::None, &mut random), 4096), 0);
        assert_eq!(byte(&cutter.cut(1, Fate::All, &mut random), 4096), 2);
        assert_eq!(byte(&cutter.cut(4, Fate::None, &mut random), 100), 1);
        assert_eq!(byte(&cutter.cut(4, Fate::All, &mut random), 100), 3);
    }

    #[test]
    fn requests_fail_once_or_from_then_on() {
        let disk = Disk::new(1 << 20, Duration::ZERO);
        disk.set_fault(Some(Fault { of: Of::Write, after: 1, lasting: false }));
        let results: Vec<_> = (0..3).map(|_| disk.write(0, &[1]).is_ok()).collect();
        assert_eq!(results, [true, false, true]);
        assert!(disk.set_fault(Some(Fault { of: Of::Flush, after: 1, lasting: true })));
        let results: Vec<_> = (0..3).map(|_| disk.flush().is_ok()).collect();
        assert_eq!(results, [true, false, false]);
        assert!(disk.set_fault(Some(Fault { of: Of::Flush, after: 1, lasting: false })));
        assert!(!disk.set_fault(None), "it hadn't happened");
        assert_eq!(disk.counts(), Counts { writes: 2, bytes: 2, flushes: 1 });
    }

    #[test]
    fn unflushed_writes_are_there_in_parts() {
        let tape = recorded();
        let mut seen = [false; 4];
        for seed in 0..64 {
            let state = Cutter::new(&tape).cut(4, Fate::Some, &mut StdRng::seed_from_u64(seed));
            let (first, second) = (byte(&state, 100) == 3, byte(&state, 8192) == 4);
            seen[usize::from(first) * 2 + usize::from(second)] = true;
        }
        assert_eq!(seen, [true; 4], "writes are reordered");
        let torn = Cutter::new(&tape).cut(4, Fate::Torn, &mut StdRng::seed_from_u64(3));
        let sectors: Vec<u8> = (0..8).map(|sector| byte(&torn, 8192 + sector * 512)).collect();
        assert!(sectors.contains(&0) && sectors.contains(&4), "{sectors:?}");
    }
}
