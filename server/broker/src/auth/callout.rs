//! Users of whom a service is asked that is a client itself.
//!
//! The check names whom to ask ([`Verdict::Consult`]), the session what to ask
//! ([`Callout`]), the driver carries the question to the service and the answer back, and the check is made anew.
//!
//! Source: nats-server's `auth_callout.go`, and its transcripts.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use midge_jwt::{
    AuthorizationRequest, AuthorizationResponse, Claims, CurveKey, Grant, PublicKey, Token, User,
};
use smol_str::SmolStr;

use super::trust::{allows, identity, permit, seconds};
use super::{AccountClaims, Answer, Attempt, Directory, Identity, Permit, Question, Rules, Verdict, Warrant};
use crate::identity::ServerKeys;

/// Where services are asked.
pub const CALLOUT_SUBJECT: &str = "$SYS.REQ.USER.AUTH";
/// The header of a sealed question: the key that the answer may be sealed for.
const XKEY_HEADER: &str = "Nats-Server-Xkey";
/// Whom a question is for.
const AUDIENCE: &str = "nats-authorization-request";

/// A service that is asked about users, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CalloutRule {
    /// The key that signs its answers.
    pub issuer: String,
    /// The account that it is in.
    pub account: SmolStr,
    /// The users of whom nobody is asked: the service itself is one.
    pub auth_users: HashSet<SmolStr>,
    /// The key that questions are sealed for.
    pub xkey: Option<PublicKey>,
    /// The accounts of whose users it is asked, besides those who have no account yet; empty: of all.
    pub accounts: HashSet<SmolStr>,
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub(crate) struct Consultation {
    /// The account of the service.
    pub(crate) account: SmolStr,
    /// Whom the question is about, as far as tokens say.
    pub(crate) subject: String,
    pub(crate) xkey: Option<PublicKey>,
    /// What the token calls the user, and words about it.
    pub(crate) name: SmolStr,
    pub(crate) tags: Vec<SmolStr>,
}

/// A question to a service, to be carried to it.
#[derive(Clone)]
pub struct Callout {
    /// The account that the service is in.
    pub account: SmolStr,
    /// How long to wait for an answer.
    pub timeout: Duration,
    request: Arc<Token<AuthorizationRequest>>,
    keys: Arc<ServerKeys>,
    xkey: Option<PublicKey>,
    issued: i64,
}

impl Callout {
    pub(crate) fn new(
        whom: Consultation,
        mut request: AuthorizationRequest,
        keys: &Arc<ServerKeys>,
        (cid, now, timeout): (u64, Duration, Duration),
    ) -> Self {
        // Answers are about this key, so that none of them can be used again.
        request.user_nkey = keys.passing_user(cid, now).to_string();
        request.server_id.xkey = whom.xkey.map(|_| keys.curve().public().to_string()).unwrap_or_default();
        let issued = seconds(now);
        let exp =
            issued.saturating_add(seconds(timeout)).saturating_add(i64::from(timeout.subsec_nanos() > 0));
        let claims = Claims { aud: AUDIENCE.into(), exp, ..Claims::about(whom.subject) };
        Self {
            account: whom.account,
            timeout,
            request: Arc::new(Token { claims, body: request }),
            keys: Arc::clone(keys),
            xkey: whom.xkey,
            issued,
        }
    }

    /// The message for the service: header block and payload. `nonce` is random. Slow: it is signed, and perhaps sealed.
    pub fn message(&self, nonce: [u8; 24]) -> (Vec<u8>, Vec<u8>) {
        let text = self.request.encode(self.keys.server(), self.issued);
        let curve = self.keys.curve();
        match self.xkey.and_then(|xkey| curve.seal(text.as_bytes(), &xkey, nonce)) {
            None => (Vec::new(), text.into_bytes()),
            Some(sealed) => {
                let header = format!("NATS/1.0\r\n{XKEY_HEADER}: {}\r\n\r\n", curve.public());
                (header.into_bytes(), sealed)
            }
        }
    }

    /// Reads an answer. Slow: it is two signatures, and perhaps sealed. Who may have signed them is the check's to say.
    pub fn read(&self, payload: &[u8]) -> Result<Consulted, String> {
        let account = &self.account;
        if payload.is_empty() {
            return Err(format!("Auth callout violation: \"no reason supplied\" on account {account:?}"));
        }
        let sealed = self.xkey.filter(|_| !payload.starts_with(b"eyJ"));
        let opened =
            match sealed {
                None => payload.to_vec(),
                Some(xkey) => self.keys.curve().open(payload, &xkey).ok_or_else(|| {
                    format!("Error decrypting auth callout response on account {account:?}")
                })?,
            };
        let text = String::from_utf8(opened).map_err(|_| "Auth callout response is no token".to_owned())?;
        let answer = Token::<AuthorizationResponse>::decode(&text).map_err(|error| error.to_string())?;
        if let Some(problem) = answer.problems().first() {
            return Err(format!("Authorization response had validation errors: {problem}"));
        }
        if answer.claims.sub != self.request.body.user_nkey {
            return Err("Auth callout violation: auth callout response is not for expected user".into());
        }
        if answer.claims.aud != self.request.body.server_id.id {
            return Err("Auth callout violation: auth callout response is not for server".into());
        }
        if !answer.body.error.is_empty() {
            return Err(format!("Auth callout service returned an error: {}", answer.body.error));
        }
        let user = Token::<User>::decode(&answer.body.jwt).map_err(|error| error.to_string())?;
        if user.claims.sub != self.request.body.user_nkey {
            let (wanted, got) = (&self.request.body.user_nkey, &user.claims.sub);
            return Err(format!(
                "Expected authorized user of {wanted:?} but got {got:?} on account {account:?}"
            ));
        }
        let by = match answer.body.issuer_account.is_empty() {
            true => answer.claims.iss.clone(),
            false => answer.body.issuer_account.clone(),
        };
        Ok(Consulted {
            user: Arc::new(user),
            by,
            times: (answer.claims.exp, answer.claims.nbf),
            sealed: sealed.is_some(),
        })
    }
}

impl PartialEq for Callout {
    fn eq(&self, other: &Self) -> bool {
        self.request == other.request
    }
}

impl Eq for Callout {}

impl fmt::Debug for Callout {
    /// Never what is asked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callout({})", self.account)
    }
}

/// A service's answer, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consulted {
    /// The user that it says the client is.
    user: Arc<Token<User>>,
    /// Who signed the answer around it.
    by: String,
    /// When the answer ends and begins.
    times: (i64, i64),
    /// It was sealed, and so by the service.
    sealed: bool,
}

impl Directory {
    /// Judges an attempt to come in, and asks a service about it where that has the last word.
    pub(crate) fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        if let Some(identity) = self.on_line(attempt.host).filter(|_| attempt.credentials.is_empty()) {
            return Verdict::Granted(identity);
        }
        let verdict = self.check(attempt);
        match (&self.trust, &self.callout) {
            (_, _) if matches!(verdict, Verdict::Ask(_)) => verdict,
            (Some(_), _) => self.consult_in_account(attempt, verdict),
            (None, Some(rule)) => self.consult(rule, attempt, verdict),
            (None, None) => verdict,
        }
    }

    /// As the configuration asks for.
    fn consult(&self, rule: &CalloutRule, attempt: &Attempt<'_>, verdict: Verdict) -> Verdict {
        let account = match &verdict {
            Verdict::Granted(identity) => &identity.account,
            _ => &self.default_account,
        };
        let delegated =
            *account == self.default_account || rule.accounts.is_empty() || rule.accounts.contains(account);
        let name = attempt.credentials.name();
        let anonymous = self.of(attempt.way).no_auth_user.as_deref().filter(|_| name.is_empty());
        if !delegated || rule.auth_users.contains(anonymous.unwrap_or(name)) {
            return guarded(verdict, &rule.account);
        }
        let consulted = match attempt.consulted() {
            None => {
                return Verdict::Consult(Box::new(Consultation {
                    account: rule.account.clone(),
                    subject: rule.issuer.clone(),
                    xkey: rule.xkey,
                    name: SmolStr::default(),
                    tags: Vec::new(),
                }));
            }
            Some(None) => return Verdict::Denied(""),
            Some(Some(consulted)) => consulted,
        };
        let user = &consulted.user;
        let left = match attempt.consulted_user(consulted) {
            Ok(left) => left,
            Err(verdict) => return *verdict,
        };
        if !user.body.issuer_account.is_empty() {
            return Verdict::Denied("Error non operator mode: attempted to use issuer_account");
        }
        if user.claims.iss != rule.issuer {
            return Verdict::Denied("Wrong issuer for auth callout response");
        }
        let account = SmolStr::from(&user.claims.aud);
        if !self.accounts.contains(&account) {
            return Verdict::Denied("No valid account for auth callout response");
        }
        let warrant = Warrant::new(user, left, "");
        let identity = Identity {
            user: warrant.user.clone(),
            account,
            permit: permit(&user.body.grant.permissions),
            warrant: Some(Arc::new(warrant)),
        };
        guarded(Verdict::Granted(attempt.named(identity, user)), &rule.account)
    }

    /// As the account of the user's token asks for.
    fn consult_in_account(&self, attempt: &Attempt<'_>, verdict: Verdict) -> Verdict {
        let (Verdict::Granted(who), Some(trust)) = (&verdict, &self.trust) else { return verdict };
        let Some(account) = trust.accounts.get(&who.account) else { return verdict };
        let rule = &account.token.body.authorization;
        if rule.auth_users.is_empty() {
            return verdict;
        }
        // The user whose token it is, whatever else the client calls itself.
        if rule.auth_users.iter().any(|user| *user == who.user) {
            return guarded(verdict, account.key());
        }
        let warrant = who.warrant.as_deref();
        let consulted = match attempt.consulted() {
            None => {
                return Verdict::Consult(Box::new(Consultation {
                    account: who.account.clone(),
                    subject: who.account.to_string(),
                    xkey: PublicKey::parse(&rule.xkey).ok(),
                    name: warrant.map(|it| it.name.clone()).unwrap_or_default(),
                    tags: warrant.map(|it| it.tags.clone()).unwrap_or_default(),
                }));
            }
            Some(None) => return Verdict::Denied(""),
            Some(Some(consulted)) => consulted,
        };
        if !consulted.sealed && consulted.by != account.key() && trust.signs(account, &consulted.by).is_none()
        {
            return Verdict::Denied("Auth callout signing key is unknown");
        }
        let mut user = Arc::clone(&consulted.user);
        let issuer = SmolStr::from(user.account());
        let allowed = |it: &String| it == "*" || *it == issuer;
        if issuer != account.key() && !rule.allowed_accounts.iter().any(allowed) {
            return Verdict::Denied("Account not permitted as valid account option for auth callout");
        }
        let current = |account: &&Arc<AccountClaims>| account.is_current(attempt.now);
        let Some(target) = trust.accounts.get(&issuer).filter(current) else {
            let question = Question::Account { key: issuer };
            if !trust.resolves || attempt.answer(&question).is_some() {
                return Verdict::Denied("No valid account for auth callout response");
            }
            return Verdict::Ask(question);
        };
        if let Err(why) = trust.fit_scope(target, &mut user) {
            return Verdict::Denied(why);
        }
        let fitted = Consulted { user: Arc::clone(&user), ..consulted.clone() };
        let left = match attempt.consulted_user(&fitted) {
            Ok(left) => left,
            Err(verdict) => return *verdict,
        };
        let identity = attempt.named(identity(&user, target, left, ""), &user);
        guarded(Verdict::Granted(identity), account.key())
    }
}

impl Attempt<'_> {
    /// What a service said: `None` if it wasn't asked, `Some(None)` if it said nothing that lets anybody in.
    fn consulted(&self) -> Option<Option<&Consulted>> {
        let asked = self.known.iter().find(|(question, _)| matches!(question, Question::Callout(_)));
        asked.map(|(_, answer)| match answer {
            Answer::Consulted(Ok(consulted)) => Some(&**consulted),
            _ => None,
        })
    }

    /// Whether the user that a service named may come now, and for how long.
    fn consulted_user(&self, consulted: &Consulted) -> Result<Option<Duration>, Box<Verdict>> {
        let (user, now) = (&consulted.user, seconds(self.now));
        let (exp, nbf) = consulted.times;
        let answer = Claims { exp, nbf, ..Claims::default() };
        let denied = |why| Err(Box::new(Verdict::Denied(why)));
        if answer.time_problem(now).is_some() {
            return denied("Authorization response had validation errors");
        }
        if user.claims.time_problem(now).is_some() || !user.problems().is_empty() {
            return denied("Error validating user JWT");
        }
        let grant: &Grant = &user.body.grant;
        if grant.proxy_required {
            return denied("Proxy is not trusted");
        }
        if !allows(grant, self.way) {
            return denied("Authorized user using invalid connection type");
        }
        if !grant.admits(self.host) {
            return denied("Bad src Ip");
        }
        self.open_for(user)
    }

    /// The user is shown as the answer calls it, or as it called itself.
    fn named(&self, identity: Identity, user: &Token<User>) -> Identity {
        let shown = match (user.claims.name.as_str(), self.credentials.name()) {
            ("", "") => return identity,
            ("", name) => name,
            (name, _) => name,
        };
        Identity { user: shown.into(), ..identity }
    }
}

/// Nobody in the service's account asks in the server's name.
fn guarded(verdict: Verdict, account: &str) -> Verdict {
    match verdict {
        Verdict::Granted(identity) if identity.account == account => {
            let held = identity.permit.as_deref().cloned().unwrap_or_default();
            let publish =
                Rules::new(held.publish().allowed(), held.publish().denied().chain([CALLOUT_SUBJECT]));
            let permit = Permit::new(publish, held.subscribe().clone(), held.responses());
            Verdict::Granted(Identity { permit: Some(Arc::new(permit)), ..identity })
        }
        verdict => verdict,
    }
}

impl ServerKeys {
    /// The key that a service's answer is to be about: one for each question.
    fn passing_user(&self, cid: u64, now: Duration) -> PublicKey {
        let mut what = b"user".to_vec();
        what.extend_from_slice(&cid.to_le_bytes());
        what.extend_from_slice(&now.as_nanos().to_le_bytes());
        midge_jwt::KeyPair::new(midge_jwt::Kind::User, &self.derived(&what)).public()
    }

    /// The key that services seal their answers for.
    pub(crate) fn curve(&self) -> CurveKey {
        CurveKey::new(self.derived(b"curve"))
    }
}
