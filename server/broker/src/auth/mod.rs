//! Who may come in, and as whom.
//!
//! [`Directory::check`] turns what CONNECT carried into a verdict. It is a pure function of the configuration;
//! hashing passwords is slow on purpose, so that is left to the driver ([`Verdict::Hash`]).

mod permit;

use std::collections::HashMap;
use std::sync::Arc;

use smol_str::SmolStr;

pub use permit::{Permit, Responses, Rules};

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

/// A user of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What the password must be.
    pub secret: Secret,
    /// The account that the user is in.
    pub account: SmolStr,
    /// What the user may do; `None`: everything.
    pub permit: Option<Arc<Permit>>,
    /// The user may come as an ordinary client, not only in other ways.
    pub standard: bool,
}

impl User {
    fn identity(&self, name: &SmolStr) -> Identity {
        Identity { user: name.clone(), account: self.account.clone(), permit: self.permit.clone() }
    }
}

/// What CONNECT carried. Empty: not given.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password.
    pub pass: String,
    /// Token.
    pub token: String,
    /// Something that isn't one of these was given too, an nkey or a JWT.
    pub other: bool,
}

/// Who a connection is, once that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Shown as the authorized user; empty where nobody was asked.
    pub user: SmolStr,
    /// The account that the connection belongs to.
    pub account: SmolStr,
    /// What it may do; `None`: everything.
    pub permit: Option<Arc<Permit>>,
}

/// What a check found.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Come in.
    Granted(Identity),
    /// Stay out. One answer for all causes.
    Denied,
    /// Come in as `identity` if bcrypt says that `secret` belongs to `hash`.
    Hash {
        /// The configured hash.
        hash: String,
        /// What the peer sent.
        secret: String,
        /// Who it would be.
        identity: Identity,
    },
}

/// All who may come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// One token for all.
    pub token: Option<Secret>,
    /// Nobody comes in unasked, even if there is neither a token nor a user here: those who may come are known in ways
    /// that aren't served.
    pub closed: bool,
    /// Users by name.
    pub users: HashMap<SmolStr, User>,
    /// Who a connection without credentials is.
    pub no_auth_user: Option<SmolStr>,
    /// The account of connections that nobody is asked about.
    pub default_account: SmolStr,
}

impl Directory {
    /// True if credentials are configured at all.
    pub fn is_required(&self) -> bool {
        self.closed || self.token.is_some() || !self.users.is_empty()
    }

    /// Judges `credentials`.
    pub fn check(&self, credentials: &Credentials) -> Verdict {
        if !self.is_required() {
            return Verdict::Granted(self.anybody(""));
        }
        if let Some(secret) = &self.token {
            return compare(secret, &credentials.token, self.anybody("[REDACTED]"));
        }
        let Credentials { user, pass, token, other } = credentials;
        let anonymous = user.is_empty() && pass.is_empty() && token.is_empty() && !other;
        match (&self.no_auth_user, anonymous) {
            (Some(_), true) => self.anonymous().map_or(Verdict::Denied, Verdict::Granted),
            _ => match self.users.get_key_value(user.as_str()) {
                Some((name, entry)) if entry.standard => compare(&entry.secret, pass, entry.identity(name)),
                _ => Verdict::Denied,
            },
        }
    }

    /// Who a connection is that sends no CONNECT, if that is allowed.
    pub fn anonymous(&self) -> Option<Identity> {
        if !self.is_required() {
            return Some(self.anybody(""));
        }
        let name = self.no_auth_user.as_ref()?;
        self.users.get(name).filter(|entry| entry.standard).map(|entry| entry.identity(name))
    }

    /// Who somebody is now that came in as `user` under `old`; `None` if they wouldn't come in the same way.
    pub(crate) fn readmit(&self, old: &Self, user: &str) -> Option<Identity> {
        match (self.users.get_key_value(user), old.users.get(user)) {
            (Some((name, new)), Some(old)) => {
                let same = new.secret == old.secret && new.account == old.account && new.standard;
                same.then(|| new.identity(name))
            }
            (None, None) if !self.is_required() => Some(self.anybody("")),
            (None, None) if self.token.is_some() && self.token == old.token => Some(self.anybody(user)),
            _ => None,
        }
    }

    /// Somebody without a name of their own.
    fn anybody(&self, shown: &str) -> Identity {
        Identity { user: shown.into(), account: self.default_account.clone(), permit: None }
    }
}

fn compare(secret: &Secret, given: &str, identity: Identity) -> Verdict {
    match secret {
        Secret::Plain(text) if same(text.as_bytes(), given.as_bytes()) => Verdict::Granted(identity),
        Secret::Plain(_) => Verdict::Denied,
        Secret::Bcrypt(hash) => Verdict::Hash { hash: hash.clone(), secret: given.to_owned(), identity },
    }
}

/// Compares in a time that tells only the length.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, pass: &str) -> Credentials {
        Credentials { user: user.into(), pass: pass.into(), ..Credentials::default() }
    }

    fn granted(verdict: Verdict) -> Option<Identity> {
        match verdict {
            Verdict::Granted(identity) => Some(identity),
            _ => None,
        }
    }

    #[test]
    fn users_and_anonymous() {
        let entry = |pass: &str, account: &str| User {
            secret: Secret::new(pass),
            account: account.into(),
            permit: None,
            standard: true,
        };
        let mut directory = Directory {
            users: [("a".into(), entry("1", "A")), ("b".into(), entry("$2a$04$xyz", "B"))].into(),
            ..Directory::default()
        };
        assert_eq!(granted(directory.check(&credentials("a", "1"))).unwrap().account, "A");
        assert!(granted(directory.check(&credentials("a", "2"))).is_none());
        assert!(granted(directory.check(&credentials("c", "1"))).is_none());
        assert!(granted(directory.check(&credentials("", ""))).is_none());
        assert!(matches!(directory.check(&credentials("b", "x")), Verdict::Hash { .. }));
        directory.no_auth_user = Some("a".into());
        assert_eq!(granted(directory.check(&credentials("", ""))).unwrap().user, "a");
        assert!(granted(directory.check(&credentials("", "x"))).is_none());
    }

    #[test]
    fn a_token_admits_whoever_has_it() {
        let directory = Directory { token: Some(Secret::new("t")), ..Directory::default() };
        let token = |t: &str| Credentials { token: t.into(), ..Credentials::default() };
        assert!(granted(directory.check(&token("t"))).is_some());
        assert!(granted(directory.check(&token("T"))).is_none());
        assert!(granted(Directory::default().check(&token(""))).is_some());
    }
}
