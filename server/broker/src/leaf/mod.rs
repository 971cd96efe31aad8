//! The hubs that this server hangs below, as the router sees them: subscribers that want a message once.
//!
//! ```text
//!   SUB, UNSUB here ──> Interest ── LS+, LS- ──> hub
//!   hub ── LS+ ──> a subscription whose target is the hub ── a message here ── LMSG ──> hub      route
//!   hub ── LMSG ──> subscribers here, and of each named queue group one                           route
//! ```
//!
//! What a hub wants is in the router like everybody's subscriptions, but behind targets: publishing costs those who have
//! no hub nothing, and one look for each target found to those who have. A hub's connection has a stage and an outbox like
//! all others; nobody waits for it, and what it has no room for is dropped and counted.

mod route;
mod session;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use midge_leaf::{Change, Credentials, Fault, Hub, Identity, Interest, LOOP_PREFIX, Link, Rules as HubRules};
use midge_protocol::emit;
use midge_protocol::op::LeafSub;
use midge_protocol::subject::{Filter, is_word};
use midge_router::SubId;
use smol_str::SmolStr;

use crate::account::target::Target;
use crate::account::{Account, AccountId};
use crate::auth::{Held, Permit, Rules, Way};
use crate::broker::{Broker, MEMORY_BUDGET, Now};
use crate::closed::CloseReason;
use crate::conn::{Conn, ConnId, Peer, Port};
use crate::notice::Level;
use crate::session::Session;

pub(crate) use session::receive;

/// How long a hub may take to answer CONNECT. Source: nats-server's `leafnode.go`.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a hub may take to say who it is, where the driver didn't wait for that.
const INFO: Duration = Duration::from_secs(10);
/// Subjects of streams that don't cross: each side has its own. Source: nats-server's `denyAllClientJs`.
const STREAMS: [&str; 3] = ["$JS.API.>", "$KV.>", "$OBJ.>"];
/// The same between system accounts.
const STREAMS_OF_SYSTEM: [&str; 5] = ["$JS.API.>", "$KV.>", "$OBJ.>", "$JSC.>", "$NRG.>"];

/// What a connection to a hub is to be.
#[derive(Clone)]
pub struct Uplink {
    /// The account here whose messages cross.
    pub account: SmolStr,
    /// Who this server is.
    pub identity: Identity,
    /// What it says to be let in.
    pub credentials: Credentials,
    /// Subjects that do not cross inwards.
    pub deny_imports: Vec<String>,
    /// Subjects that do not cross outwards.
    pub deny_exports: Vec<String>,
}

/// How a connection to a hub has gone.
#[derive(Clone, Debug, Default)]
pub struct Parting {
    /// The hub had taken this server in.
    pub was_up: bool,
    /// How long to leave the hub alone, at least.
    pub wait: Option<Duration>,
    /// Where else the hub is, `host:port`.
    pub urls: Vec<String>,
}

/// A connection to a hub, for those who look.
#[derive(Clone, Copy, Debug)]
pub struct UplinkInfo<'a> {
    /// What the hub calls itself.
    pub name: &'a str,
    /// Subjects and queue groups that the hub wants.
    pub subscriptions: usize,
    /// Messages that it had no room for.
    pub dropped: u64,
}

/// A subscription of a hub's.
#[derive(Debug)]
pub(crate) struct HubSub {
    pub(crate) conn: ConnId,
    pub(crate) queue: Option<Box<[u8]>>,
    /// Members of the queue group there.
    pub(crate) weight: u32,
}

/// All connections to hubs.
#[derive(Default)]
pub(crate) struct Uplinks {
    all: BTreeMap<u32, Box<State>>,
    /// What each account asks for to find loops.
    loops: HashMap<SmolStr, Vec<u8>>,
}

struct State {
    link: Link,
    settings: Uplink,
    interest: Interest,
    /// What the hub wants, by subject and queue group.
    theirs: HashMap<Box<[u8]>, SubId>,
    /// Sources of mappings that count as interest.
    mapped: Vec<String>,
    fault: Option<Fault>,
    dropped: u64,
}

impl Uplinks {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn has(&self, id: ConnId) -> bool {
        self.all.contains_key(&id.0)
    }

    fn get(&self, id: ConnId) -> Option<&State> {
        self.all.get(&id.0).map(|state| &**state)
    }

    fn get_mut(&mut self, id: ConnId) -> Option<&mut State> {
        self.all.get_mut(&id.0).map(|state| &mut **state)
    }
}

impl<P: Port> Broker<P> {
    /// A connection to a hub was made. Its first input must be the hub's INFO.
    pub fn join(&mut self, port: P, peer: Peer, uplink: Uplink, now: Now) -> Session {
        let id = self.seat(port, peer, Way::Hub, now);
        let account = self.account_or_new(&uplink.account);
        if let Some(conn) = self.conn_mut(id) {
            // It is no client, and counts as none.
            let counted = std::mem::replace(&mut conn.account, account);
            conn.echo = false;
            conn.connected = true;
            conn.until.set(Some(now.mono + INFO));
            self.accounts[counted.index()].connections -= 1;
            self.open -= 1;
            self.stats.total_connections -= 1;
        }
        self.rearm(id);
        let subject = match self.uplinks.loops.get(&uplink.account) {
            Some(subject) => subject.clone(),
            None => {
                let subject = [LOOP_PREFIX, self.secret.event_id().as_bytes()].concat();
                self.uplinks.loops.insert(uplink.account.clone(), subject.clone());
                subject
            }
        };
        let Uplink { identity, credentials, deny_imports, .. } = &uplink;
        let (identity, denied) = (identity.clone(), deny_imports.clone());
        let link = Link::new(identity, credentials.clone(), uplink.account.to_string(), denied, subject);
        let state = State {
            link,
            settings: uplink,
            interest: Interest::default(),
            theirs: HashMap::new(),
            mapped: Vec::new(),
            fault: None,
            dropped: 0,
        };
        self.uplinks.all.insert(id.0, Box::new(state));
        Session::to_hub(id)
    }

    /// How a connection to a hub has gone so far.
    pub fn parting(&self, id: ConnId) -> Parting {
        let Some(state) = self.uplinks.get(id) else { return Parting::default() };
        Parting {
            was_up: state.link.is_up(),
            wait: state.fault.as_ref().and_then(Fault::wait),
            urls: state.link.hub().leafnode_urls.clone().unwrap_or_default(),
        }
    }

    /// The connections to hubs that took this server in.
    pub fn uplinks(&self) -> impl Iterator<Item = (ConnId, &Conn<P>, UplinkInfo<'_>)> {
        self.uplinks.all.iter().filter(|(_, state)| state.link.is_up()).filter_map(|(slot, state)| {
            let id = ConnId(*slot);
            let info = UplinkInfo {
                name: state.link.hub().name(),
                subscriptions: state.theirs.len(),
                dropped: state.dropped,
            };
            Some((id, self.conn(id).filter(|conn| conn.is_open())?, info))
        })
    }

    /// What a hub subscribes to, as it said it, with the queue group.
    pub fn uplink_subscriptions(&self, id: ConnId) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        self.uplinks.get(id).into_iter().flat_map(|state| state.theirs.keys()).map(|key| {
            let mut parts = key.splitn(2, |byte| *byte == b' ').map(<[u8]>::to_vec);
            (parts.next().unwrap_or_default(), parts.next())
        })
    }

    /// Ends a connection that its driver no longer wants.
    pub fn leave(&mut self, id: ConnId, now: Now) {
        self.close(id, CloseReason::ServerShutdown, now);
    }

    /// What [`Broker::tick`] does about a hub that owes an answer to CONNECT. False if that isn't it.
    pub(crate) fn hub_is_overdue(&mut self, id: ConnId, now: Now) -> bool {
        let Some(state) = self.uplinks.get_mut(id) else { return false };
        let up = state.link.overdue();
        if let Some(conn) = self.conn_mut(id) {
            conn.until.set(None);
        }
        if up {
            self.hub_is_up(id, now);
        } else {
            self.note(id, Level::Error, "the hub doesn't say who it is");
            self.close(id, CloseReason::AuthenticationTimeout, now);
        }
        true
    }

    /// The hub took this server in: it hears what is wanted here.
    fn hub_is_up(&mut self, id: ConnId, now: Now) {
        let Some(account) = self.conn(id).map(|conn| conn.account) else { return };
        self.permit_hub(id);
        if let Some(conn) = self.conn_mut(id) {
            conn.until.set(None);
        }
        let here = &mut self.accounts[account.index()];
        let mut subs: Vec<_> = here.subs.iter().map(|sub| (sub.id(), sub.conn())).collect();
        subs.retain(|(_, conn)| !matches!(here.targets.get(*conn), Some(Target::Hub(_))));
        let Some(state) = self.uplinks.get_mut(id) else { return };
        let (mut subject, mut queue) = (Vec::new(), Vec::new());
        for (sub, _) in subs {
            subject.clear();
            queue.clear();
            if here.router.filter_of(sub, &mut subject) {
                let queue = here.router.queue_of(sub, &mut queue).then_some(&*queue);
                state.interest.add(&subject, queue);
            }
        }
        state.mapped = here.mappings.iter().map(|mapping| mapping.source().to_owned()).collect();
        for source in &state.mapped {
            state.interest.add(source.as_bytes(), None);
        }
        here.watches.links.push(id);
        here.leafnodes += 1;
        let all = state.wanted();
        let own = state.link.loop_subject().to_vec();
        self.stage(id, |out| emit::leaf_sub(out, &own, None));
        for Wanted { subject, queue } in &all {
            let queue = queue.as_ref().map(|(queue, weight)| (&**queue, *weight));
            self.announce_to_hub(id, subject, queue);
        }
        // Loops may lead through other hubs of this account.
        let others: Vec<_> = self.uplinks_beside(id).collect();
        for other in others {
            let loops: Vec<_> = self.uplinks.get(other).into_iter().flat_map(State::foreign_loops).collect();
            for subject in loops {
                self.stage(id, |out| emit::leaf_sub(out, &subject, None));
            }
        }
        let name = self.accounts[account.index()].name.clone();
        self.note(id, Level::Info, format_args!("Leafnode connection created for account: {name}"));
        self.event_connections(account, now);
    }

    /// What may cross to and from a hub.
    fn permit_hub(&mut self, id: ConnId) {
        let system = self.system_account;
        let Some(account) = self.conn(id).map(|conn| conn.account) else { return };
        let Some(state) = self.uplinks.get(id) else { return };
        let Hub { import, export, domain: theirs, headers, .. } = state.link.hub();
        let (headers, settings) = (*headers, &state.settings);
        let streams = if system == Some(account) { &STREAMS_OF_SYSTEM[..] } else { &STREAMS };
        let own = &settings.identity.domain;
        // Requests for streams here don't leave.
        let own = (!own.is_empty() && own != theirs).then(|| format!("$JS.{own}.API.>"));
        let rules = |rules: &Option<HubRules>, denied: &[String], own: Option<&String>| {
            let (allow, deny) = rules.as_ref().map_or((&None, &None), |rules| (&rules.allow, &rules.deny));
            let deny = deny.iter().flatten().chain(denied).chain(own).map(String::as_str);
            let allow = allow.as_ref().map(|allow| allow.iter().map(String::as_str));
            Rules::new(allow, deny.chain(streams.iter().copied()))
        };
        let publish = rules(export, &settings.deny_exports, own.as_ref());
        let subscribe = rules(import, &settings.deny_imports, None);
        let permit = Permit::new(publish, subscribe, None);
        let supported = self.settings.headers;
        if let Some(conn) = self.conn_mut(id) {
            conn.permit = Some(Box::new(Held::new(Arc::new(permit))));
            conn.headers = headers && supported;
        }
    }

    /// The hub lets through something else: what it may hear of now is announced, what it may not is withdrawn.
    fn hub_has_changed(&mut self, id: ConnId) {
        let Some(state) = self.uplinks.get(id).filter(|state| state.link.is_up()) else { return };
        let all = state.wanted();
        let old = self.conn(id).and_then(|conn| conn.permit().cloned());
        self.permit_hub(id);
        let new = self.conn(id).and_then(|conn| conn.permit().cloned());
        for Wanted { subject, queue } in &all {
            let queue = queue.as_ref().map(|(queue, weight)| (&**queue, *weight));
            let name = queue.map(|(queue, _)| queue);
            let may = |permit: &Option<Arc<Permit>>| {
                permit.as_ref().is_none_or(|it| it.may_subscribe(subject, name))
            };
            match (may(&old), may(&new)) {
                (false, true) => self.announce_to_hub(id, subject, queue),
                (true, false) => self.stage(id, |out| emit::leaf_unsub(out, subject, name)),
                _ => {}
            }
        }
    }

    /// LS+, if the hub lets such messages through.
    fn announce_to_hub(&mut self, id: ConnId, subject: &[u8], queue: Option<(&[u8], u32)>) {
        let permit = self.conn(id).and_then(|conn| conn.permit.as_deref());
        let name = queue.map(|(queue, _)| queue);
        if permit.is_none_or(|permit| permit.may_subscribe(subject, name)) {
            self.stage(id, |out| emit::leaf_sub(out, subject, queue));
        }
    }

    /// A subscription here came or went.
    #[cold]
    pub(crate) fn heed_uplinks(
        &mut self,
        account: AccountId,
        subject: &[u8],
        queue: Option<&[u8]>,
        came: bool,
    ) {
        for id in self.accounts[account.index()].watches.links.clone() {
            let Some(state) = self.uplinks.get_mut(id) else { continue };
            let interest = &mut state.interest;
            let change = if came { interest.add(subject, queue) } else { interest.remove(subject, queue) };
            self.tell_hub(id, subject, queue, change);
        }
    }

    fn tell_hub(&mut self, id: ConnId, subject: &[u8], queue: Option<&[u8]>, change: Change) {
        match change {
            Change::None => {}
            Change::Announce(weight) => self.announce_to_hub(id, subject, queue.map(|queue| (queue, weight))),
            Change::Withdraw => {
                let permit = self.conn(id).and_then(|conn| conn.permit.as_deref());
                if permit.is_none_or(|permit| permit.may_subscribe(subject, queue)) {
                    self.stage(id, |out| emit::leaf_unsub(out, subject, queue));
                }
            }
        }
    }

    /// Mappings may have changed.
    pub(crate) fn refresh_uplinks(&mut self) {
        let ids: Vec<_> = self.uplinks.all.keys().map(|slot| ConnId(*slot)).collect();
        for id in ids {
            let Some(account) = self.conn(id).map(|conn| conn.account) else { continue };
            let mappings = self.accounts[account.index()].mappings.iter();
            let new: Vec<String> = mappings.map(|mapping| mapping.source().to_owned()).collect();
            let Some(state) = self.uplinks.get_mut(id).filter(|state| state.link.is_up()) else { continue };
            let old = std::mem::replace(&mut state.mapped, new.clone());
            let mut changes = Vec::new();
            for source in new {
                changes.push((state.interest.add(source.as_bytes(), None), source));
            }
            for source in old {
                changes.push((state.interest.remove(source.as_bytes(), None), source));
            }
            for (change, source) in changes {
                self.tell_hub(id, source.as_bytes(), None, change);
            }
        }
    }

    /// The hub wants messages.
    fn hub_wants(&mut self, id: ConnId, sub: LeafSub<'_>, now: Now) {
        let LeafSub { subject, queue } = sub;
        let Some(account) = self.conn(id).map(|conn| conn.account) else { return };
        let name = queue.map(|(queue, _)| queue);
        let key = hub_key(subject, name);
        let Some(state) = self.uplinks.get(id) else { return };
        if let Some(known) = state.theirs.get(&key).copied() {
            // A queue group has another number of members.
            let Account { subs, targets, .. } = &mut self.accounts[account.index()];
            if let Some((_, weight)) = queue
                && let Some(Target::Hub(hub)) = subs.get(known).and_then(|sub| targets.get_mut(sub.conn()))
            {
                hub.weight = weight;
            }
            return;
        }
        if Filter::new(subject).is_err() || !name.is_none_or(is_word) {
            return self.stage_err(id, "Invalid Subscription");
        }
        if !self.budget.admits(1) {
            self.note(id, Level::Error, MEMORY_BUDGET);
            return self.fail(id, MEMORY_BUDGET, CloseReason::MemoryBudget, now);
        }
        let weight = queue.map_or(1, |(_, weight)| weight);
        let hub = HubSub { conn: id, queue: name.map(Box::from), weight };
        let Some(sub) = self.insert_hub_target(account, subject, hub) else { return };
        if let Some(state) = self.uplinks.get_mut(id) {
            state.theirs.insert(key, sub);
        }
        if subject.starts_with(LOOP_PREFIX) {
            let others: Vec<_> = self.uplinks_beside(id).collect();
            for other in others {
                self.stage(other, |out| emit::leaf_sub(out, subject, None));
            }
        }
        if self.system_account == Some(account) {
            self.heed_events(now);
        }
    }

    /// The hub wants no more of them.
    fn hub_is_done(&mut self, id: ConnId, subject: &[u8], queue: Option<&[u8]>) {
        let Some(account) = self.conn(id).map(|conn| conn.account) else { return };
        let Some(state) = self.uplinks.get_mut(id) else { return };
        let Some(sub) = state.theirs.remove(&hub_key(subject, queue)) else { return };
        if state.theirs.capacity() > 64 && state.theirs.len() < state.theirs.capacity() / 8 {
            state.theirs.shrink_to(state.theirs.len() * 2);
        }
        self.remove_target(account, sub);
        if subject.starts_with(LOOP_PREFIX) {
            let others: Vec<_> = self.uplinks_beside(id).collect();
            for other in others {
                self.stage(other, |out| emit::leaf_unsub(out, subject, None));
            }
        }
    }

    /// Other hubs of the same account, that are up and of other clusters.
    fn uplinks_beside(&self, id: ConnId) -> impl Iterator<Item = ConnId> {
        let account = self.conn(id).map(|conn| conn.account);
        let cluster = self.uplinks.get(id).map(|state| state.link.hub().cluster.as_str()).unwrap_or_default();
        self.uplinks.all.iter().filter_map(move |(slot, state)| {
            let other = ConnId(*slot);
            let theirs = state.link.hub().cluster.as_str();
            let beside = other != id
                && state.link.is_up()
                && (cluster.is_empty() || cluster != theirs)
                && self.conn(other).map(|conn| conn.account) == account;
            beside.then_some(other)
        })
    }

    /// What closing a hub's connection takes besides what all take.
    pub(crate) fn hub_has_gone(&mut self, id: ConnId, reason: CloseReason) {
        let Some(account) = self.conn(id).map(|conn| conn.account) else { return };
        let Some(state) = self.uplinks.get_mut(id) else { return };
        let (subs, was_up) = (std::mem::take(&mut state.theirs), state.link.is_up());
        state.interest = Interest::default();
        for sub in subs.into_values() {
            self.remove_target(account, sub);
        }
        let here = &mut self.accounts[account.index()];
        here.leafnodes -= u32::from(was_up);
        here.watches.links.retain(|link| *link != id);
        let name = here.name.clone();
        let level = if was_up { Level::Info } else { Level::Debug };
        self.note(
            id,
            level,
            format_args!("Leafnode connection closed: {} - Account: {name}", reason.as_str()),
        );
    }

    /// Its place is somebody else's from now on.
    pub(crate) fn forget_hub(&mut self, id: ConnId) {
        self.uplinks.all.remove(&id.0);
    }

    fn insert_hub_target(&mut self, account_id: AccountId, filter: &[u8], hub: HubSub) -> Option<SubId> {
        let account = self.accounts.get_mut(account_id.index())?;
        let id = account.router.insert(Filter::new(filter).ok()?, None).ok()?;
        let target = account.targets.insert(Target::Hub(Box::new(hub)));
        account.subs.insert_target(id, target);
        if !account.watches.is_empty() {
            self.heed_watches(account_id, filter, true);
        }
        Some(id)
    }
}

/// What subscriptions here ask for.
struct Wanted {
    subject: Box<[u8]>,
    /// The queue group, and its members.
    queue: Option<(Box<[u8]>, u32)>,
}

impl State {
    /// All that is wanted here.
    fn wanted(&self) -> Vec<Wanted> {
        let wanted = |(subject, queue): (&[u8], Option<(&[u8], u32)>)| Wanted {
            subject: subject.into(),
            queue: queue.map(|(queue, weight)| (queue.into(), weight)),
        };
        self.interest.iter().map(wanted).collect()
    }

    /// What other servers ask for to find loops.
    fn foreign_loops(&self) -> impl Iterator<Item = Vec<u8>> {
        self.theirs.keys().filter(|key| key.starts_with(LOOP_PREFIX)).map(|key| key.to_vec())
    }
}

fn hub_key(subject: &[u8], queue: Option<&[u8]>) -> Box<[u8]> {
    match queue {
        None => subject.into(),
        Some(queue) => [subject, b" ", queue].concat().into(),
    }
}

/// What passes whatever the permissions say: the ways back of servers and acknowledgements.
fn is_way_back(subject: &[u8]) -> bool {
    subject.starts_with(b"_R_.") || subject.starts_with(b"$JS.ACK.")
}
