//! All streams of all accounts.
//!
//! A driver's turn: [`Engine::handle`] for each input, [`Engine::tick`], [`Engine::commit`], then do what
//! [`Engine::poll`] says. It may sleep until [`Engine::deadline`], unless [`Engine::is_hungry`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::backup::Backups;
use crate::calendar::{Calendar, ClockState, Trust};
use crate::config::{Limits, Storage, StreamConfig};
use crate::consumer::Alive;
use crate::copying::Copiers;
use crate::cx::Cx;
use crate::error::{self, ApiError};
use crate::log::{Loaded, Log, LogError, MemoryShelf, Shelf};
use crate::random::Random;
use crate::seam::{Account, Input, Message, Out, Output, STREAM_MAX, Tag, What};
use crate::space::{AccountLimits, Grant, Share, Space};
use crate::stream::{Aside, Letter, Stream};
use crate::sync::{SYNC_EVERY, Sync};
use crate::time::{Instant, Now};

/// What the engine is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name by which these streams are told from those of a hub.
    pub domain: Option<String>,
    /// Requests with unknown members are refused.
    pub strict: bool,
    /// Bytes of all streams in memory; `None`: any number.
    pub memory_bytes_max: Option<u64>,
    /// Bytes of all streams on disk; `None`: any number.
    pub file_bytes_max: Option<u64>,
    /// Further ceilings.
    pub limits: Limits,
    /// The server's name.
    pub server_name: String,
    /// Names that nobody chose are made of it.
    pub seed: u64,
    /// Time zones by their names, for schedules.
    pub zones: Zone,
    /// Which wall clock is believed.
    pub trust: Trust,
    /// When streams are made safe that don't say it.
    pub sync: Sync,
    /// How often those are that want it neither always nor never.
    pub sync_every: Duration,
}

/// Gives a time zone by its name.
pub type Zone = fn(&str) -> Option<TimeZone>;

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: None,
            strict: true,
            memory_bytes_max: None,
            file_bytes_max: None,
            limits: Limits::default(),
            server_name: String::new(),
            seed: 0,
            zones: |name| (name == "UTC").then_some(TimeZone::UTC),
            trust: Trust::default(),
            sync: Sync::Always,
            sync_every: SYNC_EVERY,
        }
    }
}

/// What a timer is of: a stream, or one of its consumers.
type Timer = (u32, Option<u32>);

/// All streams of all accounts.
pub struct Engine {
    pub(crate) settings: Settings,
    pub(crate) spaces: BTreeMap<Account, Space>,
    pub(crate) streams: BTreeMap<u32, Stream>,
    pub(crate) copiers: Copiers,
    pub(crate) aside: Aside,
    file: Box<dyn Shelf>,
    pub(crate) calendar: Calendar,
    pub(crate) out: Out,
    pub(crate) random: Random,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    /// Streams for which something may be to be done.
    dirty: BTreeSet<u32>,
    next_stream: u32,
    pub(crate) next_consumer: u32,
    /// Outputs, or work, are left.
    hungry: bool,
    /// Bytes in memory and on disk at the last commit, and what was published since.
    used: [u64; 2],
    /// Streams with consumers whose places have moved since they were written.
    unsaved: BTreeSet<u32>,
    /// When they are to be written, and what was taken out is to be gone for good.
    save_at: Option<Instant>,
    /// When what is written is to be on the disk.
    sync_at: Option<Instant>,
    /// The disk failed, and what is in memory of streams on it may be ahead of it.
    failed: bool,
    pub(crate) backups: Backups,
    /// Accounts that have streams on disk and are not open.
    closed: BTreeSet<Box<str>>,
    /// Requests of all accounts that have streams.
    pub(crate) requests: u64,
    /// Of those, the ones that could not be done.
    pub(crate) errors: u64,
}

/// How long a consumer's place may differ from what is on the disk, unless somebody was told where it is. A power cut
/// within this time makes messages go again.
const SAVE_DELAY: Duration = Duration::from_millis(250);

/// A [`Cx`] of fields of the engine, so that others stay free.
macro_rules! cx {
    ($engine:ident, $account:expr, $now:expr) => {
        $crate::cx::Cx {
            now: $now,
            calendar: &$engine.calendar,
            events: $engine
                .spaces
                .get(&$account)
                .filter(|space| space.events)
                .map(|space| space.name.clone()),
            out: &mut $engine.out,
            random: &mut $engine.random,
            account: $account,
            domain: $engine.settings.domain.as_deref(),
            zones: $engine.settings.zones,
            aside: &mut $engine.aside,
        }
    };
}
pub(crate) use cx;

impl Engine {
    /// No accounts yet; streams on disk are in `file`.
    pub fn new(settings: Settings, file: Box<dyn Shelf>) -> Self {
        Self {
            random: Random::new(settings.seed),
            calendar: Calendar::new(settings.trust),
            settings,
            spaces: BTreeMap::new(),
            streams: BTreeMap::new(),
            copiers: Copiers::default(),
            aside: Aside::default(),
            file,
            out: Out::default(),
            timers: BinaryHeap::new(),
            dirty: BTreeSet::new(),
            next_stream: 1,
            next_consumer: 1,
            hungry: false,
            used: [0; 2],
            unsaved: BTreeSet::new(),
            save_at: None,
            sync_at: None,
            failed: false,
            backups: Backups::default(),
            closed: BTreeSet::new(),
            requests: 0,
            errors: 0,
        }
    }

    /// As [`Engine::open`], for an account of the start that has streams within these ceilings.
    pub fn open_account(&mut self, account: Account, name: &str, limits: AccountLimits, now: Now) {
        let opened = self.open(account, name, Grant::Enabled(Share::Flat(limits)), now);
        self.bear(opened);
    }

    /// Lets an account have streams, or be told that it has none. Call [`Engine::load`] once those of the start are open;
    /// one that comes later brings its streams back by itself. `account` must be a number that was not used before.
    ///
    /// # Errors
    /// What the account has on disk can't be read.
    pub fn open(&mut self, account: Account, name: &str, grant: Grant, now: Now) -> Result<(), LogError> {
        let now = self.read_clock(now);
        let space = Space {
            name: name.into(),
            grant,
            streams: BTreeMap::new(),
            requests: 0,
            errors: 0,
            events: false,
        };
        let loads = space.is_enabled() && self.closed.remove(name);
        self.spaces.insert(account, space);
        let mut cx = cx!(self, account, now);
        for filter in crate::api::SUBJECTS {
            cx.subscribe(*filter, Tag::new(What::Api, account, 0));
        }
        cx.watch(b"$JS.EVENT.>", Tag::new(What::Events, account, 0));
        if loads { self.load_later(now) } else { Ok(()) }
    }

    /// Brings back streams after the start.
    fn load_later(&mut self, now: Now) -> Result<(), LogError> {
        let found = self.file.load()?;
        self.load_streams(found, now)
    }

    /// Lets an open account have streams, more or less of them, or none. What it has on disk stays there meanwhile.
    ///
    /// # Errors
    /// What the account has on disk can't be read.
    pub fn set_grant(&mut self, account: Account, grant: Grant, now: Now) -> Result<(), LogError> {
        let now = self.read_clock(now);
        let Some(space) = self.spaces.get_mut(&account) else { return Ok(()) };
        let (had, name) = (space.is_enabled(), space.name.clone());
        space.grant = grant;
        match (had, space.is_enabled()) {
            (false, true) if self.closed.remove(&name) => self.load_later(now),
            (true, false) => {
                self.drop_streams(account, now);
                self.closed.insert(name);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether there is room on the server for an account of that name with that share, besides what the others may have.
    /// Source: nats-server's `sufficientResources`.
    ///
    /// # Errors
    /// What there is not enough of, in nats-server's words.
    pub fn check_share_fits(&self, name: &str, share: &Share) -> Result<(), ApiError> {
        if self.settings.memory_bytes_max.is_none() && self.settings.file_bytes_max.is_none() {
            return Ok(());
        }
        let mut sums = share.bytes();
        for space in self.spaces.values().filter(|space| *space.name != *name) {
            if let Grant::Enabled(share) = &space.grant {
                sums.iter_mut().zip(share.bytes()).for_each(|(sum, bytes)| *sum = sum.saturating_add(bytes));
            }
        }
        let [memory, file] = sums;
        if self.settings.memory_bytes_max.is_some_and(|max| memory > max) {
            return Err(error::MEMORY_RESOURCES_EXCEEDED.error());
        }
        if self.settings.file_bytes_max.is_some_and(|max| file > max) {
            return Err(error::STORAGE_RESOURCES_EXCEEDED.error());
        }
        Ok(())
    }

    /// An account is gone. What it has on disk stays there.
    pub fn close_account(&mut self, account: Account, now: Now) {
        let now = self.read_clock(now);
        self.drop_streams(account, now);
        let Some(space) = self.spaces.remove(&account) else { return };
        let mut cx = cx!(self, account, now);
        for filter in crate::api::SUBJECTS {
            cx.unsubscribe(*filter, Tag::new(What::Api, account, 0));
        }
        cx.unwatch(b"$JS.EVENT.>", Tag::new(What::Events, account, 0));
        if space.is_enabled() {
            self.closed.insert(space.name);
        }
    }

    /// Forgets an account's streams, which stay on disk.
    fn drop_streams(&mut self, account: Account, now: Now) {
        // Where consumers are is known to the disk before the streams are forgotten.
        if !self.failed {
            let saved = self.save(now);
            self.bear(saved);
        }
        self.drop_backups(account, now);
        let mine = self.streams.values().filter(|stream| stream.account == account);
        let mine: Vec<u32> = mine.map(|stream| stream.id).collect();
        for id in mine {
            self.drop_stream(id, now);
        }
    }

    /// Forgets a stream, which stays on disk.
    fn drop_stream(&mut self, id: u32, now: Now) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        if let Some(space) = self.spaces.get_mut(&stream.account) {
            space.streams.remove(stream.name());
        }
        let mut cx = cx!(self, stream.account, now);
        stream.consumers.values_mut().for_each(|consumer| consumer.forget_requests(&mut cx));
        stream.close(&mut cx);
        self.forget_copies(id, stream.account, stream.name());
    }

    /// Takes an input in.
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        let now = self.read_clock(now);
        let done = self.take(input, now);
        self.bear(done);
    }

    /// The time of this turn. If the clock went another way than time does, all timers are set anew.
    fn read_clock(&mut self, now: Now) -> Now {
        let mut now = self.calendar.read(now);
        if let Some(wall) = self.calendar.wants_back() {
            let later = |state: crate::log::State| state.messages > 0 && state.last_time > wall;
            if !self.streams.values().any(|stream| later(stream.log.state())) {
                now = self.calendar.go_back();
            }
        }
        if self.calendar.take_changed() {
            let ids: Vec<u32> = self.streams.keys().copied().collect();
            for id in ids {
                let Some((stream, mut cx)) = self.stream_cx(id, now) else { continue };
                stream.on_clock(&mut cx);
                self.dirty.insert(id);
            }
        }
        now
    }

    /// Whether something has set the clock, as far as a driver knows. It counts where [`Trust::synchronised`] asks for it.
    pub fn set_synchronised(&mut self, synchronised: bool) {
        self.calendar.set_synchronised(synchronised);
    }

    /// Whether somebody waits for a commit.
    pub fn is_owed(&self) -> bool {
        self.file.is_owed() || self.out.promises()
    }

    /// How the clock stood when the engine was last told the time.
    pub fn clock(&self) -> ClockState {
        self.calendar.state()
    }

    /// An error is about one thing alone, which was told to whoever waits for it, or about all that is not committed.
    pub(crate) fn bear(&mut self, done: Result<(), LogError>) {
        match done {
            Ok(()) => {}
            Err(error) if error.is_of_all() => self.fail(),
            Err(error) => self.out.complain(error.to_string()),
        }
    }

    /// What is not committed is lost. Whoever was promised something is told so.
    fn fail(&mut self) {
        self.failed = true;
        self.out.revoke(crate::api::not_done);
    }

    /// True once the disk has failed: streams on it are only read, until [`Engine::recover`].
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The disk takes changes again, and has forgotten what it was refused: so do the streams on it.
    ///
    /// # Errors
    /// What is on it can't be read.
    pub fn recover(&mut self, now: Now) -> Result<(), LogError> {
        if !self.failed {
            return Ok(());
        }
        let now = self.read_clock(now);
        self.calendar.lost();
        self.drop_restores(now);
        let on_disk = self.streams.values().filter(|stream| stream.config.storage == Storage::File);
        let on_disk: Vec<u32> = on_disk.map(|stream| stream.id).collect();
        for id in on_disk {
            self.drop_stream(id, now);
        }
        self.unsaved.clear();
        self.failed = false;
        let found = self.file.load()?;
        self.load_streams(found, now)
    }

    /// Lines for the log, since the last call.
    pub fn take_complaints(&mut self) -> Vec<String> {
        self.out.take_complaints()
    }

    /// True if what happens to the stream can't be kept now.
    pub(crate) fn is_out_of_reach(&self, stream: u32) -> bool {
        self.failed && self.streams.get(&stream).is_some_and(|stream| stream.config.storage == Storage::File)
    }

    fn take(&mut self, input: Input<'_>, now: Now) -> Result<(), LogError> {
        match input {
            Input::Message(message) => self.on_message(&message, now),
            Input::Interest { tag, subject, exists } => {
                self.on_interest(tag, subject, exists, now);
                Ok(())
            }
            Input::Lost { receipt, subject } => {
                let Some((what, stream, consumer)) = receipt.tag.split() else { return Ok(()) };
                if what == What::Link {
                    if let Some((stream, mut cx)) = self.stream_cx(stream, now) {
                        stream.on_link_lost(consumer, &mut cx);
                    }
                    self.touch(stream);
                    return Ok(());
                }
                self.with_consumer(stream, consumer, now, |consumer, cx| {
                    consumer.on_lost(receipt.seq, subject, cx);
                });
                Ok(())
            }
        }
    }

    fn on_message(&mut self, message: &Message<'_>, now: Now) -> Result<(), LogError> {
        let Some((what, stream, consumer)) = message.tag.split() else { return Ok(()) };
        let (reply, header, payload) = (message.reply, message.header, message.payload);
        let changes = matches!(what, What::Next | What::Ack | What::Flow | What::Reset);
        if changes && self.is_out_of_reach(stream) {
            return Ok(());
        }
        match (what, reply) {
            (What::Api, _) => return self.on_request(stream, message, now),
            (What::Stream, _) => return self.on_publish(stream, message, now),
            (What::Direct, _) => {
                if self.is_for_origin(stream, message.subject) {
                    return Ok(());
                }
                let Some((stream, mut cx)) = self.stream_cx(stream, now) else { return Ok(()) };
                return stream.on_direct(message, &mut cx);
            }
            (What::Next, Some(reply)) => self.with_consumer(stream, consumer, now, |consumer, cx| {
                consumer.on_next(reply, header, payload, cx);
            }),
            (What::Ack, reply) => self.with_consumer(stream, consumer, now, |consumer, cx| {
                consumer.on_ack(message.subject, reply, payload, cx);
            }),
            (What::Flow, _) => self.with_consumer(stream, consumer, now, |consumer, cx| {
                consumer.on_flow(message.subject, header, cx);
            }),
            (What::Reset, Some(_)) => return self.on_reset(stream, consumer, message, now),
            (What::Snapshot, _) => self.on_snapshot_ack(consumer, now),
            (What::Restore, _) => self.on_restore_chunk(consumer, message, now),
            (What::Link, _) => {
                if !self.is_out_of_reach(stream)
                    && let Some((stream, mut cx)) = self.stream_cx(stream, now)
                {
                    stream.on_link(consumer, message, &mut cx)?;
                }
                self.touch(stream);
            }
            (What::Next | What::Reset | What::Push | What::Waiting | What::Events, _) => {}
        }
        Ok(())
    }

    fn on_interest(&mut self, tag: Tag, subject: &[u8], exists: bool, now: Now) {
        match tag.split() {
            Some((What::Events, account, _)) => {
                if let Some(space) = self.spaces.get_mut(&account) {
                    space.events = exists;
                }
            }
            Some((What::Push, stream, consumer)) => {
                self.with_consumer(stream, consumer, now, |consumer, cx| {
                    consumer.on_push_interest(subject, exists, cx);
                })
            }
            Some((What::Waiting, stream, consumer)) => {
                self.with_consumer(stream, consumer, now, |consumer, _| {
                    consumer.on_waiting_interest(subject, exists);
                });
            }
            Some((What::Snapshot, _, number)) => self.on_snapshot_interest(number, exists),
            _ => {}
        }
    }

    fn on_publish(&mut self, id: u32, message: &Message<'_>, now: Now) -> Result<(), LogError> {
        let Some((storage, account)) = self.streams.get(&id).map(|it| (it.config.storage, it.account)) else {
            return Ok(());
        };
        let bytes = message.subject.len() + message.header.len() + message.payload.len();
        let room = match self.is_out_of_reach(id) {
            true => Err(error::STREAM_STORE_FAILED.with(&[&LogError::Failed])),
            false => self.check_room(storage, account, bytes as u64),
        };
        let Some((stream, mut cx)) = self.stream_cx(id, now) else { return Ok(()) };
        stream.ingest(message, room, &mut cx)?;
        self.used[storage as usize] += bytes as u64;
        self.dirty.insert(id);
        Ok(())
    }

    /// The ceilings of an account's streams.
    pub(crate) fn limits_of(&self, account: Account) -> Result<AccountLimits, ApiError> {
        self.spaces.get(&account).map_or_else(|| Err(error::NO_ACCOUNT.error()), Space::limits)
    }

    /// Whether the server has room for one more message.
    fn check_room(&self, storage: Storage, account: Account, bytes: u64) -> Result<(), ApiError> {
        let limits = self.limits_of(account)?;
        let mine = match storage {
            Storage::Memory => limits.memory_bytes_max,
            Storage::File => limits.file_bytes_max,
        };
        if mine.is_some_and(|max| self.account_bytes(account, storage) + bytes > max) {
            return Err(error::ACCOUNT_RESOURCES_EXCEEDED.error());
        }
        let max = match storage {
            Storage::Memory => self.settings.memory_bytes_max,
            Storage::File => self.settings.file_bytes_max,
        };
        match max {
            Some(max) if self.used[storage as usize] >= max => Err(error::INSUFFICIENT_RESOURCES.error()),
            _ => Ok(()),
        }
    }

    /// Bytes that all streams of a kind count for.
    pub(crate) fn bytes(&self, storage: Storage) -> u64 {
        let streams = self.streams.values().filter(|stream| stream.config.storage == storage);
        streams.map(|stream| stream.log.state().bytes).sum()
    }

    pub(crate) fn stream_cx(&mut self, id: u32, now: Now) -> Option<(&mut Stream, Cx<'_>)> {
        let stream = self.streams.get_mut(&id)?;
        let account = stream.account;
        Some((stream, cx!(self, account, now)))
    }

    fn with_consumer(
        &mut self,
        stream: u32,
        consumer: u32,
        now: Now,
        work: impl FnOnce(&mut crate::consumer::Consumer, &mut Cx<'_>),
    ) {
        if self.is_out_of_reach(stream) {
            return;
        }
        let Some((found, mut cx)) = self.stream_cx(stream, now) else { return };
        let Some(consumer) = found.consumers.get_mut(&consumer) else { return };
        work(consumer, &mut cx);
        self.dirty.insert(stream);
    }

    /// Something may be to be done for a stream.
    pub(crate) fn touch(&mut self, stream: u32) {
        self.dirty.insert(stream);
    }

    /// Makes a stream of a configuration that was checked.
    pub(crate) fn create_stream(
        &mut self,
        account: Account,
        config: StreamConfig,
        now: Now,
    ) -> Result<u32, ApiError> {
        let Some(space) = self.spaces.get(&account) else { return Err(error::NO_ACCOUNT.error()) };
        let record = crate::stream::record(&space.name, now.wall, &config);
        let first = config.first_seq;
        let log = self.create_log(config.storage, &record, first);
        let log = log.map_err(|error| error::STREAM_STORE_FAILED.with(&[&error]))?;
        let id = self.next_stream_id()?;
        if let Some(space) = self.spaces.get_mut(&account) {
            space.streams.insert(config.name.as_str().into(), id);
        }
        let mut stream = Stream::new(id, account, config, now.wall, log, self.settings.domain.as_deref());
        stream.set_sync(self.settings.sync);
        let mut cx = cx!(self, account, now);
        stream.subscribe(&mut cx);
        stream.event_action("create", &mut cx);
        self.streams.insert(id, stream);
        self.learn_copies(id);
        self.dirty.insert(id);
        Ok(id)
    }

    pub(crate) fn create_log(
        &mut self,
        storage: Storage,
        record: &[u8],
        first: u64,
    ) -> Result<Box<dyn Log>, LogError> {
        match storage {
            Storage::Memory => MemoryShelf.create(record, first),
            Storage::File => self.file.create(record, first),
        }
    }

    /// A number for a stream.
    pub(crate) fn next_stream_id(&mut self) -> Result<u32, ApiError> {
        let id = self.next_stream;
        if id > STREAM_MAX {
            return Err(error::MAXIMUM_STREAMS_LIMIT.error());
        }
        self.next_stream += 1;
        Ok(id)
    }

    /// Ends a stream.
    pub(crate) fn delete_stream(&mut self, id: u32, now: Now) -> Result<(), LogError> {
        let Some(mut stream) = self.streams.remove(&id) else { return Ok(()) };
        let account = stream.account;
        if let Some(space) = self.spaces.get_mut(&account) {
            space.streams.remove(stream.name());
        }
        let mut cx = cx!(self, account, now);
        stream.event_action("delete", &mut cx);
        stream.close(&mut cx);
        let name = stream.config.name.clone();
        let destroyed = stream.log.destroy();
        self.forget_copies(id, account, &name);
        destroyed
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        let now = self.read_clock(now);
        let done = self.do_due(now);
        self.bear(done);
        self.tick_backups(now);
    }

    fn do_due(&mut self, now: Now) -> Result<(), LogError> {
        let mut done = Ok(());
        while let Some(Reverse((at, (id, consumer)))) = self.timers.peek().copied() {
            if at > now.mono {
                break;
            }
            self.timers.pop();
            if self.is_out_of_reach(id) {
                continue;
            }
            let Some((stream, mut cx)) = self.stream_cx(id, now) else { continue };
            // One stream that can't do it doesn't hold up others.
            let mut note = |result: Result<(), LogError>| match result {
                Err(error) if done.is_ok() || error.is_of_all() => done = Err(error),
                _ => {}
            };
            match consumer {
                None if stream.armed == Some(at) => {
                    stream.armed = None;
                    note(stream.tick(&mut cx));
                }
                None => continue,
                Some(number) => {
                    let buries = stream.grave().is_some();
                    let Some(consumer) = stream.consumers.get_mut(&number) else { continue };
                    if consumer.armed != Some(at) {
                        continue;
                    }
                    consumer.armed = None;
                    if consumer.tick(buries, &mut cx) == Alive::No {
                        note(stream.delete_consumer(number, &mut cx).map(|_| ()));
                    }
                }
            }
            self.dirty.insert(id);
        }
        done
    }

    /// Lets consumers have what came, sets timers.
    fn settle(&mut self, now: Now) {
        self.hungry = false;
        let mut dirty = std::mem::take(&mut self.dirty);
        self.take_come(&dirty, now);
        let mut again = self.copy(&mut dirty, now).unwrap_or_else(|error| {
            self.bear(Err(error));
            BTreeSet::new()
        });
        let mut stalled = BTreeSet::new();
        while let Some(id) = dirty.pop_first() {
            if self.is_out_of_reach(id) {
                continue;
            }
            let Some((stream, mut cx)) = self.stream_cx(id, now) else { continue };
            if stream.copies.iter().any(|copy| copy.lag > 0) {
                stalled.insert(id);
            }
            let pumped = stream.pump(&mut cx).map(|all| {
                if !all {
                    again.insert(id);
                }
            });
            let dead = std::mem::take(&mut stream.dead);
            let unsaved = stream.config.storage == Storage::File && stream.has_unsaved_consumers();
            let mut timers = Vec::new();
            if let Some(at) = stream.deadline(&cx)
                && stream.armed.is_none_or(|armed| at < armed)
            {
                stream.armed = Some(at);
                timers.push((at, (id, None)));
            }
            for consumer in stream.consumers.values_mut() {
                if let Some(at) = consumer.take_timer(now.mono) {
                    timers.push((at, (id, Some(consumer.id))));
                }
            }
            self.timers.extend(timers.into_iter().map(Reverse));
            if unsaved {
                self.unsaved.insert(id);
            }
            self.bear(pumped);
            if !dead.is_empty() {
                again.extend(self.bury(id, &dead, now));
            }
        }
        // What consumers were done with may have made room for what is to be copied.
        if !stalled.is_empty() {
            match self.copy_stalled(&stalled, now) {
                Ok(changed) => again.extend(changed),
                Err(error) => self.bear(Err(error)),
            }
        }
        self.hungry = self.pump_backups(now) || !again.is_empty();
        self.dirty.append(&mut again);
        // Timers that were set earlier than needed are skipped when they are due; those of what is gone, too.
        let live: usize = self.streams.values().map(|stream| 1 + stream.consumers.len()).sum();
        if self.timers.len() > 64 + 8 * live {
            let streams = &self.streams;
            self.timers.retain(|Reverse((at, (id, consumer)))| {
                streams.get(id).is_some_and(|stream| match consumer {
                    None => stream.armed == Some(*at),
                    Some(number) => stream.consumers.get(number).is_some_and(|it| it.armed == Some(*at)),
                })
            });
        }
    }

    /// Gives dead letters of a stream to where it wants them. Gives that stream. In the same commit goes what the consumers
    /// know of it, so that nothing dies twice or is lost.
    fn bury(&mut self, id: u32, dead: &[Letter], now: Now) -> Option<u32> {
        self.out.promise();
        let stream = self.streams.get(&id)?;
        let (origin, grave) = (stream.config.name.clone(), stream.grave()?.to_owned());
        let found =
            self.spaces.get(&stream.account).and_then(|space| space.streams.get(grave.as_str()).copied());
        let Some(found) = found.filter(|found| *found != id) else {
            let count = dead.len();
            self.out.complain(format!("{count} dead letters of {origin} have no stream {grave} to go to"));
            return None;
        };
        let (stream, mut cx) = self.stream_cx(found, now)?;
        let buried = dead.iter().try_for_each(|letter| stream.bury(letter, &origin, &mut cx));
        if let Err(why) = buried {
            self.out.complain(format!("dead letters of {origin} can't go to {grave}: {why}"));
        }
        Some(found)
    }

    /// Makes durable what somebody is to hear of: messages, answers to requests, acknowledgements that are confirmed.
    /// What follows from it may come out now, or that it failed. That messages went to consumers, and what they said to
    /// them unless they wait for a confirmation, is written within a quarter of a second, or with the next of these:
    /// nobody was promised it, and a disk is spared.
    pub fn commit(&mut self, now: Now) {
        let now = self.read_clock(now);
        self.settle(now);
        // Only those that have a ceiling are worth counting.
        if self.settings.memory_bytes_max.is_some() || self.settings.file_bytes_max.is_some() {
            self.used = [Storage::File, Storage::Memory].map(|storage| self.bytes(storage));
        }
        if !self.failed {
            let done = self.write(now);
            self.bear(done);
        }
        self.out.commit();
    }

    fn write(&mut self, now: Now) -> Result<(), LogError> {
        if self.out.promises() || self.save_at.is_some_and(|at| at <= now.mono) {
            self.save_all(now)?;
        } else if self.file.is_owed() {
            self.keep_clock(false)?;
            self.write_all(self.file.is_owed_to_disk())?;
        }
        if self.sync_at.is_some_and(|at| at <= now.mono) {
            self.write_all(true)?;
        } else if self.sync_at.is_none() && self.file.holds(Sync::Interval) {
            self.sync_at = Some(now.mono + self.settings.sync_every);
        }
        let waits = !self.unsaved.is_empty() || self.file.is_staged() || self.calendar.is_unsaved();
        if self.save_at.is_none() && waits {
            self.save_at = Some(now.mono + SAVE_DELAY);
        }
        Ok(())
    }

    /// Makes everything durable. To be called before a driver ends.
    ///
    /// # Errors
    /// The disk failed: what was not committed is lost.
    pub fn save(&mut self, now: Now) -> Result<(), LogError> {
        let now = self.read_clock(now);
        self.keep_clock(true)?;
        self.save_all(now)?;
        self.write_all(true)
    }

    fn save_all(&mut self, now: Now) -> Result<(), LogError> {
        self.save_at = None;
        for id in std::mem::take(&mut self.unsaved) {
            if let Some((stream, mut cx)) = self.stream_cx(id, now) {
                stream.save_consumers(&mut cx)?;
            }
        }
        // A clock that was set would mislead the next start.
        let set = self.calendar.is_unsaved();
        self.keep_clock(false)?;
        self.write_all(set || self.file.holds(Sync::Always))
    }

    fn write_all(&mut self, to_disk: bool) -> Result<(), LogError> {
        if !to_disk {
            return self.file.flush();
        }
        self.sync_at = None;
        self.file.commit()
    }

    /// With a commit goes what time it is, so that the next start knows the least that it can be. `alone`: if there is nothing
    /// else to commit, too.
    fn keep_clock(&mut self, alone: bool) -> Result<(), LogError> {
        if let Some(kept) = self.calendar.to_keep(alone)
            && (alone || self.calendar.is_unsaved() || self.file.is_staged())
        {
            self.file.keep_clock(&kept)?;
            self.calendar.saved();
        }
        Ok(())
    }

    /// Brings back the streams that are on disk and whose accounts are open.
    ///
    /// # Errors
    /// They can't be read.
    pub fn load(&mut self, now: Now) -> Result<(), LogError> {
        let found = self.file.load()?;
        let lasts: Vec<_> = found.iter().map(|(_, log)| log.state().last_time).collect();
        self.calendar.begin(self.file.kept_clock()?.as_deref(), &lasts, now);
        // Whether stamps may go back is to be seen by the messages, which are not here yet.
        let now = self.calendar.read(now);
        self.load_streams(found, now)
    }

    fn load_streams(&mut self, found: Vec<Loaded>, now: Now) -> Result<(), LogError> {
        found.into_iter().try_for_each(|(record, log)| self.load_stream(&record, log, now))?;
        // What was over before is not to be seen again.
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        for id in ids {
            let Some((stream, mut cx)) = self.stream_cx(id, now) else { continue };
            let done = stream.expire(&mut cx);
            self.bear(done);
        }
        Ok(())
    }

    fn load_stream(&mut self, record: &[u8], log: Box<dyn Log>, now: Now) -> Result<(), LogError> {
        let Ok(record) = crate::json::read_seldom::<crate::stream::Record>(record) else { return Ok(()) };
        if record.restoring {
            // One that is under way is not what a start finds.
            let under_way = self.backups.restores(&record.account, &record.config.name, &self.spaces);
            return if under_way { Ok(()) } else { log.destroy() };
        }
        // Those of accounts that have no streams now stay on disk.
        let mut open = self.spaces.iter_mut().filter(|(_, space)| space.is_enabled());
        let Some((account, space)) = open.find(|(_, space)| space.name == record.account) else {
            self.closed.insert(record.account);
            return Ok(());
        };
        if space.streams.contains_key(record.config.name.as_str()) {
            return Ok(());
        }
        let (account, id) = (*account, self.next_stream);
        self.next_stream += 1;
        space.streams.insert(record.config.name.as_str().into(), id);
        let domain = self.settings.domain.as_deref();
        let mut stream = Stream::new(id, account, record.config, record.created, log, domain);
        stream.set_sync(self.settings.sync);
        let mut cx = cx!(self, account, now);
        stream.rebuild_dedup(&cx)?;
        stream.rebuild_ttl(&cx);
        stream.resume_copies();
        stream.rebuild_schedules(&cx);
        stream.subscribe(&mut cx);
        self.next_consumer = stream.load_consumers(self.next_consumer, &mut cx);
        self.streams.insert(id, stream);
        self.learn_copies(id);
        self.dirty.insert(id);
        Ok(())
    }

    /// What the driver is to do next.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop()
    }

    /// True if there is work that can go on at once: call [`Engine::commit`] again after the outputs were taken.
    pub fn is_hungry(&self) -> bool {
        self.hungry
    }

    /// When [`Engine::tick`] has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        timer.into_iter().chain(self.save_at).chain(self.sync_at).chain(self.backups.deadline()).min()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}
