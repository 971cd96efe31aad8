//! A snapshot's entries: what nats-server, from 2.15 on, writes a stream as.
//!
//! ```text
//!   "NATSARC1"
//!   name's length, time, sequence, header's length, payload's length    numbers in groups of seven bits
//!   name, header, payload
//!   …
//! ```
//!
//! First comes `state.json`; then, as `consumers/NAME`, as many consumers as it says; then the messages, whose names are
//! their subjects; then an entry of which everything is zero. Source: nats-server's `archive/archive.go`,
//! `stream_backup.go`.

use super::s2::{Corrupt, varint};
use crate::time::Nanos;

const MAGIC: &[u8] = b"NATSARC1";
pub(super) const MAGIC_BYTES: usize = MAGIC.len();

/// Bytes that an entry may have in all. A message is smaller; a consumer with all that is pending may not be.
const ENTRY_BYTES_MAX: u64 = 32 << 20;

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) time: Nanos,
    /// 0 where it is no message.
    pub(super) seq: u64,
    pub(super) header: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Entry {
    /// True for the one that says that nothing is missing.
    pub(super) fn is_end(&self) -> bool {
        *self == Self::default()
    }
}

/// What stands in front of all entries.
pub(super) fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
}

/// Writes an entry.
pub(super) fn push(name: &[u8], time: Nanos, seq: u64, header: &[u8], payload: &[u8], out: &mut Vec<u8>) {
    push_varint(name.len() as u64, out);
    push_varint((time << 1 ^ time >> 63).cast_unsigned(), out);
    push_varint(seq, out);
    push_varint(header.len() as u64, out);
    push_varint(payload.len() as u64, out);
    for part in [name, header, payload] {
        out.extend_from_slice(part);
    }
}

fn push_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes bytes in any pieces, gives entries. Holds one entry.
#[derive(Debug, Default)]
pub(super) struct Reader {
    begun: bool,
}

impl Reader {
    /// Takes the next entry off the front of `held`. `None`: more bytes are needed.
    pub(super) fn next(&mut self, held: &mut &[u8]) -> Result<Option<Entry>, Corrupt> {
        if !self.begun {
            let Some((magic, rest)) = held.split_at_checked(MAGIC.len()) else { return Ok(None) };
            if magic != MAGIC {
                return Err(Corrupt("not an archive that nats-server 2.15 or midge made"));
            }
            (self.begun, *held) = (true, rest);
        }
        let mut rest = *held;
        let mut numbers = [0; 5];
        for number in &mut numbers {
            match varint(rest) {
                Some((value, after)) => (*number, rest) = (value, after),
                None if rest.len() < 10 => return Ok(None),
                None => return Err(Corrupt("a number is too long")),
            }
        }
        let [name, time, seq, header, payload] = numbers;
        let all = name.checked_add(header).and_then(|sum| sum.checked_add(payload));
        if all.is_none_or(|all| all > ENTRY_BYTES_MAX) {
            return Err(Corrupt("an entry is too large"));
        }
        let mut take = |length: u64| {
            let (part, after) = rest.split_at_checked(length as usize)?;
            rest = after;
            Some(part.to_vec())
        };
        let (Some(name), Some(header), Some(payload)) = (take(name), take(header), take(payload)) else {
            return Ok(None);
        };
        *held = rest;
        let time = (time >> 1).cast_signed() ^ -(time & 1).cast_signed();
        Ok(Some(Entry { name, time, seq, header, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back() {
        let entries = [
            Entry { name: b"state.json".to_vec(), time: 7, payload: b"{}".to_vec(), ..Entry::default() },
            Entry {
                name: b"plant.attic".to_vec(),
                time: -1,
                seq: u64::MAX,
                header: b"NATS/1.0\r\n\r\n".to_vec(),
                payload: vec![0; 300],
            },
            Entry::default(),
        ];
        let mut bytes = Vec::new();
        begin(&mut bytes);
        for Entry { name, time, seq, header, payload } in &entries {
            push(name, *time, *seq, header, payload, &mut bytes);
        }
        // Whole, and byte by byte.
        for step in [bytes.len(), 1] {
            let (mut reader, mut held, mut read) = (Reader::default(), Vec::new(), Vec::new());
            for piece in bytes.chunks(step) {
                held.extend_from_slice(piece);
                let mut rest = &held[..];
                while let Some(entry) = reader.next(&mut rest).unwrap() {
                    read.push(entry);
                }
                held = rest.to_vec();
            }
            assert_eq!(read, entries);
            assert!(read.last().unwrap().is_end() && held.is_empty());
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let read = |bytes: &[u8]| Reader::default().next(&mut &*bytes);
        assert_eq!(read(b"NATSARC"), Ok(None));
        assert!(read(b"meta.inf").is_err());
        assert!(read(b"NATSARC1\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
        assert!(read(b"NATSARC1\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x01").is_err());
    }
}
