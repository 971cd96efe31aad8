//! What an operator says: whom to trust with accounts.

use serde::{Deserialize, Serialize};

use crate::nkey::{self, Kind};
use crate::token::{Body, Token};

/// An operator's own claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operator {
    /// Other keys that sign for the operator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signing_keys: Vec<String>,
    /// Where accounts can be asked for by HTTP.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account_server_url: String,
    /// Where servers are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operator_service_urls: Vec<String>,
    /// The account that servers have for themselves.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system_account: String,
    /// The oldest server version that will do, as in `2.15.1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub assert_server_version: String,
    /// The operator's own key signs nothing but this, and those of accounts nothing but themselves.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict_signing_key_usage: bool,
    /// Words about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl Body for Operator {
    const KIND: &'static str = "operator";
    const ISSUERS: &'static [Kind] = &[Kind::Operator];
}

/// An operator's order to delete accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deletion {
    /// Their keys.
    pub accounts: Vec<String>,
}

impl Body for Deletion {
    const KIND: &'static str = "";
    const ISSUERS: &'static [Kind] = &[Kind::Operator];
}

impl Token<Operator> {
    /// The keys that may sign accounts.
    pub fn account_signers(&self) -> impl Iterator<Item = &str> {
        let own = (!self.body.strict_signing_key_usage).then_some(self.claims.sub.as_str());
        own.into_iter().chain(self.body.signing_keys.iter().map(String::as_str))
    }

    /// What keeps anybody from using it with a server of this version.
    pub fn problem(&self, version: &str) -> Option<String> {
        if let Some(key) = self.account_signers().find(|key| !nkey::is(key, Kind::Operator)) {
            return Some(format!("trusted Keys {key:?} are required to be a valid public operator nkey"));
        }
        let (subject, wanted) = (&self.claims.sub, &self.body.assert_server_version);
        match (numbers(wanted), numbers(version)) {
            _ if wanted.is_empty() => None,
            (None, _) => Some(format!(
                "operator {subject} expects version {wanted} got error instead: asserted server version must be of the form <major>.<minor>.<update>"
            )),
            (wanted, have) if wanted > have => Some(format!(
                "operator {subject} expected version {} > server version {version}",
                &self.body.assert_server_version
            )),
            _ => None,
        }
    }
}

fn numbers(version: &str) -> Option<[u32; 3]> {
    let numbers: Vec<u32> = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    numbers.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Claims, KeyPair};

    #[test]
    fn who_signs_and_which_servers_will_do() {
        let key = |seed| KeyPair::new(Kind::Operator, &[seed; 32]).public().to_string();
        let mut token = Token { claims: Claims::about(key(1)), body: Operator::default() };
        token.body.signing_keys = vec![key(2)];
        assert_eq!(token.account_signers().collect::<Vec<_>>(), [&key(1), &key(2)]);
        token.body.strict_signing_key_usage = true;
        assert_eq!(token.account_signers().collect::<Vec<_>>(), [&key(2)]);
        for (wanted, fits) in [
            ("", true),
            ("2.15.1", true),
            ("2.2.99", true),
            ("2.15.2", false),
            ("3.0.0", false),
            ("2.1", false),
        ] {
            token.body.assert_server_version = wanted.into();
            assert_eq!(token.problem("2.15.1").is_none(), fits, "{wanted}");
        }
        token.body.signing_keys = vec!["A".into()];
        assert!(token.problem("2.15.1").is_some());
    }
}
