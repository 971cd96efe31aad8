//! The same pages for those who ask over NATS: `$SYS.REQ.…` in the system account, and the few of them that every
//! account has as imports (reference 3.5).
//!
//! Requests wait in a mailbox of the broker's, which is bounded, and are answered one after another, each in a turn of
//! its own: whoever asks for much waits longest.

use std::sync::Arc;

use midge_broker::system::{NotSent, Request};
use midge_broker::{Account, Conn, Letter, MailboxId, Now, Permit, Post, Rules};
use midge_inquiry::Wanted;
use midge_wire::Handle;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::About;
use super::absent::{Expvarz, Gatewayz, Nothing, Profilez, Routez};
use super::accountz::{AccountInfo, AccountStatz, Accountz};
use super::connz::Connz;
use super::healthz::Health;
use super::jsz::{self, JetStreamVarz};
use super::leafz::Leafz;
use super::query::{BadRequest, Query};
use super::statsz::Statsz;
use super::subsz::Subsz;
use super::varz::Varz;
use crate::hub::Hub;
use crate::inquiry::Unresponsive;

/// Something that only the daemon as a whole can do.
pub(crate) enum Order {
    /// Read the configuration again, and say what came of it.
    Reload(oneshot::Sender<Result<(), String>>),
}

/// Answers requests.
pub(crate) struct Desk {
    hub: Arc<Hub>,
    about: Arc<About>,
    orders: mpsc::Sender<Order>,
}

/// Bytes of a request at most.
const BODY_MAX: usize = 64 * 1024;

/// Why there is no answer.
enum Refusal {
    /// The request is for others, or asks for nothing that could be answered.
    Silence,
    /// An error, with nats-server's code. One that keeps a page from being made has `null` in its place.
    Error { code: u16, why: String, page: bool },
}

impl From<BadRequest> for Refusal {
    fn from(BadRequest(why): BadRequest) -> Self {
        Self::Error { code: 500, why, page: true }
    }
}

impl From<Unresponsive> for Refusal {
    fn from(why: Unresponsive) -> Self {
        Self::Error { code: 503, why: why.to_string(), page: true }
    }
}

/// What stands between `"data":` and the end; nothing for an order that was followed.
type Answer = Result<Option<Vec<u8>>, Refusal>;

fn data(page: &impl Serialize) -> Answer {
    match serde_json::to_vec(page) {
        Ok(json) => Ok(Some(json)),
        Err(error) => Err(Refusal::Error { code: 500, why: error.to_string(), page: true }),
    }
}

impl Desk {
    /// `orders` leads to whoever can follow them.
    pub(crate) fn new(hub: Arc<Hub>, about: Arc<About>, orders: mpsc::Sender<Order>) -> Self {
        Self { hub, about, orders }
    }

    /// Answers until the task is aborted.
    pub(crate) async fn run(self) {
        let Some(bell) = self.hub.bell(MailboxId::SYSTEM) else { return };
        self.hub.turn(|broker, _| broker.serve_requests());
        loop {
            bell.notified().await;
            let letters = self.hub.look(|broker, _| broker.take_letters(MailboxId::SYSTEM));
            for letter in letters {
                self.attend(&letter).await;
                // Connections have their turns in between.
                tokio::task::yield_now().await;
            }
        }
    }

    async fn attend(&self, letter: &Letter) {
        let Some(request) = Request::read(letter.subject()) else { return };
        let body = letter.payload();
        let broadcast = format!("$SYS.SERVER.{}.STATSZ", self.about.info().id).into_bytes();
        let reply = match (letter.reply(), request) {
            (Some(reply), _) => reply,
            // Whoever names no place for the figures wants everybody to have them.
            (None, Request::Server("STATSZ")) => &broadcast,
            // Orders are followed all the same.
            (None, Request::Server("RELOAD" | "KICK" | "LDM")) => &[],
            (None, _) => return,
        };
        let plain = match request {
            Request::Server("IDZ") => Some(data(&Identity::of(&self.about))),
            Request::Account { name, word: "CONNS" } => {
                let (event, _) = self.hub.turn(|broker, now| broker.connections_message(name, now));
                Some(event.map(Some).ok_or(Refusal::Silence))
            }
            Request::Subscribers => Some(self.subscribers(letter, body)),
            _ => None,
        };
        let answer = match (plain, Ask::read(body)) {
            (Some(plain), _) => plain.ok().flatten(),
            (None, Err(why)) => self.envelope(Err(Refusal::Error { code: 400, why, page: false })),
            (None, Ok(ask)) if ask.is_for_others(&self.about) => None,
            (None, Ok(_)) if request == Request::Server("STATSZ") => {
                let jetstream = JetStreamVarz::collect(&self.hub, &self.about).await;
                data(&Statsz::collect(&self.hub, &self.about, jetstream)).ok().flatten()
            }
            (None, Ok(ask)) => {
                let answer = self.answer(request, letter, &ask).await;
                self.envelope(answer)
            }
        };
        if let Some(payload) = answer.filter(|_| !reply.is_empty()) {
            let post = Post { subject: reply, payload: &payload, ..Post::default() };
            self.hub.turn(|broker, now| midge_wire::inject(broker, letter.account, &post, now));
        }
    }

    async fn answer(&self, request: Request<'_>, letter: &Letter, ask: &Ask) -> Answer {
        let (hub, about) = (&*self.hub, &*self.about);
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        match request {
            Request::Server("VARZ") => {
                data(&Varz::collect(hub, about, JetStreamVarz::collect(hub, about).await))
            }
            Request::Server("CONNZ") => data(&Connz::collect(hub, &ask.connz(&ask.acc))?),
            Request::Server("SUBSZ") => {
                data(&Subsz::collect(hub, &ask.subsz(&ask.account, ask.subscriptions))?)
            }
            Request::Server("ACCOUNTZ") => {
                data(&Accountz::collect(hub, about, given(&ask.account).as_deref())?)
            }
            Request::Server("HEALTHZ") => data(&Health::check(&ask.healthz(), hub, about).await?.with_code()),
            Request::Server("ROUTEZ") => data(&Routez::new(hub, about)),
            Request::Server("GATEWAYZ") => data(&Gatewayz::new(hub)),
            Request::Server("RAFTZ" | "IPQUEUESZ") => data(&Nothing::default()),
            Request::Server("EXPVARZ") => data(&Expvarz::default()),
            Request::Server("PROFILEZ") => data(&Profilez::missing(&ask.name)),
            Request::Server("LEAFZ") => data(&Leafz::collect(hub, &ask.account, ask.subscriptions)),
            Request::Account { name, word: "LEAFZ" } => data(&Leafz::collect(hub, name, ask.subscriptions)),
            Request::Server("JSZ") => Ok(Some(jsz::collect(hub, about, ask.jsz(&ask.account)).await?)),
            Request::Server("RELOAD") => self.reload().await,
            Request::Server("KICK") => {
                let (kicked, _) = hub.turn(|broker, now| broker.kick(ask.cid, now));
                if kicked { Ok(None) } else { Err(failed("no such client or leafnode id")) }
            }
            Request::Server("LDM") => match hub.turn(|broker, _| broker.send_away(ask.cid)).0 {
                Ok(()) => Ok(None),
                Err(NotSent::Unknown) => Err(failed("no such client id")),
                Err(NotSent::Unable) => Err(failed(
                    "client does not support Lame Duck Mode or is not ready to receive the notification",
                )),
            },
            Request::Account { name, word: "CONNZ" } => data(&Connz::collect(hub, &ask.connz(name))?),
            Request::Account { name, word: "SUBSZ" } => data(&Subsz::collect(hub, &ask.subsz(name, true))?),
            Request::Account { name, word: "INFO" } => data(&AccountInfo::collect(hub, about, name)?),
            Request::Account { name, word: "STATZ" } => {
                self.statz(Some(std::slice::from_ref(&name.to_owned())), ask.include_unused)
            }
            Request::Account { name, word: "JSZ" } => Ok(Some(jsz::account(hub, ask.jsz(name)).await??)),
            Request::Accounts => self
                .statz(Some(ask.accounts.as_slice()).filter(|names| !names.is_empty()), ask.include_unused),
            Request::User(_) => self.user(letter),
            _ => Err(Refusal::Silence),
        }
    }

    /// With the server's identity in front.
    fn envelope(&self, answer: Answer) -> Option<Vec<u8>> {
        let server = self.hub.look(|broker, now| broker.identity(now));
        let mut json = br#"{"server":"#.to_vec();
        json.append(&mut serde_json::to_vec(&server).ok()?);
        match answer {
            Err(Refusal::Silence) => return None,
            Ok(None) => {}
            Ok(Some(mut page)) => {
                json.extend_from_slice(br#","data":"#);
                json.append(&mut page);
            }
            Err(Refusal::Error { code, why, page }) => {
                if page {
                    json.extend_from_slice(br#","data":null"#);
                }
                json.extend_from_slice(br#","error":"#);
                json.append(&mut serde_json::to_vec(&ApiError { code, description: why }).ok()?);
            }
        }
        json.push(b'}');
        Some(json)
    }

    fn statz(&self, names: Option<&[String]>, unused: bool) -> Answer {
        let statz = AccountStatz::collect(&self.hub, names, unused);
        if statz.is_empty() && !unused { Err(Refusal::Silence) } else { data(&statz) }
    }

    async fn reload(&self) -> Answer {
        let (answer, answered) = oneshot::channel();
        let sent = self.orders.send(Order::Reload(answer)).await;
        match answered.await {
            Ok(Ok(())) => Ok(None),
            Ok(Err(why)) => Err(Refusal::Error { code: 500, why, page: false }),
            // The daemon is about to end.
            Err(_) => Err(failed(if sent.is_ok() { "the server is ending" } else { "no reload now" })),
        }
    }

    /// Who the requester is.
    fn user(&self, letter: &Letter) -> Answer {
        let info = self.hub.look(|broker, now| {
            let (id, cid) = letter.from?;
            let conn = broker.conn(id).filter(|conn| conn.cid() == cid)?;
            Some(UserInfo::new(conn, broker.account(conn.account()), now))
        });
        match info {
            Some(info) => data(&info),
            None => Err(Refusal::Error { code: 400, why: String::new(), page: false }),
        }
    }

    /// How many subscriptions a subject reaches, perhaps of one queue group, in the requester's account.
    fn subscribers(&self, letter: &Letter, body: &[u8]) -> Answer {
        let mut words = body.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (filter, queue) = (words.next().unwrap_or_default(), words.next());
        data(&self.hub.look(|broker, _| {
            let from = letter.from.and_then(|(id, cid)| broker.conn(id).filter(|conn| conn.cid() == cid));
            let account = from.map_or(letter.account, Conn::account);
            broker.count_subscribers(account, filter, queue)
        }))
    }
}

fn failed(why: &str) -> Refusal {
    Refusal::Error { code: 500, why: why.to_owned(), page: false }
}

/// What requests may hold, of all kinds together: which servers shall answer, and what.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Ask {
    server_name: String,
    cluster: String,
    host: String,
    exact_match: bool,
    tags: Vec<String>,
    domain: String,

    sort: String,
    auth: bool,
    subscriptions: bool,
    subscriptions_detail: bool,
    offset: i64,
    limit: i64,
    cid: u64,
    mqtt_client: String,
    state: i64,
    user: String,
    acc: String,
    filter_subject: String,
    account: String,
    test: String,
    accounts: Names,
    include_unused: bool,
    #[serde(rename = "js-enabled")]
    js_enabled: bool,
    #[serde(rename = "js-enabled-only")]
    js_enabled_only: bool,
    #[serde(rename = "js-server-only")]
    js_server_only: bool,
    #[serde(rename = "js-meta-only")]
    js_meta_only: bool,
    stream: String,
    consumer: Name,
    /// Of a profile.
    name: String,
    details: bool,
    streams: bool,
    direct_consumer: bool,
    config: bool,
    raft: bool,
}

/// The name of a consumer; requests about streams have a flag of the same name.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Name {
    #[default]
    None,
    Flag(bool),
    Some(String),
}

/// Names of accounts; requests about streams have a flag of the same name.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Names {
    #[default]
    None,
    Flag(bool),
    Some(Vec<String>),
}

impl Names {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::Some(names) => names,
            Self::None | Self::Flag(_) => &[],
        }
    }
}

impl Ask {
    fn read(body: &[u8]) -> Result<Self, String> {
        match body {
            [] => Ok(Self::default()),
            body if body.len() > BODY_MAX => Err(format!("the request is longer than {BODY_MAX} bytes")),
            body => serde_json::from_slice(body).map_err(|error| error.to_string()),
        }
    }

    /// True if it is meant for servers of other names, places or tags.
    fn is_for_others(&self, about: &About) -> bool {
        let (info, options) = (about.info(), about.options());
        let differs = |wanted: &str, own: &str| {
            let same = if self.exact_match { own == wanted } else { own.contains(wanted) };
            !wanted.is_empty() && !same
        };
        differs(&self.server_name, &info.name)
            || differs(&self.host, &info.host)
            || differs(&self.cluster, "")
            || self
                .tags
                .iter()
                .any(|tag| !options.server_tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))
            || (!self.domain.is_empty() && options.jetstream.domain.as_ref() != Some(&self.domain))
    }

    fn connz(&self, account: &str) -> Query {
        let subs = match (self.subscriptions_detail, self.subscriptions) {
            (true, _) => "detail",
            (false, true) => "1",
            (false, false) => "",
        };
        let state = match self.state {
            1 => "closed",
            2 => "all",
            _ => "open",
        };
        Query::of([
            ("sort", self.sort.clone()),
            ("auth", u8::from(self.auth).to_string()),
            ("subs", subs.to_owned()),
            ("offset", self.offset.to_string()),
            ("limit", self.limit.to_string()),
            ("cid", self.cid.to_string()),
            ("mqtt_client", self.mqtt_client.clone()),
            ("state", state.to_owned()),
            ("user", self.user.clone()),
            ("acc", account.to_owned()),
            ("filter_subject", self.filter_subject.clone()),
        ])
    }

    fn subsz(&self, account: &str, list: bool) -> Query {
        Query::of([
            ("subs", u8::from(list).to_string()),
            ("offset", self.offset.to_string()),
            ("limit", self.limit.to_string()),
            ("acc", account.to_owned()),
            ("test", self.test.clone()),
        ])
    }

    fn jsz(&self, account: &str) -> Wanted {
        Wanted {
            account: account.to_owned(),
            accounts: matches!(self.accounts, Names::Flag(true)),
            streams: self.streams,
            consumers: matches!(self.consumer, Name::Flag(true)),
            direct_consumers: self.direct_consumer,
            config: self.config,
            leaders: self.raft,
            ..jsz::page(self.offset, self.limit)
        }
    }

    fn healthz(&self) -> Query {
        let flag = |flag: bool| u8::from(flag).to_string();
        Query::of([
            ("js-enabled", flag(self.js_enabled)),
            ("js-enabled-only", flag(self.js_enabled_only)),
            ("js-server-only", flag(self.js_server_only)),
            ("js-meta-only", flag(self.js_meta_only)),
            ("account", self.account.clone()),
            ("stream", self.stream.clone()),
            ("consumer", if let Name::Some(name) = &self.consumer { name.clone() } else { String::new() }),
            ("details", flag(self.details)),
        ])
    }
}

/// nats-server's `ApiError`.
#[derive(Serialize)]
struct ApiError {
    code: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

/// nats-server's `ServerID`.
#[derive(Serialize)]
struct Identity {
    name: String,
    host: String,
    id: String,
}

impl Identity {
    fn of(about: &About) -> Self {
        let info = about.info();
        Self { name: info.name, host: info.host, id: info.id }
    }
}

/// nats-server's `UserInfo`.
#[derive(Serialize)]
struct UserInfo {
    user: String,
    account: String,
    account_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Permissions>,
    /// Nanoseconds that the user may still stay, in whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

/// nats-server's `Permissions`.
#[derive(Serialize)]
struct Permissions {
    publish: Subjects,
    subscribe: Subjects,
    #[serde(skip_serializing_if = "Option::is_none")]
    responses: Option<Responses>,
}

#[derive(Serialize)]
struct Subjects {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deny: Vec<String>,
}

/// -1: as many as there are, for ever.
#[derive(Serialize)]
struct Responses {
    max: i64,
    ttl: i64,
}

impl UserInfo {
    fn new(conn: &Conn<Handle>, account: &Account, now: Now) -> Self {
        let left = conn.left(now.mono).map(|left| left.as_secs()).filter(|seconds| *seconds > 0);
        Self {
            expires: left.map(|seconds| seconds.saturating_mul(1_000_000_000)),
            user: conn.user().to_owned(),
            account: account.name().to_owned(),
            account_name: account.tag().to_string(),
            user_name: conn.warrant().map(|warrant| warrant.name.to_string()).unwrap_or_default(),
            permissions: conn.permit().map(|permit| Permissions::new(permit)),
        }
    }
}

impl Permissions {
    fn new(permit: &Permit) -> Self {
        let responses = permit.responses().map(|rule| Responses {
            max: rule.max.map_or(-1, i64::from),
            ttl: rule.expires.map_or(-1, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)),
        });
        Self {
            publish: Subjects::new(permit.publish()),
            subscribe: Subjects::new(permit.subscribe()),
            responses,
        }
    }
}

impl Subjects {
    fn new(rules: &Rules) -> Self {
        Self {
            allow: rules.allowed().into_iter().flatten().map(str::to_owned).collect(),
            deny: rules.denied().map(str::to_owned).collect(),
        }
    }
}
