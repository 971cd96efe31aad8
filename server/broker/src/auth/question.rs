//! What a check can't find out while others wait for the broker.

use std::fmt;

use midge_jwt::PublicKey;

/// Something that takes a while to find out: [`Question::answer`] does, wherever that holds up nobody else.
#[derive(Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether `secret` belongs to `hash`, a bcrypt hash. Tenths of a second on a small board.
    Password {
        /// The configured hash.
        hash: String,
        /// What the peer sent.
        secret: String,
    },
    /// Whether `signature` is that of `message` by the owner of `key`. Half a millisecond on a small board.
    Signature {
        /// Whose signature it should be.
        key: PublicKey,
        /// What should be signed.
        message: Vec<u8>,
        /// What the peer sent.
        signature: Vec<u8>,
    },
}

/// What came of a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
}

impl Question {
    /// Finds out. Needs nothing but the processor.
    pub fn answer(&self) -> Answer {
        let yes = match self {
            // A hash that can't be read matches nothing.
            Self::Password { hash, secret } => bcrypt::verify(secret, hash).unwrap_or(false),
            Self::Signature { key, message, signature } => key.verify(message, signature),
        };
        if yes { Answer::Yes } else { Answer::No }
    }
}

impl fmt::Debug for Question {
    /// Never a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { .. } => f.write_str("Password"),
            Self::Signature { key, .. } => write!(f, "Signature({key})"),
        }
    }
}

/// What is known already: questions and their answers. An answer counts for exactly the question that was asked, so
/// nothing that changed meanwhile is taken for checked.
pub(crate) type Known = Vec<(Question, Answer)>;
