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

    /// A consumer is done with these messages.
    pub(crate) fn settle(&mut self, acked: &[u64], cx: &mut Cx<'_>) -> Result<(), LogError> {
        for seq in acked {
            let goes = match self.config.retention {
                Retention::Limits => return Ok(()),
                Retention::WorkQueue => true,
                Retention::Interest => {
                    self.log.subject_of(*seq).is_some_and(|subject| !self.is_needed(*seq, &subject))
                }
            };
            if goes {
                self.remove(*seq, false, cx)?;
            }
        }
        Ok(())
    }

    fn is_needed(&self, seq: u64, subject: &[u8]) -> bool {
        self.consumers.values().any(|consumer| consumer.needs(seq, subject))
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
