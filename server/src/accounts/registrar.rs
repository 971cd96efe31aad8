//! Requests in the system account about the claims of accounts.
//!
//! Source: nats-server's `accounts.go` (`DirAccResolver.Start`) and `events.go` (`accountClaimUpdate`).

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use midge_broker::system::ServerIdentity;
use midge_broker::{AccountClaims, Broker, InsideSub, Letter, MailboxId, Now, Post};
use midge_jwt::{Deletion, Token};
use midge_wire::Handle;
use serde::Serialize;

use super::Store;
use crate::hub::Hub;

/// Bytes of requests that wait at most: more than one token of the largest size.
const MAIL_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Who answers.
pub(crate) struct Registrar {
    hub: Arc<Hub>,
    mailbox: MailboxId,
    store: Option<Arc<Store>>,
    _subs: Vec<InsideSub>,
}

#[derive(Serialize)]
struct Answer<'a, D> {
    server: ServerIdentity,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<D>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure<'a>>,
}

#[derive(Serialize)]
struct Success<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    account: &'a str,
    code: u16,
    message: String,
}

#[derive(Serialize)]
struct Failure<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    account: &'a str,
    code: u16,
    description: String,
}

/// What became of a request: the account that it was about, and words for it.
type Outcome = (String, Result<String, String>);

impl Registrar {
    /// Subscribes to requests. `None` if no account's claims can change.
    pub(crate) fn open(hub: &Arc<Hub>) -> Option<Self> {
        let store = hub.outside.accounts.store.clone();
        let serves = |broker: &mut Broker<Handle>, _: Now| {
            let settings = broker.settings();
            settings.directory.trust.as_ref()?;
            let system = settings.system_account.clone()?;
            let account = broker.account_named(&system)?;
            let mailbox = broker.open_mailbox(MAIL_BYTES_MAX)?;
            let updates = ["$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE", "$SYS.ACCOUNT.*.CLAIMS.UPDATE"];
            let more: &[&str] = match &store {
                None => &[],
                Some(store) if store.is_full() => &[
                    "ACCOUNT.*.CLAIMS.LOOKUP",
                    "CLAIMS.UPDATE",
                    "CLAIMS.LIST",
                    "CLAIMS.DELETE",
                    "CLAIMS.PACK",
                ],
                Some(_) => &["CLAIMS.UPDATE", "CLAIMS.LIST", "CLAIMS.DELETE"],
            };
            let more = more.iter().map(|word| format!("$SYS.REQ.{word}"));
            let subjects = updates.into_iter().map(str::to_owned).chain(more);
            let mut subscribe =
                |subject: String| broker.subscribe_inside(account, subject.as_bytes(), mailbox, 0);
            let subs = subjects.filter_map(&mut subscribe).collect();
            Some((mailbox, subs))
        };
        let (opened, _) = hub.turn(serves);
        let (mailbox, subs) = opened?;
        Some(Self { hub: Arc::clone(hub), mailbox, store, _subs: subs })
    }

    /// Answers until the task is aborted.
    pub(crate) async fn run(self) {
        let registrar = Arc::new(self);
        let Some(bell) = registrar.hub.bell(registrar.mailbox) else { return };
        loop {
            bell.notified().await;
            for letter in registrar.hub.look(|broker, _| broker.take_letters(registrar.mailbox)) {
                let registrar = Arc::clone(&registrar);
                // Files, and signatures to verify: beside the event loop, one after the other.
                let _ = tokio::task::spawn_blocking(move || registrar.attend(&letter)).await;
            }
        }
    }

    fn attend(&self, letter: &Letter) {
        let Ok(subject) = std::str::from_utf8(letter.subject()) else { return };
        let body = letter.payload();
        let body = String::from_utf8_lossy(body);
        let tokens: Vec<_> = subject.split('.').collect();
        match tokens[..] {
            ["$SYS", "REQ", "ACCOUNT", key, "CLAIMS", "LOOKUP"] => {
                let text = self.load(key).unwrap_or_default();
                self.say(letter, text.as_bytes());
            }
            ["$SYS", "REQ", "ACCOUNT", key, "CLAIMS", "UPDATE"]
            | ["$SYS", "ACCOUNT", key, "CLAIMS", "UPDATE"] => {
                self.respond(letter, self.update(&body, Some(key)));
            }
            ["$SYS", "REQ", "CLAIMS", "UPDATE"] => self.respond(letter, self.update(&body, None)),
            ["$SYS", "REQ", "CLAIMS", "DELETE"] => self.respond(letter, self.delete(&body)),
            ["$SYS", "REQ", "CLAIMS", "LIST"] => {
                let keys = self.store.as_ref().map(|store| store.keys()).unwrap_or_default();
                self.answer(letter, Some(keys), None);
            }
            ["$SYS", "REQ", "CLAIMS", "PACK"] => self.pack(letter, letter.payload()),
            _ => {}
        }
    }

    fn load(&self, key: &str) -> Option<String> {
        let store = self.store.as_ref()?;
        store.load(key, UNIX_EPOCH + self.hub.clock.now().wall).unwrap_or_else(|error| {
            self.hub.log.error(format_args!("the account {key} can't be read: {error}"));
            None
        })
    }

    /// New claims of an account; `key`, if the subject names it.
    fn update(&self, text: &str, key: Option<&str>) -> Outcome {
        let words = match &self.store {
            None => ["jwt update resulted in error", "jwt updated", "jwt update skipped"],
            Some(store) if store.is_full() => {
                ["jwt update resulted in error", "jwt updated", "jwt update skipped"]
            }
            Some(_) => {
                ["jwt update cache resulted in error", "jwt updated cache", "jwt update cache skipped"]
            }
        };
        let [error, done, skipped] = words;
        let failed = |account: &str, why: String| (account.to_owned(), Err(format!("{error} - {why}")));
        let text = text.trim();
        let claims = match AccountClaims::read(text) {
            Ok(claims) => claims,
            Err(why) => {
                return failed(key.filter(|_| self.store.is_none()).unwrap_or("n/a"), why.to_string());
            }
        };
        let account = key.unwrap_or(claims.key()).to_owned();
        if key.is_some_and(|key| key != claims.key()) {
            return failed(&account, "subject does not match jwt content".into());
        }
        let vouched = self.hub.look(|broker, now| {
            let trust = broker.settings().directory.trust.as_ref()?;
            let known = trust.accounts.contains_key(claims.key());
            let problem = trust.vouches(&claims).err();
            let seconds = i64::try_from(now.wall.as_secs()).unwrap_or(i64::MAX);
            Some((known, problem.or_else(|| claims.token.claims.time_problem(seconds).map(str::to_owned))))
        });
        let (known, problem) = vouched.unwrap_or((false, None));
        if let Some(why) = problem {
            return failed(&account, why);
        }
        let keeps_all = self.store.as_ref().is_some_and(|store| store.is_full());
        if !known && !keeps_all {
            return (account, Ok(skipped.to_owned()));
        }
        if let Some(store) = &self.store
            && let Err(why) = store.save(claims.key(), text, UNIX_EPOCH + self.hub.clock.now().wall)
        {
            return failed(&account, why);
        }
        if known {
            self.hub.turn(|broker, now| broker.learn(vec![Arc::new(claims)], now));
        }
        (account, Ok(done.to_owned()))
    }

    fn delete(&self, text: &str) -> Outcome {
        let order = Token::<Deletion>::decode(text.trim());
        let subject = order.as_ref().map(|order| order.claims.sub.clone()).unwrap_or_default();
        let trusted = |key: &str| {
            self.hub.look(|broker, _| {
                broker.settings().directory.trust.as_ref().is_some_and(|trust| trust.keys.contains(key))
            })
        };
        let system = self.hub.look(|broker, _| broker.settings().system_account.clone()).unwrap_or_default();
        let is_account = |key: &String| midge_jwt::nkey::is(key, midge_jwt::Kind::Account);
        let store = self.store.as_ref().filter(|store| store.deletes());
        let checked = match (order, store) {
            (Err(why), _) => Err(why.to_string()),
            (Ok(_), None) => Err("delete must be enabled in server config".into()),
            (Ok(order), Some(store)) => match order {
                order if order.claims.sub != order.claims.iss => Err("not self signed".into()),
                order if !trusted(&order.claims.iss) => Err("not trusted".into()),
                order if !order.body.accounts.iter().all(is_account) => Err("malformed request".into()),
                order if order.body.accounts.contains(&system.to_string()) => {
                    Err("not allowed to delete system account".into())
                }
                order => Ok((store, order.body.accounts)),
            },
        };
        let (store, accounts) = match checked {
            Ok(checked) => checked,
            Err(why) => {
                let text = format!("delete accounts request by {subject} failed - {why}");
                return (String::new(), Err(text));
            }
        };
        let mut problems = Vec::new();
        for key in &accounts {
            match store.delete(key) {
                Ok(()) => drop(self.hub.turn(|broker, now| broker.forget_account(key, now))),
                Err(why) => problems.push(why),
            }
        }
        let deleted = accounts.len() - problems.len();
        let outcome = match problems.is_empty() {
            true => Ok(format!("deleted {deleted} accounts")),
            false => {
                let (failed, why) = (problems.len(), problems.join("\n"));
                Err(format!("deleted {deleted} accounts, failed for {failed} - {why}"))
            }
        };
        (String::new(), outcome)
    }

    /// All tokens, for another server whose directory has this hash.
    fn pack(&self, letter: &Letter, theirs: &[u8]) {
        let Some(store) = &self.store else { return };
        if store.hash() != theirs {
            for key in store.keys() {
                if let Some(text) = self.load(&key) {
                    self.say(letter, format!("{key}|{text}").as_bytes());
                }
            }
        }
        self.say(letter, b"");
    }

    fn respond(&self, letter: &Letter, (account, outcome): Outcome) {
        let log = &self.hub.log;
        match &outcome {
            Ok(message) => log.debug(format_args!("{message} - {account}")),
            Err(description) => log.error(format_args!("{account} - {description}")),
        }
        let account = account.as_str();
        match outcome {
            Ok(message) => self.answer(letter, Some(Success { account, code: 200, message }), None),
            Err(description) => {
                self.answer::<()>(letter, None, Some(Failure { account, code: 500, description }))
            }
        }
    }

    fn answer<D: Serialize>(&self, letter: &Letter, data: Option<D>, error: Option<Failure<'_>>) {
        let (server, _) = self.hub.turn(|broker, now| broker.identity(now));
        // It is made of texts and numbers.
        let json = serde_json::to_vec(&Answer { server, data, error }).unwrap_or_default();
        self.say(letter, &json);
    }

    fn say(&self, letter: &Letter, payload: &[u8]) {
        let Some(subject) = letter.reply() else { return };
        let post = Post { subject, payload, ..Post::default() };
        self.hub.turn(|broker, now| midge_wire::inject(broker, letter.account, &post, now));
    }
}
