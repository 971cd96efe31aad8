//! Figures of all streams, for those who watch the server.
//!
//! Source: nats-server's `monitor.go` (`Jsz`, `accountDetail`).

use midge_inquiry::{Missing, Sums, Wanted};
use serde::Serialize;

use crate::config::{Storage, StreamConfig};
use crate::consumer::{Consumer, Info};
use crate::engine::Engine;
use crate::seam::Account;
use crate::space::{Grant, Share, Space};
use crate::stream::{Cluster, CopyInfo, StateInfo, Stream};
use crate::time::{Now, rfc3339};

/// What stands in nats-server's `JSInfo` behind the sums and the configuration.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    streams: usize,
    #[serde(skip_serializing_if = "crate::config::is_default")]
    streams_leader: usize,
    consumers: usize,
    #[serde(skip_serializing_if = "crate::config::is_default")]
    consumers_leader: usize,
    messages: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    account_details: Vec<AccountReport<'a>>,
    total: usize,
}

/// nats-server's `AccountDetail`.
#[derive(Debug, Serialize)]
pub struct AccountReport<'a> {
    name: String,
    id: &'a str,
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    accounts: u8,
    ha_assets: u8,
    api: Api,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stream_detail: Vec<StreamReport<'a>>,
}

#[derive(Debug, Serialize)]
struct Api {
    level: u8,
    total: u64,
    errors: u64,
}

#[derive(Debug, Serialize)]
struct StreamReport<'a> {
    name: &'a str,
    created: String,
    cluster: Cluster<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a StreamConfig>,
    state: StateInfo,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    consumer_detail: Vec<Info>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    direct_consumer_detail: Vec<Info>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<CopyInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<CopyInfo>,
}

impl Engine {
    /// Sums of the server.
    pub fn sums(&self) -> Sums {
        Sums {
            memory: self.bytes(Storage::Memory),
            file: self.bytes(Storage::File),
            memory_reserved: self.reserved(None, Storage::Memory),
            file_reserved: self.reserved(None, Storage::File),
            accounts: self.spaces.values().filter(|space| space.is_enabled()).count(),
            requests: self.requests,
            errors: self.errors,
        }
    }

    /// What is `wanted` of the streams. `tag` gives what people call an account. Costs time and memory for each row.
    pub fn report(&self, wanted: &Wanted, tag: &dyn Fn(&str) -> String, now: Now) -> Report<'_> {
        let mut spaces: Vec<_> = self.spaces.iter().filter(|(_, space)| space.is_enabled()).collect();
        spaces.sort_unstable_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        let total = spaces.len();
        let streams = self.streams.len();
        let consumers = self.streams.values().map(|stream| stream.shown().count()).sum();
        let states = || self.streams.values().map(|stream| stream.log.state());
        let one = spaces.iter().find(|(_, space)| *space.name == *wanted.account).copied();
        let shown = match one {
            Some(one) => vec![one],
            None if wanted.accounts => spaces.into_iter().skip(wanted.offset).take(wanted.limit).collect(),
            None => Vec::new(),
        };
        let mut rows = wanted.rows;
        let details =
            shown.into_iter().map(|(id, space)| self.account_detail(*id, space, wanted, tag, &mut rows, now));
        Report {
            streams,
            streams_leader: if wanted.leaders { streams } else { 0 },
            consumers,
            consumers_leader: if wanted.leaders { consumers } else { 0 },
            messages: states().map(|state| state.messages).sum(),
            bytes: states().map(|state| state.bytes).sum(),
            account_details: details.collect(),
            total,
        }
    }

    /// What is `wanted` of one account; `None`: it has no streams, or isn't there.
    pub fn account_report(
        &self,
        wanted: &Wanted,
        tag: &dyn Fn(&str) -> String,
        now: Now,
    ) -> Option<AccountReport<'_>> {
        let (id, space) = self.enabled(&wanted.account)?;
        let mut rows = wanted.rows;
        Some(self.account_detail(id, space, wanted, tag, &mut rows, now))
    }

    /// Whether an account has streams, and among them one of that name, and that has a consumer of that name. Empty names
    /// are not asked for.
    ///
    /// # Errors
    /// What is not there.
    pub fn find(&self, account: &str, stream: &str, consumer: &str) -> Result<(), Missing> {
        let (_, space) = self.enabled(account).ok_or(Missing::Account)?;
        if stream.is_empty() {
            return Ok(());
        }
        let id = space.streams.get(stream).ok_or(Missing::Stream)?;
        let stream = self.streams.get(id).ok_or(Missing::Stream)?;
        if consumer.is_empty() || stream.names.contains_key(consumer) {
            Ok(())
        } else {
            Err(Missing::Consumer)
        }
    }

    fn enabled(&self, name: &str) -> Option<(Account, &Space)> {
        let mut enabled = self.spaces.iter().filter(|(_, space)| space.is_enabled());
        enabled.find(|(_, space)| *space.name == *name).map(|(id, space)| (*id, space))
    }

    fn account_detail<'a>(
        &'a self,
        account: Account,
        space: &'a Space,
        wanted: &Wanted,
        tag: &dyn Fn(&str) -> String,
        rows: &mut usize,
        now: Now,
    ) -> AccountReport<'a> {
        // As nats-server writes that there is no ceiling, and none for tiers.
        let (memory, file) = match &space.grant {
            Grant::Enabled(Share::Flat(limits)) => {
                (limits.memory_bytes_max.unwrap_or(u64::MAX), limits.file_bytes_max.unwrap_or(u64::MAX))
            }
            _ => (0, 0),
        };
        let ids = space.streams.values().take(if wanted.streams { *rows } else { 0 });
        let streams: Vec<_> = ids.filter_map(|id| self.streams.get(id)).collect();
        *rows -= streams.len().min(*rows);
        AccountReport {
            name: tag(&space.name),
            id: &space.name,
            memory: self.account_bytes(account, Storage::Memory),
            storage: self.account_bytes(account, Storage::File),
            reserved_memory: memory,
            reserved_storage: file,
            accounts: 0,
            ha_assets: 0,
            api: Api { level: 0, total: space.requests, errors: space.errors },
            stream_detail: streams
                .into_iter()
                .map(|stream| self.stream_detail(stream, wanted, rows, now))
                .collect(),
        }
    }

    fn stream_detail<'a>(
        &'a self,
        stream: &'a Stream,
        wanted: &Wanted,
        rows: &mut usize,
        now: Now,
    ) -> StreamReport<'a> {
        let (mirror, sources) = stream.copy_infos(now.mono);
        let config = wanted.config;
        let (direct, shown) = (wanted.direct_consumers, wanted.consumers);
        let mut take = |wanted: bool, of: &mut dyn Iterator<Item = &Consumer>| -> Vec<Info> {
            let some = of.take(if wanted { *rows } else { 0 });
            let some: Vec<_> = some.map(|it| it.reported(config, now.wall)).collect();
            *rows -= some.len().min(*rows);
            some
        };
        let consumer_detail = take(shown, &mut stream.shown());
        let direct_consumer_detail = take(shown && direct, &mut stream.hidden());
        StreamReport {
            name: stream.name(),
            created: rfc3339(stream.created),
            cluster: Cluster { leader: &self.settings.server_name },
            config: wanted.config.then_some(&*stream.config),
            state: stream.state_info(false),
            consumer_detail,
            direct_consumer_detail,
            mirror,
            sources,
        }
    }
}
