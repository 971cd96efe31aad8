//! From one publisher to all who want it.

use bytes::Bytes;
use midge_protocol::emit::{self, Digits, Sink};
use midge_protocol::error::Violation;
use midge_protocol::op::{Message, Size};
use midge_protocol::subject::Filter;
use midge_router::SubId;

use crate::Now;
use crate::account::Account;
use crate::broker::Broker;
use crate::closed::CloseReason;
use crate::conn::{Conn, ConnId, Port, at};
use crate::mapping::Outcome;
use crate::notice::{Level, Notice};
use crate::outbox::SHARE_MIN;
use crate::subs::Subscriptions;

/// What became of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subscribed {
    /// It is there now, or was already.
    Ok,
    /// Not a filter.
    InvalidSubject,
    /// The router has no more room.
    Full,
}

/// How much a publish cost, so that a turn can be bounded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) deliveries: usize,
    pub(crate) bytes: usize,
}

impl<P: Port> Broker<P> {
    /// Adds a subscription. A sid that is in use keeps what it has.
    pub(crate) fn subscribe(
        &mut self,
        id: ConnId,
        subject: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
    ) -> Subscribed {
        let Some(conn) = at(&mut self.conns, id) else {
            return Subscribed::Ok;
        };
        let Account { router, subs, .. } = &mut self.accounts[conn.account.index()];
        if subs.find(id, sid).is_some() {
            return Subscribed::Ok;
        }
        let Ok(filter) = Filter::new(subject) else { return Subscribed::InvalidSubject };
        let Ok(sub) = router.insert(filter, queue) else { return Subscribed::Full };
        subs.insert(sub, id, sid, &mut conn.subs);
        if conn.permit.as_ref().is_some_and(|permit| permit.must_filter(subject, queue)) {
            subs.get_mut(sub).into_iter().for_each(|(record, _)| record.set_filtered(true));
            conn.filtered_queues.extend(queue.map(|queue| (sub, queue.into())));
        }
        Subscribed::Ok
    }

    /// Ends the subscriptions that a connection's new permissions don't allow, and names them.
    pub(crate) fn recheck_subscriptions(&mut self, id: ConnId) {
        let Some(conn) = at(&mut self.conns, id) else { return };
        let Account { router, subs, .. } = &mut self.accounts[conn.account.index()];
        let held: Vec<_> = subs.of(&conn.subs).map(|sub| sub.id()).collect();
        conn.filtered_queues.clear();
        let mut refused = Vec::new();
        for sub in held {
            let (mut subject, mut name) = (Vec::new(), Vec::new());
            router.filter_of(sub, &mut subject);
            let queue = router.queue_of(sub, &mut name).then_some(name);
            let permit = conn.permit.as_deref();
            if permit.is_none_or(|permit| permit.may_subscribe(&subject, queue.as_deref())) {
                let filtered = permit.is_some_and(|permit| permit.must_filter(&subject, queue.as_deref()));
                subs.get_mut(sub).into_iter().for_each(|(record, _)| record.set_filtered(filtered));
                conn.filtered_queues.extend(queue.filter(|_| filtered).map(|queue| (sub, queue.into())));
            } else {
                refused.extend(subs.get(sub).map(|sub| (subject, queue, sub.sid().to_vec())));
                router.remove(sub);
                subs.remove(sub, &mut conn.subs);
            }
        }
        for (subject, queue, sid) in refused {
            let queue = queue.as_deref();
            let removed = Violation::Removed { subject: &subject, queue, sid: &sid };
            self.note(id, Level::Info, format_args!("Removed sub: {removed}"));
            self.stage_err(id, removed);
        }
    }

    /// Ends a subscription, or bounds it to `max` deliveries since it began. False if there is none.
    pub(crate) fn unsubscribe(&mut self, id: ConnId, sid: &[u8], max: Option<u32>) -> bool {
        let Some(conn) = at(&mut self.conns, id) else {
            return false;
        };
        let Account { router, subs, .. } = &mut self.accounts[conn.account.index()];
        let Some(found) = subs.find(id, sid) else { return false };
        match (max, subs.get_mut(found)) {
            (Some(max), Some((record, _))) if u64::from(max) > record.delivered => record.max = max,
            _ => {
                router.remove(found);
                subs.remove(found, &mut conn.subs);
                conn.filtered_queues.retain(|(id, _)| *id != found);
            }
        }
        true
    }

    /// Ends all subscriptions of a connection.
    pub(crate) fn drop_subscriptions(&mut self, id: ConnId) {
        let Some(conn) = at(&mut self.conns, id) else { return };
        let Account { router, subs, .. } = &mut self.accounts[conn.account.index()];
        while let Some(sub) = subs.first(&conn.subs) {
            router.remove(sub);
            subs.remove(sub, &mut conn.subs);
        }
        conn.filtered_queues = Vec::new();
    }

    /// The subject that the account's mappings make of `subject`, written to `out`; `None`: it stays.
    pub(crate) fn map_subject<'o>(
        &mut self,
        from: ConnId,
        subject: &[u8],
        out: &'o mut Vec<u8>,
    ) -> Option<&'o [u8]> {
        let account = self.conn(from)?.account;
        let mappings = &self.accounts[account.index()].mappings;
        // The first mapping whose source matches decides.
        let mapping = mappings.iter().find(|mapping| mapping.covers(subject))?;
        let random = &mut self.random;
        match mapping.apply(subject, &mut |bound| random.below(bound), out) {
            Outcome::Unchanged => return None,
            Outcome::Mapped => {}
            // No subject, so nobody gets it; a requester is still told that.
            Outcome::Dropped => out.clear(),
        }
        Some(out)
    }

    /// Brings `message` to whom its subject reaches. Permissions were checked.
    pub(crate) fn publish(&mut self, from: ConnId, message: &Message<'_>, now: Now) -> Cost {
        let Some(publisher) = at(&mut self.conns, from) else {
            return Cost::default();
        };
        let (account_id, wants_503) = (publisher.account, publisher.no_responders);
        let account = &mut self.accounts[account_id.index()];
        let random = &mut self.random;
        let Account { router, subs, .. } = account;
        let matches = router.matches(message.subject);
        let mut fanout = Fanout {
            conns: &mut self.conns,
            subs,
            dirty: &mut self.dirty,
            ended: Vec::new(),
            slow: Vec::new(),
            from,
            message: *message,
            shared: None,
            bare_size: None,
            now,
            max_pending: self.settings.max_pending,
            trace: self.settings.trace.then_some((&mut self.notices, self.settings.max_traced)),
            drop_above: self.settings.no_fast_producer_stall.then(|| self.settings.stall_pending()),
            cost: Cost::default(),
        };
        let mut delivered = false;
        for sub in matches.plain() {
            delivered |= fanout.deliver(*sub);
        }
        for group in matches.groups() {
            let start = random.below(u32::try_from(group.len()).unwrap_or(u32::MAX)) as usize;
            let (before, after) = group.split_at(start.min(group.len()));
            delivered |= after.iter().chain(before).any(|sub| fanout.deliver(*sub));
        }
        let Fanout { ended, slow, cost, .. } = fanout;
        account.counters.out_msgs += cost.deliveries as u64;
        account.counters.out_bytes += cost.bytes as u64;
        self.stats.counters.out_msgs += cost.deliveries as u64;
        self.stats.counters.out_bytes += cost.bytes as u64;
        for sub in ended {
            self.end(account_id, sub);
        }
        for id in slow {
            self.note_slow(id);
            self.bury(id, now);
        }
        if !delivered && wants_503 && message.reply.is_some() {
            self.no_responders(from, message);
        }
        cost
    }

    /// Removes a subscription that has delivered what it was bounded to.
    fn end(&mut self, account: crate::AccountId, sub: SubId) {
        let Account { router, subs, .. } = &mut self.accounts[account.index()];
        let Some(conn) = subs.get(sub).map(|sub| sub.conn()) else { return };
        let Some(conn) = at(&mut self.conns, conn) else { return };
        router.remove(sub);
        subs.remove(sub, &mut conn.subs);
        conn.filtered_queues.retain(|(id, _)| *id != sub);
    }

    /// Tells a requester that nobody heard it: a 503 to its own subscription on the reply subject.
    fn no_responders(&mut self, from: ConnId, message: &Message<'_>) {
        let Some(reply) = message.reply else { return };
        let Some(account) = self.conn(from).map(|conn| conn.account) else { return };
        let Account { router, subs, .. } = &mut self.accounts[account.index()];
        let mine = |id: &&SubId| subs.get(**id).is_some_and(|sub| sub.conn() == from);
        let Some(sid) = router.matches(reply).plain().iter().find(mine).and_then(|id| subs.get(*id)) else {
            return;
        };
        let sid = sid.sid().to_vec();
        let mut block = b"NATS/1.0 503\r\nNats-Subject: ".to_vec();
        block.extend_from_slice(message.subject);
        block.extend_from_slice(b"\r\n\r\n");
        let size = Digits::new(block.len() as u64);
        block.extend_from_slice(emit::CRLF);
        self.stage(from, |out| {
            emit::msg(out, reply, &sid, None, Some(size.as_bytes()), size.as_bytes());
            out.put(&block);
        });
    }
}

/// One message on its way to many.
struct Fanout<'a, P> {
    conns: &'a mut [Option<Box<Conn<P>>>],
    subs: &'a mut Subscriptions,
    dirty: &'a mut Vec<ConnId>,
    /// Subscriptions that got their last message.
    ended: Vec<SubId>,
    /// Connections that were closed because they are full.
    slow: Vec<ConnId>,
    from: ConnId,
    message: Message<'a>,
    /// The body, once it was copied for sharing.
    shared: Option<Bytes>,
    /// The payload's size, for those who get no headers.
    bare_size: Option<Digits>,
    now: Now,
    max_pending: u64,
    /// Where deliveries are reported to, if they are.
    trace: Option<(&'a mut Vec<Notice>, usize)>,
    /// Messages for connections with more pending bytes than this are dropped.
    drop_above: Option<usize>,
    cost: Cost,
}

impl<P: Port> Fanout<'_, P> {
    /// Appends the message to a subscriber's output. False if it can't have it.
    #[inline]
    fn deliver(&mut self, id: SubId) -> bool {
        let Some((sub, sid)) = self.subs.get_mut(id) else { return false };
        let Some(conn) = at(self.conns, sub.conn) else {
            return false;
        };
        if conn.closing.is_some() || (sub.conn == self.from && !conn.echo) {
            return false;
        }
        if self.drop_above.is_some_and(|above| conn.queued > above && conn.pending() > above) {
            return false;
        }
        if sub.is_filtered() && !may_receive(conn, id, self.message.subject) {
            return false;
        }
        sub.delivered += 1;
        if sub.max > 0 && sub.delivered >= u64::from(sub.max) {
            if sub.delivered > u64::from(sub.max) {
                return false;
            }
            self.ended.push(id);
        }

        let message = &self.message;
        let header = message.header_size.filter(|size| size.value > 0);
        let (header_size, size, body) = match header {
            Some(header) if conn.headers => (Some(header.text), message.size, message.body),
            Some(header) => {
                let digits = self
                    .bare_size
                    .get_or_insert_with(|| Digits::new(message.size.value.saturating_sub(header.value)));
                (None, Size::from(&*digits), message.payload_crlf())
            }
            None => (None, message.size, message.body),
        };
        emit::msg(&mut conn.stage, message.subject, sid.as_bytes(), message.reply, header_size, size.text);
        if let Some((notices, max)) = &mut self.trace {
            let mut head = Vec::new();
            emit::msg(&mut head, message.subject, sid.as_bytes(), message.reply, header_size, size.text);
            let payload = traced(message.payload(), *max);
            for text in [
                format!("[{}]", String::from_utf8_lossy(&head).trim_end()),
                format!("MSG_PAYLOAD: {payload}"),
            ] {
                notices.push(Notice::new(Level::Trace, format_args!("{} - ->> {text}", conn.label())));
            }
        }
        if body.len() <= SHARE_MIN {
            conn.stage.put(body);
        } else {
            let whole = self.shared.get_or_insert_with(|| Bytes::copy_from_slice(message.body));
            conn.stage.share(whole.slice(whole.len() - body.len()..));
        }
        if let (Some(replies), Some(reply), Some(permit)) = (&mut conn.replies, message.reply, &conn.permit)
            && !permit.may_publish(reply)
        {
            replies.note(reply, self.now.mono);
        }
        let bytes = size.value as usize;
        conn.counters.out_msgs += 1;
        conn.counters.out_bytes += bytes as u64;
        conn.last = self.now.mono;
        self.cost.deliveries += 1;
        self.cost.bytes += bytes;
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(sub.conn);
        }
        // What was queued at the last flush may be written by now: only a suspicion is worth the outbox's lock.
        if (conn.queued + conn.stage.len()) as u64 > self.max_pending
            && conn.pending() as u64 > self.max_pending
        {
            conn.closing = Some(CloseReason::SlowConsumerPending);
            conn.stage.clear();
            self.slow.push(sub.conn);
        }
        true
    }
}

/// A payload as it stands in a log line, cut to `max` bytes unless that is 0.
pub(crate) fn traced(payload: &[u8], max: usize) -> String {
    let shown = if max > 0 { &payload[..payload.len().min(max)] } else { payload };
    let cut = if shown.len() < payload.len() { "..." } else { "" };
    format!("[{:?}{cut}]", String::from_utf8_lossy(shown))
}

/// Whether a connection may have a message for a subscription of which a part is denied.
#[cold]
fn may_receive<P>(conn: &Conn<P>, id: SubId, subject: &[u8]) -> bool {
    let queue = conn.filtered_queues.iter().find(|(sub, _)| *sub == id).map(|(_, queue)| &**queue);
    conn.permit.as_ref().is_none_or(|permit| permit.may_receive(subject, queue))
}

/// Subjects that only servers may publish to, or ask for answers on (reference 3.1).
pub(crate) mod reserved {
    /// A subject that clients may not publish to.
    pub(crate) fn subject(subject: &[u8], is_system: bool) -> bool {
        longer_than_prefix(subject, b"_GR_.")
            || longer_than_prefix(subject, b"$GR.")
            || (subject.starts_with(b"$NRG.") && !is_system)
    }

    /// A reply subject that clients may not give.
    pub(crate) fn reply(reply: &[u8]) -> bool {
        longer_than_prefix(reply, b"_R_.")
            || longer_than_prefix(reply, b"$JS.ACK.")
            || longer_than_prefix(reply, b"_GR_.")
            || longer_than_prefix(reply, b"$GR.")
    }

    /// The queue group that only servers are in.
    pub(crate) const QUEUE: &[u8] = b"_sys_";

    fn longer_than_prefix(subject: &[u8], prefix: &[u8]) -> bool {
        subject.len() > prefix.len() && subject.starts_with(prefix)
    }
}
