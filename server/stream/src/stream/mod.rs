//! A stream: messages in a log, rules about what comes in and what goes, and consumers.
//!
//! `ingest` decides about each published message, `limits` about what must go, `retention` about what consumers are
//! done with. `dedup` remembers message ids, `ttl` when messages are too old.

mod batch;
mod consumers;
mod copy;
mod counter;
mod dead;
mod dedup;
mod fast;
mod foresee;
mod info;
mod ingest;
mod limits;
mod link;
mod purge;
mod read;
mod renames;
mod retention;
mod schedule;
mod staged;
mod ttl;

use std::collections::BTreeMap;

pub(crate) use batch::Aside;
use batch::Batches;
pub(crate) use consumers::NewConsumer;
pub(crate) use copy::{Copy, CopyInfo};
pub(crate) use dead::Letter;
use dedup::Dedup;
pub(crate) use info::{Cluster, StateInfo, StreamInfo};
pub(crate) use ingest::Refused;
pub(crate) use limits::counted;
pub(crate) use link::Link;
pub(crate) use purge::PurgeRequest;
pub(crate) use read::GetRequest;
use renames::Renames;
use schedule::Schedules;
use serde::{Deserialize, Serialize};
use ttl::Ttl;
pub(crate) use ttl::message_expires;

use crate::config::{Discard, Retention, StreamConfig};
use crate::consumer::Consumer;
use crate::cx::Cx;
use crate::hash;
use crate::json;
use crate::log::{Filters, Log, LogError};
use crate::seam::{Account, Tag, What};
use crate::sync::Sync;
use crate::time::{Instant, Nanos, rfc3339};

/// Begins the subjects of direct requests.
const DIRECT: &str = "$JS.API.DIRECT.GET.";

/// What is kept of a stream on disk besides its messages.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) account: Box<str>,
    pub(crate) created: Nanos,
    pub(crate) config: StreamConfig,
    /// Not all of it is there yet. If a start finds it so, that is all there will ever be.
    #[serde(default, skip_serializing_if = "crate::config::is_default")]
    pub(crate) restoring: bool,
}

/// As it is written.
pub(crate) fn record(account: &str, created: Nanos, config: &StreamConfig) -> Vec<u8> {
    json::write(&Record { account: account.into(), created, config: config.clone(), restoring: false })
}

/// As it is written while it is restored.
pub(crate) fn record_restoring(account: &str, created: Nanos, config: &StreamConfig) -> Vec<u8> {
    json::write(&Record { account: account.into(), created, config: config.clone(), restoring: true })
}

/// A stream and its consumers.
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) account: Account,
    pub(crate) config: Box<StreamConfig>,
    pub(crate) created: Nanos,
    pub(crate) log: Box<dyn Log>,
    /// By number, in the order in which they came.
    pub(crate) consumers: BTreeMap<u32, Consumer>,
    pub(crate) names: BTreeMap<Box<str>, u32>,
    dedup: Dedup,
    ttl: Ttl,
    renames: Renames,
    schedules: Schedules,
    batches: Batches,
    /// Its mirror, or its sources.
    pub(crate) copies: Vec<Copy>,
    /// The number of the last of their links.
    last_link: u32,
    /// Who copies it: of which subjects, and from which number on they still have to. Known if its messages stay for interest.
    pub(crate) copied: Vec<(Filters, u64)>,
    /// Messages that consumers could not handle, on their way to another stream.
    pub(crate) dead: Vec<Letter>,
    /// The id of the last message, if it had one.
    last_msg_id: Box<str>,
    /// When a message was last counted and not kept, for nobody wanted it.
    skipped_at: Nanos,
    /// `{"stream":"S","seq":`.
    ack: Box<[u8]>,
    pub(crate) armed: Option<Instant>,
}

impl Stream {
    pub(crate) fn new(
        id: u32,
        account: Account,
        config: StreamConfig,
        created: Nanos,
        log: Box<dyn Log>,
        domain: Option<&str>,
    ) -> Self {
        let name = &config.name;
        let ack = match domain {
            Some(domain) => format!("{{\"stream\":\"{name}\",\"domain\":\"{domain}\",\"seq\":"),
            None => format!("{{\"stream\":\"{name}\",\"seq\":"),
        };
        Self {
            id,
            account,
            ack: ack.into_bytes().into(),
            renames: Renames::new(&config),
            schedules: Schedules::default(),
            batches: Batches::default(),
            copies: copy::copies(&config),
            config: Box::new(config),
            created,
            log,
            consumers: BTreeMap::new(),
            names: BTreeMap::new(),
            dedup: Dedup::default(),
            ttl: Ttl::default(),
            last_link: 0,
            dead: Vec::new(),
            last_msg_id: Box::default(),
            skipped_at: 0,
            copied: Vec::new(),
            armed: None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// By what it is told from one of its name that came before or after it.
    pub(crate) fn identity(&self) -> String {
        hash::short(&rfc3339(self.created))
    }

    pub(crate) fn tag(&self, what: What) -> Tag {
        Tag::new(what, self.id, 0)
    }

    /// From now on it is made safe as it says, or by default so.
    pub(crate) fn set_sync(&mut self, default: Sync) {
        let own = Sync::read(&self.config).flatten();
        self.log.set_sync(own.unwrap_or(default));
    }

    /// Makes it hear.
    pub(crate) fn subscribe(&self, cx: &mut Cx<'_>) {
        for subject in &self.config.subjects {
            cx.subscribe(subject.clone(), self.tag(What::Stream));
        }
        self.subscribe_direct(cx);
    }

    /// The subjects of direct requests that it hears: for itself, and for the stream that it is a mirror of.
    fn direct_subjects(&self) -> Vec<String> {
        let config = &self.config;
        let own = Some(&config.name).filter(|_| config.allow_direct);
        let origin = config.mirror.as_ref().filter(|_| config.mirror_direct).map(|mirror| &mirror.name);
        own.into_iter()
            .chain(origin)
            .flat_map(|name| [format!("{DIRECT}{name}"), format!("{DIRECT}{name}.>")])
            .collect()
    }

    /// The stream that a direct request is for.
    pub(crate) fn direct_name<'a>(&self, subject: &'a [u8]) -> Option<&'a str> {
        let rest = subject.strip_prefix(DIRECT.as_bytes())?;
        let end = rest.iter().position(|byte| *byte == b'.').unwrap_or(rest.len());
        std::str::from_utf8(rest.get(..end)?).ok()
    }

    fn subscribe_direct(&self, cx: &mut Cx<'_>) {
        self.direct_subjects().into_iter().for_each(|it| cx.subscribe(it, self.tag(What::Direct)));
    }

    fn unsubscribe_direct(&self, cx: &mut Cx<'_>) {
        self.direct_subjects().into_iter().for_each(|it| cx.unsubscribe(it, self.tag(What::Direct)));
    }

    /// Ends it: nobody hears of it again.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_>) {
        for subject in &self.config.subjects {
            cx.unsubscribe(subject.clone(), self.tag(What::Stream));
        }
        self.unsubscribe_direct(cx);
        self.close_links(cx);
        self.drop_batches(true, cx);
        self.consumers.values_mut().for_each(|consumer| consumer.close(cx));
    }

    /// It is deleted: those that it copied from needn't keep anything for it.
    pub(crate) fn leave_origins(&self, cx: &mut Cx<'_>) {
        self.end_links(self.ends_of_links(&self.config, cx), cx);
    }

    /// Makes it what `config`, which was checked, says.
    pub(crate) fn update(&mut self, config: StreamConfig, cx: &mut Cx<'_>) -> Result<(), LogError> {
        let direct = self.direct_subjects();
        let old = std::mem::replace(&mut *self.config, config);
        self.renames = Renames::new(&self.config);
        self.update_copies(&old, cx);
        self.drop_batches(false, cx);
        if self.config.allow_msg_schedules && !old.allow_msg_schedules {
            self.rebuild_schedules(cx);
        }
        for subject in old.subjects.iter().filter(|it| !self.config.subjects.contains(it)) {
            cx.unsubscribe(subject.clone(), self.tag(What::Stream));
        }
        for subject in self.config.subjects.iter().filter(|it| !old.subjects.contains(it)) {
            cx.subscribe(subject.clone(), self.tag(What::Stream));
        }
        let now_direct = self.direct_subjects();
        for subject in direct.iter().filter(|it| !now_direct.contains(it)) {
            cx.unsubscribe(subject.clone(), self.tag(What::Direct));
        }
        for subject in now_direct.into_iter().filter(|it| !direct.contains(it)) {
            cx.subscribe(subject, self.tag(What::Direct));
        }
        self.enforce_changed(cx)?;
        if old.max_msgs_per_subject != self.config.max_msgs_per_subject {
            self.enforce_all_subjects(cx)?;
        }
        self.expire(cx)?;
        if old.retention == Retention::Limits && self.config.retention == Retention::Interest {
            self.drop_unneeded(cx)?;
        }
        Ok(())
    }

    /// Limits became lower: one that refuses what is new keeps what it has.
    fn enforce_changed(&mut self, cx: &mut Cx<'_>) -> Result<(), LogError> {
        if self.config.discard == Discard::Old { self.enforce_limits(cx) } else { Ok(()) }
    }

    /// Takes out what is over its limits, whatever it was before.
    pub(crate) fn enforce_all(&mut self, cx: &mut Cx<'_>) -> Result<(), LogError> {
        self.enforce_changed(cx)?;
        self.enforce_all_subjects(cx)?;
        self.expire(cx)
    }

    /// Takes a message out and tells all consumers.
    pub(crate) fn remove(&mut self, seq: u64, erase: bool, cx: &mut Cx<'_>) -> Result<bool, LogError> {
        self.take_out(seq, cx, |log| log.remove(seq, erase))
    }

    /// Takes the first message out because it is the oldest, and tells all consumers.
    pub(super) fn remove_oldest(&mut self, cx: &mut Cx<'_>) -> Result<bool, LogError> {
        let seq = self.log.state().first_seq;
        self.take_out(seq, cx, |log| log.remove_oldest(seq))
    }

    fn take_out(
        &mut self,
        seq: u64,
        cx: &mut Cx<'_>,
        remove: impl FnOnce(&mut dyn Log) -> Result<bool, LogError>,
    ) -> Result<bool, LogError> {
        let subject = if self.consumers.is_empty() { None } else { self.log.subject_of(seq) };
        if !remove(&mut *self.log)? {
            return Ok(false);
        }
        for consumer in self.consumers.values_mut() {
            consumer.on_removed(seq, subject.as_deref().unwrap_or_default(), cx);
        }
        Ok(true)
    }

    /// Lets consumers have what they can. False if there is more once outputs have been taken.
    pub(crate) fn pump(&mut self, cx: &mut Cx<'_>) -> Result<bool, LogError> {
        let mut all = true;
        let touched: Vec<u32> =
            self.consumers.values().filter(|consumer| consumer.touched).map(|consumer| consumer.id).collect();
        for id in touched {
            // Before what was terminated goes.
            self.collect_deaths(id);
            let Some(consumer) = self.consumers.get_mut(&id) else { continue };
            all &= consumer.pump(&*self.log, cx);
            let settled = consumer.take_settled();
            self.collect_deaths(id);
            self.settle(&settled, cx)?;
        }
        Ok(all)
    }

    /// Ages, or stamps, are not what they were: what is counted with them is counted again.
    pub(crate) fn on_clock(&mut self, cx: &mut Cx<'_>) {
        self.rebuild_ttl(cx);
        self.look_for_schedules(cx);
        self.consumers.values_mut().for_each(|consumer| consumer.on_clock(cx));
    }

    /// When [`Stream::tick`] has something to do next.
    pub(crate) fn deadline(&self, cx: &Cx<'_>) -> Option<Instant> {
        let others =
            self.next_schedule().into_iter().chain(self.batches.deadline()).chain(self.links_deadline());
        self.next_expiry(cx).into_iter().chain(self.dedup.deadline()).chain(others).min()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, cx: &mut Cx<'_>) -> Result<(), LogError> {
        self.tick_links(cx);
        self.dedup.expire(cx.now.mono);
        self.expire_batches(cx);
        self.run_schedules(cx)?;
        self.expire(cx)
    }
}
