//! Short names of long ones. Source: nats-server's `getHash`.

use sha2::{Digest, Sha256};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Eight letters and digits.
pub(crate) fn short(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| char::from(DIGITS[usize::from(byte % 62)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_that_of_nats_server() {
        // What stands for the account that everybody is in, in the subjects of acks.
        assert_eq!(short("$G"), "szMpdrwD");
    }
}
