//! Subscriptions of connections: how they come, change and go.

use midge_protocol::error::Violation;
use midge_protocol::subject::{Filter, is_literal};
use midge_router::SubId;

use crate::account::target::Target;
use crate::account::{Account, AccountId};
use crate::broker::{Broker, Now};
use crate::conn::{ConnId, Port, at};
use crate::inside::Inside;
use crate::notice::Level;
use crate::subs::Sub;

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

impl<P: Port> Broker<P> {
    /// Adds a subscription. A sid that is in use keeps what it has.
    pub(crate) fn subscribe(
        &mut self,
        id: ConnId,
        subject: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
        now: Now,
    ) -> Subscribed {
        let Some(conn) = at(&mut self.conns, id) else {
            return Subscribed::Ok;
        };
        let account = conn.account;
        let Account { router, subs, ties, watches, .. } = &mut self.accounts[account.index()];
        if subs.find(id, sid).is_some() {
            return Subscribed::Ok;
        }
        let Ok(filter) = Filter::new(subject) else { return Subscribed::InvalidSubject };
        let Ok(sub) = router.insert(filter, queue) else { return Subscribed::Full };
        let watched = !watches.is_empty();
        subs.insert(sub, id, sid, &mut conn.subs);
        if conn.permit.as_ref().is_some_and(|permit| permit.must_filter(subject, queue)) {
            subs.get_mut(sub).into_iter().for_each(|(sub, _)| sub.set_filtered(true));
            if let Some(queue) = queue {
                conn.filtered_queues.get_or_insert_default().insert(sub, queue.into());
            }
        }
        if !ties.streams.is_empty() {
            self.add_shadows(account, sub, now);
        }
        if self.system_account == Some(account) {
            self.heed_events(now);
        }
        if watched {
            self.heed_interest(account, subject, queue, true);
        }
        Subscribed::Ok
    }

    /// Ends the subscriptions that a connection's new permissions don't allow, and names them.
    pub(crate) fn recheck_subscriptions(&mut self, id: ConnId, now: Now) {
        let Some(conn) = at(&mut self.conns, id) else { return };
        let account = conn.account;
        let Account { router, subs, .. } = &mut self.accounts[account.index()];
        let held: Vec<_> = subs.of(&conn.subs).map(|sub| sub.id()).collect();
        conn.filtered_queues = None;
        let mut refused = Vec::new();
        let mut shadowed = Vec::new();
        for sub in held {
            let (mut subject, mut name) = (Vec::new(), Vec::new());
            router.filter_of(sub, &mut subject);
            let queue = router.queue_of(sub, &mut name).then_some(name);
            let permit = conn.permit.as_deref();
            if permit.is_none_or(|permit| permit.may_subscribe(&subject, queue.as_deref())) {
                let filtered = permit.is_some_and(|permit| permit.must_filter(&subject, queue.as_deref()));
                subs.get_mut(sub).into_iter().for_each(|(sub, _)| sub.set_filtered(filtered));
                if let Some(queue) = queue.filter(|_| filtered) {
                    conn.filtered_queues.get_or_insert_default().insert(sub, queue.into());
                }
                shadowed.push((sub, filtered));
            } else {
                let sid: Box<[u8]> = subs.get(sub).map(|sub| sub.sid().into()).unwrap_or_default();
                refused.push((subject, queue, sub, sid));
            }
        }
        for (sub, filtered) in shadowed {
            self.filter_shadows(account, sub, filtered);
        }
        for (subject, queue, sub, sid) in refused {
            self.forget(account, sub, now);
            let queue = queue.as_deref();
            let removed = Violation::Removed { subject: &subject, queue, sid: &sid };
            self.note(id, Level::Info, format_args!("Removed sub: {removed}"));
            self.stage_err(id, removed);
        }
    }

    /// Ends a subscription, or bounds it to `max` deliveries since it began. False if there is none.
    pub(crate) fn unsubscribe(&mut self, id: ConnId, sid: &[u8], max: Option<u32>, now: Now) -> bool {
        let Some(conn) = at(&mut self.conns, id) else {
            return false;
        };
        let account = conn.account;
        let Account { subs, .. } = &mut self.accounts[account.index()];
        let Some(found) = subs.find(id, sid) else { return false };
        match (max, subs.get_mut(found)) {
            (Some(max), Some((sub, _))) if u64::from(max) > sub.delivered => sub.max = max,
            _ => self.forget(account, found, now),
        }
        true
    }

    /// Ends all subscriptions of a connection.
    pub(crate) fn drop_subscriptions(&mut self, id: ConnId, now: Now) {
        let Some(conn) = at(&mut self.conns, id) else { return };
        conn.filtered_queues = None;
        let account = conn.account;
        while let Some(conn) = at(&mut self.conns, id)
            && let Some(sub) = self.accounts[account.index()].subs.first(&conn.subs)
        {
            self.forget(account, sub, now);
        }
    }

    /// Ends a connection's subscription, and what hangs on it.
    pub(crate) fn forget(&mut self, account: AccountId, sub: SubId, now: Now) {
        let Account { router, subs, shadows, awaited, watches, .. } = &mut self.accounts[account.index()];
        let Some(conn) = subs.get(sub).and_then(|sub| at(&mut self.conns, sub.conn())) else { return };
        let (mut subject, mut queue) = (Vec::new(), Vec::new());
        let (awaits, watched) = (!awaited.is_empty(), !watches.is_empty());
        let known = (awaits || watched) && router.filter_of(sub, &mut subject);
        let queued = watched && router.queue_of(sub, &mut queue);
        let has_shadows = !shadows.is_empty();
        router.remove(sub);
        subs.remove(sub, &mut conn.subs);
        if let Some(queues) = &mut conn.filtered_queues {
            queues.remove(&sub);
        }
        if has_shadows {
            self.remove_shadows(account, sub);
        }
        if watched && known {
            self.heed_interest(account, &subject, queued.then_some(&*queue), false);
        }
        if awaits && known {
            self.end_awaited(account, &subject, now);
        }
    }

    /// A subscription that awaited answers has ended: so do the requests that nobody awaits any more.
    #[cold]
    fn end_awaited(&mut self, account: AccountId, filter: &[u8], now: Now) {
        let awaited = &self.accounts[account.index()].awaited;
        let found = if is_literal(filter) { awaited.with(filter) } else { awaited.some(LOOKED_AT) };
        let Ok(filter) = Filter::new(filter) else { return };
        for (exporter, number) in found {
            let answer = self.accounts.get(exporter.index()).and_then(|it| it.answers.get(number));
            let Some(to) = answer.map(|answer| &answer.to).filter(|to| filter.matches(to)).cloned() else {
                continue;
            };
            if !self.accounts[account.index()].hears(&to) {
                self.close_answer(exporter, number, crate::account::service::Lost::Interest, now);
            }
        }
    }

    /// Those inside the daemon that also take what the account imports.
    pub(crate) fn inside_subs(&self, account: AccountId) -> Vec<(SubId, Inside)> {
        let Account { subs, targets, with_imports, .. } = &self.accounts[account.index()];
        let inside = |sub: &SubId| match targets.get(subs.get(*sub)?.conn())? {
            Target::Inside(inside) => Some((*sub, *inside)),
            _ => None,
        };
        with_imports.iter().filter_map(inside).collect()
    }

    /// All subscriptions of an account's connections.
    pub(crate) fn connections_subs(&self, account: AccountId) -> Vec<SubId> {
        let subs = self.accounts[account.index()].subs.iter();
        subs.filter(|sub| sub.conn().target().is_none()).map(|sub: Sub<'_>| sub.id()).collect()
    }
}

/// Open requests that are looked at when a subscription with wildcards ends; more end by their time.
const LOOKED_AT: usize = 1024;
