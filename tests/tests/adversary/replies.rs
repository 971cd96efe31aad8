//! Reply subjects, names and headers that say more than they should.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use midge_tests::daemon::PATIENCE;

use crate::Siege;
use crate::parse::{Op, operations};

const CONFIG: &str = r#"
    accounts {
        A {
            users: [{user: service, password: p}]
            exports: [{service: help, accounts: [B]}]
        }
        B {
            users: [
                {user: sensor, password: p, permissions: {publish: {deny: ["secret", "secret.>"]}}}
                {user: other, password: p}
            ]
            imports: [{service: {account: A, subject: help}, share: true}]
        }
    }
"#;

/// A client whose bytes are looked at one by one.
struct Raw(TcpStream);

impl Raw {
    fn connect(siege: &Siege, user: &str) -> Self {
        let mut socket = TcpStream::connect(siege.daemon.address()).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let connect = format!(
            r#"CONNECT {{"verbose":false,"pedantic":false,"headers":true,"user":"{user}","pass":"p"}}"#
        );
        socket.write_all(format!("{connect}\r\n").as_bytes()).expect("said");
        let mut raw = Self(socket);
        raw.fence();
        raw
    }

    fn send(&mut self, bytes: &[u8]) {
        // A daemon that has closed is no error: reading tells.
        let _ = self.0.write_all(bytes);
    }

    /// All operations to the end, after the last word.
    fn rest(mut self) -> Vec<Op> {
        self.0.shutdown(Shutdown::Write).expect("a socket");
        let mut bytes = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
        operations(&bytes)
    }

    /// All operations up to the answer to a PING, or the end.
    fn fence(&mut self) -> Vec<Op> {
        self.send(b"PING\r\n");
        let mut bytes = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            match self.0.read(&mut chunk) {
                Ok(0) => break,
                Ok(size) => bytes.extend_from_slice(&chunk[..size]),
                Err(error) => {
                    let so_far = String::from_utf8_lossy(&bytes);
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "after {so_far:?}");
                    break;
                }
            }
            if operations(&bytes).last() == Some(&Op::Pong) {
                break;
            }
        }
        operations(&bytes)
    }
}

#[test]
fn no_word_becomes_another_line() {
    let siege = Siege::lay(CONFIG);
    let mut listener = Raw::connect(&siege, "other");
    listener.send(b"SUB > 1\r\n");
    listener.fence();
    let smuggled: [&[u8]; 12] = [
        b"in\rMSG secret 1 0",
        b"in\r\n+OK",
        b"in\nPUB secret 0",
        b"in\tx",
        b"in\x00x",
        b"in\x0bx",
        b"in\x0cx",
        b"in\x1bx",
        b"in\x7fx",
        b"in\xffx",
        b"in\xc2\xa0x",
        b"in\xe2\x80\xa8PUB",
    ];
    for word in smuggled {
        for line in [
            [b"PUB open ", word, b" 2\r\nhi\r\n"].concat(),
            [b"PUB ", word, b" reply 2\r\nhi\r\n"].concat(),
            [b"HPUB open ", word, b" 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"].concat(),
            [b"SUB ", word, b" 7\r\n"].concat(),
            [b"SUB open ", word, b" 8\r\n"].concat(),
            [b"SUB open ", word, b"\r\nPUB open 2\r\nhi\r\n"].concat(),
            [b"UNSUB ", word, b"\r\n"].concat(),
        ] {
            let mut sensor = Raw::connect(&siege, "sensor");
            sensor.send(&line);
            let told = sensor.rest();
            // Whatever it was: an answer is an answer.
            assert!(
                told.iter().all(|op| matches!(op, Op::Err(_) | Op::Pong | Op::Msg { .. } | Op::Info)),
                "{line:?}: {told:?}"
            );
            for op in listener.fence() {
                match op {
                    Op::Msg { subject, payload, .. } => {
                        assert!(!subject.starts_with("secret"), "{line:?} became a message on {subject:?}");
                        assert!(payload.is_empty() || payload == "hi", "{line:?}: {payload:?}");
                    }
                    Op::Pong => {}
                    other => panic!("{line:?}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn answers_stay_on_the_requesters_side() {
    let siege = Siege::lay(CONFIG);
    let mut service = Raw::connect(&siege, "service");
    // Everything that moves in the service's account.
    service.send(b"SUB > 1\r\n");
    service.fence();
    let mut other = Raw::connect(&siege, "other");
    other.send(b"SUB > 1\r\n");
    other.fence();
    for reply in ["secret", "$SYS.REQ.SERVER.PING", "secret.a.b", ">", "*", "_R_", "a..b"] {
        let mut sensor = Raw::connect(&siege, "sensor");
        sensor.send(format!("PUB help {reply} 2\r\nhi\r\n").as_bytes());
        sensor.fence();
        let heard = service.fence();
        let [Op::Msg { subject, reply: made, .. }, Op::Pong] = &heard[..] else {
            panic!("{reply}: {heard:?}")
        };
        assert_eq!(subject, "help");
        // The service never learns where the answer goes.
        assert!(made.starts_with("_R_.") && made.len() == "_R_.123456.1234567890".len(), "{made}");
        service.send(format!("PUB {made} 2\r\nyo\r\nPUB {made} 2\r\nno\r\n").as_bytes());
        // One answer; what the exporter says besides stays with it, and the answer goes to nobody here.
        let own: Vec<_> = service.fence();
        assert!(
            own.iter().all(|op| !matches!(op, Op::Msg { subject, .. } if subject == reply)),
            "{reply}: {own:?}"
        );
        let told: Vec<_> = other
            .fence()
            .into_iter()
            .filter(|op| matches!(op, Op::Msg { subject, .. } if subject == reply))
            .collect();
        assert!(told.len() <= 1, "{reply}: {told:?}");
    }
    // Names of requests can't be guessed, and nobody may ask for answers on them.
    let mut sensor = Raw::connect(&siege, "sensor");
    for reply in ["_R_.AAAAAA.AAAAAAAAAA", "$JS.ACK.S.C.1.1.1.1.1", "_GR_.x.y", "$GR.x"] {
        sensor.send(format!("PUB help {reply} 2\r\nhi\r\n").as_bytes());
        let told = sensor.fence();
        let refused = |op: &Op| matches!(op, Op::Err(text) if text.contains("Publish with Reply"));
        assert!(told.iter().any(refused), "{reply}: {told:?}");
    }
    assert_eq!(service.fence(), [Op::Pong]);
}

#[test]
fn nobody_says_who_asks_but_the_server() {
    let siege = Siege::lay(CONFIG);
    let mut service = Raw::connect(&siege, "service");
    service.send(b"SUB help 1\r\n");
    service.fence();
    for name in ["Nats-Request-Info", "nats-request-info", "NATS-REQUEST-INFO", "Nats-Request-Info "] {
        let mut sensor = Raw::connect(&siege, "sensor");
        let forged = format!("NATS/1.0\r\n{name}: {{\"user\":\"admin\",\"acc\":\"A\"}}\r\n\r\n");
        let size = forged.len();
        sensor.send(format!("HPUB help in.1 {size} {size}\r\n{forged}\r\n").as_bytes());
        sensor.fence();
        let heard = service.fence();
        let [Op::Msg { header, .. }, Op::Pong] = &heard[..] else { panic!("{name}: {heard:?}") };
        assert!(!header.contains("admin"), "{name}: {header}");
        assert!(header.contains(r#""user":"sensor""#) && header.contains(r#""acc":"B""#), "{name}: {header}");
    }
}
