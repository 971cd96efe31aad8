//! Bytes in frames, compressed: what nats-server wraps snapshots in.
//!
//! ```text
//!   0xff 6 "sNaPpY" or "S2sTwO"     begins a stream
//!   0x00 length  sum  block         compressed: the block decodes to what the sum is of
//!   0x01 length  sum  bytes         as they are
//!   0x80..=0xfe  length  …          passed over
//! ```
//!
//! Lengths have three bytes, little endian, and count what follows them. Reading knows S2, which is Snappy with longer
//! blocks and copies from where the last one was; writing keeps to Snappy, which readers of S2 read too. Sources: Snappy's
//! `framing_format.txt` and `format_description.txt`, S2's description of its differences.

use snap::raw::{Encoder, max_compress_len};

/// Bytes of a block that is written.
const BLOCK: usize = 64 * 1024;
/// Bytes of a block that is read, decoded: S2's own ceiling.
const BLOCK_MAX: usize = 4 << 20;
/// Bytes that such a block takes at most.
const CHUNK_MAX: usize = BLOCK_MAX + BLOCK_MAX / 6 + 64;

const IDENTIFIERS: [&[u8]; 2] = [b"sNaPpY", b"S2sTwO"];

/// Why bytes can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corrupt(pub(super) &'static str);

impl std::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Takes frames in any pieces, gives what is in them. Holds one frame.
#[derive(Debug, Default)]
pub(super) struct Reader {
    held: Vec<u8>,
    begun: bool,
}

impl Reader {
    /// Reads on, and adds what comes out to `out`.
    pub(super) fn read(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Corrupt> {
        self.held.extend_from_slice(bytes);
        let mut at = 0;
        while let Some([kind, a, b, c, rest @ ..]) = self.held.get(at..) {
            let length = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
            if length > CHUNK_MAX {
                return Err(Corrupt("a frame is too long"));
            }
            let Some(frame) = rest.get(..length) else { break };
            if !self.begun && *kind != 0xff {
                return Err(Corrupt("not an S2 stream"));
            }
            match kind {
                0xff if IDENTIFIERS.contains(&frame) => self.begun = true,
                0x00 | 0x01 => {
                    let from = out.len();
                    let (sum, data) = frame.split_first_chunk().ok_or(Corrupt("a frame is too short"))?;
                    match kind {
                        0x00 => decode(data, out)?,
                        _ => out.extend_from_slice(data),
                    }
                    if masked(out.get(from..).unwrap_or_default()) != u32::from_le_bytes(*sum) {
                        return Err(Corrupt("a checksum doesn't match"));
                    }
                }
                0x80..=0xfe => {}
                _ => return Err(Corrupt("a frame of an unknown kind")),
            }
            at += 4 + length;
        }
        self.held.drain(..at);
        Ok(())
    }

    /// True if it ended between two frames.
    pub(super) fn is_whole(&self) -> bool {
        self.held.is_empty()
    }
}

/// Makes frames.
pub(super) struct Writer {
    block: Vec<u8>,
    begun: bool,
    encoder: Encoder,
}

impl Default for Writer {
    fn default() -> Self {
        Self { block: Vec::new(), begun: false, encoder: Encoder::new() }
    }
}

impl Writer {
    /// Writes; frames that are full are added to `out`.
    pub(super) fn write(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            if self.block.len() == BLOCK {
                self.flush(out);
            }
            bytes = later;
        }
    }

    /// Makes a frame of what is left.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            out.extend_from_slice(b"\xff\x06\x00\x00sNaPpY");
        }
        if self.block.is_empty() {
            return;
        }
        let sum = masked(&self.block).to_le_bytes();
        let mut packed = vec![0; max_compress_len(self.block.len())];
        let length = self.encoder.compress(&self.block, &mut packed).ok();
        // What hardly shrinks is sent as it is.
        let shrunk = length.and_then(|length| packed.get(..length));
        let (kind, data) = match shrunk.filter(|packed| packed.len() < self.block.len() / 8 * 7) {
            Some(packed) => (0x00, packed),
            None => (0x01, &self.block[..]),
        };
        let [a, b, c, _] = u32::try_from(4 + data.len()).unwrap_or(u32::MAX).to_le_bytes();
        out.extend_from_slice(&[kind, a, b, c]);
        out.extend_from_slice(&sum);
        out.extend_from_slice(data);
        self.block.clear();
    }
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A block of Snappy, or of S2, whose copies of offset 0 begin where the last copy did.
fn decode(block: &[u8], out: &mut Vec<u8>) -> Result<(), Corrupt> {
    let short = Corrupt("a block ends too early");
    let (length, mut block) = varint(block).ok_or(short)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= BLOCK_MAX);
    let length = length.ok_or(Corrupt("a block is too long"))?;
    let start = out.len();
    let end = start + length;
    let mut last = 0;
    while let Some((tag, rest)) = block.split_first() {
        block = rest;
        let high = usize::from(tag >> 2);
        let mut number = |bytes: usize| -> Result<usize, Corrupt> {
            let (number, rest) = block.split_at_checked(bytes).ok_or(short)?;
            block = rest;
            Ok(number.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
        };
        let (length, offset) = match tag & 3 {
            0 => {
                let length = match high {
                    60.. => number(high - 59)?,
                    short => short,
                };
                let (bytes, rest) = block.split_at_checked(length + 1).ok_or(short)?;
                if out.len() + bytes.len() > end {
                    return Err(Corrupt("a block is longer than it says"));
                }
                out.extend_from_slice(bytes);
                block = rest;
                continue;
            }
            1 => {
                let offset = number(1)? | (high >> 3) << 8;
                match (offset, high & 7) {
                    (0, 5) => (4 + 4 + number(1)?, last),
                    (0, 6) => (4 + (1 << 8) + number(2)?, last),
                    (0, 7) => (4 + (1 << 16) + number(3)?, last),
                    (0, length) => (4 + length, last),
                    (offset, length) => (4 + length, offset),
                }
            }
            2 => (1 + high, number(2)?),
            _ => (1 + high, number(4)?),
        };
        last = offset;
        if offset == 0 || offset > out.len() - start {
            return Err(Corrupt("a copy of what isn't there"));
        }
        if length > end - out.len() {
            return Err(Corrupt("a block is longer than it says"));
        }
        // What is copied may overlap what it is copied to.
        let from = out.len() - offset;
        let mut copied = 0;
        while copied < length {
            let now = (length - copied).min(offset + copied);
            out.extend_from_within(from..from + now);
            copied += now;
        }
    }
    if out.len() == end { Ok(()) } else { Err(Corrupt("a block is shorter than it says")) }
}

/// A number in groups of seven bits, and what follows it.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(bytes: &[u8], pieces: usize) -> Vec<u8> {
        let (mut writer, mut packed) = (Writer::default(), Vec::new());
        for piece in bytes.chunks(pieces) {
            writer.write(piece, &mut packed);
        }
        writer.flush(&mut packed);
        let (mut reader, mut out) = (Reader::default(), Vec::new());
        for piece in packed.chunks(pieces) {
            reader.read(piece, &mut out).unwrap();
        }
        assert!(reader.is_whole());
        out
    }

    #[test]
    fn what_is_written_is_read() {
        let text = b"plant.attic.temp 21.5, ".repeat(20_000);
        let (mut writer, mut packed) = (Writer::default(), Vec::new());
        writer.write(&text, &mut packed);
        writer.flush(&mut packed);
        assert!(packed.len() < text.len() / 10, "{} of {}", packed.len(), text.len());
        assert_eq!(round(&text, 1000), text);
        assert_eq!(round(b"", 1), b"");
    }

    #[test]
    fn copies_from_where_the_last_one_was() {
        // "abcd" as it is, four of it copied, then repeats of each length, and bytes between.
        let block = [
            &[32, 12][..],
            b"abcd",
            &[1, 4],     // 4 from 4 back
            &[1, 0],     // 4 more
            &[17, 0],    // 8
            &[21, 0, 3], // 11
            &[0, b'!'],
        ]
        .concat();
        let mut out = Vec::new();
        decode(&block, &mut out).unwrap();
        let mut expected = b"abcd".repeat(8);
        expected.truncate(4 + 4 + 4 + 8 + 11);
        expected.push(b'!');
        assert_eq!(out, expected);
    }

    #[test]
    fn what_is_corrupt_is_refused() {
        for (bytes, why) in [
            (&b"\x00\x00\x00\x00"[..], "not an S2 stream"),
            (b"\xff\x06\x00\x00sNaPpX", "a frame of an unknown kind"),
            (b"\xff\x06\x00\x00S2sTwO\x01\x05\x00\x00\x00\x00\x00\x00a", "a checksum doesn't match"),
            (b"\xff\x06\x00\x00S2sTwO\x01\x02\x00\x00\x00\x00", "a frame is too short"),
            (b"\xff\x06\x00\x00S2sTwO\x02\x00\x00\x00", "a frame of an unknown kind"),
            (b"\xff\xff\xff\xff", "a frame is too long"),
        ] {
            assert_eq!(Reader::default().read(bytes, &mut Vec::new()), Err(Corrupt(why)));
        }
        for (block, why) in [
            (&[][..], "a block ends too early"),
            (&[4, 1, 0], "a copy of what isn't there"),
            (&[4, 0, b'a', 1, 2], "a copy of what isn't there"),
            (&[2, 0, b'a'], "a block is shorter than it says"),
            (&[1, 4, b'a', b'a'], "a block is longer than it says"),
            (&[0xff, 0xff, 0xff, 0x7f], "a block is too long"),
        ] {
            assert_eq!(decode(block, &mut Vec::new()), Err(Corrupt(why)), "{block:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_comes_back(bytes in proptest::collection::vec(0..4_u8, 0..200_000), pieces in 1..70_000_usize) {
            prop_assert_eq!(round(&bytes, pieces), bytes);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            let _ = decode(&bytes, &mut out);
            let mut framed = b"\xff\x06\x00\x00S2sTwO".to_vec();
            framed.extend_from_slice(&bytes);
            let _ = Reader::default().read(&framed, &mut out);
        }
    }
}
