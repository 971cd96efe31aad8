//! The storage thread: between the broker and the engine of streams.
//!
//! ```text
//!   broker ── letters, interest ──> mailbox ─┐ bell
//!      ^                                     v
//!      └──── turn <── outputs <── commit <── Engine      one thread, which alone waits for the disk
//!
//!   clerk       what the thread does: takes in, commits, says what follows, sleeps
//!   accounts    the engine's accounts, which come and go with the broker's
//!   outputs     what the engine says, done in the broker
//!   upkeep      what the store wants between commits, and how the disk is
//!   clock       whether the machine's clock is believed, and who sets it
//!   questions   what those who watch the daemon want to know
//! ```
//!
//! The thread takes all that has come meanwhile, lets the engine handle it, commits once, and only then says what
//! follows from it: everybody who published meanwhile shares one wait for the disk. It sleeps until it is rung or the
//! engine's next deadline. While it sleeps, whoever rings answers requests for single messages itself, as far as that waits
//! for nothing ([`clerk`]): a value of a key-value store needs no other thread.

mod accounts;
mod clerk;
mod clock;
mod end;
mod outputs;
mod questions;
mod upkeep;

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use midge_config::{BatchLimits, JetStreamLimits, Options};
use midge_store::Store;
use midge_store::disk::OsDisk;
use midge_stream::config::{self, Limits};
use midge_stream::log::FileShelf;
use midge_stream::{Engine, SYNC_EVERY, Settings, Sync};

use self::accounts::Accounts;
use self::clerk::Clerk;
use self::clock::Clock;
use self::end::End;
use self::outputs::Outputs;
use self::upkeep::Upkeep;
use crate::clock::entropy;
use crate::hub::{Hub, Sleeper};

/// Bytes of messages that wait for the engine at most. Above that, publishers are told that nobody responds.
const MAILBOX_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The running storage thread.
pub(crate) struct Streams {
    thread: JoinHandle<()>,
    end: Arc<End>,
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
                broker.follow_traces(mailbox);
                Some(mailbox)
            })
            .ok_or_else(|| "too many parts have mailboxes".to_owned())?;
        let clock = Clock::new(&options.clock);
        let synchronised = clock.synchronised();
        let mut clerk = Clerk {
            hub: Arc::clone(hub),
            engine: Engine::new(settings(options, server_name), shelf.boxed()),
            upkeep: Upkeep::new(keeper, hub.clock.now().mono),
            mailbox,
            window: options.jetstream.commit_window,
            clock,
            accounts: Accounts::default(),
            outputs: Outputs::new(mailbox),
            letters: Default::default(),
        };
        clerk.open_accounts()?;
        // Whoever connects first finds the subjects taken.
        clerk.work();
        clerk.say();
        let clerk = Arc::new(Mutex::new(clerk));
        let end = Arc::new(End::default());
        let thread = {
            let end = Arc::clone(&end);
            let clerk = Arc::clone(&clerk);
            std::thread::Builder::new().name("streams".to_owned()).spawn(move || Clerk::run(&clerk, &end))
        };
        let thread = thread.map_err(|error| format!("the storage thread can't be started: {error}"))?;
        clock::heed(&options.clock, synchronised, hub, thread.thread());
        // The store is to be closed when the thread has ended.
        let clerk = Arc::downgrade(&clerk);
        let at_once = Box::new(move || clerk.upgrade().is_some_and(|clerk| Clerk::answer_at_once(&clerk)));
        hub.set_sleeper(Sleeper { mailbox, thread: thread.thread().clone(), at_once });
        thread.thread().unpark();
        Ok(Self { thread, end })
    }

    /// Tells clients that wait for messages that the server ends. It waits for that as long as the disk takes to commit.
    pub(crate) async fn part(&self) {
        self.end.part();
        self.thread.thread().unpark();
        self.end.until_parted().await;
    }

    /// Ends the thread once all that it was told is on disk.
    pub(crate) fn stop(self) {
        self.end.ask();
        self.thread.thread().unpark();
        // A panic ends the process, so there is no other error.
        let _ = self.thread.join();
    }
}

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

/// What the configuration says to the engine.
fn settings(options: &Options, server_name: &str) -> Settings {
    let jetstream = &options.jetstream;
    let (sync, sync_every) = match jetstream.sync {
        Some(midge_config::Sync::Every(every)) if !every.is_zero() => (Sync::Interval, every),
        _ => (Sync::Always, SYNC_EVERY),
    };
    Settings {
        domain: jetstream.domain.clone(),
        strict: jetstream.strict,
        memory_bytes_max: jetstream.memory_bytes_max,
        file_bytes_max: jetstream.file_bytes_max,
        limits: limits(&jetstream.limits),
        long_acks: jetstream.long_acks,
        server_name: server_name.to_owned(),
        seed: u64::from_le_bytes(entropy()),
        zones: |name| jiff::tz::TimeZone::get(name).ok(),
        trust: clock::trust(options.clock.trust),
        sync,
        sync_every,
    }
}

fn limits(asked: &JetStreamLimits) -> Limits {
    let count = |asked: u64| i64::try_from(asked).unwrap_or(i64::MAX);
    let default = Limits::default();
    let BatchLimits { per_stream_max, total_max, messages_max, timeout } = asked.batch;
    Limits {
        duplicate_window: asked
            .duplicate_window_max
            .map_or(0, |window| i64::try_from(window.as_nanos()).unwrap_or(i64::MAX)),
        max_ack_pending: count(asked.ack_pending_max),
        max_request_batch: count(asked.request_batch_max),
        default_max_consumers: match asked.consumers_default {
            0 => default.default_max_consumers,
            asked => count(asked),
        },
        batches: config::BatchLimits::of(per_stream_max, total_max, messages_max, timeout),
    }
}
