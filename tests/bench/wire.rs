//! The bytes that a generator says, in NATS' text protocol and in MQTT 3.1.1 at QoS 0.
//!
//! Subjects are written as NATS has them; [`Wire::Mqtt`] makes topics of them. Subjects and payloads of this program
//! hold no `P`: that is how a reader tells a server's PING among a million deliveries without parsing them.

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Nats,
    Mqtt,
}

/// What a server says to a client of NATS at times of its own choice.
pub(crate) const PING: &[u8] = b"PING\r\n";
/// The answer to it.
pub(crate) const PONG: &[u8] = b"PONG\r\n";
/// A subscription's name on the wire: connections of this program have few.
const SID: &str = "1";

impl Wire {
    /// The first words of a client.
    pub(crate) fn hello(self) -> Vec<u8> {
        match self {
            Self::Nats => {
                b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n"
                    .to_vec()
            }
            // Protocol level 4, clean session, no keep-alive, an identifier of the server's choice.
            Self::Mqtt => {
                packet(0x10, &[text("MQTT").as_slice(), &[4, 2, 0, 0], text("").as_slice()].concat())
            }
        }
    }

    /// Asks for `filter`. `number` tells subscriptions of one connection apart.
    pub(crate) fn subscribe(self, filter: &str, queue: Option<&str>, number: u64) -> Vec<u8> {
        match self {
            Self::Nats => {
                let queue = queue.map(|queue| format!(" {queue}")).unwrap_or_default();
                format!("SUB {filter}{queue} {number}\r\n").into_bytes()
            }
            Self::Mqtt => {
                // Packet identifiers are 16 bits wide, and not 0.
                let id = u16::try_from(number % 65_535 + 1).unwrap_or(1).to_be_bytes();
                packet(0x82, &[id.as_slice(), &text(&topic(filter)), &[0]].concat())
            }
        }
    }

    /// Publishes `payload`.
    pub(crate) fn publish(self, subject: &str, reply: Option<&str>, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::Nats => {
                let reply = reply.map(|reply| format!(" {reply}")).unwrap_or_default();
                let line = format!("PUB {subject}{reply} {}\r\n", payload.len());
                [line.as_bytes(), payload, b"\r\n"].concat()
            }
            Self::Mqtt => packet(0x30, &[text(&topic(subject)).as_slice(), payload].concat()),
        }
    }

    /// Bytes of a message as a subscriber gets it, whose subscription is called 1.
    pub(crate) fn delivered(self, subject: &str, reply: Option<&str>, payload: usize) -> usize {
        match self {
            Self::Nats => {
                let reply = reply.map(|reply| format!(" {reply}")).unwrap_or_default();
                format!("MSG {subject} {SID}{reply} {payload}\r\n").len() + payload + 2
            }
            Self::Mqtt => self.publish(subject, reply, &vec![0; payload]).len(),
        }
    }

    /// Bytes behind a delivered payload.
    pub(crate) fn trailer(self) -> usize {
        match self {
            Self::Nats => 2,
            Self::Mqtt => 0,
        }
    }

    /// Asks for a word that comes once all before it was heard.
    pub(crate) fn fence(self) -> &'static [u8] {
        match self {
            Self::Nats => PING,
            Self::Mqtt => &[0xc0, 0],
        }
    }

    /// That word.
    pub(crate) fn fenced(self) -> &'static [u8] {
        match self {
            Self::Nats => PONG,
            Self::Mqtt => &[0xd0, 0],
        }
    }
}

fn topic(subject: &str) -> String {
    subject.replace('.', "/").replace('*', "+").replace('>', "#")
}

/// A string of MQTT: its length before it.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("names of this program are short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut rest = body.len();
    loop {
        let seven = u8::try_from(rest % 128).expect("a remainder of 128");
        rest /= 128;
        packet.push(if rest > 0 { seven | 0x80 } else { seven });
        if rest == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nats() {
        let wire = Wire::Nats;
        assert_eq!(wire.subscribe("a.*", Some("q"), 1), b"SUB a.* q 1\r\n");
        assert_eq!(wire.publish("a.b", Some("c"), b"xy"), b"PUB a.b c 2\r\nxy\r\n");
        assert_eq!(wire.delivered("a.b", Some("c"), 2), b"MSG a.b 1 c 2\r\nxy\r\n".len());
    }

    #[test]
    fn mqtt() {
        let wire = Wire::Mqtt;
        assert_eq!(wire.hello(), b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00");
        assert_eq!(wire.subscribe("a.*.>", None, 1), b"\x82\x0a\x00\x02\x00\x05a/+/#\x00");
        assert_eq!(wire.publish("a.b", None, b"xy"), b"\x30\x07\x00\x03a/bxy");
        let long = wire.publish("a", None, &[b'x'; 200]);
        assert_eq!(long[..6], *b"\x30\xcb\x01\x00\x01a");
        assert_eq!(wire.delivered("a", None, 200), long.len());
    }
}
