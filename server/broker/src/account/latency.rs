//! Reports on how long services take to answer, published in the account of the service.
//!
//! Source: nats-server's `shouldSample` and `ServiceLatency`. As there, only services with a single answer are timed.

use std::sync::Arc;
use std::time::Duration;

use midge_protocol::header::Header;
use midge_protocol::op::Message;
use midge_protocol::time::Instant;
use serde::Serialize;
use serde_json::Value;

use super::export::ExportedService;
use super::service::Lost;
use crate::broker::{Broker, Now};
use crate::conn::Port;
use crate::system::{ClientInfo, Nanos, Time, TypedEvent};

/// The headers that asked for a report, by their names, each with its values.
type Headers = serde_json::Map<String, Value>;

/// A request whose answer is timed.
#[derive(Debug)]
pub(crate) struct Tracking {
    requestor: ClientInfo,
    headers: Headers,
    since: Instant,
    since_wall: Duration,
}

impl Tracking {
    pub(crate) fn new(requestor: ClientInfo, headers: Headers, now: Now) -> Self {
        Self { requestor, headers, since: now.mono, since_wall: now.wall }
    }

    pub(crate) fn bytes(&self) -> usize {
        let text = |value: &Value| value.to_string().len();
        let headers: usize = self.headers.iter().map(|(name, values)| name.len() + text(values)).sum();
        size_of::<Self>() + headers
    }

    /// When the requester sent it.
    fn start(&self) -> Time {
        Time(self.since_wall.saturating_sub(self.requestor.rtt()))
    }
}

/// nats-server's `ServiceLatency`.
#[derive(Serialize)]
struct ServiceLatency<'a> {
    #[serde(flatten)]
    event: TypedEvent,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'static str,
    requestor: &'a ClientInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    responder: Option<&'a ClientInfo>,
    #[serde(skip_serializing_if = "Headers::is_empty")]
    header: &'a Headers,
    start: Time,
    service: Nanos,
    system: Nanos,
    total: Nanos,
}

const TYPE: &str = "io.nats.server.metric.v1.service_latency";

impl<P: Port> Broker<P> {
    /// Whether a request is to be timed, and the headers that asked for it.
    pub(crate) fn samples(&mut self, export: &ExportedService, message: &Message<'_>) -> Option<Headers> {
        let latency = export.export.latency.as_ref()?;
        // As in nats-server, whose reports come from there.
        self.system_account?;
        let chosen = match latency.sampling {
            100.. => true,
            0 => false,
            percent => self.random.below(100) < percent.into(),
        };
        if chosen { Some(Headers::new()) } else { asked_for(message.header()) }
    }

    /// A request came without a reply subject, so nobody can answer it.
    pub(crate) fn report_bad_request(
        &mut self,
        export: &Arc<ExportedService>,
        requestor: ClientInfo,
        headers: Headers,
        now: Now,
    ) {
        let tracking = Tracking::new(requestor, headers, now);
        self.report(export, &tracking, (400, "Bad Request"), None, now);
    }

    /// The answer came.
    pub(crate) fn report_answered(
        &mut self,
        export: &Arc<ExportedService>,
        tracking: &Tracking,
        responder: ClientInfo,
        now: Now,
    ) {
        self.report(export, tracking, (200, ""), Some(&responder), now);
    }

    /// There will be no answer.
    pub(crate) fn report_lost(
        &mut self,
        export: &Arc<ExportedService>,
        tracking: &Tracking,
        why: Lost,
        now: Now,
    ) {
        let status = match why {
            Lost::Service => (503, "Service Unavailable"),
            Lost::Time | Lost::Room => (504, "Service Timeout"),
            Lost::Interest => (408, "Request Timeout"),
        };
        self.report(export, tracking, status, None, now);
    }

    fn report(
        &mut self,
        export: &Arc<ExportedService>,
        tracking: &Tracking,
        (status, description): (u16, &'static str),
        responder: Option<&ClientInfo>,
        now: Now,
    ) {
        let Some(latency) = &export.export.latency else { return };
        // Round trips are the network's, not the service's.
        let whole = now.mono.since(tracking.since);
        let (theirs, ours) = match responder {
            Some(responder) => (whole.saturating_sub(responder.rtt()), whole + tracking.requestor.rtt()),
            None => (Duration::ZERO, Duration::ZERO),
        };
        let report = ServiceLatency {
            event: TypedEvent::new(TYPE, self.secret.event_id(), now.wall),
            status,
            description,
            requestor: &tracking.requestor,
            responder,
            header: &tracking.headers,
            start: tracking.start(),
            service: Nanos(theirs),
            system: Nanos(Duration::ZERO),
            total: Nanos(ours),
        };
        self.announce(export.account, latency.subject.clone(), &report);
    }
}

/// The headers by which a tracing system asks for a sample, if it does.
fn asked_for(block: &[u8]) -> Option<Headers> {
    let header = Header::parse(block).ok()?;
    let text = |name: &str| {
        header.get_ignoring_case(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
    };
    let with = |names: &[&str], prefix: Option<&str>| {
        let mut found = Headers::new();
        for field in header.fields() {
            let name = canonical(field.name);
            let wanted = names.contains(&name.as_str()) || prefix.is_some_and(|it| name.starts_with(it));
            if wanted {
                let value = String::from_utf8_lossy(field.value).into_owned();
                if let Value::Array(values) = found.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                    values.push(value.into());
                }
            }
        }
        Some(found)
    };
    if let Some(uber) = text("Uber-Trace-Id").filter(|it| !it.is_empty()) {
        let parts: Vec<_> = uber.split(':').collect();
        let [_, _, _, flags] = parts[..] else { return None };
        let flags = Some(flags).filter(|it| (1..=2).contains(&it.len()));
        let flags = flags.and_then(|it| u8::from_str_radix(it, 16).ok())?;
        return if flags & 1 == 1 { with(&["Uber-Trace-Id"], Some("Uberctx-")) } else { None };
    }
    const B3: &[&str] = &["X-B3-Sampled", "X-B3-Traceid", "X-B3-Parentspanid", "X-B3-Spanid"];
    match text("X-B3-Sampled").as_deref() {
        Some("1") => return with(B3, None),
        Some("0") => return None,
        // Without a word on it, it is up to us.
        _ if text("X-B3-TraceId").is_some() => return with(B3, None),
        _ => {}
    }
    if let Some(b3) = text("B3").filter(|it| !it.is_empty()) {
        let parts: Vec<_> = b3.split('-').collect();
        let denied = matches!(parts[..], ["0"] | [_, _, "0", ..]);
        return if denied { None } else { with(&["B3"], None) };
    }
    if let Some(context) = text("Traceparent") {
        let parts: Vec<_> = context.split('-').collect();
        let [_, _, _, flags] = parts[..] else { return None };
        let flags = Some(flags).filter(|it| it.len() == 2).and_then(|it| i8::from_str_radix(it, 16).ok())?;
        return if flags & 1 == 1 { with(&["Traceparent", "Tracestate"], None) } else { None };
    }
    None
}

/// A header's name as Go writes it: `x-b3-traceID` is `X-B3-Traceid`.
fn canonical(name: &[u8]) -> String {
    let mut start = true;
    let letters = name.iter().map(|byte| {
        let letter = if start { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
        start = *byte == b'-';
        char::from(letter)
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fields: &str) -> Option<String> {
        let block = format!("NATS/1.0\r\n{fields}\r\n\r\n");
        asked_for(block.as_bytes()).map(|headers| Value::Object(headers).to_string())
    }

    /// What nats-server 2.15.1 samples and reports.
    #[test]
    fn tracing_headers_ask_for_samples() {
        for (fields, reported) in [
            ("A: b", None),
            ("Uber-Trace-Id: 479f:5adb:479f:1", Some(r#"{"Uber-Trace-Id":["479f:5adb:479f:1"]}"#)),
            (
                "uber-trace-id: a:b:c:1\r\nUberctx-X: y",
                Some(r#"{"Uber-Trace-Id":["a:b:c:1"],"Uberctx-X":["y"]}"#),
            ),
            ("Uber-Trace-Id: a:b:c:0", None),
            ("Uber-Trace-Id: a:b:1", None),
            ("X-B3-TraceId: b", Some(r#"{"X-B3-Traceid":["b"]}"#)),
            (
                "X-B3-Sampled: 1\r\nX-B3-SpanId: c\r\nA: b",
                Some(r#"{"X-B3-Sampled":["1"],"X-B3-Spanid":["c"]}"#),
            ),
            ("X-B3-Sampled: 0\r\nX-B3-TraceId: b", None),
            ("B3: 80f1-e457-1-05e3", Some(r#"{"B3":["80f1-e457-1-05e3"]}"#)),
            ("b3: 80f1-e457-0", None),
            ("b3: 0", None),
            ("traceparent: 00-4bf9-00f0-01", Some(r#"{"Traceparent":["00-4bf9-00f0-01"]}"#)),
            ("traceparent: 00-4bf9-00f0-00\r\ntracestate: x", None),
        ] {
            assert_eq!(asked(fields).as_deref(), reported, "{fields}");
        }
    }
}
