//! What a server asks a service of a user who wants to come in, and what it is answered.

use serde::{Deserialize, Serialize};

use crate::nkey::{self, Kind};
use crate::token::{Body, Token, is_zero};

/// A server's question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizationRequest {
    /// Who asks.
    pub server_id: ServerId,
    /// The key that the answer is to be about; made up for this question.
    pub user_nkey: String,
    /// Who wants to come in.
    pub client_info: ClientInformation,
    /// What CONNECT carried.
    pub connect_opts: ConnectOptions,
    /// How the connection is encrypted, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_tls: Option<ClientTls>,
}

/// A server, to those that it asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerId {
    /// Its name.
    pub name: String,
    /// The address that it listens on.
    pub host: String,
    /// Its key.
    pub id: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What the operator calls it besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The key that answers may be sealed for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
}

/// A client, as the server knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientInformation {
    /// Its address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The connection's number.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: i64,
    /// Who it says that it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// What it calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Words about the user of its token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What the user of its token is called.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name_tag: String,
    /// `Client`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// `nats`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub client_type: String,
    /// What it was given to sign, if it signed anything.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
}

/// What CONNECT carried.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectOptions {
    /// A user's token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    /// A public key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nkey: String,
    /// A signature of the nonce.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sig: String,
    /// A token that is a mere word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_token: String,
    /// A name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// A password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pass: String,
    /// What the client calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its language.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lang: String,
    /// Its library's version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// 1 if it takes an INFO at any time.
    pub protocol: i64,
}

impl std::fmt::Debug for ConnectOptions {
    /// Never a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConnectOptions")
    }
}

/// What a handshake agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientTls {
    /// `1.2` or `1.3`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The cipher suite.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cipher: String,
}

impl Body for AuthorizationRequest {
    const KIND: &'static str = "authorization_request";
    const ISSUERS: &'static [Kind] = &[Kind::Server];
}

/// A service's answer: a user's token, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizationResponse {
    /// The token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    /// Why there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// The account, if one of its signing keys issued this.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer_account: String,
}

impl Body for AuthorizationResponse {
    const KIND: &'static str = "authorization_response";
    const ISSUERS: &'static [Kind] = &[Kind::Account];
}

impl Token<AuthorizationResponse> {
    /// What no server takes, times aside.
    pub fn problems(&self) -> Vec<&'static str> {
        let account = &self.body.issuer_account;
        let checks = [
            (nkey::is(&self.claims.sub, Kind::User), "Subject must be a user public key"),
            (nkey::is(&self.claims.aud, Kind::Server), "Audience must be a server public key"),
            (!(self.body.error.is_empty() && self.body.jwt.is_empty()), "Error or Jwt is required"),
            (self.body.error.is_empty() || self.body.jwt.is_empty(), "Only Error or Jwt can be set"),
            (
                account.is_empty() || nkey::is(account, Kind::Account),
                "issuer_account is not an account public key",
            ),
        ];
        checks.into_iter().filter(|(fits, _)| !fits).map(|(_, problem)| problem).collect()
    }
}
