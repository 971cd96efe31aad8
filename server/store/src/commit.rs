//! Commits: what is staged goes to the disk as one frame, with one write and one sync.

use std::io;

use crate::chunk::Entry;
use crate::disk::{Disk, write_full};
use crate::error::Error;
use crate::frame;
use crate::header::Kind;
use crate::op::{self, Op};
use crate::record;
use crate::segment::{Messages, Slot, Waiting, file_name};
use crate::store::{Health, Store, note_removed, weight};

impl<D: Disk> Store<D> {
    /// Puts everything staged on the disk: one write, one sync. Returns without either if there is nothing.
    ///
    /// # Errors
    /// [`ReadOnly`](Error::ReadOnly): nothing staged is on the disk, as far as anybody can rely on it, and nothing is staged
    /// any more. A disk that fails once isn't an error: what is staged goes to a new segment then.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.write(true)
    }

    /// Gives everything staged to the system without waiting for the disk: it outlives this process, not a power cut. After
    /// that, an earlier frame is never missing where a later one is there.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn flush(&mut self) -> Result<(), Error> {
        let waiting: usize = self.unsynced.iter().map(Waiting::bytes).sum();
        self.write(waiting + self.open.bytes() > self.options.frame_bytes_max as usize)
    }

    /// Writes an empty frame behind the last one, so that rot in that one isn't taken for a write that the power cut tore.
    /// It isn't waited for: whatever is synced next takes it along, and nothing is lost with it. `false` if there was nothing
    /// to do, or no room in the segment; the next commit does the same then. Anything staged is committed first.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn seal(&mut self) -> Result<bool, Error> {
        self.commit()?;
        if self.sealed || !self.fits(&self.open) || self.health == Health::ReadOnly {
            return Ok(false);
        }
        if self.write_open(0).is_err() {
            self.go_elsewhere()?;
            return Ok(true);
        }
        self.unsynced.pop_back();
        self.sealed = true;
        Ok(true)
    }

    /// Number of the last frame: grows with each commit that writes something.
    pub fn last_frame(&self) -> u64 {
        self.next_frame - 1
    }

    /// Commits, and leaves the log as opening likes it best. Dropping a store without is like losing power.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn close(mut self) -> Result<D, Error> {
        if self.options.read_only {
            return Ok(self.disk);
        }
        self.commit()?;
        if !self.fits(&self.open) {
            self.roll(true)?;
        }
        self.write_open(frame::CLOSED)?;
        self.sync_active()?;
        Ok(self.disk)
    }

    pub(crate) fn write(&mut self, sync: bool) -> Result<(), Error> {
        if self.open.is_empty() && (self.unsynced.is_empty() || !sync) {
            return Ok(());
        }
        if self.health == Health::ReadOnly {
            self.drop_staged();
            return Err(Error::ReadOnly);
        }
        self.usage.commits += 1;
        let written = match self.open.is_empty() {
            true => Ok(()),
            false if self.fits(&self.open) => self.write_open(0),
            // What waits in the old segment has to be there before anything in the new one is.
            false => match self.unsynced.is_empty() {
                true => self.roll(true),
                false => self.sync_active().and_then(|()| self.roll(true)),
            },
        };
        // A roll has synced what it wrote.
        let sync = sync && !self.unsynced.is_empty();
        let done = written.and_then(|()| if sync { self.sync_active() } else { Ok(()) });
        if done.is_err() {
            self.go_elsewhere()?;
        }
        Ok(())
    }

    /// The active file can't be believed any more. What waits goes to another.
    pub(crate) fn go_elsewhere(&mut self) -> Result<(), Error> {
        self.merge_waiting();
        if self.roll(false).is_err() {
            self.health = Health::ReadOnly;
            self.drop_staged();
            return Err(Error::ReadOnly);
        }
        Ok(())
    }

    /// Writes the open frame behind the last one, and opens another.
    pub(crate) fn write_open(&mut self, flags: u32) -> io::Result<()> {
        let mut ops = std::mem::take(&mut self.open.ops);
        for messages in &self.open.messages {
            push_messages(&mut ops, messages);
        }
        for (stream, first_seq, last_seq) in &self.open.removed {
            let (stream, first_seq, last_seq) = (*stream, *first_seq, *last_seq);
            op::push(&mut ops, &Op::Remove { stream, first_seq, last_seq });
        }
        for (stream, first_seq) in &self.open.purged {
            op::push(&mut ops, &Op::Purge { stream: *stream, first_seq: *first_seq });
        }
        let Some(segment) = self.segments.get_mut(&self.active.number) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let offset = segment.offset(segment.end_page);
        let place = frame::Place {
            seed: segment.seed,
            offset,
            page_bytes: segment.header.page_bytes,
            number: self.next_frame,
            durable: self.durable_frame,
            previous: self.active.last_sum,
            flags,
        };
        let mut waiting = self.next_waiting();
        let Some(segment) = self.segments.get_mut(&self.active.number) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        self.active.last_sum = frame::finish(&mut waiting.buffer, &ops, false, &place);
        waiting.offset = offset;
        segment.end_page += (waiting.buffer.len() / segment.header.page_bytes as usize) as u32;
        segment.index_page = segment.end_page;
        self.next_frame += 1;
        self.sealed = false;
        for (stream, first, last) in &waiting.removed {
            note_removed(&mut self.active.removed, *stream, *first, *last);
        }
        self.usage.written_bytes += waiting.buffer.len() as u64;
        let written = write_full(&mut self.disk, &segment.file, &waiting.buffer, offset);
        waiting.ops = ops;
        self.unsynced.push_back(waiting);
        written
    }

    /// Takes the open frame, and opens another.
    pub(crate) fn next_waiting(&mut self) -> Waiting {
        let next = Waiting::new(self.open.ticket + 1);
        std::mem::replace(&mut self.open, next)
    }

    pub(crate) fn sync_active(&mut self) -> io::Result<()> {
        let Some(segment) = self.segments.get(&self.active.number) else { return Ok(()) };
        self.usage.syncs += 1;
        self.disk.sync(&segment.file)?;
        self.settle();
        Ok(())
    }

    /// Everything that was written is on the disk: moves it from what waits to the index.
    pub(crate) fn settle(&mut self) {
        self.durable_frame = self.next_frame - 1;
        let Some(segment) = self.segments.get_mut(&self.active.number) else { return };
        self.active.durable_page = segment.end_page;
        let mut freed = Vec::new();
        for waiting in self.unsynced.drain(..) {
            for messages in &waiting.messages {
                let Some(stream) = self.streams.get_mut(&messages.stream) else { continue };
                while let Some(tail) =
                    stream.tail.front().copied().filter(|tail| tail.frame == waiting.ticket)
                {
                    stream.tail.pop_front();
                    let place = (waiting.offset + u64::from(tail.entry.place)) / record::ALIGN as u64;
                    let entry = Entry { place: place as u32, ..tail.entry };
                    if entry.seq >= stream.first_seq {
                        stream.chunk_for(self.active.number).push(entry, tail.dead);
                    }
                    if !tail.dead {
                        segment.live_bytes += weight(entry.size);
                    }
                }
            }
            freed.extend(waiting.retires);
        }
        for number in freed {
            self.free_segment(number);
        }
    }

    /// Nothing on the disk needs this segment any more.
    pub(crate) fn free_segment(&mut self, number: u64) {
        let Some(segment) = self.leaving.remove(&number) else { return };
        self.usage.recycled += 1;
        let same_sizes =
            segment.header.pages == self.pages() && segment.header.page_bytes == self.options.page_bytes;
        if !same_sizes || segment.file_bytes != segment.header.bytes() {
            // Of another size than this opening uses, or than a slot has.
            drop(segment.file);
            let _ = self.disk.remove(&file_name(segment.slot));
            return;
        }
        let slot = Slot { number: segment.slot, file: segment.file };
        if segment.erase {
            self.start_filling(slot);
            return;
        }
        // Of the segments before the active one, the newest that commits wrote. Once it is held, all others are older.
        let before =
            self.segments.range(..self.active.number).rev().find(|(_, s)| s.header.kind == Kind::Hot);
        let is_last_hot =
            segment.header.kind == Kind::Hot && before.is_none_or(|(before, _)| *before < number);
        if is_last_hot && self.held.is_none() {
            self.held = Some(slot);
        } else {
            self.free.push(slot);
        }
    }

    /// Puts everything that waits into the open frame again, for another segment.
    pub(crate) fn merge_waiting(&mut self) {
        let mut frames = std::mem::take(&mut self.unsynced);
        let open = self.next_waiting();
        if !open.is_empty() {
            frames.push_back(open);
        }
        for mut waiting in frames {
            let shift = self.open.records_end - frame::HEAD;
            let records = waiting.buffer.get(frame::HEAD..waiting.records_end).unwrap_or_default();
            self.open.buffer.extend_from_slice(records);
            self.open.records_end = self.open.buffer.len();
            for messages in &waiting.messages {
                if let Some(stream) = self.streams.get_mut(&messages.stream) {
                    for tail in stream.tail.iter_mut().filter(|tail| tail.frame == waiting.ticket) {
                        tail.entry.place += shift as u32;
                        tail.frame = self.open.ticket;
                    }
                }
            }
            self.open.ops.append(&mut waiting.ops);
            self.open.messages.append(&mut waiting.messages);
            self.open.removed.append(&mut waiting.removed);
            self.open.purged.append(&mut waiting.purged);
            self.open.retires.append(&mut waiting.retires);
        }
        self.next_frame = self.durable_frame + 1;
    }

    /// Gives up what is staged. Its sequences stay used.
    pub(crate) fn drop_staged(&mut self) {
        self.merge_waiting();
        let dropped = self.next_waiting();
        for messages in &dropped.messages {
            if let Some(stream) = self.streams.get_mut(&messages.stream) {
                while let Some(tail) = stream.tail.pop_front() {
                    if !tail.dead {
                        stream.tail.push_front(tail);
                        let _ = stream.remove(tail.entry.seq);
                        stream.tail.pop_front();
                    }
                }
                stream.settle_first();
            }
        }
        // They stay as they are until a checkpoint can be written.
        self.open.retires = dropped.retires;
    }
}

pub(crate) fn push_messages(ops: &mut Vec<u8>, messages: &Messages) {
    let Messages { stream, after, first_seq, last_seq, count } = *messages;
    op::push(ops, &Op::Messages { stream, after, first_seq, last_seq, count });
}
