//! Those who take their time: a byte a second. Time passes in the simulated world.

use std::time::Duration;

use midge_tests::sim::Sim;
use midge_tests::target::{Read, Wire, World as _};

const SECOND: Duration = Duration::from_secs(1);
const MANY: usize = 500;

struct Slow {
    wire: Box<dyn Wire>,
    text: Vec<u8>,
    sent: usize,
    read: Vec<u8>,
    ended_after: Option<u64>,
}

impl Slow {
    fn new(sim: &mut Sim, text: &str) -> Self {
        let wire = sim.connect().expect("a connection");
        Self { wire, text: text.into(), sent: 0, read: Vec::new(), ended_after: None }
    }

    /// Sends the next byte and reads what there is.
    fn step(&mut self, second: u64) {
        if self.ended_after.is_some() {
            return;
        }
        if let Some(byte) = self.text.get(self.sent) {
            self.wire.send(&[*byte]);
            self.sent += 1;
        }
        while let read @ (Read::Bytes | Read::Eof) = self.wire.read(&mut self.read, Duration::ZERO) {
            if read == Read::Eof {
                self.ended_after = Some(second);
                return;
            }
        }
    }

    fn says(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.read).contains(text)
    }
}

/// A client that answers pings.
fn answers(wire: &mut Box<dyn Wire>) {
    let mut read = Vec::new();
    while wire.read(&mut read, Duration::ZERO) == Read::Bytes {}
    let pings = read.windows(6).filter(|bytes| bytes == b"PING\r\n").count();
    wire.send("PONG\r\n".repeat(pings).as_bytes());
}

#[test]
fn credentials_a_byte_a_second() {
    let mut sim = Sim::start(Some("authorization { user: u, password: p }"), &[]).expect("a server");
    let mut good = sim.connect().expect("a connection");
    good.send(b"CONNECT {\"user\":\"u\",\"pass\":\"p\",\"verbose\":false}\r\n");
    let mut slow: Vec<_> =
        (0..MANY).map(|_| Slow::new(&mut sim, "CONNECT {\"user\":\"u\",\"pass\":\"p\"}\r\n")).collect();
    for second in 0..10 {
        slow.iter_mut().for_each(|it| it.step(second));
        sim.advance(SECOND);
        answers(&mut good);
    }
    // The time for CONNECT is two seconds in all, not for each byte.
    assert!(slow.iter().all(|it| it.ended_after <= Some(3) && it.says("'Authentication Timeout'")));
    good.send(b"PING\r\n");
    let mut read = Vec::new();
    while good.read(&mut read, SECOND) == Read::Bytes {}
    assert!(read.ends_with(b"PONG\r\n"));
}

#[test]
fn messages_and_control_lines_a_byte_a_second() {
    let mut sim = Sim::start(Some("ping_interval: 60, ping_max: 2"), &[]).expect("a server");
    let mut good = sim.connect().expect("a connection");
    good.send(b"CONNECT {\"verbose\":false}\r\n");
    let message = format!("PUB a 1000000\r\n{}", "x".repeat(2_000));
    let mut slow: Vec<_> = (0..MANY)
        .map(|number| {
            let line = format!("SUB {}", "a".repeat(2_000));
            Slow::new(&mut sim, if number % 2 == 0 { &message } else { &line })
        })
        .collect();
    for second in 0..600 {
        slow.iter_mut().for_each(|it| it.step(second));
        sim.advance(SECOND);
        answers(&mut good);
    }
    // In the middle of an operation nobody can answer a ping.
    assert!(slow.iter().all(|it| it.ended_after.is_some() && it.says("'Stale Connection'")));
    good.send(b"PING\r\n");
    let mut read = Vec::new();
    while good.read(&mut read, SECOND) == Read::Bytes {}
    assert!(read.ends_with(b"PONG\r\n"));
}
