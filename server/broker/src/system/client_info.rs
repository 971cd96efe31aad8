//! A connection, as others are told of it.

use std::time::Duration;

use serde::Serialize;
use smol_str::SmolStr;

use super::text::{Nanos, Time};
use crate::account::AccountId;
use crate::broker::Broker;
use crate::conn::{Conn, ConnId, Port};

/// nats-server's `ClientInfo`. What is empty is left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClientInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<Time>,
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub(crate) host: SmolStr,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) id: u64,
    #[serde(rename = "acc", skip_serializing_if = "SmolStr::is_empty")]
    pub(crate) account: SmolStr,
    /// The account through whose services it came.
    #[serde(rename = "svc", skip_serializing_if = "SmolStr::is_empty")]
    pub(crate) service: SmolStr,
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub(crate) user: SmolStr,
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub(crate) name: SmolStr,
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub(crate) lang: SmolStr,
    #[serde(rename = "ver", skip_serializing_if = "SmolStr::is_empty")]
    pub(crate) version: SmolStr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rtt: Option<Nanos>,
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub(crate) server: SmolStr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop: Option<Time>,
    /// The token that was shown.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) jwt: Box<str>,
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub(crate) issuer_key: SmolStr,
    /// The user's name in its token; of events, the account's.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub(crate) name_tag: SmolStr,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<SmolStr>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) client_type: &'static str,
}

impl ClientInfo {
    /// All of a connection but its round trip.
    pub(crate) fn new<P>(conn: &Conn<P>, account: SmolStr) -> Self {
        let warrant = conn.warrant.as_deref();
        Self {
            jwt: warrant.map(|it| it.text.clone()).unwrap_or_default(),
            issuer_key: conn.issuer(&account).cloned().unwrap_or_default(),
            name_tag: warrant.map(|it| it.name.clone()).unwrap_or_default(),
            tags: warrant.map(|it| it.tags.clone()).unwrap_or_default(),
            start: Some(Time(conn.start_wall())),
            host: conn.peer.host.clone(),
            id: conn.cid,
            account,
            user: conn.user.clone(),
            name: conn.name.clone(),
            lang: conn.lang.clone(),
            version: conn.version.clone(),
            kind: "Client",
            client_type: conn.way.client_type(),
            ..Self::default()
        }
    }

    /// Its round trip; 0 if it isn't known.
    pub(crate) fn rtt(&self) -> Duration {
        self.rtt.map_or(Duration::ZERO, |rtt| rtt.0)
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it is made of texts and numbers")
    }
}

impl<P: Port> Broker<P> {
    /// Who publishes: without `details`, only the account and the round trip. Messages from inside are their account's.
    pub(crate) fn client_info(&self, from: ConnId, account: AccountId, details: bool) -> ClientInfo {
        let name = |id: AccountId| self.accounts[id.index()].name.clone();
        let mut info = match self.conn(from) {
            Some(conn) if details => ClientInfo::new(conn, name(conn.account)),
            Some(conn) => ClientInfo { account: name(conn.account), ..ClientInfo::default() },
            None => ClientInfo { account: name(account), ..ClientInfo::default() },
        };
        info.rtt = self.conn(from).and_then(|conn| conn.rtt()).filter(|rtt| !rtt.is_zero()).map(Nanos);
        if details {
            info.server = self.settings.info.name.as_str().into();
        }
        info
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
