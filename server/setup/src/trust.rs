//! Operators and their accounts: from texts to what they say.

use std::collections::HashSet;
use std::sync::Arc;

use midge_broker::{AccountClaims, Trust};
use midge_config::{Options, Problem, Resolver};
use midge_jwt::{Grant, Kind, Operator, Token, User, nkey, undecorated};

use crate::info::NATS_VERSION;

/// Whom the server trusts with accounts; `None` if the configuration doesn't ask for it.
pub(crate) fn trust(options: &Options) -> Result<Option<Trust>, Vec<Problem>> {
    let configured = &options.trust;
    let operators = operators(options)?;
    if operators.is_empty() && configured.trusted_keys.is_empty() {
        return Ok(None);
    }
    let mut problems: Vec<_> = operators.iter().filter_map(|it| it.problem(NATS_VERSION)).collect();
    let mut trust = Trust {
        keys: configured.trusted_keys.iter().cloned().collect(),
        strict: HashSet::new(),
        pinned: None,
        sentinel: None,
        resolves: matches!(configured.resolver, Some(Resolver::Directory(_) | Resolver::Web(_))),
        mappings: Vec::new(),
        accounts: Default::default(),
    };
    if let Some(key) = configured.trusted_keys.iter().find(|key| !nkey::is(key, Kind::Operator)) {
        problems.push(format!("trust key {key:?} is required to be a valid public operator nkey"));
    }
    for operator in &operators {
        trust.keys.extend(operator.account_signers().map(str::to_owned));
        if operator.body.strict_signing_key_usage {
            trust.strict.extend(operator.body.signing_keys.iter().cloned());
        }
    }
    let system = system_account(options);
    problems.extend(system_problem(options, &operators));
    if !configured.resolver_pinned_accounts.is_empty() {
        if let Some(key) =
            configured.resolver_pinned_accounts.iter().find(|key| !nkey::is(key, Kind::Account))
        {
            problems.push(format!("pinned account key {key:?} is not a valid public account nkey"));
        }
        // The server's own account is never shut out.
        trust.pinned =
            Some(configured.resolver_pinned_accounts.iter().cloned().chain(system.clone()).collect());
    }
    if let Some(text) = &configured.default_sentinel {
        match sentinel(text) {
            Ok(user) => trust.sentinel = Some(Arc::new(user)),
            Err(problem) => problems.push(problem.to_owned()),
        }
    }
    for (key, claims) in preloaded(options) {
        match claims {
            Err(error) => problems.push(format!("preload account error for {key:?}: {error}")),
            // One that isn't to be trusted is as good as none.
            Ok(claims) if claims.key() == key && trust.vouches(&claims).is_ok() => {
                trust.accounts.insert(key.into(), Arc::new(claims));
            }
            Ok(_) => {}
        }
    }
    if let Some(name) = system.filter(|name| !trust.resolves && !trust.accounts.contains_key(name.as_str())) {
        problems.push(format!("error resolving system account: account {name} is missing"));
    }
    if problems.is_empty() { Ok(Some(trust)) } else { Err(problems.into_iter().map(general).collect()) }
}

/// The accounts of the configuration itself.
pub fn preloaded(options: &Options) -> impl Iterator<Item = (&str, Result<AccountClaims, String>)> {
    let preloads = options.trust.resolver_preload.iter();
    preloads.map(|(key, text)| (key.as_str(), AccountClaims::read(text).map_err(|error| error.to_string())))
}

/// What an operator should know of accounts that keeps nobody from starting. `now` is in seconds since the Unix epoch.
pub fn warnings(options: &Options, now: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    for (key, claims) in preloaded(options) {
        let Ok(claims) = claims else { continue };
        let mut problems = claims.problems();
        problems.extend(claims.token.claims.time_problem(now).map(str::to_owned));
        if claims.key() != key {
            problems.push(format!("it is the token of {}", claims.key()));
        }
        if !problems.is_empty() {
            warnings.push(format!("Account [{key}] has validation issues: {}", problems.join("; ")));
        }
    }
    warnings
}

/// The server's own account, if the configuration or the only operator names one.
pub fn system_account(options: &Options) -> Option<String> {
    let named = options.system_account.clone();
    let by_operator = || match &operators(options).ok()?[..] {
        [only] => Some(only.body.system_account.clone()).filter(|name| !name.is_empty()),
        _ => None,
    };
    named.or_else(by_operator)
}

fn system_problem(options: &Options, operators: &[Token<Operator>]) -> Option<String> {
    let named = || operators.iter().map(|it| &it.body.system_account).filter(|name| !name.is_empty());
    match &options.system_account {
        Some(name) if named().next().is_some() && !named().any(|it| it == name) => {
            Some("system_account in config and operator JWT must be identical".into())
        }
        None if operators.first()?.body.system_account.is_empty()
            && matches!(options.trust.resolver, Some(Resolver::Directory(_))) =>
        {
            Some("using nats based account resolver - the system account needs to be specified in configuration or the operator jwt".into())
        }
        _ => None,
    }
}

fn operators(options: &Options) -> Result<Vec<Token<Operator>>, Vec<Problem>> {
    let read = |text: &String| {
        Token::decode(undecorated(text)).map_err(|error| {
            let text = format!("error parsing operator JWT: {error}");
            match &options.trust.at {
                Some(at) => Problem::new(&at.0, text),
                None => general(text),
            }
        })
    };
    let (read, failed): (Vec<_>, Vec<_>) = options.trust.operators.iter().map(read).partition(Result::is_ok);
    if failed.is_empty() {
        Ok(read.into_iter().flatten().collect())
    } else {
        Err(failed.into_iter().filter_map(Result::err).collect())
    }
}

fn sentinel(text: &str) -> Result<Token<User>, &'static str> {
    let user = Token::<User>::decode(text).map_err(|_| "default sentinel JWT not valid")?;
    let scoped = !user.body.issuer_account.is_empty() && user.body.grant == Grant::default();
    if user.body.grant.bearer_token || scoped {
        Ok(user)
    } else {
        Err("default sentinel must be a bearer token")
    }
}

fn general(text: String) -> Problem {
    Problem::general(text)
}
