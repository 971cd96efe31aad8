//! Streams that were on the disk before.

use super::{Engine, cx};
use crate::log::{Loaded, Log, LogError};
use crate::stream::Stream;
use crate::time::Now;

impl Engine {
    /// Brings back the streams that are on disk and whose accounts are open.
    ///
    /// # Errors
    /// They can't be read.
    pub fn load(&mut self, now: Now) -> Result<(), LogError> {
        let found = self.file.load()?;
        let lasts: Vec<_> = found.iter().map(|(_, log)| log.state().last_time).collect();
        self.calendar.begin(self.file.kept_clock()?.as_deref(), &lasts, now);
        // Whether stamps may go back is to be seen by the messages, which are not here yet.
        let now = self.calendar.read(now);
        self.load_streams(found, now)
    }

    /// Brings back streams after the start.
    pub(super) fn load_later(&mut self, now: Now) -> Result<(), LogError> {
        let found = self.file.load()?;
        self.load_streams(found, now)
    }

    pub(super) fn load_streams(&mut self, found: Vec<Loaded>, now: Now) -> Result<(), LogError> {
        found.into_iter().try_for_each(|(record, log)| self.load_stream(&record, log, now))?;
        // What was over before is not to be seen again.
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        for id in ids {
            let Some((stream, mut cx)) = self.stream_cx(id, now) else { continue };
            let done = stream.expire(&mut cx);
            self.bear(done);
        }
        Ok(())
    }

    /// Ends the streams on disk of an account that has none now.
    pub(crate) fn destroy_closed(&mut self, account: &str) -> Result<(), LogError> {
        if !self.closed.remove(account) {
            return Ok(());
        }
        for (record, log) in self.file.load()? {
            let record = crate::json::read_seldom::<crate::stream::Record>(&record);
            if record.is_ok_and(|record| *record.account == *account) {
                log.destroy()?;
            }
        }
        Ok(())
    }

    fn load_stream(&mut self, record: &[u8], log: Box<dyn Log>, now: Now) -> Result<(), LogError> {
        let Ok(record) = crate::json::read_seldom::<crate::stream::Record>(record) else { return Ok(()) };
        if record.restoring {
            // One that is under way is not what a start finds.
            let under_way = self.backups.restores(&record.account, &record.config.name, &self.spaces);
            return if under_way { Ok(()) } else { log.destroy() };
        }
        // Those of accounts that have no streams now stay on disk.
        let mut open = self.spaces.iter_mut().filter(|(_, space)| space.is_enabled());
        let Some((account, space)) = open.find(|(_, space)| space.name == record.account) else {
            self.closed.insert(record.account);
            return Ok(());
        };
        if space.streams.contains_key(record.config.name.as_str()) {
            return Ok(());
        }
        let (account, id) = (*account, self.next_stream);
        self.next_stream += 1;
        space.streams.insert(record.config.name.as_str().into(), id);
        let domain = self.settings.domain.as_deref();
        let mut stream = Stream::new(id, account, record.config, record.created, log, domain);
        stream.set_sync(self.settings.sync);
        let mut cx = cx!(self, account, now);
        stream.undo_batch(&mut cx)?;
        stream.rebuild_dedup(&cx)?;
        stream.rebuild_ttl(&cx);
        stream.resume_copies();
        stream.rebuild_schedules(&cx);
        stream.subscribe(&mut cx);
        self.next_consumer = stream.load_consumers(self.next_consumer, &mut cx);
        self.streams.insert(id, stream);
        self.learn_copies(id);
        self.dirty.insert(id);
        Ok(())
    }
}
