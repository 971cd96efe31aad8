//! What a stream keeps its messages in.
//!
//! ```text
//!   stream ── append, remove, get, next ──> dyn Log ──┬── memory   maps
//!                                                     └── file     a log of midge-store
//! ```
//!
//! A log numbers its messages, from 1 unless it is told otherwise, and never uses a number again. It knows the subjects
//! of its messages, so that the last message of a subject, or the next one that a filter wants, is found without reading
//! others. Limits are the stream's business.

mod file;
mod filters;
mod memory;

pub use file::{FileShelf, Keeper};
pub use filters::Filters;
pub use memory::{MemoryLog, MemoryShelf};

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::sync::Sync;
use crate::time::Nanos;

/// A message to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Where it was published.
    pub subject: &'a [u8],
    /// The header block, or nothing.
    pub header: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// When, in ns since the Unix epoch.
    pub time: Nanos,
    /// When it is to go, in ns since the Unix epoch; 0 if nobody said, [`NEVER`] if it is to stay. The log only keeps it.
    pub expires: Nanos,
}

/// A message that stays, whatever the stream says.
pub const NEVER: Nanos = Nanos::MAX;

/// What a stored message consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) subject: Bytes,
    /// Empty if there is none.
    pub(crate) header: Bytes,
    pub(crate) payload: Bytes,
}

/// A message that is stored. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub seq: u64,
    /// When it was stored, in ns since the Unix epoch.
    pub time: Nanos,
    subject: Bytes,
    header: Bytes,
    payload: Bytes,
}

impl Stored {
    /// Of its parts, which may share memory.
    pub fn of_parts(seq: u64, time: Nanos, subject: Bytes, header: Bytes, payload: Bytes) -> Self {
        Self { seq, time, subject, header, payload }
    }

    /// Where it was published.
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The header block; empty if there is none.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Subject, header block and payload, for whoever needs no more.
    pub(crate) fn into_parts(self) -> Parts {
        Parts { subject: self.subject, header: self.header, payload: self.payload }
    }

    /// The header block. Shares the message's memory.
    pub fn header_bytes(&self) -> Bytes {
        self.header.clone()
    }

    /// The payload. Shares the message's memory.
    pub fn payload(&self) -> Bytes {
        self.payload.clone()
    }

    /// Bytes of subject, header block and payload.
    pub fn len(&self) -> usize {
        self.subject.len() + self.header.len() + self.payload.len()
    }

    /// True if there are none of them.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The sums of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Messages that are there.
    pub messages: u64,
    /// Bytes that they count for.
    pub bytes: u64,
    /// The number of the first that is there, or that the next will have. 0: there never was one.
    pub first_seq: u64,
    /// The number that was given last; 0: none.
    pub last_seq: u64,
    /// When that was; 0: never.
    pub last_time: Nanos,
}

impl State {
    /// Numbers between first and last that are not there.
    pub fn deleted(&self) -> u64 {
        (self.last_seq + 1).saturating_sub(self.first_seq.max(1)).saturating_sub(self.messages)
    }
}

/// Why a log could not do it.
#[derive(Debug)]
pub enum LogError {
    /// No room on the disk, or in memory.
    Full,
    /// A message, or what is noted, is larger than the log takes.
    TooLarge,
    /// Something can't be read.
    Io(std::io::Error),
    /// The message with this number isn't what was stored any more.
    Damaged(u64),
    /// The disk failed. What was not committed is lost, and nothing is taken until it works again.
    Failed,
}

impl LogError {
    /// True if it is about everything that was not committed; all others are about what was asked for alone.
    pub fn is_of_all(&self) -> bool {
        matches!(self, Self::Failed)
    }
}

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("no space left"),
            Self::TooLarge => f.write_str("larger than the log takes"),
            Self::Io(error) => error.fmt(f),
            Self::Damaged(seq) => write!(f, "message {seq} is damaged"),
            Self::Failed => f.write_str("the disk failed"),
        }
    }
}

impl std::error::Error for LogError {}

/// A numbered list of messages.
pub trait Log: Send {
    /// Its sums.
    fn state(&self) -> State;

    /// Stores a message under the next number.
    fn append(&mut self, entry: &Entry<'_>) -> Result<u64, LogError>;

    /// Uses numbers up to `seq` without messages. `time` is when.
    fn skip_to(&mut self, seq: u64, time: Nanos) -> Result<(), LogError>;

    /// The message with that number, if it is there and is what was stored.
    fn get(&self, seq: u64) -> Result<Option<Stored>, LogError>;

    /// As [`Log::get`], if nobody has to wait for the disk. `None` says nothing.
    fn get_at_once(&self, seq: u64) -> Option<Stored> {
        self.get(seq).ok().flatten()
    }

    /// True if there was a message with that number, and what is there now isn't it.
    fn is_damaged(&self, _seq: u64) -> bool {
        false
    }

    /// The numbers that [`Log::is_damaged`] is known to be true of, at most `max` of them, and the bytes that they count
    /// for, as far as that is known.
    fn damaged(&self, _max: usize) -> (Vec<u64>, u64) {
        (Vec::new(), 0)
    }

    /// When that was.
    fn time_of(&self, seq: u64) -> Result<Option<Nanos>, LogError>;

    /// Where it was published.
    fn subject_of(&self, seq: u64) -> Option<Box<[u8]>>;

    /// Takes a message out. With `erase`, its bytes are made unreadable. False if it isn't there.
    fn remove(&mut self, seq: u64, erase: bool) -> Result<bool, LogError>;

    /// Takes the first message out because it is the oldest: what is lost before it isn't missed any more. False if the first is
    /// another.
    fn remove_oldest(&mut self, seq: u64) -> Result<bool, LogError>;

    /// Takes everything below `seq` out. Gives the number of messages that were there.
    fn truncate_front(&mut self, seq: u64, now: Nanos) -> Result<u64, LogError>;

    /// The number of the first message from `from` on that `filters` want.
    fn next(&self, from: u64, filters: &Filters) -> Option<u64>;

    /// Both: that number, and what [`Log::get`] says of it.
    fn get_next(&self, from: u64, filters: &Filters) -> Option<(u64, Result<Option<Stored>, LogError>)> {
        let seq = self.next(from, filters)?;
        Some((seq, self.get(seq)))
    }

    /// The messages from `from` on that `filters` want.
    fn count(&self, from: u64, filters: &Filters) -> u64;

    /// The last message of the subjects that `filters` want, not above `upto`.
    fn last(&self, filters: &Filters, upto: u64) -> Option<u64>;

    /// How many messages a subject has.
    fn count_of(&self, subject: &[u8]) -> u64;

    /// The first message of a subject.
    fn first_of(&self, subject: &[u8]) -> Option<u64>;

    /// The last message of a subject.
    fn last_of(&self, subject: &[u8]) -> Option<u64>;

    /// The subjects that `filters` want, each with the number of its messages, in any order.
    fn subjects(&self, filters: &Filters, each: &mut dyn FnMut(&[u8], u64));

    /// Subjects that have messages.
    fn subject_count(&self) -> u64;

    /// The number of the first message that is not older than `time`; one above the last if all are.
    fn at_time(&self, time: Nanos) -> u64;

    /// The messages that have a time to go: number and time.
    fn expiring(&self, each: &mut dyn FnMut(u64, Nanos));

    /// Whether so many messages of so many bytes altogether that are appended now become durable at once, or none of them.
    /// What waits may be committed for it.
    fn can_take_at_once(&mut self, messages: usize, bytes: usize) -> Result<bool, LogError>;

    /// Keeps a note under `key`, in place of an earlier one. Notes are as durable as messages.
    fn put_note(&mut self, key: &str, value: &[u8]) -> Result<(), LogError>;

    /// Adds to a note. Gives the bytes that were added since it was put.
    fn add_to_note(&mut self, key: &str, value: &[u8]) -> Result<usize, LogError>;

    /// Drops a note.
    fn drop_note(&mut self, key: &str) -> Result<(), LogError>;

    /// All notes, by key: what was put, and what was added, in its order.
    fn notes(&self) -> BTreeMap<String, Vec<Vec<u8>>>;

    /// Replaces what was given to [`Shelf::create`].
    fn set_config(&mut self, config: &[u8]) -> Result<(), LogError>;

    /// When what happens to it from now on is made safe. What is in memory never is.
    fn set_sync(&mut self, _sync: Sync) {}

    /// Makes room on a full disk at once, of what nobody needs any more. False if there is none.
    fn reclaim(&mut self) -> Result<bool, LogError> {
        Ok(false)
    }

    /// The number before which all messages have to go for [`Log::reclaim`] to make room; `None` if that wouldn't do.
    fn reclaimable(&self) -> Option<u64> {
        None
    }

    /// Ends the log and all that it holds.
    fn destroy(self: Box<Self>) -> Result<(), LogError>;
}

/// A log that was there, and what was given when it was created.
pub type Loaded = (Vec<u8>, Box<dyn Log>);

/// Where logs are.
pub trait Shelf: Send {
    /// A new log whose first message will be `first`, at least 1. `config` is the caller's.
    fn create(&mut self, config: &[u8], first: u64) -> Result<Box<dyn Log>, LogError>;

    /// The logs that are there, with what was given when they were created.
    fn load(&mut self) -> Result<Vec<Loaded>, LogError>;

    /// Keeps what is to be known of the clock, in place of what was. As durable as messages.
    fn keep_clock(&mut self, kept: &[u8]) -> Result<(), LogError>;

    /// What was kept of the clock.
    fn kept_clock(&mut self) -> Result<Option<Vec<u8>>, LogError>;

    /// Whether something was done since the last commit that nobody may hear of before the next: a message appended, a
    /// log made, changed or ended. What is taken out, and notes, can wait.
    fn is_owed(&self) -> bool;

    /// Whether some of that has to be on the disk by then, and not only written.
    fn is_owed_to_disk(&self) -> bool;

    /// Whether anything waits to be written, or is written and to be on the disk soon.
    fn is_staged(&self) -> bool;

    /// Whether what wasn't made durable is, or was done to, a log with that mode.
    fn holds(&self, sync: Sync) -> bool;

    /// Makes everything durable that was done since the last time. Waits for the disk.
    fn commit(&mut self) -> Result<(), LogError>;

    /// Writes everything that was done since the last time, so that it outlives this process. Doesn't wait for the disk.
    fn flush(&mut self) -> Result<(), LogError>;
}
