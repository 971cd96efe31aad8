//! Messages that only one other can read: NaCl's box, in the form of nats-io's `xkeys`.
//!
//! ```text
//! xkv1 | nonce (24 bytes) | XSalsa20-Poly1305 under the key that X25519 makes of both sides'
//! ```

use std::fmt;

use crypto_box::aead::Aead;
use crypto_box::{SalsaBox, SecretKey};
use curve25519_dalek::constants::X25519_BASEPOINT;

use crate::nkey::{Kind, PublicKey};

const VERSION: &[u8] = b"xkv1";
const NONCE_BYTES: usize = 24;

/// A key for sealed messages. Its memory is overwritten when it is dropped.
#[derive(Clone)]
pub struct CurveKey(SecretKey);

impl CurveKey {
    /// The key of 32 random bytes.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(SecretKey::from(seed))
    }

    /// The key that the others know it by. As slow as a signature.
    pub fn public(&self) -> PublicKey {
        // As `SecretKey::public_key`, which is faster by a table of 30 kB.
        PublicKey::new(Kind::Curve, X25519_BASEPOINT.mul_clamped(self.0.to_bytes()).to_bytes())
    }

    /// Seals a message for `to`. `nonce` must never be used twice. `None` if `to` is no curve key. As slow as a signature.
    pub fn seal(&self, message: &[u8], to: &PublicKey, nonce: [u8; NONCE_BYTES]) -> Option<Vec<u8>> {
        let sealed = self.with(to)?.encrypt(&nonce.into(), message).ok()?;
        Some([VERSION, &nonce, &sealed].concat())
    }

    /// What `from` sealed for this key. As slow as a signature.
    pub fn open(&self, sealed: &[u8], from: &PublicKey) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.strip_prefix(VERSION)?.split_first_chunk::<NONCE_BYTES>()?;
        self.with(from)?.decrypt(&(*nonce).into(), sealed).ok()
    }

    fn with(&self, other: &PublicKey) -> Option<SalsaBox> {
        (other.kind() == Kind::Curve).then(|| SalsaBox::new(&(*other.bytes()).into(), &self.0))
    }
}

impl fmt::Debug for CurveKey {
    /// Never the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CurveKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyPair, Kind};

    #[test]
    fn only_the_other_reads_it() {
        let (one, other, third) = (CurveKey::new([1; 32]), CurveKey::new([2; 32]), CurveKey::new([3; 32]));
        let mut sealed = one.seal(b"hello", &other.public(), [7; 24]).unwrap();
        assert_eq!(other.open(&sealed, &one.public()).as_deref(), Some(&b"hello"[..]));
        assert_eq!(third.open(&sealed, &one.public()), None);
        assert_eq!(other.open(&sealed, &third.public()), None);
        *sealed.last_mut().unwrap() ^= 1;
        assert_eq!(other.open(&sealed, &one.public()), None);
        for short in [&b""[..], b"xkv1", b"xkv2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert_eq!(other.open(short, &one.public()), None);
        }
        let user = KeyPair::new(Kind::User, &[1; 32]).public();
        assert_eq!(one.seal(b"hello", &user, [7; 24]), None);
        assert!(
            one.public().to_string().starts_with('X') && PublicKey::parse(&one.public().to_string()).is_ok()
        );
    }
}
