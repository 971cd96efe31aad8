//! Clients of other people with credentials files and seeds that are made here: each is let in, or kept out, by midge as
//! by nats-server.

use std::path::{Path, PathBuf};
use std::process::Command;

use async_nats::ConnectOptions;
use futures_util::StreamExt as _;
use midge_jwt::{
    Account, Claims, Grant, KeyPair, Kind, Limits, Operator, Permission, Permissions, Scope, Template, Token,
    User,
};
use midge_tests::daemon::{Daemon, PATIENCE};
use midge_tests::process::Process;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{creds, key, now, programs};

/// A way of coming in, `creds=PATH` or `nkey=PATH`, and whether it leads in.
type Way = (&'static str, String, bool);

/// A server's configuration, and ways to come in.
struct House {
    config: String,
    ways: Vec<Way>,
    _files: TempDir,
}

/// Who comes with the token of a user whom an account vouches for.
fn with_tokens() -> House {
    let files = TempDir::new().expect("a directory");
    let (operator, account, signing, stranger) =
        (key(Kind::Operator, 1), key(Kind::Account, 2), key(Kind::Account, 3), key(Kind::Account, 4));
    let (alice, eve) = (key(Kind::User, 5), key(Kind::User, 6));
    let now = now();

    let acme = Token { claims: Claims::about(operator.public()), body: Operator::default() };
    let mut house = Account { limits: Limits::unlimited(), ..Account::default() };
    house.revocations.insert(eve.public().to_string(), now - 100);
    let echo = || vec!["echo".to_owned(), "{{name()}}.>".to_owned()];
    let allow = |allow| Permission { allow, deny: Vec::new() };
    let permissions = Permissions { publish: allow(echo()), subscribe: allow(echo()), resp: None };
    let template = Template(Grant { permissions, ..Grant::unlimited() });
    let scope =
        Scope { kind: "user_scope".into(), key: signing.public().to_string(), template, ..Scope::default() };
    house.signing_keys.0.insert(scope.key.clone(), Some(Box::new(scope)));
    let house = Token { claims: Claims::about(account.public()), body: house };

    let user = |who: &KeyPair, change: &dyn Fn(&mut Token<User>)| {
        let grant = Grant::unlimited();
        let mut token =
            Token { claims: Claims::about(who.public()), body: User { grant, ..User::default() } };
        change(&mut token);
        token
    };
    let plain = |who: &KeyPair| user(who, &|_| {});
    let scoped = user(&alice, &|it| {
        it.claims.name = "alice".into();
        it.body = User { issuer_account: account.public().to_string(), ..User::default() };
    });
    let src = |net: &str| user(&alice, &|it| it.body.grant.src.0 = vec![net.to_owned()]);
    let files_of = [
        ("plain", creds(&plain(&alice).encode(&account, now), &alice), true),
        ("scoped", creds(&scoped.encode(&signing, now), &alice), true),
        (
            "for an hour",
            creds(&user(&alice, &|it| it.claims.exp = now + 3600).encode(&account, now), &alice),
            true,
        ),
        (
            "expired",
            creds(&user(&alice, &|it| it.claims.exp = now - 60).encode(&account, now), &alice),
            false,
        ),
        (
            "not yet",
            creds(&user(&alice, &|it| it.claims.nbf = now + 3600).encode(&account, now), &alice),
            false,
        ),
        ("wrong account", creds(&plain(&alice).encode(&stranger, now), &alice), false),
        ("another's seed", creds(&plain(&alice).encode(&account, now), &eve), false),
        ("revoked", creds(&plain(&eve).encode(&account, now - 200), &eve), false),
        ("issued anew", creds(&plain(&eve).encode(&account, now), &eve), true),
        ("from here", creds(&src("127.0.0.0/8").encode(&account, now), &alice), true),
        ("from elsewhere", creds(&src("192.0.2.0/24").encode(&account, now), &alice), false),
        (
            "bearer",
            creds(&user(&alice, &|it| it.body.grant.bearer_token = true).encode(&account, now), &alice),
            true,
        ),
        (
            "not over TCP",
            creds(
                &user(&alice, &|it| it.body.grant.allowed_connection_types = vec!["MQTT".into()])
                    .encode(&account, now),
                &alice,
            ),
            false,
        ),
    ];
    let ways = files_of.into_iter().enumerate().map(|(n, (name, text, leads_in))| {
        let path = files.path().join(format!("{n}.creds"));
        std::fs::write(&path, text).expect("a write");
        (name, format!("creds={}", path.display()), leads_in)
    });
    House {
        ways: ways.collect(),
        config: format!(
            "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}\n",
            acme.encode(&operator, now),
            account.public(),
            house.encode(&operator, now)
        ),
        _files: files,
    }
}

/// Who is known by a key.
fn with_keys() -> House {
    let files = TempDir::new().expect("a directory");
    let (alice, eve) = (key(Kind::User, 5), key(Kind::User, 6));
    let ways = [("known", &alice, true), ("unknown", &eve, false)].map(|(name, user, leads_in)| {
        let path = files.path().join(format!("{name}.nk"));
        std::fs::write(&path, user.seed()).expect("a write");
        (name, format!("nkey={}", path.display()), leads_in)
    });
    House {
        ways: ways.into(),
        config: format!("accounts {{ A {{ users: [ {{ nkey: {} }} ] }} }}", alice.public()),
        _files: files,
    }
}

/// Lets a client try each way on both servers. It says `in` or `out` of each.
fn hold_to(meet: impl Fn(&str, &[Way]) -> (Vec<String>, String)) {
    for house in [with_tokens(), with_keys()] {
        for (server, program) in programs() {
            let daemon =
                Daemon::start(program, Some(&house.config), &[]).unwrap_or_else(|why| panic!("{why}"));
            let (met, said) = meet(&format!("nats://{}", daemon.address()), &house.ways);
            let wanted = |(name, _, leads_in): &Way| (*name, if *leads_in { "in" } else { "out" }.to_owned());
            let met: Vec<_> = house.ways.iter().map(|(name, ..)| *name).zip(met).collect();
            let wanted: Vec<_> = house.ways.iter().map(wanted).collect();
            assert_eq!(met, wanted, "on {server}\n{said}\n{}", daemon.stderr().text());
        }
    }
}

fn program(command: &mut Command, url: &str, ways: &[Way]) -> (Vec<String>, String) {
    let command = command.arg(url).args(ways.iter().map(|(_, way, _)| way));
    let ended = Process::start(command).and_then(Process::end).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    (ended.stdout.lines().map(str::to_owned).collect(), ended.stderr)
}

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn async_nats_for_rust() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    hold_to(|url, ways| {
        let meet = async |way: &str| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            let options = match way.split_once('=') {
                Some(("creds", path)) => ConnectOptions::with_credentials_file(path).await?,
                Some((_, path)) => ConnectOptions::with_nkey(std::fs::read_to_string(path)?),
                None => return Err("no way".into()),
            };
            let client = options.connect(url).await?;
            let mut echo = client.subscribe("echo").await?;
            client.publish("echo", "hello".into()).await?;
            timeout(PATIENCE, echo.next()).await?.ok_or("the subscription has ended")?;
            Ok(())
        };
        let (mut met, mut said) = (Vec::new(), String::new());
        for (name, way, _) in ways {
            match runtime.block_on(meet(way)) {
                Ok(()) => met.push("in".to_owned()),
                Err(why) => {
                    met.push("out".to_owned());
                    said += &format!("{name}: {why}\n");
                }
            }
        }
        (met, said)
    });
}

#[test]
fn nats_py() {
    let python = at(".venv/bin/python");
    assert!(at(".venv/lib").exists(), "nats-py is not here: run tests/setup");
    hold_to(|url, ways| program(Command::new(&python).arg(at("clients/identity.py")), url, ways));
}

#[test]
fn nats_js_on_node() {
    assert!(
        at("node_modules/@nats-io/transport-node").exists(),
        "Node's client is not here: run tests/setup"
    );
    hold_to(|url, ways| program(Command::new("node").arg(at("clients/identity.mjs")), url, ways));
}
