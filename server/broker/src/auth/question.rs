//! What a check can't find out while others wait for the broker.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use midge_jwt::{Hours, PublicKey, Token, User, Zones};
use smol_str::SmolStr;

use super::{AccountClaims, Callout, Consulted};

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
    /// What a user's token says, and whether its issuer signed it. As slow.
    Token {
        /// What the peer sent.
        text: String,
    },
    /// The claims of an account, and of those that it imports from. Read from wherever accounts are kept.
    Account {
        /// The account's key.
        key: SmolStr,
    },
    /// Whether a user may come now, and how long it may stay. Time zones are files.
    Hours {
        /// When it may.
        hours: Hours,
        /// Since the Unix epoch.
        now: Duration,
    },
    /// What a service says of a client. Others answer it, see [`Callout`].
    Callout(Box<Callout>),
}

/// What came of a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// To [`Question::Token`]: what it says, if it is one.
    Token(Option<Arc<Token<User>>>),
    /// To [`Question::Account`]: what was found, the account itself first.
    Accounts(Vec<Arc<AccountClaims>>),
    /// To [`Question::Hours`]: how long; `None`: not now.
    Open(Option<Duration>),
    /// To [`Question::Callout`]: what the service said, or why that was nothing.
    Consulted(Result<Box<Consulted>, String>),
}

/// What lies outside of the broker and the processor: time zones, and wherever accounts are kept.
pub trait Elsewhere: Zones {
    /// The token of the account with this key.
    fn account(&self, key: &str) -> Option<String>;
}

/// For those who know UTC and no accounts.
impl Elsewhere for midge_jwt::Utc {
    fn account(&self, _key: &str) -> Option<String> {
        None
    }
}

/// Accounts that are read for one question at most.
const ACCOUNTS_MAX: usize = 256;

impl Question {
    /// Finds out. What takes a service is left unanswered.
    pub fn answer(&self, elsewhere: &dyn Elsewhere) -> Answer {
        let yes = match self {
            // A hash that can't be read matches nothing.
            Self::Password { hash, secret } => bcrypt::verify(secret, hash).unwrap_or(false),
            Self::Signature { key, message, signature } => key.verify(message, signature),
            Self::Token { text } => return Answer::Token(Token::decode(text).ok().map(Arc::new)),
            Self::Account { key } => return Answer::Accounts(find_accounts(key, elsewhere)),
            Self::Hours { hours, now } => return Answer::Open(hours.open(*now, elsewhere)),
            Self::Callout(callout) => {
                let why = format!("nobody carries questions to account {}", callout.account);
                return Answer::Consulted(Err(why));
            }
        };
        if yes { Answer::Yes } else { Answer::No }
    }
}

/// An account, and those that it imports from, and so on.
fn find_accounts(key: &SmolStr, elsewhere: &dyn Elsewhere) -> Vec<Arc<AccountClaims>> {
    let mut found = Vec::new();
    let mut wanted = vec![key.clone()];
    let mut asked = HashSet::new();
    while let Some(key) = wanted.pop() {
        if asked.len() >= ACCOUNTS_MAX || !asked.insert(key.clone()) {
            continue;
        }
        let text = Some(&key).filter(|key| midge_jwt::nkey::is(key, midge_jwt::Kind::Account));
        let text = text.and_then(|key| elsewhere.account(key));
        let claims = text.and_then(|text| AccountClaims::read(&text).ok());
        let Some(claims) = claims.filter(|claims| claims.key() == key) else { continue };
        wanted.extend(claims.token.body.imports.iter().map(|import| SmolStr::from(&import.account)));
        found.push(Arc::new(claims));
    }
    found
}

impl fmt::Debug for Question {
    /// Never a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { .. } => f.write_str("Password"),
            Self::Signature { key, .. } => write!(f, "Signature({key})"),
            Self::Token { .. } => f.write_str("Token"),
            Self::Account { key } => write!(f, "Account({key})"),
            Self::Hours { hours, .. } => write!(f, "Hours({hours:?})"),
            Self::Callout(callout) => callout.fmt(f),
        }
    }
}

/// What is known already: questions and their answers. An answer counts for exactly the question that was asked, so
/// nothing that changed meanwhile is taken for checked.
pub(crate) type Known = Vec<(Question, Answer)>;
