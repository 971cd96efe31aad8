//! Whatever is exported and imported: messages reach whom their publisher's account lets, and nobody else.

use std::collections::BTreeSet;

use midge_broker::{
    Access, AccountSettings, Exports, Imports, ServiceExport, ServiceImport, StreamExport, StreamImport,
    crossing_problems,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::world::{World, settings};

const NAMES: [&str; 4] = ["A", "B", "C", "D"];

#[derive(Clone, Debug)]
struct Tie {
    exporter: usize,
    importer: usize,
    subject: &'static str,
    prefix: Option<&'static str>,
    private: bool,
    service: bool,
}

fn tie() -> impl Strategy<Value = Tie> {
    let subject = select(vec!["x", "y", "x.*", "x.>", "y.a", ">"]);
    let prefix = prop::option::of(select(vec!["p", "q.r"]));
    (0..NAMES.len(), 0..NAMES.len(), subject, prefix, any::<bool>(), any::<bool>()).prop_map(
        |(exporter, importer, subject, prefix, private, service)| Tie {
            exporter,
            importer,
            subject,
            prefix,
            private,
            service,
        },
    )
}

fn accounts(ties: &[Tie]) -> Vec<AccountSettings> {
    let account = |(at, name): (usize, &&str)| {
        let (mut exports, mut imports) = (Exports::default(), Imports::default());
        for tie in ties {
            let Tie { subject, prefix, .. } = tie;
            let to = prefix.map_or((*subject).to_owned(), |prefix| format!("{prefix}.{subject}"));
            let access = match tie.private {
                true => Access::Accounts(vec![NAMES[tie.importer].into()]),
                false => Access::Public,
            };
            if tie.exporter == at && tie.service {
                exports.services.push(ServiceExport { access, ..ServiceExport::new(*subject) });
            } else if tie.exporter == at {
                exports.streams.push(StreamExport { subject: (*subject).to_owned(), access });
            }
            let (account, subject) = (NAMES[tie.exporter].into(), (*subject).to_owned());
            if tie.importer == at && tie.service {
                imports.services.push(ServiceImport { account, subject, to, share: false, activation: None });
            } else if tie.importer == at {
                imports.streams.push(StreamImport {
                    account,
                    subject,
                    to,
                    activation: None,
                    allow_trace: false,
                });
            }
        }
        AccountSettings { name: (*name).into(), exports, imports, ..AccountSettings::default() }
    };
    NAMES.iter().enumerate().map(account).collect()
}

/// The accounts that may ever see a message published in `from`: by a stream of its own that they import, or at the end
/// of a chain of services.
fn may_see(accounts: &[AccountSettings], from: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::from([from]);
    for (at, account) in accounts.iter().enumerate() {
        if account.imports.streams.iter().any(|import| import.account == NAMES[from]) {
            seen.insert(at);
        }
    }
    let mut reached = vec![from];
    let mut next = 0;
    while let Some(at) = reached.get(next).copied() {
        next += 1;
        for import in &accounts[at].imports.services {
            let to = NAMES.iter().position(|name| import.account == *name).unwrap();
            if !reached.contains(&to) {
                reached.push(to);
            }
        }
    }
    seen.extend(reached);
    seen
}

proptest! {
    #[test]
    fn only_those_get_a_message_who_may(
        ties in prop::collection::vec(tie(), 0..8),
        published in prop::collection::vec(
            (0..NAMES.len(), select(vec!["x", "y", "x.a", "y.a", "x.a.b", "p.x", "p.x.a", "q.r.y", "p.p.x"])),
            1..8,
        ),
    ) {
        let mut accounts = accounts(&ties);
        // What can't be is left out, as a configuration with it would be refused.
        while let Some(problem) = crossing_problems(&accounts, None).into_iter().next() {
            let account = &mut accounts[problem.account];
            match problem.crossing {
                midge_broker::Crossing::StreamImport(at) => drop(account.imports.streams.remove(at)),
                midge_broker::Crossing::ServiceImport(at) => drop(account.imports.services.remove(at)),
                midge_broker::Crossing::Export(_) => prop_assert!(false, "{problem:?}"),
            }
        }
        let mut world = World::new(settings(accounts.clone()));
        let mut listeners = NAMES.map(|name| world.connect(name));
        listeners.iter_mut().for_each(|listener| listener.say(&mut world, "SUB > 1"));
        for (number, (from, subject)) in published.iter().enumerate() {
            let mut publisher = world.connect(NAMES[*from]);
            publisher.publish(&mut world, subject, "", &number.to_string());
            publisher.leave(&mut world);
            let allowed = may_see(&accounts, *from);
            for (at, listener) in listeners.iter().enumerate() {
                let got = listener.read();
                prop_assert!(got.is_empty() || allowed.contains(&at), "{at} got {got:?} of {from}");
                prop_assert!(got.iter().all(|got| got.payload == number.to_string()));
                let streams: Vec<_> =
                    accounts[at].imports.streams.iter().filter(|it| it.account == NAMES[*from]).collect();
                if at != *from && accounts.iter().all(|account| account.imports.services.is_empty()) {
                    let expected = streams.iter().filter(|import| wants(&import.subject, subject)).count();
                    prop_assert_eq!(got.len(), expected, "{} of {} {}", at, from, subject);
                }
            }
        }
        // Without subscriptions nothing is left over of them.
        for listener in listeners {
            listener.leave(&mut world);
        }
        for settings in &accounts {
            let account = world.broker.accounts().find(|account| account.name() == settings.name).unwrap();
            prop_assert_eq!(account.router().len(), settings.imports.services.len());
        }
    }
}

fn wants(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(wanted), Some(token)) if wanted == "*" || wanted == token => {}
            _ => return false,
        }
    }
}
