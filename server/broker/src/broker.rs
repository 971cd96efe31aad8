//! All shared state of the daemon, behind one lock that its driver holds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use midge_protocol::emit::{self, Sink};
use midge_protocol::error;
use midge_protocol::info::Info;
use midge_protocol::json::Texts;
use midge_protocol::time::Instant;
use smol_str::SmolStr;

use crate::account::{Account, AccountId, GLOBAL_ACCOUNT};
use crate::alarm::Alarm;
use crate::auth::{Held, Identity, Permit, Way};
use crate::backoff::Failures;
use crate::budget::Budget;
use crate::closed::{CloseReason, ClosedConn};
use crate::conn::{Conn, ConnId, Counters, Maybe, Peer, Port, at};
use crate::inside::Mail;
use crate::leaf::Uplinks;
use crate::notice::{Level, Noted, Notice};
use crate::outbox::Stage;
use crate::rate::Meter;
use crate::replies::Replies;
use crate::settings::Settings;
use crate::subs::SubList;
use crate::system::System;
use crate::tokens::Secret;
use crate::trace::Traces;

/// The time, twice: for measuring and for showing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// For timers; never goes back.
    pub mono: Instant,
    /// Since the Unix epoch; may jump.
    pub wall: Duration,
}

/// What was refused because it was over a ceiling or not allowed, in times; for want of memory, see
/// [`Broker::memory_refusals`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Connections over `max_connections`, the server's or an account's.
    pub connections: u64,
    /// Connections that didn't agree on keys.
    pub handshakes: u64,
    /// Connections with wrong credentials, or without any for too long.
    pub credentials: u64,
    /// Subscriptions over `max_subscriptions`.
    pub subscriptions: u64,
    /// Subscriptions with more tokens than `max_sub_tokens`.
    pub tokens: u64,
    /// Control lines over `max_control_line`.
    pub control_lines: u64,
    /// Messages over `max_payload`.
    pub payloads: u64,
    /// Publications and subscriptions that are not permitted.
    pub permissions: u64,
}

/// Figures of the whole daemon.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Messages and bytes.
    pub counters: Counters,
    /// Connections since the start.
    pub total_connections: u64,
    /// Connections that were closed because they read too slowly.
    pub slow_consumers: u64,
    /// Connections that were closed because they didn't answer pings.
    pub stale_connections: u64,
    /// Times that a publisher was slowed down.
    pub stalls: u64,
    /// Requests to services of other accounts that were forgotten because too many were open.
    pub answers_dropped: u64,
    /// Times that a user was held to its rate.
    pub pauses: u64,
    /// What was refused.
    pub refusals: Refusals,
}

/// The shared core. `P` is the driver's handle on a connection.
pub struct Broker<P> {
    pub(crate) settings: Settings,
    pub(crate) accounts: Vec<Account>,
    pub(crate) conns: Vec<Option<Box<Conn<P>>>>,
    free: Vec<u32>,
    pub(crate) open: u32,
    next_cid: u64,
    /// Connections with output or an end that the driver doesn't know of yet.
    pub(crate) dirty: Vec<ConnId>,
    /// The earliest deadline of each connection; stale entries are skipped.
    timers: BinaryHeap<Reverse<(Instant, u32, u64)>>,
    closed: VecDeque<ClosedConn>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) stats: Stats,
    pub(crate) budget: Budget,
    /// What users have published lately, by name.
    pub(crate) meters: HashMap<SmolStr, Meter>,
    /// When this turn began.
    pub(crate) turn: Instant,
    pub(crate) random: Random,
    pub(crate) secret: Secret,
    lame_duck: bool,
    /// What is due besides connections' deadlines.
    pub(crate) alarms: BinaryHeap<Reverse<(Instant, Alarm)>>,
    /// The server's own account, if it has one.
    pub(crate) system_account: Option<AccountId>,
    pub(crate) system: System,
    pub(crate) mail: Mail,
    pub(crate) traces: Traces,
    /// Addresses from which logins fail.
    pub(crate) failures: Failures,
    /// When [`Alarm::AccountTimes`] is due next.
    pub(crate) account_times: Option<Instant>,
    /// The accounts that are tied by imports, in the order of the settings.
    pub(crate) ties_of: Vec<AccountId>,
    /// Accounts that there ever were.
    pub(crate) births: u64,
    /// See [`Broker::accounts_version`].
    pub(crate) accounts_version: u64,
    /// Connections to hubs.
    pub(crate) uplinks: Uplinks,
}

/// Somebody whom a publisher should wait for.
#[derive(Debug)]
pub struct Stall<P> {
    /// The connection that lags behind.
    pub port: P,
    /// Wait until fewer bytes than this are pending for it …
    pub below: usize,
    /// … but not longer than this.
    pub longest: Duration,
}

/// Longest wait for a subscriber that is nearly full, per turn. Source: nats-server's stall.
const STALL: Duration = Duration::from_millis(10);
/// With more bytes than this pending, a subscriber lags behind. Its queue still has room, but memory that is used again
/// soon is as fast and stays little: with 64 KiB bodies the daemon peaks at 5 MB instead of 25.
const LAGGING: usize = 512 * 1024;
/// Longest wait for a subscriber that lags behind, per turn. It holds nobody's publisher below 128 MB/s.
const PAUSE: Duration = Duration::from_millis(1);

/// The -ERR of midge's own for what no memory is left for.
pub(crate) const MEMORY_BUDGET: &str = "Memory Budget Exceeded";

/// The time that a client's first ping waits at most, however long `ping_interval` is.
const FIRST_PING: Duration = Duration::from_secs(2);
/// A round trip is measured again after this time.
const RTT_AGE: Duration = Duration::from_secs(3600);
/// Bytes that remembering one ended connection costs, about.
const CLOSED_BYTES: usize = size_of::<ClosedConn>() + 32;
/// Ended connections are remembered up to this many bytes, whatever `max_closed` says.
const CLOSED_BYTES_MAX: usize = 1024 * 1024;

impl<P: Port> Broker<P> {
    /// An empty broker. `seed` decides which member of a queue group gets a message, and what the subjects are that the
    /// broker makes up: nobody should be able to guess it.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let mut broker = Self {
            settings: Settings::default(),
            accounts: vec![Account::new(SmolStr::new_static(GLOBAL_ACCOUNT))],
            conns: Vec::new(),
            free: Vec::new(),
            open: 0,
            next_cid: 1,
            dirty: Vec::new(),
            timers: BinaryHeap::new(),
            closed: VecDeque::new(),
            notices: Vec::new(),
            stats: Stats::default(),
            budget: Budget::new(u64::MAX),
            meters: HashMap::new(),
            turn: Instant::default(),
            random: Random(seed | 1),
            secret: Secret::new(seed),
            lame_duck: false,
            alarms: BinaryHeap::new(),
            system_account: None,
            system: System::default(),
            mail: Mail::default(),
            traces: Traces::default(),
            failures: Failures::default(),
            account_times: None,
            ties_of: Vec::new(),
            births: 0,
            accounts_version: 0,
            uplinks: Uplinks::default(),
        };
        broker.install(settings, Now::default());
        broker
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Lets a connection in, or, over `max_connections`, tells it why not. INFO is staged.
    pub fn attach(&mut self, port: P, peer: Peer, now: Now) -> ConnId {
        let id = self.seat(port, peer, Way::Plain, now);
        self.stage_info(id, false);
        self.welcome(id, now);
        id
    }

    /// Gives a connection its place.
    pub(crate) fn seat(&mut self, port: P, peer: Peer, way: Way, now: Now) -> ConnId {
        let cid = self.next_cid;
        self.next_cid += 1;
        self.stats.total_connections += 1;
        let account = self.account_or_new(&self.settings.directory.default_account.clone());
        let directory = &self.settings.directory;
        let must_connect = directory.asks(way) && directory.on_line(&peer.host).is_none();
        let max_payload = directory.line_payload_max(&peer.host).unwrap_or(u32::MAX);
        let conn = Box::new(Conn {
            port,
            cid,
            peer,
            account,
            stage: Stage::default(),
            queued: 0,
            dirty: false,
            closing: None,
            subs: SubList::default(),
            counters: Counters::default(),
            stalls: 0,
            echo: true,
            headers: false,
            no_responders: false,
            async_info: false,
            greeted: false,
            connected: false,
            unasked: false,
            max_payload: self.settings.max_payload.min(max_payload),
            max_subs: self.settings.max_subscriptions,
            permit: None,
            meter: self.meter(&SmolStr::default()),
            noted: Noted::default(),
            replies: None,
            filtered_queues: None,
            name: SmolStr::default(),
            lang: SmolStr::default(),
            version: SmolStr::default(),
            user: SmolStr::default(),
            warrant: None,
            start: now.mono,
            start_wall_us: u64::try_from(now.wall.as_micros()).unwrap_or(u64::MAX),
            last: now.mono,
            last_in: now.mono,
            rtt_ns: 0,
            ping_sent: Maybe::default(),
            pings_out: 0,
            ping_at: now.mono + self.settings.ping_interval_of(way),
            until: must_connect.then(|| now.mono + self.settings.auth_timeout_of(way)).into(),
            way,
            tls: None,
        });
        let deadline = conn.deadline();
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.conns.push(None);
                u32::try_from(self.conns.len() - 1)
                    .expect("connections have file descriptors, which are 32 bits")
            }
        };
        self.conns[slot as usize] = Some(conn);
        self.accounts[account.index()].connections += 1;
        self.open += 1;
        let id = ConnId(slot);
        self.timers.push(Reverse((deadline, slot, cid)));
        id
    }

    /// What a new connection's INFO is followed by.
    pub(crate) fn welcome(&mut self, id: ConnId, now: Now) {
        if self.settings.debug {
            self.note(id, Level::Debug, "Client connection created");
        }
        if !self.budget.admits(1) {
            self.note(id, Level::Error, MEMORY_BUDGET);
            self.fail(id, MEMORY_BUDGET, CloseReason::MemoryBudget, now);
        } else if self.settings.max_connections.is_some_and(|max| self.open > max) {
            self.note(id, Level::Error, error::MAX_CONNECTIONS);
            self.fail(id, error::MAX_CONNECTIONS, CloseReason::MaxConnections, now);
        }
    }

    /// Notes a deadline that came nearer.
    pub(crate) fn rearm(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        let entry = (conn.deadline(), id.0, conn.cid);
        self.timers.push(Reverse(entry));
    }

    /// Ends a connection's story; `reason` counts if nobody closed it before. Returns what counts. The id may be used
    /// again.
    pub fn detach(&mut self, id: ConnId, reason: CloseReason, now: Now) -> CloseReason {
        self.close(id, reason, now);
        let Some(conn) = self.conns.get_mut(id.0 as usize).and_then(Option::take) else { return reason };
        let reason = conn.closing.unwrap_or(reason);
        conn.port.outbox().close(conn.closing.is_none_or(CloseReason::flushes));
        if conn.way == Way::Hub {
            self.forget_hub(id);
        }
        self.free.push(id.0);
        self.dirty.retain(|dirty| *dirty != id);
        if self.accounts[conn.account.index()].retired {
            self.vacate();
        }
        let mut elsewhere = false;
        while self.conns.last().is_some_and(Option::is_none) {
            self.conns.pop();
            elsewhere |= self.free.pop_if(|slot| *slot as usize == self.conns.len()).is_none();
        }
        // In one go: tens of thousands of slots may be at the end, freed in any order.
        if elsewhere {
            let slots = self.conns.len();
            self.free.retain(|slot| (*slot as usize) < slots);
        }
        if self.conns.capacity() > 64 && self.conns.len() < self.conns.capacity() / 4 {
            self.conns.shrink_to(self.conns.len() * 2);
            self.free.shrink_to(self.free.len() * 2);
        }
        // Each connection has at most two timers while it begins, one later; those of ended ones are skipped when they
        // are due, unless they are many.
        if self.timers.len() > 64 + 4 * self.open as usize {
            let conns = &self.conns;
            self.timers.retain(|Reverse((_, slot, cid))| {
                conns.get(*slot as usize).and_then(Option::as_ref).is_some_and(|conn| conn.cid == *cid)
            });
            self.timers.shrink_to(self.timers.len() * 2);
        }
        reason
    }

    /// Closes a connection: it gets no more messages, its subscriptions are gone, its driver is told by the next
    /// flush. Does nothing to one that is closing already.
    pub fn close(&mut self, id: ConnId, reason: CloseReason, now: Now) {
        let Some(conn) = at(&mut self.conns, id) else { return };
        if conn.closing.is_some() {
            return;
        }
        conn.closing = Some(reason);
        if !reason.flushes() {
            conn.stage.clear();
        }
        self.bury(id, now);
    }

    /// What closing takes besides the mark.
    pub(crate) fn bury(&mut self, id: ConnId, now: Now) {
        let Some(conn) = at(&mut self.conns, id) else { return };
        let Some(reason) = conn.closing else { return };
        let is_hub = conn.way == Way::Hub;
        // One that is on its way out takes nobody's place.
        if !is_hub {
            self.open -= 1;
            self.accounts[conn.account.index()].connections -= 1;
        }
        let refusals = &mut self.stats.refusals;
        match reason {
            CloseReason::MaxConnections | CloseReason::MaxAccountConnections => refusals.connections += 1,
            CloseReason::TlsHandshake => refusals.handshakes += 1,
            CloseReason::AuthenticationFailure | CloseReason::AuthenticationTimeout => {
                refusals.credentials += 1
            }
            CloseReason::MaxControlLine => refusals.control_lines += 1,
            CloseReason::MaxPayload => refusals.payloads += 1,
            CloseReason::StaleConnection => self.stats.stale_connections += 1,
            CloseReason::SlowConsumerPending | CloseReason::SlowConsumerDeadline => {
                self.stats.slow_consumers += 1;
                self.accounts[conn.account.index()].slow_consumers += 1;
            }
            _ => {}
        }
        let subs = conn.subs.len;
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(id);
        }
        let account = conn.account;
        if is_hub {
            self.hub_has_gone(id, reason);
            return self.event_connections(account, now);
        }
        self.drop_subscriptions(id, now);
        if self.settings.debug {
            self.note(id, Level::Debug, format_args!("Client connection closed: {}", reason.as_str()));
        }
        self.remember(id, reason, subs, now);
        self.event_connections(account, now);
        self.event_disconnected(id, reason, now);
    }

    fn remember(&mut self, id: ConnId, reason: CloseReason, subs: u32, now: Now) {
        let max = self.settings.max_closed.min(CLOSED_BYTES_MAX / CLOSED_BYTES);
        while self.closed.len() >= max.max(1) {
            self.closed.pop_front();
        }
        let Some(conn) = self.conn(id).filter(|_| max > 0) else { return };
        let account = self.accounts[conn.account.index()].name.clone();
        let closed = ClosedConn {
            cid: conn.cid,
            peer: conn.peer.clone(),
            way: conn.way,
            start: conn.start_wall(),
            last: now.wall.saturating_sub(now.mono.since(conn.last)),
            stop: now.wall,
            reason,
            rtt: conn.rtt(),
            counters: conn.counters,
            subs,
            name: conn.name.clone(),
            lang: conn.lang.clone(),
            version: conn.version.clone(),
            user: conn.user.clone(),
            issuer: conn.issuer(&account).cloned().unwrap_or_default(),
            account,
            tls: conn.tls.clone(),
        };
        if self.closed.len() == self.closed.capacity() {
            // Not twice as many, which would be more than there may be.
            self.closed.reserve_exact(self.closed.len().max(16).min(max - self.closed.len()));
        }
        self.closed.push_back(closed);
    }

    /// Says -ERR with `text`, then closes.
    pub fn fail(&mut self, id: ConnId, text: &str, reason: CloseReason, now: Now) {
        self.stage_err(id, text);
        self.close(id, reason, now);
    }

    /// Moves what was staged into the outboxes and names the connections whose outboxes need a writer, each with the
    /// bytes that were added, in the order in which they should be written: whose turn it was comes last. Returns whom the
    /// publisher should wait for, if somebody lags behind.
    pub fn flush(&mut self, now: Now, mut ready: impl FnMut(&P, usize)) -> Option<Stall<P>> {
        self.publish_announced(now);
        let mut stall = None;
        let (max, nearly) = (self.max_pending(), self.stall_pending());
        // Closing a slow consumer marks it dirty again, so the list may grow while it is walked.
        let mut next = 0;
        while let Some(id) = self.dirty.get(next).copied() {
            next += 1;
            let Some(conn) = at(&mut self.conns, id) else {
                continue;
            };
            conn.dirty = false;
            let staged = conn.stage.len();
            if staged > 0 {
                conn.queued = conn.port.outbox().push(&mut conn.stage);
                // A slow hub makes nobody wait.
                if conn.queued > nearly && conn.way != Way::Hub {
                    conn.stalls = conn.stalls.saturating_add(1);
                    self.stats.stalls += 1;
                    stall = Some(Stall { port: conn.port.clone(), below: nearly, longest: STALL });
                } else if conn.queued > LAGGING && stall.is_none() && conn.way != Way::Hub {
                    stall = Some(Stall { port: conn.port.clone(), below: LAGGING, longest: PAUSE });
                }
                if conn.queued as u64 > max && conn.closing.is_none() {
                    self.note_slow(id);
                    self.close(id, CloseReason::SlowConsumerPending, now);
                    continue;
                }
            }
            if let Some(reason) = conn.closing {
                conn.port.outbox().close(reason.flushes());
            }
            ready(&conn.port, staged);
        }
        self.dirty.clear();
        stall.filter(|_| !self.settings.no_fast_producer_stall)
    }

    pub(crate) fn note_slow(&mut self, id: ConnId) {
        let max = self.max_pending();
        self.note(id, Level::Info, format_args!("Slow Consumer Detected: MaxPending of {max} Exceeded"));
    }

    /// The peer took nothing for as long as `write_deadline`.
    pub fn too_slow(&mut self, id: ConnId, now: Now) {
        let deadline = self.settings.write_deadline;
        let pending = self.conn(id).map_or(0, Conn::pending);
        let text = format_args!(
            "Slow Consumer Detected: WriteDeadline of {deadline:?} exceeded with {pending} total bytes."
        );
        self.note(id, Level::Info, text);
        self.close(id, CloseReason::SlowConsumerDeadline, now);
    }

    /// When [`Broker::tick`] has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        timer.into_iter().chain(alarm).min()
    }

    /// Does what is due: pings, stale connections, missing CONNECTs.
    pub fn tick(&mut self, now: Now) {
        self.tick_alarms(now);
        while let Some(Reverse((at, slot, cid))) = self.timers.peek().copied() {
            if at > now.mono {
                break;
            }
            self.timers.pop();
            let id = ConnId(slot);
            let Some(conn) = self.conn(id).filter(|conn| conn.cid == cid && conn.closing.is_none()) else {
                continue;
            };
            let owes = conn.owes_connect();
            if conn.until.get().is_some_and(|until| until <= now.mono) {
                if self.hub_is_overdue(id, now) {
                    // It has nothing to say.
                } else if owes {
                    self.fail(id, error::AUTHENTICATION_TIMEOUT, CloseReason::AuthenticationTimeout, now);
                } else {
                    self.debug(id, error::USER_EXPIRED);
                    self.fail(id, error::USER_EXPIRED, CloseReason::AuthenticationExpired, now);
                }
            } else if conn.ping_at <= now.mono {
                self.keep_alive(id, now);
            }
            if let Some(conn) = self.conn(id).filter(|conn| conn.closing.is_none()) {
                self.timers.push(Reverse((conn.deadline(), slot, cid)));
            }
        }
        if self.timers.capacity() > 256 && self.timers.len() < self.timers.capacity() / 8 {
            self.timers.shrink_to(self.timers.len() * 2);
        }
    }

    fn keep_alive(&mut self, id: ConnId, now: Now) {
        let Some(way) = self.conn(id).map(Conn::way) else { return };
        let (interval, most) = (self.settings.ping_interval_of(way), self.settings.ping_max);
        let Some(conn) = self.conn_mut(id) else { return };
        let measured = conn.rtt_ns > 0 && conn.ping_sent.get().is_some_and(|at| now.mono.since(at) < RTT_AGE);
        conn.ping_at = now.mono + interval;
        if measured && now.mono.since(conn.last_in) < interval {
            return;
        }
        if conn.pings_out >= most {
            return self.fail(id, error::STALE_CONNECTION, CloseReason::StaleConnection, now);
        }
        conn.pings_out += 1;
        conn.ping_sent.set(Some(now.mono));
        if self.settings.trace {
            self.note(id, Level::Trace, "->> [PING]");
        }
        self.stage(id, |out| out.put(emit::PING));
    }

    /// The peer answered a ping.
    pub(crate) fn pong(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.conn_mut(id) else { return };
        conn.pings_out = 0;
        if let Some(sent) = conn.ping_sent.get() {
            conn.rtt_ns = nanos(now.mono.since(sent));
        }
    }

    /// CONNECT came: no more waiting for it, and the first ping comes soon, to measure the round trip.
    pub(crate) fn connected(&mut self, id: ConnId, now: Now) {
        let way = self.conn(id).map(Conn::way).unwrap_or_default();
        let first = self.settings.ping_interval_of(way).min(FIRST_PING);
        let spread = u32::try_from((first / 5).as_micros()).unwrap_or(u32::MAX);
        let extra = Duration::from_micros(u64::from(self.random.below(spread.max(1))));
        let Some(conn) = self.conn_mut(id) else { return };
        conn.until.set(None);
        conn.connected = true;
        conn.rtt_ns = nanos(now.mono.since(conn.start));
        conn.ping_at = now.mono + first + extra;
        self.rearm(id);
    }

    /// Puts a connection into the account of its identity. False if it was closed meanwhile, and, after -ERR, if that
    /// account is full.
    pub(crate) fn admit(&mut self, id: ConnId, identity: &Identity, now: Now) -> bool {
        if !self.conn(id).is_some_and(Conn::is_open) {
            return false;
        }
        let before = self.conn(id).map(|conn| conn.account);
        self.assign(id, identity);
        let Some(conn) = at(&mut self.conns, id) else {
            return false;
        };
        conn.until.set(conn.warrant.as_ref().and_then(|warrant| warrant.left).map(|left| now.mono + left));
        let (after, expires) = (conn.account, conn.until.get().is_some());
        if expires {
            self.rearm(id);
        }
        if self.limit_subscriptions(id) == Some(0) {
            self.note(id, Level::Error, error::MAX_SUBSCRIPTIONS);
            self.fail(id, error::MAX_SUBSCRIPTIONS, CloseReason::MaxSubscriptions, now);
            return false;
        }
        let account = &self.accounts[after.index()];
        if account.limits.connections.is_some_and(|most| account.connections > most) {
            self.note(id, Level::Error, error::MAX_ACCOUNT_CONNECTIONS);
            self.fail(id, error::MAX_ACCOUNT_CONNECTIONS, CloseReason::MaxAccountConnections, now);
            return false;
        }
        for account in before.into_iter().filter(|before| *before != after) {
            self.event_connections(account, now);
            self.event_connections(after, now);
        }
        self.event_connected(id, now);
        true
    }

    /// Bounds a connection's subscriptions as the server, the account and the user ask for, and says how many there may
    /// be; `None`: any number.
    pub(crate) fn limit_subscriptions(&mut self, id: ConnId) -> Option<u32> {
        let server = Some(self.settings.max_subscriptions).filter(|most| *most > 0);
        let conn = at(&mut self.conns, id)?;
        let account = self.accounts[conn.account.index()].limits.subscriptions;
        let user = conn.warrant.as_ref().and_then(|warrant| warrant.subscriptions);
        let most = server.into_iter().chain(account).chain(user).min();
        conn.max_subs = most.unwrap_or(0);
        most
    }

    /// Gives an open connection its identity.
    pub(crate) fn assign(&mut self, id: ConnId, identity: &Identity) {
        let account = self.account_or_new(&identity.account);
        let line = self.conn(id).and_then(|conn| self.settings.directory.line_payload_max(&conn.peer.host));
        let max_payload = line.unwrap_or(u32::MAX).min(self.settings.max_payload);
        let meter = self.meter(&identity.user);
        let Some(conn) = at(&mut self.conns, id) else { return };
        conn.user = identity.user.clone();
        conn.warrant.clone_from(&identity.warrant);
        conn.meter = meter;
        conn.permit = identity.permit.clone().map(|permit| Box::new(Held::new(permit)));
        let answers = identity.permit.as_deref().and_then(Permit::responses);
        conn.replies = answers.map(|rule| match conn.replies.take() {
            Some(mut replies) => {
                replies.rule = rule;
                replies
            }
            None => Box::new(Replies::new(rule)),
        });
        let old = std::mem::replace(&mut conn.account, account);
        debug_assert!(
            old == account || conn.subs.len == 0,
            "subscriptions stay in the account they were made in"
        );
        self.accounts[old.index()].connections -= 1;
        let account = &mut self.accounts[account.index()];
        account.connections += 1;
        let user = conn.warrant.as_ref().and_then(|warrant| warrant.payload);
        conn.max_payload = account.limits.payload.into_iter().chain(user).fold(max_payload, u32::min);
    }

    /// Tells everybody to go elsewhere and notes that INFO says so from now on.
    pub fn enter_lame_duck(&mut self, now: Now) {
        self.lame_duck = true;
        self.broadcast_info();
        self.event_lame_duck(now);
    }

    /// Closes every connection, for the end of the daemon.
    pub fn close_all(&mut self, now: Now) {
        self.event_shutdown(now);
        self.publish_announced(now);
        self.system_account = None;
        for id in self.ids().collect::<Vec<_>>() {
            self.close(id, CloseReason::ServerShutdown, now);
        }
    }

    /// Closes one connection, any. False if there is none left.
    pub fn close_one(&mut self, now: Now) -> bool {
        let Some((id, _)) = self.connections().next() else { return false };
        self.close(id, CloseReason::ServerShutdown, now);
        self.connections().next().is_some()
    }

    pub(crate) fn broadcast_info(&mut self) {
        for id in self.ids().collect::<Vec<_>>() {
            if self.conn(id).is_some_and(|conn| conn.async_info && conn.greeted && conn.closing.is_none()) {
                self.stage_info(id, false);
            }
        }
    }

    /// Stages INFO; with `connect_info`, what CONNECT led to is part of it.
    pub(crate) fn stage_info(&mut self, id: ConnId, connect_info: bool) {
        self.stage_info_as(id, connect_info, self.lame_duck);
    }

    /// The same, with `ldm` if the connection is to go elsewhere.
    pub(crate) fn stage_info_as(&mut self, id: ConnId, connect_info: bool, ldm: bool) {
        let Some(conn) = self.conn(id) else { return };
        let (server, settings) = (&self.settings.info, &self.settings);
        let account = &self.accounts[conn.account.index()];
        let websocket = settings.websocket.as_ref().filter(|_| conn.way == Way::WebSocket);
        let (host, port) = websocket.map_or((&server.host, &server.port), |it| (&it.host, &it.port));
        // Those of other servers alone would be of use over WebSocket.
        let advertised = if websocket.is_some() { &[][..] } else { &server.connect_urls };
        let urls: Vec<&str> = advertised.iter().map(String::as_str).collect();
        let directory = &settings.directory;
        let tls = self.tls_offer(conn);
        // The first INFO alone has something to sign.
        let asks = !conn.connected
            && !conn.greeted
            && (directory.trust.is_some() || directory.of(conn.way).wants_signatures());
        let nonce = if asks { server.keys.nonce(conn.cid) } else { String::new() };
        let info = Info {
            server_id: server.id.as_str().into(),
            server_name: server.name.as_str().into(),
            version: server.version.as_str().into(),
            midge: server.midge.as_str().into(),
            git_commit: server.git_commit.as_str().into(),
            go: server.go.as_str().into(),
            host: host.as_str().into(),
            port: i64::from(*port),
            headers: settings.headers,
            // As in nats-server, who is let in without credentials is told so over TCP alone.
            auth_required: match websocket {
                Some(websocket) => websocket.asks || directory.is_required(),
                None => {
                    directory.is_required()
                        && directory.no_auth_user.is_none()
                        && directory.on_line(&conn.peer.host).is_none()
                }
            },
            tls_required: tls.required,
            tls_verify: tls.verify,
            tls_available: tls.available,
            max_payload: i64::from(conn.max_payload),
            jetstream: server.jetstream,
            domain: server.domain.as_deref().unwrap_or_default().into(),
            client_id: conn.cid,
            client_ip: conn.peer.host.as_str().into(),
            nonce: nonce.as_str().into(),
            connect_urls: (!urls.is_empty() && !ldm).then_some(Texts::Plain(&urls)),
            ldm,
            connect_info,
            remote_account: if connect_info { account.name.as_str().into() } else { "".into() },
            acc_is_sys: connect_info && self.system_account == Some(conn.account),
            api_lvl: 5,
            xkey: if directory.seals() { server.keys.xkey() } else { "" }.into(),
            ..Info::default()
        };
        let mut line = String::with_capacity(512);
        line.push_str("INFO ");
        info.write(&mut line).expect("writing to a String can't fail");
        line.push_str(" \r\n");
        self.stage(id, |out| out.put(line.as_bytes()));
    }

    pub(crate) fn stage_err(&mut self, id: ConnId, text: impl std::fmt::Display) {
        if self.settings.trace {
            self.note(id, Level::Trace, format_args!("->> [-ERR {text}]"));
        }
        self.stage(id, |out| emit::err(out, text));
    }

    /// Lets `write` append to a connection's output.
    pub(crate) fn stage(&mut self, id: ConnId, write: impl FnOnce(&mut Stage)) {
        let Some(conn) = at(&mut self.conns, id) else { return };
        if conn.closing.is_some() {
            return;
        }
        write(&mut conn.stage);
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Puts what a connection is owed behind what its turn brought for others: who hears a `PONG` may look for what was
    /// published before it, and finds it.
    pub(crate) fn answer_last(&mut self, id: ConnId) {
        if self.dirty.last().is_none_or(|last| *last == id) || !self.conn(id).is_some_and(|conn| conn.dirty) {
            return;
        }
        if let Some(place) = self.dirty.iter().position(|dirty| *dirty == id) {
            self.dirty[place..].rotate_left(1);
        }
    }

    /// A line for the log about a connection; one that helps to find a fault only if somebody looks for one.
    pub fn remark(&mut self, id: ConnId, level: Level, text: impl std::fmt::Display) {
        if level > Level::Debug || self.settings.debug {
            self.note(id, level, text);
        }
    }

    /// A line for the log that helps to find a fault.
    pub fn debug(&mut self, id: ConnId, text: impl std::fmt::Display) {
        self.remark(id, Level::Debug, text);
    }

    /// A line for the log about a connection.
    pub(crate) fn note(&mut self, id: ConnId, level: Level, text: impl std::fmt::Display) {
        let turn = self.turn;
        let Some(conn) = self.conn_mut(id) else { return };
        if let Some(left_out) = conn.noted.count(level, turn) {
            let label = conn.label().to_string();
            if left_out > 0 {
                let more =
                    format_args!("{label} - {left_out} more lines about this connection were left out");
                self.notices.push(Notice::new(Level::Warn, more));
            }
            self.notices.push(Notice::new(level, format_args!("{label} - {text}")));
        }
    }

    /// What happened since the last call that the operator should hear of. To be asked after every turn.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// A connection.
    pub fn conn(&self, id: ConnId) -> Option<&Conn<P>> {
        self.conns.get(id.0 as usize)?.as_deref()
    }

    pub(crate) fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn<P>> {
        self.conns.get_mut(id.0 as usize)?.as_deref_mut()
    }

    fn ids(&self) -> impl Iterator<Item = ConnId> {
        let slots = 0..u32::try_from(self.conns.len()).unwrap_or(u32::MAX);
        slots.filter(|slot| self.conns[*slot as usize].is_some()).map(ConnId)
    }

    /// All connections of clients that are not closing.
    pub fn connections(&self) -> impl Iterator<Item = (ConnId, &Conn<P>)> {
        let is_client = |conn: &&Conn<P>| conn.is_open() && conn.way != Way::Hub;
        self.ids().filter_map(move |id| Some((id, self.conn(id).filter(is_client)?)))
    }

    /// Ended connections, oldest first.
    pub fn closed(&self) -> impl ExactSizeIterator<Item = &ClosedConn> {
        self.closed.iter()
    }

    /// Connections now.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Figures of the whole daemon.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter().filter(|account| !account.is_vacant())
    }

    /// All accounts, for asking whom a subject would reach.
    pub fn accounts_mut(&mut self) -> impl Iterator<Item = &mut Account> {
        self.accounts.iter_mut().filter(|account| !account.is_vacant())
    }

    /// The account of `id`.
    pub fn account(&self, id: AccountId) -> &Account {
        &self.accounts[id.index()]
    }

    /// A connection's subscriptions, newest first.
    pub fn subscriptions_of(&self, id: ConnId) -> impl Iterator<Item = crate::subs::Sub<'_>> {
        self.conn(id).into_iter().flat_map(|conn| self.accounts[conn.account.index()].subs.of(&conn.subs))
    }
}

/// Which queue member gets a message; not for secrets. Xorshift64*, seeded by the driver.
pub(crate) struct Random(u64);

impl Random {
    #[inline]
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// Less than `bound`; 0 for a bound of 0.
    #[inline]
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(bound)) >> 32) as u32
    }
}

/// At least one, as a round trip that took no measurable time was measured all the same.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}
