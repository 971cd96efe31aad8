//! Requests that a connection got and may answer, though it may publish nothing else there.

use std::collections::HashMap;

use midge_protocol::time::Instant;

use crate::auth::Responses;

/// Open requests of one connection, by reply subject.
#[derive(Debug)]
pub(crate) struct Replies {
    pub(crate) rule: Responses,
    open: HashMap<Box<[u8]>, Reply>,
}

#[derive(Debug)]
struct Reply {
    since: Instant,
    sent: u32,
}

/// Open requests that are remembered at most. More requests than this are waiting for an answer only if most will
/// never get one, so the oldest make room.
const OPEN_MAX: usize = 4096;

impl Replies {
    pub(crate) fn new(rule: Responses) -> Self {
        Self { rule, open: HashMap::new() }
    }

    /// A request with this reply subject was delivered.
    pub(crate) fn note(&mut self, reply: &[u8], now: Instant) {
        if self.open.len() >= OPEN_MAX {
            let rule = self.rule;
            self.open.retain(|_, reply| reply.is_open(rule, now));
            if self.open.len() >= OPEN_MAX
                && let Some(oldest) = self.open.iter().min_by_key(|(_, reply)| reply.since)
            {
                let oldest = oldest.0.clone();
                self.open.remove(&oldest);
            }
        }
        self.open.insert(reply.into(), Reply { since: now, sent: 0 });
    }

    /// Whether an answer may be sent on `subject`; counts it if so.
    pub(crate) fn allow(&mut self, subject: &[u8], now: Instant) -> bool {
        let rule = self.rule;
        let Some(reply) = self.open.get_mut(subject) else { return false };
        let open = reply.is_open(rule, now);
        if open {
            reply.sent += 1;
        }
        if !reply.is_open(rule, now) {
            self.open.remove(subject);
        }
        open
    }
}

impl Reply {
    fn is_open(&self, rule: Responses, now: Instant) -> bool {
        rule.max.is_none_or(|max| self.sent < max)
            && rule.expires.is_none_or(|expires| now.since(self.since) <= expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn as_often_and_as_long_as_the_rule_says() {
        let at = |s: u64| Instant::from_micros(s * 1_000_000);
        let mut replies = Replies::new(Responses { max: Some(2), expires: Some(Duration::from_secs(10)) });
        replies.note(b"in.1", at(0));
        assert!(!replies.allow(b"in.2", at(0)));
        assert!(
            replies.allow(b"in.1", at(1)) && replies.allow(b"in.1", at(2)) && !replies.allow(b"in.1", at(3))
        );
        replies.note(b"in.3", at(5));
        assert!(!replies.allow(b"in.3", at(16)));
        for i in 0..2 * OPEN_MAX {
            replies.note(format!("in.{i}").as_bytes(), at(20));
        }
        assert_eq!(replies.open.len(), OPEN_MAX);
    }
}
