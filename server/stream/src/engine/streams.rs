//! Streams as they are made, ended and forgotten.

use super::{Engine, cx};
use crate::config::{Storage, StreamConfig};
use crate::error::{self, ApiError};
use crate::log::{Log, LogError, MemoryShelf, Shelf};
use crate::seam::{Account, STREAM_MAX};
use crate::stream::Stream;
use crate::time::Now;

impl Engine {
    /// Makes a stream of a configuration that was checked.
    pub(crate) fn create_stream(
        &mut self,
        account: Account,
        config: StreamConfig,
        now: Now,
    ) -> Result<u32, ApiError> {
        let Some(space) = self.spaces.get(&account) else { return Err(error::NO_ACCOUNT.error()) };
        let record = crate::stream::record(&space.name, now.wall, &config);
        let first = config.first_seq;
        let log = self.create_log(config.storage, &record, first);
        let log = log.map_err(|error| error::STREAM_STORE_FAILED.with(&[&error]))?;
        let id = self.next_stream_id()?;
        if let Some(space) = self.spaces.get_mut(&account) {
            space.streams.insert(config.name.as_str().into(), id);
        }
        let mut stream = Stream::new(id, account, config, now.wall, log, self.settings.domain.as_deref());
        stream.set_sync(self.settings.sync);
        let mut cx = cx!(self, account, now);
        stream.subscribe(&mut cx);
        stream.event_action("create", &mut cx);
        self.streams.insert(id, stream);
        self.learn_copies(id);
        self.dirty.insert(id);
        Ok(id)
    }

    pub(crate) fn create_log(
        &mut self,
        storage: Storage,
        record: &[u8],
        first: u64,
    ) -> Result<Box<dyn Log>, LogError> {
        match storage {
            Storage::Memory => MemoryShelf.create(record, first),
            Storage::File => self.file.create(record, first),
        }
    }

    /// A number for a stream.
    pub(crate) fn next_stream_id(&mut self) -> Result<u32, ApiError> {
        let id = self.next_stream;
        if id > STREAM_MAX {
            return Err(error::MAXIMUM_STREAMS_LIMIT.error());
        }
        self.next_stream += 1;
        Ok(id)
    }

    /// Ends a stream.
    pub(crate) fn delete_stream(&mut self, id: u32, now: Now) -> Result<(), LogError> {
        let Some(mut stream) = self.streams.remove(&id) else { return Ok(()) };
        let account = stream.account;
        if let Some(space) = self.spaces.get_mut(&account) {
            space.streams.remove(stream.name());
        }
        let mut cx = cx!(self, account, now);
        for consumer in stream.consumers.values() {
            consumer.event_action("delete", &mut cx);
        }
        stream.event_action("delete", &mut cx);
        stream.leave_origins(&mut cx);
        stream.close(&mut cx);
        let name = stream.config.name.clone();
        let destroyed = stream.log.destroy();
        self.forget_copies(id, account, &name);
        destroyed
    }

    /// Forgets a stream, which stays on disk.
    pub(super) fn drop_stream(&mut self, id: u32, now: Now) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        if let Some(space) = self.spaces.get_mut(&stream.account) {
            space.streams.remove(stream.name());
        }
        let mut cx = cx!(self, stream.account, now);
        stream.consumers.values_mut().for_each(|consumer| consumer.forget_requests(&mut cx));
        stream.close(&mut cx);
        self.forget_copies(id, stream.account, stream.name());
    }
}
