//! Services that are asked about users: what they say counts on midge as on nats-server.

use async_nats::{Client, ConnectOptions, HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use midge_jwt::{
    Account, AuthorizationRequest, AuthorizationResponse, Claims, CurveKey, Grant, KeyPair, Kind, Limits,
    Operator, Permission, Permissions, PublicKey, Token, User,
};
use midge_tests::daemon::{Daemon, PATIENCE};
use midge_tests::foreign::round_trip;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{creds, key, now, programs};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a service knows, and does wrong where a user's name asks for it.
struct Service {
    /// Signs its answers.
    issuer: KeyPair,
    /// Signs users, where that is another account.
    target: Option<KeyPair>,
    /// Seals its answers.
    curve: Option<CurveKey>,
}

impl Service {
    /// The answer to a question; `None`: it says nothing.
    fn answer(&self, message: &Message) -> Option<Vec<u8>> {
        let xkey = message.headers.as_ref().and_then(|headers: &HeaderMap| headers.get("Nats-Server-Xkey"));
        let xkey = xkey.map(|xkey| PublicKey::parse(xkey.as_str()).expect("a key"));
        assert_eq!(xkey.is_some(), self.curve.is_some(), "sealed where that was asked for");
        let text = match (&self.curve, &xkey) {
            (Some(curve), Some(server)) => {
                curve.open(&message.payload, server).expect("sealed for the service")
            }
            _ => message.payload.to_vec(),
        };
        let text = String::from_utf8(text).expect("a token");
        let request = Token::<AuthorizationRequest>::decode(&text).expect("signed by the server");
        assert_eq!(request.claims.aud, "nats-authorization-request");
        assert_eq!(request.claims.iss, request.body.server_id.id);
        assert_eq!(request.body.client_info.kind, "Client");
        let name = request.body.connect_opts.user.as_str();
        if name == "silent" {
            return None;
        }
        if name == "empty" || request.body.connect_opts.pass != "right" {
            return Some(Vec::new());
        }
        let stranger = key(Kind::Account, 99);
        let signer = self.target.as_ref().unwrap_or(&self.issuer);
        let (signer, issuer) = match name {
            "stranger" => (&stranger, &self.issuer),
            _ => (signer, &self.issuer),
        };
        let about =
            if name == "another" { key(Kind::User, 98).public().to_string() } else { request.body.user_nkey };
        let allow = |allow: &str| Permission { allow: vec![allow.to_owned()], deny: Vec::new() };
        let permissions = Permissions { publish: allow("echo"), subscribe: allow("echo"), resp: None };
        let mut user = Token {
            claims: Claims { aud: "APP".into(), name: "Alice".into(), ..Claims::about(&about) },
            body: User { grant: Grant { permissions, ..Grant::unlimited() }, ..User::default() },
        };
        match name {
            "nowhere" => user.claims.aud = "NOWHERE".into(),
            "late" => user.claims.exp = now() - 10,
            "early" => user.claims.nbf = now() + 1000,
            "pigeon" => user.body.grant.allowed_connection_types = vec!["PIGEON".into()],
            "closed" => {
                let time = || "11:00:00".to_owned();
                user.body.grant.times = vec![midge_jwt::TimeRange { start: time(), end: time() }];
            }
            _ => {}
        }
        let server =
            if name == "elsewhere" { key(Kind::Server, 97).public().to_string() } else { request.claims.iss };
        let body = match name {
            "error" => AuthorizationResponse { error: "no".into(), ..AuthorizationResponse::default() },
            _ => {
                AuthorizationResponse { jwt: user.encode(signer, now()), ..AuthorizationResponse::default() }
            }
        };
        let answer =
            Token { claims: Claims { aud: server, ..Claims::about(about) }, body }.encode(issuer, now());
        Some(match (&self.curve, &xkey) {
            (Some(curve), Some(server)) => curve.seal(answer.as_bytes(), server, [7; 24]).expect("a box"),
            _ => answer.into_bytes(),
        })
    }

    /// Answers what it is asked. Whoever comes once this has returned is asked about.
    async fn start(self, client: Client) -> Result<JoinHandle<Result<(), Failure>>, Failure> {
        let questions = client.subscribe("$SYS.REQ.USER.AUTH").await?;
        round_trip(&client).await?;
        Ok(tokio::spawn(self.run(client, questions)))
    }

    async fn run(self, client: Client, mut questions: Subscriber) -> Result<(), Failure> {
        while let Some(question) = questions.next().await {
            let reply = question.reply.clone().ok_or("a question wants an answer")?;
            if let Some(answer) = self.answer(&question) {
                client.publish(reply, answer.into()).await?;
            }
        }
        Ok(())
    }
}

/// Users by name and password, and whether they come in where the configuration, or an account, names the service.
const USERS: [(&str, &str, bool, bool); 14] = [
    ("alice", "right", true, true),
    ("alice", "wrong", false, false),
    ("empty", "right", false, false),
    ("error", "right", false, false),
    ("stranger", "right", false, false),
    ("another", "right", false, false),
    ("elsewhere", "right", false, false),
    // Where accounts sign, they say for themselves who is theirs.
    ("nowhere", "right", false, true),
    ("late", "right", false, false),
    ("early", "right", false, false),
    ("pigeon", "right", false, false),
    ("closed", "right", false, false),
    ("service", "wrong", false, false),
    ("silent", "right", false, false),
];

async fn echo(client: &Client) -> Result<(), Failure> {
    let mut echo = client.subscribe("echo").await?;
    client.publish("echo", "hello".into()).await?;
    timeout(PATIENCE, echo.next()).await?.ok_or("the subscription has ended")?;
    Ok(())
}

/// Tries all users, and says who came in. Their time is up before a server asks whether they are there, after two seconds: async-nats
/// takes that for being let in.
async fn meet(url: &str, login: impl Fn(&str, &str) -> ConnectOptions) -> Vec<bool> {
    let mut met = Vec::new();
    for (name, pass, ..) in USERS {
        let client = login(name, pass).connection_timeout(PATIENCE).connect(url).await;
        met.push(match client {
            Ok(client) => echo(&client).await.is_ok(),
            Err(_) => false,
        });
    }
    // Whoever waits for a service that says nothing holds up nobody.
    let slow = tokio::spawn(login("silent", "right").connect(url.to_owned()));
    met.push(login("alice", "right").connect(url).await.is_ok());
    met.push(slow.await.is_ok_and(|slow| slow.is_ok()));
    met
}

fn wanted(in_account: bool) -> Vec<bool> {
    let come_in =
        |(_, _, configured, account): (&str, &str, bool, bool)| if in_account { account } else { configured };
    USERS.map(come_in).into_iter().chain([true, false]).collect()
}

async fn in_the_configuration(url: &str, curve: Option<CurveKey>) -> Result<Vec<bool>, Failure> {
    let service = ConnectOptions::with_user_and_password("service".into(), "s".into()).connect(url).await?;
    let serving = Service { issuer: key(Kind::Account, 2), target: None, curve };
    let task = serving.start(service.clone()).await?;
    // The service's own account keeps its secrets: nobody asks there in the server's name.
    let mut questions = service.subscribe("$SYS.REQ.USER.AUTH").await?;
    service.publish("$SYS.REQ.USER.AUTH", "forged".into()).await?;
    round_trip(&service).await?;
    let met = meet(url, |name, pass| ConnectOptions::with_user_and_password(name.into(), pass.into())).await;
    let first = timeout(PATIENCE, questions.next()).await?.ok_or("no question")?;
    assert_ne!(first.payload, "forged");
    task.abort();
    Ok(met)
}

#[test]
fn the_configuration_names_a_service() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    for sealed in [false, true] {
        let curve = || sealed.then(|| CurveKey::new([42; 32]));
        let xkey = curve().map(|curve| format!("xkey: {}", curve.public())).unwrap_or_default();
        let issuer = key(Kind::Account, 2).public();
        let config = format!(
            "accounts {{ AUTH {{ users: [ {{ user: service, password: s }} ] }}, APP {{}} }}
             authorization {{ timeout: 1.7, auth_callout {{ issuer: {issuer}, account: AUTH, auth_users: [ service ]\n{xkey} }} }}"
        );
        for (name, program) in programs() {
            let daemon = Daemon::start(program, Some(&config), &[]).unwrap_or_else(|why| panic!("{why}"));
            let url = format!("nats://{}", daemon.address());
            let met =
                runtime.block_on(async { timeout(3 * PATIENCE, in_the_configuration(&url, curve())).await });
            let met = met.expect("in time").unwrap_or_else(|why| panic!("{name}: {why}"));
            let named = |met: Vec<bool>| {
                let names = USERS.iter().map(|user| user.0).chain(["alice meanwhile", "silent meanwhile"]);
                names.zip(met).collect::<Vec<_>>()
            };
            assert_eq!(
                named(met),
                named(wanted(false)),
                "{name}, sealed: {sealed}\n{}",
                daemon.stderr().text()
            );
        }
    }
}

#[test]
fn an_account_names_a_service() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (operator, auth, app) = (key(Kind::Operator, 1), key(Kind::Account, 2), key(Kind::Account, 3));
    let (service, guest) = (key(Kind::User, 4), key(Kind::User, 5));
    let account = |change: &dyn Fn(&mut Account), of: &KeyPair| {
        let mut body = Account { limits: Limits::unlimited(), ..Account::default() };
        change(&mut body);
        Token { claims: Claims::about(of.public()), body }.encode(&operator, now())
    };
    let asks = |body: &mut Account| {
        body.authorization.auth_users = vec![service.public().to_string()];
        body.authorization.allowed_accounts = vec![app.public().to_string()];
    };
    // Without a system account, nats-server has no inbox for answers.
    let system = key(Kind::Account, 6);
    let system_account = system.public().to_string();
    let body = Operator { system_account, ..Operator::default() };
    let acme = Token { claims: Claims::about(operator.public()), body }.encode(&operator, now());
    let accounts = [
        (&auth, account(&asks, &auth)),
        (&app, account(&|_| {}, &app)),
        (&system, account(&|_| {}, &system)),
    ];
    let preload: Vec<_> = accounts.iter().map(|(key, token)| format!("{}: {token}", key.public())).collect();
    let config = format!(
        "operator: {acme}\nresolver: MEMORY\nresolver_preload: {{ {} }}\nauthorization {{ timeout: 1.7 }}",
        preload.join(", ")
    );
    let user = |user: &KeyPair, bearer_token: bool| {
        let grant = Grant { bearer_token, ..Grant::unlimited() };
        let body = User { grant, ..User::default() };
        creds(&Token { claims: Claims::about(user.public()), body }.encode(&auth, now() - 10), user)
    };
    for (name, program) in programs() {
        let daemon = Daemon::start(program, Some(&config), &[]).unwrap_or_else(|why| panic!("{why}"));
        let url = format!("nats://{}", daemon.address());
        let play = async {
            let options = ConnectOptions::with_credentials(&user(&service, false))?;
            let client = options.connect(&url).await?;
            let serving = Service { issuer: auth.clone(), target: Some(app.clone()), curve: None };
            let task = serving.start(client).await?;
            let login = |name: &str, pass: &str| {
                let options = ConnectOptions::with_credentials(&user(&guest, true)).expect("credentials");
                options.user_and_password(name.into(), pass.into())
            };
            let met = meet(&url, login).await;
            task.abort();
            Ok::<_, Failure>(met)
        };
        let met = runtime.block_on(async { timeout(3 * PATIENCE, play).await }).expect("in time");
        let met = met.unwrap_or_else(|why| panic!("{name}: {why}\n{}", daemon.stderr().text()));
        let named = |met: Vec<bool>| {
            let names = USERS.iter().map(|user| user.0).chain(["alice meanwhile", "silent meanwhile"]);
            names.zip(met).collect::<Vec<_>>()
        };
        assert_eq!(named(met), named(wanted(true)), "{name}\n{}", daemon.stderr().text());
    }
}
