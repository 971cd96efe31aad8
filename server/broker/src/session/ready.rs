//! What a client that is in may do.

use midge_protocol::emit::{self, Sink};
use midge_protocol::error::{self, Rule, Violation};
use midge_protocol::op::{Message, Sub};
use midge_protocol::subject::{Subject, tokens};

use super::Session;
use crate::broker::{Broker, Now};
use crate::closed::CloseReason;
use crate::conn::Port;
use crate::notice::Level;
use crate::publish::{Cost, Subscribed, reserved};

impl Session {
    pub(super) fn publish<P: Port>(&self, broker: &mut Broker<P>, message: &Message<'_>, now: Now) -> Cost {
        if self.pedantic && Subject::new(message.subject).is_err() {
            // Said, and done all the same: so does nats-server.
            broker.stage_err(self.id, error::INVALID_PUBLISH_SUBJECT);
        }
        let is_system = broker
            .conn(self.id)
            .is_some_and(|conn| broker.account(conn.account()).name() == broker.settings().system_account);
        if reserved::subject(message.subject, is_system) {
            self.violation(broker, Violation::Publish(message.subject));
            return Cost::default();
        }
        if let Some(reply) = message.reply.filter(|reply| reserved::reply(reply)) {
            self.violation(broker, Violation::Reply(reply));
            return Cost::default();
        }
        self.ok(broker);
        broker.publish(self.id, message, now)
    }

    pub(super) fn subscribe<P: Port>(&self, broker: &mut Broker<P>, sub: Sub<'_>) {
        let Sub { subject, queue, sid } = sub;
        if queue == Some(reserved::QUEUE) {
            return self.violation(broker, Violation::Subscribe { subject, queue });
        }
        let settings = broker.settings();
        let tokens_max = settings.max_sub_tokens as usize;
        if tokens_max > 0 && tokens(subject).count() > tokens_max {
            return self.violation(broker, Violation::TooManyTokens(subject));
        }
        let most = settings.max_subscriptions;
        if most > 0 && broker.conn(self.id).is_some_and(|conn| conn.subscriptions() >= most) {
            broker.note(self.id, Level::Error, error::MAX_SUBSCRIPTIONS);
            return broker.stage_err(self.id, error::MAX_SUBSCRIPTIONS);
        }
        match broker.subscribe(self.id, subject, queue, sid) {
            Subscribed::Ok => self.ok(broker),
            Subscribed::InvalidSubject => broker.stage_err(self.id, error::INVALID_SUBJECT),
            Subscribed::Full => {
                broker.note(self.id, Level::Error, "no room for more subscriptions");
                broker.stage_err(self.id, error::MAX_SUBSCRIPTIONS);
            }
        }
    }

    /// PONG, and after the first one INFO again, with what CONNECT led to.
    pub(super) fn ping<P: Port>(&self, broker: &mut Broker<P>, now: Now) {
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
        broker.note(self.id, Level::Error, violation);
        broker.stage_err(self.id, violation);
    }
}
