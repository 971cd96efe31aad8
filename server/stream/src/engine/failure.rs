//! What the disk refused.

use super::Engine;
use crate::config::Storage;
use crate::log::LogError;
use crate::time::Now;

impl Engine {
    /// An error is about one thing alone, which was told to whoever waits for it, or about all that is not committed.
    pub(crate) fn bear(&mut self, done: Result<(), LogError>) {
        match done {
            Ok(()) => {}
            Err(error) if error.is_of_all() => self.fail(),
            Err(error) => self.out.complain(error.to_string()),
        }
    }

    /// What is not committed is lost. Whoever was promised something is told so.
    pub(super) fn fail(&mut self) {
        self.failed = true;
        self.out.revoke(crate::api::not_done);
    }

    /// True once the disk has failed: streams on it are only read, until [`Engine::recover`].
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The disk takes changes again, and has forgotten what it was refused: so do the streams on it.
    ///
    /// # Errors
    /// What is on it can't be read.
    pub fn recover(&mut self, now: Now) -> Result<(), LogError> {
        if !self.failed {
            return Ok(());
        }
        let now = self.read_clock(now);
        self.calendar.lost();
        self.drop_restores(now);
        let on_disk = self.streams.values().filter(|stream| stream.config.storage == Storage::File);
        let on_disk: Vec<u32> = on_disk.map(|stream| stream.id).collect();
        for id in on_disk {
            self.drop_stream(id, now);
        }
        self.unsaved.clear();
        self.failed = false;
        let found = self.file.load()?;
        self.load_streams(found, now)
    }

    /// Lines for the log, since the last call.
    pub fn take_complaints(&mut self) -> Vec<String> {
        self.out.take_complaints()
    }

    /// True if what happens to the stream can't be kept now.
    pub(crate) fn is_out_of_reach(&self, stream: u32) -> bool {
        self.failed && self.streams.get(&stream).is_some_and(|stream| stream.config.storage == Storage::File)
    }
}
