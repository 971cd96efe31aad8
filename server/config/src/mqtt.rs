//! MQTT clients.

use std::time::Duration;

use crate::block::Block;
use crate::options::Listen;
use crate::report::Report;
use crate::tls::Tls;
use crate::websocket::SimpleAuthorization;

/// The `mqtt` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mqtt {
    /// Where clients connect; none: nowhere. MQTT's port by convention is 1883.
    pub listen: Option<Listen>,
    /// Encryption.
    pub tls: Option<Tls>,
    /// Who may connect, instead of what holds for other clients.
    pub authorization: SimpleAuthorization,
    /// The user that a connection without credentials is taken for, instead of [`crate::Options::no_auth_user`].
    pub no_auth_user: Option<String>,
    /// The wait before an unacknowledged message is sent again. Default 30 s.
    pub ack_wait: Duration,
    /// Unacknowledged messages of one subscription. Default 1024.
    pub ack_pending_max: u16,
    /// Messages published with QoS 2 close the connection. Default false.
    pub reject_qos2_publish: bool,
    /// Subscriptions with QoS 2 get QoS 1. Default false.
    pub downgrade_qos2_subscribe: bool,
}

impl Mqtt {
    pub(crate) fn read(block: &Block<'_>, report: &mut Report) -> Self {
        if let Some(value) = block.get("consumer_replicas") {
            report.warn(&value.at, "consumer replicas setting ignored in this server version");
        }
        Self {
            listen: Listen::read_optional(block),
            tls: block.block("tls").map(|block| Tls::read(&block, report)),
            authorization: block
                .block("authorization")
                .map(|block| SimpleAuthorization::read(&block))
                .unwrap_or_default(),
            no_auth_user: block.word("no_auth_user"),
            ack_wait: block.nonzero_duration("ack_wait").unwrap_or(Duration::from_secs(30)),
            ack_pending_max: block.nonzero("max_ack_pending").unwrap_or(1024),
            reject_qos2_publish: block.bool("reject_qos2_publish").unwrap_or_default(),
            downgrade_qos2_subscribe: block.bool("downgrade_qos2_subscribe").unwrap_or_default(),
        }
    }
}
