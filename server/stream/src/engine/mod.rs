//! All streams of all accounts.
//!
//! A driver's turn: [`Engine::handle`] for each input, [`Engine::tick`], [`Engine::commit`], then do what
//! [`Engine::poll`] says. It may sleep until [`Engine::deadline`], unless [`Engine::is_hungry`].
//!
//! Each file of this folder is one thing that is decided about them.

mod accounts;
mod commit;
mod failure;
mod input;
mod load;
mod room;
mod settings;
mod settle;
mod streams;
mod timers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::backup::Backups;
use crate::calendar::{Calendar, ClockState};
use crate::copying::Copiers;
use crate::cx::Cx;
use crate::log::Shelf;
use crate::random::Random;
use crate::seam::{Account, Out, Output};
use crate::space::Space;
use crate::stream::{Aside, Stream};
use crate::time::{Instant, Now};

pub use settings::{Settings, Zone};

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

/// A [`Cx`] of fields of the engine, so that others stay free.
macro_rules! cx {
    ($engine:ident, $account:expr, $now:expr) => {
        $crate::cx::Cx {
            now: $now,
            calendar: &$engine.calendar,
            space: $engine.spaces.get(&$account),
            out: &mut $engine.out,
            random: &mut $engine.random,
            account: $account,
            domain: $engine.settings.domain.as_deref(),
            long_acks: $engine.settings.long_acks,
            zones: $engine.settings.zones,
            limits: &$engine.settings.limits,
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

    /// Whether something has set the clock, as far as a driver knows. It counts where [`Trust::synchronised`](crate::Trust::synchronised) asks for it.
    pub fn set_synchronised(&mut self, synchronised: bool) {
        self.calendar.set_synchronised(synchronised);
    }

    /// How the clock stood when the engine was last told the time.
    pub fn clock(&self) -> ClockState {
        self.calendar.state()
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
