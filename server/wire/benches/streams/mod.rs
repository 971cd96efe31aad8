//! Streams on disk, as the daemon does it but for sockets and threads: from what a client says to the record and the
//! answer, and from the record to a subscriber's output.

use std::collections::HashMap;

use bytes::Bytes;
use midge_broker::{AccountId, GLOBAL_ACCOUNT, Heard, InsideSub, MailboxId, Now, Post, Settings};
use midge_store::disk::OsDisk;
use midge_store::{Options, Store};
use midge_stream::log::FileShelf;
use midge_stream::time::{Instant, Now as Moment};
use midge_stream::{AccountLimits, Engine, Input, Message, Output, Tag};
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
    account: AccountId,
    mailbox: MailboxId,
    subs: HashMap<(Tag, Bytes), InsideSub>,
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
        let account = world.broker.account_named(GLOBAL_ACCOUNT).expect("everybody's account");
        let mailbox = world.broker.open_mailbox(MAILBOX_BYTES_MAX).expect("a place for one");
        let mut engine = Engine::new(midge_stream::Settings::default(), FileShelf::new(store).boxed());
        engine.open_account(0, GLOBAL_ACCOUNT, AccountLimits::default(), NOW);
        let mut streams = Self {
            engine,
            world,
            client,
            account,
            mailbox,
            subs: HashMap::new(),
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
                let message = Message {
                    tag: Tag::from_bits(letter.tag),
                    subject: letter.subject(),
                    reply: letter.reply(),
                    header: letter.header(),
                    payload: letter.payload(),
                };
                self.engine.handle(Input::Message(message), NOW);
            }
            for change in self.world.broker.take_interest(self.mailbox) {
                let tag = Tag::from_bits(change.tag);
                let input = Input::Interest { tag, subject: &change.subject, exists: change.exists };
                self.engine.handle(input, NOW);
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
        let broker = &mut self.world.broker;
        match output {
            Output::Subscribe { filter, tag, .. } => {
                let sub = broker.subscribe_inside(self.account, &filter, self.mailbox, tag.to_bits());
                self.subs.insert((tag, filter), sub.expect("there is room"));
            }
            Output::Unsubscribe { filter, tag, .. } => {
                let sub = self.subs.remove(&(tag, filter)).expect("it was subscribed to");
                broker.unsubscribe_inside(sub);
            }
            Output::Watch { subject, group, tag, .. } => {
                let heard = group.as_deref().map_or(Heard::Anyhow, Heard::Literally);
                broker.watch(self.account, &subject, heard, self.mailbox, tag.to_bits());
            }
            Output::Unwatch { subject, tag, .. } => {
                broker.unwatch(self.account, &subject, self.mailbox, tag.to_bits())
            }
            Output::Publish(publish) => {
                let post = Post {
                    subject: &publish.subject,
                    shown: publish.shown.as_deref(),
                    reply: publish.reply.as_deref(),
                    header: &publish.header,
                    payload: &publish.payload,
                };
                self.delivered += usize::from(broker.inject(self.account, &post, Now::default()));
                self.replies.extend(publish.reply);
            }
            Output::Traced { .. } => panic!("no message here is traced"),
        }
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
