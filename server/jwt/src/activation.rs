//! Tokens by which an account lets another one import something.

use serde::{Deserialize, Serialize};

use crate::crossing::Kind as Crossing;
use crate::nkey::{self, Kind};
use crate::permissions::subject_problems;
use crate::token::{Body, Token};

/// An account's permission to import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activation {
    /// What may be imported.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Messages or requests.
    pub kind: Crossing,
    /// The exporting account, if one of its signing keys issued this.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer_account: String,
    /// Words about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl Body for Activation {
    const KIND: &'static str = "activation";
    const ISSUERS: &'static [Kind] = &[Kind::Account, Kind::Operator];

    fn migrate(body: &mut serde_json::Map<String, serde_json::Value>) {
        if let Some(kind) = body.remove("type") {
            body.insert("kind".into(), kind);
        }
    }
}

impl Token<Activation> {
    /// What no server takes, times aside.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.body.kind == Crossing::Unknown {
            problems.push("invalid import type".into());
        }
        subject_problems(&self.body.subject, &mut problems);
        let account = &self.body.issuer_account;
        if !account.is_empty() && !nkey::is(account, Kind::Account) {
            problems.push("account_id is not an account public key".into());
        }
        problems
    }
}
