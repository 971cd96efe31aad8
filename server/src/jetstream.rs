//! The storage thread: between the broker and the engine of streams.
//!
//! ```text
//!   broker ── letters, interest ──> mailbox ─┐ bell
//!      ^                                     v
//!      └──── turn <── outputs <── commit <── Engine      one thread, which alone waits for the disk
//! ```
//!
//! The thread takes all that has come meanwhile, lets the engine handle it, commits once, and only then says what
//! follows from it: everybody who published meanwhile shares one wait for the disk. It sleeps until it is rung or the
//! engine's next deadline.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use midge_broker::{
    Account, AccountId, Broker, GLOBAL_ACCOUNT, InsideSub, Instant, MailboxId, Now, Post, StreamShare,
};
use midge_config::{ClockTrust, Options};
use midge_protocol::subject::Filter;
use midge_store::disk::OsDisk;
use midge_store::{Health, Store};
use midge_stream::config::Limits;
use midge_stream::log::{FileShelf, Keeper};
use midge_stream::time::{MILLISECOND, SECOND, go_duration, rfc3339};
use midge_stream::{
    AccountLimits, ClockState, EARLIEST, Engine, Grant, Input, Message, Output, Receipt, SYNC_EVERY,
    Settings, Share, Standing, Sync, Tag, Trust,
};
use midge_wire::Handle;

use crate::clock::entropy;
use crate::hub::{Hub, Sleeper};
use crate::inquiry::{Answer, Missing, Question, Sums, Wanted};
use crate::vitals::ClockVital;
use crate::watch::{ClockWatch, Watch};

/// Bytes of messages that wait for the engine at most. Above that, publishers are told that nobody responds.
const MAILBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Outputs that are done in one turn of the broker.
const OUTPUTS_A_TURN: usize = 512;
/// Bytes of them.
const BYTES_A_TURN: usize = 256 * 1024;
/// Letters that are handled before what follows from them is said.
const LETTERS_AT_ONCE: usize = 4096;

/// Bytes that the store reads and writes at a time for its own sake.
const KEEP_BYTES: u64 = 256 * 1024;

/// Rest between two times.
const KEEP_PAUSE: Duration = Duration::from_millis(50);

/// How often room is looked for while there is none.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// The store in the configured directory.
fn open(hub: &Hub, options: &Options) -> Result<FileShelf<OsDisk>, String> {
    if options.jetstream.store_dir.is_none() {
        hub.log.warn("Temporary storage directory used, data could be lost on system reboot");
    }
    let directory = options.jetstream.store();
    let failed = |error: &dyn std::fmt::Display| format!("streams in {}: {error}", directory.display());
    std::fs::create_dir_all(&directory).map_err(|error| failed(&error))?;
    let disk = OsDisk::open(&directory).map_err(|error| failed(&error))?;
    let options = midge_store::Options { seed: u64::from_le_bytes(entropy()), ..Default::default() };
    let (store, report) = Store::open(disk, options).map_err(|error| failed(&error))?;
    for damage in &report.damages {
        hub.vitals.damage();
        hub.log.error(format_args!("streams: {damage}"));
    }
    // Programs that start nats-server find its files by this line.
    hub.log.info(format_args!("  Store Directory: \"{}\"", directory.display()));
    Ok(FileShelf::new(store))
}

/// The birth of no account.
const GONE: u64 = u64::MAX;

/// The running storage thread.
pub(crate) struct Streams {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Streams {
    /// Starts the thread, if the configuration wants streams.
    pub(crate) fn start(hub: &Arc<Hub>, options: &Options, server_name: &str) -> Result<Self, String> {
        let shelf = open(hub, options)?;
        let keeper = shelf.keeper();
        let mailbox = hub
            .look(|broker, _| {
                let mailbox = broker.open_mailbox(MAILBOX_BYTES_MAX)?;
                broker.follow_accounts(mailbox);
                Some(mailbox)
            })
            .ok_or_else(|| "too many parts have mailboxes".to_owned())?;
        let jetstream = &options.jetstream;
        let (sync, sync_every) = match jetstream.sync {
            Some(midge_config::Sync::Every(every)) if !every.is_zero() => (Sync::Interval, every),
            _ => (Sync::Always, SYNC_EVERY),
        };
        let settings = Settings {
            domain: jetstream.domain.clone(),
            strict: jetstream.strict,
            memory_bytes_max: jetstream.memory_bytes_max,
            file_bytes_max: jetstream.file_bytes_max,
            limits: Limits {
                duplicate_window: jetstream
                    .limits
                    .duplicate_window_max
                    .map_or(0, |window| i64::try_from(window.as_nanos()).unwrap_or(i64::MAX)),
                max_ack_pending: i64::try_from(jetstream.limits.ack_pending_max).unwrap_or(i64::MAX),
                max_request_batch: i64::try_from(jetstream.limits.request_batch_max).unwrap_or(i64::MAX),
                ..Limits::default()
            },
            server_name: server_name.to_owned(),
            seed: u64::from_le_bytes(entropy()),
            zones: |name| jiff::tz::TimeZone::get(name).ok(),
            trust: trust(options.clock.trust),
            sync,
            sync_every,
        };
        // Once its clock is set, this is there.
        let set_mark = (options.clock.trust == ClockTrust::Synchronised)
            .then(|| options.clock.synchronised_file.clone());
        let synchronised = Arc::new(AtomicBool::new(set_mark.as_ref().is_some_and(|mark| mark.exists())));
        let mut clerk = Clerk {
            hub: Arc::clone(hub),
            engine: Engine::new(settings, shelf.boxed()),
            keeper,
            health: Health::Good,
            keep_at: Some(hub.clock.now().mono + Duration::from_secs(1)),
            kept: 0,
            mailbox,
            window: jetstream.commit_window,
            synchronised: Arc::clone(&synchronised),
            clock: ClockState::default(),
            accounts: BTreeMap::new(),
            accounts_version: 0,
            next_account: 0,
            refused: BTreeMap::new(),
            subs: HashMap::new(),
            lost: Vec::new(),
            letters: Default::default(),
        };
        clerk.open_accounts()?;
        // Whoever connects first finds the subjects taken.
        clerk.work();
        clerk.say();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            std::thread::Builder::new().name("streams".to_owned()).spawn(move || clerk.run(&stop))
        };
        let thread = thread.map_err(|error| format!("the storage thread can't be started: {error}"))?;
        tokio::spawn(heed_clock(Arc::clone(hub), thread.thread().clone()));
        if let Some(mark) = set_mark {
            tokio::spawn(heed_mark(mark, synchronised, Arc::clone(hub), thread.thread().clone()));
        }
        hub.set_sleeper(Sleeper { mailbox, thread: thread.thread().clone() });
        thread.thread().unpark();
        Ok(Self { thread, stop })
    }

    /// Ends the thread once all that it was told is on disk.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // A panic ends the process, so there is no other error.
        let _ = self.thread.join();
    }
}

/// What the thread has.
struct Clerk {
    hub: Arc<Hub>,
    engine: Engine,
    keeper: Keeper<OsDisk>,
    health: Health,
    /// When the store wants to be kept again.
    keep_at: Option<Instant>,
    /// How many commits there had been when that was decided.
    kept: u64,
    mailbox: MailboxId,
    /// How long a commit waits for more.
    window: Duration,
    /// Something has set the clock.
    synchronised: Arc<AtomicBool>,
    /// How the clock stood.
    clock: ClockState,
    /// The engine's accounts by their numbers, each of which is used once, with their names.
    accounts: BTreeMap<u32, (String, Open)>,
    /// The broker's accounts of which those were.
    accounts_version: u64,
    next_account: u32,
    /// Accounts that the server has no room for, and why.
    refused: BTreeMap<String, String>,
    subs: HashMap<(Tag, Bytes), InsideSub>,
    /// Messages that reached nobody.
    lost: Vec<(Receipt, Bytes)>,
    /// Letters that were taken from the mailbox.
    letters: std::collections::VecDeque<midge_broker::Letter>,
}

/// An account that the engine knows.
#[derive(Clone)]
struct Open {
    /// What people call it.
    tag: String,
    /// The broker's names for it; the id is used again for others.
    id: AccountId,
    birth: u64,
    grant: Grant,
}

/// What the accounts of the broker may do with streams, by their names. One in which another account's API stands in place
/// of its own is left out.
fn grants(broker: &Broker<Handle>) -> BTreeMap<String, Open> {
    let settings = broker.settings();
    let system = settings.system_account.as_deref();
    let mut names: BTreeSet<&str> = settings.accounts.iter().map(|account| account.name.as_str()).collect();
    let is_other = |name: &&str| *name != GLOBAL_ACCOUNT && Some(*name) != system;
    // Without any account but the server's own, everybody has streams.
    let alone = settings.directory.trust.is_none() && !names.iter().any(is_other);
    names.extend([GLOBAL_ACCOUNT].into_iter().chain(system));
    let grant = |account: &Account| match (account.name(), account.streams()) {
        (name, _) if Some(name) == system => Some(Grant::System),
        (_, Some(share)) => Some(Grant::Enabled(self::share(share))),
        (GLOBAL_ACCOUNT, None) if alone => Some(Grant::Enabled(Share::Flat(AccountLimits::default()))),
        _ if imports_api(account) => None,
        _ => Some(Grant::Disabled),
    };
    let open = |(id, account): (AccountId, &Account)| {
        let (grant, tag) = (grant(account)?, account.tag().to_string());
        Some((account.name().to_owned(), Open { tag, id, birth: account.birth(), grant }))
    };
    broker.placed_accounts().filter(|(_, account)| names.contains(account.name())).filter_map(open).collect()
}

/// Whether another account answers who asks for the streams of this one.
fn imports_api(account: &Account) -> bool {
    let filters = account.service_imports().map(|import| import.to);
    filters.filter_map(|to| Filter::new(to.as_bytes()).ok()).any(|to| to.matches(b"$JS.API.INFO"))
}

fn share(share: &StreamShare) -> Share {
    let limits = |share: &StreamShare| AccountLimits {
        memory_bytes_max: share.memory_bytes,
        file_bytes_max: share.file_bytes,
        streams_max: share.streams,
        consumers_max: share.consumers,
        ack_pending_max: share.ack_pending,
        memory_stream_bytes_max: share.memory_stream_bytes,
        file_stream_bytes_max: share.file_stream_bytes,
        max_bytes_required: share.max_bytes_required,
    };
    match share.tiers.is_empty() {
        true => Share::Flat(limits(share)),
        false => Share::Tiers(
            share.tiers.iter().map(|(tier, share)| (tier.as_str().into(), limits(share))).collect(),
        ),
    }
}

/// A JSON object's members.
fn members(report: &impl serde::Serialize) -> String {
    // It has string keys only, and memory takes everything.
    let json = serde_json::to_string(report).unwrap_or_default();
    json.strip_prefix('{').and_then(|json| json.strip_suffix('}')).unwrap_or_default().to_owned()
}

fn sums(engine: &Engine) -> Sums {
    let midge_stream::Sums { memory, file, memory_reserved, file_reserved, accounts, requests, errors } =
        engine.sums();
    Sums { memory, file, memory_reserved, file_reserved, accounts, requests, errors }
}

fn wanted(wanted: Wanted) -> midge_stream::Wanted {
    let Wanted {
        account,
        accounts,
        streams,
        consumers,
        direct_consumers,
        config,
        leaders,
        offset,
        limit,
        rows,
    } = wanted;
    midge_stream::Wanted {
        account,
        accounts,
        streams,
        consumers,
        direct_consumers,
        config,
        leaders,
        offset,
        limit,
        rows,
    }
}

/// Which wall clock is believed.
fn trust(configured: ClockTrust) -> Trust {
    match configured {
        ClockTrust::Auto => Trust::default(),
        ClockTrust::Always => Trust { earliest: i64::MIN, synchronised: false },
        ClockTrust::Synchronised => Trust { earliest: EARLIEST, synchronised: true },
        ClockTrust::NotBefore(seconds) => {
            let earliest = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(SECOND);
            Trust { earliest, synchronised: false }
        }
    }
}

/// Why the clock isn't believed.
fn reason(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Trusted => None,
        Standing::TooEarly => Some("before the earliest time that can be"),
        Standing::Behind => Some("behind what was stored last"),
        Standing::NotSynchronised => Some("set by nobody yet"),
    }
}

/// Wakes the thread when the clock is set: what the calendar says may be due.
async fn heed_clock(hub: Arc<Hub>, thread: std::thread::Thread) {
    let watch = match ClockWatch::new() {
        Ok(watch) => watch,
        Err(error) => {
            return hub.log.warn(format_args!("clock: when it is set isn't noticed at once: {error}"));
        }
    };
    while watch.changed().await.is_ok() {
        thread.unpark();
    }
}

/// Tells the thread when the file comes that says that the clock was set, or goes.
async fn heed_mark(mark: PathBuf, synchronised: Arc<AtomicBool>, hub: Arc<Hub>, thread: std::thread::Thread) {
    let failed = |error| hub.log.warn(format_args!("clock: {} can't be watched: {error}", mark.display()));
    loop {
        let watch = match Watch::new(&mark) {
            Ok(watch) => watch,
            Err(error) => return failed(error),
        };
        synchronised.store(mark.exists(), Ordering::Release);
        thread.unpark();
        if let Err(error) = watch.changed().await {
            return failed(error);
        }
    }
}

impl Clerk {
    /// Opens the accounts that there are at the start, and brings back their streams.
    fn open_accounts(&mut self) -> Result<(), String> {
        self.follow_accounts();
        if let Some((name, why)) = self.refused.first_key_value() {
            return Err(format!("error enabling jetstream on configured accounts: {name}: {why}"));
        }
        let now = self.now();
        self.engine.load(now).map_err(|error| format!("streams can't be read: {error}"))
    }

    /// Opens and closes accounts as the broker has them now.
    fn follow_accounts(&mut self) {
        let now = self.now();
        let hub = Arc::clone(&self.hub);
        let (version, mut wanted) = hub.look(|broker, _| (broker.accounts_version(), grants(broker)));
        self.accounts_version = version;
        self.refused.clear();
        let known: BTreeMap<String, u32> =
            self.accounts.iter().map(|(number, (name, _))| (name.clone(), *number)).collect();
        for (name, account) in &mut wanted {
            let Grant::Enabled(share) = &account.grant else { continue };
            if let Err(why) = self.engine.check_share_fits(name, share) {
                hub.log.error(format_args!("Error configuring jetstream for account [{name}]: {why}"));
                self.refused.insert(name.clone(), why.to_string());
                // One that has streams keeps them, and what it was allowed.
                let grant = known.get(name).and_then(|number| self.accounts.get(number));
                account.grant = grant.map_or(Grant::Disabled, |(_, known)| known.grant.clone());
            }
        }
        let stays = |name: &str, known: &Open| {
            wanted.get(name).is_some_and(|wanted| (known.birth, known.id) == (wanted.birth, wanted.id))
        };
        let accounts = self.accounts.iter();
        let gone: Vec<u32> =
            accounts.filter(|(_, (name, known))| !stays(name, known)).map(|(number, _)| *number).collect();
        for number in &gone {
            self.engine.close_account(*number, now);
        }
        if !gone.is_empty() {
            // What the engine says of them is for subscriptions that are there yet.
            self.engine.commit(now);
            self.say();
            gone.iter().for_each(|number| drop(self.accounts.remove(number)));
        }
        for (name, account) in wanted {
            let number = known.get(&name).filter(|number| !gone.contains(number)).copied();
            if let Some(number) = number {
                let known = self.accounts.insert(number, (name, account.clone()));
                if known.is_none_or(|(_, known)| known.grant != account.grant)
                    && let Err(error) = self.engine.set_grant(number, account.grant, now)
                {
                    hub.log.error(format_args!("streams can't be read: {error}"));
                }
                continue;
            }
            let number = self.next_account;
            self.next_account += 1;
            if let Err(error) = self.engine.open(number, &name, account.grant.clone(), now) {
                hub.log.error(format_args!("streams can't be read: {error}"));
            }
            self.accounts.insert(number, (name, account));
        }
        let enabled = self.accounts.values().filter(|(_, it)| matches!(it.grant, Grant::Enabled(_)));
        hub.inquiry().set_accounts(enabled.map(|(name, _)| name.clone()).collect());
    }

    /// The time, after which the engine knows all that there is to know of the clock.
    fn now(&mut self) -> midge_stream::time::Now {
        self.engine.set_synchronised(self.synchronised.load(Ordering::Acquire));
        let now = self.hub.clock.now();
        let wall = i64::try_from(now.wall.as_nanos()).unwrap_or(i64::MAX);
        midge_stream::time::Now { mono: now.mono, wall }
    }

    fn run(mut self, stop: &AtomicBool) {
        loop {
            let ends = stop.load(Ordering::Acquire);
            self.take_in();
            if !ends && self.wait_for_more(stop) {
                self.take_in();
            }
            self.commit();
            let more = self.say();
            if more || !self.letters.is_empty() {
                continue;
            }
            if ends {
                let now = self.now();
                if let Err(error) = self.engine.save(now) {
                    self.hub.log.error(format_args!("streams: {error}"));
                }
                return;
            }
            if self.keep() {
                continue;
            }
            let now = self.hub.clock.now().mono;
            match self.engine.deadline().into_iter().chain(self.keep_at).min() {
                None => std::thread::park(),
                Some(at) => match at.since(now) {
                    Duration::ZERO => {}
                    wait => std::thread::park_timeout(wait),
                },
            }
        }
    }

    /// Does for the store what is to be done between commits, and says what it has to say. True if there is work at once.
    fn keep(&mut self) -> bool {
        let since = |at: Instant| Duration::from_micros(at.as_micros());
        let now = self.hub.clock.now().mono;
        if self.keeper.health() != self.health {
            // A disk that was just found full or broken is tried again soon.
            self.keep_at = Some(now);
        }
        let commits = self.keeper.commits();
        if std::mem::replace(&mut self.kept, commits) != commits {
            let soon = now + KEEP_PAUSE;
            self.keep_at = Some(self.keep_at.map_or(soon, |at| at.min(soon)));
        }
        if self.keep_at.is_none_or(|at| at <= now) {
            let next = self.keeper.maintain(since(now), KEEP_BYTES);
            // Messages come first: filling a file waits for the disk, and so would they.
            self.keep_at = next.map(|next| (Instant::default() + next).max(now + KEEP_PAUSE));
            if self.keeper.health() == Health::Full {
                // What gives room back counts once it is written.
                let at = self.now();
                if let Err(error) = self.engine.save(at) {
                    self.hub.log.error(format_args!("streams: {error}"));
                }
                self.keep_at = self.keep_at.map(|at| at.min(now + FULL_PAUSE));
            }
        }
        let health = self.keeper.health();
        let recovers = health != Health::ReadOnly && self.engine.has_failed();
        if recovers {
            let now = self.now();
            match self.engine.recover(now) {
                Ok(()) => self.hub.log.info("streams: as they were when the disk failed"),
                Err(error) => self.hub.log.error(format_args!("streams can't be read: {error}")),
            }
        }
        if std::mem::replace(&mut self.health, health) != health {
            match health {
                Health::Good => {
                    self.hub.vitals.recover();
                    self.hub.log.info("streams: the disk takes everything again");
                }
                Health::Full => {
                    self.hub.vitals.fill();
                    self.hub.log.error("streams: the disk is full, messages are refused");
                }
                Health::ReadOnly => {
                    self.hub.vitals.fail();
                    self.hub.log.error("streams: the disk failed, nothing is stored");
                }
            }
        }
        for damage in self.keeper.take_damages() {
            self.hub.vitals.damage();
            self.hub.log.error(format_args!("streams: {damage}"));
        }
        recovers
    }

    /// Takes in what came, does what is due, and commits.
    fn work(&mut self) {
        self.take_in();
        self.commit();
    }

    /// With a window, lets others share a commit that somebody waits for, unless something is due before. True if there may
    /// be more now.
    fn wait_for_more(&self, stop: &AtomicBool) -> bool {
        if self.window.is_zero() || !self.letters.is_empty() || !self.engine.is_owed() {
            return false;
        }
        let clock = self.hub.clock;
        let end = clock.now().mono + self.window;
        let until = self.engine.deadline().map_or(end, |at| at.min(end));
        loop {
            let left = until.since(clock.now().mono);
            if left.is_zero() || stop.load(Ordering::Acquire) {
                return true;
            }
            std::thread::park_timeout(left);
        }
    }

    fn take_in(&mut self) {
        let mailbox = self.mailbox;
        let (version, letters, interest) = self.hub.look(|broker, _| {
            (broker.accounts_version(), broker.take_letters(mailbox), broker.take_interest(mailbox))
        });
        if version != self.accounts_version {
            self.follow_accounts();
        }
        self.letters.extend(letters);
        let now = self.now();
        for (receipt, subject) in std::mem::take(&mut self.lost) {
            self.engine.handle(Input::Lost { receipt, subject: &subject }, now);
        }
        for change in interest {
            let tag = Tag::from_bits(change.tag);
            self.engine.handle(Input::Interest { tag, subject: &change.subject, exists: change.exists }, now);
        }
        for _ in 0..LETTERS_AT_ONCE {
            let Some(letter) = self.letters.pop_front() else { break };
            let message = Message {
                tag: Tag::from_bits(letter.tag),
                subject: letter.subject(),
                reply: letter.reply(),
                header: letter.header(),
                payload: letter.payload(),
            };
            self.engine.handle(Input::Message(message), now);
        }
    }

    fn commit(&mut self) {
        let now = self.now();
        self.engine.tick(now);
        self.engine.commit(now);
        self.tell_clock(now.wall);
        self.answer(now);
        for complaint in self.engine.take_complaints() {
            self.hub.log.warn(format_args!("streams: {complaint}"));
        }
    }

    /// Says whether the clock is believed, if that has changed.
    fn tell_clock(&mut self, wall: i64) {
        let (clock, log) = (self.engine.clock(), &self.hub.log);
        let was = std::mem::replace(&mut self.clock, clock);
        let reason = reason(clock.standing);
        let (ahead, off) = (clock.ahead / MILLISECOND, clock.off / MILLISECOND);
        let trusted = reason.is_none();
        let vital = ClockVital { trusted, reason, stamps_ahead_ms: ahead, jumps: clock.jumps, off_ms: off };
        self.hub.vitals.set_clock(vital);
        if clock.standing != was.standing {
            match reason {
                Some(reason) => log.warn(format_args!(
                    "clock: it says {}, which is {reason}; messages are stamped from {} on, and get older only while this runs",
                    rfc3339(wall),
                    rfc3339(wall.saturating_add(clock.ahead)),
                )),
                None => log.info(format_args!("clock: it says {}, which is believed", rfc3339(wall))),
            }
        }
        if clock.jumps != was.jumps {
            log.warn(format_args!(
                "clock: it was set ahead, to {}; nothing gets older by that",
                rfc3339(wall)
            ));
        }
        if clock.off != was.off && was.standing != Standing::Trusted {
            log.info(format_args!(
                "clock: this machine was off for {}, which counts",
                go_duration(clock.off)
            ));
        }
    }

    /// Answers who watches the daemon.
    fn answer(&self, now: midge_stream::time::Now) {
        for (question, asker) in self.hub.inquiry().take() {
            // Whoever asked may have left.
            let _ = asker.send(self.answer_one(question, now));
        }
    }

    fn answer_one(&self, question: Question, now: midge_stream::time::Now) -> Answer {
        let tag = |name: &str| {
            let known = self.accounts.values().find(|(known, _)| known == name);
            known.map_or_else(|| name.to_owned(), |(_, known)| known.tag.clone())
        };
        let sums = sums(&self.engine);
        match question {
            Question::Sums => Answer::Sums(sums),
            Question::Report(wanted) => {
                Answer::Report(sums, members(&self.engine.report(&self::wanted(wanted), &tag, now)))
            }
            Question::Account(wanted) => match self.engine.account_report(&self::wanted(wanted), &tag, now) {
                Some(report) => Answer::Report(sums, members(&report)),
                None => Answer::Missing(Missing::Account),
            },
            Question::Find { account, stream, consumer } => {
                match self.engine.find(&account, &stream, &consumer) {
                    Ok(()) => Answer::Found,
                    Err(midge_stream::Missing::Account) => Answer::Missing(Missing::Account),
                    Err(midge_stream::Missing::Stream) => Answer::Missing(Missing::Stream),
                    Err(midge_stream::Missing::Consumer) => Answer::Missing(Missing::Consumer),
                }
            }
        }
    }

    /// Does what the engine says. True if there is more work at once.
    fn say(&mut self) -> bool {
        let hub = Arc::clone(&self.hub);
        let mut next = self.engine.poll();
        while next.is_some() {
            hub.turn(|broker, now| {
                if broker.accounts_version() != self.accounts_version {
                    self.look_for_accounts(broker);
                }
                let mut bytes = 0;
                for _ in 0..OUTPUTS_A_TURN {
                    let Some(output) = next.take() else { break };
                    bytes += self.do_output(broker, output, now);
                    next = self.engine.poll();
                    if bytes >= BYTES_A_TURN {
                        break;
                    }
                }
            });
        }
        self.engine.is_hungry() || !self.lost.is_empty()
    }

    /// Gives the bytes that it published.
    fn do_output(&mut self, broker: &mut Broker<Handle>, output: Output, now: Now) -> usize {
        match output {
            Output::Subscribe { account, filter, tag } => {
                if let Some(id) = self.account(account)
                    && let Some(sub) = match tag.takes_imports() {
                        true => broker.subscribe_inside_and_imports(id, &filter, self.mailbox, tag.to_bits()),
                        false => broker.subscribe_inside(id, &filter, self.mailbox, tag.to_bits()),
                    }
                {
                    self.subs.insert((tag, filter), sub);
                }
                0
            }
            Output::Unsubscribe { filter, tag } => {
                if let Some(sub) = self.subs.remove(&(tag, filter)) {
                    broker.unsubscribe_inside(sub);
                }
                0
            }
            Output::Watch { account, subject, tag } => {
                if let Some(id) = self.account(account) {
                    broker.watch(id, &subject, self.mailbox, tag.to_bits());
                }
                0
            }
            Output::Unwatch { account, subject, tag } => {
                if let Some(id) = self.account(account) {
                    broker.unwatch(id, &subject, self.mailbox, tag.to_bits());
                }
                0
            }
            Output::Publish(publish) => {
                let Some(id) = self.account(publish.account) else { return 0 };
                let post = Post {
                    subject: &publish.subject,
                    shown: publish.shown.as_deref(),
                    reply: publish.reply.as_deref(),
                    header: &publish.header,
                    payload: &publish.payload,
                };
                let delivered = midge_wire::inject(broker, id, &post, now);
                if let Some(receipt) = publish.receipt.filter(|_| !delivered) {
                    self.lost.push((receipt, publish.subject));
                }
                publish.header.len() + publish.payload.len()
            }
        }
    }

    /// Accounts may have gone, and others have come in their places.
    fn look_for_accounts(&mut self, broker: &Broker<Handle>) {
        let births: BTreeMap<_, _> =
            broker.placed_accounts().map(|(id, account)| (account.birth(), id)).collect();
        for (_, known) in self.accounts.values_mut() {
            match births.get(&known.birth) {
                Some(id) => known.id = *id,
                None => known.birth = GONE,
            }
        }
    }

    /// The broker's name for one of the engine's accounts, if it is still there.
    fn account(&self, account: u32) -> Option<AccountId> {
        let (_, known) = self.accounts.get(&account)?;
        (known.birth != GONE).then_some(known.id)
    }
}
