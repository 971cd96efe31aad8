//! Subjects that change: on the way in, and where a stored message is published again.
//!
//! Source: nats-server's `stream.go` (`processJetStreamMsg`).

use midge_protocol::subject::is_literal;
use midge_router::mapping::Single;

use super::Stream;
use crate::config::StreamConfig;
use crate::cx::Cx;
use crate::log::Entry;
use crate::random::Random;
use crate::time::rfc3339;

/// What a stream's configuration says of subjects, as it works.
#[derive(Debug, Default)]
pub(super) struct Renames {
    input: Option<Single>,
    again: Option<Single>,
}

impl Renames {
    pub(super) fn new(config: &StreamConfig) -> Self {
        let input = config.subject_transform.as_ref().and_then(|transform| transform.read().ok());
        // Without a destination, it would come back to the stream for ever.
        let again = config.republish.as_ref().filter(|again| !again.dest.is_empty());
        Self { input, again: again.and_then(|again| Single::new(&again.src, &again.dest).ok()) }
    }

    /// What a message that was published on `subject` is stored under, if that is another.
    pub(super) fn input(&self, subject: &[u8], random: &mut Random) -> Option<Vec<u8>> {
        self.input.as_ref()?.apply(subject, &mut |bound| random.below(bound))
    }
}

/// A message that is to be published again once it is stored.
pub(super) struct Again {
    subject: Vec<u8>,
    /// The last message of its subject, before it.
    before: u64,
}

impl Stream {
    /// Where a message on `subject` is published again, if it is. To be asked before it is stored.
    pub(super) fn again(&self, subject: &[u8], random: &mut Random) -> Option<Again> {
        let to = self.renames.again.as_ref()?.apply(subject, &mut |bound| random.below(bound))?;
        is_literal(&to).then(|| Again { subject: to, before: self.log.last_of(subject).unwrap_or(0) })
    }

    /// Publishes a message again, that was stored as `seq`.
    pub(super) fn publish_again(&self, again: &Again, entry: &Entry<'_>, seq: u64, cx: &mut Cx<'_>) {
        let headers_only = self.config.republish.as_ref().is_some_and(|again| again.headers_only);
        let mut block = match entry.header.strip_suffix(b"\r\n") {
            Some(open) => open.to_vec(),
            None => b"NATS/1.0\r\n".to_vec(),
        };
        for part in [b"Nats-Stream: ", self.name().as_bytes(), b"\r\nNats-Subject: ", entry.subject] {
            block.extend_from_slice(part);
        }
        let lines = format!(
            "\r\nNats-Sequence: {seq}\r\nNats-Time-Stamp: {}\r\nNats-Last-Sequence: {}\r\n",
            rfc3339(entry.time),
            again.before
        );
        block.extend_from_slice(lines.as_bytes());
        let payload = if headers_only {
            block.extend_from_slice(format!("Nats-Msg-Size: {}\r\n", entry.payload.len()).as_bytes());
            b""
        } else {
            entry.payload
        };
        block.extend_from_slice(b"\r\n");
        cx.publish(&again.subject, block, bytes::Bytes::copy_from_slice(payload));
    }
}
