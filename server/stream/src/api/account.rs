//! What an account uses. Source: nats-server's `jsAccountInfoRequest`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Answer, Request, answer};
use crate::config::{API_LEVEL, Storage};
use crate::engine::Engine;
use crate::error;
use crate::seam::Account;
use crate::space::{self, Grant, Share, TIER};

#[derive(Serialize)]
struct AccountInfo<'a> {
    #[serde(flatten)]
    all: Tier,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    api: ApiStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    tiers: Option<BTreeMap<String, Tier>>,
}

/// What streams of so many copies use, and may.
#[derive(Clone, Copy, Default, Serialize)]
struct Tier {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    streams: usize,
    consumers: usize,
    limits: AccountLimits,
}

#[derive(Clone, Copy, Default, Serialize)]
struct AccountLimits {
    max_memory: i64,
    max_storage: i64,
    max_streams: i64,
    max_consumers: i64,
    max_ack_pending: i64,
    memory_max_stream_bytes: i64,
    storage_max_stream_bytes: i64,
    max_bytes_required: bool,
}

impl From<space::AccountLimits> for AccountLimits {
    fn from(limits: space::AccountLimits) -> Self {
        let bytes = |max: Option<u64>| max.map_or(-1, |max| i64::try_from(max).unwrap_or(i64::MAX));
        let count = |max: Option<u32>| max.map_or(-1, i64::from);
        Self {
            max_memory: bytes(limits.memory_bytes_max),
            max_storage: bytes(limits.file_bytes_max),
            max_streams: count(limits.streams_max),
            max_consumers: count(limits.consumers_max),
            max_ack_pending: count(limits.ack_pending_max),
            memory_max_stream_bytes: bytes(limits.memory_stream_bytes_max),
            storage_max_stream_bytes: bytes(limits.file_stream_bytes_max),
            max_bytes_required: limits.max_bytes_required,
        }
    }
}

#[derive(Serialize)]
struct ApiStats {
    level: u64,
    total: u64,
    errors: u64,
}

#[derive(Serialize)]
struct Purge {
    initiated: bool,
}

impl Engine {
    /// Ends all streams of an account, also those that wait on disk for it to have some again. Source: nats-server's
    /// `jsLeaderAccountPurgeRequest`.
    pub(super) fn account_purge(&mut self, request: &Request<'_>) -> Answer {
        let name = request.token(2);
        if name.contains(['\\', '/']) {
            let why = "account name can not contain path separators";
            return Err(error::STREAM_GENERAL_ERROR.with(&[&why]).into());
        }
        let space = self.spaces.values().find(|space| *space.name == *name);
        let ids: Vec<u32> = space.map(|space| space.streams.values().copied().collect()).unwrap_or_default();
        for id in ids {
            self.delete_stream(id, request.now)?;
        }
        self.destroy_closed(name)?;
        answer("account_purge", Purge { initiated: true })
    }

    pub(super) fn account_info(&mut self, request: &Request<'_>) -> Answer {
        let account = request.account;
        let Some(space) = self.spaces.get(&account) else { return Err(error::NO_ACCOUNT.into()) };
        let streams = self.streams.values().filter(|stream| stream.account == account);
        let all = Tier {
            memory: self.account_bytes(account, Storage::Memory),
            storage: self.account_bytes(account, Storage::File),
            reserved_memory: self.reserved(Some(account), Storage::Memory),
            reserved_storage: self.reserved(Some(account), Storage::File),
            streams: space.streams.len(),
            consumers: streams.map(|stream| stream.consumers.len()).sum(),
            limits: AccountLimits::default(),
        };
        let (limits, tiers) = match &space.grant {
            Grant::Enabled(Share::Flat(limits)) => ((*limits).into(), None),
            Grant::Enabled(Share::Tiers(shares)) => {
                let mut tiers = BTreeMap::new();
                for (name, limits) in shares {
                    tiers.insert(name.to_string(), Tier { limits: (*limits).into(), ..Tier::default() });
                }
                // All streams have one copy.
                if all.streams > 0 || tiers.contains_key(TIER) {
                    let tier = tiers.entry(TIER.to_owned()).or_default();
                    *tier = Tier { limits: tier.limits, ..all };
                }
                (AccountLimits::default(), Some(tiers))
            }
            Grant::Disabled | Grant::System => (AccountLimits::default(), None),
        };
        let api = ApiStats { level: API_LEVEL, total: space.requests, errors: space.errors };
        answer(
            "account_info",
            AccountInfo { all: Tier { limits, ..all }, domain: self.settings.domain.as_deref(), api, tiers },
        )
    }

    pub(crate) fn account_bytes(&self, account: Account, storage: Storage) -> u64 {
        let streams = self.streams.values();
        let mine = streams.filter(|stream| stream.account == account && stream.config.storage == storage);
        mine.map(|stream| stream.log.state().bytes).sum()
    }

    /// Bytes that streams may take in any case: of one account, or of all.
    pub(crate) fn reserved(&self, account: Option<Account>, storage: Storage) -> u64 {
        let streams = self.streams.values().filter(|stream| stream.config.storage == storage);
        let mine = streams.filter(|stream| account.is_none_or(|account| stream.account == account));
        mine.map(|stream| u64::try_from(stream.config.max_bytes).unwrap_or(0)).sum()
    }
}
