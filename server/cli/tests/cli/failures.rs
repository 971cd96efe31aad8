//! What `midge` says and how it ends when something is not as it should be.

use crate::support::{Midge, Server, TempFile};

/// Users that may do this and that.
const USERS: &str = r#"
authorization { users: [
    { user: all, password: "p@ss" }
    { user: some, password: some, permissions: { publish: ["ok.>", "_INBOX.>"], subscribe: ["ok.>", "_INBOX.>"] } }
    { user: mute, password: mute, permissions: { publish: "ok.x", subscribe: "ok.x" } }
] }
"#;

#[test]
fn no_server_is_told_in_one_line() {
    for args in
        [&["pub", "a", "b"][..], &["sub", "a"], &["request", "a", "b"], &["reply", "a", "b"], &["rtt"]]
    {
        let said = Midge::new(args).env("NATS_URL", "nats://user:secret@127.0.0.1:1").run().failed(69);
        assert_eq!(
            said,
            "midge: cannot connect to nats://127.0.0.1:1: connection refused (is midged running?)\n"
        );
    }
}

#[test]
fn arguments_that_cannot_be_meant_are_usage_errors() {
    let server = Server::start();
    let cases: [(&[&str], &str); 9] = [
        (&["pub", "a b", ""], "white space"),
        (&["pub", "a.*", ""], "wildcard"),
        (&["pub", "a..b", ""], "empty token"),
        (&["pub", "a", "{{Cuont}}"], "unknown template {{Cuont}}"),
        (&["pub", "a", "b", "--sleep", "5"], "500ms"),
        (&["pub", "a", "b", "-H", "novalue"], "KEY:VALUE"),
        (&["sub", "a.>.b"], "last token"),
        (&["sub"], "SUBJECT"),
        (&["reply", "a"], "BODY"),
    ];
    for (args, text) in cases {
        let said = server.midge(args).run().failed(2);
        assert!(said.contains(text), "{args:?}: {said}");
    }
    let said = Midge::new(&["rtt", "-s", "http://localhost"]).run().failed(2);
    assert!(said.starts_with("midge: --server: "), "{said}");
}

#[test]
fn a_body_as_written_has_no_templates() {
    let server = Server::start();
    let sub = server.midge(&["sub", "a", "--count", "1"]).start_listening();
    server.midge(&["pub", "a", "{{Cuont}}", "--no-templates"]).run().ok();
    assert!(sub.end().ok().contains("\n{{Cuont}}\n"));
}

#[test]
fn bodies_over_the_servers_limit_are_refused() {
    let server = Server::with_config("max_payload: 1000");
    let big = [b'x'; 1001];
    let said = server.midge(&["pub", "a", "{{Random 1001 1001}}"]).run().failed(1);
    assert_eq!(
        said,
        "midge: the server takes messages of up to 1000 bytes, headers included; this body has 1001\n"
    );
    let said = server.midge(&["pub", "a"]).run_with(&big).failed(1);
    assert_eq!(said, "midge: the server takes messages of up to 1000 bytes; stdin has more\n");
    let said = server.midge(&["pub", "a", "--lines"]).run_with(&big).failed(1);
    assert_eq!(said, "midge: the server takes messages of up to 1000 bytes; a line has more\n");
    server.midge(&["pub", "a", "--lines"]).run_with(&[&big[..1000], b"\r\n"].concat()).ok();
}

#[test]
fn a_refused_login_says_so() {
    let server = Server::with_config(USERS);
    let wrong = ["pub", "ok.x", "1", "--user", "all", "--password", "wrong"];
    for args in [&["pub", "ok.x", "1"][..], &wrong] {
        let said = server.midge(args).run().failed(1);
        assert!(said.contains("refused the login: authorization violation"), "{said}");
        assert!(!said.contains("wrong"), "{said}");
    }
}

#[test]
fn users_log_in_by_flag_variable_url_and_context() {
    let server = Server::with_config(USERS);
    server.midge(&["pub", "a", "1", "--user", "all", "--password", "p@ss"]).run().ok();
    server.midge(&["pub", "a", "1"]).env("NATS_USER", "all").env("NATS_PASSWORD", "p@ss").run().ok();
    let url = format!("nats://all:p%40ss@127.0.0.1:{}", server.port);
    Midge::new(&["pub", "a", "1", "-s", &url]).run().ok();

    let context =
        format!(r#"{{"description": "", "url": "{}", "user": "all", "password": "p@ss"}}"#, server.url());
    let file = TempFile::new("nats/context/edge.json", &context);
    let with_context =
        |args: &[&str]| Midge::new(args).env("XDG_CONFIG_HOME", file.root().to_str().unwrap()).run();
    with_context(&["pub", "a", "1", "--context", "edge"]).ok();
    assert!(with_context(&["pub", "a", "1", "--context", "other"]).failed(78).contains("other.json"));
    with_context(&["pub", "a", "1", "--context", "../context/edge"]).failed(2);
}

#[test]
fn a_token_is_a_user_without_a_password() {
    let server = Server::with_config("authorization { token: tok }");
    server.midge(&["rtt", "--token", "tok"]).run().ok();
    server.midge(&["rtt", "--user", "tok"]).run().ok();
    server.midge(&["rtt"]).run().failed(1);
}

#[test]
fn an_nkey_file_logs_in() {
    let pair = nkeys::KeyPair::new_user();
    let seed = TempFile::new("user.nk", &format!("# a comment\n{}\n", pair.seed().unwrap()));
    let config = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", pair.public_key());
    // midged refuses a configuration with nkeys, so this is between the tool and nats-server.
    let Some(server) = Server::reference_with_config(&config) else { return };
    server.midge(&["rtt", "--nkey", seed.path()]).run().ok();
    server.midge(&["rtt"]).run().failed(1);
    let empty = TempFile::new("empty.nk", "");
    assert!(server.midge(&["rtt", "--nkey", empty.path()]).run().failed(78).contains("no user seed"));
}

#[test]
fn missing_permissions_are_told() {
    let server = Server::with_config(USERS);
    let login = ["--user", "some", "--password", "some"];
    let cases = [
        (&["pub", "no.x", "1"][..], "Publish to \"no.x\""),
        (&["pub", "no.x", "1", "--count", "100000"], "Publish to \"no.x\""),
        (&["sub", "no.x"], "Subscription to \"no.x\""),
        (&["request", "no.x", "1"], "Publish to \"no.x\""),
        (&["reply", "no.x", "1"], "Subscription to \"no.x\""),
    ];
    for (args, text) in cases {
        let said = server.midge(&[args, &login].concat()).run().failed(1);
        assert!(said.starts_with("midge: the server says: Permissions Violation for "), "{args:?}: {said}");
        assert!(said.contains(text), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    }
}

/// A sensor's account that may do nothing but publish has no inbox; that is no reason to doubt its messages.
#[test]
fn a_user_without_an_inbox_can_publish_and_hear() {
    let server = Server::with_config(USERS);
    let login = ["--user", "mute", "--password", "mute"];
    let sub = server.midge(&[&["sub", "ok.x", "--count", "1"], &login[..]].concat()).start_listening();
    server.midge(&[&["pub", "ok.x", "1"], &login[..]].concat()).run().ok();
    sub.end().ok();
    server.midge(&[&["rtt"], &login[..]].concat()).run().ok();
    server.midge(&[&["pub", "no.x", "1"], &login[..]].concat()).run().failed(1);
}

#[test]
fn a_subscriber_outlives_its_server_and_a_publisher_does_not() {
    let server = Server::start();
    let sub = server.midge(&["sub", "a"]).start_listening();
    let mut publisher = server.midge(&["pub", "a", "--lines"]).start_with_stdin();
    publisher.write("up\n");
    sub.stdout.wait_for("up");
    let responder = server.midge(&["reply", "r", "pong"]).start_listening();
    let url = server.url();
    let server = server.restart(|| {
        let lost = format!("midge: lost the connection to {url}, trying again\n");
        assert_eq!(sub.stderr.next(), lost);
        assert_eq!(responder.stderr.next(), lost);
    });
    for running in [&sub, &responder] {
        assert_eq!(running.stderr.next(), format!("midge: connected to {url} again\n"));
    }
    // Subscriptions follow the notice on their connection; nothing tells when the server has them.
    let _stream = server.midge(&["pub", "a", "back", "--count", "2000", "--sleep", "10ms"]).start();
    sub.stdout.wait_for("back");
    let answered = || server.midge(&["request", "r", "", "--raw"]).run().stdout == "pong\n";
    assert!((0..500).any(|_| answered()));
    let said = publisher.end();
    assert_eq!(said.failed(69), format!("midge: lost the connection to {url}\n"));
}

#[test]
fn a_server_that_is_silent_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", silent.local_addr().unwrap());
    let said = Midge::new(&["rtt", "-s", &url, "--timeout", "100ms"]).run().failed(69);
    assert_eq!(said, format!("midge: cannot connect to {url}: no answer in time\n"));
}

#[test]
fn files_for_tls_are_named_when_they_are_missing() {
    let said = Midge::new(&["rtt", "--tlsca", "missing.pem"]).run().failed(78);
    assert_eq!(said, "midge: cannot read missing.pem: No such file or directory (os error 2)\n");
}
