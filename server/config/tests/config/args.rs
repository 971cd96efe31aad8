//! The command line.

use std::path::PathBuf;

use midge_config::{
    Invocation, LogFormat, MemoryFiles, Options, Report, Run, SignalCommand, World, parse_args, unserved,
};

fn args(line: &str) -> Result<Invocation, String> {
    parse_args(line.split_whitespace().map(str::to_owned))
}

fn run(line: &str) -> Run {
    match args(line) {
        Ok(Invocation::Run(run)) => run,
        other => panic!("{line}: {other:?}"),
    }
}

fn load(line: &str, file: &str) -> Result<(Options, Report), Report> {
    let files = MemoryFiles::from([(PathBuf::from("f"), file.as_bytes().to_vec())]);
    run(line).load(World { files: &files, environment: &|_| None })
}

fn options(line: &str, file: &str) -> Options {
    load(line, file).unwrap_or_else(|report| panic!("{line}\n{report}")).0
}

#[test]
fn one_or_two_dashes_and_both_ways_to_give_a_value() {
    for line in ["-p 5", "--p 5", "-p=5", "--port=5", "-port 5", "-p 4 --port 5"] {
        assert_eq!(options(line, "").listen.port, 5, "{line}");
    }
    assert_eq!(options("-p -1", "").listen.port, 0);
    assert_eq!(options("", "").listen.port, 4222);
    assert_eq!(options("-a h", "").listen.host, "h");
    assert!(options("-D", "").log.debug);
    assert!(!options("-D=false", "").log.debug);
    assert!(!options("-T=0", "").log.time);
    let log = options("-DV", "").log;
    assert!(log.debug && log.trace && !log.trace_verbose);
    let log = options("-DVV", "").log;
    assert!(log.debug && log.trace && log.trace_verbose);
}

#[test]
fn usage_errors() {
    for (line, why) in [
        ("-x", "flag provided but not defined: -x"),
        ("--port", "flag needs an argument: -port"),
        ("-p x", "invalid value \"x\" for flag -p"),
        ("-p 70000", "invalid value"),
        ("-D=maybe", "invalid boolean value \"maybe\" for -D"),
        ("file.conf", "unrecognized command"),
        ("-", "unrecognized command"),
        ("-t", "must specify [-c, --config]"),
        ("-sl nonsense", "unknown signal"),
        ("--log-format xml", "text or json"),
    ] {
        let error = args(line).unwrap_err();
        assert!(error.contains(why), "{line}: {error}");
    }
}

#[test]
fn invocations() {
    assert_eq!(args("-h"), Ok(Invocation::Help));
    assert_eq!(args("help"), Ok(Invocation::Help));
    assert_eq!(args("-p 1 --version -h"), Ok(Invocation::Version));
    assert_eq!(args("version"), Ok(Invocation::Version));
    assert!(
        matches!(args("-t -c f"), Ok(Invocation::TestConfig(run)) if run.config_file == Some("f".into()))
    );
    for (line, command, target) in [
        ("-sl reload", SignalCommand::Reload, None),
        ("--signal ldm=12", SignalCommand::LameDuck, Some("12")),
        ("-sl=quit=/run/x.pid", SignalCommand::Quit, Some("/run/x.pid")),
        ("-sl term", SignalCommand::Term, None),
        ("-sl stop=", SignalCommand::Stop, None),
        ("-sl reopen=1", SignalCommand::Reopen, Some("1")),
    ] {
        let want = Invocation::Signal { command, target: target.map(str::to_owned) };
        assert_eq!(args(line), Ok(want), "{line}");
    }
    let run = run("--ready --log-format json -c f");
    assert!(run.ready && run.log_format == LogFormat::Json && run.config_file == Some("f".into()));
}

#[test]
fn flags_win_over_the_file() {
    let file = "port: 1\nhost: h\nserver_name: n\ndebug: true\nlogtime: false\nauthorization {user: a, password: b}\nhttp: 8222\njetstream: on";
    let options = options("-c f -p 2 -n m -D=false -T --user u -m 3 -sd e", file);
    assert_eq!((options.listen.port, options.listen.host.as_str()), (2, "h"));
    assert_eq!(options.server_name.as_deref(), Some("m"));
    assert!(!options.log.debug && options.log.time);
    assert_eq!(options.authorization.user.as_deref(), Some("u"));
    assert_eq!(options.authorization.password.as_ref().map(|secret| secret.expose()), Some("b"));
    assert_eq!(options.monitor.http_port, Some(3));
    assert_eq!(options.jetstream.store_dir, Some("e".into()));
    assert_eq!(options.config_file, Some("f".into()));
    // As nats-server: it doesn't guess which of two directories has the streams.
    for (file, at) in [("store_dir: d", "f:1:1"), ("jetstream { store_dir: e }", "f:1:13")] {
        let report = load("-c f -sd e", file).unwrap_err();
        assert!(
            report.to_string().contains(&format!("{at}: Duplicate 'store_dir' configuration")),
            "{report}"
        );
    }
    assert!(load("-c f -n a", "max_payload: 2mb\nmax_pending: 1mb").is_err());
    assert!(load("-c missing", "").is_err());
}

#[test]
fn tls_flags() {
    let file = "tls {cert_file: a, key_file: b, timeout: 7}";
    let tls = options("-c f --tlscert c --tlskey k --tlsverify --tlscacert ca", file).tls.unwrap();
    assert!(tls.verify && tls.ca_file == Some("ca".into()) && tls.timeout.as_secs() == 2);
    assert_eq!(options("-c f --tls=false", file).tls, None);
    assert!(options("-c f", file).tls.is_some());
    assert!(load("--tls", "").unwrap_err().to_string().contains("--tlscert"));
    assert!(
        unserved(&options("--tls --tlscert c --tlskey k", "")).iter().all(|unserved| unserved.key == "tls")
    );
}

#[test]
fn flags_for_what_is_not_served_are_noted() {
    let options =
        options("--routes nats://x --cluster nats://y -cluster_name c --no_advertise --profile 1", "");
    let keys: Vec<_> = unserved(&options).iter().map(|unserved| unserved.key.as_str()).collect();
    assert_eq!(
        keys,
        ["cluster.routes", "cluster.listen", "cluster.name", "cluster.no_advertise", "prof_port"]
    );
}
