//! Who plays in a script: keys, and what they sign. Made at the start of a play, and the same each time but for the
//! times that are written into tokens.

use std::collections::HashMap;
use std::time::Duration;

use midge_jwt::{KeyPair, Kind};
use serde_json::{Value, json};

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
    /// `token NAME KIND SUBJECT by ISSUER { … }`: a token of this kind, about one key and signed by another.
    Token {
        /// How the script calls it.
        name: String,
        /// Its kind.
        kind: String,
        /// The key that it is about.
        subject: String,
        /// The key that signs it.
        issuer: String,
        /// Its claims, but for those that are said by the other parts.
        claims: String,
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

    /// Reads what stands behind `token`: the words before its claims, and these, in braces.
    pub fn token(words: &str, claims: &str) -> Result<Self, String> {
        match words.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            [name, kind, subject, "by", issuer] => Ok(Self::Token {
                name: name.into(),
                kind: kind.into(),
                subject: subject.into(),
                issuer: issuer.into(),
                claims: format!("{{{claims}}}"),
            }),
            _ => Err("expected `token NAME KIND SUBJECT by ISSUER { … }`".into()),
        }
    }
}

/// All that a play's names stand for.
#[derive(Debug, Default)]
pub(crate) struct Cast {
    keys: HashMap<String, KeyPair>,
    tokens: HashMap<String, String>,
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
                Role::Token { name, kind, subject, issuer, claims } => {
                    let token = cast.token(kind, subject, issuer, claims);
                    cast.tokens.insert(name.clone(), token.map_err(|why| format!("token {name}: {why}"))?);
                }
            }
        }
        Ok(cast)
    }

    /// Makes a token. Limits that `claims` don't name are none.
    fn token(&self, kind: &str, subject: &str, issuer: &str, claims: &str) -> Result<String, String> {
        let key = |name: &str| self.keys.get(name).ok_or_else(|| format!("nobody declared the key `{name}`"));
        let (subject, issuer) = (key(subject)?, key(issuer)?);
        let mut claims: Value = serde_json::from_str(&self.fill(claims)).map_err(|why| why.to_string())?;
        let mut default = |path: &[&str], value: Value| {
            let (last, way) = path.split_last()?;
            let way = way.iter().try_fold(&mut claims, |at, name| {
                Some(at.as_object_mut()?.entry(*name).or_insert_with(|| json!({})))
            });
            way?.as_object_mut()?.entry(*last).or_insert(value);
            Some(())
        };
        default(&["sub"], subject.public().to_string().into());
        default(&["iss"], issuer.public().to_string().into());
        default(&["iat"], self.now.as_secs().into());
        default(&["nats", "type"], if kind == "scoped" { "user" } else { kind }.into());
        default(&["nats", "version"], 2.into());
        for limit in ["subs", "data", "payload", "imports", "exports", "conn", "leaf"] {
            match kind {
                "user" if ["subs", "data", "payload"].contains(&limit) => {
                    default(&["nats", limit], (-1).into())
                }
                "account" => default(&["nats", "limits", limit], (-1).into()),
                _ => None,
            };
        }
        if kind == "account" {
            default(&["nats", "limits", "wildcards"], true.into());
        }
        Ok(midge_jwt::sign(&claims.to_string(), issuer))
    }

    /// What stands in for `${expression}`, in a config or in what a client sends that was given `nonce` to sign.
    ///
    /// - `NAME`: the public key, or the token;
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
        let key = || self.keys.get(expression).map(|key| key.public().to_string());
        self.tokens.get(expression).cloned().or_else(key)
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

    #[test]
    fn names_stand_for_tokens() {
        let claims = r#" "name": "Alice", "exp": ${now+5}, "nats": { "subs": 7 } "#;
        let roles = [
            Role::key("acme account").unwrap(),
            Role::key("alice user").unwrap(),
            Role::token("t user alice by acme", claims).unwrap(),
        ];
        let cast = Cast::new(&roles, Duration::from_secs(100)).unwrap();
        let token = midge_jwt::Token::<midge_jwt::User>::decode(&cast.fill("${t}")).unwrap();
        assert_eq!((token.claims.name.as_str(), token.claims.exp, token.claims.iat), ("Alice", 105, 100));
        assert_eq!((token.body.grant.subs, token.body.grant.payload), (7, -1));
        assert_eq!(token.claims.sub, cast.fill("${alice}"));
        assert!(Cast::new(&roles[1..], Duration::ZERO).is_err(), "nobody signs");
    }
}
