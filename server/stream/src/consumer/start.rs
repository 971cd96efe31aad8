//! Where a consumer begins, and begins again.

use std::collections::VecDeque;

use super::{Consumer, Place};
use crate::config::DeliverPolicy;
use crate::log::{Filters, Log};
use crate::time::Nanos;

impl Consumer {
    /// Finds its place in the stream. Source: nats-server's `selectStartingSeqNo`.
    pub(crate) fn start(&mut self, log: &dyn Log, max_msgs_per_subject: i64) {
        let state = log.state();
        let last = |filters| log.last(filters, u64::MAX).unwrap_or(0);
        let wanted = match self.config.deliver_policy {
            DeliverPolicy::All => state.first_seq,
            DeliverPolicy::New => state.last_seq + 1,
            DeliverPolicy::Last if self.filters.is_all() => state.last_seq,
            DeliverPolicy::Last => last(&self.filters),
            DeliverPolicy::ByStartSequence => self.config.opt_start_seq,
            DeliverPolicy::ByStartTime => {
                let seq = log.at_time(self.config.opt_start_time.unwrap_or(0));
                // Or with the first of its own, if there is none before: there is nothing to look for until then.
                let first = |filter| log.next(state.first_seq, &Filters::new([filter]));
                let firsts = self.config.filters().iter().filter_map(first);
                firsts.filter(|first| (seq..state.last_seq).contains(first)).min().unwrap_or(seq)
            }
            // With one message per subject, the last are all.
            DeliverPolicy::LastPerSubject if max_msgs_per_subject == 1 => state.first_seq,
            DeliverPolicy::LastPerSubject => {
                let mut subjects: Vec<Box<[u8]>> = Vec::new();
                log.subjects(&self.filters, &mut |subject, _| subjects.push(subject.into()));
                let mut lasts: Vec<u64> =
                    subjects.iter().filter_map(|subject| log.last_of(subject)).collect();
                lasts.sort_unstable();
                self.resume = state.last_seq;
                self.skip = VecDeque::from(lasts);
                self.skip.front().copied().unwrap_or(state.last_seq)
            }
        };
        let by_sequence = self.config.opt_start_seq > 0;
        self.cursor = if state.first_seq == 0 && !by_sequence {
            1
        } else if wanted > state.last_seq && !by_sequence {
            state.last_seq + 1
        } else {
            wanted.max(state.first_seq).max(1)
        };
        self.next_delivery = 1;
        self.floor = Place { consumer: 0, stream: self.cursor - 1 };
        self.delivered = self.floor;
        if let Some(replay) = &mut self.replay {
            replay.until = state.last_seq;
        }
        self.recount(log);
    }

    /// Begins again at `seq`, or, if that is 0, behind what is acknowledged. Gives where that is. Source: nats-server's
    /// `resetStartingSeq`.
    pub(crate) fn reset(&mut self, seq: u64, log: &dyn Log) -> Result<u64, &'static str> {
        let seq = match (seq, self.config.deliver_policy) {
            (0, _) => self.floor.stream + 1,
            (seq, DeliverPolicy::All) => seq,
            (seq, DeliverPolicy::ByStartSequence) if seq < self.config.opt_start_seq => {
                return Err("below start seq");
            }
            (seq, DeliverPolicy::ByStartSequence) => seq,
            (seq, DeliverPolicy::ByStartTime) => {
                if seq < log.at_time(self.config.opt_start_time.unwrap_or(0)) {
                    return Err("below start time");
                }
                seq
            }
            _ => return Err("not allowed"),
        };
        self.pending.clear();
        self.again.clear();
        self.queue.clear();
        self.skip.clear();
        self.cursor = seq;
        self.next_delivery = 1;
        self.floor = Place { consumer: 0, stream: seq - 1 };
        self.delivered = self.floor;
        (self.delivered_at, self.acked_at) = (0, 0);
        self.recount(log);
        self.touched = true;
        self.changed();
        Ok(seq)
    }

    /// Many messages went, so that the first that is left of those is `first`. With `is_wider`, the consumer is for others,
    /// too. Source: nats-server's `consumer.purge`.
    pub(crate) fn on_purged(&mut self, first: u64, is_wider: bool, log: &dyn Log, now: Nanos) {
        self.cursor = self.cursor.max(first);
        self.floor.stream = self.floor.stream.max(first.saturating_sub(1));
        let goes = |seq: u64| seq < first || (is_wider && !matches!(log.get(seq), Ok(Some(_))));
        let gone: Vec<u64> = self.pending.keys().copied().filter(|seq| goes(*seq)).collect();
        let (mut rises_to, lowest) = (0, self.floor.consumer + 1);
        let mut rises = false;
        for seq in gone {
            if let Some(pending) = self.pending.remove(&seq) {
                rises_to = pending.delivery.max(rises_to);
                rises |= pending.delivery == lowest;
                self.acked_at = now;
            }
            self.again.remove(&seq);
        }
        if rises && let Some(open) = self.pending.keys().next() {
            self.floor.stream = self.floor.stream.max(open.saturating_sub(1));
        }
        // Not above what is open: what is said to messages below the floor isn't heard.
        let open = self.pending.values().map(|pending| pending.delivery.saturating_sub(1)).min();
        self.floor.consumer = self.floor.consumer.max(rises_to.min(open.unwrap_or(u64::MAX)));
        self.delivered = Place { consumer: self.next_delivery - 1, stream: self.cursor - 1 };
        if self.pending.is_empty() {
            self.floor = self.delivered;
        }
        self.again = self.again.split_off(&first);
        self.skip.retain(|seq| *seq >= first && matches!(log.get(*seq), Ok(Some(_))));
        self.recount(log);
        self.touched = true;
        self.changed();
    }

    /// Lets go of what is not in the log.
    pub(crate) fn drop_missing(&mut self, log: &dyn Log) {
        let first = log.state().first_seq;
        self.cursor = self.cursor.max(first);
        let gone: Vec<u64> = self
            .pending
            .keys()
            .copied()
            .filter(|seq| *seq < first || !matches!(log.get(*seq), Ok(Some(_))))
            .collect();
        for seq in gone {
            if let Some(pending) = self.pending.remove(&seq) {
                self.move_floor(pending.delivery, seq);
            }
            self.again.remove(&seq);
        }
        self.again = self.again.split_off(&first);
        self.skip.retain(|seq| *seq >= first && matches!(log.get(*seq), Ok(Some(_))));
        if self.pending.is_empty() && self.floor.stream + 1 < first {
            self.floor = Place { consumer: self.next_delivery - 1, stream: first - 1 };
            self.delivered.stream = self.delivered.stream.max(first - 1);
        }
        self.recount(log);
        self.touched = true;
        self.changed();
    }
}
