//! One message as it lies in a frame. FORMAT.md draws it.

use crate::checksum::{Seed, u16_at, u32_at, u64_at};

/// Bytes before the subject.
pub(crate) const HEAD: usize = 48;
/// Records start at multiples of this.
pub(crate) const ALIGN: usize = 8;
const MAGIC: u8 = 0xC7;

/// What stands before subject, headers and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) stream: u32,
    pub(crate) seq: u64,
    pub(crate) time: i64,
    /// 0: never.
    pub(crate) expires: i64,
    pub(crate) subject_len: u16,
    pub(crate) headers_len: u32,
    pub(crate) payload_len: u32,
}

impl Head {
    pub(crate) fn body_len(&self) -> u64 {
        u64::from(self.subject_len) + u64::from(self.headers_len) + u64::from(self.payload_len)
    }

    /// Of the whole record, with what pads it.
    pub(crate) fn len(&self) -> u64 {
        (HEAD as u64 + self.body_len()).next_multiple_of(ALIGN as u64)
    }

    /// What the message counts for in a stream's limits: nats-server's formula for its file store.
    pub(crate) fn size(&self) -> u32 {
        let headers = if self.headers_len == 0 { 0 } else { 4 + u64::from(self.headers_len) };
        u32::try_from(30 + u64::from(self.subject_len) + headers + u64::from(self.payload_len))
            .unwrap_or(u32::MAX)
    }

    /// Reads a head without asking its checksums: for bytes that never left memory.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.get(..HEAD).map(Self::decode)
    }

    fn encode(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[8] = MAGIC;
        bytes[10..12].copy_from_slice(&self.subject_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.stream.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.seq.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.time.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.headers_len.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.expires.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        Self {
            subject_len: u16_at(bytes, 10),
            stream: u32_at(bytes, 12),
            seq: u64_at(bytes, 16),
            time: u64_at(bytes, 24).cast_signed(),
            headers_len: u32_at(bytes, 32),
            payload_len: u32_at(bytes, 36),
            expires: u64_at(bytes, 40).cast_signed(),
        }
    }
}

/// Appends a record whose checksums are filled in by [`seal`], when its place is known.
pub(crate) fn write(out: &mut Vec<u8>, head: &Head, subject: &[u8], headers: &[u8], payload: &[u8]) {
    out.extend_from_slice(&head.encode());
    out.extend_from_slice(subject);
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// Fills in the checksums of the record at the start of `bytes`; returns its length and them, or `None` if it isn't whole.
pub(crate) fn seal(bytes: &mut [u8], seed: Seed, offset: u64) -> Option<(usize, [u8; 8])> {
    let head = Head::decode(bytes.get(..HEAD)?);
    let len = usize::try_from(head.len()).ok()?;
    let body_end = HEAD + usize::try_from(head.body_len()).ok()?;
    let record = bytes.get_mut(..len)?;
    let body = seed.sum(offset, &[&record[8..body_end]]);
    record[4..8].copy_from_slice(&body.to_le_bytes());
    let sum = seed.sum(offset, &[&record[4..HEAD]]);
    record[0..4].copy_from_slice(&sum.to_le_bytes());
    Some((len, crate::checksum::array(record, 0)))
}

/// What was found where a record should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// All of it is as it was written. `repaired`: one bit of the head was wrong and is known.
    Whole { head: Head, repaired: bool },
    /// The head is right, so it is known what this was and where the next record is; the rest isn't right.
    Damaged(Head),
    /// Nothing can be said.
    Nothing,
}

/// Looks at the record at the start of `bytes`, which end where its frame's records do.
pub(crate) fn inspect(bytes: &[u8], seed: Seed, offset: u64) -> Found {
    let Some(head_bytes) = bytes.get(..HEAD) else { return Found::Nothing };
    let sum = seed.sum(offset, &[&head_bytes[4..]]);
    let stored = u32_at(head_bytes, 0);
    if sum == stored {
        let head = Head::decode(head_bytes);
        if head_bytes[8] != MAGIC || head.len() > bytes.len() as u64 {
            return Found::Nothing;
        }
        return match body_is_right(head_bytes, &head, bytes, seed, offset) {
            true => Found::Whole { head, repaired: false },
            false => Found::Damaged(head),
        };
    }
    // CRC-32C tells any two heads apart that differ in up to five bits, so at most one single bit explains this. The
    // checksum of the body, which covers the head, has to agree.
    let mut mended: [u8; HEAD] = crate::checksum::array(head_bytes, 0);
    if (sum ^ stored).count_ones() == 1 {
        let head = Head::decode(&mended);
        return match body_is_right(&mended, &head, bytes, seed, offset) {
            true => Found::Whole { head, repaired: true },
            false => Found::Nothing,
        };
    }
    for bit in 32..HEAD * 8 {
        mended[bit / 8] ^= 1 << (bit % 8);
        if seed.sum(offset, &[&mended[4..]]) == stored {
            let head = Head::decode(&mended);
            return match body_is_right(&mended, &head, bytes, seed, offset) {
                true => Found::Whole { head, repaired: true },
                false => Found::Nothing,
            };
        }
        mended[bit / 8] ^= 1 << (bit % 8);
    }
    Found::Nothing
}

fn body_is_right(head_bytes: &[u8], head: &Head, bytes: &[u8], seed: Seed, offset: u64) -> bool {
    let Ok(body_len) = usize::try_from(head.body_len()) else { return false };
    let Some(body) = bytes.get(HEAD..HEAD.saturating_add(body_len)) else { return false };
    head_bytes[8] == MAGIC && seed.sum(offset, &[&head_bytes[8..], body]) == u32_at(head_bytes, 4)
}

/// A record found among others: where it starts in the frame's records, and what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) at: usize,
    pub(crate) found: Found,
}

/// Walks the records of a frame. Where nothing can be said, it looks for the next place where something can; the first
/// of such places is reported once, as [`Found::Nothing`].
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    seed: Seed,
    base: u64,
    at: usize,
}

impl<'a> Walk<'a> {
    /// `base` is where `bytes` lie in the file.
    pub(crate) fn new(bytes: &'a [u8], seed: Seed, base: u64) -> Self {
        Self { bytes, seed, base, at: 0 }
    }
}

impl Iterator for Walk<'_> {
    type Item = At;

    fn next(&mut self) -> Option<At> {
        let at = self.at;
        if at >= self.bytes.len() {
            return None;
        }
        let found = inspect(&self.bytes[at..], self.seed, self.base + at as u64);
        match found {
            Found::Whole { head, .. } | Found::Damaged(head) => {
                self.at += usize::try_from(head.len()).unwrap_or(usize::MAX / 2)
            }
            Found::Nothing => {
                self.at += ALIGN;
                while self.at + HEAD <= self.bytes.len() {
                    let sum = self
                        .seed
                        .sum(self.base + self.at as u64, &[&self.bytes[self.at + 4..self.at + HEAD]]);
                    if sum == u32_at(self.bytes, self.at) {
                        return Some(At { at, found });
                    }
                    self.at += ALIGN;
                }
                self.at = self.bytes.len();
            }
        }
        Some(At { at, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<u8>, Head, Seed) {
        let head =
            Head { stream: 7, seq: 41, time: -5, expires: 0, subject_len: 3, headers_len: 0, payload_len: 9 };
        let mut bytes = Vec::new();
        write(&mut bytes, &head, b"a.b", b"", b"nine byte");
        let seed = Seed::new(1, 2, 3);
        assert_eq!(seal(&mut bytes, seed, 4_096).unwrap().0, bytes.len());
        (bytes, head, seed)
    }

    #[test]
    fn a_flipped_bit_of_the_head_is_mended_and_one_of_the_body_is_named() {
        let (bytes, head, seed) = sample();
        assert_eq!(inspect(&bytes, seed, 4_096), Found::Whole { head, repaired: false });
        for bit in 0..(HEAD + 12) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit < HEAD * 8 {
                true => Found::Whole { head, repaired: true },
                false => Found::Damaged(head),
            };
            assert_eq!(inspect(&flipped, seed, 4_096), expected, "bit {bit}");
        }
    }

    #[test]
    fn a_record_is_only_right_in_its_place() {
        let (bytes, _, seed) = sample();
        assert_eq!(inspect(&bytes, seed, 4_104), Found::Nothing);
        assert_eq!(inspect(&bytes, Seed::new(1, 2, 4), 4_096), Found::Nothing);
        assert_eq!(inspect(&bytes[..bytes.len() - 1], seed, 4_096), Found::Nothing);
    }
}
