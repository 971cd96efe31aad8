//! What consumers are done with goes, where the stream's policy says so.
//!
//! Source: nats-server's `stream.go` (`ackMsg`, `checkForInterest`) and `consumer.go` (`cleanupNoInterestMessages`).

use super::Stream;
use crate::config::Retention;
use crate::cx::Cx;
use crate::log::{Filters, LogError};

impl Stream {
    /// True if a message on `subject` is wanted by nobody and kept for nobody.
    pub(super) fn is_uninteresting(&self, subject: &[u8]) -> bool {
        self.config.retention == Retention::Interest
            && !self.consumers.values().any(|consumer| consumer.filters().matches(subject))
            && !self.copied.iter().any(|(filters, _)| filters.matches(subject))
    }

    /// A consumer is done with these messages, or says so: a client may name any. None goes that a consumer still needs.
    pub(crate) fn settle(&mut self, acked: &[u64], cx: &mut Cx<'_>) -> Result<(), LogError> {
        for seq in acked {
            let needed = match self.config.retention {
                Retention::Limits => return Ok(()),
                Retention::WorkQueue => Self::is_awaited,
                Retention::Interest => Self::is_needed,
            };
            if self.log.subject_of(*seq).is_some_and(|subject| !needed(self, *seq, &subject)) {
                self.remove(*seq, false, cx)?;
            }
        }
        Ok(())
    }

    /// By a consumer.
    fn is_awaited(&self, seq: u64, subject: &[u8]) -> bool {
        self.consumers.values().any(|consumer| consumer.needs(seq, subject))
    }

    /// By a consumer, or by a stream that copies it.
    fn is_needed(&self, seq: u64, subject: &[u8]) -> bool {
        self.is_awaited(seq, subject)
            || self.copied.iter().any(|(filters, next)| seq >= *next && filters.matches(subject))
    }

    /// Takes out what no consumer needs.
    pub(super) fn drop_unneeded(&mut self, cx: &mut Cx<'_>) -> Result<(), LogError> {
        if self.config.retention != Retention::Interest {
            return Ok(());
        }
        let mut from = 0;
        while let Some(seq) = self.log.next(from, &Filters::all()) {
            if let Some(subject) = self.log.subject_of(seq)
                && !self.is_needed(seq, &subject)
            {
                self.remove(seq, false, cx)?;
            }
            from = seq + 1;
        }
        Ok(())
    }
}
