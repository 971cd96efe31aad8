//! What a hub says of itself.

use serde::Deserialize;

/// INFO as it comes on a port for leaf nodes. What isn't there is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Hub {
    /// Unique for each start of the hub.
    pub server_id: String,
    /// The hub's name; old ones have none.
    pub server_name: String,
    /// The version of nats-server that it is, or behaves as.
    pub version: String,
    /// The level of the protocol.
    pub proto: i64,
    /// Messages may have headers.
    pub headers: bool,
    /// Bytes of one message at most.
    pub max_payload: i64,
    /// The connection is to be encrypted before CONNECT.
    pub tls_required: bool,
    /// To be signed by who has a key.
    pub nonce: String,
    /// This connection's number there.
    pub client_id: u64,
    /// The hub's cluster.
    pub cluster: String,
    /// The domain of its streams.
    pub domain: String,
    /// Where leaf nodes connect, `host:port`. `None`: not on this port.
    pub leafnode_urls: Option<Vec<String>>,
    /// Another INFO follows CONNECT.
    pub info_on_connect: bool,
    /// This is that INFO.
    pub connect_info: bool,
    /// The account there.
    pub remote_account: String,
    /// What the hub lets through to this side; `None`: everything.
    pub import: Option<Rules>,
    /// What the hub takes from this side; `None`: everything.
    pub export: Option<Rules>,
}

/// An allow and a deny list; a deny wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// What is allowed; `None`: everything.
    pub allow: Option<Vec<String>>,
    /// What is denied.
    pub deny: Option<Vec<String>>,
}

impl Hub {
    /// Reads the argument of INFO. `None`: it isn't JSON of this form.
    pub fn parse(argument: &[u8]) -> Option<Self> {
        serde_json::from_slice(argument).ok().filter(|_| argument.trim_ascii_start().starts_with(b"{"))
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        if self.server_name.is_empty() { &self.server_id } else { &self.server_name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hub_says() {
        let hub = Hub::parse(
            br#"{"server_id":"N","server_name":"hub","proto":1,"headers":true,"nonce":"x","client_id":5,"unknown":[1],
                "leafnode_urls":["h:1"],"import":{"deny":["a"]},"export":{"allow":["b.>"]},"ip":"nats-leaf://h:1/"}"#,
        )
        .unwrap();
        assert_eq!((hub.name(), hub.client_id, hub.headers), ("hub", 5, true));
        assert_eq!(hub.import.unwrap().deny.unwrap(), ["a"]);
        assert_eq!(hub.export.unwrap().allow.unwrap(), ["b.>"]);
        assert_eq!(Hub::parse(br#"{"server_id":"N"}"#).unwrap().name(), "N");
        assert_eq!(Hub::parse(b"{"), None);
        assert_eq!(Hub::parse(b"[]"), None);
    }
}
