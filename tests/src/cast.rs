//! Who plays in a script: keys, and what they sign. Made at the start of a play, and the same each time but for the
//! times that are written into tokens.

use std::collections::HashMap;
use std::time::Duration;

use midge_jwt::{KeyPair, Kind};

/// A name that a script declares.
#[derive(Debug, Clone)]
pub enum Role {
    /// `key NAME KIND`: a key of this kind, made from its name.
    Key {
        /// How the script calls it.
        name: String,
        /// What it is for.
        kind: Kind,
    },
}

impl Role {
    /// Reads what stands behind `key`.
    pub fn key(text: &str) -> Result<Self, String> {
        let (name, kind) = text.trim().split_once(' ').ok_or("expected `key NAME KIND`")?;
        let kind = match kind.trim() {
            "account" => Kind::Account,
            "curve" => Kind::Curve,
            "operator" => Kind::Operator,
            "server" => Kind::Server,
            "user" => Kind::User,
            other => return Err(format!("there are no keys for a `{other}`")),
        };
        Ok(Self::Key { name: name.into(), kind })
    }
}

/// All that a play's names stand for.
#[derive(Debug, Default)]
pub(crate) struct Cast {
    keys: HashMap<String, KeyPair>,
    /// The start of the play, since the Unix epoch.
    now: Duration,
}

impl Cast {
    /// Makes everything that `roles` declare.
    pub(crate) fn new(roles: &[Role], now: Duration) -> Result<Self, String> {
        let mut cast = Self { now, ..Self::default() };
        for role in roles {
            match role {
                Role::Key { name, kind } => {
                    cast.keys.insert(name.clone(), KeyPair::new(*kind, &seed(name)));
                }
            }
        }
        Ok(cast)
    }

    /// What stands in for `${expression}`, in a config or in what a client sends that was given `nonce` to sign.
    ///
    /// - `NAME`: the public key;
    /// - `seed NAME`: the secret;
    /// - `sig NAME`: its signature of the nonce; `padded sig NAME` as standard base64;
    /// - `now`, `now+60`, `now-60`: the start of the play in seconds since 1970, and so many seconds from it.
    pub(crate) fn speak(&self, expression: &str, nonce: Option<&str>) -> Option<String> {
        if let Some(shift) = expression.strip_prefix("now") {
            let shift: i64 = if shift.is_empty() { 0 } else { shift.parse().ok()? };
            return Some((i64::try_from(self.now.as_secs()).ok()? + shift).to_string());
        }
        if let Some(name) = expression.strip_prefix("seed ") {
            return Some(self.keys.get(name)?.seed());
        }
        if let Some(name) = expression.strip_prefix("sig ") {
            return Some(base64(self.keys.get(name)?.sign(nonce?.as_bytes()), false));
        }
        if let Some(name) = expression.strip_prefix("padded sig ") {
            return Some(base64(self.keys.get(name)?.sign(nonce?.as_bytes()), true));
        }
        Some(self.keys.get(expression)?.public().to_string())
    }

    /// `text` with all names of the cast replaced. What is nobody's name stays.
    pub(crate) fn fill(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            filled += before;
            match after.split_once('}').and_then(|(name, after)| Some((self.speak(name, None)?, after))) {
                Some((spoken, after)) => {
                    filled += &spoken;
                    rest = after;
                }
                None => {
                    filled += "${";
                    rest = after;
                }
            }
        }
        filled + rest
    }
}

/// Anybody can make these keys again: they protect nothing.
fn seed(name: &str) -> [u8; 32] {
    let mut seed = *b"a key for a test, of its name:  ";
    for (index, byte) in name.bytes().enumerate() {
        seed[31 - index % 32] ^= byte.rotate_left(u32::try_from(index / 32).unwrap_or(0));
    }
    seed
}

fn base64(bytes: [u8; 64], padded: bool) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    if padded { STANDARD.encode(bytes) } else { URL_SAFE_NO_PAD.encode(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_keys() {
        let roles = [Role::key("alice user").unwrap(), Role::key("a account").unwrap()];
        let cast = Cast::new(&roles, Duration::from_secs(100)).unwrap();
        let alice = KeyPair::from_seed(&cast.speak("seed alice", None).unwrap()).unwrap();
        assert_eq!(cast.fill("[ ${alice} ] $${HOME}"), format!("[ {} ] $${{HOME}}", alice.public()));
        let sig = midge_jwt::signature(&cast.speak("sig alice", Some("nonce")).unwrap()).unwrap();
        assert!(alice.public().verify(b"nonce", &sig));
        assert_eq!(cast.speak("sig alice", None), None, "there is nothing to sign");
        assert!(cast.speak("a", None).unwrap().starts_with('A'));
        assert_eq!((cast.fill("${now}"), cast.fill("${now-40}")), ("100".into(), "60".into()));
        assert!(Role::key("alice queen").is_err());
    }
}
