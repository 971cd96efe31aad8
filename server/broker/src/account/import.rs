//! What an account takes from others, and whether they let it.
//!
//! Imports are tied to exports whenever settings come in: [`Ties::new`] is the one place that decides which imports
//! there are. The texts are nats-server's (reference 3.4).

use std::sync::Arc;
use std::time::Duration;

use midge_protocol::subject::Filter;
use smol_str::SmolStr;

use super::AccountId;
use super::export::{Export, Exported, ExportedService};
use crate::settings::AccountSettings;
use crate::system;
use midge_router::mapping::{MappingError, Rename};

/// Imports of an account, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imports {
    /// Messages that flow one way.
    pub streams: Vec<StreamImport>,
    /// Requests, and answers back.
    pub services: Vec<ServiceImport>,
}

/// Messages of another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamImport {
    /// The account that exports it.
    pub account: SmolStr,
    /// The subject there.
    pub subject: String,
    /// The subject here; its wildcards may be numbered, `$1`.
    pub to: String,
    /// The token that allows the import, if one is needed.
    pub activation: Option<Activation>,
    /// Who traces a message in the exporting account is told whom it reaches here.
    pub allow_trace: bool,
}

/// Requests to another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceImport {
    /// The account that exports it.
    pub account: SmolStr,
    /// The subject there.
    pub subject: String,
    /// The subject here; its wildcards may be numbered, `$1`.
    pub to: String,
    /// The exporting account is told who asks.
    pub share: bool,
    /// The token that allows the import, if one is needed.
    pub activation: Option<Activation>,
}

/// A token by which the exporting account allows one import. Whoever hands it in has read the token and verified its
/// signature, its subject and that it was not revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activation {
    /// Until when it counts, since the Unix epoch; `None`: for ever.
    pub expires: Option<Duration>,
}

/// An import that can't be, or an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossingProblem {
    /// The account's place in the settings.
    pub account: usize,
    /// Which of its crossings.
    pub crossing: Crossing,
    /// In nats-server's words.
    pub text: String,
}

/// One crossing of an account, by its place among those of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// An export.
    Export(Export),
    /// In [`Imports::streams`].
    StreamImport(usize),
    /// In [`Imports::services`].
    ServiceImport(usize),
}

/// What is wrong with the exports and imports of these accounts; nothing, if a server could run with them. `system` is
/// the server's own account, if there is one.
pub fn crossing_problems(accounts: &[AccountSettings], system: Option<&str>) -> Vec<CrossingProblem> {
    let ids: Vec<_> = (0..).map(AccountId).take(accounts.len()).collect();
    Ties::new(accounts, &ids, system).1
}

/// A subject's name on the other side of an import.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    /// The same.
    Same,
    /// This, for there is only one.
    Fixed,
    /// The exporter's side is "here" of the [`Rename`], the importer's "there".
    Other(Rename),
}

/// A stream import in force.
#[derive(Debug)]
pub(crate) struct ImportedStream {
    pub(crate) exporter: AccountId,
    /// What it is called in the importing account, as a filter.
    pub(crate) here: Box<str>,
    /// What it is called in the exporting account.
    pub(crate) there: Box<str>,
    pub(crate) name: Name,
    pub(crate) expires: Option<Duration>,
    pub(crate) allow_trace: bool,
}

/// A service import in force.
#[derive(Debug)]
pub(crate) struct ImportedService {
    pub(crate) export: Arc<ExportedService>,
    /// What it is called in the importing account, as a filter.
    pub(crate) here: Box<str>,
    /// What it is called in the exporting account.
    pub(crate) there: Box<str>,
    pub(crate) name: Name,
    pub(crate) share: bool,
    pub(crate) expires: Option<Duration>,
}

/// All exports and imports in force, in the order of the accounts.
#[derive(Default)]
pub(crate) struct Ties {
    pub(crate) exported: Vec<Exported>,
    pub(crate) streams: Vec<Vec<Arc<ImportedStream>>>,
    pub(crate) services: Vec<Vec<Arc<ImportedService>>>,
}

/// Accounts that a search for a cycle visits at most, as in nats-server.
const SEARCH_DEPTH: usize = 1024;

impl Ties {
    /// Ties imports to exports; what can't be tied is left out and named. `ids` are the accounts' places in the broker.
    pub(crate) fn new(
        accounts: &[AccountSettings],
        ids: &[AccountId],
        system: Option<&str>,
    ) -> (Self, Vec<CrossingProblem>) {
        let mut problems = Vec::new();
        let exists = |name: &str| accounts.iter().any(|account| account.name == name);
        let mut exported = Vec::new();
        for (at, (account, id)) in accounts.iter().zip(ids).enumerate() {
            problems.extend(account.exports.problems(exists, system.is_some()).into_iter().map(
                |(export, text)| CrossingProblem { account: at, crossing: Crossing::Export(export), text },
            ));
            let mut exports = account.exports.clone();
            if system == Some(account.name.as_str()) {
                system::add_exports(&mut exports);
            }
            exported.push(Exported::new(*id, &exports));
        }
        let mut ties = Self {
            exported,
            streams: vec![Vec::new(); accounts.len()],
            services: vec![Vec::new(); accounts.len()],
        };
        for (at, account) in accounts.iter().enumerate() {
            for (i, import) in account.imports.streams.iter().enumerate() {
                if let Err(text) = ties.add_stream(accounts, ids, at, import) {
                    let crossing = Crossing::StreamImport(i);
                    problems.push(CrossingProblem { account: at, crossing, text });
                }
            }
        }
        for (at, account) in accounts.iter().enumerate() {
            for (i, import) in account.imports.services.iter().enumerate() {
                if let Err(text) = ties.add_service(accounts, ids, at, import) {
                    let crossing = Crossing::ServiceImport(i);
                    problems.push(CrossingProblem { account: at, crossing, text });
                }
            }
        }
        if let Some(exporter) = accounts.iter().position(|account| system == Some(account.name.as_str())) {
            for (at, account) in accounts.iter().enumerate() {
                for import in system::imports(&account.name, &accounts[exporter].name) {
                    let known = |it: &Arc<ImportedService>| {
                        it.export.account == ids[exporter] && *it.here == *import.to
                    };
                    let export = ties.exported[exporter].service(&import.subject).cloned();
                    if let Some(export) = export.filter(|_| !ties.services[at].iter().any(known)) {
                        ties.services[at].push(Arc::new(ImportedService {
                            export,
                            here: import.to.into(),
                            there: import.subject.into(),
                            name: Name::Fixed,
                            share: import.share,
                            expires: None,
                        }));
                    }
                }
            }
        }
        (ties, problems)
    }

    fn add_stream(
        &mut self,
        accounts: &[AccountSettings],
        ids: &[AccountId],
        at: usize,
        import: &StreamImport,
    ) -> Result<(), String> {
        let StreamImport { account, subject, to, activation, allow_trace } = import;
        let Some(exporter) = accounts.iter().position(|it| it.name == *account) else {
            return Err(format!("{account:?} account not defined for stream import"));
        };
        let refused =
            |why: &dyn std::fmt::Display| Err(format!("Error adding stream import {subject:?}: {why}"));
        if !self.exported[exporter].grants_stream(subject, &accounts[at].name, activation.is_some()) {
            return refused(&"stream import not authorized");
        }
        for subject in [to, subject] {
            if let Err(why) = self.stream_cycle(ids, exporter, subject, &mut vec![at]) {
                return refused(&why);
            }
        }
        let (here, name) = match names(subject, to) {
            Ok(names) => names,
            Err(why) => {
                return refused(&format_args!(
                    "failed to create mapping transform for stream import subject from {subject:?} to {to:?}: {why}"
                ));
            }
        };
        let exporter = ids[exporter];
        if self.streams[at].iter().any(|known| known.exporter == exporter && *known.there == **subject) {
            return refused(&"stream import already exists");
        }
        let expires = activation.and_then(|activation| activation.expires);
        let there = subject.as_str().into();
        let allow_trace = *allow_trace;
        self.streams[at].push(Arc::new(ImportedStream { exporter, here, there, name, expires, allow_trace }));
        Ok(())
    }

    fn add_service(
        &mut self,
        accounts: &[AccountSettings],
        ids: &[AccountId],
        at: usize,
        import: &ServiceImport,
    ) -> Result<(), String> {
        let ServiceImport { account, subject, to, share, activation } = import;
        let Some(exporter) = accounts.iter().position(|it| it.name == *account) else {
            return Err(format!("{account:?} account not defined for service import"));
        };
        let refused =
            |why: &dyn std::fmt::Display| Err(format!("Error adding service import {subject:?}: {why}"));
        if Filter::new(to.as_bytes()).is_err() || Filter::new(subject.as_bytes()).is_err() {
            return refused(&"sublist: invalid subject");
        }
        let granted =
            self.exported[exporter].grants_service(subject, &accounts[at].name, activation.is_some());
        let Some(export) = self.exported[exporter].service(subject).filter(|_| granted).cloned() else {
            return refused(&"service import not authorized");
        };
        let (here, name) = match names(subject, to) {
            Ok(names) => names,
            Err(why) => {
                return refused(&format_args!(
                    "failed to create mapping transform for service import subject from {to:?} to {subject:?}: {why}"
                ));
            }
        };
        if let Err(why) = self.service_cycle(ids, exporter, &here, &mut vec![at]) {
            return refused(&why);
        }
        let expires = activation.and_then(|activation| activation.expires);
        let there = subject.as_str().into();
        self.services[at].push(Arc::new(ImportedService {
            export,
            here,
            there,
            name,
            share: *share,
            expires,
        }));
        Ok(())
    }

    /// Whether `subject` of the account at `at` comes, by streams imported there, from an account visited before.
    fn stream_cycle(
        &self,
        ids: &[AccountId],
        at: usize,
        subject: &str,
        visited: &mut Vec<usize>,
    ) -> Result<(), &'static str> {
        if visited.len() >= SEARCH_DEPTH {
            return Err("search cycle depth exhausted");
        }
        if !self.exported[at].streams.iter().any(|export| is_subset(subject, &export.subject)) {
            return Ok(());
        }
        for import in &self.streams[at] {
            if let Some(next) = step(ids, at, import.exporter, (subject, &import.here), visited)? {
                let subject = if is_subset(&import.here, subject) { &import.here } else { subject };
                self.stream_cycle(ids, next, subject, visited)?;
            }
        }
        Ok(())
    }

    /// Whether services imported by the account at `at` lead `subject` to an account visited before.
    fn service_cycle(
        &self,
        ids: &[AccountId],
        at: usize,
        subject: &str,
        visited: &mut Vec<usize>,
    ) -> Result<(), &'static str> {
        if visited.len() >= SEARCH_DEPTH {
            return Err("search cycle depth exhausted");
        }
        for import in &self.services[at] {
            if let Some(next) = step(ids, at, import.export.account, (subject, &import.there), visited)? {
                let subject = if is_subset(&import.here, subject) { &import.here } else { subject };
                self.service_cycle(ids, next, subject, visited)?;
            }
        }
        Ok(())
    }
}

/// The account that an import leads on to, if the two subjects have anything in common.
fn step(
    ids: &[AccountId],
    at: usize,
    exporter: AccountId,
    (one, other): (&str, &str),
    visited: &mut Vec<usize>,
) -> Result<Option<usize>, &'static str> {
    let filters = Filter::new(one.as_bytes()).and_then(|one| Ok((one, Filter::new(other.as_bytes())?)));
    if !filters.is_ok_and(|(one, other)| one.overlaps(other)) {
        return Ok(None);
    }
    let next = ids.iter().position(|id| *id == exporter);
    if next.is_some_and(|next| visited.contains(&next)) {
        return Err("import forms a cycle");
    }
    visited.push(at);
    Ok(next)
}

fn is_subset(one: &str, other: &str) -> bool {
    Filter::new(one.as_bytes())
        .is_ok_and(|one| Filter::new(other.as_bytes()).is_ok_and(|other| one.is_subset_of(other)))
}

/// The filter that `to` is in the importing account, and how subjects of the exporting account find it.
fn names(subject: &str, to: &str) -> Result<(Box<str>, Name), MappingError> {
    if midge_protocol::subject::is_literal(subject.as_bytes()) {
        return Ok((to.into(), Name::Fixed));
    }
    if subject == to {
        return Ok((to.into(), Name::Same));
    }
    let rename = Rename::new(subject, to)?;
    Ok((rename.there().into(), Name::Other(rename)))
}
