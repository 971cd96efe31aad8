//! The functions of the library of this name, without what they compute.

/// Always the same.
pub fn crc32c(_: &[u8]) -> u32 {
    0
}

/// Always the same.
pub fn crc32c_append(_: u32, _: &[u8]) -> u32 {
    0
}
