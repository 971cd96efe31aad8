//! What all parts of the engine work with while they handle one input.

use bytes::Bytes;
use serde::Serialize;

use crate::calendar::Calendar;
use crate::config::Limits;
use crate::engine::Zone;
use crate::json;
use crate::random::Random;
use crate::seam::{Account, Out, Output, Promise, Publish, Tag};
use crate::space::Space;
use crate::stream::Aside;
use crate::time::{Now, rfc3339};

/// The time, where outputs go, and whose they are.
pub(crate) struct Cx<'a> {
    /// `wall` is what is stamped: it may be another than the clock's.
    pub(crate) now: Now,
    /// What ages are counted with.
    pub(crate) calendar: &'a Calendar,
    pub(crate) out: &'a mut Out,
    pub(crate) random: &'a mut Random,
    pub(crate) account: Account,
    pub(crate) domain: Option<&'a str>,
    /// Subjects of acks and flow control are of the longer form.
    pub(crate) long_acks: bool,
    /// Time zones by their names.
    pub(crate) zones: Zone,
    /// Ceilings that the server sets.
    pub(crate) limits: &'a Limits,
    /// What batches take that are open.
    pub(crate) aside: &'a mut Aside,
    /// The account's; `None`: it is about to be gone.
    pub(crate) space: Option<&'a Space>,
}

impl Cx<'_> {
    /// A header block or a payload to one subject.
    pub(crate) fn publish(&mut self, subject: &[u8], header: impl Into<Bytes>, payload: impl Into<Bytes>) {
        self.out.push(Output::Publish(Publish {
            account: self.account,
            subject: Bytes::copy_from_slice(subject),
            header: header.into(),
            payload: payload.into(),
            ..Publish::default()
        }));
    }

    /// An answer that says that something was done, or why not.
    pub(crate) fn answer(&mut self, reply: &[u8], payload: impl Into<Bytes>) {
        self.promise(reply, payload, Promise::Answer);
    }

    /// The same, of parts that are short. Many share one allocation.
    pub(crate) fn answer_of(&mut self, reply: &[u8], parts: &[&[u8]]) {
        let (subject, payload) = (self.out.text(&[reply]), self.out.text(parts));
        let (account, promise) = (self.account, Promise::Answer);
        self.out.push(Output::Publish(Publish { account, subject, payload, promise, ..Publish::default() }));
    }

    /// An answer with a header.
    pub(crate) fn answer_with(&mut self, reply: &[u8], header: Bytes, payload: impl Into<Bytes>) {
        self.out.push(Output::Publish(Publish {
            account: self.account,
            subject: Bytes::copy_from_slice(reply),
            header,
            payload: payload.into(),
            promise: Promise::Answer,
            ..Publish::default()
        }));
    }

    /// A message that must not come out before what it promises is durable.
    pub(crate) fn promise(&mut self, subject: &[u8], payload: impl Into<Bytes>, promise: Promise) {
        self.out.push(Output::Publish(Publish {
            account: self.account,
            subject: Bytes::copy_from_slice(subject),
            payload: payload.into(),
            promise,
            ..Publish::default()
        }));
    }

    /// A status without a payload: `404 No Messages`, and header lines, each with its end.
    pub(crate) fn status(&mut self, subject: &[u8], status: &str, lines: &str) {
        self.publish(subject, format!("NATS/1.0 {status}\r\n{lines}\r\n"), Bytes::new());
    }

    /// Messages on `filter` are to come.
    pub(crate) fn subscribe(&mut self, filter: impl Into<Bytes>, tag: Tag) {
        self.out.push(Output::Subscribe { account: self.account, filter: filter.into(), tag });
    }

    /// No more of them.
    pub(crate) fn unsubscribe(&mut self, filter: impl Into<Bytes>, tag: Tag) {
        self.out.push(Output::Unsubscribe { filter: filter.into(), tag });
    }

    /// Interest in `subject` is to be told.
    pub(crate) fn watch(&mut self, subject: &[u8], tag: Tag) {
        let subject = Bytes::copy_from_slice(subject);
        self.out.push(Output::Watch { account: self.account, subject, group: None, tag });
    }

    /// Interest in `subject` is to be told, of those in that queue group, or in none, who name it without wildcards.
    pub(crate) fn watch_group(&mut self, subject: &str, group: &str, tag: Tag) {
        let (subject, group) = (Bytes::from(subject.to_owned()), Some(Bytes::from(group.to_owned())));
        self.out.push(Output::Watch { account: self.account, subject, group, tag });
    }

    /// No more of that.
    pub(crate) fn unwatch(&mut self, subject: &[u8], tag: Tag) {
        self.out.push(Output::Unwatch {
            account: self.account,
            subject: Bytes::copy_from_slice(subject),
            tag,
        });
    }

    /// Somebody listens to the account's events.
    pub(crate) fn is_listened(&self) -> bool {
        self.listened().is_some()
    }

    /// For events: whose they are.
    pub(crate) fn account_name(&self) -> &str {
        self.listened().map_or("", |space| &space.name)
    }

    /// The account, if somebody listens to its events.
    fn listened(&self) -> Option<&Space> {
        self.space.filter(|space| space.events)
    }

    /// An event, if somebody listens. `kind` is its type, `body` its own members.
    pub(crate) fn event(&mut self, subject: &str, kind: &'static str, body: impl Serialize) {
        self.event_with(subject, kind, body, ());
    }

    /// An event, if somebody listens, of which some members stand behind the domain.
    pub(crate) fn event_with(
        &mut self,
        subject: &str,
        kind: &'static str,
        body: impl Serialize,
        tail: impl Serialize,
    ) {
        if self.listened().is_none() {
            return;
        }
        let event = Event {
            kind,
            id: self.random.name(22),
            timestamp: rfc3339(self.now.wall),
            body,
            domain: self.domain,
            tail,
        };
        let text = json::write(&event);
        self.publish(subject.as_bytes(), Bytes::new(), text);
    }
}

/// What every event has. Source: reference 3.18.
#[derive(Serialize)]
struct Event<'a, T, U> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: String,
    #[serde(flatten)]
    body: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    #[serde(flatten)]
    tail: U,
}
