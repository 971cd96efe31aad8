//! Single messages: looked at and deleted.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::{Answer, Request, SUCCESS, answer};
use crate::config::Storage;
use crate::engine::Engine;
use crate::error;
use crate::json;
use crate::stream::GetRequest;
use crate::time::rfc3339;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DeleteRequest {
    seq: u64,
    no_erase: bool,
}

#[derive(Serialize)]
struct Found {
    message: Message,
}

#[derive(Serialize)]
struct Message {
    subject: String,
    seq: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    hdrs: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    data: String,
    time: String,
}

impl Engine {
    pub(super) fn message_get(&mut self, request: &Request<'_>) -> Answer {
        if json::is_empty(request.message.payload) {
            return Err(error::BAD_REQUEST.into());
        }
        let ask: GetRequest = request.read()?;
        if ask.batch > 0 || ask.max_bytes > 0 || !ask.is_for_one() {
            return Err(error::BAD_REQUEST.into());
        }
        let id = self.stream_id(request.account, request.token(3))?;
        let (stream, _) = self.stream_cx(id, request.now).ok_or(error::STREAM_NOT_FOUND)?;
        let message = stream.find(&ask)?.ok_or(error::NO_MESSAGE_FOUND)?;
        let header = if ask.no_hdr { &[] } else { message.header() };
        let message = Message {
            subject: String::from_utf8_lossy(message.subject()).into_owned(),
            seq: message.seq,
            hdrs: BASE64_STANDARD.encode(header),
            data: BASE64_STANDARD.encode(message.payload()),
            time: rfc3339(message.time),
        };
        answer("stream_msg_get", Found { message })
    }

    pub(super) fn message_delete(&mut self, request: &Request<'_>) -> Answer {
        if json::is_empty(request.message.payload) {
            return Err(error::BAD_REQUEST.into());
        }
        let ask: DeleteRequest = request.read()?;
        let id = self.stream_id(request.account, request.token(3))?;
        let (stream, mut cx) = self.stream_cx(id, request.now).ok_or(error::STREAM_NOT_FOUND)?;
        if stream.config.sealed {
            return Err(error::STREAM_SEALED.into());
        }
        if stream.config.deny_delete {
            return Err(error::STREAM_MSG_DELETE_FAILED.with(&[&"message delete not permitted"]).into());
        }
        if !stream.remove(ask.seq, !ask.no_erase, &mut cx)? {
            // Two stores of nats-server's, two answers.
            return Err(match stream.config.storage {
                Storage::Memory => error::SEQUENCE_NOT_FOUND.with(&[&ask.seq]).into(),
                Storage::File if ask.seq > stream.log.state().last_seq => {
                    error::STREAM_MSG_DELETE_FAILED.with(&[&"stream store EOF"]).into()
                }
                Storage::File if ask.seq >= stream.log.state().first_seq.max(1) => {
                    error::SEQUENCE_NOT_FOUND.with(&[&ask.seq]).into()
                }
                Storage::File => error::STREAM_MSG_DELETE_FAILED.with(&[&"no message found"]).into(),
            });
        }
        self.touch(id);
        answer("stream_msg_delete", SUCCESS)
    }
}
