//! The header of a segment: what this file is, in this life of it.
//!
//! Twice: at the start of page 0 and of page 1. Either is enough.

use crate::checksum::{Seed, array, u32_at, u64_at};

pub(crate) const LEN: usize = 64;
/// Pages before the first frame.
pub(crate) const PAGES: u32 = 2;
pub(crate) const VERSION: u8 = 2;
const MAGIC: [u8; 8] = *b"midgeseg";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Written by commits, in order. Starts with a checkpoint.
    Hot,
    /// Written by cleaning: what was alive of other segments. Counts only once a commit installed it.
    Cold,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) page_bytes: u32,
    pub(crate) pages: u32,
    pub(crate) store: u64,
    pub(crate) segment: u64,
    pub(crate) salt: u64,
    /// Number of the first frame in it.
    pub(crate) first_frame: u64,
}

impl Header {
    pub(crate) fn seed(&self) -> Seed {
        Seed::new(self.store, self.segment, self.salt)
    }

    /// Of the file, in full.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.page_bytes)
    }

    pub(crate) fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8] = VERSION;
        bytes[9] = match self.kind {
            Kind::Hot => 1,
            Kind::Cold => 2,
        };
        bytes[10] = self.page_bytes.trailing_zeros() as u8;
        bytes[12..16].copy_from_slice(&self.pages.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.store.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.segment.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.salt.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_frame.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..LEN)?;
        if bytes[0..8] != MAGIC
            || crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60)
            || bytes[8] != VERSION
            || !(9..=16).contains(&bytes[10])
        {
            return None;
        }
        let kind = match bytes[9] {
            1 => Kind::Hot,
            2 => Kind::Cold,
            _ => return None,
        };
        Some(Self {
            kind,
            page_bytes: 1 << bytes[10],
            pages: u32::from_le_bytes(array(bytes, 12)),
            store: u64_at(bytes, 16),
            segment: u64_at(bytes, 24),
            salt: u64_at(bytes, 32),
            first_frame: u64_at(bytes, 40),
        })
    }
}
