//! What the storage thread does: takes in, commits, says what follows, sleeps.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use midge_attach::{Accounts, Outputs, Wanted, input, interest, message, moment};
use midge_broker::{Instant, Letter, MailboxId};
use midge_stream::time::Now;
use midge_stream::{Engine, Tag};
use tokio::sync::Notify;

use super::clock::Clock;
use super::end::End;
use super::questions;
use super::upkeep::Upkeep;
use crate::hub::Hub;
use crate::workers::Worker;

/// Outputs that are done in one turn of the broker.
const OUTPUTS_A_TURN: usize = 512;
/// Bytes of them.
const BYTES_A_TURN: usize = 256 * 1024;
/// Letters that are handled before what follows from them is said.
const LETTERS_AT_ONCE: usize = 4096;

/// Requests that are answered by the thread that brings them; more are shared with the thread of the streams.
const AT_ONCE: usize = 8;

/// After a rest of this length the start is over.
const CALM: Duration = Duration::from_secs(1);

/// A disk whose commits take longer than this, mostly, is slower than waking another thread.
const QUICK: Duration = Duration::from_millis(1);

/// Why the thread has stopped working.
enum Rest {
    /// There is nothing to do, for so long or until it is rung.
    Until(Option<Duration>),
    /// There is more to do, but connections on this thread have their turn.
    No,
    /// All that it was told is on the disk.
    End,
}

/// What the thread has.
pub(super) struct Clerk {
    pub(super) hub: Arc<Hub>,
    pub(super) engine: Engine,
    pub(super) upkeep: Upkeep,
    pub(super) mailbox: MailboxId,
    /// How long a commit waits for more.
    pub(super) window: Duration,
    /// Until when this one does.
    pub(super) gathers: Option<Instant>,
    /// The event loop of the thread, and the connections on it.
    pub(super) worker: Arc<Worker>,
    /// How long commits take, about.
    pub(super) pace: Duration,
    /// Whether that is [`QUICK`].
    pub(super) quick: Arc<AtomicBool>,
    pub(super) clock: Clock,
    pub(super) accounts: Accounts,
    pub(super) outputs: Outputs,
    /// Letters that were taken from the mailbox.
    pub(super) letters: VecDeque<Letter>,
}

impl Clerk {
    /// Opens the accounts that there are at the start, and brings back their streams.
    pub(super) fn open_accounts(&mut self) -> Result<(), String> {
        self.follow_accounts();
        if let Some((name, why)) = self.accounts.refused().next() {
            return Err(format!("error enabling jetstream on configured accounts: {name}: {why}"));
        }
        let now = self.now();
        self.engine.load(now).map_err(|error| format!("streams can't be read: {error}"))
    }

    /// What the thread does until it is told to stop. It has the clerk whenever it doesn't sleep.
    pub(super) async fn run(clerk: Arc<Mutex<Self>>, end: Arc<End>, bell: Arc<Notify>) {
        let mut starts = true;
        loop {
            let rest = clerk.lock().unwrap_or_else(PoisonError::into_inner).work_on(&end);
            if starts && matches!(&rest, Rest::Until(wait) if wait.is_none_or(|wait| wait >= CALM)) {
                // The store has done what a start brings, which needed a part of the program that nothing else does.
                starts = false;
                midge_heap::unmap_program();
            }
            match rest {
                Rest::End => return,
                Rest::No => tokio::task::yield_now().await,
                Rest::Until(None) => bell.notified().await,
                Rest::Until(Some(wait)) => {
                    // Rung or not, there may be something to do.
                    let _ = tokio::time::timeout(wait, bell.notified()).await;
                }
            }
        }
    }

    /// Works until there is nothing to do.
    fn work_on(&mut self, end: &End) -> Rest {
        loop {
            let (ends, parts) = (end.is_asked(), end.is_parting());
            self.take_in();
            if !ends
                && !parts
                && let Some(wait) = self.wait_for_more()
            {
                return Rest::Until(Some(wait));
            }
            if parts {
                let now = self.now();
                self.engine.part(now);
            }
            self.commit();
            let more = self.say();
            if parts {
                end.parted();
            }
            if more || !self.letters.is_empty() {
                if self.worker.load() > 0 {
                    return Rest::No;
                }
                continue;
            }
            if ends {
                let now = self.now();
                if let Err(error) = self.engine.save(now) {
                    self.hub.log.error(format_args!("streams: {error}"));
                }
                return Rest::End;
            }
            if self.upkeep.work(&self.hub, &mut self.engine, &self.clock) {
                continue;
            }
            let now = self.hub.clock.now().mono;
            match self.engine.deadline().into_iter().chain(self.upkeep.deadline()).min() {
                None => return Rest::Until(None),
                Some(at) => match at.since(now) {
                    Duration::ZERO => {}
                    wait => return Rest::Until(Some(wait)),
                },
            }
        }
    }

    /// Answers what is in the mailbox, on the thread that put it there, if these are requests for messages that need no
    /// wait for the disk, and few of them. False if anything is left: the thread of the streams does it.
    pub(super) fn answer_at_once(clerk: &Mutex<Self>) -> bool {
        // Whoever works comes by and finds it.
        let Ok(mut clerk) = clerk.try_lock() else { return false };
        let clerk = &mut *clerk;
        if !clerk.letters.is_empty() {
            return false;
        }
        let (mailbox, version) = (clerk.mailbox, clerk.accounts.version());
        let (letters, now) = clerk.hub.look(|broker, now| {
            let letters = match broker.accounts_version() == version {
                true => broker.take_letters_if(mailbox, AT_ONCE, |tag| Tag::from_bits(tag).is_direct()),
                false => VecDeque::new(),
            };
            (letters, now)
        });
        if letters.is_empty() {
            return false;
        }
        clerk.letters = letters;
        let now = moment(now);
        while let Some(letter) = clerk.letters.front()
            && clerk.engine.answer_at_once(&message(letter), now)
        {
            clerk.letters.pop_front();
            clerk.say();
        }
        clerk.letters.is_empty() && !clerk.outputs.has_lost()
    }

    /// Takes in what came, does what is due, and commits.
    pub(super) fn work(&mut self) {
        self.take_in();
        self.commit();
    }

    fn now(&mut self) -> Now {
        self.clock.now(&self.hub, &mut self.engine)
    }

    /// Opens and closes accounts as the broker has them now.
    fn follow_accounts(&mut self) {
        let now = self.now();
        let wanted = self.hub.look(|broker, _| Wanted::of(broker));
        let change = self.accounts.begin(wanted, &mut self.engine, now);
        for (name, why) in self.accounts.refused() {
            self.hub.log.error(format_args!("Error configuring jetstream for account [{name}]: {why}"));
        }
        if change.closes() {
            self.engine.commit(now);
            self.say();
        }
        for error in self.accounts.finish(change, &mut self.engine, now) {
            self.hub.log.error(format_args!("streams can't be read: {error}"));
        }
        self.hub.inquiry().set_accounts(self.accounts.enabled());
    }

    fn take_in(&mut self) {
        let mailbox = self.mailbox;
        let letters = &mut self.letters;
        let (version, changes) = self.hub.look(|broker, _| {
            // Those that are left come first.
            if letters.is_empty() {
                broker.swap_letters(mailbox, letters);
            } else {
                letters.extend(broker.take_letters(mailbox));
            }
            (broker.accounts_version(), broker.take_interest(mailbox))
        });
        if version != self.accounts.version() {
            self.follow_accounts();
        }
        let now = self.now();
        let engine = &mut self.engine;
        self.outputs.take_lost(|lost| engine.handle(lost, now));
        for change in &changes {
            engine.handle(interest(change), now);
        }
        for _ in 0..LETTERS_AT_ONCE {
            let Some(letter) = self.letters.pop_front() else { break };
            self.engine.handle(input(&letter), now);
        }
    }

    /// With a window, how long others may still come to share a commit that somebody waits for, unless something is due
    /// before.
    fn wait_for_more(&mut self) -> Option<Duration> {
        if self.window.is_zero() || !self.letters.is_empty() || !self.engine.is_owed() {
            self.gathers = None;
            return None;
        }
        let now = self.hub.clock.now().mono;
        let latest = *self.gathers.get_or_insert(now + self.window);
        let left = self.engine.deadline().map_or(latest, |at| at.min(latest)).since(now);
        if left.is_zero() {
            self.gathers = None;
            return None;
        }
        Some(left)
    }

    fn commit(&mut self) {
        let now = self.now();
        self.engine.tick(now);
        let waits = self.engine.is_owed();
        self.engine.commit(now);
        if waits {
            self.keep_pace(now);
        }
        self.clock.tell(&self.hub, self.engine.clock(), now.wall);
        for (question, asker) in self.hub.inquiry().take() {
            // Whoever asked may have left.
            let _ = asker.send(questions::answer(question, &self.engine, &self.accounts, now));
        }
        for complaint in self.engine.take_complaints() {
            self.hub.log.warn(format_args!("streams: {complaint}"));
        }
    }

    /// Notes how long the commit took that began at `now`: how it is mostly counts, not how it was once.
    fn keep_pace(&mut self, now: Now) {
        let took = self.hub.clock.now().mono.since(now.mono);
        self.pace = (self.pace * 7 + took) / 8;
        // Who waits for others waits longer than for another thread.
        self.quick.store(self.pace < QUICK && self.window.is_zero(), Ordering::Relaxed);
    }

    /// Does what the engine says. True if there is more work at once.
    pub(super) fn say(&mut self) -> bool {
        let Self { hub, engine, accounts, outputs, .. } = self;
        let mut next = engine.poll();
        while next.is_some() {
            hub.turn(|broker, now| {
                accounts.look(broker);
                let mut bytes = 0;
                for _ in 0..OUTPUTS_A_TURN {
                    let Some(output) = next.take() else { break };
                    bytes += outputs.act(broker, accounts, output, now, midge_wire::inject);
                    next = engine.poll();
                    if bytes >= BYTES_A_TURN {
                        break;
                    }
                }
            });
        }
        self.engine.is_hungry() || self.outputs.has_lost()
    }
}
