//! Settings come into force, at the start and by a reload.

use std::cmp::Reverse;

use midge_protocol::error;
use smol_str::SmolStr;

use crate::account::import::Ties;
use crate::account::target::Target;
use crate::account::{Account, AccountId, AccountTies, GLOBAL_ACCOUNT};
use crate::auth::Entered;
use crate::broker::{Broker, Now};
use crate::closed::CloseReason;
use crate::conn::{Conn, Port};
use crate::inside::MailboxId;
use crate::settings::{AccountLimits, AccountSettings, Settings};
use crate::sort::sort_by;

impl<P: Port> Broker<P> {
    /// Takes new settings: connections whose user is gone are closed, the others are told what changed.
    pub fn reconfigure(&mut self, mut settings: Settings, now: Now) {
        let old = self.settings.clone();
        keep_accounts(&old, &mut settings);
        self.install(settings, now);
        for id in self.connections().map(|(id, _)| id).collect::<Vec<_>>() {
            // Who still has to send CONNECT is judged by it.
            let Some(conn) = self.conn(id).filter(|conn| !conn.owes_connect()) else { continue };
            let account = &self.account(conn.account).name;
            if let (Some(warrant), Some(old)) = (conn.warrant.clone(), &old.directory.trust) {
                self.recheck_warrant(id, &warrant, old, now);
                continue;
            }
            if conn.warrant.is_some() && self.is_still_vouched(&old, account) {
                continue;
            }
            let certificate = conn.tls.as_ref().and_then(|facts| facts.names.as_ref());
            let entered = Entered {
                way: conn.way,
                user: &conn.user,
                unasked: conn.unasked,
                certificate,
                host: &conn.peer.host,
            };
            match self.settings.directory.readmit(&old.directory, &entered) {
                Some(identity) if identity.account == *account => {
                    self.assign(id, &identity);
                    self.recheck_subscriptions(id, now);
                }
                _ => self.fail(id, error::AUTHORIZATION_VIOLATION, CloseReason::CredentialsRevoked, now),
            }
        }
        self.vacate();
        self.close_excess(now);
        if old.max_payload != self.settings.max_payload
            || old.info.connect_urls != self.settings.info.connect_urls
        {
            self.broadcast_info();
        }
    }

    /// Closes the newest connections of accounts that have more than they may, and then of the server.
    fn close_excess(&mut self, now: Now) {
        let mut newest: Vec<_> =
            self.connections().map(|(id, conn)| (Reverse(conn.cid), id, conn.account)).collect();
        sort_by(&mut newest, |(a, ..), (b, ..)| a.cmp(b));
        for (_, id, account) in newest.clone() {
            let Account { connections, limits, .. } = &self.accounts[account.index()];
            let owes_connect = self.conn(id).is_none_or(Conn::owes_connect);
            if !owes_connect && limits.connections.is_some_and(|most| *connections > most) {
                self.fail(id, error::MAX_ACCOUNT_CONNECTIONS, CloseReason::MaxAccountConnections, now);
            }
        }
        let Some(max) = self.settings.max_connections else { return };
        newest.retain(|(_, id, _)| self.conn(*id).is_some_and(Conn::is_open));
        let excess = newest.len().saturating_sub(max as usize);
        for (_, id, _) in newest.into_iter().take(excess) {
            self.fail(id, error::MAX_CONNECTIONS, CloseReason::MaxConnections, now);
        }
    }

    /// Whether those in `account` may stay whom a service let in, under other settings.
    fn is_still_vouched(&self, old: &Settings, account: &SmolStr) -> bool {
        let (new, old) = (&self.settings.directory, &old.directory);
        new.callout.is_some() && new.callout == old.callout && new.accounts.contains(account)
    }

    /// To be called before anything else by whoever has accounts whose time may be over: a broker begins in 1970.
    pub fn begin(&mut self, now: Now) {
        if self.settings.directory.trust.is_some() {
            self.install(self.settings.clone(), now);
        }
    }

    /// Puts settings into force for accounts, connections aside.
    pub(crate) fn install(&mut self, mut settings: Settings, now: Now) {
        if let Some(trust) = &settings.directory.trust {
            settings.accounts.retain(|account| !trust.accounts.contains_key(&account.name));
            settings.accounts.extend(trust.account_settings(now.wall));
        }
        for account in &mut self.accounts {
            account.mappings.clear();
            account.limits = AccountLimits::default();
            account.tag = SmolStr::default();
            account.streams = None;
            account.tracing = None;
            account.retired = account.name != GLOBAL_ACCOUNT;
        }
        let mut ids = Vec::new();
        for AccountSettings { name, tag, mappings, limits, streams, tracing, .. } in &settings.accounts {
            let id = self.account_or_new(name);
            let account = &mut self.accounts[id.index()];
            account.mappings.clone_from(mappings);
            account.limits = *limits;
            account.tag.clone_from(tag);
            account.streams.clone_from(streams);
            account.tracing.clone_from(tracing);
            account.retired = false;
            ids.push(id);
        }
        let system = settings.system_account.as_ref().map(|name| self.account_or_new(name));
        system.into_iter().for_each(|id| self.accounts[id.index()].retired = false);
        let moved = self.system_account != system || self.settings.info.id != settings.info.id;
        let tied =
            self.ties_of == ids && !moved && same_crossings(&self.settings.accounts, &settings.accounts);
        self.system_account = system;
        self.budget.set_total(settings.memory_budget);
        self.settings = settings;
        if !tied {
            self.tie(ids, now);
        }
        if moved {
            self.subscribe_requests();
        }
        self.refresh_uplinks();
        self.accounts_changed();
        self.arm_account_times(now);
    }

    /// Replaces all imports and exports by those of the settings. `ids` are the accounts' places.
    fn tie(&mut self, ids: Vec<AccountId>, now: Now) {
        for account in self.account_ids() {
            let here = &mut self.accounts[account.index()];
            let ties = std::mem::take(&mut here.ties);
            let shadowed: Vec<_> = here.shadows.keys().copied().collect();
            ties.service_subs.into_iter().for_each(|sub| self.remove_target(account, sub));
            shadowed.into_iter().for_each(|sub| self.remove_shadows(account, sub));
        }
        let system = self.settings.system_account.as_deref();
        let (ties, _) = Ties::new(&self.settings.accounts, &ids, system);
        let each = ids.iter().zip(ties.exported).zip(ties.streams).zip(ties.services);
        for (((account, exported), streams), services) in each {
            let mut service_subs = Vec::new();
            for service in &services {
                let target = Target::Service(service.clone());
                service_subs.extend(self.insert_target(*account, service.here.as_bytes(), target));
            }
            self.accounts[account.index()].ties = AccountTies { exported, streams, services, service_subs };
        }
        for account in &ids {
            if !self.accounts[account.index()].ties.streams.is_empty() {
                for sub in self.connections_subs(*account) {
                    self.add_shadows(*account, sub, now);
                }
                for (sub, inside) in self.inside_subs(*account) {
                    self.add_beyond(*account, sub, inside);
                }
            }
        }
        self.ties_of = ids;
    }

    /// Forgets accounts that the settings don't name any more, once the last connection has left them.
    pub(crate) fn vacate(&mut self) {
        let gone: Vec<_> = self.account_ids().filter(|id| self.accounts[id.index()].retired).collect();
        for id in gone {
            if self.conns.iter().flatten().any(|conn| conn.account == id) {
                continue;
            }
            let account = std::mem::replace(&mut self.accounts[id.index()], Account::vacant());
            self.accounts_changed();
            for (number, answer) in account.answers.into_open() {
                if let Some(requester) = self.accounts.get_mut(answer.account.index()) {
                    requester.awaited.remove(&answer.to, id, number);
                }
            }
            for other in &mut self.accounts {
                for number in other.answers.of(id) {
                    other.answers.close(number);
                }
            }
        }
        while self.accounts.pop_if(|account| account.is_vacant()).is_some() {}
    }

    /// Rings at `mailbox` whenever [`Broker::accounts_version`] is another.
    pub fn follow_accounts(&mut self, mailbox: MailboxId) {
        self.mail.follow(mailbox);
    }

    /// A number that changes when accounts come, go or are given other shares of the streams.
    pub fn accounts_version(&self) -> u64 {
        self.accounts_version
    }

    fn accounts_changed(&mut self) {
        self.accounts_version += 1;
        self.mail.ring_followers();
    }

    /// The place of an account, found or made.
    pub(crate) fn account_or_new(&mut self, name: &SmolStr) -> AccountId {
        let name = if name.is_empty() { &SmolStr::new_static(GLOBAL_ACCOUNT) } else { name };
        if let Some(id) = self.account_named(name) {
            return id;
        }
        let place = self.accounts.iter().position(Account::is_vacant).unwrap_or_else(|| {
            self.accounts.push(Account::vacant());
            self.accounts.len() - 1
        });
        self.births += 1;
        self.accounts[place] = Account { birth: self.births, ..Account::new(name.clone()) };
        AccountId(u32::try_from(place).expect("2^32 accounts fit in no memory"))
    }

    /// The place of an account.
    pub fn account_named(&self, name: &str) -> Option<AccountId> {
        let place = self.accounts.iter().position(|account| account.name == name)?;
        u32::try_from(place).ok().map(AccountId).filter(|_| !name.is_empty())
    }

    /// All accounts and their places.
    pub fn placed_accounts(&self) -> impl Iterator<Item = (AccountId, &Account)> {
        self.account_ids().map(|id| (id, &self.accounts[id.index()]))
    }

    /// The places of all accounts.
    pub(crate) fn account_ids(&self) -> impl Iterator<Item = AccountId> + use<P> {
        let ids = self.accounts.iter().enumerate().filter(|(_, account)| !account.is_vacant());
        let ids: Vec<_> = ids.filter_map(|(place, _)| u32::try_from(place).ok().map(AccountId)).collect();
        ids.into_iter()
    }
}

/// Accounts that were learned since the start stay known, unless the settings name all there are.
fn keep_accounts(old: &Settings, new: &mut Settings) {
    let (Some(old), Some(new)) = (&old.directory.trust, &mut new.directory.trust) else { return };
    if new.resolves {
        for (key, claims) in &old.accounts {
            new.accounts.entry(key.clone()).or_insert_with(|| claims.clone());
        }
    }
}

/// Whether accounts of the same places export and import the same.
fn same_crossings(old: &[AccountSettings], new: &[AccountSettings]) -> bool {
    let crossings = |account: &AccountSettings| (account.exports.clone(), account.imports.clone());
    old.iter().map(crossings).eq(new.iter().map(crossings))
}
