//! Dead letters: messages that a consumer could not handle are copied to another stream.
//!
//! A stream names it in its metadata, `midge.dlq`. A letter has the message's payload and headers, and headers that tell
//! of its death. Its subject is that of nobody else: `GRAVE.STREAM.CONSUMER`.

use super::Stream;
use super::limits::counted;
use crate::config::Discard;
use crate::cx::Cx;
use crate::headers;
use crate::log::{Entry, Stored};
use crate::time::rfc3339;

/// The metadata that names where dead letters go.
const METADATA: &str = "midge.dlq";

/// A message that a consumer could not handle.
pub(crate) struct Letter {
    consumer: Box<str>,
    message: Stored,
    reason: String,
    count: u64,
}

impl Stream {
    /// Where its dead letters go.
    pub(crate) fn grave(&self) -> Option<&str> {
        self.config.metadata.get(METADATA).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Takes what a consumer could not handle, while it is there.
    pub(super) fn collect_deaths(&mut self, id: u32) {
        let wanted = self.grave().is_some();
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        for death in consumer.take_deaths() {
            if wanted && let Ok(Some(message)) = self.log.get(death.seq) {
                let (reason, count) = (death.reason, death.count);
                self.dead.push(Letter { consumer: consumer.name.clone(), message, reason, count });
            }
        }
    }

    /// Stores a dead letter of the stream `origin`, or says why not.
    pub(crate) fn bury(&mut self, letter: &Letter, origin: &str, cx: &mut Cx<'_>) -> Result<(), String> {
        if self.config.sealed {
            return Err("it is sealed".to_owned());
        }
        let Letter { consumer, message, reason, count } = letter;
        let printable: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut header = message.header().to_vec();
        for (name, value) in [
            ("Midge-Death-Stream", origin),
            ("Midge-Death-Consumer", consumer),
            ("Midge-Death-Seq", &message.seq.to_string()),
            ("Midge-Death-Subject", &String::from_utf8_lossy(message.subject())),
            ("Midge-Death-Reason", &printable),
            ("Midge-Death-Count", &count.to_string()),
            ("Midge-Death-Time", &rfc3339(cx.now.wall)),
        ] {
            header = headers::with(&header, name, value);
        }
        let (subject, payload) = (format!("{}.{origin}.{consumer}", self.name()), message.payload());
        let size = counted(self.config.storage, subject.len(), header.len(), payload.len());
        let state = self.log.state();
        let over = |max: i64, now: u64| u64::try_from(max).is_ok_and(|max| max > 0 && now > max);
        if self.config.discard == Discard::New
            && (over(self.config.max_msgs, state.messages + 1)
                || over(self.config.max_bytes, state.bytes + size))
        {
            return Err("it is full".to_owned());
        }
        let entry = Entry {
            subject: subject.as_bytes(),
            header: &header,
            payload: &payload,
            time: cx.now.wall,
            expires: 0,
        };
        let stored = self
            .store(&entry, cx)
            .and_then(|_| self.enforce_subject(entry.subject, cx))
            .and_then(|()| self.enforce_limits(cx));
        stored.map_err(|error| error.to_string())
    }
}
