//! Why a conversation with a hub can't go on.

use std::fmt;
use std::time::Duration;

/// Why a conversation with a hub can't go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// INFO isn't JSON, or isn't what comes now.
    Info,
    /// The port isn't one where leaf nodes connect.
    WrongPort,
    /// The hub's cluster has a name that no line can hold.
    ClusterName,
    /// What this server asks for to detect loops has come back to it.
    Loop {
        /// The account here.
        account: String,
    },
    /// The hub said why. It closes the connection, if it hasn't yet.
    Refused(String),
    /// An operation that hubs don't send.
    Unexpected,
}

impl Fault {
    /// How long to leave the hub alone, at least; `None`: as after any end. Source: nats-server's `leafnode.go`.
    pub fn wait(&self) -> Option<Duration> {
        const LONG: Duration = Duration::from_secs(30);
        match self {
            Self::Loop { .. } => Some(LONG),
            Self::Refused(text) if text.contains("minimum version") => Some(Duration::from_secs(5)),
            Self::Refused(text)
                if text.contains("same cluster name")
                    || text.contains("Loop detected")
                    || text.contains("Permissions Violation") =>
            {
                Some(LONG)
            }
            _ => None,
        }
    }

    /// What the hub is told, as the text of -ERR.
    pub fn told(&self) -> Option<String> {
        match self {
            Self::Loop { .. } => Some(self.to_string()),
            Self::ClusterName => Some("Cluster name cannot contain spaces".to_owned()),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    /// As it stands in log lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Info => f.write_str("the hub's INFO is not understood"),
            Self::WrongPort => f.write_str("attempted to connect to wrong port"),
            Self::ClusterName => f.write_str("cluster name cannot contain spaces"),
            Self::Loop { account } => write!(
                f,
                "Loop detected for leafnode account={account:?}. Delaying attempt to reconnect for 30s"
            ),
            Self::Refused(text) => write!(f, "Leafnode Error '{text}'"),
            Self::Unexpected => f.write_str("the hub sent what hubs don't send"),
        }
    }
}
