//! Which time it is, whatever the machine's clock says.
//!
//! ```text
//!   clock   1970 ........ 2026-11-27 ............ 2031 ... 2026 ......     may be wrong, and jump
//!   stamps  2026-11-26 .. 2026-11-27 ............ 2031 ...............     what messages bear; never go back
//!   age     0 ........... 1 day .................................. ...     what expiry counts; never jumps
//! ```
//!
//! While it runs, time passes as the clock says that never goes back. A wall clock that is believed sets the stamps forward;
//! how far stamps were ahead of the age at which time is kept in [`Span`]s, so that a message's age is known from its stamp. A
//! clock that is not believed is ignored: stamps go on from the last that is known. Nothing is older then than it is, for
//! the time in which the machine was off doesn't count until the clock is believed.

use serde::{Deserialize, Serialize};

use crate::time::{Instant, Nanos, Now, SECOND};

/// Which wall clock is believed, as long as it isn't behind what was stored last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Times before this one, in ns since the Unix epoch, are not.
    pub earliest: Nanos,
    /// It is only once the driver says that something has set it: [`Engine::set_synchronised`](crate::Engine::set_synchronised).
    pub synchronised: bool,
}

/// The first of January 2026: no midge ran before.
pub const EARLIEST: Nanos = 1_767_225_600 * SECOND;

impl Default for Trust {
    fn default() -> Self {
        Self { earliest: EARLIEST, synchronised: false }
    }
}

/// How the clock stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It is believed.
    #[default]
    Trusted,
    /// It is before the earliest time that can be.
    TooEarly,
    /// It is behind what was stored last.
    Behind,
    /// Nothing has set it yet.
    NotSynchronised,
}

/// What there is to tell of the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockState {
    /// Whether it is believed.
    pub standing: Standing,
    /// How far stamps are ahead of it, in ns.
    pub ahead: Nanos,
    /// Times that it was set by more than two seconds while it was believed, and forward.
    pub jumps: u64,
    /// Time that the machine was off before this start, as far as it was counted, in ns.
    pub off: Nanos,
}

/// A clock that is set by less than this is followed, ages included.
const SLACK: Nanos = 2 * SECOND;
/// How old what is kept may get while there are commits, and how much later stamps on the disk may be than what is kept.
const KEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
const KEPT_LATE_MAX: Nanos = 60 * SECOND;
/// How often it is looked whether stamps may go back to the clock.
const RETURN_EVERY: std::time::Duration = std::time::Duration::from_secs(60);
/// Spans that are kept. The oldest are merged.
const SPANS_MAX: usize = 64;

/// Stamps from `from` on are ahead of the age by `ahead`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    from: Nanos,
    ahead: Nanos,
}

/// What survives a restart. The order of members is the format.
#[derive(Serialize, Deserialize)]
struct Kept {
    stamp: Nanos,
    trusted: bool,
    /// [`Calendar::since`].
    since: Option<Nanos>,
    spans: Vec<Span>,
}

/// Which time it is.
#[derive(Debug)]
pub(crate) struct Calendar {
    trust: Trust,
    synchronised: bool,
    begun: bool,
    /// Of the last reading.
    mono: Instant,
    wall: Nanos,
    stamp: Nanos,
    /// In order; the first is from the beginning of time.
    spans: Vec<Span>,
    standing: Standing,
    /// The first stamp since the start, as long as it is not known how long the machine was off.
    since: Option<Nanos>,
    jumps: u64,
    off: Nanos,
    /// Ages, or stamps, are not what they were.
    changed: bool,
    /// What is kept would mislead the next start.
    unsaved: bool,
    saved_at: Option<Instant>,
    return_at: Instant,
}

impl Calendar {
    pub(crate) fn new(trust: Trust) -> Self {
        Self {
            trust,
            synchronised: false,
            begun: false,
            mono: Instant::default(),
            wall: 0,
            stamp: 0,
            spans: vec![Span { from: Nanos::MIN, ahead: 0 }],
            standing: Standing::Trusted,
            since: None,
            jumps: 0,
            off: 0,
            changed: false,
            unsaved: false,
            saved_at: None,
            return_at: Instant::default(),
        }
    }

    /// Goes on where `kept` was written, or, if nothing was, behind `last`, the last stamp on the disk. `lasts` are those of
    /// all streams.
    pub(crate) fn begin(&mut self, kept: Option<&[u8]>, lasts: &[Nanos], now: Now) {
        let kept = kept.and_then(|kept| postcard::from_bytes::<Kept>(kept).ok());
        let kept = kept.filter(|kept| !kept.spans.is_empty());
        self.begun = true;
        (self.mono, self.wall, self.return_at) = (now.mono, now.wall, now.mono);
        // Later ones are of other machines.
        let last =
            |until: Nanos| lasts.iter().copied().filter(|last| *last <= until).max().unwrap_or(Nanos::MIN);
        match kept {
            Some(kept) => {
                let late = last(kept.stamp.saturating_add(KEPT_LATE_MAX));
                self.stamp = kept.stamp.max(late).saturating_add(1);
                self.spans = kept.spans;
                self.since = if kept.trusted { Some(self.stamp) } else { kept.since };
                self.standing = Standing::Behind;
            }
            None if self.doubt(now.wall).is_none() => self.stamp = now.wall,
            None => {
                let last = last(Nanos::MAX);
                self.stamp = now.wall.max(last).max(self.trust.earliest);
                self.since = (last == self.stamp).then_some(self.stamp);
                self.standing = Standing::Behind;
            }
        }
        self.read(now);
        self.changed = false;
    }

    /// Something has set the clock, or it is not known any more.
    pub(crate) fn set_synchronised(&mut self, synchronised: bool) {
        self.synchronised = synchronised;
    }

    /// The time of a turn: what the clocks say becomes what is stamped.
    pub(crate) fn read(&mut self, now: Now) -> Now {
        if !self.begun {
            (self.mono, self.wall, self.stamp) = (now.mono, now.wall, now.wall);
            return now;
        }
        let elapsed = Nanos::try_from(now.mono.since(self.mono).as_nanos()).unwrap_or(Nanos::MAX);
        let stamp = self.stamp.saturating_add(elapsed);
        (self.mono, self.wall) = (self.mono.max(now.mono), now.wall);
        let drift = now.wall.saturating_sub(stamp);
        let doubt = self.doubt(now.wall).or((drift < -SLACK).then_some(Standing::Behind));
        self.stamp = match doubt {
            Some(standing) => {
                self.standing = standing;
                stamp
            }
            None if drift <= SLACK => {
                self.believe();
                self.stamp.max(now.wall)
            }
            None => {
                match self.since {
                    Some(since) => self.count_off(since, stamp, now.wall),
                    None => self.jump(drift, now.wall),
                }
                self.believe();
                now.wall
            }
        };
        Now { mono: now.mono, wall: self.stamp }
    }

    /// Why a wall clock can't be believed, whatever is stored.
    fn doubt(&self, wall: Nanos) -> Option<Standing> {
        if wall < self.trust.earliest {
            Some(Standing::TooEarly)
        } else if self.trust.synchronised && !self.synchronised {
            Some(Standing::NotSynchronised)
        } else {
            None
        }
    }

    fn believe(&mut self) {
        if self.standing != Standing::Trusted || self.since.is_some() {
            (self.standing, self.since, self.changed) = (Standing::Trusted, None, true);
            // The next commit says so.
            self.saved_at = None;
        }
    }

    /// The clock went ahead, nobody knows why: nothing gets older by it.
    fn jump(&mut self, by: Nanos, to: Nanos) {
        let ahead = self.last_span().ahead.saturating_add(by);
        self.push_span(Span { from: to, ahead });
        self.jumps += 1;
        (self.unsaved, self.changed) = (true, true);
    }

    /// The machine was off from before `since` until then, and it is known only now how long: all before has got older.
    fn count_off(&mut self, since: Nanos, stamp: Nanos, wall: Nanos) {
        let ahead = self.last_span().ahead;
        let off = wall - stamp;
        if since < stamp {
            self.push_span(Span { from: since, ahead: ahead.saturating_sub(off) });
            self.push_span(Span { from: wall, ahead });
            self.unsaved = true;
        }
        (self.off, self.changed) = (off, true);
    }

    /// When stamps that are ahead of a clock that is believed may look for a way back: no message may bear a later one than
    /// the clock says. At most once a minute.
    pub(crate) fn wants_back(&mut self) -> Option<Nanos> {
        let wants = self.begun && self.standing == Standing::Behind && self.mono >= self.return_at;
        if wants {
            self.return_at = self.mono + RETURN_EVERY;
        }
        wants.then_some(self.wall)
    }

    /// Stamps go back to the clock. Nothing bears a later one.
    pub(crate) fn go_back(&mut self) -> Now {
        let (age, wall) = (self.age(), self.wall);
        self.spans.retain(|span| span.from < wall);
        self.push_span(Span { from: wall, ahead: wall.saturating_sub(age) });
        self.stamp = wall;
        self.unsaved = true;
        self.believe();
        Now { mono: self.mono, wall }
    }

    fn last_span(&self) -> Span {
        self.spans.last().copied().unwrap_or(Span { from: Nanos::MIN, ahead: 0 })
    }

    fn push_span(&mut self, span: Span) {
        if self.spans.len() >= SPANS_MAX {
            // What is merged is taken for the younger of both.
            let ahead = self.spans.iter().take(2).map(|span| span.ahead).min().unwrap_or(0);
            self.spans.remove(1);
            self.spans[0].ahead = ahead;
        }
        self.spans.push(span);
    }

    /// The age of now.
    pub(crate) fn age(&self) -> Nanos {
        self.stamp.saturating_sub(self.last_span().ahead)
    }

    /// The age at which a stamp was given.
    pub(crate) fn age_of(&self, stamp: Nanos) -> Nanos {
        let after = self.spans.partition_point(|span| span.from <= stamp);
        let span = after.checked_sub(1).and_then(|at| self.spans.get(at));
        stamp.saturating_sub(span.map_or(0, |span| span.ahead))
    }

    /// The first stamp that was given at an age, or later.
    pub(crate) fn stamp_of(&self, age: Nanos) -> Nanos {
        let mut next = Nanos::MAX;
        for span in self.spans.iter().rev() {
            if span.from.saturating_sub(span.ahead) <= age {
                return age.saturating_add(span.ahead).min(next);
            }
            next = span.from;
        }
        next
    }

    /// From which stamps on they are ahead of ages, and by how much, in order.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (Nanos, Nanos)> {
        self.spans.iter().map(|span| (span.from, span.ahead))
    }

    /// The moment of an age, for timers.
    pub(crate) fn moment(&self, age: Nanos) -> Instant {
        self.mono + crate::time::duration(age.saturating_sub(self.age()))
    }

    /// True once after ages or stamps became others than time alone makes them.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What is kept is wrong, not only old.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// What is to be kept with a commit that there is anyway; `at_once`: however little it differs from what is kept.
    pub(crate) fn to_keep(&self, at_once: bool) -> Option<Vec<u8>> {
        let old = at_once || self.saved_at.is_none_or(|at| self.mono >= at + KEEP_EVERY);
        if !self.begun || !(self.unsaved || old) {
            return None;
        }
        let (stamp, trusted) = (self.stamp, self.standing == Standing::Trusted);
        let kept = Kept { stamp, trusted, since: self.since, spans: self.spans.clone() };
        // Writing to memory doesn't fail.
        Some(postcard::to_allocvec(&kept).unwrap_or_default())
    }

    /// It is kept.
    pub(crate) fn saved(&mut self) {
        (self.unsaved, self.saved_at) = (false, Some(self.mono));
    }

    /// What was kept is lost.
    pub(crate) fn lost(&mut self) {
        self.saved_at = None;
    }

    pub(crate) fn state(&self) -> ClockState {
        let ahead = self.stamp.saturating_sub(self.wall);
        ClockState { standing: self.standing, ahead, jumps: self.jumps, off: self.off }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(seconds: i64, wall: Nanos) -> Now {
        let micros = u64::try_from(seconds).unwrap_or(0) * 1_000_000;
        Now { mono: Instant::from_micros(micros), wall }
    }

    #[test]
    fn stamps_and_ages_are_each_others() {
        let mut calendar = Calendar::new(Trust::default());
        calendar.begin(None, &[], now(0, EARLIEST));
        let kept = calendar.to_keep(true).unwrap();
        // Off, and on again without a clock for 100 s; then it is told that an hour has passed, and then another year.
        let mut calendar = Calendar::new(Trust::default());
        calendar.begin(Some(&kept), &[EARLIEST - SECOND], now(0, 5 * SECOND));
        let between = calendar.read(now(50, 55 * SECOND)).wall;
        assert_eq!((between - 1 - EARLIEST, calendar.age()), (50 * SECOND, between));
        let hour = calendar.read(now(100, EARLIEST + 3600 * SECOND)).wall;
        assert_eq!((hour, calendar.age()), (EARLIEST + 3600 * SECOND, EARLIEST + 3600 * SECOND));
        assert_eq!(calendar.age_of(EARLIEST), EARLIEST);
        assert_eq!(calendar.age_of(between), EARLIEST + 3550 * SECOND, "50 s ago");
        let year = calendar.read(now(110, EARLIEST + 31_536_000 * SECOND)).wall;
        assert_eq!(calendar.age(), EARLIEST + 3610 * SECOND, "10 s later");
        for stamp in [EARLIEST, between, hour, year] {
            assert_eq!(calendar.stamp_of(calendar.age_of(stamp)), stamp);
        }
        let off = calendar.stamp_of(EARLIEST + 1000 * SECOND);
        assert_eq!(
            (off - EARLIEST) / SECOND,
            0,
            "nothing was stamped while it was off: what came next is later"
        );
        assert_eq!((calendar.state().jumps, (calendar.state().off + 1) / SECOND), (1, 3500));
    }

    #[test]
    fn spans_have_an_end() {
        let mut calendar = Calendar::new(Trust::default());
        calendar.begin(None, &[], now(0, EARLIEST));
        let mut ages = Vec::new();
        for n in 1..200 {
            let at = calendar.read(now(n, EARLIEST + n * 3600 * SECOND));
            ages.push((at.wall, calendar.age()));
        }
        assert_eq!(calendar.spans().count(), SPANS_MAX);
        for (stamp, age) in ages {
            assert!(calendar.age_of(stamp) >= age, "never taken for older");
        }
        assert_eq!(calendar.age(), EARLIEST + 199 * SECOND);
    }
}
