//! From the configuration's words to the broker's settings.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;

use midge_broker::{
    AccountLimits, AccountSettings, Backoff, CalloutRule, Certificates, Destination, Directory, Line,
    LineDevice, Mapping, Permit, Proof, Rate, Rates, Responses, Rules, Secret, ServerInfo, Settings,
    StreamShare, Tracing, Trust, User, WebSocketSettings,
};
use midge_config::{GLOBAL_ACCOUNT, Identity, Options, Problem, SYSTEM_ACCOUNT, WebSocket};
use midge_jwt::PublicKey;
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use crate::{crossings, trust};

/// The broker's settings. Mappings that make no sense are errors, and imports of what isn't exported.
pub fn settings(options: &Options, info: ServerInfo) -> Result<Settings, Vec<Problem>> {
    let mut errors = Vec::new();
    let mut mappings = |list: &[midge_config::Mapping]| -> Vec<Mapping> {
        list.iter()
            .filter_map(|mapping| match read_mapping(mapping) {
                Ok(mapping) => Some(mapping),
                Err(error) => {
                    errors.push(Problem::new(&mapping.at.0, error.to_string()));
                    None
                }
            })
            .collect()
    };
    let mut accounts = vec![AccountSettings {
        name: GLOBAL_ACCOUNT.into(),
        mappings: [domain_mappings(options), mappings(&options.mappings)].concat(),
        ..AccountSettings::default()
    }];
    for configured in &options.accounts {
        accounts.push(AccountSettings {
            tag: SmolStr::default(),
            name: configured.name.as_str().into(),
            mappings: [domain_mappings(options), mappings(&configured.mappings)].concat(),
            limits: AccountLimits {
                connections: configured.limits.connections_max,
                subscriptions: configured.limits.subscriptions_max,
                payload: configured.limits.payload_bytes_max,
            },
            streams: configured.jetstream.as_ref().map(|share| StreamShare {
                memory_bytes: share.memory_bytes_max,
                file_bytes: share.file_bytes_max,
                streams: share.streams_max,
                consumers: share.consumers_max,
                memory_stream_bytes: share.memory_stream_bytes_max,
                file_stream_bytes: share.file_stream_bytes_max,
                ack_pending: share.ack_pending_max,
                max_bytes_required: share.max_bytes_required,
                tiers: Default::default(),
            }),
            exports: crossings::exports(configured),
            imports: crossings::imports(configured),
            tracing: configured.trace_destination.as_deref().map(|destination| Tracing {
                destination: destination.into(),
                percent: configured.trace_percent,
            }),
        });
    }
    let trust = match trust::trust(options) {
        Ok(trust) => trust,
        Err(problems) => {
            errors.extend(problems);
            None
        }
    };
    let system = trust::system_account(options);
    let system = system.as_deref().or((!options.no_system_account).then_some(SYSTEM_ACCOUNT));
    if let Some(name) = system.filter(|name| !accounts.iter().any(|account| account.name == *name)) {
        accounts.push(AccountSettings { name: name.into(), ..AccountSettings::default() });
    }
    errors.extend(crossings::problems(&options.accounts, &accounts, system));
    if !errors.is_empty() {
        return Err(errors);
    }
    let limits = &options.limits;
    Ok(Settings {
        directory: Directory {
            trust: trust.map(|trust| Trust { mappings: domain_subjects(options), ..trust }),
            callout: callout(options),
            accounts: accounts.iter().map(|account| account.name.clone()).collect(),
            ..directory(options, &info.id)
        },
        websocket: listened(options).map(|websocket| WebSocketSettings {
            host: websocket.listen.as_ref().map(|listen| listen.host.clone()).unwrap_or_default(),
            port: websocket.listen.as_ref().map(|listen| listen.port).unwrap_or_default(),
            asks: asks(websocket),
            ping_interval: websocket.ping_interval,
            auth_timeout: websocket.authorization.timeout,
        }),
        info,
        accounts,
        system_account: system.map(SmolStr::from),
        max_control_line: limits.control_line_bytes_max,
        max_payload: limits.payload_bytes_max,
        max_pending: limits.pending_bytes_max,
        memory_budget: limits.memory_budget.unwrap_or(u64::MAX),
        rates: rates(&options.rate_limits),
        max_connections: limits.connections_max,
        max_subscriptions: limits.subscriptions_max.unwrap_or(0),
        max_sub_tokens: limits.subscription_tokens_max.map_or(0, u32::from),
        headers: !options.no_header_support,
        ping_interval: options.keepalive.ping_interval,
        ping_max: options.keepalive.pings_max,
        auth_timeout: options.auth_timeout(),
        login_backoff: Backoff {
            after: options.login_backoff.after,
            longest: options.login_backoff.longest,
            loopback: options.login_backoff.loopback,
        },
        write_deadline: options.keepalive.write_deadline,
        no_fast_producer_stall: options.no_fast_producer_stall,
        max_closed: usize::try_from(limits.closed_clients_max).unwrap_or(usize::MAX),
        debug: options.log.debug,
        trace: options.log.trace,
        max_traced: options.log.max_traced_msg_len.map_or(0, |len| len as usize),
    })
}

/// The API under the name of the domain, and what is mapped to. Source: nats-server's `generateJSMappingTable`.
fn domain_subjects(options: &Options) -> Vec<(String, String)> {
    let Some(domain) = options.jetstream.domain.as_ref().filter(|_| options.jetstream.enabled) else {
        return Vec::new();
    };
    let to = |what: &str, subject: &str| (format!("$JS.{domain}.API.{what}"), subject.to_owned());
    vec![to("$KV.>", "$KV.>"), to("$OBJ.>", "$OBJ.>"), to(">", "$JS.API.>")]
}

fn domain_mappings(options: &Options) -> Vec<Mapping> {
    let mapping = |(source, subject): (String, String)| {
        Mapping::new(&source, &[Destination { subject, weight: 100, cluster: None }]).ok()
    };
    domain_subjects(options).into_iter().filter_map(mapping).collect()
}

/// What keeps a server from running with these options, although each of them is good.
pub fn problems(options: &Options) -> Vec<Problem> {
    settings(options, ServerInfo::default()).err().unwrap_or_default()
}

fn rates(limits: &midge_config::RateLimits) -> Rates {
    let rate = |limit: &midge_config::RateLimit| Rate {
        msgs: limit.msgs.and_then(NonZero::new),
        bytes: limit.bytes.and_then(NonZero::new),
    };
    let users = limits.users.iter().map(|(name, limit)| (name.to_smolstr(), rate(limit)));
    Rates { users: users.collect(), others: rate(&limits.default) }
}

/// WebSocket, if somebody can come that way.
fn listened(options: &Options) -> Option<&WebSocket> {
    options.websocket.as_ref().filter(|websocket| websocket.listen.is_some())
}

/// Whether credentials are configured for WebSocket alone.
fn asks(websocket: &WebSocket) -> bool {
    let authorization = &websocket.authorization;
    authorization.user.is_some() || authorization.token.is_some() || websocket.no_auth_user.is_some()
}

fn directory(options: &Options, id: &str) -> Directory {
    let authorization = &options.authorization;
    let main = Credentials {
        user: authorization.user.as_ref().zip(authorization.password.as_ref()),
        token: authorization.token.as_ref(),
        no_auth_user: options.no_auth_user.as_deref(),
    };
    let empty = midge_config::Secret::default();
    let websocket = listened(options).map(|websocket| {
        let own = &websocket.authorization;
        let credentials = Credentials {
            user: own.user.as_ref().map(|user| (user, own.password.as_ref().unwrap_or(&empty))),
            token: own.token.as_ref(),
            no_auth_user: websocket.no_auth_user.as_deref(),
        };
        let credentials = if asks(websocket) { credentials } else { main };
        Box::new(listed(options, id, &credentials, websocket.tls.as_ref(), "WEBSOCKET"))
    });
    Directory {
        websocket,
        lines: lines(options),
        ..listed(options, id, &main, options.tls.as_ref(), "STANDARD")
    }
}

/// Who comes in without being one of the users.
#[derive(Clone, Copy)]
struct Credentials<'a> {
    user: Option<(&'a String, &'a midge_config::Secret)>,
    token: Option<&'a midge_config::Secret>,
    no_auth_user: Option<&'a str>,
}

/// Those who may come by connections of this kind.
fn listed(
    options: &Options,
    id: &str,
    credentials: &Credentials<'_>,
    tls: Option<&midge_config::Tls>,
    kind: &str,
) -> Directory {
    let secret = |secret: &midge_config::Secret| Secret::new(secret.expose());
    let mut users = HashMap::new();
    if let Some((name, password)) = credentials.user {
        let proof = Proof::Secret(secret(password));
        let user = User { proof, account: GLOBAL_ACCOUNT.into(), permit: None, welcome: true };
        users.insert(name.to_smolstr(), user);
    }
    for (account, user) in options.users() {
        let proof = match &user.identity {
            Identity::Password { password, .. } => Proof::Secret(secret(password)),
            Identity::Nkey(key) => match PublicKey::parse(key) {
                Ok(key) => Proof::Key(key),
                // The configuration's reader has refused it.
                Err(_) => continue,
            },
        };
        let types = &user.connection_types;
        let entry = User {
            proof,
            account: account.into(),
            permit: user.permissions.as_ref().map(|permissions| Arc::new(permit(permissions))),
            welcome: types.is_empty() || types.iter().any(|it| it == kind),
        };
        users.insert(user.identity.name().to_smolstr(), entry);
    }
    let by_password = users.iter().filter(|(_, user)| matches!(user.proof, Proof::Secret(_)));
    let certificates = (tls.is_some_and(|tls| tls.map) && options.users().next().is_some())
        .then(|| Certificates::new(by_password.map(|(name, _)| name)));
    let mut no_auth_user = credentials.no_auth_user.map(SmolStr::from);
    if no_auth_user.is_none() && only_system_users(options) {
        // Whoever guesses the name gets what is to be had without it.
        let name = format_smolstr!("nats-{}", id.get(1..9).unwrap_or_default());
        let proof = Proof::Secret(Secret::new(&name[5..]));
        let user = User { proof, account: GLOBAL_ACCOUNT.into(), permit: None, welcome: true };
        users.insert(name.clone(), user);
        no_auth_user = Some(name);
    }
    Directory {
        certificates,
        closed: options.users().next().is_some(),
        token: credentials.token.map(secret),
        users,
        no_auth_user,
        default_account: GLOBAL_ACCOUNT.into(),
        ..Directory::default()
    }
}

/// The serial lines, and who the devices on them are.
fn lines(options: &Options) -> HashMap<SmolStr, Line> {
    let line = |line: &midge_config::SerialLine| {
        let own = line.account.is_some() || line.permissions.is_some();
        let device = match &line.user {
            Some(name) => Some(LineDevice::User(name.to_smolstr())),
            None => own.then(|| LineDevice::Own {
                account: line.account.as_deref().unwrap_or(GLOBAL_ACCOUNT).into(),
                permit: line.permissions.as_ref().map(|permissions| Arc::new(permit(permissions))),
            }),
        };
        (line.name().into(), Line { payload_bytes_max: line.payload_bytes_max, device })
    };
    options.serial.iter().map(line).collect()
}

/// The service that is asked about users.
fn callout(options: &Options) -> Option<CalloutRule> {
    let configured = options.authorization.auth_callout.as_ref()?;
    Some(CalloutRule {
        issuer: configured.issuer.clone(),
        account: configured.account.as_str().into(),
        auth_users: configured.auth_users.iter().map(SmolStr::from).collect(),
        // The configuration's reader has checked that it is a key.
        xkey: configured.xkey.as_deref().and_then(|xkey| PublicKey::parse(xkey).ok()),
        accounts: configured.allowed_accounts.iter().map(SmolStr::from).collect(),
    })
}

/// True if there is no account but the server's own, which somebody was let into: that shuts nobody else out.
fn only_system_users(options: &Options) -> bool {
    let system = options.system_account.as_deref().unwrap_or(SYSTEM_ACCOUNT);
    let alone =
        matches!(&options.accounts[..], [account] if account.name == system && !account.users.is_empty());
    alone && !options.no_system_account && !options.authorization.given && options.trust.operators.is_empty()
}

fn permit(permissions: &midge_config::Permissions) -> Permit {
    let rules = |subjects: &midge_config::Subjects| {
        Rules::new(
            subjects.allow.as_ref().map(|allow| allow.iter().map(String::as_str)),
            subjects.deny.iter().map(String::as_str),
        )
    };
    let responses = permissions
        .allow_responses
        .as_ref()
        .map(|rule| Responses { max: rule.messages_max, expires: rule.expires });
    Permit::new(rules(&permissions.publish), rules(&permissions.subscribe), responses)
}

fn read_mapping(mapping: &midge_config::Mapping) -> Result<Mapping, midge_broker::MappingError> {
    let destinations: Vec<_> = mapping
        .destinations
        .iter()
        .map(|to| Destination { subject: to.subject.clone(), weight: to.weight, cluster: to.cluster.clone() })
        .collect();
    Mapping::new(&mapping.source, &destinations)
}
