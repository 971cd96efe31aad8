//! /accountz and /accstatz: accounts, and what crosses their borders.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_broker::system::AccountStat;
use midge_broker::{Access, Account, AccountClaims, Broker, Imported, Latency, OpenRequest};
use midge_config::{GLOBAL_ACCOUNT, Mapping, Options};
use midge_jwt::Token;
use midge_wire::Handle;
use serde::{Serialize, Serializer};
use serde_json::Value;
use smol_str::SmolStr;

use super::query::BadRequest;
use super::subsz::Figures;
use super::text::{Time, is_false};
use super::{About, ROWS_MAX};
use crate::hub::Hub;

/// nats-server's `Accountz`: the names of all accounts, or all about one.
#[derive(Serialize)]
pub(super) struct Accountz {
    server_id: String,
    now: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_account: Option<SmolStr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accounts: Vec<SmolStr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_detail: Option<AccountInfo>,
}

/// nats-server's `AccountInfo`, without what its library says of a token.
#[derive(Serialize)]
pub(super) struct AccountInfo {
    account_name: SmolStr,
    /// When the configuration was read.
    update_time: Time,
    #[serde(skip_serializing_if = "is_false")]
    is_system: bool,
    expired: bool,
    complete: bool,
    jetstream_enabled: bool,
    leafnode_connections: u32,
    client_connections: u32,
    subscriptions: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    mappings: BTreeMap<String, Vec<MapDest>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exports: Vec<ExtExport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    imports: Vec<ExtImport>,
    #[serde(flatten)]
    signed: Signed,
    name_tag: SmolStr,
    sublist_stats: Figures,
    /// Requests of other accounts that services here have not answered, by the subject for answers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    responses: BTreeMap<String, ExtImport>,
}

/// What an operator's token says of the account; nothing of one that the configuration has.
#[derive(Default, Serialize)]
struct Signed {
    /// The token, where the configuration or a directory has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    issuer_key: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoded_jwt: Option<Value>,
    /// Users by their keys, and since when their tokens count again.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    revoked_user: BTreeMap<String, Time>,
}

impl Signed {
    fn of(claims: &AccountClaims, hub: &Hub, options: &Options) -> Self {
        let Token { claims: said, body } = &claims.token;
        let preloaded = || options.trust.resolver_preload.get(&said.sub).cloned();
        let stored = hub.outside.accounts.store.as_ref().and_then(|store| store.peek(&said.sub));
        let since = |(key, at): (&String, &i64)| {
            (key.clone(), Time(Duration::from_secs(u64::try_from(*at).unwrap_or(0))))
        };
        let mut revoked_user = BTreeMap::new();
        revoked_user.extend(body.revocations.iter().map(since));
        Self {
            jwt: stored.or_else(preloaded).map(|text| text.trim().to_owned()),
            issuer_key: said.iss.clone(),
            tags: body.tags.clone(),
            decoded_jwt: Some(claims.token.to_json()),
            revoked_user,
        }
    }
}

#[derive(Serialize)]
struct MapDest {
    subject: String,
    weight: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
}

#[derive(Serialize)]
struct ExtExport {
    subject: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_false")]
    token_req: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_latency: Option<ServiceLatency>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    approved_accounts: Vec<SmolStr>,
}

#[derive(Serialize)]
struct ExtImport {
    subject: String,
    account: SmolStr,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    local_subject: String,
    #[serde(rename = "type")]
    kind: &'static str,
    invalid: bool,
    share: bool,
    tracking: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<ServiceLatency>,
}

#[derive(Serialize)]
struct ServiceLatency {
    sampling: Sampling,
    results: String,
}

struct Sampling(u8);

impl Serialize for Sampling {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 0 { serializer.serialize_str("headers") } else { serializer.serialize_u8(self.0) }
    }
}

impl ServiceLatency {
    fn new(latency: &Latency) -> Self {
        Self { sampling: Sampling(latency.sampling), results: latency.subject.clone() }
    }
}

const STREAM: &str = "stream";
const SERVICE: &str = "service";

impl Accountz {
    /// All names, or what there is to know of `account`.
    pub(super) fn collect(hub: &Hub, about: &About, account: Option<&str>) -> Result<Self, BadRequest> {
        let detail = account.map(|name| AccountInfo::collect(hub, about, name)).transpose()?;
        Ok(hub.look(|broker, now| Self {
            server_id: broker.settings().info.id.clone(),
            now: Time(now.wall),
            system_account: broker.settings().system_account.clone(),
            accounts: match account {
                Some(_) => Vec::new(),
                None => broker.accounts().map(|account| account.name().into()).collect(),
            },
            account_detail: detail,
        }))
    }
}

impl AccountInfo {
    pub(super) fn collect(hub: &Hub, about: &About, name: &str) -> Result<Self, BadRequest> {
        let (options, loaded) = (about.options(), about.loaded());
        let claims = hub.look(|broker, _| {
            let trust = broker.settings().directory.trust.as_ref();
            trust.and_then(|trust| trust.accounts.get(name)).cloned()
        });
        // It may read a file: not while others wait for the broker.
        let signed = claims.as_deref().map(|claims| Signed::of(claims, hub, &options)).unwrap_or_default();
        hub.look(|broker, now| {
            let broker = &*broker;
            let account = broker.accounts().find(|account| account.name() == name);
            let account = account.ok_or_else(|| BadRequest(format!("Account {name} does not exist")))?;
            let (streams, services) = account.exports();
            let stream =
                |export: &midge_broker::StreamExport| ExtExport::new(&export.subject, &export.access);
            let service = |export: &midge_broker::ServiceExport| ExtExport {
                kind: SERVICE,
                response_type: Some(export.response.as_str()),
                service_latency: export.latency.as_ref().map(ServiceLatency::new),
                ..ExtExport::new(&export.subject, &export.access)
            };
            let import = |kind| move |import| ExtImport::new(broker, &import, kind);
            let stream_imports = account.stream_imports().map(import(STREAM));
            let imports = stream_imports.chain(account.service_imports().map(import(SERVICE)));
            // Maps that are extended sort nothing; each that is collected is 4 kB more of program.
            let mut responses = BTreeMap::new();
            responses
                .extend(account.requests().take(ROWS_MAX).map(|request| ExtImport::answer(broker, &request)));
            let mut mapped = BTreeMap::new();
            mapped.extend(mappings(&options, name).iter().map(MapDest::of));
            Ok(Self {
                account_name: account.name().into(),
                update_time: Time(loaded),
                is_system: broker.settings().system_account.as_deref() == Some(name),
                expired: claims.is_some_and(|claims| {
                    claims.token.claims.is_over(i64::try_from(now.wall.as_secs()).unwrap_or(i64::MAX))
                }),
                complete: true,
                jetstream_enabled: hub.inquiry().has_streams(name),
                leafnode_connections: account.leafnodes(),
                client_connections: account.connections(),
                subscriptions: account.router().len(),
                mappings: mapped,
                exports: services.map(service).chain(streams.iter().map(stream)).collect(),
                imports: imports.collect(),
                signed,
                name_tag: account.tag().clone(),
                sublist_stats: Figures::sum(std::iter::once(account)),
                responses,
            })
        })
    }
}

/// The subject mappings of an account.
fn mappings<'o>(options: &'o Options, name: &str) -> &'o [Mapping] {
    match options.accounts.iter().find(|account| account.name == name) {
        Some(account) => &account.mappings,
        None if name == GLOBAL_ACCOUNT => &options.mappings,
        None => &[],
    }
}

impl MapDest {
    fn of(mapping: &Mapping) -> (String, Vec<Self>) {
        let destinations = mapping.destinations.iter().map(|to| Self {
            subject: to.subject.clone(),
            weight: to.weight,
            cluster: to.cluster.clone(),
        });
        (mapping.source.clone(), destinations.collect())
    }
}

impl ExtExport {
    fn new(subject: &str, access: &Access) -> Self {
        Self {
            subject: subject.to_owned(),
            kind: STREAM,
            token_req: matches!(access, Access::Activated),
            response_type: None,
            service_latency: None,
            approved_accounts: match access {
                Access::Accounts(accounts) => accounts.clone(),
                _ => Vec::new(),
            },
        }
    }
}

impl ExtImport {
    fn new(broker: &Broker<Handle>, import: &Imported<'_>, kind: &'static str) -> Self {
        Self {
            subject: import.subject.to_owned(),
            account: broker.account(import.exporter).name().into(),
            to: (kind == SERVICE).then(|| import.to.to_owned()),
            local_subject: import.to.to_owned(),
            kind,
            invalid: false,
            share: import.share,
            tracking: false,
            latency: import.latency.map(ServiceLatency::new),
        }
    }

    /// A request that waits for an answer, as an import by the service's account: of the requester's reply subject.
    fn answer(broker: &Broker<Handle>, request: &OpenRequest<'_>) -> (String, Self) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let reply = text(&request.reply);
        let import = Self {
            subject: text(request.to),
            account: broker.account(request.requester).name().into(),
            to: Some(reply.clone()),
            local_subject: reply.clone(),
            kind: SERVICE,
            invalid: false,
            share: request.share,
            tracking: request.is_timed,
            latency: None,
        };
        (reply, import)
    }
}

/// nats-server's `AccountStatz`.
#[derive(Serialize)]
pub(super) struct AccountStatz {
    server_id: String,
    now: Time,
    account_statz: Vec<AccountStat>,
}

impl AccountStatz {
    /// The figures of the accounts of these names, or of all; of those without connections only if `unused`.
    pub(super) fn collect(hub: &Hub, names: Option<&[String]>, unused: bool) -> Self {
        hub.look(|broker, now| {
            let wanted = |account: &&Account| {
                (unused || account.connections() > 0)
                    && names.is_none_or(|names| names.iter().any(|name| name == account.name()))
            };
            Self {
                server_id: broker.settings().info.id.clone(),
                now: Time(now.wall),
                account_statz: broker.accounts().filter(wanted).map(AccountStat::new).collect(),
            }
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.account_statz.is_empty()
    }
}
