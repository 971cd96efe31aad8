//! Room on a disk that is full: what has to go for it, and making it at once.

use std::collections::BTreeMap;

use crate::disk::Disk;
use crate::error::Error;
use crate::room::RESERVE;
use crate::store::{Health, Store, StreamId, weight};
use crate::stream::Place;

/// How often it is asked whether what goes is enough: each time after this part of a segment.
const STEPS: u64 = 32;

impl<D: Disk> Store<D> {
    /// Makes room for messages at once, of what is dead or the disk has got since, after one was refused with
    /// [`Full`](Error::Full): what [`maintain`](Self::maintain) would do in time. Commits what is staged, and may read and write
    /// up to a segment. `false` if there is no room.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn reclaim(&mut self) -> Result<bool, Error> {
        if self.health == Health::ReadOnly {
            return Err(Error::ReadOnly);
        }
        self.commit()?;
        while self.available() <= RESERVE && self.allocate().is_ok() {}
        let mut rolled = false;
        loop {
            self.retire();
            // What is retired is free once that is on the disk.
            self.commit()?;
            self.fill_all();
            if self.available() > RESERVE || self.has_room() {
                self.health = Health::Good;
                return Ok(true);
            }
            self.health = Health::Full;
            if self.clean(u64::MAX) || self.make_way() {
                continue;
            }
            // What lies in the active segment can't go while it is active. The log goes on in the reserve, as it does for what
            // removes, and is given to messages once another segment has taken that place. Once: the new one may be as full.
            if rolled || !self.roll_for_room() {
                return Ok(false);
            }
            rolled = true;
        }
    }

    /// Ends an active segment that has no room, if the reserve is whole. `false` if that isn't so.
    fn roll_for_room(&mut self) -> bool {
        let may_roll = self.available() >= RESERVE
            && !self.has_room()
            && self.open.is_empty()
            && self.unsynced.is_empty();
        // As when a commit can't.
        may_roll && (self.roll(true).is_ok() || self.go_elsewhere().is_ok())
    }

    /// The sequence before which all messages of the stream have to go so that [`reclaim`](Self::reclaim) frees a segment.
    /// `None` if it wouldn't even if all went: others have too much in the same segments.
    pub fn reclaimable(&self, stream: StreamId) -> Option<u64> {
        let stream = self.streams.get(&stream)?;
        let one = u64::from(self.options.segment_bytes);
        let mut live: BTreeMap<u64, u64> = self
            .segments
            .iter()
            .filter(|(number, segment)| **number != self.active.number && segment.live_bytes > 0)
            .map(|(number, segment)| (*number, segment.live_bytes))
            .collect();
        // As cleaning would find it.
        let may_clean = self.may_clean();
        let merges = |live: &BTreeMap<u64, u64>| {
            let stuck = |number: &u64, bytes: u64| {
                self.segments.get(number).is_none_or(|segment| bytes >= segment.stuck_at)
            };
            let bytes =
                live.iter().filter(|(number, bytes)| !stuck(number, **bytes)).map(|(_, bytes)| *bytes);
            let mut bytes: Vec<u64> = bytes.collect();
            bytes.sort_unstable();
            may_clean && bytes.len() > 1 && bytes[0] + bytes[1] <= one - one / 8
        };
        let mut gone = 0;
        for (entry, place) in stream.live_from(stream.first_seq) {
            // What is behind is in the segment that is being written.
            let Place::Segment(number) = place else { break };
            let Some(bytes) = live.get_mut(&number) else { break };
            let size = weight(entry.size);
            *bytes = bytes.saturating_sub(size);
            gone += size;
            if *bytes == 0 {
                return Some(entry.seq + 1);
            }
            if gone >= one / STEPS {
                gone = 0;
                if merges(&live) {
                    return Some(entry.seq + 1);
                }
            }
        }
        None
    }

    /// Fills what is to be filled with zeros, to the end.
    fn fill_all(&mut self) {
        loop {
            if self.filling.is_none() {
                let Some(slot) = self.to_fill.pop() else { return };
                self.start_filling(slot);
            }
            // A file that can't be filled is gone.
            let _ = self.fill(u64::from(self.options.segment_bytes));
        }
    }
}
