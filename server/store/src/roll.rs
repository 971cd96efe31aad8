//! Rolling: the log goes on in another segment, which starts with all that has to be known but messages.

use std::collections::BTreeMap;
use std::io;

use crate::commit::push_messages;
use crate::disk::{Disk, write_full};
use crate::frame;
use crate::header::{self, Header, Kind};
use crate::index;
use crate::op::{self, Op};
use crate::segment::{Active, Segment, Slot};
use crate::store::{Store, note_removed};
use crate::stream;

impl<D: Disk> Store<D> {
    /// Goes on in a new segment, with the open frame in its checkpoint, and syncs it. With `seal`, the old segment gets its
    /// index; without, it can't be believed from its last sync on.
    pub(crate) fn roll(&mut self, seal: bool) -> io::Result<()> {
        let old = self.active.number;
        let dead = seal && self.give_up_active();
        if seal && !dead {
            self.write_index(old);
        } else if !seal && let Some(segment) = self.segments.get_mut(&old) {
            segment.end_page = self.active.durable_page;
            segment.index_page = segment.end_page;
            segment.index_bytes = 0;
        }
        let mut last_error = io::Error::from(io::ErrorKind::StorageFull);
        for _ in 0..2 {
            let Some(slot) = self.take_slot() else { return Err(last_error) };
            match self.roll_into(slot, dead) {
                Ok(()) => return Ok(()),
                // That file is left alone from now on, too.
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    pub(crate) fn take_slot(&mut self) -> Option<Slot<D::File>> {
        if self.free.is_empty() && self.held.is_none() {
            let _ = self.allocate();
        }
        self.free.pop().or_else(|| self.held.take()).or_else(|| self.give_up_cleaning())
    }

    /// Whether nothing of the active segment is needed once the next one has its checkpoint: nothing in it is alive, and what its
    /// ops removed elsewhere is staged to be said again. So who only removes and acknowledges never runs out of slots.
    fn give_up_active(&mut self) -> bool {
        let number = self.active.number;
        if self.segments.get(&number).is_none_or(|segment| segment.live_bytes > 0) {
            return false;
        }
        let removed = self.active.removed.iter();
        let removed =
            removed.flat_map(|(id, ranges)| ranges.iter().map(|(first, last)| (*id, *first, *last)));
        let again = self.still_needed(&removed.collect::<Vec<_>>(), &[number]);
        if again.len() * 26 > self.options.frame_bytes_max as usize / 8 {
            return false;
        }
        self.open.removed.extend(again);
        true
    }

    /// `give_up` says that the old segment isn't needed any more then.
    fn roll_into(&mut self, slot: Slot<D::File>, give_up: bool) -> io::Result<()> {
        let header = Header {
            kind: Kind::Hot,
            page_bytes: self.options.page_bytes,
            pages: self.pages(),
            store: self.store,
            segment: self.next_segment,
            salt: self.random(),
            first_frame: self.next_frame,
        };
        self.next_segment += 1;
        let mut ops = Vec::new();
        let old = self.active.number;
        self.checkpoint(&mut ops, give_up.then_some(old));
        for messages in &self.open.messages {
            push_messages(&mut ops, messages);
        }
        for (stream, first_seq, last_seq) in &self.open.removed {
            let (stream, first_seq, last_seq) = (*stream, *first_seq, *last_seq);
            op::push(&mut ops, &Op::Remove { stream, first_seq, last_seq });
        }
        let start = header::PAGES as usize * header.page_bytes as usize;
        let place = frame::Place {
            seed: header.seed(),
            offset: start as u64,
            page_bytes: header.page_bytes,
            number: self.next_frame,
            durable: self.durable_frame,
            previous: 0,
            flags: frame::CHECKPOINT,
        };
        let mut buffer = self.open.buffer.clone();
        let sum = frame::finish(&mut buffer, &ops, true, &place);
        let end_page = header::PAGES + (buffer.len() / header.page_bytes as usize) as u32;
        if end_page > header.pages {
            self.free.push(slot);
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut bytes = vec![0; start];
        for page in 0..header::PAGES as usize {
            let at = page * header.page_bytes as usize;
            bytes[at..at + header::LEN].copy_from_slice(&header.encode());
        }
        bytes.extend_from_slice(&buffer);
        self.usage.written_bytes += bytes.len() as u64;
        self.usage.syncs += 1;
        write_full(&mut self.disk, &slot.file, &bytes, 0)?;
        self.disk.sync(&slot.file)?;

        // From here on the log is there.
        if let Some(held) = self.held.take() {
            self.free.push(held);
        }
        let mut waiting = self.next_waiting();
        waiting.offset = start as u64;
        self.active = Active {
            number: header.segment,
            last_sum: sum,
            durable_page: end_page,
            removed: BTreeMap::new(),
            index_estimate: 0,
        };
        for (stream, first, last) in &waiting.removed {
            note_removed(&mut self.active.removed, *stream, *first, *last);
            self.active.index_estimate += 8;
        }
        for stream in self.streams.values_mut() {
            stream.segment_mark = stream.last_seq;
        }
        for messages in &waiting.messages {
            if let Some(stream) = self.streams.get_mut(&messages.stream) {
                stream.segment_mark = stream.segment_mark.min(messages.after);
                for tail in &stream.tail {
                    let text = stream.subjects.text(tail.entry.subject).len();
                    self.active.index_estimate += 14 + text;
                }
            }
        }
        let segment = Segment {
            seed: header.seed(),
            header,
            slot: slot.number,
            file: slot.file,
            file_bytes: header.bytes(),
            end_page,
            index_page: end_page,
            index_bytes: 0,
            live_bytes: 0,
            erase: false,
            stuck_at: u64::MAX,
        };
        self.segments.insert(header.segment, segment);
        self.next_frame += 1;
        self.sealed = false;
        self.unsynced.push_back(waiting);
        if give_up && let Some(segment) = self.segments.remove(&old) {
            self.drop_chunks(old);
            self.leaving.insert(old, segment);
            self.free_segment(old);
        }
        self.settle();
        Ok(())
    }

    /// Writes the index of a segment that gets no more frames. One that doesn't come to be costs time at the next opening.
    pub(crate) fn write_index(&mut self, number: u64) {
        let Some(segment) = self.segments.get(&number) else { return };
        let mut writer = index::Writer::new();
        for (id, stream) in &self.streams {
            for chunk in stream.chunks.iter().filter(|chunk| chunk.segment == number) {
                let lying = chunk.all().filter(|(_, entry)| entry.seq >= stream.first_seq);
                let lying = lying.map(|(ordinal, entry)| (entry, chunk.is_dead(ordinal)));
                writer.messages(*id, lying, |id| stream.subjects.text(id));
            }
        }
        for (id, ranges) in &self.active.removed {
            let Some(stream) = self.streams.get(id) else { continue };
            let mut needed = Vec::new();
            for (first, last) in ranges {
                stream.dead_in(*first, *last, &[number], |first, last| needed.push((first, last)));
            }
            needed.sort_unstable();
            needed.dedup();
            writer.removed(*id, &needed);
        }
        let offset = segment.offset(segment.index_page);
        let room = segment.offset(segment.header.pages) - offset;
        if writer.len() as u64 > room {
            return;
        }
        let bytes = writer.finish(segment.seed, offset);
        self.usage.written_bytes += bytes.len() as u64;
        self.usage.syncs += 1;
        let written = write_full(&mut self.disk, &segment.file, &bytes, offset)
            .and_then(|()| self.disk.sync(&segment.file));
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.index_bytes = if written.is_ok() { bytes.len() as u32 } else { 0 };
        }
    }

    /// Everything but messages, as ops, without this segment.
    fn checkpoint(&self, ops: &mut Vec<u8>, without: Option<u64>) {
        op::push(ops, &Op::NextStream { id: self.next_stream });
        for segment in self.segments.values().filter(|segment| Some(segment.header.segment) != without) {
            op::push(ops, &Op::Segment(segment.op()));
        }
        for (id, stream) in &self.streams {
            let id = *id;
            op::push(
                ops,
                &Op::Stream {
                    id,
                    first_seq: stream.first_seq,
                    last_seq: stream.last_seq,
                    last_time: stream.last_time,
                    messages: stream.messages,
                    bytes: stream.bytes,
                    config: &stream.config,
                },
            );
            for lost in &stream.lost {
                let stream::Lost { first_seq, last_seq, segment, offset } = *lost;
                op::push(ops, &Op::Lost { stream: id, first_seq, last_seq, segment, offset });
            }
            for (key, state) in &stream.states {
                op::push(ops, &Op::Put { stream: id, key, value: &state.whole });
                for delta in &state.deltas {
                    op::push(ops, &Op::Append { stream: id, key, delta });
                }
            }
        }
    }
}
