//! Segments and slots. A slot is a file; a segment is one life of it.

use std::collections::{BTreeMap, VecDeque};

use crate::checksum::Seed;
use crate::header::{Header, Kind};
use crate::op;

/// A file that is free to become a segment.
#[derive(Debug)]
pub(crate) struct Slot<F> {
    pub(crate) number: u32,
    pub(crate) file: F,
}

pub(crate) fn file_name(slot: u32) -> String {
    format!("{slot:08x}.seg")
}

/// A segment that is in force.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) header: Header,
    pub(crate) slot: u32,
    pub(crate) file: F,
    /// Of the file; less than its pages if cleaning made it, for nothing is written behind its index.
    pub(crate) file_bytes: u64,
    pub(crate) seed: Seed,
    /// Where its last frame ends, in pages.
    pub(crate) end_page: u32,
    /// Where the index begins, or would, in pages.
    pub(crate) index_page: u32,
    /// Bytes of the index; 0: none.
    pub(crate) index_bytes: u32,
    /// Of messages that are alive in it.
    pub(crate) live_bytes: u64,
    /// Something in it was erased: it is to be rewritten, and its slot to be filled with zeros.
    pub(crate) erase: bool,
    /// With so many live bytes or more it isn't cleaned until the next opening: reading failed, or they didn't fit another.
    pub(crate) stuck_at: u64,
}

impl<F> Segment<F> {
    pub(crate) fn op(&self) -> op::Segment {
        op::Segment {
            number: self.header.segment,
            cold: self.header.kind == Kind::Cold,
            slot: self.slot,
            salt: self.header.salt,
            pages: self.header.pages,
            end_page: self.end_page,
            index_page: self.index_page,
            index_bytes: self.index_bytes,
            first_frame: self.header.first_frame,
        }
    }

    /// Whether cleaning leaves it alone.
    pub(crate) fn is_stuck(&self) -> bool {
        self.live_bytes >= self.stuck_at
    }

    /// Bytes that frames could take.
    pub(crate) fn capacity(&self) -> u64 {
        self.offset(self.header.pages).min(self.file_bytes).saturating_sub(self.offset(crate::header::PAGES))
    }

    pub(crate) fn offset(&self, page: u32) -> u64 {
        u64::from(page) * u64::from(self.header.page_bytes)
    }
}

/// What is only known of the segment that commits go to.
#[derive(Debug, Default)]
pub(crate) struct Active {
    pub(crate) number: u64,
    /// Checksum of its last frame.
    pub(crate) last_sum: u32,
    /// Where its last frame that is known to be on the disk ends, in pages.
    pub(crate) durable_page: u32,
    /// What its ops removed, by stream, in order of arrival.
    pub(crate) removed: BTreeMap<u32, Vec<(u64, u64)>>,
    /// An upper bound of its index.
    pub(crate) index_estimate: usize,
}

/// A frame that isn't known to be on the disk.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) ticket: u64,
    /// Room for the head, the records, and what [`finish`](crate::frame::finish) puts behind them.
    pub(crate) buffer: Vec<u8>,
    pub(crate) records_end: usize,
    /// Ops on streams and states, in order, encoded.
    pub(crate) ops: Vec<u8>,
    pub(crate) messages: Vec<Messages>,
    pub(crate) removed: Vec<(u32, u64, u64)>,
    pub(crate) purged: Vec<(u32, u64)>,
    /// In the active segment, once written.
    pub(crate) offset: u64,
    /// Segments that are free once this frame is on the disk.
    pub(crate) retires: Vec<u64>,
}

/// See [`Op::Messages`](crate::op::Op::Messages).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages {
    pub(crate) stream: u32,
    pub(crate) after: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) count: u32,
}

impl Waiting {
    pub(crate) fn new(ticket: u64) -> Self {
        let buffer = vec![0; crate::frame::HEAD];
        Self { ticket, buffer, records_end: crate::frame::HEAD, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records_end == crate::frame::HEAD
            && self.ops.is_empty()
            && self.removed.is_empty()
            && self.purged.is_empty()
    }

    /// An upper bound of the ops, encoded.
    pub(crate) fn ops_bytes(&self) -> usize {
        self.ops.len() + self.messages.len() * 38 + self.removed.len() * 26 + self.purged.len() * 16
    }

    /// Bytes of records and ops.
    pub(crate) fn bytes(&self) -> usize {
        self.records_end - crate::frame::HEAD + self.ops_bytes()
    }
}

/// Frames that wait, the oldest first.
pub(crate) type Queue = VecDeque<Waiting>;
