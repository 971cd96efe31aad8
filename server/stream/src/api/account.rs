//! What an account uses. Source: nats-server's `jsAccountInfoRequest`.

use serde::Serialize;

use super::{Answer, Request, answer};
use crate::config::{API_LEVEL, Storage};
use crate::engine::Engine;
use crate::seam::Account;

#[derive(Serialize)]
struct AccountInfo<'a> {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    streams: usize,
    consumers: usize,
    limits: AccountLimits,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    api: ApiStats,
}

#[derive(Serialize)]
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

impl From<crate::engine::AccountLimits> for AccountLimits {
    fn from(limits: crate::engine::AccountLimits) -> Self {
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

impl Engine {
    pub(super) fn account_info(&mut self, request: &Request<'_>) -> Answer {
        let sum = |storage| self.account_bytes(request.account, storage);
        let (memory, storage) = (sum(Storage::Memory), sum(Storage::File));
        let reserved = |storage| self.reserved(Some(request.account), storage);
        let streams = self.streams.values().filter(|stream| stream.account == request.account);
        let consumers = streams.map(|stream| stream.consumers.len()).sum();
        let space = self.spaces.get(&request.account);
        answer(
            "account_info",
            AccountInfo {
                memory,
                storage,
                reserved_memory: reserved(Storage::Memory),
                reserved_storage: reserved(Storage::File),
                streams: space.map_or(0, |space| space.streams.len()),
                consumers,
                limits: space.map(|space| space.limits).unwrap_or_default().into(),
                domain: self.settings.domain.as_deref(),
                api: ApiStats {
                    level: API_LEVEL,
                    total: space.map_or(0, |space| space.requests),
                    errors: space.map_or(0, |space| space.errors),
                },
            },
        )
    }

    pub(crate) fn account_bytes(&self, account: Account, storage: Storage) -> u64 {
        let streams = self.streams.values();
        let mine = streams.filter(|stream| stream.account == account && stream.config.storage == storage);
        mine.map(|stream| stream.log.state().bytes).sum()
    }

    /// Bytes that streams may take in any case: of one account, or of all.
    pub(super) fn reserved(&self, account: Option<Account>, storage: Storage) -> u64 {
        let streams = self.streams.values().filter(|stream| stream.config.storage == storage);
        let mine = streams.filter(|stream| account.is_none_or(|account| stream.account == account));
        mine.map(|stream| u64::try_from(stream.config.max_bytes).unwrap_or(0)).sum()
    }
}
