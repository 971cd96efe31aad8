//! Nkeys: ed25519 keys as text that says what they are for.
//!
//! ```text
//! base32 (RFC 4648, no padding) of   kind (1 byte) | key (32 bytes) | CRC-16/XMODEM, little-endian     56 characters
//! a seed has two bytes in front      18 << 3 | kind >> 5, kind << 3                                    58 characters
//! ```

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Accounts, `A…`.
    Account = 0,
    /// Clusters, `C…`.
    Cluster = 2 << 3,
    /// Servers, `N…`.
    Server = 13 << 3,
    /// Operators, `O…`.
    Operator = 14 << 3,
    /// Users, `U…`.
    User = 20 << 3,
    /// Curve keys, `X…`: for sealed messages, not for signatures.
    Curve = 23 << 3,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Account, Self::Cluster, Self::Server, Self::Operator, Self::User, Self::Curve];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKey;

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an nkey")
    }
}

impl std::error::Error for NotAKey {}

/// A key that everybody may know.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey {
    kind: Kind,
    bytes: [u8; 32],
}

impl PublicKey {
    /// A key of this kind.
    pub(crate) fn new(kind: Kind, bytes: [u8; 32]) -> Self {
        Self { kind, bytes }
    }

    /// Reads the text of a public key, of any kind.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let raw: [u8; 33] = unsum(text).ok_or(NotAKey)?;
        let [kind, bytes @ ..] = raw;
        Ok(Self { kind: Kind::from_byte(kind).ok_or(NotAKey)?, bytes })
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The key itself.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Whether `signature` is that of `message` by this key's owner. Slow, see the crate's documentation.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.kind != Kind::Curve
            && UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut raw = [0; 35];
        raw[0] = self.kind as u8;
        raw[1..33].copy_from_slice(&self.bytes);
        f.write_str(&sum(&mut raw))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// True if `text` is a public key of this kind.
pub fn is(text: &str, kind: Kind) -> bool {
    PublicKey::parse(text).is_ok_and(|key| key.kind == kind)
}

/// A key that signs. The seed is overwritten when it is dropped.
#[derive(Clone)]
pub struct KeyPair {
    public: PublicKey,
    seed: Zeroizing<[u8; 32]>,
    key: Arc<Ed25519KeyPair>,
}

impl KeyPair {
    /// The key of this kind that belongs to 32 random bytes. A curve key is no [`KeyPair`]: as such it signs what
    /// nobody accepts.
    pub fn new(kind: Kind, seed: &[u8; 32]) -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed is 32 bytes, any");
        let mut public = PublicKey { kind, bytes: [0; 32] };
        public.bytes.copy_from_slice(key.public_key().as_ref());
        Self { public, seed: Zeroizing::new(*seed), key: Arc::new(key) }
    }

    /// Reads the text of a seed, `S…`.
    pub fn from_seed(text: &str) -> Result<Self, NotAKey> {
        let (kind, seed) = parse_seed(text)?;
        Ok(Self::new(kind, &seed))
    }

    /// The text of the seed: the secret itself.
    pub fn seed(&self) -> String {
        seed_text(self.public.kind, &self.seed)
    }

    /// The key that the others know it by.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs. About half as slow as checking a signature.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.key.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for KeyPair {
    /// Never the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.public)
    }
}

/// The kind of a seed, and its 32 bytes.
pub(crate) fn parse_seed(text: &str) -> Result<(Kind, [u8; 32]), NotAKey> {
    let raw: [u8; 34] = unsum(text).ok_or(NotAKey)?;
    let [first, second, seed @ ..] = raw;
    if first & 0xf8 != SEED {
        return Err(NotAKey);
    }
    let kind = Kind::from_byte(first << 5 | second >> 3).ok_or(NotAKey)?;
    Ok((kind, seed))
}

pub(crate) fn seed_text(kind: Kind, seed: &[u8; 32]) -> String {
    let mut raw = [0; 36];
    raw[0] = SEED | kind as u8 >> 5;
    raw[1] = (kind as u8) << 3;
    raw[2..34].copy_from_slice(seed);
    sum(&mut raw)
}

/// 'S' in base32's first five bits.
const SEED: u8 = 18 << 3;

/// A signature as CONNECT carries it: base64url without padding, as libraries write it, or standard base64 with
/// padding, which nats-server takes as well.
pub fn signature(text: &str) -> Option<Vec<u8>> {
    const STANDARD: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        LENIENT.with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
    );
    base64url(text).or_else(|| STANDARD.decode(text).ok())
}

/// The bytes that base64url without padding stands for.
pub(crate) fn base64url(text: &str) -> Option<Vec<u8>> {
    const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    URL.decode(text).ok()
}

/// As Go reads base64: bits beyond the last byte don't matter.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::RequireNone);

/// Sets the last two bytes to the sum of the others, and spells all of them.
fn sum(raw: &mut [u8]) -> String {
    if let Some((body, tail)) = raw.split_last_chunk_mut() {
        *tail = crc16(body).to_le_bytes();
    }
    base32(raw)
}

/// The bytes that `text` spells, if there are as many as asked for and the two behind them are their sum.
fn unsum<const N: usize>(text: &str) -> Option<[u8; N]> {
    // The longest is a seed.
    let mut raw = [0; 36];
    let raw = raw.get_mut(..N + 2)?;
    unbase32(text.as_bytes(), raw)?;
    let (body, sum) = raw.split_last_chunk()?;
    (crc16(body) == u16::from_le_bytes(*sum)).then_some(body.try_into().ok()?)
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Base32 without padding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for five in bytes.chunks(5) {
        let bits =
            five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte)) << (8 * (5 - five.len()));
        let used = (five.len() * 8).div_ceil(5);
        text.extend((0..used).map(|i| char::from(ALPHABET[(bits >> (35 - 5 * i) & 31) as usize])));
    }
    text
}

/// Fills `out` with what `text` spells; `None` if that is more or less, or not base32.
fn unbase32(text: &[u8], out: &mut [u8]) -> Option<()> {
    if text.len() != (out.len() * 8).div_ceil(5) {
        return None;
    }
    let (mut bits, mut held) = (0u32, 0);
    let mut out = out.iter_mut();
    for letter in text {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'2'..=b'7' => letter - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            *out.next()? = (bits >> held & 0xff) as u8;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The user whose key is made of sevens.
    fn seven() -> KeyPair {
        KeyPair::new(Kind::User, &[7; 32])
    }

    #[test]
    fn agrees_with_the_library_that_clients_use() {
        let theirs = nkeys::KeyPair::new_user();
        let ours = KeyPair::from_seed(&theirs.seed().unwrap()).unwrap();
        assert_eq!(ours.public().to_string(), theirs.public_key());
        assert_eq!(ours.seed(), theirs.seed().unwrap());
        assert_eq!(ours.sign(b"nonce").to_vec(), theirs.sign(b"nonce").unwrap());
        assert!(is(&theirs.public_key(), Kind::User) && !is(&theirs.public_key(), Kind::Account));
    }

    #[test]
    fn secrets_are_not_shown() {
        let (pair, shown) = (seven(), format!("{:?}", seven()));
        assert!(!shown.contains(&pair.seed()) && shown.contains(&pair.public().to_string()));
    }

    #[test]
    fn first_letters_tell_the_kind() {
        let letters = Kind::ALL.map(|kind| KeyPair::new(kind, &[7; 32]).public().to_string().remove(0));
        assert_eq!(letters, ['A', 'C', 'N', 'O', 'U', 'X']);
    }

    #[test]
    fn no_keys() {
        let (public, seed) = (seven().public().to_string(), seven().seed());
        let wrong_sum = format!("{}{}", if public.starts_with("UB") { "UA" } else { "UB" }, &public[2..]);
        let wrong_kind = {
            let mut raw = [0; 35];
            raw[0] = 1 << 3;
            sum(&mut raw)
        };
        for text in ["", "U", &public[..54], &public.to_lowercase(), &wrong_sum, &wrong_kind, &seed] {
            assert_eq!(PublicKey::parse(text), Err(NotAKey), "{text}");
        }
        assert!(KeyPair::from_seed(&public).is_err());
    }

    #[test]
    fn only_the_owner_of_the_key_signs_so() {
        let (pair, other) = (seven(), KeyPair::new(Kind::User, &[1; 32]));
        let mut signature = pair.sign(b"nonce");
        assert!(pair.public().verify(b"nonce", &signature));
        assert!(!pair.public().verify(b"Nonce", &signature) && !other.public().verify(b"nonce", &signature));
        assert!(!pair.public().verify(b"nonce", &signature[..63]));
        signature[0] ^= 1;
        assert!(!pair.public().verify(b"nonce", &signature));
        let curve = KeyPair::new(Kind::Curve, &[1; 32]);
        assert!(!curve.public().verify(b"nonce", &curve.sign(b"nonce")));
    }

    #[test]
    fn signatures_come_in_two_spellings() {
        let bytes: Vec<u8> = (190..254).collect();
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes);
        let standard = base64::engine::general_purpose::STANDARD.encode(&bytes);
        assert_ne!(url, standard);
        assert_eq!(signature(&url).as_ref(), Some(&bytes));
        assert_eq!(signature(&standard).as_ref(), Some(&bytes));
        assert_eq!(signature(&format!("{url}==")), None, "padded, and of the other alphabet");
        assert_eq!(signature("?"), None);
    }

    proptest! {
        #[test]
        fn what_is_spelled_can_be_read(bytes: [u8; 32], kind in 0..6usize) {
            let pair = KeyPair::new(Kind::ALL[kind], &bytes);
            prop_assert_eq!(PublicKey::parse(&pair.public().to_string()), Ok(pair.public()));
            prop_assert_eq!(KeyPair::from_seed(&pair.seed()).unwrap().public(), pair.public());
        }

        #[test]
        fn any_text_is_a_key_or_not(text in "[A-Z2-7]{50,60}|.{0,60}") {
            let _ = (PublicKey::parse(&text), KeyPair::from_seed(&text), signature(&text));
        }
    }
}
