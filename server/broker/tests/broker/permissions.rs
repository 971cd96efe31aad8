//! What a user may say and hear: random rules on a broker beside a model that compares each rule with plain words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use midge_broker::{
    Broker, Directory, Next, Now, Outbox, Peer, Permit, Proof, Responses, Rules, Secret, Session, Settings,
    User,
};
use midge_protocol::limits::Limits;
use midge_protocol::op::ServerOp;
use midge_protocol::parse::{Step, server_op};
use proptest::prelude::*;
use proptest::sample::select;

/// The rules of a user, as a configuration has them.
#[derive(Clone, Debug, Default)]
struct Spec {
    publish: (Option<Vec<String>>, Vec<String>),
    subscribe: (Option<Vec<String>>, Vec<String>),
    /// Answers to one request.
    answers: Option<u32>,
}

#[derive(Clone, Debug)]
enum Act {
    /// The user subscribes,
    Sub { filter: String, queue: Option<&'static str> },
    /// and publishes;
    Say { subject: String },
    /// somebody else publishes, perhaps a request;
    Hear { subject: String, reply: Option<String> },
    /// the operator changes the rules.
    Reload(Spec),
}

fn subject() -> impl Strategy<Value = String> {
    // Wildcards are ordinary tokens for those who publish.
    let token = select(vec!["a", "b", "c", "a", "b", "c", "*", ">", ""]);
    prop::collection::vec(token, 1..4)
        .prop_map(|tokens| tokens.join("."))
        .prop_filter("an argument", |subject| !subject.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let wild = prop::collection::vec(select(vec!["a", "b", "*"]), 0..3);
    (wild, select(vec!["a", "b", "c", "*", ">"])).prop_map(|(mut tokens, last)| {
        tokens.push(last);
        tokens.join(".")
    })
}

fn rule() -> impl Strategy<Value = String> {
    let queue = select(vec!["", "", "", " q", " q.a", " q.*", " >", " r"]);
    (filter(), queue).prop_map(|(filter, queue)| format!("{filter}{queue}"))
}

fn list() -> impl Strategy<Value = (Option<Vec<String>>, Vec<String>)> {
    (prop::option::of(prop::collection::vec(rule(), 0..5)), prop::collection::vec(rule(), 0..4))
}

fn spec() -> impl Strategy<Value = Spec> {
    (list(), list(), prop::option::weighted(0.3, 1..3_u32)).prop_map(|(publish, subscribe, answers)| Spec {
        publish,
        subscribe,
        answers,
    })
}

fn act() -> impl Strategy<Value = Act> {
    let queue = prop::option::of(select(vec!["q", "q.a", "q.b", "r", ".."]));
    prop_oneof![
        4 => (filter(), queue).prop_map(|(filter, queue)| Act::Sub { filter, queue }),
        4 => subject().prop_map(|subject| Act::Say { subject }),
        6 => (subject(), prop::option::of(subject())).prop_map(|(subject, reply)| Act::Hear { subject, reply }),
        1 => spec().prop_map(Act::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]
    #[test]
    fn rules_mean_what_they_say(first in spec(), acts in prop::collection::vec(act(), 1..40)) {
        let mut broker = Broker::new(settings(&first), 1);
        let mut user = Client::open(&mut broker, "user");
        let mut other = Client::open(&mut broker, "other");
        prop_assert!(other.say(&mut broker, "SUB > 1").is_empty());
        let mut model = Model { spec: first, ..Model::default() };
        for (number, act) in acts.into_iter().enumerate() {
            match act {
                Act::Sub { filter, queue } => {
                    let line = format!("SUB {filter} {} {number}", queue.unwrap_or_default());
                    let said = user.say(&mut broker, &line);
                    if model.may_subscribe(&filter, queue) {
                        prop_assert!(said.is_empty(), "{line}: {said:?}");
                        model.subs.insert(number.to_string(), (filter, queue));
                    } else {
                        let violation = format!("Permissions Violation for Subscription to \"{filter}\"");
                        prop_assert!(matches!(&said[..], [Got::Err(text)] if text.contains(&violation)), "{line}: {said:?}");
                    }
                }
                Act::Say { subject } => {
                    let said = user.say(&mut broker, &format!("PUB {subject} 0\r\n"));
                    let heard = other.read();
                    if model.may_publish(&subject) || model.answers(&subject) {
                        prop_assert!(said.iter().all(|it| matches!(it, Got::Msg { .. })), "{subject}: {said:?}");
                        prop_assert_eq!(heard.len(), usize::from(wants(">", &subject)));
                        // What one says oneself comes back to one's own subscriptions.
                        model.hears(&subject, None, &said)?;
                    } else {
                        let violation = format!("Permissions Violation for Publish to \"{subject}\"");
                        prop_assert!(matches!(&said[..], [Got::Err(text)] if text.contains(&violation)), "{subject}: {said:?}");
                        prop_assert_eq!(heard, []);
                    }
                }
                Act::Hear { subject, reply } => {
                    other.say(&mut broker, &format!("PUB {subject} {} 0\r\n", reply.as_deref().unwrap_or_default()));
                    model.hears(&subject, reply, &user.read())?;
                }
                Act::Reload(spec) => {
                    broker.reconfigure(settings(&spec), Now::default());
                    broker.flush(Now::default(), |_, _| {});
                    model.reload(spec, &user.read())?;
                }
            }
            prop_assert_eq!(other.read(), []);
        }
    }
}

/// A user by rules, and another without.
fn settings(spec: &Spec) -> Settings {
    fn rules((allow, deny): &(Option<Vec<String>>, Vec<String>)) -> Rules {
        Rules::new(
            allow.as_ref().map(|allow| allow.iter().map(String::as_str)),
            deny.iter().map(String::as_str),
        )
    }
    let answers = spec.answers.map(|max| Responses { max: Some(max), expires: None });
    let permit = Permit::new(rules(&spec.publish), rules(&spec.subscribe), answers);
    let user = |permit| {
        let proof = Proof::Secret(Secret::new(""));
        User { proof, account: "$G".into(), permit, welcome: true }
    };
    let users = [("user".into(), user(Some(Arc::new(permit)))), ("other".into(), user(None))];
    let directory = Directory { users: users.into(), ..Directory::default() };
    Settings { directory, system_account: None, ..Settings::default() }
}

#[derive(Default)]
struct Model {
    spec: Spec,
    subs: BTreeMap<String, (String, Option<&'static str>)>,
    /// Answers sent to requests that may be answered.
    open: BTreeMap<String, u32>,
}

fn split(rule: &str) -> (&str, Option<&str>) {
    rule.split_once(' ').map_or((rule, None), |(filter, queue)| (filter, Some(queue)))
}

impl Model {
    fn may_publish(&self, subject: &str) -> bool {
        let (allow, deny) = &self.spec.publish;
        let allowed = match allow {
            Some(allow) => {
                allow.iter().map(|rule| split(rule)).any(|(f, queue)| queue.is_none() && wants(f, subject))
            }
            None => self.spec.answers.is_none(),
        };
        allowed && !deny.iter().any(|rule| wants(split(rule).0, subject))
    }

    /// Counts an answer, if that is what a message on `subject` is.
    fn answers(&mut self, subject: &str) -> bool {
        let Some((max, sent)) = self.spec.answers.zip(self.open.get_mut(subject)) else { return false };
        *sent += 1;
        let may = *sent <= max;
        if *sent >= max {
            self.open.remove(subject);
        }
        may
    }

    fn may_subscribe(&self, filter: &str, queue: Option<&str>) -> bool {
        let (allow, _) = &self.spec.subscribe;
        let allowed = match allow.as_deref() {
            None | Some([]) => true,
            Some(allow) => {
                let found: Vec<_> =
                    allow.iter().map(|rule| split(rule)).filter(|(rule, _)| covers(rule, filter)).collect();
                match queue.filter(|_| found.iter().any(|(_, queue)| queue.is_some())) {
                    Some(queue) => found.iter().any(|(_, rule)| rule.is_some_and(|rule| names(rule, queue))),
                    None => found.iter().any(|(_, queue)| queue.is_none()),
                }
            }
        };
        allowed && !self.denies(filter, queue)
    }

    fn denies(&self, subject: &str, queue: Option<&str>) -> bool {
        self.spec.subscribe.1.iter().map(|rule| split(rule)).any(|(filter, group)| {
            let concerns = group.is_none_or(|group| queue.is_some_and(|queue| names(group, queue)));
            concerns && wants(filter, subject)
        })
    }

    /// Checks that the user got a message as often as it should: once for each plain subscription and each group.
    fn hears(&mut self, subject: &str, reply: Option<String>, got: &[Got]) -> Result<(), TestCaseError> {
        let mut served = BTreeSet::new();
        let wanting = self
            .subs
            .iter()
            .filter(|(_, (filter, queue))| wants(filter, subject) && !self.denies(subject, *queue));
        for (sid, (_, queue)) in wanting {
            served.insert(queue.map_or(format!("sid {sid}"), |queue| format!("group {queue}")));
        }
        let mut seen = BTreeSet::new();
        for message in got {
            let Got::Msg { sid, subject: shown } = message else {
                return Err(TestCaseError::fail(format!("{message:?}")));
            };
            prop_assert_eq!(shown, subject);
            let Some((_, queue)) = self.subs.get(sid) else {
                return Err(TestCaseError::fail(format!("no subscription: {message:?}")));
            };
            let new = seen.insert(queue.map_or(format!("sid {sid}"), |queue| format!("group {queue}")));
            prop_assert!(new, "twice: {message:?}");
        }
        prop_assert_eq!(&seen, &served, "{} with {:?}", subject, self.spec);
        if let Some(reply) =
            reply.filter(|reply| self.spec.answers.is_some() && !seen.is_empty() && !self.may_publish(reply))
        {
            self.open.insert(reply, 0);
        }
        Ok(())
    }

    /// Checks that the user is told of each subscription that has ended.
    fn reload(&mut self, spec: Spec, got: &[Got]) -> Result<(), TestCaseError> {
        if spec.answers.is_none() {
            self.open.clear();
        }
        self.spec = spec;
        let subs = std::mem::take(&mut self.subs);
        let (kept, gone): (BTreeMap<_, _>, _) =
            subs.into_iter().partition(|(_, (filter, queue))| self.may_subscribe(filter, *queue));
        self.subs = kept;
        let mut told = BTreeSet::new();
        for got in got {
            let Got::Err(text) = got else { return Err(TestCaseError::fail(format!("{got:?}"))) };
            told.insert(text.clone());
        }
        let expected = gone.into_iter().map(|(sid, (filter, queue))| {
            let queue = queue.map(|queue| format!(" using queue \"{queue}\"")).unwrap_or_default();
            format!("Permissions Violation for Subscription to \"{filter}\"{queue} (sid \"{sid}\")")
        });
        prop_assert_eq!(told, expected.collect());
        Ok(())
    }
}

/// Whether a message on `subject` reaches `filter`.
fn wants(filter: &str, subject: &str) -> bool {
    if subject.split('.').any(str::is_empty) {
        return false;
    }
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(wanted), Some(token)) if wanted == "*" || wanted == token => {}
            _ => return false,
        }
    }
}

/// Whether all that reaches `inner` reaches `outer`.
fn covers(outer: &str, inner: &str) -> bool {
    let (mut outer, mut inner) = (outer.split('.'), inner.split('.'));
    loop {
        match (outer.next(), inner.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (_, Some(">")) => return false,
            (Some(wanted), Some(token)) if wanted == "*" || wanted == token => {}
            _ => return false,
        }
    }
}

/// Whether the queue groups `rule` are about `queue`.
fn names(rule: &str, queue: &str) -> bool {
    let is_wild = rule.split('.').any(|token| token == "*" || token == ">");
    let is_filter = queue.split('.').all(|token| !token.is_empty());
    rule == queue || (is_wild && is_filter && covers(rule, queue))
}

struct Client {
    session: Session,
    outbox: Arc<Outbox>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Msg { subject: String, sid: String },
    Err(String),
}

impl Client {
    fn open(broker: &mut Broker<Arc<Outbox>>, user: &str) -> Self {
        let outbox = Arc::new(Outbox::default());
        let id = broker.attach(Arc::clone(&outbox), Peer { host: "model".into(), port: 0 }, Now::default());
        let mut client = Self { session: Session::new(broker, id), outbox };
        client.say(broker, &format!(r#"CONNECT {{"verbose":false,"pedantic":false,"user":"{user}"}}"#));
        client
    }

    /// Says a line, and returns what came of it.
    fn say(&mut self, broker: &mut Broker<Arc<Outbox>>, line: &str) -> Vec<Got> {
        let input = format!("{line}\r\n");
        let received = self.session.receive(broker, Now::default(), input.as_bytes());
        assert!(
            received.used == input.len() && matches!(received.next, Next::Read(1)),
            "{line:?}: {received:?}"
        );
        broker.flush(Now::default(), |_, _| {});
        self.read()
    }

    fn read(&self) -> Vec<Got> {
        let Some(mut batch) = self.outbox.take() else { return Vec::new() };
        let bytes: Vec<u8> = batch.slices().flatten().copied().collect();
        batch.advance(bytes.len());
        self.outbox.put_back(batch, bytes.len());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (mut rest, mut got) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let Step::Op(op, used) = server_op(rest, &Limits::default()) else {
                panic!("no operation: {:?}", text(rest));
            };
            match op {
                ServerOp::Msg { sid, message } => {
                    got.push(Got::Msg { subject: text(message.subject), sid: text(sid) });
                }
                ServerOp::Err(error) => got.push(Got::Err(text(error))),
                _ => {}
            }
            rest = &rest[used..];
        }
        got
    }
}
