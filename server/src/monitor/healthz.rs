//! /healthz: is the daemon fit to serve?

use midge_inquiry::Missing;
use serde::Serialize;

use super::About;
use super::query::{BadRequest, Query};
use crate::hub::Hub;
use crate::inquiry::{Answer, Question, Unresponsive};
use crate::vitals::Vitals;

const OK: u16 = 200;
const BAD_REQUEST: u16 = 400;
const NOT_FOUND: u16 = 404;
const UNAVAILABLE: u16 = 503;

/// nats-server's `HealthStatus`. Its HTTP status says the same to those who don't read JSON.
#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    /// The HTTP status.
    #[serde(skip)]
    code: u16,
    /// As HTTP has it, for those who ask in another way.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    /// What has been lost, though everything works. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<&'static str>,
}

/// nats-server's `HealthzError`, for those who ask for `details`.
#[derive(Serialize)]
struct Fault {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    account: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    stream: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    consumer: String,
    error: String,
}

impl Health {
    /// A daemon that answers accepts clients too: what is left to find fault with is the question, and the streams, unless
    /// they are not asked for.
    pub(super) async fn check(query: &Query, hub: &Hub, about: &About) -> Result<Self, BadRequest> {
        let [enabled, enabled_only] = [query.flag("js-enabled")?, query.flag("js-enabled-only")?];
        let server_only = query.flag("js-server-only")?;
        query.flag("js-meta-only")?;
        let details = query.flag("details")?;
        let without = |name: &str, of: &str| query.text(of).is_some() && query.text(name).is_none();
        let (missing, of) = if without("account", "stream") {
            ("account", "stream")
        } else if without("stream", "consumer") {
            ("stream", "consumer")
        } else {
            let health = Self::of_disk(&hub.vitals, details);
            // Without streams there are none to be missed.
            let asked = !(enabled || enabled_only || server_only) && about.options().jetstream.enabled;
            return Ok(match Self::ask(query, hub, details).await {
                _ if health.status != "ok" => health,
                Err(why) => {
                    let fault = Fault::new("JETSTREAM", why.to_string());
                    Self {
                        degraded: health.degraded,
                        ..Self::ill("unavailable", UNAVAILABLE, fault, details)
                    }
                }
                Ok(Some(missing)) if asked => missing,
                Ok(_) => health,
            });
        };
        let error = format!("{missing:?} must not be empty when checking {of} health");
        Ok(Self::ill("error", BAD_REQUEST, Fault::new("BAD_REQUEST", error), details))
    }

    fn of_disk(vitals: &Vitals, details: bool) -> Self {
        let degraded = vitals.degraded();
        match vitals.fault() {
            Some(why) => {
                let fault = Fault::new("JETSTREAM", why.to_owned());
                Self { degraded, ..Self::ill("unavailable", UNAVAILABLE, fault, details) }
            }
            None => {
                Self { status: "ok", code: OK, status_code: None, error: None, errors: Vec::new(), degraded }
            }
        }
    }

    /// What is asked for and isn't there. Asks in any case, to see whether there is an answer.
    async fn ask(query: &Query, hub: &Hub, details: bool) -> Result<Option<Self>, Unresponsive> {
        let [account, stream, consumer] =
            ["account", "stream", "consumer"].map(|name| query.text(name).unwrap_or_default().to_owned());
        let question = match account.is_empty() {
            true => Question::Sums,
            false => Question::Find {
                account: account.clone(),
                stream: stream.clone(),
                consumer: consumer.clone(),
            },
        };
        let fault = match hub.ask_streams(question).await? {
            Some(Answer::Missing(Missing::Account)) => {
                let error = format!("JetStream account {account:?} not found");
                Fault { account, ..Fault::new("ACCOUNT", error) }
            }
            Some(Answer::Missing(Missing::Stream)) => {
                let error = format!("JetStream stream {stream:?} not found on account {account:?}");
                Fault { account, stream, ..Fault::new("STREAM", error) }
            }
            Some(Answer::Missing(Missing::Consumer)) => {
                let error = format!(
                    "JetStream consumer {consumer:?} not found for stream {stream:?} on account {account:?}"
                );
                Fault { account, stream, consumer, ..Fault::new("CONSUMER", error) }
            }
            _ => return Ok(None),
        };
        Ok(Some(Self::ill("unavailable", NOT_FOUND, fault, details)))
    }

    fn ill(status: &'static str, code: u16, fault: Fault, details: bool) -> Self {
        let (status, error, errors) = match details {
            false => (status, Some(fault.error), Vec::new()),
            true => ("error", None, vec![fault]),
        };
        Self { status, code, status_code: None, error, errors, degraded: None }
    }

    /// With the HTTP status in it.
    pub(super) fn with_code(self) -> Self {
        Self { status_code: Some(self.code), ..self }
    }

    /// The HTTP status.
    pub(super) fn code(&self) -> u16 {
        self.code
    }
}

impl Fault {
    fn new(kind: &'static str, error: String) -> Self {
        let (account, stream, consumer) = Default::default();
        Self { kind, account, stream, consumer, error }
    }
}
