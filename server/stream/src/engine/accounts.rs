//! What accounts may have streams, as they come, change and go.

use std::collections::BTreeMap;

use super::{Engine, cx};
use crate::log::LogError;
use crate::seam::{Account, Tag, What};
use crate::space::{AccountLimits, Grant, Share, Space};
use crate::time::Now;

impl Engine {
    /// As [`Engine::open`], for an account of the start that has streams within these ceilings.
    pub fn open_account(&mut self, account: Account, name: &str, limits: AccountLimits, now: Now) {
        let opened = self.open(account, name, Grant::Enabled(Share::Flat(limits)), now);
        self.bear(opened);
    }

    /// Lets an account have streams, or be told that it has none. Call [`Engine::load`] once those of the start are open;
    /// one that comes later brings its streams back by itself. `account` must be a number that was not used before.
    ///
    /// # Errors
    /// What the account has on disk can't be read.
    pub fn open(&mut self, account: Account, name: &str, grant: Grant, now: Now) -> Result<(), LogError> {
        let now = self.read_clock(now);
        let domain = self.settings.domain.as_deref().unwrap_or("_");
        let space = Space {
            name: name.into(),
            place: format!("{domain}.{}.", crate::hash::short(name)).into(),
            grant,
            streams: BTreeMap::new(),
            requests: 0,
            errors: 0,
            events: false,
        };
        let loads = space.is_enabled() && self.closed.remove(name);
        self.spaces.insert(account, space);
        let mut cx = cx!(self, account, now);
        for filter in crate::api::SUBJECTS {
            cx.subscribe(*filter, Tag::new(What::Api, account, 0));
        }
        cx.watch(b"$JS.EVENT.>", Tag::new(What::Events, account, 0));
        if loads { self.load_later(now) } else { Ok(()) }
    }

    /// Lets an open account have streams, more or less of them, or none. What it has on disk stays there meanwhile.
    ///
    /// # Errors
    /// What the account has on disk can't be read.
    pub fn set_grant(&mut self, account: Account, grant: Grant, now: Now) -> Result<(), LogError> {
        let now = self.read_clock(now);
        let Some(space) = self.spaces.get_mut(&account) else { return Ok(()) };
        let (had, name) = (space.is_enabled(), space.name.clone());
        space.grant = grant;
        match (had, space.is_enabled()) {
            (false, true) if self.closed.remove(&name) => self.load_later(now),
            (true, false) => {
                self.drop_streams(account, now);
                self.closed.insert(name);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An account is gone. What it has on disk stays there.
    pub fn close_account(&mut self, account: Account, now: Now) {
        let now = self.read_clock(now);
        self.drop_streams(account, now);
        let Some(space) = self.spaces.remove(&account) else { return };
        let mut cx = cx!(self, account, now);
        for filter in crate::api::SUBJECTS {
            cx.unsubscribe(*filter, Tag::new(What::Api, account, 0));
        }
        cx.unwatch(b"$JS.EVENT.>", Tag::new(What::Events, account, 0));
        if space.is_enabled() {
            self.closed.insert(space.name);
        }
    }

    /// Forgets an account's streams, which stay on disk.
    pub(super) fn drop_streams(&mut self, account: Account, now: Now) {
        // Where consumers are is known to the disk before the streams are forgotten.
        if !self.failed {
            let saved = self.save(now);
            self.bear(saved);
        }
        self.drop_backups(account, now);
        let mine = self.streams.values().filter(|stream| stream.account == account);
        let mine: Vec<u32> = mine.map(|stream| stream.id).collect();
        for id in mine {
            self.drop_stream(id, now);
        }
    }
}
