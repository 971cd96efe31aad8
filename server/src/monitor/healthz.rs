//! /healthz: is the daemon fit to serve?

use serde::Serialize;

use super::query::{BadRequest, Query};
use crate::vitals::Vitals;

/// nats-server's `HealthStatus`. Its HTTP status says the same to those who don't read JSON.
#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
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
    error: String,
}

impl Health {
    /// A daemon that answers accepts clients too: what is left to find fault with is the question, and the streams' disk,
    /// unless that is not asked for.
    pub(super) fn check(query: &Query, vitals: &Vitals) -> Result<Self, BadRequest> {
        for name in ["js-enabled", "js-enabled-only", "js-server-only", "js-meta-only"] {
            query.flag(name)?;
        }
        let details = query.flag("details")?;
        let without = |name: &str, of: &str| query.text(of).is_some() && query.text(name).is_none();
        let (missing, of) = if without("account", "stream") {
            ("account", "stream")
        } else if without("stream", "consumer") {
            ("stream", "consumer")
        } else {
            let degraded = vitals.degraded();
            return Ok(match vitals.fault() {
                Some(why) => {
                    Self { degraded, ..Self::ill("unavailable", "JETSTREAM", why.to_owned(), details) }
                }
                None => Self { status: "ok", status_code: None, error: None, errors: Vec::new(), degraded },
            });
        };
        let error = format!("{missing:?} must not be empty when checking {of} health");
        Ok(Self::ill("error", "BAD_REQUEST", error, details))
    }

    fn ill(status: &'static str, kind: &'static str, error: String, details: bool) -> Self {
        let (error, errors) = match details {
            false => (Some(error), Vec::new()),
            true => (None, vec![Fault { kind, error }]),
        };
        Self { status, status_code: None, error, errors, degraded: None }
    }

    /// With the HTTP status in it.
    pub(super) fn with_code(self) -> Self {
        Self { status_code: Some(self.code()), ..self }
    }

    /// The HTTP status.
    pub(super) fn code(&self) -> u16 {
        match self.status {
            "ok" => 200,
            "error" => 400,
            _ => 503,
        }
    }
}
