//! Clients whose bytes go in frames. What is expected is what nats-server does; the same tests run on it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use midge_tests::daemon::{Daemon, PATIENCE, Program};
use midge_tests::process::Process;
use serde_json::Value;

use crate::node;

const LISTEN: &str = "port: -1, host: 127.0.0.1, no_tls: true";

/// Starts a server of ours, and nats-server, with `inside` in the `websocket` block and `beside` it.
fn both(inside: &str, beside: &str, test: impl Fn(&Daemon, &str)) {
    let ours = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let reference = Program::reference();
    if let Err(why) = &reference {
        // Not through `println`, which is shown only for tests that fail.
        let _ = writeln!(std::io::stderr(), "websocket: reference SKIPPED, {why}");
    }
    for program in std::iter::once(ours).chain(reference) {
        let config = format!("websocket {{ {LISTEN}, {inside} }}\n{beside}");
        let daemon = Daemon::start(program, Some(&config), &[]).unwrap_or_else(|why| panic!("{why}"));
        test(&daemon, &address(&daemon));
    }
}

/// `host:port` of WebSocket.
fn address(daemon: &Daemon) -> String {
    let line =
        daemon.stderr().find(0, PATIENCE, |line| line.contains("websocket clients on")).expect("a listener");
    line.rsplit("//").next().unwrap_or_default().trim().to_owned()
}

/// A client that is frames and nothing else.
struct Peer {
    socket: TcpStream,
    /// What was answered to its request.
    head: String,
    input: Vec<u8>,
}

impl Peer {
    /// Asks for an upgrade, with these headers besides those that it takes.
    fn ask(address: &str, request: &str, headers: &str) -> Self {
        let mut socket = TcpStream::connect(address).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let key = base64::prelude::BASE64_STANDARD.encode([7; 16]);
        let text = format!(
            "{request} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{headers}\r\n"
        );
        socket.write_all(text.as_bytes()).expect("a request");
        let mut peer = Self { socket, head: String::new(), input: Vec::new() };
        let end = loop {
            if let Some(end) = peer.input.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert!(peer.read(), "no answer");
        };
        peer.head = String::from_utf8(peer.input.drain(..end + 4).collect()).expect("text");
        peer
    }

    fn open(address: &str, headers: &str) -> Self {
        let peer = Self::ask(address, "GET /", headers);
        assert!(peer.head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{}", peer.head);
        peer
    }

    fn read(&mut self) -> bool {
        let mut piece = [0; 65536];
        let n = self.socket.read(&mut piece).unwrap_or(0);
        self.input.extend_from_slice(&piece[..n]);
        n > 0
    }

    /// Sends a masked frame.
    fn send(&mut self, first: u8, payload: &[u8]) {
        let key = [1, 2, 3, 4];
        let mut frame = vec![first];
        match u8::try_from(payload.len()) {
            Ok(len @ ..=125) => frame.push(0x80 | len),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(payload.len()).expect("a short frame").to_be_bytes());
            }
        }
        frame.extend(key);
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        let _ = self.socket.write_all(&frame);
    }

    /// The next frame: its first byte and its payload. `None`: the server has closed. A PING is answered and passed over.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let body = match *self.input.as_slice() {
                [_, 126, high, low, ..] => Some((4, usize::from(u16::from_be_bytes([high, low])))),
                [_, len @ ..=125, ..] => Some((2, usize::from(len))),
                [_, 127, _, _, _, _, a, b, c, d, ..] => Some((10, u32::from_be_bytes([a, b, c, d]) as usize)),
                _ => None,
            };
            if let Some((head, len)) = body.filter(|(head, len)| self.input.len() >= head + len) {
                let frame: Vec<u8> = self.input.drain(..head + len).collect();
                if &frame[head..] == b"PING\r\n" {
                    self.send(0x82, b"PONG\r\n");
                    continue;
                }
                return Some((frame[0], frame[head..].to_vec()));
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// Messages until there are this many bytes of them or they end, and what came instead.
    fn text(&mut self, bytes: usize) -> (String, Option<(u8, Vec<u8>)>) {
        let mut text = Vec::new();
        while text.len() < bytes {
            match self.frame() {
                Some((0x82, payload)) => text.extend(payload),
                other => return (String::from_utf8_lossy(&text).into_owned(), other),
            }
        }
        (String::from_utf8_lossy(&text).into_owned(), None)
    }

    fn info(&mut self) -> Value {
        let (_, payload) = self.frame().expect("INFO");
        let text = String::from_utf8(payload).expect("text");
        serde_json::from_str(text.trim().strip_prefix("INFO ").expect("INFO")).expect("JSON")
    }

    /// How the server answers CONNECT with these options.
    fn connect(&mut self, options: &str) -> String {
        self.info();
        self.send(0x82, format!("CONNECT {options}\r\nPING\r\n").as_bytes());
        let (_, payload) = self.frame().expect("an answer");
        String::from_utf8(payload).expect("text").trim_end().to_owned()
    }
}

const QUIET: &str = r#"{"verbose":false}"#;

#[test]
fn frames_carry_operations_in_any_pieces() {
    both("", "", |_, address| {
        let mut peer = Peer::open(address, "");
        assert_eq!(peer.connect(QUIET), "PONG");
        peer.send(0x81, b"SUB a 1\r\nPUB a 5\r\nhello\r\n");
        // One message in three frames, and a ping between two of them.
        peer.send(0x02, b"PUB a 3\r");
        peer.send(0x89, b"still there?");
        peer.send(0x00, b"\nab");
        peer.send(0x80, b"c\r\n");
        let wanted = "MSG a 1 5\r\nhello\r\nMSG a 1 3\r\nabc\r\n";
        let (mut text, mut other) = peer.text(wanted.len());
        if other.is_some() {
            text += &peer.text(wanted.len() - text.len()).0;
        } else {
            other = peer.frame();
        }
        assert_eq!((text.as_str(), other), (wanted, Some((0x8a, b"still there?".to_vec()))));
        let large = "x".repeat(60_000);
        for _ in 0..2 {
            peer.send(0x82, format!("PUB a {}\r\n{large}\r\n", large.len()).as_bytes());
        }
        let wanted = format!("MSG a 1 {}\r\n{large}\r\n", large.len()).repeat(2);
        assert!(peer.text(wanted.len()).0 == wanted);
        // What came before the last words is answered before.
        let mut last = b"PING\r\n".to_vec();
        peer.send(0x82, &last);
        last = 1000_u16.to_be_bytes().to_vec();
        peer.send(0x88, &last);
        assert_eq!(peer.text(usize::MAX), ("PONG\r\n".into(), Some((0x88, last))));
        assert_eq!(peer.frame(), None);
    });
}

#[test]
fn who_breaks_a_rule_is_closed() {
    both("", "", |daemon, address| {
        for (first, payload, rule) in [
            (0xa2, &b""[..], "RSV2 and RSV3 must be clear"),
            (0x83, b"", "unknown opcode 3"),
            (0x80, b"", "invalid continuation frame"),
            (0x09, b"", "control frame does not have final bit set"),
            (0xc2, b"x", "compressed frame received without negotiated permessage-deflate"),
            (0x88, b"x", "close frame payload cannot be 1 byte"),
        ] {
            let mut peer = Peer::open(address, "");
            peer.info();
            peer.send(first, payload);
            // nats-server hangs up; ours says why.
            if let Some((opcode, payload)) = peer.frame() {
                assert_eq!((opcode, &payload[2..]), (0x88, rule.as_bytes()));
                assert_eq!(peer.frame(), None);
            }
            let logged =
                daemon.stderr().find(0, PATIENCE, |line| line.contains(&format!("read error: {rule}")));
            assert!(logged.is_ok_and(|line| line.contains("wid:")), "{rule}");
        }
        let mut peer = Peer::open(address, "");
        peer.info();
        peer.send(0x82, b"PUB a 99999999\r\n");
        let closed = [&1009_u16.to_be_bytes()[..], b"Maximum Message Payload Exceeded"].concat();
        let (text, end) = peer.text(usize::MAX);
        assert_eq!((text.as_str(), end), ("-ERR 'Maximum Payload Violation'\r\n", Some((0x88, closed))));
    });
}

#[test]
fn requests_are_granted_or_refused() {
    let policy =
        "headers { X-Midge: gateway }, allowed_origins: ['https://plant.example'], same_origin: false";
    both(policy, "", |_, address| {
        for (request, headers, status) in [
            ("POST /", "", "405 Method Not Allowed"),
            ("GET /mqtt", "", "404 Not Found"),
            ("GET /", "Origin: https://other.example\r\n", "403 Forbidden"),
            ("GET /", "Origin: https://plant.example:443\r\n", "101 Switching Protocols"),
            ("GET /any/path?q=1", "", "101 Switching Protocols"),
        ] {
            let peer = Peer::ask(address, request, headers);
            assert!(
                peer.head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{request} {headers}{}",
                peer.head
            );
            assert_eq!(peer.head.contains("\r\nX-Midge: gateway\r\n"), status.starts_with("101"));
        }
        let mut bare = Peer::open(address, "Nats-No-Masking: true\r\n");
        assert!(bare.head.contains("Nats-No-Masking: true\r\n"));
        bare.info();
        bare.socket.write_all(b"\x82\x06PING\r\n").expect("a frame");
        assert_eq!(bare.frame(), Some((0x82, b"PONG\r\n".to_vec())));
    });
}

#[test]
fn messages_are_compressed_for_those_who_ask() {
    both("compression: true", "", |_, address| {
        let mut peer =
            Peer::open(address, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n");
        let agreed = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";
        assert!(peer.head.contains(agreed), "{}", peer.head);
        // INFO is longer than what isn't worth it.
        assert_eq!(peer.frame().map(|(first, _)| first), Some(0xc2));
        // Deflated: a block that is stored, and the end of a flush without what is always left out.
        let operations = b"CONNECT {\"verbose\":false}\r\nPING\r\n";
        let len = u16::try_from(operations.len()).expect("a short text");
        let block = [&[0][..], &len.to_le_bytes(), &(!len).to_le_bytes(), operations, &[0]].concat();
        peer.send(0xc2, &block);
        assert_eq!(peer.frame(), Some((0x82, b"PONG\r\n".to_vec())));
        let mut plain = Peer::open(address, "");
        assert_eq!(plain.frame().map(|(first, _)| first), Some(0x82));
    });
}

#[test]
fn credentials_come_in_cookies_and_users_by_their_way() {
    let users = "authorization { users: [
        { user: a, password: b }
        { user: w, password: w, allowed_connection_types: [WEBSOCKET] }
        { user: s, password: s, allowed_connection_types: [STANDARD] }
    ] }";
    both("user_cookie: u, pass_cookie: p", users, |_, address| {
        let cookies = "Cookie: x=1; u=a; p=b\r\n";
        let denied = "-ERR 'Authorization Violation'";
        for (headers, options, answer) in [
            ("", QUIET, denied),
            (cookies, QUIET, "PONG"),
            (cookies, r#"{"verbose":false,"user":"","pass":""}"#, "PONG"),
            (cookies, r#"{"verbose":false,"user":"w","pass":"w"}"#, "PONG"),
            ("", r#"{"verbose":false,"user":"s","pass":"s"}"#, denied),
        ] {
            assert_eq!(Peer::open(address, headers).connect(options), answer, "{headers}{options}");
        }
    });
    both("authorization { token: t }", "", |_, address| {
        assert_eq!(Peer::open(address, "").info()["auth_required"], true);
        assert_eq!(Peer::open(address, "").connect(r#"{"verbose":false,"auth_token":"t"}"#), "PONG");
        assert_eq!(Peer::open(address, "").connect(QUIET), "-ERR 'Authorization Violation'");
    });
    both("no_auth_user: a", users, |_, address| {
        assert_eq!(Peer::open(address, "").connect(QUIET), "PONG");
    });
}

#[test]
fn who_never_asks_is_closed() {
    both("handshake_timeout: '100ms'", "", |_, address| {
        let mut socket = TcpStream::connect(address).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.write_all(b"GET / HTTP/1.1\r\n").expect("half a request");
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 1"));
    });
}

#[test]
fn nats_js_as_browsers_have_it() {
    both("compression: true", "", |_, address| {
        let mut command = node("clients/websocket.mjs");
        // Before version 22, Node has WebSocket for those who ask for it.
        command.env("NODE_OPTIONS", "--experimental-websocket").arg(format!("ws://{address}"));
        let ended = Process::start(&mut command).and_then(Process::end).expect("node ends");
        assert_eq!(ended.stdout, "5\n100000", "{}", ended.stderr);
    });
}
