//! Consumers come and go.
//!
//! Source: nats-server's `consumer.go` (`addConsumerWithAssignmentAndMode`).

use midge_protocol::subject::Filter;
use serde::{Deserialize, Serialize};

use super::{PurgeRequest, Stream};
use crate::config::{
    AckPolicy, Action, ConsumerConfig, ConsumerContext, DeliverPolicy, Limits, NAME_BYTES_MAX, Retention,
    Storage, check_consumer, consumer_defaults, stamp_consumer,
};
use crate::consumer::{Consumer, ConsumerState, INACTIVE};
use crate::cx::Cx;
use crate::error::{self, ApiError};
use crate::json;
use crate::log::LogError;

/// Begins the keys of consumers' notes.
const NOTE: &str = "consumer/";

/// A consumer as a snapshot has it.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    config: ConsumerConfig,
    state: ConsumerState,
}

/// A consumer that is asked for.
pub(crate) struct NewConsumer<'a> {
    pub(crate) config: ConsumerConfig,
    pub(crate) action: Action,
    pub(crate) pedantic: bool,
    pub(crate) limits: &'a Limits,
    /// Consumers that the account may have on one stream; not above 0: any number.
    pub(crate) consumers_max: i64,
    /// Messages that a consumer of the account may leave without an ack; not above 0: any number.
    pub(crate) ack_pending_max: i64,
    pub(crate) id: u32,
}

impl Stream {
    /// Creates or updates a consumer, and gives its number.
    pub(crate) fn add_consumer(&mut self, new: NewConsumer<'_>, cx: &mut Cx<'_>) -> Result<u32, ApiError> {
        let NewConsumer { mut config, action, pedantic, limits, consumers_max, ack_pending_max, id } = new;
        let context = ConsumerContext { stream: &self.config, limits, account_ack_pending: ack_pending_max };
        consumer_defaults(&mut config, context, pedantic)?;
        check_consumer(&config, context)?;
        let mut name = if config.is_durable() { config.durable_name.clone() } else { config.name.clone() };
        if let Some(known) = self.names.get(name.as_str()).copied() {
            return self.change_consumer(known, config, action, cx);
        }
        if action == Action::Update {
            return Err(error::CONSUMER_DOES_NOT_EXIST.error());
        }
        let most = match self.config.max_consumers {
            most if most > 0 && (consumers_max <= 0 || most < consumers_max) => most,
            _ => consumers_max,
        };
        let counts = !config.direct && !config.sourcing;
        if most > 0 && counts && i64::try_from(self.counted()).is_ok_and(|len| len >= most) {
            return Err(error::MAXIMUM_CONSUMERS_LIMIT.error());
        }
        if self.config.retention == Retention::WorkQueue && !config.direct && !config.sourcing {
            self.check_work_queue(&config, None)?;
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(error::CONSUMER_NAME_TOO_LONG.with(&[&NAME_BYTES_MAX]));
        }
        if name.is_empty() {
            name = loop {
                let name = cx.random.name(8);
                if !self.names.contains_key(name.as_str()) {
                    break name;
                }
            };
        }
        stamp_inactive(&mut config);
        let mut consumer = Consumer::new(id, self.id, &self.config.name, &name, config, cx);
        consumer.start(&*self.log, self.config.max_msgs_per_subject);
        consumer.begin(cx);
        consumer.subscribe(cx);
        consumer.event_action("create", cx);
        self.names.insert(name.into(), id);
        self.consumers.insert(id, consumer);
        Ok(id)
    }

    /// Who copies by a consumer that stays doesn't say anew where it begins.
    pub(crate) fn keep_start(&self, config: &mut ConsumerConfig) {
        let known = self.names.get(config.name.as_str()).and_then(|id| self.consumers.get(id));
        let Some(known) = known.filter(|_| config.sourcing && config.is_durable()) else { return };
        config.deliver_policy = known.config.deliver_policy;
        config.opt_start_seq = known.config.opt_start_seq;
        config.opt_start_time = known.config.opt_start_time;
    }

    /// Consumers that `max_consumers` is about: not those by which others copy.
    fn counted(&self) -> usize {
        let all = self.consumers.values();
        all.filter(|consumer| !consumer.config.direct && !consumer.config.sourcing).count()
    }

    /// Consumers that are told of, by name: not those by which others copy.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Consumer> {
        let all = self.names.values().filter_map(|id| self.consumers.get(id));
        all.filter(|consumer| !consumer.config.direct)
    }

    /// Those by which others copy.
    pub(crate) fn hidden(&self) -> impl Iterator<Item = &Consumer> {
        self.consumers.values().filter(|consumer| consumer.config.direct)
    }

    fn change_consumer(
        &mut self,
        id: u32,
        mut config: ConsumerConfig,
        action: Action,
        cx: &mut Cx<'_>,
    ) -> Result<u32, ApiError> {
        if self.config.retention == Retention::WorkQueue {
            self.check_unique(config.filters(), Some(id))?;
        }
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return Err(error::CONSUMER_DOES_NOT_EXIST.error());
        };
        if config.name.is_empty() {
            config.name.clone_from(&consumer.config.name);
        }
        // Who creates one again must say so, or it isn't the same.
        let other_threshold = config.inactive_threshold != consumer.config.inactive_threshold;
        if action != Action::Create && !consumer.config.is_durable() && other_threshold {
            stamp_inactive(&mut config);
        }
        // Only a request of its own changes it.
        config.pause_until = consumer.config.pause_until;
        stamp_consumer(&mut config);
        let same = {
            let (mut one, mut other) = (config.clone(), (*consumer.config).clone());
            one.metadata.retain(|key, _| !key.starts_with("_nats."));
            other.metadata.retain(|key, _| !key.starts_with("_nats."));
            one == other
        };
        let refiltered = consumer.config.filters() != config.filters();
        if !same {
            if action == Action::Create {
                return Err(error::CONSUMER_ALREADY_EXISTS.error());
            }
            consumer.update(config, &*self.log, cx)?;
        }
        consumer.tell_pause(cx);
        if consumer.config.sourcing {
            // What was on its way to who copies may not have come.
            let _ = consumer.reset(0, &*self.log);
        }
        if same || !refiltered {
            return Ok(id);
        }
        // A storage that fails here fails for everything that follows.
        let _ = self.drop_unneeded(cx);
        Ok(id)
    }

    fn check_work_queue(&self, config: &ConsumerConfig, but: Option<u32>) -> Result<(), ApiError> {
        if !matches!(config.ack_policy, AckPolicy::Explicit | AckPolicy::FlowControl) {
            return Err(error::CONSUMER_WQ_REQUIRES_EXPLICIT_ACK.error());
        }
        if config.deliver_policy != DeliverPolicy::All {
            return Err(error::CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL.error());
        }
        if !self.consumers.is_empty() && config.filters().is_empty() {
            return Err(error::CONSUMER_WQ_MULTIPLE_UNFILTERED.error());
        }
        self.check_unique(config.filters(), but)
    }

    /// On a work queue, each message is for one consumer only.
    fn check_unique(&self, filters: &[String], but: Option<u32>) -> Result<(), ApiError> {
        let mut others = self.consumers.values().filter(|consumer| Some(consumer.id) != but);
        let taken = others.any(|other| {
            filters.is_empty()
                || other.filters().is_all()
                || filters.iter().any(|filter| {
                    Filter::new(filter.as_bytes()).is_ok_and(|filter| other.filters().overlaps(filter))
                })
        });
        if taken { Err(error::CONSUMER_WQ_CONSUMER_NOT_UNIQUE.error()) } else { Ok(()) }
    }

    /// Brings back a consumer of a snapshot.
    pub(crate) fn restore_consumer(
        &mut self,
        name: &str,
        text: &[u8],
        id: u32,
        limits: &Limits,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let failed = |why: &dyn std::fmt::Display| format!("failed to add consumer {name:?}: {why}");
        let Snapshot { mut config, state } = json::read_seldom(text).map_err(|error| failed(&error))?;
        if !config.is_durable() {
            config.name = name.to_owned();
        }
        let new = NewConsumer {
            config,
            action: Action::CreateOrUpdate,
            pedantic: false,
            limits,
            consumers_max: -1,
            ack_pending_max: -1,
            id,
        };
        let id = self.add_consumer(new, cx).map_err(|error| failed(&error))?;
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.set_state(&state, &*self.log, cx);
        }
        self.save_consumer(id, true, cx).map_err(|error| failed(&error))
    }

    /// All consumers as a snapshot has them, by name.
    pub(crate) fn consumer_snapshots(&self) -> Vec<(Box<str>, Vec<u8>)> {
        let consumers = self.consumers.values();
        let write = |consumer: &Consumer| {
            json::write(&Snapshot { config: (*consumer.config).clone(), state: consumer.state() })
        };
        consumers.map(|consumer| (consumer.name.clone(), write(consumer))).collect()
    }

    /// Brings back the consumers that are noted in the log, with numbers from `next` on. Gives the first that is free.
    pub(crate) fn load_consumers(&mut self, mut next: u32, cx: &mut Cx<'_>) -> u32 {
        for (key, parts) in self.log.notes() {
            let Some(name) = key.strip_prefix(NOTE) else { continue };
            let revived = Consumer::revive(&parts, next, self.id, &self.config.name, &*self.log, cx);
            let Some(mut consumer) = revived.filter(|consumer| *consumer.name == *name) else { continue };
            consumer.begin(cx);
            consumer.subscribe(cx);
            self.names.insert(name.into(), next);
            self.consumers.insert(next, consumer);
            next = next.saturating_add(1);
        }
        next
    }

    pub(crate) fn has_unsaved_consumers(&self) -> bool {
        self.consumers.values().any(Consumer::is_unsaved)
    }

    /// Notes on disk which consumers have changed. One that can't be noted promises nothing.
    pub(crate) fn save_consumers(&mut self, cx: &mut Cx<'_>) -> Result<(), LogError> {
        for consumer in self.consumers.values_mut().filter(|consumer| consumer.is_unsaved()) {
            match consumer.save(&format!("{NOTE}{}", consumer.name), &mut *self.log, cx) {
                Ok(()) => {}
                Err(error) if error.is_of_all() => return Err(error),
                Err(error) => {
                    cx.out.revoke_acks(consumer.id);
                    let (stream, name) = (&self.config.name, &consumer.name);
                    cx.out.complain(format!("consumer {stream} > {name} can't be noted on disk: {error}"));
                }
            }
        }
        Ok(())
    }

    /// Notes a consumer on disk before anybody is told of it. One that is new and can't be noted goes.
    pub(crate) fn save_consumer(&mut self, id: u32, is_new: bool, cx: &mut Cx<'_>) -> Result<(), LogError> {
        if self.config.storage != Storage::File {
            return Ok(());
        }
        let Some(consumer) = self.consumers.get_mut(&id).filter(|consumer| consumer.is_unsaved()) else {
            return Ok(());
        };
        let saved = consumer.save(&format!("{NOTE}{}", consumer.name), &mut *self.log, cx);
        if saved.is_err()
            && is_new
            && let Some(mut consumer) = self.consumers.remove(&id)
        {
            self.names.remove(&consumer.name);
            consumer.close(cx);
        }
        saved
    }

    /// Ends a consumer. False if there is none of that number.
    pub(crate) fn delete_consumer(&mut self, id: u32, cx: &mut Cx<'_>) -> Result<bool, LogError> {
        let Some(mut consumer) = self.consumers.remove(&id) else { return Ok(false) };
        self.names.remove(&consumer.name);
        self.log.drop_note(&format!("{NOTE}{}", consumer.name))?;
        consumer.event_action("delete", cx);
        consumer.close(cx);
        if self.consumers.is_empty() && self.config.retention == Retention::Interest {
            // There is nobody to keep anything for.
            self.purge(&PurgeRequest::default(), false, cx)?;
        } else {
            self.drop_unneeded(cx)?;
        }
        Ok(true)
    }
}

/// An ephemeral consumer shows after which time it goes.
fn stamp_inactive(config: &mut ConsumerConfig) {
    if !config.is_durable() && config.inactive_threshold <= 0 {
        config.inactive_threshold = INACTIVE;
    }
}
