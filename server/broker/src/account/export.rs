//! What an account offers to others.

use std::sync::Arc;
use std::time::Duration;

use midge_protocol::subject::{Filter, Subject, tokens};
use smol_str::SmolStr;

use super::AccountId;

/// Exports of an account, as configured. Of several for one subject the last counts, but all add to who may import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// Messages that flow one way.
    pub streams: Vec<StreamExport>,
    /// Requests, and answers back.
    pub services: Vec<ServiceExport>,
}

/// Messages that others may receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamExport {
    /// The subject, perhaps with wildcards.
    pub subject: String,
    /// Who may import it.
    pub access: Access,
}

/// Requests that others may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceExport {
    /// The subject, perhaps with wildcards.
    pub subject: String,
    /// Who may import it.
    pub access: Access,
    /// What answers a request.
    pub response: Response,
    /// How long an answer is waited for, or the next one of several.
    pub threshold: Duration,
    /// Where and how often it is reported how long answers take.
    pub latency: Option<Latency>,
    /// Who traces a request is told what becomes of it in this account.
    pub allow_trace: bool,
}

/// nats-server's time for an answer.
pub const RESPONSE_THRESHOLD: Duration = Duration::from_secs(120);

impl ServiceExport {
    /// A public export with a single answer to a request.
    pub fn new(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            access: Access::Public,
            response: Response::Single,
            threshold: RESPONSE_THRESHOLD,
            latency: None,
            allow_trace: false,
        }
    }
}

/// Who may import what is exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// These accounts.
    Accounts(Vec<SmolStr>),
    /// Accounts that hold an `Activation`.
    Activated,
    /// Every account, but only subjects that have its own name as the token of this number, counted from 1.
    OwnName(u32),
}

/// What answers a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Response {
    /// One message.
    #[default]
    Single,
    /// Any number of messages; an empty one is the last.
    Stream,
    /// One message in pieces; an empty one is the last.
    Chunked,
}

impl Response {
    /// nats-server's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "Singleton",
            Self::Stream => "Streamed",
            Self::Chunked => "Chunked",
        }
    }
}

/// Reports on how long a service takes to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Where reports go, in the exporting account.
    pub subject: String,
    /// The share of requests in percent, 1 to 100. 0: those that ask for it in a header for tracing.
    pub sampling: u8,
}

/// A service export in force. Which one it is, its address tells: one object for each export.
#[derive(Debug)]
pub(crate) struct ExportedService {
    pub(crate) account: AccountId,
    pub(crate) export: ServiceExport,
}

/// The exports of one account in force, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exported {
    pub(crate) streams: Vec<StreamExport>,
    pub(crate) services: Vec<Arc<ExportedService>>,
}

impl Exported {
    /// Joins exports of one subject.
    pub(crate) fn new(account: AccountId, exports: &Exports) -> Self {
        let mut streams: Vec<StreamExport> = Vec::new();
        for export in &exports.streams {
            match streams.iter_mut().find(|known| known.subject == export.subject) {
                Some(known) => known.access.join(&export.access),
                None => streams.push(export.clone()),
            }
        }
        let mut services: Vec<ServiceExport> = Vec::new();
        for export in &exports.services {
            match services.iter_mut().find(|known| known.subject == export.subject) {
                Some(known) => {
                    let mut access = known.access.clone();
                    access.join(&export.access);
                    *known = ServiceExport { access, ..export.clone() };
                }
                None => services.push(export.clone()),
            }
        }
        let services = services.into_iter().map(|export| Arc::new(ExportedService { account, export }));
        Self { streams, services: services.collect() }
    }

    /// Whether `account` may import the stream `subject`.
    pub(crate) fn grants_stream(&self, subject: &str, account: &str, activated: bool) -> bool {
        let exports = self.streams.iter().map(|export| (export.subject.as_str(), &export.access));
        let found = covering(exports, subject);
        found.is_some_and(|(access, exact)| access.grants(subject, exact, account, activated))
    }

    /// Whether `account` may import the service `subject`.
    pub(crate) fn grants_service(&self, subject: &str, account: &str, activated: bool) -> bool {
        let exports = self.services.iter().map(|it| (it.export.subject.as_str(), &it.export.access));
        let found = covering(exports, subject);
        found.is_some_and(|(access, exact)| access.grants(subject, exact, account, activated))
    }

    /// The export that requests on `subject` are for.
    pub(crate) fn service(&self, subject: &str) -> Option<&Arc<ExportedService>> {
        let services = self.services.iter().map(|it| (it.export.subject.as_str(), it));
        covering(services, subject).map(|(service, _)| service)
    }

    /// True if requests on `subject` are for a service.
    pub(crate) fn has_service(&self, subject: &str) -> bool {
        self.service(subject).is_some()
    }
}

/// The entry for `subject` itself, or else the first for a filter that it is a subset of; and whether it is the former.
fn covering<'e, T>(
    mut entries: impl Iterator<Item = (&'e str, T)> + Clone,
    subject: &str,
) -> Option<(T, bool)> {
    if let Some((_, entry)) = entries.clone().find(|(exported, _)| *exported == subject) {
        return Some((entry, true));
    }
    let wanted = Filter::new(subject.as_bytes()).ok()?;
    let covers =
        |exported: &str| Filter::new(exported.as_bytes()).is_ok_and(|exported| wanted.is_subset_of(exported));
    entries.find(|(exported, _)| covers(exported)).map(|(_, entry)| (entry, false))
}

impl Access {
    /// What is granted by either.
    fn join(&mut self, other: &Self) {
        match (self, other) {
            (_, Self::Public) => {}
            (Self::Accounts(accounts), Self::Accounts(more)) => accounts.extend_from_slice(more),
            (access, other) => *access = other.clone(),
        }
    }

    fn grants(&self, subject: &str, exact: bool, account: &str, activated: bool) -> bool {
        match self {
            Self::Public => true,
            Self::Accounts(accounts) => accounts.iter().any(|name| name == account),
            Self::Activated => activated,
            // Whoever imports the export as it stands asks for everybody's.
            Self::OwnName(_) if exact => false,
            Self::OwnName(position) => {
                let place = (*position as usize).checked_sub(1);
                let token = place.and_then(|place| tokens(subject.as_bytes()).nth(place));
                token == Some(account.as_bytes())
            }
        }
    }

    /// Whether an export of `subject` can have this.
    fn fits(&self, subject: &str) -> bool {
        match self {
            Self::OwnName(position) => {
                let place = (*position as usize).checked_sub(1);
                place.and_then(|place| tokens(subject.as_bytes()).nth(place)) == Some(b"*")
            }
            _ => true,
        }
    }
}

impl Exports {
    /// Whether requests on all of `subject` are for a service.
    pub(crate) fn covers_service(&self, subject: &str) -> bool {
        covering(self.services.iter().map(|export| (export.subject.as_str(), ())), subject).is_some()
    }

    /// What is wrong with these exports of an account, in nats-server's words. `exists` knows which accounts there are.
    pub(crate) fn problems(&self, exists: impl Fn(&str) -> bool, has_system: bool) -> Vec<(Export, String)> {
        let mut problems = Vec::new();
        let unknown = |access: &Access, kind: &str| match access {
            Access::Accounts(names) => names
                .iter()
                .filter(|name| !exists(name))
                .map(|name| format!("{name:?} account not defined for {kind} export"))
                .collect(),
            _ => Vec::new(),
        };
        for (i, StreamExport { subject, access }) in self.streams.iter().enumerate() {
            let mut found: Vec<String> = unknown(access, "stream");
            if !access.fits(subject) {
                found.push(format!("Error adding stream export {subject:?}: sublist: invalid subject"));
            }
            problems.extend(found.into_iter().map(|text| (Export::Stream(i), text)));
        }
        let exported = Exported::new(AccountId(0), self);
        for (i, export) in self.services.iter().enumerate() {
            let ServiceExport { subject, access, response, latency, .. } = export;
            let mut found: Vec<String> = unknown(access, "service");
            if !access.fits(subject) {
                found.push(format!("Error adding service export {subject:?}: sublist: invalid subject"));
            }
            if let Some(latency) = latency {
                let to = &latency.subject;
                let why = if !has_system {
                    Some("system account not setup")
                } else if latency.sampling > 100 {
                    Some("bad sampling percentage, should be 1-100")
                } else if Subject::new(to.as_bytes()).is_err() || exported.has_service(to) {
                    Some("invalid publish subject")
                } else if *response != Response::Single {
                    Some("bad service response type")
                } else {
                    None
                };
                found.extend(why.map(|why| {
                    let on = if has_system { format!(" on subject {to:?}") } else { String::new() };
                    format!("Error adding service latency sampling for {subject:?}{on}: {why}")
                }));
            }
            problems.extend(found.into_iter().map(|text| (Export::Service(i), text)));
        }
        problems
    }
}

/// One export of an account, by its place among those of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// In [`Exports::streams`].
    Stream(usize),
    /// In [`Exports::services`].
    Service(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exported(services: &[(&str, Access)]) -> Exported {
        let services = services.iter();
        let services = services.map(|(subject, access)| ServiceExport {
            access: access.clone(),
            ..ServiceExport::new(*subject)
        });
        Exported::new(AccountId(1), &Exports { services: services.collect(), ..Exports::default() })
    }

    #[test]
    fn who_may_import_what() {
        let exported = exported(&[
            ("pub.*", Access::Public),
            ("some", Access::Accounts(vec!["B".into()])),
            ("some", Access::Accounts(vec!["C".into()])),
            ("token", Access::Activated),
            ("mine.*.x", Access::OwnName(2)),
        ]);
        for (subject, account, activated, granted) in [
            ("pub.a", "B", false, true),
            ("pub.*", "B", false, true),
            ("pub.>", "B", false, false),
            ("pub", "B", false, false),
            ("some", "B", false, true),
            ("some", "C", false, true),
            ("some", "D", true, false),
            ("token", "B", false, false),
            ("token", "B", true, true),
            ("mine.B.x", "B", false, true),
            ("mine.C.x", "B", false, false),
            ("mine.*.x", "*", false, false),
            ("other", "B", true, false),
        ] {
            assert_eq!(
                exported.grants_service(subject, account, activated),
                granted,
                "{subject} to {account}"
            );
            assert!(!exported.grants_stream(subject, account, activated), "{subject} is no stream");
        }
    }
}
