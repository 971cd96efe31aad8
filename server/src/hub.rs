//! The broker, its lock, and what happens around each use of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use midge_broker::{Broker, MailboxId, Now, Stall};
use midge_wire::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::callout::{Courier, MAIL_BYTES_MAX};
use crate::clock::Clock;
use crate::elsewhere::Outside;
use crate::inquiry::{Answer, Inquiry, Question, Unresponsive};
use crate::log::Log;
use crate::memory::Memory;
use crate::vitals::Vitals;
use crate::workers::{Worker, Workers};

/// What all tasks share.
pub(crate) struct Hub {
    broker: Mutex<Broker<Handle>>,
    pub(crate) clock: Clock,
    pub(crate) log: Arc<Log>,
    pub(crate) memory: Memory,
    /// What questions are answered with.
    pub(crate) outside: Arc<Outside>,
    /// Who carries questions to services.
    pub(crate) courier: Courier,
    /// Rung when a mailbox has mail; a broker has no more of them than these.
    bells: [Notify; 32],
    /// The moment that the timer task sleeps until, in µs; `u64::MAX`: for ever.
    armed: AtomicU64,
    rearm: Notify,
    /// Who is to be told that a mailbox has mail.
    sleeper: OnceLock<Sleeper>,
    /// Where connections are served.
    pub(crate) workers: Workers,
    /// What ails the streams.
    pub(crate) vitals: Vitals,
    inquiry: Inquiry,
    /// Held by each connection's task, so that the end can wait for them.
    lives: Arc<Semaphore>,
}

/// A thread that empties a mailbox, and sleeps while there is nothing in it.
pub(crate) struct Sleeper {
    pub(crate) mailbox: MailboxId,
    /// Wakes it.
    pub(crate) bell: Arc<Notify>,
    /// Does at once what is in the mailbox, on the thread that rings, if that waits for nothing. False: the sleeper has to.
    pub(crate) at_once: Box<dyn Fn() -> bool + Send + Sync>,
    /// Its event loop, for connections that talk to nobody else.
    pub(crate) worker: Arc<Worker>,
    /// It is done with what wakes it sooner than another thread would be awake.
    pub(crate) quick: Arc<AtomicBool>,
}

/// What a connection's turn brought for the [`Sleeper`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Brought {
    /// Letters.
    pub(crate) letters: usize,
    /// It was woken for them.
    pub(crate) woke: bool,
}

/// More tasks than a process has descriptors.
const LIVES: u32 = 1 << 24;

impl Hub {
    pub(crate) fn new(
        mut broker: Broker<Handle>,
        clock: Clock,
        log: Arc<Log>,
        outside: Outside,
        workers: Workers,
    ) -> Self {
        let courier = Courier::new(broker.open_mailbox(MAIL_BYTES_MAX));
        Self {
            courier,
            broker: Mutex::new(broker),
            clock,
            log,
            memory: Memory::default(),
            outside: Arc::new(outside),
            bells: Default::default(),
            armed: u64::MAX.into(),
            rearm: Notify::new(),
            sleeper: OnceLock::new(),
            workers,
            vitals: Vitals::default(),
            inquiry: Inquiry::default(),
            lives: Arc::new(Semaphore::new(LIVES as usize)),
        }
    }

    /// Rung when this mailbox has mail.
    pub(crate) fn bell(&self, mailbox: MailboxId) -> Option<&Notify> {
        self.bells.get(mailbox.index())
    }

    /// Whom to wake when a mailbox has mail. Only the first counts.
    #[cfg_attr(
        not(feature = "jetstream"),
        expect(dead_code, reason = "streams alone have a thread of their own")
    )]
    pub(crate) fn set_sleeper(&self, sleeper: Sleeper) {
        let _ = self.sleeper.set(sleeper);
    }

    /// Who was set.
    pub(crate) fn sleeper(&self) -> Option<&Sleeper> {
        self.sleeper.get()
    }

    /// What the storage thread says. `None`: there are no streams.
    pub(crate) async fn ask_streams(&self, question: Question) -> Result<Option<Answer>, Unresponsive> {
        let Some(sleeper) = self.sleeper.get() else { return Ok(None) };
        self.inquiry.ask(question, || sleeper.bell.notify_one()).await.map(Some)
    }

    /// Questions about the streams.
    pub(crate) fn inquiry(&self) -> &Inquiry {
        &self.inquiry
    }

    /// To be held by a connection's task to its end.
    pub(crate) fn life(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.lives).try_acquire_owned().ok()
    }

    /// Waits until no connection's task is left.
    pub(crate) async fn all_gone(&self) {
        // Fails only for a closed semaphore, and nobody closes it.
        let _ = self.lives.acquire_many(LIVES).await;
    }

    /// One turn: locks the broker, lets `work` have it, and sees to it that what came of it is written. The second value
    /// is whom a publisher should wait for.
    pub(crate) fn turn<R>(
        &self,
        work: impl FnOnce(&mut Broker<Handle>, Now) -> R,
    ) -> (R, Option<Stall<Handle>>) {
        let (result, stall, _) = self.turn_and_tell(work);
        (result, stall)
    }

    /// The same, and says what it brought for the streams.
    pub(crate) fn turn_and_tell<R>(
        &self,
        work: impl FnOnce(&mut Broker<Handle>, Now) -> R,
    ) -> (R, Option<Stall<Handle>>, Brought) {
        let sleeper = self.sleeper.get();
        let mut brought = Brought::default();
        let mut broker = self.lock();
        // Read under the lock, so that time never goes back for the broker.
        let now = self.clock.now();
        broker.begin_turn(now, midge_heap::in_use());
        let waiting = sleeper.map_or(0, |sleeper| broker.letters_waiting(sleeper.mailbox));
        let result = work(&mut broker, now);
        let stall = midge_wire::flush(&mut broker, now);
        let notices = broker.take_notices();
        let deadline = broker.deadline();
        let rings = broker.take_rings();
        if let Some(sleeper) = sleeper {
            brought.letters = broker.letters_waiting(sleeper.mailbox).saturating_sub(waiting);
        }
        drop(broker);
        for mailbox in rings {
            match sleeper {
                Some(sleeper) if sleeper.mailbox == mailbox => {
                    if !(sleeper.at_once)() {
                        brought.woke = true;
                        sleeper.bell.notify_one();
                    }
                }
                _ => self.bell(mailbox).into_iter().for_each(Notify::notify_one),
            }
        }
        for notice in notices {
            self.log.write(notice.level.into(), notice.text);
        }
        if deadline.is_some_and(|at| at.as_micros() < self.armed.load(Ordering::Acquire)) {
            self.rearm.notify_one();
        }
        midge_wire::settle();
        self.memory.watch();
        (result, stall, brought)
    }

    /// Looks at the broker without changing anything that must be written.
    pub(crate) fn look<R>(&self, read: impl FnOnce(&mut Broker<Handle>, Now) -> R) -> R {
        let now = self.clock.now();
        read(&mut self.lock(), now)
    }

    /// Does what is due, when it is due, and sleeps in between. Never returns.
    pub(crate) async fn run_timers(&self) {
        loop {
            let deadline = self.look(|broker, _| {
                let deadline = broker.deadline();
                // Stored under the lock: a turn that brings an earlier deadline comes before the look or sees this.
                self.armed.store(deadline.map_or(u64::MAX, |at| at.as_micros()), Ordering::Release);
                deadline
            });
            match deadline {
                None => self.rearm.notified().await,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(self.clock.at(at)) => {
                        self.turn(|broker, now| broker.tick(now));
                    }
                    () = self.rearm.notified() => {}
                },
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Broker<Handle>> {
        // With panic = "abort" nobody is left to see a poisoned lock; in tests the state is as good as it was.
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
