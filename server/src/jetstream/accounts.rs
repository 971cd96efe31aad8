//! The engine's accounts, which come and go with the broker's.

use std::collections::{BTreeMap, BTreeSet};

use midge_broker::{Account, AccountId, Broker, GLOBAL_ACCOUNT, StreamShare};
use midge_protocol::subject::Filter;
use midge_stream::time::Now;
use midge_stream::{AccountLimits, Engine, Grant, Share};
use midge_wire::Handle;

use crate::hub::Hub;

/// The birth of no account.
const GONE: u64 = u64::MAX;

/// The accounts that the engine knows.
#[derive(Default)]
pub(super) struct Accounts {
    /// By their numbers, each of which is used once, with their names.
    open: BTreeMap<u32, (String, Open)>,
    /// The broker's accounts of which those were.
    version: u64,
    next: u32,
    /// Accounts that the server has no room for, and why.
    refused: BTreeMap<String, String>,
}

/// An account that the engine knows.
#[derive(Clone)]
struct Open {
    /// What people call it.
    tag: String,
    /// The broker's names for it; the id is used again for others.
    id: AccountId,
    birth: u64,
    grant: Grant,
}

/// A change that is on its way: what the broker has now.
pub(super) struct Change {
    wanted: BTreeMap<String, Open>,
    /// Those that are closed.
    gone: Vec<u32>,
}

impl Change {
    /// Some are closed, and the engine has something to say of that.
    pub(super) fn closes(&self) -> bool {
        !self.gone.is_empty()
    }
}

impl Accounts {
    /// Which of the broker's accounts these are.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// An account that the server has no room for, and why.
    pub(super) fn refused(&self) -> Option<(&String, &String)> {
        self.refused.first_key_value()
    }

    /// What people call an account.
    pub(super) fn tag(&self, name: &str) -> Option<&str> {
        let (_, known) = self.open.values().find(|(known, _)| known == name)?;
        Some(&known.tag)
    }

    /// The broker's name for one of the engine's accounts, if it is still there.
    pub(super) fn id(&self, account: u32) -> Option<AccountId> {
        let (_, known) = self.open.get(&account)?;
        (known.birth != GONE).then_some(known.id)
    }

    /// Accounts may have gone, and others have come in their places.
    pub(super) fn look(&mut self, broker: &Broker<Handle>) {
        if broker.accounts_version() == self.version {
            return;
        }
        let births: BTreeMap<_, _> =
            gather(broker.placed_accounts().map(|(id, account)| (account.birth(), id)));
        for (_, known) in self.open.values_mut() {
            match births.get(&known.birth) {
                Some(id) => known.id = *id,
                None => known.birth = GONE,
            }
        }
    }

    /// Closes accounts that the broker has no more. What the engine says of them is for subscriptions that are there until
    /// [`Self::finish`].
    pub(super) fn begin(&mut self, hub: &Hub, engine: &mut Engine, now: Now) -> Change {
        let (version, mut wanted) = hub.look(|broker, _| (broker.accounts_version(), grants(broker)));
        self.version = version;
        self.refused.clear();
        let known: BTreeMap<&str, &Open> =
            gather(self.open.values().map(|(name, known)| (name.as_str(), known)));
        for (name, account) in &mut wanted {
            let Grant::Enabled(share) = &account.grant else { continue };
            if let Err(why) = engine.check_share_fits(name, share) {
                hub.log.error(format_args!("Error configuring jetstream for account [{name}]: {why}"));
                self.refused.insert(name.clone(), why.to_string());
                // One that has streams keeps them, and what it was allowed.
                account.grant = known.get(name.as_str()).map_or(Grant::Disabled, |known| known.grant.clone());
            }
        }
        let stays = |name: &str, known: &Open| {
            wanted.get(name).is_some_and(|wanted| (known.birth, known.id) == (wanted.birth, wanted.id))
        };
        let accounts = self.open.iter();
        let gone: Vec<u32> =
            accounts.filter(|(_, (name, known))| !stays(name, known)).map(|(number, _)| *number).collect();
        for number in &gone {
            engine.close_account(*number, now);
        }
        Change { wanted, gone }
    }

    /// Opens accounts that are new, and grants the others what they may have now.
    pub(super) fn finish(&mut self, change: Change, hub: &Hub, engine: &mut Engine, now: Now) {
        for number in change.gone {
            self.open.remove(&number);
        }
        let known: BTreeMap<String, u32> =
            gather(self.open.iter().map(|(number, (name, _))| (name.clone(), *number)));
        for (name, account) in change.wanted {
            let grant = account.grant.clone();
            let done = match known.get(&name) {
                Some(number) => match self.open.insert(*number, (name, account)) {
                    Some((_, known)) if known.grant == grant => Ok(()),
                    _ => engine.set_grant(*number, grant, now),
                },
                None => {
                    let number = self.next;
                    self.next += 1;
                    let opened = engine.open(number, &name, grant, now);
                    self.open.insert(number, (name, account));
                    opened
                }
            };
            if let Err(error) = done {
                hub.log.error(format_args!("streams can't be read: {error}"));
            }
        }
        let enabled = self.open.values().filter(|(_, it)| matches!(it.grant, Grant::Enabled(_)));
        hub.inquiry().set_accounts(gather(enabled.map(|(name, _)| name.clone())));
    }
}

/// What the accounts of the broker may do with streams, by their names. One in which another account's API stands in place
/// of its own is left out.
fn grants(broker: &Broker<Handle>) -> BTreeMap<String, Open> {
    let settings = broker.settings();
    let system = settings.system_account.as_deref();
    let mut names: BTreeSet<&str> = gather(settings.accounts.iter().map(|account| account.name.as_str()));
    let is_other = |name: &&str| *name != GLOBAL_ACCOUNT && Some(*name) != system;
    // Without any account but the server's own, everybody has streams.
    let alone = settings.directory.trust.is_none() && !names.iter().any(is_other);
    names.extend([GLOBAL_ACCOUNT].into_iter().chain(system));
    let grant = |account: &Account| match (account.name(), account.streams()) {
        (name, _) if Some(name) == system => Some(Grant::System),
        (_, Some(share)) => Some(Grant::Enabled(self::share(share))),
        (GLOBAL_ACCOUNT, None) if alone => Some(Grant::Enabled(Share::Flat(AccountLimits::default()))),
        _ if imports_api(account) => None,
        _ => Some(Grant::Disabled),
    };
    let open = |(id, account): (AccountId, &Account)| {
        let (grant, tag) = (grant(account)?, account.tag().to_string());
        Some((account.name().to_owned(), Open { tag, id, birth: account.birth(), grant }))
    };
    gather(broker.placed_accounts().filter(|(_, account)| names.contains(account.name())).filter_map(open))
}

/// Whether another account answers who asks for the streams of this one.
fn imports_api(account: &Account) -> bool {
    let filters = account.service_imports().map(|import| import.to);
    filters.filter_map(|to| Filter::new(to.as_bytes()).ok()).any(|to| to.matches(b"$JS.API.INFO"))
}

fn share(share: &StreamShare) -> Share {
    let limits = |share: &StreamShare| AccountLimits {
        memory_bytes_max: share.memory_bytes,
        file_bytes_max: share.file_bytes,
        streams_max: share.streams,
        consumers_max: share.consumers,
        ack_pending_max: share.ack_pending,
        memory_stream_bytes_max: share.memory_stream_bytes,
        file_stream_bytes_max: share.file_stream_bytes,
        max_bytes_required: share.max_bytes_required,
    };
    match share.tiers.is_empty() {
        true => Share::Flat(limits(share)),
        false => Share::Tiers(gather(
            share.tiers.iter().map(|(tier, share)| (tier.as_str().into(), limits(share))),
        )),
    }
}

/// As `collect` does, but one after the other: maps sort what they collect, and each kind would be 4 kB of program for it.
fn gather<T, C: Default + Extend<T>>(items: impl Iterator<Item = T>) -> C {
    let mut all = C::default();
    all.extend(items);
    all
}
