//! A hub that is a stock nats-server, and below it as its leaf node midged or another nats-server: whoever it is, the same
//! is seen from both sides.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use midge_tests::daemon::{Daemon, PATIENCE, Program};
use midge_tests::peer::Peer;
use midge_tests::process::eventually;
use midge_tests::script::Signal;

const OPTIONS: &str = r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#;

/// Starts a hub. The address is that for leaf nodes.
fn hub(config: &str) -> (Daemon, SocketAddr) {
    let program = Program::reference().unwrap();
    let config = format!("server_name: hub\nleafnodes {{ listen: \"127.0.0.1:-1\" }}\n{config}");
    let hub = Daemon::start(program, Some(&config), &[]).unwrap();
    let address = leaf_port(&hub);
    (hub, address)
}

fn leaf_port(hub: &Daemon) -> SocketAddr {
    const SAID: &str = "Listening for leafnode connections on ";
    let line = hub.stderr().find(0, PATIENCE, |line| line.contains(SAID)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// A server that is a leaf node of what is at `hub`.
fn spoke(program: Program, name: &str, hub: &str, more: &str, config: &str) -> Daemon {
    let remotes = format!("leafnodes {{ reconnect: \"100ms\", remotes: [ {{ url: \"{hub}\" {more} }} ] }}");
    let config = format!("server_name: {name}\n{remotes}\n{config}");
    Daemon::start(program, Some(&config), &[]).unwrap()
}

fn client(of: &Daemon) -> Peer {
    client_as(of, OPTIONS)
}

fn client_as(of: &Daemon, options: &str) -> Peer {
    let mut peer = Peer::greeted(of.address(), options).unwrap();
    peer.send("SUB _P.x 99\r\n");
    done(&mut peer);
    peer
}

/// Returns when the server has done all that it was told. No message may be on its way.
fn done(peer: &mut Peer) {
    peer.send("PING\r\n");
    loop {
        match peer.line().unwrap().expect("the connection is open").as_str() {
            "PONG" => return,
            line if line.starts_with("INFO ") => {}
            line => {
                let payload = peer.line().unwrap();
                assert_eq!(payload.as_deref(), Some("probe"), "{line}");
            }
        }
    }
}

/// What comes next that is no probe: the control line, the header's lines if there are any, the payload.
fn message(peer: &mut Peer) -> String {
    loop {
        let line = peer.line().unwrap().expect("the connection is open");
        let answers_a_probe = line.split(' ').nth(2) == Some("99");
        match line.split(' ').next().unwrap_or_default() {
            "MSG" => {
                let payload = peer.line().unwrap().unwrap();
                if payload != "probe" && !answers_a_probe {
                    return format!("{line} {payload}");
                }
            }
            "HMSG" => {
                let mut text = line;
                loop {
                    let header = peer.line().unwrap().unwrap();
                    if header.is_empty() {
                        break;
                    }
                    text = format!("{text} [{header}]");
                }
                let payload = peer.line().unwrap().unwrap();
                if !answers_a_probe {
                    return format!("{text} {payload}");
                }
            }
            "PONG" | "INFO" | "+OK" => {}
            _ => return line,
        }
    }
}

/// Publishes probes until somebody hears them.
fn until_heard(publisher: &mut Peer, subject: &str) {
    let heard = eventually(|| {
        publisher.send(&format!("PUB {subject} _P.x 5\r\nprobe\r\nPING\r\n"));
        let mut heard = true;
        loop {
            let line = publisher.line().unwrap().expect("the connection is open");
            heard &= !line.starts_with("HMSG");
            if line == "PONG" {
                return heard.then_some(());
            }
        }
    });
    heard.unwrap_or_else(|| panic!("nobody hears {subject}"));
}

/// Until nobody hears them.
fn until_unheard(publisher: &mut Peer, subject: &str) {
    let unheard = eventually(|| {
        publisher.send(&format!("PUB {subject} _P.x 5\r\nprobe\r\nPING\r\n"));
        let mut unheard = false;
        loop {
            let line = publisher.line().unwrap().expect("the connection is open");
            unheard |= line.starts_with("HMSG");
            if line == "PONG" {
                return unheard.then_some(());
            }
        }
    });
    unheard.unwrap_or_else(|| panic!("somebody hears {subject}"));
}

/// Until each side has heard of all that the other side's clients asked for so far.
fn both_know(up: &mut Peer, down: &mut Peer, number: u32) {
    up.send(&format!("SUB sync.up.{number} 98\r\n"));
    until_heard(down, &format!("sync.up.{number}"));
    down.send(&format!("SUB sync.down.{number} 97\r\n"));
    until_heard(up, &format!("sync.down.{number}"));
    up.send("UNSUB 98\r\n");
    down.send("UNSUB 97\r\n");
}

fn publish(peer: &mut Peer, subject: &str, payload: &str) {
    peer.send(&format!("PUB {subject} {}\r\n{payload}\r\n", payload.len()));
}

/// What is seen with this program as the leaf node.
fn seen(program: Program) -> Vec<String> {
    let mut seen = Vec::new();
    let (hub, port) = hub("");
    let below =
        spoke(program, "edge", &format!("nats-leaf://{port}"), "", "mappings { \"old.*\": \"new.$1\" }");
    let (mut up, mut down) = (client(&hub), client(&below));

    // Up, and many subscriptions are one message.
    up.send("SUB plant.> 1\r\nSUB plant.*.temp 2\r\n");
    done(&mut up);
    until_heard(&mut down, "plant.attic.temp");
    publish(&mut down, "plant.attic.temp", "21");
    let mut both = [message(&mut up), message(&mut up)];
    both.sort();
    seen.extend(both);

    // Down, with headers and a reply.
    down.send("SUB cmd.* 3\r\n");
    until_heard(&mut up, "cmd.go");
    up.send("HPUB cmd.go re.ply 20 22\r\nNATS/1.0\r\nA: bcd\r\n\r\nhi\r\n");
    seen.push(message(&mut down));
    down.send("HPUB plant.x 20 22\r\nNATS/1.0\r\nA: bcd\r\n\r\nhi\r\n");
    seen.push(message(&mut up));

    // A request each way, and nobody there each way.
    up.send("SUB svc.up 4\r\n");
    until_heard(&mut down, "svc.up");
    down.send("SUB _INBOX.d 5\r\nPUB svc.up _INBOX.d 1\r\n?\r\n");
    seen.push(message(&mut up));
    until_heard(&mut up, "_INBOX.d");
    publish(&mut up, "_INBOX.d", "!");
    seen.push(message(&mut down));
    down.send("SUB svc.down 6\r\n");
    until_heard(&mut up, "svc.down");
    up.send("SUB _INBOX.u 7\r\nPUB svc.down _INBOX.u 1\r\n?\r\n");
    seen.push(message(&mut down));
    until_heard(&mut down, "_INBOX.u");
    publish(&mut down, "_INBOX.u", "!");
    seen.push(message(&mut up));
    for peer in [&mut up, &mut down] {
        peer.send("SUB _INBOX.n 8\r\nPUB no.body _INBOX.n 1\r\n?\r\n");
        seen.push(message(peer));
    }

    // No echo: what was published down here comes back to no one a second time.
    down.send("SUB loop.a 9\r\n");
    up.send("SUB loop.a 10\r\n");
    both_know(&mut up, &mut down, 1);
    publish(&mut down, "loop.a", "once");
    publish(&mut down, "loop.a", "twice");
    seen.extend([message(&mut down), message(&mut down), message(&mut up), message(&mut up)]);

    // Of a queue group one member gets it: one here, if there is one.
    let (mut other_up, mut other_down) = (client(&hub), client(&below));
    other_up.send("SUB job w 11\r\n");
    until_heard(&mut down, "job");
    publish(&mut down, "job", "far");
    seen.push(message(&mut other_up));
    other_down.send("SUB job w 12\r\nSUB job v 13\r\n");
    done(&mut other_down);
    both_know(&mut up, &mut down, 2);
    for number in 0..4 {
        publish(&mut down, "job", &format!("near{number}"));
    }
    done(&mut down);
    for _ in 0..4 {
        let mut both = [message(&mut other_down), message(&mut other_down)];
        both.sort();
        seen.extend(both);
    }
    // The group up there took none of them: the next that it gets is its own.
    publish(&mut up, "job", "above");
    seen.push(message(&mut other_up));
    seen.push(message(&mut other_down));
    other_up.send("UNSUB 11\r\n");
    done(&mut other_up);
    publish(&mut up, "job", "below");
    let mut both = [message(&mut other_down), message(&mut other_down)];
    both.sort();
    seen.extend(both);

    // What is mapped down here is heard up there, and mapped on the way.
    down.send("SUB new.a 14\r\n");
    both_know(&mut up, &mut down, 3);
    publish(&mut up, "old.a", "mapped");
    seen.push(message(&mut down));

    // Who leaves is not heard of any more.
    down.send("UNSUB 3\r\n");
    until_unheard(&mut up, "cmd.go");
    up.send("UNSUB 4\r\n");
    until_unheard(&mut down, "svc.up");
    seen
}

#[test]
fn a_leaf_node_as_nats_servers() {
    let (ours, theirs) = (seen(Program::ours().unwrap()), seen(Program::reference().unwrap()));
    assert_eq!(ours, theirs);
    assert!(ours.len() > 20, "{ours:?}");
}

/// A way to a hub that can be cut, and lead to another.
struct Detour {
    address: SocketAddr,
    to: Arc<Mutex<(SocketAddr, Vec<TcpStream>)>>,
}

impl Detour {
    fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, to) = (listener.local_addr().unwrap(), Arc::new(Mutex::new((to, Vec::new()))));
        let shared = Arc::clone(&to);
        thread::spawn(move || {
            for near in listener.incoming() {
                let Ok(near) = near else { return };
                let mut shared = shared.lock().unwrap();
                let Ok(far) = TcpStream::connect(shared.0) else { continue };
                for (mut from, mut into) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far.try_clone().unwrap(), near.try_clone().unwrap()),
                ] {
                    thread::spawn(move || {
                        let mut buffer = [0; 4096];
                        while let Ok(n @ 1..) = from.read(&mut buffer) {
                            if into.write_all(&buffer[..n]).is_err() {
                                break;
                            }
                        }
                        let _ = into.shutdown(Shutdown::Both);
                    });
                }
                shared.1.push(near);
            }
        });
        Self { address, to }
    }

    /// Ends what goes through, and leads elsewhere from now on.
    fn turn(&self, to: SocketAddr) {
        let mut shared = self.to.lock().unwrap();
        shared.0 = to;
        shared.1.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
}

#[test]
fn a_hub_that_comes_back_hears_everything_again() {
    let (first, port) = hub("");
    let detour = Detour::new(port);
    let url = format!("nats://{}", detour.address);
    let below = spoke(Program::ours().unwrap(), "edge", &url, ", ignore_discovered_servers: true", "");
    let mut down = client(&below);
    down.send("SUB a.b 1\r\nSUB job w 2\r\n");
    let mut up = client(&first);
    until_heard(&mut up, "a.b");
    publish(&mut up, "a.b", "before");
    assert_eq!(message(&mut down), "MSG a.b 1 6 before");
    drop((first, up));

    let (second, port) = hub("");
    detour.turn(port);
    let mut up = client(&second);
    up.send("SUB up.x 3\r\n");
    until_heard(&mut up, "a.b");
    until_heard(&mut up, "job");
    publish(&mut up, "a.b", "after");
    assert_eq!(message(&mut down), "MSG a.b 1 5 after");
    until_heard(&mut down, "up.x");
    publish(&mut down, "up.x", "up");
    assert_eq!(message(&mut up), "MSG up.x 3 2 up");
    // Without a hub, whoever asks for something of it is told.
    drop(second);
    until_unheard(&mut down, "up.x");
}

#[test]
fn what_is_denied_does_not_cross() {
    let users = "accounts { A { users: [ { user: u, password: p, permissions: \
        { publish: { deny: \"hub.no.>\" }, subscribe: { deny: \"sub.no\" } } }, { user: c, password: p } ] } }";
    let (hub, port) = hub(users);
    let url = format!("nats-leaf://u:p@{port}");
    let denies = ", account: B, deny_imports: [\"in.no\"], deny_exports: [\"out.no\"]";
    let accounts =
        "accounts { B { users: [ { user: b, password: p } ] }, C { users: [ { user: c, password: p } ] } }";
    let below = spoke(Program::ours().unwrap(), "edge", &url, denies, accounts);
    let as_user = |user: &str| OPTIONS.replace('{', &format!("{{\"user\":\"{user}\",\"pass\":\"p\","));
    let (mut up, mut down) = (client_as(&hub, &as_user("c")), client_as(&below, &as_user("b")));
    let mut stranger = client_as(&below, &as_user("c"));
    stranger.send("SUB > 1\r\n");
    done(&mut stranger);
    up.send("SUB out.* 1\r\nSUB hub.> 2\r\n");
    down.send("SUB in.* 3\r\nSUB sub.* 4\r\n");
    until_heard(&mut up, "in.yes");
    until_heard(&mut up, "sub.yes");
    until_heard(&mut down, "out.yes");
    until_heard(&mut down, "hub.yes");
    for subject in ["in.no", "sub.no", "in.yes", "sub.yes"] {
        publish(&mut up, subject, "x");
    }
    assert_eq!([message(&mut down), message(&mut down)], ["MSG in.yes 3 1 x", "MSG sub.yes 4 1 x"]);
    for subject in ["out.no", "hub.no.x", "out.yes", "hub.yes"] {
        publish(&mut down, subject, "y");
    }
    assert_eq!([message(&mut up), message(&mut up)], ["MSG out.yes 1 1 y", "MSG hub.yes 2 1 y"]);
    // Another account is another world.
    publish(&mut stranger, "own", "z");
    assert_eq!(message(&mut stranger), "MSG own 1 3 z".replace('3', "1"));
    assert!(!below.stderr().text().contains("Violation"), "the hub was given no reason to complain");
}

#[test]
fn whoever_is_not_let_in_says_so() {
    let (_hub, port) = hub("leafnodes { listen: \"127.0.0.1:-1\", authorization { user: u, password: p } }");
    let below = spoke(Program::ours().unwrap(), "edge", &format!("nats-leaf://u:wrong@{port}"), "", "");
    let refused = |line: &str| line.contains("Authorization Violation");
    below.stderr().find(0, PATIENCE, refused).unwrap();
}

#[test]
fn a_loop_is_found_and_left() {
    // Two hubs that are leaf nodes of each other's, by way of ours.
    let (first, top) = hub("");
    let second = format!(
        "server_name: second\nleafnodes {{ listen: \"127.0.0.1:-1\", remotes: [ {{ url: \"nats-leaf://{top}\" }} ] }}"
    );
    let second = Daemon::start(Program::reference().unwrap(), Some(&second), &[]).unwrap();
    let other = leaf_port(&second);
    let remotes = format!(
        "server_name: edge\nleafnodes {{ remotes: [ {{ url: \"nats-leaf://{top}\" }}, {{ url: \"nats-leaf://{other}\" }} ] }}"
    );
    let below = Daemon::start(Program::ours().unwrap(), Some(&remotes), &[]).unwrap();
    // Which of the three sees its own subject first is chance.
    let all = [&below, &first, &second];
    let found = eventually(|| {
        all.iter()
            .any(|server| server.stderr().text().contains("Loop detected for leafnode account=\"$G\""))
            .then_some(())
    });
    assert!(found.is_some(), "{}", below.stderr().text());
}

#[test]
fn a_reload_names_other_hubs() {
    use midge_tests::target::World as _;
    let ((first, one), (second, two)) = (hub(""), hub(""));
    let config = |port| {
        format!(
            "server_name: edge\nleafnodes {{ reconnect: \"100ms\", remotes: [ {{ url: \"nats-leaf://{port}\" }} ] }}"
        )
    };
    let mut below = Daemon::start(Program::ours().unwrap(), Some(&config(one)), &[]).unwrap();
    let mut down = client(&below);
    down.send("SUB a 1\r\n");
    let (mut up, mut beside) = (client(&first), client(&second));
    until_heard(&mut up, "a");
    below.reload(&config(two)).unwrap();
    until_heard(&mut beside, "a");
    until_unheard(&mut up, "a");
    below.reload("server_name: edge\n").unwrap();
    until_unheard(&mut beside, "a");
    below.kill_with(Signal::Term).unwrap();
    assert!(below.wait(PATIENCE).is_some_and(|status| status.success()));
}

/// A hub whose port for leaf nodes is encrypted and asks for a key.
#[test]
fn an_encrypted_link_with_a_key() {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) =
        (file("cert.pem", issued.cert.pem()), file("key.pem", issued.signing_key.serialize_pem()));
    let user = midge_jwt::KeyPair::new(midge_jwt::Kind::User, &[7; 32]);
    let tls = |first: bool| {
        format!(
            "leafnodes {{ listen: \"127.0.0.1:-1\", authorization {{ nkey: {} }}, tls {{ cert_file: \"{cert}\", \
             key_file: \"{key}\", handshake_first: {first} }} }}",
            user.public()
        )
    };
    for first in [false, true] {
        let (hub, port) = hub(&tls(first));
        let url = format!("tls://localhost:{}", port.port());
        let more =
            format!(", nkey: {}, tls {{ ca_file: \"{cert}\", handshake_first: {first} }}", user.seed());
        let below = spoke(Program::ours().unwrap(), "edge", &url, &more, "");
        let (mut up, mut down) = (client(&hub), client(&below));
        up.send("SUB up 1\r\n");
        down.send("SUB down 2\r\n");
        until_heard(&mut up, "down");
        until_heard(&mut down, "up");
        let body = "x".repeat(200_000);
        publish(&mut down, "up", &body);
        assert_eq!(message(&mut up), format!("MSG up 1 200000 {body}"));
        publish(&mut up, "down", &body);
        assert_eq!(message(&mut down), format!("MSG down 2 200000 {body}"));
    }
    // Who doesn't trust the hub doesn't talk to it.
    let (_hub, port) = hub(&tls(false));
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = file("other.pem", stranger.cert.pem());
    let url = format!("tls://localhost:{}", port.port());
    let more = format!(", nkey: {}, tls {{ ca_file: \"{other}\" }}", user.seed());
    let below = spoke(Program::ours().unwrap(), "edge", &url, &more, "");
    let refused = |line: &str| line.contains("Error trying to connect") && line.contains("certificate");
    below.stderr().find(0, PATIENCE, refused).unwrap();
}

/// Streams of another domain are asked for, read and copied across the link, both ways.
#[test]
fn streams_cross_by_domain() {
    let (hub, port) = hub("jetstream { domain: HUB, store_dir: js }");
    let url = format!("nats-leaf://{port}");
    let below =
        spoke(Program::ours().unwrap(), "edge", &url, "", "jetstream { domain: EDGE, store_dir: js }");
    let (mut up, mut down) = (client(&hub), client(&below));
    until_heard(&mut up, "$JS.EDGE.API.STREAM.INFO.NONE");
    until_heard(&mut down, "$JS.HUB.API.STREAM.INFO.NONE");
    // The reply's subject must be known on the other side before it is used.
    let both_ways = |asker: &mut Peer, other: &mut Peer, reply: &str| {
        asker.send(&format!("SUB {reply} 60\r\n"));
        until_heard(other, reply);
    };
    both_ways(&mut up, &mut down, "_A.d");
    both_ways(&mut down, &mut up, "_A.u");
    let asked = |peer: &mut Peer, reply: &str, subject: &str, body: &str| -> serde_json::Value {
        peer.send(&format!("PUB {subject} {reply} {}\r\n{body}\r\n", body.len()));
        let answer = message(peer);
        let json = answer.find('{').unwrap_or_else(|| panic!("{subject}: {answer}"));
        serde_json::from_str(&answer[json..]).unwrap()
    };
    let created =
        asked(&mut up, "_A.d", "$JS.EDGE.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"]}"#);
    assert_eq!(created["config"]["name"], "S", "{created}");
    until_heard(&mut up, "s.probe");
    let stored = asked(&mut up, "_A.d", "s.a", "one");
    assert_eq!(stored["domain"], "EDGE", "{stored}");
    let copy = r#"{"name":"COPY","sources":[{"name":"S","external":{"api":"$JS.EDGE.API","deliver":""}}]}"#;
    let created = asked(&mut up, "_A.d", "$JS.API.STREAM.CREATE.COPY", copy);
    assert_eq!(created["config"]["name"], "COPY", "{created}");
    let config =
        asked(&mut up, "_A.d", "$JS.API.STREAM.CREATE.CFG", r#"{"name":"CFG","subjects":["cfg.>"]}"#);
    assert_eq!(config["config"]["name"], "CFG", "{config}");
    assert_eq!(asked(&mut up, "_A.d", "cfg.a", "v1")["domain"], "HUB");
    let mirror = r#"{"name":"MIRROR","mirror":{"name":"CFG","external":{"api":"$JS.HUB.API","deliver":""}}}"#;
    let created = asked(&mut down, "_A.u", "$JS.API.STREAM.CREATE.MIRROR", mirror);
    assert_eq!(created["config"]["name"], "MIRROR", "{created}");
    let messages = |value: &serde_json::Value| value["state"]["messages"].as_u64();
    let wanted = messages(&asked(&mut down, "_A.u", "$JS.API.STREAM.INFO.S", ""));
    assert!(wanted >= Some(1), "{wanted:?}");
    let copied = eventually(|| {
        (messages(&asked(&mut up, "_A.d", "$JS.API.STREAM.INFO.COPY", "")) == wanted).then_some(())
    });
    assert!(copied.is_some(), "the hub copies");
    let mirrored = eventually(|| {
        (messages(&asked(&mut down, "_A.u", "$JS.API.STREAM.INFO.MIRROR", "")) == Some(1)).then_some(())
    });
    assert!(mirrored.is_some(), "the mirror fills");
}

/// A hub that takes nothing any more makes nobody here wait.
#[test]
fn a_hub_that_is_stuck_delays_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap();
    let below = spoke(
        Program::ours().unwrap(),
        "edge",
        &format!("nats-leaf://{port}"),
        "",
        "max_pending: 2MB\nwrite_deadline: \"60s\"\n",
    );
    let (mut stuck, _) = listener.accept().unwrap();
    stuck
        .write_all(
            b"INFO {\"server_id\":\"H\",\"client_id\":1,\"headers\":true,\"leafnode_urls\":[]}\r\nLS+ >\r\n",
        )
        .unwrap();
    let (mut publisher, mut reader) = (client(&below), client(&below));
    reader.send("SUB local 1\r\n");
    done(&mut reader);
    until_heard(&mut publisher, "for.the.hub");
    let body = "x".repeat(60_000);
    for _ in 0..400 {
        publish(&mut publisher, "local", &body);
        assert_eq!(message(&mut reader).len(), "MSG local 1 60000 ".len() + body.len());
    }
    let dropped = |line: &str| line.contains("messages for it are dropped");
    below.stderr().find(0, PATIENCE, dropped).unwrap();
    // It is alive again, and the link still the same.
    let (mut rest, mut seen) = (vec![0; 1 << 16], Vec::new());
    stuck.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let heard = eventually(|| {
        while let Ok(n @ 1..) = stuck.read(&mut rest) {
            seen.extend_from_slice(&rest[..n]);
            seen.drain(..seen.len().saturating_sub(1024));
        }
        publish(&mut publisher, "after", "now");
        let wanted = b"LMSG after 3\r\nnow\r\n";
        seen.windows(wanted.len()).any(|bytes| bytes == wanted).then_some(())
    });
    assert!(heard.is_some(), "{:?}", String::from_utf8_lossy(&seen));
}
