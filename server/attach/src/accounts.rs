//! The engine's accounts, which come and go with the broker's.

use std::collections::{BTreeMap, BTreeSet};

use midge_broker::{Account, AccountId, Broker, GLOBAL_ACCOUNT, Port, StreamShare};
use midge_protocol::subject::Filter;
use midge_stream::log::LogError;
use midge_stream::time::Now;
use midge_stream::{AccountLimits, Engine, Grant, Share};

/// The birth of no account.
const GONE: u64 = u64::MAX;

/// The accounts that the engine knows.
#[derive(Default)]
pub struct Accounts {
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

/// The accounts that a broker has, and what they may do with streams.
pub struct Wanted {
    version: u64,
    /// By their names.
    accounts: BTreeMap<String, Open>,
}

impl Wanted {
    /// Those of now.
    pub fn of(broker: &Broker<impl Port>) -> Self {
        Self { version: broker.accounts_version(), accounts: grants(broker) }
    }
}

/// A change that is on its way.
pub struct Change {
    wanted: BTreeMap<String, Open>,
    /// Those that are closed.
    gone: Vec<u32>,
}

impl Change {
    /// Some are closed, and the engine has something to say of that.
    pub fn closes(&self) -> bool {
        !self.gone.is_empty()
    }
}

impl Accounts {
    /// Which of the broker's accounts these are.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Accounts that the server has no room for, and why, as far as the last change brought them.
    pub fn refused(&self) -> impl Iterator<Item = (&str, &str)> {
        self.refused.iter().map(|(name, why)| (name.as_str(), why.as_str()))
    }

    /// The names of those that have streams.
    pub fn enabled(&self) -> impl Iterator<Item = &str> {
        let enabled = self.open.values().filter(|(_, it)| matches!(it.grant, Grant::Enabled(_)));
        enabled.map(|(name, _)| name.as_str())
    }

    /// What people call an account.
    pub fn tag(&self, name: &str) -> Option<&str> {
        let (_, known) = self.open.values().find(|(known, _)| known == name)?;
        Some(&known.tag)
    }

    /// The broker's name for one of the engine's accounts, if it is still there.
    pub fn id(&self, account: u32) -> Option<AccountId> {
        let (_, known) = self.open.get(&account)?;
        (known.birth != GONE).then_some(known.id)
    }

    /// Accounts may have gone, and others have come in their places.
    pub fn look(&mut self, broker: &Broker<impl Port>) {
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
    pub fn begin(&mut self, wanted: Wanted, engine: &mut Engine, now: Now) -> Change {
        let Wanted { version, mut accounts } = wanted;
        self.version = version;
        self.refused.clear();
        let known: BTreeMap<&str, &Open> =
            gather(self.open.values().map(|(name, known)| (name.as_str(), known)));
        for (name, account) in &mut accounts {
            let Grant::Enabled(share) = &account.grant else { continue };
            if let Err(why) = engine.check_share_fits(name, share) {
                self.refused.insert(name.clone(), why.to_string());
                // One that has streams keeps them, and what it was allowed.
                account.grant = known.get(name.as_str()).map_or(Grant::Disabled, |known| known.grant.clone());
            }
        }
        let stays = |name: &str, known: &Open| {
            accounts.get(name).is_some_and(|wanted| (known.birth, known.id) == (wanted.birth, wanted.id))
        };
        let gone = self.open.iter().filter(|(_, (name, known))| !stays(name, known));
        let gone: Vec<u32> = gone.map(|(number, _)| *number).collect();
        for number in &gone {
            engine.close_account(*number, now);
        }
        Change { wanted: accounts, gone }
    }

    /// Opens accounts that are new, and grants the others what they may have now. Gives why the streams of some can't be
    /// read.
    pub fn finish(&mut self, change: Change, engine: &mut Engine, now: Now) -> Vec<LogError> {
        let mut errors = Vec::new();
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
            errors.extend(done.err());
        }
        errors
    }
}

/// What the accounts of the broker may do with streams, by their names. One in which another account's API stands in place
/// of its own is left out.
fn grants(broker: &Broker<impl Port>) -> BTreeMap<String, Open> {
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
