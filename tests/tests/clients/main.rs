//! Clients of other people, unmodified: each does on midge what it does on nats-server, and sees the same.
//!
//! A client is a program that goes through the same steps in its own language and writes down what it saw,
//! `{"step": …, "saw": …}` a line. What it should see is kept beside it in `clients/*.jsonl`; nats-server is held to
//! that too. `{"ask": …}` asks for what only we can do: the server's death and restart, or lame duck mode.

mod streams;
mod websocket;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_nats::{ConnectOptions, Event, HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use midge_tests::daemon::{Daemon, PATIENCE, Program};
use midge_tests::foreign::round_trip;
use midge_tests::process::Process;
use midge_tests::script::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

const CONFIG: &str = r#"
    max_payload: 4096
    lame_duck_duration: "30s"
    lame_duck_grace_period: "10s"
    accounts {
        A {
            users: [
                { user: alice, password: a }
                { user: guest, password: g, permissions: { publish: "public.>", subscribe: "public.>" } }
            ]
        }
        # bcrypt of "b", as cheap as it gets.
        B { users: [ { user: bob, password: "$2a$04$BWP63q0eOlwO5lbJkydLWOO/0hWsHO7iFfKlkcUIf23j1RQ0xZMUC" } ] }
    }
"#;

/// Of streams; `STORE` is a directory of the test's.
const STREAMS: &str = "jetstream { store_dir: STORE }";

#[test]
fn async_nats_for_rust() {
    let runtime = runtime();
    hold_to("rust", CONFIG, |daemon| {
        let mut seen = Vec::new();
        ended(runtime.block_on(rust(daemon, &mut seen)), seen)
    });
}

#[test]
fn async_nats_for_rust_with_streams() {
    let runtime = runtime();
    hold_to("streams-rust", STREAMS, |daemon| {
        let mut seen = Vec::new();
        ended(runtime.block_on(streams::play(daemon, &mut seen)), seen)
    });
}

#[test]
fn nats_py() {
    hold_to("python", CONFIG, |daemon| run(&mut python("clients/python.py"), daemon));
}

#[test]
fn nats_py_with_streams() {
    hold_to("streams-python", STREAMS, |daemon| run(&mut python("clients/streams.py"), daemon));
}

#[test]
fn nats_js_on_node() {
    hold_to("node", CONFIG, |daemon| run(&mut node("clients/node.mjs"), daemon));
}

#[test]
fn nats_js_on_node_with_streams() {
    hold_to("streams-node", STREAMS, |daemon| run(&mut node("clients/streams.mjs"), daemon));
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime")
}

fn python(script: &str) -> Command {
    require(&at(".venv/lib"), "nats-py");
    let mut command = Command::new(at(".venv/bin/python"));
    command.arg(at(script));
    command
}

fn node(script: &str) -> Command {
    for package in ["transport-node", "jetstream", "kv", "obj"] {
        require(&at(&format!("node_modules/@nats-io/{package}")), "Node's client");
    }
    let mut command = Command::new("node");
    command.arg(at(script));
    command
}

/// What was seen, or how it ended before it should.
fn ended(result: Result<(), Failure>, seen: Vec<Value>) -> Result<Vec<Value>, String> {
    result.map_err(|err| format!("{err}; so far:\n{}", lines(&seen)))?;
    Ok(seen)
}

/// Lets a client play on our server and on the reference, and compares what it saw with what it should.
fn hold_to(client: &str, config: &str, play: impl Fn(&mut Daemon) -> Result<Vec<Value>, String>) {
    let path = at(&format!("clients/{client}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let wanted: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    for (name, program) in [("ours", Program::ours()), ("reference", Program::reference())] {
        let program = match program {
            Ok(program) => program,
            // Not through `println`, which is shown only for tests that fail.
            Err(why) if name == "reference" => {
                let _ = writeln!(std::io::stderr(), "{client}: reference SKIPPED, {why}");
                continue;
            }
            Err(why) => panic!("{why}"),
        };
        let store = TempDir::new().expect("a directory");
        let config = config.replace("STORE", &format!("{:?}", store.path()));
        let seen = Daemon::start(program, Some(&config), &[]).and_then(|mut daemon| {
            play(&mut daemon).map_err(|err| format!("{err}\nthe server said:\n{}", daemon.stderr().text()))
        });
        let seen = seen.unwrap_or_else(|err| panic!("{client} on {name}: {err}"));
        let first = wanted.iter().zip(&seen).position(|(wanted, seen)| wanted != seen);
        if first.is_some() || wanted.len() != seen.len() {
            let first = first.unwrap_or(wanted.len().min(seen.len()));
            let (wanted, got) = (wanted.get(first), seen.get(first));
            let (wanted, got) = (wanted.unwrap_or(&Value::Null), got.unwrap_or(&Value::Null));
            panic!(
                "{client} on {name} differs from {} in line {}\nwanted {wanted}\ngot    {got}\nAll of it:\n{}",
                path.display(),
                first + 1,
                lines(&seen)
            );
        }
    }
}

fn lines(seen: &[Value]) -> String {
    seen.iter().map(|line| line.to_string() + "\n").collect()
}

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn require(path: &Path, what: &str) {
    assert!(path.exists(), "{what} is not here ({}): run tests/setup", path.display());
}

/// Runs a program that is a client, and does what it asks for.
fn run(command: &mut Command, daemon: &mut Daemon) -> Result<Vec<Value>, String> {
    let url = format!("nats://{}", daemon.address());
    let client = Process::start(command.arg(url)).map_err(|err| format!("{err}: run tests/setup"))?;
    let mut seen = Vec::new();
    for position in 0.. {
        let step = client.stdout().find(position, STEP, |_| true);
        let Ok(line) = step else { break };
        let line: Value = serde_json::from_str(&line).map_err(|err| format!("{err} in {line}"))?;
        match line["ask"].as_str() {
            Some("restart") => daemon.restart()?,
            Some("lame duck") => daemon.kill_with(Signal::Usr2)?,
            Some(other) => return Err(format!("nobody knows how to {other:?}")),
            None => seen.push(line),
        }
    }
    let ended = client.end()?;
    match ended.code {
        Some(0) => Ok(seen),
        code => Err(format!("it ended with {code:?} after\n{}\n{}", lines(&seen), ended.stderr)),
    }
}

/// A step may wait for several things, each of them with its own deadline.
const STEP: Duration = PATIENCE.saturating_mul(3);

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn rust(daemon: &mut Daemon, seen: &mut Vec<Value>) -> Result<(), Failure> {
    let url = format!("nats://{}", daemon.address());
    let mut saw = |step: &str, what: Value| seen.push(json!({ "step": step, "saw": what }));
    let (events, mut happened) = mpsc::channel(64);
    let alice = |options: ConnectOptions| options.user_and_password("alice".into(), "a".into());
    let bob = |options: ConnectOptions| options.user_and_password("bob".into(), "b".into());
    let nc = alice(ConnectOptions::new())
        .reconnect_delay_callback(|_| Duration::from_millis(50))
        .event_callback(move |event| {
            let _ = events.try_send(event);
            async {}
        })
        .connect(&url)
        .await?;
    let info = nc.server_info();
    saw("connect", json!([info.max_payload, info.headers, info.auth_required, info.proto, info.version]));

    // Wildcards.
    let mut one = nc.subscribe("a.*.c").await?;
    let mut rest = nc.subscribe("a.>").await?;
    let mut literal = nc.subscribe("a.b.c").await?;
    for subject in ["a.b.c", "a.x.c", "a.b", "a.b.c.d", "b.b.c"] {
        nc.publish(subject, subject.to_uppercase().into()).await?;
    }
    nc.flush().await?;
    saw(
        "wildcards",
        json!([take(&mut one, 2).await?, take(&mut rest, 4).await?, take(&mut literal, 1).await?]),
    );
    round_trip(&nc).await?;
    saw("nothing more", json!([pending(&mut one), pending(&mut rest), pending(&mut literal)]));

    // Queue groups.
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(nc.queue_subscribe("work", "workers".into()).await?);
    }
    let mut watcher = nc.subscribe("work").await?;
    for number in 0..60 {
        nc.publish("work", number.to_string().into()).await?;
    }
    round_trip(&nc).await?;
    let mut shares = Vec::new();
    for member in &mut members {
        let mut share: Vec<u32> = Vec::new();
        while let Some(message) = pending_message(member) {
            share.push(str::from_utf8(&message.payload)?.parse()?);
        }
        shares.push(share);
    }
    let all_worked = shares.iter().all(|share| !share.is_empty());
    let mut done = shares.concat();
    done.sort_unstable();
    let watched = take(&mut watcher, 60).await?.len();
    saw("queue", json!([done.iter().copied().eq(0..60), all_worked, watched]));

    // Requests.
    let mut reverse = nc.subscribe("reverse").await?;
    let _silence = nc.subscribe("silence").await?;
    let answering = tokio::spawn({
        let nc = nc.clone();
        async move {
            while let Some(message) = reverse.next().await {
                let answer: Vec<u8> = message.payload.iter().rev().copied().collect();
                if let Some(reply) = message.reply {
                    let _ = nc.publish(reply, answer.into()).await;
                }
            }
        }
    });
    let request = async || -> Result<Value, Failure> {
        let answer = timeout(PATIENCE, nc.request("reverse", "stressed".into())).await??;
        Ok(str::from_utf8(&answer.payload)?.into())
    };
    saw("request", request().await?);
    let kind = |result: Result<_, async_nats::RequestError>| {
        result.map_or_else(|err| format!("{:?}", err.kind()), |_| "none".into())
    };
    saw("no responders", kind(nc.request("nobody.home", "?".into()).await).into());
    let short = async_nats::Request::new().payload("?".into()).timeout(Some(Duration::from_millis(50)));
    saw("no answer", kind(nc.send_request("silence", short).await).into());

    // Headers.
    let mut labelled = nc.subscribe("headers").await?;
    let mut headers = HeaderMap::new();
    headers.insert("Unit", "°C");
    headers.append("Sensor", "attic 7");
    headers.append("Sensor", "roof");
    nc.publish_with_headers("headers", headers, "21.5".into()).await?;
    let message = next(&mut labelled).await?;
    let headers = message.headers.unwrap_or_default();
    let mut fields: Vec<_> = headers
        .iter()
        .map(|(name, values)| {
            json!([name.to_string(), values.iter().map(|it| it.as_str()).collect::<Vec<_>>()])
        })
        .collect();
    fields.sort_by_key(Value::to_string);
    saw("headers", json!([fields, str::from_utf8(&message.payload)?]));

    // Ends of subscriptions.
    let mut few = nc.subscribe("few").await?;
    few.unsubscribe_after(2).await?;
    for number in 0..5 {
        nc.publish("few", number.to_string().into()).await?;
    }
    saw(
        "unsubscribe after 2",
        json!([take(&mut few, 2).await?, timeout(PATIENCE, few.next()).await?.is_none()]),
    );
    let mut drained = nc.subscribe("drained").await?;
    for number in 0..10 {
        nc.publish("drained", number.to_string().into()).await?;
    }
    round_trip(&nc).await?;
    drained.drain().await?;
    nc.publish("drained", "late".into()).await?;
    saw("drain", json!(timeout(PATIENCE, rest_of(&mut drained)).await?));

    // Sizes.
    let mut large = nc.subscribe("large").await?;
    let most = nc.server_info().max_payload;
    nc.publish("large", vec![b'x'; most].into()).await?;
    let size = next(&mut large).await?.payload.len();
    let refused = nc.publish("large", vec![b'x'; most + 1].into()).await;
    saw(
        "max payload",
        json!([size, refused.map_or_else(|err| format!("{:?}", err.kind()), |()| "none".into())]),
    );
    let mut burst = nc.subscribe("burst").await?;
    for number in 0..5000_u32 {
        nc.publish("burst", Bytes::copy_from_slice(&number.to_le_bytes())).await?;
    }
    let mut in_order = true;
    for number in 0..5000_u32 {
        in_order &= next(&mut burst).await?.payload[..] == number.to_le_bytes();
    }
    saw("burst", in_order.into());

    // Who may connect, and whom they meet.
    let elsewhere = bob(ConnectOptions::new()).connect(&url).await?;
    let mut own = elsewhere.subscribe("own").await?;
    let mut foreign = elsewhere.subscribe("work").await?;
    round_trip(&elsewhere).await?;
    nc.publish("work", "for alice's account".into()).await?;
    round_trip(&nc).await?;
    elsewhere.publish("own", "for bob's account".into()).await?;
    saw("accounts", json!([take(&mut own, 1).await?, pending(&mut foreign)]));
    saw("no credentials", refusal(ConnectOptions::new(), &url).await);
    saw(
        "wrong password",
        refusal(ConnectOptions::new().user_and_password("alice".into(), "b".into()), &url).await,
    );

    // What the server objects to.
    let (objections, mut objected) = mpsc::channel(64);
    let guest = ConnectOptions::new().user_and_password("guest".into(), "g".into());
    let guest = guest.event_callback(move |event| {
        let _ = objections.try_send(event);
        async {}
    });
    let guest = guest.connect(&url).await?;
    let objection = |it: &Event| matches!(it, Event::ServerError(_));
    guest.publish("private.temp", "not for a guest to say".into()).await?;
    let _private = guest.subscribe("private.>").await?;
    saw(
        "permissions",
        json!([event(&mut objected, objection).await?, event(&mut objected, objection).await?]),
    );
    let mut public = guest.subscribe("public.*").await?;
    guest.publish("public.temp", "21.5".into()).await?;
    saw("permitted", json!(take(&mut public, 1).await?));

    // A connection that ends in order.
    let other = bob(ConnectOptions::new()).connect(&url).await?;
    let mut last = other.subscribe("last").await?;
    for number in 0..10 {
        other.publish("last", number.to_string().into()).await?;
    }
    round_trip(&other).await?;
    other.drain().await?;
    saw("drained connection", json!(timeout(PATIENCE, rest_of(&mut last)).await?));

    // The power fails.
    let mut after = nc.subscribe("after.>").await?;
    let mut member = nc.queue_subscribe("after.*", "workers".into()).await?;
    round_trip(&nc).await?;
    while happened.try_recv().is_ok() {}
    daemon.restart()?;
    let turn = |it: &Event| matches!(it, Event::Connected | Event::Disconnected | Event::LameDuckMode);
    saw("restart", json!([event(&mut happened, turn).await?, event(&mut happened, turn).await?]));
    nc.publish("after.restart", "still there".into()).await?;
    saw("restored", json!([take(&mut after, 1).await?, take(&mut member, 1).await?]));
    saw("request again", request().await?);

    daemon.kill_with(Signal::Usr2)?;
    saw("lame duck", event(&mut happened, turn).await?);
    answering.abort();
    Ok(())
}

async fn next(sub: &mut Subscriber) -> Result<Message, Failure> {
    Ok(timeout(PATIENCE, sub.next()).await?.ok_or("the subscription has ended")?)
}

async fn take(sub: &mut Subscriber, count: usize) -> Result<Vec<Value>, Failure> {
    let mut taken = Vec::new();
    for _ in 0..count {
        let message = next(sub).await?;
        taken.push(json!([message.subject.as_str(), str::from_utf8(&message.payload)?]));
    }
    Ok(taken)
}

async fn rest_of(sub: &mut Subscriber) -> Vec<String> {
    let mut taken = Vec::new();
    while let Some(message) = sub.next().await {
        taken.push(String::from_utf8_lossy(&message.payload).into_owned());
    }
    taken
}

/// Messages that have come and that nobody has looked at.
fn pending(sub: &mut Subscriber) -> usize {
    std::iter::from_fn(|| pending_message(sub)).count()
}

/// The next message that has come. Unconstrained, as a task that has taken many is told that nothing is ready until it
/// yields (tokio's cooperative budget), and this doesn't yield.
fn pending_message(sub: &mut Subscriber) -> Option<Message> {
    tokio::task::unconstrained(sub.next()).now_or_never().flatten()
}

async fn event(
    happened: &mut mpsc::Receiver<Event>,
    wanted: impl Fn(&Event) -> bool,
) -> Result<Value, Failure> {
    loop {
        let event = timeout(PATIENCE, happened.recv()).await?.ok_or("no more events")?;
        if wanted(&event) {
            return Ok(event.to_string().into());
        }
    }
}

async fn refusal(options: ConnectOptions, url: &str) -> Value {
    match options.connect(url).await {
        Ok(_) => "none".into(),
        Err(err) => format!("{:?}", err.kind()).into(),
    }
}
