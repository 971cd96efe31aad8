//! What an identity may publish and subscribe to.
//!
//! Source: reference 3.3 and nats-server's `client.go` (`canSubscribe`, `pubAllowed`, `checkDenySub`), checked by the
//! transcripts in `tests/scripts/permissions`.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use midge_protocol::subject::is_literal;

use super::patterns::Patterns;

/// Permissions, compiled once for each user of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permit {
    publish: Rules,
    subscribe: Rules,
    responses: Option<Responses>,
}

/// Answers that may be sent to requests that were received, whatever else may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responses {
    /// Messages that answer one request; `None`: any number.
    pub max: Option<u32>,
    /// How long one may answer; `None`: for ever.
    pub expires: Option<Duration>,
}

/// An allow and a deny list; a deny wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What is allowed; `None`: everything.
    allow: Option<Patterns>,
    deny: Patterns,
}

impl Default for Rules {
    /// All that there is.
    fn default() -> Self {
        Self { allow: None, deny: Patterns::new([]) }
    }
}

impl Rules {
    /// `allow` of `None` allows everything. An entry is a filter, or a filter and the name of queue groups, which may
    /// hold wildcards, separated by a space. Entries that are neither are left out: the configuration's reader has
    /// refused them.
    pub fn new<'a>(
        allow: Option<impl IntoIterator<Item = &'a str>>,
        deny: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self { allow: allow.map(Patterns::new), deny: Patterns::new(deny) }
    }

    /// What is allowed, as it was given; `None`: everything.
    pub fn allowed(&self) -> Option<impl Iterator<Item = &str>> {
        self.allow.as_ref().map(Patterns::entries)
    }

    /// What is denied, as it was given.
    pub fn denied(&self) -> impl Iterator<Item = &str> {
        self.deny.entries()
    }

    fn bytes(&self) -> usize {
        self.allow.as_ref().map_or(0, Patterns::bytes) + self.deny.bytes()
    }
}

impl Permit {
    /// Compiles permissions. Whoever may only answer may publish nothing else.
    pub fn new(publish: Rules, subscribe: Rules, responses: Option<Responses>) -> Self {
        let mut permit = Self { publish, subscribe, responses };
        if responses.is_some() && permit.publish.allow.is_none() {
            permit.publish.allow = Some(Patterns::new([]));
        }
        // An empty list of subscriptions is no list, an empty list of publications is one.
        if permit.subscribe.allow.as_ref().is_some_and(Patterns::is_empty) {
            permit.subscribe.allow = None;
        }
        permit
    }

    /// What may be published.
    pub fn publish(&self) -> &Rules {
        &self.publish
    }

    /// What may be subscribed to.
    pub fn subscribe(&self) -> &Rules {
        &self.subscribe
    }

    /// The rule for answers, if there is one.
    pub fn responses(&self) -> Option<Responses> {
        self.responses
    }

    /// Memory that it takes, about: once for all connections of a user.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.publish.bytes() + self.subscribe.bytes()
    }

    /// Whether a message may be published on `subject`, answers aside.
    #[inline]
    pub fn may_publish(&self, subject: &[u8]) -> bool {
        let Rules { allow, deny } = &self.publish;
        allow.as_ref().is_none_or(|allow| allow.has_plain(subject)) && !deny.has(subject)
    }

    /// Whether one may subscribe to `subject`, in `queue` if that is given.
    pub fn may_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let Rules { allow, deny } = &self.subscribe;
        let allowed = allow.as_ref().is_none_or(|allow| {
            let found = allow.find_covering(subject, queue);
            // Once queue groups are named, only those may share.
            if queue.is_some() && found.queues { found.named } else { found.plain }
        });
        allowed && !denies(deny, subject, queue)
    }

    /// Whether messages for a subscription must be looked at one by one, because part of what it asks for is denied.
    #[inline]
    pub fn must_filter(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        (queue.is_some() || !is_literal(subject)) && self.subscribe.deny.overlap(subject)
    }

    /// Whether a message on `subject` may be delivered to a subscription that must be filtered.
    pub fn may_receive(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        !denies(&self.subscribe.deny, subject, queue)
    }
}

/// Permissions of a connection, which tends to publish on the same subject again.
#[derive(Debug)]
pub(crate) struct Held {
    permit: Arc<Permit>,
    /// The last subject that was allowed.
    last: Vec<u8>,
}

/// Longer subjects aren't remembered.
const LAST_MAX: usize = 256;

impl Held {
    pub(crate) fn new(permit: Arc<Permit>) -> Self {
        Self { permit, last: Vec::new() }
    }

    pub(crate) fn shared(&self) -> &Arc<Permit> {
        &self.permit
    }

    /// [`Permit::may_publish`].
    #[inline]
    pub(crate) fn lets_publish(&mut self, subject: &[u8]) -> bool {
        (!self.last.is_empty() && self.last == subject) || self.ask(subject)
    }

    // Out of the way of messages on the same subject again.
    #[cold]
    #[inline]
    fn ask(&mut self, subject: &[u8]) -> bool {
        let allowed = self.permit.may_publish(subject);
        if allowed && subject.len() <= LAST_MAX {
            self.last.clear();
            self.last.extend_from_slice(subject);
        }
        allowed
    }
}

impl Deref for Held {
    type Target = Permit;

    fn deref(&self) -> &Permit {
        &self.permit
    }
}

fn denies(deny: &Patterns, subject: &[u8], queue: Option<&[u8]>) -> bool {
    let found = deny.find(subject, queue);
    found.plain || found.named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&'static str], deny: &[&'static str]) -> Rules {
        let allow = (!allow.is_empty()).then(|| allow.iter().copied());
        Rules::new(allow, deny.iter().copied())
    }

    #[test]
    fn deny_wins() {
        let permit = Permit::new(rules(&["a.>"], &["a.secret"]), Rules::default(), None);
        assert!(permit.may_publish(b"a.x") && !permit.may_publish(b"a.secret") && !permit.may_publish(b"b"));
        assert!(Permit::default().may_publish(b"anything"));
    }

    #[test]
    fn who_may_only_answer_may_publish_nothing_else() {
        let answers = Responses { max: Some(1), expires: None };
        assert!(!Permit::new(Rules::default(), Rules::default(), Some(answers)).may_publish(b"a"));
    }

    #[test]
    fn queue_groups() {
        let permit =
            Permit::new(Rules::default(), rules(&["work g", "jobs v.*", "free", "free x"], &[]), None);
        for (subject, queue, yes) in [
            ("work", Some("g"), true),
            ("work", Some("h"), false),
            ("work", None, false),
            ("jobs", Some("v.1"), true),
            ("jobs", Some("v"), false),
            ("free", None, true),
            ("free", Some("x"), true),
            ("free", Some("y"), false),
        ] {
            assert_eq!(
                permit.may_subscribe(subject.as_bytes(), queue.map(str::as_bytes)),
                yes,
                "{subject} {queue:?}"
            );
        }
    }

    #[test]
    fn a_wildcard_around_a_denied_subject_is_filtered() {
        let permit = Permit::new(Rules::default(), rules(&[], &["a.secret", "b q"]), None);
        assert!(permit.may_subscribe(b"a.*", None) && permit.must_filter(b"a.*", None));
        assert!(!permit.may_subscribe(b"a.secret", None) && !permit.must_filter(b"c.*", None));
        assert!(!permit.may_receive(b"a.secret", None) && permit.may_receive(b"a.open", None));
        assert!(permit.may_subscribe(b"b", None) && !permit.may_subscribe(b"b", Some(b"q")));
    }
}
