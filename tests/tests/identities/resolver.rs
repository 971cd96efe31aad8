//! Accounts that are kept in a directory, and that change while the server runs.

use async_nats::{Client, ConnectOptions, Event};
use midge_jwt::{Account, Claims, Deletion, Grant, KeyPair, Kind, Limits, Operator, Token, User};
use midge_tests::daemon::{Daemon, PATIENCE};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::{creds, key, now, programs};

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Keys {
    operator: KeyPair,
    system: KeyPair,
    house: KeyPair,
    root: KeyPair,
    alice: KeyPair,
}

impl Keys {
    fn new() -> Self {
        Self {
            operator: key(Kind::Operator, 1),
            system: key(Kind::Account, 2),
            house: key(Kind::Account, 3),
            root: key(Kind::User, 4),
            alice: key(Kind::User, 5),
        }
    }

    fn account(&self, account: &KeyPair, change: impl FnOnce(&mut Account)) -> Token<Account> {
        let mut body = Account { limits: Limits::unlimited(), ..Account::default() };
        change(&mut body);
        Token { claims: Claims::about(account.public()), body }
    }

    fn config(&self, dir: &TempDir, more: &str) -> String {
        let system_account = self.system.public().to_string();
        let body = Operator { system_account, ..Operator::default() };
        let operator = Token { claims: Claims::about(self.operator.public()), body };
        let (operator, dir) = (operator.encode(&self.operator, now()), dir.path().display());
        format!("operator: {operator}\nresolver {{ type: full, dir: '{dir}', allow_delete: true }}\n{more}")
    }
}

async fn enter(
    daemon: &Daemon,
    account: &KeyPair,
    user: &KeyPair,
    events: mpsc::Sender<String>,
) -> Result<Client, async_nats::ConnectError> {
    let body = User { grant: Grant::unlimited(), ..User::default() };
    let token = Token { claims: Claims::about(user.public()), body }.encode(account, now() - 10);
    let options = ConnectOptions::with_credentials(&creds(&token, user)).expect("credentials");
    let options = options.event_callback(move |event: Event| {
        let _ = events.try_send(event.to_string());
        async {}
    });
    options.max_reconnects(1).connect(format!("nats://{}", daemon.address())).await
}

/// What the answer says besides who gave it.
async fn ask(client: &Client, subject: &str, payload: String) -> Result<Value, Failure> {
    let answer = timeout(PATIENCE, client.request(subject.to_owned(), payload.into())).await??;
    let mut answer: Value = serde_json::from_slice(&answer.payload)?;
    let server = answer.as_object_mut().and_then(|answer| answer.remove("server"));
    assert!(server.is_some_and(|server| server["id"].as_str().is_some_and(|id| id.starts_with('N'))));
    Ok(answer)
}

async fn events_until(events: &mut mpsc::Receiver<String>, wanted: &str) -> Result<(), Failure> {
    loop {
        let event = timeout(PATIENCE, events.recv()).await?.ok_or_else(|| format!("no event {wanted:?}"))?;
        if event.to_lowercase().contains(wanted) {
            return Ok(());
        }
    }
}

async fn play(daemon: &mut Daemon, keys: &Keys, dir: &TempDir) -> Result<Vec<Value>, Failure> {
    let mut saw = Vec::new();
    let quiet = || mpsc::channel(64).0;
    let house = keys.house.public().to_string();
    let file = dir.path().join(format!("{house}.jwt"));
    // The system account isn't there yet, but its own key lets somebody in who puts accounts there.
    let root = enter(daemon, &keys.system, &keys.root, quiet()).await?;
    saw.push(json!(enter(daemon, &keys.house, &keys.alice, quiet()).await.is_ok()));
    let system = keys.account(&keys.system, |_| {}).encode(&keys.operator, now());
    saw.push(ask(&root, "$SYS.REQ.CLAIMS.UPDATE", system).await?);
    let plain = keys.account(&keys.house, |_| {}).encode(&keys.operator, now());
    saw.push(ask(&root, &format!("$SYS.REQ.ACCOUNT.{house}.CLAIMS.UPDATE"), plain.clone()).await?);
    let looked_up =
        timeout(PATIENCE, root.request(format!("$SYS.REQ.ACCOUNT.{house}.CLAIMS.LOOKUP"), "".into()))
            .await??;
    saw.push(json!([looked_up.payload == plain, std::fs::read_to_string(&file)? == plain]));
    saw.push(ask(&root, "$SYS.REQ.CLAIMS.UPDATE", "nonsense".into()).await?["error"]["code"].take());
    let other = format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.UPDATE", keys.system.public());
    saw.push(ask(&root, &other, plain.clone()).await?);
    let mut list = ask(&root, "$SYS.REQ.CLAIMS.LIST", String::new()).await?["data"].take();
    if let Some(list) = list.as_array_mut() {
        list.sort_by_key(Value::to_string);
    }
    saw.push(list);

    // New claims count at once, for those who are in.
    let (sender, mut events) = mpsc::channel(64);
    let alice = enter(daemon, &keys.house, &keys.alice, sender).await?;
    saw.push(json!(alice.request("nobody", "".into()).await.is_err()));
    let revoking = keys.account(&keys.house, |body| {
        body.revocations.insert(keys.alice.public().to_string(), now());
    });
    let revoking = revoking.encode(&keys.operator, now() + 1);
    saw.push(ask(&root, "$SYS.REQ.CLAIMS.UPDATE", revoking).await?);
    events_until(&mut events, "user authentication revoked").await?;
    saw.push(json!(enter(daemon, &keys.house, &keys.alice, quiet()).await.is_ok()));
    let again = keys.account(&keys.house, |_| {}).encode(&keys.operator, now() + 2);
    saw.push(ask(&root, "$SYS.REQ.CLAIMS.UPDATE", again).await?);
    saw.push(json!(enter(daemon, &keys.house, &keys.alice, quiet()).await.is_ok()));

    // What was saved is there after the power has failed.
    daemon.restart()?;
    let root = enter(daemon, &keys.system, &keys.root, quiet()).await?;
    let (sender, mut events) = mpsc::channel(64);
    let alice = enter(daemon, &keys.house, &keys.alice, sender).await?;

    // An account that is deleted takes its connections along. Only the operator deletes.
    let delete = |signer: &KeyPair| {
        let order = Token {
            claims: Claims::about(signer.public()),
            body: Deletion { accounts: vec![house.clone()] },
        };
        order.encode(signer, now())
    };
    saw.push(ask(&root, "$SYS.REQ.CLAIMS.DELETE", delete(&keys.operator)).await?);
    events_until(&mut events, "account authentication expired").await?;
    saw.push(json!([file.exists(), enter(daemon, &keys.house, &keys.alice, quiet()).await.is_ok()]));
    saw.push(
        ask(&root, "$SYS.REQ.CLAIMS.DELETE", delete(&key(Kind::Operator, 9))).await?["error"]["code"].take(),
    );
    drop((alice, root));
    Ok(saw)
}

#[test]
fn accounts_come_change_and_go() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut all = Vec::new();
    for (name, program) in programs() {
        let (keys, dir) = (Keys::new(), TempDir::new().expect("a directory"));
        let config = keys.config(&dir, "");
        let mut daemon = Daemon::start(program, Some(&config), &[]).unwrap_or_else(|why| panic!("{why}"));
        let played = runtime.block_on(async {
            timeout(3 * PATIENCE, play(&mut daemon, &keys, &dir)).await.map_err(Failure::from)?
        });
        let saw = played.unwrap_or_else(|why| panic!("{name}: {why}\n{}", daemon.stderr().text()));
        all.push((name, saw));
    }
    let (_, ours) = &all[0];
    for (name, saw) in &all {
        assert_eq!(saw, ours, "{name}");
    }
    assert_eq!(ours[0], json!(false), "an account that nobody knows");
    let account = Keys::new().house.public().to_string();
    assert_eq!(ours[2], json!({ "data": { "account": account, "code": 200, "message": "jwt updated" } }));
}
