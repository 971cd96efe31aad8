//! Reads what a hub sends.

use midge_leaf::{Fault, Heard};
use midge_protocol::emit::{self, Sink};
use midge_protocol::error::Rule;
use midge_protocol::limits::Limits;
use midge_protocol::op::LeafOp;
use midge_protocol::parse::{Step, leaf_op};

use super::ANSWER;
use crate::broker::{Broker, MEMORY_BUDGET, Now};
use crate::closed::CloseReason;
use crate::conn::{Conn, ConnId, Port, at};
use crate::notice::Level;
use crate::publish::Cost;
use crate::session::{LARGE, Next, Received, TURN_BYTES, TURN_DELIVERIES};

/// A line of a hub may be so many times as long as a client's. Source: nats-server's parser.
const LONGER: u32 = 16;

/// Reads operations of a hub's from the start of `input` and does what they ask. As [`crate::Session::receive`].
pub(crate) fn receive<P: Port>(broker: &mut Broker<P>, id: ConnId, now: Now, input: &[u8]) -> Received {
    let (mut used, mut spent, mut msgs, mut bytes) = (0, Cost::default(), 0u64, 0u64);
    let settings = broker.settings();
    let limits = Limits {
        max_control_line: settings.max_control_line.saturating_mul(LONGER),
        max_payload: settings.max_payload,
        headers: true,
    };
    let next = loop {
        if !broker.conn(id).is_some_and(Conn::is_open) {
            break Next::Close;
        }
        let rest = input.get(used..).unwrap_or_default();
        if rest.is_empty() {
            break Next::Read(1);
        }
        if spent.deliveries >= TURN_DELIVERIES || spent.bytes >= TURN_BYTES {
            break Next::Yield;
        }
        match leaf_op(rest, &limits) {
            Step::Need(total) if total > LARGE && !broker.budget.admits(total as u64) => {
                broker.note(id, Level::Error, MEMORY_BUDGET);
                broker.fail(id, MEMORY_BUDGET, CloseReason::MemoryBudget, now);
                break Next::Close;
            }
            Step::Need(total) => break Next::Read(total),
            Step::Bad(rule) => {
                broke(broker, id, rule, now);
                break Next::Close;
            }
            Step::Op(op, len) => {
                used += len;
                if let LeafOp::Msg { message, .. } = &op {
                    msgs += 1;
                    bytes += u64::from(message.size.value);
                }
                if broker.settings().trace {
                    trace(broker, id, &op);
                }
                let cost = apply(broker, id, op, now);
                // What finds nobody takes time, too.
                spent.deliveries += cost.deliveries.max(1);
                spent.bytes += cost.bytes;
            }
        }
    };
    if used > 0
        && let Some(conn) = at(&mut broker.conns, id)
    {
        conn.last_in = now.mono;
        if msgs > 0 {
            conn.last = now.mono;
        }
        let account = &mut broker.accounts[conn.account.index()];
        for counters in [&mut conn.counters, &mut account.counters, &mut broker.stats.counters] {
            counters.in_msgs += msgs;
            counters.in_bytes += bytes;
        }
    }
    Received { used, next }
}

fn apply<P: Port>(broker: &mut Broker<P>, id: ConnId, op: LeafOp<'_>, now: Now) -> Cost {
    let Some(state) = broker.uplinks.get_mut(id) else { return Cost::default() };
    match state.link.receive(op) {
        Err(fault) => end(broker, id, fault, now),
        Ok(Heard::Nothing) => {}
        Ok(Heard::Say(line, up)) => {
            broker.stage(id, |out| out.put(&line));
            broker.connected(id, now);
            let name = broker.uplinks.get(id).map(|state| state.link.hub().name().into());
            if let Some(conn) = broker.conn_mut(id) {
                conn.name = name.unwrap_or_default();
                conn.until.set((!up).then(|| now.mono + ANSWER));
            }
            if up {
                broker.hub_is_up(id, now);
            } else {
                broker.rearm(id);
            }
        }
        Ok(Heard::Up) => broker.hub_is_up(id, now),
        Ok(Heard::Changed) => broker.hub_has_changed(id),
        Ok(Heard::Ping) => broker.stage(id, |out| out.put(emit::PONG)),
        Ok(Heard::Pong) => broker.pong(id, now),
        Ok(Heard::Wanted(sub)) => broker.hub_wants(id, sub, now),
        Ok(Heard::Unwanted { subject, queue }) => broker.hub_is_done(id, subject, queue),
        Ok(Heard::Message { queues, message, shown }) => {
            return broker.publish_from_hub(id, queues, &message, shown, now);
        }
    }
    Cost::default()
}

/// The conversation can't go on.
fn end<P: Port>(broker: &mut Broker<P>, id: ConnId, fault: Fault, now: Now) {
    let reason = match &fault {
        Fault::Refused(text) if text.contains("Authorization") => CloseReason::AuthenticationFailure,
        Fault::Refused(_) => CloseReason::ParseError,
        Fault::WrongPort => CloseReason::IncorrectPort,
        _ => CloseReason::ProtocolViolation,
    };
    broker.note(id, Level::Error, &fault);
    let told = fault.told();
    if let Some(state) = broker.uplinks.get_mut(id) {
        state.fault = Some(fault);
    }
    match told {
        Some(text) => broker.fail(id, &text, reason, now),
        None => broker.close(id, reason, now),
    }
}

/// A rule of the grammar was broken.
fn broke<P: Port>(broker: &mut Broker<P>, id: ConnId, rule: Rule, now: Now) {
    broker.note(id, Level::Error, rule);
    let reason = match rule {
        Rule::UnknownOperation | Rule::Arguments | Rule::Headers => CloseReason::ProtocolViolation,
        Rule::ControlLine => CloseReason::MaxControlLine,
        Rule::Payload { .. } => CloseReason::MaxPayload,
    };
    match rule.err_text() {
        Some(text) => broker.fail(id, text, reason, now),
        None => broker.close(id, reason, now),
    }
}

fn trace<P: Port>(broker: &mut Broker<P>, id: ConnId, op: &LeafOp<'_>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = match op {
        LeafOp::Info(info) => format!("INFO {}", text(info)),
        LeafOp::Connect(_) => "CONNECT [REDACTED]".to_owned(),
        LeafOp::Sub(sub) => {
            let queue = sub.queue.map(|(queue, weight)| format!(" {} {weight}", text(queue)));
            format!("LS+ {}{}", text(sub.subject), queue.unwrap_or_default())
        }
        LeafOp::Unsub { subject, queue } => {
            let queue = queue.map(|queue| format!(" {}", text(queue))).unwrap_or_default();
            format!("LS- {}{queue}", text(subject))
        }
        LeafOp::Msg { message, .. } => {
            let reply = message.reply.map(|reply| format!(" {}", text(reply))).unwrap_or_default();
            format!("LMSG {}{reply} {}", text(message.subject), message.size.value)
        }
        LeafOp::Ping => "PING".to_owned(),
        LeafOp::Pong => "PONG".to_owned(),
        LeafOp::Ok => "+OK".to_owned(),
        LeafOp::Err(error) => format!("-ERR {}", text(error)),
    };
    broker.note(id, Level::Trace, format_args!("<<- [{line}]"));
}
