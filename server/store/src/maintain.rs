//! What is done between commits: room made ready, segments retired, a disk that failed tried again.

use std::io;
use std::time::Duration;

use crate::disk::{Disk, write_full};
use crate::index;
use crate::op::{self, Op};
use crate::room::RESERVE;
use crate::segment::{Slot, file_name};
use crate::store::{Health, Store, note_removed};

/// A file that becomes a free slot once it is full of zeros.
#[derive(Debug)]
pub(crate) struct Filling<F> {
    slot: Slot<F>,
    at: u64,
    new: bool,
}

/// What [`Store::maintain`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maintained {
    /// Bytes read and written.
    pub bytes: u64,
    /// When to call again, on the clock of the call: `None` if only a commit can bring more work.
    pub next: Option<Duration>,
}

/// What is written at once while a file is filled: a disk that is busy for longer would make commits wait.
const FILL_BYTES: u64 = 256 << 10;
/// What is scrubbed at once.
const SCRUB_BYTES: u64 = 256 << 10;
/// How long nothing is committed until the log is sealed. Who commits more often than this pays nothing for it, and who does
/// less often pays a page.
const SEAL_AFTER: Duration = Duration::from_secs(2);
/// How often a full or failed disk is tried again.
const RETRY: Duration = Duration::from_millis(500);

impl<D: Disk> Store<D> {
    /// Does some of what is to be done between commits, about `budget` bytes of reading and writing at most, though one
    /// step at least. `now` is any clock that doesn't go back. It may stage ops, so a [`commit`](Self::commit) should
    /// follow some time.
    ///
    /// Failures show in [`health`](Self::health).
    pub fn maintain(&mut self, now: Duration, budget: u64) -> Maintained {
        let before = self.usage.written_bytes;
        let (mut read, mut busy) = (0, false);
        match self.health {
            Health::ReadOnly => {
                if !self.options.read_only && now >= self.retry_at {
                    self.retry_at = now + RETRY;
                    // It stays as it is if that fails, too.
                    let _ = self.reload();
                }
            }
            Health::Full => {
                self.retire();
                if self.available() <= RESERVE && now >= self.retry_at {
                    self.retry_at = now + RETRY;
                    // The reserve may have been used, too: all of it is made now, not a slot each time. If there is no
                    // room, cleaning is what is left.
                    while self.available() <= RESERVE && self.allocate().is_ok() {}
                }
                if self.available() > RESERVE || self.has_room() {
                    self.health = Health::Good;
                } else {
                    busy = self.clean(budget) || self.make_way();
                }
            }
            Health::Good => {
                self.retire();
                self.get_ready(budget);
                if self.usage.written_bytes == before {
                    busy = self.clean(budget);
                }
                if self.usage.written_bytes == before {
                    read = self.scrub(now, budget.min(SCRUB_BYTES));
                }
            }
        }
        let seal_at = self.seal_when_idle(now);
        let bytes = self.usage.written_bytes - before + read;
        let next = match self.health {
            _ if self.options.read_only => None,
            Health::ReadOnly => Some(self.retry_at),
            _ if busy || self.filling.is_some() => Some(now),
            Health::Full => Some(self.retry_at),
            Health::Good => (self.options.scrub_bytes_per_second > 0).then_some(self.scrub.due),
        };
        Maintained { bytes, next: next.into_iter().chain(seal_at).min() }
    }

    /// Seals the log once nothing has been committed for a while. Gives when to ask again.
    fn seal_when_idle(&mut self, now: Duration) -> Option<Duration> {
        if self.sealed || self.health == Health::ReadOnly {
            return None;
        }
        if self.seal_due.0 != self.next_frame {
            self.seal_due = (self.next_frame, now + SEAL_AFTER);
        }
        if now < self.seal_due.1 {
            return Some(self.seal_due.1);
        }
        // It shows in the health if the disk failed. If there is no room for it, the next commit does the same.
        let _ = self.seal();
        None
    }

    /// Cleaning has a slot, but the active segment has no room for what ends it, and is no use: the log goes on in another. `false`
    /// if that isn't so.
    pub(crate) fn make_way(&mut self) -> bool {
        let in_the_way = self.segments.get(&self.active.number).is_some_and(|it| it.live_bytes == 0)
            && self.available() > 0
            && !self.may_clean()
            && self.open.is_empty()
            && self.unsynced.is_empty();
        in_the_way
            && match self.roll(true) {
                Ok(()) => true,
                // As when a commit can't.
                Err(_) => self.go_elsewhere().is_ok(),
            }
    }

    /// Keeps one slot ready beyond the reserve.
    fn get_ready(&mut self, budget: u64) {
        if self.filling.is_none()
            && let Some(slot) = self.to_fill.pop()
        {
            self.start_filling(slot);
        }
        if self.filling.is_none() && self.available() <= RESERVE {
            // Whether there is room will matter when a message comes that needs it.
            let _ = self.start_new_slot();
        }
        if self.filling.is_some() {
            let _ = self.fill(budget.max(FILL_BYTES));
        }
    }

    /// Segments in which nothing is alive go; what their ops removed from other segments is said again.
    pub(crate) fn retire(&mut self) {
        let dead: Vec<u64> = self
            .segments
            .iter()
            .filter(|(number, segment)| **number != self.active.number && segment.live_bytes == 0)
            .filter(|(number, _)| !self.is_victim(**number))
            .map(|(number, _)| *number)
            .collect();
        for number in dead {
            if self.staged_bytes() > self.options.frame_bytes_max as usize / 2 {
                return;
            }
            let Ok(removed) = self.removed_by(number) else { continue };
            let again = self.still_needed(&removed, &[number]);
            if again.len() * 26 > self.options.frame_bytes_max as usize / 4 {
                continue;
            }
            for (stream, first, last) in again {
                self.open.removed.push((stream, first, last));
                self.active.index_estimate += 8;
            }
            op::push(&mut self.open.ops, &Op::Retire { segment: number });
            self.open.retires.push(number);
            self.drop_chunks(number);
            if let Some(segment) = self.segments.remove(&number) {
                self.leaving.insert(number, segment);
            }
        }
    }

    /// Of what ops removed, that which lies in other segments than these.
    pub(crate) fn still_needed(&self, removed: &[(u32, u64, u64)], except: &[u64]) -> Vec<(u32, u64, u64)> {
        let mut needed = Vec::new();
        for (stream, first, last) in removed {
            if let Some(of) = self.streams.get(stream) {
                of.dead_in(*first, *last, except, |first, last| needed.push((*stream, first, last)));
            }
        }
        needed.sort_unstable();
        needed.dedup();
        needed
    }

    /// What the ops of a sealed segment removed, from its index or from its frames.
    pub(crate) fn removed_by(&mut self, number: u64) -> io::Result<Vec<(u32, u64, u64)>> {
        let mut removed = Vec::new();
        let Some(segment) = self.segments.get(&number) else { return Ok(removed) };
        if segment.index_bytes > 0 {
            let offset = segment.offset(segment.index_page);
            let mut bytes = vec![0; segment.index_bytes as usize];
            crate::disk::read_full(&self.disk, &segment.file, &mut bytes, offset, false)?;
            if let Some(items) = index::read(&bytes, segment.seed, offset) {
                for item in items {
                    if let index::Item::Removed { stream, ranges } = item {
                        removed.extend(index::ranges(ranges).map(|(first, last)| (stream, first, last)));
                    }
                }
                return Ok(removed);
            }
        }
        let mut found = std::collections::BTreeMap::new();
        for at in self.frames_of(number)? {
            let Some(segment) = self.segments.get(&number) else { break };
            let ops = self.ops_of(&segment.file, &segment.header, &at)?.unwrap_or_default();
            for op in op::read(&ops).flatten() {
                if let Op::Remove { stream, first_seq, last_seq } = op {
                    note_removed(&mut found, stream, first_seq, last_seq);
                }
            }
        }
        for (stream, ranges) in found {
            removed.extend(ranges.into_iter().map(|(first, last)| (stream, first, last)));
        }
        Ok(removed)
    }

    // ---- filling files with zeros ----

    pub(crate) fn start_new_slot(&mut self) -> io::Result<()> {
        if self.filling.is_some() {
            return Ok(());
        }
        if !self.may_grow() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.next_slot;
        let file = self.disk.open(&file_name(number), true)?;
        self.next_slot += 1;
        self.filling = Some(Filling { slot: Slot { number, file }, at: 0, new: true });
        Ok(())
    }

    /// Fills a slot with zeros before it is free.
    pub(crate) fn start_filling(&mut self, slot: Slot<D::File>) {
        match self.filling {
            Some(_) => self.to_fill.push(slot),
            None => self.filling = Some(Filling { slot, at: 0, new: false }),
        }
    }

    /// Goes on filling, for about so many bytes.
    pub(crate) fn fill(&mut self, budget: u64) -> io::Result<()> {
        let Some(mut filling) = self.filling.take() else { return Ok(()) };
        let end = u64::from(self.options.segment_bytes);
        let until = (filling.at + budget).min(end);
        let zeros = vec![0; FILL_BYTES.min(end) as usize];
        let mut result = Ok(());
        while filling.at < until && result.is_ok() {
            let bytes = &zeros[..FILL_BYTES.min(end - filling.at) as usize];
            self.usage.written_bytes += bytes.len() as u64;
            result = write_full(&mut self.disk, &filling.slot.file, bytes, filling.at);
            // What is on its way already needn't be waited for at the end.
            self.disk.start_writing(&filling.slot.file, filling.at, bytes.len() as u64);
            filling.at += bytes.len() as u64;
        }
        if result.is_ok() && filling.at >= end {
            // One flush for all of it: nothing in it has to last before it is a slot.
            self.usage.syncs += 1;
            result = self.disk.sync(&filling.slot.file);
            if result.is_ok() && filling.new {
                result = self.disk.sync_dir();
            }
            if result.is_ok() {
                self.free.push(filling.slot);
                return Ok(());
            }
        }
        if result.is_err() {
            let name = file_name(filling.slot.number);
            drop(filling.slot.file);
            let _ = self.disk.remove(&name);
            return result;
        }
        self.filling = Some(filling);
        Ok(())
    }
}
