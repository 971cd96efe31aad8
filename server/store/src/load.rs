//! Loading sealed segments: their indexes, or the frames of those whose index isn't right.

use std::collections::BTreeMap;
use std::io;

use crate::checksum::Seed;
use crate::chunk::{Chunk, Entry};
use crate::disk::{Disk, read_full};
use crate::error::{Damage, Damaged};
use crate::frame::Frame;
use crate::header::{self, Header, Kind};
use crate::index;
use crate::op::{self, Op};
use crate::recover::{Candidate, Report};
use crate::segment::{Messages, Segment, file_name};
use crate::store::Store;
use crate::stream::Lost;

/// What loading sealed segments leaves to be done.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// What their ops removed: stream, first and last sequence.
    pub(crate) removed: Vec<(u32, u64, u64)>,
    /// Those of which something is missing.
    pub(crate) gone: Vec<op::Segment>,
}

/// Ranges that a stream loses with one segment: the last of them takes in what comes after, too.
const GAPS_MAX: usize = 1_000;

impl<D: Disk> Store<D> {
    pub(crate) fn load(
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
            file_bytes: slot.size,
            seed,
            end_page: sealed.end_page,
            index_page: sealed.index_page,
            index_bytes: if indexed { sealed.index_bytes } else { 0 },
            live_bytes: 0,
            erase: false,
            stuck_at: u64::MAX,
        };
        self.segments.insert(sealed.number, segment);
        Ok(())
    }

    pub(crate) fn load_index(
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
    pub(crate) fn scan_sealed(
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
            // Nothing else tells which messages the frame had.
            complete &= !frame.lacks_messages();
            let mut expected = Vec::new();
            for op in op::read(&ops).flatten() {
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

    /// A sealed segment is gone, or frames of it with the index. Which messages were in it isn't known any more: those sequences
    /// count as lost that may have been there and that nothing else tells of. Some may have been removed.
    pub(crate) fn note_gaps(
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
}
