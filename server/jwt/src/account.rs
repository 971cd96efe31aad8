//! What an operator says of an account, or rather what the account says and the operator signed.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::activation::Activation;
use crate::crossing::{Export, Import, Revocations, export_problems, has_wildcards, import_problems};
use crate::nkey::{self, Kind};
use crate::permissions::{Permissions, subject_problems};
use crate::token::{Body, Token, is_zero};
use crate::user::{Grant, NO_LIMIT};

/// An account's claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// What it takes from others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<Import>,
    /// What it offers to others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<Export>,
    /// Its ceilings.
    pub limits: Limits,
    /// Keys that sign for it.
    #[serde(skip_serializing_if = "SigningKeys::is_empty")]
    pub signing_keys: SigningKeys,
    /// Users whose tokens don't count.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub revocations: Revocations,
    /// Permissions of users who have none of their own.
    pub default_permissions: Permissions,
    /// Subject mappings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mappings: BTreeMap<String, Vec<WeightedMapping>>,
    /// Who is asked about its users.
    pub authorization: ExternalAuthorization,
    /// Where messages that are traced are reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<MsgTrace>,
    /// Whose traffic is that of clusters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_traffic: String,
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where to read more.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub info_url: String,
    /// Words about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// Ceilings of an account; -1: none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Subscriptions of one connection.
    #[serde(skip_serializing_if = "is_zero")]
    pub subs: i64,
    /// Bytes; not used by any server.
    #[serde(skip_serializing_if = "is_zero")]
    pub data: i64,
    /// Bytes of one message.
    #[serde(skip_serializing_if = "is_zero")]
    pub payload: i64,
    /// Imports.
    #[serde(skip_serializing_if = "is_zero")]
    pub imports: i64,
    /// Exports.
    #[serde(skip_serializing_if = "is_zero")]
    pub exports: i64,
    /// Exports may have wildcards.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wildcards: bool,
    /// Users must sign.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disallow_bearer: bool,
    /// Connections.
    #[serde(skip_serializing_if = "is_zero")]
    pub conn: i64,
    /// Leaf nodes.
    #[serde(skip_serializing_if = "is_zero")]
    pub leaf: i64,
    /// What its streams may take.
    #[serde(flatten)]
    pub streams: StreamLimits,
    /// The same by tier, instead.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tiered_limits: BTreeMap<String, StreamLimits>,
}

/// What streams may take; -1: any amount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamLimits {
    /// Bytes in memory; 0: no streams there.
    #[serde(skip_serializing_if = "is_zero")]
    pub mem_storage: i64,
    /// Bytes on disk; 0: no streams there.
    #[serde(skip_serializing_if = "is_zero")]
    pub disk_storage: i64,
    /// Streams.
    #[serde(skip_serializing_if = "is_zero")]
    pub streams: i64,
    /// Consumers.
    #[serde(skip_serializing_if = "is_zero")]
    pub consumer: i64,
    /// Messages of a stream that may be unacknowledged; 0: any number.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_ack_pending: i64,
    /// Bytes of one stream in memory; 0: any number.
    #[serde(skip_serializing_if = "is_zero")]
    pub mem_max_stream_bytes: i64,
    /// Bytes of one stream on disk; 0: any number.
    #[serde(skip_serializing_if = "is_zero")]
    pub disk_max_stream_bytes: i64,
    /// Streams must say how large they may get.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub max_bytes_required: bool,
}

impl Limits {
    /// No ceilings, and no streams.
    pub fn unlimited() -> Self {
        Self {
            subs: NO_LIMIT,
            data: NO_LIMIT,
            payload: NO_LIMIT,
            imports: NO_LIMIT,
            exports: NO_LIMIT,
            wildcards: true,
            conn: NO_LIMIT,
            leaf: NO_LIMIT,
            ..Self::default()
        }
    }
}

/// A ceiling, as servers count it: `None` if there is none.
pub fn ceiling(limit: i64) -> Option<u32> {
    (limit >= 0).then(|| u32::try_from(limit.min(i64::from(i32::MAX))).unwrap_or(u32::MAX))
}

/// Public keys, each perhaps with what it may sign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningKeys(pub BTreeMap<String, Option<Box<Scope>>>);

impl SigningKeys {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What users are that a signing key signs for, whatever their tokens say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scope {
    /// Always `user_scope`.
    pub kind: String,
    /// The signing key.
    pub key: String,
    /// What such users are called.
    pub role: String,
    /// What they may do; subjects may hold templates, `{{name()}}`.
    pub template: Template,
    /// What they are for.
    pub description: String,
}

/// A [`Grant`] whose limits are none where they aren't said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Template(pub Grant);

impl Default for Template {
    fn default() -> Self {
        Self(Grant::unlimited())
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Some(map) = value.as_object_mut() {
            for limit in ["subs", "data", "payload"] {
                map.entry(limit).or_insert_with(|| NO_LIMIT.into());
            }
        }
        Grant::deserialize(&value).map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for SigningKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Form<'a> {
            Plain(&'a str),
            Scoped(&'a Scope),
        }
        serializer.collect_seq(self.0.iter().map(|(key, scope)| match scope {
            None => Form::Plain(key),
            Some(scope) => Form::Scoped(scope),
        }))
    }
}

impl<'de> Deserialize<'de> for SigningKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut keys = BTreeMap::new();
        for value in Vec::<Value>::deserialize(deserializer)? {
            match value {
                Value::String(key) => {
                    keys.insert(key, None);
                }
                value @ Value::Object(_) => {
                    let scope = Scope::deserialize(&value).map_err(D::Error::custom)?;
                    if scope.kind != "user_scope" {
                        return Err(D::Error::custom(format_args!(
                            "unknown signing key scope {:?}",
                            scope.kind
                        )));
                    }
                    keys.insert(scope.key.clone(), Some(Box::new(scope)));
                }
                _ => {}
            }
        }
        Ok(Self(keys))
    }
}

/// One destination of a mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightedMapping {
    /// The subject.
    pub subject: String,
    /// Its share in percent; 0: all.
    #[serde(skip_serializing_if = "is_nothing")]
    pub weight: u8,
    /// In this cluster only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
}

fn is_nothing(weight: &u8) -> bool {
    *weight == 0
}

impl WeightedMapping {
    /// Its share in percent.
    pub fn percent(&self) -> u8 {
        if self.weight == 0 { 100 } else { self.weight }
    }
}

/// A service in the account is asked about its users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExternalAuthorization {
    /// The users as which the service connects; if there are none, nobody is asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub auth_users: Vec<String>,
    /// Other accounts that it may place users in; `*`: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_accounts: Vec<String>,
    /// The key that questions are sealed for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
}

impl ExternalAuthorization {
    fn problems(&self, problems: &mut Vec<String>) {
        if !self.allowed_accounts.is_empty() && self.auth_users.is_empty() {
            problems.push("External authorization cannot have accounts without users specified".into());
        }
        for user in self.auth_users.iter().filter(|user| !nkey::is(user, Kind::User)) {
            problems.push(format!("AuthUser {user:?} is not a valid user public key"));
        }
        for account in &self.allowed_accounts {
            if account == "*" && self.allowed_accounts.len() > 1 {
                problems.push("AllowedAccounts can only be a list of accounts or \"*\"".into());
            } else if account != "*" && !nkey::is(account, Kind::Account) {
                problems.push(format!("Account {account:?} is not a valid account public key"));
            }
        }
        if !self.xkey.is_empty() && !nkey::is(&self.xkey, Kind::Curve) {
            problems.push(format!("XKey {:?} is not a valid public xkey", self.xkey));
        }
    }
}

/// Reports on messages that ask to be traced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MsgTrace {
    /// Where they go.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dest: String,
    /// The share in percent; 0: all.
    #[serde(skip_serializing_if = "is_zero")]
    pub sampling: i64,
}

impl Body for Account {
    const KIND: &'static str = "account";
    const ISSUERS: &'static [Kind] = &[Kind::Account, Kind::Operator];
}

impl Token<Account> {
    /// The tokens that come with its imports, in their order. Slow: each is a signature.
    pub fn activations(&self) -> Vec<Option<Token<Activation>>> {
        self.body.imports.iter().map(Import::activation).collect()
    }

    /// What no server takes, times aside. `activations` are its own.
    pub fn problems(&self, activations: &[Option<Token<Activation>>]) -> Vec<String> {
        let mut problems = Vec::new();
        let body = &self.body;
        import_problems(
            &body.imports,
            activations.iter().map(Option::as_ref),
            &self.claims.sub,
            &mut problems,
        );
        export_problems(&body.exports, &mut problems);
        let limits = &body.limits;
        if !limits.tiered_limits.is_empty() && limits.streams != StreamLimits::default() {
            problems.push("JetStream Limits and tiered JetStream Limits are mutually exclusive".into());
        }
        if limits.tiered_limits.contains_key("") {
            problems.push("Tiered JetStream Limits can not contain a blank \"\" tier name".into());
        }
        body.default_permissions.problems(&mut problems);
        for (from, destinations) in &body.mappings {
            mapping_problems(from, destinations, &mut problems);
        }
        body.authorization.problems(&mut problems);
        if let Some(MsgTrace { dest, sampling }) = &body.trace {
            subject_problems(dest, &mut problems);
            if has_wildcards(dest) {
                problems.push(format!(
                    "the account Trace.Destination subject {dest:?} is not a valid publish subject"
                ));
            }
            if !(0..=100).contains(sampling) {
                problems.push(format!("the account Trace.Sampling value '{sampling}' is not valid, should be in the range [1..100]"));
            }
        }
        let over = |count: usize, limit: i64| {
            limit != NO_LIMIT && i64::try_from(count).is_ok_and(|count| count > limit)
        };
        if over(body.imports.len(), limits.imports) {
            problems.push("the account contains more imports than allowed by the operator".into());
        }
        if over(body.exports.len(), limits.exports) {
            problems.push("the account contains more exports than allowed by the operator".into());
        }
        if limits.exports != NO_LIMIT
            && !limits.wildcards
            && body.exports.iter().any(|it| has_wildcards(&it.subject))
        {
            problems
                .push("the account contains wildcard exports that are not allowed by the operator".into());
        }
        for key in body.signing_keys.0.keys().filter(|key| !nkey::is(key, Kind::Account)) {
            problems.push(format!("{key:?} is not a valid account signing key"));
        }
        if body.description.len() > INFO_BYTES_MAX || body.info_url.len() > INFO_BYTES_MAX {
            problems.push("Description is too long".into());
        }
        if !["", "system", "owner"].contains(&body.cluster_traffic.as_str()) {
            problems.push(format!("unknown cluster traffic option: {:?}", body.cluster_traffic));
        }
        problems
    }
}

const INFO_BYTES_MAX: usize = 8 * 1024;

fn mapping_problems(from: &str, destinations: &[WeightedMapping], problems: &mut Vec<String>) {
    subject_problems(from, problems);
    let mut shares: BTreeMap<&str, u32> = BTreeMap::new();
    for to in destinations {
        subject_problems(&to.subject, problems);
        *shares.entry(&to.cluster).or_default() += u32::from(to.percent());
    }
    if shares.values().any(|share| *share > 100) {
        problems.push(format!("Mapping {from:?} exceeds 100% among all of it's weighted to mappings"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Claims, KeyPair};

    fn key(seed: u8) -> String {
        KeyPair::new(Kind::Account, &[seed; 32]).public().to_string()
    }

    #[test]
    fn signing_keys_come_with_and_without_scopes() {
        let text = format!(
            r#"{{"signing_keys":["{}",{{"kind":"user_scope","key":"{}","role":"sensor","template":{{"pub":{{"allow":["x"]}},"subs":5}}}}]}}"#,
            key(1),
            key(2)
        );
        let account: Account = serde_json::from_str(&text).unwrap();
        assert_eq!(account.signing_keys.0[&key(1)], None);
        let scope = account.signing_keys.0[&key(2)].as_deref().unwrap();
        assert_eq!((scope.role.as_str(), scope.template.0.subs, scope.template.0.payload), ("sensor", 5, -1));
        let again: Account = serde_json::from_value(serde_json::to_value(&account).unwrap()).unwrap();
        assert_eq!(again, account);
        assert!(
            serde_json::from_str::<Account>(r#"{"signing_keys":[{"kind":"account_scope","key":"A"}]}"#)
                .is_err()
        );
    }

    #[test]
    fn accounts_that_no_server_takes() {
        let fits = |change: &dyn Fn(&mut Account)| {
            let mut body = Account { limits: Limits::unlimited(), ..Account::default() };
            change(&mut body);
            let token = Token { claims: Claims::about(key(1)), body };
            token.problems(&token.activations()).is_empty()
        };
        assert!(fits(&|_| {}));
        let stream = |subject: &str| Export {
            kind: crate::Crossing::Stream,
            subject: subject.into(),
            ..Export::default()
        };
        assert!(!fits(&|it| it.signing_keys.0.extend([("A".into(), None)])));
        assert!(!fits(&|it| it.limits.tiered_limits.extend([(String::new(), StreamLimits::default())])));
        assert!(!fits(&|it| (it.limits.exports, it.exports) = (0, vec![stream("a")])));
        assert!(!fits(
            &|it| (it.limits.exports, it.limits.wildcards, it.exports) = (1, false, vec![stream("a.>")])
        ));
        assert!(fits(&|it| (it.limits.exports, it.exports) = (1, vec![stream("a.>")])));
        assert!(!fits(&|it| it.authorization.auth_users = vec!["x".into()]));
        assert!(!fits(&|it| it.cluster_traffic = "mine".into()));
        assert!(!fits(&|it| it.trace = Some(MsgTrace { dest: "a.*".into(), sampling: 1 })));
        let to = |weight| WeightedMapping { subject: "b".into(), weight, ..WeightedMapping::default() };
        assert!(fits(&|it| it.mappings.extend([("a".into(), vec![to(60), to(40)])])));
        assert!(!fits(&|it| it.mappings.extend([("a".into(), vec![to(0), to(40)])])));
    }

    #[test]
    fn ceilings() {
        assert_eq!([-1, 0, 5, i64::MAX].map(ceiling), [None, Some(0), Some(5), Some(i32::MAX as u32)]);
    }
}
