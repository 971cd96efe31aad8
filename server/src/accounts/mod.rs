//! Accounts that operators signed, where they are kept and how they change while the daemon runs.
//!
//! ```text
//!   store       a directory of tokens, `resolver { type: full, dir: … }`
//!   web         the same on a web server, `resolver: URL(…)`, which is only asked
//!   registrar   $SYS.REQ.CLAIMS.… and $SYS.REQ.ACCOUNT.*.CLAIMS.…: who looks up, updates, lists and deletes them
//! ```

mod registrar;
mod store;
mod web;

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use midge_broker::{AccountClaims, Settings, Trust};
use midge_config::{Options, Resolver, ResolverDirectory};
use midge_jwt::{Account, Claims, Limits, Token};

use crate::clock::Clock;
use crate::log::Log;

pub(crate) use registrar::Registrar;
pub(crate) use store::Store;
pub(crate) use web::Web;

/// Where accounts are that the configuration doesn't have.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) web: Option<Arc<Web>>,
}

/// Opens what the configuration names, and sees to it that the server's own account is known from the start.
pub(crate) async fn open(
    options: &Options,
    settings: &mut Settings,
    clock: Clock,
    log: &Log,
) -> Result<Sources, String> {
    let Some(trust) = &mut settings.directory.trust else { return Ok(Sources::default()) };
    match &options.trust.resolver {
        Some(Resolver::Directory(directory)) => {
            let store = open_store(directory, options, trust, clock, log)?;
            Ok(Sources { store: Some(Arc::new(store)), web: None })
        }
        Some(Resolver::Web(web)) => {
            let web = Web::open(web)?;
            if let Some(name) = midge_setup::system_account(options) {
                let claims = web.account(&name).await;
                let claims = claims.and_then(|claims| trust.vouches(&claims).map(|()| claims));
                let claims = claims.map_err(|why| format!("error resolving system account: {why}"))?;
                trust.accounts.insert(name.into(), Arc::new(claims));
            }
            log.info(format_args!("Accounts are fetched from {}", web.base()));
            Ok(Sources { store: None, web: Some(Arc::new(web)) })
        }
        Some(Resolver::Memory) | None => Ok(Sources::default()),
    }
}

/// Opens the directory, and puts the configuration's accounts into it.
fn open_store(
    directory: &ResolverDirectory,
    options: &Options,
    trust: &mut Trust,
    clock: Clock,
    log: &Log,
) -> Result<Store, String> {
    let store = Store::open(directory)
        .map_err(|error| format!("the accounts in {} can't be read: {error}", directory.dir.display()))?;
    preload(options, &store, clock, log);
    if let Some(name) = midge_setup::system_account(options) {
        let text = store.load(&name, UNIX_EPOCH + clock.now().wall).map_err(|error| error.to_string())?;
        let claims = text.and_then(|text| AccountClaims::read(&text).ok());
        let claims = claims.filter(|claims| claims.key() == name && trust.vouches(claims).is_ok());
        let claims = claims.unwrap_or_else(|| {
            log.warn(
                "the system account is not in the directory yet: until it is, its own key signs its users",
            );
            first_system_account(&name, trust.keys.iter().min())
        });
        trust.accounts.insert(name.into(), Arc::new(claims));
    }
    let kind = if store.is_full() { "all" } else { "some" };
    log.info(format_args!("Managing {kind} jwt in exclusive directory {}", store.dir().display()));
    Ok(store)
}

/// Puts the configuration's accounts into the directory, unless newer ones are there.
pub(crate) fn preload(options: &Options, store: &Store, clock: Clock, log: &Log) {
    for (key, claims) in midge_setup::preloaded(options) {
        let Ok(claims) = claims else { continue };
        let text = options.trust.resolver_preload.get(key).map(String::as_str).unwrap_or_default();
        if claims.key() != key {
            continue;
        }
        if let Err(error) = store.save_if_newer(&claims, text.trim(), UNIX_EPOCH + clock.now().wall) {
            log.error(format_args!("Account [{key}] could not be saved: {error}"));
        }
    }
}

/// Stands in for the system account of an empty directory, so that somebody can put accounts into it.
fn first_system_account(name: &str, operator: Option<&String>) -> AccountClaims {
    let claims =
        Claims { iss: operator.cloned().unwrap_or_default(), name: "SYS".into(), ..Claims::about(name) };
    let body = Account { limits: Limits::unlimited(), ..Account::default() };
    AccountClaims { token: Token { claims, body }, activations: Vec::new() }
}
