//! From one publisher to all who want it.

use bytes::Bytes;
use midge_protocol::emit::{self, Digits, Sink};
use midge_protocol::op::{Message, Size};
use midge_router::SubId;

use crate::Now;
use crate::account::service::{Hop, shown};
use crate::account::target::{Shadow, Target, Targets};
use crate::account::{Account, AccountId};
use crate::broker::Broker;
use crate::closed::CloseReason;
use crate::conn::{Conn, ConnId, Port, at};
use crate::inside::Mail;
use crate::notice::{Level, Notice};
use crate::outbox::SHARE_MIN;
use crate::subs::Subscriptions;
use crate::trace::{Trace, Way};
use midge_router::mapping::Outcome;

/// How much a publish cost, so that a turn can be bounded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) deliveries: usize,
    pub(crate) bytes: usize,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Routed {
    /// Somebody got it.
    pub(crate) delivered: bool,
    pub(crate) cost: Cost,
}

impl Routed {
    /// What became of it on one more way.
    #[inline]
    pub(crate) fn add(&mut self, other: Self) {
        self.delivered |= other.delivered;
        self.cost.deliveries += other.cost.deliveries;
        self.cost.bytes += other.cost.bytes;
    }
}

/// What is left to do once a message has been brought to an account's connections.
#[derive(Clone, Copy)]
enum Later {
    /// A subscription got its last message.
    End(SubId),
    /// A connection was closed because it is full.
    Bury(ConnId),
    /// A subscription leads to somewhere else.
    Cross(SubId),
}

impl<P: Port> Broker<P> {
    /// The subject that the mappings of an account make of `subject`, written to `out`; `None`: it stays.
    #[inline]
    pub(crate) fn map_subject<'o>(
        &mut self,
        account: AccountId,
        subject: &[u8],
        out: &'o mut Vec<u8>,
    ) -> Option<&'o [u8]> {
        let is_mapped = !self.accounts[account.index()].mappings.is_empty();
        if is_mapped { self.map_by_first(account, subject, out) } else { None }
    }

    /// The first mapping whose source matches decides.
    fn map_by_first<'o>(
        &mut self,
        account: AccountId,
        subject: &[u8],
        out: &'o mut Vec<u8>,
    ) -> Option<&'o [u8]> {
        let mappings = &self.accounts[account.index()].mappings;
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

    /// Brings a connection's `message` to whom its subject reaches. Permissions were checked.
    pub(crate) fn publish(&mut self, from: ConnId, message: &Message<'_>, now: Now) -> Cost {
        let Some(publisher) = at(&mut self.conns, from) else {
            return Cost::default();
        };
        let (account, wants_503) = (publisher.account, publisher.no_responders);
        let routed = self.route(account, message.subject, from, message, None, now);
        if !routed.delivered && wants_503 && message.reply.is_some() {
            self.no_responders(from, message);
        }
        routed.cost
    }

    /// Brings `message` to subscribers of the subject `on` in `account`, and across its border where they are elsewhere.
    /// `hop` is how it got into this account, if that was across a border.
    pub(crate) fn route(
        &mut self,
        account_id: AccountId,
        on: &[u8],
        from: ConnId,
        message: &Message<'_>,
        hop: Option<&Hop<'_>>,
        now: Now,
    ) -> Routed {
        let max_pending = self.max_pending();
        let drop_above = self.settings.no_fast_producer_stall.then(|| self.stall_pending());
        let account = &mut self.accounts[account_id.index()];
        let random = &mut self.random;
        let Account { router, subs, targets, .. } = account;
        let matches = router.matches(on);
        let mut fanout = Fanout {
            conns: &mut self.conns,
            subs,
            targets,
            account: account_id,
            mail: &mut self.mail,
            dirty: &mut self.dirty,
            later: Vec::new(),
            from,
            crossed: hop.is_some(),
            on,
            message: *message,
            shared: None,
            bare_size: None,
            now,
            max_pending,
            trace: self.settings.trace.then_some((&mut self.notices, self.settings.max_traced)),
            drop_above,
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
        let Fanout { later, cost, .. } = fanout;
        account.counters.out_msgs += cost.deliveries as u64;
        account.counters.out_bytes += cost.bytes as u64;
        self.stats.counters.out_msgs += cost.deliveries as u64;
        self.stats.counters.out_bytes += cost.bytes as u64;
        let mut routed = Routed { delivered, cost };
        if !later.is_empty() {
            self.settle(account_id, on, from, message, hop, now, &later, &mut routed);
        }
        routed
    }

    /// As [`Broker::route`], to a single subscription of `account`.
    #[cold]
    pub(crate) fn route_one(
        &mut self,
        account_id: AccountId,
        sub: SubId,
        from: ConnId,
        message: &Message<'_>,
        hop: Option<&Hop<'_>>,
        now: Now,
    ) -> Routed {
        self.route_to(account_id, message.subject, from, message, hop, now, |fanout| fanout.deliver(sub))
    }

    /// As [`Broker::route`], for what comes from a hub: of queue groups, those that `wanted` names get it.
    #[cfg(feature = "leafnode")]
    #[cold]
    pub(crate) fn route_from_hub(
        &mut self,
        account_id: AccountId,
        on: &[u8],
        from: ConnId,
        message: &Message<'_>,
        wanted: impl Fn(&[u8]) -> bool,
        now: Now,
    ) -> Routed {
        let account = &mut self.accounts[account_id.index()];
        let matches = std::sync::Arc::clone(account.router.matches(on));
        let mut name = Vec::new();
        let mut groups = Vec::new();
        for group in matches.groups() {
            name.clear();
            let known = group.first().is_some_and(|first| account.router.queue_of(*first, &mut name));
            if known && wanted(&name) {
                let start = self.random.below(u32::try_from(group.len()).unwrap_or(u32::MAX)) as usize;
                groups.push(group.split_at(start.min(group.len())));
            }
        }
        self.route_to(account_id, on, from, message, None, now, |fanout| {
            let mut delivered = false;
            for sub in matches.plain() {
                delivered |= fanout.deliver(*sub);
            }
            for (before, after) in groups {
                delivered |= after.iter().chain(before).any(|sub| fanout.deliver(*sub));
            }
            delivered
        })
    }

    /// As [`Broker::route`], to whom `deliver` brings it, which says whether anybody got it.
    #[allow(clippy::too_many_arguments, reason = "one more than `route` has")]
    fn route_to(
        &mut self,
        account_id: AccountId,
        on: &[u8],
        from: ConnId,
        message: &Message<'_>,
        hop: Option<&Hop<'_>>,
        now: Now,
        deliver: impl FnOnce(&mut Fanout<'_, P>) -> bool,
    ) -> Routed {
        let max_pending = self.max_pending();
        let account = &mut self.accounts[account_id.index()];
        let mut fanout = Fanout {
            conns: &mut self.conns,
            subs: &mut account.subs,
            targets: &account.targets,
            account: account_id,
            mail: &mut self.mail,
            dirty: &mut self.dirty,
            later: Vec::new(),
            from,
            crossed: hop.is_some(),
            on,
            message: *message,
            shared: None,
            bare_size: None,
            now,
            max_pending,
            trace: self.settings.trace.then_some((&mut self.notices, self.settings.max_traced)),
            drop_above: None,
            cost: Cost::default(),
        };
        let delivered = deliver(&mut fanout);
        let Fanout { later, cost, .. } = fanout;
        for counters in [&mut account.counters, &mut self.stats.counters] {
            counters.out_msgs += cost.deliveries as u64;
            counters.out_bytes += cost.bytes as u64;
        }
        let mut routed = Routed { delivered, cost };
        self.settle(account_id, on, from, message, hop, now, &later, &mut routed);
        routed
    }

    /// Brings a connection's traced `message` to whom its subject reaches. Permissions were checked.
    #[cold]
    pub(crate) fn publish_traced(
        &mut self,
        trace: &mut Trace,
        from: ConnId,
        message: &Message<'_>,
        now: Now,
    ) -> Cost {
        let wants_503 = self.conn(from).is_some_and(|publisher| publisher.no_responders);
        let way = Way { account: trace.account(), from, hop: None, now };
        let routed = self.route_traced(trace, way, message);
        if !routed.delivered && wants_503 && message.reply.is_some() {
            self.no_responders(from, message);
        }
        routed.cost
    }

    #[allow(clippy::too_many_arguments, reason = "the second half of `route`, for the rare case")]
    #[cold]
    fn settle(
        &mut self,
        account: AccountId,
        on: &[u8],
        from: ConnId,
        message: &Message<'_>,
        hop: Option<&Hop<'_>>,
        now: Now,
        later: &[Later],
        routed: &mut Routed,
    ) {
        // Hubs come before those who end: whoever took the last message of a queue group here has taken it from them.
        if !self.uplinks.is_empty() {
            let crossing = later.iter().filter_map(|later| match later {
                Later::Cross(sub) => Some(*sub),
                _ => None,
            });
            let sent = self.send_to_hubs(account, on, from, message, crossing, now);
            routed.add(sent);
        }
        // What ended ends first: what crosses may come back here.
        for later in later {
            match later {
                Later::End(sub) => self.forget(account, *sub, now),
                Later::Bury(id) => {
                    self.note_slow(*id);
                    self.bury(*id, now);
                }
                Later::Cross(_) => {}
            }
        }
        for later in later {
            if let Later::Cross(sub) = later {
                let crossed = self.cross(account, *sub, on, from, message, hop, now);
                routed.add(crossed);
            }
        }
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
    targets: &'a Targets,
    account: AccountId,
    mail: &'a mut Mail,
    dirty: &'a mut Vec<ConnId>,
    later: Vec<Later>,
    from: ConnId,
    /// The message comes from another account.
    crossed: bool,
    /// The subject that decides who gets the message. What they are shown as its subject may be another.
    on: &'a [u8],
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
    /// Appends the message to a subscriber's output. False if it can't have it, or is no connection of this account.
    #[inline(always)]
    fn deliver(&mut self, id: SubId) -> bool {
        self.deliver_as(id, self.message.subject, None)
    }

    /// A subscription that is no connection's own: a shadow, or a part of the daemon, gets the message now, the others later.
    #[inline(never)]
    fn deliver_beyond(&mut self, id: SubId) -> bool {
        let Some((sub, _)) = self.subs.get_mut(id) else { return false };
        match self.targets.get(sub.conn) {
            None => false,
            Some(Target::Inside(inside)) if !inside.is_told() => {
                sub.delivered += 1;
                let from = at(self.conns, self.from).map(|conn| (self.from, conn.cid()));
                self.mail.post(*inside, self.account, from, &self.message)
            }
            Some(Target::Shadow(shadow)) => {
                let expires = shadow.import.expires;
                // What comes by one border doesn't leave by another.
                if self.crossed || expires.is_some_and(|at| at <= self.now.wall) {
                    return false;
                }
                let mut subject = Vec::new();
                shadow.import.rename(self.on, &mut subject);
                self.deliver_as(id, shown(self.on, &self.message, &subject), Some(shadow))
            }
            Some(_) => {
                self.later.push(Later::Cross(id));
                false
            }
        }
    }

    #[inline(always)]
    fn deliver_as(&mut self, id: SubId, subject: &[u8], shadow: Option<&Shadow>) -> bool {
        let Some((sub, sid)) = self.subs.get_mut(id) else { return false };
        let to = shadow.map_or(sub.conn, |shadow| shadow.conn);
        let Some(conn) = at(self.conns, to) else {
            return shadow.is_none() && self.deliver_beyond(id);
        };
        let sid = shadow.map_or(sid.as_bytes(), |shadow| &shadow.sid);
        if conn.closing.is_some() || (to == self.from && !conn.echo) {
            return false;
        }
        if self.drop_above.is_some_and(|above| conn.queued > above && conn.pending() > above) {
            return false;
        }
        if sub.is_filtered() && !may_receive(conn, shadow.map_or(id, |shadow| shadow.main), subject) {
            return false;
        }
        sub.delivered += 1;
        if sub.max > 0 && sub.delivered >= u64::from(sub.max) {
            if sub.delivered > u64::from(sub.max) {
                return false;
            }
            self.later.push(Later::End(id));
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
        emit::msg(&mut conn.stage, subject, sid, message.reply, header_size, size.text);
        if let Some((notices, max)) = &mut self.trace {
            let mut head = Vec::new();
            emit::msg(&mut head, subject, sid, message.reply, header_size, size.text);
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
        if let Some(reply) = message.reply.filter(|_| conn.replies.is_some()) {
            note_request(conn, reply, self.now);
        }
        let bytes = size.value as usize;
        conn.counters.out_msgs += 1;
        conn.counters.out_bytes += bytes as u64;
        conn.last = self.now.mono;
        self.cost.deliveries += 1;
        self.cost.bytes += bytes;
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(to);
        }
        // What was queued at the last flush may be written by now: only a suspicion is worth the outbox's lock.
        if (conn.queued + conn.stage.len()) as u64 > self.max_pending
            && conn.pending() as u64 > self.max_pending
        {
            conn.closing = Some(CloseReason::SlowConsumerPending);
            conn.stage.clear();
            self.later.push(Later::Bury(to));
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

/// A connection got a request that it may answer, though perhaps it may publish nothing else there.
#[cold]
fn note_request<P>(conn: &mut Conn<P>, reply: &[u8], now: Now) {
    if let (Some(replies), Some(permit)) = (&mut conn.replies, &conn.permit)
        && !permit.may_publish(reply)
    {
        replies.note(reply, now.mono);
    }
}

/// Whether a connection may have a message for a subscription of which a part is denied.
#[cold]
pub(crate) fn may_receive<P>(conn: &Conn<P>, id: SubId, subject: &[u8]) -> bool {
    let queue = conn.filtered_queues.as_ref().and_then(|queues| queues.get(&id)).map(|queue| &**queue);
    conn.permit.as_ref().is_none_or(|permit| permit.may_receive(subject, queue))
}

/// Subjects that only servers may publish to, or ask for answers on (reference 3.1).
pub(crate) mod reserved {
    /// A subject that clients may not publish to.
    #[inline]
    pub(crate) fn subject(subject: &[u8], is_system: bool) -> bool {
        longer_than_prefix(subject, b"_GR_.")
            || longer_than_prefix(subject, b"$GR.")
            || (subject.starts_with(b"$NRG.") && !is_system)
    }

    /// A reply subject that clients may not give.
    #[inline]
    pub(crate) fn reply(reply: &[u8]) -> bool {
        longer_than_prefix(reply, b"_R_.")
            || longer_than_prefix(reply, b"$JS.ACK.")
            || longer_than_prefix(reply, b"_GR_.")
            || longer_than_prefix(reply, b"$GR.")
    }

    /// The queue group that only servers are in.
    pub(crate) const QUEUE: &[u8] = b"_sys_";

    #[inline]
    fn longer_than_prefix(subject: &[u8], prefix: &[u8]) -> bool {
        subject.len() > prefix.len() && subject.starts_with(prefix)
    }
}
