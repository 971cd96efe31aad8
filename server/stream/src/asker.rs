//! Who asks, for events. Source: nats-server's `ClientInfo`, as its advisories show it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::is_default;
use crate::headers;

/// A connection as the driver describes it. What is empty is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Asker {
    #[serde(skip_serializing_if = "Value::is_null")]
    start: Value,
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    #[serde(skip_serializing_if = "is_default")]
    id: u64,
    acc: String,
    /// The account that was asked, if it is another.
    #[serde(skip_serializing_if = "String::is_empty")]
    svc: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    ver: String,
    #[serde(skip_serializing_if = "is_default")]
    rtt: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    server: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    issuer_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name_tag: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    client_type: String,
}

impl Asker {
    /// Of a request to `account` of `server`, by its headers. If they don't say, its account is all that is known.
    pub(crate) fn of(header: &[u8], account: &str, server: &str) -> Self {
        let said = headers::get(header, headers::REQUEST_INFO);
        let said: Option<Self> = said.and_then(|json| serde_json::from_slice(json).ok());
        match said {
            None => Self { acc: account.to_owned(), ..Self::default() },
            Some(said) if said.acc == account => said,
            Some(said) => Self { svc: account.to_owned(), server: server.to_owned(), ..said },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(header: &str) -> String {
        serde_json::to_string(&Asker::of(header.as_bytes(), "A", "here")).unwrap()
    }

    #[test]
    fn an_asker_is_what_the_header_says_or_the_account() {
        let said = |json: &str| format!("NATS/1.0\r\nNats-Request-Info: {json}\r\n\r\n");
        let own = r#"{"start":"2026-11-28T00:00:00Z","id":7,"acc":"A","rtt":5,"kind":"Client"}"#;
        assert_eq!(shown(&said(own)), own);
        let other = r#"{"acc":"B","rtt":5}"#;
        assert_eq!(shown(&said(other)), r#"{"acc":"B","svc":"A","rtt":5,"server":"here"}"#);
        for none in ["", "NATS/1.0\r\n\r\n", &said("{\"id\":")] {
            assert_eq!(shown(none), r#"{"acc":"A"}"#);
        }
    }
}
