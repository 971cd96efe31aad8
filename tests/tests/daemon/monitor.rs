//! The monitoring port, beside the reference: the same clients, the same questions.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;

use midge_tests::daemon::{Daemon, PATIENCE, Program};
use midge_tests::peer::Peer;
use midge_tests::process::eventually;
use midge_tests::shape::{members, order};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A server that is watched, with a few clients.
struct Scene {
    name: &'static str,
    monitor: SocketAddr,
    clients: BTreeMap<&'static str, TcpStream>,
    daemon: Daemon,
}

const CONFIG: &str = r#"
    server_name: attic
    server_tags: [edge]
    server_metadata: {site: roof}
    max_subscriptions: 100
    accounts {
        A { users: [{user: ann, password: a}] }
        B { users: [{user: bea, password: b}] }
    }
"#;

impl Scene {
    fn start(program: &Program, config: &str) -> Self {
        let flags = ["-m".to_owned(), "-1".to_owned()];
        let daemon =
            Daemon::start(program.clone(), Some(config), &flags).unwrap_or_else(|why| panic!("{why}"));
        let line = daemon.stderr().find(0, PATIENCE, |line| line.contains("Starting http monitor on"));
        let line = line.expect("a monitor");
        let (_, monitor) = line.rsplit_once(' ').expect("an address");
        let monitor = monitor.parse().expect("an address");
        Self { name: program.name(), monitor, clients: BTreeMap::new(), daemon }
    }

    /// Two clients of A and one of B, each with subscriptions and some traffic; and one that has left.
    fn peopled(program: &Program) -> Self {
        let mut scene = Self::start(program, CONFIG);
        let publish = "PUB a.b 2\r\nhi\r\n";
        scene.client("one", "ann", &format!("SUB a.b 1\r\nSUB a.> workers 2\r\nUNSUB 1 9\r\n{publish}"));
        scene.client("two", "ann", &format!("SUB c.* 1\r\n{publish}{publish}"));
        scene.client("three", "bea", "SUB x.y 1\r\nSUB x.z 2\r\nSUB x.> 3\r\n");
        scene.client("gone", "bea", "SUB x.y 1\r\n");
        scene.clients.remove("gone");
        let closed = eventually(|| (scene.json("/connz?state=closed")["num_connections"] == 1).then_some(()));
        closed.expect("the one that left is among the closed");
        // nats-server counts what it has read once it is done with it, and a PONG may be faster.
        let counted = eventually(|| {
            let connz = scene.json("/connz");
            let rows = connz["connections"].as_array().expect("a list");
            let sum = |name: &str| rows.iter().filter_map(|row| row[name].as_u64()).sum::<u64>();
            ((sum("in_msgs"), sum("out_msgs")) == (3, 6)).then_some(())
        });
        counted.expect("all messages are counted");
        scene
    }

    /// Connects and returns when the server has done as told.
    fn client(&mut self, name: &'static str, user: &str, then: &str) {
        let mut stream = TcpStream::connect(self.daemon.address()).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let pass = &user[..1];
        let connect = format!(
            r#"{{"verbose":false,"lang":"test","version":"1.2","name":"{name}","user":"{user}","pass":"{pass}"}}"#
        );
        write!(stream, "CONNECT {connect}\r\nPING\r\n{then}PING\r\n").expect("to be heard");
        let mut seen = Vec::new();
        while seen.windows(6).filter(|bytes| bytes == b"PONG\r\n").count() < 2 {
            let mut chunk = [0; 4096];
            let size = stream.read(&mut chunk).expect("a PONG");
            assert!(size > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&chunk[..size]);
        }
        self.clients.insert(name, stream);
    }

    /// Another client, whose password is the first letter of its name.
    fn peer(&self, user: &str) -> Peer {
        let pass = &user[..1];
        let options = format!(
            r#"{{"verbose":false,"headers":true,"no_responders":true,"user":"{user}","pass":"{pass}"}}"#
        );
        let mut peer = Peer::greeted(self.daemon.address(), &options).expect("a greeting");
        peer.fence().expect("let in");
        peer
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.0\r\n\r\n"))
    }

    fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.monitor).expect("a monitor");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(request.as_bytes()).expect("to be heard");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn json(&self, path: &str) -> Value {
        let Answer { status, head, body } = self.get(path);
        assert_eq!(status, 200, "{}: {path}: {body}", self.name);
        assert!(head.contains("Content-Type: application/json"), "{head}");
        serde_json::from_str(&body).unwrap_or_else(|err| panic!("{}: {path}: {err}: {body}", self.name))
    }

    /// The names of the connections that are listed, in order.
    fn names(&self, path: &str) -> Vec<String> {
        let connz = self.json(path);
        let rows = connz["connections"].as_array().expect("a list");
        assert_eq!(connz["num_connections"], rows.len());
        rows.iter().map(|row| row["name"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Our server, and the reference where there is one.
fn programs() -> Vec<Program> {
    let ours = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    std::iter::once(ours).chain(reference()).collect()
}

fn reference() -> Option<Program> {
    Program::reference().map_err(|why| println!("reference: SKIPPED, {why}")).ok()
}

/// Members that nats-server doesn't have.
const OURS: [&str; 5] = [
    ".midge: string",
    ".memory_budget: number",
    ".memory_in_use: number",
    ".memory_refusals: number",
    ".rate_pauses: number",
];

/// Members that tell of the reference's own build and of parts that only it has.
const NOT_OURS: [&str; 2] = [".git_commit", ".feature_flags"];

#[test]
fn every_member_of_the_reference_is_there_in_its_place() {
    let Some(reference) = reference() else { return };
    let theirs = Scene::peopled(&reference);
    let ours = Scene::peopled(&Program::ours().unwrap_or_else(|why| panic!("{why}")));
    for path in [
        "/varz",
        "/connz?auth=1&subs=1",
        "/connz?subs=detail",
        "/connz?state=closed&auth=true",
        "/subsz",
        "/subsz?subs=1&test=a.b",
        "/accountz",
        "/accountz?acc=A",
        "/accstatz",
        "/accstatz?unused=1",
        "/healthz",
        "/jsz",
        "/routez",
        "/gatewayz",
    ] {
        let of = |scene: &Scene| {
            let mut found = members(&scene.json(path));
            found.retain(|member| !NOT_OURS.iter().any(|name| member.starts_with(name)));
            found
        };
        let (theirs, ours) = (of(&theirs), of(&ours));
        let missing: Vec<_> = theirs.difference(&ours).collect();
        assert!(missing.is_empty(), "{path} lacks {missing:?}");
        let extra: Vec<_> = ours.difference(&theirs).collect();
        assert!(
            extra.iter().all(|member| OURS.contains(&member.as_str()) || member.starts_with(".refusals")),
            "{path} has in addition {extra:?}"
        );
    }
    for path in ["/connz?auth=1&subs=1&limit=1", "/connz?state=closed&auth=1", "/subsz"] {
        assert_eq!(order(&ours.get(path).body), order(&theirs.get(path).body), "{path}");
    }
}

/// Streams of an account that may have any, beside one that may have few and one that has none.
const STREAMS: &str = r#"
    server_name: attic
    jetstream { store_dir: "${dir}", max_mem: 64MB, max_file: 1GB, sync_interval: always, domain: hub
        limits { max_ack_pending: 500, max_request_batch: 100, duplicate_window: "5m" } }
    accounts {
        A { jetstream: enabled, users: [{user: ann, password: a}] }
        B { users: [{user: bea, password: b}] }
        L { jetstream: {max_mem: 1MB, max_file: 10MB}, users: [{user: lou, password: l}] }
        SYS { users: [{user: sys, password: s}] }
    }
    system_account: SYS
"#;

/// What `ann` made: two streams with a message each, and a consumer.
fn with_streams(program: &Program, dir: &tempfile::TempDir) -> Scene {
    let dir = dir.path().join(program.name());
    let scene = Scene::start(program, &STREAMS.replace("${dir}", &dir.display().to_string()));
    let mut ann = scene.peer("ann");
    for (subject, body) in [
        ("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"],"max_bytes":100000}"#),
        ("$JS.hub.API.STREAM.CREATE.M", r#"{"name":"M","subjects":["m"],"storage":"memory"}"#),
        (
            "$JS.API.CONSUMER.CREATE.S.C",
            r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#,
        ),
        ("s.1", "one"),
        ("m", "two"),
    ] {
        let answer = ann.ask(subject, body).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(answer["error"], Value::Null, "{subject}");
    }
    assert_eq!(ann.ask("$JS.API.STREAM.INFO.NO", "").expect("an answer")["error"]["err_code"], 10059);
    scene
}

#[test]
fn streams_are_told_of_as_the_reference_does() {
    let Some(reference) = reference() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let theirs = with_streams(&reference, &dir);
    let ours = with_streams(&Program::ours().unwrap_or_else(|why| panic!("{why}")), &dir);
    // What differs from server to server, and from moment to moment.
    fn plain(value: &mut Value) {
        match value {
            Value::Object(members) => members.iter_mut().for_each(|(name, value)| match name.as_str() {
                "server_id" | "now" | "store_dir" | "created" | "ts" | "first_ts" | "last_ts" => {
                    *value = Value::Null
                }
                "account_details" | "stream_detail" => {
                    let list = value.as_array_mut().expect("a list");
                    list.sort_by_key(|row| row["name"].to_string());
                    list.iter_mut().for_each(plain);
                }
                _ => plain(value),
            }),
            Value::Array(list) => list.iter_mut().for_each(plain),
            _ => {}
        }
    }
    for path in [
        "/jsz",
        "/jsz?accounts=1",
        "/jsz?streams=true",
        "/jsz?consumers=1",
        "/jsz?consumers=1&config=1",
        "/jsz?acc=A",
        "/jsz?acc=A&streams=1&consumers=1&direct-consumers=1",
        "/jsz?acc=nobody&accounts=1",
        "/jsz?accounts=1&limit=1&offset=1",
        "/jsz?accounts=1&limit=-1&offset=-1",
        "/jsz?accounts=1&offset=7",
        "/jsz?raft=1&leader-only=1&stream-leader-only=1",
    ] {
        let (mut theirs, mut ours) = (theirs.json(path), ours.json(path));
        plain(&mut theirs);
        plain(&mut ours);
        assert_eq!(ours, theirs, "{path}");
    }
    let (mut their_varz, mut our_varz) = (theirs.json("/varz"), ours.json("/varz"));
    plain(&mut their_varz);
    plain(&mut our_varz);
    assert_eq!(our_varz["jetstream"], their_varz["jetstream"]);
    for (account, enabled) in [("A", true), ("B", false), ("L", true), ("SYS", false)] {
        let path = format!("/accountz?acc={account}");
        for scene in [&theirs, &ours] {
            assert_eq!(
                scene.json(&path)["account_detail"]["jetstream_enabled"],
                enabled,
                "{}: {path}",
                scene.name
            );
        }
    }
    for path in [
        "/jsz?streams=x",
        "/jsz?limit=x",
        "/healthz?account=A",
        "/healthz?account=A&stream=S",
        "/healthz?account=A&stream=S&consumer=C",
        "/healthz?account=nobody",
        "/healthz?account=B",
        "/healthz?account=A&stream=NO",
        "/healthz?account=A&stream=S&consumer=NO",
        "/healthz?account=nobody&details=1",
        "/healthz?account=A&stream=NO&details=1",
        "/healthz?account=A&stream=S&consumer=NO&details=1",
        "/healthz?account=A&stream=NO&js-enabled-only=1",
        "/healthz?account=A&stream=NO&js-enabled=1",
        "/healthz?account=A&stream=NO&js-server-only=1",
    ] {
        let (theirs, ours) = (theirs.get(path), ours.get(path));
        assert_eq!((ours.status, ours.body), (theirs.status, theirs.body), "{path}");
    }
    let (mut them, mut us) = (theirs.peer("sys"), ours.peer("sys"));
    for (subject, body) in [
        ("$SYS.REQ.SERVER.PING.JSZ", ""),
        ("$SYS.REQ.SERVER.PING.JSZ", r#"{"consumer":true,"config":true}"#),
        ("$SYS.REQ.SERVER.PING.JSZ", r#"{"account":"L","accounts":true}"#),
        ("$SYS.REQ.SERVER.PING.JSZ", r#"{"accounts":true,"limit":1,"offset":1,"leader_only":true}"#),
        ("$SYS.REQ.ACCOUNT.A.JSZ", ""),
        ("$SYS.REQ.ACCOUNT.A.JSZ", r#"{"consumer":true}"#),
        ("$SYS.REQ.ACCOUNT.B.JSZ", ""),
        ("$SYS.REQ.ACCOUNT.nobody.JSZ", ""),
        ("$SYS.REQ.SERVER.PING.HEALTHZ", r#"{"account":"A","stream":"S","consumer":"NO"}"#),
        ("$SYS.REQ.SERVER.PING.HEALTHZ", r#"{"account":"A","stream":"S","consumer":"C"}"#),
    ] {
        let (mut theirs, mut ours) =
            (them.ask(subject, body).expect("an answer"), us.ask(subject, body).expect("an answer"));
        plain(&mut theirs);
        plain(&mut ours);
        for member in ["data", "error"] {
            assert_eq!(ours[member], theirs[member], "{subject} {body}");
        }
        assert_eq!(ours["server"]["domain"], "hub");
    }
    let [theirs, ours] = [&mut them, &mut us].map(|peer| {
        let mut stats = peer.ask("$SYS.REQ.SERVER.PING.STATSZ", "").expect("an answer");
        plain(&mut stats);
        stats["statsz"]["jetstream"].take()
    });
    assert_eq!(ours, theirs);
}

#[test]
fn connections_are_sorted_and_paged() {
    for program in programs() {
        let scene = Scene::peopled(&program);
        for (path, names) in [
            ("/connz", &["one", "two", "three"][..]),
            ("/connz?sort=start&limit=2", &["one", "two"]),
            ("/connz?sort=cid&limit=2&offset=2", &["three"]),
            ("/connz?offset=9", &[]),
            ("/connz?limit=-1&offset=-1", &["one", "two", "three"]),
            ("/connz?sort=subs", &["three", "one", "two"]),
            ("/connz?sort=msgs_from&limit=2", &["two", "one"]),
            ("/connz?sort=bytes_to&limit=1", &["one"]),
            ("/connz?sort=uptime", &["three", "two", "one"]),
            ("/connz?state=closed", &["gone"]),
            ("/connz?state=closed&sort=stop", &["gone"]),
            ("/connz?state=ANY", &["one", "two", "three", "gone"]),
            ("/connz?acc=A", &["one", "two"]),
            ("/connz?acc=B&state=all", &["three", "gone"]),
            ("/connz?acc=C", &[]),
            ("/connz?user=bea", &["three"]),
            ("/connz?mqtt_client=x", &[]),
            ("/connz?callback=f", &["one", "two", "three"]),
        ] {
            // For an account that doesn't exist the reference has no list at all.
            if program.name() == "reference" && path == "/connz?acc=C" {
                continue;
            }
            assert_eq!(scene.names(path), names, "{}: {path}", scene.name);
        }
        let second = &scene.json("/connz?offset=1&limit=1");
        let cid = &second["connections"][0]["cid"];
        assert_eq!(
            (&second["total"], &second["offset"], &second["limit"]),
            (&3.into(), &1.into(), &1.into())
        );
        assert_eq!(scene.names(&format!("/connz?cid={cid}")), ["two"]);
        assert_eq!(scene.json("/connz")["limit"], 1024);
    }
}

#[test]
fn connections_tell_who_they_are_and_what_they_want() {
    for program in programs() {
        let scene = Scene::peopled(&program);
        let connz = scene.json("/connz?auth=1&subs=1&limit=1");
        let one = &connz["connections"][0];
        assert_eq!((&one["kind"], &one["type"]), (&"Client".into(), &"nats".into()));
        assert_eq!(
            (&one["ip"], &one["lang"], &one["version"]),
            (&"127.0.0.1".into(), &"test".into(), &"1.2".into())
        );
        assert_eq!(one["port"], scene.clients["one"].local_addr().expect("an address").port());
        assert_eq!((&one["authorized_user"], &one["account"]), (&"ann".into(), &"A".into()));
        // Its own message, and those of the other one, each once for either subscription.
        let figures = ["subscriptions", "in_msgs", "in_bytes", "out_msgs", "out_bytes"];
        assert_eq!(figures.map(|name| one[name].as_i64()), [2, 1, 2, 6, 12].map(Some));
        let mut subjects: Vec<_> = one["subscriptions_list"].as_array().expect("a list").iter().collect();
        subjects.sort_by_key(|subject| subject.to_string());
        assert_eq!(subjects, ["a.>", "a.b"]);

        let connz = scene.json("/connz?subs=Detail&limit=1");
        let one = &connz["connections"][0];
        assert_eq!(one["authorized_user"], Value::Null);
        let details = one["subscriptions_list_detail"].as_array().expect("a list");
        let detail = |sid: &str| details.iter().find(|detail| detail["sid"] == sid).expect("a subscription");
        assert_eq!(
            *detail("1"),
            serde_json::json!({"subject": "a.b", "sid": "1", "msgs": 3, "max": 9, "cid": one["cid"]})
        );
        assert_eq!(
            *detail("2"),
            serde_json::json!({"subject": "a.>", "qgroup": "workers", "sid": "2", "msgs": 3, "cid": one["cid"]})
        );

        let gone = &scene.json("/connz?state=closed&auth=1")["connections"][0];
        assert_eq!((&gone["authorized_user"], &gone["account"]), (&"bea".into(), &"B".into()));
        assert_eq!(gone["subscriptions"], 1);
        assert!(gone["stop"].is_string() && gone["reason"].is_string(), "{gone}");
    }
}

#[test]
fn subscriptions_are_listed() {
    for program in programs() {
        let scene = Scene::peopled(&program);
        let subsz = scene.json("/subsz?subs=1&test=x.z");
        let rows = subsz["subscriptions_list"].as_array().expect("a list");
        let mut subjects: Vec<_> =
            rows.iter().map(|row| row["subject"].as_str().unwrap_or_default()).collect();
        subjects.sort_unstable();
        assert_eq!((subjects, &subsz["total"]), (vec!["x.>", "x.z"], &2.into()), "{}", scene.name);
        assert!(rows.iter().all(|row| row["account"] == "B" && row["account_tag"] == "B"));

        let second = scene.json("/subscriptionsz?subs=1&test=x.z&limit=1&offset=1");
        assert_eq!(second["subscriptions_list"].as_array().map(Vec::len), Some(1));
        assert_eq!((&second["total"], &second["limit"]), (&2.into(), &1.into()));
        let none = scene.json("/subsz?subs=1&test=x.z&acc=A");
        assert_eq!((&none["total"], none["num_subscriptions"] == 0), (&0.into(), false));
        assert_eq!(scene.json("/subsz?acc=nobody")["num_subscriptions"], 0);
        assert_eq!(scene.json("/subsz")["subscriptions_list"], Value::Null);
    }
}

#[test]
fn the_server_counts() {
    for program in programs() {
        let scene = Scene::peopled(&program);
        scene.get("/connz?sort=subs");
        scene.get("/nowhere");
        scene.get("/subscriptionsz");
        let varz = scene.json("/varz");
        assert_eq!((&varz["server_name"], &varz["version"]), (&"attic".into(), &"2.15.1".into()));
        assert_eq!(
            (&varz["tags"], &varz["metadata"]),
            (&serde_json::json!(["edge"]), &serde_json::json!({"site": "roof"}))
        );
        assert_eq!(varz["max_subscriptions"], 100);
        let figures = ["connections", "total_connections", "in_msgs", "in_bytes", "out_msgs", "out_bytes"];
        assert_eq!(figures.map(|name| varz[name].as_i64()), [3, 4, 3, 6, 6, 12].map(Some), "{}", scene.name);
        assert_eq!((&varz["auth_required"], &varz["system_account"]), (&true.into(), &"$SYS".into()));
        assert!(varz["mem"].as_u64() > Some(100_000) && varz["cores"].as_u64() > Some(0), "{varz}");
        assert!(varz["config_digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")));
        let flags: Vec<&String> = varz["feature_flags"].as_object().unwrap().keys().collect();
        let known = ["js_ack_fc_v2", "js_api_reply_v2", "js_raft_delete_range", "js_snapshot_sources"];
        assert_eq!(flags, known);
        let pages: Vec<_> = varz["http_req_stats"].as_object().expect("counts").keys().collect();
        assert_eq!(pages, ["/connz", "/subsz", "/varz"], "{}", scene.name);
        assert_eq!(varz["http_req_stats"]["/varz"], 1);
    }
}

#[test]
fn refusals_are_counted() {
    let ours = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let config = "max_subscriptions: 1, max_sub_tokens: 3, max_control_line: 512, max_payload: 100, max_connections: 3
        authorization { users: [{user: u, password: p, permissions: {publish: a, subscribe: [a, b, 'c.>']}}] }";
    let scene = Scene::start(&ours, config);
    let talk = |text: &str| {
        let mut peer = Peer::connect(scene.daemon.address()).expect("a connection");
        peer.send(text);
        peer.send("PING\r\n");
        while peer.line().is_ok_and(|line| line.is_some_and(|line| line != "PONG")) {}
        peer
    };
    let connect = "CONNECT {\"verbose\":false,\"user\":\"u\",\"pass\":\"p\"}\r\n";
    talk("CONNECT {\"user\":\"u\",\"pass\":\"q\"}\r\n");
    talk(&format!("{connect}SUB {} 1\r\n", "x".repeat(600)));
    talk(&format!("{connect}PUB a 101\r\n"));
    let _in = [
        talk(&format!(
            "{connect}SUB a 1\r\nSUB b 2\r\nSUB b 3\r\nSUB c.d.e.f 4\r\nSUB d 5\r\nPUB d 0\r\n\r\n"
        )),
        talk(connect),
        talk(connect),
    ];
    talk(connect);
    assert_eq!(
        scene.json("/varz")["refusals"],
        serde_json::json!({
            "connections": 1, "handshakes": 0, "credentials": 1, "subscriptions": 2, "tokens": 1, "control_lines": 1,
            "payloads": 1, "permissions": 2,
        })
    );
}

#[test]
fn questions_that_make_no_sense() {
    for program in programs() {
        let scene = Scene::start(&program, "");
        for (path, text) in [
            (
                "/connz?auth=maybe",
                r#"Error decoding boolean for 'auth': strconv.ParseBool: parsing "maybe": invalid syntax"#,
            ),
            (
                "/connz?subs=2",
                r#"Error decoding boolean for 'subs': strconv.ParseBool: parsing "2": invalid syntax"#,
            ),
            (
                "/connz?offset=x",
                r#"Error decoding int for 'offset': strconv.Atoi: parsing "x": invalid syntax"#,
            ),
            (
                "/connz?limit=9999999999999999999",
                r#"Error decoding int for 'limit': strconv.Atoi: parsing "9999999999999999999": value out of range"#,
            ),
            (
                "/connz?cid=-1",
                r#"Error decoding uint64 for 'cid': strconv.ParseUint: parsing "-1": invalid syntax"#,
            ),
            ("/connz?state=ajar", "Error decoding state for ajar"),
            ("/connz?sort=beauty", "invalid sorting option: beauty"),
            ("/accountz?acc=nobody", "Account nobody does not exist"),
            (
                "/accstatz?unused=x",
                r#"Error decoding boolean for 'unused': strconv.ParseBool: parsing "x": invalid syntax"#,
            ),
            ("/connz?sort=stop", "sort by stop only valid on closed connections"),
            ("/connz?sort=reason&state=all", "sort by reason only valid on closed connections"),
            (
                "/subsz?subs=x",
                r#"Error decoding boolean for 'subs': strconv.ParseBool: parsing "x": invalid syntax"#,
            ),
            ("/subsz?test=a.*", "invalid test subject, must be valid publish subject: a.*"),
            (
                "/healthz?js-enabled-only=x",
                r#"Error decoding boolean for 'js-enabled-only': strconv.ParseBool: parsing "x": invalid syntax"#,
            ),
            (
                "/healthz?stream=S",
                r#"{"status":"error","error":"\"account\" must not be empty when checking stream health"}"#,
            ),
            (
                "/healthz?consumer=C&details=1",
                r#"{"status":"error","errors":[{"type":"BAD_REQUEST","error":"\"stream\" must not be empty when checking consumer health"}]}"#,
            ),
        ] {
            let answer = scene.get(path);
            assert_eq!((answer.status, answer.body.as_str()), (400, text), "{}: {path}", scene.name);
        }
    }
}

#[test]
fn pages_have_their_place() {
    for program in programs() {
        let scene = Scene::start(&program, "http_base_path: watch");
        for (path, status) in [
            ("/watch", 200),
            ("/watch/varz", 200),
            ("/watch/healthz?js-server-only=1", 200),
            ("/watch/varz/", 404),
            ("/watch/nowhere", 404),
            ("/varz", 404),
            ("/watchvarz", 404),
            ("/", 404),
        ] {
            assert_eq!(scene.get(path).status, status, "{}: {path}", scene.name);
        }
        assert!(scene.get("/watch").body.contains("./watch/connz"));
        assert_eq!(scene.get("/watch/healthz").body, r#"{"status":"ok"}"#);
        assert!(scene.get("/watch/varz").head.contains("Access-Control-Allow-Origin: *"));
        let head = scene.ask("HEAD /watch/varz HTTP/1.0\r\n\r\n");
        assert!(head.status == 200 && head.body.is_empty() && head.head.contains("Content-Length: "));
    }
}

#[test]
fn what_a_single_node_has_none_of_is_empty() {
    for program in programs() {
        let scene = Scene::start(&program, "");
        let routez = scene.json("/routez");
        assert_eq!((&routez["num_routes"], &routez["routes"]), (&json!(0), &json!([])), "{}", scene.name);
        let gatewayz = scene.json("/gatewayz");
        for way in ["outbound_gateways", "inbound_gateways"] {
            assert_eq!(gatewayz[way], json!({}), "{}", scene.name);
        }
        let raftz = scene.get("/raftz");
        assert_eq!(
            (raftz.status, raftz.body.trim_end()),
            (404, "No Raft nodes registered"),
            "{}",
            scene.name
        );
        // What nats-server began with is on its way through them for a moment.
        let empty = eventually(|| (scene.json("/ipqueuesz") == json!({})).then_some(()));
        assert!(empty.is_some(), "{}: {}", scene.name, scene.json("/ipqueuesz"));
    }
}

#[test]
fn what_is_not_served_is_said_so() {
    let scene = Scene::start(&Program::ours().unwrap_or_else(|why| panic!("{why}")), "");
    for path in ["/debug/vars", "/stacksz"] {
        let answer = scene.get(path);
        let said = (answer.status, answer.body.as_str());
        assert_eq!(said, (404, "midge has no runtime of Go's to tell of\n"), "{path}");
    }
    assert_eq!(scene.ask("POST /varz HTTP/1.0\r\nContent-Length: 1\r\n\r\nx").status, 405);
    let long = format!("GET /varz HTTP/1.0\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(scene.ask(&long).status, 431);
}

#[test]
fn silence_keeps_nobody_out_for_long() {
    let scene = Scene::start(&Program::ours().unwrap_or_else(|why| panic!("{why}")), "");
    let connect = |_| TcpStream::connect(scene.monitor).expect("a connection");
    // One that waits in line behind many, who are sent away when their time is over.
    let (_silent, mut last): (Vec<_>, _) = ((0..32).map(connect).collect(), connect(32));
    last.set_read_timeout(Some(PATIENCE)).expect("a socket");
    last.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("to be heard");
    let mut answer = String::new();
    last.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
}

#[test]
fn metrics_have_the_names_that_dashboards_and_alerts_look_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let scene = with_streams(&Program::ours().unwrap_or_else(|why| panic!("{why}")), &dir);
    let mut ann = scene.peer("ann");
    for (name, copied) in [("MIRROR", r#""mirror":{"name":"S"}"#), ("COPY", r#""sources":[{"name":"S"}]"#)] {
        let answer =
            ann.ask(&format!("$JS.API.STREAM.CREATE.{name}"), &format!(r#"{{"name":"{name}",{copied}}}"#));
        assert_eq!(answer.expect("an answer")["error"], Value::Null, "{name}");
    }
    let Answer { status, head, body } = scene.get("/metrics");
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    let line = |start: &str, label: &str, end: &str| {
        body.lines().any(|line| line.starts_with(start) && line.contains(label) && line.ends_with(end))
    };
    assert!(line("jetstream_stream_total_messages{", "stream_name=\"S\"", " 1.0"), "{body}");
    assert!(line("jetstream_consumer_num_pending{", "consumer_name=\"C\"", " 1.0"), "{body}");
    assert!(line("gnatsd_healthz_status{", "server_id", " 0.0"), "{body}");
    let alerts = include_str!("../../../docs/alerts.yml");
    let words = alerts.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    let names = ["gnatsd_", "jetstream_", "midge_"];
    let wanted: Vec<_> = words.filter(|word| names.iter().any(|name| word.starts_with(name))).collect();
    assert!(wanted.len() > 10, "{wanted:?}");
    for name in wanted {
        assert!(body.contains(&format!("# TYPE {name} gauge\n")), "no {name} in\n{body}");
    }
    let renamed = scene.get("/metrics?prefix=nats").body;
    assert!(renamed.contains("\nnats_varz_connections{"), "{renamed}");
    assert_eq!(scene.get("/metrics?prefix=a%7B").status, 400);
}

#[test]
fn without_ceilings_it_shows_what_there_is_room_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let shown = |program: &Program| {
        let store = dir.path().join(program.name());
        let scene = Scene::start(program, &format!("jetstream {{ store_dir: {store:?} }}"));
        let varz = scene.json("/varz")["jetstream"]["config"].take();
        assert_eq!(varz, scene.json("/jsz?config=1")["config"]);
        ["max_memory", "max_storage"].map(|name| varz[name].as_u64().expect("a size"))
    };
    let [memory, storage] = shown(&Program::ours().unwrap_or_else(|why| panic!("{why}")));
    assert!(memory > 0 && storage > 0);
    let Some(reference) = reference() else { return };
    // It doesn't look at control groups, and the disk has other users.
    let [memory_max, disk] = shown(&reference);
    assert!(
        memory <= memory_max && storage < disk.saturating_mul(2),
        "{memory} {storage}, {memory_max} {disk}"
    );
}

/// The storage thread of a daemon, held as a disk that hangs would hold it.
struct Held(Pid);

impl Held {
    fn hold(daemon: &Daemon) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("threads");
        let mut tasks = tasks.map(|task| task.expect("a thread").path());
        let name = |task: &Path| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        let task = tasks.find(|task| name(task).trim() == "streams").expect("a storage thread");
        let id = task.file_name().and_then(|id| id.to_str()?.parse().ok()).expect("a number");
        let thread = Pid::from_raw(id);
        ptrace::seize(thread, ptrace::Options::empty()).expect("a thread that may be traced");
        ptrace::interrupt(thread).expect("a thread that runs");
        waitpid(thread, Some(WaitPidFlag::__WALL)).expect("a thread that stands");
        Self(thread)
    }

    fn let_go(self) {
        ptrace::detach(self.0, None).expect("a thread that stands");
    }
}

#[test]
fn a_disk_that_hangs_is_said_to_hang() {
    let dir = tempfile::tempdir().expect("a directory");
    let scene = with_streams(&Program::ours().unwrap_or_else(|why| panic!("{why}")), &dir);
    let held = Held::hold(&scene.daemon);
    let mut sys = scene.peer("sys");
    let watched = &scene;
    thread::scope(|all| {
        // Each of them waits until the daemon has waited long enough.
        let get = |path: &'static str| all.spawn(move || watched.get(path));
        let [jsz, metrics, healthz] = ["/jsz", "/metrics", "/healthz"].map(get);
        let [details, account, varz] = ["/healthz?details=1", "/healthz?account=A", "/varz"].map(get);
        let asked = all.spawn(move || sys.ask("$SYS.REQ.SERVER.PING.JSZ", ""));
        let of = |answer: thread::ScopedJoinHandle<'_, Answer>| {
            let Answer { status, body, .. } = answer.join().expect("an answer");
            (status, body)
        };
        let why = "the streams don't answer: their disk may hang";
        assert_eq!(of(jsz), (503, format!("{why}\n")));
        let unavailable = (503, format!(r#"{{"status":"unavailable","error":"{why}"}}"#));
        assert_eq!(of(healthz), unavailable);
        assert_eq!(of(account), unavailable);
        let (status, details) = of(details);
        assert_eq!(status, 503);
        assert!(details.contains(&format!(r#""type":"JETSTREAM","error":"{why}""#)), "{details}");
        let (status, metrics) = of(metrics);
        assert_eq!(status, 200);
        let line = |start: &str, end: &str| {
            metrics.lines().any(|line| line.starts_with(start) && line.ends_with(end))
        };
        assert!(line("midge_storage_unresponsive{", " 1.0"), "{metrics}");
        assert!(line("gnatsd_healthz_status{", " 1.0"), "{metrics}");
        assert!(!metrics.contains("jetstream_server_"), "what isn't known isn't told\n{metrics}");
        let (status, varz) = of(varz);
        let varz: Value = serde_json::from_str(&varz).expect("JSON");
        assert_eq!(status, 200);
        assert!(varz["jetstream"]["config"].is_object() && varz["jetstream"]["stats"].is_null(), "{varz}");
        let answer = asked.join().expect("a thread").expect("an answer");
        assert_eq!((&answer["error"]["code"], &answer["data"]), (&503.into(), &Value::Null), "{answer}");
    });
    held.let_go();
    assert_eq!(scene.json("/jsz")["streams"], 2);
    assert_eq!(scene.json("/healthz")["status"], "ok");
    let metrics = scene.get("/metrics").body;
    assert!(
        metrics.lines().any(|line| line.starts_with("midge_storage_unresponsive{") && line.ends_with(" 0.0"))
    );
}
