//! The router against a list of filters that is searched one by one.

use std::collections::{BTreeMap, BTreeSet};

use midge_protocol::subject::Filter;
use midge_router::{Matches, Router, SubId};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Insert(String, Option<&'static str>),
    /// Which of the subscriptions that are there, counted round.
    Remove(usize),
    Match(String),
}

#[derive(Default)]
struct Model {
    subs: BTreeMap<usize, (SubId, String, Option<&'static str>)>,
}

impl Model {
    fn matches(&self, subject: &str) -> (BTreeSet<SubId>, BTreeMap<&'static str, BTreeSet<SubId>>) {
        let (mut plain, mut groups) = (BTreeSet::new(), BTreeMap::<_, BTreeSet<_>>::new());
        for (id, filter, queue) in self.subs.values() {
            if Filter::new(filter.as_bytes()).unwrap().matches(subject.as_bytes()) {
                match queue {
                    None => plain.insert(*id),
                    Some(name) => groups.entry(*name).or_default().insert(*id),
                };
            }
        }
        (plain, groups)
    }

    fn check(&self, router: &mut Router, subject: &str) {
        let interest = router.has_interest(subject.as_bytes());
        let found = router.matches(subject.as_bytes()).clone();
        let (plain, groups) = self.matches(subject);
        assert_eq!(found.plain().iter().copied().collect::<BTreeSet<_>>(), plain, "{subject}");
        assert_eq!(found.plain().len(), plain.len(), "{subject}: one twice");
        assert_eq!(found.groups().len(), groups.len(), "{subject}");
        assert_eq!(found.fanout(), plain.len() + groups.len());
        assert_eq!(found.is_empty(), plain.is_empty() && groups.is_empty());
        assert_eq!(interest, !found.is_empty(), "{subject}");
        assert_eq!(router.has_interest(subject.as_bytes()), interest);
        for members in found.groups() {
            let mut name = Vec::new();
            assert!(router.queue_of(members[0], &mut name));
            let wanted = &groups[core::str::from_utf8(&name).unwrap()];
            assert_eq!(&members.iter().copied().collect::<BTreeSet<_>>(), wanted, "{subject}");
            assert_eq!(members.len(), wanted.len(), "{subject}: one twice");
        }
    }
}

fn token(wild: bool) -> impl Strategy<Value = &'static str> {
    let literal =
        prop::sample::select(&["a", "b", "a*", ">b", "**", "a-token-that-is-longer-than-the-inline-room"]);
    if wild {
        prop_oneof![3 => literal, 1 => Just("*")].boxed()
    } else {
        prop_oneof![20 => literal, 1 => Just("*"), 1 => Just(">"), 1 => Just("")].boxed()
    }
}

fn filter() -> impl Strategy<Value = String> {
    (prop::collection::vec(token(true), 1..5), prop::bool::weighted(0.2)).prop_map(|(mut tokens, rest)| {
        if rest {
            *tokens.last_mut().expect("at least one") = ">";
        }
        tokens.join(".")
    })
}

fn subject() -> impl Strategy<Value = String> {
    prop::collection::vec(token(false), 1..5).prop_map(|tokens| tokens.join("."))
}

fn op() -> impl Strategy<Value = Op> {
    let queue = prop::option::of(prop::sample::select(&["q", "Q", "a.queue.with.a.long.name"]));
    prop_oneof![
        4 => (filter(), queue).prop_map(|(filter, queue)| Op::Insert(filter, queue)),
        2 => any::<usize>().prop_map(Op::Remove),
        4 => subject().prop_map(Op::Match),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_list(
        ops in prop::collection::vec(op(), 1..250),
        cache in prop::sample::select(&[0usize, 1, 4, 1024]),
    ) {
        let (mut model, mut router) = (Model::default(), Router::with_cache(cache));
        for op in ops {
            match op {
                Op::Insert(filter, queue) => {
                    let parsed = Filter::new(filter.as_bytes()).unwrap();
                    let id = router.insert(parsed, queue.map(str::as_bytes)).unwrap();
                    prop_assert!(id.index() <= model.subs.len(), "ids are dense");
                    prop_assert!(model.subs.insert(id.index(), (id, filter, queue)).is_none());
                }
                Op::Remove(_) if model.subs.is_empty() => {}
                Op::Remove(which) => {
                    let index = *model.subs.keys().nth(which % model.subs.len()).unwrap();
                    let (id, ..) = model.subs.remove(&index).unwrap();
                    prop_assert!(router.remove(id));
                    prop_assert!(!router.remove(id));
                }
                Op::Match(subject) => model.check(&mut router, &subject),
            }
            prop_assert_eq!(router.len(), model.subs.len());
        }
        for (id, filter, queue) in model.subs.values() {
            let (mut text, mut name) = (Vec::new(), Vec::new());
            prop_assert!(router.filter_of(*id, &mut text));
            prop_assert_eq!(&text, filter.as_bytes());
            prop_assert_eq!(router.queue_of(*id, &mut name), queue.is_some());
            prop_assert_eq!(&name, queue.unwrap_or_default().as_bytes());
        }
        for (id, ..) in model.subs.into_values() {
            prop_assert!(router.remove(id));
        }
        prop_assert!(router.is_empty());
        prop_assert!(!router.has_interest(b"a"));
    }
}

/// The results must be able to cross threads with the connection that asked for them.
#[test]
fn can_be_sent() {
    fn sent<T: Send>() {}
    sent::<Router>();
    sent::<Matches>();
}
