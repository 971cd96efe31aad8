//! midged as a process: its flags, its files, its log, and what it does on signals.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use midge_tests::daemon::{Daemon, PATIENCE, Program};
use midge_tests::peer::Peer;
use midge_tests::process::{Ended, Process, eventually};
use midge_tests::script::Signal;
use serde_json::Value;
use tempfile::TempDir;

fn program() -> Program {
    Program::ours().unwrap_or_else(|why| panic!("{why}"))
}

fn midged(args: &[&str]) -> Command {
    let mut command = Command::new(program().path());
    command.args(args);
    command
}

/// Runs midged to its end.
fn run(args: &[&str]) -> Ended {
    Process::start(&mut midged(args)).and_then(Process::end).unwrap_or_else(|why| panic!("{args:?}: {why}"))
}

/// Starts midged on a free port.
fn start(flags: &[&str]) -> Daemon {
    let flags: Vec<String> = flags.iter().map(|&flag| flag.into()).collect();
    Daemon::start(program(), None, &flags).unwrap_or_else(|why| panic!("{flags:?}: {why}"))
}

/// What a daemon has logged up to the end of its start. The ready line may be faster than the log.
fn first_lines(daemon: &Daemon) -> String {
    daemon.stderr().find(0, PATIENCE, |line| line.ends_with("Server is ready")).expect("a started daemon");
    daemon.stderr().text()
}

/// Waits until a file says it.
fn find_in(path: &Path, wanted: &str) -> String {
    let found = eventually(|| fs::read_to_string(path).ok().filter(|text| text.contains(wanted)));
    found.unwrap_or_else(|| {
        panic!("{wanted:?} is not in {}:\n{}", path.display(), fs::read_to_string(path).unwrap_or_default())
    })
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

fn exit_code(daemon: &mut Daemon) -> Option<i32> {
    let status = daemon.wait(PATIENCE);
    status.unwrap_or_else(|| panic!("it still runs:\n{}", daemon.stderr().text())).code()
}

#[test]
fn help_and_version_go_to_stdout() {
    for help in ["-h", "--help", "-help", "help"] {
        let ended = run(&[help]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{help}");
        assert!(ended.stdout.starts_with("Usage: midged"), "{}", ended.stdout);
    }
    for version in ["-v", "--version", "-version", "version"] {
        let ended = run(&[version]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{version}");
        let words: Vec<_> = ended.stdout.split_whitespace().collect();
        assert_eq!((words[0], words[2]), ("midged:", "(nats-server:"), "{words:?}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_2() {
    for (args, why) in [
        (&["--no-such-flag"][..], "flag provided but not defined: -no-such-flag"),
        (&["-no-such-flag"], "flag provided but not defined: -no-such-flag"),
        (&["serve"], "unrecognized command: \"serve\""),
        (&["-p"], "flag needs an argument: -p"),
        (&["-p", "soon"], "invalid value \"soon\" for flag -p"),
        (&["--port=65536"], "invalid value \"65536\" for flag -port"),
        (&["-D=perhaps"], "invalid boolean value \"perhaps\" for -D"),
        (&["--log-format", "xml"], "invalid value \"xml\" for flag -log-format"),
        (&["-t"], "must specify [-c, --config]"),
        (&["--signal", "sleep"], "unknown signal \"sleep\""),
    ] {
        let ended = run(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(ended.stderr.contains(why), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("Try 'midged --help'."), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn a_configuration_is_checked_without_being_run() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("server.conf");
    for (config, code, stdout, stderr) in [
        ("port: 4222\n", 0, "is valid (sha256:", ""),
        ("port: 4222\n  no_such: 1\n", 78, "", ":2:3: unknown field \"no_such\"\n"),
        ("port: 4222\nmax_payload: much\n", 78, "", ":2:1: "),
        ("port: 4222\nmax_payload: {\n", 78, "", ":3:1: Parse error: expected '}', but the text ends\n"),
        // It would start, but not as meant.
        ("max_payload: 9MB\n", 1, "", "over 8 MiB are generally discouraged"),
    ] {
        fs::write(&path, config).expect("written");
        let ended = run(&["-t", "-c", text(&path)]);
        assert_eq!(ended.code, Some(code), "{config}: {ended:?}");
        assert!(ended.stdout.contains(stdout) && ended.stdout.is_empty() == stdout.is_empty(), "{ended:?}");
        assert!(format!("{}\n", ended.stderr).contains(stderr), "{config}: {ended:?}");
    }
    let ended = run(&["-c", text(&directory.path().join("missing.conf"))]);
    assert_eq!(ended.code, Some(78));
    assert!(ended.stderr.contains("missing.conf"), "{ended:?}");
}

#[test]
fn a_port_that_is_taken_is_75() {
    let first = start(&[]);
    let ended = run(&["-a", "127.0.0.1", "-p", &first.address().port().to_string()]);
    assert_eq!(ended.code, Some(75), "{ended:?}");
    let told = format!("[FTL] Error listening on port: {}", first.address());
    assert!(ended.stderr.contains(&told), "{ended:?}");
}

#[test]
fn streams_want_a_directory() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("file");
    fs::write(&file, "").expect("written");
    fs::write(directory.path().join("jetstream"), "").expect("written");
    for path in [file.as_path(), directory.path()] {
        let ended = run(&["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", text(path)]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("storage directory is not a directory"), "{ended:?}");
    }
}

#[test]
fn port_minus_1_is_any_free_port() {
    let (one, other) = (start(&["-p", "-1"]), start(&["--port=-1"]));
    assert_ne!(one.address().port(), other.address().port());
}

#[test]
fn one_dash_is_two_and_a_value_follows_either_way() {
    for flags in [
        &["-n", "attic"][..],
        &["--n", "attic"],
        &["-name=attic"],
        &["--name", "attic"],
        &["--server_name=attic"],
        &["-server_name", "attic"],
        &["-n", "cellar", "--name=attic"],
        &["-D=false", "-n=attic"],
    ] {
        let daemon = start(flags);
        let info = Peer::connect(daemon.address()).and_then(|mut peer| peer.info()).expect("a greeting");
        assert_eq!(info["server_name"], "attic", "{flags:?}");
    }
}

#[test]
fn ipv6_is_listened_on() {
    let daemon = start(&["-a", "::1"]);
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, daemon.address().port()));
    let mut peer = Peer::connect(address).expect("a connection over IPv6");
    assert_eq!(peer.info().expect("a greeting")["client_ip"], "::1");
    peer.send("CONNECT {\"verbose\":false}\r\n");
    peer.fence().expect("service");
    assert!(first_lines(&daemon).contains("Listening for client connections on [::1]:"));
}

#[test]
fn the_ready_line_tells_every_port() {
    let mut command = midged(&["-a", "127.0.0.1", "-p", "-1", "-m", "-1", "--ready"]);
    let process = Process::start(&mut command).expect("started");
    let line = process.stdout().find(0, PATIENCE, |_| true).expect("a line");
    let ready: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(ready["pid"], process.pid());
    for port in ["client", "monitor"] {
        let address: SocketAddr = ready[port].as_str().and_then(|it| it.parse().ok()).expect("an address");
        TcpStream::connect(address).unwrap_or_else(|err| panic!("{port} on {address}: {err}"));
    }
    process.signal(rustix::process::Signal::INT).expect("signalled");
    assert_eq!(process.end().expect("an end").stdout, line, "nothing but the ready line is on stdout");
}

#[test]
fn users_and_tokens_are_asked_for() {
    let user = start(&["--user", "sensor", "--pass", "sesame"]);
    let token = start(&["--auth=sesame"]);
    for (daemon, good, bad) in [
        (&user, r#"{"verbose":false,"user":"sensor","pass":"sesame"}"#, r#"{"user":"sensor","pass":"x"}"#),
        (&token, r#"{"verbose":false,"auth_token":"sesame"}"#, r#"{"auth_token":"x"}"#),
    ] {
        assert_eq!(
            Peer::connect(daemon.address()).and_then(|mut it| it.info()).expect("INFO")["auth_required"],
            true
        );
        Peer::greeted(daemon.address(), good).and_then(|mut it| it.fence()).expect("let in");
        for options in [bad, "{}"] {
            let mut peer = Peer::greeted(daemon.address(), options).expect("a greeting");
            assert_eq!(peer.rest().expect("an end"), ["-ERR 'Authorization Violation'"], "{options}");
        }
    }
    assert!(!user.stderr().text().contains("sesame"), "a log holds no passwords");
}

#[test]
fn the_pid_file_is_there_while_it_runs() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("midged.pid");
    let mut daemon = start(&["-P", text(&path)]);
    assert_eq!(fs::read_to_string(&path).expect("a pid file"), daemon.pid().to_string());
    daemon.kill_with(Signal::Term).expect("signalled");
    assert_eq!(exit_code(&mut daemon), Some(0));
    assert!(!path.exists());
}

#[test]
fn the_ports_file_is_nats_servers() {
    let directory = TempDir::new().expect("a directory");
    let flags = ["-m", "-1", "--ports_file_dir", text(directory.path())];
    let mut daemon = start(&flags);
    let path = directory.path().join(format!("midged_{}.ports", daemon.pid()));
    let ports: Value = serde_json::from_str(&fs::read_to_string(&path).expect("a file")).expect("JSON");
    assert_eq!(ports["nats"], serde_json::json!([format!("nats://{}", daemon.address())]));
    assert!(
        ports["monitoring"][0].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")),
        "{ports}"
    );
    // For whoever spawned a script of that name which became the daemon.
    let namesake = directory.path().join(format!("nats-server_{}.ports", daemon.pid()));
    assert_eq!(fs::read(&path).expect("a file"), fs::read(&namesake).expect("a file"));
    daemon.kill_with(Signal::Int).expect("signalled");
    assert_eq!(exit_code(&mut daemon), Some(0));
    assert!(!path.exists() && !namesake.exists());

    let Ok(reference) = Program::reference() else { return };
    let flags = flags.map(String::from);
    let reference = Daemon::start(reference, None, &flags).expect("the reference starts");
    let path = directory.path().join(format!("nats-server_{}.ports", reference.pid()));
    let theirs: Value = serde_json::from_str(&find_in(&path, "}")).expect("JSON");
    let keys = |ports: &Value| ports.as_object().map(|it| it.keys().cloned().collect::<Vec<_>>());
    assert_eq!(keys(&ports), keys(&theirs));
}

/// Test harnesses spawn `nats-server`, look for a ports file of that name and read its version.
#[test]
fn called_as_nats_server_it_answers_to_that_name() {
    let directory = TempDir::new().expect("a directory");
    let alias = directory.path().join("nats-server");
    std::os::unix::fs::symlink(program().path(), &alias).expect("a link");
    let version = Command::new(&alias).arg("-v").output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&version.stdout), "nats-server: v2.15.1\n");

    let flags = ["--ports_file_dir", text(directory.path())].map(String::from);
    let daemon = Daemon::start(Program::Ours(alias), None, &flags).expect("it starts");
    let path = directory.path().join(format!("nats-server_{}.ports", daemon.pid()));
    assert!(path.exists());
}

#[test]
fn log_lines_look_like_nats_servers() {
    let daemon = start(&[]);
    let pid = daemon.pid();
    let log = first_lines(&daemon);
    for line in log.lines() {
        let shape: String = line.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        let begin = format!("[{}] 0000/00/00 00:00:00.000000 [INF] ", "0".repeat(pid.to_string().len()));
        assert!(shape.starts_with(&begin) && line.starts_with(&format!("[{pid}] ")), "{line}");
    }
    assert!(
        log.contains(&format!("[INF] Listening for client connections on {}", daemon.address())),
        "{log}"
    );

    let daemon = start(&["-T=false"]);
    let log = first_lines(&daemon);
    assert!(log.starts_with(&format!("[{}] [INF] ", daemon.pid())), "{log}");
}

#[test]
fn log_lines_can_be_json() {
    let daemon = start(&["--log-format", "json", "-D"]);
    Peer::connect(daemon.address()).and_then(|mut peer| peer.info()).expect("a greeting");
    let created = |line: &str| line.contains("Client connection created");
    daemon.stderr().find(0, PATIENCE, created).expect("a line on the connection");
    for line in daemon.stderr().text().lines() {
        let json: Value = serde_json::from_str(line).unwrap_or_else(|err| panic!("{err}: {line}"));
        assert_eq!(json["pid"], daemon.pid(), "{line}");
        assert!(["INF", "DBG"].iter().any(|level| json["level"] == *level), "{line}");
        assert!(json["time"].as_str().is_some_and(|time| time.contains('T')), "{line}");
        assert!(json["msg"].is_string(), "{line}");
    }
}

#[test]
fn debug_and_trace_are_logged_when_asked_for() {
    for (flags, debug, trace) in [
        (&[][..], false, false),
        (&["-D"], true, false),
        (&["-V"], false, true),
        (&["-D", "-V"], true, true),
        (&["-DV"], true, true),
        (&["--debug", "--trace"], true, true),
        (&["-DV", "-V=false"], true, false),
    ] {
        let mut daemon = start(flags);
        let mut peer = Peer::greeted(daemon.address(), r#"{"verbose":false,"pass":"sesame"}"#).expect("INFO");
        peer.send("PUB attic.temp 4\r\n21.5\r\n");
        peer.fence().expect("service");
        drop(peer);
        daemon.kill_with(Signal::Int).expect("signalled");
        assert_eq!(exit_code(&mut daemon), Some(0));
        let log = daemon.stderr().whole(PATIENCE).expect("the whole log");
        assert_eq!(log.contains("[DBG] 127.0.0.1:"), debug, "{flags:?}:\n{log}");
        assert_eq!(log.contains(" - cid:1 - Client connection created"), debug, "{flags:?}:\n{log}");
        assert_eq!(log.contains(" - cid:1 - <<- [PUB attic.temp 4]"), trace, "{flags:?}:\n{log}");
        assert_eq!(log.contains(r#" - cid:1 - <<- MSG_PAYLOAD: ["21.5"]"#), trace, "{flags:?}:\n{log}");
        assert!(!log.contains("sesame"), "{flags:?}:\n{log}");
    }
}

#[test]
fn a_log_that_was_moved_away_is_opened_anew() {
    let directory = TempDir::new().expect("a directory");
    let (path, moved) = (directory.path().join("midged.log"), directory.path().join("midged.log.1"));
    let daemon = start(&["-l", text(&path)]);
    assert!(daemon.stderr().text().is_empty(), "what goes to a file does not go to stderr");
    find_in(&path, "[INF] Server is ready");
    fs::rename(&path, &moved).expect("moved");
    daemon.kill_with(Signal::Usr1).expect("signalled");
    let log = find_in(&path, "[INF] File log re-opened");
    assert!(!log.contains("Server is ready"), "{log}");
    assert!(find_in(&moved, "Server is ready").contains("Starting midged"));
}

#[test]
fn a_log_that_is_large_is_set_aside() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("midged.log");
    let daemon = start(&["-DV", "-l", text(&path), "--log_size_limit", "2000"]);
    let mut peer = Peer::greeted(daemon.address(), r#"{"verbose":false}"#).expect("a greeting");
    for _ in 0..50 {
        peer.send("PUB attic.temp 4\r\n21.5\r\n");
    }
    peer.fence().expect("service");
    let files = || -> Vec<PathBuf> {
        let entries =
            fs::read_dir(directory.path()).expect("a directory").map(|it| it.expect("a file").path());
        entries.filter(|it| *it != path).collect()
    };
    let aside = eventually(|| Some(files()).filter(|files| files.len() >= 3)).expect("files set aside");
    for file in &aside {
        let name = file.file_name().expect("a name").to_string_lossy();
        let stamp = name.strip_prefix("midged.log.").unwrap_or_else(|| panic!("{name}"));
        assert!(stamp.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{name}");
        let size = fs::metadata(file).expect("a file").len();
        assert!((2000..2400).contains(&size), "{name} has {size} bytes");
    }
    // Between being set aside and being opened anew it isn't there.
    let size = eventually(|| fs::metadata(&path).ok()).expect("the log").len();
    assert!(size <= 2000, "{size} bytes");
}

#[test]
fn int_and_term_end_it_in_order() {
    for signal in [Signal::Int, Signal::Term] {
        let mut daemon = start(&[]);
        let mut peer = Peer::greeted(daemon.address(), r#"{"verbose":false}"#).expect("a greeting");
        peer.fence().expect("service");
        daemon.kill_with(signal).expect("signalled");
        peer.rest().expect("the connection is closed");
        assert_eq!(exit_code(&mut daemon), Some(0));
        let log = daemon.stderr().whole(PATIENCE).expect("the whole log");
        assert!(log.contains("[INF] Initiating Shutdown..."), "{log}");
        assert!(log.ends_with("[INF] Server Exiting.."), "{log}");
    }
}

const LAME: &str = "lame_duck_duration: '30s', lame_duck_grace_period: '10ms'\n";

#[test]
fn a_lame_duck_says_so_and_then_closes_its_clients() {
    let mut daemon = Daemon::start(program(), Some(LAME), &[]).expect("started");
    let address = daemon.address();
    let mut peer = Peer::greeted(address, r#"{"verbose":false,"protocol":1}"#).expect("a greeting");
    peer.fence().expect("service");
    assert_eq!(peer.info().expect("the second INFO")["connect_info"], true);
    daemon.kill_with(Signal::Usr2).expect("signalled");
    assert_eq!(peer.info().expect("the last INFO")["ldm"], true);
    assert!(TcpStream::connect(address).is_err(), "nobody else is let in");
    // A second word does not end it sooner.
    daemon.kill_with(Signal::Term).expect("signalled");
    peer.rest().expect("the connection is closed");
    assert_eq!(exit_code(&mut daemon), Some(0));
    let log = daemon.stderr().whole(PATIENCE).expect("the whole log");
    assert!(log.contains("[INF] Entering lame duck mode, stop accepting new clients"), "{log}");
    assert!(log.contains("[INF] Closing existing clients"), "{log}");
}

#[test]
fn a_lame_duck_without_clients_ends_at_once() {
    let mut daemon = start(&[]);
    daemon.kill_with(Signal::Usr2).expect("signalled");
    assert_eq!(exit_code(&mut daemon), Some(0));
}

#[test]
fn signals_can_be_sent_by_flag() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("midged.pid");
    let flags = ["-P".to_owned(), text(&path).to_owned()];
    let mut daemon = Daemon::start(program(), Some("max_payload: 1000\n"), &flags).expect("started");
    let pid = daemon.pid().to_string();
    let say = |command: &str, target: &str| {
        let ended = run(&["--signal", &format!("{command}={target}")]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{command}={target}");
    };
    for target in [text(&path), &pid] {
        let seen = daemon.stderr().count();
        say("reload", target);
        daemon
            .stderr()
            .find(seen, PATIENCE, |it| it.contains("Reloaded server configuration"))
            .expect("reloaded");
    }
    let seen = daemon.stderr().count();
    say("reopen", &pid);
    daemon.stderr().find(seen, PATIENCE, |it| it.contains("File log re-opened")).expect("re-opened");
    say("quit", text(&path));
    assert_eq!(exit_code(&mut daemon), Some(0));

    for (command, code) in [("term", Some(0)), ("ldm", Some(0)), ("stop", None)] {
        let mut daemon = start(&[]);
        say(command, &daemon.pid().to_string());
        assert_eq!(exit_code(&mut daemon), code, "{command}");
    }
    for (target, why) in [
        ("reload=/no/such/file.pid", "/no/such/file.pid"),
        // No process can have this id: it is above the kernel's highest.
        ("reload=2000000000", "process 2000000000"),
    ] {
        let ended = run(&["-sl", target]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(why), "{ended:?}");
    }
}
