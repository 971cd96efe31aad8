//! Who gets which message: random sessions on a broker beside a model that fits on a page.

use std::collections::BTreeMap;
use std::sync::Arc;

use midge_broker::{Broker, CloseReason, ConnId, Next, Now, Outbox, Peer, Session, Settings};
use midge_protocol::limits::Limits;
use midge_protocol::op::ServerOp;
use midge_protocol::parse::{Step, server_op};
use proptest::prelude::*;
use proptest::sample::select;

/// What a client does. Clients and sids are few, so that they meet often.
#[derive(Clone, Debug)]
enum Act {
    Open { echo: bool },
    Sub { filter: String, queue: Option<&'static str>, sid: u8 },
    Unsub { sid: u8, max: Option<u64> },
    Publish { subject: String },
    Close,
}

const CLIENTS: usize = 4;

fn act() -> impl Strategy<Value = Act> {
    let token = || select(vec!["a", "b", "c"]);
    let subject = prop::collection::vec(token(), 1..4).prop_map(|tokens| tokens.join("."));
    let wild = prop::collection::vec(select(vec!["a", "b", "*"]), 0..3);
    let filter = (wild, select(vec!["a", "b", "c", "*", ">"])).prop_map(|(mut tokens, last)| {
        tokens.push(last);
        tokens.join(".")
    });
    let queue = prop::option::of(select(vec!["q", "r"]));
    let sid = || 0..5_u8;
    prop_oneof![
        2 => any::<bool>().prop_map(|echo| Act::Open { echo }),
        6 => (filter, queue, sid()).prop_map(|(filter, queue, sid)| Act::Sub { filter, queue, sid }),
        2 => (sid(), prop::option::of(1..4_u64)).prop_map(|(sid, max)| Act::Unsub { sid, max }),
        9 => subject.prop_map(|subject| Act::Publish { subject }),
        1 => Just(Act::Close),
    ]
}

proptest! {
    #[test]
    fn everyone_gets_what_is_theirs(acts in prop::collection::vec((0..CLIENTS, act()), 1..120), seed: u64) {
        let mut broker = Broker::new(Settings { system_account: None, ..Settings::default() }, seed);
        let mut clients = [(); CLIENTS].map(|()| Some(Client::open(&mut broker, true)));
        let mut model = Model { echo: [true; CLIENTS], ..Model::default() };
        for (number, (slot, act)) in acts.into_iter().enumerate() {
            let line = match &act {
                Act::Open { .. } | Act::Close => None,
                Act::Sub { filter, queue, sid } => Some(format!("SUB {filter} {} {sid}", queue.unwrap_or(""))),
                Act::Unsub { sid, max } => {
                    Some(format!("UNSUB {sid} {}", max.map(|max| max.to_string()).unwrap_or_default()))
                }
                Act::Publish { subject } => {
                    let payload = number.to_string();
                    Some(format!("PUB {subject} {}\r\n{payload}", payload.len()))
                }
            };
            match (&act, &mut clients[slot], line) {
                (Act::Open { echo }, vacant @ None, _) => {
                    *vacant = Some(Client::open(&mut broker, *echo));
                    model.echo[slot] = *echo;
                }
                (Act::Close, open @ Some(_), _) => {
                    open.take().into_iter().for_each(|client| client.close(&mut broker));
                    model.subs.retain(|(owner, _), _| *owner != slot);
                }
                (_, Some(client), Some(line)) => client.say(&mut broker, &line),
                _ => continue,
            }
            let mut got = Vec::new();
            for (slot, client) in clients.iter().enumerate() {
                for (subject, sid, payload) in client.iter().flat_map(Client::read) {
                    prop_assert_eq!(&payload, &number.to_string());
                    let is_this = matches!(&act, Act::Publish { subject: sent } if *sent == subject);
                    prop_assert!(is_this, "{} for {:?}", subject, act);
                    got.push((slot, sid));
                }
            }
            got.sort_unstable();
            match act {
                Act::Sub { filter, queue, sid } => model.subscribe((slot, sid), filter, queue),
                Act::Unsub { sid, max } => model.unsubscribe((slot, sid), max),
                Act::Publish { subject } => model.publish(slot, &subject, &got)?,
                Act::Open { .. } | Act::Close => prop_assert!(got.is_empty()),
            }
            let subs = broker.accounts().map(|account| account.router().len()).sum::<usize>();
            prop_assert_eq!(subs, model.subs.len());
        }
        clients.into_iter().flatten().for_each(|client| client.close(&mut broker));
        prop_assert!(broker.accounts().all(|account| account.router().is_empty()));
        prop_assert_eq!(broker.open(), 0);
    }
}

#[derive(Default)]
struct Model {
    echo: [bool; CLIENTS],
    /// By client and sid.
    subs: BTreeMap<(usize, u8), Sub>,
}

struct Sub {
    filter: String,
    queue: Option<&'static str>,
    delivered: u64,
    max: Option<u64>,
}

impl Model {
    fn subscribe(&mut self, key: (usize, u8), filter: String, queue: Option<&'static str>) {
        self.subs.entry(key).or_insert(Sub { filter, queue, delivered: 0, max: None });
    }

    fn unsubscribe(&mut self, key: (usize, u8), max: Option<u64>) {
        if let Some(sub) = self.subs.get_mut(&key) {
            sub.max = Some(max.unwrap_or(0));
        }
        self.end();
    }

    /// Checks that those who `got` a message are those who should have: every plain subscription that wants it, and
    /// one member of every group that has any.
    fn publish(&mut self, from: usize, subject: &str, got: &[(usize, u8)]) -> Result<(), TestCaseError> {
        let mut groups: BTreeMap<&str, Vec<(usize, u8)>> = BTreeMap::new();
        let mut plain = Vec::new();
        for (key, sub) in &self.subs {
            if (key.0 != from || self.echo[from]) && wants(&sub.filter, subject) {
                match sub.queue {
                    None => plain.push(*key),
                    Some(queue) => groups.entry(queue).or_default().push(*key),
                }
            }
        }
        let (served, single): (Vec<_>, Vec<_>) =
            got.iter().partition(|key| self.subs.get(key).is_some_and(|sub| sub.queue.is_some()));
        prop_assert_eq!(single, plain);
        for (queue, members) in &groups {
            let served = served.iter().filter(|key| members.contains(key)).count();
            prop_assert_eq!(served, 1, "of group {}: {:?}", queue, members);
        }
        prop_assert_eq!(served.len(), groups.len());
        for key in got {
            self.subs.get_mut(key).into_iter().for_each(|sub| sub.delivered += 1);
        }
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        self.subs.retain(|_, sub| sub.max.is_none_or(|max| sub.delivered < max));
    }
}

fn wants(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(wanted), Some(token)) if wanted == "*" || wanted == token => {}
            _ => return false,
        }
    }
}

struct Client {
    id: ConnId,
    session: Session,
    outbox: Arc<Outbox>,
}

impl Client {
    fn open(broker: &mut Broker<Arc<Outbox>>, echo: bool) -> Self {
        let outbox = Arc::new(Outbox::default());
        let id = broker.attach(Arc::clone(&outbox), Peer { host: "model".into(), port: 0 }, Now::default());
        let mut client = Self { id, session: Session::new(broker, id), outbox };
        client.say(broker, &format!(r#"CONNECT {{"verbose":false,"pedantic":false,"echo":{echo}}}"#));
        client
    }

    fn say(&mut self, broker: &mut Broker<Arc<Outbox>>, line: &str) {
        let input = format!("{line}\r\n");
        let received = self.session.receive(broker, Now::default(), input.as_bytes());
        assert!(received.used == input.len() && matches!(received.next, Next::Read(1)), "{received:?}");
        broker.flush(Now::default(), |_, _| {});
    }

    /// Subject, sid and payload of each message that came.
    fn read(&self) -> Vec<(String, u8, String)> {
        let Some(mut batch) = self.outbox.take() else { return Vec::new() };
        let bytes: Vec<u8> = batch.slices().flatten().copied().collect();
        batch.advance(bytes.len());
        self.outbox.put_back(batch, bytes.len());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (mut rest, mut messages) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let Step::Op(op, used) = server_op(rest, &Limits::default()) else {
                panic!("no operation: {:?}", text(rest));
            };
            match op {
                ServerOp::Msg { sid, message } => {
                    let sid = text(sid).parse().expect("a sid that was given");
                    messages.push((text(message.subject), sid, text(message.payload())));
                }
                ServerOp::Info(_) => {}
                other => panic!("nobody asked for {other:?}"),
            }
            rest = &rest[used..];
        }
        messages
    }

    fn close(self, broker: &mut Broker<Arc<Outbox>>) {
        broker.detach(self.id, CloseReason::ClientClosed, Now::default());
    }
}
