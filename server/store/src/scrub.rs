//! Scrubbing: reading what nobody reads, from the medium, before it is needed.

use std::io;
use std::time::Duration;

use crate::disk::{Disk, read_full};
use crate::error::{Damage, Damaged};
use crate::frame::{self, Frame};
use crate::header;
use crate::index;
use crate::record::Found;
use crate::segment::file_name;
use crate::store::Store;

/// Where the pass is.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    /// The segment, and the page in it.
    at: (u64, u32),
    /// When to go on.
    pub(crate) due: Duration,
    /// Passes that were finished.
    pub(crate) passes: u64,
}

/// Time between the end of a pass and the next.
const REST: Duration = Duration::from_secs(24 * 3_600);

impl<D: Disk> Store<D> {
    /// Passes over all sealed segments that [`maintain`](Self::maintain) has finished.
    pub fn scrubs(&self) -> u64 {
        self.scrub.passes
    }

    /// Reads one frame of a sealed segment, or its index, from the medium. What isn't right is in
    /// [`take_damages`](Self::take_damages) then. Returns how many bytes that were.
    ///
    /// # Errors
    /// The system failed to read; the pass goes on behind that.
    pub fn scrub_step(&mut self) -> io::Result<u64> {
        let (number, page) = self.scrub.at;
        let next =
            self.segments.range(number..).map(|(number, _)| *number).find(|n| *n != self.active.number);
        let Some(next) = next else {
            self.scrub.at = (0, 0);
            self.scrub.passes += 1;
            return Ok(0);
        };
        let page = if next == number { page.max(header::PAGES) } else { header::PAGES };
        let Some(segment) = self.segments.get(&next) else { return Ok(0) };
        if page >= segment.end_page {
            self.scrub.at = (next + 1, 0);
            return self.scrub_index(next);
        }
        let (page_bytes, seed, slot) = (segment.header.page_bytes, segment.seed, segment.slot);
        let offset = segment.offset(page);
        // Whatever happens, the pass goes on.
        self.scrub.at = (next, page + 1);
        let mut bytes = vec![0; page_bytes as usize];
        read_full(&self.disk, &segment.file, &mut bytes, offset, true)?;
        let at_start = frame::Head::at_start(&bytes, seed, offset).map(|(head, _)| head);
        let Some(head) = at_start.filter(|head| head.pages <= segment.end_page - page) else {
            // The foot knows the length; opening looks for it, and so does this, page by page.
            self.note_frame_at(slot, offset);
            return Ok(u64::from(page_bytes));
        };
        bytes.resize(head.pages as usize * page_bytes as usize, 0);
        read_full(&self.disk, &segment.file, &mut bytes, offset, true)?;
        self.scrub.at = (next, page + head.pages);
        let last = bytes.get(bytes.len() - page_bytes as usize..).unwrap_or_default();
        let foot =
            frame::Head::at_end(last, seed, offset + bytes.len() as u64, page_bytes).map(|(head, ..)| head);
        let Some(frame) = Frame::new(head, &bytes, seed, offset) else { return Ok(bytes.len() as u64) };
        let (one, two) = frame.ops();
        if foot != Some(head) || one.is_none() || two.is_none() {
            self.note_copy_at(slot, offset);
        }
        let (_, base) = frame.records();
        let mut known = 0;
        for at in frame.walk() {
            let place = base + at.at as u64;
            match at.found {
                Found::Whole { repaired, .. } => {
                    known += 1;
                    if repaired {
                        self.note_copy_at(slot, place);
                    }
                }
                Found::Damaged(head) => {
                    known += 1;
                    // What was removed may rot.
                    if self.streams.get(&head.stream).is_some_and(|stream| stream.find(head.seq).is_some()) {
                        let damage = self.damage_at(next, head.stream, head.seq, place);
                        self.note_rotten(head.stream, head.seq, damage);
                    }
                }
                Found::Nothing => {}
            }
        }
        if known < head.records {
            self.note_missing(next, offset, offset + bytes.len() as u64, &frame);
        }
        Ok(bytes.len() as u64)
    }

    /// Names the messages of a frame whose heads aren't to be read: those that the index says are there.
    fn note_missing(&mut self, number: u64, from: u64, until: u64, frame: &Frame<'_>) {
        let (_, base) = frame.records();
        let readable: Vec<u64> = frame
            .walk()
            .filter(|at| !matches!(at.found, Found::Nothing))
            .map(|at| base + at.at as u64)
            .collect();
        let mut missing = Vec::new();
        for (id, stream) in &self.streams {
            for chunk in stream.chunks.iter().filter(|chunk| chunk.segment == number) {
                for (_, entry) in chunk.live_from(0) {
                    let place = u64::from(entry.place) * crate::record::ALIGN as u64;
                    if (from..until).contains(&place) && !readable.contains(&place) {
                        missing.push((*id, entry.seq, place));
                    }
                }
            }
        }
        for (stream, seq, place) in missing {
            let damage = self.damage_at(number, stream, seq, place);
            self.note_rotten(stream, seq, damage);
        }
    }

    fn scrub_index(&mut self, number: u64) -> io::Result<u64> {
        let Some(segment) = self.segments.get(&number).filter(|segment| segment.index_bytes > 0) else {
            return Ok(0);
        };
        let offset = segment.offset(segment.index_page);
        let mut bytes = vec![0; segment.index_bytes as usize];
        read_full(&self.disk, &segment.file, &mut bytes, offset, true)?;
        if index::read(&bytes, segment.seed, offset).is_none() {
            let (file, what) = (file_name(segment.slot), Damaged::Index);
            self.note(Damage { stream: None, first_seq: 0, last_seq: 0, file, offset, what });
        }
        Ok(bytes.len() as u64)
    }

    /// Scrubs for `bytes`, and says when to go on so that it stays below the rate.
    pub(crate) fn scrub(&mut self, now: Duration, bytes: u64) -> u64 {
        let rate = u64::from(self.options.scrub_bytes_per_second);
        if rate == 0 || now < self.scrub.due {
            return 0;
        }
        let (mut read, passes) = (0, self.scrub.passes);
        while read < bytes && self.scrub.passes == passes {
            // A segment that can't be read is named when a message in it is asked for.
            read += self.scrub_step().unwrap_or(u64::from(self.options.page_bytes));
        }
        let pause = Duration::from_micros(read.saturating_mul(1_000_000) / rate);
        self.scrub.due = now + if self.scrub.passes == passes { pause } else { REST };
        read
    }

    fn note_copy_at(&mut self, slot: u32, offset: u64) {
        let (file, what) = (file_name(slot), Damaged::Copy);
        self.note(Damage { stream: None, first_seq: 0, last_seq: 0, file, offset, what });
    }

    fn note_frame_at(&mut self, slot: u32, offset: u64) {
        let (file, what) = (file_name(slot), Damaged::Frame);
        self.note(Damage { stream: None, first_seq: 0, last_seq: 0, file, offset, what });
    }
}
