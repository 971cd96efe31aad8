//! What no single key can tell: do the settings fit together?
//!
//! nats-server asks most of this only when it starts, so its `-t` accepts what is refused here.

use std::collections::HashSet;

use crate::options::{GLOBAL_ACCOUNT, LAME_DUCK_MIN, Options, PAYLOAD_BYTES_ADVISED, SYSTEM_ACCOUNT};
use crate::report::{Problem, Report};

/// Checks finished options, the command line's included.
pub(crate) fn validate(options: &Options, report: &mut Report) {
    limits(options, report);
    users(options, report);
    accounts(options, report);
    serial(options, report);
    trust(options, report);
    listeners(options, report);
}

fn limits(options: &Options, report: &mut Report) {
    let (limits, duck) = (&options.limits, &options.lame_duck);
    if u64::from(limits.payload_bytes_max) > limits.pending_bytes_max {
        general(
            report,
            format!(
                "max_payload ({}) cannot be higher than max_pending ({})",
                limits.payload_bytes_max, limits.pending_bytes_max
            ),
        );
    }
    if limits.payload_bytes_max > PAYLOAD_BYTES_ADVISED {
        let text = "Maximum payloads over 8 MiB are generally discouraged and could lead to poor performance";
        report.warnings.push(Problem::general(text));
    }
    if duck.duration < LAME_DUCK_MIN {
        general(report, format!("invalid lame_duck_duration of {:?}, minimum is 30 seconds", duck.duration));
    }
    if duck.grace >= duck.duration {
        general(
            report,
            format!(
                "lame duck grace period ({:?}) should be strictly lower than lame duck duration ({:?})",
                duck.grace, duck.duration
            ),
        );
    }
    if options.server_name.as_ref().is_some_and(|name| name.contains(' ')) {
        general(report, "server name cannot contain spaces");
    }
}

fn users(options: &Options, report: &mut Report) {
    let mut names = HashSet::new();
    for (_, user) in options.users() {
        if !names.insert(user.identity.name()) {
            report.error(&user.at.0, format!("Duplicate user {:?} detected", user.identity.name()));
        }
    }
    let authorization = &options.authorization;
    if options.accounts.iter().any(|account| !account.users.is_empty()) {
        if authorization.user.is_some() {
            general(report, "Can not have a single user/pass and accounts");
        }
        if authorization.token.is_some() {
            general(report, "Can not have a token and accounts");
        }
    }
    if let Some(callout) = &authorization.auth_callout {
        let known = |name: &String| name == GLOBAL_ACCOUNT || has_account(options, name);
        for name in callout.allowed_accounts.iter().filter(|name| !known(name)) {
            general(
                report,
                format!("auth_callout allowed account {name:?} not found in configured accounts"),
            );
        }
    }
    let websocket = options.websocket.as_ref().and_then(|websocket| websocket.no_auth_user.as_ref());
    let mqtt = options.mqtt.as_ref().and_then(|mqtt| mqtt.no_auth_user.as_ref());
    for name in [options.no_auth_user.as_ref(), websocket, mqtt].into_iter().flatten() {
        if !options.trust.operators.is_empty() {
            general(report, "no_auth_user not compatible with Trusted Operator");
        } else if !names.contains(name.as_str()) {
            general(
                report,
                format!(
                    "no_auth_user: {name:?} not present as user or nkey in authorization block or account configuration"
                ),
            );
        }
    }
}

fn accounts(options: &Options, report: &mut Report) {
    if let Some(name) = &options.system_account
        && options.trust.operators.is_empty()
        && options.trust.trusted_keys.is_empty()
        && name != SYSTEM_ACCOUNT
        && !has_account(options, name)
    {
        general(report, format!("system_account {name:?} is not defined"));
    }
}

/// Who the devices on serial lines are to be.
fn serial(options: &Options, report: &mut Report) {
    for line in &options.serial {
        let device = line.device.display();
        let tells = line.user.is_some() || line.account.is_some() || line.permissions.is_some();
        if tells && (!options.trust.operators.is_empty() || !options.trust.trusted_keys.is_empty()) {
            report.error(
                &line.at.0,
                format!("serial line {device}: operators do not allow users to be configured directly"),
            );
        }
        if let Some(name) = &line.user
            && !options.users().any(|(_, user)| user.identity.name() == name)
            && options.authorization.user.as_ref() != Some(name)
        {
            report.error(&line.at.0, format!("serial line {device}: user {name:?} is not defined"));
        }
        if let Some(name) = line.account.as_ref().filter(|name| !has_account(options, name)) {
            report.error(&line.at.0, format!("serial line {device}: account {name:?} is not defined"));
        }
    }
}

/// What operators and accounts of the configuration are to each other. What operators' tokens say is another matter.
fn trust(options: &Options, report: &mut Report) {
    let trust = &options.trust;
    if trust.operators.is_empty() {
        if trust.default_sentinel.is_some() {
            general(report, "default sentinel requires operators and accounts");
        }
        return;
    }
    if trust.resolver.is_none() {
        general(report, "operators require an account resolver to be configured");
    }
    if !options.accounts.is_empty() {
        general(report, "operators do not allow Accounts to be configured directly");
    }
    if options.authorization.users.as_ref().is_some_and(|users| !users.is_empty()) {
        general(report, "operators do not allow users to be configured directly");
    }
    if !trust.trusted_keys.is_empty() {
        general(report, "conflicting options for 'TrustedKeys' and 'TrustedOperators'");
    }
    if options.authorization.auth_callout.is_some() {
        general(report, "operators do not allow authorization callouts to be configured directly");
    }
}

fn listeners(options: &Options, report: &mut Report) {
    let monitor = &options.monitor;
    if let (Some(http), Some(https)) = (monitor.http_port, monitor.https_port) {
        general(report, format!("can't specify both HTTP ({http}) and HTTPs ({https}) ports"));
    }
    if monitor.https_port.is_some() && options.tls.is_none() {
        general(report, "TLS cert and key required for HTTPS");
    }
    if let Some(leafnodes) = options.leafnodes.as_ref().filter(|_| options.trust.operators.is_empty()) {
        let authorization = leafnodes.authorization.iter();
        let authorized = authorization
            .flat_map(|auth| auth.account.iter().chain(auth.users.iter().flat_map(|user| &user.account)));
        let remotes = leafnodes.remotes.iter().map(|remote| &remote.account);
        let mut names: Vec<_> =
            authorized.chain(remotes).filter(|name| !has_account(options, name)).collect();
        names.dedup();
        for name in names {
            general(report, format!("cannot find local account {name:?} specified in leafnodes"));
        }
    }
    let listed = options.users().next().is_some();
    if let Some(websocket) = options.websocket.as_ref().filter(|websocket| websocket.listen.is_some()) {
        if websocket.tls.is_none() && !websocket.no_tls {
            general(report, "websocket requires TLS configuration");
        }
        if listed && (websocket.authorization.user.is_some() || websocket.authorization.token.is_some()) {
            general(report, "websocket authentication not compatible with presence of users/nkeys");
        }
        let cookie = &websocket.cookies.jwt;
        if !cookie.is_empty() && options.trust.operators.is_empty() && options.trust.trusted_keys.is_empty() {
            general(
                report,
                format!(
                    "trusted operators or trusted keys configuration is required for JWT authentication via cookie {cookie:?}"
                ),
            );
        }
    }
    if let Some(mqtt) = options.mqtt.as_ref().filter(|mqtt| mqtt.listen.is_some())
        && listed
        && (mqtt.authorization.user.is_some() || mqtt.authorization.token.is_some())
    {
        general(report, "mqtt authentication not compatible with presence of users/nkeys");
    }
}

/// True if there is an account of this name, the two that nobody needs to define included.
fn has_account(options: &Options, name: &str) -> bool {
    name == GLOBAL_ACCOUNT
        || (name == SYSTEM_ACCOUNT && options.system_account.is_none() && !options.no_system_account)
        || options.accounts.iter().any(|account| account.name == name)
}

fn general(report: &mut Report, text: impl Into<String>) {
    report.errors.push(Problem::general(text));
}
