//! A stream that comes in.

use serde::{Deserialize, Serialize};

use super::archive::{self, Entry};
use super::{SILENCE, at, s2, tag};
use crate::asker::Asker;
use crate::config::{Storage, StreamConfig};
use crate::cx::Cx;
use crate::log::{self, Log, LogError};
use crate::seam::{Account, What};
use crate::stream::{counted, message_expires, record_restoring};
use crate::time::{Instant, Nanos, Now};

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its sums come first.
    State,
    /// So many consumers.
    Consumers(u64),
    Messages,
    /// Nothing is missing.
    Whole,
}

/// The sums of a stream that is to come, as far as they matter.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
    consumer_count: u64,
}

/// What whoever listens to events is told first.
#[derive(Serialize)]
struct Created<'a> {
    stream: &'a str,
    client: &'a Asker,
}

/// And last.
#[derive(Serialize)]
struct Completed<'a> {
    stream: &'a str,
    start: String,
    end: String,
    bytes: u64,
    client: &'a Asker,
}

/// One of them.
pub(crate) struct Incoming {
    pub(crate) account: Account,
    pub(crate) config: StreamConfig,
    pub(crate) silent_at: Instant,
    /// What has come of its messages. A restart drops it.
    pub(crate) log: Option<Box<dyn Log>>,
    /// Names, and what was written of them.
    pub(crate) consumers: Vec<(String, Vec<u8>)>,
    /// Where chunks are sent.
    pub(crate) deliver: String,
    number: u32,
    frames: s2::Reader,
    entries: archive::Reader,
    held: Vec<u8>,
    phase: Phase,
    state: State,
    stored: u64,
    bytes: u64,
    /// Bytes that were unpacked.
    unpacked: usize,
    started: Nanos,
    asker: Asker,
}

impl Incoming {
    /// Begins one, of a configuration that was checked.
    pub(crate) fn new(config: StreamConfig, number: u32, asker: Asker, cx: &mut Cx<'_>) -> Self {
        let deliver = format!("$JS.SNAPSHOT.RESTORE.{}.{}", config.name, cx.random.name(22));
        cx.subscribe(deliver.clone(), tag(What::Restore, number));
        let subject = format!("$JS.EVENT.ADVISORY.STREAM.RESTORE_CREATE.{}", config.name);
        let created = Created { stream: &config.name, client: &asker };
        cx.event(&subject, "io.nats.jetstream.advisory.v1.restore_create", created);
        Self {
            account: cx.account,
            config,
            silent_at: cx.now.mono + SILENCE,
            log: None,
            consumers: Vec::new(),
            deliver,
            number,
            frames: s2::Reader::default(),
            entries: archive::Reader::default(),
            held: Vec::new(),
            phase: Phase::State,
            state: State::default(),
            stored: 0,
            bytes: 0,
            unpacked: 0,
            started: cx.now.wall,
            asker,
        }
    }

    /// Nothing more is taken.
    pub(crate) fn close(&self, cx: &mut Cx<'_>) {
        cx.unsubscribe(self.deliver.clone(), tag(What::Restore, self.number));
        let subject = format!("$JS.EVENT.ADVISORY.STREAM.RESTORE_COMPLETE.{}", self.config.name);
        let completed = Completed {
            stream: &self.config.name,
            start: at(self.started),
            end: at(cx.now.wall),
            bytes: self.bytes,
            client: &self.asker,
        };
        cx.event(&subject, "io.nats.jetstream.advisory.v1.restore_complete", completed);
    }

    /// A chunk. `room` is what the stream may count for, `create` makes a log.
    pub(crate) fn take(
        &mut self,
        chunk: &[u8],
        room: u64,
        account: &str,
        now: Now,
        mut create: impl FnMut(&[u8], Storage, u64) -> Result<Box<dyn Log>, LogError>,
    ) -> Result<(), String> {
        self.silent_at = now.mono + SILENCE;
        self.bytes += chunk.len() as u64;
        let mut held = std::mem::take(&mut self.held);
        let before = held.len();
        self.frames.read(chunk, &mut held).map_err(|error| error.to_string())?;
        self.unpacked += held.len() - before;
        let mut rest = &held[..];
        while let Some(entry) = self.entries.next(&mut rest).map_err(|error| error.to_string())? {
            if self.phase == Phase::State {
                self.begin(&entry, room)?;
                let record = record_restoring(account, now.wall, &self.config);
                let log = create(&record, self.config.storage, self.state.first_seq.max(1));
                self.log = Some(log.map_err(|error| error.to_string())?);
            } else {
                self.take_entry(entry, room, now)?;
            }
        }
        let done = held.len() - rest.len();
        held.drain(..done);
        self.held = held;
        Ok(())
    }

    fn begin(&mut self, entry: &Entry, room: u64) -> Result<(), String> {
        if entry.name != b"state.json" {
            return Err("expected state.json first".to_owned());
        }
        self.state = crate::json::read_loose(&entry.payload)
            .map_err(|error| format!("error in state.json: {error}"))?;
        let State { bytes, first_seq, last_seq, consumer_count } = self.state;
        if first_seq > last_seq.saturating_add(1) || last_seq == u64::MAX {
            return Err("error in state.json: numbers that can't be".to_owned());
        }
        if bytes > room {
            return Err(self.exceeded());
        }
        self.phase = if consumer_count > 0 { Phase::Consumers(consumer_count) } else { Phase::Messages };
        Ok(())
    }

    fn exceeded(&self) -> String {
        let row = match self.config.storage {
            Storage::Memory => crate::error::MEMORY_RESOURCES_EXCEEDED,
            Storage::File => crate::error::STORAGE_RESOURCES_EXCEEDED,
        };
        row.text.to_owned()
    }

    fn take_entry(&mut self, entry: Entry, room: u64, now: Now) -> Result<(), String> {
        match self.phase {
            Phase::State | Phase::Whole => Err("more than a stream".to_owned()),
            Phase::Consumers(left) => {
                let name =
                    std::str::from_utf8(&entry.name).ok().and_then(|name| name.strip_prefix("consumers/"));
                let name = name.ok_or("expected a consumer")?.to_owned();
                self.consumers.push((name, entry.payload));
                self.phase = if left > 1 { Phase::Consumers(left - 1) } else { Phase::Messages };
                Ok(())
            }
            Phase::Messages if entry.is_end() => {
                self.phase = Phase::Whole;
                Ok(())
            }
            Phase::Messages => self.take_message(&entry, room, now),
        }
    }

    fn take_message(&mut self, entry: &Entry, room: u64, now: Now) -> Result<(), String> {
        let seq = entry.seq;
        let told = |error: LogError| format!("failed to store message sequence {seq}: {error}");
        if midge_protocol::subject::Subject::new(&entry.name).is_err() {
            return Err(format!("message sequence {seq} has no subject"));
        }
        let size = entry.header.len() + entry.payload.len();
        if usize::try_from(self.config.max_msg_size).is_ok_and(|max| size > max) {
            return Err(format!("message sequence {seq} exceeds maximum message size"));
        }
        self.stored +=
            counted(self.config.storage, entry.name.len(), entry.header.len(), entry.payload.len());
        if self.stored > room {
            return Err(self.exceeded());
        }
        let log = self.log.as_mut().ok_or("expected state.json first")?;
        let next = log.state().last_seq + 1;
        if seq < next.max(self.state.first_seq) || seq > self.state.last_seq {
            return Err(format!("message sequence {seq} out of order"));
        }
        let expires = match self.config.allow_msg_ttl {
            true => message_expires(&entry.header, entry.time)
                .ok_or_else(|| format!("failed to parse message TTL: sequence {seq}"))?,
            false => 0,
        };
        // A message whose time is over leaves its number.
        let over = expires != 0 && expires <= now.wall;
        let before = if over { seq } else { seq - 1 };
        if before >= next {
            log.skip_to(before, entry.time).map_err(told)?;
        }
        if !over {
            let message = log::Entry {
                subject: &entry.name,
                header: &entry.header,
                payload: &entry.payload,
                time: entry.time,
                expires,
            };
            log.append(&message).map_err(told)?;
        }
        Ok(())
    }

    /// No more comes. Gives what came, if that is all of it.
    pub(crate) fn finish(&mut self, now: Now) -> Result<Box<dyn Log>, String> {
        // As nats-server says it.
        match self.unpacked {
            0 if self.frames.is_whole() => return Err("EOF".to_owned()),
            1..archive::MAGIC_BYTES if self.frames.is_whole() => return Err("unexpected EOF".to_owned()),
            _ => {}
        }
        if self.phase != Phase::Whole || !self.frames.is_whole() || !self.held.is_empty() {
            return Err("backup was truncated".to_owned());
        }
        let log = self.log.as_mut().ok_or("backup was truncated")?;
        if log.state().last_seq < self.state.last_seq {
            log.skip_to(self.state.last_seq, now.wall).map_err(|error| error.to_string())?;
        }
        self.log.take().ok_or_else(|| "backup was truncated".to_owned())
    }
}
