//! Encrypted connections, on midged and on nats-server alike.

mod pki;

use async_nats::ConnectOptions;
use futures_util::StreamExt as _;
use midge_tests::daemon::{Daemon, PATIENCE, Program};
use tokio::time::timeout;

use pki::{Pair, Pki};

fn programs() -> Vec<Program> {
    let ours = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    std::iter::once(ours).chain(Program::reference()).collect()
}

fn start(program: &Program, config: &str) -> Daemon {
    Daemon::start(program.clone(), Some(config), &[])
        .unwrap_or_else(|why| panic!("{}: {why}", program.name()))
}

fn files(pair: &Pair) -> String {
    format!("cert_file: '{}', key_file: '{}'", pair.cert.display(), pair.key.display())
}

#[tokio::test]
async fn messages_of_all_sizes() {
    let pki = Pki::new();
    let config = format!("tls {{ {} }}", files(&pki.server("server")));
    for program in programs() {
        let daemon = start(&program, &config);
        let url = format!("tls://localhost:{}", daemon.address().port());
        let connect = || ConnectOptions::new().add_root_certificates(pki.ca()).connect(&url);
        let (one, other) = (connect().await.expect("let in"), connect().await.expect("let in"));
        assert!(one.server_info().tls_required, "{}", program.name());
        let mut sub = other.subscribe("sizes").await.expect("a subscription");
        other.flush().await.expect("a flush");
        timeout(PATIENCE, other.request("nobody", "".into())).await.expect("an answer").expect_err("a 503");
        let most = one.server_info().max_payload;
        assert_eq!(most, 1 << 20);
        for size in (0..300).map(|n| n * 97).chain([0, most, 16_384, most - 1]) {
            let body: Vec<u8> = (0..size).map(|n| (n * 31 + size) as u8).collect();
            one.publish("sizes", body.clone().into()).await.expect("a publish");
            let message = timeout(PATIENCE, sub.next()).await.expect("in time").expect("a message");
            assert!(message.payload == body, "{} bytes on {}", size, program.name());
        }
    }
}
