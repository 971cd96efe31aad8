//! The server's own interface to streams: requests and answers in JSON (`$JS.API.…`).
//!
//! Answers stay the JSON that they are. `--json` prints all of one, also what a newer server says in it, and a
//! configuration that is changed goes back with the fields that this program has never heard of.

use std::error::Error;
use std::time::Duration;

use async_nats::jetstream::{self, ContextBuilder};
use async_nats::{HeaderMap, RequestError, RequestErrorKind};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::Connection;
use crate::connect::Link;
use crate::context::{Context, set};
use crate::exit::{Failure, Outcome};

/// A connection to a server that has streams.
pub(crate) struct Api {
    pub(crate) link: Link,
    /// What API subjects start with, without a dot at the end.
    prefix: String,
}

/// Why a server refuses a request.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// As in HTTP: 404 is what isn't there.
    pub(crate) code: u64,
    /// What exactly it is, of nats-server's list.
    pub(crate) err_code: u64,
    pub(crate) description: String,
}

impl Api {
    pub(crate) async fn open(connection: &Connection) -> Outcome<Api> {
        let context = match &connection.context {
            Some(name) => Context::load(name)?,
            None => Context::default(),
        };
        let domain = connection.js_domain.as_deref().or(set(&context.jetstream_domain));
        let prefix = connection.js_api_prefix.as_deref().or(set(&context.jetstream_api_prefix));
        let prefix = match (prefix, domain) {
            (Some(prefix), _) => prefix.trim_end_matches('.').to_owned(),
            (None, Some(domain)) => format!("$JS.{domain}.API"),
            (None, None) => "$JS.API".to_owned(),
        };
        Ok(Api { link: Link::open(connection).await?, prefix })
    }

    /// The client library's view of the same, for buckets.
    pub(crate) fn jetstream(&self) -> jetstream::Context {
        ContextBuilder::new()
            .timeout(self.link.timeout)
            .ack_timeout(self.link.timeout)
            .api_prefix(self.prefix.clone())
            .build(self.link.client.clone())
    }

    /// The whole subject of an API request, given its part behind the prefix.
    pub(crate) fn subject(&self, tail: &str) -> String {
        format!("{}.{tail}", self.prefix)
    }

    /// Asks, and takes the answer; a refusal is a failure.
    pub(crate) async fn ask(&mut self, tail: &str, body: &Value) -> Outcome<Value> {
        self.try_ask(tail, body).await?.map_err(Failure::from)
    }

    /// Asks, and leaves to the caller what a refusal means.
    pub(crate) async fn try_ask(&mut self, tail: &str, body: &Value) -> Outcome<Result<Value, Refusal>> {
        let payload = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let (subject, limit) = (self.subject(tail), self.link.timeout);
        self.exchange(&subject, None, payload, limit).await
    }

    /// Publishes to a stream and waits for its acknowledgement.
    pub(crate) async fn publish(&mut self, subject: &str, headers: HeaderMap, body: Bytes) -> Outcome<Value> {
        let limit = self.link.timeout;
        self.exchange(subject, Some(headers), body, limit).await?.map_err(Failure::from)
    }

    /// Sends a request to any subject and reads the answer as JSON. An empty answer is `null`.
    pub(crate) async fn exchange(
        &mut self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        limit: Duration,
    ) -> Outcome<Result<Value, Refusal>> {
        let answer = self.link.request(subject, headers, payload, limit).await?;
        if answer.payload.is_empty() {
            return Ok(Ok(Value::Null));
        }
        let answer: Value = serde_json::from_slice(&answer.payload).map_err(|error| {
            Failure::runtime(format_args!("cannot read the answer on {subject}: {error}"))
        })?;
        Ok(match Refusal::of(&answer) {
            Some(refusal) => Err(refusal),
            None => Ok(answer),
        })
    }

    /// All of a list that servers give in pages. `field` is where a page has its items.
    pub(crate) async fn pages(&mut self, tail: &str, field: &str, mut body: Value) -> Outcome<Vec<Value>> {
        let mut all = Vec::new();
        loop {
            body["offset"] = json!(all.len());
            let mut page = self.ask(tail, &body).await?;
            let total = page.count("total");
            let Value::Array(items) = page[field].take() else { return Ok(all) };
            let last = items.is_empty();
            all.extend(items);
            if last || all.len() as u64 >= total {
                return Ok(all);
            }
        }
    }

    /// What the server knows about a stream, which has to exist.
    pub(crate) async fn stream(&mut self, name: &str) -> Outcome<Value> {
        check_name("stream", name)?;
        match self.try_ask(&format!("STREAM.INFO.{name}"), &Value::Null).await? {
            Err(Refusal { err_code: STREAM_NOT_FOUND, .. }) => {
                Err(Failure::runtime(format_args!("there is no stream {name}")))
            }
            answer => answer.map_err(Failure::from),
        }
    }

    /// Waits for what the client library does, while the server may complain. Its errors become ours.
    pub(crate) async fn client_work<T, E: Error + 'static>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Outcome<T> {
        self.link.watched(work).await?.map_err(|error| library_failure(&error))
    }
}

impl Refusal {
    fn of(answer: &Value) -> Option<Refusal> {
        let error = answer.get("error").filter(|error| !error.is_null())?;
        Some(Refusal {
            code: error.count("code"),
            err_code: error.count("err_code"),
            description: error.text("description").to_owned(),
        })
    }

    /// The one that a text ends with, as the client library writes it.
    fn within(text: &str) -> Option<Refusal> {
        let (words, codes) = text.strip_suffix(')')?.rsplit_once(" (code ")?;
        let (code, err_code) = codes.split_once(", error code ")?;
        let description = words.rsplit(": ").next().unwrap_or_default().to_owned();
        Some(Refusal { code: code.parse().ok()?, err_code: err_code.parse().ok()?, description })
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let Refusal { code, err_code, description } = refusal;
        let text = format!("the server says: {description} ({err_code}){}", remedy(err_code));
        match code {
            503 => Failure::unavailable(text),
            _ => Failure::runtime(text),
        }
    }
}

/// What to do about a refusal that doesn't say so itself.
fn remedy(err_code: u64) -> &'static str {
    match err_code {
        10058 => "; `midge stream edit` changes what exists",
        10065 => "; `midge stream ls --subject SUBJECT` shows which",
        10130 => "; `midge stream rm` makes room for it",
        10002 | 10023 | 10028 | 10047 => "; `midge account info` shows what is used",
        _ => "",
    }
}

/// The parts of an answer by name. One that is missing, or of another kind, is empty or zero.
pub(crate) trait Parts {
    fn text(&self, name: &str) -> &str;
    fn count(&self, name: &str) -> u64;
    fn number(&self, name: &str) -> i64;
    fn flag(&self, name: &str) -> bool;
    fn list(&self, name: &str) -> &[Value];
    /// The texts in a list.
    fn texts(&self, name: &str) -> Vec<&str>;
    /// `None` also for what servers say instead of nothing, the first second of the year 1.
    fn time(&self, name: &str) -> Option<Timestamp>;
    /// A duration, which servers give in nanoseconds.
    fn nanos(&self, name: &str) -> Duration;
}

impl Parts for Value {
    fn text(&self, name: &str) -> &str {
        self[name].as_str().unwrap_or_default()
    }

    fn count(&self, name: &str) -> u64 {
        self[name].as_u64().unwrap_or_default()
    }

    fn number(&self, name: &str) -> i64 {
        self[name].as_i64().unwrap_or_default()
    }

    fn flag(&self, name: &str) -> bool {
        self[name].as_bool().unwrap_or_default()
    }

    fn list(&self, name: &str) -> &[Value] {
        self[name].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn texts(&self, name: &str) -> Vec<&str> {
        self.list(name).iter().filter_map(Value::as_str).collect()
    }

    fn time(&self, name: &str) -> Option<Timestamp> {
        let time: Timestamp = self.text(name).parse().ok()?;
        Some(time).filter(|time| time.as_second() > YEAR_1_END)
    }

    fn nanos(&self, name: &str) -> Duration {
        Duration::from_nanos(self.count(name))
    }
}

/// Refuses what cannot be the name of a stream or consumer, since it would make another subject.
pub(crate) fn check_name(kind: &str, name: &str) -> Outcome {
    let bad = |char: char| char.is_whitespace() || char.is_control() || ".*>/\\".contains(char);
    match name.is_empty() || name.contains(bad) {
        true => Err(Failure::usage(format_args!("{name:?} cannot be the name of a {kind}"))),
        false => Ok(()),
    }
}

/// What the client library says, with the server's own words if it has some to pass on.
pub(crate) fn library_failure(error: &(dyn Error + 'static)) -> Failure {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref::<jetstream::Error>() {
            // The library shows the words and then the codes, and has the codes alone.
            let text = refused.to_string();
            let words = text.split(" (code ").next().unwrap_or_default();
            return Failure::from(Refusal {
                code: refused.code() as u64,
                err_code: refused.error_code().0,
                description: words.to_owned(),
            });
        }
        let silent = error.downcast_ref::<RequestError>().map(RequestError::kind);
        if let Some(RequestErrorKind::TimedOut | RequestErrorKind::NoResponders) = silent {
            return Failure::unavailable("no answer: streams are not served here, or not in time");
        }
        let text = error.to_string();
        // The library repeats the source in its own text.
        if !texts.iter().any(|before| before.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    let text = texts.join(": ");
    if let Some(refusal) = Refusal::within(&text) {
        return Failure::from(refusal);
    }
    match text.contains("timed out") {
        true => Failure::unavailable(text),
        false => Failure::runtime(text),
    }
}

/// nats-server's JSStreamNotFoundErr.
pub(crate) const STREAM_NOT_FOUND: u64 = 10059;
/// nats-server's JSConsumerNotFoundErr.
pub(crate) const CONSUMER_NOT_FOUND: u64 = 10014;
/// nats-server's JSNoMessageFoundErr.
pub(crate) const MESSAGE_NOT_FOUND: u64 = 10037;
/// nats-server's JSSequenceNotFoundErrF and JSStreamMsgDeleteFailedF: there is nothing to delete.
pub(crate) const NOT_DELETED: [u64; 2] = [10043, 10057];

/// Seconds before 1970.
const YEAR_1_END: i64 = -62_100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_missing_are_empty() {
        let answer = json!({"name": "A", "first": "0001-01-01T00:00:00Z", "last": "2026-11-27T10:00:00.5Z"});
        assert_eq!((answer.text("name"), answer.text("gone")), ("A", ""));
        assert_eq!((answer.count("name"), answer.number("gone"), answer.flag("gone")), (0, 0, false));
        assert!(answer.texts("gone").is_empty());
        assert_eq!(answer.time("first"), None);
        assert_eq!(answer.time("last").unwrap().subsec_millisecond(), 500);
    }

    #[test]
    fn names_make_no_other_subjects() {
        check_name("stream", "KV_rooms-1").unwrap();
        for name in ["", "a.b", "*", ">", "a b", "a/b", "a\n"] {
            assert!(matches!(check_name("stream", name), Err(Failure::Usage(_))), "{name:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_code() {
        let refusal = Refusal::of(&json!({"error": {"code": 404, "err_code": 10059, "description": "gone"}}));
        let Failure::Runtime(text) = Failure::from(refusal.unwrap()) else { panic!("not a runtime failure") };
        assert_eq!(text, "the server says: gone (10059)");
        let text = "bucket creation failed: jetstream error: name in use (code 400, error code 10058)";
        let Failure::Runtime(text) = Failure::from(Refusal::within(text).unwrap()) else {
            panic!("not a runtime failure")
        };
        assert_eq!(text, "the server says: name in use (10058); `midge stream edit` changes what exists");
        assert!(Refusal::within("timed out (code 7)").is_none());
    }
}
