//! Who the server is, anew at each start.

use std::fmt;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use midge_jwt::{KeyPair, Kind};
use sha2::{Digest, Sha256};

/// What a server makes up at each start and keeps to itself: the key behind its id, and the secret behind its nonces.
pub struct ServerKeys {
    server: KeyPair,
    nonces: [u8; 32],
    /// The public key that services seal their answers for, from the first time that somebody is told.
    xkey: OnceLock<String>,
}

impl ServerKeys {
    /// The keys that belong to 32 random bytes, which nobody else may know.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            server: KeyPair::new(Kind::Server, &derive(&seed, b"server")),
            nonces: derive(&seed, b"nonces"),
            xkey: OnceLock::new(),
        }
    }

    /// The server's id: its public key, 56 characters, `N` first. Clients compare ids, tools check their form.
    pub fn id(&self) -> String {
        self.server.public().to_string()
    }

    /// The key behind the id.
    pub(crate) fn server(&self) -> &KeyPair {
        &self.server
    }

    /// The key that services seal their answers for, as INFO has it.
    pub(crate) fn xkey(&self) -> &str {
        self.xkey.get_or_init(|| self.curve().public().to_string())
    }

    /// A secret for another purpose.
    pub(crate) fn derived(&self, what: &[u8]) -> [u8; 32] {
        derive(&self.nonces, what)
    }

    /// What connection `cid` must sign, 15 characters. Made from the number, so that nobody has to remember it; as
    /// long as numbers are not used twice, neither are nonces.
    pub(crate) fn nonce(&self, cid: u64) -> String {
        let hash = derive(&self.nonces, &cid.to_le_bytes());
        URL_SAFE_NO_PAD.encode(&hash[..NONCE_BYTES])
    }
}

/// As many as nats-server takes.
const NONCE_BYTES: usize = 11;

fn derive(secret: &[u8; 32], what: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(secret).chain_update(what).finalize().into()
}

impl Default for ServerKeys {
    /// Keys that everybody knows, for settings that nobody runs with.
    fn default() -> Self {
        Self::new([0; 32])
    }
}

impl fmt::Debug for ServerKeys {
    /// Never the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerKeys({})", self.server.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differ_with_the_seed() {
        let (one, other) = (ServerKeys::new([7; 32]), ServerKeys::new([8; 32]));
        assert_eq!((one.id().len(), &one.id()[..1]), (56, "N"));
        assert_ne!(one.id(), other.id());
        assert_eq!((one.nonce(1), one.nonce(1).len()), (one.nonce(1), 15));
        assert!(one.nonce(1) != one.nonce(2) && one.nonce(1) != other.nonce(1));
    }
}
