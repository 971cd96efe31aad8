//! What is on the disk, and when.

use std::time::Duration;

use super::Engine;
use crate::config::Storage;
use crate::log::LogError;
use crate::sync::Sync;
use crate::time::Now;

/// How long a consumer's place may differ from what is on the disk, unless somebody was told where it is. A power cut
/// within this time makes messages go again.
const SAVE_DELAY: Duration = Duration::from_millis(250);

impl Engine {
    /// Whether somebody waits for a commit.
    pub fn is_owed(&self) -> bool {
        self.file.is_owed() || self.out.promises()
    }

    /// Makes durable what somebody is to hear of: messages, answers to requests, acknowledgements that are confirmed.
    /// What follows from it may come out now, or that it failed. That messages went to consumers, and what they said to
    /// them unless they wait for a confirmation, is written within a quarter of a second, or with the next of these:
    /// nobody was promised it, and a disk is spared.
    pub fn commit(&mut self, now: Now) {
        let now = self.read_clock(now);
        self.settle(now);
        // Only those that have a ceiling are worth counting.
        if self.settings.memory_bytes_max.is_some() || self.settings.file_bytes_max.is_some() {
            self.used = [Storage::File, Storage::Memory].map(|storage| self.bytes(storage));
        }
        if !self.failed {
            let done = self.write(now);
            self.bear(done);
        }
        self.out.commit();
    }

    fn write(&mut self, now: Now) -> Result<(), LogError> {
        if self.out.promises() || self.save_at.is_some_and(|at| at <= now.mono) {
            self.save_all(now)?;
        } else if self.file.is_owed() {
            self.keep_clock(false)?;
            self.write_all(self.file.is_owed_to_disk())?;
        }
        if self.sync_at.is_some_and(|at| at <= now.mono) {
            self.write_all(true)?;
        } else if self.sync_at.is_none() && self.file.holds(Sync::Interval) {
            self.sync_at = Some(now.mono + self.settings.sync_every);
        }
        let waits = !self.unsaved.is_empty() || self.file.is_staged() || self.calendar.is_unsaved();
        if self.save_at.is_none() && waits {
            self.save_at = Some(now.mono + SAVE_DELAY);
        }
        Ok(())
    }

    /// Makes everything durable. To be called before a driver ends.
    ///
    /// # Errors
    /// The disk failed: what was not committed is lost.
    pub fn save(&mut self, now: Now) -> Result<(), LogError> {
        let now = self.read_clock(now);
        self.keep_clock(true)?;
        self.save_all(now)?;
        self.write_all(true)
    }

    pub(super) fn save_all(&mut self, now: Now) -> Result<(), LogError> {
        self.save_at = None;
        for id in std::mem::take(&mut self.unsaved) {
            if let Some((stream, mut cx)) = self.stream_cx(id, now) {
                stream.save_consumers(&mut cx)?;
            }
        }
        // A clock that was set would mislead the next start.
        let set = self.calendar.is_unsaved();
        self.keep_clock(false)?;
        self.write_all(set || self.file.holds(Sync::Always))
    }

    pub(super) fn write_all(&mut self, to_disk: bool) -> Result<(), LogError> {
        if !to_disk {
            return self.file.flush();
        }
        self.sync_at = None;
        self.file.commit()
    }

    /// With a commit goes what time it is, so that the next start knows the least that it can be. `alone`: if there is nothing
    /// else to commit, too.
    pub(super) fn keep_clock(&mut self, alone: bool) -> Result<(), LogError> {
        if let Some(kept) = self.calendar.to_keep(alone)
            && (alone || self.calendar.is_unsaved() || self.file.is_staged())
        {
            self.file.keep_clock(&kept)?;
            self.calendar.saved();
        }
        Ok(())
    }
}
