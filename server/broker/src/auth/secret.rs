//! Passwords and tokens: secrets that both sides know.

/// What a password or token is compared with.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The text itself.
    Plain(String),
    /// A bcrypt hash, `$2a$…`.
    Bcrypt(String),
}

impl Secret {
    /// As a configuration gives it: bcrypt if it looks like it, as nats-server decides.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let bytes = text.as_bytes();
        let is_hash = bytes.len() > 7
            && bytes.starts_with(b"$2")
            && b"abxy".contains(&bytes[2])
            && bytes[3] == b'$'
            && bytes[4].is_ascii_digit()
            && bytes[5].is_ascii_digit()
            && bytes[6] == b'$';
        if is_hash { Self::Bcrypt(text) } else { Self::Plain(text) }
    }
}

impl std::fmt::Debug for Secret {
    /// Never the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// Compares in a time that tells only the length.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
