//! What becomes of a message, for a publisher who traces it. Source: nats-server's ADR-41, and what `stream.go`
//! (`processJetStreamMsg`) gives back.

use std::borrow::Cow;

use super::Stream;
use super::fast::Part;
use super::ingest::{Arriving, Origin, Passed};
use crate::cx::Cx;
use crate::error::{self, ApiError};
use crate::headers;
use crate::seam::{Fate, Message};

impl Stream {
    /// Checks a message as it is checked when it is stored. With `only`, its publisher is told of a refusal here.
    pub(crate) fn foresee(
        &self,
        message: &Message<'_>,
        room: Result<(), ApiError>,
        only: bool,
        cx: &mut Cx<'_>,
    ) -> Fate {
        let subject = match self.renames.input(message.subject, cx.random) {
            Some(other) => Cow::Owned(other),
            None => Cow::Borrowed(message.subject),
        };
        let mut fate = Fate {
            stream: self.name().to_owned(),
            subject: String::from_utf8_lossy(&subject).into_owned(),
            no_interest: self.is_uninteresting(&subject),
            error: String::new(),
        };
        // Batches are checked when they end.
        if Part::read(message.reply).is_some() || headers::text(message.header, headers::BATCH_ID).is_some() {
            return fate;
        }
        let (header, payload) = (Cow::Borrowed(message.header), Cow::Borrowed(message.payload));
        let mut arriving = Arriving::new(subject, header, payload, Origin::Client, cx);
        let refused = match self.pass(&mut arriving, room) {
            Passed::Yes => return fate,
            Passed::Duplicate(_) => {
                fate.error = "msgid is duplicate".to_owned();
                None
            }
            Passed::No(error) => {
                fate.error = self.words(&error, &arriving);
                Some(error)
            }
        };
        // What is found when it is stored is found later.
        let stores =
            [error::STREAM_STORE_FAILED, error::ACCOUNT_RESOURCES_EXCEEDED, error::MESSAGE_TTL_INVALID];
        if !refused.as_ref().is_some_and(|error| stores.iter().any(|row| row.err_code == error.err_code)) {
            (fate.subject, fate.no_interest) = (String::new(), false);
        }
        if let Some(error) = refused.filter(|_| only) {
            self.refuse(message.reply.filter(|_| !self.config.no_ack), &error, cx);
        }
        fate
    }

    /// A refusal as nats-server notes it, which is not always what it tells.
    fn words(&self, error: &ApiError, arriving: &Arriving<'_>) -> String {
        let header = &arriving.header;
        let number = |name| headers::number(header, name).flatten().unwrap_or(0);
        let last = error.description.rsplit(' ').next().unwrap_or_default();
        match error.err_code {
            code if code == error::STREAM_NOT_MATCH.err_code => "expected stream does not match".to_owned(),
            code if code == error::MESSAGE_TTL_DISABLED.err_code => "message TTL disabled".to_owned(),
            code if code == error::STREAM_WRONG_LAST_SEQUENCE.err_code => {
                let of_subject = headers::get(header, headers::EXPECTED_LAST_SUBJECT_SEQ).is_some();
                match of_subject && number(headers::EXPECTED_LAST_SUBJECT_SEQ).to_string() != last {
                    true => {
                        let expected = number(headers::EXPECTED_LAST_SUBJECT_SEQ);
                        format!("last sequence by subject mismatch: {expected} vs {last}")
                    }
                    false => {
                        let expected = number(headers::EXPECTED_LAST_SEQ);
                        format!("last sequence mismatch: {expected} vs {last}")
                    }
                }
            }
            code if code == error::STREAM_WRONG_LAST_MSG_ID.err_code => {
                let expected = headers::text(header, headers::EXPECTED_LAST_MSG_ID).unwrap_or_default();
                format!("last msgid mismatch: {expected:?} vs {:?}", &*self.last_msg_id)
            }
            code if code == error::STREAM_MESSAGE_EXCEEDS_MAXIMUM.err_code
                || code == error::STREAM_HEADER_EXCEEDS_MAXIMUM.err_code =>
            {
                "maximum payload exceeded".to_owned()
            }
            code if code == error::STREAM_ROLLUP_FAILED.err_code
                || code == error::STREAM_STORE_FAILED.err_code =>
            {
                error.description.to_string()
            }
            _ => error.to_string(),
        }
    }
}
