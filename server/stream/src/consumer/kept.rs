//! What is kept of a consumer on disk: a note, and what was added to it.
//!
//! ```text
//!   note    all of it, in postcard: configuration, place, and packed what is pending
//!   added   steps since then: sent 17, acknowledged 15, …
//! ```
//!
//! A message that is sent or acknowledged costs a few bytes. Once the steps are more than the note, or than what it takes to
//! go through all that is pending is worth, it is written anew. Times within are lengths from when it was written, in tenths
//! of a second; a restart begins them again.

use serde::{Deserialize, Serialize};

use super::packed::{pack, unpack};
use super::{Consumer, NEVER, Pending, Place};
use crate::config::AckPolicy;
use crate::cx::Cx;
use crate::json;
use crate::log::{Log, LogError};
use crate::time::{Instant, MILLISECOND, Nanos, duration};

/// Steps weigh less than this, or than the note, before it is written anew.
const STEPS_BYTES_MIN: usize = 4096;
/// What is pending is not gone through for fewer bytes of steps than this for each, or than [`STEPS_BYTES_ENOUGH`].
const STEPS_BYTES_EACH: usize = 8;
/// Bytes of steps that are always worth a new note.
const STEPS_BYTES_ENOUGH: usize = 256 * 1024;
/// Steps that wait to be written weigh less than this.
const STEPS_BYTES_MAX: usize = 64 * 1024;

/// A consumer as it is written. The order of members is the format.
#[derive(Serialize, Deserialize)]
struct Kept {
    name: Box<str>,
    created: Nanos,
    /// In JSON, so that members may come.
    config: Vec<u8>,
    cursor: u64,
    next_delivery: u64,
    delivered: (u64, u64),
    delivered_at: Nanos,
    floor: (u64, u64),
    acked_at: Nanos,
    /// Number, delivery, ms until it goes again. Of notes without [`Lists`], as are the next two.
    pending: Vec<(u64, u64, u32)>,
    again: Vec<(u64, u64)>,
    skip: Vec<u64>,
    resume: u64,
}

/// What follows it: its lists, packed. The order of members is the format.
#[derive(Default, Serialize, Deserialize)]
struct Lists {
    /// The value is the time until it goes again, in units of [`WAIT_UNIT`].
    pending: Vec<u8>,
    /// The value is how often.
    again: Vec<u8>,
    skip: Vec<u8>,
}

/// Waits are kept in these, rounded up: messages that were sent at about the same time are one run.
const WAIT_UNIT: Nanos = 100 * MILLISECOND;

/// What happened since. The order of variants is the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// A message went for the `count`th time.
    Sent { seq: u64, count: u64, at: Nanos },
    /// One was dealt with.
    Done { seq: u64 },
    /// All up to this one were.
    DoneUpTo { consumer: u64, stream: u64 },
    /// One went as often as it may.
    Exhausted { seq: u64 },
}

/// What differs from what is on disk.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Too much to tell step by step.
    whole: bool,
    steps: Vec<u8>,
    /// Bytes of the note.
    note: usize,
    /// Bytes that were added to it.
    added: usize,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { whole: true, ..Self::default() }
    }

    pub(super) fn step(&mut self, step: Step) {
        if self.whole {
            return;
        }
        match postcard::to_extend(&step, std::mem::take(&mut self.steps)) {
            Ok(steps) if steps.len() < STEPS_BYTES_MAX => self.steps = steps,
            _ => self.change(),
        }
    }

    /// Something else happened.
    pub(super) fn change(&mut self) {
        self.whole = true;
        self.steps = Vec::new();
    }
}

impl Consumer {
    /// Something happened that is to be kept, and is no [`Step`].
    pub(super) fn changed(&mut self) {
        self.journal.change();
    }

    /// What is on disk is not what it is.
    pub(crate) fn is_unsaved(&self) -> bool {
        !self.config.mem_storage && (self.journal.whole || !self.journal.steps.is_empty())
    }

    /// Writes what has changed.
    pub(crate) fn save(&mut self, key: &str, log: &mut dyn Log, cx: &Cx<'_>) -> Result<(), LogError> {
        let steps = self.journal.steps.len();
        if !self.journal.whole && steps == 0 {
            return Ok(());
        }
        let worth = (self.pending.len() * STEPS_BYTES_EACH).min(STEPS_BYTES_ENOUGH);
        let room = self.journal.note.max(STEPS_BYTES_MIN).max(worth);
        if !self.journal.whole && self.journal.added + steps <= room {
            self.journal.added = log.add_to_note(key, &self.journal.steps)?;
            self.journal.steps.clear();
            return Ok(());
        }
        let note = self.keep(cx);
        log.put_note(key, &note)?;
        self.journal = Journal { note: note.len(), ..Journal::default() };
        Ok(())
    }

    fn keep(&self, cx: &Cx<'_>) -> Vec<u8> {
        let place = |place: Place| (place.consumer, place.stream);
        let wait = |pending: &Pending| match pending.queued {
            true => 0,
            false => {
                (pending.again_at.since(cx.now.mono).as_nanos() as u64).div_ceil(WAIT_UNIT.cast_unsigned())
            }
        };
        let kept = Kept {
            name: self.name.clone(),
            created: self.created,
            config: json::write(&*self.config),
            cursor: self.cursor,
            next_delivery: self.next_delivery,
            delivered: place(self.delivered),
            delivered_at: self.delivered_at,
            floor: place(self.floor),
            acked_at: self.acked_at,
            pending: Vec::new(),
            again: Vec::new(),
            skip: Vec::new(),
            resume: self.resume,
        };
        let lists = Lists {
            pending: pack(self.pending.iter().map(|(seq, it)| (*seq, it.delivery, wait(it)))),
            again: pack(self.again.iter().map(|(seq, count)| (*seq, *seq, *count))),
            skip: pack(self.skip.iter().map(|seq| (*seq, *seq, 0))),
        };
        // Writing to memory doesn't fail.
        postcard::to_allocvec(&(kept, lists)).unwrap_or_default()
    }

    /// A consumer that was kept: its note, and what was added. `None` if the note is none.
    pub(crate) fn revive(
        parts: &[Vec<u8>],
        id: u32,
        stream_id: u32,
        stream_name: &str,
        log: &dyn Log,
        cx: &Cx<'_>,
    ) -> Option<Self> {
        let (note, added) = parts.split_first()?;
        let (kept, rest): (Kept, _) = postcard::take_from_bytes(note).ok()?;
        let lists: Lists =
            if rest.is_empty() { Lists::default() } else { postcard::from_bytes(rest).ok()? };
        let config = json::read_seldom(&kept.config).ok()?;
        let place = |(consumer, stream)| Place { consumer, stream };
        let mut consumer = Self::new(id, stream_id, stream_name, &kept.name, config, cx);
        consumer.created = kept.created;
        consumer.cursor = kept.cursor.max(1);
        consumer.next_delivery = kept.next_delivery.max(1);
        (consumer.delivered, consumer.delivered_at) = (place(kept.delivered), kept.delivered_at);
        (consumer.floor, consumer.acked_at) = (place(kept.floor), kept.acked_at);
        let old = kept
            .pending
            .into_iter()
            .map(|(seq, delivery, wait)| (seq, delivery, Nanos::from(wait) * MILLISECOND));
        let new = unpack(&lists.pending)?.into_iter().map(|(seq, delivery, wait)| {
            (seq, delivery, Nanos::try_from(wait).unwrap_or(Nanos::MAX).saturating_mul(WAIT_UNIT))
        });
        for (seq, delivery, wait) in old.chain(new) {
            let again_at = cx.now.mono + duration(wait);
            let pending = Pending { delivery, again_at, sent: kept.delivered_at, queued: false, lost: false };
            consumer.insert_pending(seq, pending);
        }
        let again = unpack(&lists.again)?.into_iter().map(|(seq, _, count)| (seq, count));
        consumer.again.extend(kept.again.into_iter().chain(again));
        let skip = unpack(&lists.skip)?.into_iter().map(|(seq, ..)| seq);
        consumer.skip = kept.skip.into_iter().chain(skip).collect();
        consumer.resume = kept.resume;
        for mut steps in added.iter().map(Vec::as_slice) {
            while let Ok((step, rest)) = postcard::take_from_bytes(steps) {
                consumer.repeat(step, cx.now.mono);
                steps = rest;
            }
        }
        consumer.drop_missing(log);
        consumer.journal =
            Journal { note: note.len(), added: added.iter().map(Vec::len).sum(), ..Journal::default() };
        Some(consumer)
    }

    fn repeat(&mut self, step: Step, now: Instant) {
        match step {
            Step::Sent { seq, count, at } => self.advance(seq, count, at, now),
            Step::Done { seq } => {
                if let Some(pending) = self.pending.remove(&seq) {
                    self.move_floor(pending.delivery, seq);
                }
                self.again.remove(&seq);
            }
            Step::DoneUpTo { consumer, stream } => {
                self.pending = self.pending.split_off(&(stream + 1));
                self.again = self.again.split_off(&(stream + 1));
                self.floor = Place { consumer, stream };
            }
            Step::Exhausted { seq } => {
                self.pending.remove(&seq);
                self.again.entry(seq).or_insert(1);
            }
        }
    }

    /// A message goes out: the place moves on.
    pub(super) fn advance(&mut self, seq: u64, count: u64, at: Nanos, now: Instant) {
        let delivery = self.next_delivery;
        self.next_delivery += 1;
        if count == 1 {
            if self.skip.front() == Some(&seq) { self.skip_done() } else { self.cursor = seq + 1 }
        } else {
            self.again.insert(seq, count - 1);
        }
        self.delivered = Place { consumer: delivery, stream: self.delivered.stream.max(seq) };
        self.delivered_at = at;
        if self.config.ack_policy == AckPolicy::None {
            self.floor = Place { consumer: delivery, stream: seq };
            return;
        }
        let again_at = match self.ack_wait(count - 1) {
            0 => NEVER,
            wait => now + duration(wait),
        };
        // Counted from the first time that it went.
        let delivery = self.pending.get(&seq).map_or(delivery, |pending| pending.delivery);
        self.insert_pending(seq, Pending { delivery, again_at, sent: at, queued: false, lost: false });
    }
}
