//! Streams: what the daemon's storage thread does, at once after each turn, on a disk in memory.

use std::collections::HashMap;

use bytes::Bytes;
use midge_broker::{
    AccountId, Broker, GLOBAL_ACCOUNT, Heard, InsideSub, Instant, MailboxId, Now, Post, StreamStep, Traced,
};
use midge_config::{JetStreamLimits, Options, SYSTEM_ACCOUNT};
use midge_store::Store;
use midge_store::disk::sim::SimDisk;
use midge_stream::config::{BatchLimits, Limits};
use midge_stream::log::{FileShelf, Keeper};
use midge_stream::{
    AccountLimits, Engine, Fate, Grant, Input, Message, Output, Receipt, Settings, Share, Tag,
};

use super::net::Socket;

const MAILBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a segment: a disk in memory is none to waste.
const SEGMENT_BYTES: u32 = 4 << 20;
const SEED: u64 = 7;

pub(super) struct Streams {
    engine: Engine,
    keeper: Keeper<SimDisk>,
    mailbox: MailboxId,
    /// The broker's names of the engine's accounts.
    accounts: Vec<AccountId>,
    subs: HashMap<(Tag, Bytes), InsideSub>,
    /// Messages that reached nobody.
    lost: Vec<(Receipt, Bytes)>,
}

impl Streams {
    /// Those on `disk`, if the configuration wants streams.
    pub(super) fn open(
        options: &Options,
        disk: Option<SimDisk>,
        broker: &mut Broker<Socket>,
        now: Now,
    ) -> Result<Option<Self>, String> {
        if !options.jetstream.enabled {
            return Ok(None);
        }
        let store = midge_store::Options { segment_bytes: SEGMENT_BYTES, seed: SEED, ..Default::default() };
        let (store, _) =
            Store::open(disk.unwrap_or_else(|| SimDisk::new(SEED)), store).map_err(|err| err.to_string())?;
        let shelf = FileShelf::new(store);
        let settings = Settings {
            domain: options.jetstream.domain.clone(),
            strict: options.jetstream.strict,
            memory_bytes_max: options.jetstream.memory_bytes_max,
            file_bytes_max: options.jetstream.file_bytes_max,
            server_name: broker.settings().info.name.clone(),
            long_acks: options.jetstream.long_acks,
            limits: limits(&options.jetstream.limits),
            seed: SEED,
            zones: |name| jiff::tz::TimeZone::get(name).ok(),
            ..Settings::default()
        };
        let mailbox = broker.open_mailbox(MAILBOX_BYTES_MAX).ok_or("no mailbox is left")?;
        broker.follow_traces(mailbox);
        let keeper = shelf.keeper();
        let engine = Engine::new(settings, Box::new(shelf));
        let mut this =
            Self { engine, keeper, mailbox, accounts: Vec::new(), subs: HashMap::new(), lost: Vec::new() };
        for (number, (name, grant)) in (0..).zip(accounts(options)) {
            let id = broker.account_named(name).ok_or_else(|| format!("no account {name}"))?;
            this.accounts.push(id);
            this.engine.open(number, name, grant, engine_time(now)).map_err(|err| err.to_string())?;
        }
        this.engine.load(engine_time(now)).map_err(|err| err.to_string())?;
        this.engine.commit(engine_time(now));
        Ok(Some(this))
    }

    /// Writes all that is to be kept, and gives what it is on.
    pub(super) fn shut(mut self, now: Now) -> Result<SimDisk, String> {
        self.engine.save(engine_time(now)).map_err(|err| err.to_string())?;
        Ok(self.keeper.with_disk(SimDisk::clone))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.engine.deadline()
    }

    /// Takes in what came, does what is due, and commits. False if nothing is to be done.
    pub(super) fn work(&mut self, broker: &mut Broker<Socket>, now: Now) -> bool {
        let letters = broker.take_letters(self.mailbox);
        let interest = broker.take_interest(self.mailbox);
        let at = engine_time(now);
        let idle = letters.is_empty() && interest.is_empty() && self.lost.is_empty();
        if idle && !self.engine.is_hungry() && self.deadline().is_none_or(|due| due > now.mono) {
            return false;
        }
        for (receipt, subject) in std::mem::take(&mut self.lost) {
            self.engine.handle(Input::Lost { receipt, subject: &subject }, at);
        }
        for change in interest {
            let tag = Tag::from_bits(change.tag);
            self.engine.handle(Input::Interest { tag, subject: &change.subject, exists: change.exists }, at);
        }
        for letter in letters {
            let message = Message {
                tag: Tag::from_bits(letter.tag),
                subject: letter.subject(),
                reply: letter.reply(),
                header: letter.header(),
                payload: letter.payload(),
            };
            let input = match letter.traced.as_deref().copied() {
                None => Input::Message(message),
                Some(Traced { number, only }) => Input::Traced { message, number, only },
            };
            self.engine.handle(input, at);
        }
        self.engine.tick(at);
        self.engine.commit(at);
        true
    }

    /// The server is about to close its connections.
    pub(super) fn part(&mut self, now: Now) {
        self.engine.part(engine_time(now));
        self.engine.commit(engine_time(now));
    }

    /// What goes to the log.
    pub(super) fn take_complaints(&mut self) -> Vec<String> {
        self.engine.take_complaints()
    }

    /// Does what the engine says.
    pub(super) fn say(&mut self, broker: &mut Broker<Socket>, now: Now) {
        while let Some(output) = self.engine.poll() {
            self.do_output(broker, output, now);
        }
    }

    fn do_output(&mut self, broker: &mut Broker<Socket>, output: Output, now: Now) {
        match output {
            Output::Subscribe { account, filter, tag } => {
                let id = self.account(account);
                let sub = match tag.is_told() {
                    true => broker.subscribe_inside_told(id, &filter, self.mailbox, tag.to_bits()),
                    false => broker.subscribe_inside(id, &filter, self.mailbox, tag.to_bits()),
                };
                if let Some(sub) = sub {
                    self.subs.insert((tag, filter), sub);
                }
            }
            Output::Unsubscribe { filter, tag } => {
                if let Some(sub) = self.subs.remove(&(tag, filter)) {
                    broker.unsubscribe_inside(sub);
                }
            }
            Output::Watch { account, subject, group, tag } => {
                let heard = group.as_deref().map_or(Heard::Anyhow, Heard::Literally);
                broker.watch(self.account(account), &subject, heard, self.mailbox, tag.to_bits());
            }
            Output::Unwatch { account, subject, tag } => {
                broker.unwatch(self.account(account), &subject, self.mailbox, tag.to_bits());
            }
            Output::Traced { number, fate } => {
                let said = fate.map(|fate| {
                    let Fate { stream, subject, no_interest, error } = fate;
                    StreamStep { stream, subject, no_interest, error }
                });
                broker.traced(number, said, now);
            }
            Output::Publish(publish) => {
                let post = Post {
                    subject: &publish.subject,
                    shown: publish.shown.as_deref(),
                    reply: publish.reply.as_deref(),
                    header: &publish.header,
                    payload: &publish.payload,
                };
                let delivered = broker.inject(self.account(publish.account), &post, now);
                if let Some(receipt) = publish.receipt.filter(|_| !delivered) {
                    self.lost.push((receipt, publish.subject));
                }
            }
        }
    }

    fn account(&self, account: u32) -> AccountId {
        self.accounts[account as usize]
    }
}

fn engine_time(now: Now) -> midge_stream::time::Now {
    let wall = i64::try_from(now.wall.as_nanos()).unwrap_or(i64::MAX);
    midge_stream::time::Now { mono: now.mono, wall }
}

fn limits(asked: &JetStreamLimits) -> Limits {
    let batch = &asked.batch;
    let count = |asked: u64, default: i64| if asked == 0 { default } else { asked.cast_signed() };
    let default = Limits::default();
    Limits {
        duplicate_window: asked
            .duplicate_window_max
            .map_or(0, |window| i64::try_from(window.as_nanos()).unwrap_or(i64::MAX)),
        max_ack_pending: count(asked.ack_pending_max, 0),
        max_request_batch: count(asked.request_batch_max, 0),
        default_max_consumers: count(asked.consumers_default, default.default_max_consumers),
        batches: BatchLimits::of(batch.per_stream_max, batch.total_max, batch.messages_max, batch.timeout),
    }
}

/// What accounts may have: those that say so have streams, or, if there are none but the server's own, everybody's has.
fn accounts(options: &Options) -> Vec<(&str, Grant)> {
    let system = options.system_account.as_deref().unwrap_or(SYSTEM_ACCOUNT);
    let others = || options.accounts.iter().filter(move |account| account.name != system);
    if others().next().is_none() {
        return vec![(GLOBAL_ACCOUNT, Grant::Enabled(Share::Flat(AccountLimits::default())))];
    }
    others()
        .map(|account| {
            let name = account.name.as_str();
            let Some(share) = &account.jetstream else { return (name, Grant::Disabled) };
            let limits = AccountLimits {
                memory_bytes_max: share.memory_bytes_max,
                file_bytes_max: share.file_bytes_max,
                streams_max: share.streams_max,
                consumers_max: share.consumers_max,
                ack_pending_max: share.ack_pending_max,
                memory_stream_bytes_max: share.memory_stream_bytes_max,
                file_stream_bytes_max: share.file_stream_bytes_max,
                max_bytes_required: share.max_bytes_required,
            };
            (name, Grant::Enabled(Share::Flat(limits)))
        })
        .collect()
}
