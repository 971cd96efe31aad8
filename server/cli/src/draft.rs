//! A message before it has a number: subject, headers and body with their templates still in them.

use std::io::IsTerminal;

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;
use midge_protocol::subject::Subject;
use tokio::io::AsyncReadExt;

use crate::cli::Content;
use crate::exit::{Failure, Outcome};
use crate::template::{Template, Values};

/// What `pub` and `request` send, once or many times.
pub(crate) struct Draft {
    subject: Template,
    reply: Option<Template>,
    headers: Vec<(HeaderName, Template)>,
    body: Body,
}

enum Body {
    Text(Template),
    /// What stdin held, to the byte.
    Bytes(Bytes),
}

impl Draft {
    /// A draft whose body comes from the command line or, if there is none, from stdin.
    ///
    /// Reads stdin to its end, but no more than `len_max` bytes: the server would not take a longer body.
    pub(crate) async fn complete(
        subject: &Template,
        reply: Option<&Template>,
        content: &Content,
        len_max: usize,
    ) -> Outcome<Draft> {
        let body = match &content.body {
            Some(text) if content.no_templates => Body::Text(Template::verbatim(text.clone())),
            Some(text) => Body::Text(text.parse().map_err(Failure::usage)?),
            None if std::io::stdin().is_terminal() => Body::Bytes(Bytes::new()),
            None => Body::Bytes(stdin(len_max).await?),
        };
        Ok(Draft { body, ..Draft::without_body(subject, reply, content) })
    }

    /// A draft whose bodies are given to [`with_body`](Draft::with_body) one by one.
    pub(crate) fn without_body(subject: &Template, reply: Option<&Template>, content: &Content) -> Draft {
        Draft {
            subject: subject.clone(),
            reply: reply.cloned(),
            headers: content.headers.clone(),
            body: Body::Bytes(Bytes::new()),
        }
    }

    /// The message with that number, from 1.
    pub(crate) fn message(&self, count: u64) -> Outcome<OutboundMessage> {
        let body = match &self.body {
            Body::Text(template) => template.fill(Values { count, ..Values::default() }).into(),
            Body::Bytes(bytes) => bytes.clone(),
        };
        self.with_body(count, body)
    }

    /// The message with that number and body.
    pub(crate) fn with_body(&self, count: u64, payload: Bytes) -> Outcome<OutboundMessage> {
        let values = Values { count, ..Values::default() };
        let subject = |template: &Template| {
            let text = template.fill_subject(values);
            match Subject::new(text.as_bytes()) {
                Ok(_) => Ok(text.into()),
                Err(error) => Err(Failure::usage(format_args!("cannot publish to {text:?}: {error}"))),
            }
        };
        Ok(OutboundMessage {
            subject: subject(&self.subject)?,
            reply: self.reply.as_ref().map(subject).transpose()?,
            payload,
            headers: header_map(&self.headers, values),
        })
    }
}

/// The headers of one message; `None` spares the server an empty block.
pub(crate) fn header_map(headers: &[(HeaderName, Template)], values: Values<'_>) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, template) in headers {
        // A request's text may hold line breaks, which a header cannot.
        map.append(name.clone(), template.fill(values).replace(['\r', '\n'], " "));
    }
    Some(map).filter(|map| !map.is_empty())
}

/// All of stdin, if it is no longer than that.
pub(crate) async fn stdin(len_max: usize) -> Outcome<Bytes> {
    let mut body = Vec::new();
    let read = tokio::io::stdin().take(len_max as u64 + 1).read_to_end(&mut body).await;
    read.map_err(|error| Failure::runtime(format_args!("cannot read stdin: {error}")))?;
    match body.len() > len_max {
        true => Err(Failure::runtime(format_args!(
            "the server takes messages of up to {len_max} bytes; stdin has more"
        ))),
        false => Ok(body.into()),
    }
}
