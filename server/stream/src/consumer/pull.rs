//! Those who asked for messages and wait.
//!
//! Source: reference 3.14; nats-server's `consumer.go` (`nextReqFromMsg`, `processNextMsgRequest`, `nextWaiting`,
//! `processWaiting`).

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Deserialize;

use super::Consumer;
use crate::config::PriorityPolicy;
use crate::cx::Cx;
use crate::headers;
use crate::seam::What;
use crate::time::{Instant, Nanos, duration, go_duration};

/// Requests in their order.
#[derive(Debug, Default)]
pub(crate) struct Pull {
    pub(super) waiting: VecDeque<Request>,
    pub(super) pin: Option<Pin>,
}

/// The client that has messages to itself.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    pub(super) id: String,
    pub(super) since: Nanos,
    /// It loses them then, unless it asks again.
    pub(super) until: Instant,
}

/// Somebody who waits for messages.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) reply: Bytes,
    /// Messages still wanted.
    pub(super) left: i64,
    /// Messages that it got.
    pub(super) got: u64,
    /// Bytes still wanted; 0: any number.
    pub(super) bytes: i64,
    pub(super) no_wait: bool,
    pub(super) expires: Option<Instant>,
    /// How often to say that it is alive, and when next.
    pub(super) heartbeat: Option<(std::time::Duration, Instant)>,
    pub(super) priority: Priority,
    /// Interest in the answers is watched.
    pub(super) watched: bool,
    /// Nobody listens for the answers. It counts again if its client is back before the consumer has something to do.
    pub(super) gone: bool,
}

/// What a request says of the group that it is in.
#[derive(Clone, Debug, Default)]
pub(super) struct Priority {
    pub(super) min_pending: i64,
    pub(super) min_ack_pending: i64,
    pub(super) id: String,
    pub(super) level: i64,
}

/// A request as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NextRequest {
    expires: Nanos,
    batch: i64,
    max_bytes: i64,
    no_wait: bool,
    idle_heartbeat: Nanos,
    group: String,
    min_pending: i64,
    min_ack_pending: i64,
    id: String,
    priority: i64,
}

impl NextRequest {
    /// Nothing, a number, or an object. Anything else asks for one message. The second value: priorities may be meant.
    fn read(text: &[u8]) -> Result<(Self, bool), String> {
        let text = text.trim_ascii();
        if text.first() == Some(&b'{') {
            let request: Self = crate::json::read_loose(text).map_err(|error| error.to_string())?;
            if request.idle_heartbeat > 0 && request.idle_heartbeat.saturating_mul(2) > request.expires {
                return Err("heartbeat value too large".to_owned());
            }
            return Ok((request, true));
        }
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        Ok((Self { batch: number.unwrap_or(1), ..Self::default() }, false))
    }
}

impl Consumer {
    /// Somebody asks for messages.
    pub(crate) fn on_next(&mut self, reply: &[u8], header: &[u8], payload: &[u8], cx: &mut Cx<'_>) {
        let refusal = if self.config.is_push() {
            Some("409 Consumer is push based".to_owned())
        } else if headers::needs_newer_api(header) {
            Some("412 Required Api Level".to_owned())
        } else {
            self.admit(reply, payload, cx)
        };
        self.idle_since = cx.now.mono;
        match refusal {
            Some(status) => cx.status(reply, &status, ""),
            None => self.touched = true,
        }
    }

    /// Puts a request into the queue, or says why not. An empty status: no answer is given.
    fn admit(&mut self, reply: &[u8], payload: &[u8], cx: &mut Cx<'_>) -> Option<String> {
        let (ask, has_priority) = match NextRequest::read(payload) {
            Ok(read) => read,
            Err(error) => return Some(format!("400 Bad Request - {error}")),
        };
        let config = &self.config;
        if config.max_batch > 0 && ask.batch > config.max_batch {
            return Some(format!("409 Exceeded MaxRequestBatch of {}", config.max_batch));
        }
        if config.max_expires > 0 && ask.expires > config.max_expires {
            return Some(format!("409 Exceeded MaxRequestExpires of {}", go_duration(config.max_expires)));
        }
        if config.max_bytes > 0 && ask.max_bytes > config.max_bytes {
            return Some(format!("409 Exceeded MaxRequestMaxBytes of {}", config.max_bytes));
        }
        if has_priority && let Some(status) = self.check_priority(&ask, cx) {
            return Some(status);
        }
        self.drop_gone(cx);
        let now = cx.now.mono;
        if ask.no_wait {
            let there = self.unseen + self.queue.len() as u64;
            if there == 0 && ask.expires == 0 {
                return Some("404 No Messages".to_owned());
            }
            let wanted: i64 = self.pull.waiting.iter().map(|request| request.left).sum();
            if there > 0 && i64::try_from(there).is_ok_and(|there| there < wanted) {
                return Some("408 Requests Pending".to_owned());
            }
        }
        let is_over = ask.expires < 0;
        let request = Request {
            reply: Bytes::copy_from_slice(reply),
            left: ask.batch,
            got: 0,
            bytes: ask.max_bytes.max(0),
            no_wait: ask.no_wait,
            expires: (ask.expires > 0).then(|| now + duration(ask.expires)),
            heartbeat: (ask.idle_heartbeat > 0)
                .then(|| (duration(ask.idle_heartbeat), now + duration(ask.idle_heartbeat))),
            priority: Priority {
                min_pending: ask.min_pending,
                min_ack_pending: ask.min_ack_pending,
                id: ask.id,
                level: ask.priority,
            },
            watched: false,
            gone: false,
        };
        if i64::try_from(self.pull.waiting.len()).is_ok_and(|len| len >= self.config.max_waiting) {
            // One that gets heartbeats notices that none come, and is not made to ask again at once.
            return if request.heartbeat.is_none() {
                Some("409 Exceeded MaxWaiting".to_owned())
            } else {
                None
            };
        }
        let at = match self.config.priority_policy {
            PriorityPolicy::Prioritized => {
                self.pull.waiting.partition_point(|other| other.priority.level <= request.priority.level)
            }
            _ => self.pull.waiting.len(),
        };
        self.pull.waiting.insert(at, request);
        if is_over {
            self.dismiss(at, "408 Request Timeout", true, cx);
        }
        None
    }

    fn check_priority(&mut self, ask: &NextRequest, cx: &mut Cx<'_>) -> Option<String> {
        let bad = |text: &str| Some(format!("400 Bad Request - {text}"));
        let policy = self.config.priority_policy;
        if (ask.min_pending != 0 || ask.min_ack_pending != 0) && policy != PriorityPolicy::Overflow {
            return bad("Not a Overflow Priority consumer");
        }
        if !ask.id.is_empty() && policy != PriorityPolicy::PinnedClient {
            return bad("Not a Pinned Client Priority consumer");
        }
        if !(0..=9).contains(&ask.priority) {
            return bad("Priority must be between 0 and 9");
        }
        if policy == PriorityPolicy::None {
            return None;
        }
        if ask.group.is_empty() {
            return bad("Priority Group missing");
        }
        if !self.config.priority_groups.contains(&ask.group) {
            return bad("Invalid Priority Group");
        }
        let until = cx.now.after(self.config.priority_timeout);
        match &mut self.pull.pin {
            Some(pin) if pin.id == ask.id => pin.until = until,
            Some(_) if !ask.id.is_empty() => return Some("423 Nats-Pin-Id mismatch".to_owned()),
            _ => {}
        }
        None
    }

    /// Which request gets a message of `size` bytes. Those that can't have it are told so and leave.
    pub(super) fn choose_request(
        &mut self,
        size: usize,
        redelivery: bool,
        cx: &mut Cx<'_>,
    ) -> Option<Served> {
        let policy = self.config.priority_policy;
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let unseen = i64::try_from(self.unseen + u64::from(redelivery)).unwrap_or(i64::MAX);
        let unacked = i64::try_from(self.pending.len()).unwrap_or(i64::MAX);
        let mut passed = 0;
        let mut at = 0;
        loop {
            let request = self.pull.waiting.get_mut(at)?;
            let mut fresh_pin = false;
            if policy == PriorityPolicy::PinnedClient {
                let pinned = self.pull.pin.as_ref().map(|pin| pin.id.as_str());
                match (pinned, request.priority.id.as_str()) {
                    (None, "") => fresh_pin = true,
                    (Some(pinned), id) if pinned == id => {}
                    (Some(_), "") => {
                        at += 1;
                        continue;
                    }
                    _ => {
                        self.dismiss(at, "423 Nats-Wrong-Pin-Id", true, cx);
                        continue;
                    }
                }
            }
            if policy == PriorityPolicy::Overflow {
                let Priority { min_pending, min_ack_pending, .. } = request.priority;
                let asked = min_pending > 0 || min_ack_pending > 0;
                let reached = (min_pending > 0 && min_pending <= unseen)
                    || (min_ack_pending > 0 && min_ack_pending <= unacked);
                if asked && !reached {
                    // Its turn is over, too.
                    if let Some(request) = self.pull.waiting.remove(at) {
                        self.pull.waiting.push_back(request);
                    }
                    passed += 1;
                    if passed >= self.pull.waiting.len() {
                        return None;
                    }
                    continue;
                }
            }
            if request.bytes > 0 {
                if size > request.bytes {
                    self.dismiss(at, "409 Message Size Exceeds MaxBytes", true, cx);
                    continue;
                }
                request.bytes -= size;
                if request.bytes == 0 {
                    request.left = 1;
                }
            }
            if fresh_pin {
                self.pin(at, cx);
            }
            return self.serve(at, cx);
        }
    }

    /// Takes one off what a request wants; it goes to the end of the queue, or leaves.
    fn serve(&mut self, at: usize, cx: &mut Cx<'_>) -> Option<Served> {
        let request = self.pull.waiting.get_mut(at)?;
        request.left -= 1;
        request.got += 1;
        if let Some((every, next)) = &mut request.heartbeat {
            *next = cx.now.mono + *every;
        }
        let done = request.left <= 0;
        let served = Served { reply: request.reply.clone(), left: request.left, bytes: request.bytes, done };
        let stays =
            self.config.priority_policy == PriorityPolicy::Prioritized || self.pull.waiting.len() == 1;
        if done {
            if let Some(request) = self.pull.waiting.remove(at) {
                self.unwatch_request(&request, cx);
            }
        } else if !stays && let Some(request) = self.pull.waiting.remove(at) {
            self.pull.waiting.push_back(request);
        }
        Some(served)
    }

    /// Nobody took a message that was sent for a request: the request is void.
    pub(super) fn void_request(&mut self, reply: &[u8], cx: &mut Cx<'_>) {
        if let Some(at) = self.pull.waiting.iter().position(|request| *request.reply == *reply)
            && let Some(request) = self.pull.waiting.remove(at)
        {
            self.unwatch_request(&request, cx);
        }
    }

    /// Whoever waits for answers on `subject` is gone, or back: clients subscribe again when they have reconnected.
    pub(crate) fn on_waiting_interest(&mut self, subject: &[u8], exists: bool) {
        for request in self.pull.waiting.iter_mut().filter(|request| *request.reply == *subject) {
            request.gone = !exists;
        }
        self.touched |= exists;
    }

    /// Drops the requests of those who are gone: the consumer has something to do, and can't do it for them.
    pub(super) fn drop_gone(&mut self, cx: &mut Cx<'_>) {
        while let Some(at) = self.pull.waiting.iter().position(|request| request.gone)
            && let Some(request) = self.pull.waiting.remove(at)
        {
            self.unwatch_request(&request, cx);
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.pull.waiting.iter().filter(|request| !request.gone).count()
    }

    /// Requests that could not be answered at once are watched, so that those of clients that left go.
    pub(super) fn watch_requests(&mut self, cx: &mut Cx<'_>) {
        let tag = self.tag(What::Waiting);
        for request in self.pull.waiting.iter_mut().filter(|request| !request.watched) {
            request.watched = true;
            cx.watch(&request.reply, tag);
        }
    }

    fn unwatch_request(&self, request: &Request, cx: &mut Cx<'_>) {
        let shared = self.pull.waiting.iter().any(|other| other.reply == request.reply && other.watched);
        if request.watched && !shared {
            cx.unwatch(&request.reply, self.tag(What::Waiting));
        }
    }

    /// Tells a request why it gets nothing, and drops it.
    pub(super) fn dismiss(&mut self, at: usize, status: &str, with_rest: bool, cx: &mut Cx<'_>) {
        let Some(request) = self.pull.waiting.remove(at) else { return };
        let rest = rest_lines(request.left, request.bytes);
        cx.status(&request.reply, status, if with_rest { &rest } else { "" });
        self.unwatch_request(&request, cx);
    }

    pub(super) fn dismiss_requests(&mut self, status: &str, with_rest: bool, cx: &mut Cx<'_>) {
        while !self.pull.waiting.is_empty() {
            self.dismiss(0, status, with_rest, cx);
        }
    }

    /// The server ends: whoever waits is told. Source: nats-server's `signalPullConsumers`.
    pub(crate) fn part(&mut self, cx: &mut Cx<'_>) {
        self.dismiss_requests("409 Server Shutdown", true, cx);
    }

    /// Drops all requests. Those who wait find out by that nothing comes.
    pub(crate) fn forget_requests(&mut self, cx: &mut Cx<'_>) {
        while let Some(request) = self.pull.waiting.pop_front() {
            self.unwatch_request(&request, cx);
        }
    }

    /// The stream has no more for now: requests that don't wait are told so. Source: nats-server's `processWaiting`.
    pub(super) fn end_of_stream(&mut self, cx: &mut Cx<'_>) {
        let mut at = 0;
        while let Some(request) = self.pull.waiting.get(at) {
            if request.no_wait && (request.expires.is_none() || request.got > 0) {
                self.dismiss(at, "404 No Messages", false, cx);
            } else {
                at += 1;
            }
        }
    }

    /// From now on that request's client has the messages to itself, the rest of what it asked for first.
    fn pin(&mut self, at: usize, cx: &mut Cx<'_>) {
        let id = cx.random.name(22);
        if let Some(request) = self.pull.waiting.get_mut(at) {
            request.priority.id.clone_from(&id);
        }
        let until = cx.now.after(self.config.priority_timeout);
        self.event_pinned(&id, cx);
        self.pull.pin = Some(Pin { id, since: cx.now.wall, until });
    }

    /// Ends the pin of the group; that is said even if there is none. False if there is no such group.
    pub(crate) fn unpin(&mut self, group: &str, reason: &str, cx: &mut Cx<'_>) -> bool {
        if !self.config.priority_groups.iter().any(|known| known == group) {
            return false;
        }
        self.pull.pin = None;
        self.event_unpinned(group, reason, cx);
        self.touched = true;
        true
    }
}

/// What a request got.
pub(super) struct Served {
    pub(super) reply: Bytes,
    pub(super) left: i64,
    pub(super) bytes: i64,
    pub(super) done: bool,
}

/// The header lines that say what a request did not get.
pub(super) fn rest_lines(messages: i64, bytes: i64) -> String {
    format!("Nats-Pending-Messages: {messages}\r\nNats-Pending-Bytes: {bytes}\r\n")
}
