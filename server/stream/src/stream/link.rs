//! Copying from where the log is out of reach: another account, or another server. The origin is asked for a consumer, as
//! any client would, and what that delivers is stored.
//!
//! ```text
//!   Idle ── ask: CONSUMER.CREATE under the external prefix ──> Asked ── its answer, or a message ──> Runs
//!    ^                                                           │                                    │
//!    └───────────── refused, nobody there, a gap, silence <──────┴────────────────────────────────────┘
//! ```
//!
//! That of a work queue, or where messages go once all have had them, stays there and is told what is stored: by answers to
//! flow control. It has the same name each time, so that it is found again. Origins that know nothing of it are asked as was
//! usual before.
//!
//! What is stored says how far it is, so after a restart, or any of these, it goes on behind that: nothing is stored twice.
//!
//! Source: nats-server's `stream.go` (`setupMirrorConsumer`, `trySetupSourceConsumer`, `processInboundMirrorMsg`,
//! `processInboundSourceMsg`).

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::Stream;
use super::copy::Copy;
use crate::config::{AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig, StreamSource};
use crate::cx::Cx;
use crate::error::{self, ApiError};
use crate::hash;
use crate::headers;
use crate::json;
use crate::log::{LogError, Stored};
use crate::seam::{Message, Output, Publish, Receipt, Tag, What};
use crate::time::{Instant, Nanos, SECOND};

/// How often the origin says that it is there.
const HEARTBEAT: Nanos = SECOND;
/// Silence after which it isn't. An origin that hears nothing for so long ends the consumer.
const SILENCE: Duration = Duration::from_secs(10);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The wait after the first failure; it doubles with each.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(120);
/// The error of an origin that is another one of its name.
const MISMATCH: u16 = error::CONSUMER_STREAM_IDENTITY_MISMATCH.err_code;
/// The errors of an origin that doesn't know what it is asked for.
const TOO_NEW: [u16; 2] = [error::REQUIRED_API_LEVEL.err_code, error::INVALID_JSON.err_code];
/// The level of the API that knows consumers which stay for who copies.
const LEVEL_STAYS: u8 = 4;
/// The level that tells an origin from another one of its name.
const LEVEL_TELLS: u8 = 5;
/// No ack is waited for, but the API wants a time.
const ACK_WAIT: Nanos = 22 * 3600 * SECOND;

/// Where it is with an origin that is out of reach.
#[derive(Debug)]
pub(crate) struct Link {
    /// Names it to the driver; another for each attempt.
    number: u32,
    phase: Phase,
    /// Where answers come; empty: none are waited for.
    reply: String,
    /// Where messages come; empty: nothing was asked for.
    deliver: String,
    /// The consumer's name; empty: not known.
    consumer: String,
    /// The number of its last delivery.
    delivered: u64,
    /// The number of the last message that came, or that none below is wanted.
    last: u64,
    /// Where it is to be said how far it is, once that is stored.
    owed: Option<Bytes>,
    /// The level of the API that the origin is asked for; 0: none. `None`: the newest, as it is not known better.
    level: Option<u8>,
    /// Attempts that failed, one after another.
    fails: u32,
    /// The origin is another one of its name.
    is_another: bool,
    /// What came since the last commit.
    came: Vec<Stored>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To be asked then.
    Idle(Instant),
    /// An answer is waited for until then.
    Asked(Instant),
    /// It is there, and must be heard of until then.
    Runs(Instant),
}

/// What an origin is asked for.
#[derive(Serialize)]
struct Ask<'a> {
    stream_name: &'a str,
    config: &'a ConsumerConfig,
    action: &'a str,
}

/// What a delivered message says of itself.
struct Delivered<'a> {
    consumer: &'a str,
    count: u64,
    stream_seq: u64,
    consumer_seq: u64,
    time: Nanos,
    pending: u64,
}

impl<'a> Delivered<'a> {
    /// Of a reply subject: `$JS.ACK.<stream>.<consumer>.<count>.<stream seq>.<consumer seq>.<time>.<pending>`, or with the
    /// domain and the account behind `ACK`, and perhaps a random token at the end.
    fn read(reply: &'a str) -> Option<Self> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let rest = match tokens.len() {
            7 => tokens.get(1..)?,
            9 | 10 => tokens.get(3..9)?,
            _ => return None,
        };
        let [consumer, count, stream_seq, consumer_seq, time, pending] = rest else { return None };
        Some(Self {
            consumer,
            count: count.parse().ok()?,
            stream_seq: stream_seq.parse().ok()?,
            consumer_seq: consumer_seq.parse().ok()?,
            time: time.parse().ok()?,
            pending: pending.parse().ok()?,
        })
    }
}

impl Link {
    /// Nothing was asked yet.
    pub(crate) fn new() -> Self {
        Self {
            number: 0,
            phase: Phase::Idle(Instant::default()),
            reply: String::new(),
            deliver: String::new(),
            consumer: String::new(),
            delivered: 0,
            last: 0,
            owed: None,
            level: None,
            fails: 0,
            is_another: false,
            came: Vec::new(),
        }
    }

    fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Idle(at) | Phase::Asked(at) | Phase::Runs(at) => at,
        }
    }

    /// No more of what was asked for. What came is stored all the same.
    pub(super) fn close(&mut self, stream: u32, cx: &mut Cx<'_>) {
        let tag = Tag::new(What::Link, stream, self.number);
        self.owed = None;
        for subject in [std::mem::take(&mut self.reply), std::mem::take(&mut self.deliver)] {
            if !subject.is_empty() {
                cx.unsubscribe(subject, tag);
            }
        }
    }

    fn backoff(&self) -> Duration {
        let doubled = BACKOFF.saturating_mul(1 << self.fails.saturating_sub(1).min(10));
        doubled.min(BACKOFF_MAX)
    }
}

/// A subject under a prefix that may end as the subject begins.
fn joined(prefix: &str, rest: &str) -> String {
    format!("{prefix}{rest}").replace("..", ".")
}

impl Stream {
    /// When a link has something to do.
    pub(super) fn links_deadline(&self) -> Option<Instant> {
        self.copies.iter().filter_map(|copy| copy.link.as_ref()).map(Link::deadline).min()
    }

    /// Something came from an origin that was not stored yet.
    pub(crate) fn has_come(&self) -> bool {
        self.copies
            .iter()
            .any(|copy| copy.link.as_ref().is_some_and(|link| !link.came.is_empty() || link.owed.is_some()))
    }

    /// Ends all links.
    pub(super) fn close_links(&mut self, cx: &mut Cx<'_>) {
        let id = self.id;
        self.copies.iter_mut().filter_map(|copy| copy.link.as_mut()).for_each(|link| link.close(id, cx));
    }

    /// Asks origins whose time it is, and gives up on those that are silent.
    pub(super) fn tick_links(&mut self, cx: &mut Cx<'_>) {
        for at in 0..self.copies.len() {
            let Some(link) = self.copies.get(at).and_then(|copy| copy.link.as_ref()) else { continue };
            if link.deadline() > cx.now.mono {
                continue;
            }
            match link.phase {
                Phase::Idle(_) => self.ask_origin(at, cx),
                Phase::Asked(_) | Phase::Runs(_) => self.relink(at, None, cx),
            }
        }
    }

    /// Gives up what was asked for, and asks again later.
    fn relink(&mut self, at: usize, error: Option<ApiError>, cx: &mut Cx<'_>) {
        let id = self.id;
        let Some(copy) = self.copies.get_mut(at) else { return };
        copy.lose(error);
        let Some(link) = &mut copy.link else { return };
        link.close(id, cx);
        link.level = None;
        link.fails = link.fails.saturating_add(1);
        let jitter = Duration::from_millis(cx.random.below(100).into());
        link.phase = Phase::Idle(cx.now.mono + link.backoff() + jitter);
    }

    /// Where the origin's consumer is to begin, in its configuration, and below which number nothing is wanted.
    fn start_of(&self, at: usize) -> (ConsumerConfig, u64) {
        let state = self.log.state();
        let Some(copy) = self.copies.get(at) else { return (ConsumerConfig::default(), 0) };
        let StreamSource { opt_start_seq: seq, opt_start_time: time, .. } = copy.config;
        let by_seq = |seq: u64| {
            let deliver_policy = DeliverPolicy::ByStartSequence;
            let config = ConsumerConfig { deliver_policy, opt_start_seq: seq, ..ConsumerConfig::default() };
            (config, seq.saturating_sub(1))
        };
        let by_time = |time| {
            let deliver_policy = DeliverPolicy::ByStartTime;
            (ConsumerConfig { deliver_policy, opt_start_time: Some(time), ..ConsumerConfig::default() }, 0)
        };
        let is_another = copy.link.as_ref().is_some_and(|link| link.is_another);
        let fresh = state.messages == 0 && state.first_seq == 0;
        match (self.is_mirror(), copy.next, seq, time) {
            (true, ..) if !fresh => by_seq(state.last_seq + 1),
            (false, Some(next), ..) => by_seq(next),
            (_, _, seq, _) if seq > 0 => by_seq(seq),
            (true, _, _, Some(time)) => by_time(time),
            (false, _, _, Some(time)) => by_time(time.max(state.last_time)),
            (false, ..) if state.first_seq > 1 && state.last_time != 0 && !is_another => {
                by_time(state.last_time)
            }
            _ => (ConsumerConfig::default(), 0),
        }
    }

    /// The name of the consumer by which a source among `sources`, or the mirror, is copied: the same each time.
    ///
    /// Source: nats-server's `createStableConsumerHash`, `createSourcingConsumerHash`.
    fn consumer_of(&self, source: &StreamSource, sources: &[StreamSource], cx: &Cx<'_>) -> String {
        let account = cx.space.map_or("", |space| &space.name);
        consumer_name(self.name(), account, cx.domain, source, sources)
    }

    /// Where the consumers of origins that are asked can be ended, if they are of this stream's making. `config` is what it
    /// copies by.
    pub(super) fn ends_of_links(&self, config: &StreamConfig, cx: &Cx<'_>) -> Vec<String> {
        let asked = self.copies.iter().filter(|copy| copy.link.is_some() && copy.config.consumer.is_none());
        asked.map(|copy| self.end_of(&copy.config, &config.sources, cx)).collect()
    }

    /// Where the consumer of one can be ended.
    pub(super) fn end_of(&self, source: &StreamSource, sources: &[StreamSource], cx: &Cx<'_>) -> String {
        let api = source.external.as_ref().map_or("", |external| external.api.as_str());
        joined(api, &format!(".CONSUMER.DELETE.{}.{}", source.name, self.consumer_of(source, sources, cx)))
    }

    /// Ends consumers elsewhere. Who doesn't hear of it ends them when nobody has listened for a while, or keeps them.
    pub(super) fn end_links(&self, ends: Vec<String>, cx: &mut Cx<'_>) {
        for subject in ends {
            cx.out.push(Output::Publish(Publish {
                account: cx.account,
                subject: subject.into(),
                reply: Some(format!("$JSC.R.{}", cx.random.name(8)).into()),
                ..Publish::default()
            }));
        }
    }

    /// Asks the origin for a consumer.
    fn ask_origin(&mut self, at: usize, cx: &mut Cx<'_>) {
        let (config, last) = self.start_of(at);
        let (mirror, id) = (self.is_mirror(), self.id);
        self.last_link += 1;
        let number = self.last_link;
        let Some(copy) = self.copies.get(at) else { return };
        let Some(level) = copy.link.as_ref().map(|link| link.level) else { return };
        let level = level.unwrap_or(if mirror { LEVEL_STAYS } else { LEVEL_TELLS });
        let random = cx.random.name(8);
        let (subject, deliver, body) = match &copy.config.consumer {
            Some(consumer) => {
                let subject = format!(".CONSUMER.RESET.{}.{}", copy.config.name, consumer.name);
                (subject, consumer.deliver_subject.clone(), Bytes::new())
            }
            None => self.consumer_to_ask(&copy.config, config, level, &random, cx),
        };
        let Some(copy) = self.copies.get_mut(at) else { return };
        let Copy { config: source, link: Some(link), ident, .. } = copy else { return };
        let external = source.external.clone().unwrap_or_default();
        *link = Link {
            number,
            phase: Phase::Asked(cx.now.mono + PATIENCE),
            reply: format!("$JSC.R.{random}"),
            deliver,
            consumer: source.consumer.as_ref().map(|it| it.name.clone()).unwrap_or_default(),
            delivered: 0,
            last,
            owed: None,
            level: Some(level),
            fails: link.fails,
            is_another: link.is_another,
            came: std::mem::take(&mut link.came),
        };
        let mut header = Vec::new();
        if level > 0 && (!mirror || source.consumer.is_none()) {
            header = headers::with(b"", headers::REQUIRED_API_LEVEL, &level.to_string());
        }
        if level >= LEVEL_TELLS {
            header = headers::with(&header, headers::STREAM_IDENTITY, ident);
        }
        let tag = Tag::new(What::Link, id, number);
        cx.subscribe(link.reply.clone(), tag);
        cx.subscribe(link.deliver.clone(), tag);
        cx.out.push(Output::Publish(Publish {
            account: cx.account,
            subject: joined(&external.api, &subject).into(),
            reply: Some(link.reply.clone().into()),
            header: header.into(),
            payload: body,
            receipt: Some(Receipt { tag, seq: 0 }),
            ..Publish::default()
        }));
    }

    /// Where an origin is asked for a consumer that begins as `config` says, where that is to deliver, and the request.
    fn consumer_to_ask(
        &self,
        source: &StreamSource,
        config: ConsumerConfig,
        level: u8,
        random: &str,
        cx: &Cx<'_>,
    ) -> (String, String, Bytes) {
        let (kind, what) = if self.is_mirror() { ("M", "mirror") } else { ("S", "src") };
        let prefix = match source.external.as_ref().map_or("", |external| external.deliver.as_str()) {
            "" => "$JS",
            prefix => prefix,
        };
        let deliver = joined(prefix, &format!(".{kind}.{random}"));
        let mut name = self.consumer_of(source, &self.config.sources, cx);
        if level == 0 {
            name = format!("{name}_{random}");
        }
        let account = cx.space.map_or("", |space| &space.name);
        let said = [("stream", Some(self.name())), ("acc", Some(account)), ("domain", cx.domain)];
        let said = said
            .into_iter()
            .filter_map(|(key, value)| Some((format!("_nats.{what}.{key}"), value?.to_owned())));
        let mut config = ConsumerConfig {
            name: name.clone(),
            deliver_subject: deliver.clone(),
            ack_policy: AckPolicy::None,
            ack_wait: ACK_WAIT,
            max_deliver: 1,
            idle_heartbeat: HEARTBEAT,
            flow_control: true,
            direct: true,
            sourcing: level > 0,
            inactive_threshold: Nanos::try_from(SILENCE.as_nanos()).unwrap_or(0),
            metadata: said.collect(),
            ..config
        };
        let mut subject = format!(".CONSUMER.CREATE.{}", source.name);
        match source.filters()[..] {
            [] => {}
            [filter] => {
                subject = format!("{subject}.{name}.{filter}");
                filter.clone_into(&mut config.filter_subject);
            }
            ref filters => config.filter_subjects = filters.iter().map(|&filter| filter.to_owned()).collect(),
        }
        (
            subject,
            deliver,
            json::write(&Ask { stream_name: &source.name, config: &config, action: "" }).into(),
        )
    }

    fn link_of(&self, number: u32) -> Option<usize> {
        self.copies.iter().position(|copy| copy.link.as_ref().is_some_and(|link| link.number == number))
    }

    /// Nobody heard what an origin was asked.
    pub(crate) fn on_link_lost(&mut self, number: u32, cx: &mut Cx<'_>) {
        if let Some(at) = self.link_of(number) {
            self.relink(at, None, cx);
        }
    }

    /// An answer from an origin, or a message.
    pub(crate) fn on_link(
        &mut self,
        number: u32,
        message: &Message<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), LogError> {
        let Some(at) = self.link_of(number) else { return Ok(()) };
        let link = self.copies.get(at).and_then(|copy| copy.link.as_ref());
        let Some(link) = link.filter(|link| !link.deliver.is_empty()) else { return Ok(()) };
        if message.subject == link.reply.as_bytes() {
            return self.on_link_answer(at, message, cx);
        }
        self.on_link_message(at, message, cx);
        Ok(())
    }

    fn on_link_answer(&mut self, at: usize, message: &Message<'_>, cx: &mut Cx<'_>) -> Result<(), LogError> {
        let id = self.id;
        let answer: Value = serde_json::from_slice(message.payload).unwrap_or_default();
        let (name, error) = (answer["name"].as_str(), &answer["error"]);
        let Some(name) = name.filter(|_| error.is_null()) else {
            let number = |name: &str| error[name].as_u64().and_then(|number| u16::try_from(number).ok());
            let error = number("err_code").map(|err_code| ApiError {
                code: number("code").unwrap_or(500),
                err_code,
                description: error["description"].as_str().unwrap_or_default().to_owned().into(),
            });
            let code = error.as_ref().map_or(0, |error| error.err_code);
            if code == MISMATCH {
                self.forget_origin(at);
            }
            if TOO_NEW.contains(&code) && self.ask_for_less(at, cx) {
                return Ok(());
            }
            self.relink(at, error, cx);
            return Ok(());
        };
        let mirror = self.is_mirror();
        let Some(copy) = self.copies.get_mut(at) else { return Ok(()) };
        copy.link(cx.now.mono);
        let ident = headers::text(message.header, headers::STREAM_IDENTITY).unwrap_or_default();
        copy.ident = if mirror { String::new() } else { ident.to_owned() };
        let Some(link) = &mut copy.link else { return Ok(()) };
        link.consumer = name.to_owned();
        link.phase = Phase::Runs(cx.now.mono + SILENCE);
        cx.unsubscribe(std::mem::take(&mut link.reply), Tag::new(What::Link, id, link.number));
        let begun = answer["delivered"]["stream_seq"].as_u64().unwrap_or(0);
        link.last = link.last.max(begun);
        let state = self.log.state();
        if mirror && state.last_seq < begun {
            // What is not there in the origin isn't here either.
            match state.messages {
                0 => drop(self.log.truncate_front(begun + 1, cx.now.wall)?),
                _ => self.log.skip_to(begun, cx.now.wall)?,
            }
        }
        Ok(())
    }

    /// Asks an origin that is older. False if there is nothing less to ask for.
    fn ask_for_less(&mut self, at: usize, cx: &mut Cx<'_>) -> bool {
        let id = self.id;
        let Some(copy) = self.copies.get_mut(at) else { return false };
        let Some(link) = &mut copy.link else { return false };
        let less = match link.level {
            Some(level) if level > LEVEL_STAYS => LEVEL_STAYS,
            Some(level) if level > 0 && copy.config.consumer.is_none() => 0,
            _ => return false,
        };
        link.close(id, cx);
        link.level = Some(less);
        self.ask_origin(at, cx);
        true
    }

    /// What is to be copied is not what was copied before: it begins anew.
    fn forget_origin(&mut self, at: usize) {
        let Some(copy) = self.copies.get_mut(at) else { return };
        copy.forget();
        copy.link.iter_mut().for_each(|link| link.is_another = true);
    }

    fn on_link_message(&mut self, at: usize, message: &Message<'_>, cx: &mut Cx<'_>) {
        let Some(copy) = self.copies.get_mut(at) else { return };
        let Some(link) = &mut copy.link else { return };
        let reply = message.reply.and_then(|reply| std::str::from_utf8(reply).ok());
        if message.payload.is_empty() && message.header.starts_with(b"NATS/1.0 100") {
            let said = headers::number(message.header, "Nats-Last-Consumer").flatten().unwrap_or(0);
            let stalled = headers::text(message.header, "Nats-Consumer-Stalled");
            let missed = reply.is_none() && said > 0 && said != link.delivered;
            if let Some(asked) = reply.or(stalled).filter(|_| !missed) {
                link.owed = Some(Bytes::copy_from_slice(asked.as_bytes()));
            }
            copy.hear(cx.now.mono);
            return if missed { self.relink(at, None, cx) } else { self.keep_link(at, cx) };
        }
        let Some(said) = reply.and_then(Delivered::read) else { return };
        let stranger = !link.consumer.is_empty() && link.consumer != said.consumer;
        if stranger || said.count > 1 {
            return;
        }
        if link.consumer.is_empty() {
            link.consumer = said.consumer.to_owned();
        }
        let follows = said.consumer_seq == link.delivered + 1;
        if said.stream_seq <= link.last {
            link.delivered += u64::from(follows);
        } else if follows {
            (link.delivered, link.last) = (said.consumer_seq, said.stream_seq);
            link.came.push(Stored::of_parts(
                said.stream_seq,
                said.time,
                Bytes::copy_from_slice(message.subject),
                Bytes::copy_from_slice(message.header),
                Bytes::copy_from_slice(message.payload),
            ));
            copy.lag = said.pending.saturating_sub(1);
        } else {
            return self.relink(at, None, cx);
        }
        copy.hear(cx.now.mono);
        self.keep_link(at, cx);
    }

    /// The origin is there, and a failure would be the first.
    fn keep_link(&mut self, at: usize, cx: &Cx<'_>) {
        let Some(copy) = self.copies.get_mut(at) else { return };
        copy.link(cx.now.mono);
        let Some(link) = &mut copy.link else { return };
        link.phase = Phase::Runs(cx.now.mono + SILENCE);
        link.fails = 0;
    }

    /// Stores what came. Whether that was anything.
    pub(crate) fn take_come(&mut self, cx: &mut Cx<'_>) -> Result<bool, LogError> {
        let mut some = false;
        for at in 0..self.copies.len() {
            let link = self.copies.get_mut(at).and_then(|copy| copy.link.as_mut());
            let mut came = link.map(|link| std::mem::take(&mut link.came)).unwrap_or_default();
            if self.is_mirror() {
                let last = self.log.state().last_seq;
                came.retain(|message| message.seq > last);
            }
            if !came.is_empty() {
                let taken = self.take_copies(at, &came, cx)?;
                some |= taken > 0;
                if taken < came.len() {
                    // There is no room for it now: it comes again from there on.
                    self.relink(at, None, cx);
                }
            }
            self.answer_flow(at, cx);
        }
        Ok(some)
    }

    /// Says how far it is, now that it is, to an origin that has asked: it may let go of what is stored here.
    fn answer_flow(&mut self, at: usize, cx: &mut Cx<'_>) {
        let Some(link) = self.copies.get_mut(at).and_then(|copy| copy.link.as_mut()) else { return };
        let Some(asked) = link.owed.take() else { return };
        let (consumer, stream) = (link.delivered, link.last);
        let lines = format!("Nats-Last-Consumer: {consumer}\r\nNats-Last-Stream: {stream}\r\n");
        cx.publish(&asked, format!("NATS/1.0\r\n{lines}\r\n"), Bytes::new());
    }
}

/// See [`Stream::consumer_of`]. A mirror's is among no sources.
fn consumer_name(
    stream: &str,
    account: &str,
    domain: Option<&str>,
    source: &StreamSource,
    sources: &[StreamSource],
) -> String {
    let mut id = format!("{stream} {account}");
    if let Some(domain) = domain {
        id = format!("{id} {domain}");
    }
    let mut id = hash::short(&id);
    if sources.is_empty() {
        return format!("JS_MIRROR_{id}");
    }
    if sources.iter().filter(|other| other.name == source.name).count() > 1 {
        id = format!("{id} {}", source.index());
    }
    format!("JS_SRC_{}", hash::short(&id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::External;

    #[test]
    fn deliveries_say_what_they_are_in_three_ways() {
        for reply in [
            "$JS.ACK.S.C.1.7.3.99.5",
            "$JS.ACK.hub.xyz.S.C.1.7.3.99.5",
            "$JS.ACK.hub.xyz.S.C.1.7.3.99.5.random",
        ] {
            let said = Delivered::read(reply).unwrap();
            assert_eq!((said.consumer, said.count, said.stream_seq), ("C", 1, 7), "{reply}");
            assert_eq!((said.consumer_seq, said.time, said.pending), (3, 99, 5), "{reply}");
        }
        for reply in ["", "$JS.ACK.S.C.1.7.3.99", "$JS.ACK.S.C.1.x.3.99.5", "$JS.FC.S.C.1.7.3.99.5"] {
            assert!(Delivered::read(reply).is_none(), "{reply}");
        }
    }

    #[test]
    fn a_consumer_has_the_name_that_it_has_on_nats_server() {
        let external = Some(External { api: "far.API".into(), ..External::default() });
        let of = |filter: &str| StreamSource {
            name: "O".into(),
            filter_subject: filter.into(),
            external: external.clone(),
            ..StreamSource::default()
        };
        let name = |stream: &str, filter: &str, sources: &[StreamSource]| {
            consumer_name(stream, "$G", Some("hub"), &of(filter), sources)
        };
        assert_eq!(name("M", "", &[]), "JS_MIRROR_CLWpCkl6");
        assert_eq!(name("N", "x.*", &[]), "JS_MIRROR_XeyE7ucO");
        let two = [of(""), of("y")];
        assert_eq!(
            (name("S", "", &two), name("S", "y", &two)),
            ("JS_SRC_ucFm7hib".into(), "JS_SRC_PF9Jl2Kh".into())
        );
    }

    #[test]
    fn who_fails_waits_longer_but_not_for_ever() {
        let waits: Vec<u64> =
            [1, 2, 3, 8, 100].map(|fails| Link { fails, ..Link::new() }.backoff().as_secs()).to_vec();
        assert_eq!(waits, [1, 2, 4, 120, 120]);
    }
}
