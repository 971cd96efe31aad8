//! What a server tells of users who came by tokens, beside the reference.

use async_nats::{Client, ConnectOptions, Subscriber};
use futures_util::StreamExt as _;
use midge_jwt::{
    Account, Body, Claims, Grant, KeyPair, Kind, Limits, Operator, Scope, SigningKeys, Template, Token, User,
};
use midge_tests::daemon::{Daemon, PATIENCE};
use midge_tests::foreign::round_trip;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{creds, key, now, programs};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is another each time, or on another server.
const PASSING: [&str; 25] = [
    "cid",
    "host",
    "id",
    "idle",
    "in_bytes",
    "in_msgs",
    "ip",
    "lang",
    "last_activity",
    "now",
    "out_bytes",
    "out_msgs",
    "pending_bytes",
    "port",
    "received",
    "rtt",
    "sent",
    "server",
    "server_id",
    "start",
    "stop",
    "sublist_stats",
    "timestamp",
    "update_time",
    "uptime",
];

fn without_what_passes(value: &mut Value) {
    match value {
        Value::Object(members) => {
            PASSING.iter().for_each(|name| drop(members.remove(*name)));
            // Whole seconds of an hour, some of which have passed.
            if let Some(left) = members.get_mut("expires") {
                let seconds = left.as_u64().expect("a number") / 1_000_000_000;
                assert!((3_000..3_600).contains(&seconds), "{seconds}");
                *left = json!("an hour");
            }
            members.values_mut().for_each(without_what_passes);
        }
        Value::Array(items) => {
            items.iter_mut().for_each(without_what_passes);
            // Imports and keys come in the order of a Go map.
            items.sort_by_key(Value::to_string);
        }
        _ => {}
    }
}

fn read(payload: &[u8]) -> Result<Value, Failure> {
    let mut value = serde_json::from_slice(payload)?;
    without_what_passes(&mut value);
    Ok(value)
}

async fn ask(client: &Client, subject: String, body: &str) -> Result<Value, Failure> {
    read(&timeout(PATIENCE, client.request(subject, body.to_owned().into())).await??.payload)
}

async fn event(events: &mut Subscriber) -> Result<Value, Failure> {
    read(&timeout(PATIENCE, events.next()).await?.ok_or("no event")?.payload)
}

fn token<B: Body>(about: &KeyPair, name: &str, exp: i64, body: B, issuer: &KeyPair) -> String {
    let claims = Claims { name: name.into(), exp, ..Claims::about(about.public()) };
    Token { claims, body }.encode(issuer, now() - 10)
}

async fn enter(daemon: &Daemon, name: &str, token: &str, user: &KeyPair) -> Result<Client, Failure> {
    let options = ConnectOptions::with_credentials(&creds(token, user))?;
    Ok(options.name(name).connect(format!("nats://{}", daemon.address())).await?)
}

async fn play(
    daemon: &Daemon,
    root: &str,
    house: &KeyPair,
    users: &[(&str, String)],
) -> Result<Vec<Value>, Failure> {
    let user = key(Kind::User, 7);
    let system = enter(daemon, "root", root, &user).await?;
    let house = house.public().to_string();
    let mut came = system.subscribe(format!("$SYS.ACCOUNT.{house}.CONNECT")).await?;
    let mut went = system.subscribe(format!("$SYS.ACCOUNT.{house}.DISCONNECT")).await?;
    round_trip(&system).await?;
    let mut saw = Vec::new();
    let mut clients = Vec::new();
    for (name, token) in users {
        let client = enter(daemon, name, token, &user).await?;
        saw.push(event(&mut came).await?);
        saw.push(ask(&client, "$SYS.REQ.USER.INFO".into(), "").await?);
        clients.push(client);
    }
    let account = json!({ "auth": true, "acc": house }).to_string();
    saw.push(ask(&system, "$SYS.REQ.SERVER.PING.CONNZ".into(), &account).await?);
    saw.push(ask(&system, format!("$SYS.REQ.ACCOUNT.{house}.INFO"), "").await?);
    let stat = json!({ "accounts": [house] }).to_string();
    saw.push(ask(&system, "$SYS.REQ.ACCOUNT.PING.STATZ".into(), &stat).await?);
    for client in clients {
        client.drain().await?;
        saw.push(event(&mut went).await?);
    }
    Ok(saw)
}

#[test]
fn users_and_accounts_have_the_names_that_tokens_give_them() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (operator, system, house) = (key(Kind::Operator, 1), key(Kind::Account, 2), key(Kind::Account, 3));
    let (signer, sensors, user) = (key(Kind::Account, 4), key(Kind::Account, 5), key(Kind::User, 7));
    let unlimited = || User { grant: Grant::unlimited(), ..User::default() };
    let of_house = |body: User| User { issuer_account: house.public().to_string(), ..body };
    let scope = Scope {
        kind: "user_scope".into(),
        key: sensors.public().to_string(),
        role: "sensor".into(),
        template: Template(Grant { subs: 5, ..Grant::unlimited() }),
        ..Scope::default()
    };
    let keys = [(signer.public().to_string(), None), (sensors.public().to_string(), Some(Box::new(scope)))];
    let limits = Limits::unlimited();
    let body = Account {
        limits: limits.clone(),
        signing_keys: SigningKeys(keys.into()),
        revocations: [(key(Kind::User, 8).public().to_string(), 5)].into(),
        tags: vec!["site:attic".into()],
        ..Account::default()
    };
    let house_token = token(&house, "house", 0, body, &operator);
    let system_token = token(&system, "SYS", 0, Account { limits, ..Account::default() }, &operator);
    let body = Operator { system_account: system.public().to_string(), ..Operator::default() };
    let acme = token(&operator, "acme", 0, body, &operator);
    let config = format!(
        "operator: {acme}\nresolver: MEMORY\nresolver_preload: {{ {}: {house_token}, {}: {system_token} }}",
        house.public(),
        system.public()
    );
    let bearer = User { grant: Grant { bearer_token: true, ..Grant::unlimited() }, ..User::default() };
    let tagged = User { tags: vec!["room:a".into(), "b".into()], ..unlimited() };
    let users = [
        ("of the account", token(&user, "al", now() + 3600, tagged, &house)),
        ("without a name", token(&user, "", 0, unlimited(), &house)),
        ("of a signing key", token(&user, "bob", 0, of_house(unlimited()), &signer)),
        ("of a role", token(&user, "cid", 0, of_house(User::default()), &sensors)),
        ("of a bearer", token(&user, "dot", 0, bearer, &house)),
    ];
    let root = token(&user, "root", 0, unlimited(), &system);
    let mut seen = Vec::new();
    for (name, program) in programs() {
        let daemon = Daemon::start(program, Some(&config), &[]).unwrap_or_else(|why| panic!("{why}"));
        let play = async { timeout(3 * PATIENCE, play(&daemon, &root, &house, &users)).await };
        let saw = runtime.block_on(play).expect("in time");
        seen.push((name, saw.unwrap_or_else(|why| panic!("{name}: {why}\n{}", daemon.stderr().text()))));
    }
    let ours = seen.remove(0).1;
    assert_eq!(ours[0]["client"]["tags"], json!(["b", "room:a"]));
    assert_eq!(ours[1]["data"]["user_name"], "al");
    for (name, saw) in &mut seen {
        // Whoever has a bearer's token can come in with it: midge shows it to nobody, not to those who hear events either.
        let events = saw.iter_mut().filter(|it| it["client"]["name"] == "of a bearer");
        events.for_each(|event| drop(event["client"].as_object_mut().map(|client| client.remove("jwt"))));
        for (ours, theirs) in ours.iter().zip(&*saw) {
            assert_eq!(format!("{ours:#}"), format!("{theirs:#}"), "{name}");
        }
    }
}
