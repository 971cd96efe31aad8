//! Accounts come into force whose claims an operator signed, at the start and at any time later.

use std::sync::Arc;
use std::time::Duration;

use midge_jwt::{Crossing, Token};
use midge_protocol::error;
use smol_str::SmolStr;

use crate::account::export::{
    Access, Exports, Latency, RESPONSE_THRESHOLD, Response, ServiceExport, StreamExport,
};
use crate::account::import::{Activation, Imports, ServiceImport, StreamImport};
use crate::alarm::Alarm;
use crate::auth::{AccountClaims, Identity, Trust, Warrant};
use crate::broker::{Broker, Now};
use crate::closed::CloseReason;
use crate::conn::{ConnId, Port};
use crate::notice::Level;
use crate::settings::{AccountLimits, AccountSettings, StreamShare, Tracing};
use crate::sort::sort_by;
use midge_router::mapping::{Destination, Mapping};

impl Trust {
    /// What the known accounts are, in an order that doesn't change.
    pub(crate) fn account_settings(&self, now: Duration) -> Vec<AccountSettings> {
        let mut accounts: Vec<_> = self.accounts.values().collect();
        sort_by(&mut accounts, |a, b| a.key().cmp(b.key()));
        accounts.into_iter().map(|claims| self.settings_of(claims, now)).collect()
    }

    fn settings_of(&self, claims: &AccountClaims, now: Duration) -> AccountSettings {
        let body = &claims.token.body;
        let mapping = |(source, to): (&String, &Vec<midge_jwt::WeightedMapping>)| {
            let destination = |to: &midge_jwt::WeightedMapping| Destination {
                subject: to.subject.clone(),
                weight: to.percent(),
                cluster: Some(to.cluster.clone()).filter(|cluster| !cluster.is_empty()),
            };
            // One that makes no sense is left out, as in nats-server.
            Mapping::new(source, &to.iter().map(destination).collect::<Vec<_>>()).ok()
        };
        let shared = |(source, to): &(String, String)| {
            Mapping::new(source, &[Destination { subject: to.clone(), weight: 100, cluster: None }]).ok()
        };
        AccountSettings {
            name: claims.key().into(),
            tag: claims.token.claims.name.as_str().into(),
            mappings: self
                .mappings
                .iter()
                .filter_map(shared)
                .chain(body.mappings.iter().filter_map(mapping))
                .collect(),
            limits: AccountLimits {
                connections: midge_jwt::ceiling(body.limits.conn),
                subscriptions: midge_jwt::ceiling(body.limits.subs),
                payload: midge_jwt::ceiling(body.limits.payload),
            },
            streams: StreamShare::claimed(&body.limits),
            exports: if claims.is_current(now) { exports(&body.exports) } else { Exports::default() },
            imports: self.imports(claims, now),
            tracing: body.trace.as_ref().map(|trace| Tracing {
                destination: trace.dest.as_str().into(),
                percent: u8::try_from(trace.sampling).unwrap_or(100),
            }),
        }
    }

    fn imports(&self, claims: &AccountClaims, now: Duration) -> Imports {
        let mut imports = Imports::default();
        for (import, activation) in claims.token.body.imports.iter().zip(&claims.activations) {
            let account = SmolStr::from(&import.account);
            let activation = activation.as_ref().and_then(|it| self.activation(claims, import, it, now));
            let (subject, to) = import.subjects();
            let subject = subject.to_owned();
            match import.kind {
                Crossing::Stream => {
                    let allow_trace = import.allow_trace;
                    imports.streams.push(StreamImport { account, subject, to, activation, allow_trace });
                }
                Crossing::Service => {
                    let share = import.share;
                    imports.services.push(ServiceImport { account, subject, to, share, activation });
                }
                Crossing::Unknown => {}
            }
        }
        imports
    }

    /// The leave to import, if the exporting account gave it, and hasn't taken it back.
    fn activation(
        &self,
        importer: &AccountClaims,
        import: &midge_jwt::Import,
        token: &Token<midge_jwt::Activation>,
        now: Duration,
    ) -> Option<Activation> {
        let exporter = self.accounts.get(import.account.as_str())?;
        let Token { claims, body } = token;
        let by_itself = body.issuer_account.is_empty() && claims.iss == import.account;
        let by_its_key = body.issuer_account == import.account && self.signs(exporter, &claims.iss).is_some();
        if !(by_itself || by_its_key) || claims.sub != importer.key() {
            return None;
        }
        let at = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if claims.time_problem(at).is_some() || claims.is_over(at) {
            return None;
        }
        let there = import.subjects().0.to_owned();
        let covers =
            |export: &&midge_jwt::Export| export.kind == import.kind && covers(&export.subject, &there);
        let export = exporter.token.body.exports.iter().find(covers);
        if export.is_some_and(|it| midge_jwt::is_revoked(&it.revocations, &claims.sub, claims.iat)) {
            return None;
        }
        let expires = u64::try_from(claims.exp).ok().filter(|exp| *exp > 0).map(Duration::from_secs);
        Some(Activation { expires })
    }
}

fn covers(filter: &str, subject: &str) -> bool {
    use midge_protocol::subject::Filter;
    Filter::new(filter.as_bytes())
        .is_ok_and(|filter| Filter::new(subject.as_bytes()).is_ok_and(|subject| subject.is_subset_of(filter)))
}

fn exports(exports: &[midge_jwt::Export]) -> Exports {
    let access = |export: &midge_jwt::Export| match u32::try_from(export.account_token_position) {
        Ok(position) if position > 0 => Access::OwnName(position),
        _ if export.token_req => Access::Activated,
        _ => Access::Public,
    };
    let of = |kind| exports.iter().filter(move |export| export.kind == kind);
    let streams = of(Crossing::Stream)
        .map(|export| StreamExport { subject: export.subject.clone(), access: access(export) });
    let services = of(Crossing::Service).map(|export| ServiceExport {
        access: access(export),
        response: match export.response_type.as_str() {
            "Stream" => Response::Stream,
            "Chunked" => Response::Chunked,
            _ => Response::Single,
        },
        threshold: match u64::try_from(export.response_threshold) {
            Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
            _ => RESPONSE_THRESHOLD,
        },
        latency: export.service_latency.as_ref().map(|latency| Latency {
            subject: latency.results.clone(),
            sampling: u8::try_from(latency.sampling).unwrap_or(100),
        }),
        allow_trace: export.allow_trace,
        ..ServiceExport::new(export.subject.as_str())
    });
    Exports { streams: streams.collect(), services: services.collect() }
}

impl<P: Port> Broker<P> {
    /// Takes accounts into force, or what changed of them, as far as they are to be trusted: connections that they don't
    /// vouch for any more are closed. Says how many were new or different.
    pub fn learn(&mut self, accounts: Vec<Arc<AccountClaims>>, now: Now) -> usize {
        let Some(trust) = &self.settings.directory.trust else { return 0 };
        let differs = |claims: &Arc<AccountClaims>| {
            trust.accounts.get(claims.key()) != Some(claims)
                && claims.is_current(now.wall)
                && trust.vouches(claims).is_ok()
        };
        let changed: Vec<_> = accounts.into_iter().filter(differs).collect();
        if changed.is_empty() {
            return 0;
        }
        let old = trust.clone();
        let mut settings = self.settings.clone();
        let trust = settings.directory.trust.get_or_insert_default();
        let entry = |claims: &Arc<AccountClaims>| (SmolStr::from(claims.key()), Arc::clone(claims));
        trust.accounts.extend(changed.iter().map(entry));
        self.install(settings, now);
        for claims in &changed {
            self.recheck_account(claims.key(), &old, now);
        }
        changed.len()
    }

    /// Forgets an account: its connections are closed. False if it wasn't known.
    pub fn forget_account(&mut self, key: &str, now: Now) -> bool {
        let known = self.settings.directory.trust.as_ref().is_some_and(|it| it.accounts.contains_key(key));
        if !known || self.settings.system_account.as_deref() == Some(key) {
            return false;
        }
        let mut settings = self.settings.clone();
        if let Some(trust) = &mut settings.directory.trust {
            trust.accounts.remove(key);
        }
        settings.accounts.retain(|account| account.name != key);
        self.install(settings, now);
        self.expire_account(key, now);
        self.vacate();
        true
    }

    /// Sees to it that accounts' times begin and end when they should.
    pub(crate) fn arm_account_times(&mut self, now: Now) {
        let Some(trust) = &self.settings.directory.trust else { return };
        let wall = i64::try_from(now.wall.as_secs()).unwrap_or(i64::MAX);
        let times = trust.accounts.values().flat_map(|it| [it.token.claims.exp, it.token.claims.nbf]);
        let Some(next) = times.filter(|time| *time > wall).min() else { return };
        let at = now.mono + Duration::from_secs(u64::try_from(next - wall).unwrap_or(0));
        if self.account_times.is_none_or(|armed| at < armed) {
            self.account_times = Some(at);
            self.set_alarm(at, Alarm::AccountTimes);
        }
    }

    /// [`Alarm::AccountTimes`].
    pub(crate) fn account_times_due(&mut self, now: Now) {
        if self.account_times.is_some_and(|armed| armed > now.mono) {
            // There is an earlier one that came later, or this is it.
            return;
        }
        self.account_times = None;
        let Some(trust) = &self.settings.directory.trust else { return };
        let wall = i64::try_from(now.wall.as_secs()).unwrap_or(i64::MAX);
        let over = trust.accounts.values().filter(|claims| claims.token.claims.is_over(wall));
        let over: Vec<_> = over.map(|claims| claims.key().to_owned()).collect();
        self.install(self.settings.clone(), now);
        over.iter().for_each(|key| self.expire_account(key, now));
    }

    fn expire_account(&mut self, key: &str, now: Now) {
        for id in self.connections_in(key) {
            self.debug(id, error::ACCOUNT_EXPIRED);
            self.fail(id, error::ACCOUNT_EXPIRED, CloseReason::AuthenticationExpired, now);
        }
    }

    fn connections_in(&self, account: &str) -> Vec<ConnId> {
        let Some(account) = self.account_named(account) else { return Vec::new() };
        let mut found: Vec<_> = self.connections().filter(|(_, conn)| conn.account == account).collect();
        sort_by(&mut found, |(_, a), (_, b)| a.cid.cmp(&b.cid));
        found.into_iter().map(|(id, _)| id).collect()
    }

    /// An account has new claims: connections that they don't vouch for any more are closed, the newest of too many, and
    /// the others get what the claims give them.
    fn recheck_account(&mut self, key: &str, old: &Trust, now: Now) {
        let most = self.account_named(key).and_then(|id| self.account(id).limits.connections);
        for (count, id) in self.connections_in(key).into_iter().enumerate() {
            if most.is_some_and(|most| u32::try_from(count).unwrap_or(u32::MAX) >= most) {
                self.fail(id, error::MAX_ACCOUNT_CONNECTIONS, CloseReason::MaxAccountConnections, now);
            } else if let Some(warrant) = self.conn(id).and_then(|conn| conn.warrant.clone()) {
                self.recheck_warrant(id, &warrant, old, now);
            }
        }
    }

    /// Whether a connection that came in by a token may stay under the claims that its account has now.
    pub(crate) fn recheck_warrant(&mut self, id: ConnId, warrant: &Arc<Warrant>, old: &Trust, now: Now) {
        let Some(conn) = self.conn(id) else { return };
        let name = self.account(conn.account).name.clone();
        let Some(trust) = &self.settings.directory.trust else { return };
        let Some(claims) = trust.accounts.get(&name) else {
            return self.fail(id, error::AUTHORIZATION_VIOLATION, CloseReason::CredentialsRevoked, now);
        };
        let body = &claims.token.body;
        if midge_jwt::is_revoked(&body.revocations, &warrant.user, warrant.issued) {
            self.debug(id, error::USER_REVOKED);
            return self.fail(id, error::USER_REVOKED, CloseReason::CredentialsRevoked, now);
        }
        let signs = trust.signs(claims, &warrant.issuer);
        let signed = old.accounts.get(&name).and_then(|claims| old.signs(claims, &warrant.issuer));
        if signs.is_none() || signs != signed || warrant.bearer && body.limits.disallow_bearer {
            return self.fail(id, error::AUTHORIZATION_VIOLATION, CloseReason::AuthenticationFailure, now);
        }
        let permit = if warrant.by_default { claims.default_permit() } else { conn.permit().cloned() };
        let (user, warrant) = (conn.user.clone(), Some(Arc::clone(warrant)));
        self.assign(id, &Identity { user, account: name, permit, warrant });
        let most = self.limit_subscriptions(id);
        if self.conn(id).is_some_and(|conn| most.is_some_and(|most| conn.subscriptions() >= most)) {
            self.note(id, Level::Error, error::MAX_SUBSCRIPTIONS);
            return self.fail(id, error::MAX_SUBSCRIPTIONS, CloseReason::MaxSubscriptions, now);
        }
        self.recheck_subscriptions(id, now);
    }
}
