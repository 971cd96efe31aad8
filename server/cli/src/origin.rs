//! Where a message is stored, and how often it was delivered.

use async_nats::{HeaderMap, Message};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use crate::api::Parts;
use crate::exit::{Failure, Outcome};

/// What a stream says about a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Origin {
    pub(crate) stream: String,
    pub(crate) seq: u64,
    /// When it was stored.
    pub(crate) time: Timestamp,
    pub(crate) delivery: Option<Delivery>,
}

/// What a consumer says about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delivery {
    pub(crate) consumer: String,
    pub(crate) consumer_seq: u64,
    /// How often it was delivered, this time included.
    pub(crate) count: u64,
    /// Messages that the consumer has yet to deliver.
    pub(crate) pending: u64,
}

impl Origin {
    /// Reads the subject that a delivered message wants to be acknowledged on:
    /// `$JS.ACK.<stream>.<consumer>.<count>.<seq>.<consumer seq>.<nanoseconds>.<pending>`, or with domain and account
    /// before the stream and perhaps something after the end.
    pub(crate) fn of_reply(reply: &str) -> Option<Origin> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let fields = match tokens.len() {
            7 => &tokens[..],
            9.. => tokens.get(2..9)?,
            _ => return None,
        };
        let [stream, consumer, count, seq, consumer_seq, nanos, pending] = fields else { return None };
        Some(Origin {
            stream: (*stream).to_owned(),
            seq: seq.parse().ok()?,
            time: Timestamp::from_nanosecond(nanos.parse().ok()?).ok()?,
            delivery: Some(Delivery {
                consumer: (*consumer).to_owned(),
                consumer_seq: consumer_seq.parse().ok()?,
                count: count.parse().ok()?,
                pending: pending.parse().ok()?,
            }),
        })
    }
}

/// Reads a message as `STREAM.MSG.GET` answers it.
pub(crate) fn stored(stream: &str, answer: &Value) -> Outcome<(Message, Origin)> {
    let seq = answer.count("seq");
    let wrong = |what: &str| Failure::runtime(format_args!("cannot read message {seq} of {stream}: {what}"));
    let bytes = |name: &str| BASE64_STANDARD.decode(answer.text(name)).map_err(|_| wrong("bad base64"));
    let (head, body) = (bytes("hdrs")?, bytes("data")?);
    let headers = match head.is_empty() {
        true => None,
        false => Some(headers(&head).ok_or_else(|| wrong("bad headers"))?),
    };
    let length = head.len() + body.len();
    let message = Message {
        subject: answer.text("subject").into(),
        reply: None,
        payload: Bytes::from(body),
        headers,
        status: None,
        description: None,
        length,
    };
    let time = answer.time("time").ok_or_else(|| wrong("no time"))?;
    Ok((message, Origin { stream: stream.to_owned(), seq, time, delivery: None }))
}

/// Reads `NATS/1.0` and the lines after it.
fn headers(head: &[u8]) -> Option<HeaderMap> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    lines.next().filter(|line| line.starts_with("NATS/1.0"))?;
    let mut map = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let name: async_nats::HeaderName = name.trim().parse().ok()?;
        let value: async_nats::HeaderValue = value.trim().parse().ok()?;
        map.append(name, value);
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reply_subject_tells_where_a_message_is_from() {
        let old = Origin::of_reply("$JS.ACK.A.c.2.10.7.1795773600000000000.4").unwrap();
        assert_eq!((old.stream.as_str(), old.seq, old.time.as_second()), ("A", 10, 1_795_773_600));
        let delivery = old.delivery.clone().unwrap();
        assert_eq!((delivery.count, delivery.consumer_seq, delivery.pending), (2, 7, 4));
        let new = Origin::of_reply("$JS.ACK._.acc.A.c.2.10.7.1795773600000000000.4.rnd");
        assert_eq!(new, Some(old));
        for reply in ["", "_INBOX.a", "$JS.ACK.A.c.2", "$JS.ACK.A.c.x.10.7.1.4", "$JS.ACK.A.c.2.10.7.1.4.5"] {
            assert_eq!(Origin::of_reply(reply), None, "{reply}");
        }
    }

    #[test]
    fn a_stored_message_is_read_to_the_byte() {
        let answer = json!({"subject": "a", "seq": 3, "time": "2026-11-27T10:00:00Z",
            "hdrs": BASE64_STANDARD.encode("NATS/1.0\r\nA: 1\r\nA:2\r\n\r\n"), "data": "/wA="});
        let (message, origin) = stored("S", &answer).unwrap();
        assert_eq!(&message.payload[..], b"\xff\0");
        let values: Vec<_> = message.headers.unwrap().get_all("A").map(|value| value.to_string()).collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!((origin.seq, origin.delivery), (3, None));
        let torn = json!({"subject": "a", "seq": 3, "time": "2026-11-27T10:00:00Z", "data": "/w"});
        assert!(stored("S", &torn).is_err());
        let headless =
            json!({"time": "2026-11-27T10:00:00Z", "hdrs": BASE64_STANDARD.encode("HTTP/1.1\r\n")});
        assert!(stored("S", &headless).is_err());
    }
}
