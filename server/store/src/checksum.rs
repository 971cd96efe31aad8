//! Checksums know where they belong: bytes that are right in the wrong place are wrong.

/// What every checksum in a segment starts from. Made of the segment's salt and number, so that what an earlier life of
/// the file left behind, or a write that went astray, doesn't pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(store: u64, segment: u64, salt: u64) -> Self {
        let seed = crc32c::crc32c(&store.to_le_bytes());
        let seed = crc32c::crc32c_append(seed, &segment.to_le_bytes());
        Self(crc32c::crc32c_append(seed, &salt.to_le_bytes()))
    }

    /// CRC-32C over the seed, the offset in the file, and the bytes.
    pub(crate) fn sum(self, offset: u64, parts: &[&[u8]]) -> u32 {
        let start = crc32c::crc32c_append(self.0, &offset.to_le_bytes());
        parts.iter().fold(start, |sum, part| crc32c::crc32c_append(sum, part))
    }
}

/// `N` bytes at `at`; zeros where there are none.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        array.copy_from_slice(found);
    }
    array
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}
