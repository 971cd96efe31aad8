//! What a frame says besides its messages, in postcard. Each frame has them twice.

use serde::{Deserialize, Serialize};

/// In the order in which they were asked for; those of [`CHECKPOINT`](crate::frame::CHECKPOINT) frames first.
///
/// The order of variants and fields is the format: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op<'a> {
    /// Checkpoint: ids below this have been used.
    NextStream { id: u32 },
    /// Checkpoint: a segment that is in force.
    Segment(Segment),
    /// Checkpoint: a stream.
    Stream {
        id: u32,
        first_seq: u64,
        last_seq: u64,
        last_time: i64,
        messages: u64,
        bytes: u64,
        #[serde(borrow)]
        config: &'a [u8],
    },
    /// What is known to be lost.
    Lost { stream: u32, first_seq: u64, last_seq: u64, segment: u64, offset: u64 },
    /// A new stream.
    Create { stream: u32, config: &'a [u8] },
    /// Another configuration.
    Config { stream: u32, config: &'a [u8] },
    /// The stream is gone with all it had.
    Delete { stream: u32 },
    /// A state by its key, whole.
    Put { stream: u32, key: &'a [u8], value: &'a [u8] },
    /// What came to a state.
    Append { stream: u32, key: &'a [u8], delta: &'a [u8] },
    /// A state is gone.
    Drop { stream: u32, key: &'a [u8] },
    /// This frame has `count` messages of the stream, from `first_seq` to `last_seq`; `after` is the last before them.
    Messages { stream: u32, after: u64, first_seq: u64, last_seq: u64, count: u32 },
    /// Sequences up to this one are used.
    Skip { stream: u32, last_seq: u64 },
    /// These messages are removed.
    Remove { stream: u32, first_seq: u64, last_seq: u64 },
    /// Messages before this one are removed.
    Purge { stream: u32, first_seq: u64 },
    /// A cold segment comes into force, those others go.
    Install { segment: Segment, replaces: Vec<u64> },
    /// A segment goes: nothing in it is alive.
    Retire { segment: u64 },
}

/// A sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) cold: bool,
    pub(crate) slot: u32,
    pub(crate) salt: u64,
    pub(crate) pages: u32,
    /// Where its last frame ends, in pages.
    pub(crate) end_page: u32,
    /// Where its index begins, in pages.
    pub(crate) index_page: u32,
    /// Of the index; 0 if it has none.
    pub(crate) index_bytes: u32,
    pub(crate) first_frame: u64,
}

/// Appends an op. Fails only if it is larger than memory.
pub(crate) fn push(out: &mut Vec<u8>, op: &Op<'_>) {
    if let Ok(longer) = postcard::to_extend(op, std::mem::take(out)) {
        *out = longer;
    }
}

/// Reads ops until the bytes end; `None` for what isn't ops.
pub(crate) fn read(bytes: &[u8]) -> impl Iterator<Item = Option<Op<'_>>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match postcard::take_from_bytes(rest) {
            Ok((op, tail)) => {
                rest = tail;
                Some(Some(op))
            }
            Err(_) => {
                rest = &[];
                Some(None)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_come_back() {
        let ops = [
            Op::Create { stream: 3, config: b"{}" },
            Op::Append { stream: 3, key: b"c", delta: b"+1" },
            Op::Remove { stream: 3, first_seq: 7, last_seq: 9 },
            Op::Retire { segment: 4 },
        ];
        let mut bytes = Vec::new();
        ops.iter().for_each(|op| push(&mut bytes, op));
        assert!(read(&bytes).map(Option::unwrap).eq(ops));
        assert_eq!(read(&bytes[..bytes.len() - 1]).last(), Some(None));
    }
}
