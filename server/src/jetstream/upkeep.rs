//! What the store wants between commits, and how the disk is.

use std::time::Duration;

use midge_broker::Instant;
use midge_store::Health;
use midge_store::disk::OsDisk;
use midge_stream::Engine;
use midge_stream::log::Keeper;

use super::clock::Clock;
use crate::hub::Hub;

/// Bytes that the store reads and writes at a time for its own sake.
const BYTES: u64 = 256 * 1024;
/// Rest between two times.
const PAUSE: Duration = Duration::from_millis(50);
/// How often room is looked for while there is none.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// From the start to the first time.
const FIRST: Duration = Duration::from_secs(1);

/// When what is to be done, and how it stood.
pub(super) struct Upkeep {
    keeper: Keeper<OsDisk>,
    health: Health,
    /// When the store wants to be kept again.
    at: Option<Instant>,
    /// How many commits there had been when that was decided.
    commits: u64,
}

impl Upkeep {
    pub(super) fn new(keeper: Keeper<OsDisk>, now: Instant) -> Self {
        Self { keeper, health: Health::Good, at: Some(now + FIRST), commits: 0 }
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// Does for the store what is to be done between commits, and says what it has to say. True if there is work at once.
    pub(super) fn work(&mut self, hub: &Hub, engine: &mut Engine, clock: &Clock) -> bool {
        self.maintain(hub, engine, clock);
        let health = self.keeper.health();
        let recovers = health != Health::ReadOnly && engine.has_failed();
        if recovers {
            let now = clock.now(hub, engine);
            match engine.recover(now) {
                Ok(()) => hub.log.info("streams: as they were when the disk failed"),
                Err(error) => hub.log.error(format_args!("streams can't be read: {error}")),
            }
        }
        if std::mem::replace(&mut self.health, health) != health {
            match health {
                Health::Good => {
                    hub.vitals.recover();
                    hub.log.info("streams: the disk takes everything again");
                }
                Health::Full => {
                    hub.vitals.fill();
                    hub.log.error("streams: the disk is full, messages are refused");
                }
                Health::ReadOnly => {
                    hub.vitals.fail();
                    hub.log.error("streams: the disk failed, nothing is stored");
                }
            }
        }
        for damage in self.keeper.take_damages() {
            hub.vitals.damage();
            hub.log.error(format_args!("streams: {damage}"));
        }
        recovers
    }

    fn maintain(&mut self, hub: &Hub, engine: &mut Engine, clock: &Clock) {
        let now = hub.clock.now().mono;
        if self.keeper.health() != self.health {
            // A disk that was just found full or broken is tried again soon.
            self.at = Some(now);
        }
        let commits = self.keeper.commits();
        if std::mem::replace(&mut self.commits, commits) != commits {
            let soon = now + PAUSE;
            self.at = Some(self.at.map_or(soon, |at| at.min(soon)));
        }
        if self.at.is_some_and(|at| at > now) {
            return;
        }
        let next = self.keeper.maintain(Duration::from_micros(now.as_micros()), BYTES);
        // Messages come first: filling a file waits for the disk, and so would they.
        self.at = next.map(|next| (Instant::default() + next).max(now + PAUSE));
        if self.keeper.health() == Health::Full {
            // What gives room back counts once it is written.
            let at = clock.now(hub, engine);
            if let Err(error) = engine.save(at) {
                hub.log.error(format_args!("streams: {error}"));
            }
            self.at = self.at.map(|at| at.min(now + FULL_PAUSE));
        }
    }
}
