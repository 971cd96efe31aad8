//! Accounts that operators signed, where they are kept and how they change while the daemon runs.
//!
//! ```text
//!   store       a directory of tokens, `resolver { type: full, dir: … }`
//!   registrar   $SYS.REQ.CLAIMS.… and $SYS.REQ.ACCOUNT.*.CLAIMS.…: who looks up, updates, lists and deletes them
//! ```

mod registrar;
mod store;

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use midge_broker::{AccountClaims, Settings};
use midge_config::{Options, Resolver};
use midge_jwt::{Account, Claims, Limits, Token};

use crate::clock::Clock;
use crate::log::Log;

pub(crate) use registrar::Registrar;
pub(crate) use store::Store;

/// Opens the directory that the configuration names, if it does, puts the configuration's accounts into it, and sees to
/// it that the server's own account is known from the start.
pub(crate) fn open(
    options: &Options,
    settings: &mut Settings,
    clock: Clock,
    log: &Log,
) -> Result<Option<Arc<Store>>, String> {
    let Some(Resolver::Directory(directory)) = &options.trust.resolver else { return Ok(None) };
    let Some(trust) = &mut settings.directory.trust else { return Ok(None) };
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
    Ok(Some(Arc::new(store)))
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
