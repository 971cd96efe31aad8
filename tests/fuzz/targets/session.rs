//! Sessions on a broker with small limits: whatever some clients send, in whatever pieces, nothing panics, nothing
//! grows beyond its limit, each client reads whole operations, and nothing stays behind when all are gone.
//!
//! The input is a list of acts: a byte says what happens and to which of four connections, the next one how much.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::task::{Context, Waker};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use midge_broker::{
    Answer, Attention, Broker, CloseReason, ConnId, Instant, Next, Now, Outbox, Peer, Question, ServerInfo,
    Session, Settings,
};
use midge_config::{MemoryFiles, World, load_text};
use midge_protocol::limits::Limits;
use midge_protocol::parse::{Step, server_op};

const CONFIGS: [&str; 5] = [
    "max_payload: 64, max_pending: 512, max_control_line: 128, max_subscriptions: 4, max_connections: 3",
    "max_payload: 512, max_pending: 2048, no_fast_producer_stall: true, ping_interval: 1s
     mappings { a: b, \"m.*\": [ { destination: \"x.$1\", weight: 50% }, { destination: a, weight: 20% } ] }",
    "max_payload: 1024, max_pending: 4096, debug: true, trace: true, max_subscription_tokens: 3
     accounts {
       A { users: [ { user: a, password: a, permissions: {
             publish: { allow: [ \"a.>\", b ], deny: a.b }, subscribe: { allow: [ \">\" ], deny: [ a.c, \"d q\" ] },
             allow_responses: { max: 2, expires: 1s } } } ] }
       B { users: [ { user: b, password: b, permissions: { publish: r, allow_responses: true } } ]
           limits: { max_payload: 16, max_subscriptions: 2, max_connections: 2 } } }
     no_auth_user: a",
    "max_payload: 2048, authorization { timeout: 1, users: [ { user: a, password: a }
       { nkey: UAWXCFSCW4TLARABMJ6KT65MGL24QUYPWGIDZRG3AISYOF4SDJEICORQ }
       { user: c, password: \"$2a$04$F7I82Wz.N6mOAcMeFnJFBO8zePvBSgdjLmWJS2enLuDw8F3Xi56Uq\" } ] }",
    "max_payload: 1024, max_pending: 8192, system_account: S
     accounts {
       A { users: [ { user: a, password: a } ]
           exports: [ { stream: \"o.>\" }, { service: r, response: stream, threshold: 1s }
                      { service: \"s.*\", latency: { subject: l, sampling: 100 } } ] }
       B { users: [ { user: b, password: b, permissions: { subscribe: { deny: \"i.d\" } } } ]
           imports: [ { stream: { account: A, subject: \"o.*\" }, to: \"i.$1\" }, { service: { account: A, subject: r } }
                      { service: { account: A, subject: \"s.*\" }, to: \"t.*\", share: true } ]
           exports: [ { service: \"t.*\" } ] }
       S { users: [ { user: s, password: s } ], imports: [ { service: { account: B, subject: \"t.*\" } } ] } }
     no_auth_user: b",];

fuzz_target!(|data: &[u8]| {
    let [config, acts @ ..] = data else { return };
    let mut acts = acts;
    let mut world = Server::new(settings(*config));
    while let [act, amount, rest @ ..] = acts {
        acts = rest;
        let (slot, amount) = (usize::from(act & 3), usize::from(*amount));
        match act >> 2 & 7 {
            0 => world.leave(slot),
            1 => world.pass(Duration::from_millis(20 * amount as u64)),
            2 => world.read(slot, amount),
            3 => world.turn(|broker, now| broker.reconfigure(settings(amount as u8), now)),
            _ => {
                let bytes = acts.split_off(..amount.min(acts.len())).unwrap_or_default();
                world.send(slot, bytes);
            }
        }
    }
    world.end();
});

fn settings(choice: u8) -> Settings {
    static READ: LazyLock<[Settings; 5]> = LazyLock::new(|| {
        CONFIGS.map(|text| {
            let world = World { files: &MemoryFiles::new(), environment: &|_| None };
            let (options, _) =
                load_text("fuzz", text.as_bytes(), world).expect("the configurations are good");
            midge_setup::settings(&options, ServerInfo::default()).expect("their mappings are good")
        })
    });
    READ[usize::from(choice) % CONFIGS.len()].clone()
}

struct Server {
    broker: Broker<Arc<Outbox>>,
    now: Now,
    slots: [Option<Client>; 4],
}

struct Client {
    id: ConnId,
    session: Session,
    outbox: Arc<Outbox>,
    input: Vec<u8>,
    need: usize,
    read: Vec<u8>,
}

impl Server {
    fn new(settings: Settings) -> Self {
        Self { broker: Broker::new(settings, 1), now: Now::default(), slots: [const { None }; 4] }
    }

    /// A turn, and the end of those that it closed.
    fn turn(&mut self, work: impl FnOnce(&mut Broker<Arc<Outbox>>, Now)) {
        work(&mut self.broker, self.now);
        self.broker.flush(self.now, |_, _| {});
        self.broker.take_notices();
        let context = Context::from_waker(Waker::noop());
        for slot in 0..self.slots.len() {
            if let Some(client) = &self.slots[slot]
                && client.outbox.poll_attention(&context) == Attention::Close
            {
                self.leave(slot);
            }
        }
    }

    fn send(&mut self, slot: usize, bytes: &[u8]) {
        let mut client = match self.slots[slot].take() {
            Some(client) => client,
            None => {
                let outbox = Arc::new(Outbox::default());
                let id = self.broker.attach(outbox.clone(), Peer { host: "fuzz".into(), port: 0 }, self.now);
                let session = Session::new(&self.broker, id);
                Client { id, session, outbox, input: Vec::new(), need: 1, read: Vec::new() }
            }
        };
        client.input.extend_from_slice(bytes);
        // What a turn may add to what is pending already: an answer to each operation, or one message.
        let room = 2048 + 16 * client.input.len() + self.broker.settings().max_payload.min(4096) as usize;
        let most = room + self.broker.settings().max_pending as usize;
        let mut open = true;
        while open && client.input.len() >= client.need {
            let received = client.session.receive(&mut self.broker, self.now, &client.input);
            assert!(received.used <= client.input.len());
            client.input.drain(..received.used);
            client.need = 1;
            match received.next {
                Next::Read(need) => {
                    assert!(need > client.input.len(), "asks for what it has");
                    client.need = need;
                }
                Next::Yield => assert!(received.used > 0, "gives up its turn for nothing"),
                Next::Pause(until) => {
                    assert!(until > self.now.mono, "waits for what is past");
                    self.now.mono = until;
                }
                Next::Ask(question) => {
                    let mut next = Some(question);
                    while let Some(question) = next {
                        let answer = guess(&question);
                        next = client.session.answered(&mut self.broker, question, answer, self.now);
                    }
                }
                Next::Close => open = false,
            }
            self.broker.flush(self.now, |_, _| {});
            let others = self.slots.iter().flatten().map(|other| &other.outbox);
            for outbox in others.chain([&client.outbox]) {
                assert!(outbox.pending() <= most, "{} bytes pending, {most} allowed", outbox.pending());
            }
        }
        self.slots[slot] = Some(client);
        self.turn(|_, _| {});
    }

    fn leave(&mut self, slot: usize) {
        let Some(mut client) = self.slots[slot].take() else { return };
        self.broker.detach(client.id, CloseReason::ClientClosed, self.now);
        client.read(usize::MAX);
        client.check();
    }

    fn read(&mut self, slot: usize, amount: usize) {
        self.slots[slot].iter_mut().for_each(|client| client.read(amount));
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now.mono + time;
        while let Some(at) = self.broker.deadline().filter(|at| *at <= until) {
            self.now.mono = at.max(self.now.mono);
            self.turn(|broker, now| broker.tick(now));
            assert!(self.broker.deadline().is_none_or(|next| next > self.now.mono), "a deadline stays due");
        }
        self.now.mono = until;
    }

    fn end(mut self) {
        (0..self.slots.len()).for_each(|slot| self.leave(slot));
        self.pass(Duration::from_secs(600));
        assert_eq!((self.broker.open(), self.broker.deadline()), (0, None::<Instant>));
        for account in self.broker.accounts() {
            let theirs = account.subscriptions().filter(|sub| self.broker.conn(sub.conn()).is_some()).count();
            let left = (theirs, account.connections(), account.open_requests());
            assert_eq!(left, (0, 0, 0), "left in {}", account.name());
        }
    }
}

/// An answer that takes no time, the same each time.
fn guess(question: &Question) -> Answer {
    let yes = match question {
        Question::Password { secret, .. } => secret.len() % 2 == 1,
        Question::Signature { signature, .. } => signature.len() % 2 == 1,
        question => return question.answer(&midge_jwt::Utc),
    };
    if yes { Answer::Yes } else { Answer::No }
}

impl Client {
    /// Reads up to `amount` bytes of what is queued.
    fn read(&mut self, amount: usize) {
        let Some(mut batch) = self.outbox.take_unblocked() else { return };
        let bytes: Vec<u8> = batch.slices().flatten().copied().take(amount).collect();
        batch.advance(bytes.len());
        self.outbox.put_back(batch, bytes.len());
        self.read.extend(bytes);
    }

    /// Whether all that was read is operations of a server. The last one may be torn if the connection was cut off.
    fn check(&self) {
        let limits = Limits { max_control_line: 8192, max_payload: 8192, headers: true };
        let mut rest = self.read.as_slice();
        while !rest.is_empty() {
            match server_op(rest, &limits) {
                Step::Op(_, used) => rest = &rest[used..],
                Step::Need(_) if !self.outbox.flushes_on_close() => return,
                step => panic!("{step:?} in {:?}", String::from_utf8_lossy(rest)),
            }
        }
    }
}
