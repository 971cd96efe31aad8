//! One message as it lies in a frame. FORMAT.md draws it.

use crate::checksum::{Seed, u16_at, u32_at, u64_at};

/// Bytes before the subject, at most.
pub(crate) const HEAD: usize = 48;
/// The same in most messages, which have no headers, don't expire and have a sequence below 2^32: those fields aren't there.
pub(crate) const HEAD_SHORT: usize = 32;
/// Records start at multiples of this.
pub(crate) const ALIGN: usize = 8;

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

    fn shape(&self) -> Shape {
        let headers = if self.headers_len > 0 { Shape::HEADERS } else { 0 };
        let high = if self.seq > u64::from(u32::MAX) { Shape::HIGH } else { 0 };
        let expires = if self.expires != 0 { Shape::EXPIRES } else { 0 };
        Shape(headers | high | expires)
    }

    /// Of itself: where the subject starts.
    pub(crate) fn head_len(&self) -> usize {
        self.shape().len()
    }

    /// Of the whole record, with what pads it.
    pub(crate) fn len(&self) -> u64 {
        (self.head_len() as u64 + self.body_len()).next_multiple_of(ALIGN as u64)
    }

    /// What the message counts for in a stream's limits: nats-server's formula for its file store.
    pub(crate) fn size(&self) -> u32 {
        let headers = if self.headers_len == 0 { 0 } else { 4 + u64::from(self.headers_len) };
        u32::try_from(30 + u64::from(self.subject_len) + headers + u64::from(self.payload_len))
            .unwrap_or(u32::MAX)
    }

    /// Reads a head without asking its checksums: for bytes that never left memory.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let shape = Shape::of(*bytes.get(8)?)?;
        Self::decode(shape, bytes.get(..shape.len())?)
    }

    /// Appends itself.
    fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; HEAD_SHORT];
        let shape = self.shape();
        bytes[8] = shape.byte();
        bytes[10..12].copy_from_slice(&self.subject_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.stream.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.seq.to_le_bytes()[..4]);
        bytes[24..32].copy_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&bytes);
        if shape.has(Shape::HEADERS) {
            out.extend_from_slice(&self.headers_len.to_le_bytes());
        }
        if shape.has(Shape::HIGH) {
            out.extend_from_slice(&self.seq.to_le_bytes()[4..]);
        }
        if shape.has(Shape::EXPIRES) {
            out.extend_from_slice(&self.expires.to_le_bytes());
        }
    }

    /// Of exactly a head's bytes. `None` if they can't be one: no field is there for nothing.
    fn decode(shape: Shape, bytes: &[u8]) -> Option<Self> {
        let mut at = HEAD_SHORT;
        let mut next = |flag: u8, len: usize| {
            let field = shape.has(flag).then_some(at);
            at += if field.is_some() { len } else { 0 };
            field
        };
        let headers = next(Shape::HEADERS, 4);
        let high = next(Shape::HIGH, 4);
        let expires = next(Shape::EXPIRES, 8);
        let head = Self {
            subject_len: u16_at(bytes, 10),
            stream: u32_at(bytes, 12),
            payload_len: u32_at(bytes, 16),
            seq: u64::from(u32_at(bytes, 20)) | high.map_or(0, |at| u64::from(u32_at(bytes, at)) << 32),
            time: u64_at(bytes, 24).cast_signed(),
            headers_len: headers.map_or(0, |at| u32_at(bytes, at)),
            expires: expires.map_or(0, |at| u64_at(bytes, at).cast_signed()),
        };
        (head.shape() == shape).then_some(head)
    }
}

/// Which fields a head has beyond those that all have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape(u8);

impl Shape {
    const HEADERS: u8 = 1;
    /// The upper half of the sequence.
    const HIGH: u8 = 2;
    const EXPIRES: u8 = 4;

    /// With a bit that makes their number even: no flipped bit makes one shape of another.
    fn byte(self) -> u8 {
        0xD0 | self.0 | ((self.0.count_ones() as u8 & 1) << 3)
    }

    fn of(byte: u8) -> Option<Self> {
        let shape = Self(byte & 7);
        (shape.byte() == byte).then_some(shape)
    }

    fn all() -> impl Iterator<Item = Self> {
        (0..8).map(Self)
    }

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn len(self) -> usize {
        let field = |flag, len| if self.has(flag) { len } else { 0 };
        HEAD_SHORT + field(Self::HEADERS, 4) + field(Self::HIGH, 4) + field(Self::EXPIRES, 8)
    }
}

/// Appends a record whose checksums are filled in by [`seal`], when its place is known.
pub(crate) fn write(out: &mut Vec<u8>, head: &Head, subject: &[u8], headers: &[u8], payload: &[u8]) {
    head.encode(out);
    out.extend_from_slice(subject);
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// Fills in the checksums of the record at the start of `bytes`; returns its length and them, or `None` if it isn't whole.
pub(crate) fn seal(bytes: &mut [u8], seed: Seed, offset: u64) -> Option<(usize, [u8; 8])> {
    let head = Head::read(bytes)?;
    let len = usize::try_from(head.len()).ok()?;
    let body_end = head.head_len() + usize::try_from(head.body_len()).ok()?;
    let record = bytes.get_mut(..len)?;
    let body = seed.sum(offset, &[&record[8..body_end]]);
    record[4..8].copy_from_slice(&body.to_le_bytes());
    let sum = seed.sum(offset, &[&record[4..head.head_len()]]);
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

/// The head of the record at the start of `bytes`, if all that it says of itself and its body is as it was written. One
/// checksum over both tells that; what else can be said of a record that fails is [`inspect`]'s to find out.
#[inline]
pub(crate) fn check(bytes: &[u8], seed: Seed, offset: u64) -> Option<Head> {
    let head = Head::read(bytes)?;
    let end = head.head_len().checked_add(usize::try_from(head.body_len()).ok()?)?;
    let sum = seed.sum(offset, &[bytes.get(8..end)?]);
    (sum == u32_at(bytes, 4) && head.len() <= bytes.len() as u64).then_some(head)
}

/// Looks at the record at the start of `bytes`, which end where its frame's records do.
pub(crate) fn inspect(bytes: &[u8], seed: Seed, offset: u64) -> Found {
    if head_is_right(bytes, seed, offset)
        && let Some(head) = Head::read(bytes)
    {
        if head.len() > bytes.len() as u64 {
            return Found::Nothing;
        }
        return match body_is_right(&bytes[..head.head_len()], &head, bytes, seed, offset) {
            true => Found::Whole { head, repaired: false },
            false => Found::Damaged(head),
        };
    }
    let mended = Shape::all().find_map(|shape| mend(shape, bytes, seed, offset));
    mended.map_or(Found::Nothing, |head| Found::Whole { head, repaired: true })
}

/// Whether there is a head at the start of `bytes` that is as it was written.
fn head_is_right(bytes: &[u8], seed: Seed, offset: u64) -> bool {
    let shape = bytes.get(8).copied().and_then(Shape::of);
    shape.and_then(|shape| bytes.get(..shape.len())).is_some_and(|head| {
        let sum = seed.sum(offset, &[&head[4..]]);
        sum == u32_at(head, 0)
    })
}

/// What the head was if it had this shape and one bit of it is wrong. CRC-32C tells any two heads apart that differ in up to
/// five bits, so at most one single bit explains it. The checksum of the body, which covers the head, has to agree.
fn mend(shape: Shape, bytes: &[u8], seed: Seed, offset: u64) -> Option<Head> {
    let mut head_bytes = [0; HEAD];
    let head_bytes = &mut head_bytes[..shape.len()];
    head_bytes.copy_from_slice(bytes.get(..shape.len())?);
    if (head_bytes[8] ^ shape.byte()).count_ones() > 1 {
        return None;
    }
    let stored = u32_at(head_bytes, 0);
    let in_the_sum = (seed.sum(offset, &[&head_bytes[4..]]) ^ stored).count_ones() == 1;
    if !in_the_sum {
        let bit = (32..head_bytes.len() * 8).find(|bit| {
            head_bytes[bit / 8] ^= 1 << (bit % 8);
            let right = seed.sum(offset, &[&head_bytes[4..]]) == stored;
            head_bytes[bit / 8] ^= 1 << (bit % 8);
            right
        })?;
        head_bytes[bit / 8] ^= 1 << (bit % 8);
    }
    let head = Head::decode(shape, head_bytes)?;
    (head_bytes[8] == shape.byte() && body_is_right(head_bytes, &head, bytes, seed, offset)).then_some(head)
}

fn body_is_right(head_bytes: &[u8], head: &Head, bytes: &[u8], seed: Seed, offset: u64) -> bool {
    let Ok(body_len) = usize::try_from(head.body_len()) else { return false };
    let start = head_bytes.len();
    let Some(body) = bytes.get(start..start.saturating_add(body_len)) else { return false };
    seed.sum(offset, &[&head_bytes[8..], body]) == u32_at(head_bytes, 4)
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
                while let Some(rest) = self.bytes.get(self.at..).filter(|rest| rest.len() >= HEAD_SHORT) {
                    if head_is_right(rest, self.seed, self.base + self.at as u64) {
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

    fn sample(shape: Shape) -> (Vec<u8>, Head, Seed) {
        let head = Head {
            stream: 7,
            seq: if shape.has(Shape::HIGH) { 41 << 30 } else { 41 },
            time: -5,
            expires: if shape.has(Shape::EXPIRES) { i64::MIN } else { 0 },
            subject_len: 3,
            headers_len: if shape.has(Shape::HEADERS) { 2 } else { 0 },
            payload_len: 9,
        };
        let mut bytes = Vec::new();
        write(&mut bytes, &head, b"a.b", &b"hh"[..head.headers_len as usize], b"nine byte");
        assert_eq!(bytes.len() as u64, head.len());
        let seed = Seed::new(1, 2, 3);
        assert_eq!(seal(&mut bytes, seed, 4_096).unwrap().0, bytes.len());
        (bytes, head, seed)
    }

    #[test]
    fn a_flipped_bit_of_the_head_is_mended_and_one_of_the_body_is_named() {
        for shape in Shape::all() {
            let (bytes, head, seed) = sample(shape);
            assert_eq!(inspect(&bytes, seed, 4_096), Found::Whole { head, repaired: false });
            assert_eq!((head.shape(), Head::read(&bytes)), (shape, Some(head)));
            let head_len = shape.len();
            for bit in 0..(head_len + 12) * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let expected = match bit < head_len * 8 {
                    true => Found::Whole { head, repaired: true },
                    false => Found::Damaged(head),
                };
                assert_eq!(inspect(&flipped, seed, 4_096), expected, "{shape:?}, bit {bit}");
            }
        }
    }

    #[test]
    fn most_heads_are_short() {
        assert_eq!(Shape(0).len(), HEAD_SHORT);
        assert_eq!(Shape(7).len(), HEAD);
        for (one, other) in Shape::all().flat_map(|one| Shape::all().map(move |other| (one, other))) {
            let apart = (one.byte() ^ other.byte()).count_ones();
            assert!(one == other || apart >= 2, "{one:?} {other:?}");
            assert_eq!(Shape::of(one.byte()), Some(one));
        }
    }

    #[test]
    fn a_record_is_only_right_in_its_place() {
        let (bytes, _, seed) = sample(Shape(0));
        assert_eq!(inspect(&bytes, seed, 4_104), Found::Nothing);
        assert_eq!(inspect(&bytes, Seed::new(1, 2, 4), 4_096), Found::Nothing);
        assert_eq!(inspect(&bytes[..bytes.len() - 1], seed, 4_096), Found::Nothing);
    }
}
