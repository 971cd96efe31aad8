//! What a stream copies from others: a mirror from one, with its numbers and times; sources from several, with its own.
//!
//! ```text
//!   origin   … 7 8 9 10        next: 9       what is copied says where from: `Nats-Stream-Source: ORIGIN 8 > > a.b …`
//!                  v
//!   copy     … 41 42
//! ```
//!
//! Whoever copies reads the origin's log by itself; [`crate::copying`] hands messages from one to the other.
//!
//! Source: reference 3.15; nats-server's `stream.go` (`processInboundMirrorMsg`, `processInboundSourceMsg`,
//! `setupMirrorConsumer`, `trySetupSourceConsumer`, `startingSequenceForSources`).

use std::borrow::Cow;

use midge_router::mapping::Single;
use serde::{Deserialize, Serialize};

use super::Stream;
use super::ingest::{Arriving, Origin, Passed};
use super::link::Link;
use crate::config::{External, StreamConfig, StreamSource, SubjectTransform};
use crate::cx::Cx;
use crate::error::{self, ApiError};
use crate::headers;
use crate::log::{Filters, Log, LogError, Stored};
use crate::time::{Instant, Nanos, SECOND};

/// Begins the keys of notes about sources.
const NOTE: &str = "source/";

/// Messages that may have come after a note: as many as are copied in one go, of each source.
const NOTED_BEHIND_MAX: usize = 4 * crate::copying::AT_ONCE;

/// One stream that is copied from.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) config: StreamSource,
    /// See [`StreamSource::index`].
    index: String,
    pub(crate) filters: Filters,
    transforms: Vec<Single>,
    /// The number of the origin's message that is next; `None`: it has not begun.
    pub(crate) next: Option<u64>,
    /// By what the origin is told from one of its name that came before or after it; empty: not known.
    pub(super) ident: String,
    /// The last of its messages that came; 0: none.
    last: u64,
    /// Messages that wait there.
    pub(crate) lag: u64,
    /// When it was heard of last.
    seen: Option<Instant>,
    /// It is there.
    linked: bool,
    error: Option<ApiError>,
    /// How it is reached, if its log isn't at hand.
    pub(crate) link: Option<Link>,
}

/// What is noted of a source.
#[derive(Serialize, Deserialize)]
struct Noted {
    next: u64,
    ident: String,
}

/// A source as the API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct CopyInfo {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<External>,
    lag: u64,
    #[serde(skip_serializing_if = "crate::config::is_default")]
    seq: u64,
    active: Nanos,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ApiError>,
    #[serde(skip_serializing_if = "String::is_empty")]
    filter_subject: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subject_transforms: Vec<SubjectTransform>,
}

impl Copy {
    fn new(config: &StreamSource) -> Self {
        Self {
            index: config.index(),
            filters: Filters::new(config.filters()),
            transforms: config.subject_transforms.iter().filter_map(|it| it.read().ok()).collect(),
            config: config.clone(),
            next: None,
            last: 0,
            ident: String::new(),
            lag: 0,
            seen: None,
            linked: false,
            error: None,
            link: None,
        }
    }

    /// The origin is another one.
    pub(super) fn forget(&mut self) {
        (self.next, self.last) = (None, 0);
        self.ident.clear();
    }

    /// The origin was heard of.
    pub(super) fn hear(&mut self, now: Instant) {
        self.seen = Some(now);
    }

    /// The origin can't be reached, or said why not.
    pub(super) fn lose(&mut self, error: Option<ApiError>) {
        (self.linked, self.error) = (false, error);
    }

    /// The origin is not there.
    pub(crate) fn unlink(&mut self) {
        self.linked = false;
        // What they remember is of the log that has gone.
        self.filters = Filters::new(self.config.filters());
        self.error = Some(error::STREAM_NOT_FOUND.error());
    }

    /// The origin is there.
    pub(crate) fn link(&mut self, now: Instant) {
        (self.linked, self.error) = (true, None);
        self.seen.get_or_insert(now);
    }

    fn info(&self, mirror: bool, now: Instant) -> CopyInfo {
        let active = match self.seen {
            None => -1,
            Some(seen) => {
                let since = Nanos::try_from(now.since(seen).as_nanos()).unwrap_or(Nanos::MAX);
                // As if it said every second that it is there.
                if self.linked && self.link.is_none() { since % SECOND } else { since }
            }
        };
        CopyInfo {
            name: self.config.name.clone(),
            external: self.config.external.clone(),
            lag: self.lag,
            seq: if mirror { 0 } else { self.last },
            active,
            error: self.error.clone(),
            filter_subject: self.config.filter_subject.clone(),
            subject_transforms: self.config.subject_transforms.clone(),
        }
    }

    /// The subject under which a message of the origin's is stored.
    fn rename(&self, subject: &[u8], cx: &mut Cx<'_>) -> Option<Vec<u8>> {
        self.transforms.iter().find_map(|it| it.apply(subject, &mut |bound| cx.random.below(bound)))
    }

    /// What is stored with a message of a source.
    fn source_line(&self, message: &Stored) -> String {
        let mut parts = self.index.split(' ');
        let mut part = || parts.next().unwrap_or_default();
        let (name, filter, destination) = (part(), part(), part());
        let subject = String::from_utf8_lossy(message.subject());
        let (seq, ident) = (message.seq, &self.ident);
        let space = if ident.is_empty() { "" } else { " " };
        format!("{name} {seq} {filter} {destination} {subject}{space}{ident}")
    }
}

/// What a message says of the source that it is from: its index, its number there, and the source's identity.
fn read_source_line(line: &str) -> Option<(String, u64, &str)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [name, seq, filter, destination, rest @ ..] = &fields[..] else { return None };
    let ident = rest.get(1).copied().unwrap_or_default();
    Some((format!("{name} {filter} {destination}"), seq.parse().ok()?, ident))
}

/// All that a stream copies from.
pub(super) fn copies(config: &StreamConfig) -> Vec<Copy> {
    config.mirror.iter().chain(&config.sources).map(Copy::new).collect()
}

/// Where a new reader of `origin` begins. Source: nats-server's `selectStartingSeqNo`.
fn first_of(origin: &dyn Log, seq: u64, time: Option<Nanos>) -> u64 {
    let first = origin.state().first_seq.max(1);
    match (seq, time) {
        (0, None) => first,
        (0, Some(time)) => origin.at_time(time).max(first),
        (seq, _) => seq.max(first),
    }
}

impl Stream {
    /// True if it gets its messages from one other stream only.
    pub(crate) fn is_mirror(&self) -> bool {
        self.config.mirror.is_some()
    }

    /// What the API shows of its mirror and its sources.
    pub(crate) fn copy_infos(&self, now: Instant) -> (Option<CopyInfo>, Vec<CopyInfo>) {
        let mut infos = self.copies.iter().map(|copy| copy.info(self.is_mirror(), now));
        if self.is_mirror() { (infos.next(), Vec::new()) } else { (None, infos.collect()) }
    }

    /// Its configuration has changed: those that stay go on where they are.
    pub(super) fn update_copies(&mut self, before: &StreamConfig, cx: &mut Cx<'_>) {
        let ends = self.ends_of_links(before, cx);
        let old = std::mem::replace(&mut self.copies, copies(&self.config));
        for mut was in old {
            if let Some(copy) = self.copies.iter_mut().find(|copy| copy.config == was.config) {
                *copy = was;
            } else if let Some(link) = &mut was.link {
                link.close(self.id, cx);
            }
        }
        let sources = &self.config.sources;
        let kept: Vec<String> =
            self.copies.iter().map(|copy| self.end_of(&copy.config, sources, cx)).collect();
        self.end_links(ends.into_iter().filter(|end| !kept.contains(end)).collect(), cx);
    }

    /// Finds out where to go on with each source, by what was noted, or else by the messages that came from it.
    pub(crate) fn resume_copies(&mut self) {
        if self.is_mirror() || self.copies.is_empty() {
            return;
        }
        let notes = self.log.notes();
        for copy in &mut self.copies {
            let note = notes.get(&format!("{NOTE}{}", copy.index)).and_then(|parts| parts.first());
            if let Some(noted) = note.and_then(|note| serde_json::from_slice::<Noted>(note).ok()) {
                copy.last = noted.next.saturating_sub(1);
                (copy.next, copy.ident) = (Some(noted.next), noted.ident);
            }
        }
        let mut upto = u64::MAX;
        let mut looked = 0;
        // A note may be older than the last messages, if these were committed before it.
        while (looked < NOTED_BEHIND_MAX || self.copies.iter().any(|copy| copy.next.is_none()))
            && let Some(seq) = self.log.last(&Filters::all(), upto)
        {
            looked += 1;
            if let Ok(Some(message)) = self.log.get(seq)
                && let Some(line) = headers::text(message.header(), headers::STREAM_SOURCE)
                && let Some((index, seq, ident)) = read_source_line(line)
                && let Some(copy) = self.copies.iter_mut().find(|copy| copy.index == index)
                && copy.next.is_none_or(|next| next <= seq && copy.ident == ident)
            {
                copy.last = seq;
                (copy.next, copy.ident) = (Some(seq + 1), ident.to_owned());
            }
            upto = seq - 1;
        }
    }

    /// Notes where it is with a source, so that no purge makes it begin again.
    fn note_copy(&mut self, at: usize) -> Result<(), LogError> {
        let Some(copy) = self.copies.get(at) else { return Ok(()) };
        let noted = Noted { next: copy.next.unwrap_or(1), ident: copy.ident.clone() };
        self.log.put_note(&format!("{NOTE}{}", copy.index), &crate::json::write(&noted))
    }

    /// The number of the message that it wants next of the origin that `at` is of. `ident` is the origin's.
    pub(crate) fn begin_copy(
        &mut self,
        at: usize,
        origin: &dyn Log,
        ident: &str,
        cx: &Cx<'_>,
    ) -> Result<u64, LogError> {
        let mirror = self.is_mirror();
        let state = self.log.state();
        let Some(copy) = self.copies.get_mut(at) else { return Ok(u64::MAX) };
        copy.link(cx.now.mono);
        let recreated = !mirror && !copy.ident.is_empty() && copy.ident != ident;
        if recreated {
            copy.forget();
        }
        let (seq, time) = (copy.config.opt_start_seq, copy.config.opt_start_time);
        let next = match copy.next {
            _ if mirror && (state.messages > 0 || state.first_seq > 0) => {
                copy.next.unwrap_or(0).max(state.last_seq + 1)
            }
            Some(next) => next,
            None if mirror || seq > 0 => first_of(origin, seq, time),
            None if time.is_some() => first_of(origin, 0, time.max(Some(state.last_time))),
            None if state.first_seq > 1 && state.last_time != 0 && !recreated => {
                first_of(origin, 0, Some(state.last_time))
            }
            None => first_of(origin, 0, None),
        };
        (copy.next, copy.ident) = (Some(next), if mirror { String::new() } else { ident.to_owned() });
        if mirror && next > state.last_seq + 1 && state.messages == 0 {
            self.log.truncate_front(next, cx.now.wall)?;
        }
        Ok(next)
    }

    /// Takes in messages of the origin that `at` is of. Gives how many; fewer than there are, if one can't be stored now.
    pub(crate) fn take_copies(
        &mut self,
        at: usize,
        messages: &[Stored],
        cx: &mut Cx<'_>,
    ) -> Result<usize, LogError> {
        let mut taken = 0;
        for message in messages {
            if !self.take_copy(at, message, cx)? {
                break;
            }
            taken += 1;
        }
        if taken > 0 && !self.is_mirror() {
            self.note_copy(at)?;
        }
        Ok(taken)
    }

    fn take_copy(&mut self, at: usize, message: &Stored, cx: &mut Cx<'_>) -> Result<bool, LogError> {
        let mirror = self.is_mirror();
        let Some(copy) = self.copies.get_mut(at) else { return Ok(false) };
        copy.seen = Some(cx.now.mono);
        let mut header = message.header_bytes().to_vec();
        if !header.is_empty() {
            header = headers::without_all(&header, "Nats-Expected-");
            header = headers::without_all(&header, "Nats-Batch-");
        }
        if !mirror {
            header = headers::without(&header, headers::STREAM_SOURCE);
            header = headers::with(&header, headers::STREAM_SOURCE, &copy.source_line(message));
        }
        let subject = copy.rename(message.subject(), cx).unwrap_or_else(|| message.subject().to_vec());
        let payload = message.payload();
        let origin = if mirror { Origin::Mirror { time: message.time } } else { Origin::Source };
        let subject = self.renames.input(&subject, cx.random).unwrap_or(subject);
        let mut arriving =
            Arriving::new(Cow::Owned(subject), Cow::Owned(header), Cow::Borrowed(&payload), origin, cx);
        if mirror && message.seq > self.log.state().last_seq + 1 {
            // What is not there in the origin isn't here either.
            self.log.skip_to(message.seq - 1, cx.now.wall)?;
        }
        let done = match self.pass(&mut arriving, Ok(())) {
            Passed::Yes => match self.admit(&mut arriving, cx) {
                Ok(_) => true,
                Err(error) if error.is_of_all() => return Err(error),
                Err(_) => false,
            },
            Passed::Duplicate(_) => true,
            Passed::No(_) => false,
        };
        if let Some(copy) = self.copies.get_mut(at).filter(|_| done) {
            (copy.next, copy.last) = (Some(message.seq + 1), message.seq);
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_lines_are_read() {
        assert_eq!(read_source_line("S:abc 7 a.* b.$1 a.x id"), Some(("S:abc a.* b.$1".to_owned(), 7, "id")));
        assert_eq!(read_source_line("S 7 > > a.x"), Some(("S > >".to_owned(), 7, "")));
        assert_eq!(read_source_line("S x > >"), None);
        assert_eq!(read_source_line("S"), None);
    }
}
