//! One connection to a hub: what is said, in which order, and what what is heard means.
//!
//! ```text
//!            INFO             INFO again, if the hub said so
//!   Fresh ─────────> Greeted ────────────────────────────────> Up ── LS+, LS-, LMSG ──>
//!     │    CONNECT      │ or at once                            │
//!     └─────────────────┴─────────── Fault ─────────────────────┘
//! ```

use midge_protocol::op::{LeafOp, LeafSub, Message, Queues};

use crate::credentials::Credentials;
use crate::fault::Fault;
use crate::hello::{self, Identity};
use crate::hub::Hub;

/// What servers subscribe to on their links to find out that one leads back to them.
pub const LOOP_PREFIX: &[u8] = b"$LDS.";

/// One connection's conversation with a hub.
pub struct Link {
    identity: Identity,
    credentials: Credentials,
    account: String,
    denied: Vec<String>,
    /// What this server asks for to find loops.
    loop_subject: Vec<u8>,
    phase: Phase,
    hub: Hub,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The hub's INFO must come first.
    Fresh,
    /// CONNECT is said, and the hub's answer to it is awaited.
    Greeted,
    Up,
}

/// What an operation of a hub means.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Nothing.
    Nothing,
    /// Say this. If the second value is true the link is up: all interest is to be announced behind it.
    Say(Vec<u8>, bool),
    /// The hub took this server in: all interest is to be announced. What [`Link::hub`] says counts from now on.
    Up,
    /// What the hub lets through has changed, or where else it is; see [`Link::hub`].
    Changed,
    /// To be answered with PONG.
    Ping,
    /// A PING was answered.
    Pong,
    /// The hub wants messages.
    Wanted(LeafSub<'a>),
    /// The hub wants no more of them.
    Unwanted {
        /// The subject.
        subject: &'a [u8],
        /// The queue group.
        queue: Option<&'a [u8]>,
    },
    /// A message. Its reply is what clients here are to see, and if the second subject is given so is that: streams'
    /// messages travel under the subject where they are delivered.
    Message {
        /// The queue groups of which one member here is to get it.
        queues: Queues<'a>,
        /// The message.
        message: Message<'a>,
        /// The subject that subscribers are to be shown.
        shown: Option<&'a [u8]>,
    },
}

impl Link {
    /// A connection that was just made, from `account` here. `denied` is what the hub need not send, `loop_subject` what
    /// must not come back.
    pub fn new(
        identity: Identity,
        credentials: Credentials,
        account: String,
        denied: Vec<String>,
        loop_subject: Vec<u8>,
    ) -> Self {
        Self {
            identity,
            credentials,
            account,
            denied,
            loop_subject,
            phase: Phase::Fresh,
            hub: Hub::default(),
        }
    }

    /// What the hub said of itself.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The hub has taken this server in.
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// What this server asks for to find loops.
    pub fn loop_subject(&self) -> &[u8] {
        &self.loop_subject
    }

    /// The hub didn't answer CONNECT in time, as those do that have nothing to say. False if that isn't awaited.
    pub fn overdue(&mut self) -> bool {
        let awaited = self.phase == Phase::Greeted;
        if awaited {
            self.phase = Phase::Up;
        }
        awaited
    }

    /// An operation of the hub's.
    pub fn receive<'a>(&mut self, op: LeafOp<'a>) -> Result<Heard<'a>, Fault> {
        match op {
            LeafOp::Err(text) => Err(Fault::Refused(String::from_utf8_lossy(text).into_owned())),
            LeafOp::Info(argument) => self.info(argument),
            _ if self.phase == Phase::Fresh => Err(Fault::WrongPort),
            LeafOp::Ping => Ok(Heard::Ping),
            LeafOp::Pong => Ok(Heard::Pong),
            LeafOp::Ok => Ok(Heard::Nothing),
            LeafOp::Connect(_) => Err(Fault::Unexpected),
            LeafOp::Sub(sub) if sub.subject == self.loop_subject => {
                Err(Fault::Loop { account: self.account.clone() })
            }
            LeafOp::Sub(sub) => Ok(Heard::Wanted(sub)),
            LeafOp::Unsub { subject, queue } => Ok(Heard::Unwanted { subject, queue }),
            LeafOp::Msg { queues, message } => {
                let (reply, shown) = match message.reply.map(split_ack) {
                    Some((reply, shown)) => (Some(reply), shown),
                    None => (None, None),
                };
                Ok(Heard::Message { queues, message: Message { reply, ..message }, shown })
            }
        }
    }

    fn info(&mut self, argument: &[u8]) -> Result<Heard<'static>, Fault> {
        let hub = Hub::parse(argument).ok_or(Fault::Info)?;
        match self.phase {
            Phase::Fresh => {
                if hub.client_id == 0 || hub.leafnode_urls.is_none() {
                    return Err(Fault::WrongPort);
                }
                if hub.cluster.contains(' ') {
                    return Err(Fault::ClusterName);
                }
                let line =
                    hello::connect(&self.identity, &self.credentials, &hub, &self.account, &self.denied);
                let up = !hub.info_on_connect;
                self.phase = if up { Phase::Up } else { Phase::Greeted };
                self.hub = hub;
                Ok(Heard::Say(line, up))
            }
            phase => {
                // A later INFO says what has changed, not all that there is.
                self.hub.import = hub.import.or(self.hub.import.take());
                self.hub.export = hub.export.or(self.hub.export.take());
                self.hub.leafnode_urls = hub.leafnode_urls.or(self.hub.leafnode_urls.take());
                if !hub.remote_account.is_empty() {
                    self.hub.remote_account = hub.remote_account;
                }
                if phase == Phase::Greeted && hub.connect_info {
                    self.phase = Phase::Up;
                    return Ok(Heard::Up);
                }
                Ok(Heard::Changed)
            }
        }
    }
}

/// Takes the subject that a stream's message has out of its reply, `$JS.ACK.…@subject`: it stands behind the first `@` that
/// follows eight dots.
fn split_ack(reply: &[u8]) -> (&[u8], Option<&[u8]>) {
    const DOTS: usize = 8;
    if !reply.starts_with(b"$JS.ACK.") {
        return (reply, None);
    }
    let mut dots = 0usize;
    for (at, byte) in reply.iter().enumerate() {
        match byte {
            b'.' => dots += 1,
            b'@' if dots >= DOTS => {
                let (ack, subject) = reply.split_at(at);
                return (ack, subject.get(1..).filter(|subject| !subject.is_empty()));
            }
            _ => {}
        }
    }
    (reply, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use midge_protocol::limits::Limits;
    use midge_protocol::parse::{Step, leaf_op};
    use proptest::prelude::*;

    fn link() -> Link {
        let identity = Identity { name: "edge".into(), version: "2.15.1".into(), ..Identity::default() };
        Link::new(identity, Credentials::default(), "$G".into(), Vec::new(), b"$LDS.mine".to_vec())
    }

    fn op(line: &str) -> LeafOp<'_> {
        match leaf_op(line.as_bytes(), &Limits::default()) {
            Step::Op(op, _) => op,
            step => panic!("{step:?}"),
        }
    }

    const INFO: &str =
        "INFO {\"server_id\":\"H\",\"client_id\":5,\"leafnode_urls\":[\"h:1\"],\"info_on_connect\":true}\r\n";

    fn up() -> Link {
        let mut link = link();
        assert!(matches!(link.receive(op(INFO)), Ok(Heard::Say(_, false))));
        let answer =
            "INFO {\"connect_info\":true,\"remote_account\":\"A\",\"export\":{\"deny\":[\"x\"]}}\r\n";
        assert_eq!(link.receive(op(answer)), Ok(Heard::Up));
        link
    }

    #[test]
    fn from_info_to_up() {
        let link = up();
        assert!(link.is_up());
        let hub = link.hub();
        assert_eq!((hub.name(), hub.remote_account.as_str()), ("H", "A"));
        assert!(hub.export.is_some() && hub.import.is_none());
    }

    #[test]
    fn hubs_that_answer_nothing_are_up_at_once() {
        let (mut link, mut late) = (link(), link());
        let info = INFO.replace(",\"info_on_connect\":true", "");
        assert!(
            matches!(link.receive(op(&info)), Ok(Heard::Say(line, true)) if line.starts_with(b"CONNECT {"))
        );
        assert!(link.is_up() && !link.overdue());
        assert!(late.receive(op(INFO)).is_ok() && !late.is_up());
        assert!(late.overdue() && late.is_up());
    }

    #[test]
    fn not_a_hub() {
        for line in ["INFO {\"client_id\":5}\r\n", "INFO {\"leafnode_urls\":[]}\r\n", "PING\r\n", "LS+ a\r\n"]
        {
            assert_eq!(link().receive(op(line)), Err(Fault::WrongPort), "{line}");
        }
        assert_eq!(link().receive(op("INFO [\r\n")), Err(Fault::Info));
        let spaces = INFO.replace("\"server_id\":\"H\"", "\"cluster\":\"a b\"");
        assert_eq!(link().receive(op(&spaces)), Err(Fault::ClusterName));
    }

    #[test]
    fn what_ends_it() {
        let fault = up().receive(op("LS+ $LDS.mine\r\n")).unwrap_err();
        assert_eq!(fault.wait().unwrap().as_secs(), 30);
        assert_eq!(
            fault.told().unwrap(),
            "Loop detected for leafnode account=\"$G\". Delaying attempt to reconnect for 30s"
        );
        assert!(up().receive(op("LS+ $LDS.theirs\r\n")).is_ok());
        for (text, wait) in [
            ("Permissions Violation for Publish to \"a\"", Some(30)),
            ("Loop detected for leafnode account=\"$G\"", Some(30)),
            ("Leafnode remote has same cluster name", Some(30)),
            ("connection rejected since minimum version required is 2.99.0", Some(5)),
            ("Authorization Violation", None),
        ] {
            let fault = up().receive(LeafOp::Err(text.as_bytes())).unwrap_err();
            assert_eq!((fault.wait().map(|wait| wait.as_secs()), fault.told()), (wait, None), "{text}");
        }
        assert_eq!(up().receive(op("CONNECT {}\r\n")), Err(Fault::Unexpected));
    }

    #[test]
    fn messages_of_streams_come_under_their_own_subject() {
        let mut link = up();
        for (reply, shown) in [
            ("$JS.ACK.S.C.1.2.3.4.5@plant.temp", Some("plant.temp")),
            ("$JS.ACK.S@x.C.1.2.3.4.5@a@b", Some("a@b")),
            ("$JS.ACK.S.C.1.2.3.4.5", None),
            ("_INBOX.a.b.c.d.e.f.g.h@x", None),
        ] {
            let line = format!("LMSG deliver {reply} 0\r\n\r\n");
            let Ok(Heard::Message { message, shown: seen, .. }) = link.receive(op(&line)) else { panic!() };
            assert_eq!(seen, shown.map(str::as_bytes), "{reply}");
            let bare = shown.map_or(reply, |shown| reply.strip_suffix(&format!("@{shown}")).unwrap());
            assert_eq!(message.reply, Some(bare.as_bytes()));
        }
    }

    #[test]
    fn a_later_info_changes_what_it_names() {
        let mut link = up();
        assert_eq!(link.receive(op("INFO {\"import\":{\"allow\":[\"a\"]}}\r\n")), Ok(Heard::Changed));
        let hub = link.hub();
        assert!(hub.import.is_some() && hub.export.is_some() && hub.leafnode_urls.is_some());
    }

    proptest! {
        /// Whatever a hub sends, nothing panics, and nobody is up who wasn't greeted.
        #[test]
        fn any_operations(lines in prop::collection::vec(prop_oneof![
            Just("INFO {}\r\n"), Just(INFO), Just("INFO {\"connect_info\":true}\r\n"), Just("PING\r\n"), Just("+OK\r\n"),
            Just("LS+ a\r\n"), Just("LS- a\r\n"), Just("LMSG a $JS.ACK.@........@ 0\r\n\r\n"), Just("INFO {\"proto\":\"x\"}\r\n"),
        ], 0..12)) {
            let (mut link, mut greeted) = (link(), false);
            for line in lines {
                let heard = link.receive(op(line));
                greeted |= matches!(heard, Ok(Heard::Say(..)));
                prop_assert!(greeted || !link.is_up());
                if heard.is_err() {
                    break;
                }
            }
        }
    }
}
