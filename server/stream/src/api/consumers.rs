//! Consumers: made, changed, looked at, held, ended.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Answer, Failure, LIST_MAX, NAMES_MAX, OffsetRequest, Page, Request, SUCCESS, answer};
use crate::config::{
    AckPolicy, ConsumerConfig, CreateConsumer, Retention, is_group, stamp_consumer, time_text,
};
use crate::consumer::Info;
use crate::engine::{Engine, cx};
use crate::error::{self, ApiError};
use crate::headers;
use crate::log::LogError;
use crate::seam::Message;
use crate::stream::NewConsumer;
use crate::time::{Nanos, Now, rfc3339};

#[derive(Serialize)]
struct Names<T> {
    #[serde(flatten)]
    page: Page,
    consumers: T,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PauseRequest {
    #[serde(with = "time_text")]
    pause_until: Option<Nanos>,
}

#[derive(Serialize)]
struct Paused {
    paused: bool,
    pause_until: String,
    #[serde(skip_serializing_if = "crate::config::is_default")]
    pause_remaining: Nanos,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct UnpinRequest {
    group: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResetRequest {
    seq: u64,
}

#[derive(Serialize)]
struct Reset {
    #[serde(flatten)]
    info: Option<Info>,
    reset_seq: u64,
}

impl Engine {
    pub(super) fn consumer_create(&mut self, request: &Request<'_>) -> Answer {
        let mut ask: CreateConsumer = request.read()?;
        self.check_enabled(request.account)?;
        let stream = self.check_names(request, &mut ask)?;
        if ask.config.num_replicas > 1 {
            return Err(error::STREAM_REPLICAS_NOT_SUPPORTED.into());
        }
        let id = self.stream_id(request.account, stream)?;
        self.settle_copying(id, &mut ask.config);
        let number = self.next_consumer;
        self.next_consumer = self.next_consumer.checked_add(1).ok_or(error::MAXIMUM_CONSUMERS_LIMIT)?;
        let mut limits = self.settings.limits;
        let share = self.limits_of(request.account)?;
        if let Some(max) = share.consumers_max {
            limits.default_max_consumers = max.into();
        }
        let (stream, mut cx) = self.stream_cx(id, request.now).ok_or(error::STREAM_NOT_FOUND)?;
        // Who copies wants to know whether it is the stream of before.
        let identity = (ask.config.direct || ask.config.sourcing).then(|| stream.identity());
        let expected = headers::text(request.message.header, headers::STREAM_IDENTITY);
        if let (Some(identity), Some(expected)) = (&identity, expected)
            && !expected.is_empty()
            && expected != identity
        {
            return Err(error::CONSUMER_STREAM_IDENTITY_MISMATCH.with(&[identity]).into());
        }
        stream.keep_start(&mut ask.config);
        stamp_consumer(&mut ask.config);
        let new = NewConsumer {
            config: ask.config,
            action: ask.action,
            pedantic: ask.pedantic,
            limits: &limits,
            consumers_max: limits.default_max_consumers,
            ack_pending_max: share.ack_pending_max.map_or(-1, i64::from),
            id: number,
        };
        let (fresh, number) = (number, stream.add_consumer(new, &mut cx)?);
        if let Err(error) = stream.save_consumer(number, number == fresh, &mut cx) {
            return Err(match error.is_of_all() {
                true => Failure::Log(error),
                false => error::CONSUMER_STORE_FAILED.with(&[&error]).into(),
            });
        }
        let consumer = stream.consumers.get_mut(&number);
        let header = identity
            .map_or(Bytes::new(), |identity| headers::with(b"", headers::STREAM_IDENTITY, &identity).into());
        let mut later = consumer
            .zip(request.message.reply)
            .is_some_and(|(consumer, reply)| consumer.answer_later("consumer_create", reply, header.clone()));
        let consumer = stream.consumers.get(&number);
        let info = consumer.filter(|_| !later).map(|consumer| consumer.info(request.now.wall));
        if let (Some(info), Some(reply), false) = (&info, request.message.reply, header.is_empty()) {
            cx.answer_with(reply, header, super::write("consumer_create", None, info));
            later = true;
        }
        self.touch(id);
        if later {
            return Err(Failure::Later);
        }
        answer("consumer_create", info)
    }

    /// Who copies asks for a consumer by the same name each time. Where messages go once they were taken, it is to stay and to
    /// be acknowledged, so that nothing is lost on the way; elsewhere each is another one.
    ///
    /// Source: nats-server's `jsConsumerCreateRequest`.
    fn settle_copying(&mut self, stream: u32, config: &mut ConsumerConfig) {
        let Some(stream) = self.streams.get(&stream) else { return };
        if !config.direct || !config.sourcing || config.name.is_empty() {
            return;
        }
        if stream.config.retention == Retention::Limits {
            config.name = format!("{}-{}", config.name, self.random.name(8));
            return;
        }
        config.direct = false;
        config.durable_name.clone_from(&config.name);
        config.ack_policy = AckPolicy::FlowControl;
        (config.ack_wait, config.max_deliver, config.inactive_threshold) = (0, 0, 0);
    }

    /// Three ways to ask for a consumer, each with rules about names. Gives the stream's.
    fn check_names<'a>(&self, request: &Request<'a>, ask: &mut CreateConsumer) -> Result<&'a str, ApiError> {
        let config = &mut ask.config;
        let tokens = &request.tokens;
        let durable = request.token(1) == "DURABLE";
        let (stream, name, filter) = match (durable, tokens.len()) {
            (true, 5) => (request.token(3), request.token(4), String::new()),
            (true, _) => return Err(error::CONSUMER_DURABLE_NAME_NOT_IN_SUBJECT.error()),
            (false, 3) => (request.token(2), "", String::new()),
            (false, _) => (request.token(2), request.token(3), tokens.get(4..).unwrap_or_default().join(".")),
        };
        if stream != ask.stream_name {
            return Err(error::STREAM_MISMATCH.error());
        }
        let named = if name.is_empty() { config.name.as_str() } else { name };
        if named.contains(['\\', '/']) {
            return Err(error::CONSUMER_NAME_CONTAINS_PATH_SEPARATORS.error());
        }
        if durable && config.durable_name.is_empty() {
            return Err(error::CONSUMER_DURABLE_NAME_NOT_SET.error());
        }
        if !name.is_empty() {
            if config.is_durable() && config.durable_name != name {
                return Err(error::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT.error());
            }
            config.name = name.to_owned();
        } else if config.is_durable() {
            return Err(error::CONSUMER_EPHEMERAL_WITH_DURABLE_NAME.error());
        }
        if !filter.is_empty() && !config.filter_subjects.is_empty() {
            return Err(error::CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED.error());
        }
        if !filter.is_empty() && config.filter_subject != filter {
            return Err(error::CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH.error());
        }
        Ok(stream)
    }

    pub(super) fn consumer_names(&mut self, request: &Request<'_>) -> Answer {
        let ask: OffsetRequest = request.read_optional()?;
        let id = self.stream_id(request.account, request.token(2))?;
        let (stream, _) = self.stream_cx(id, request.now).ok_or(error::STREAM_NOT_FOUND)?;
        let page = Page::new(ask.offset, stream.shown().count(), NAMES_MAX);
        let names = stream.shown().map(|consumer| &consumer.name);
        let consumers: Vec<_> = names.skip(page.offset).take(NAMES_MAX).collect();
        answer("consumer_names", Names { page, consumers })
    }

    pub(super) fn consumer_list(&mut self, request: &Request<'_>) -> Answer {
        let ask: OffsetRequest = request.read_optional()?;
        let id = self.stream_id(request.account, request.token(2))?;
        let (stream, _) = self.stream_cx(id, request.now).ok_or(error::STREAM_NOT_FOUND)?;
        let page = Page::new(ask.offset, stream.shown().count(), LIST_MAX);
        let shown = stream.shown().skip(page.offset).take(LIST_MAX);
        let consumers: Vec<_> = shown.map(|consumer| consumer.listed(request.now.wall)).collect();
        answer("consumer_list", Names { page, consumers })
    }

    /// The numbers of a stream and its consumer, by the last two tokens of a subject.
    fn consumer_ids(&self, request: &Request<'_>) -> Result<(u32, u32), ApiError> {
        let id = self.stream_id(request.account, request.token(2))?;
        let stream = self.streams.get(&id).ok_or_else(|| error::STREAM_NOT_FOUND.error())?;
        let number = stream.names.get(request.token(3)).copied();
        Ok((id, number.ok_or_else(|| error::CONSUMER_NOT_FOUND.error())?))
    }

    pub(super) fn consumer_info(&mut self, request: &Request<'_>) -> Answer {
        request.expect_nothing()?;
        let (id, number) = self.consumer_ids(request)?;
        let stream = self.streams.get_mut(&id);
        let Some(consumer) = stream.and_then(|stream| stream.consumers.get_mut(&number)) else {
            return Err(error::CONSUMER_NOT_FOUND.into());
        };
        // Of many who would make the same one, those who come late ask whether the first one listens.
        let later = |reply| consumer.answer_later("consumer_info", reply, Bytes::new());
        if request.message.reply.is_some_and(later) {
            return Err(Failure::Later);
        }
        answer("consumer_info", consumer.info(request.now.wall))
    }

    pub(super) fn consumer_delete(&mut self, request: &Request<'_>) -> Answer {
        request.expect_nothing()?;
        let (id, number) = self.consumer_ids(request)?;
        if let Some((stream, mut cx)) = self.stream_cx(id, request.now) {
            stream.delete_consumer(number, &mut cx)?;
        }
        self.touch(id);
        answer("consumer_delete", SUCCESS)
    }

    pub(super) fn consumer_pause(&mut self, request: &Request<'_>) -> Answer {
        let ask: PauseRequest = request.read_optional()?;
        let (id, number) = self.consumer_ids(request)?;
        let until = ask.pause_until.unwrap_or(0);
        if let Some((stream, mut cx)) = self.stream_cx(id, request.now)
            && let Some(consumer) = stream.consumers.get_mut(&number)
        {
            consumer.pause(until, &mut cx);
            stamp_consumer(&mut consumer.config);
        }
        self.touch(id);
        let left = (until - request.now.wall).max(0);
        answer(
            "consumer_pause",
            Paused { paused: left > 0, pause_until: rfc3339(until), pause_remaining: left },
        )
    }

    pub(super) fn consumer_unpin(&mut self, request: &Request<'_>) -> Answer {
        if request.message.payload.is_empty() {
            return Err(error::INVALID_JSON.with(&[&"unexpected end of JSON input"]).into());
        }
        let ask: UnpinRequest = request.read()?;
        self.check_enabled(request.account)?;
        if ask.group.is_empty() {
            return Err(error::INVALID_JSON.with(&[&"consumer group not specified"]).into());
        }
        if !is_group(&ask.group) {
            return Err(error::CONSUMER_INVALID_GROUP_NAME.into());
        }
        let (id, number) = self.consumer_ids(request)?;
        if let Some((stream, mut cx)) = self.stream_cx(id, request.now)
            && let Some(consumer) = stream.consumers.get_mut(&number)
            && !consumer.unpin(&ask.group, "admin", &mut cx)
        {
            return Err(error::CONSUMER_INVALID_PRIORITY_GROUP.into());
        }
        self.touch(id);
        answer("consumer_unpin", super::Nothing {})
    }

    /// A consumer is to begin again. Its own subject, so that unknown consumers have no responders.
    pub(crate) fn on_reset(
        &mut self,
        stream: u32,
        number: u32,
        message: &Message<'_>,
        now: Now,
    ) -> Result<(), LogError> {
        let Some(reply) = message.reply else { return Ok(()) };
        self.out.promise();
        let answered = self.reset(stream, number, message, now);
        let text = match answered {
            Ok(reset) => super::write("consumer_reset", None, reset),
            Err(error) => super::write("consumer_reset", Some(&error), Reset { info: None, reset_seq: 0 }),
        };
        let Some(account) = self.streams.get(&stream).map(|stream| stream.account) else { return Ok(()) };
        let mut cx = cx!(self, account, now);
        cx.answer(reply, text);
        self.touch(stream);
        Ok(())
    }

    fn reset(
        &mut self,
        stream: u32,
        number: u32,
        message: &Message<'_>,
        now: Now,
    ) -> Result<Reset, ApiError> {
        if headers::needs_newer_api(message.header) {
            return Err(error::REQUIRED_API_LEVEL.error());
        }
        let ask: ResetRequest = crate::json::read(message.payload, false)?;
        let not_found = || error::CONSUMER_NOT_FOUND.error();
        let found = self.streams.get_mut(&stream).ok_or_else(not_found)?;
        let consumer = found.consumers.get_mut(&number).ok_or_else(not_found)?;
        let seq = consumer.reset(ask.seq, &*found.log);
        let reset_seq = seq.map_err(|why| error::CONSUMER_INVALID_RESET.with(&[&why]))?;
        Ok(Reset { info: Some(consumer.info(now.wall)), reset_seq })
    }
}
