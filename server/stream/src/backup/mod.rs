//! Snapshots: a stream goes out, with its consumers, while it is used; and comes in again.
//!
//! ```text
//!   STREAM.SNAPSHOT ─> Outgoing: entries (archive) ─> frames (s2) ─> chunks to a subject, so many without an ack
//!   STREAM.RESTORE  ─> Incoming: chunks ─> frames ─> entries ─> a log that nobody sees until all of it is there
//! ```
//!
//! Source: nats-server's `jetstream_api.go` (`streamSnapshot`, `processStreamRestore`), `stream_backup.go`.

mod archive;
mod incoming;
mod outgoing;
mod s2;

use std::collections::BTreeMap;

pub(crate) use incoming::Incoming;
pub(crate) use outgoing::{Outgoing, Progress, SnapshotRequest};
use serde::Serialize;

use crate::config::Storage;
use crate::engine::{Engine, cx};
use crate::error;
use crate::log::LogError;
use crate::seam::{Account, Message, Tag, What};
use crate::space::Space;
use crate::stream::{Stream, StreamInfo, record};
use crate::time::{Instant, Now, rfc3339};

/// How long the other side may be silent.
pub(crate) const SILENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Those that go on at once, of each kind: each holds some MiB.
pub(crate) const AT_ONCE: usize = 8;

/// What goes out and what comes in.
#[derive(Default)]
pub(crate) struct Backups {
    last: u32,
    pub(crate) outgoing: BTreeMap<u32, Outgoing>,
    pub(crate) incoming: BTreeMap<u32, Incoming>,
}

impl Backups {
    /// A number for the next.
    pub(crate) fn number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    /// Whether a stream of that account and name comes in.
    pub(crate) fn restores(&self, account: &str, name: &str, spaces: &BTreeMap<Account, Space>) -> bool {
        self.incoming.values().any(|it| {
            it.config.name == name && spaces.get(&it.account).is_some_and(|space| *space.name == *account)
        })
    }

    /// When one has been silent for too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let outgoing = self.outgoing.values().map(|it| it.silent_at);
        outgoing.chain(self.incoming.values().map(|it| it.silent_at)).min()
    }
}

#[derive(Serialize)]
struct Restored<'a> {
    #[serde(flatten)]
    info: StreamInfo<'a>,
}

impl Engine {
    /// Sends what may be sent. True if more may be once outputs were taken.
    pub(crate) fn pump_backups(&mut self, now: Now) -> bool {
        let mut more = false;
        let numbers: Vec<u32> = self.backups.outgoing.keys().copied().collect();
        for number in numbers {
            let Some(mut outgoing) = self.backups.outgoing.remove(&number) else { continue };
            let mut cx = cx!(self, outgoing.account, now);
            let progress = match self.streams.get(&outgoing.stream) {
                Some(stream) => outgoing.pump(&*stream.log, &mut cx),
                None => outgoing.fail("500 stream deleted", "stream deleted", &mut cx),
            };
            match progress {
                Progress::Waits => {}
                Progress::More => more = true,
                Progress::Done(why) => {
                    outgoing.close(why, &mut cx);
                    continue;
                }
            }
            self.backups.outgoing.insert(number, outgoing);
        }
        more
    }

    /// Chunks of a snapshot arrived.
    pub(crate) fn on_snapshot_ack(&mut self, number: u32, now: Now) {
        if let Some(outgoing) = self.backups.outgoing.get_mut(&number) {
            outgoing.on_ack(now.mono);
        }
    }

    /// Somebody listens to a snapshot, or nobody does any more.
    pub(crate) fn on_snapshot_interest(&mut self, number: u32, exists: bool) {
        if let Some(outgoing) = self.backups.outgoing.get_mut(&number) {
            outgoing.on_interest(exists);
        }
    }

    /// A chunk of a stream that is restored. Nothing at all ends it.
    pub(crate) fn on_restore_chunk(&mut self, number: u32, message: &Message<'_>, now: Now) {
        let Some(mut incoming) = self.backups.incoming.remove(&number) else { return };
        let mut cx = cx!(self, incoming.account, now);
        let Some(reply) = message.reply else {
            incoming.close(&mut cx);
            return self.abandon(incoming);
        };
        if !message.payload.is_empty() {
            let room = self.room_for(&incoming);
            let Some(space) = self.spaces.get(&incoming.account) else { return };
            let name = space.name.clone();
            let create = |record: &[u8], storage, first| self.create_log(storage, record, first);
            match incoming.take(message.payload, room, &name, now, create) {
                Ok(()) => {
                    let mut cx = cx!(self, incoming.account, now);
                    cx.answer(reply, "");
                    self.backups.incoming.insert(number, incoming);
                }
                Err(why) => {
                    let mut cx = cx!(self, incoming.account, now);
                    let error = error::STREAM_RESTORE.with(&[&why]);
                    cx.answer(reply, crate::api::write_failure("stream_create", &error));
                    incoming.close(&mut cx);
                    self.abandon(incoming);
                }
            }
            return;
        }
        incoming.close(&mut cx);
        let account = incoming.account;
        let text = match self.finish_restore(incoming, now) {
            Ok(id) => match self.stream_cx(id, now) {
                Some((stream, cx)) => {
                    crate::api::write("stream_create", None, Restored { info: stream.info(false, None, &cx) })
                }
                None => return,
            },
            Err(why) => crate::api::write_failure("stream_create", &error::STREAM_RESTORE.with(&[&why])),
        };
        let mut cx = cx!(self, account, now);
        cx.answer(reply, text);
    }

    /// Bytes that the stream may take.
    fn room_for(&self, incoming: &Incoming) -> u64 {
        let storage = incoming.config.storage;
        let Ok(limits) = self.limits_of(incoming.account) else { return 0 };
        let (mine, all) = match storage {
            Storage::Memory => (limits.memory_bytes_max, self.settings.memory_bytes_max),
            Storage::File => (limits.file_bytes_max, self.settings.file_bytes_max),
        };
        let left = |max: Option<u64>, used: u64| max.map_or(u64::MAX, |max| max.saturating_sub(used));
        left(mine, self.account_bytes(incoming.account, storage)).min(left(all, self.bytes(storage)))
    }

    /// All is there: it becomes a stream. Gives its number.
    fn finish_restore(&mut self, mut incoming: Incoming, now: Now) -> Result<u32, String> {
        let (account, config) = (incoming.account, incoming.config.clone());
        let name = config.name.clone();
        let done = incoming.finish(now);
        let taken = self.spaces.get(&account).is_none_or(|space| space.streams.contains_key(name.as_str()));
        let log = match done {
            Ok(log) if !taken => log,
            Ok(log) => {
                // What can't be removed is removed at the next start.
                let _ = log.destroy();
                return Err(error::STREAM_NAME_EXIST_RESTORE_FAILED.text.to_owned());
            }
            Err(why) => {
                self.abandon(incoming);
                return Err(why);
            }
        };
        let id = self.next_stream_id().map_err(|error| error.to_string())?;
        let mut stream = Stream::new(id, account, config, now.wall, log, self.settings.domain.as_deref());
        stream.set_sync(self.settings.sync);
        match self.settle_restored(&mut stream, &incoming, now) {
            Ok(()) => {
                if let Some(space) = self.spaces.get_mut(&account) {
                    space.streams.insert(name.into(), id);
                }
                let mut cx = cx!(self, account, now);
                stream.subscribe(&mut cx);
                stream.event_action("create", &mut cx);
                self.streams.insert(id, stream);
                self.learn_copies(id);
                Ok(id)
            }
            Err(why) => {
                let mut cx = cx!(self, account, now);
                stream.consumers.values_mut().for_each(|consumer| consumer.close(&mut cx));
                let _ = stream.log.destroy();
                Err(why)
            }
        }
    }

    fn settle_restored(&mut self, stream: &mut Stream, incoming: &Incoming, now: Now) -> Result<(), String> {
        let told = |error: LogError| error.to_string();
        let account = incoming.account;
        let space = self.spaces.get(&account).map(|space| space.name.clone()).unwrap_or_default();
        {
            let cx = cx!(self, account, now);
            stream.rebuild_dedup(&cx).map_err(told)?;
            stream.rebuild_schedules(&cx);
            stream.rebuild_ttl(&cx);
        }
        stream.resume_copies();
        for (name, text) in &incoming.consumers {
            let id = self.next_consumer;
            self.next_consumer = id.checked_add(1).ok_or("too many consumers")?;
            let mut cx = cx!(self, account, now);
            stream.restore_consumer(name, text, id, &self.settings.limits, &mut cx)?;
        }
        let mut cx = cx!(self, account, now);
        stream.enforce_all(&mut cx).map_err(told)?;
        // From here on a restart finds it.
        let config = record(&space, stream.created, &stream.config);
        stream.log.set_config(&config).map_err(told)
    }

    /// What came of a stream goes.
    fn abandon(&mut self, mut incoming: Incoming) {
        if let Some(log) = incoming.log.take() {
            // What can't be removed is removed at the next start.
            let _ = log.destroy();
        }
    }

    /// Ends those whose other side is silent.
    pub(crate) fn tick_backups(&mut self, now: Now) {
        let silent = |at: Instant| at <= now.mono;
        let outgoing: Vec<u32> = self
            .backups
            .outgoing
            .iter()
            .filter(|(_, it)| silent(it.silent_at))
            .map(|(number, _)| *number)
            .collect();
        for number in outgoing {
            let Some(mut outgoing) = self.backups.outgoing.remove(&number) else { continue };
            let mut cx = cx!(self, outgoing.account, now);
            match outgoing.on_silence(now.mono, &mut cx) {
                Progress::Done(why) => outgoing.close(why, &mut cx),
                _ => {
                    self.backups.outgoing.insert(number, outgoing);
                }
            }
        }
        let incoming: Vec<u32> = self
            .backups
            .incoming
            .iter()
            .filter(|(_, it)| silent(it.silent_at))
            .map(|(number, _)| *number)
            .collect();
        for number in incoming {
            let Some(incoming) = self.backups.incoming.remove(&number) else { continue };
            let mut cx = cx!(self, incoming.account, now);
            incoming.close(&mut cx);
            self.abandon(incoming);
        }
    }

    /// Ends those of an account.
    pub(crate) fn drop_backups(&mut self, account: Account, now: Now) {
        let outgoing: Vec<u32> =
            self.backups.outgoing.iter().filter(|(_, it)| it.account == account).map(|(at, _)| *at).collect();
        for number in outgoing {
            let Some(outgoing) = self.backups.outgoing.remove(&number) else { continue };
            let mut cx = cx!(self, account, now);
            if let Progress::Done(why) = outgoing.fail("500 account closed", "account closed", &mut cx) {
                outgoing.close(why, &mut cx);
            }
        }
        let incoming: Vec<u32> =
            self.backups.incoming.iter().filter(|(_, it)| it.account == account).map(|(at, _)| *at).collect();
        for number in incoming {
            let Some(incoming) = self.backups.incoming.remove(&number) else { continue };
            let mut cx = cx!(self, account, now);
            incoming.close(&mut cx);
            self.abandon(incoming);
        }
    }

    /// Drops what comes in: the disk has forgotten it.
    pub(crate) fn drop_restores(&mut self, now: Now) {
        for (_, incoming) in std::mem::take(&mut self.backups.incoming) {
            let mut cx = cx!(self, incoming.account, now);
            incoming.close(&mut cx);
            self.abandon(incoming);
        }
    }
}

/// The tag of one that goes out, or comes in.
pub(crate) fn tag(what: What, number: u32) -> Tag {
    Tag::new(what, 0, number)
}

/// When, as events say it.
fn at(time: crate::time::Nanos) -> String {
    rfc3339(time)
}
