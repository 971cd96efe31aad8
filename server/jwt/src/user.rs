//! What an account says of a user.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::hours::{Hours, TimeRange};
use crate::network::Network;
use crate::nkey::{self, Kind};
use crate::permissions::Permissions;
use crate::token::{Body, Token, is_zero};

/// What a user may do, and when, from where and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grant {
    /// What may be published and subscribed to.
    #[serde(flatten)]
    pub permissions: Permissions,
    /// Networks that the user may come from, as `address/bits`; none: any.
    #[serde(skip_serializing_if = "Networks::is_empty")]
    pub src: Networks,
    /// Times of day; none: always.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<TimeRange>,
    /// The time zone of these; none: the server's.
    #[serde(rename = "times_location", skip_serializing_if = "String::is_empty")]
    pub locale: String,
    /// Subscriptions at most; -1: any number.
    #[serde(skip_serializing_if = "is_zero")]
    pub subs: i64,
    /// Bytes at most; not used by any server.
    #[serde(skip_serializing_if = "is_zero")]
    pub data: i64,
    /// Bytes of one message at most; -1: any number.
    #[serde(skip_serializing_if = "is_zero")]
    pub payload: i64,
    /// Whoever holds the token is the user: nothing is to be signed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bearer_token: bool,
    /// The user comes through a trusted proxy only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub proxy_required: bool,
    /// Kinds of connection; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_connection_types: Vec<String>,
}

impl Grant {
    /// One that limits nothing.
    pub fn unlimited() -> Self {
        Self { subs: NO_LIMIT, data: NO_LIMIT, payload: NO_LIMIT, ..Self::default() }
    }

    /// When one may come, as servers want to know it; `None`: always.
    pub fn hours(&self) -> Option<Hours> {
        (!self.times.is_empty()).then(|| Hours { ranges: self.times.clone(), zone: self.locale.clone() })
    }

    /// Whether one may come from the address `host`.
    pub fn admits(&self, host: &str) -> bool {
        let networks = &self.src.0;
        let from = || {
            host.parse().is_ok_and(|from| {
                networks.iter().any(|net| Network::parse(net).is_some_and(|net| net.contains(from)))
            })
        };
        networks.is_empty() || from()
    }

    /// Adds what no server takes, time zones aside.
    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        self.permissions.problems(problems);
        for network in self.src.0.iter().filter(|network| Network::parse(network).is_none()) {
            problems.push(format!("invalid cidr {network:?} in user src limits"));
        }
        for range in &self.times {
            range.problems(problems);
        }
    }
}

/// Stands for no limit.
pub const NO_LIMIT: i64 = -1;

/// A list, or one string with commas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Networks(pub Vec<String>);

impl Networks {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            List(Vec<String>),
            Text(String),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::List(list) => list,
            Form::Text(text) => text
                .split(',')
                .map(|part| part.trim().to_lowercase())
                .filter(|part| !part.is_empty())
                .collect(),
        }))
    }
}

/// A user's claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// What the user may do. Nothing is said of one whose account's signing key says it.
    #[serde(flatten)]
    pub grant: Grant,
    /// The account, if one of its signing keys issued this.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer_account: String,
    /// Words about the user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl Body for User {
    const KIND: &'static str = "user";
    const ISSUERS: &'static [Kind] = &[Kind::Account];

    fn migrate(body: &mut Map<String, Value>) {
        for limit in ["subs", "data", "payload"] {
            body.entry(limit).or_insert_with(|| NO_LIMIT.into());
        }
    }
}

impl Token<User> {
    /// The account that the user is in.
    pub fn account(&self) -> &str {
        if self.body.issuer_account.is_empty() { &self.claims.iss } else { &self.body.issuer_account }
    }

    /// What no server takes, times aside.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        self.body.grant.problems(&mut problems);
        let account = &self.body.issuer_account;
        if !account.is_empty() && !nkey::is(account, Kind::Account) {
            problems.push("account_id is not an account public key".into());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks() {
        let grant = |src: &str| serde_json::from_str::<Grant>(&format!(r#"{{"src":{src}}}"#)).unwrap();
        let home = grant(r#"["192.0.2.0/24","2001:db8::/32"]"#);
        assert!(home.admits("192.0.2.7") && home.admits("2001:db8::7") && home.admits("::ffff:192.0.2.7"));
        assert!(
            !home.admits("198.51.100.7")
                && !home.admits("2001:db9::7")
                && !home.admits("unix")
                && !home.admits("")
        );
        assert!(grant("\" 10.0.0.0/8, ,192.0.2.7/32\"").admits("192.0.2.7"));
        assert!(Grant::default().admits("unix"));
        let mut problems = Vec::new();
        grant(r#"["10.0.0.0","10.0.0.0/33","::/129","x/8"]"#).problems(&mut problems);
        assert_eq!(problems.len(), 4);
    }
}
