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

use crate::checksum::Seed;
use crate::chunk::{Chunk, Entry};
use crate::disk::{Disk, read_full};
use crate::error::{Damage, Damaged, Error};
use crate::frame::{self, Frame};
use crate::header::{self, Header, Kind};
use crate::index;
use crate::op::{self, Op};
use crate::record::{self, Found};
use crate::room::{RESERVE, state_bytes};
use crate::segment::{Active, Messages, Segment, Slot, Waiting, file_name};
use crate::store::{Health, Options, Store, Usage, note_removed, weight};
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

/// A frame that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) head: frame::Head,
    sum: u32,
    pub(crate) page: u32,
    /// Everything in it is as it was written.
    complete: bool,
    /// Head and foot are.
    both: bool,
    /// It comes after bytes that should have been a frame.
    after_gap: bool,
}

/// No frame is larger: it would not be ours.
const FRAME_BYTES_MAX: u64 = 48 << 20;

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
                            retired.extend(replaces);
                        }
                        Some(Op::Retire { segment }) => retired.push(segment),
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
        for segment in loaded.gone {
            self.note_gaps(&segment, &sealed, &told);
        }

        // The frames after it.
        let mut clean = false;
        for (at, header, scan) in replay {
            let Some(at) = slots.iter().position(|slot| slot.number == at) else { continue };
            let slot = slots.swap_remove(at);
            self.active.removed.clear();
            let (mut expected_page, mut doubts) = (header::PAGES, Doubts::new());
            for frame in &scan.frames {
                if frame.after_gap {
                    self.doubt(
                        &mut doubts,
                        u64::from(frame.page - expected_page) * u64::from(header.page_bytes),
                    );
                }
                expected_page = frame.page + frame.head.pages;
                for stream in self.replay(&slot, &header, frame)? {
                    doubts.remove(&stream);
                }
                clean = frame.head.flags & frame::CLOSED != 0 && scan.cut.is_none();
                self.next_frame = frame.head.number + 1;
                self.active.last_sum = frame.sum;
            }
            self.settle_doubts(doubts, &header, slot.number);
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
                end_page: scan.end_page,
                index_page: scan.index_page,
                index_bytes: 0,
                live_bytes: 0,
                erase: false,
                stuck: false,
            };
            self.segments.insert(header.segment, segment);
        }
        self.durable_frame = self.next_frame - 1;
        for number in retired {
            if number != self.active.number
                && let Some(segment) = self.segments.remove(&number)
            {
                self.drop_chunks(number);
                slots.push(Candidate {
                    number: segment.slot,
                    size: segment.offset(segment.header.pages),
                    file: segment.file,
                    header: Some(segment.header),
                });
            }
        }
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
        let same_sizes = self.segments.get(&self.active.number).is_some_and(|segment| {
            segment.header.pages == self.pages() && segment.header.page_bytes == self.options.page_bytes
        });
        if clean && same_sizes {
            self.sealed = true;
            self.resume();
        } else {
            // Pages are never written twice, so the log goes on in another segment.
            let synced = self.segments.get(&self.active.number).map(|segment| self.disk.sync(&segment.file));
            if !matches!(synced, Some(Ok(()))) || self.roll(true).is_err() {
                self.health = Health::ReadOnly;
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

    // ---- frames ----

    /// Finds the frames of a segment, whole or not. With `until`, nothing is looked for from that page on.
    pub(crate) fn frames(
        &self,
        file: &D::File,
        header: &Header,
        size: u64,
        until: Option<u32>,
    ) -> io::Result<Vec<At>> {
        let (page_bytes, seed) = (header.page_bytes, header.seed());
        let in_file = u32::try_from(size / u64::from(page_bytes)).unwrap_or(u32::MAX);
        let limit = header.pages.min(in_file).min(until.unwrap_or(u32::MAX));
        let mut frames = Vec::new();
        let (mut page, mut after_gap) = (header::PAGES, false);
        let mut first = vec![0; page_bytes as usize];
        while page < limit {
            let offset = u64::from(page) * u64::from(page_bytes);
            read_full(&self.disk, file, &mut first, offset, false)?;
            let at_start = frame::Head::at_start(&first, seed, offset);
            let fits = |head: &frame::Head| {
                head.pages <= limit - page && u64::from(head.pages) * u64::from(page_bytes) <= FRAME_BYTES_MAX
            };
            let (head, sum) = match at_start.filter(|(head, _)| fits(head)) {
                Some(found) => found,
                None => match self.look_further(file, header, page, limit)? {
                    Next::Foot(head, sum) if fits(&head) => (head, sum),
                    Next::Foot(..) | Next::Nothing => break,
                    Next::Head(next) => {
                        after_gap = true;
                        page = next;
                        continue;
                    }
                },
            };
            let mut bytes = std::mem::take(&mut first);
            let length = head.pages as usize * page_bytes as usize;
            if bytes.len() < length {
                let have = bytes.len();
                bytes.resize(length, 0);
                read_full(&self.disk, file, &mut bytes[have..], offset + have as u64, false)?;
            }
            let both = has_both(&head, &bytes, seed, offset, page_bytes);
            let complete =
                both && Frame::new(head, &bytes, seed, offset).is_some_and(|frame| is_complete(&frame));
            frames.push(At { head, sum, page, complete, both, after_gap });
            after_gap = false;
            page += head.pages;
            bytes.truncate(page_bytes as usize);
            first = bytes;
        }
        Ok(frames)
    }

    /// The frames of a segment in force.
    pub(crate) fn frames_of(&self, number: u64) -> io::Result<Vec<At>> {
        let Some(segment) = self.segments.get(&number) else { return Ok(Vec::new()) };
        self.frames(&segment.file, &segment.header, u64::MAX, Some(segment.end_page))
    }

    /// There is no head on `page`: looks for the foot of its frame, or the next head.
    fn look_further(&self, file: &D::File, header: &Header, page: u32, limit: u32) -> io::Result<Next> {
        let page_bytes = header.page_bytes as usize;
        let at_once = (64 << 10) / page_bytes.min(64 << 10);
        let mut buffer = vec![0; at_once.min((limit - page) as usize) * page_bytes];
        let mut next = page;
        while next < limit {
            let pages = buffer.len() / page_bytes;
            let pages = pages.min((limit - next) as usize);
            let bytes = &mut buffer[..pages * page_bytes];
            read_full(&self.disk, file, bytes, u64::from(next) * page_bytes as u64, false)?;
            for bytes in bytes.chunks_exact(page_bytes) {
                let offset = u64::from(next) * page_bytes as u64;
                if next > page && frame::Head::at_start(bytes, header.seed(), offset).is_some() {
                    return Ok(Next::Head(next));
                }
                let end = offset + page_bytes as u64;
                if let Some((head, sum, start)) =
                    frame::Head::at_end(bytes, header.seed(), end, header.page_bytes)
                    && start == u64::from(page) * page_bytes as u64
                {
                    return Ok(Next::Foot(head, sum));
                }
                next += 1;
            }
        }
        Ok(Next::Nothing)
    }

    /// Reads a frame's pages.
    pub(crate) fn frame_bytes(&self, file: &D::File, header: &Header, frame: &At) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; frame.head.pages as usize * header.page_bytes as usize];
        read_full(&self.disk, file, &mut bytes, u64::from(frame.page) * u64::from(header.page_bytes), false)?;
        Ok(bytes)
    }

    /// A frame's ops, if a copy is right.
    pub(crate) fn ops_of(&self, file: &D::File, header: &Header, at: &At) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.frame_bytes(file, header, at)?;
        let offset = u64::from(at.page) * u64::from(header.page_bytes);
        let Some(frame) = Frame::new(at.head, &bytes, header.seed(), offset) else { return Ok(None) };
        let (one, two) = frame.ops();
        Ok(one.or(two).map(<[u8]>::to_vec))
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

    /// A sealed segment is gone, or frames of it with the index. Which messages were in it isn't known any more: those sequences
    /// count as lost that may have been there and that nothing else tells of. Some may have been removed.
    fn note_gaps(
        &mut self,
        gone: &op::Segment,
        sealed: &BTreeMap<u64, op::Segment>,
        told: &BTreeMap<u32, u64>,
    ) {
        let is_hot = |number: &u64| !gone.cold && sealed.get(number).is_some_and(|segment| !segment.cold);
        for (id, last_seq) in told {
            let Some(stream) = self.streams.get(id) else { continue };
            // What commits wrote lies in the order of the segments.
            let (mut from, mut until) = (stream.first_seq, *last_seq);
            for chunk in stream.chunks.iter().filter(|chunk| is_hot(&chunk.segment)) {
                match chunk.segment.cmp(&gone.number) {
                    std::cmp::Ordering::Less => from = from.max(chunk.seqs().1 + 1),
                    std::cmp::Ordering::Greater => until = until.min(chunk.seqs().0 - 1),
                    std::cmp::Ordering::Equal => {}
                }
            }
            let mut gaps: Vec<(u64, u64)> = Vec::new();
            let known = stream.chunks.iter().flat_map(|chunk| chunk.all().map(|(_, entry)| entry.seq));
            let start = from;
            for seq in known.skip_while(|seq| *seq < start).take_while(|seq| *seq <= until) {
                if seq > from && gaps.len() < GAPS_MAX {
                    gaps.push((from, seq - 1));
                }
                from = seq + 1;
            }
            if from <= until {
                gaps.push((from, until));
            }
            for (first_seq, last_seq) in gaps {
                let offset = u64::from(header::PAGES) * u64::from(self.options.page_bytes);
                let lost = Lost { first_seq, last_seq, segment: gone.number, offset };
                self.note_lost(*id, gone.slot, lost);
            }
        }
    }

    /// Ops on streams and states.
    fn apply_state(&mut self, op: &Op<'_>) {
        match *op {
            Op::NextStream { id } => self.next_stream = self.next_stream.max(id),
            Op::Create { stream, config } => {
                self.next_stream = self.next_stream.max(stream.saturating_add(1));
                self.streams.insert(stream, Stream::new(config));
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

    /// Frames of so many bytes are gone, with all that they said: any stream may have had messages in them.
    fn doubt(&mut self, doubts: &mut Doubts, bytes: u64) {
        for (id, stream) in &self.streams {
            doubts.entry(*id).or_insert((stream.last_seq, 0)).1 += bytes;
        }
        self.next_stream = self.next_stream.saturating_add(u32::try_from(bytes / 8).unwrap_or(u32::MAX));
    }

    /// Of these streams no later frame told how far they were. As many messages as could have been there are named as lost, and
    /// no sequence is given again that may have been acknowledged.
    fn settle_doubts(&mut self, doubts: Doubts, header: &Header, slot: u32) {
        for (id, (known, bytes)) in doubts {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.last_seq = stream.last_seq.max(known + bytes / 8);
            let messages = (bytes / (record::HEAD + record::ALIGN) as u64).max(1);
            let offset = u64::from(header::PAGES) * u64::from(header.page_bytes);
            let lost =
                Lost { first_seq: known + 1, last_seq: known + messages, segment: header.segment, offset };
            self.note_lost(id, slot, lost);
        }
    }

    /// Applies a frame of a segment that is replayed. Gives the streams that it tells the messages of.
    fn replay(&mut self, slot: &Candidate<D::File>, header: &Header, at: &At) -> io::Result<Vec<u32>> {
        let bytes = self.frame_bytes(&slot.file, header, at)?;
        let offset = u64::from(at.page) * u64::from(header.page_bytes);
        let Some(frame) = Frame::new(at.head, &bytes, header.seed(), offset) else { return Ok(Vec::new()) };
        let checkpoint = at.head.flags & frame::CHECKPOINT != 0;
        if at.after_gap {
            self.note_frame(slot.number, offset);
        }
        let ops = self.choose_ops(&frame, at, slot.number, offset);
        let ops: Vec<Op<'_>> = op::read(ops).flatten().collect();
        let mut expected = Vec::new();
        for op in &ops {
            match *op {
                Op::Messages { stream, after, first_seq, last_seq, count } => {
                    expected.push(Messages { stream, after, first_seq, last_seq, count });
                }
                _ if checkpoint => {}
                ref op => self.apply_state(op),
            }
        }
        if !checkpoint {
            self.note_jumps(header.segment, slot.number, offset, &ops, &expected);
        }
        self.absorb(&frame, &bytes, header, slot.number, offset, &expected, true);
        for op in &ops {
            match *op {
                Op::Remove { stream, first_seq, last_seq } => {
                    self.kill(stream, first_seq, last_seq);
                    note_removed(&mut self.active.removed, stream, first_seq, last_seq);
                }
                Op::Purge { stream, first_seq } => self.purge_in_memory(stream, first_seq),
                Op::Delete { stream } => {
                    self.streams.remove(&stream);
                }
                _ => {}
            }
        }
        Ok(expected.iter().map(|messages| messages.stream).collect())
    }

    /// The ops of a frame, from the copy that is right. Names what isn't.
    fn choose_ops<'f>(&mut self, frame: &Frame<'f>, at: &At, slot: u32, offset: u64) -> &'f [u8] {
        let (one, two) = frame.ops();
        if one.is_none() && two.is_none() {
            self.note_frame(slot, offset);
        } else if one.is_none() || two.is_none() || !at.both {
            self.note_copy(slot, offset);
        }
        one.or(two).unwrap_or_default()
    }

    /// Where a frame says that a stream's messages go on further than we know, frames between are gone.
    fn note_jumps(&mut self, segment: u64, slot: u32, offset: u64, ops: &[Op<'_>], expected: &[Messages]) {
        for messages in expected {
            let Some(stream) = self.streams.get_mut(&messages.stream) else { continue };
            let purged = ops.iter().find_map(|op| match op {
                Op::Purge { stream, first_seq } if *stream == messages.stream => Some(*first_seq - 1),
                _ => None,
            });
            let known = stream.last_seq.max(purged.unwrap_or(0));
            if messages.after > known {
                let lost = Lost { first_seq: known + 1, last_seq: messages.after, segment, offset };
                self.note_lost(messages.stream, slot, lost);
            }
        }
    }

    /// Takes the messages of a frame into the index, and names those that can't be.
    #[expect(clippy::too_many_arguments, reason = "a frame and where it is")]
    fn absorb(
        &mut self,
        frame: &Frame<'_>,
        bytes: &[u8],
        header: &Header,
        slot: u32,
        offset: u64,
        expected: &[Messages],
        last: bool,
    ) {
        let mut found: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let (_, base) = frame.records();
        for at in frame.walk() {
            let place = base + at.at as u64;
            let head = match at.found {
                Found::Whole { head, repaired } => {
                    if repaired {
                        self.note_copy(slot, place);
                    }
                    head
                }
                // It is missing below, with its place.
                Found::Damaged(head) => {
                    found.entry(head.stream).or_default().push(head.seq);
                    if self.streams.get(&head.stream).is_some_and(|stream| head.seq >= stream.first_seq) {
                        let (first_seq, last_seq, segment) = (head.seq, head.seq, header.segment);
                        self.note_lost(
                            head.stream,
                            slot,
                            Lost { first_seq, last_seq, segment, offset: place },
                        );
                    }
                    continue;
                }
                Found::Nothing => continue,
            };
            found.entry(head.stream).or_default().push(head.seq);
            let at = (place - offset) as usize + record::HEAD;
            let subject = bytes.get(at..at + usize::from(head.subject_len)).unwrap_or_default();
            self.take_in(header.segment, &head, subject, place, last);
        }
        for messages in expected {
            if last && let Some(stream) = self.streams.get_mut(&messages.stream) {
                stream.last_seq = stream.last_seq.max(messages.last_seq);
            }
            let found = found.get(&messages.stream).map_or(&[][..], Vec::as_slice);
            if found.len() as u64 >= u64::from(messages.count) {
                continue;
            }
            let Some(stream) = self.streams.get(&messages.stream) else { continue };
            let floor = stream.first_seq;
            let mut next = messages.first_seq;
            let mut gaps = Vec::new();
            for seq in found.iter().copied().chain([messages.last_seq + 1]) {
                if seq > next {
                    gaps.push((next, seq - 1));
                }
                next = seq + 1;
            }
            for (first_seq, last_seq) in gaps.into_iter().filter(|(_, last)| *last >= floor) {
                let first_seq = first_seq.max(floor);
                self.note_lost(
                    messages.stream,
                    slot,
                    Lost { first_seq, last_seq, segment: header.segment, offset },
                );
            }
        }
    }

    fn take_in(&mut self, segment: u64, head: &record::Head, subject: &[u8], offset: u64, last: bool) {
        let Some(stream) = self.streams.get_mut(&head.stream) else { return };
        if last {
            stream.last_seq = stream.last_seq.max(head.seq);
            stream.last_time = head.time;
        }
        if head.seq < stream.first_seq {
            return;
        }
        let place = u32::try_from(offset / record::ALIGN as u64).unwrap_or(u32::MAX);
        let known = stream.chunks.back().filter(|chunk| chunk.segment == segment && chunk.count() > 0);
        if known.is_some_and(|chunk| chunk.seqs().1 >= head.seq) {
            return;
        }
        let (id, _) = stream.subjects.add(subject, head.seq);
        stream.messages += 1;
        stream.bytes += u64::from(head.size());
        let entry = Entry { seq: head.seq, place, size: head.size(), subject: id, expires: head.expires };
        stream.chunk_for(segment).push(entry, false);
    }

    /// Marks the messages of a range as removed, wherever they are.
    fn kill(&mut self, stream: u32, first: u64, last: u64) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        let seqs: Vec<u64> =
            stream.live_from(first).map(|(entry, _)| entry.seq).take_while(|seq| *seq <= last).collect();
        for seq in seqs {
            stream.kill(seq);
        }
        let parts = stream.lost.iter().flat_map(|lost| lost.without(first, last));
        stream.lost = parts.collect();
    }

    /// What a frame that was cut off used stays used.
    fn burn(&mut self, slot: &Candidate<D::File>, header: &Header, at: &At) -> io::Result<()> {
        let ops = self.ops_of(&slot.file, header, at)?.unwrap_or_default();
        for op in op::read(&ops).flatten() {
            let (stream, last_seq) = match op {
                Op::Messages { stream, last_seq, .. } | Op::Skip { stream, last_seq } => (stream, last_seq),
                Op::Purge { stream, first_seq } => (stream, first_seq.saturating_sub(1)),
                Op::Create { stream, .. } => {
                    self.next_stream = self.next_stream.max(stream.saturating_add(1));
                    continue;
                }
                _ => continue,
            };
            if let Some(stream) = self.streams.get_mut(&stream) {
                stream.last_seq = stream.last_seq.max(last_seq);
            }
        }
        Ok(())
    }

    // ---- sealed segments ----

    fn load(
        &mut self,
        slots: &mut Vec<Candidate<D::File>>,
        sealed: &op::Segment,
        loaded: &mut Loaded,
        report: &mut Report,
    ) -> io::Result<()> {
        let kind = if sealed.cold { Kind::Cold } else { Kind::Hot };
        let at = slots.iter().position(|slot| slot.number == sealed.slot);
        let Some(at) = at else {
            self.note_segment(sealed.slot, Damaged::Segment);
            loaded.gone.push(*sealed);
            return Ok(());
        };
        let page_bytes = slots[at].header.map_or(self.options.page_bytes, |header| header.page_bytes);
        let expected = Header {
            kind,
            page_bytes,
            pages: sealed.pages,
            store: self.store,
            segment: sealed.number,
            salt: sealed.salt,
            first_frame: sealed.first_frame,
        };
        match slots[at].header {
            Some(header) if header.segment != sealed.number || header.salt != sealed.salt => {
                // The file has become another segment, or was put here by hand.
                self.note_segment(sealed.slot, Damaged::Segment);
                loaded.gone.push(*sealed);
                return Ok(());
            }
            Some(_) => {}
            None => self.note_segment(sealed.slot, Damaged::Copy),
        }
        let slot = slots.swap_remove(at);
        let seed = expected.seed();
        let index_at = u64::from(sealed.index_page) * u64::from(page_bytes);
        let mut indexed = false;
        if sealed.index_bytes > 0 && u64::from(sealed.index_bytes) + index_at <= slot.size {
            let mut bytes = vec![0; sealed.index_bytes as usize];
            read_full(&self.disk, &slot.file, &mut bytes, index_at, false)?;
            indexed = self.load_index(sealed.number, &bytes, seed, index_at, &mut loaded.removed);
            if !indexed {
                self.note(Damage {
                    stream: None,
                    first_seq: 0,
                    last_seq: 0,
                    file: file_name(slot.number),
                    offset: index_at,
                    what: Damaged::Index,
                });
            }
        }
        if !indexed {
            report.scanned += 1;
            if !self.scan_sealed(&slot, &expected, sealed.end_page, &mut loaded.removed)? {
                loaded.gone.push(*sealed);
            }
        }
        let segment = Segment {
            header: expected,
            slot: slot.number,
            file: slot.file,
            seed,
            end_page: sealed.end_page,
            index_page: sealed.index_page,
            index_bytes: if indexed { sealed.index_bytes } else { 0 },
            live_bytes: 0,
            erase: false,
            stuck: false,
        };
        self.segments.insert(sealed.number, segment);
        Ok(())
    }

    fn load_index(
        &mut self,
        number: u64,
        bytes: &[u8],
        seed: Seed,
        offset: u64,
        removed: &mut Vec<(u32, u64, u64)>,
    ) -> bool {
        let Some(items) = index::read(bytes, seed, offset) else { return false };
        for item in items {
            match item {
                index::Item::Messages { stream, subjects, entries, .. } => {
                    let Some(stream) = self.streams.get_mut(&stream) else { continue };
                    let Some(subjects) = index::subjects(subjects) else { continue };
                    let mut ids = vec![None; subjects.len()];
                    let mut chunk = Chunk::with_capacity(number, entries.len());
                    for entry in index::entries(entries) {
                        if entry.seq < stream.first_seq {
                            continue;
                        }
                        if entry.subject == index::DEAD {
                            chunk.push(entry, true);
                            continue;
                        }
                        let at = entry.subject as usize - 1;
                        let (Some(subject), Some(known)) = (subjects.get(at), ids.get_mut(at)) else { break };
                        let id = match *known {
                            Some(id) => stream.subjects.add_again(id, entry.seq),
                            None => *known.insert(stream.subjects.add(subject, entry.seq).0),
                        };
                        stream.messages += 1;
                        stream.bytes += u64::from(entry.size);
                        chunk.push(Entry { subject: id, ..entry }, false);
                    }
                    if chunk.count() > 0 {
                        chunk.shrink();
                        stream.chunks.push_back(chunk);
                    }
                }
                index::Item::Removed { stream, ranges } => {
                    removed.extend(index::ranges(ranges).map(|(first, last)| (stream, first, last)));
                }
            }
        }
        true
    }

    /// Reads a sealed segment whose index isn't right. Everything in it was durable once. `false` if frames are missing.
    fn scan_sealed(
        &mut self,
        slot: &Candidate<D::File>,
        header: &Header,
        end_page: u32,
        removed: &mut Vec<(u32, u64, u64)>,
    ) -> io::Result<bool> {
        let frames = self.frames(&slot.file, header, slot.size, Some(end_page))?;
        let (mut expected_page, mut complete) = (header::PAGES, true);
        for at in &frames {
            let offset = u64::from(at.page) * u64::from(header.page_bytes);
            if at.page != expected_page {
                complete = false;
                self.note_frame(slot.number, u64::from(expected_page) * u64::from(header.page_bytes));
            }
            expected_page = at.page + at.head.pages;
            let bytes = self.frame_bytes(&slot.file, header, at)?;
            let Some(frame) = Frame::new(at.head, &bytes, header.seed(), offset) else { continue };
            let ops = self.choose_ops(&frame, at, slot.number, offset);
            let mut expected = Vec::new();
            for op in op::read(ops).flatten() {
                match op {
                    Op::Messages { stream, after, first_seq, last_seq, count } => {
                        expected.push(Messages { stream, after, first_seq, last_seq, count });
                    }
                    Op::Remove { stream, first_seq, last_seq } => removed.push((stream, first_seq, last_seq)),
                    _ => {}
                }
            }
            self.absorb(&frame, &bytes, header, slot.number, offset, &expected, false);
        }
        if expected_page < end_page {
            complete = false;
            self.note_frame(slot.number, u64::from(expected_page) * u64::from(header.page_bytes));
        }
        Ok(complete)
    }

    // ---- odds and ends ----

    pub(crate) fn drop_chunks(&mut self, segment: u64) {
        for stream in self.streams.values_mut() {
            stream.chunks.retain(|chunk| chunk.segment != segment);
        }
    }

    fn note_segment(&mut self, slot: u32, what: Damaged) {
        let file = file_name(slot);
        self.note(Damage { stream: None, first_seq: 0, last_seq: 0, file, offset: 0, what });
    }

    fn note_frame(&mut self, slot: u32, offset: u64) {
        let (file, what) = (file_name(slot), Damaged::Frame);
        self.note(Damage { stream: None, first_seq: 0, last_seq: 0, file, offset, what });
    }

    fn note_copy(&mut self, slot: u32, offset: u64) {
        let (file, what) = (file_name(slot), Damaged::Copy);
        self.note(Damage { stream: None, first_seq: 0, last_seq: 0, file, offset, what });
    }

    fn note_lost(&mut self, id: u32, slot: u32, lost: Lost) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.add_lost(lost);
        self.note(Damage {
            stream: Some(id),
            first_seq: lost.first_seq,
            last_seq: lost.last_seq,
            file: file_name(slot),
            offset: lost.offset,
            what: Damaged::Messages,
        });
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

/// By stream: the last sequence that is known, and how many bytes of frames after it are gone.
type Doubts = BTreeMap<u32, (u64, u64)>;

/// What loading sealed segments leaves to be done.
#[derive(Debug, Default)]
struct Loaded {
    /// What their ops removed: stream, first and last sequence.
    removed: Vec<(u32, u64, u64)>,
    /// Those of which something is missing.
    gone: Vec<op::Segment>,
}

/// Ranges that a stream loses with one segment: the last of them takes in what comes after, too.
const GAPS_MAX: usize = 1_000;

enum Next {
    /// The foot of the frame was found.
    Foot(frame::Head, u32),
    /// The next frame starts on this page.
    Head(u32),
    Nothing,
}

/// The frames that count.
struct Scan {
    frames: Vec<At>,
    /// Where they end.
    end_page: u32,
    /// Where there is room for an index.
    index_page: u32,
    /// The page from which on nothing counts although something is there, and what it is.
    cut: Option<(u32, Vec<At>)>,
}

/// Decides where the log ends. `until`: the first frame of the next segment; everything before it was durable.
fn accept(frames: Vec<At>, until: Option<u64>) -> Scan {
    // A frame says up to where everything was synced when it was written: whatever is wrong there is rot. What comes after
    // was under way, and counts as far as it is whole and in order.
    let durable = match until {
        Some(until) => until - 1,
        None => frames.iter().map(|frame| frame.head.durable).max().unwrap_or(0),
    };
    let mut accepted: Vec<At> = Vec::new();
    let mut rest = frames.into_iter().peekable();
    while let Some(frame) = rest.peek() {
        let number = frame.head.number;
        let previous = accepted.last().map(|last| (last.head.number, last.sum));
        let in_order =
            previous.is_none_or(|(before, _)| number > before) && until.is_none_or(|until| number < until);
        let follows = match previous {
            Some((before, sum)) if number == before + 1 => frame.head.previous == sum,
            // Those between were synced, and are gone.
            Some(_) => number <= durable.saturating_add(1),
            None => true,
        };
        if !in_order || (number > durable && !(follows && frame.complete)) {
            break;
        }
        accepted.extend(rest.next());
    }
    let end_page = accepted.last().map_or(header::PAGES, |last| last.page + last.head.pages);
    let cut: Vec<At> = rest.collect();
    let index_page = cut.last().map_or(end_page, |last| last.page + last.head.pages);
    Scan {
        frames: accepted,
        end_page,
        index_page,
        cut: cut.first().map(|first| first.page).map(|page| (page, cut)),
    }
}

fn has_both(head: &frame::Head, bytes: &[u8], seed: Seed, offset: u64, page_bytes: u32) -> bool {
    let end = offset + bytes.len() as u64;
    let last = bytes.get(bytes.len() - page_bytes as usize..).unwrap_or_default();
    let at_start = frame::Head::at_start(bytes, seed, offset).map(|(head, _)| head);
    let at_end = frame::Head::at_end(last, seed, end, page_bytes).map(|(head, ..)| head);
    at_start == Some(*head) && at_end == Some(*head)
}

fn is_complete(frame: &Frame<'_>) -> bool {
    let (one, two) = frame.ops();
    if one.is_none() || two.is_none() {
        return false;
    }
    let (records, _) = frame.records();
    let (mut count, mut sums) = (0, 0);
    for at in frame.walk() {
        if !matches!(at.found, Found::Whole { repaired: false, .. }) {
            return false;
        }
        count += 1;
        sums = crc32c::crc32c_append(sums, records.get(at.at..at.at + 8).unwrap_or_default());
    }
    count == frame.head.records && sums == frame.head.records_sum
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
