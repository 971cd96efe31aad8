//! What can go wrong, by what to do about it.

use std::fmt;
use std::io;

use crate::StreamId;

/// Why the store didn't do what it was asked for.
#[derive(Debug)]
pub enum Error {
    /// The caller's mistake: there is no such stream.
    NoStream,
    /// The caller's mistake: the sequence isn't after the last.
    Sequence,
    /// The message, configuration or state is larger than [`Options`](crate::Options) and the format allow.
    TooLarge,
    /// What is staged has to be committed first, then this can be asked again.
    CommitFirst,
    /// No room: the disk is full, or the store has all that it may have. Removing, acknowledging and configuring work.
    /// [`maintain`](crate::Store::maintain) finds out when there is room again.
    Full,
    /// Streams, states and their segments fill what a checkpoint may take. Deleting some helps.
    TooMuchState,
    /// The disk failed, and so did what was tried instead. Nothing that is staged will be on the disk. Reading works.
    /// [`maintain`](crate::Store::maintain) finds out when the disk works again, and takes everything from it as it was at
    /// the last commit: what was staged since is undone, but sequences that were given out stay used.
    ReadOnly,
    /// Another process has the directory.
    Locked,
    /// Opening: the files aren't a store that this version reads, and nothing was touched.
    NotAStore(&'static str),
    /// The system failed.
    Disk(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStream => f.write_str("no such stream"),
            Self::Sequence => f.write_str("sequence isn't after the last one"),
            Self::TooLarge => f.write_str("larger than the store takes"),
            Self::CommitFirst => f.write_str("commit what is staged first"),
            Self::Full => f.write_str("no space left"),
            Self::TooMuchState => f.write_str("too many streams or states"),
            Self::ReadOnly => f.write_str("the disk failed; the store only reads"),
            Self::Locked => f.write_str("another process has the store"),
            Self::NotAStore(why) => write!(f, "not a store: {why}"),
            Self::Disk(error) => write!(f, "disk: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disk(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::Locked,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Disk(error),
        }
    }
}

/// Bytes that aren't what was written. Never served, never silently skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Whose, if that is known.
    pub stream: Option<StreamId>,
    /// First sequence that is affected; 0 if that isn't known.
    pub first_seq: u64,
    /// Last sequence that is affected; 0 if that isn't known.
    pub last_seq: u64,
    /// File in the store's directory; empty if the segment that it held is no more.
    pub file: String,
    /// Where in the file.
    pub offset: u64,
    /// What it is.
    pub what: Damaged,
}

/// What is damaged, and what that means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// Messages are lost.
    Messages,
    /// One of two copies, or a bit of a head; all is known from the rest.
    Copy,
    /// The index of a segment; the segment was read instead.
    Index,
    /// A frame is gone with what it said. Which messages is told by their own entry.
    Frame,
    /// A segment is gone, or the file can't be read.
    Segment,
    /// A stream's messages don't add up to what they were.
    Count,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            Damaged::Messages => "messages",
            Damaged::Copy => "one copy",
            Damaged::Index => "an index",
            Damaged::Frame => "a frame",
            Damaged::Segment => "a segment",
            Damaged::Count => "messages by count",
        };
        match &*self.file {
            "" => write!(f, "{what} damaged in a segment that is no more")?,
            file => write!(f, "{what} damaged at {file}:{}", self.offset)?,
        }
        if let Some(stream) = self.stream {
            write!(f, ", stream {stream}, sequence {} to {}", self.first_seq, self.last_seq)?;
        }
        Ok(())
    }
}

/// Why a message can't be read.
#[derive(Debug)]
pub enum ReadError {
    /// It was there, and isn't what was written any more.
    Damaged(Box<Damage>),
    /// The system failed.
    Disk(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(damage) => damage.fmt(f),
            Self::Disk(error) => write!(f, "disk: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}
