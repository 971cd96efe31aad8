//! Frames for lines with noise on them: an operation arrives as it was sent, or not at all.
//!
//! ```text
//!   00  COBS( crc[4]  operations )  00
//!   |        |        '-- one or more whole operations, as they stand on any connection
//!   |        '-- CRC-32C (Castagnoli) of them, least significant byte first
//!   '-- no zero stands within: whoever has lost the thread takes it up again at the next one
//! ```
//!
//! COBS (Cheshire and Baker, 1997) replaces each zero by the distance to the next and adds a byte for each 254. A frame
//! takes 7 bytes more than what is in it, or 8 from 250 on. Zeros beyond the one between two frames mean nothing, so a
//! writer may send more of them, to clear a line or to give up a frame that it hasn't ended.

use crate::emit::Sink;

/// What a frame takes beside the operations in it, unless they are longer than 249 bytes: for each 254 of them, one byte
/// more.
pub const OVERHEAD: usize = 7;

/// Bytes that can follow a byte of distance.
const BLOCK_MAX: usize = 254;
const CRC_BYTES: usize = 4;

/// Whole operations become the bytes of a frame, one by one.
#[derive(Clone, Debug)]
pub struct Encode<'a> {
    crc: [u8; CRC_BYTES],
    operations: &'a [u8],
    /// What comes next of `crc` and `operations` together.
    at: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    /// A byte of distance comes next.
    Distance,
    /// So many bytes, and then there was a zero, unless the flag says that the block was full.
    Block(usize, bool),
    Over,
}

impl<'a> Encode<'a> {
    /// A frame of `operations`.
    pub fn new(operations: &'a [u8]) -> Self {
        Self { crc: checksum(operations).to_le_bytes(), operations, at: 0, stage: Stage::Begin }
    }

    fn content(&self, at: usize) -> Option<u8> {
        match self.crc.get(at) {
            Some(byte) => Some(*byte),
            None => self.operations.get(at.wrapping_sub(CRC_BYTES)).copied(),
        }
    }
}

impl Iterator for Encode<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        loop {
            match self.stage {
                Stage::Begin => {
                    self.stage = Stage::Distance;
                    return Some(0);
                }
                Stage::Distance => {
                    let run = (0..BLOCK_MAX)
                        .take_while(|n| self.content(self.at.wrapping_add(*n)).is_some_and(|byte| byte != 0))
                        .count();
                    self.stage = Stage::Block(run, run == BLOCK_MAX);
                    // Not above 255.
                    return Some(run.wrapping_add(1) as u8);
                }
                Stage::Block(0, full) => {
                    let at_end = self.content(self.at).is_none();
                    if !full && !at_end {
                        // The zero that the distance stands for.
                        self.at = self.at.wrapping_add(1);
                    }
                    if at_end {
                        self.stage = Stage::Over;
                        return Some(0);
                    }
                    self.stage = Stage::Distance;
                }
                Stage::Block(left, full) => {
                    let byte = self.content(self.at)?;
                    self.at = self.at.wrapping_add(1);
                    self.stage = Stage::Block(left.wrapping_sub(1), full);
                    return Some(byte);
                }
                Stage::Over => return None,
            }
        }
    }
}

/// What came of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Step {
    /// Nothing yet.
    More,
    /// The frame is whole and right: what the sink has is operations.
    Whole,
    /// The frame is damaged: what the sink has is worthless. So many bytes of the line are lost.
    Damaged(u32),
}

/// The bytes of frames become operations again. Holds no buffer: what may be operations goes to a sink, and is to be
/// believed when [`Step::Whole`] says so.
#[derive(Clone, Debug)]
pub struct Decode {
    /// Bytes until the next distance.
    left: u8,
    /// The distance stands for a zero.
    zero: bool,
    /// Bytes of the line since the last zero, and of those decoded.
    seen: u32,
    decoded: u32,
    expected: u32,
    crc: u32,
    broken: bool,
}

impl Default for Decode {
    fn default() -> Self {
        Self { left: 0, zero: false, seen: 0, decoded: 0, expected: 0, crc: START, broken: false }
    }
}

impl Decode {
    /// True if nothing of a frame is here yet.
    pub fn is_idle(&self) -> bool {
        self.seen == 0
    }

    /// Gives up the frame that has begun. How many bytes it had.
    pub fn abandon(&mut self) -> u32 {
        core::mem::take(self).seen
    }

    /// Takes a byte of the line. The caller empties the sink after [`Step::Whole`] and [`Step::Damaged`]; a frame that
    /// doesn't fit is damaged.
    pub fn byte(&mut self, byte: u8, out: &mut impl Sink) -> Step {
        if byte == 0 {
            let Self { left, seen, decoded, expected, crc, broken, .. } = core::mem::take(self);
            return match seen {
                0 => Step::More,
                _ if !broken && left == 0 && decoded > CRC_BYTES as u32 && !crc == expected => Step::Whole,
                _ => Step::Damaged(seen),
            };
        }
        self.seen = self.seen.saturating_add(1);
        if self.left == 0 {
            if self.zero {
                self.content(0, out);
            }
            self.left = byte.wrapping_sub(1);
            self.zero = byte != u8::MAX;
        } else {
            self.left = self.left.wrapping_sub(1);
            self.content(byte, out);
        }
        Step::More
    }

    fn content(&mut self, byte: u8, out: &mut impl Sink) {
        if self.decoded < CRC_BYTES as u32 {
            self.expected = (self.expected >> 8) | (u32::from(byte) << 24);
        } else if out.room() == 0 {
            self.broken = true;
        } else {
            self.crc = step(self.crc, byte);
            out.put(&[byte]);
        }
        self.decoded = self.decoded.saturating_add(1);
    }
}

const START: u32 = u32::MAX;
/// CRC-32C, four bits at a time: what each of them does to the rest. The polynomial is 0x1EDC6F41, its bits the other way
/// round.
#[rustfmt::skip]
static TABLE: [u32; 16] = [
    0x0000_0000, 0x105E_C76F, 0x20BD_8EDE, 0x30E3_49B1, 0x417B_1DBC, 0x5125_DAD3,
    0x61C6_9362, 0x7198_540D, 0x82F6_3B78, 0x92A8_FC17, 0xA24B_B5A6, 0xB215_72C9,
    0xC38D_26C4, 0xD3D3_E1AB, 0xE330_A81A, 0xF36E_6F75,
];

fn step(crc: u32, byte: u8) -> u32 {
    let half = |crc: u32| (crc >> 4) ^ TABLE.get((crc & 15) as usize).copied().unwrap_or_default();
    half(half(crc ^ u32::from(byte)))
}

fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(START, |crc, byte| step(crc, *byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::Slice;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    #[derive(Default)]
    struct Into(Vec<u8>, Option<usize>);

    impl Sink for Into {
        fn put(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }

        fn room(&self) -> usize {
            self.1.unwrap_or(usize::MAX) - self.0.len()
        }
    }

    /// What a reader makes of a line: frames, and how many were damaged.
    fn read(line: &[u8], room: usize) -> (Vec<Vec<u8>>, usize) {
        let (mut decode, mut out) = (Decode::default(), Into(Vec::new(), Some(room)));
        let (mut frames, mut damaged) = (Vec::new(), 0);
        for byte in line {
            match decode.byte(*byte, &mut out) {
                Step::More => {}
                Step::Whole => frames.push(core::mem::take(&mut out.0)),
                Step::Damaged(bytes) => {
                    assert!(bytes > 0);
                    out.0.clear();
                    damaged += 1;
                }
            }
        }
        (frames, damaged)
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(checksum(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_frame_as_it_stands_on_the_line() {
        let frame: Vec<_> = Encode::new(b"PING\r\n").collect();
        let crc = checksum(b"PING\r\n").to_le_bytes();
        assert_eq!(frame, [&[0, 11], &crc[..], b"PING\r\n", &[0]].concat());
        assert_eq!(frame.len(), 6 + OVERHEAD);
    }

    #[test]
    fn a_frame_that_does_not_fit_is_damaged() {
        let line: Vec<_> = Encode::new(&[b'x'; 100]).chain(Encode::new(b"PING\r\n")).collect();
        assert_eq!(read(&line, 99), (vec![b"PING\r\n".to_vec()], 1));
        assert_eq!(read(&line, 100).1, 0);
        let mut buffer = [0; 6];
        let (mut decode, mut out) = (Decode::default(), Slice::new(&mut buffer));
        for byte in Encode::new(b"PING\r\n") {
            decode.byte(byte, &mut out);
        }
        assert_eq!(out.written().unwrap(), b"PING\r\n");
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives(
            frames in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 1..600), 0..4)
        ) {
            let line: Vec<u8> = frames.iter().flat_map(|frame| Encode::new(frame)).collect();
            let zeros = line.iter().filter(|byte| **byte == 0).count();
            prop_assert_eq!(zeros, frames.len() * 2);
            prop_assert_eq!(read(&line, usize::MAX), (frames, 0));
        }

        /// A damaged frame is never delivered in another shape, and costs itself alone, and the next if the zeros
        /// between them are gone.
        #[test]
        fn noise_costs_frames_and_forges_none(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 3..6),
            at in any::<prop::sample::Index>(), flip in 1..=255u8, drop in any::<bool>(),
        ) {
            let mut line: Vec<u8> = frames.iter().flat_map(|frame| Encode::new(frame)).collect();
            let at = at.index(line.len());
            if drop {
                line.remove(at);
            } else {
                line[at] ^= flip;
            }
            let (heard, _) = read(&line, usize::MAX);
            prop_assert!(heard.len() + 1 >= frames.len());
            let mut sent = frames.iter();
            for frame in &heard {
                prop_assert!(sent.any(|sent| sent == frame), "forged: {:?}", frame);
            }
        }

        #[test]
        fn any_bytes_are_survived(line in proptest::collection::vec(any::<u8>(), 0..2000), room in 0..300usize) {
            read(&line, room);
        }
    }
}
