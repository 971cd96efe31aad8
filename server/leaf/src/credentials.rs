//! How this side proves to a hub who it is.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use midge_jwt::KeyPair;

/// A key, and the token that says whose it is, if there is one.
#[derive(Clone, Debug)]
pub struct Key {
    pair: KeyPair,
    /// The user's token; `None`: the key itself is the user.
    token: Option<Token>,
}

/// A token, which stays out of logs.
#[derive(Clone)]
struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What is said in CONNECT of who this is.
#[derive(Clone, Default)]
pub struct Credentials {
    /// A key that signs what the hub gives.
    pub key: Option<Key>,
    /// A user.
    pub user: Option<String>,
    /// Their password. A user without one is a token, too.
    pub password: Option<String>,
}

/// Why credentials can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsError {
    /// Not a token and a seed between lines of dashes.
    Malformed,
    /// What stands where the seed belongs is none.
    Seed,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "Credentials file malformed",
            Self::Seed => "Credentials file has malformed seed",
        })
    }
}

impl Key {
    /// Reads what is written in a credentials file: a token and a seed, each between two lines of dashes.
    pub fn from_file(text: &str) -> Result<Self, CredentialsError> {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        let is_border = |line: &str| line.starts_with("---") && line.ends_with("---");
        let is_content = |line: &str| {
            !line.is_empty()
                && line.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.=".contains(&b))
                && !is_border(line)
        };
        let mut blocks = lines.windows(3).filter_map(|lines| match lines {
            [before, content, after] if is_border(before) && is_border(after) && is_content(content) => {
                Some(*content)
            }
            _ => None,
        });
        let (Some(token), Some(seed)) = (blocks.next(), blocks.next()) else {
            return Err(CredentialsError::Malformed);
        };
        Ok(Self { token: Some(Token(token.to_owned())), ..Self::from_seed(seed)? })
    }

    /// Reads a user's seed.
    pub fn from_seed(seed: &str) -> Result<Self, CredentialsError> {
        let pair = KeyPair::from_seed(seed).map_err(|_| CredentialsError::Seed)?;
        Ok(Self { pair, token: None })
    }

    /// The token, if there is one.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.0.as_str())
    }

    /// The public key, where no token names it.
    pub(crate) fn public(&self) -> Option<String> {
        self.token.is_none().then(|| self.pair.public().to_string())
    }

    /// What CONNECT carries for a hub's `nonce`.
    pub(crate) fn sign(&self, nonce: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.sign(nonce.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use midge_jwt::Kind;

    #[test]
    fn a_file_holds_a_token_and_a_seed() {
        let pair = KeyPair::new(Kind::User, &[7; 32]);
        let file = format!(
            "-----BEGIN NATS USER JWT-----\ney.J0-_.x=\n------END NATS USER JWT------\n\n*** note ***\n\n\
             -----BEGIN USER NKEY SEED-----\r\n{}\n------END USER NKEY SEED------\n",
            pair.seed()
        );
        let key = Key::from_file(&file).unwrap();
        assert_eq!((key.token(), key.public()), (Some("ey.J0-_.x="), None));
        let signature = URL_SAFE_NO_PAD.decode(key.sign("nonce")).unwrap();
        assert!(pair.public().verify(b"nonce", &signature));
        assert!(!format!("{key:?}").contains("ey.J0"));
        assert_eq!(Key::from_seed(&pair.seed()).unwrap().public().unwrap(), pair.public().to_string());
    }

    #[test]
    fn what_is_no_file() {
        for text in ["", "---a---\nx\n---b---\n", "nothing\nat\nall"] {
            assert_eq!(Key::from_file(text).unwrap_err(), CredentialsError::Malformed);
        }
        let no_seed = "---a---\nx\n---b---\n---a---\nSUX\n---b---\n";
        assert_eq!(Key::from_file(no_seed).unwrap_err(), CredentialsError::Seed);
    }
}
