//! Messages to hubs and from them.

use std::sync::Arc;

use bytes::Bytes;
use midge_protocol::emit::{self, Digits, Sink};
use midge_protocol::op::{Message, Queues, Size};
use midge_router::SubId;

use super::is_way_back;
use crate::account::target::Target;
use crate::account::{Account, AccountId};
use crate::broker::{Broker, Now};
use crate::conn::{ConnId, Port, at};
use crate::notice::Level;
use crate::outbox::SHARE_MIN;
use crate::publish::{Cost, Routed, may_receive};

/// A hub that gets a message, and the queue groups of which one member there is to get it.
type Parcel = (ConnId, Vec<Box<[u8]>>);

/// A queue group, and the hubs with members of it, by their number.
type Members = (Box<[u8]>, Vec<(ConnId, u32)>);

impl<P: Port> Broker<P> {
    /// Brings a message that was published here to the hubs among `subs`, which its subject `on` has reached: to each once.
    /// What comes from a hub goes to no other.
    #[cold]
    pub(crate) fn send_to_hubs(
        &mut self,
        account: AccountId,
        on: &[u8],
        from: ConnId,
        message: &Message<'_>,
        subs: impl Iterator<Item = SubId>,
        now: Now,
    ) -> Routed {
        let mut routed = Routed::default();
        if self.uplinks.has(from) {
            return routed;
        }
        let here = &self.accounts[account.index()];
        let mut parcels: Vec<Parcel> = Vec::new();
        let mut groups: Vec<Members> = Vec::new();
        for sub in subs {
            let Some(Target::Hub(hub)) = here.subs.get(sub).and_then(|sub| here.targets.get(sub.conn()))
            else {
                continue;
            };
            match &hub.queue {
                None => drop(parcel(&mut parcels, hub.conn)),
                Some(queue) => match groups.iter_mut().find(|(name, _)| name == queue) {
                    Some((_, members)) => members.push((hub.conn, hub.weight)),
                    None => groups.push((queue.clone(), vec![(hub.conn, hub.weight)])),
                },
            }
        }
        for (queue, members) in groups {
            if self.has_member_here(account, on, &queue, from) {
                continue;
            }
            let all = members.iter().fold(0u32, |sum, (_, weight)| sum.saturating_add(*weight));
            let mut left = self.random.below(all);
            let chosen = members.iter().find(|(_, weight)| match left.checked_sub(*weight) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            });
            if let Some((hub, _)) = chosen {
                parcel(&mut parcels, *hub).push(queue);
            }
        }
        for (hub, queues) in parcels {
            if self.send_to_hub(hub, on, message, &queues, now) {
                routed.delivered = true;
                routed.cost.deliveries += 1;
                routed.cost.bytes += message.size.value as usize;
            }
        }
        if routed.delivered {
            for counters in [&mut self.accounts[account.index()].counters, &mut self.stats.counters] {
                counters.out_msgs += routed.cost.deliveries as u64;
                counters.out_bytes += routed.cost.bytes as u64;
            }
        }
        routed
    }

    /// Whether a queue group has a member here that could have the message: it has it then, and hubs do not.
    fn has_member_here(&mut self, account: AccountId, on: &[u8], queue: &[u8], from: ConnId) -> bool {
        let Account { router, subs, .. } = &mut self.accounts[account.index()];
        let matches = Arc::clone(router.matches(on));
        let mut name = Vec::new();
        for group in matches.groups() {
            name.clear();
            if !group.first().is_some_and(|first| router.queue_of(*first, &mut name)) || name != queue {
                continue;
            }
            for id in group {
                let Some((sub, _)) = subs.get_mut(*id) else { continue };
                let Some(conn) = at(&mut self.conns, sub.conn) else { return true };
                let deaf = conn.closing.is_some()
                    || (sub.conn == from && !conn.echo)
                    || (sub.is_filtered() && !may_receive(conn, *id, on));
                if !deaf {
                    return true;
                }
            }
        }
        false
    }

    /// LMSG. False if the hub can't have it.
    fn send_to_hub(
        &mut self,
        hub: ConnId,
        on: &[u8],
        message: &Message<'_>,
        queues: &[Box<[u8]>],
        now: Now,
    ) -> bool {
        let max = self.max_pending();
        // What is left is for lines without messages, which can't be dropped.
        let room = max - max / 8;
        let Some(conn) = at(&mut self.conns, hub) else { return false };
        let denied =
            |conn: &crate::conn::Conn<P>| conn.permit.as_ref().is_some_and(|permit| !permit.may_publish(on));
        if conn.closing.is_some() || (!is_way_back(on) && denied(conn)) {
            return false;
        }
        let size = message.body.len();
        if (conn.queued + conn.stage.len() + size) as u64 > room && (conn.pending() + size) as u64 > room {
            if let Some(state) = self.uplinks.get_mut(hub) {
                state.dropped += 1;
            }
            self.note(
                hub,
                Level::Warn,
                format_args!(
                    "Slow Consumer Detected: {room} bytes wait for the hub, messages for it are dropped"
                ),
            );
            return false;
        }
        // A stream's message travels on the subject where it is delivered, and its own behind the reply.
        let acked: Vec<u8>;
        let reply = match message.reply {
            Some(reply) if message.subject != on => {
                acked = [reply, b"@", message.subject].concat();
                Some(&*acked)
            }
            reply => reply,
        };
        let bare;
        let header = message.header_size.filter(|size| size.value > 0);
        let (header_size, size, body) = match header {
            Some(header) if conn.headers => (Some(header.text), message.size, message.body),
            Some(header) => {
                bare = Digits::new(message.size.value.saturating_sub(header.value));
                (None, Size::from(&bare), message.payload_crlf())
            }
            None => (None, message.size, message.body),
        };
        let names = queues.iter().map(|queue| &**queue);
        emit::leaf_msg(&mut conn.stage, on, reply, names, header_size, size.text);
        if body.len() <= SHARE_MIN {
            conn.stage.put(body);
        } else {
            conn.stage.share(Bytes::copy_from_slice(body));
        }
        conn.counters.out_msgs += 1;
        conn.counters.out_bytes += u64::from(size.value);
        conn.last = now.mono;
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(hub);
        }
        if self.settings.trace {
            let (subject, reply) =
                (String::from_utf8_lossy(on), String::from_utf8_lossy(reply.unwrap_or_default()));
            let gap = if reply.is_empty() { "" } else { " " };
            let size = size.value;
            self.note(hub, Level::Trace, format_args!("->> [LMSG {subject}{gap}{reply} {size}]"));
        }
        true
    }

    /// Brings a hub's message to those here who want it: all who are in no queue group, and one of each of `queues`.
    pub(crate) fn publish_from_hub(
        &mut self,
        from: ConnId,
        queues: Queues<'_>,
        message: &Message<'_>,
        shown: Option<&[u8]>,
        now: Now,
    ) -> Cost {
        let Some(conn) = self.conn(from) else { return Cost::default() };
        let account = conn.account;
        let permit = conn.permit.as_deref();
        // The hub knows what is denied: this is for those that don't keep to it.
        let denied = permit.is_some_and(|permit| !permit.may_subscribe(message.subject, None));
        if denied && !is_way_back(message.subject) {
            return Cost::default();
        }
        let mut mapped = Vec::new();
        let found = self.map_subject(account, message.subject, &mut mapped);
        let is_mapped = found.is_some();
        let on = found.unwrap_or(message.subject);
        let subject = shown.unwrap_or(on);
        let message = Message { subject, ..*message };
        // Whom a mapping leads to, the hub can't know.
        let any = is_mapped && queues.is_empty();
        self.route_from_hub(account, on, from, &message, |queue| any || queues.contains(queue), now).cost
    }
}

fn parcel(parcels: &mut Vec<Parcel>, hub: ConnId) -> &mut Vec<Box<[u8]>> {
    let at = parcels.iter().position(|(known, _)| *known == hub).unwrap_or_else(|| {
        parcels.push((hub, Vec::new()));
        parcels.len() - 1
    });
    &mut parcels[at].1
}
