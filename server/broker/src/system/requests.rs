//! What may be asked of the server, and by whom.
//!
//! Whoever is in the system account asks on the subjects below. Everybody else has a few of them as imports, which lead to
//! their own account's figures only ([`imports`]).

use crate::account::export::{Access, Exports, Response, ServiceExport};
use crate::account::import::ServiceImport;

/// What a server tells of itself: `$SYS.REQ.SERVER.<id>.<word>`, or of each server: `$SYS.REQ.SERVER.PING.<word>`.
const SERVER: &[&str] = &[
    "IDZ",
    "STATSZ",
    "VARZ",
    "SUBSZ",
    "CONNZ",
    "ROUTEZ",
    "GATEWAYZ",
    "LEAFZ",
    "ACCOUNTZ",
    "JSZ",
    "HEALTHZ",
    "PROFILEZ",
    "EXPVARZ",
    "IPQUEUESZ",
    "RAFTZ",
];
/// What a server does: `$SYS.REQ.SERVER.<id>.<word>`.
const ORDERS: &[&str] = &["RELOAD", "KICK", "LDM"];
/// What a server tells of an account: `$SYS.REQ.ACCOUNT.<name>.<word>`.
const ACCOUNT: &[&str] = &["SUBSZ", "CONNZ", "LEAFZ", "JSZ", "INFO", "STATZ", "CONNS"];

const PING: &str = "PING";
const SUBSCRIBERS: &str = "$SYS.DEBUG.SUBSCRIBERS";

/// A request to the server, as its subject says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A page of this server, or an order to it; the last word of the subject.
    Server(&'a str),
    /// A page on one account.
    Account {
        /// The account's name.
        name: &'a str,
        /// The last word of the subject.
        word: &'a str,
    },
    /// The figures of all accounts.
    Accounts,
    /// Who the requester is; in this account.
    User(&'a str),
    /// How many subscriptions there are; the payload says on what.
    Subscribers,
}

impl<'a> Request<'a> {
    /// Reads the subject of a [`Letter`](crate::Letter) to [`MailboxId::SYSTEM`](crate::MailboxId::SYSTEM).
    pub fn read(subject: &'a [u8]) -> Option<Self> {
        let subject = std::str::from_utf8(subject).ok()?;
        if subject == SUBSCRIBERS {
            return Some(Self::Subscribers);
        }
        let tokens: Vec<_> = subject.strip_prefix("$SYS.REQ.")?.split('.').collect();
        Some(match tokens[..] {
            ["SERVER", PING] => Self::Server("STATSZ"),
            ["SERVER", _, word] => Self::Server(word),
            ["ACCOUNT", PING, "STATZ"] => Self::Accounts,
            ["ACCOUNT", name, word] => Self::Account { name, word },
            ["USER", account, "INFO"] => Self::User(account),
            _ => return None,
        })
    }
}

/// All subjects that the server with this id answers on. No two of them have a subject in common, so that nothing is
/// answered twice.
pub(super) fn subjects(id: &str) -> Vec<String> {
    let mut subjects =
        vec![format!("$SYS.REQ.SERVER.{PING}"), "$SYS.REQ.USER.*.INFO".to_owned(), SUBSCRIBERS.to_owned()];
    subjects.extend(SERVER.iter().map(|word| format!("$SYS.REQ.SERVER.{PING}.{word}")));
    subjects.extend(SERVER.iter().chain(ORDERS).map(|word| format!("$SYS.REQ.SERVER.{id}.{word}")));
    subjects.extend(ACCOUNT.iter().map(|word| format!("$SYS.REQ.ACCOUNT.*.{word}")));
    subjects
}

/// What the system account exports besides what is configured.
pub(crate) fn add_exports(exports: &mut Exports) {
    let own = |subject: &str| ServiceExport {
        access: Access::OwnName(4),
        response: Response::Stream,
        ..ServiceExport::new(subject)
    };
    for export in [
        own("$SYS.REQ.ACCOUNT.*.CONNZ"),
        own("$SYS.REQ.ACCOUNT.*.STATZ"),
        ServiceExport::new(SUBSCRIBERS),
        ServiceExport::new("$SYS.REQ.USER.*.INFO"),
    ] {
        if !exports.covers_service(&export.subject) {
            exports.services.push(export);
        }
    }
}

/// What an account imports from the system account without being asked.
pub(crate) fn imports(account: &str, system: &str) -> Vec<ServiceImport> {
    let import = |to: &str, subject: String, share| ServiceImport {
        account: system.into(),
        subject,
        to: to.to_owned(),
        share,
        activation: None,
    };
    let user = import("$SYS.REQ.USER.INFO", format!("$SYS.REQ.USER.{account}.INFO"), true);
    if account == system {
        return vec![user];
    }
    let own = |word| format!("$SYS.REQ.ACCOUNT.{account}.{word}");
    vec![
        import("$SYS.REQ.ACCOUNT.PING.CONNZ", own("CONNZ"), false),
        import("$SYS.REQ.SERVER.PING.CONNZ", own("CONNZ"), false),
        import("$SYS.REQ.ACCOUNT.PING.STATZ", own("STATZ"), false),
        user,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use midge_protocol::subject::Filter;

    #[test]
    fn every_subject_is_understood() {
        for subject in subjects("NID") {
            assert!(Request::read(subject.as_bytes()).is_some(), "{subject}");
        }
        let subjects = subjects("NID");
        for (at, subject) in subjects.iter().enumerate() {
            let filter = Filter::new(subject.as_bytes()).unwrap();
            let others = subjects[at + 1..].iter().map(|other| Filter::new(other.as_bytes()).unwrap());
            assert!(others.into_iter().all(|other| !filter.overlaps(other)), "{subject}");
        }
        for (subject, request) in [
            ("$SYS.REQ.SERVER.PING", Some(Request::Server("STATSZ"))),
            ("$SYS.REQ.SERVER.NID.VARZ", Some(Request::Server("VARZ"))),
            ("$SYS.REQ.ACCOUNT.A.CONNZ", Some(Request::Account { name: "A", word: "CONNZ" })),
            ("$SYS.REQ.ACCOUNT.PING.STATZ", Some(Request::Accounts)),
            ("$SYS.REQ.USER.A.INFO", Some(Request::User("A"))),
            ("$SYS.REQ.USER.A", None),
            ("$SYS.REQ.\u{fffd}", None),
        ] {
            assert_eq!(Request::read(subject.as_bytes()), request, "{subject}");
        }
        assert_eq!(Request::read(b"$SYS.REQ.ACCOUNT.\xff.INFO"), None);
    }
}
