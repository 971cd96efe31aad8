//! How much a stream may hold, and what happens when that is reached.
//!
//! Source: reference 3.13; nats-server's `memstore.go` (`storeRawMsg`, `enforceMsgLimit`).

use super::Stream;
use super::ingest::Arriving;
use crate::config::{Discard, Storage};
use crate::cx::Cx;
use crate::error::{self, ApiError};
use crate::full::Full;
use crate::log::{Entry, Filters, LogError};

/// How often room is made for one message. Each time frees a segment, finds one that can't be, or takes a few of the oldest.
const RECLAIMS_MAX: usize = 64;

/// `limit` if it is one.
fn some(limit: i64) -> Option<u64> {
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

/// Bytes that a message counts for. Source: nats-server's `memStoreMsgSize` and `fileStoreMsgSize`.
pub(crate) fn counted(storage: Storage, subject: usize, header: usize, payload: usize) -> u64 {
    let fixed = match (storage, header) {
        (Storage::Memory, _) => 16,
        (Storage::File, 0) => 30,
        (Storage::File, _) => 34,
    };
    (subject + header + payload + fixed) as u64
}

impl Stream {
    /// With "discard new": is there room?
    pub(super) fn check_room(&self, arriving: &Arriving<'_>) -> Result<(), ApiError> {
        let config = &self.config;
        if config.discard != Discard::New {
            return Ok(());
        }
        let full = |text: &str| Err(error::STREAM_STORE_FAILED.with(&[&text]));
        let state = self.log.state();
        let at_subject_limit =
            some(config.max_msgs_per_subject).is_some_and(|max| self.log.count_of(&arriving.subject) >= max);
        // One that rolls up makes room for itself.
        if at_subject_limit && config.discard_new_per_subject && !arriving.has_rollup() {
            return full("maximum messages per subject exceeded");
        }
        // At the subject's limit, the new one replaces one.
        if some(config.max_msgs).is_some_and(|max| state.messages >= max) && !at_subject_limit {
            return full("maximum messages exceeded");
        }
        let size =
            counted(config.storage, arriving.subject.len(), arriving.header.len(), arriving.payload.len());
        if let Some(max) = some(config.max_bytes).filter(|max| state.bytes + size > *max) {
            let first = at_subject_limit.then(|| self.log.first_of(&arriving.subject)).flatten();
            let freed = first.and_then(|seq| self.log.get(seq).ok().flatten()).map_or(0, |old| {
                counted(config.storage, old.subject().len(), old.header().len(), old.payload().len())
            });
            if state.bytes + size - freed > max {
                return full("maximum bytes exceeded");
            }
        }
        Ok(())
    }

    /// Takes out the oldest until all limits are kept.
    pub(super) fn enforce_limits(&mut self, cx: &mut Cx<'_>) -> Result<(), LogError> {
        if some(self.config.max_msgs).or(some(self.config.max_bytes)).is_none() {
            return Ok(());
        }
        loop {
            let state = self.log.state();
            let config = &self.config;
            let over = some(config.max_msgs).is_some_and(|max| state.messages > max)
                || some(config.max_bytes).is_some_and(|max| state.bytes > max);
            if !over || state.messages == 0 || !self.remove_oldest(cx)? {
                return Ok(());
            }
        }
    }

    /// Appends an entry. On a full disk the oldest go for it, if the stream says so and if that makes room.
    pub(super) fn append(&mut self, entry: &Entry<'_>, cx: &mut Cx<'_>) -> Result<u64, LogError> {
        let mut appended = self.log.append(entry);
        for _ in 0..RECLAIMS_MAX {
            if !matches!(appended, Err(LogError::Full)) || Full::read(&self.config) != Some(Full::DropOld) {
                break;
            }
            if self.log.reclaim()? {
                appended = self.log.append(entry);
                continue;
            }
            let Some(before) = self.log.reclaimable() else { break };
            let first = self.log.state().first_seq;
            while self.log.state().first_seq < before && self.remove_oldest(cx)? {}
            cx.out.complain(format!(
                "stream {}: the disk is full, {first} to {} went for new messages",
                self.name(),
                before - 1
            ));
        }
        appended
    }

    /// Takes out the oldest of a subject until its limit is kept.
    pub(super) fn enforce_subject(&mut self, subject: &[u8], cx: &mut Cx<'_>) -> Result<(), LogError> {
        let Some(max) = some(self.config.max_msgs_per_subject) else { return Ok(()) };
        while self.log.count_of(subject) > max
            && let Some(first) = self.log.first_of(subject)
        {
            if !self.remove(first, false, cx)? {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn enforce_all_subjects(&mut self, cx: &mut Cx<'_>) -> Result<(), LogError> {
        let Some(max) = some(self.config.max_msgs_per_subject) else { return Ok(()) };
        let mut over: Vec<Box<[u8]>> = Vec::new();
        self.log.subjects(&Filters::all(), &mut |subject, count| {
            if count > max {
                over.push(subject.into());
            }
        });
        over.iter().try_for_each(|subject| self.enforce_subject(subject, cx))
    }
}
