//! A new configuration for a daemon that runs: what changes for whom, and that a bad one changes nothing. And what accounts
//! have of streams, their own and each other's.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use midge_tests::daemon::{Daemon, PATIENCE, Program};
use midge_tests::peer::Peer;
use midge_tests::process::{Process, eventually};
use midge_tests::target::World as _;
use rustix::process::Signal;

fn start(config: &str, flags: &[&str]) -> Daemon {
    let program = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let flags: Vec<String> = flags.iter().map(|&flag| flag.into()).collect();
    Daemon::start(program, Some(config), &flags).unwrap_or_else(|why| panic!("{why}"))
}

/// Reloads, and returns what was logged meanwhile.
fn reload(daemon: &mut Daemon, config: &str) -> String {
    let seen = daemon.stderr().count();
    daemon.reload(config).expect("an answer in the log");
    daemon.stderr().text().lines().skip(seen).collect::<Vec<_>>().join("\n")
}

fn greeted(daemon: &Daemon, options: &str) -> Peer {
    let mut peer = Peer::greeted(daemon.address(), options).expect("a greeting");
    peer.fence().expect("let in");
    peer
}

const PLAIN: &str = r#"{"verbose":false}"#;

#[test]
fn a_new_max_payload_is_told_and_holds() {
    let mut daemon = start("max_payload: 1000", &[]);
    let mut told = greeted(&daemon, r#"{"verbose":false,"protocol":1}"#);
    assert_eq!(told.info().expect("the second INFO")["max_payload"], 1000);
    let mut old_school = greeted(&daemon, PLAIN);

    let log = reload(&mut daemon, "max_payload: 4");
    assert!(log.contains("[INF] Reloaded: max_payload = 4\n"), "{log}");
    assert!(log.ends_with("[INF] Reloaded server configuration"), "{log}");
    assert_eq!(told.info().expect("an INFO at any time")["max_payload"], 4);
    for peer in [&mut told, &mut old_school] {
        peer.send("PUB attic.temp 4\r\n21.5\r\n");
        peer.fence().expect("as much as is allowed");
        peer.send("PUB attic.temp 5\r\n21.50\r\n");
        assert_eq!(peer.rest().expect("an end"), ["-ERR 'Maximum Payload Violation'"]);
    }
}

#[test]
fn users_come_and_go() {
    let config = |users: &str| format!("authorization {{ users: [ {users} ] }}");
    let (ann, bea, cid) = (
        r#"{"verbose":false,"user":"ann","pass":"a"}"#,
        r#"{"verbose":false,"user":"bea","pass":"b"}"#,
        r#"{"verbose":false,"user":"cid","pass":"c"}"#,
    );
    let mut daemon = start(&config("{user: ann, password: a}, {user: bea, password: b}"), &[]);
    let (mut stays, mut goes) = (greeted(&daemon, ann), greeted(&daemon, bea));
    let mut early = Peer::greeted(daemon.address(), cid).expect("a greeting");
    assert_eq!(early.rest().expect("an end"), ["-ERR 'Authorization Violation'"]);

    let log = reload(&mut daemon, &config("{user: ann, password: a}, {user: cid, password: c}"));
    assert!(log.contains("Reloaded: authorization"), "{log}");
    assert!(!log.contains("password"), "{log}");
    assert_eq!(goes.rest().expect("an end"), ["-ERR 'Authorization Violation'"]);
    stays.fence().expect("still there");
    greeted(&daemon, cid);

    // A new password is as good as another user.
    reload(&mut daemon, &config("{user: ann, password: z}"));
    assert_eq!(stays.rest().expect("an end"), ["-ERR 'Authorization Violation'"]);
}

#[test]
fn debug_and_trace_are_switched() {
    let mut daemon = start("max_payload: 1000", &[]);
    let mut talk = |config: &str| {
        reload(&mut daemon, config);
        let seen = daemon.stderr().count();
        drop(greeted(&daemon, PLAIN));
        // The next reload is logged behind all that came of this connection.
        reload(&mut daemon, config);
        daemon.stderr().text().lines().skip(seen).collect::<Vec<_>>().join("\n")
    };
    let both = talk("debug: true, trace: true");
    assert!(both.contains("[DBG]") && both.contains("<<- [PING]"), "{both}");
    let debug = talk("debug: true");
    assert!(debug.contains("[DBG]") && !debug.contains("[TRC]"), "{debug}");
    let none = talk("debug: false");
    assert!(!none.contains("[DBG]") && !none.contains("[TRC]"), "{none}");
}

#[test]
fn flags_win_again() {
    let mut daemon = start("debug: false", &["-D"]);
    reload(&mut daemon, "debug: false, max_payload: 1000");
    let seen = daemon.stderr().count();
    drop(greeted(&daemon, PLAIN));
    daemon.stderr().find(seen, PATIENCE, |line| line.contains("[DBG]")).expect("debug lines as before");
}

#[test]
fn a_broken_file_changes_nothing() {
    let mut daemon = start("max_payload: 1000", &[]);
    let mut peer = greeted(&daemon, r#"{"verbose":false,"protocol":1}"#);
    peer.info().expect("the second INFO");
    for (config, why) in [
        ("max_payload: 10\nno_such_key: 1", "server.conf:2:1: unknown field \"no_such_key\""),
        ("max_payload: 10\nauthorization {", "server.conf:2:"),
        ("max_payload: 10\nport: seven", "server.conf:2:1: "),
        ("max_payload: 10\ninclude 'missing.conf'", "missing.conf"),
        ("max_payload: 10\nmappings: { a.b: c.$1 }", "server.conf:2:"),
    ] {
        let log = reload(&mut daemon, config);
        assert!(log.contains("[ERR] Failed to reload server configuration: "), "{config}:\n{log}");
        assert!(log.contains(why), "{config}:\n{log}");
        peer.send("PUB attic.temp 11\r\n21.50000000\r\n");
        peer.fence().expect("the old limit");
    }
    // What was wrong can be put right.
    let log = reload(&mut daemon, "max_payload: 10");
    assert!(log.contains("Reloaded server configuration"), "{log}");
    assert_eq!(peer.info().expect("an INFO at any time")["max_payload"], 10);
}

#[test]
fn what_needs_a_restart_is_refused_with_all_the_rest() {
    let mut daemon = start("server_name: attic, max_payload: 1000", &[]);
    let mut peer = greeted(&daemon, PLAIN);
    let log = reload(&mut daemon, "server_name: cellar, max_payload: 4");
    assert!(
        log.contains(
            "[ERR] Failed to reload server configuration: config reload not supported for server_name: old="
        ),
        "{log}"
    );
    assert!(log.contains("attic") && log.contains("cellar"), "{log}");
    peer.send("PUB attic.temp 5\r\n21.50\r\n");
    peer.fence().expect("the old limit");
    let info = Peer::connect(daemon.address()).and_then(|mut it| it.info()).expect("a greeting");
    assert_eq!((&info["server_name"], &info["max_payload"]), (&"attic".into(), &1000.into()));
}

#[test]
fn fewer_connections_turn_away_those_that_are_too_many() {
    let mut daemon = start("max_connections: 3", &[]);
    let mut peers = [(); 3].map(|()| greeted(&daemon, PLAIN));
    reload(&mut daemon, "max_connections: 1");
    let mut left = 0;
    for peer in &mut peers {
        peer.send("PING\r\n");
        match peer.line().expect("an answer").as_deref() {
            Some("PONG") => left += 1,
            Some("-ERR 'maximum connections exceeded'") => assert_eq!(peer.rest(), Ok(Vec::new())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(left, 1);
    let mut late = Peer::connect(daemon.address()).expect("a connection");
    late.info().expect("a greeting");
    assert_eq!(late.line(), Ok(Some("-ERR 'maximum connections exceeded'".into())));

    reload(&mut daemon, "max_connections: 2");
    greeted(&daemon, PLAIN);
}

#[test]
fn a_new_ping_interval_is_for_those_that_come() {
    let mut daemon = start("ping_interval: '1h'", &[]);
    // So many that nobody is slow enough to be taken for dead who means to answer.
    const UNANSWERED: usize = 100;
    reload(&mut daemon, &format!("ping_interval: '20ms', ping_max: {UNANSWERED}"));
    let mut peer = greeted(&daemon, PLAIN);
    for _ in 0..3 {
        assert_eq!(peer.any_line(), Ok(Some("PING".into())));
        peer.send("PONG\r\n");
    }
    // An answer counts for all before it. Nobody answers from here on.
    let mut pings = 0;
    let end = loop {
        match peer.any_line().expect("a line") {
            Some(line) if line == "PING" => pings += 1,
            end => break end,
        }
    };
    assert_eq!(end.as_deref(), Some("-ERR 'Stale Connection'"));
    assert!(pings >= UNANSWERED, "{pings}");
    assert_eq!(peer.any_line(), Ok(None));
}

#[test]
fn the_log_moves() {
    let mut daemon = start("logtime: true", &[]);
    let path = daemon.directory().join("midged.log");
    // The answer to this reload is in the new log.
    let config = format!("log_file: '{}'", path.display());
    fs::write(daemon.directory().join("server.conf"), config).expect("written");
    daemon.signal(midge_tests::script::Signal::Hup).expect("signalled");
    let found = eventually(|| {
        fs::read_to_string(&path).ok().filter(|log| log.contains("Reloaded server configuration"))
    });
    assert!(found.is_some(), "{}", daemon.stderr().text());
}

#[test]
fn without_a_file_there_is_nothing_to_reload() {
    let program = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let daemon = Daemon::start(program, None, &[]).expect("started");
    daemon.kill_with(midge_tests::script::Signal::Hup).expect("signalled");
    let answer = daemon.stderr().find(0, PATIENCE, |line| line.contains("Failed to reload"));
    assert!(answer.is_ok_and(|line| line.contains("[ERR]") && line.contains("-c")));
}

/// As systemd does for a unit with `Type=notify` and `WatchdogSec`.
#[test]
fn a_service_manager_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, config) = (directory.path().join("notify"), directory.path().join("midged.conf"));
    fs::write(&config, "max_payload: 1000").expect("written");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("set");
    // Returns when `wanted` is told, with all that was told by then, signs of life aside.
    let told = |wanted: &str| {
        let mut all = Vec::new();
        loop {
            let mut buffer = [0; 256];
            let n =
                manager.recv(&mut buffer).unwrap_or_else(|why| panic!("no {wanted:?} after {all:?}: {why}"));
            let words = String::from_utf8_lossy(&buffer[..n]).into_owned();
            let is_last = words.starts_with(wanted);
            all.push(words);
            if is_last {
                all.retain(|words| words != "WATCHDOG=1");
                return all;
            }
        }
    };
    let midged = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let mut command = Command::new(midged.path());
    command.args(["-a", "127.0.0.1", "-p", "-1", "-c"]).arg(&config);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "20000").env_remove("WATCHDOG_PID");
    let process = Process::start(&mut command).expect("started");
    assert_eq!(told("READY=1"), ["READY=1"]);
    for _ in 0..3 {
        told("WATCHDOG=1");
    }
    process.signal(Signal::HUP).expect("a signal");
    let reloaded = [told("RELOADING=1\nMONOTONIC_USEC="), told("READY=1")].concat();
    assert_eq!(reloaded.len(), 2, "{reloaded:?}");
    process.signal(Signal::TERM).expect("a signal");
    assert_eq!(told("STOPPING=1"), ["STOPPING=1"]);
    let ended = process.end().expect("an end");
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// Returns once it is so: the streams follow a reload soon.
fn until(mut is_so: impl FnMut() -> bool) {
    eventually(|| is_so().then_some(())).expect("to be so in time");
}

/// A client's options.
fn named(user: &str) -> String {
    format!(r#"{{"verbose":false,"headers":true,"no_responders":true,"user":"{user}","pass":"x"}}"#)
}

#[test]
fn accounts_have_streams_as_the_configuration_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = |accounts: &str| {
        format!("jetstream {{ store_dir: \"{}\" }}\naccounts {{ {accounts} }}", dir.path().display())
    };
    let a = |jetstream: &str| format!("A {{ users: [{{user: ann, password: x}}]\n{jetstream} }}");
    let b = "B { users: [{user: bea, password: x}], jetstream: enabled }";
    let code = |peer: &mut Peer, subject: &str, body: &str| {
        let answer = peer.ask(&format!("$JS.API.{subject}"), body).unwrap_or_else(|why| panic!("{why}"));
        answer["error"]["err_code"].as_u64().unwrap_or(0)
    };
    let stream = |name: &str| format!(r#"{{"name":"{name}","subjects":["{name}"]}}"#);
    let mut daemon = start(&config(&a("")), &[]);
    let mut ann = greeted(&daemon, &named("ann"));
    assert_eq!(code(&mut ann, "INFO", ""), 10039);
    assert_eq!(code(&mut ann, "STREAM.CREATE.S", &stream("S")), 10039);

    // What is asked behind the reload is asked of an account with streams.
    let settles = |peer: &mut Peer, wanted: u64| until(|| code(peer, "INFO", "") == wanted);
    reload(&mut daemon, &config(&format!("{}\n{b}", a("jetstream: {max_streams: 1}"))));
    settles(&mut ann, 0);
    assert_eq!(code(&mut ann, "STREAM.CREATE.S", &stream("S")), 0);
    assert_eq!(code(&mut ann, "STREAM.CREATE.T", &stream("T")), 10027);
    assert_eq!(ann.ask("S", "kept").expect("an ack")["seq"], 1);
    // So is one that came with it.
    let mut bea = greeted(&daemon, &named("bea"));
    settles(&mut bea, 0);
    assert_eq!(code(&mut bea, "STREAM.CREATE.S", &stream("S")), 0);

    // It may have more, and none for a while: what was stored stays.
    reload(&mut daemon, &config(&format!("{}\n{b}", a("jetstream: {max_streams: 2}"))));
    until(|| ann.ask("$JS.API.INFO", "").expect("an answer")["limits"]["max_streams"] == 2);
    assert_eq!(code(&mut ann, "STREAM.CREATE.T", &stream("T")), 0);
    reload(&mut daemon, &config(&a("")));
    settles(&mut ann, 10039);
    assert_eq!(ann.request("S", "lost").expect("an answer"), "NATS/1.0 503");
    reload(&mut daemon, &config(&format!("{}\n{b}", a("jetstream: enabled"))));
    settles(&mut ann, 0);
    assert_eq!(ann.ask("S", "kept").expect("an ack")["seq"], 2);
    let mut bea = greeted(&daemon, &named("bea"));
    settles(&mut bea, 0);
    assert_eq!(bea.ask("S", "kept too").expect("an ack")["seq"], 1);
}

#[test]
fn accounts_have_streams_as_their_tokens_say() {
    use midge_jwt::{KeyPair, Kind};

    let dir = tempfile::tempdir().expect("a directory");
    let operator = KeyPair::new(Kind::Operator, &[1; 32]);
    let [house, user] =
        [(Kind::Account, 2), (Kind::User, 3)].map(|(kind, seed)| KeyPair::new(kind, &[seed; 32]));
    let sign = |about: &KeyPair, by: &KeyPair, claims: serde_json::Value| {
        let mut token = serde_json::json!({ "sub": about.public().to_string(), "iss": by.public().to_string(), "iat": 1 });
        token["nats"] = claims;
        midge_jwt::sign(&token.to_string(), by)
    };
    let acme = sign(&operator, &operator, serde_json::json!({ "type": "operator", "version": 2 }));
    let bearer = sign(
        &user,
        &house,
        serde_json::json!({
            "type": "user", "version": 2, "bearer_token": true, "subs": -1, "data": -1, "payload": -1
        }),
    );
    let config = |streams: serde_json::Value| {
        let mut limits = serde_json::json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1, "leaf": -1, "wildcards": true
        });
        limits.as_object_mut().expect("an object").extend(streams.as_object().cloned().expect("an object"));
        let account =
            sign(&house, &operator, serde_json::json!({ "type": "account", "version": 2, "limits": limits }));
        let (store, key) = (dir.path().display(), house.public());
        format!(
            "jetstream {{ store_dir: \"{store}\", domain: hub }}\noperator: {acme}\nresolver: MEMORY\n\
             resolver_preload: {{ {key}: {account} }}"
        )
    };
    let mut daemon = start(&config(serde_json::json!({})), &[]);
    let options = format!(r#"{{"verbose":false,"headers":true,"no_responders":true,"jwt":"{bearer}"}}"#);
    let mut peer = greeted(&daemon, &options);
    let info = |peer: &mut Peer| peer.ask("$JS.hub.API.INFO", "").unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(info(&mut peer)["error"]["err_code"], 10039);

    reload(&mut daemon, &config(serde_json::json!({ "disk_storage": 5000, "streams": 1, "consumer": -1 })));
    until(|| info(&mut peer)["limits"]["max_storage"] == 5000);
    let limits = &info(&mut peer)["limits"];
    assert_eq!((&limits["max_memory"], &limits["max_streams"]), (&0.into(), &1.into()));
    let create = r#"{"name":"S","subjects":["s"],"max_bytes":1000}"#;
    assert_eq!(peer.ask("$JS.hub.API.STREAM.CREATE.S", create).expect("an answer")["did_create"], true);

    let tier = serde_json::json!({ "disk_storage": 4000, "mem_storage": -1, "streams": 3, "consumer": 7 });
    reload(&mut daemon, &config(serde_json::json!({ "tiered_limits": { "R1": tier } })));
    until(|| info(&mut peer)["tiers"]["R1"]["limits"]["max_storage"] == 4000);
    let tier = &info(&mut peer)["tiers"]["R1"];
    assert_eq!((&tier["streams"], &tier["reserved_storage"]), (&1.into(), &1000.into()));
    assert_eq!((&tier["limits"]["max_consumers"], &tier["limits"]["max_memory"]), (&7.into(), &(-1).into()));
}

/// Streams of one account that another copies, as nats-server's own tests configure it.
const ACROSS: &str = r#"
    jetstream { store_dir: "${dir}", domain: hub }
    accounts {
        JS {
            jetstream: enabled, users: [{user: ann, password: x}]
            exports: [
                {service: "$JS.API.CONSUMER.>"}, {service: "$JS.FC.>"}, {service: "$KV.>"}
                {stream: "SYNC.>"}, {stream: "plant.>"}
            ]
        }
        IA {
            jetstream: enabled, users: [{user: bea, password: x}]
            imports: [
                {service: {account: JS, subject: "$JS.API.CONSUMER.>"}, to: "JS.API.CONSUMER.>"}
                {service: {account: JS, subject: "$KV.>"}, to: "JS.API.$KV.>"}
                {service: {account: JS, subject: "$JS.FC.>"}}
                {stream: {account: JS, subject: "SYNC.>"}}
                {stream: {account: JS, subject: "plant.>"}}
            ]
        }
    }
"#;

#[test]
fn what_another_account_has_is_copied_once_whatever_happens() {
    let reference = Program::reference().map_err(|why| println!("reference: SKIPPED, {why}")).ok();
    let ours = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    for program in std::iter::once(ours).chain(reference) {
        let (name, dir) = (program.name(), tempfile::tempdir().expect("a directory"));
        let config = ACROSS.replace("${dir}", &dir.path().display().to_string());
        let mut daemon = Daemon::start(program, Some(&config), &[]).unwrap_or_else(|why| panic!("{why}"));
        let (mut ann, mut bea) = (greeted(&daemon, &named("ann")), greeted(&daemon, &named("bea")));
        let create = |peer: &mut Peer, stream: &str, rest: &str| {
            let body = format!(r#"{{"name":"{stream}",{rest}}}"#);
            let answer = peer.ask(&format!("$JS.API.STREAM.CREATE.{stream}"), &body).expect("an answer");
            assert_eq!(answer["error"], serde_json::Value::Null, "{name}: {stream}");
        };
        let external = |kind: &str| format!(r#""external":{{"api":"JS.API","deliver":"SYNC.{kind}"}}"#);
        create(&mut ann, "S", r#""subjects":["s.*"]"#);
        create(&mut ann, "KV_settings", r#""subjects":["$KV.settings.>"],"max_msgs_per_subject":1"#);
        for number in 0..300 {
            ann.ask(&format!("s.{}", number % 3), "x").expect("an ack");
        }
        create(&mut bea, "M", &format!(r#""mirror":{{"name":"S",{}}}"#, external("M")));
        create(
            &mut bea,
            "X",
            &format!(r#""sources":[{{"name":"S","filter_subject":"s.1",{}}}]"#, external("X")),
        );
        create(
            &mut bea,
            "KV_mine",
            &format!(r#""mirror_direct":true,"mirror":{{"name":"KV_settings",{}}}"#, external("K")),
        );
        create(&mut bea, "NONE", &format!(r#""mirror":{{"name":"NOBODY",{}}}"#, external("N")));
        create(&mut bea, "FAR", r#""mirror":{"name":"S","external":{"api":"$JS.far.API","deliver":""}}"#);
        // What is imported as a stream is captured by one.
        create(&mut bea, "PLANT", r#""subjects":["plant.>"]"#);
        ann.send("PUB plant.temp 4\r\n21.5\r\n");
        let info = |peer: &mut Peer, stream: &str| {
            peer.ask(&format!("$JS.API.STREAM.INFO.{stream}"), "").unwrap_or_else(|why| panic!("{why}"))
        };
        let has = |peer: &mut Peer, stream: &str, last: u64| {
            until(|| info(peer, stream)["state"]["last_seq"] == last);
            info(peer, stream)["state"]["messages"].as_u64().expect("a number")
        };
        assert_eq!(has(&mut bea, "M", 300), 300, "{name}");
        assert_eq!(has(&mut bea, "X", 100), 100, "{name}");
        assert_eq!(has(&mut bea, "PLANT", 1), 1, "{name}");
        // As a client of the store does: it reads here and writes there.
        bea.ask("JS.API.$KV.settings.heater", "on").expect("an ack");
        assert_eq!(has(&mut bea, "KV_mine", 1), 1, "{name}");
        assert_eq!(
            bea.request("$JS.API.DIRECT.GET.KV_settings.$KV.settings.heater", "").expect("it"),
            "NATS/1.0",
            "{name}"
        );
        until(|| info(&mut bea, "NONE")["mirror"]["error"]["err_code"] == 10059);
        let far = &info(&mut bea, "FAR")["mirror"];
        assert_eq!((&far["active"], &far["lag"]), (&(-1).into(), &0.into()), "{name}");
        assert_eq!(info(&mut bea, "X")["sources"][0]["seq"], 299, "{name}");
        assert_eq!(info(&mut ann, "S")["state"]["consumer_count"], 0, "{name}");

        drop((ann, bea));
        daemon.kill();
        daemon.restart().expect("it starts");
        let (mut ann, mut bea) = (greeted(&daemon, &named("ann")), greeted(&daemon, &named("bea")));
        for number in 0..30 {
            ann.ask(&format!("s.{}", number % 3), "x").expect("an ack");
        }
        assert_eq!(has(&mut bea, "M", 330), 330, "{name}");
        assert_eq!(has(&mut bea, "X", 110), 110, "{name}");
    }
}
