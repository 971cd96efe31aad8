//! /healthz: is the daemon fit to serve?

use serde::Serialize;

use super::query::{BadRequest, Query};

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
}

/// nats-server's `HealthzError`, for those who ask for `details`.
#[derive(Serialize)]
struct Fault {
    #[serde(rename = "type")]
    kind: &'static str,
    error: String,
}

impl Health {
    /// A daemon that answers accepts clients too, and one without streams has nothing else that may be unwell: what is
    /// left to find fault with is the question.
    pub(super) fn check(query: &Query) -> Result<Self, BadRequest> {
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
            return Ok(Self { status: "ok", status_code: None, error: None, errors: Vec::new() });
        };
        let error = format!("{missing:?} must not be empty when checking {of} health");
        Ok(match details {
            false => Self { status: "error", status_code: None, error: Some(error), errors: Vec::new() },
            true => {
                let errors = vec![Fault { kind: "BAD_REQUEST", error }];
                Self { status: "error", status_code: None, error: None, errors }
            }
        })
    }

    /// With the HTTP status in it.
    pub(super) fn with_code(self) -> Self {
        Self { status_code: Some(if self.is_ok() { 200 } else { 400 }), ..self }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.status == "ok"
    }
}
