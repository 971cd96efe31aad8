//! Cleaning: what is alive of segments that are mostly dead moves together into a cold segment, which takes their place in one
//! commit. It goes on step by step between commits; nothing waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use crate::chunk::{Chunk, Entry};
use crate::disk::{Disk, write_full};
use crate::error::{Damage, Damaged};
use crate::frame;
use crate::header::{self, Header, Kind};
use crate::index;
use crate::op::{self, Op};
use crate::record::{self, Found};
use crate::room::RESERVE;
use crate::segment::{Segment, Slot, file_name};
use crate::store::{Health, Store, weight};

/// A cold segment that is being written.
#[derive(Debug)]
pub(crate) struct Cleaning<F> {
    victims: Vec<u64>,
    /// What is still to be moved, by stream and sequence.
    work: VecDeque<Run>,
    /// Where the first of them goes on.
    from_seq: u64,
    slot: Slot<F>,
    /// The file is new: it grows as it is written, and its name isn't durable yet.
    new: bool,
    header: Header,
    page: u32,
    number: u64,
    sum: u32,
    buffer: Vec<u8>,
    /// Of the messages in the buffer.
    waiting: Vec<(u32, Entry)>,
    /// By stream, with their new places.
    moved: BTreeMap<u32, Vec<Entry>>,
    /// What is alive of the victims doesn't fit one segment after all.
    overflows: bool,
}

/// What is known of a cold segment once all of it is written.
struct Sealed {
    runs: BTreeMap<u32, Vec<Chunk>>,
    live_bytes: u64,
    index_bytes: u32,
    file_bytes: u64,
}

/// What one stream has in one chunk of a victim.
#[derive(Clone, Copy, Debug)]
struct Run {
    victim: u64,
    stream: u32,
    first_seq: u64,
    last_seq: u64,
}

/// Records of one frame.
const FRAME_BYTES: usize = 256 << 10;
/// Of the op that ends it, at most: a segment, and some tens of victims.
const INSTALL_BYTES: usize = 512;
/// So many cold segments of less than half the size are merged.
const SMALL_MAX: usize = 7;

impl<D: Disk> Store<D> {
    /// Whether the segment is being cleaned.
    pub(crate) fn is_victim(&self, number: u64) -> bool {
        self.cleaning.as_ref().is_some_and(|cleaning| cleaning.victims.contains(&number))
    }

    /// Moves about `budget` bytes. `false` if there is nothing to do.
    pub(crate) fn clean(&mut self, budget: u64) -> bool {
        if self.cleaning.is_none() && !self.start_cleaning() {
            return false;
        }
        let Some(mut cleaning) = self.cleaning.take() else { return false };
        let done = self.go_on_cleaning(&mut cleaning, budget).and_then(|done| match done {
            true => self.seal_cold(&mut cleaning).map(Some),
            false => Ok(None),
        });
        match done {
            Ok(None) => {
                self.cleaning = Some(cleaning);
                true
            }
            // The commit would need a slot, and there is none.
            Ok(Some(_)) if self.available() == 0 && !self.fits_with(&self.open, INSTALL_BYTES) => {
                if let Some(slot) = self.abandon(cleaning) {
                    self.free.push(slot);
                }
                false
            }
            Ok(Some(sealed)) => {
                self.install(cleaning, sealed);
                true
            }
            // The victims are as they were; the next time it is one less.
            Err(_) if cleaning.overflows => {
                let last = cleaning.victims.last().and_then(|victim| self.segments.get_mut(victim));
                if let Some(last) = last {
                    last.stuck_at = last.live_bytes;
                }
                if let Some(slot) = self.abandon(cleaning) {
                    self.free.push(slot);
                }
                true
            }
            // A slot that couldn't be written is left alone.
            Err(_) => {
                self.abandon(cleaning);
                false
            }
        }
    }

    /// Gives up a cold segment that isn't done. Gives its slot, if it was one before.
    fn abandon(&mut self, cleaning: Cleaning<D::File>) -> Option<Slot<D::File>> {
        let Cleaning { slot, new, .. } = cleaning;
        if !new {
            return Some(slot);
        }
        drop(slot.file);
        // If it stays, the next opening removes it.
        let _ = self.disk.remove(&file_name(slot.number));
        None
    }

    /// A file for a cold segment. Rather a new one, which isn't filled with zeros first, than one that would have to be
    /// replaced by such.
    fn slot_for_cold(&mut self) -> Option<(Slot<D::File>, bool)> {
        if self.available() <= RESERVE + 1
            && self.health == Health::Good
            && self.may_grow()
            && let Ok(file) = self.disk.open(&file_name(self.next_slot), true)
        {
            let number = self.next_slot;
            self.next_slot += 1;
            return Some((Slot { number, file }, true));
        }
        let slot = self.free.pop().or_else(|| self.held.take())?;
        Some((slot, false))
    }

    /// Whether there is a slot for it. It may be the last one if the commit at its end needs no other; whoever needs that slot
    /// before gets it.
    pub(crate) fn may_clean(&self) -> bool {
        self.available() >= RESERVE
            || self.health == Health::Full
                && self.available() > 0
                && self.fits_with(&self.open, INSTALL_BYTES)
    }

    /// The slot of a cold segment that isn't done, for something that can't wait.
    pub(crate) fn give_up_cleaning(&mut self) -> Option<Slot<D::File>> {
        let cleaning = self.cleaning.take()?;
        self.abandon(cleaning)
    }

    /// Whether there is such a slot.
    pub(crate) fn cleaning_has_slot(&self) -> bool {
        self.cleaning.as_ref().is_some_and(|cleaning| !cleaning.new)
    }

    /// Picks what is to be cleaned, if it is worth it.
    fn start_cleaning(&mut self) -> bool {
        let sealed = || self.segments.values().filter(|segment| segment.header.segment != self.active.number);
        let capacity: u64 = sealed().map(Segment::capacity).sum();
        let live: u64 = sealed().map(|segment| segment.live_bytes).sum();
        let one = u64::from(self.options.segment_bytes);
        let erase = sealed().any(|segment| segment.erase && segment.live_bytes > 0);
        // Files take at most about twice what is alive, and some segments. On a full disk every segment counts.
        let wasteful = capacity > 2 * live + u64::from(self.options.slack_segments) * one;
        let is_small =
            |segment: &Segment<D::File>| segment.header.kind == Kind::Cold && segment.file_bytes < one / 2;
        let scattered = sealed().filter(|segment| is_small(segment)).count() > SMALL_MAX;
        if !(wasteful || scattered || erase || self.health == Health::Full) || !self.may_clean() {
            return false;
        }
        let mut candidates: Vec<(bool, u64, u64)> = sealed()
            .filter(|segment| {
                let stuck = segment.is_stuck() || segment.stuck_at < u64::MAX && self.health != Health::Full;
                segment.live_bytes > 0 && !stuck
            })
            .filter(|segment| {
                let sparse = segment.live_bytes * 2 < segment.capacity();
                let small = scattered && is_small(segment);
                segment.erase || (wasteful && sparse) || small || self.health == Health::Full
            })
            .map(|segment| (!segment.erase, segment.live_bytes, segment.header.segment))
            .collect();
        candidates.sort_unstable();
        // What frames and the index take is bounded by an eighth.
        let (room, mut taken, mut victims) = (one - one / 8, 0, Vec::new());
        for (_, bytes, number) in candidates {
            // One that is nearly full moves alone, if it has to: it had room for a checkpoint, too.
            if taken + bytes > room && !(erase && victims.is_empty()) {
                break;
            }
            taken += bytes;
            victims.push(number);
        }
        if victims.is_empty() || (victims.len() < 2 && !erase) {
            return false;
        }
        let Some((slot, new)) = self.slot_for_cold() else { return false };
        let header = Header {
            kind: Kind::Cold,
            page_bytes: self.options.page_bytes,
            pages: self.pages(),
            store: self.store,
            segment: self.next_segment,
            salt: self.random(),
            first_frame: 1,
        };
        self.next_segment += 1;
        let mut work = VecDeque::new();
        for (id, stream) in &self.streams {
            for chunk in stream.chunks.iter().filter(|chunk| victims.contains(&chunk.segment)) {
                let (first_seq, last_seq) = chunk.seqs();
                work.push_back(Run { victim: chunk.segment, stream: *id, first_seq, last_seq });
            }
        }
        self.cleaning = Some(Cleaning {
            victims,
            work,
            from_seq: 0,
            slot,
            new,
            header,
            page: header::PAGES,
            number: 1,
            sum: 0,
            buffer: vec![0; frame::HEAD],
            waiting: Vec::new(),
            moved: BTreeMap::new(),
            overflows: false,
        });
        true
    }

    /// `true` once everything is moved.
    fn go_on_cleaning(&mut self, cleaning: &mut Cleaning<D::File>, budget: u64) -> io::Result<bool> {
        if cleaning.number == 1 && cleaning.waiting.is_empty() && cleaning.moved.is_empty() {
            let page = cleaning.header.page_bytes as usize;
            let mut bytes = vec![0; header::PAGES as usize * page];
            for at in 0..header::PAGES as usize {
                bytes[at * page..at * page + header::LEN].copy_from_slice(&cleaning.header.encode());
            }
            write_full(&mut self.disk, &cleaning.slot.file, &bytes, 0)?;
        }
        let mut left = budget;
        let frame_bytes = FRAME_BYTES.min(self.options.frame_bytes_max as usize);
        while left > 0
            && let Some(run) = cleaning.work.front().copied()
        {
            let (victim, id) = (run.victim, run.stream);
            let from = cleaning.from_seq.max(run.first_seq);
            let next = self.streams.get(&id).and_then(|stream| {
                let mut chunks = stream.chunks.iter().filter(|chunk| chunk.segment == victim);
                chunks.find_map(|chunk| chunk.live_from(from).next().filter(|(_, e)| e.seq <= run.last_seq))
            });
            let Some((_, entry)) = next else {
                cleaning.work.pop_front();
                cleaning.from_seq = 0;
                continue;
            };
            cleaning.from_seq = entry.seq + 1;
            let bytes = match self.read_record(victim, &entry) {
                Ok(bytes) => bytes,
                Err(error) => {
                    if let Some(segment) = self.segments.get_mut(&victim) {
                        segment.stuck_at = 0;
                    }
                    return Err(error);
                }
            };
            let offset = u64::from(entry.place) * record::ALIGN as u64;
            let seed = self.segments.get(&victim).map(|segment| segment.seed);
            let found = seed.map_or(Found::Nothing, |seed| record::inspect(&bytes, seed, offset));
            let head = match found {
                Found::Whole { head, .. } if head.stream == id && head.seq == entry.seq => head,
                _ => {
                    self.set_aside(victim, id, &entry, &bytes)?;
                    continue;
                }
            };
            let body = bytes.get(head.head_len()..).unwrap_or_default();
            let (subject, rest) = body.split_at(usize::from(head.subject_len).min(body.len()));
            let (headers, rest) = rest.split_at((head.headers_len as usize).min(rest.len()));
            let payload = rest.get(..head.payload_len as usize).unwrap_or_default();
            let place = cleaning.buffer.len();
            record::write(&mut cleaning.buffer, &head, subject, headers, payload);
            cleaning.waiting.push((id, Entry { place: place as u32, ..entry }));
            left = left.saturating_sub(bytes.len() as u64);
            if cleaning.buffer.len() >= frame_bytes {
                self.write_cold(cleaning, &[])?;
            }
        }
        Ok(cleaning.work.is_empty())
    }

    /// Writes what is in the buffer as a frame, with these ops besides.
    fn write_cold(&mut self, cleaning: &mut Cleaning<D::File>, ops: &[u8]) -> io::Result<()> {
        let mut ops = ops.to_vec();
        let mut runs: Vec<(u32, u64, u64, u32)> = Vec::new();
        for (id, entry) in &cleaning.waiting {
            match runs.last_mut() {
                Some((stream, _, last, count)) if stream == id => {
                    *last = entry.seq;
                    *count += 1;
                }
                _ => runs.push((*id, entry.seq, entry.seq, 1)),
            }
        }
        for (stream, first_seq, last_seq, count) in runs {
            op::push(&mut ops, &Op::Messages { stream, after: 0, first_seq, last_seq, count });
        }
        let header = cleaning.header;
        let offset = u64::from(cleaning.page) * u64::from(header.page_bytes);
        let place = frame::Place {
            seed: header.seed(),
            offset,
            page_bytes: header.page_bytes,
            number: cleaning.number,
            durable: cleaning.number - 1,
            previous: cleaning.sum,
            flags: 0,
        };
        let mut buffer = std::mem::replace(&mut cleaning.buffer, vec![0; frame::HEAD]);
        cleaning.sum = frame::finish(&mut buffer, &ops, false, &place);
        let pages = (buffer.len() / header.page_bytes as usize) as u32;
        if cleaning.page + pages > header.pages {
            cleaning.overflows = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.usage.written_bytes += buffer.len() as u64;
        self.usage.moved_bytes += buffer.len() as u64;
        write_full(&mut self.disk, &cleaning.slot.file, &buffer, offset)?;
        // Nothing of it has to last before it is installed, and what is on its way needn't be waited for then.
        self.disk.start_writing(&cleaning.slot.file, offset, buffer.len() as u64);
        for (id, entry) in cleaning.waiting.drain(..) {
            let place = ((offset + u64::from(entry.place)) / record::ALIGN as u64) as u32;
            cleaning.moved.entry(id).or_default().push(Entry { place, ..entry });
        }
        cleaning.page += pages;
        cleaning.number += 1;
        Ok(())
    }

    /// Everything is moved: what the ops of the old segments removed elsewhere, and the index.
    fn seal_cold(&mut self, cleaning: &mut Cleaning<D::File>) -> io::Result<Sealed> {
        let mut removed = Vec::new();
        for victim in &cleaning.victims {
            removed.extend(self.removed_by(*victim)?);
        }
        let removed = self.still_needed(&removed, &cleaning.victims);
        for some in removed.chunks(1_000.min(self.options.frame_bytes_max as usize / 64)) {
            let mut ops = Vec::new();
            for (stream, first_seq, last_seq) in some {
                let (stream, first_seq, last_seq) = (*stream, *first_seq, *last_seq);
                op::push(&mut ops, &Op::Remove { stream, first_seq, last_seq });
            }
            self.write_cold(cleaning, &ops)?;
        }
        if !cleaning.waiting.is_empty() {
            self.write_cold(cleaning, &[])?;
        }

        // Runs of a stream that nothing else lies between, with what was removed meanwhile as dead.
        let number = cleaning.header.segment;
        let mut runs: BTreeMap<u32, Vec<Chunk>> = BTreeMap::new();
        let mut live_bytes = 0;
        for (id, entries) in std::mem::take(&mut cleaning.moved) {
            let Some(stream) = self.streams.get(&id) else { continue };
            let others: Vec<(u64, u64)> = stream
                .chunks
                .iter()
                .filter(|chunk| !cleaning.victims.contains(&chunk.segment))
                .map(Chunk::seqs)
                .collect();
            let mut before = None;
            for entry in entries.into_iter().filter(|entry| entry.seq >= stream.first_seq) {
                let at = others.partition_point(|(_, last)| *last < entry.seq);
                let runs = runs.entry(id).or_default();
                if before != Some(at) {
                    runs.push(Chunk::new(number));
                    before = Some(at);
                }
                let alive = stream.find(entry.seq).is_some();
                if alive {
                    live_bytes += weight(entry.size);
                }
                if let Some(run) = runs.last_mut() {
                    run.push(entry, !alive);
                }
            }
        }
        let mut writer = index::Writer::new();
        for (id, runs) in &runs {
            let Some(stream) = self.streams.get(id) else { continue };
            for run in runs {
                let lying = run.all().map(|(ordinal, entry)| (entry, run.is_dead(ordinal)));
                writer.messages(*id, lying, |id| stream.subjects.text(id));
            }
        }
        let mut by_stream: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        for (stream, first, last) in removed {
            by_stream.entry(stream).or_default().push((first, last));
        }
        by_stream.iter().for_each(|(stream, ranges)| writer.removed(*stream, ranges));
        let page_bytes = u64::from(cleaning.header.page_bytes);
        let offset = u64::from(cleaning.page) * page_bytes;
        let room = (u64::from(cleaning.header.pages) * page_bytes).saturating_sub(offset);
        let mut index_bytes = 0;
        if writer.len() as u64 <= room {
            let bytes = writer.finish(cleaning.header.seed(), offset);
            write_full(&mut self.disk, &cleaning.slot.file, &bytes, offset)?;
            self.usage.written_bytes += bytes.len() as u64;
            index_bytes = bytes.len() as u32;
        }
        let file_bytes = match cleaning.new {
            true => offset + u64::from(index_bytes),
            false => cleaning.header.bytes(),
        };
        self.usage.syncs += 1;
        self.disk.sync(&cleaning.slot.file)?;
        if cleaning.new {
            self.disk.sync_dir()?;
        }
        Ok(Sealed { runs, live_bytes, index_bytes, file_bytes })
    }

    /// Puts the new segment in the place of the old ones.
    fn install(&mut self, cleaning: Cleaning<D::File>, sealed: Sealed) {
        let Sealed { runs, live_bytes, index_bytes, file_bytes } = sealed;
        let number = cleaning.header.segment;
        let segment = Segment {
            seed: cleaning.header.seed(),
            header: cleaning.header,
            slot: cleaning.slot.number,
            file: cleaning.slot.file,
            file_bytes,
            end_page: cleaning.page,
            index_page: cleaning.page,
            index_bytes,
            live_bytes,
            erase: false,
            stuck_at: u64::MAX,
        };
        let replaces = cleaning.victims.clone();
        op::push(&mut self.open.ops, &Op::Install { segment: segment.op(), replaces });
        self.segments.insert(number, segment);
        for victim in cleaning.victims {
            self.drop_chunks(victim);
            if let Some(segment) = self.segments.remove(&victim) {
                self.leaving.insert(victim, segment);
                self.open.retires.push(victim);
            }
        }
        for (id, runs) in runs {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.chunks.extend(runs.into_iter().map(|mut run| {
                    run.shrink();
                    run
                }));
                stream.chunks.make_contiguous().sort_by_key(|chunk| chunk.seqs().0);
            }
        }
    }

    /// A message that can't be moved is lost, and stays named. Its bytes go to a file of their own.
    fn set_aside(&mut self, segment: u64, id: u32, entry: &Entry, bytes: &[u8]) -> io::Result<()> {
        let offset = u64::from(entry.place) * record::ALIGN as u64;
        let file = self.disk.open(&format!("damaged-{segment:016x}-{offset:08x}"), true)?;
        write_full(&mut self.disk, &file, bytes, 0)?;
        self.disk.sync(&file)?;
        self.disk.sync_dir()?;
        let damage = Damage { what: Damaged::Messages, ..self.damage_at(segment, id, entry.seq, offset) };
        self.note(damage);
        self.lose(id, entry.seq);
        Ok(())
    }
}
