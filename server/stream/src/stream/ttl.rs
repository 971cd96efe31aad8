//! When messages are too old: all after `max_age`, some after a time of their own.
//!
//! Source: reference 3.13 (`Nats-TTL`); nats-server's `memstore.go` (`expireMsgs`).

use std::collections::BTreeSet;

use super::Stream;
use crate::cx::Cx;
use crate::headers;
use crate::log::{Entry, Filters, LogError, NEVER, Stored};
use crate::time::{Instant, Nanos, SECOND, go_duration, parse_go_duration};

/// How long a message stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageTtl {
    /// So many ns.
    For(Nanos),
    /// Whatever `max_age` says.
    Forever,
}

impl MessageTtl {
    /// The value of a header: seconds, a duration of a second at least, or `never`.
    pub(super) fn read(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("never") {
            return Some(Self::Forever);
        }
        if let Some(nanos) = parse_go_duration(text) {
            return (nanos >= SECOND).then_some(Self::For(nanos / SECOND * SECOND));
        }
        let seconds: i64 = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))?;
        Some(Self::For(seconds.saturating_mul(SECOND)))
    }

    /// When a message of now goes.
    pub(super) fn expires(self, now: Nanos) -> Nanos {
        match self {
            Self::For(0) => 0,
            Self::For(nanos) => now.saturating_add(nanos),
            Self::Forever => NEVER,
        }
    }

    /// That of a stored message.
    pub(super) fn of(header: &[u8]) -> Option<Self> {
        headers::text(header, headers::TTL).and_then(Self::read)
    }
}

/// When a message of `time` goes, by its header: 0 if nobody said. `None` if that is no time.
pub(crate) fn message_expires(header: &[u8], time: Nanos) -> Option<Nanos> {
    match headers::get(header, headers::TTL) {
        None => Some(0),
        Some(_) => MessageTtl::of(header).map(|ttl| ttl.expires(time)),
    }
}

/// Messages with a time of their own, the first to go in front.
#[derive(Debug, Default)]
pub(super) struct Ttl {
    /// By the age at which they go.
    until: BTreeSet<(Nanos, u64)>,
    /// Messages that `max_age` does not end, though they are over it.
    forever: BTreeSet<u64>,
}

impl Ttl {
    /// A message that was stamped `ahead` of its age.
    pub(super) fn insert(&mut self, seq: u64, expires: Nanos, ahead: Nanos) {
        match expires {
            0 => {}
            NEVER => {
                self.forever.insert(seq);
            }
            expires => {
                self.until.insert((expires.saturating_sub(ahead), seq));
            }
        }
    }
}

/// Messages that go in one go, so that others get their turn.
const AT_ONCE: usize = 10_000;

impl Stream {
    /// The first message that `max_age` ends, and at which age.
    fn oldest(&self, cx: &Cx<'_>) -> Result<Option<(u64, Nanos)>, LogError> {
        if self.config.max_age <= 0 {
            return Ok(None);
        }
        let mut from = self.log.state().first_seq;
        loop {
            let Some(seq) = self.log.next(from, &Filters::all()) else { return Ok(None) };
            if !self.ttl.forever.contains(&seq) {
                let time = self.log.time_of(seq)?;
                let until = |time| cx.calendar.age_of(time).saturating_add(self.config.max_age);
                return Ok(time.map(|time| (seq, until(time))));
            }
            from = seq + 1;
        }
    }

    pub(super) fn next_expiry(&self, cx: &Cx<'_>) -> Option<Instant> {
        let oldest = self.oldest(cx).ok().flatten().map(|(_, until)| until);
        let own = self.ttl.until.first().map(|(until, _)| *until);
        let until = oldest.into_iter().chain(own).min()?;
        Some(cx.calendar.moment(until))
    }

    /// Takes out what is too old.
    pub(crate) fn expire(&mut self, cx: &mut Cx<'_>) -> Result<(), LogError> {
        self.ttl.forever = self.ttl.forever.split_off(&self.log.state().first_seq);
        for _ in 0..AT_ONCE {
            match self.oldest(cx)? {
                Some((seq, until)) if until <= cx.calendar.age() => self.end(seq, true, cx)?,
                _ => break,
            }
        }
        for _ in 0..AT_ONCE {
            let Some((until, seq)) = self.ttl.until.first().copied() else { break };
            if until > cx.calendar.age() {
                break;
            }
            self.ttl.until.remove(&(until, seq));
            self.end(seq, false, cx)?;
        }
        Ok(())
    }

    /// A message's time is over. The last of its subject may leave a mark.
    fn end(&mut self, seq: u64, oldest: bool, cx: &mut Cx<'_>) -> Result<(), LogError> {
        let Some(message) = self.log.get(seq)? else { return Ok(()) };
        let ttl = self.config.subject_delete_marker_ttl;
        let last = self.log.count_of(message.subject()) == 1;
        // Republished, the mark names the message that it is in place of.
        if ttl > 0 && last && !is_marker(&message) {
            self.mark(message.subject(), ttl / SECOND * SECOND, cx)?;
        }
        // Its own time may have been over before that of others.
        match oldest && self.log.state().first_seq == seq {
            true => self.remove_oldest(cx)?,
            false => self.remove(seq, false, cx)?,
        };
        Ok(())
    }

    fn mark(&mut self, subject: &[u8], ttl: Nanos, cx: &mut Cx<'_>) -> Result<(), LogError> {
        let header = headers::with(b"", headers::MARKER_REASON, "MaxAge");
        let header = headers::with(&header, headers::TTL, &go_duration(ttl));
        let header = headers::with(&header, headers::ROLLUP, "sub");
        let entry =
            Entry { subject, header: &header, payload: b"", time: cx.now.wall, expires: cx.now.wall + ttl };
        self.store(&entry, cx)?;
        self.enforce_subject(entry.subject, cx)?;
        self.enforce_limits(cx)
    }

    /// Finds out again which messages have a time of their own.
    pub(crate) fn rebuild_ttl(&mut self, cx: &Cx<'_>) {
        self.ttl = Ttl::default();
        // From which number on stamps were ahead by how much.
        let first = cx.calendar.spans().take(1).map(|(_, ahead)| (0, ahead));
        let others = cx.calendar.spans().skip(1).filter(|_| self.has_ttls());
        let others = others.map(|(from, ahead)| (self.log.at_time(from), ahead));
        let spans: Vec<(u64, Nanos)> = first.chain(others).collect();
        let ttl = &mut self.ttl;
        self.log.expiring(&mut |seq, expires| {
            let span = spans.iter().rev().find(|(first, _)| *first <= seq);
            ttl.insert(seq, expires, span.map_or(0, |(_, ahead)| *ahead));
        });
    }

    /// Whether any message has a time of its own.
    fn has_ttls(&self) -> bool {
        let mut used = false;
        self.log.expiring(&mut |_, _| used = true);
        used
    }
}

/// True for what says itself that the subject has nothing: a mark, or a key-value store's. Source: nats-server's
/// `isSubjectDeleteMarker`.
fn is_marker(message: &Stored) -> bool {
    headers::get(message.header(), headers::MARKER_REASON).is_some()
        || headers::get(message.header(), headers::KV_OPERATION) == Some(b"PURGE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (text, ttl) in [
            ("1", Some(MessageTtl::For(SECOND))),
            ("0", None),
            ("90s", Some(MessageTtl::For(90 * SECOND))),
            ("1.5s", Some(MessageTtl::For(SECOND))),
            ("Never", Some(MessageTtl::Forever)),
            ("0.5s", None),
            ("-1", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(MessageTtl::read(text), ttl, "{text}");
        }
    }
}
