//! Replaying: what frames say happens again, and what they can't say any more is named.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use crate::chunk::{Chunk, Entry};
use crate::disk::Disk;
use crate::frame::{self, Frame};
use crate::header::{self, Header};
use crate::op::{self, Op};
use crate::record::{self, Found};
use crate::recover::Candidate;
use crate::scan::At;
use crate::segment::Messages;
use crate::store::{Store, note_removed};
use crate::stream::Lost;

/// By stream: the last sequence that is known, and how many bytes of frames after it are gone.
pub(crate) type Doubts = BTreeMap<u32, (u64, u64)>;

impl<D: Disk> Store<D> {
    /// Frames of so many bytes are gone, with all that they said: any stream may have had messages in them.
    pub(crate) fn doubt(&mut self, doubts: &mut Doubts, bytes: u64) {
        for (id, stream) in &self.streams {
            let (_, gone) = doubts.entry(*id).or_insert((stream.last_seq, 0));
            *gone = gone.saturating_add(bytes);
        }
        self.next_stream = self.next_stream.saturating_add(u32::try_from(bytes / 8).unwrap_or(u32::MAX));
    }

    /// Of these streams no later frame told how far they were. As many messages as could have been there are named as lost, and
    /// no sequence is given again that may have been acknowledged.
    pub(crate) fn settle_doubts(&mut self, doubts: Doubts, header: &Header, slot: u32) {
        for (id, (known, bytes)) in doubts {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let (found, messages) = (stream.last_seq, bytes / (record::HEAD_SHORT + record::ALIGN) as u64);
            let after = |more: u64| known.saturating_add(more).min(u64::MAX - 1).max(found);
            stream.last_seq = after(bytes / 8);
            let last_seq = after(messages.max(1));
            let offset = u64::from(header::PAGES) * u64::from(header.page_bytes);
            let lost = Lost { first_seq: known.saturating_add(1), last_seq, segment: header.segment, offset };
            self.note_lost(id, slot, lost);
        }
    }

    /// Applies a frame of a segment that is replayed. If what was alive in the segment was `moved` since, the messages aren't here
    /// any more, and what is missing isn't missed.
    pub(crate) fn replay(
        &mut self,
        slot: &Candidate<D::File>,
        header: &Header,
        at: &At,
        moved: bool,
        doubts: &mut Doubts,
    ) -> io::Result<()> {
        let bytes = self.frame_bytes(&slot.file, header, at)?;
        let offset = u64::from(at.page) * u64::from(header.page_bytes);
        let Some(frame) = Frame::new(at.head, &bytes, header.seed(), offset) else { return Ok(()) };
        let checkpoint = at.head.flags & frame::CHECKPOINT != 0;
        if at.after_gap {
            self.note_frame(slot.number, offset);
        }
        let ops = self.choose_ops(&frame, at, slot.number, offset);
        let ops: Vec<Op<'_>> = op::read(&ops).flatten().collect();
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
        if frame.any_ops().is_none() {
            // It may have made streams, and they had messages.
            self.next_stream = self.next_stream.saturating_add(frame.head.ops_bytes);
        }
        if moved {
            self.pass_over(&frame, &expected);
        } else {
            if frame.lacks_messages() {
                self.doubt(doubts, u64::from(frame.head.records_bytes));
            }
            if !checkpoint {
                self.note_jumps(header.segment, slot.number, offset, &ops, &expected, doubts);
            }
            // This frame tells how far they are.
            doubts.retain(|stream, _| expected.iter().all(|messages| messages.stream != *stream));
            self.absorb(&frame, &bytes, header, slot.number, offset, &expected, true);
        }
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
        Ok(())
    }

    /// The ops of a frame, from the copy that is right. Names what isn't.
    pub(crate) fn choose_ops<'f>(
        &mut self,
        frame: &Frame<'f>,
        at: &At,
        slot: u32,
        offset: u64,
    ) -> Cow<'f, [u8]> {
        let (one, two) = frame.ops();
        let Some(ops) = frame.any_ops() else {
            self.note_frame(slot, offset);
            return Cow::default();
        };
        if one.is_none() || two.is_none() || !at.both {
            self.note_copy(slot, offset);
        }
        ops
    }

    /// Where a frame says that a stream's messages go on further than we know, frames between are gone. What was skipped since,
    /// we don't know more of.
    pub(crate) fn note_jumps(
        &mut self,
        segment: u64,
        slot: u32,
        offset: u64,
        ops: &[Op<'_>],
        expected: &[Messages],
        doubts: &Doubts,
    ) {
        for messages in expected {
            let Some(stream) = self.streams.get_mut(&messages.stream) else { continue };
            let purged = ops.iter().find_map(|op| match op {
                Op::Purge { stream, first_seq } if *stream == messages.stream => Some(*first_seq - 1),
                _ => None,
            });
            let known = match doubts.get(&messages.stream) {
                Some((known, _)) => (*known).max(stream.first_seq.saturating_sub(1)),
                None => stream.last_seq,
            };
            let known = known.max(purged.unwrap_or(0));
            if messages.after > known {
                let lost = Lost { first_seq: known + 1, last_seq: messages.after, segment, offset };
                self.note_lost(messages.stream, slot, lost);
            }
        }
    }

    /// Notes how far streams had come with a frame whose messages are elsewhere.
    fn pass_over(&mut self, frame: &Frame<'_>, expected: &[Messages]) {
        for at in frame.walk() {
            if let Found::Whole { head, .. } | Found::Damaged(head) = at.found
                && let Some(stream) = self.streams.get_mut(&head.stream)
            {
                stream.last_seq = stream.last_seq.max(head.seq);
                stream.last_time = head.time;
            }
        }
        for messages in expected {
            if let Some(stream) = self.streams.get_mut(&messages.stream) {
                stream.last_seq = stream.last_seq.max(messages.last_seq);
            }
        }
    }

    /// Takes the messages of a frame into the index, and names those that can't be.
    #[expect(clippy::too_many_arguments, reason = "a frame and where it is")]
    pub(crate) fn absorb(
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
            let at = (place - offset) as usize + head.head_len();
            let subject = bytes.get(at..at + usize::from(head.subject_len)).unwrap_or_default();
            self.take_in(header.segment, &head, subject, place, last);
        }
        for messages in expected {
            if last && let Some(stream) = self.streams.get_mut(&messages.stream) {
                stream.last_seq = stream.last_seq.max(messages.last_seq);
                // What was moved since may be in front of it already.
                let newest = stream.chunks.iter().rev().take(2).map(Chunk::seqs).collect::<Vec<_>>();
                if let [last, before] = newest[..]
                    && before.1 >= last.0
                {
                    stream.sort_chunks();
                }
            }
            let found = found.get(&messages.stream).map_or(&[][..], Vec::as_slice);
            if found.len() as u64 >= u64::from(messages.count) {
                continue;
            }
            let Some(stream) = self.streams.get(&messages.stream) else { continue };
            let floor = stream.first_seq;
            let mut next = messages.first_seq;
            let mut gaps = Vec::new();
            for seq in found.iter().copied().chain([messages.last_seq.saturating_add(1)]) {
                if seq > next {
                    gaps.push((next, seq - 1));
                }
                next = seq.saturating_add(1);
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

    pub(crate) fn take_in(
        &mut self,
        segment: u64,
        head: &record::Head,
        subject: &[u8],
        offset: u64,
        last: bool,
    ) {
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
    pub(crate) fn kill(&mut self, stream: u32, first: u64, last: u64) {
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
    pub(crate) fn burn(&mut self, slot: &Candidate<D::File>, header: &Header, at: &At) -> io::Result<()> {
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
}
