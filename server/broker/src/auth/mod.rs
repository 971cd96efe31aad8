//! Who may come in, and as whom.
//!
//! [`Directory::check`] turns what CONNECT carried into a verdict. It is a pure function of the configuration and of
//! what is known about the attempt. What takes a while to find out, hashes and signatures, is a [`Question`] that the
//! driver answers elsewhere; then the check is made anew.

mod callout;
mod certificate;
mod line;
mod patterns;
mod permit;
mod question;
mod secret;
mod trust;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use midge_jwt::PublicKey;
use smol_str::SmolStr;

pub(crate) use callout::Consultation;
pub use callout::{CALLOUT_SUBJECT, Callout, CalloutRule, Consulted};
pub use certificate::{CertificateNames, Certificates, DistinguishedName};
pub use line::{Line, LineDevice};
pub(crate) use permit::Held;
pub use permit::{Permit, Responses, Rules};
pub(crate) use question::Known;
pub use question::{Answer, Elsewhere, Question};
pub use secret::Secret;
pub use trust::{AccountClaims, Trust, Warrant};

/// A user of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// How the user proves who they are.
    pub proof: Proof,
    /// The account that the user is in.
    pub account: SmolStr,
    /// What the user may do; `None`: everything.
    pub permit: Option<Arc<Permit>>,
    /// The user may come this way, not only in others.
    pub welcome: bool,
}

/// How a user proves who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By a password.
    Secret(Secret),
    /// By signing the nonce. Such a user's name is the key's text.
    Key(PublicKey),
}

impl User {
    fn identity(&self, name: &SmolStr) -> Identity {
        Identity {
            user: name.clone(),
            account: self.account.clone(),
            permit: self.permit.clone(),
            warrant: None,
        }
    }
}

/// What CONNECT carried. Empty: not given.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) pass: String,
    pub(crate) token: String,
    pub(crate) nkey: String,
    /// Signature of the nonce.
    pub(crate) sig: String,
    /// A user's token.
    pub(crate) jwt: String,
}

/// The way that clients take to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// A socket or a serial line.
    #[default]
    Plain,
    /// A listener with TLS.
    Tls,
    /// WebSocket.
    WebSocket,
    /// The other way round: a hub that this server connects to as a leaf node.
    Hub,
}

impl Way {
    /// As tokens call it.
    pub(crate) fn kind(self) -> &'static str {
        if self == Self::WebSocket { "WEBSOCKET" } else { "STANDARD" }
    }

    /// As monitoring calls it.
    pub fn client_type(self) -> &'static str {
        if self == Self::WebSocket { "websocket" } else { "nats" }
    }
}

/// How somebody came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entered<'a> {
    pub(crate) way: Way,
    /// As whom.
    pub(crate) user: &'a str,
    /// Without saying who.
    pub(crate) unasked: bool,
    pub(crate) certificate: Option<&'a CertificateNames>,
    /// From where.
    pub(crate) host: &'a str,
}

impl Credentials {
    /// True if nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        [&self.user, &self.pass, &self.token, &self.nkey, &self.jwt].iter().all(|given| given.is_empty())
    }

    /// Who they say that they are; never a secret.
    pub(crate) fn name(&self) -> &str {
        match (&*self.nkey, &*self.user, &*self.token) {
            ("", "", "") => "",
            ("", "", _) => "[REDACTED]",
            ("", user, _) => user,
            (nkey, ..) => nkey,
        }
    }
}

impl std::fmt::Display for Credentials {
    /// Who it was, for the log; nothing if there is nothing to say.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.nkey.is_empty() {
            write!(f, "Nkey {:?}", self.nkey)
        } else if !self.user.is_empty() {
            write!(f, "User {:?}", self.user)
        } else if !self.token.is_empty() {
            f.write_str("Token \"[REDACTED]\"")
        } else if !self.jwt.is_empty() {
            f.write_str("JWT User")
        } else {
            Ok(())
        }
    }
}

impl std::fmt::Debug for Credentials {
    /// Never a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({self})")
    }
}

/// Somebody wants to come in.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) credentials: &'a Credentials,
    /// What INFO gave to sign.
    pub(crate) nonce: &'a str,
    /// What the certificate says that was shown, where that matters.
    pub(crate) certificate: Option<&'a CertificateNames>,
    /// The address that it comes from.
    pub(crate) host: &'a str,
    pub(crate) way: Way,
    /// Since the Unix epoch.
    pub(crate) now: Duration,
    /// Answers to earlier questions.
    pub(crate) known: &'a Known,
}

impl Attempt<'_> {
    /// The answer, if this was asked already.
    fn answer(&self, question: &Question) -> Option<&Answer> {
        self.known.iter().find(|(asked, _)| asked == question).map(|(_, answer)| answer)
    }

    /// `identity` may come in if the answer to `question` is yes.
    fn if_yes(&self, question: Question, identity: Identity) -> Verdict {
        match self.answer(&question) {
            Some(Answer::Yes) => Verdict::Granted(identity),
            Some(_) => Verdict::Denied(""),
            None => Verdict::Ask(question),
        }
    }

    fn if_secret(&self, secret: &Secret, given: &str, identity: Identity) -> Verdict {
        match secret {
            Secret::Plain(text) if secret::same(text.as_bytes(), given.as_bytes()) => {
                Verdict::Granted(identity)
            }
            Secret::Plain(_) => Verdict::Denied(""),
            Secret::Bcrypt(hash) => {
                self.if_yes(Question::Password { hash: hash.clone(), secret: given.to_owned() }, identity)
            }
        }
    }

    fn if_signed(&self, key: PublicKey, identity: Identity) -> Verdict {
        let sig = &self.credentials.sig;
        match midge_jwt::signature(sig).filter(|_| !sig.is_empty()) {
            None => Verdict::Denied("Signature missing"),
            Some(signature) => {
                let message = self.nonce.as_bytes().to_vec();
                self.if_yes(Question::Signature { key, message, signature }, identity)
            }
        }
    }
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
    /// By what right it is in, if that was a token.
    pub warrant: Option<Arc<Warrant>>,
}

/// What a check found.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// Come in.
    Granted(Identity),
    /// Stay out. One answer for all causes; the cause, if there is one to name, is for the log.
    Denied(&'static str),
    /// Not known before this is answered.
    Ask(Question),
    /// A service is to be asked.
    Consult(Box<Consultation>),
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
    /// Users are named by their certificates, and in no other way, besides those who sign.
    pub certificates: Option<Certificates>,
    /// Who a connection without credentials is.
    pub no_auth_user: Option<SmolStr>,
    /// The serial lines, by the host that those have who come over them.
    pub lines: HashMap<SmolStr, Line>,
    /// The account of connections that nobody is asked about.
    pub default_account: SmolStr,
    /// Users are those whom operators' accounts vouch for, and nobody else.
    pub trust: Option<Trust>,
    /// A service has the last word on users.
    pub callout: Option<CalloutRule>,
    /// The accounts that it may place users in.
    pub accounts: HashSet<SmolStr>,
    /// What counts for those who come over WebSocket in the place of all but trust, service and lines.
    pub websocket: Option<Box<Directory>>,
}

impl Directory {
    /// What counts for those who come this way, besides trust, service and lines.
    pub(crate) fn of(&self, way: Way) -> &Self {
        match &self.websocket {
            Some(websocket) if way == Way::WebSocket => websocket,
            _ => self,
        }
    }

    /// True if those who come this way must say who they are.
    pub(crate) fn asks(&self, way: Way) -> bool {
        self.is_required() || self.of(way).is_required()
    }

    /// True if credentials are configured at all.
    pub fn is_required(&self) -> bool {
        self.closed
            || self.token.is_some()
            || self.trust.is_some()
            || self.callout.is_some()
            || !self.users.is_empty()
    }

    /// True if somebody here proves who they are by a signature.
    pub(crate) fn wants_signatures(&self) -> bool {
        self.users.values().any(|user| matches!(user.proof, Proof::Key(_)))
    }

    /// True if a service may be asked about users in words that are sealed.
    pub(crate) fn seals(&self) -> bool {
        self.trust.is_some() || self.callout.as_ref().is_some_and(|rule| rule.xkey.is_some())
    }

    /// Judges an attempt to come in. The order is nats-server's: token of a user, anonymous, nkey, name.
    pub(crate) fn check(&self, attempt: &Attempt<'_>) -> Verdict {
        if let Some(trust) = &self.trust {
            return trust.check(attempt);
        }
        if !self.asks(attempt.way) {
            return Verdict::Granted(self.anybody(""));
        }
        self.of(attempt.way).check_listed(attempt)
    }

    /// Among those who are listed here.
    fn check_listed(&self, attempt: &Attempt<'_>) -> Verdict {
        let given = attempt.credentials;
        if let Some(secret) = &self.token {
            return attempt.if_secret(secret, &given.token, self.anybody("[REDACTED]"));
        }
        // Where nobody signs, an nkey counts for nothing.
        let by_nkey = !given.nkey.is_empty() && self.wants_signatures();
        if let Some(index) = self.certificates.as_ref().filter(|_| !by_nkey) {
            return match attempt.certificate.and_then(|names| self.named(index, names)) {
                Some((name, user, secret)) => attempt.if_secret(secret, &given.pass, user.identity(name)),
                None => Verdict::Denied(""),
            };
        }
        let nothing = given.user.is_empty() && given.pass.is_empty() && given.token.is_empty() && !by_nkey;
        if let Some(name) = self.no_auth_user.as_ref().filter(|_| nothing) {
            let user = self.users.get(name).filter(|user| user.welcome);
            return user.map_or(Verdict::Denied(""), |user| Verdict::Granted(user.identity(name)));
        }
        let name = if by_nkey { &given.nkey } else { &given.user };
        let Some((name, user)) = self.users.get_key_value(name.as_str()).filter(|(_, user)| user.welcome)
        else {
            return Verdict::Denied("");
        };
        match &user.proof {
            // Who may come in as this user without any credentials may do so by its name, too.
            Proof::Key(_) if by_nkey && self.no_auth_user.as_ref() == Some(name) => {
                Verdict::Granted(user.identity(name))
            }
            Proof::Key(key) if by_nkey => attempt.if_signed(*key, user.identity(name)),
            Proof::Secret(secret) if !by_nkey => attempt.if_secret(secret, &given.pass, user.identity(name)),
            _ => Verdict::Denied(""),
        }
    }

    /// The user that a certificate names.
    fn named(&self, index: &Certificates, names: &CertificateNames) -> Option<(&SmolStr, &User, &Secret)> {
        index.candidates(names).find_map(|name| match self.users.get_key_value(name)? {
            (name, user @ User { proof: Proof::Secret(secret), welcome: true, .. }) => {
                Some((name, user, secret))
            }
            _ => None,
        })
    }

    /// Who a connection is that sends no CONNECT, if that is allowed. As in nats-server, that is nobody who is known
    /// by an nkey.
    pub(crate) fn anonymous(&self, host: &str, way: Way) -> Option<Identity> {
        if let Some(identity) = self.on_line(host) {
            return Some(identity);
        }
        if !self.asks(way) {
            return Some(self.anybody(""));
        }
        let here = self.of(way);
        let name = here.no_auth_user.as_ref().filter(|_| self.trust.is_none() && self.callout.is_none())?;
        let user = here.users.get(name).filter(|user| user.welcome)?;
        matches!(user.proof, Proof::Secret(_)).then(|| user.identity(name))
    }

    /// Who somebody is now that came in under `old`; `None` if they wouldn't come in the same way.
    pub(crate) fn readmit(&self, old: &Self, entered: &Entered<'_>) -> Option<Identity> {
        let Entered { way, user, unasked, certificate, host } = *entered;
        if let Some(identity) = self.on_line(host).filter(|_| unasked) {
            return Some(identity);
        }
        let here = self.of(way);
        if self.is_required() && !here.is_required() {
            return None;
        }
        here.readmit_listed(old.of(way), user, unasked, certificate)
    }

    fn readmit_listed(
        &self,
        old: &Self,
        user: &str,
        unasked: bool,
        certificate: Option<&CertificateNames>,
    ) -> Option<Identity> {
        if self.certificates.is_some() || old.certificates.is_some() {
            let by_key = old.users.get(user).is_some_and(|user| matches!(user.proof, Proof::Key(_)));
            if !by_key {
                // Not only the name may be another's now: another name in the certificate may come first.
                old.certificates.as_ref().filter(|_| self.users.contains_key(user))?;
                let (name, found, secret) = self.named(self.certificates.as_ref()?, certificate?)?;
                let proven = old.users.get(user).is_some_and(|user| user.proof == found.proof);
                return (proven || *secret == Secret::new("")).then(|| found.identity(name));
            }
        }
        match (self.users.get_key_value(user), old.users.get(user)) {
            (Some((name, new)), Some(old)) => {
                let same = new.proof == old.proof && new.account == old.account && new.welcome;
                let asked = !unasked || self.no_auth_user.as_ref() == Some(name);
                (same && asked).then(|| new.identity(name))
            }
            (None, None) if !self.is_required() => Some(self.anybody("")),
            (None, None) if self.token.is_some() && self.token == old.token => Some(self.anybody(user)),
            _ => None,
        }
    }

    /// Somebody without a name of their own.
    fn anybody(&self, shown: &str) -> Identity {
        Identity { user: shown.into(), account: self.default_account.clone(), permit: None, warrant: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use midge_jwt::{KeyPair, Kind};

    const NONCE: &str = "nonce";

    fn user(proof: Proof, account: &str) -> User {
        User { proof, account: account.into(), permit: None, welcome: true }
    }

    fn named(user: &str, pass: &str) -> Credentials {
        Credentials { user: user.into(), pass: pass.into(), ..Credentials::default() }
    }

    fn signed(pair: &KeyPair, message: &str) -> Credentials {
        use base64::Engine;
        let sig = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
        Credentials { nkey: pair.public().to_string(), sig, ..Credentials::default() }
    }

    fn attempt<'a>(credentials: &'a Credentials, known: &'a Known) -> Attempt<'a> {
        let (host, now) = ("192.0.2.1", Duration::from_secs(1000));
        Attempt { credentials, nonce: NONCE, certificate: None, host, way: Way::Plain, now, known }
    }

    /// Who `credentials` come in as, when all questions are answered.
    fn enter(directory: &Directory, credentials: &Credentials) -> Option<Identity> {
        let mut known = Known::new();
        loop {
            match directory.check(&attempt(credentials, &known)) {
                Verdict::Granted(identity) => return Some(identity),
                Verdict::Denied(_) | Verdict::Consult(_) => return None,
                Verdict::Ask(question) => {
                    let answer = question.answer(&midge_jwt::Utc);
                    known.push((question, answer));
                }
            }
        }
    }

    #[test]
    fn users_and_anonymous() {
        let secret = |text: &str| Proof::Secret(Secret::new(text));
        let hash = bcrypt::hash("2", 4).unwrap();
        let mut directory = Directory {
            users: [("a".into(), user(secret("1"), "A")), ("b".into(), user(secret(&hash), "B"))].into(),
            ..Directory::default()
        };
        assert_eq!(enter(&directory, &named("a", "1")).unwrap().account, "A");
        assert_eq!(enter(&directory, &named("b", "2")).unwrap().account, "B");
        for (name, pass) in [("a", "2"), ("b", "1"), ("c", "1"), ("", "")] {
            assert!(enter(&directory, &named(name, pass)).is_none(), "{name} {pass}");
        }
        directory.no_auth_user = Some("a".into());
        assert_eq!(enter(&directory, &named("", "")).unwrap().user, "a");
        assert!(enter(&directory, &named("", "x")).is_none());
        let nkey = Credentials { nkey: "U".into(), ..Credentials::default() };
        assert_eq!(enter(&directory, &nkey).unwrap().user, "a", "nobody asks for nkeys");
    }

    #[test]
    fn a_token_admits_whoever_has_it() {
        let directory = Directory { token: Some(Secret::new("t")), ..Directory::default() };
        let token = |t: &str| Credentials { token: t.into(), ..Credentials::default() };
        assert!(enter(&directory, &token("t")).is_some());
        assert!(enter(&directory, &token("T")).is_none());
        assert!(enter(&Directory::default(), &token("")).is_some());
    }

    #[test]
    fn keys_sign_what_they_are_given() {
        let (key, other) = (KeyPair::new(Kind::User, &[1; 32]), KeyPair::new(Kind::User, &[2; 32]));
        let name = SmolStr::from(key.public().to_string());
        let mut directory = Directory {
            users: [
                (name.clone(), user(Proof::Key(key.public()), "A")),
                ("a".into(), user(Proof::Secret(Secret::new("1")), "B")),
            ]
            .into(),
            ..Directory::default()
        };
        assert_eq!(enter(&directory, &signed(&key, NONCE)).unwrap().user, name);
        assert!(enter(&directory, &signed(&key, "another nonce")).is_none());
        assert!(enter(&directory, &signed(&other, NONCE)).is_none());
        let stolen = Credentials { nkey: name.to_string(), ..signed(&other, NONCE) };
        assert!(enter(&directory, &stolen).is_none());
        let unsigned = Credentials { sig: String::new(), ..signed(&key, NONCE) };
        assert!(enter(&directory, &unsigned).is_none());
        assert!(enter(&directory, &named(&name, "")).is_none(), "a key is no name");
        let both = Credentials { user: "a".into(), pass: "1".into(), ..signed(&key, NONCE) };
        assert_eq!(enter(&directory, &both).unwrap().account, "A");
        directory.no_auth_user = Some(name);
        assert!(
            enter(&directory, &unsigned).is_some() && enter(&directory, &signed(&other, NONCE)).is_none()
        );
    }

    #[test]
    fn an_answer_counts_for_its_own_question_alone() {
        let hash = "$2a$04$F7I82Wz.N6mOAcMeFnJFBO8zePvBSgdjLmWJS2enLuDw8F3Xi56Uq";
        let directory = Directory { token: Some(Secret::new(hash)), ..Directory::default() };
        let credentials = Credentials { token: "t".into(), ..Credentials::default() };
        let asked = Question::Password { hash: "$2a$04$another".into(), secret: "t".into() };
        let known = vec![(asked, Answer::Yes)];
        let verdict = directory.check(&attempt(&credentials, &known));
        assert!(matches!(verdict, Verdict::Ask(_)), "{verdict:?}");
    }
}
