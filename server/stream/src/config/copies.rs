//! Streams that copy others, and subjects that change on the way: what is refused.
//!
//! Source: nats-server's `stream.go` (`checkStreamCfg`, `composeIName`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use midge_protocol::subject::Filter;
use midge_router::mapping::{MappingError, Single};

use super::stream::{invalid, overlaps, refuse};
use super::{External, StreamConfig, StreamSource, SubjectTransform, is_name};
use crate::error::{self, ApiError, Row};
use crate::hash;

/// Gives the configuration of another stream of the account.
pub type Find<'a> = &'a dyn Fn(&str) -> Option<StreamConfig>;

impl StreamSource {
    /// By this, a source is told from others of the same stream: the stream, filters and destinations. Stored with each
    /// message that came from it.
    pub fn index(&self) -> String {
        let all = |text: &str| if text.is_empty() { ">".to_owned() } else { text.to_owned() };
        let (filters, destinations) = if self.subject_transforms.is_empty() {
            (all(&self.filter_subject), ">".to_owned())
        } else {
            let join = |part: fn(&SubjectTransform) -> &str| {
                let texts: Vec<String> = self.subject_transforms.iter().map(|it| all(part(it))).collect();
                texts.join("\x0c")
            };
            (join(|it| &it.src), join(|it| &it.dest))
        };
        format!("{} {filters} {destinations}", self.origin(true))
    }

    /// The stream's name, with a hash of where else it is, and, if wanted, of the consumer.
    fn origin(&self, with_consumer: bool) -> String {
        let mut name = self.name.clone();
        if let Some(external) = &self.external {
            name.push(':');
            name.push_str(&hash::short(&external.api));
        }
        if let Some(consumer) = self.consumer.as_ref().filter(|_| with_consumer) {
            name.push_str(":C=");
            name.push_str(&hash::short(&consumer.name));
        }
        name
    }

    /// The subjects that are wanted; none: all.
    pub fn filters(&self) -> Vec<&str> {
        if self.subject_transforms.is_empty() {
            Some(self.filter_subject.as_str()).filter(|filter| !filter.is_empty()).into_iter().collect()
        } else {
            self.subject_transforms.iter().map(|transform| transform.src.as_str()).collect()
        }
    }

    fn has_bad_consumer(&self) -> bool {
        self.consumer.as_ref().is_some_and(|consumer| {
            !is_name(&consumer.name)
                || !Filter::new(consumer.deliver_subject.as_bytes()).is_ok_and(Filter::is_literal)
                || self.opt_start_seq != 0
                || self.opt_start_time.is_some()
                || !self.filter_subject.is_empty()
        })
    }
}

impl SubjectTransform {
    /// As it works.
    pub fn read(&self) -> Result<Single, MappingError> {
        Single::new(&self.src, &self.dest)
    }

    /// What is wrong with it: its source, or its destination.
    fn check(&self, source: Row, destination: Row) -> Result<(), ApiError> {
        if !self.src.is_empty() && Filter::new(self.src.as_bytes()).is_err() {
            return Err(source.with(&[&format_args!("invalid subject {}", self.src)]));
        }
        self.read().map(drop).map_err(|why| destination.with(&[&why]))
    }
}

fn deny(wrong: bool, row: Row) -> Result<(), ApiError> {
    if wrong { Err(row.error()) } else { Ok(()) }
}

/// True if both may match one subject.
fn collide(one: &str, other: &str) -> bool {
    one == other || Filter::new(one.as_bytes()).is_ok_and(|one| overlaps(one, &[other]))
}

/// What is known of other places that streams are copied from.
#[derive(Default)]
struct Elsewhere {
    /// Subjects of streams that are here.
    subjects: Vec<String>,
    deliver: Vec<String>,
    api: Vec<String>,
}

impl Elsewhere {
    fn add(&mut self, external: &External) {
        self.deliver.extend(Some(external.deliver.clone()).filter(|prefix| !prefix.is_empty()));
        self.api.extend(Some(external.api.clone()).filter(|prefix| !prefix.is_empty()));
    }

    fn check(&self) -> Result<(), ApiError> {
        for prefix in &self.deliver {
            if !is_prefix(prefix) {
                return Err(error::STREAM_INVALID_EXTERNAL_DELIVERY_SUBJ.with(&[prefix]));
            }
            for subject in &self.subjects {
                if collide(subject, &format!("{prefix}.{subject}")) {
                    return Err(error::STREAM_EXTERNAL_DEL_PREFIX_OVERLAPS.with(&[prefix, subject]));
                }
            }
        }
        for prefix in &self.api {
            if !is_prefix(prefix) {
                return Err(invalid(format_args!(
                    "stream external api prefix {prefix:?} must be a valid subject without wildcards"
                )));
            }
            if collide(prefix, API) {
                return Err(error::STREAM_EXTERNAL_API_OVERLAP.with(&[prefix, &API]));
            }
        }
        Ok(())
    }
}

fn is_prefix(text: &str) -> bool {
    Filter::new(text.as_bytes()).is_ok_and(Filter::is_literal)
}

/// Begins the subjects of the API.
const API: &str = "$JS.API";

/// Checks what is copied; whether a mirror gives messages directly is its origin's to say.
pub(super) fn check(config: &mut StreamConfig, pedantic: bool, find: Find<'_>) -> Result<(), ApiError> {
    let mut elsewhere = Elsewhere::default();
    check_mirror(config, pedantic, find, &mut elsewhere)?;
    check_sources(config, find, &mut elsewhere)?;
    elsewhere.check()?;
    check_cycles(config, find)
}

fn is_smaller(config: &StreamConfig, origin: &StreamConfig) -> bool {
    config.max_msg_size > 0 && origin.max_msg_size > 0 && config.max_msg_size < origin.max_msg_size
}

fn check_mirror(
    config: &mut StreamConfig,
    pedantic: bool,
    find: Find<'_>,
    elsewhere: &mut Elsewhere,
) -> Result<(), ApiError> {
    let Some(mirror) = config.mirror.clone() else { return Ok(()) };
    deny(config.first_seq > 0, error::MIRROR_WITH_FIRST_SEQ)?;
    deny(!config.subjects.is_empty(), error::MIRROR_WITH_SUBJECTS)?;
    deny(!config.sources.is_empty(), error::MIRROR_WITH_SOURCES)?;
    deny(config.allow_msg_counter, error::MIRROR_WITH_COUNTERS)?;
    deny(config.allow_atomic, error::MIRROR_WITH_ATOMIC_PUBLISH)?;
    deny(config.allow_batched, error::MIRROR_WITH_BATCH_PUBLISH)?;
    deny(config.allow_msg_schedules, error::MIRROR_WITH_MSG_SCHEDULES)?;
    deny(mirror.has_bad_consumer(), error::MIRROR_DURABLE_CONSUMER_CFG_INVALID)?;
    let transforms = &mirror.subject_transforms;
    deny(
        !mirror.filter_subject.is_empty() && !transforms.is_empty(),
        error::MIRROR_MULTIPLE_FILTERS_NOT_ALLOWED,
    )?;
    refuse(config.subject_delete_marker_ttl > 0, "subject delete markers forbidden on mirrors")?;
    for (at, transform) in transforms.iter().enumerate() {
        transform.check(error::MIRROR_INVALID_SUBJECT_FILTER, error::MIRROR_INVALID_TRANSFORM_DESTINATION)?;
        let others = transforms.iter().enumerate().filter(|(other, _)| *other != at);
        for (_, other) in others {
            deny(collide(&transform.src, &other.src), error::MIRROR_OVERLAPPING_SUBJECT_FILTERS)?;
        }
    }
    if let Some(external) = &mirror.external {
        elsewhere.add(external);
        return Ok(());
    }
    deny(!is_name(&mirror.name), error::MIRROR_INVALID_STREAM_NAME)?;
    let Some(origin) = find(&mirror.name) else { return Ok(()) };
    deny(is_smaller(config, &origin), error::MIRROR_MAX_MESSAGE_SIZE_TOO_BIG)?;
    if pedantic && config.mirror_direct != origin.allow_direct {
        return Err(error::PEDANTIC.with(&[&"origin stream has direct get set, mirror has it disabled"]));
    }
    config.mirror_direct = origin.allow_direct;
    elsewhere.subjects.extend(origin.subjects);
    Ok(())
}

fn check_sources(config: &StreamConfig, find: Find<'_>, elsewhere: &mut Elsewhere) -> Result<(), ApiError> {
    deny(!config.sources.is_empty() && config.allow_msg_schedules, error::SOURCE_WITH_MSG_SCHEDULES)?;
    let (mut indices, mut consumers) = (BTreeSet::new(), BTreeSet::new());
    for source in &config.sources {
        deny(!is_name(&source.name), error::SOURCE_INVALID_STREAM_NAME)?;
        deny(!indices.insert(source.index()), error::SOURCE_DUPLICATE_DETECTED)?;
        let transforms = &source.subject_transforms;
        deny(
            !source.filter_subject.is_empty() && !transforms.is_empty(),
            error::SOURCE_MULTIPLE_FILTERS_NOT_ALLOWED,
        )?;
        for transform in transforms {
            transform
                .check(error::SOURCE_INVALID_SUBJECT_FILTER, error::SOURCE_INVALID_TRANSFORM_DESTINATION)?;
        }
        let filters: Vec<_> = transforms.iter().map(|it| Filter::new(it.src.as_bytes())).collect();
        let overlap = filters.iter().enumerate().any(|(at, one)| {
            filters.iter().enumerate().any(|(other_at, other)| {
                at != other_at && matches!((one, other), (Ok(one), Ok(other)) if one.is_subset_of(*other))
            })
        });
        deny(overlap, error::SOURCE_OVERLAPPING_SUBJECT_FILTERS)?;
        deny(source.has_bad_consumer(), error::SOURCE_DURABLE_CONSUMER_CFG_INVALID)?;
        if let Some(consumer) = &source.consumer {
            let name = format!("{} {}", source.origin(false), consumer.name);
            deny(!consumers.insert(name), error::SOURCE_DURABLE_CONSUMER_DUPLICATE_DETECTED)?;
        }
        if let Some(external) = &source.external {
            elsewhere.add(external);
        } else if let Some(origin) = find(&source.name) {
            deny(is_smaller(config, &origin), error::SOURCE_MAX_MESSAGE_SIZE_TOO_BIG)?;
            elsewhere.subjects.extend(origin.subjects);
        }
    }
    Ok(())
}

/// Filters of mirrors and sources are looked at last, as in nats-server.
pub(crate) fn check_source_filters(config: &StreamConfig) -> Result<(), ApiError> {
    let wrong = |filter: &&str| !filter.is_empty() && Filter::new(filter.as_bytes()).is_err();
    let mirror = config.mirror.as_ref().map(|mirror| mirror.filter_subject.as_str());
    if let Some(filter) = mirror.filter(wrong) {
        let why = format!("subject filter '{filter}' for the mirror invalid subject");
        return Err(error::STREAM_CREATE.with(&[&why]));
    }
    let mut filters = config.sources.iter().map(|source| source.filter_subject.as_str());
    if let Some(filter) = filters.find(wrong) {
        let why = format!("subject filter '{filter}' for the source: invalid subject");
        return Err(error::STREAM_CREATE.with(&[&why]));
    }
    Ok(())
}

/// A stream that would get back what it gave is refused. So is one that has a stream and that stream's mirror as sources:
/// those that are near are looked at first, as in nats-server.
fn check_cycles(config: &StreamConfig, find: Find<'_>) -> Result<(), ApiError> {
    let cycle = || Err(invalid("detected cycle"));
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    let mut next = VecDeque::from([config.clone()]);
    while let Some(config) = next.pop_front() {
        if seen.insert(config.name.clone(), ()).is_some() {
            continue;
        }
        for source in config.sources.iter().filter(|source| source.external.is_none()) {
            if !seen.contains_key(&source.name) {
                next.extend(find(&source.name));
            } else if source.filter_subject.is_empty()
                || config.subjects.iter().any(|subject| collide(subject, &source.filter_subject))
            {
                return cycle();
            }
        }
        if let Some(mirror) = config.mirror.as_ref().filter(|mirror| mirror.external.is_none()) {
            if seen.contains_key(&mirror.name) {
                return cycle();
            }
            next.extend(find(&mirror.name));
        }
    }
    Ok(())
}

pub(super) fn check_transform(config: &StreamConfig) -> Result<(), ApiError> {
    match &config.subject_transform {
        Some(transform) => transform
            .check(error::STREAM_TRANSFORM_INVALID_SOURCE, error::STREAM_TRANSFORM_INVALID_DESTINATION),
        None => Ok(()),
    }
}

/// In an update, no destination is any, as in nats-server.
pub(super) fn settle_republish_again(config: &mut StreamConfig) -> Result<(), ApiError> {
    let Some(republish) = config.republish.as_mut().filter(|it| it.dest.is_empty()) else { return Ok(()) };
    ">".clone_into(&mut republish.dest);
    Single::new(&republish.src, &republish.dest).map(drop).map_err(|_| {
        let (src, dest) = (&republish.src, &republish.dest);
        let why = format!("stream configuration for republish from '{src}' to '{dest}': invalid subject");
        error::STREAM_UPDATE.with(&[&why])
    })
}

pub(super) fn settle_republish(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let Some(republish) = &mut config.republish else { return Ok(()) };
    if republish.src.is_empty() {
        if pedantic {
            return Err(error::PEDANTIC.with(&[&"republish source can not be empty"]));
        }
        republish.src = ">".to_owned();
    }
    // From everything to everything is a cycle, unless the stream's only subject becomes another.
    if let (">", ">", Some(transform), [only]) =
        (&*republish.src, &*republish.dest, &config.subject_transform, &config.subjects[..])
        && transform.src == *only
    {
        if pedantic {
            return Err(error::PEDANTIC.with(&[&"implicit republish based on subject transform"]));
        }
        republish.src.clone_from(&transform.dest);
        republish.dest.clone_from(&transform.dest);
    }
    let cycle = config.subjects.iter().any(|subject| collide(&republish.dest, subject));
    refuse(cycle, "stream configuration for republish destination forms a cycle")?;
    Single::new(&republish.src, &republish.dest).map(drop).map_err(|_| {
        invalid(format_args!(
            "stream configuration for republish with transform from '{}' to '{}' not valid",
            republish.src, republish.dest
        ))
    })
}
