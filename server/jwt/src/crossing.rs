//! Exports and imports, as account tokens say them.

use std::collections::BTreeMap;

use midge_protocol::subject::{Filter, STAR, tokens};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::activation::Activation;
use crate::permissions::subject_problems;
use crate::token::{Token, is_zero};

/// What crosses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Not said.
    #[default]
    Unknown,
    /// Messages.
    Stream,
    /// Requests.
    Service,
}

/// Public keys, `*` for all, and the second until which what was issued for them doesn't count.
pub type Revocations = BTreeMap<String, i64>;

/// Whether what was issued for `key` at `issued` is revoked.
pub fn is_revoked(revocations: &Revocations, key: &str, issued: i64) -> bool {
    let until = |key: &str| revocations.get(key).is_some_and(|until| *until >= issued);
    until("*") || until(key)
}

/// What an account offers to others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Export {
    /// What people call it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The subject, perhaps with wildcards.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Messages or requests.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Importing it takes an [`Activation`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub token_req: bool,
    /// Importing accounts whose activations don't count.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub revocations: Revocations,
    /// `Singleton`, which is the default, `Stream` or `Chunked`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub response_type: String,
    /// Nanoseconds that an answer is waited for; 0: the server's default.
    #[serde(skip_serializing_if = "is_zero")]
    pub response_threshold: i64,
    /// Where and how often it is reported how long answers take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_latency: Option<ServiceLatency>,
    /// The token, counted from 1, that is the importing account's name; 0: none is.
    #[serde(skip_serializing_if = "is_zero")]
    pub account_token_position: i64,
    /// Others may be told of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub advertise: bool,
    /// Messages may be traced on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_trace: bool,
}

/// Reports on a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceLatency {
    /// The share of requests in percent; 0, written `headers`: those that ask for it.
    #[serde(serialize_with = "write_sampling", deserialize_with = "read_sampling")]
    pub sampling: i64,
    /// Where reports go.
    pub results: String,
}

fn write_sampling<S: Serializer>(sampling: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    if *sampling == 0 { serializer.serialize_str("headers") } else { serializer.serialize_i64(*sampling) }
}

fn read_sampling<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(i64),
        Word(String),
    }
    match Form::deserialize(deserializer)? {
        Form::Number(number) => Ok(number),
        Form::Word(word) if word.eq_ignore_ascii_case("headers") => Ok(0),
        Form::Word(word) => Err(D::Error::custom(format_args!("{word:?} is no sampling rate"))),
    }
}

impl Export {
    fn problems(&self, problems: &mut Vec<String>) {
        let service = self.kind == Kind::Service;
        match self.kind {
            Kind::Unknown => problems.push("invalid export type".into()),
            Kind::Service
                if !["", "Singleton", "Stream", "Chunked"].contains(&self.response_type.as_str()) =>
            {
                problems.push(format!("invalid response type for service: {:?}", self.response_type));
            }
            Kind::Stream if !self.response_type.is_empty() => {
                problems.push(format!("invalid response type for stream: {:?}", self.response_type));
            }
            Kind::Stream if self.allow_trace => {
                problems.push("AllowTrace only valid for service export".into())
            }
            _ => {}
        }
        if let Some(latency) = &self.service_latency {
            if !service {
                problems.push("latency tracking only permitted for services".into());
            }
            if !(0..=100).contains(&latency.sampling) {
                problems.push("sampling percentage needs to be between 1-100".into());
            }
            subject_problems(&latency.results, problems);
            if has_wildcards(&latency.results) {
                problems.push("results subject can not contain wildcards".into());
            }
        }
        if self.response_threshold < 0 {
            problems.push("negative response threshold is invalid".into());
        }
        if self.response_threshold > 0 && !service {
            problems.push("response threshold only valid for services".into());
        }
        subject_problems(&self.subject, problems);
        let position = self.account_token_position;
        let at = usize::try_from(position - 1).ok().and_then(|at| tokens(self.subject.as_bytes()).nth(at));
        if position != 0 && at != Some(STAR) {
            problems.push(format!("Account Token Position {position} must match a * in: {}", self.subject));
        }
    }
}

/// Adds what no server takes.
pub(crate) fn export_problems(exports: &[Export], problems: &mut Vec<String>) {
    exports.iter().for_each(|export| export.problems(problems));
    for (i, export) in exports.iter().enumerate() {
        let others = exports.iter().enumerate().filter(|(j, other)| *j != i && other.kind == export.kind);
        for (_, other) in others.filter(|(_, other)| is_contained(&export.subject, &other.subject)) {
            let (one, two) = (&other.subject, &export.subject);
            problems.push(format!("{:?} export subject {one:?} already exports {two:?}", export.kind));
        }
    }
}

/// What an account takes from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Import {
    /// What people call it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The subject as whoever publishes first calls it: of messages in the exporting account, of requests in this one,
    /// unless `local_subject` is given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The exporting account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// An [`Activation`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// The subject on the other side; older than `local_subject`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// The subject in this account; its wildcards may be numbered.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_subject: String,
    /// Messages or requests.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The exporting account is told who asks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub share: bool,
    /// Messages may be traced on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_trace: bool,
}

impl Import {
    /// The subject in the exporting account, and in this one.
    pub fn subjects(&self) -> (&str, String) {
        let subject = self.subject.as_str();
        match self.kind {
            _ if !self.local_subject.is_empty() => (subject, self.local_subject.clone()),
            _ if self.to.is_empty() => (subject, subject.to_owned()),
            // Of streams it was what to put in front.
            Kind::Stream => (subject, format!("{}.{subject}", self.to.trim_end_matches('.'))),
            _ => (&self.to, subject.to_owned()),
        }
    }

    /// The token that comes with it, read; `None` if there is none or it can't be.
    pub(crate) fn activation(&self) -> Option<Token<Activation>> {
        Some(&self.token).filter(|token| !token.is_empty()).and_then(|token| Token::decode(token).ok())
    }

    fn problems(&self, account: &str, activation: Option<&Token<Activation>>, problems: &mut Vec<String>) {
        let subject = &self.subject;
        match self.kind {
            Kind::Unknown => problems.push("invalid import type".into()),
            Kind::Service if self.allow_trace => {
                problems.push("AllowTrace only valid for stream import".into())
            }
            Kind::Stream if self.share => problems.push(format!(
                "sharing information (for latency tracking) is only valid for services: {subject:?}"
            )),
            _ => {}
        }
        if self.account.is_empty() {
            problems.push("account to import from is not specified".into());
        }
        subject_problems(subject, problems);
        if !self.local_subject.is_empty() {
            renaming_problems(&self.local_subject, subject, problems);
            if !self.to.is_empty() {
                problems.push("Local Subject replaces To".into());
            }
        }
        if self.token.is_empty() {
            return;
        }
        let Some(token) = activation else {
            return problems.push(format!("import {subject:?} contains an invalid activation token"));
        };
        if token.claims.iss != self.account && token.body.issuer_account != self.account {
            problems.push(format!("activation token doesn't match account for import {subject:?}"));
        }
        if token.claims.sub != account {
            problems
                .push(format!("activation token doesn't match account it is being included in, {subject:?}"));
        }
        if token.body.kind != self.kind {
            problems.push("mismatch between token import type and type of import".into());
        }
        problems.extend(token.problems());
        let there = if self.kind == Kind::Service && !self.to.is_empty() { &self.to } else { subject };
        if !is_contained(there, &token.body.subject) {
            let allowed = &token.body.subject;
            problems.push(format!(
                "activation token import subject {allowed:?} doesn't match import {subject:?}"
            ));
        }
    }
}

/// Adds what no server takes. `activations` are those of the imports.
pub(crate) fn import_problems<'a>(
    imports: &'a [Import],
    activations: impl Iterator<Item = Option<&'a Token<Activation>>>,
    account: &str,
    problems: &mut Vec<String>,
) {
    let mut seen: Vec<(&str, String)> = Vec::new();
    for (import, activation) in imports.iter().zip(activations) {
        if import.kind == Kind::Service {
            let here = [&import.to, &filter_of(&import.local_subject), &import.subject];
            let here = here.into_iter().find(|subject| !subject.is_empty()).cloned().unwrap_or_default();
            let overlaps = |other: &str| is_contained(&here, other) || is_contained(other, &here);
            for (_, other) in seen.iter().filter(|(from, other)| *from == import.account && overlaps(other)) {
                problems.push(format!(
                    "overlapping subject namespace for {here:?} and {other:?} in same account {:?}",
                    import.account
                ));
            }
            seen.push((&import.account, here));
        }
        import.problems(account, activation, problems);
    }
}

/// A subject with its numbered wildcards written as wildcards.
fn filter_of(subject: &str) -> String {
    let plain = |token: &'_ str| match token.strip_prefix('$') {
        Some(number) if number.parse::<u32>().is_ok() => "*".to_owned(),
        _ => token.to_owned(),
    };
    subject.split('.').map(plain).collect::<Vec<_>>().join(".")
}

fn renaming_problems(to: &str, from: &str, problems: &mut Vec<String>) {
    subject_problems(to, problems);
    let ends = |subject: &str| subject == ">" || subject.ends_with(".>");
    if ends(to) != ends(from) {
        problems.push("both, renaming subject and subject, need to end or not end in >".into());
    }
    let stars = from.split('.').filter(|token| *token == "*").count();
    let mut named = 0;
    for token in to.split('.') {
        let number = token.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        match number {
            Some(number) if number > stars => problems
                .push(format!("Reference ${number} in {to:?} reference * in {from:?} that do not exist")),
            Some(_) => named += 1,
            None if token == "*" => named += 1,
            None => {}
        }
    }
    if named != stars {
        problems.push("subject does not contain enough * or reference wildcards $[0-9]".into());
    }
}

pub(crate) fn has_wildcards(subject: &str) -> bool {
    Filter::new(subject.as_bytes()).is_ok_and(|filter| !filter.is_literal())
}

fn is_contained(one: &str, other: &str) -> bool {
    let filter = |text: &'_ str| Filter::new(text.as_bytes()).map(|filter| filter.as_bytes().to_vec());
    match (filter(one), filter(other)) {
        (Ok(one), Ok(other)) => {
            Filter::new(&one).is_ok_and(|one| Filter::new(&other).is_ok_and(|other| one.is_subset_of(other)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(kind: Kind, subject: &str, to: &str, local: &str) -> Import {
        let account = "A".into();
        Import {
            kind,
            account,
            subject: subject.into(),
            to: to.into(),
            local_subject: local.into(),
            ..Import::default()
        }
    }

    #[test]
    fn subjects_on_both_sides() {
        for (kind, subject, to, local, there, here) in [
            (Kind::Stream, "a.>", "", "", "a.>", "a.>"),
            (Kind::Stream, "a.>", "x.", "", "a.>", "x.a.>"),
            (Kind::Stream, "a.*", "", "b.$1", "a.*", "b.$1"),
            (Kind::Service, "q", "", "", "q", "q"),
            (Kind::Service, "q", "r", "", "r", "q"),
            (Kind::Service, "r.*", "", "q.$1", "r.*", "q.$1"),
        ] {
            assert_eq!(
                import(kind, subject, to, local).subjects(),
                (there, here.to_owned()),
                "{subject} {to} {local}"
            );
        }
    }

    fn imports_fit(imports: &[Import]) -> bool {
        let mut problems = Vec::new();
        import_problems(imports, imports.iter().map(|_| None), "B", &mut problems);
        problems.is_empty()
    }

    #[test]
    fn imports_that_no_server_takes() {
        assert!(imports_fit(&[import(Kind::Service, "q", "", ""), import(Kind::Service, "r.*", "", "s.$1")]));
        assert!(!imports_fit(&[import(Kind::Unknown, "q", "", "")]));
        assert!(!imports_fit(&[import(Kind::Service, "q.>", "", ""), import(Kind::Service, "q.a", "", "")]));
        assert!(imports_fit(&[import(Kind::Stream, "q.>", "", ""), import(Kind::Stream, "q.a", "", "")]));
        for local in ["x", "x.$2", "x.$1.$1", "x.$1.>"] {
            assert!(!imports_fit(&[import(Kind::Stream, "a.*", "", local)]), "{local}");
        }
        assert!(!imports_fit(&[Import { token: "eyJ".into(), ..import(Kind::Stream, "a", "", "") }]));
    }

    #[test]
    fn exports_that_no_server_takes() {
        let fits = |exports: &[Export]| {
            let mut problems = Vec::new();
            export_problems(exports, &mut problems);
            problems.is_empty()
        };
        let stream =
            |subject: &str| Export { kind: Kind::Stream, subject: subject.into(), ..Export::default() };
        let service = |subject: &str| Export { kind: Kind::Service, ..stream(subject) };
        assert!(fits(&[stream("a.*"), service("a.*"), stream("b")]));
        assert!(!fits(&[stream("a.*"), stream("a.b")]) && !fits(&[stream("a"), stream("a")]));
        assert!(fits(&[Export { account_token_position: 2, ..stream("a.*.b") }]));
        for position in [1, 3, 4, -1] {
            assert!(!fits(&[Export { account_token_position: position, ..stream("a.*.b") }]), "{position}");
        }
        let latency = ServiceLatency { sampling: 0, results: "r".into() };
        assert!(fits(&[Export { service_latency: Some(latency.clone()), ..service("a") }]));
        assert!(!fits(&[Export { service_latency: Some(latency), ..stream("a") }]));
        assert!(!fits(&[Export { response_type: "Many".into(), ..service("a") }]));
        assert!(!fits(&[Export::default()]));
    }

    #[test]
    fn sampling_is_a_number_or_a_word() {
        let read =
            |text: &str| serde_json::from_str::<ServiceLatency>(text).ok().map(|latency| latency.sampling);
        assert_eq!(read(r#"{"sampling":"Headers"}"#), Some(0));
        assert_eq!(read(r#"{"sampling":25}"#), Some(25));
        assert_eq!(read(r#"{"sampling":"often"}"#), None);
        let headers = serde_json::to_string(&ServiceLatency::default()).unwrap();
        assert_eq!(headers, r#"{"sampling":"headers","results":""}"#);
    }

    #[test]
    fn revocations_count_back() {
        let revocations = Revocations::from([("U1".into(), 10), ("*".into(), 5)]);
        for (key, issued, revoked) in [("U1", 10, true), ("U1", 11, false), ("U2", 5, true), ("U2", 6, false)]
        {
            assert_eq!(is_revoked(&revocations, key, issued), revoked, "{key} {issued}");
        }
    }
}
