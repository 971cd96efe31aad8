//! What a client that is in may do.

use midge_protocol::emit::{self, Sink};
use midge_protocol::error::{self, Rule, Violation};
use midge_protocol::json;
use midge_protocol::op::{Message, Sub};
use midge_protocol::subject::{Subject, tokens};

use super::Session;
use crate::account::AccountId;
use crate::broker::{Broker, MEMORY_BUDGET, Now};
use crate::closed::CloseReason;
use crate::conn::{Conn, ConnId, Port};
use crate::interest::Subscribed;
use crate::notice::Level;
use crate::publish::{Cost, reserved};
use crate::trace::{self, Begun, Trace, Untraced};

impl Session {
    pub(super) fn publish<P: Port>(&self, broker: &mut Broker<P>, message: &Message<'_>, now: Now) -> Cost {
        if self.pedantic && Subject::new(message.subject).is_err() {
            // Said, and done all the same: so does nats-server.
            broker.stage_err(self.id, error::INVALID_PUBLISH_SUBJECT);
        }
        let Some(account) = broker.conn(self.id).map(Conn::account) else { return Cost::default() };
        if message.header_size.is_some()
            && trace::asks(message.header())
            && let Some(cost) = self.publish_for_trace(broker, account, message, now)
        {
            return cost;
        }
        self.publish_untraced(broker, account, message, now)
    }

    #[inline(always)]
    fn publish_untraced<P: Port>(
        &self,
        broker: &mut Broker<P>,
        account: AccountId,
        message: &Message<'_>,
        now: Now,
    ) -> Cost {
        let mut mapped = Vec::new();
        let mut message = *message;
        if let Some(subject) = broker.map_subject(account, message.subject, &mut mapped) {
            message.subject = subject;
        }
        if reserved::subject(message.subject, broker.system_account == Some(account)) {
            self.violation(broker, Violation::Publish(message.subject));
            return Cost::default();
        }
        if !may_publish(broker, self.id, message.subject, now) {
            self.violation(broker, Violation::Publish(message.subject));
            return Cost::default();
        }
        if let Some(reply) = message.reply.filter(|reply| reserved::reply(reply)) {
            self.violation(broker, Violation::Reply(reply));
            return Cost::default();
        }
        self.ok(broker);
        broker.publish(self.id, &message, now)
    }

    /// The same for a message with headers for tracing; `None` if they mean nothing.
    #[cold]
    #[inline(never)]
    fn publish_for_trace<P: Port>(
        &self,
        broker: &mut Broker<P>,
        account: AccountId,
        message: &Message<'_>,
        now: Now,
    ) -> Option<Cost> {
        Some(match broker.begin_trace(self.id, message, now) {
            Begun::Untraced => return None,
            Begun::Dropped => Cost::default(),
            Begun::Denied(subject) => {
                self.violation(broker, Violation::Publish(subject.as_bytes()));
                Cost::default()
            }
            Begun::Marked => {
                let marked = Untraced::new(message);
                self.publish_untraced(broker, account, &marked.message(message), now)
            }
            Begun::Traced(trace) => self.publish_traced(broker, message, trace, now),
        })
    }

    /// The same for a message whose publisher wants to know where it goes.
    #[cold]
    fn publish_traced<P: Port>(
        &self,
        broker: &mut Broker<P>,
        message: &Message<'_>,
        mut trace: Box<Trace>,
        now: Now,
    ) -> Cost {
        let Some(account) = broker.conn(self.id).map(Conn::account) else { return Cost::default() };
        let mut mapped = Vec::new();
        let mut message = *message;
        if let Some(subject) = broker.map_subject(account, message.subject, &mut mapped) {
            message.subject = subject;
            trace.mapped(subject, now);
        }
        let reserved = reserved::subject(message.subject, broker.system_account == Some(account));
        let violation = match message.reply.filter(|reply| reserved::reply(reply)) {
            _ if reserved || !may_publish(broker, self.id, message.subject, now) => {
                Some(Violation::Publish(message.subject))
            }
            reply => reply.map(Violation::Reply),
        };
        let cost = match violation {
            Some(violation) => {
                trace.refused(violation);
                self.violation(broker, violation);
                Cost::default()
            }
            None => {
                self.ok(broker);
                broker.publish_traced(&mut trace, self.id, &message, now)
            }
        };
        broker.end_trace(*trace, now);
        cost
    }

    pub(super) fn subscribe<P: Port>(&self, broker: &mut Broker<P>, sub: Sub<'_>, now: Now) {
        let Sub { subject, queue, sid } = sub;
        let permit = broker.conn(self.id).and_then(|conn| conn.permit.as_deref());
        let allowed = permit.is_none_or(|permit| permit.may_subscribe(subject, queue));
        if !allowed || queue == Some(reserved::QUEUE) {
            return self.violation(broker, Violation::Subscribe { subject, queue });
        }
        let settings = broker.settings();
        let tokens_max = settings.max_sub_tokens as usize;
        if tokens_max > 0 && tokens(subject).count() > tokens_max {
            return self.violation(broker, Violation::TooManyTokens(subject));
        }
        let full = |conn: &Conn<P>| conn.max_subs > 0 && conn.subscriptions() >= conn.max_subs;
        if broker.conn(self.id).is_some_and(full) {
            broker.stats.refusals.subscriptions += 1;
            broker.note(self.id, Level::Error, error::MAX_SUBSCRIPTIONS);
            return broker.stage_err(self.id, error::MAX_SUBSCRIPTIONS);
        }
        if !broker.budget.admits(1) {
            broker.note(self.id, Level::Error, MEMORY_BUDGET);
            return broker.stage_err(self.id, MEMORY_BUDGET);
        }
        match broker.subscribe(self.id, subject, queue, sid, now) {
            Subscribed::Ok => self.ok(broker),
            Subscribed::InvalidSubject => broker.stage_err(self.id, error::INVALID_SUBJECT),
            Subscribed::Full => {
                broker.note(self.id, Level::Error, "no room for more subscriptions");
                broker.stage_err(self.id, error::MAX_SUBSCRIPTIONS);
            }
        }
    }

    /// INFO from a client means nothing to a server, but it must be JSON.
    pub(super) fn info<P: Port>(&self, broker: &mut Broker<P>, argument: &[u8], now: Now) {
        if json::object(argument, |_, _| Ok(())).is_err() {
            broker.close(self.id, CloseReason::ProtocolViolation, now);
        }
    }

    /// PONG, and after the first one INFO again, with what CONNECT led to.
    pub(super) fn ping<P: Port>(&self, broker: &mut Broker<P>, now: Now) {
        if broker.settings().trace {
            broker.note(self.id, Level::Trace, "->> [PONG]");
        }
        broker.stage(self.id, |out| out.put(emit::PONG));
        let Some(conn) = broker.conn_mut(self.id) else { return };
        conn.last_in = now.mono;
        let first = conn.connected && !conn.greeted;
        conn.greeted |= conn.connected;
        if first && conn.async_info {
            broker.stage_info(self.id, true);
        }
    }

    /// A rule of the grammar was broken: the connection can't go on.
    pub(super) fn broke<P: Port>(&self, broker: &mut Broker<P>, rule: Rule, now: Now) {
        broker.note(self.id, Level::Error, rule);
        let reason = match rule {
            Rule::UnknownOperation | Rule::Arguments | Rule::Headers => CloseReason::ProtocolViolation,
            Rule::ControlLine => CloseReason::MaxControlLine,
            Rule::Payload { .. } => CloseReason::MaxPayload,
        };
        match rule.err_text() {
            Some(text) => broker.fail(self.id, text, reason, now),
            None => broker.close(self.id, reason, now),
        }
    }

    fn violation<P: Port>(&self, broker: &mut Broker<P>, violation: Violation<'_>) {
        let refusals = &mut broker.stats.refusals;
        match violation {
            Violation::TooManyTokens(_) => refusals.tokens += 1,
            _ => refusals.permissions += 1,
        }
        broker.note(self.id, Level::Error, violation);
        broker.stage_err(self.id, violation);
    }
}

/// Whether a connection's permissions let it publish on `subject`; an answer to a request counts as one.
fn may_publish<P: Port>(broker: &mut Broker<P>, id: ConnId, subject: &[u8], now: Now) -> bool {
    let Some(conn) = broker.conn_mut(id) else { return false };
    let Some(permit) = &mut conn.permit else { return true };
    permit.lets_publish(subject)
        || conn.replies.as_mut().is_some_and(|replies| replies.allow(subject, now.mono))
}
