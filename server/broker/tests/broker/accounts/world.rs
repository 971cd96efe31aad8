//! A broker, its clients, and a clock that stands still unless told.

use std::sync::Arc;
use std::time::Duration;

use midge_broker::{
    AccountSettings, Broker, CloseReason, ConnId, Directory, Instant, Next, Now, Outbox, Peer, Proof, Secret,
    Session, Settings, User,
};
use midge_protocol::limits::Limits;
use midge_protocol::op::ServerOp;
use midge_protocol::parse::{Step, server_op};

pub(crate) struct World {
    pub(crate) broker: Broker<Arc<Outbox>>,
    pub(crate) now: Now,
}

/// What a client read of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) subject: String,
    pub(crate) sid: String,
    pub(crate) reply: Option<String>,
    pub(crate) header: String,
    pub(crate) payload: String,
}

/// Settings with one user for each account, who has its name and no password.
pub(crate) fn settings(accounts: Vec<AccountSettings>) -> Settings {
    let user = |account: &AccountSettings| {
        let proof = Proof::Secret(Secret::new(""));
        let user = User { proof, account: account.name.clone(), permit: None, welcome: true };
        (account.name.clone(), user)
    };
    let directory = Directory { users: accounts.iter().map(user).collect(), ..Directory::default() };
    Settings { directory, accounts, system_account: None, ..Settings::default() }
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { broker: Broker::new(settings, 7), now: Now::default() }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now.mono + time;
        while let Some(at) = self.broker.deadline().filter(|at| *at <= until) {
            self.now =
                Now { mono: at.max(self.now.mono), wall: at.max(self.now.mono).since(Instant::default()) };
            self.broker.tick(self.now);
            self.broker.flush(self.now, |_, _| {});
        }
        self.now = Now { mono: until, wall: until.since(Instant::default()) };
    }

    pub(crate) fn connect(&mut self, account: &str) -> Client {
        let outbox = Arc::new(Outbox::default());
        let peer = Peer { host: "test".into(), port: 0 };
        let id = self.broker.attach(Arc::clone(&outbox), peer, self.now);
        let mut client = Client { id, session: Session::new(&self.broker, id), outbox };
        let connect = format!(
            r#"CONNECT {{"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"user":"{account}"}}"#
        );
        client.say(self, &connect);
        client
    }
}

pub(crate) struct Client {
    pub(crate) id: ConnId,
    session: Session,
    outbox: Arc<Outbox>,
}

impl Client {
    pub(crate) fn say(&mut self, world: &mut World, lines: &str) {
        let input = format!("{lines}\r\n");
        let received = self.session.receive(&mut world.broker, world.now, input.as_bytes());
        assert!(received.used == input.len() && matches!(received.next, Next::Read(1)), "{received:?}");
        world.broker.flush(world.now, |_, _| {});
    }

    pub(crate) fn publish(&mut self, world: &mut World, subject: &str, reply: &str, payload: &str) {
        self.say(world, &format!("PUB {subject} {reply} {}\r\n{payload}", payload.len()));
    }

    /// The messages that came.
    pub(crate) fn read(&self) -> Vec<Got> {
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
            if let ServerOp::Msg { sid, message } = op {
                messages.push(Got {
                    subject: text(message.subject),
                    sid: text(sid),
                    reply: message.reply.map(text),
                    header: text(message.header()),
                    payload: text(message.payload()),
                });
            }
            rest = &rest[used..];
        }
        messages
    }

    /// The only message that came.
    pub(crate) fn one(&self) -> Got {
        let mut got = self.read();
        assert_eq!(got.len(), 1, "{got:?}");
        got.remove(0)
    }

    pub(crate) fn leave(self, world: &mut World) {
        world.broker.detach(self.id, CloseReason::ClientClosed, world.now);
        world.broker.flush(world.now, |_, _| {});
    }
}
