//! Messages that are checked before any of them is stored: what those in front of them will have changed.
//!
//! Source: nats-server's `jetstream_batching.go` (`checkMsgHeadersPreClusteredProposal`), whose order of checks is not that of
//! single messages.

use std::collections::{HashMap, HashSet};

use super::Stream;
use super::counter::{self, Counter};
use super::ingest::{self, Arriving, Refusal};
use super::limits::counted;
use super::schedule;
use super::ttl::MessageTtl;
use crate::config::Discard;
use crate::error;
use crate::headers;
use crate::log::Filters;

/// What messages that passed will change.
#[derive(Debug, Default)]
pub(super) struct Staged {
    ids: HashSet<Box<str>>,
    subjects: HashMap<Box<[u8]>, Subject>,
    /// Subjects that were expected at a number, and found there.
    expected: HashMap<Box<[u8]>, u64>,
    counters: HashMap<Box<[u8]>, Counter>,
    messages: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Subject {
    messages: u64,
    scheduled: bool,
}

impl Stream {
    /// Whether a message may be stored after those that are staged. If so, it is staged, too.
    pub(super) fn stage(&self, arriving: &mut Arriving<'_>, staged: &mut Staged) -> Result<(), Refusal> {
        if arriving.header.len() > usize::from(u16::MAX) {
            return Err(error::STREAM_HEADER_EXCEEDS_MAXIMUM.into());
        }
        counter::increment_valid(self, arriving)?;
        ingest::expected_stream(self, arriving)?;
        self.stage_ttl(arriving)?;
        self.stage_id(arriving, staged)?;
        ingest::no_source(self, arriving)?;
        counter::increment_there(self, arriving)?;
        self.stage_count(arriving, staged)?;
        ingest::not_too_large(self, arriving)?;
        self.stage_expected_last(arriving, staged)?;
        self.stage_expected_of_subject(arriving, staged)?;
        schedule::schedule_valid(self, arriving)?;
        schedule::scheduler_valid_among(self, arriving, &|subject| {
            staged.subjects.get(subject).map(|subject| subject.scheduled)
        })?;
        ingest::rollup_allowed(self, arriving)?;
        self.stage_rollup(arriving, staged)?;
        let size = counted(
            self.config.storage,
            arriving.subject.len(),
            arriving.header.len(),
            arriving.payload.len(),
        );
        let subject = staged.subjects.entry((*arriving.subject).into()).or_default();
        subject.messages += 1;
        subject.scheduled = arriving.scheduled;
        let of_subject = subject.messages;
        staged.messages += 1;
        staged.bytes += size;
        self.stage_room(arriving, staged, of_subject)?;
        ingest::ttl_valid(self, arriving)
    }

    fn stage_ttl(&self, arriving: &Arriving<'_>) -> Result<(), Refusal> {
        let Some(text) = headers::get(&arriving.header, headers::TTL) else { return Ok(()) };
        let ttl = std::str::from_utf8(text).ok().and_then(MessageTtl::read);
        match ttl {
            Some(MessageTtl::For(0)) => Ok(()),
            _ if !self.config.allow_msg_ttl => Err(error::MESSAGE_TTL_DISABLED.into()),
            None => Err(error::MESSAGE_TTL_INVALID.into()),
            Some(_) => Ok(()),
        }
    }

    fn stage_id(&self, arriving: &Arriving<'_>, staged: &mut Staged) -> Result<(), Refusal> {
        let Some(id) = headers::text(&arriving.header, headers::MSG_ID) else { return Ok(()) };
        if let Some(seq) = self.dedup.find(id) {
            return Err(Refusal::Duplicate(seq));
        }
        if staged.ids.insert(id.into()) { Ok(()) } else { Err(Refusal::Duplicate(0)) }
    }

    fn stage_count(&self, arriving: &mut Arriving<'_>, staged: &mut Staged) -> Result<(), Refusal> {
        if !self.config.allow_msg_counter {
            return Ok(());
        }
        let mut counter = match staged.counters.get(&*arriving.subject) {
            Some(counter) => counter.clone(),
            None => Counter::load(self, &arriving.subject)?,
        };
        counter.add(arriving)?;
        staged.counters.insert((*arriving.subject).into(), counter);
        Ok(())
    }

    fn stage_expected_last(&self, arriving: &Arriving<'_>, staged: &Staged) -> Result<(), Refusal> {
        let Some(expected) = headers::number(&arriving.header, headers::EXPECTED_LAST_SEQ) else {
            return Ok(());
        };
        let last = self.log.state().last_seq + staged.messages;
        if expected != Some(last) {
            return Err(error::STREAM_WRONG_LAST_SEQUENCE.with(&[&last]).into());
        }
        if staged.messages > 0 { Err(error::STREAM_WRONG_LAST_SEQUENCE_CONSTANT.into()) } else { Ok(()) }
    }

    fn stage_expected_of_subject(&self, arriving: &Arriving<'_>, staged: &mut Staged) -> Result<(), Refusal> {
        let other = headers::text(&arriving.header, headers::EXPECTED_LAST_SUBJECT_SEQ_SUBJECT);
        let Some(expected) = headers::number(&arriving.header, headers::EXPECTED_LAST_SUBJECT_SEQ) else {
            return match other {
                Some(_) => Err(error::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID.into()),
                None => Ok(()),
            };
        };
        let subject: &[u8] = other.map_or(&arriving.subject, str::as_bytes);
        if staged.subjects.contains_key(subject) {
            return Err(error::STREAM_WRONG_LAST_SEQUENCE_CONSTANT.into());
        }
        let last = staged.expected.get(subject).copied().unwrap_or_else(|| {
            let filters = Filters::new([String::from_utf8_lossy(subject)]);
            self.log.last(&filters, u64::MAX).unwrap_or(0)
        });
        if expected != Some(last) {
            return Err(error::STREAM_WRONG_LAST_SEQUENCE.with(&[&last]).into());
        }
        staged.expected.insert(subject.into(), last);
        Ok(())
    }

    fn stage_rollup(&self, arriving: &Arriving<'_>, staged: &Staged) -> Result<(), Refusal> {
        let text = match headers::text(&arriving.header, headers::ROLLUP).map(str::to_lowercase).as_deref() {
            Some("sub") if staged.subjects.contains_key(&*arriving.subject) => "batch rollup sub invalid",
            Some("all") if staged.messages > 0 => "batch rollup all invalid",
            _ => return Ok(()),
        };
        Err(error::STREAM_ROLLUP_FAILED.with(&[&text]).into())
    }

    fn stage_room(&self, arriving: &Arriving<'_>, staged: &Staged, of_subject: u64) -> Result<(), Refusal> {
        let config = &self.config;
        if config.discard != Discard::New {
            return Ok(());
        }
        let full = |text: &str| Err(error::STREAM_STORE_FAILED.with(&[&text]).into());
        let over = |limit: i64, count: u64| u64::try_from(limit).is_ok_and(|max| max > 0 && count > max);
        let state = self.log.state();
        if over(config.max_msgs, state.messages + staged.messages) {
            return full("maximum messages exceeded");
        }
        if over(config.max_bytes, state.bytes + staged.bytes) {
            return full("maximum bytes exceeded");
        }
        let rollup = headers::get(&arriving.header, headers::ROLLUP).is_some();
        if config.discard_new_per_subject
            && !rollup
            && over(config.max_msgs_per_subject, self.log.count_of(&arriving.subject) + of_subject)
        {
            return full("maximum messages per subject exceeded");
        }
        Ok(())
    }
}
