//! Streams: made, changed, looked at, emptied, ended.

use std::borrow::Cow;

use midge_protocol::subject::Filter;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Answer, Failure, LIST_MAX, NAMES_MAX, Page, PageRequest, Request, SUCCESS, answer};
use crate::config::{
    Storage, StreamConfig, check_source_filters, check_stream_among, check_update, stamp_stream,
};
use crate::engine::Engine;
use crate::error::{self, ApiError};
use crate::seam::Account;
use crate::stream::{Cluster, PurgeRequest, StreamInfo};

/// Subjects in one answer.
const SUBJECTS_MAX: usize = 100_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct InfoRequest {
    offset: i64,
    deleted_details: bool,
    subjects_filter: String,
}

#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    info: StreamInfo<'a>,
    did_create: bool,
}

#[derive(Serialize)]
struct Paged<'a> {
    #[serde(flatten)]
    page: Page,
    #[serde(flatten)]
    info: StreamInfo<'a>,
}

#[derive(Serialize)]
struct List<T> {
    #[serde(flatten)]
    page: Page,
    streams: T,
}

#[derive(Serialize)]
struct Purged {
    success: bool,
    purged: u64,
}

fn invalid(text: &str) -> Failure {
    error::STREAM_INVALID_CONFIG.with(&[&text]).into()
}

impl Request<'_> {
    /// Whether the payload says where the stream is stored.
    fn says_storage(&self) -> bool {
        let read = serde_json::from_slice::<Value>(self.message.payload);
        let members = read.as_ref().ok().and_then(Value::as_object);
        members.is_some_and(|members| members.keys().any(|name| name.eq_ignore_ascii_case("storage")))
    }

    /// The payload as a configuration, and whether the client minds changes.
    fn read_config(&self) -> Result<(StreamConfig, bool), ApiError> {
        let mut pedantic = false;
        // The member stands beside those of the configuration, which don't know it.
        let text = match serde_json::from_slice::<Value>(self.message.payload) {
            Ok(Value::Object(mut members)) => {
                let name = members.keys().find(|name| name.eq_ignore_ascii_case("pedantic")).cloned();
                match name.and_then(|name| members.remove(&name)) {
                    Some(said) => {
                        pedantic = said == Value::Bool(true);
                        Cow::Owned(crate::json::write(&members))
                    }
                    None => Cow::Borrowed(self.message.payload),
                }
            }
            _ => Cow::Borrowed(self.message.payload),
        };
        Ok((crate::json::read(&text, self.strict)?, pedantic))
    }
}

impl Engine {
    pub(super) fn stream_create(&mut self, request: &Request<'_>) -> Answer {
        let (mut config, pedantic) = request.read_config()?;
        stamp_stream(&mut config);
        let name = request.token(2);
        if config.name != name {
            return Err(error::STREAM_MISMATCH.into());
        }
        if name.contains(['\\', '/']) {
            return Err(error::STREAM_NAME_CONTAINS_PATH_SEPARATORS.into());
        }
        if config.sealed {
            return Err(invalid("stream configuration for create can not be sealed"));
        }
        if config.mirror_direct && config.mirror.is_none() {
            return Err(invalid("stream has no mirror but does have mirror direct"));
        }
        self.check_share_counts(request.account, &config)?;
        // What kind of storage it is counts as unknown until then, if it isn't said.
        if request.says_storage() {
            self.check_share_bytes(request.account, &config)?;
        }
        self.check_stream_bytes(request.account, &config)?;
        let config = self.check_config(request.account, &config, pedantic)?;
        if config.num_replicas > 1 {
            return Err(error::STREAM_REPLICAS_NOT_SUPPORTED.into());
        }
        self.check_share_bytes(request.account, &config)?;
        let id = match self.stream_id(request.account, name) {
            Ok(id) => {
                let same = self.streams.get(&id).is_some_and(|stream| same(&stream.config, &config));
                if !same {
                    return Err(error::STREAM_NAME_EXIST.into());
                }
                id
            }
            Err(_) => {
                self.check_overlap(request.account, &config)?;
                check_source_filters(&config)?;
                self.create_stream(request.account, config, request.now)?
            }
        };
        let (stream, cx) = self.stream_cx(id, request.now).ok_or(error::STREAM_NOT_FOUND)?;
        // No domain here, unlike in all others: so it is in nats-server.
        let info = stream.info(false, None, &cx);
        answer("stream_create", Created { info, did_create: true })
    }

    pub(super) fn stream_update(&mut self, request: &Request<'_>) -> Answer {
        let (config, pedantic) = request.read_config()?;
        self.check_stream_bytes(request.account, &config)?;
        let mut config = self.check_config(request.account, &config, pedantic)?;
        if config.name != request.token(2) {
            return Err(error::STREAM_MISMATCH.into());
        }
        let id = self.stream_id(request.account, &config.name)?;
        stamp_stream(&mut config);
        let old =
            self.streams.get(&id).map(|stream| (*stream.config).clone()).ok_or(error::STREAM_NOT_FOUND)?;
        let config = check_update(&old, config)?;
        self.check_consumers(id, &old, &config)?;
        self.check_share(request.account, &config)?;
        self.check_overlap(request.account, &config)?;
        let domain = self.settings.domain.clone();
        let account = self.spaces.get(&request.account).map(|space| space.name.clone()).unwrap_or_default();
        let sync = self.settings.sync;
        let (stream, mut cx) = self.stream_cx(id, request.now).ok_or(error::STREAM_NOT_FOUND)?;
        stream.log.set_config(&crate::stream::record(&account, stream.created, &config))?;
        stream.update(config, &mut cx)?;
        stream.set_sync(sync);
        stream.event_action("modify", &mut cx);
        stream.resume_copies();
        let text = answer("stream_update", stream.info(false, domain.as_deref(), &cx));
        self.learn_copies(id);
        text
    }

    /// A configuration with all defaults filled in, if it can stand beside the account's streams.
    pub(crate) fn check_config(
        &self,
        account: Account,
        config: &StreamConfig,
        pedantic: bool,
    ) -> Result<StreamConfig, ApiError> {
        let find = |name: &str| {
            let id = self.stream_id(account, name).ok()?;
            self.streams.get(&id).map(|stream| (*stream.config).clone())
        };
        check_stream_among(config, &self.settings.limits, pedantic, &find)
    }

    /// What consumers have already, a stream doesn't take from them. Source: nats-server's `updateWithAdvisory`.
    fn check_consumers(&self, id: u32, old: &StreamConfig, new: &StreamConfig) -> Result<(), ApiError> {
        let (old, new) = (old.consumer_limits, new.consumer_limits);
        let inactive = new.inactive_threshold;
        let pending = new.max_ack_pending;
        let changed = (inactive > 0 && inactive != old.inactive_threshold)
            || (pending > 0 && pending != old.max_ack_pending);
        let Some(stream) = self.streams.get(&id).filter(|_| changed) else { return Ok(()) };
        let beyond = stream.consumers.values().filter(|consumer| {
            (inactive > 0 && consumer.config.inactive_threshold > inactive)
                || (pending > 0 && consumer.config.max_ack_pending > pending)
        });
        let names: Vec<&str> = beyond.map(|consumer| &*consumer.name).collect();
        if names.is_empty() {
            return Ok(());
        }
        let text = format!("change to limits violates consumers: {}", names.join(", "));
        Err(error::STREAM_UPDATE.with(&[&text]))
    }

    /// Subjects belong to one stream only.
    pub(super) fn check_overlap(&self, account: Account, config: &StreamConfig) -> Result<(), ApiError> {
        let others = self.streams.values().filter(|stream| stream.account == account);
        let mut subjects = others
            .filter(|stream| stream.name() != config.name)
            .flat_map(|stream| &stream.config.subjects)
            .filter_map(|subject| Filter::new(subject.as_bytes()).ok());
        let mine: Vec<_> = config.subjects.iter().filter_map(|it| Filter::new(it.as_bytes()).ok()).collect();
        if subjects.any(|other| mine.iter().any(|mine| mine.overlaps(other))) {
            return Err(error::STREAM_SUBJECT_OVERLAP.error());
        }
        Ok(())
    }

    /// What an account says of each of its streams. Source: nats-server's `checkStreamCfg`, `maxBytesLimits`.
    pub(super) fn check_stream_bytes(&self, account: Account, config: &StreamConfig) -> Result<(), ApiError> {
        let Some(space) = self.spaces.get(&account) else { return Err(error::NO_ACCOUNT.error()) };
        let Ok(limits) = space.share()?.limits_for(config.num_replicas) else { return Ok(()) };
        let one = match config.storage {
            Storage::Memory => limits.memory_stream_bytes_max,
            Storage::File => limits.file_stream_bytes_max,
        };
        if limits.max_bytes_required && config.max_bytes <= 0 {
            return Err(error::STREAM_MAX_BYTES_REQUIRED.error());
        }
        if one.is_some_and(|max| max > 0 && bytes(config) > max) {
            return Err(error::STREAM_MAX_STREAM_BYTES_EXCEEDED.error());
        }
        Ok(())
    }

    /// A stream must fit into its account's share, and into the server beside what the others may take.
    pub(super) fn check_share(&self, account: Account, config: &StreamConfig) -> Result<(), ApiError> {
        self.check_share_counts(account, config)?;
        self.check_share_bytes(account, config)
    }

    /// The share of streams and consumers. Source: nats-server's `jsNonClusteredStreamLimitsCheck`, `checkLimits`.
    fn check_share_counts(&self, account: Account, config: &StreamConfig) -> Result<(), ApiError> {
        let Some(space) = self.spaces.get(&account) else { return Err(error::NO_ACCOUNT.error()) };
        let share = space.share()?;
        let limits = share.limits_for(config.num_replicas)?;
        let known = space.streams.get(config.name.as_str()).copied();
        let count = if share.counts(config.num_replicas) { space.streams.len() as u64 } else { 0 };
        let full = limits.streams_max.is_some_and(|max| max > 0 && count >= u64::from(max));
        if known.is_none() && full {
            return Err(error::MAXIMUM_STREAMS_LIMIT.error());
        }
        let consumers_max = limits.consumers_max.map_or(0, i64::from);
        if consumers_max > 0 && config.max_consumers > consumers_max {
            return Err(error::MAXIMUM_CONSUMERS_LIMIT.error());
        }
        Ok(())
    }

    /// The share of bytes. Source: nats-server's `checkBytesLimits`.
    fn check_share_bytes(&self, account: Account, config: &StreamConfig) -> Result<(), ApiError> {
        let Some(space) = self.spaces.get(&account) else { return Err(error::NO_ACCOUNT.error()) };
        let share = space.share()?;
        let limits = share.limits_for(config.num_replicas)?;
        let known = space.streams.get(config.name.as_str()).copied();
        let (mine, all, row) = match config.storage {
            Storage::Memory => {
                (limits.memory_bytes_max, self.settings.memory_bytes_max, error::MEMORY_RESOURCES_EXCEEDED)
            }
            Storage::File => {
                (limits.file_bytes_max, self.settings.file_bytes_max, error::STORAGE_RESOURCES_EXCEEDED)
            }
        };
        let before = known
            .and_then(|id| self.streams.get(&id))
            .filter(|stream| stream.config.storage == config.storage)
            .map_or(0, |stream| bytes(&stream.config));
        // One without a ceiling needs a byte at least: where there is none, there are no streams.
        let wanted = bytes(config).max(1);
        let fits = |max: Option<u64>, reserved: u64, wanted: u64| {
            max.is_none_or(|max| reserved.saturating_sub(before).saturating_add(wanted) <= max)
        };
        let reserved = match share.counts(config.num_replicas) {
            true => self.reserved(Some(account), config.storage),
            false => before,
        };
        if !fits(mine, reserved, wanted.saturating_mul(share.copies(config.num_replicas)))
            || !fits(all, self.reserved(None, config.storage), wanted)
        {
            return Err(row.error());
        }
        Ok(())
    }

    pub(super) fn stream_info(&mut self, request: &Request<'_>) -> Answer {
        let ask: InfoRequest = request.read_optional()?;
        let id = self.stream_id(request.account, request.token(2))?;
        let (domain, server) = (self.settings.domain.clone(), self.settings.server_name.clone());
        let (stream, cx) = self.stream_cx(id, request.now).ok_or(error::STREAM_NOT_FOUND)?;
        let mut page = Page::default();
        let mut info = stream.info(ask.deleted_details, domain.as_deref(), &cx);
        info.cluster = Some(Cluster { leader: &server });
        if !ask.subjects_filter.is_empty() {
            let totals = stream.subject_totals(&ask.subjects_filter);
            if !totals.is_empty() {
                let offset = usize::try_from(ask.offset).unwrap_or(0);
                page = Page { total: totals.len(), offset, limit: SUBJECTS_MAX };
                let mut shown = std::collections::BTreeMap::new();
                shown.extend(totals.into_iter().skip(offset).take(SUBJECTS_MAX));
                info.state.subjects = (!shown.is_empty()).then_some(shown);
            }
        }
        answer("stream_info", Paged { page, info })
    }

    pub(super) fn stream_names(&mut self, request: &Request<'_>) -> Answer {
        let ask: PageRequest = request.read_optional()?;
        let names = self.named_streams(request.account, &ask.subject);
        let page = ask.page(names.len(), NAMES_MAX);
        let names: Vec<_> =
            names.into_iter().skip(page.offset).take(NAMES_MAX).map(|(name, _)| name).collect();
        let streams = (!names.is_empty()).then_some(names);
        answer("stream_names", List { page, streams })
    }

    pub(super) fn stream_list(&mut self, request: &Request<'_>) -> Answer {
        let ask: PageRequest = request.read_optional()?;
        let domain = self.settings.domain.clone();
        let names = self.named_streams(request.account, &ask.subject);
        let page = ask.page(names.len(), LIST_MAX);
        let ids: Vec<_> = names.into_iter().skip(page.offset).take(LIST_MAX).map(|(_, id)| id).collect();
        let mut streams = Vec::new();
        for id in ids {
            if let Some((stream, cx)) = self.stream_cx(id, request.now) {
                streams.push(stream.listed(domain.as_deref(), &cx));
            }
        }
        answer("stream_list", List { page, streams })
    }

    /// An account's streams by name; those only that have to do with `subject`, unless it is empty.
    fn named_streams(&self, account: Account, subject: &str) -> Vec<(&str, u32)> {
        let Some(space) = self.spaces.get(&account) else { return Vec::new() };
        let filter = Filter::new(subject.as_bytes());
        let wanted = |id: &u32| {
            let stream = self.streams.get(id);
            stream.is_some_and(|stream| {
                stream.config.subjects.iter().any(|it| {
                    matches!((&filter, Filter::new(it.as_bytes())), (Ok(one), Ok(other)) if one.overlaps(other))
                })
            })
        };
        let streams = space.streams.iter().filter(|(_, id)| subject.is_empty() || wanted(id));
        streams.map(|(name, id)| (&**name, *id)).collect()
    }

    pub(super) fn stream_delete(&mut self, request: &Request<'_>) -> Answer {
        request.expect_nothing()?;
        let id = self.stream_id(request.account, request.token(2))?;
        self.delete_stream(id, request.now)?;
        answer("stream_delete", SUCCESS)
    }

    pub(super) fn stream_purge(&mut self, request: &Request<'_>) -> Answer {
        let ask: PurgeRequest = request.read_optional()?;
        if ask.seq > 0 && ask.keep > 0 {
            return Err(error::BAD_REQUEST.into());
        }
        let id = self.stream_id(request.account, request.token(2))?;
        let (stream, mut cx) = self.stream_cx(id, request.now).ok_or(error::STREAM_NOT_FOUND)?;
        if stream.config.sealed {
            return Err(error::STREAM_SEALED.into());
        }
        if stream.config.deny_purge {
            return Err(error::STREAM_PURGE_FAILED.with(&[&"stream purge not permitted"]).into());
        }
        let tells = ask.keep > 0 || !matches!(ask.filter.as_str(), "" | ">");
        let purged = stream.purge(&ask, tells, &mut cx)?;
        self.touch(id);
        answer("stream_purge", Purged { success: true, purged })
    }
}

/// Bytes that it may take in any case.
fn bytes(config: &StreamConfig) -> u64 {
    u64::try_from(config.max_bytes).unwrap_or(0)
}

/// True if nothing differs but what the server notes.
fn same(one: &StreamConfig, other: &StreamConfig) -> bool {
    let plain = |config: &StreamConfig| {
        let mut config = config.clone();
        config.metadata.retain(|key, _| !key.starts_with("_nats."));
        config
    };
    plain(one) == plain(other)
}
