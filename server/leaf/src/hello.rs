//! CONNECT, as a hub expects it of a leaf node.

use serde::Serialize;

use crate::credentials::Credentials;
use crate::hub::Hub;

/// Who this server is.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Unique for each start.
    pub id: String,
    /// Its name, which a hub takes for the name of a cluster of one, too.
    pub name: String,
    /// The version of nats-server whose behaviour hubs may count on.
    pub version: String,
    /// The domain of its streams; empty: none.
    pub domain: String,
    /// It has streams.
    pub jetstream: bool,
    /// Messages may have headers.
    pub headers: bool,
}

/// CONNECT's JSON. A `lang` would mark a client.
#[derive(Serialize)]
struct Connect<'a> {
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
    server_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    domain: &'a str,
    name: &'a str,
    /// A cluster of one, as nats-server says of itself.
    cluster: String,
    headers: bool,
    jetstream: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    deny_pub: &'a [String],
    compress_mode: &'a str,
    remote_account: &'a str,
    protocol: i64,
}

/// `CONNECT {json}`, whole. `account` is the one here, `denied` what the hub need not send.
pub(crate) fn connect(
    identity: &Identity,
    credentials: &Credentials,
    hub: &Hub,
    account: &str,
    denied: &[String],
) -> Vec<u8> {
    let key = credentials.key.as_ref();
    let token = credentials.user.as_deref().filter(|_| credentials.password.is_none());
    let connect = Connect {
        version: &identity.version,
        nkey: key.and_then(|key| key.public()),
        jwt: key.and_then(|key| key.token()),
        sig: key.map(|key| key.sign(&hub.nonce)),
        user: credentials.user.as_deref(),
        pass: credentials.password.as_deref(),
        auth_token: token,
        server_id: &identity.id,
        domain: &identity.domain,
        name: &identity.name,
        cluster: identity.name.replace(' ', "_"),
        headers: identity.headers && hub.headers,
        jetstream: identity.jetstream,
        deny_pub: denied,
        compress_mode: "not supported",
        remote_account: account,
        protocol: 1,
    };
    let json = serde_json::to_vec(&connect).expect("strings and numbers are always JSON");
    [b"CONNECT ", &*json, b"\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Key;
    use midge_jwt::{KeyPair, Kind};
    use serde_json::{Value, json};

    fn said(credentials: &Credentials, denied: &[String]) -> Value {
        let identity = Identity {
            id: "ID".into(),
            name: "edge".into(),
            version: "2.15.1".into(),
            headers: true,
            ..Identity::default()
        };
        let hub = Hub { nonce: "n".into(), headers: true, ..Hub::default() };
        let line = connect(&identity, credentials, &hub, "$G", denied);
        let json = line.strip_prefix(b"CONNECT ").unwrap().strip_suffix(b"\r\n").unwrap();
        serde_json::from_slice(json).unwrap()
    }

    #[test]
    fn nobody_in_particular() {
        assert_eq!(
            said(&Credentials::default(), &[]),
            json!({"version": "2.15.1", "server_id": "ID", "name": "edge", "cluster": "edge", "headers": true,
                "jetstream": false, "compress_mode": "not supported", "remote_account": "$G", "protocol": 1})
        );
    }

    #[test]
    fn somebody() {
        let user = Credentials { user: Some("u".into()), password: Some("p".into()), key: None };
        let json = said(&user, &["a".into()]);
        assert_eq!(
            (&json["user"], &json["pass"], &json["auth_token"]),
            (&json!("u"), &json!("p"), &Value::Null)
        );
        assert_eq!(json["deny_pub"], json!(["a"]));
        let token = said(&Credentials { user: Some("t".into()), ..Credentials::default() }, &[]);
        assert_eq!((&token["user"], &token["auth_token"]), (&json!("t"), &json!("t")));
        let pair = KeyPair::new(Kind::User, &[1; 32]);
        let key = Key::from_seed(&pair.seed()).unwrap();
        let json = said(&Credentials { key: Some(key), ..Credentials::default() }, &[]);
        assert_eq!(json["nkey"], json!(pair.public().to_string()));
        assert_eq!((json["sig"].as_str().unwrap().len(), &json["jwt"]), (86, &Value::Null));
    }
}
