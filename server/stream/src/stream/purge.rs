//! Many messages out at once.
//!
//! Source: reference 3.12; nats-server's `stream.go` (`purgeLocked`) and `memstore.go` (`PurgeEx`).

use serde::Deserialize;

use super::Stream;
use crate::cx::Cx;
use crate::log::{Filters, LogError};

/// What shall go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PurgeRequest {
    /// Everything in front of this number; 0: all.
    pub(crate) seq: u64,
    /// On these subjects; empty: all.
    pub(crate) filter: String,
    /// All but so many of the last.
    pub(crate) keep: u64,
}

impl Stream {
    /// Takes out what is asked for. Gives how many there were. With `tells`, consumers that wait for an ack of it are told of a
    /// message that is the only one to go, as in nats-server.
    pub(crate) fn purge(
        &mut self,
        request: &PurgeRequest,
        tells: bool,
        cx: &mut Cx<'_>,
    ) -> Result<u64, LogError> {
        let PurgeRequest { seq, filter, keep } = request;
        let state = self.log.state();
        let mut gone = state.first_seq;
        let purged = match filter.as_str() {
            "" | ">" => {
                let end = match (*seq, *keep) {
                    (0 | 1, 0) => Some(state.last_seq + 1),
                    (0 | 1, keep) if keep >= state.messages => None,
                    (0 | 1, keep) => Some(self.number_of_last(keep)),
                    (seq, _) => Some(seq),
                };
                match end {
                    Some(end) => self.log.truncate_front(end, cx.now.wall)?,
                    None => 0,
                }
            }
            filter => {
                let filters = Filters::new([filter]);
                let there = self.log.count(0, &filters);
                let end = if *seq > 1 { *seq } else { u64::MAX };
                let mut most = there.saturating_sub(*keep);
                let (mut from, mut purged) = (0, 0);
                while most > 0
                    && let Some(seq) = self.log.next(from, &filters).filter(|seq| *seq < end)
                {
                    self.log.remove(seq, false)?;
                    gone = seq;
                    (from, purged, most) = (seq + 1, purged + 1, most - 1);
                }
                purged
            }
        };
        // Consumers hear of it even if nothing went.
        let (first, last) = (self.log.state().first_seq, self.log.state().last_seq);
        let asked = Filters::new(Some(filter).filter(|filter| !filter.is_empty()));
        // The first that is left of what was asked for; with none, what comes.
        let left = if asked.is_all() { first } else { self.log.next(0, &asked).unwrap_or(last + 1) };
        for consumer in self.consumers.values_mut() {
            if tells && purged == 1 {
                consumer.let_go(gone, cx);
            }
            if consumer.filters().is_within(&asked) {
                consumer.on_purged(left, false, &*self.log, cx.now.wall);
            } else if consumer.filters().overlap(&asked) {
                consumer.on_purged(first, true, &*self.log, cx.now.wall);
            }
        }
        Ok(purged)
    }

    /// The number of the first of the last `count` messages, of which there are more.
    fn number_of_last(&self, count: u64) -> u64 {
        let state = self.log.state();
        let whole = state.last_seq + 1 - state.first_seq == state.messages;
        let mut seq = if whole { state.last_seq + 1 - count } else { state.first_seq };
        let goes = if whole { 0 } else { state.messages - count };
        for _ in 0..goes {
            seq = self.log.next(seq, &Filters::all()).map_or(seq, |seq| seq + 1);
        }
        seq
    }
}
