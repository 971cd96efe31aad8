//! What a new configuration changes, and whether a running server can follow.
//!
//! Source: reference 3.8, "Reload". Where nats-server asks for a restart only because nobody has written the
//! reload, and an owner of the setting can simply read it anew (`max_pending`, `max_subscriptions`, `lame_duck_…`,
//! `allow_non_tls`, `no_auth_user`), the change counts as reloadable here.

use std::fmt::{self, Debug};

use crate::options::Options;
use crate::serial::SerialLine;

/// Whether a running server can follow a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes effect at once or with the next connection.
    Reloadable,
    /// A reload with this change is refused as a whole: the old configuration stays.
    NeedsRestart,
}

/// One option that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The option's key, the blocks around it first.
    pub option: &'static str,
    /// What it was. Secrets are hidden.
    pub old: String,
    /// What it is to be. Secrets are hidden.
    pub new: String,
    /// Whether a running server can follow.
    pub verdict: Verdict,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, old, new, verdict } = self;
        match verdict {
            Verdict::Reloadable => write!(f, "{option}: old={old}, new={new}"),
            Verdict::NeedsRestart => {
                write!(f, "config reload not supported for {option}: old={old}, new={new}")
            }
        }
    }
}

/// Every option in which `new` differs from `old`. Where something was written does not count.
pub fn diff(old: &Options, new: &Options) -> Vec<Change> {
    use Verdict::{NeedsRestart, Reloadable};
    let mut d = Diff { old, new, changes: Vec::new() };

    d.field("listen", NeedsRestart, |o| &o.listen);
    d.field("server_name", NeedsRestart, |o| &o.server_name);
    d.field("http", NeedsRestart, |o| &o.monitor);
    d.field("client_advertise", Reloadable, |o| &o.client_advertise);
    d.field("server_tags", Reloadable, |o| &o.server_tags);
    d.field("server_metadata", Reloadable, |o| &o.server_metadata);
    d.field("unix_socket", NeedsRestart, |o| &o.unix_socket);
    d.field("clock", NeedsRestart, |o| &o.clock);
    d.part("serial", NeedsRestart, |o| Some(o.serial.iter().map(SerialLine::wire).collect::<Vec<_>>()));
    d.part("serial.permissions", Reloadable, |o| {
        Some(o.serial.iter().map(|line| (&line.user, &line.account, &line.permissions)).collect::<Vec<_>>())
    });
    d.field("pid_file", Reloadable, |o| &o.pid_file);
    d.field("ports_file_dir", Reloadable, |o| &o.ports_file_dir);

    d.field("debug", Reloadable, |o| &o.log.debug);
    d.field("trace", Reloadable, |o| &o.log.trace);
    d.field("trace_verbose", Reloadable, |o| &o.log.trace_verbose);
    d.field("trace_headers", Reloadable, |o| &o.log.trace_headers);
    d.field("max_traced_msg_len", Reloadable, |o| &o.log.max_traced_msg_len);
    d.field("logtime", Reloadable, |o| &o.log.time);
    d.field("logtime_utc", Reloadable, |o| &o.log.time_utc);
    d.field("log_file", Reloadable, |o| &o.log.file);
    d.field("logfile_size_limit", Reloadable, |o| &o.log.file_bytes_max);
    d.field("logfile_max_num", Reloadable, |o| &o.log.files_max);
    d.field("syslog", Reloadable, |o| &o.log.syslog);
    d.field("remote_syslog", Reloadable, |o| &o.log.remote_syslog);
    d.field("connect_error_reports", Reloadable, |o| &o.connect_error_reports);

    d.field("max_connections", Reloadable, |o| &o.limits.connections_max);
    d.field("max_subscriptions", Reloadable, |o| &o.limits.subscriptions_max);
    d.field("max_sub_tokens", NeedsRestart, |o| &o.limits.subscription_tokens_max);
    d.field("max_control_line", Reloadable, |o| &o.limits.control_line_bytes_max);
    d.field("max_payload", Reloadable, |o| &o.limits.payload_bytes_max);
    d.field("max_pending", Reloadable, |o| &o.limits.pending_bytes_max);
    d.field("memory_budget", Reloadable, |o| &o.limits.memory_budget);
    d.field("rate_limits", Reloadable, |o| &o.rate_limits);
    d.field("login_backoff", Reloadable, |o| &o.login_backoff);
    d.field("max_closed_clients", NeedsRestart, |o| &o.limits.closed_clients_max);
    d.field("ping_interval", Reloadable, |o| &o.keepalive.ping_interval);
    d.field("ping_max", Reloadable, |o| &o.keepalive.pings_max);
    d.field("write_deadline", Reloadable, |o| &o.keepalive.write_deadline);
    d.field("lame_duck_duration", Reloadable, |o| &o.lame_duck.duration);
    d.field("lame_duck_grace_period", Reloadable, |o| &o.lame_duck.grace);
    d.field("no_header_support", NeedsRestart, |o| &o.no_header_support);
    d.field("no_fast_producer_stall", Reloadable, |o| &o.no_fast_producer_stall);
    d.field("disable_sublist_cache", NeedsRestart, |o| &o.disable_sublist_cache);

    d.hidden("mappings", Reloadable, |o| &o.mappings, |m| format!("{} mappings", m.len()));
    d.hidden(
        "authorization",
        Reloadable,
        |o| &o.authorization,
        |auth| match (&auth.users, &auth.user, &auth.token) {
            (Some(users), _, _) => format!("{} users", users.len()),
            (None, Some(user), _) => format!("user {user:?}"),
            (None, None, Some(_)) => "token".to_owned(),
            (None, None, None) => "none".to_owned(),
        },
    );
    d.hidden(
        "accounts",
        Reloadable,
        |o| &o.accounts,
        |accounts| format!("{:?}", accounts.iter().map(|account| &account.name).collect::<Vec<_>>()),
    );
    d.field("no_auth_user", Reloadable, |o| &o.no_auth_user);
    d.field("system_account", NeedsRestart, |o| &o.system_account);
    d.field("no_system_account", NeedsRestart, |o| &o.no_system_account);
    d.field("tls", Reloadable, |o| &o.tls);
    d.field("allow_non_tls", Reloadable, |o| &o.allow_non_tls);
    d.hidden("operator", NeedsRestart, |o| &o.trust.operators, |o| format!("{} operators", o.len()));
    d.field("trusted_keys", NeedsRestart, |o| &o.trust.trusted_keys);
    d.field("resolver", NeedsRestart, |o| &o.trust.resolver);
    d.hidden(
        "resolver_preload",
        Reloadable,
        |o| &o.trust.resolver_preload,
        |p| format!("{} accounts", p.len()),
    );
    d.field("resolver_pinned_accounts", Reloadable, |o| &o.trust.resolver_pinned_accounts);
    d.hidden("default_sentinel", Reloadable, |o| &o.trust.default_sentinel, |_| "[hidden]".to_owned());

    d.field("jetstream", Reloadable, |o| &o.jetstream.enabled);
    d.field("jetstream.store_dir", NeedsRestart, |o| &o.jetstream.store_dir);
    d.field("jetstream.domain", NeedsRestart, |o| &o.jetstream.domain);
    d.field("jetstream.strict", Reloadable, |o| &o.jetstream.strict);
    d.field("jetstream.sync_interval", NeedsRestart, |o| &o.jetstream.sync);
    d.field("jetstream.commit_window", NeedsRestart, |o| &o.jetstream.commit_window);
    d.field("jetstream.limits", NeedsRestart, |o| &o.jetstream.limits);
    d.field("feature_flags", NeedsRestart, |o| &o.jetstream.long_acks);
    d.field("jetstream.encryption_key", NeedsRestart, |o| &o.jetstream.encryption_key);
    // A ceiling may grow; to shrink or to go from or to the daemon's own choice takes a restart.
    let grows = |old: Option<u64>, new: Option<u64>| match (old, new) {
        (Some(old), Some(new)) if new >= old => Reloadable,
        _ => NeedsRestart,
    };
    let (was, is) = (&old.jetstream, &new.jetstream);
    d.field("jetstream.max_memory_store", grows(was.memory_bytes_max, is.memory_bytes_max), |o| {
        &o.jetstream.memory_bytes_max
    });
    d.field("jetstream.max_file_store", grows(was.file_bytes_max, is.file_bytes_max), |o| {
        &o.jetstream.file_bytes_max
    });

    d.part("leafnodes.listen", NeedsRestart, |o| o.leafnodes.as_ref().and_then(|leaf| leaf.listen.as_ref()));
    d.part("leafnodes.advertise", NeedsRestart, |o| {
        let told = o.leafnodes.as_ref().map(|leaf| (&leaf.advertise, leaf.no_advertise));
        told.filter(|(advertise, hidden)| advertise.is_some() || *hidden)
    });
    d.part("leafnodes.authorization", NeedsRestart, |o| {
        o.leafnodes.as_ref().and_then(|leaf| leaf.authorization.as_ref())
    });
    d.part("leafnodes.remotes", Reloadable, |o| o.leafnodes.as_ref().map(|leaf| &leaf.remotes));
    d.part("leafnodes.tls", Reloadable, |o| o.leafnodes.as_ref().map(|leaf| &leaf.tls));
    d.part("leafnodes.timeouts", Reloadable, |o| {
        o.leafnodes.as_ref().map(|leaf| (leaf.reconnect, leaf.dial_timeout, leaf.write_deadline))
    });
    d.part("websocket.tls", Reloadable, |o| o.websocket.as_ref().map(|it| &it.tls));
    d.part("websocket", NeedsRestart, |o| {
        let it = o.websocket.as_ref()?;
        let origins = (it.same_origin, &it.allowed_origins);
        let who = (&it.authorization, &it.no_auth_user, &it.cookies);
        let times = (it.handshake_timeout, it.ping_interval);
        Some((
            &it.listen,
            &it.advertise,
            it.no_tls,
            it.tls.is_some(),
            origins,
            who,
            times,
            it.compression,
            &it.headers,
        ))
    });
    d.part("mqtt.ack_wait", Reloadable, |o| o.mqtt.as_ref().map(|mqtt| mqtt.ack_wait));
    d.part("mqtt.max_ack_pending", Reloadable, |o| o.mqtt.as_ref().map(|mqtt| mqtt.ack_pending_max));
    d.part("mqtt", NeedsRestart, |o| {
        let mqtt = o.mqtt.as_ref()?;
        let qos2 = (mqtt.reject_qos2_publish, mqtt.downgrade_qos2_subscribe);
        Some((&mqtt.listen, &mqtt.tls, &mqtt.authorization, &mqtt.no_auth_user, qos2))
    });
    d.changes
}

struct Diff<'a> {
    old: &'a Options,
    new: &'a Options,
    changes: Vec<Change>,
}

impl<'a> Diff<'a> {
    /// A field that may be shown.
    fn field<T: PartialEq + Debug + 'a>(
        &mut self,
        option: &'static str,
        verdict: Verdict,
        get: impl Fn(&'a Options) -> &'a T,
    ) {
        self.part(option, verdict, |options| Some(get(options)));
    }

    /// A field of which only a summary may be shown.
    fn hidden<T: PartialEq + 'a>(
        &mut self,
        option: &'static str,
        verdict: Verdict,
        get: impl Fn(&'a Options) -> &'a T,
        show: impl Fn(&T) -> String,
    ) {
        let (old, new) = (get(self.old), get(self.new));
        if old != new {
            self.changes.push(Change { option, old: show(old), new: show(new), verdict });
        }
    }

    /// A part of a block that may not be there.
    fn part<T: PartialEq + Debug + 'a>(
        &mut self,
        option: &'static str,
        verdict: Verdict,
        get: impl Fn(&'a Options) -> Option<T>,
    ) {
        let (old, new) = (get(self.old), get(self.new));
        if old != new {
            let show =
                |value: Option<T>| value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"));
            self.changes.push(Change { option, old: show(old), new: show(new), verdict });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryFiles, World, load_text};

    fn options(text: &str) -> Options {
        let world = World { files: &MemoryFiles::new(), environment: &|_| None };
        load_text("test.conf", text.as_bytes(), world).unwrap().0
    }

    fn changes(old: &str, new: &str) -> Vec<(&'static str, Verdict)> {
        diff(&options(old), &options(new)).into_iter().map(|change| (change.option, change.verdict)).collect()
    }

    #[test]
    fn verdicts() {
        use Verdict::{NeedsRestart, Reloadable};
        for (old, new, want) in [
            ("port: 1", "port: 2", ("listen", NeedsRestart)),
            ("server_name: a", "server_name: b", ("server_name", NeedsRestart)),
            ("debug: true", "debug: false", ("debug", Reloadable)),
            ("http: 1", "http: 2", ("http", NeedsRestart)),
            ("max_payload: 1k", "max_payload: 2k", ("max_payload", Reloadable)),
            ("lame_duck_duration: '1m'", "lame_duck_duration: '2m'", ("lame_duck_duration", Reloadable)),
            ("store_dir: a", "store_dir: b", ("jetstream.store_dir", NeedsRestart)),
            (
                "jetstream {max_mem: 1k}",
                "jetstream {max_mem: 2k}",
                ("jetstream.max_memory_store", Reloadable),
            ),
            (
                "jetstream {max_mem: 2k}",
                "jetstream {max_mem: 1k}",
                ("jetstream.max_memory_store", NeedsRestart),
            ),
            ("accounts {A {}}", "accounts {A {limits {max_payload: 1}}}", ("accounts", Reloadable)),
            ("leafnodes {}", "leafnodes {port: 1}", ("leafnodes.listen", NeedsRestart)),
            ("leafnodes {}", "leafnodes {remotes: [{url: x}]}", ("leafnodes.remotes", Reloadable)),
            ("mqtt {}", "mqtt {ack_wait: '1s'}", ("mqtt.ack_wait", Reloadable)),
            ("mqtt {port: 1}", "mqtt {port: 2}", ("mqtt", NeedsRestart)),
            ("websocket {no_tls: true}", "websocket {no_tls: true, port: 2}", ("websocket", NeedsRestart)),
        ] {
            assert_eq!(changes(old, new), [want], "{old} -> {new}");
        }
    }

    #[test]
    fn where_it_was_written_does_not_count() {
        let old = "accounts {A {users: [{user: a}], mappings {b: c}}}\nauthorization {users: [{user: b}]}";
        let new = old.replace('{', "{\n\n");
        assert_eq!(changes(old, &new), []);
    }

    #[test]
    fn secrets_stay_hidden() {
        let old =
            "authorization {user: u, password: sesame}\nleafnodes {remotes: [{url: 'nats://a:sesame@h'}]}";
        let new = old.replace("sesame", "opensesame");
        let changes = diff(&options(old), &options(&new));
        assert_eq!(changes.len(), 2);
        assert!(changes.iter().all(|change| !change.to_string().contains("sesame")), "{changes:?}");
    }
}
