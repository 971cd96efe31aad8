//! Logins with an nkey: an Ed25519 key that never leaves the device. Feature `nkey`.

use midge_protocol::client::{Login, Server};
use salty::Keypair;

/// A user's key pair.
pub struct UserKey {
    pair: Keypair,
    public: [u8; PUBLIC_LEN],
}

/// Why a text is no user's seed. Says nothing of the text: it is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SeedError;

impl core::fmt::Display for SeedError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no seed of a user: it begins with SU and has 58 characters")
    }
}

impl core::error::Error for SeedError {}

impl UserKey {
    /// Reads a seed as `nk -gen user` prints it: `SU…`, 58 characters.
    pub fn from_seed(seed: &str) -> Result<Self, SeedError> {
        let raw: [u8; 36] = base32_decode(seed.as_bytes()).ok_or(SeedError)?;
        let [first, second, seed @ .., low, high] = raw;
        let covered = raw.split_last_chunk::<2>().map(|(covered, _)| covered).ok_or(SeedError)?;
        // Two prefixes share the first ten bits: of a seed, and of what it is the seed of.
        let kind = (first & 7) << 5 | second >> 3;
        if first & 0xf8 != PREFIX_SEED
            || kind != PREFIX_USER
            || crc16(covered) != u16::from_le_bytes([low, high])
        {
            return Err(SeedError);
        }
        let pair = Keypair::from(&seed);
        let mut raw = [PREFIX_USER; 35];
        let (_, key) = raw.split_first_mut().ok_or(SeedError)?;
        key.iter_mut().zip(pair.public.as_bytes()).for_each(|(place, byte)| *place = *byte);
        let crc = raw.split_last_chunk::<2>().map(|(covered, _)| crc16(covered)).ok_or(SeedError)?;
        if let Some((_, place)) = raw.split_last_chunk_mut::<2>() {
            *place = crc.to_le_bytes();
        }
        let mut public = [0; PUBLIC_LEN];
        encode::<5>(&raw, BASE32, &mut public);
        Ok(Self { pair, public })
    }

    /// The public key, as servers are configured with it: `U…`, 56 characters.
    pub fn public(&self) -> &str {
        core::str::from_utf8(&self.public).unwrap_or_default()
    }

    /// Signs the nonce of a greeting. `None` if it had none.
    pub fn sign(&self, server: &Server) -> Option<Signature> {
        let nonce = server.nonce.bytes();
        if nonce.is_empty() {
            return None;
        }
        let mut text = [0; SIGNATURE_LEN];
        encode::<6>(&self.pair.sign(nonce).to_bytes(), BASE64URL, &mut text);
        Some(Signature { text })
    }

    /// The login that shows `signature`.
    pub fn login<'a>(&'a self, signature: &'a Signature) -> Login<'a> {
        Login::nkey(self.public(), core::str::from_utf8(&signature.text).unwrap_or_default())
    }
}

impl core::fmt::Debug for UserKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.public())
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for UserKey {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{}", self.public());
    }
}

/// The signature of a nonce, as CONNECT carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Signature {
    text: [u8; SIGNATURE_LEN],
}

const PREFIX_SEED: u8 = 18 << 3;
const PREFIX_USER: u8 = 20 << 3;
const PUBLIC_LEN: usize = 56;
const SIGNATURE_LEN: usize = 86;
const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Bytes as letters of `BITS` bits each, without padding.
fn encode<const BITS: u32>(bytes: &[u8], alphabet: &[u8], text: &mut [u8]) {
    let (mut bits, mut held, mut bytes) = (0u32, 0u32, bytes.iter());
    for place in text {
        if held < BITS {
            bits = bits << 8 | bytes.next().map_or(0, |byte| u32::from(*byte));
            held = held.wrapping_add(8);
        }
        held = held.wrapping_sub(BITS);
        let letter = bits >> held & 1u32.wrapping_shl(BITS).wrapping_sub(1);
        *place = alphabet.get(letter as usize).copied().unwrap_or(b'?');
    }
}

/// `N` bytes out of letters of five bits; `None` if there are others, or too few or many.
fn base32_decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (mut bits, mut held, mut text) = (0u32, 0u32, text.iter());
    let mut bytes = [0; N];
    for place in &mut bytes {
        while held < 8 {
            let letter = text.next()?;
            let value = BASE32.iter().position(|known| known == letter)?;
            bits = bits << 5 | value as u32;
            held = held.wrapping_add(5);
        }
        held = held.wrapping_sub(8);
        *place = (bits >> held) as u8;
    }
    text.next().is_none().then_some(bytes)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 },
        )
    })
}
