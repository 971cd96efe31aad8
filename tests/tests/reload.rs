//! A new configuration for a daemon that runs: what changes for whom, and that a bad one changes nothing.

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
    reload(&mut daemon, "ping_interval: '50ms', ping_max: 1");
    let mut peer = greeted(&daemon, PLAIN);
    assert_eq!(peer.line(), Ok(Some("PING".into())));
    peer.send("PONG\r\n");
    assert_eq!(peer.line(), Ok(Some("PING".into())));
    // It is up to date when it counts: nobody answers this time.
    let rest = peer.rest().expect("an end");
    assert_eq!(rest.last().map(String::as_str), Some("-ERR 'Stale Connection'"), "{rest:?}");
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
