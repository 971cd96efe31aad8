//! The same configuration files for us and for a real nats-server: who accepts them, and with which digest?
//!
//! Runs when `MIDGE_REFERENCE` names a nats-server binary. `MIDGE_REFERENCE_CORPUS` may name a directory whose
//! `.conf` files are compared too.

use std::path::{Path, PathBuf};
use std::process::Command;

use midge_config::{OsFiles, World, load_file};

/// What we expect of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Both accept, with the same digest, or both refuse.
    Same,
    /// We refuse, with this in the message, what nats-server's `-t` accepts.
    Stricter(&'static str),
    /// We accept what nats-server refuses.
    Kinder,
}

use Expect::*;

const CORPUS: &[(Expect, &str)] = &[
    // The language.
    (Same, "port: 4222"),
    (Same, "port = 4222; host = h, debug true\nserver_name \"n\""),
    (Same, "{\n \"port\": 4222,\n \"server_tags\": [\"a\",\n\"b\"]\n}"),
    (Same, "port: 4222\n}"),
    (Same, "port: 4222 }"),
    (Same, "server_metadata { a: \"<\u{e9} \\x07\u{7f}\\x08\\x0c\u{2028} &>\", b: 'x\\y' }"),
    (Same, "server_metadata { a: (\n x\n (y)\n)\n }\n"),
    (
        Same,
        "F: 1.50\nG: 0.0000001\nH: 1000000000000000000000.25\nL: [$F, $G, $H]\nM: $L\nserver_name: x\nserver_tags: [a]\nP: $M\nQ: $P\nR: $Q\nQ2: $R\nport: 1",
    ),
    (Same, "MAX: 7\nmax_connections: $MAX"),
    (Same, "D: 2016-05-04T18:53:41Z\nport: 1"),
    (Same, "include included.conf\nmax_pending: 4mb\nmax_connections: $SHARED"),
    (Same, "authorization { include 'missing.conf' }"),
    (Same, "max_payload: 2kb\nmax_pending: 3MiB\nmax_control_line: 1k"),
    (Same, "authorization { user: a, password: $2a$11$abcdefgh }"),
    (Same, "resolver: URL(http://h:9090/jwt/v1/accounts/)"),
    (Same, "resolver: 'URL(\"http://h/\")'"),
    (Same, "resolver: URL( \"http://h/\" )"),
    (Stricter("URL(\"url\")"), "resolver: URL"),
    (Same, "server_name ="),
    (Same, "server_name:\nx"),
    (Same, "port: 1 # x\n// y\nhost: a#b"),
    (Same, "port"),
    (Same, "port: $UNDEFINED_VARIABLE_OF_THIS_TEST"),
    (Same, "server_name: 2024-x"),
    (Same, "server_name: 10m!"),
    (Same, "server_tags: [a,,b]"),
    (Same, "server_tags: [a; b]"),
    (Same, "server_name: 'a"),
    (Same, "server_name: \\q"),
    (Same, "port: 1 host: a"),
    (Same, ""),
    (Same, "# nothing"),
    // Keys and their values.
    (Same, "nonsense: 1"),
    (Same, "authorization { nonsense: 1 }"),
    (Same, "port: x"),
    (Same, "write_deadline: 2"),
    (
        Same,
        "write_deadline: '2s'\nping_interval: '1m30s'\nlame_duck_duration: '45s'\nlame_duck_grace_period: '5s'",
    ),
    (Same, "lame_duck_duration: '20s'"),
    (Same, "max_sub_tokens: 0"),
    (Same, "listen: 'localhost'"),
    (Same, "http: 8222\nhttp_base_path: /a"),
    (Same, "jetstream { max_mem: '1G', max_file: 2T, store_dir: x, domain: d, sync: always, strict: false }"),
    (Same, "jetstream { max_mem: '1' }"),
    (Same, "jetstream: maybe"),
    (Same, "store_dir: a\njetstream { store_dir: b }"),
    (Same, "authorization { timeout: 1m }"),
    (Same, "authorization { users: [{user: a, password: b, permissions { publish: a, subscribe: 'b q' }}] }"),
    (Same, "authorization { users: [{user: a, permissions { publish: 'b q' }}] }"),
    (Same, "authorization { users: [{user: a}, {user: a}] }"),
    (Same, "authorization { users: [{user: a}], token: c }"),
    (Same, "authorization { user: a, password: b, token: c }"),
    (Same, "authorization { users: [{password: b}] }"),
    (Same, "authorization { users: [{user: b, allowed_connection_types: [standard, x]}] }"),
    (
        Same,
        "accounts { A { users: [{user: a}], limits { max_conn: 5 } }, B: { jetstream: enabled } }\nsystem_account: A",
    ),
    (Same, "accounts { A { nkey: x } }"),
    (Same, "accounts { $G {} }"),
    (
        Same,
        "accounts { A { exports: [{stream: 'a.>'}] }, B { imports: [{stream: {account: A, subject: a.b}, to: c.d}] } }",
    ),
    (
        Same,
        "accounts { A { exports: [{stream: 'a.>', accounts: [C]}] }, C {}, B { imports: [{stream: {account: A, subject: a.b}}] } }",
    ),
    (Same, "accounts { B { imports: [{service: {account: A, subject: a.b}}] } }"),
    (Same, "mappings { a: b, 'c.*': [{dest: 'd.$1', weight: 50%}, {dest: e, weight: 50}] }"),
    (Same, "mappings { a: [{dest: b, weight: 60}, {dest: c, weight: 50}] }"),
    (Same, "mappings { a: [{dest: b, weight: 60, cluster: x}, {dest: c, weight: 50}] }"),
    (Same, "mappings { 'a.*': 'b.{{wildcard(2)}}' }"),
    (Same, "mappings { 'a.*': 'b.{{ Left ( 1 , 2 ) }}' }"),
    (Same, "mappings { 'a.>': b }"),
    (Same, "leafnodes { port: 7422, remotes: [{url: 'nats://h:7422'}, {url: 'nats://i'}] }"),
    (Same, "leafnodes { remotes: [{url: 'nats://h'}, {url: 'nats://h'}] }"),
    (Same, "leafnodes { min_version: 2.7.0 }"),
    (Same, "websocket { port: 8080, no_tls: true, allowed_origins: ['http://x'], handshake_timeout: '2s' }"),
    (Same, "mqtt { port: 1883, ack_wait: '10s', max_ack_pending: 70000 }"),
    (Same, "mqtt { port: 1883, ack_wait: '10s', max_ack_pending: 7 }\njetstream: true"),
    (Same, "cluster { name: c, listen: 'h:1', routes: ['nats://a', 'nats://b'], pool_size: 3 }"),
    (Same, "cluster { nonsense: 1 }"),
    (Same, "tls { nonsense: 1 }"),
    (Same, "server_name: 'a b'"),
    (Same, "feature_flags { a: true }\nocsp: false\nprof_port: 1"),
    // Broken text that nats-server reads over.
    (Stricter("expected '}', but the text ends"), "{ port: 1\n"),
    (Stricter("but got '/'"), "port: 1 / \n"),
    (Stricter("no port 99999"), "listen: 'h:99999'"),
    // What nats-server asks only when it starts.
    (Stricter("cannot be higher than max_pending"), "max_payload: 100mb\nmax_pending: 1mb"),
    (Stricter("generally discouraged"), "max_payload: 9mb"),
    (Stricter("strictly lower"), "lame_duck_duration: '30s'\nlame_duck_grace_period: '40s'"),
    (Stricter("no_auth_user"), "no_auth_user: bob"),
    (Stricter("is not defined"), "system_account: A"),
    (Stricter("requires TLS"), "websocket { port: 8080 }"),
    (Stricter("invalid domain name"), "jetstream { domain: 'a.b' }"),
    (Stricter("cannot find local account"), "leafnodes { remotes: [{url: 'nats://h', account: A}] }"),
    // Nobody could mean anything else.
    (Kinder, "authorization { user: a, password: $2b$11$abcdefgh }"),
];

#[test]
fn accepts_and_digests_as_the_reference_does() {
    let Some(reference) = std::env::var_os("MIDGE_REFERENCE").map(PathBuf::from) else {
        eprintln!("SKIPPED: MIDGE_REFERENCE names no nats-server binary");
        return;
    };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reference");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("included.conf"), "max_payload: 2kb\nSHARED: 7\n").unwrap();
    let mut wrong = Vec::new();
    for (i, (expect, text)) in CORPUS.iter().enumerate() {
        let file = directory.join(format!("{i}.conf"));
        std::fs::write(&file, text).unwrap();
        wrong.extend(compare(&reference, &file, *expect).err());
    }
    if let Some(corpus) = std::env::var_os("MIDGE_REFERENCE_CORPUS").map(PathBuf::from) {
        let mut files: Vec<_> =
            std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "conf")) {
            wrong.extend(compare(&reference, file, Same).err());
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

fn compare(reference: &Path, file: &Path, expect: Expect) -> Result<(), String> {
    let output = Command::new(reference).arg("-t").arg("-c").arg(file).output().expect("the reference runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let theirs = said
        .split_once("(sha256:")
        .map(|(_, tail)| format!("sha256:{}", tail.trim_end().trim_end_matches(')')));
    let environment = |name: &str| std::env::var(name).ok();
    let loaded = load_file(file, World { files: &OsFiles, environment: &environment });
    // With `-t`, nats-server fails on warnings too.
    let ours = match &loaded {
        Ok((options, report)) if report.warnings.is_empty() => options.config_digest.clone(),
        _ => None,
    };
    let findings = match &loaded {
        Ok((_, report)) | Err(report) => report.to_string(),
    };
    let fine = match expect {
        Same => ours == theirs,
        Stricter(why) => ours.is_none() && theirs.is_some() && findings.contains(why),
        Kinder => ours.is_some() && theirs.is_none(),
    };
    if fine {
        return Ok(());
    }
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let text: String = text.chars().take(if text.len() < 400 { 400 } else { 0 }).collect();
    Err(format!(
        "{}: expected {expect:?}\n{text}\n  we: {ours:?}\n{findings}  they: {}",
        file.display(),
        said.trim_end()
    ))
}
