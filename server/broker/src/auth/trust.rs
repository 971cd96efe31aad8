//! Users whom an account vouches for, and accounts that an operator vouches for.
//!
//! Source: nats-server's `auth.go` (`processClientOrLeafAuthentication`) and `accounts.go`, and its transcripts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use midge_jwt::{Account, Activation, Grant, PublicKey, Refused, Scope, Token, User};
use smol_str::SmolStr;

use super::question::{Answer, Question};
use super::{Attempt, Identity, Permit, Responses, Rules, Verdict, Way};

/// Trust in accounts that operators signed. With it, every user must show a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Keys that sign accounts.
    pub keys: HashSet<String>,
    /// Those of them whose accounts' own keys sign no users.
    pub strict: HashSet<String>,
    /// The accounts whose users may come in; `None`: any.
    pub pinned: Option<HashSet<String>>,
    /// The user that a connection without a token is taken for.
    pub sentinel: Option<Arc<Token<User>>>,
    /// Accounts that aren't known can be asked for, with [`Question::Account`].
    pub resolves: bool,
    /// Subjects that all accounts map, and to what, before what each maps itself.
    pub mappings: Vec<(String, String)>,
    /// Accounts that are known, by their keys.
    pub accounts: HashMap<SmolStr, Arc<AccountClaims>>,
}

/// An account's token, and those that came with its imports, read and with their signatures verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountClaims {
    /// The token.
    pub token: Token<Account>,
    /// Those of its imports, in their order; `None`: it has none that can be read.
    pub activations: Vec<Option<Token<Activation>>>,
}

impl AccountClaims {
    /// Reads a token. Slow: each token in it is a signature to verify.
    pub fn read(text: &str) -> Result<Self, Refused> {
        let token = Token::<Account>::decode(text.trim())?;
        let activations = token.activations();
        Ok(Self { token, activations })
    }

    /// The account's key, which is its name.
    pub fn key(&self) -> &str {
        &self.token.claims.sub
    }

    /// What no server takes, times aside.
    pub fn problems(&self) -> Vec<String> {
        self.token.problems(&self.activations)
    }

    /// True if it counts at this time, since the Unix epoch.
    pub(crate) fn is_current(&self, now: Duration) -> bool {
        let now = seconds(now);
        self.token.claims.time_problem(now).is_none() && !self.token.claims.is_over(now)
    }

    /// The permissions of users who have none of their own.
    pub(crate) fn default_permit(&self) -> Option<Arc<Permit>> {
        permit(&self.token.body.default_permissions)
    }
}

/// By what right a connection is in that showed a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warrant {
    /// The user's key.
    pub user: SmolStr,
    /// What the user is called.
    pub name: SmolStr,
    /// Words about the user.
    pub tags: Vec<SmolStr>,
    /// The key that issued the token.
    pub issuer: SmolStr,
    /// That is a signing key, which may go while the account stays.
    pub by_signing_key: bool,
    /// When it was issued, in seconds since the Unix epoch.
    pub issued: i64,
    /// Nothing was signed.
    pub bearer: bool,
    /// The account's default permissions are the user's.
    pub by_default: bool,
    /// How long the user may stay; `None`: for ever.
    pub left: Option<Duration>,
    /// Subscriptions at most; `None`: as many as the account may have.
    pub subscriptions: Option<u32>,
    /// Bytes of a message at most; `None`: as many as the account may send.
    pub payload: Option<u32>,
    /// The token that was shown, for those who look; empty if whoever has it could come in with it.
    pub text: Box<str>,
}

impl Warrant {
    /// Of a user by a token; `text` is what the client showed.
    pub(super) fn new(user: &Token<User>, left: Option<Duration>, text: &str) -> Self {
        let Token { claims, body } = user;
        Self {
            user: claims.sub.as_str().into(),
            name: claims.name.as_str().into(),
            tags: body.tags.iter().map(SmolStr::from).collect(),
            issuer: claims.iss.as_str().into(),
            by_signing_key: !body.issuer_account.is_empty(),
            issued: claims.iat,
            bearer: body.grant.bearer_token,
            by_default: false,
            left,
            subscriptions: midge_jwt::ceiling(body.grant.subs),
            payload: midge_jwt::ceiling(body.grant.payload),
            text: if body.grant.bearer_token { "" } else { text }.into(),
        }
    }
}

impl Trust {
    /// Whether the account is one to trust; else why not. Its times are another matter.
    pub fn vouches(&self, account: &AccountClaims) -> Result<(), String> {
        if !self.keys.contains(&account.token.claims.iss) {
            return Err("account validation failed: not issued by a trusted operator".into());
        }
        let problems = account.problems();
        if problems.is_empty() { Ok(()) } else { Err(format!("validation errors: [{}]", problems.join(" "))) }
    }

    /// Whether `issuer` signs for the account, and for what kind of user if that is fixed.
    pub(crate) fn signs<'a>(&self, account: &'a AccountClaims, issuer: &str) -> Option<Option<&'a Scope>> {
        if issuer == account.key() && !self.strict.contains(&account.token.claims.iss) {
            return Some(None);
        }
        account.token.body.signing_keys.0.get(issuer).map(Option::as_deref)
    }

    pub(super) fn check(&self, attempt: &Attempt<'_>) -> Verdict {
        let text = &attempt.credentials.jwt;
        let shown = match text.is_empty() {
            true => None,
            false => match attempt.answer(&Question::Token { text: text.clone() }) {
                None => return Verdict::Ask(Question::Token { text: text.clone() }),
                Some(Answer::Token(user)) => user.clone(),
                Some(_) => None,
            },
        };
        let Some(mut user) = shown.or_else(|| self.sentinel.clone()) else {
            return Verdict::Denied("Authentication requires a user JWT");
        };
        if user.claims.time_problem(seconds(attempt.now)).is_some() || !user.problems().is_empty() {
            return Verdict::Denied("User JWT no longer valid");
        }
        let key = user.account();
        if self.pinned.as_ref().is_some_and(|pinned| !pinned.contains(key)) {
            return Verdict::Denied("Account not listed as operator pinned account");
        }
        let current = |account: &&Arc<AccountClaims>| account.is_current(attempt.now);
        let Some(account) = self.accounts.get(key).filter(current) else {
            let question = Question::Account { key: key.into() };
            if !self.resolves || attempt.answer(&question).is_some() {
                return Verdict::Denied("Account JWT lookup error");
            }
            return Verdict::Ask(question);
        };
        if let Err(why) = self.fit_scope(account, &mut user) {
            return Verdict::Denied(why);
        }
        let grant = &user.body.grant;
        if grant.bearer_token && account.token.body.limits.disallow_bearer {
            return Verdict::Denied("Account does not allow bearer tokens");
        }
        if !allows(grant, attempt.way) {
            return Verdict::Denied("Connection type not allowed");
        }
        if grant.proxy_required {
            return Verdict::Denied("Proxy is not trusted");
        }
        if midge_jwt::is_revoked(&account.token.body.revocations, &user.claims.sub, user.claims.iat) {
            return Verdict::Denied("User authentication revoked");
        }
        if !grant.admits(attempt.host) {
            return Verdict::Denied("Bad src Ip");
        }
        let left = match attempt.open_for(&user) {
            Ok(left) => left,
            Err(verdict) => return *verdict,
        };
        let identity = identity(&user, account, left, text);
        if grant.bearer_token {
            return Verdict::Granted(identity);
        }
        match PublicKey::parse(&user.claims.sub) {
            Ok(key) if key.kind() == midge_jwt::Kind::User => attempt.if_signed(key, identity),
            _ => Verdict::Denied("User nkey not valid"),
        }
    }

    /// Whether the token's issuer signs for the account. If that issuer fixes what its users may do, so be it.
    pub(crate) fn fit_scope(
        &self,
        account: &AccountClaims,
        user: &mut Arc<Token<User>>,
    ) -> Result<(), &'static str> {
        match self.signs(account, &user.claims.iss) {
            None => Err("User JWT issuer is not known"),
            Some(None) => Ok(()),
            Some(Some(_)) if user.body.grant != Grant::default() => {
                Err("User JWT is not valid: scoped users require no permissions or limits set")
            }
            Some(Some(scope)) => {
                let grant = &scope.template.0;
                let permissions = midge_jwt::fill(&grant.permissions, user, &account.token)
                    .map_err(|_| "User JWT generated invalid permissions")?;
                Arc::make_mut(user).body.grant = Grant { permissions, ..grant.clone() };
                Ok(())
            }
        }
    }
}

impl Attempt<'_> {
    /// How long the user may stay, or the verdict if that isn't known or not at all.
    pub(super) fn open_for(&self, user: &Token<User>) -> Result<Option<Duration>, Box<Verdict>> {
        let until = (user.claims.exp > 0)
            .then(|| Duration::from_secs(u64::try_from(user.claims.exp - seconds(self.now)).unwrap_or(0)));
        let Some(hours) = user.body.grant.hours() else { return Ok(until) };
        // Time goes on while this is found out.
        let asked = self
            .known
            .iter()
            .find(|(asked, _)| matches!(asked, Question::Hours { hours: it, .. } if *it == hours));
        match asked.map(|(_, answer)| answer) {
            None => Err(Box::new(Verdict::Ask(Question::Hours { hours, now: self.now }))),
            Some(Answer::Open(Some(left))) => Ok(until.into_iter().chain([*left]).min()),
            Some(_) => Err(Box::new(Verdict::Denied("Outside connect times"))),
        }
    }
}

/// Who the user is, in `account`. `text` is the token that the client showed.
pub(super) fn identity(
    user: &Token<User>,
    account: &AccountClaims,
    left: Option<Duration>,
    text: &str,
) -> Identity {
    let body = &user.body;
    let own = permit(&body.grant.permissions);
    let warrant = Warrant { by_default: own.is_none(), ..Warrant::new(user, left, text) };
    Identity {
        user: warrant.user.clone(),
        account: account.key().into(),
        permit: own.or_else(|| account.default_permit()),
        warrant: Some(Arc::new(warrant)),
    }
}

/// Permissions as tokens say them; `None`: everything.
pub(super) fn permit(permissions: &midge_jwt::Permissions) -> Option<Arc<Permit>> {
    if permissions.is_empty() {
        return None;
    }
    let rules = |list: &midge_jwt::Permission| {
        let allow = (!list.allow.is_empty()).then(|| list.allow.iter().map(String::as_str));
        Rules::new(allow, list.deny.iter().map(String::as_str))
    };
    let responses = permissions.resp.map(|resp| Responses {
        max: match resp.max {
            0 => Some(1),
            max => u32::try_from(max).ok(),
        },
        expires: match resp.ttl {
            0 => Some(Duration::from_secs(120)),
            ttl => u64::try_from(ttl).ok().map(Duration::from_nanos),
        },
    });
    Some(Arc::new(Permit::new(rules(&permissions.publish), rules(&permissions.subscribe), responses)))
}

/// Kinds of connection that a server doesn't know let nobody in who would come in otherwise.
pub(super) fn allows(grant: &Grant, way: Way) -> bool {
    let types = &grant.allowed_connection_types;
    types.is_empty() || types.iter().any(|kind| kind.eq_ignore_ascii_case(way.kind()))
}

pub(super) fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
