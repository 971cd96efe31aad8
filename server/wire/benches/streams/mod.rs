//! Streams on disk, as the daemon does it but for sockets and threads: from what a client says to the record and the
//! answer, and from the record to a subscriber's output.

use bytes::Bytes;
use midge_attach::{Accounts, Outputs, Wanted, input, interest};
use midge_broker::{Broker, MailboxId, Now, Settings};
use midge_store::disk::OsDisk;
use midge_store::{Options, Store};
use midge_stream::log::FileShelf;
use midge_stream::time::{Instant, Now as Moment};
use midge_stream::{Engine, Output};
use tempfile::TempDir;

use crate::Work;
use crate::world::{Client, World};

/// Messages of a commit, and of a request.
const BATCH: usize = 20;
/// Messages that a reader finds.
const STORED: usize = 1_000;
/// Bytes of messages that wait for the engine at most.
const MAILBOX_BYTES_MAX: usize = 1024 * 1024;
const NOW: Moment = Moment { mono: Instant::from_micros(1_000_000), wall: 1_767_225_600_123_456_789 };

/// An engine, and a broker with one client that listens to `_INBOX.a.*`.
struct Streams {
    engine: Engine,
    world: World,
    client: Client,
    mailbox: MailboxId,
    accounts: Accounts,
    outputs: Outputs,
    /// Messages that went to the client.
    delivered: usize,
    /// Where their acknowledgements go.
    replies: Vec<Bytes>,
    _directory: TempDir,
}

impl Streams {
    /// With a stream of so many messages.
    fn new(messages: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = OsDisk::open(directory.path()).expect("a disk");
        let (store, _) = Store::open(disk, Options { seed: 7, ..Options::default() }).expect("a new store");
        let mut world = World::new(Settings::default());
        let client = world.client("SUB _INBOX.a.* 1\r\n");
        let mailbox = world.broker.open_mailbox(MAILBOX_BYTES_MAX).expect("a place for one");
        let mut engine = Engine::new(midge_stream::Settings::default(), FileShelf::new(store).boxed());
        let mut accounts = Accounts::default();
        let change = accounts.begin(Wanted::of(&world.broker), &mut engine, NOW);
        assert!(accounts.finish(change, &mut engine, NOW).is_empty(), "a new store can be read");
        let mut streams = Self {
            engine,
            world,
            client,
            mailbox,
            accounts,
            outputs: Outputs::new(mailbox),
            delivered: 0,
            replies: Vec::new(),
            _directory: directory,
        };
        streams.run();
        streams.ask("STREAM.CREATE.S", r#"{"name":"S","subjects":["load.>"],"allow_direct":true}"#);
        let input = load();
        for _ in 0..messages / BATCH {
            streams.say(&input);
        }
        streams
    }

    /// A request to the API, which does it.
    fn ask(&mut self, what: &str, body: &str) {
        self.say(request(what, body).as_bytes());
        self.expect(1);
    }

    /// The client says something, and what follows comes to it.
    fn say(&mut self, input: &[u8]) {
        self.delivered = 0;
        self.replies.clear();
        self.world.turn(&mut self.client, input);
        self.run();
    }

    /// As the storage thread does it. What is written disappears.
    fn run(&mut self) {
        loop {
            for letter in self.world.broker.take_letters(self.mailbox) {
                self.engine.handle(input(&letter), NOW);
            }
            for change in self.world.broker.take_interest(self.mailbox) {
                self.engine.handle(interest(&change), NOW);
            }
            self.engine.tick(NOW);
            self.engine.commit(NOW);
            while let Some(output) = self.engine.poll() {
                self.act(output);
            }
            self.world.write();
            if !self.engine.is_hungry() {
                return;
            }
        }
    }

    fn act(&mut self, output: Output) {
        let reply = match &output {
            Output::Publish(publish) => publish.reply.clone(),
            _ => None,
        };
        let delivered = &mut self.delivered;
        self.outputs.act(
            &mut self.world.broker,
            &self.accounts,
            output,
            Now::default(),
            |broker, id, post, now| {
                let found = Broker::inject(broker, id, post, now);
                *delivered += usize::from(found);
                found
            },
        );
        self.replies.extend(reply);
    }

    fn expect(&self, delivered: usize) {
        assert_eq!(self.delivered, delivered);
    }
}

/// What a client says to ask the API.
fn request(what: &str, body: &str) -> String {
    format!("PUB $JS.API.{what} _INBOX.a.1 {}\r\n{body}\r\n", body.len())
}

/// [`BATCH`] messages.
fn load() -> Vec<u8> {
    format!("PUB load.subject _INBOX.a.1 128\r\n{}\r\n", "x".repeat(128)).repeat(BATCH).into_bytes()
}

/// Messages are stored and answered, [`BATCH`] a commit.
pub(crate) fn publish() -> Work {
    let mut streams = Streams::new(0);
    let input = load();
    Box::new(move |_| {
        streams.say(&input);
        streams.expect(BATCH);
    })
}

/// A pull consumer is sent [`BATCH`] messages that were asked for at once. After the last it begins again. `acks`: each is
/// acknowledged, all in one turn.
pub(crate) fn consume(acks: bool) -> Work {
    let mut streams = Streams::new(STORED);
    let policy = if acks { "explicit" } else { "none" };
    let config = format!(
        r#"{{"stream_name":"S","config":{{"durable_name":"C","ack_policy":"{policy}","max_ack_pending":-1}}}}"#
    );
    streams.ask("CONSUMER.CREATE.S.C", &config);
    let next = request("CONSUMER.MSG.NEXT.S.C", &format!(r#"{{"batch":{BATCH},"expires":20000000000}}"#));
    Box::new(move |times| {
        if times > 0 && (times * BATCH).is_multiple_of(STORED) {
            streams.ask("CONSUMER.RESET.S.C", r#"{"seq":1}"#);
        }
        streams.say(next.as_bytes());
        streams.expect(BATCH);
        if acks {
            let mut input = Vec::new();
            for reply in streams.replies.drain(..) {
                for part in [b"PUB ", &reply[..], b" 4\r\n+ACK\r\n"] {
                    input.extend_from_slice(part);
                }
            }
            streams.say(&input);
        }
    })
}

/// The last message of a subject is asked for, alone in a turn.
pub(crate) fn get() -> Work {
    let mut streams = Streams::new(BATCH);
    let input = request("DIRECT.GET.S.load.subject", "");
    Box::new(move |_| {
        streams.say(input.as_bytes());
        streams.expect(1);
    })
}
