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

const NO_LIMITS: AccountLimits = AccountLimits {
    max_memory: -1,
    max_storage: -1,
    max_streams: -1,
    max_consumers: -1,
    max_ack_pending: -1,
    memory_max_stream_bytes: -1,
    storage_max_stream_bytes: -1,
    max_bytes_required: false,
};

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
                limits: NO_LIMITS,
                domain: self.settings.domain.as_deref(),
                api: ApiStats {
                    level: API_LEVEL,
                    total: space.map_or(0, |space| space.requests),
                    errors: space.map_or(0, |space| space.errors),
                },
            },
        )
    }

    fn account_bytes(&self, account: Account, storage: Storage) -> u64 {
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
