//! The keys: what they become, and what is said about wrong ones.

use std::time::Duration;

use midge_config::keys::{Key, Kind, ROOT};
use midge_config::{
    Crossing, HandshakeFirst, Identity, Options, Response, Responses, Sync, TlsVersion, unserved,
};

use crate::{error, load, options};

#[test]
fn defaults_are_nats_servers() {
    let o = options("# nothing\nport: 4222");
    assert_eq!(o.listen.to_string(), "0.0.0.0:4222");
    assert_eq!(o.limits.connections_max, Some(65536));
    assert_eq!(o.limits.subscriptions_max, None);
    assert_eq!(o.limits.control_line_bytes_max, 4096);
    assert_eq!(o.limits.payload_bytes_max, 1 << 20);
    assert_eq!(o.limits.pending_bytes_max, 64 << 20);
    assert_eq!(o.limits.closed_clients_max, 10000);
    assert_eq!(o.keepalive.ping_interval, Duration::from_secs(120));
    assert_eq!(o.keepalive.pings_max, 2);
    assert_eq!(o.keepalive.write_deadline, Duration::from_secs(10));
    assert_eq!(o.lame_duck.duration, Duration::from_secs(120));
    assert_eq!(o.lame_duck.grace, Duration::from_secs(10));
    assert_eq!(o.auth_timeout(), Duration::from_secs(2));
    assert_eq!(o.connect_error_reports, 3600);
    assert!(o.log.time && !o.log.debug && o.monitor.http_port.is_none());
    assert!(
        o.authorization.users.is_none()
            && o.accounts.is_empty()
            && !o.jetstream.enabled
            && o.jetstream.strict
    );
    let mut plain = Options::default();
    plain.config_digest = o.config_digest.clone();
    assert_eq!(o, plain);
}

#[test]
fn addresses() {
    for (text, want) in [
        ("listen: 1", "0.0.0.0:1"),
        ("listen: 'h:1'", "h:1"),
        ("listen: ':1'", "0.0.0.0:1"),
        ("listen: '[::1]:1'", "[::1]:1"),
        ("listen: localhost:-1", "localhost:0"),
        ("port: -1", "0.0.0.0:0"),
        ("port: 0", "0.0.0.0:4222"),
        ("host: h", "h:4222"),
        ("net: h\nport: 2", "h:2"),
        ("LISTEN: 127.0.0.1:4242", "127.0.0.1:4242"),
    ] {
        assert_eq!(options(text).listen.to_string(), want, "{text}");
    }
    let monitor = options("http: 'h:8222'\nhttp_base_path: 'a/b/'").monitor;
    assert_eq!((monitor.host.as_deref(), monitor.http_port), (Some("h"), Some(8222)));
    assert_eq!(monitor.base_path, "/a/b");
    assert_eq!(options("monitor_port: -1").monitor.http_port, Some(0));
    assert_eq!(options("http_port: 0").monitor.http_port, None);
    assert!(
        options("leafnodes {port: 7422}\nmqtt {listen: 'h:1883'}").mqtt.unwrap().listen.unwrap().host == "h"
    );
    assert!(options("leafnodes {}").leafnodes.unwrap().listen.is_none());
    for text in ["listen: x", "listen: 'h:x'", "port: 70000", "port: -2", "listen: true", "http: []"] {
        error(text);
    }
}

#[test]
fn limits() {
    let o = options(
        "max_payload: 2mb; max_pending: 8MB; max_control_line: 1k; max_conn: 7; max_subs: 3; max_sub_tokens: 5",
    );
    assert_eq!((o.limits.payload_bytes_max, o.limits.pending_bytes_max), (2 << 20, 8 << 20));
    assert_eq!(o.limits.control_line_bytes_max, 1000);
    assert_eq!((o.limits.connections_max, o.limits.subscriptions_max), (Some(7), Some(3)));
    assert_eq!(o.limits.subscription_tokens_max, Some(5));
    for text in ["max_connections: 0", "max_connections: -1"] {
        assert_eq!(options(text).limits.connections_max, Some(0), "{text}");
    }
    assert!(load("max_payload: 9mb").unwrap().1.to_string().contains("8 MiB"));
    assert!(error("max_payload: 3g").contains("integer from 0 to 2147483647"));
    assert!(error("max_sub_tokens: 0").contains("from 1 to 255"));
    assert!(
        error("max_pending: 1k").contains("max_payload (1048576) cannot be higher than max_pending (1000)")
    );
}

#[test]
fn durations() {
    let o = options("ping_interval: '90s'\nwrite_deadline: '1m1s'\nping_max: 5");
    assert_eq!(o.keepalive.ping_interval, Duration::from_secs(90));
    assert_eq!(o.keepalive.write_deadline, Duration::from_secs(61));
    assert_eq!(o.keepalive.pings_max, 5);
    let (o, report) = load("write_deadline: 3").unwrap();
    assert_eq!(o.keepalive.write_deadline, Duration::from_secs(3));
    assert_eq!(
        report.to_string(),
        "test.conf:1:1: invalid use of field \"write_deadline\": write_deadline should be converted to a duration\n"
    );
    let (o, report) = load("authorization {timeout: 1m}").unwrap();
    assert_eq!(o.auth_timeout(), Duration::from_secs(1_000_000));
    assert!(report.to_string().contains("write \"1m\" for a minute"));
    assert_eq!(options("authorization {timeout: 0.5}").auth_timeout(), Duration::from_millis(500));
    assert_eq!(options("tls {cert_file: a, key_file: b, timeout: 4}").auth_timeout(), Duration::from_secs(5));
    assert!(error("lame_duck_duration: '29s'").contains("minimum is 30 seconds"));
    assert!(error("lame_duck_duration: '30s'\nlame_duck_grace_period: '30s'").contains("strictly lower"));
    assert!(error("lame_duck_duration: 30").contains("takes a duration"));
    assert!(error("lame_duck_grace_period: '-1s'").contains("negative"));
    assert!(error("ping_interval: '2'").contains("is not a duration"));
}

#[test]
fn logging_and_names() {
    let o = options(
        "debug: true; trace_verbose: true; logtime: false; logtime_utc: on; logfile: l; log_size_limit: 1k; pidfile: p",
    );
    assert!(o.log.debug && o.log.trace && o.log.trace_verbose && !o.log.time && o.log.time_utc);
    assert_eq!(
        (o.log.file, o.log.file_bytes_max, o.pid_file),
        (Some("l".into()), Some(1000), Some("p".into()))
    );
    let o = options("server_name: n; client_advertise: 'h:1'; server_tags: [a, b]; server_metadata {k: v}");
    assert_eq!((o.server_name.as_deref(), o.client_advertise.as_deref()), (Some("n"), Some("h:1")));
    assert_eq!(o.server_tags, ["a", "b"]);
    assert_eq!(o.server_metadata.get("k").map(String::as_str), Some("v"));
    assert_eq!(options("server_tags: a").server_tags, ["a"]);
    assert!(error("server_name: 'a b'").contains("without spaces"));
}

#[test]
fn authorization() {
    let auth = options("authorization {username: u, pass: '$2a$11$x', timeout: '3s'}").authorization;
    assert_eq!((auth.user.as_deref(), auth.timeout), (Some("u"), Some(Duration::from_secs(3))));
    assert_eq!(auth.password.unwrap().expose(), "$2a$11$x");
    assert_eq!(options("authorization {token: t}").authorization.token.unwrap().expose(), "t");
    assert_eq!(options("authorization {users: []}").authorization.users, Some(Vec::new()));
    let o = options(
        "authorization {
           default_permissions {publish: a, subscribe: {deny: b}}
           users: [
             {user: u, password: p}
             {nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4, permissions {
                pub {allow: [x, y.>], deny: z}, sub: ['s', 'q group.*'], allow_responses {max: 5, expires: '1m'}}}
             {user: v, permissions {allow_responses: true}, connection_types: [standard, Mqtt]}
             {user: w, permissions {publish: [], allow_responses {max: -1, ttl: '-1s'}}}
           ]
         }
         no_auth_user: v",
    );
    let users = o.authorization.users.as_deref().unwrap();
    let [u, n, v, w] = users else { panic!("{users:?}") };
    assert_eq!(u.identity.name(), "u");
    let default = u.permissions.as_ref().unwrap();
    assert_eq!(default.publish.allow.as_deref(), Some(&["a".to_owned()][..]));
    assert_eq!(
        (default.subscribe.allow.as_deref(), default.subscribe.deny.as_slice()),
        (None, &["b".to_owned()][..])
    );
    assert!(matches!(n.identity, Identity::Nkey(_)));
    let own = n.permissions.as_ref().unwrap();
    assert_eq!((own.publish.allow.as_ref().unwrap().len(), own.publish.deny.len()), (2, 1));
    assert_eq!(own.subscribe.allow.as_ref().unwrap()[1], "q group.*");
    let responses = Responses { messages_max: Some(5), expires: Some(Duration::from_secs(60)) };
    assert_eq!(own.allow_responses, Some(responses));
    let answers = v.permissions.as_ref().unwrap();
    assert_eq!(answers.allow_responses, Some(Responses::default()));
    assert_eq!((answers.publish.allow.as_deref(), answers.subscribe.allow.as_deref()), (Some(&[][..]), None));
    assert_eq!(v.connection_types, ["STANDARD", "MQTT"]);
    let endless = w.permissions.as_ref().unwrap().allow_responses.as_ref().unwrap();
    assert_eq!((endless.messages_max, endless.expires), (None, None));
    assert_eq!(o.users().count(), 4);
}

#[test]
fn authorization_that_does_not_fit_together() {
    for (text, why) in [
        ("authorization {user: a, password: b, token: c}", "Cannot have a user/pass and token"),
        ("authorization {user: a, users: []}", "single user/pass and a users array"),
        ("authorization {token: a, users: [{user: b}]}", "a token and a users array"),
        ("authorization {users: [{user: a}, {user: a}]}", "Duplicate user \"a\""),
        ("authorization {users: [{user: a}]}\naccounts {A {users: [{user: a}]}}", "Duplicate user \"a\""),
        ("authorization {token: t}\naccounts {A {users: [{user: a}]}}", "a token and accounts"),
        ("authorization {users: [{password: a}]}", "test.conf:1:24: User entry requires a user"),
        ("authorization {users: [{nkey: x}]}", "not a valid public user nkey"),
        (
            "authorization {users: [{user: a, nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}]}",
            "do not take usernames",
        ),
        ("authorization {users: {}}", "takes a list of maps, got a map"),
        ("authorization {users: [a]}", "takes a map, got a string"),
        ("authorization {users: [{user: a, connection_types: [x]}]}", "invalid connection type \"X\""),
        (
            "authorization {users: [{user: a, permissions {publish: 'a b'}}]}",
            "\"a b\" is not a valid subject",
        ),
        ("authorization {users: [{user: a, permissions {subscribe: 'a b c'}}]}", "not a valid subject"),
        (
            "authorization {users: [{user: a, permissions {publish {allowed: x}}}]}",
            "unknown field \"allowed\"",
        ),
        ("authorization {users: [{user: a, permissions {allow_responses: 5}}]}", "a boolean or a map"),
        ("no_auth_user: a", "no_auth_user: \"a\""),
        ("authorization {users: [{user: a}]}\nno_auth_user: b", "no_auth_user: \"b\""),
        ("authorization {auth_callout {auth_users: [a]}}", "require an issuer"),
        ("authorization: x", "takes a map, got a string"),
        ("system_account: X", "is not defined"),
    ] {
        let error = error(text);
        assert!(error.contains(why), "{text}\n{error}");
    }
}

#[test]
fn accounts() {
    let o = options(
        "accounts {
           A { users: [{user: a}], limits {max_conn: 5, max_subs: -1, max_payload: 1k}
               exports: [{stream: 'a.>'}, {service: 's.*', response: single, threshold: '1s', accounts: [B], latency: {sampling: headers, subject: lat}}]
               mappings { x: y, 'p.*': [{dest: 'q.$1', weight: 60%}, {dest: r, weight: 40}, {dest: s, weight: 100, cluster: c}] } }
           B { default_permissions {publish: p}, users: [{user: b}]
               imports: [{stream: {account: A, subject: 'a.b'}, prefix: pre}, {service: {account: A, subject: 's.1'}, to: mine}]
               jetstream {max_mem: 1k, streams: 3}, trace_dest: t.d }
           SYS { jetstream: enabled }
         }
         system_account: SYS
         mappings { g: h }",
    );
    let [a, b, sys] = o.accounts.as_slice() else { panic!("{:?}", o.accounts) };
    assert_eq!((a.limits.connections_max, a.limits.subscriptions_max), (Some(5), None));
    assert_eq!(a.limits.payload_bytes_max, Some(1000));
    assert_eq!(a.exports[1].response, Response::Single);
    let latency = a.exports[1].latency.as_ref().map(|it| (it.subject.as_str(), it.sampling));
    assert_eq!((latency, &a.exports[0].latency), (Some(("lat", 0)), &None));
    assert_eq!((a.exports[0].crossing, a.exports[0].accounts.as_deref()), (Crossing::Stream, None));
    assert_eq!(a.mappings[1].destinations.iter().map(|to| to.weight).collect::<Vec<_>>(), [60, 40, 100]);
    assert_eq!(a.mappings[0].source, "x");
    assert_eq!(b.imports[0].prefix.as_deref(), Some("pre"));
    assert_eq!(b.imports[1].to.as_deref(), Some("mine"));
    assert!(b.users[0].permissions.is_some() && a.users[0].permissions.is_none());
    assert_eq!(b.jetstream.as_ref().unwrap().streams_max, Some(3));
    assert_eq!((b.trace_destination.as_deref(), b.trace_percent), (Some("t.d"), 100));
    assert!(sys.jetstream.is_some() && a.jetstream.is_none());
    assert_eq!(o.mappings[0].destinations[0].subject, "h");
    assert_eq!(
        o.users().map(|(account, user)| format!("{account}/{}", user.identity.name())).collect::<Vec<_>>(),
        ["A/a", "B/b"]
    );
    assert_eq!(options("accounts: [A, B]").accounts.len(), 2);

    for (text, why) in [
        ("accounts {$G {}}", "Reserved Account"),
        ("accounts: [A, A]", "Duplicate Account"),
        ("accounts {A: x}", "takes a map"),
        ("accounts {A {x: 1}}", "unknown field \"x\""),
        (
            "accounts {B {}, A {imports: [{service: {account: B, subject: b}}, {service: {account: B, subject: c}, to: b}]}}",
            "Duplicate service import subject \"b\", previously used in import for account \"B\", subject \"b\"",
        ),
        (
            "accounts {B {exports: [{service: b, latency: {sampling: 0, subject: c}}]}}",
            "a percentage from 1 to 100",
        ),
        (
            "accounts {B {exports: [{service: b, latency: {sampling: 1}}]}}",
            "Latency subject required, but missing",
        ),
        ("accounts {A {exports: [{stream: b, service: c}]}}", "either a stream or a service"),
        ("accounts {A {exports: [{stream: b, response: single}]}}", "non-service"),
        ("accounts {A {imports: [{service: {account: B}}]}}", "Expect an account name and a subject"),
        ("accounts {A {jetstream: maybe}}", "\"enabled\" or \"disabled\""),
        ("mappings {a..b: c}", "not a valid subject"),
        ("mappings {a: [{dest: b}]}", "no weight"),
        ("mappings {a: [{dest: b, weight: 101}]}", "percentage"),
        ("mappings {a: [{dest: b, weight: 51}, {dest: c, weight: 50}]}", "exceed 100%"),
        ("mappings {a: 'b.$1'}", "wildcard index out of range"),
    ] {
        let error = error(text);
        assert!(error.contains(why), "{text}\n{error}");
    }
}

#[test]
fn tls() {
    let tls = options(
        "tls {cert_file: c, key_file: k, ca_file: a, verify_and_map: true, timeout: '3s', handshake_first: auto,
              min_version: '1.3', connection_rate_limit: 9, pinned_certs: ['AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA']}",
    )
    .tls
    .unwrap();
    assert!(tls.verify && tls.map && tls.certificates.len() == 1 && tls.ca_file == Some("a".into()));
    assert_eq!((tls.timeout, tls.min_version), (Duration::from_secs(3), TlsVersion::Tls13));
    assert_eq!(tls.handshake_first, HandshakeFirst::Within(Duration::from_millis(50)));
    assert_eq!((tls.connection_rate_max, tls.pinned_certs[0].starts_with("aaaa")), (Some(9), true));
    let tls = options("tls {certs: [{cert_file: c, key_file: k}, {cert_file: d, key_file: l}], first: '1s'}")
        .tls
        .unwrap();
    assert_eq!(tls.certificates.len(), 2);
    assert_eq!(tls.handshake_first, HandshakeFirst::Within(Duration::from_secs(1)));
    for (text, why) in [
        ("tls {cert_file: c}", "come together"),
        ("tls {hello: w}", "unknown field \"hello\""),
        ("tls {certs: [{cert_file: c}]}", "both 'cert_file' and 'key_file'"),
        ("tls {cert_file: c, key_file: k, certs: [{cert_file: c, key_file: k}]}", "cannot combine"),
        ("tls {min_version: '1.1'}", "\"1.2\" or \"1.3\""),
        ("tls {pinned_certs: [x]}", "64 hex digits"),
        ("tls {cipher_suites: []}", "cannot be empty"),
        ("tls {first: soon}", "is not a duration"),
        ("tls {verify: 1}", "takes a boolean, got an integer"),
        ("tls {verify_cert_and_check_known_urls: true}", "not supported in this context"),
    ] {
        let error = error(text);
        assert!(error.contains(why), "{text}\n{error}");
    }
}

#[test]
fn streams() {
    for (text, enabled) in [
        ("jetstream: true", true),
        ("jetstream: enabled", true),
        ("jetstream: disabled", false),
        ("jetstream {}", true),
        ("jetstream {enabled: false}", false),
    ] {
        assert_eq!(options(text).jetstream.enabled, enabled, "{text}");
    }
    let js = options(
        "jetstream {store_dir: d, max_mem: '1G', max_file: 10k, domain: x, strict: false, sync: always}",
    )
    .jetstream;
    assert_eq!(
        (js.store_dir, js.memory_bytes_max, js.file_bytes_max),
        (Some("d".into()), Some(1 << 30), Some(10000))
    );
    assert_eq!((js.domain.as_deref(), js.strict, js.sync), (Some("x"), false, Some(Sync::Always)));
    assert_eq!(
        options("jetstream {sync_interval: '5s'}").jetstream.sync,
        Some(Sync::Every(Duration::from_secs(5)))
    );
    assert_eq!(options("store_dir: d").jetstream.store_dir, Some("d".into()));
    assert!(error("store_dir: a\njetstream {store_dir: b}").contains("Duplicate 'store_dir'"));
    assert!(error("jetstream {domain: 'a.b'}").contains("invalid domain name"));
    assert!(error("jetstream {max_mem: '1'}").contains("K, M, G or T"));
    assert!(error("jetstream {max_concurrent_io: 1}").contains("from 4 to 8192"));
}

#[test]
fn other_listeners() {
    let o = options(
        "leafnodes {listen: '0.0.0.0:7422', authorization {user: u, password: p, account: A}
           remotes: [{urls: ['nats://h:7422'], account: A, creds: 'f', deny_imports: [a, b]}, {url: 'nats://i'}]}
         accounts {A {}}
         websocket {port: 8080, no_tls: true, allowed_origins: ['http://x'], headers {a: b}, handshake_timeout: 2}
         mqtt {port: 1883, ack_wait: '10s', max_ack_pending: 9}",
    );
    let leaf = o.leafnodes.unwrap();
    assert_eq!(leaf.listen.unwrap().port, 7422);
    assert_eq!(leaf.remotes[0].urls[0].expose(), "nats://h:7422");
    assert_eq!((leaf.remotes[1].account.as_str(), leaf.remotes[0].deny_imports.len()), ("$G", 2));
    assert_eq!(leaf.authorization.unwrap().user.unwrap().name, "u");
    assert_eq!(o.websocket.unwrap().handshake_timeout, Some(Duration::from_secs(2)));
    assert_eq!(o.mqtt.unwrap().ack_pending_max, 9);
    for (text, why) in [
        ("websocket {port: 1}", "requires TLS"),
        ("websocket {headers {Upgrade: x}}", "invalid header"),
        ("websocket {origins: [x]}", "allowed origin"),
        ("mqtt {max_ack_pending: 70000}", "from 0 to 65535"),
        ("mqtt {port: 1, authorization {token: t}}\nauthorization {users: [{user: a}]}", "not compatible"),
        ("leafnodes {remotes: [{url: a, account: X}]}", "cannot find local account \"X\""),
        ("leafnodes {remotes: [{url: a}, {url: a}]}", "duplicate remote"),
        ("leafnodes {remotes: [{url: a, creds: c, nkey: n}]}", "both creds and nkey"),
        ("leafnodes {authorization {users: [{user: a}, {user: a}]}}", "duplicate user \"a\""),
        ("leafnodes {min_version: 2.7.9}", "2.8.0"),
        ("cluster {name: 'a b'}", "without spaces"),
        ("cluster {foo: 1}", "unknown field \"foo\""),
        ("gateway {gateways: [{nme: x}]}", "unknown field \"nme\""),
    ] {
        let error = error(text);
        assert!(error.contains(why), "{text}\n{error}");
    }
}

#[test]
fn all_problems_are_collected_with_their_places() {
    let report =
        load("port: x\n\n  nonsense: 1\ntls {\n\tverify: 2\n}\n\"quoted\": 1\nping_interval: 1").unwrap_err();
    assert_eq!(
        report.to_string(),
        "test.conf:8:1: invalid use of field \"ping_interval\": ping_interval should be converted to a duration\n\
         test.conf:1:1: field \"port\" takes an integer, got a string\n\
         test.conf:3:3: unknown field \"nonsense\"\n\
         test.conf:5:2: field \"verify\" takes a boolean, got an integer\n\
         test.conf:7:2: unknown field \"quoted\"\n"
    );
    assert_eq!(load("").unwrap().1.to_string(), "test.conf: config has no values or is empty\n");
}

#[test]
fn a_key_that_a_variable_used_is_no_unknown_one() {
    let o = options(
        "MAX: 7\nmax_connections: $MAX\nauthorization { P {publish: x}, users: [{user: a, permissions: $P}] }",
    );
    assert_eq!(o.limits.connections_max, Some(7));
    assert!(o.authorization.users.unwrap()[0].permissions.is_some());
    assert!(error("MAX: 7").contains("unknown field \"MAX\""));
}

#[test]
fn secrets_are_not_shown() {
    let o = options(
        "authorization {user: u, password: sesame}\njetstream {key: sesame}\nleafnodes {remotes: [{url: 'nats://sesame@h'}]}",
    );
    assert!(!format!("{o:?}").contains("sesame"));
}

#[test]
fn what_is_not_served_is_listed_once_and_outermost() {
    let o = options(
        "cluster {port: 1, name: c, routes: []}\ngateway {name: g}\nport: 1\nsyslog: false\nocsp: true",
    );
    let listed: Vec<_> =
        unserved(&o).iter().map(|unserved| (unserved.key.as_str(), unserved.refused)).collect();
    assert_eq!(listed, [("cluster", false), ("gateway", false), ("ocsp", false)]);
    let at = unserved(&o)[1].at.as_ref().unwrap();
    assert_eq!(at.to_string(), "test.conf:2:1");
}

#[test]
fn every_name_of_every_key_is_known_and_typed() {
    let mut count = 0;
    visit(ROOT, &mut Vec::new(), &mut |path, key| {
        for alias in key.names.split(' ') {
            count += 1;
            let mut path: Vec<_> = path.to_vec();
            path.push(alias);
            let (open, close) = (path.join(" { "), " }".repeat(path.len() - 1));
            // No key takes a date, so every one but those that take anything complains, and none is unknown.
            let text = format!(
                "{}: 2016-05-04T18:53:41Z{close}",
                open.to_uppercase().replace("{ NAME {", "{ name {")
            );
            let said = match load(&text) {
                Ok((_, report)) | Err(report) => report.to_string(),
            };
            assert!(!said.contains("unknown field"), "{text}\n{said}");
            assert!(matches!(key.kind, Kind::Any) || said.contains("got a date"), "{text}\n{said}");
        }
    });
    assert!(count > 500, "{count}");
}

/// Every key with the keys around it; where a block is in a list or has a free name, the block alone is visited.
fn visit(keys: &'static [Key], path: &mut Vec<&'static str>, f: &mut dyn FnMut(&[&'static str], &Key)) {
    for key in keys {
        f(path, key);
        let inner = key.kind.keys();
        match key.kind {
            Kind::Blocks(_) | Kind::Mappings(_) => {}
            Kind::Named(_) => {
                path.extend([key.name(), "name"]);
                visit(inner, path, f);
                path.truncate(path.len() - 2);
            }
            _ => {
                path.push(key.name());
                visit(inner, path, f);
                path.pop();
            }
        }
    }
}
