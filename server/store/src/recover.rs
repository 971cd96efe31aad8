//! Opening: from files to a store. There is one way in, whatever happened before.
//!
//! 1. Read the headers of all files. The newest hot segment whose checkpoint can be read is where the log is taken up; it
//!    is the newest hot segment, unless both copies of its checkpoint are damaged.
//! 2. Scan that segment, and newer ones if there are any, for frames, and decide where the log ends.
//! 3. Take streams, states and the list of segments from the checkpoint and the ops after it.
//! 4. Load the indexes of the sealed segments; scan a segment whose index isn't right.
//! 5. Replay the frames of the scanned segments.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::disk::{Disk, read_full};
use crate::error::{Damage, Damaged, Error};
use crate::frame;
use crate::header::{self, Header, Kind};
use crate::load::Loaded;
use crate::op::{self, Op};
use crate::replay::Doubts;
use crate::room::{RESERVE, state_bytes};
use crate::scan::{At, Scan, accept};
use crate::segment::{Active, Segment, Slot, Waiting, file_name};
use crate::store::{DAMAGES_MAX, Health, Options, Store, Usage, note_removed, weight};
use crate::stream::{Lost, Stream};

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The store was new.
    pub created: bool,
    /// It had been closed, not left.
    pub clean: bool,
    /// Where the log ended in frames that weren't whole, or followed one that wasn't: file and offset. Nothing in them had
    /// been acknowledged as durable, unless the medium lied or the very last frame rotted.
    pub cut: Option<(String, u64)>,
    /// Everything that wasn't as it was written.
    pub damages: Vec<Damage>,
    /// Segments that were read because there was no index to load.
    pub scanned: usize,
    /// Messages that are there.
    pub messages: u64,
}

impl<D: Disk> Store<D> {
    /// Opens the store on a disk, or makes one on an empty disk.
    ///
    /// # Errors
    /// [`NotAStore`](Error::NotAStore) if there are segments and none can be read as the end of a log: nothing was touched.
    /// [`Full`](Error::Full) if there is no room for a new store. [`Disk`](Error::Disk).
    pub fn open(mut disk: D, options: Options) -> Result<(Self, Report), Error> {
        let options = options.normal();
        if !options.read_only {
            // A process that ended between making a file and this leaves a name that a power cut would take, and what is
            // acknowledged from now on may be in that file.
            disk.sync_dir()?;
        }
        let slots = candidates(&mut disk)?;
        let mut store = Self {
            disk,
            random: options.seed,
            options,
            store: 0,
            segments: BTreeMap::new(),
            active: Active::default(),
            next_segment: 1,
            next_frame: 1,
            durable_frame: 0,
            sealed: false,
            seal_due: (0, std::time::Duration::ZERO),
            free: Vec::new(),
            held: None,
            leaving: BTreeMap::new(),
            next_slot: slots.iter().map(|slot| slot.number.saturating_add(1)).max().unwrap_or(0),
            streams: BTreeMap::new(),
            next_stream: 1,
            open: Waiting::new(1),
            unsynced: std::collections::VecDeque::new(),
            state_bytes: 0,
            health: Health::Good,
            damages: Vec::new(),
            missed: Vec::new(),
            damaged_files: BTreeSet::new(),
            usage: Usage::default(),
            filling: None,
            cleaning: None,
            scrub: crate::scrub::Scrub::default(),
            to_fill: Vec::new(),
            retry_at: std::time::Duration::ZERO,
            ahead: Default::default(),
        };
        let mut report = Report::default();
        store.recover(slots, &mut report, None)?;
        report.messages = store.streams.values().map(|stream| stream.messages).sum();
        report.damages = store.take_damages();
        Ok((store, report))
    }

    /// Takes everything from the disk again, as it was at the last sync, after a commit failed for good: what was refused is
    /// undone, whatever of it got to the disk. Leaves the store as it was if that fails.
    pub(crate) fn reload(&mut self) -> Result<(), Error> {
        let slots = candidates(&mut self.disk)?;
        let limit = (self.active.number, self.active.durable_page);
        let next_stream = self.next_stream;
        let used: Vec<(u32, u64)> = self.streams.iter().map(|(id, stream)| (*id, stream.last_seq)).collect();
        let ticket = self.open.ticket + 1;
        let old = (
            std::mem::take(&mut self.streams),
            std::mem::take(&mut self.segments),
            std::mem::take(&mut self.active),
            std::mem::take(&mut self.free),
            std::mem::take(&mut self.leaving),
            std::mem::take(&mut self.to_fill),
            std::mem::replace(&mut self.open, Waiting::new(ticket)),
        );
        let rest =
            (self.held.take(), self.filling.take(), self.cleaning.take(), self.state_bytes, self.next_frame);
        let durable_frame = self.durable_frame;
        (self.state_bytes, self.next_frame, self.durable_frame) = (0, 1, 0);
        self.health = Health::Good;
        let recovered = self.recover(slots, &mut Report::default(), Some(limit));
        if let Err(error) = recovered {
            (self.streams, self.segments, self.active, self.free, self.leaving, self.to_fill, self.open) =
                old;
            (self.held, self.filling, self.cleaning, self.state_bytes, self.next_frame) = rest;
            self.durable_frame = durable_frame;
            self.health = Health::ReadOnly;
            return Err(error);
        }
        // Sequences and ids that were given out stay used.
        self.next_stream = self.next_stream.max(next_stream);
        for (id, last_seq) in used {
            if self.streams.get(&id).is_some_and(|stream| stream.last_seq < last_seq)
                && self.skip(id, last_seq).is_err()
            {
                break;
            }
        }
        Ok(())
    }

    fn recover(
        &mut self,
        mut slots: Vec<Candidate<D::File>>,
        report: &mut Report,
        limit: Option<(u64, u32)>,
    ) -> Result<(), Error> {
        let newest = slots.iter().filter_map(|slot| slot.header).max_by_key(|header| header.segment);
        let Some(newest) = newest else {
            if slots.iter().any(|slot| slot.size > 0 && !self.is_blank(slot)) {
                return Err(Error::NotAStore("no header of a segment can be read"));
            }
            return self.create(slots, report);
        };
        self.store = newest.store;
        self.next_segment = newest.segment + 1;

        // Where the log is taken up.
        let mut hot: Vec<usize> = (0..slots.len())
            .filter(|at| slots[*at].header.is_some_and(|h| h.kind == Kind::Hot && h.store == self.store))
            .collect();
        hot.sort_by_key(|at| std::cmp::Reverse(slots[*at].header.map(|header| header.segment)));
        let mut replay: Vec<(u32, Header, Scan)> = Vec::new();
        let mut found = false;
        for at in hot {
            let slot = &slots[at];
            let Some(header) = slot.header else { continue };
            let known = limit.map(|(newest, page)| (header.segment.cmp(&newest), page));
            let until_page = match known {
                // Begun, and refused.
                Some((std::cmp::Ordering::Greater, _)) => continue,
                Some((std::cmp::Ordering::Equal, page)) => Some(page),
                _ => None,
            };
            let frames = self.frames(&slot.file, &header, slot.size, until_page)?;
            let until = replay.last().map(|(_, newer, _)| newer.first_frame);
            let scan = accept(frames, until);
            let first = scan.frames.first();
            let checkpoint = first.is_some_and(|first| {
                first.head.flags & frame::CHECKPOINT != 0 && first.head.number == header.first_frame
            });
            let readable = checkpoint && self.ops_of(&slot.file, &header, &scan.frames[0])?.is_some();
            if !scan.frames.is_empty() {
                if !readable {
                    self.note_segment(slot.number, Damaged::Frame);
                }
                replay.push((slot.number, header, scan));
            }
            if readable {
                found = true;
                break;
            }
        }
        if !found {
            // A new store whose first commit never was.
            if replay.is_empty() && newest.first_frame <= 1 {
                return self.create(slots, report);
            }
            return Err(Error::NotAStore("no checkpoint can be read"));
        }
        replay.reverse();

        // The list of segments, as the last frame leaves it.
        let mut sealed: BTreeMap<u64, op::Segment> = BTreeMap::new();
        let mut retired = Vec::new();
        // Cold segments that came after the checkpoint, and the segment that says so.
        let mut installed: BTreeMap<u64, u64> = BTreeMap::new();
        let mut created: Vec<(u32, Box<[u8]>)> = Vec::new();
        for (at, header, scan) in &replay {
            for frame in &scan.frames {
                let Some(slot) = slots.iter().find(|slot| slot.number == *at) else { continue };
                let Some(ops) = self.ops_of(&slot.file, header, frame)? else { continue };
                for op in op::read(&ops) {
                    match op {
                        Some(Op::Segment(segment)) => {
                            sealed.insert(segment.number, segment);
                        }
                        Some(Op::Install { segment, replaces }) => {
                            sealed.insert(segment.number, segment);
                            installed.insert(segment.number, header.segment);
                            retired.extend(replaces);
                        }
                        Some(Op::Retire { segment }) => retired.push(segment),
                        Some(Op::Create { stream, config }) => created.push((stream, config.into())),
                        _ => {}
                    }
                }
            }
        }
        sealed.retain(|number, _| !retired.contains(number));
        let mut told = BTreeMap::new();
        if let Some((at, header, scan)) = replay.first()
            && let Some(slot) = slots.iter().find(|slot| slot.number == *at)
            && let Some(first) = scan.frames.first()
        {
            told = self.load_checkpoint(&slot.file, header, first)?;
        }
        // Cleaning may have moved messages of theirs since.
        for (stream, config) in created {
            self.streams.entry(stream).or_insert_with(|| Stream::new(&config));
        }

        // Sealed segments.
        let mut loaded = Loaded::default();
        for segment in sealed.values() {
            self.next_segment = self.next_segment.max(segment.number + 1);
            self.load(&mut slots, segment, &mut loaded, report)?;
        }
        for stream in self.streams.values_mut() {
            stream.sort_chunks();
        }
        for (stream, first, last) in loaded.removed {
            self.kill(stream, first, last);
        }
        let (late, gone): (Vec<_>, Vec<_>) =
            loaded.gone.into_iter().partition(|segment| installed.contains_key(&segment.number));
        for segment in gone {
            self.note_gaps(&segment, &sealed, &told);
        }

        // The frames after it.
        let mut clean = false;
        let (taken_up, replayed) = (replay.first().map(|(_, header, _)| header.segment), replay.len());
        // What replayed segments removed and nothing will say any more.
        let mut carried: Vec<(u32, u64, u64)> = Vec::new();
        for (at, header, scan) in replay {
            let Some(at) = slots.iter().position(|slot| slot.number == at) else { continue };
            let slot = slots.swap_remove(at);
            // What this segment put in the place of others are messages that came before it.
            for segment in late.iter().filter(|gone| installed.get(&gone.number) == Some(&header.segment)) {
                let told = self.streams.iter().map(|(id, stream)| (*id, stream.last_seq)).collect();
                self.streams.values_mut().for_each(Stream::sort_chunks);
                self.note_gaps(segment, &sealed, &told);
            }
            let (mut expected_page, mut doubts) = (header::PAGES, Doubts::new());
            let gone = header.first_frame.saturating_sub(self.next_frame);
            if gone > 0 && self.active.number > 0 {
                // The end of the segment before it, or segments between them.
                self.note_frame(slot.number, u64::from(header::PAGES) * u64::from(header.page_bytes));
                let room = (header.segment - self.active.number).saturating_mul(header.bytes());
                let frames = gone.saturating_mul(u64::from(self.options.frame_bytes_max));
                self.doubt(&mut doubts, room.min(frames));
            }
            self.active.removed.clear();
            let moved = retired.contains(&header.segment);
            for frame in &scan.frames {
                if frame.after_gap && !moved {
                    self.doubt(
                        &mut doubts,
                        u64::from(frame.page - expected_page) * u64::from(header.page_bytes),
                    );
                }
                expected_page = frame.page + frame.head.pages;
                self.replay(&slot, &header, frame, moved, &mut doubts)?;
                clean = frame.head.flags & frame::CLOSED != 0 && scan.cut.is_none();
                self.next_frame = frame.head.number + 1;
                self.active.last_sum = frame.sum;
            }
            self.settle_doubts(doubts, &header, slot.number);
            if moved {
                for (id, ranges) in &self.active.removed {
                    carried.extend(ranges.iter().map(|(first, last)| (*id, *first, *last)));
                }
            }
            self.active.number = header.segment;
            self.active.durable_page = scan.end_page;
            if let Some((page, burnt)) = &scan.cut {
                report.cut = Some((file_name(slot.number), u64::from(*page) * u64::from(header.page_bytes)));
                // What may have been acknowledged once isn't given out again.
                for frame in burnt {
                    self.burn(&slot, &header, frame)?;
                }
            }
            let segment = Segment {
                seed: header.seed(),
                header,
                slot: slot.number,
                file: slot.file,
                file_bytes: slot.size,
                end_page: scan.end_page,
                index_page: scan.index_page,
                index_bytes: 0,
                live_bytes: 0,
                erase: false,
                stuck_at: u64::MAX,
            };
            self.segments.insert(header.segment, segment);
        }
        self.durable_frame = self.next_frame - 1;
        let mut last_checkpoint = None;
        for number in retired {
            if number != self.active.number
                && let Some(segment) = self.segments.remove(&number)
            {
                self.drop_chunks(number);
                let slot = Candidate {
                    number: segment.slot,
                    size: segment.file_bytes,
                    file: segment.file,
                    header: Some(segment.header),
                };
                match taken_up == Some(number) {
                    true => last_checkpoint = Some(slot),
                    false => slots.push(slot),
                }
            }
        }
        self.name_lost();
        for stream in self.streams.values_mut() {
            stream.settle_first();
            self.state_bytes += state_bytes(stream);
            for chunk in &stream.chunks {
                if let Some(segment) = self.segments.get_mut(&chunk.segment) {
                    segment.live_bytes +=
                        chunk.live_from(0).map(|(_, entry)| weight(entry.size)).sum::<u64>();
                }
            }
        }
        report.clean = clean;
        if self.options.read_only {
            self.health = Health::ReadOnly;
            return Ok(());
        }
        self.take_free_slots(slots)?;
        // The only checkpoint that can be read stays until there is another.
        if let Some(slot) = last_checkpoint.take_if(|slot| slot.size == u64::from(self.options.segment_bytes))
        {
            self.held = Some(Slot { number: slot.number, file: slot.file });
        }
        let same_sizes = self.segments.get(&self.active.number).is_some_and(|segment| {
            segment.header.pages == self.pages() && segment.header.page_bytes == self.options.page_bytes
        });
        if clean && same_sizes && replayed == 1 {
            self.sealed = true;
            self.resume();
        } else {
            // Pages are never written twice, so the log goes on in another segment. What this opening took from segments that
            // it gives up is said there again, or in the index of the last one if it is too much: the next opening doesn't read them.
            let again = self.still_needed(&carried, &[]);
            if again.len() * 26 <= self.options.frame_bytes_max as usize / 4 {
                self.open.removed.extend(again);
            } else {
                for (stream, first, last) in again {
                    note_removed(&mut self.active.removed, stream, first, last);
                }
            }
            let synced = self.segments.get(&self.active.number).map(|segment| self.disk.sync(&segment.file));
            if !matches!(synced, Some(Ok(()))) || self.roll(true).is_err() {
                self.health = Health::ReadOnly;
            } else if let Some(slot) = last_checkpoint {
                self.take_free_slots(vec![slot])?;
            }
        }
        Ok(())
    }

    /// A new store, on these files if there are any.
    fn create(&mut self, slots: Vec<Candidate<D::File>>, report: &mut Report) -> Result<(), Error> {
        report.created = true;
        report.clean = true;
        if self.options.read_only {
            return Err(Error::NotAStore("there is none"));
        }
        self.store = self.random();
        self.take_free_slots(slots)?;
        while self.free.len() < RESERVE + 2 {
            self.allocate()?;
        }
        self.roll(false)?;
        Ok(())
    }

    /// The rest of the files are free.
    fn take_free_slots(&mut self, slots: Vec<Candidate<D::File>>) -> io::Result<()> {
        for slot in slots {
            if slot.header.is_some_and(|header| header.store != self.store) && self.next_frame > 1 {
                // Somebody else's; we don't touch it.
                self.note_segment(slot.number, Damaged::Segment);
            } else if slot.size == u64::from(self.options.segment_bytes) {
                self.free.push(Slot { number: slot.number, file: slot.file });
            } else {
                drop(slot.file);
                self.disk.remove(&file_name(slot.number))?;
            }
        }
        Ok(())
    }

    fn is_blank(&self, slot: &Candidate<D::File>) -> bool {
        let mut buffer = vec![0; 64 << 10];
        let mut at = 0;
        while at < slot.size {
            if read_full(&self.disk, &slot.file, &mut buffer, at, false).is_err()
                || buffer.iter().any(|byte| *byte != 0)
            {
                return false;
            }
            at += buffer.len() as u64;
        }
        true
    }

    /// Goes on behind the last frame of a log that was closed.
    fn resume(&mut self) {
        let number = self.active.number;
        let mut estimate = 0;
        for stream in self.streams.values_mut() {
            let first =
                stream.chunks.iter().find(|chunk| chunk.segment == number).map(|chunk| chunk.seqs().0);
            stream.segment_mark = first.map_or(stream.last_seq, |first| first - 1);
            for chunk in stream.chunks.iter().filter(|chunk| chunk.segment == number) {
                for (_, entry) in chunk.all() {
                    estimate += 14 + stream.subjects.text(entry.subject).len();
                }
            }
        }
        estimate += self.active.removed.values().map(|ranges| ranges.len() * 8).sum::<usize>();
        self.active.index_estimate = estimate;
    }

    /// Gives the last sequence that each stream had before the checkpoint's own messages.
    fn load_checkpoint(
        &mut self,
        file: &D::File,
        header: &Header,
        at: &At,
    ) -> io::Result<BTreeMap<u32, u64>> {
        let ops = self.ops_of(file, header, at)?.unwrap_or_default();
        let mut told = BTreeMap::new();
        for op in op::read(&ops).flatten() {
            match op {
                Op::Stream { id, first_seq, last_seq, last_time, config, .. } => {
                    told.insert(id, last_seq);
                    let mut stream = Stream::new(config);
                    stream.first_seq = first_seq;
                    stream.last_seq = last_seq;
                    stream.last_time = last_time;
                    self.streams.insert(id, stream);
                }
                Op::Messages { stream, after, .. } => {
                    told.entry(stream).and_modify(|last| *last = after.min(*last));
                }
                op => self.apply_state(&op),
            }
        }
        Ok(told)
    }

    /// Ops on streams and states.
    pub(crate) fn apply_state(&mut self, op: &Op<'_>) {
        match *op {
            Op::NextStream { id } => self.next_stream = self.next_stream.max(id),
            Op::Create { stream, config } => {
                self.next_stream = self.next_stream.max(stream.saturating_add(1));
                self.streams.entry(stream).or_insert_with(|| Stream::new(config)).config = config.into();
            }
            Op::Config { stream, config } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.config = config.into();
                }
            }
            Op::Lost { stream, first_seq, last_seq, segment, offset } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.add_lost(Lost { first_seq, last_seq, segment, offset });
                }
            }
            Op::Put { stream, key, value } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    let state = stream.states.entry(key.into()).or_default();
                    state.whole = value.to_vec();
                    state.deltas.clear();
                }
            }
            Op::Append { stream, key, delta } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.states.entry(key.into()).or_default().deltas.push(delta.to_vec());
                }
            }
            Op::Drop { stream, key } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.states.remove(key);
                }
            }
            Op::Skip { stream, last_seq } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.last_seq = stream.last_seq.max(last_seq);
                }
            }
            _ => {}
        }
    }

    // ---- odds and ends ----

    pub(crate) fn drop_chunks(&mut self, segment: u64) {
        for stream in self.streams.values_mut() {
            stream.chunks.retain(|chunk| chunk.segment != segment);
        }
    }

    pub(crate) fn note_segment(&mut self, slot: u32, what: Damaged) {
        let file = file_name(slot);
        self.note(Damage { stream: None, first_seq: 0, last_seq: 0, file, offset: 0, what });
    }

    pub(crate) fn note_frame(&mut self, slot: u32, offset: u64) {
        let (file, what) = (file_name(slot), Damaged::Frame);
        self.note(Damage { stream: None, first_seq: 0, last_seq: 0, file, offset, what });
    }

    pub(crate) fn note_copy(&mut self, slot: u32, offset: u64) {
        let (file, what) = (file_name(slot), Damaged::Copy);
        self.note(Damage { stream: None, first_seq: 0, last_seq: 0, file, offset, what });
    }

    /// Messages are missing from where they should be. Those of the range that turn up elsewhere until everything is read aren't lost.
    pub(crate) fn note_lost(&mut self, id: u32, slot: u32, lost: Lost) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.add_lost(lost);
        if self.missed.len() < DAMAGES_MAX {
            self.missed.push((id, slot, lost));
        }
    }

    /// Everything is read: names what is lost.
    fn name_lost(&mut self) {
        for stream in self.streams.values_mut().filter(|stream| !stream.lost.is_empty()) {
            stream.sort_chunks();
            stream.forget_found();
        }
        for (id, slot, missed) in std::mem::take(&mut self.missed) {
            let Some(stream) = self.streams.get(&id) else { continue };
            let lost: Vec<(u64, u64)> = stream.lost.iter().filter_map(|lost| lost.common(&missed)).collect();
            for (first_seq, last_seq) in lost {
                let (file, what) = (file_name(slot), Damaged::Messages);
                self.note(Damage {
                    stream: Some(id),
                    first_seq,
                    last_seq,
                    file,
                    offset: missed.offset,
                    what,
                });
            }
        }
    }
}

impl Options {
    /// With every size inside its bounds.
    fn normal(self) -> Self {
        let page_bytes = self.page_bytes.clamp(512, 65_536).next_power_of_two();
        let segment_bytes = self.segment_bytes.clamp(16 * page_bytes, 128 << 20) / page_bytes * page_bytes;
        let frame_bytes_max = self.frame_bytes_max.clamp(page_bytes, (segment_bytes / 4).min(32 << 20));
        Self { segment_bytes, page_bytes, frame_bytes_max, ..self }
    }
}

/// A file that may be a segment.
pub(crate) struct Candidate<F> {
    pub(crate) number: u32,
    pub(crate) file: F,
    pub(crate) size: u64,
    pub(crate) header: Option<Header>,
}

/// The header of a file, from either place.
fn read_header<D: Disk>(disk: &D, file: &D::File) -> io::Result<Option<Header>> {
    let mut bytes = [0; header::LEN];
    read_full(disk, file, &mut bytes, 0, false)?;
    if let Some(header) = Header::decode(&bytes) {
        return Ok(Some(header));
    }
    for log in 9..=16 {
        read_full(disk, file, &mut bytes, 1 << log, false)?;
        if let Some(header) = Header::decode(&bytes).filter(|header| header.page_bytes == 1 << log) {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

/// All files that may be segments.
pub(crate) fn candidates<D: Disk>(disk: &mut D) -> io::Result<Vec<Candidate<D::File>>> {
    let mut slots = Vec::new();
    for name in disk.list()? {
        let Some(number) = slot_number(&name) else { continue };
        let file = disk.open(&name, false)?;
        let size = disk.size(&file)?;
        let header = read_header(disk, &file)?;
        slots.push(Candidate { number, file, size, header });
    }
    Ok(slots)
}

fn slot_number(name: &str) -> Option<u32> {
    let hex = name.strip_suffix(".seg")?;
    (hex.len() == 8)
        .then(|| u32::from_str_radix(hex, 16).ok())
        .flatten()
        .filter(|slot| file_name(*slot) == name)
}
