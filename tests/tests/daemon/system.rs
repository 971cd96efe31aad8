//! The system account, beside the reference: who may ask the server what, and what it tells of itself.

use std::io::Write as _;

use midge_tests::daemon::{Daemon, Program};
use midge_tests::peer::Peer;
use midge_tests::shape::members;
use midge_tests::target::World as _;
use serde_json::{Value, json};

const CONFIG: &str = r#"
    server_name: attic
    server_tags: [edge]
    system_account: SYS
    accounts {
        SYS { users: [{user: sys, password: s}] }
        A {
            users: [
                {
                    user: ann, password: a
                    permissions: {
                        publish: {allow: ">", deny: "x.secret"}
                        subscribe: {allow: "_INBOX.>", deny: "y.> w"}
                        allow_responses: {max: 3, expires: "1m"}
                    }
                }
                {user: alf, password: a}
            ]
            exports: [{service: help, accounts: [B], latency: {sampling: 50%, subject: slow}}, {stream: news}]
            mappings: {m: n}
        }
        B {
            users: [{user: bob, password: b}]
            imports: [{service: {account: A, subject: help}}, {stream: {account: A, subject: news}, to: from.a}]
        }
    }
"#;

fn both(mut test: impl FnMut(&mut Daemon, &'static str)) {
    let ours = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let reference = Program::reference();
    if let Err(why) = &reference {
        // Not through `println`, which is shown only for tests that fail.
        let _ = writeln!(std::io::stderr(), "reference SKIPPED, {why}");
    }
    for program in std::iter::once(ours).chain(reference) {
        let name = program.name();
        let mut daemon =
            Daemon::start(program, Some(CONFIG), &[]).unwrap_or_else(|why| panic!("{name}: {why}"));
        println!("on {name}");
        test(&mut daemon, name);
    }
}

/// A client that asks.
struct Asker {
    peer: Peer,
    /// The server's.
    id: String,
    user: String,
    asked: usize,
}

impl Asker {
    fn new(daemon: &Daemon, user: &str) -> Self {
        let mut peer = Peer::connect(daemon.address()).expect("a connection");
        let id = peer.info().expect("a greeting")["server_id"].as_str().expect("an id").to_owned();
        let pass = &user[..1];
        peer.send(&format!(
            r#"CONNECT {{"verbose":false,"user":"{user}","pass":"{pass}","name":"{user}","lang":"test","version":"1.2","headers":true,"no_responders":true}}"#
        ));
        peer.send(&format!("\r\nSUB _INBOX.{user}.* 1\r\n"));
        peer.fence().expect("let in");
        Self { peer, id, user: user.to_owned(), asked: 0 }
    }

    fn send(&mut self, subject: &str, body: &str) -> String {
        self.asked += 1;
        let subject = subject.replace("{id}", &self.id);
        let reply = format!("_INBOX.{}.{}", self.user, self.asked);
        self.peer.send(&format!("PUB {subject} {reply} {}\r\n{body}\r\n", body.len()));
        reply
    }

    /// The next message: subject and payload. For a 503 the payload is `null`.
    fn next(&mut self) -> (String, Value) {
        loop {
            let head = self
                .peer
                .line()
                .expect("a line")
                .unwrap_or_else(|| panic!("the end, after {} questions", self.asked));
            let words: Vec<_> = head.split(' ').collect();
            match words[..] {
                ["MSG", subject, ..] => {
                    let body = self.peer.line().expect("a line").expect("a body");
                    let value =
                        serde_json::from_str(&body).unwrap_or_else(|err| panic!("{subject}: {err}: {body}"));
                    return (subject.to_owned(), value);
                }
                ["HMSG", subject, ..] => {
                    while self.peer.line().expect("a line").is_some_and(|line| !line.is_empty()) {}
                    self.peer.line().expect("a line");
                    return (subject.to_owned(), Value::Null);
                }
                ["INFO", ..] => {}
                _ => panic!("{head}"),
            }
        }
    }

    fn ask(&mut self, subject: &str, body: &str) -> Value {
        let reply = self.send(subject, body);
        let (on, value) = self.next();
        assert_eq!(on, reply, "{subject}: {value}");
        value
    }

    /// Checks that nothing comes of a request.
    fn ask_in_vain(&mut self, subject: &str, body: &str) {
        self.send(subject, body);
        let value = self.ask("$SYS.REQ.SERVER.{id}.IDZ", "");
        assert_eq!(value["id"], self.id, "{subject} was answered");
    }
}

/// Members that nats-server doesn't have.
const OURS: [&str; 5] = ["midge", "memory_budget", "memory_in_use", "memory_refusals", "rate_pauses"];

/// Members that tell of the reference's own build and of parts that only it has.
const NOT_OURS: [&str; 3] = ["git_commit", "feature_flags", "gomemlimit"];

#[test]
fn every_answer_has_the_members_of_the_reference() {
    let mut answers: Vec<Vec<(String, Value)>> = Vec::new();
    both(|daemon, _| {
        let (mut sys, mut ann) = (Asker::new(daemon, "sys"), Asker::new(daemon, "ann"));
        let mut bob = Asker::new(daemon, "bob");
        bob.peer.send("SUB from.a 2\r\nSUB q w 3\r\n");
        bob.peer.fence().expect("subscribed");
        let of_server = [
            "IDZ", "STATSZ", "VARZ", "SUBSZ", "CONNZ", "ROUTEZ", "GATEWAYZ", "LEAFZ", "ACCOUNTZ", "JSZ",
            "HEALTHZ",
        ];
        let mut questions: Vec<(String, &str)> = Vec::new();
        for page in of_server {
            questions.push((format!("$SYS.REQ.SERVER.{{id}}.{page}"), ""));
            questions
                .push((format!("$SYS.REQ.SERVER.PING.{page}"), r#"{"server_name":"atti","tags":["edge"]}"#));
        }
        for page in ["SUBSZ", "CONNZ", "LEAFZ", "JSZ", "INFO", "STATZ", "CONNS"] {
            for account in ["A", "B"] {
                questions.push((format!("$SYS.REQ.ACCOUNT.{account}.{page}"), ""));
            }
        }
        let more = [
            ("$SYS.REQ.SERVER.PING", ""),
            ("$SYS.REQ.SERVER.{id}.CONNZ", r#"{"auth":true,"subscriptions":true,"acc":"B"}"#),
            // The asker alone has sent messages: the others' order is the server's whim.
            ("$SYS.REQ.SERVER.{id}.CONNZ", r#"{"subscriptions_detail":true,"sort":"msgs_from","limit":1}"#),
            ("$SYS.REQ.SERVER.{id}.CONNZ", r#"{"subscriptions_detail":true}"#),
            ("$SYS.REQ.SERVER.{id}.CONNZ", r#"{"state":1}"#),
            ("$SYS.REQ.SERVER.{id}.CONNZ", r#"{"acc":"B","filter_subject":"q"}"#),
            ("$SYS.REQ.SERVER.{id}.CONNZ", r#"{"sort":"beauty"}"#),
            ("$SYS.REQ.SERVER.{id}.CONNZ", "[}"),
            ("$SYS.REQ.SERVER.{id}.SUBSZ", r#"{"subscriptions":true,"account":"B","test":"q"}"#),
            ("$SYS.REQ.SERVER.{id}.ACCOUNTZ", r#"{"account":"A"}"#),
            ("$SYS.REQ.SERVER.{id}.ACCOUNTZ", r#"{"account":"nobody"}"#),
            ("$SYS.REQ.SERVER.{id}.HEALTHZ", r#"{"stream":"S","details":true}"#),
            ("$SYS.REQ.SERVER.{id}.KICK", r#"{"cid":99}"#),
            ("$SYS.REQ.SERVER.{id}.LDM", r#"{"cid":99}"#),
            ("$SYS.REQ.SERVER.{id}.RELOAD", ""),
            ("$SYS.REQ.ACCOUNT.nobody.INFO", ""),
            ("$SYS.REQ.ACCOUNT.PING.STATZ", ""),
            ("$SYS.REQ.ACCOUNT.PING.STATZ", r#"{"accounts":["B"]}"#),
            ("$SYS.REQ.ACCOUNT.PING.STATZ", r#"{"include_unused":true}"#),
            ("$SYS.DEBUG.SUBSCRIBERS", "q"),
        ];
        questions.extend(more.map(|(subject, body)| (subject.to_owned(), body)));
        let mut got = Vec::new();
        for (subject, body) in questions {
            got.push((format!("{subject} {body}"), sys.ask(&subject, body)));
        }
        for subject in
            ["$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.ACCOUNT.PING.STATZ"]
        {
            got.push((format!("ann: {subject}"), ann.ask(subject, "")));
        }
        for (name, asker) in [("ann", &mut ann), ("bob", &mut bob), ("sys", &mut sys)] {
            got.push((format!("{name}: $SYS.REQ.USER.INFO"), asker.ask("$SYS.REQ.USER.INFO", "")));
        }
        answers.push(got);
    });
    let [ours, theirs] = &answers[..] else { return };
    for ((question, ours), (_, theirs)) in ours.iter().zip(theirs) {
        let of = |value: &Value| {
            let mut found = members(value);
            found.retain(|member| !NOT_OURS.iter().any(|name| member.contains(&format!(".{name}"))));
            found
        };
        let (mine, wanted) = (of(ours), of(theirs));
        let missing: Vec<_> = wanted.difference(&mine).collect();
        let extra: Vec<_> = mine
            .difference(&wanted)
            .filter(|member| {
                !OURS.iter().any(|name| member.contains(&format!(".{name}:")))
                    && !member.contains(".refusals")
            })
            .collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{question}\nlacks {missing:?}\nhas in addition {extra:?}\nours: {ours}\ntheirs: {theirs}"
        );
        if question.contains("USER.INFO") {
            assert_eq!(ours["data"], theirs["data"], "{question}");
        }
        let code = |answer: &Value| answer["error"]["code"].clone();
        assert_eq!(code(ours), code(theirs), "{question}: {ours}");
        if code(ours) == 500 {
            assert_eq!(ours["error"], theirs["error"], "{question}");
        }
    }
}

#[test]
fn an_account_sees_no_other() {
    both(|daemon, name| {
        let (_sys, mut ann) = (Asker::new(daemon, "sys"), Asker::new(daemon, "ann"));
        let (mut bob, _alf) = (Asker::new(daemon, "bob"), Asker::new(daemon, "alf"));
        for subject in ["$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ"] {
            // Whatever is asked for: the account is the requester's.
            for body in ["", r#"{"acc":"B"}"#, r#"{"acc":"SYS","auth":true}"#] {
                let answer = ann.ask(subject, body);
                let rows = answer["data"]["connections"].as_array().expect("a list");
                let mut names: Vec<_> =
                    rows.iter().map(|row| row["name"].as_str().unwrap_or_default()).collect();
                names.sort_unstable();
                assert_eq!(names, ["alf", "ann"], "{name}: {subject} {body}");
            }
        }
        let statz = bob.ask("$SYS.REQ.ACCOUNT.PING.STATZ", r#"{"accounts":["A"]}"#);
        assert_eq!(statz["data"]["account_statz"].as_array().map(Vec::len), Some(1), "{name}: {statz}");
        assert_eq!(statz["data"]["account_statz"][0]["acc"], "B", "{name}");
        for subject in [
            "$SYS.REQ.SERVER.PING",
            "$SYS.REQ.SERVER.PING.VARZ",
            "$SYS.REQ.SERVER.{id}.KICK",
            "$SYS.REQ.ACCOUNT.A.CONNZ",
            "$SYS.REQ.ACCOUNT.B.INFO",
            "$SYS.REQ.USER.A.INFO",
            "$SYS.DEBUG.SUBSCRIBERS",
        ] {
            assert_eq!(bob.ask(subject, r#"{"cid":1}"#), Value::Null, "{name}: {subject}");
        }
    });
}

#[test]
fn what_a_single_node_has_none_of_is_answered() {
    both(|daemon, name| {
        let mut sys = Asker::new(daemon, "sys");
        for place in ["PING", "{id}"] {
            let mut ask = |word: &str, body: &str| {
                let answer = sys.ask(&format!("$SYS.REQ.SERVER.{place}.{word}"), body);
                assert_eq!(
                    (&answer["server"]["name"], &answer["error"]),
                    (&json!("attic"), &Value::Null),
                    "{name}"
                );
                answer["data"].clone()
            };
            assert_eq!(ask("RAFTZ", ""), json!({}), "{name}");
            assert_eq!(ask("RAFTZ", r#"{"account":"A"}"#), json!({}), "{name}");
            assert!(ask("IPQUEUESZ", "").is_object(), "{name}");
            let expvarz = ask("EXPVARZ", "");
            let members: Vec<_> = expvarz.as_object().expect("an object").keys().collect();
            assert_eq!(members, ["cmdline", "memstats"], "{name}");
            for (body, why) in
                [("", "Profile name not specified"), (r#"{"name":"wing"}"#, "Profile \"wing\" not found")]
            {
                assert_eq!(ask("PROFILEZ", body), json!({"profile": null, "error": why}), "{name}");
            }
        }
    });
}

#[test]
fn requests_for_other_servers_stay_unanswered() {
    both(|daemon, _| {
        let mut sys = Asker::new(daemon, "sys");
        for body in [
            r#"{"server_name":"cellar"}"#,
            r#"{"server_name":"atti","exact_match":true}"#,
            r#"{"host":"10.0"}"#,
            r#"{"cluster":"c"}"#,
            r#"{"tags":["edge","hub"]}"#,
            r#"{"domain":"d"}"#,
        ] {
            sys.ask_in_vain("$SYS.REQ.SERVER.PING.VARZ", body);
        }
        sys.ask_in_vain("$SYS.REQ.ACCOUNT.nobody.STATZ", "");
        sys.ask_in_vain("$SYS.REQ.ACCOUNT.nobody.CONNS", "");
        for body in [
            r#"{"server_name":"ttic"}"#,
            r#"{"server_name":"attic","exact_match":true}"#,
            r#"{"tags":["EDGE"]}"#,
        ] {
            assert_eq!(sys.ask("$SYS.REQ.SERVER.PING.VARZ", body)["data"]["server_name"], "attic");
        }
    });
}

#[test]
fn connections_are_kicked_and_sent_away() {
    both(|daemon, name| {
        let mut sys = Asker::new(daemon, "sys");
        let mut ann = Peer::connect(daemon.address()).expect("a connection");
        let cid = ann.info().expect("a greeting")["client_id"].clone();
        ann.send("CONNECT {\"verbose\":false,\"protocol\":1,\"user\":\"ann\",\"pass\":\"a\"}\r\n");
        ann.fence().expect("let in");
        ann.info().expect("the second INFO");
        let body = json!({"cid": cid}).to_string();
        let done = sys.ask("$SYS.REQ.SERVER.{id}.LDM", &body);
        assert_eq!((&done["data"], &done["error"]), (&Value::Null, &Value::Null), "{name}: {done}");
        assert_eq!(ann.info().expect("an INFO at any time")["ldm"], true, "{name}");
        ann.fence().expect("still there");
        let done = sys.ask("$SYS.REQ.SERVER.{id}.KICK", &body);
        assert_eq!((&done["data"], &done["error"]), (&Value::Null, &Value::Null), "{name}: {done}");
        assert_eq!(ann.rest(), Ok(Vec::new()), "{name}");
        let gone = sys.ask("$SYS.REQ.SERVER.{id}.CONNZ", r#"{"state":1}"#);
        assert_eq!(gone["data"]["connections"][0]["reason"], "Kicked", "{name}: {gone}");
    });
}

#[test]
fn the_configuration_is_read_again() {
    both(|daemon, name| {
        let mut sys = Asker::new(daemon, "sys");
        let file = daemon.directory().join("server.conf");
        std::fs::write(&file, format!("{CONFIG}\nmax_payload: 1000")).expect("written");
        let done = sys.ask("$SYS.REQ.SERVER.{id}.RELOAD", "");
        assert_eq!((&done["data"], &done["error"]), (&Value::Null, &Value::Null), "{name}: {done}");
        let info = Peer::connect(daemon.address()).and_then(|mut peer| peer.info()).expect("a greeting");
        assert_eq!(info["max_payload"], 1000, "{name}");
        std::fs::write(&file, format!("{CONFIG}\nmax_payload: many")).expect("written");
        let done = sys.ask("$SYS.REQ.SERVER.{id}.RELOAD", "");
        assert_eq!(done["error"]["code"], 500, "{name}: {done}");
    });
}

#[test]
fn what_the_server_tells_of_itself() {
    let mut told: Vec<Vec<(String, Value)>> = Vec::new();
    both(|daemon, name| {
        let mut sys = Asker::new(daemon, "sys");
        let id = sys.id.clone();
        let mut events = Vec::new();
        let listen = |sys: &mut Asker, subject: &str| {
            sys.peer.send(&format!("SUB {} 2\r\n", subject.replace("{id}", &id)));
            sys.peer.fence().expect("subscribed");
        };
        let mut hear = |sys: &mut Asker, what: &str| {
            let (subject, event) = sys.next();
            assert!(subject.ends_with(what), "{name}: {subject}");
            events.push((subject.replace(&sys.id, "{id}"), event));
            sys.peer.send("UNSUB 2\r\n");
            // What came meanwhile is the same once more.
            sys.peer.send("PING\r\n");
            while sys.peer.line().expect("a line").expect(what) != "PONG" {}
        };
        listen(&mut sys, "$SYS.ACCOUNT.A.CONNECT");
        let ann = Asker::new(daemon, "ann");
        hear(&mut sys, "CONNECT");
        listen(&mut sys, "$SYS.ACCOUNT.A.DISCONNECT");
        drop(ann);
        hear(&mut sys, "DISCONNECT");
        listen(&mut sys, "$SYS.ACCOUNT.B.SERVER.CONNS");
        let bob = Asker::new(daemon, "bob");
        hear(&mut sys, "SERVER.CONNS");
        listen(&mut sys, "$SYS.SERVER.ACCOUNT.B.CONNS");
        drop(bob);
        hear(&mut sys, "CONNS");
        listen(&mut sys, "$SYS.SERVER.{id}.CLIENT.AUTH.ERR");
        let mut stranger =
            Peer::greeted(daemon.address(), r#"{"user":"ann","pass":"wrong"}"#).expect("a greeting");
        assert_eq!(stranger.rest(), Ok(vec!["-ERR 'Authorization Violation'".to_owned()]), "{name}");
        hear(&mut sys, "AUTH.ERR");
        listen(&mut sys, "$SYS.SERVER.{id}.STATSZ");
        // Nobody need ask: it comes at intervals, or at once if somebody asks for all.
        sys.peer.send(&format!("PUB $SYS.REQ.SERVER.{id}.STATSZ 0\r\n\r\n"));
        hear(&mut sys, "STATSZ");
        listen(&mut sys, "$SYS.SERVER.{id}.LAMEDUCK");
        daemon.signal(midge_tests::script::Signal::Usr2).expect("a signal");
        hear(&mut sys, "LAMEDUCK");
        told.push(events);
    });
    let [ours, theirs] = &told[..] else { return };
    for ((subject, ours), (theirs_on, theirs)) in ours.iter().zip(theirs) {
        assert_eq!(subject, theirs_on);
        let of = |value: &Value| {
            let mut found = members(value);
            found.retain(|member| !NOT_OURS.iter().any(|name| member.contains(&format!(".{name}"))));
            found
        };
        let (mine, wanted) = (of(ours), of(theirs));
        let missing: Vec<_> = wanted.difference(&mine).collect();
        let extra: Vec<_> = mine.difference(&wanted).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{subject}\nlacks {missing:?}\nhas in addition {extra:?}\nours: {ours}\ntheirs: {theirs}"
        );
        assert_eq!((&ours["type"], &ours["reason"]), (&theirs["type"], &theirs["reason"]), "{subject}");
    }
}

#[test]
fn the_end_is_told() {
    let ours = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let mut daemon = Daemon::start(ours, Some(CONFIG), &[]).unwrap_or_else(|why| panic!("{why}"));
    let mut sys = Asker::new(&daemon, "sys");
    sys.peer.send("SUB $SYS.SERVER.*.SHUTDOWN 2\r\n");
    sys.peer.fence().expect("subscribed");
    daemon.signal(midge_tests::script::Signal::Int).expect("a signal");
    let (subject, event) = sys.next();
    assert_eq!((subject, &event["name"]), (format!("$SYS.SERVER.{}.SHUTDOWN", sys.id), &json!("attic")));
}
