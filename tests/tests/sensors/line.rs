//! The serial listener, over pseudo-terminals: devices that are plugged, pulled and noisy.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use midge_client::blocking::Connection;
use midge_client::header::{Block, Field};
use midge_client::serial::Framed;
use midge_client::tcp::Clock;
use midge_client::{Client, Config, Event, Login, Publish, Subject};
use midge_protocol::frame::Encode;
use midge_tests::daemon::{Daemon, PATIENCE, Program};
use midge_tests::peer::Peer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use tempfile::TempDir;

/// A device on a line: the other end of a pseudo-terminal, whose end for the daemon appears under a name of its own when it
/// is plugged. Dropping it pulls the plug.
struct Device {
    name: PathBuf,
    device: File,
    /// Held, so that the terminal is there before the daemon has opened it.
    _line: File,
    heard: Vec<u8>,
}

impl Device {
    fn plug(name: &Path) -> Self {
        let device =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&device).and_then(|()| unlockpt(&device)).expect("its other end");
        let end = ptsname(&device, Vec::new()).expect("a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let line = open(&end, flags, Mode::empty()).expect("its other end");
        symlink(end.to_str().expect("a path"), name).expect("plugged");
        Self { name: name.to_owned(), device: device.into(), _line: line.into(), heard: Vec::new() }
    }

    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.device.write_all(bytes.as_ref()).expect("said");
    }

    /// Says operations, each in a frame.
    fn say_framed(&mut self, operations: &[&str]) {
        let line: Vec<u8> = operations.iter().flat_map(|op| Encode::new(op.as_bytes())).collect();
        self.say(line);
    }

    /// Waits until `wanted` is heard, and gives what came up to its end.
    fn hear(&mut self, wanted: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.heard.windows(wanted.len()).position(|part| part == wanted.as_bytes());
            if let Some(at) = found {
                let rest = self.heard.split_off(at + wanted.len());
                return String::from_utf8_lossy(&std::mem::replace(&mut self.heard, rest)).into_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let ready = poll(&mut [PollFd::new(&self.device, PollFlags::IN)], Some(&timeout)).expect("poll");
            assert!(ready > 0, "no {wanted:?} in {:?}", String::from_utf8_lossy(&self.heard));
            let mut buffer = [0; 512];
            let n = self.device.read(&mut buffer).expect("read");
            self.heard.extend_from_slice(&buffer[..n]);
        }
    }

    /// Returns when all that was said is done.
    fn fence(&mut self) -> String {
        self.say("PING\r\n");
        self.hear("PONG\r\n")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.name);
    }
}

/// A daemon with one line.
struct Scene {
    daemon: Daemon,
    monitor: SocketAddr,
    directory: TempDir,
}

impl Scene {
    /// `line` are keys of the line, `rest` of the file.
    fn new(line: &str, rest: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        let config = format!("serial {{ device: {:?}, {line} }}\n{rest}", directory.path().join("ttyUSB0"));
        let program = Program::ours().unwrap_or_else(|why| panic!("{why}"));
        let flags = ["-m".to_owned(), "-1".to_owned()];
        let daemon = Daemon::start(program, Some(&config), &flags).unwrap_or_else(|why| panic!("{why}"));
        let line = daemon.stderr().find(0, PATIENCE, |line| line.contains("Starting http monitor on"));
        let (_, monitor) = line.as_deref().expect("a monitor").rsplit_once(' ').expect("an address");
        Self { monitor: monitor.parse().expect("an address"), daemon, directory }
    }

    fn name(&self) -> PathBuf {
        self.directory.path().join("ttyUSB0")
    }

    /// Plugs a device and waits for the greeting.
    fn plug(&self) -> Device {
        let mut device = Device::plug(&self.name());
        device.hear("INFO {");
        device.hear("\r\n");
        device
    }

    /// Waits for a log line.
    fn logged(&self, from: usize, words: &str) -> String {
        let line = self.daemon.stderr().find(from, PATIENCE, |line| line.contains(words));
        line.unwrap_or_else(|why| panic!("{words:?}: {why}"))
    }

    fn connections(&self) -> Vec<Value> {
        let mut stream = TcpStream::connect(self.monitor).expect("connected");
        stream.write_all(b"GET /connz?auth=1 HTTP/1.0\r\n\r\n").expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let body: Value = serde_json::from_str(body).expect("JSON");
        body["connections"].as_array().expect("connections").clone()
    }

    fn peer(&self, options: &str) -> Peer {
        let mut peer = Peer::greeted(self.daemon.address(), options).expect("a greeting");
        peer.send("SUB plant.> 1\r\n");
        peer.fence().expect("service");
        peer
    }
}

const QUIET: &str = r#"{"verbose":false}"#;

fn assert_message(peer: &mut Peer, subject: &str, payload: &str) {
    let head = format!("MSG {subject} 1 {}", payload.len());
    for line in [head.as_str(), payload] {
        assert_eq!(peer.line(), Ok(Some(line.into())));
    }
}

#[test]
fn a_device_comes_and_goes() {
    let scene = Scene::new("baud: 9600", "");
    scene.logged(0, "ttyUSB0 is not there, waiting for it");
    let mut peer = scene.peer(QUIET);
    for _ in 0..3 {
        let seen = scene.daemon.stderr().count();
        let mut device = scene.plug();
        scene.logged(seen, "ttyUSB0 is open: 9600 baud, 8N1");
        device.say(
            "CONNECT {\"verbose\":false,\"name\":\"attic\"}\r\nSUB heater 7\r\nPUB plant.attic 4\r\n21.5\r\n",
        );
        assert_message(&mut peer, "plant.attic", "21.5");
        device.fence();
        peer.send("PUB heater 2\r\non\r\n");
        device.hear("MSG heater 7 2\r\non\r\n");
        let name = scene.name().display().to_string();
        let connections = scene.connections();
        let line = connections.iter().find(|conn| conn["ip"] == *name).expect("the line among them");
        assert_eq!(
            (&line["kind"], &line["type"], &line["name"]),
            (&"Client".into(), &"nats".into(), &"attic".into())
        );
        drop(device);
        scene.logged(seen, "ttyUSB0 is lost");
        let deadline = Instant::now() + PATIENCE;
        while scene.connections().len() > 1 {
            assert!(Instant::now() < deadline, "the connection is still there");
        }
    }
}

#[test]
fn noise_costs_what_it_hits_and_the_session_goes_on() {
    let scene = Scene::new("gap: '200ms'", "");
    let mut peer = scene.peer(QUIET);
    let mut device = scene.plug();
    device.say("CONNECT {\"verbose\":false}\r\n");
    let reading = |n: usize| format!("PUB plant.attic 2\r\n{n:02}\r\n");
    let damaged = |n: usize| match n % 5 {
        0 => reading(n).replace("PUB", "P\u{7f}B"),
        1 => reading(n).replace(" 2\r", " 3\r"),
        2 => reading(n).replace(" 2\r", " 1\r"),
        3 => reading(n).replace("attic ", "attic"),
        _ => format!("\u{1}\u{2}{}", reading(n)),
    };
    for n in 0..20 {
        device.say(damaged(n));
        device.say(reading(n));
        assert_message(&mut peer, "plant.attic", &format!("{n:02}"));
    }
    // A size that swallows what follows: silence brings it back.
    device.say(format!("{}{}", reading(40).replace(" 2\r", " 2222\r"), reading(41)));
    assert_message(&mut peer, "plant.attic", "41");
    device.fence();
    scene.logged(0, "ttyUSB0: noise, skipped");
    assert_eq!(scene.connections().len(), 2);
    peer.fence().expect("nothing more than that");
}

#[test]
fn frames_bring_a_message_as_it_was_or_not_at_all() {
    let scene = Scene::new("framing: crc", "");
    let mut peer = scene.peer(QUIET);
    let mut device = scene.plug();
    device.say_framed(&["CONNECT {\"verbose\":false}\r\n", "SUB heater 7\r\n"]);
    for n in 0..20 {
        let payload = format!("PUB plant.forged 1\r\n{n}\r\n");
        let reading = format!("PUB plant.attic {}\r\n{payload}\r\n", payload.len());
        let mut noisy: Vec<u8> = Encode::new(reading.as_bytes()).collect();
        let at = 2 + n * 2;
        noisy[at] ^= if noisy[at] == 0x10 { 0x20 } else { 0x10 };
        device.say(noisy);
        device.say_framed(&[reading.as_str()]);
        let lines = [
            format!("MSG plant.attic 1 {}", payload.len()),
            "PUB plant.forged 1".into(),
            n.to_string(),
            String::new(),
        ];
        for line in lines {
            assert_eq!(peer.line(), Ok(Some(line)));
        }
    }
    peer.send("PUB heater 2\r\non\r\n");
    let frame: Vec<u8> = Encode::new(b"MSG heater 7 2\r\non\r\n").collect();
    let heard = device.hear("MSG heater 7 2\r\non\r\n\0");
    assert!(heard.as_bytes().ends_with(&frame[frame.len() - 10..]));
    scene.logged(0, "a damaged frame");
}

#[test]
fn a_line_may_do_what_is_written_for_it() {
    let users = r#"accounts { A { users: [
        { user: attic, password: "1", permissions { publish: 'plant.attic' } }
        { user: desk, password: "2" } ] } }"#;
    let desk = r#"{"verbose":false,"user":"desk","pass":"2"}"#;
    for line in ["user: attic", "account: A, permissions { publish: 'plant.attic', subscribe { deny: '>' } }"]
    {
        let scene = Scene::new(line, users);
        let mut peer = scene.peer(desk);
        let mut device = scene.plug();
        device.say("PUB plant.attic 1\r\n1\r\nPUB plant.cellar 1\r\n2\r\nPUB plant.attic 1\r\n3\r\n");
        assert_message(&mut peer, "plant.attic", "1");
        assert_message(&mut peer, "plant.attic", "3");
        device.hear("-ERR 'Permissions Violation for Publish to \"plant.cellar\"'\r\n");
        let connections = scene.connections();
        let name = scene.name().display().to_string();
        let on_line = connections.iter().find(|conn| conn["ip"] == *name).expect("the line");
        let user = if line.starts_with("user") { "attic".to_owned() } else { name };
        assert_eq!((&on_line["authorized_user"], &on_line["account"]), (&user.into(), &"A".into()));
    }
    // A line that tells nothing is treated as TCP is; and the next line of the device begins another session.
    let scene = Scene::new("", users);
    let mut device = scene.plug();
    device.say("PUB plant.attic 1\r\n1\r\n");
    device.hear("-ERR 'Authorization Violation'\r\n");
    let mut peer = scene.peer(desk);
    device.say("CONNECT {\"user\":\"attic\",\"pass\":\"1\"}\r\nPUB plant.attic 1\r\n2\r\n");
    assert_message(&mut peer, "plant.attic", "2");
}

#[test]
fn a_device_that_begins_again_gets_a_new_session() {
    let mut scene = Scene::new("", "");
    let mut device = scene.plug();
    device.say("CONNECT {\"verbose\":false}\r\nSUB plant.> 1\r\n");
    device.fence();
    device.say("PUB plant.last 0\r\n\r\nINFO {}\r\n");
    device.hear("INFO {");
    device.hear("\r\n");
    device.say("CONNECT {\"verbose\":false}\r\nSUB plant.> 2\r\nPUB plant.new 0\r\n\r\n");
    device.hear("MSG plant.new 2 0\r\n\r\n");
    assert!(!device.fence().contains("plant.new 1"), "what the old session asked for is gone");
    // The daemon begins again: it greets, and the device goes on from there.
    scene.daemon.kill();
    scene.daemon.restart().expect("restarted");
    device.hear("INFO {");
    device.hear("\r\n");
    let mut peer = Peer::greeted(scene.daemon.address(), QUIET).expect("a greeting");
    peer.send("SUB plant.> 1\r\n");
    peer.fence().expect("service");
    device.say("PUB plant.attic 1\r\n4\r\n");
    assert_message(&mut peer, "plant.attic", "4");
}

/// The device's end as a UART of embedded-io, whose reads end after a while.
struct Uart<'a>(&'a File);

impl embedded_io::ErrorType for Uart<'_> {
    type Error = std::io::Error;
}

impl embedded_io::Read for Uart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, std::io::Error> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        match poll(&mut [PollFd::new(self.0, PollFlags::IN)], Some(&timeout))? {
            0 => Err(std::io::ErrorKind::TimedOut.into()),
            _ => self.0.read(buffer),
        }
    }
}

impl embedded_io::Write for Uart<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, std::io::Error> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> Result<(), std::io::Error> {
        Ok(())
    }
}

/// A board with the client for microcontrollers, on a line: its readings go into a stream until they are acknowledged, it answers
/// requests, and the daemon is killed meanwhile.
#[test]
fn a_board_on_a_line_loses_nothing_that_was_acknowledged() {
    const READINGS: usize = 30;
    let mut scene = Scene::new("framing: crc", "jetstream { store_dir: store }");
    let mut host = Peer::greeted(scene.daemon.address(), QUIET).expect("a greeting");
    let stream = r#"{"name":"R","subjects":["plant.>"],"storage":"file"}"#;
    host.send(&format!("SUB box 1\r\nPUB $JS.API.STREAM.CREATE.R box {}\r\n{stream}\r\n", stream.len()));
    let head = host.line().expect("an answer").expect("a connection");
    assert!(head.starts_with("MSG box 1"), "{head}");
    let created = host.line().expect("an answer").expect("a connection");
    assert!(!created.contains("error"), "{created}");

    let device = Device::plug(&scene.name());
    let (mut receive, mut transmit, mut frame) = ([0; 1024], [0; 512], [0; 2048]);
    let clock = Clock::start();
    let mut client = Client::<2, 2>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
    let heater = client.subscribe("heater", None).expect("a place in the table");
    let login = Login::default();
    let (mut acknowledged, mut answered, mut killed) = (0, 0, false);
    let end = Instant::now() + PATIENCE * 3;
    while acknowledged < READINGS || answered < 2 {
        let mut connection =
            Connection::new(&mut client, Framed::new(Uart(&device.device), &mut frame), &login, clock.now());
        let mut waiting = None;
        let mut connected = false;
        while acknowledged < READINGS || answered < 2 {
            assert!(Instant::now() < end, "{acknowledged} acknowledged, {answered} answered");
            if acknowledged == READINGS / 2 && !killed {
                killed = true;
                scene.daemon.kill();
                scene.daemon.restart().expect("restarted");
                host = Peer::greeted(scene.daemon.address(), QUIET).expect("a greeting");
                host.send("SUB box 1\r\n");
            }
            let Ok(event) = connection.next(clock.now()) else { break };
            match event {
                Some(Event::Connected) => {
                    connected = true;
                    host.send("PUB heater box 2\r\non\r\n");
                }
                Some(Event::Message { sid, .. }) if sid == heater => {
                    if connection.respond(b"warming").is_err() {
                        break;
                    }
                    while host.line().expect("an answer").expect("a connection") != "warming" {}
                    answered += 1;
                }
                Some(Event::Answer { .. }) => {
                    acknowledged += 1;
                    waiting = None;
                }
                Some(Event::Expired { .. } | Event::NoResponders { .. }) => waiting = None,
                _ => {}
            }
            if connected && waiting.is_none() && acknowledged < READINGS {
                let (subject, id) = (format!("plant.{acknowledged}"), acknowledged.to_string());
                let fields = [Field::new("Nats-Msg-Id", &id)];
                let block = Block::new(&fields).expect("headers");
                let reading = Publish {
                    header: Some(&block),
                    ..Publish::new(Subject::new(subject.as_bytes()).expect("a subject"), b"21.5")
                };
                match connection.request(&reading, clock.now().after_ms(500)) {
                    Ok(token) => waiting = Some(token),
                    Err(_) => break,
                }
            }
        }
    }
    assert!(killed);
    host.send("PUB $JS.API.STREAM.INFO.R box 0\r\n\r\n");
    let info = loop {
        let line = host.line().expect("an answer").expect("a connection");
        if line.starts_with('{') {
            break line;
        }
    };
    let info: Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!(info["state"]["num_subjects"], READINGS, "{info}");
}
