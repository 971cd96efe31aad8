//! Messages that make others: at a time, or again and again.
//!
//! ```text
//!   subject `plans.a`, Nats-Schedule: @every 5s, Nats-Schedule-Target: orders.a      stays, one for each subject
//!        └── 5 s ──> a message on `orders.a`, Nats-Scheduler: plans.a, Nats-Schedule-Next: …
//! ```
//!
//! Source: nats-server's ADR-51, `scheduler.go`, and `stream.go` (`processJetStreamMsg`).

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::tz::TimeZone;
use midge_protocol::subject::{Filter, is_literal};

use super::Stream;
use super::ingest::{Arriving, Origin, Passed, Refusal};
use super::purge::PurgeRequest;
use super::ttl::MessageTtl;
use crate::config::overlaps;
use crate::cron;
use crate::cx::Cx;
use crate::engine::Zone;
use crate::error;
use crate::headers;
use crate::log::{Filters, LogError};
use crate::time::{Instant, Nanos, Now, SECOND, duration, parse_go_duration, parse_rfc3339, rfc3339};

/// What ends a schedule.
const PURGE: &str = "purge";
/// Messages that are made in one go.
const AT_ONCE: usize = 1000;
/// Least time from a change to the look for what is due, and between two of them. Source: nats-server's `resetTimer`.
const PAUSE: Duration = Duration::from_millis(250);

/// Schedules, the first that is due in front.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    due: BTreeSet<(Nanos, u64)>,
    by_subject: HashMap<Box<[u8]>, (Nanos, u64)>,
    /// When to look for what is due.
    look_at: Option<Instant>,
}

impl Schedules {
    fn set(&mut self, subject: &[u8], at: Nanos, seq: u64) {
        self.forget(subject);
        self.due.insert((at, seq));
        self.by_subject.insert(subject.into(), (at, seq));
    }

    fn forget(&mut self, subject: &[u8]) {
        if let Some(was) = self.by_subject.remove(subject) {
            self.due.remove(&was);
        }
    }

    /// Looks for what is due once the first is, unless it looks earlier.
    fn look_later(&mut self, now: Now) {
        let Some((at, _)) = self.due.first() else { return };
        let at = now.mono + duration(at.saturating_sub(now.wall)).max(PAUSE);
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }
}

/// When a message's schedule is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    at: Nanos,
    again: bool,
}

/// Reads a schedule. `from` is when it was due last, or made. `None` if it isn't one.
fn read(pattern: &str, zone: Option<&TimeZone>, from: Nanos, now: Nanos) -> Option<Due> {
    let again = |at| Some(Due { at, again: true });
    if let Some(time) = pattern.strip_prefix("@at ") {
        let at = parse_rfc3339(time).filter(|_| zone.is_none())?;
        return Some(Due { at, again: false });
    }
    let round = |time: Nanos| (time + SECOND / 2).div_euclid(SECOND) * SECOND;
    if let Some(every) = pattern.strip_prefix("@every ") {
        let every = parse_go_duration(every).filter(|every| *every >= SECOND && zone.is_none())?;
        let next = round(from).saturating_add(every);
        // One that was missed is made once.
        return again(if next < now { round(now).saturating_add(every) } else { next });
    }
    let pattern = match pattern {
        "@yearly" | "@annually" => "0 0 0 1 1 *",
        "@monthly" => "0 0 0 1 * *",
        "@weekly" => "0 0 0 * * 0",
        "@daily" | "@midnight" => "0 0 0 * * *",
        "@hourly" => "0 0 * * * *",
        other => other,
    };
    let zone = zone.cloned().unwrap_or(TimeZone::UTC);
    let next = cron::next(pattern, &zone, from)?;
    again(if next < now { cron::next(pattern, &zone, round(now))? } else { next })
}

/// The schedule of a header block, if it has one.
fn schedule_of(header: &[u8], from: Nanos, now: Nanos, zones: Zone) -> Result<Option<Due>, error::Row> {
    if header.is_empty() {
        return Ok(None);
    }
    let zone = match headers::raw(header, headers::SCHEDULE_TIME_ZONE) {
        None => None,
        Some(name) => {
            let zone = std::str::from_utf8(name).ok().filter(|name| !name.is_empty()).and_then(zones);
            Some(zone.ok_or(error::MESSAGE_SCHEDULES_TIME_ZONE_INVALID)?)
        }
    };
    let Some(pattern) = headers::get(header, headers::SCHEDULE) else { return Ok(None) };
    let pattern = std::str::from_utf8(pattern).map_err(|_| error::MESSAGE_SCHEDULES_PATTERN_INVALID)?;
    read(pattern, zone.as_ref(), from, now).map(Some).ok_or(error::MESSAGE_SCHEDULES_PATTERN_INVALID)
}

/// Whether a message's schedule is one.
pub(super) fn schedule_valid(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    if arriving.is_own() || arriving.header.is_empty() {
        return Ok(());
    }
    let allowed = stream.config.allow_msg_schedules;
    match schedule_of(&arriving.header, arriving.now, arriving.now, arriving.zones) {
        Ok(None) => return Ok(()),
        Err(_) | Ok(Some(_)) if !allowed => return Err(error::MESSAGE_SCHEDULES_DISABLED.into()),
        Err(row) => return Err(row.into()),
        Ok(Some(_)) => {}
    }
    arriving.scheduled = true;
    let text = |name| headers::text(&arriving.header, name);
    let ttl = text(headers::SCHEDULE_TTL);
    if ttl.is_some_and(|ttl| MessageTtl::read(ttl).is_none()) {
        return Err(error::MESSAGE_SCHEDULES_TTL_INVALID.into());
    }
    if text(headers::SCHEDULE_ROLLUP).is_some_and(|rollup| rollup != "sub") {
        return Err(error::MESSAGE_SCHEDULES_ROLLUP_INVALID.into());
    }
    if ttl.is_some() && !stream.config.allow_msg_ttl {
        return Err(error::MESSAGE_TTL_DISABLED.into());
    }
    let ours = |subject: &str| {
        Filter::new(subject.as_bytes()).is_ok_and(|subject| {
            let subjects: Vec<&str> = stream.config.subjects.iter().map(String::as_str).collect();
            overlaps(subject, &subjects)
        })
    };
    let other = |subject: &str| is_literal(subject.as_bytes()) && subject.as_bytes() != &*arriving.subject;
    let target = text(headers::SCHEDULE_TARGET).filter(|target| other(target));
    let Some(target) = target else { return Err(error::MESSAGE_SCHEDULES_TARGET_INVALID.into()) };
    let source = text(headers::SCHEDULE_SOURCE);
    if source.is_some_and(|source| source == target || !other(source)) {
        return Err(error::MESSAGE_SCHEDULES_SOURCE_INVALID.into());
    }
    if !ours(target) {
        return Err(error::MESSAGE_SCHEDULES_TARGET_INVALID.into());
    }
    if source.is_some_and(|source| !ours(source)) {
        return Err(error::MESSAGE_SCHEDULES_SOURCE_INVALID.into());
    }
    match text(headers::ROLLUP) {
        None => arriving.header = Cow::Owned(headers::with(&arriving.header, headers::ROLLUP, "sub")),
        Some("sub") => {}
        Some(_) => return Err(error::MESSAGE_SCHEDULES_ROLLUP_INVALID.into()),
    }
    Ok(())
}

/// Clients may end a schedule, and say nothing else that only schedules say. `is_schedule` tells what is known of a subject
/// that is not stored yet.
pub(super) fn scheduler_valid(stream: &Stream, arriving: &mut Arriving<'_>) -> Result<(), Refusal> {
    scheduler_valid_among(stream, arriving, &|_| None)
}

pub(super) fn scheduler_valid_among(
    stream: &Stream,
    arriving: &Arriving<'_>,
    is_schedule: &dyn Fn(&[u8]) -> Option<bool>,
) -> Result<(), Refusal> {
    if arriving.is_own() {
        return Ok(());
    }
    let wrong = || Err(error::MESSAGE_SCHEDULES_SCHEDULER_INVALID.into());
    let scheduler = headers::get(&arriving.header, headers::SCHEDULER);
    match headers::get(&arriving.header, headers::SCHEDULE_NEXT) {
        None if scheduler.is_some() => return wrong(),
        None => return Ok(()),
        Some(next) if next != PURGE.as_bytes() => return wrong(),
        Some(_) => {}
    }
    let Some(scheduler) = scheduler.filter(|it| is_literal(it) && **it != *arriving.subject) else {
        return wrong();
    };
    if !stream.config.allow_msg_schedules {
        return Err(error::MESSAGE_SCHEDULES_DISABLED.into());
    }
    let stored = || {
        let seq = stream.log.last_of(scheduler)?;
        let message = stream.log.get(seq).ok().flatten()?;
        Some(headers::get(message.header(), headers::SCHEDULE).is_some())
    };
    if is_schedule(scheduler).or_else(stored) == Some(false) { wrong() } else { Ok(()) }
}

/// The schedule that a message ends.
pub(super) fn ended_by(header: &[u8]) -> Option<&str> {
    let next = headers::get(header, headers::SCHEDULE_NEXT)?;
    headers::text(header, headers::SCHEDULER).filter(|_| next == PURGE.as_bytes())
}

impl Stream {
    /// A message was stored: it may be a schedule, or made by one.
    pub(super) fn note_schedule(
        &mut self,
        subject: &[u8],
        header: &[u8],
        seq: u64,
        time: Nanos,
        cx: &Cx<'_>,
    ) {
        if !self.config.allow_msg_schedules {
            return;
        }
        match schedule_of(header, time, cx.now.wall, cx.zones) {
            Ok(Some(due)) => self.schedules.set(subject, due.at, seq),
            _ => self.schedules.forget(subject),
        }
        let next = headers::text(header, headers::SCHEDULE_NEXT).and_then(parse_rfc3339);
        if let (Some(at), Some(scheduler)) = (next, headers::get(header, headers::SCHEDULER))
            && let Some((_, seq)) = self.schedules.by_subject.get(scheduler).copied()
        {
            self.schedules.set(scheduler, at, seq);
        }
        self.schedules.look_later(cx.now);
    }

    /// Finds schedules again.
    pub(crate) fn rebuild_schedules(&mut self, cx: &Cx<'_>) {
        let mut from = 0;
        while self.config.allow_msg_schedules
            && let Some(seq) = self.log.next(from, &Filters::all())
        {
            if let Ok(Some(message)) = self.log.get(seq) {
                self.note_schedule(message.subject(), message.header(), seq, message.time, cx);
            }
            from = seq + 1;
        }
    }

    /// The clock says something else.
    pub(super) fn look_for_schedules(&mut self, cx: &Cx<'_>) {
        self.schedules.look_at = None;
        self.schedules.look_later(cx.now);
    }

    pub(super) fn next_schedule(&self) -> Option<Instant> {
        self.schedules.look_at
    }

    /// Makes the messages that are due.
    pub(super) fn run_schedules(&mut self, cx: &mut Cx<'_>) -> Result<(), LogError> {
        if self.schedules.look_at.is_none_or(|at| at > cx.now.mono) {
            return Ok(());
        }
        self.schedules.look_at = None;
        for _ in 0..AT_ONCE {
            let Some((at, seq)) = self.schedules.due.first().copied() else { return Ok(()) };
            if at > cx.now.wall {
                self.schedules.look_later(cx.now);
                return Ok(());
            }
            self.schedules.due.remove(&(at, seq));
            self.run_schedule(seq, at, cx)?;
        }
        // The rest in the next turn.
        self.schedules.look_at = Some(cx.now.mono);
        Ok(())
    }

    fn run_schedule(&mut self, seq: u64, at: Nanos, cx: &mut Cx<'_>) -> Result<(), LogError> {
        let Ok(Some(plan)) = self.log.get(seq) else { return Ok(()) };
        let due = schedule_of(plan.header(), at, cx.now.wall, cx.zones).ok().flatten();
        let target = headers::text(plan.header(), headers::SCHEDULE_TARGET);
        let (Some(due), Some(target)) = (due, target) else {
            self.schedules.forget(plan.subject());
            return Ok(());
        };
        let text = |name| headers::text(plan.header(), name);
        let source = text(headers::SCHEDULE_SOURCE).and_then(|source| self.log.last_of(source.as_bytes()));
        let from = source.and_then(|seq| self.log.get(seq).ok().flatten()).unwrap_or_else(|| plan.clone());
        let mut header = headers::without_all(from.header(), "Nats-Schedule");
        header = headers::without_all(&header, "Nats-Expected-");
        for name in [headers::MSG_ID, headers::TTL, headers::ROLLUP] {
            header = headers::without(&header, name);
        }
        header = headers::with(&header, headers::SCHEDULER, &String::from_utf8_lossy(plan.subject()));
        let next = if due.again { rfc3339(due.at) } else { PURGE.to_owned() };
        header = headers::with(&header, headers::SCHEDULE_NEXT, &next);
        for (name, value) in
            [(headers::TTL, text(headers::SCHEDULE_TTL)), (headers::ROLLUP, text(headers::SCHEDULE_ROLLUP))]
        {
            if let Some(value) = value {
                header = headers::with(&header, name, value);
            }
        }
        let payload = from.payload();
        let (subject, header) = (Cow::Borrowed(target.as_bytes()), Cow::Owned(header));
        let subject = match self.renames.input(&subject, cx.random) {
            Some(other) => Cow::Owned(other),
            None => subject,
        };
        let mut arriving = Arriving::new(subject, header, Cow::Borrowed(&payload), Origin::Schedule, cx);
        let stored = match self.pass(&mut arriving, Ok(())) {
            Passed::Yes => match self.admit(&mut arriving, cx) {
                Ok(_) => true,
                Err(error) if error.is_of_all() => return Err(error),
                Err(_) => false,
            },
            Passed::Duplicate(_) | Passed::No(_) => false,
        };
        // What could not be stored is made again the next time, or in a while.
        if !stored {
            let at = if due.again { due.at } else { cx.now.wall + SECOND };
            self.schedules.set(plan.subject(), at, seq);
        }
        Ok(())
    }

    /// Ends the schedule that a message was the last of.
    pub(super) fn end_schedule(&mut self, header: &[u8], cx: &mut Cx<'_>) -> Result<(), LogError> {
        if let Some(scheduler) = ended_by(header) {
            self.schedules.forget(scheduler.as_bytes());
            self.purge(&PurgeRequest { seq: 0, filter: scheduler.to_owned(), keep: 0 }, true, cx)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let at = |pattern, from, now| {
            read(pattern, None, from * SECOND, now * SECOND).map(|due| (due.at / SECOND, due.again))
        };
        assert_eq!(at("@at 1970-01-01T00:01:00Z", 0, 0), Some((60, false)));
        assert_eq!(at("@every 5s", 10, 10), Some((15, true)));
        assert_eq!(at("@every 5s", 10, 100), Some((105, true)), "those that were missed are one");
        assert_eq!(at("@hourly", 10, 10), Some((3600, true)));
        assert_eq!(at("0 0 * * * *", 10, 4000), Some((7200, true)));
        for wrong in ["@every 500ms", "@every x", "@at tomorrow", "@sometimes", "* * *"] {
            assert_eq!(at(wrong, 0, 0), None, "{wrong}");
        }
        assert_eq!(read("@every 5s", Some(&TimeZone::UTC), 0, 0), None, "an interval is the same everywhere");
    }
}
