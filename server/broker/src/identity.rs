//! The name that a server gives itself at each start.

/// A server id in the form of a public server nkey: 56 characters, `N` first, a checksum at the end. Clients compare
/// ids, tools check their form. `seed` should be random.
///
/// Form: nkeys' encoding, base32 (RFC 4648, no padding) over prefix byte, 32 bytes, CRC-16/XMODEM little-endian.
pub fn server_id(seed: [u8; 32]) -> String {
    /// 'N' in base32's first five bits.
    const PREFIX_SERVER: u8 = 13 << 3;
    let mut raw = Vec::with_capacity(35);
    raw.push(PREFIX_SERVER);
    raw.extend_from_slice(&seed);
    let crc =
        raw.iter().fold(0u16, |crc, byte| {
            (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            })
        });
    raw.extend_from_slice(&crc.to_le_bytes());

    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    raw.chunks(5)
        .flat_map(|five| {
            let bits = five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            (0..8).map(move |i| char::from(ALPHABET[(bits >> (35 - 5 * i) & 31) as usize]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_form_of_a_server_key() {
        let id = server_id([7; 32]);
        assert_eq!((id.len(), &id[..1]), (56, "N"));
        assert_ne!(id, server_id([8; 32]));
    }
}
