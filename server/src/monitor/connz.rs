//! /connz: connections, open and closed.

use std::cmp::Reverse;
use std::time::Duration;

use midge_broker::{Broker, ClosedConn, Conn, ConnId, Counters, GLOBAL_ACCOUNT, Now, PeerCertificate};
use midge_protocol::subject::Filter;
use midge_wire::Handle;
use serde::Serialize;
use smol_str::SmolStr;

use super::ROWS_MAX;
use super::query::{BadRequest, Page, Query};
use super::sub::{self, SubDetail};
use super::text::{Span, Time, Uptime, is_false, is_zero};
use crate::hub::Hub;

/// nats-server's `Connz`.
#[derive(Serialize)]
pub(super) struct Connz {
    server_id: String,
    now: Time,
    num_connections: usize,
    /// Connections of the state and account that were asked for.
    total: usize,
    offset: usize,
    limit: usize,
    connections: Vec<ConnInfo>,
}

/// nats-server's `ConnInfo`.
#[derive(Serialize)]
struct ConnInfo {
    cid: u64,
    kind: &'static str,
    #[serde(rename = "type")]
    transport: &'static str,
    ip: SmolStr,
    port: u16,
    start: Time,
    last_activity: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    rtt: Span,
    uptime: Uptime,
    idle: Uptime,
    pending_bytes: usize,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    stalls: u64,
    subscriptions: u32,
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    name: SmolStr,
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    lang: SmolStr,
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    version: SmolStr,
    #[serde(skip_serializing_if = "str::is_empty")]
    tls_version: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tls_cipher_suite: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls_peer_certs: Vec<PeerCert>,
    #[serde(skip_serializing_if = "is_false")]
    tls_first: bool,
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    authorized_user: SmolStr,
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    account: SmolStr,
    /// Of open connections only: what the others subscribed to is forgotten with them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubDetail>,
    /// Of open connections only.
    #[serde(skip_serializing_if = "str::is_empty")]
    jwt: Box<str>,
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    issuer_key: SmolStr,
    /// The account's, as people call it.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    name_tag: SmolStr,
    /// The user's. Of open connections only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<SmolStr>,
}

/// nats-server's `TLSPeerCert`.
#[derive(Serialize)]
struct PeerCert {
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    subject: SmolStr,
    spki_sha256: String,
    cert_sha256: String,
}

impl PeerCert {
    fn new(shown: &PeerCertificate) -> Self {
        Self {
            subject: shown.subject.clone(),
            spki_sha256: hex(&shown.key_sha256),
            cert_sha256: hex(&shown.sha256),
        }
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows without `limit`.
const LIMIT: usize = 1024;

struct Options<'q> {
    sort: Sort,
    auth: bool,
    subs: Listing,
    page: Page,
    cid: Option<u64>,
    open: bool,
    closed: bool,
    user: Option<&'q str>,
    account: Option<&'q str>,
    /// Only open connections with a subscription that such a message may reach.
    filter: Option<Filter<'q>>,
    /// The id of an MQTT session, which no connection has yet.
    mqtt_client: Option<&'q str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Listing {
    None,
    Subjects,
    Details,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Cid,
    Subs,
    Pending,
    OutMsgs,
    InMsgs,
    OutBytes,
    InBytes,
    Last,
    Idle,
    Uptime,
    Stop,
    Reason,
    Rtt,
}

impl Sort {
    fn read(name: Option<&str>) -> Result<Self, BadRequest> {
        Ok(match name {
            None | Some("cid" | "start") => Self::Cid,
            Some("subs") => Self::Subs,
            Some("pending") => Self::Pending,
            Some("msgs_to") => Self::OutMsgs,
            Some("msgs_from") => Self::InMsgs,
            Some("bytes_to") => Self::OutBytes,
            Some("bytes_from") => Self::InBytes,
            Some("last") => Self::Last,
            Some("idle") => Self::Idle,
            Some("uptime") => Self::Uptime,
            Some("stop") => Self::Stop,
            Some("reason") => Self::Reason,
            Some("rtt") => Self::Rtt,
            Some(name) => return Err(BadRequest(format!("invalid sorting option: {name}"))),
        })
    }
}

impl<'q> Options<'q> {
    fn read(query: &'q Query) -> Result<Self, BadRequest> {
        let auth = query.flag("auth")?;
        let subs = if query.text("subs").is_some_and(|value| value.eq_ignore_ascii_case("detail")) {
            Listing::Details
        } else if query.flag("subs")? {
            Listing::Subjects
        } else {
            Listing::None
        };
        let mut page = query.page(LIMIT, ROWS_MAX)?;
        let cid = Some(query.uint64("cid")?).filter(|cid| *cid > 0);
        if cid.is_some() {
            page.limit = 1;
        }
        let state = query.text("state").unwrap_or("open");
        let (open, closed) = match state.to_ascii_lowercase().as_str() {
            "open" => (true, false),
            "closed" => (false, true),
            "any" | "all" => (true, true),
            _ => return Err(BadRequest(format!("Error decoding state for {state}"))),
        };
        let sort = Sort::read(query.text("sort"))?;
        for (of_closed, name) in [(Sort::Stop, "stop"), (Sort::Reason, "reason")] {
            if sort == of_closed && open {
                return Err(BadRequest(format!("sort by {name} only valid on closed connections")));
            }
        }
        let [user, account, mqtt_client] = ["user", "acc", "mqtt_client"].map(|name| query.text(name));
        let filter = query.text("filter_subject").filter(|filter| *filter != ">");
        if filter.is_some() && account.is_none() {
            return Err(BadRequest("filter by subject only valid with account filtering".to_owned()));
        }
        let filter = filter.map(|filter| {
            Filter::new(filter.as_bytes())
                .map_err(|_| BadRequest(format!("invalid filter subject: {filter}")))
        });
        let filter = filter.transpose()?;
        Ok(Self { sort, auth, subs, page, cid, open, closed, user, account, filter, mqtt_client })
    }
}

impl Connz {
    pub(super) fn collect(hub: &Hub, query: &Query) -> Result<Self, BadRequest> {
        let options = Options::read(query)?;
        Ok(hub.look(|broker, now| {
            let open = broker.connections().filter(|_| options.open);
            let closed = broker.closed().filter(|_| options.closed);
            let in_account = open
                .map(|(id, conn)| Found::Open(id, conn))
                .chain(closed.map(Found::Closed))
                .filter(|found| options.account.is_none_or(|name| name == found.account(broker)));
            let mut total = 0;
            let wanted = in_account
                .inspect(|_| total += 1)
                .filter(|found| options.cid.is_none_or(|cid| cid == found.cid()))
                .filter(|found| options.user.is_none_or(|user| user == found.user()))
                .filter(|found| options.filter.is_none_or(|filter| found.may_get(broker, filter)))
                .filter(|_| options.mqtt_client.is_none())
                .map(|found| (found.key(options.sort, now), found))
                .collect();
            let mut left = ROWS_MAX;
            let rows: Vec<_> = cut(wanted, options.page)
                .into_iter()
                .map(|(_, found)| found.row(broker, &options, now, &mut left))
                .collect();
            Self {
                server_id: broker.settings().info.id.clone(),
                now: Time(now.wall),
                num_connections: rows.len(),
                total,
                offset: options.page.offset,
                limit: options.page.limit,
                connections: rows,
            }
        }))
    }
}

/// The rows of `page` in the order of their keys. Sorts no more than it must: the broker is locked.
fn cut<K: Ord + Copy, T>(mut rows: Vec<(K, T)>, page: Page) -> Vec<(K, T)> {
    let end = page.offset.saturating_add(page.limit);
    if end < rows.len() {
        rows.select_nth_unstable_by_key(end, |(key, _)| *key);
        rows.truncate(end);
    }
    rows.sort_unstable_by_key(|(key, _)| *key);
    rows.drain(..page.offset.min(rows.len()));
    rows
}

/// A place in an order. All keys of an answer are of one kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Up(u64),
    Down(Reverse<u64>),
    Text(&'static str),
}

/// A connection where the broker keeps it.
enum Found<'b> {
    Open(ConnId, &'b Conn<Handle>),
    Closed(&'b ClosedConn),
}

/// What an open and a closed connection have in common besides texts.
struct Figures {
    /// Since the Unix epoch, as `last` and `stop`.
    start: Duration,
    last: Duration,
    stop: Option<Duration>,
    uptime: Duration,
    idle: Duration,
    rtt: Duration,
    pending: usize,
    counters: Counters,
    stalls: u64,
    subs: u32,
    reason: Option<&'static str>,
}

impl Figures {
    fn key(&self, sort: Sort) -> Key {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Key::Down(Reverse(match sort {
            Sort::Cid => return Key::Up(0),
            Sort::Uptime => return Key::Up(nanos(self.uptime)),
            Sort::Reason => return Key::Text(self.reason.unwrap_or_default()),
            Sort::Subs => self.subs.into(),
            Sort::Pending => self.pending as u64,
            Sort::OutMsgs => self.counters.out_msgs,
            Sort::InMsgs => self.counters.in_msgs,
            Sort::OutBytes => self.counters.out_bytes,
            Sort::InBytes => self.counters.in_bytes,
            Sort::Last => nanos(self.last),
            Sort::Idle => nanos(self.idle),
            Sort::Stop => nanos(self.stop.unwrap_or_default()),
            Sort::Rtt => nanos(self.rtt),
        }))
    }
}

impl Found<'_> {
    fn cid(&self) -> u64 {
        match self {
            Self::Open(_, conn) => conn.cid(),
            Self::Closed(conn) => conn.cid,
        }
    }

    fn user(&self) -> &str {
        match self {
            Self::Open(_, conn) => conn.user(),
            Self::Closed(conn) => &conn.user,
        }
    }

    fn account<'a>(&'a self, broker: &'a Broker<Handle>) -> &'a str {
        match self {
            Self::Open(_, conn) => broker.account(conn.account()).name(),
            Self::Closed(conn) => &conn.account,
        }
    }

    /// Whether a subscription of an open connection has subjects in common with `filter`.
    fn may_get(&self, broker: &Broker<Handle>, filter: Filter<'_>) -> bool {
        let Self::Open(id, conn) = self else { return true };
        let account = broker.account(conn.account());
        let mut own = Vec::new();
        broker.subscriptions_of(*id).any(|sub| {
            own.clear();
            account.router().filter_of(sub.id(), &mut own);
            Filter::new(&own).is_ok_and(|own| own.overlaps(filter))
        })
    }

    fn figures(&self, now: Now) -> Figures {
        match self {
            Self::Open(_, conn) => Figures {
                start: conn.start_wall(),
                last: conn.start_wall() + conn.last_activity().since(conn.start()),
                stop: None,
                // The calendar may have been set since; these two don't care.
                uptime: now.mono.since(conn.start()),
                idle: now.mono.since(conn.last_activity()),
                rtt: conn.rtt().unwrap_or_default(),
                pending: conn.pending(),
                counters: conn.counters(),
                stalls: conn.stalls(),
                subs: conn.subscriptions(),
                reason: None,
            },
            Self::Closed(conn) => Figures {
                start: conn.start,
                last: conn.last,
                stop: Some(conn.stop),
                uptime: conn.stop.saturating_sub(conn.start),
                idle: conn.stop.saturating_sub(conn.last),
                rtt: conn.rtt.unwrap_or_default(),
                pending: 0,
                counters: conn.counters,
                stalls: 0,
                subs: conn.subs,
                reason: Some(conn.reason.as_str()),
            },
        }
    }

    /// What `sort` goes by, and the cid to tell equals apart.
    fn key(&self, sort: Sort, now: Now) -> (Key, u64) {
        // The usual order is the only one that needs no look at each outbox.
        let key = if sort == Sort::Cid { Key::Up(0) } else { self.figures(now).key(sort) };
        (key, self.cid())
    }

    /// `left` is how many subscriptions the answer may still list.
    fn row(&self, broker: &Broker<Handle>, options: &Options<'_>, now: Now, left: &mut usize) -> ConnInfo {
        let Figures { start, last, stop, uptime, idle, rtt, pending, counters, stalls, subs, reason } =
            self.figures(now);
        let (peer, name, lang, version) = match self {
            Self::Open(_, conn) => (conn.peer(), conn.name(), conn.lang(), conn.version()),
            Self::Closed(conn) => (&conn.peer, &*conn.name, &*conn.lang, &*conn.version),
        };
        let (way, tls) = match self {
            Self::Open(_, conn) => (conn.way(), conn.tls()),
            Self::Closed(conn) => (conn.way, conn.tls.as_ref()),
        };
        let mut info = ConnInfo {
            cid: self.cid(),
            kind: "Client",
            transport: way.client_type(),
            ip: peer.host.clone(),
            port: peer.port,
            start: Time(start),
            last_activity: Time(last),
            stop: stop.map(Time),
            reason,
            rtt: Span(round(rtt)),
            uptime: Uptime(uptime),
            idle: Uptime(idle),
            pending_bytes: pending,
            in_msgs: counters.in_msgs,
            out_msgs: counters.out_msgs,
            in_bytes: counters.in_bytes,
            out_bytes: counters.out_bytes,
            stalls,
            subscriptions: subs,
            name: name.into(),
            lang: lang.into(),
            version: version.into(),
            tls_version: tls.map_or("", |facts| facts.version),
            tls_cipher_suite: tls.map_or("", |facts| facts.cipher_suite),
            tls_peer_certs: Vec::new(),
            tls_first: tls.is_some_and(|facts| facts.first),
            authorized_user: SmolStr::default(),
            account: SmolStr::default(),
            jwt: Box::default(),
            issuer_key: SmolStr::default(),
            name_tag: SmolStr::default(),
            tags: Vec::new(),
            subscriptions_list: Vec::new(),
            subscriptions_list_detail: Vec::new(),
        };
        if options.auth {
            let account = self.account(broker);
            info.authorized_user = self.user().into();
            if account != GLOBAL_ACCOUNT {
                info.account = account.into();
            }
            if let (Self::Open(..), Some(facts)) = (self, tls) {
                info.tls_peer_certs = facts.peer_certificates.iter().map(PeerCert::new).collect();
            }
            let tag = broker.accounts().find(|it| it.name() == account).map(|it| it.tag().clone());
            match self {
                Self::Open(_, conn) => {
                    info.name_tag = tag.unwrap_or_default();
                    info.issuer_key = conn.issuer(&account.into()).cloned().unwrap_or_default();
                    if let Some(warrant) = conn.warrant() {
                        info.jwt = warrant.text.clone();
                        info.tags = warrant.tags.clone();
                    }
                }
                Self::Closed(conn) => {
                    info.name_tag = tag.filter(|_| account != GLOBAL_ACCOUNT).unwrap_or_default();
                    info.issuer_key = conn.issuer.clone();
                }
            }
        }
        if let Self::Open(id, conn) = self {
            let account = broker.account(conn.account());
            let most = if options.subs == Listing::None { 0 } else { *left };
            let subs = broker.subscriptions_of(*id).take(most).inspect(|_| *left -= 1);
            match options.subs {
                Listing::None => {}
                Listing::Subjects => {
                    info.subscriptions_list = subs.map(|sub| sub::subject(account, sub)).collect();
                }
                Listing::Details => {
                    let details = subs.map(|sub| SubDetail::new(account, sub, conn.cid()));
                    info.subscriptions_list_detail = details.collect();
                }
            }
            // The broker has the newest first.
            info.subscriptions_list.reverse();
            info.subscriptions_list_detail.reverse();
        }
        info
    }
}

/// Below a millisecond nats-server shows whole microseconds.
pub(super) fn round(rtt: Duration) -> Duration {
    match rtt.as_nanos() {
        1_000..1_000_000 => Duration::from_micros(rtt.as_micros() as u64),
        _ => rtt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_from_the_sorted_whole() {
        let rows: Vec<_> = (0..100).map(|i| ((i * 37) % 100, ())).collect();
        let keys = |offset, limit| -> Vec<i32> {
            cut(rows.clone(), Page { offset, limit }).into_iter().map(|(key, ())| key).collect()
        };
        assert_eq!(keys(0, 3), [0, 1, 2]);
        assert_eq!(keys(10, 3), [10, 11, 12]);
        assert_eq!(keys(98, 10), [98, 99]);
        assert!(keys(100, 10).is_empty());
        assert!(keys(usize::MAX, usize::MAX).is_empty());
        assert_eq!(keys(0, 100).len(), 100);
    }
}
