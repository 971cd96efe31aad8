//! What the server publishes of itself, in its own account: only what somebody listens to.
//!
//! Figures that come at intervals are an alarm as long as somebody listens, and no alarm at all otherwise.

use std::time::Duration;

use serde::Serialize;
use smol_str::SmolStr;

use super::client_info::ClientInfo;
use super::requests;
use super::text::{Nanos, Time};
use crate::account::{Account, AccountId, GLOBAL_ACCOUNT};
use crate::alarm::Alarm;
use crate::broker::{Broker, Now};
use crate::closed::CloseReason;
use crate::conn::{ConnId, Counters, Port};
use crate::inside::{InsideSub, MailboxId, Post};
use crate::settings::ServerInfo;

/// The server's figures come at this interval, but sooner to somebody who has just begun to listen.
const STATSZ_INTERVAL: Duration = Duration::from_secs(10);
const STATSZ_FIRST: Duration = Duration::from_millis(250);
/// An account's figures come when they change, and at this interval.
const CONNS_INTERVAL: Duration = Duration::from_secs(30);

/// What the broker keeps for all this.
#[derive(Debug, Default)]
pub(crate) struct System {
    /// What is to be published at the end of the turn: account, subject, payload. Later than at once, because what is
    /// published may close connections, and that is an event, too.
    announced: Vec<(AccountId, String, Vec<u8>)>,
    /// Messages with a [`ServerIdentity`] so far.
    sequence: u64,
    /// The driver answers requests.
    serves: bool,
    /// What it answers in the system account.
    subs: Vec<InsideSub>,
    /// The interval that the next figures of the server come after, if somebody listens.
    statsz: Option<Duration>,
}

/// What every event has.
#[derive(Clone, Debug, Serialize)]
pub struct TypedEvent {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: Time,
}

impl TypedEvent {
    pub(crate) fn new(kind: &'static str, id: String, now: Duration) -> Self {
        Self { kind, id, timestamp: Time(now) }
    }
}

/// nats-server's `ServerInfo`: whose event or answer this is.
#[derive(Clone, Debug, Serialize)]
pub struct ServerIdentity {
    name: String,
    host: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    ver: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    jetstream: bool,
    /// Bits: what its streams can do. The first: there are any.
    flags: u64,
    seq: u64,
    time: Time,
}

impl ServerIdentity {
    fn new(info: &ServerInfo, seq: u64, now: Duration) -> Self {
        Self {
            name: info.name.clone(),
            host: info.host.clone(),
            id: info.id.clone(),
            domain: info.domain.clone(),
            ver: info.version.clone(),
            tags: info.tags.clone(),
            jetstream: info.jetstream,
            flags: u64::from(info.jetstream),
            seq,
            time: Time(now),
        }
    }
}

/// Messages and bytes one way; those of other servers and leaf nodes apart, of which there are none.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DataStats {
    msgs: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateways: Option<MsgBytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routes: Option<MsgBytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leafs: Option<MsgBytes>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct MsgBytes {
    msgs: u64,
    bytes: u64,
}

impl DataStats {
    /// Messages and bytes alone.
    pub fn new(msgs: u64, bytes: u64) -> Self {
        Self { msgs, bytes, ..Self::default() }
    }

    fn by_kind(msgs: u64, bytes: u64) -> Self {
        let none = Some(MsgBytes::default());
        Self { msgs, bytes, gateways: none, routes: none, leafs: none }
    }
}

/// nats-server's `AccountStat`.
#[derive(Clone, Debug, Serialize)]
pub struct AccountStat {
    acc: SmolStr,
    name: SmolStr,
    conns: u32,
    leafnodes: u32,
    total_conns: u32,
    num_subscriptions: usize,
    sent: DataStats,
    received: DataStats,
    slow_consumers: u64,
}

impl AccountStat {
    /// The figures of this moment.
    pub fn new(account: &Account) -> Self {
        let Counters { in_msgs, in_bytes, out_msgs, out_bytes } = account.counters;
        Self {
            acc: account.name.clone(),
            name: account.tag().clone(),
            conns: account.connections,
            leafnodes: account.leafnodes,
            total_conns: account.connections.saturating_add(account.leafnodes),
            num_subscriptions: account.router.len(),
            sent: DataStats::by_kind(out_msgs, out_bytes),
            received: DataStats::by_kind(in_msgs, in_bytes),
            slow_consumers: account.slow_consumers,
        }
    }
}

#[derive(Serialize)]
struct ConnectEvent {
    #[serde(flatten)]
    event: TypedEvent,
    server: ServerIdentity,
    client: ClientInfo,
}

#[derive(Serialize)]
struct DisconnectEvent {
    #[serde(flatten)]
    event: TypedEvent,
    server: ServerIdentity,
    client: ClientInfo,
    /// By the client, unlike elsewhere.
    sent: DataStats,
    received: DataStats,
    reason: &'static str,
}

#[derive(Serialize)]
struct AccountEvent {
    #[serde(flatten)]
    event: TypedEvent,
    server: ServerIdentity,
    #[serde(flatten)]
    stat: AccountStat,
}

const CONNECTED: &str = "io.nats.server.advisory.v1.client_connect";
const DISCONNECTED: &str = "io.nats.server.advisory.v1.client_disconnect";
const CONNECTIONS: &str = "io.nats.server.advisory.v1.account_connections";

impl<P: Port> Broker<P> {
    /// From now on, requests in the system account go to [`MailboxId::SYSTEM`], for the driver to answer.
    pub fn serve_requests(&mut self) {
        self.system.serves = true;
        self.subscribe_requests();
    }

    /// Subscribes to requests in the system account, whichever that is now.
    pub(crate) fn subscribe_requests(&mut self) {
        for sub in std::mem::take(&mut self.system.subs) {
            self.unsubscribe_inside(sub);
        }
        let Some(account) = self.system_account.filter(|_| self.system.serves) else { return };
        let subjects = requests::subjects(&self.settings.info.id);
        let subscribe =
            |subject: String| self.subscribe_inside(account, subject.as_bytes(), MailboxId::SYSTEM, 0);
        self.system.subs = subjects.into_iter().filter_map(subscribe).collect();
    }

    /// The server's identity, for the next message that carries it.
    pub fn identity(&mut self, now: Now) -> ServerIdentity {
        self.system.sequence += 1;
        ServerIdentity::new(&self.settings.info, self.system.sequence, now.wall)
    }

    /// Publishes `message` in an account at the end of the turn.
    pub(crate) fn announce(&mut self, account: AccountId, subject: String, message: &impl Serialize) {
        let json = serde_json::to_vec(message).expect("messages are made of texts and numbers");
        self.system.announced.push((account, subject, json));
    }

    /// Publishes what was announced, and what comes of it.
    pub(crate) fn publish_announced(&mut self, now: Now) {
        while !self.system.announced.is_empty() {
            for (account, subject, json) in std::mem::take(&mut self.system.announced) {
                let post = Post { subject: subject.as_bytes(), payload: &json, ..Post::default() };
                self.inject(account, &post, now);
            }
        }
    }

    /// The system account, if a connection listens to anything there: hardly ever, so this is asked first.
    fn heard(&self) -> Option<AccountId> {
        self.system_account.filter(|id| {
            let account = &self.accounts[id.index()];
            account.router.len() > account.targets.inner()
        })
    }

    /// Publishes an event in the system account, if somebody listens there.
    fn publish_event<E: Serialize>(
        &mut self,
        subject: &str,
        now: Now,
        event: impl FnOnce(&mut Self, ServerIdentity) -> Option<E>,
    ) {
        let Some(account) = self.heard() else { return };
        if !self.accounts[account.index()].hears(subject.as_bytes()) {
            return;
        }
        let server = self.identity(now);
        if let Some(event) = event(self, server) {
            self.announce(account, subject.to_owned(), &event);
        }
    }

    /// A client is in.
    pub(crate) fn event_connected(&mut self, id: ConnId, now: Now) {
        if self.heard().is_none() {
            return;
        }
        let Some(account) = self.conn(id).map(|conn| conn.account) else { return };
        let account = &self.accounts[account.index()];
        let (name, tag) = (account.name.clone(), account.tag().clone());
        self.publish_event(&format!("$SYS.ACCOUNT.{name}.CONNECT"), now, |broker, server| {
            let event = TypedEvent::new(CONNECTED, broker.secret.event_id(), now.wall);
            let mut client = ClientInfo::new(broker.conn(id)?, name.clone());
            client.name_tag = tag;
            Some(ConnectEvent { event, server, client })
        });
    }

    /// A client has gone.
    pub(crate) fn event_disconnected(&mut self, id: ConnId, reason: CloseReason, now: Now) {
        if self.heard().is_none() {
            return;
        }
        let Some(conn) = self.conn(id) else { return };
        let name = self.accounts[conn.account.index()].name.clone();
        if matches!(reason, CloseReason::AuthenticationFailure) {
            let subject = format!("$SYS.SERVER.{}.CLIENT.AUTH.ERR", self.settings.info.id);
            self.publish_disconnect(id, &subject, &name, reason, now);
        }
        self.publish_disconnect(id, &format!("$SYS.ACCOUNT.{name}.DISCONNECT"), &name, reason, now);
    }

    fn publish_disconnect(
        &mut self,
        id: ConnId,
        subject: &str,
        account: &SmolStr,
        reason: CloseReason,
        now: Now,
    ) {
        self.publish_event(subject, now, |broker, server| {
            let event = TypedEvent::new(DISCONNECTED, broker.secret.event_id(), now.wall);
            let conn = broker.conn(id)?;
            let mut client = ClientInfo::new(conn, account.clone());
            client.name_tag = broker.accounts[conn.account.index()].tag().clone();
            client.stop = Some(Time(now.wall));
            client.rtt = conn.rtt().filter(|rtt| !rtt.is_zero()).map(Nanos);
            let Counters { in_msgs, in_bytes, out_msgs, out_bytes } = conn.counters;
            let (sent, received) = (DataStats::new(in_msgs, in_bytes), DataStats::new(out_msgs, out_bytes));
            Some(DisconnectEvent { event, server, client, sent, received, reason: reason.as_str() })
        });
    }

    /// The number of an account's connections has changed, or it is time to say it again.
    pub(crate) fn event_connections(&mut self, account: AccountId, now: Now) {
        if self.heard().is_none() || self.accounts[account.index()].name == GLOBAL_ACCOUNT {
            return;
        }
        let id = self.secret.event_id();
        for subject in self.connections_subjects(account) {
            self.publish_event(&subject, now, |broker, server| {
                let event = TypedEvent::new(CONNECTIONS, id.clone(), now.wall);
                let stat = AccountStat::new(&broker.accounts[account.index()]);
                Some(AccountEvent { event, server, stat })
            });
        }
        self.heed_connections(account, now);
    }

    fn connections_subjects(&self, account: AccountId) -> [String; 2] {
        let name = &self.accounts[account.index()].name;
        [format!("$SYS.SERVER.ACCOUNT.{name}.CONNS"), format!("$SYS.ACCOUNT.{name}.SERVER.CONNS")]
    }

    /// The same for one who asks for it. `None` if nobody is in the account.
    pub fn connections_message(&mut self, account: &str, now: Now) -> Option<Vec<u8>> {
        let at = self.account_named(account)?.index();
        let event = TypedEvent::new(CONNECTIONS, self.secret.event_id(), now.wall);
        let server = self.identity(now);
        let stat = AccountStat::new(self.accounts.get(at).filter(|account| account.connections > 0)?);
        serde_json::to_vec(&AccountEvent { event, server, stat }).ok()
    }

    /// New clients go elsewhere from now on.
    pub(crate) fn event_lame_duck(&mut self, now: Now) {
        let subject = format!("$SYS.SERVER.{}.LAMEDUCK", self.settings.info.id);
        self.publish_event(&subject, now, |_, server| Some(server));
    }

    /// The server ends.
    pub(crate) fn event_shutdown(&mut self, now: Now) {
        let subject = format!("$SYS.SERVER.{}.SHUTDOWN", self.settings.info.id);
        self.publish_event(&subject, now, |_, server| Some(server));
    }

    fn statsz_subject(&self) -> String {
        format!("$SYS.SERVER.{}.STATSZ", self.settings.info.id)
    }

    /// Somebody has begun to listen to something in the system account: figures may have to come at intervals.
    pub(crate) fn heed_events(&mut self, now: Now) {
        let Some(system) = self.system_account else { return };
        if self.system.statsz.is_none() {
            let subject = self.statsz_subject();
            if self.accounts[system.index()].hears(subject.as_bytes()) {
                self.system.statsz = Some(STATSZ_FIRST);
                self.set_alarm(now.mono + STATSZ_FIRST, Alarm::Statsz);
            }
        }
        for account in self.account_ids() {
            if self.accounts[account.index()].name != GLOBAL_ACCOUNT {
                self.heed_connections(account, now);
            }
        }
    }

    fn heed_connections(&mut self, account: AccountId, now: Now) {
        let Some(system) = self.system_account else { return };
        let here = &self.accounts[account.index()];
        if here.connections == 0 || here.connections_alarm {
            return;
        }
        let subjects = self.connections_subjects(account);
        let system = &mut self.accounts[system.index()];
        if subjects.iter().any(|subject| system.hears(subject.as_bytes())) {
            self.accounts[account.index()].connections_alarm = true;
            self.set_alarm(now.mono + CONNS_INTERVAL, Alarm::Connections(account));
        }
    }

    /// [`Alarm::Connections`].
    pub(crate) fn connections_due(&mut self, account: AccountId, now: Now) {
        let Some(here) = self.accounts.get_mut(account.index()) else { return };
        here.connections_alarm = false;
        if here.connections > 0 {
            self.event_connections(account, now);
        }
    }

    /// [`Alarm::Statsz`]: asks the driver for the server's figures, in the name of all who listen.
    pub(crate) fn statsz_due(&mut self, now: Now) {
        let subject = self.statsz_subject();
        let system = self.system_account.map(AccountId::index).and_then(|at| self.accounts.get_mut(at));
        let heard = system.is_some_and(|account| account.hears(subject.as_bytes()));
        let (Some(interval), true) = (self.system.statsz, heard) else {
            self.system.statsz = None;
            return;
        };
        let next = (interval * 2).min(STATSZ_INTERVAL);
        self.system.statsz = Some(next);
        self.set_alarm(now.mono + next, Alarm::Statsz);
        self.ask_statsz(subject.as_bytes());
    }
}
