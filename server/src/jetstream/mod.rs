//! The storage thread: between the broker and the engine of streams.
//!
//! ```text
//!   broker ── letters, interest ──> mailbox ─┐ bell
//!      ^                                     v
//!      └──── turn <── outputs <── commit <── Engine      one thread, which alone waits for the disk
//!
//!   clerk       what the thread does: takes in, commits, says what follows, sleeps
//!   upkeep      what the store wants between commits, and how the disk is
//!   clock       whether the machine's clock is believed, and who sets it
//!   questions   what those who watch the daemon want to know
//! ```
//!
//! The thread takes all that has come meanwhile, lets the engine handle it, commits once, and only then says what
//! follows from it: everybody who published meanwhile shares one wait for the disk. It sleeps until it is rung or the
//! engine's next deadline. While it sleeps, whoever rings answers requests for single messages itself, as far as that waits
//! for nothing ([`clerk`]): a value of a key-value store needs no other thread. It sleeps in an event loop, and connections that
//! have nothing but one thing at a time for it are served there (`net/habit.rs` decides): that wakes no other thread either.

mod clerk;
mod clock;
mod end;
mod questions;
mod upkeep;

use std::io::ErrorKind;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use midge_attach::{Accounts, Outputs, settings};
use midge_config::Options;
use midge_store::Store;
use midge_store::disk::OsDisk;
use midge_stream::Engine;
use midge_stream::log::FileShelf;
use tokio::sync::Notify;

use self::clerk::Clerk;
use self::clock::Clock;
use self::end::End;
use self::upkeep::Upkeep;
use crate::clock::entropy;
use crate::hub::{Hub, Sleeper};
use crate::workers::{self, Worker};

/// Bytes of messages that wait for the engine at most. Above that, publishers are told that nobody responds.
const MAILBOX_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The running storage thread.
pub(crate) struct Streams {
    thread: JoinHandle<()>,
    end: Arc<End>,
    /// Wakes it.
    bell: Arc<Notify>,
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
        let failed = |error| format!("the storage thread can't be started: {error}");
        let runtime = workers::runtime().map_err(failed)?;
        let worker = Worker::new(runtime.handle().clone());
        let window = options.jetstream.commit_window;
        let quick = Arc::new(AtomicBool::new(window.is_zero()));
        let clock = Clock::new(&options.clock);
        let synchronised = clock.synchronised();
        let mut clerk = Clerk {
            hub: Arc::clone(hub),
            engine: Engine::new(settings(options, server_name, u64::from_le_bytes(entropy())), shelf.boxed()),
            upkeep: Upkeep::new(keeper, hub.clock.now().mono),
            mailbox,
            window,
            gathers: None,
            worker: Arc::clone(&worker),
            pace: Duration::ZERO,
            quick: Arc::clone(&quick),
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
        let (end, bell) = (Arc::new(End::default()), Arc::new(Notify::new()));
        let work = Clerk::run(Arc::clone(&clerk), Arc::clone(&end), Arc::clone(&bell));
        let thread = std::thread::Builder::new().name("streams".to_owned()).spawn(move || {
            // As one of the tasks, which to wake costs the thread itself nothing. Without a flusher: what a commit brought is
            // written before the next one begins. A panic ends the process.
            let work = runtime.spawn(work);
            let _ = runtime.block_on(work);
        });
        let thread = thread.map_err(failed)?;
        clock::heed(&options.clock, synchronised, hub, &bell);
        // The store is to be closed when the thread has ended.
        let clerk = Arc::downgrade(&clerk);
        let at_once = Box::new(move || clerk.upgrade().is_some_and(|clerk| Clerk::answer_at_once(&clerk)));
        hub.set_sleeper(Sleeper { mailbox, bell: Arc::clone(&bell), at_once, worker, quick });
        bell.notify_one();
        Ok(Self { thread, end, bell })
    }

    /// Tells clients that wait for messages that the server ends. It waits for that as long as the disk takes to commit.
    pub(crate) async fn part(&self) {
        self.end.part();
        self.bell.notify_one();
        self.end.until_parted().await;
    }

    /// Ends the thread once all that it was told is on disk.
    pub(crate) fn stop(self) {
        self.end.ask();
        self.bell.notify_one();
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
    std::fs::create_dir_all(&directory).map_err(|error| match error.kind() {
        // Programs that start nats-server look for its words.
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            failed(&"storage directory is not a directory")
        }
        _ => failed(&format_args!("could not create storage directory - {error}")),
    })?;
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
