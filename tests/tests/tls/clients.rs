//! Clients of other people over TLS, and our own tool.

use std::path::{Path, PathBuf};
use std::process::Command;

use async_nats::ConnectOptions;
use midge_tests::daemon::{Daemon, PATIENCE};
use midge_tests::process::Process;
use tokio::time::timeout;

use crate::pki::{Pair, Pki};
use crate::{both, ours};

/// How a server is met.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Upgrade,
    First,
    Certificate,
    WrongAuthority,
    NoCertificate,
}

const WAYS: [(Way, bool); 5] = [
    (Way::Upgrade, true),
    (Way::First, true),
    (Way::Certificate, true),
    (Way::WrongAuthority, false),
    (Way::NoCertificate, false),
];

impl Way {
    fn config(self, pki: &Pki, server: &Pair) -> String {
        let more = match self {
            Self::Upgrade | Self::WrongAuthority => String::new(),
            Self::First => "handshake_first: true".to_owned(),
            Self::Certificate | Self::NoCertificate => format!("{}, verify: true", pki.ca_key()),
        };
        format!("tls {{ {}\n{more} }}", server.keys())
    }
}

/// A program's arguments: the way, the URL, the authority, a certificate and its key.
fn arguments(way: Way, daemon: &Daemon, pki: &Pki, stranger: &Pki, shown: &Pair) -> Vec<String> {
    let ca = if way == Way::WrongAuthority { stranger.ca() } else { pki.ca() };
    let word = match way {
        Way::Upgrade | Way::WrongAuthority | Way::NoCertificate => "upgrade",
        Way::First => "first",
        Way::Certificate => "certificate",
    };
    let text = |path: &Path| path.display().to_string();
    let url = format!("tls://localhost:{}", daemon.address().port());
    vec![word.to_owned(), url, text(&ca), text(&shown.cert), text(&shown.key)]
}

/// Holds `meet`, which says whether a client got its message back, to what should happen in each way.
fn each_way(meet: impl Fn(&[String]) -> bool) {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let (server, shown) = (pki.server("server"), pki.client("client"));
    for (way, wanted) in WAYS {
        both(&way.config(&pki, &server), |daemon, name| {
            let arguments = arguments(way, &daemon, &pki, &stranger, &shown);
            let met = meet(&arguments);
            assert_eq!(met, wanted, "{name}: {arguments:?}\n{}", daemon.stderr().text());
        });
    }
}

#[test]
fn async_nats_for_rust() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    each_way(|arguments| {
        let [way, url, ca, cert, key] = arguments else { panic!("five arguments") };
        let mut options = ConnectOptions::new().require_tls(true).add_root_certificates(PathBuf::from(ca));
        match way.as_str() {
            "first" => options = options.tls_first(),
            "certificate" => options = options.add_client_certificate(cert.into(), key.into()),
            _ => {}
        }
        runtime.block_on(async {
            let Ok(client) = options.connect(url).await else { return false };
            let mut echo = client.subscribe("echo").await.expect("a subscription");
            client.publish("echo", "hello".into()).await.expect("a publish");
            let message = timeout(PATIENCE, futures_util::StreamExt::next(&mut echo)).await;
            message.is_ok_and(|message| message.is_some_and(|message| message.payload == "hello"))
        })
    });
}

#[test]
fn nats_py() {
    let python = at(".venv/bin/python");
    assert!(at(".venv/lib").exists(), "nats-py is not here: run tests/setup");
    each_way(|arguments| meets(Command::new(&python).arg(at("clients/tls.py")).args(arguments)));
}

#[test]
fn nats_js_on_node() {
    assert!(
        at("node_modules/@nats-io/transport-node").exists(),
        "Node's client is not here: run tests/setup"
    );
    each_way(|arguments| meets(Command::new("node").arg(at("clients/tls.mjs")).args(arguments)));
}

#[test]
fn our_own_tool() {
    let midge = beside_this_test("midge");
    each_way(|arguments| {
        let [way, url, ca, cert, key] = arguments else { panic!("five arguments") };
        let mut command = Command::new(&midge);
        command.args(["rtt", "--server", url, "--tlsca", ca, "--count", "1"]);
        match way.as_str() {
            "first" => drop(command.arg("--tlsfirst")),
            "certificate" => drop(command.args(["--tlscert", cert, "--tlskey", key])),
            _ => {}
        }
        let ended = Process::start(&mut command).and_then(Process::end).unwrap_or_else(|why| panic!("{why}"));
        ended.code == Some(0)
    });
}

/// The program ends with 0 and says that its message came back, or with 3 because it wasn't let in.
fn meets(command: &mut Command) -> bool {
    let ended = Process::start(command).and_then(Process::end).unwrap_or_else(|why| panic!("{why}"));
    match ended.code {
        Some(0) => assert_eq!(ended.stdout.trim(), "hello", "{}", ended.stderr),
        Some(3) => return false,
        code => panic!("it ended with {code:?}:\n{}\n{}", ended.stdout, ended.stderr),
    }
    true
}

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_flags_do_as_the_block() {
    let pki = Pki::new();
    let (server, shown) = (pki.server("server"), pki.client("client"));
    for program in crate::programs() {
        let name = program.name();
        let text = |path: &Path| path.display().to_string();
        let flags = [
            "--tls".to_owned(),
            "--tlsverify".to_owned(),
            format!("--tlscert={}", text(&server.cert)),
            format!("--tlskey={}", text(&server.key)),
            format!("--tlscacert={}", text(&pki.ca())),
        ];
        let daemon = Daemon::start(program, None, &flags).unwrap_or_else(|why| panic!("{name}: {why}"));
        let config = crate::peer::config(&pki, Some(&shown));
        let mut peer = crate::peer::Peer::upgrade(daemon.address(), &config).expect("a handshake");
        peer.fence();
    }
}

#[test]
fn what_can_not_be_honoured_is_said_at_the_start() {
    let pki = Pki::new();
    let keys = pki.server("server").keys();
    let daemon = ours(&format!(
        "tls {{ {keys}, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA], curve_preferences: [CurveP521, X25519] }}"
    ));
    for warning in [
        "[WRN] cipher suite TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA is not available; it is not offered",
        "[WRN] of 'cipher_suites' nothing is left for TLS 1.2; only TLS 1.3 is served",
        "[WRN] curve CurveP521 is not available; it is not offered",
    ] {
        daemon.stderr().find(0, PATIENCE, |line| line.ends_with(warning)).expect("a warning");
    }
    let program = midge_tests::daemon::Program::ours().unwrap_or_else(|why| panic!("{why}"));
    for (config, why) in [
        (
            format!("tls {{ {keys}, verify: true }}"),
            "client certificates can't be verified without 'ca_file'",
        ),
        (format!("tls {{ {keys}, ocsp_peer: true }}"), "\"tls.ocsp_peer\" is not served"),
        (
            format!("tls {{ {keys}, curve_preferences: [CurveP521] }}"),
            "none of 'curve_preferences' is available",
        ),
        (
            "tls { cert_file: 'no.pem', key_file: 'no.key' }".to_owned(),
            "error parsing X509 certificate/key pair",
        ),
        ("tls { timeout: 1 }".to_owned(), "missing 'cert_file' and 'key_file'"),
        ("https: '127.0.0.1:-1'".to_owned(), "TLS cert and key required for HTTPS"),
    ] {
        let error = Daemon::start(program.clone(), Some(&config), &[]).expect_err("no start");
        assert!(error.contains(why), "{config}: {error}");
    }
}

#[test]
fn a_configuration_is_checked_with_its_certificates() {
    let pki = Pki::new();
    let (good, other) = (pki.server("good"), pki.server("other"));
    let midged = midge_tests::daemon::Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().display().to_string();
    let check = |config: &str| {
        std::fs::write(file.path(), config).expect("a write");
        let [ours, tool] =
            [(midged.path(), ["-t", "-c"]), (&beside_this_test("midge"), ["check-config", "-c"])].map(
                |(program, arguments)| {
                    let mut command = Command::new(program);
                    let ended = Process::start(command.args(arguments).arg(&path)).and_then(Process::end);
                    ended.unwrap_or_else(|why| panic!("{why}"))
                },
            );
        (ours.code, ours.stderr, tool.code, tool.stderr)
    };
    let (ours, _, tool, _) = check(&format!("tls {{ {} }}", good.keys()));
    assert_eq!((ours, tool), (Some(0), Some(0)));
    let mixed = Pair { key: other.key, ..good.clone() };
    let (ours, said, tool, told) = check(&format!("tls {{ {} }}", mixed.keys()));
    assert_eq!((ours, tool), (Some(78), Some(78)));
    assert!(said.contains("error parsing X509 certificate/key pair: "), "{said}");
    assert!(told.contains("error parsing X509 certificate/key pair: "), "{told}");
    let (_, said, tool, told) =
        check(&format!("tls {{ {}, curve_preferences: [X25519, CurveP521] }}", good.keys()));
    assert_eq!(tool, Some(0));
    for said in [said, told] {
        assert!(said.contains("curve CurveP521 is not available; it is not offered"), "{said}");
    }
}

fn beside_this_test(name: &str) -> PathBuf {
    let executable = std::env::current_exe().expect("a path");
    let directory = executable.parent().and_then(Path::parent).expect("a target directory");
    let path = directory.join(name);
    assert!(path.is_file(), "no {}: run `cargo build -p midge-cli`", path.display());
    path
}
