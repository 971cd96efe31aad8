//! What an identity may publish and subscribe to.
//!
//! Source: reference 3.3 and nats-server's `client.go` (`canSubscribe`, `pubAllowed`, `checkDenySub`), checked by the
//! transcripts in `tests/scripts/permissions`.

use std::time::Duration;

use midge_protocol::subject::Filter;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What is allowed; `None`: everything.
    allow: Option<Vec<Pattern>>,
    deny: Vec<Pattern>,
}

/// A filter, and for subscriptions possibly the queue groups that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    subject: Box<[u8]>,
    queue: Option<Box<[u8]>>,
}

impl Pattern {
    fn filter(&self) -> Option<Filter<'_>> {
        Filter::new(&self.subject).ok()
    }

    fn matches(&self, subject: &[u8]) -> bool {
        self.filter().is_some_and(|filter| filter.matches(subject))
    }

    /// True if the pattern names queue groups and `queue` is one of them.
    fn names(&self, queue: &[u8]) -> bool {
        self.queue.as_deref().is_some_and(|name| {
            name == queue
                || Filter::new(name).is_ok_and(|name| {
                    !name.is_literal() && Filter::new(queue).is_ok_and(|queue| queue.is_subset_of(name))
                })
        })
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
        Self {
            allow: allow.map(|entries| entries.into_iter().filter_map(pattern).collect()),
            deny: deny.into_iter().filter_map(pattern).collect(),
        }
    }
}

fn pattern(entry: &str) -> Option<Pattern> {
    let mut words = entry.split_ascii_whitespace();
    let subject = words.next()?.as_bytes();
    Filter::new(subject).ok()?;
    Some(Pattern { subject: subject.into(), queue: words.next().map(|queue| queue.as_bytes().into()) })
}

impl Permit {
    /// Compiles permissions. Whoever may only answer may publish nothing else.
    pub fn new(publish: Rules, subscribe: Rules, responses: Option<Responses>) -> Self {
        let mut permit = Self { publish, subscribe, responses };
        if responses.is_some() && permit.publish.allow.is_none() {
            permit.publish.allow = Some(Vec::new());
        }
        // An empty list of subscriptions is no list, an empty list of publications is one.
        if permit.subscribe.allow.as_ref().is_some_and(Vec::is_empty) {
            permit.subscribe.allow = None;
        }
        permit
    }

    /// The rule for answers, if there is one.
    pub fn responses(&self) -> Option<Responses> {
        self.responses
    }

    /// Whether a message may be published on `subject`, answers aside.
    pub fn may_publish(&self, subject: &[u8]) -> bool {
        let Rules { allow, deny } = &self.publish;
        let hits = |patterns: &[Pattern]| patterns.iter().any(|p| p.queue.is_none() && p.matches(subject));
        allow.as_deref().is_none_or(hits) && !deny.iter().any(|p| p.matches(subject))
    }

    /// Whether one may subscribe to `subject`, in `queue` if that is given.
    pub fn may_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let Rules { allow, deny } = &self.subscribe;
        let allowed = allow.as_deref().is_none_or(|patterns| {
            let (mut plain, mut named, mut any_queue) = (false, false, false);
            for p in patterns.iter().filter(|p| p.matches(subject)) {
                plain |= p.queue.is_none();
                any_queue |= p.queue.is_some();
                named |= queue.is_some_and(|queue| p.names(queue));
            }
            // Once queue groups are named, only those may share.
            if queue.is_some() && any_queue { named } else { plain }
        });
        allowed && !self.denies(deny, subject, queue)
    }

    /// Whether messages for a subscription must be looked at one by one, because part of what it asks for is denied.
    pub fn must_filter(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let Ok(asked) = Filter::new(subject) else { return false };
        (queue.is_some() || !asked.is_literal())
            && self.subscribe.deny.iter().filter_map(Pattern::filter).any(|deny| deny.overlaps(asked))
    }

    /// Whether a message on `subject` may be delivered to a subscription that must be filtered.
    pub fn may_receive(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        !self.denies(&self.subscribe.deny, subject, queue)
    }

    fn denies(&self, deny: &[Pattern], subject: &[u8], queue: Option<&[u8]>) -> bool {
        deny.iter()
            .filter(|p| p.matches(subject))
            .any(|p| p.queue.is_none() || queue.is_some_and(|queue| p.names(queue)))
    }
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
