//! How much a user may publish in a second.
//!
//! A user who says more isn't closed and loses nothing: nobody reads from its connections until it is within its rate
//! again, so that TCP holds the flood back where it comes from. A second's worth may come at once.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use midge_protocol::op::Message;
use midge_protocol::time::Instant;
use smol_str::SmolStr;

use crate::broker::{Broker, Now};
use crate::conn::{ConnId, Port};

/// Most that a user may publish, over all its connections; `None`: any amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Messages per second.
    pub msgs: Option<NonZeroU32>,
    /// Bytes per second, headers and payload.
    pub bytes: Option<NonZeroU64>,
}

/// The rates of all users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Users with a rate of their own, by name or public key.
    pub users: Vec<(SmolStr, Rate)>,
    /// Everybody else: each user, and each connection without one.
    pub others: Rate,
}

impl Rates {
    /// The rate of `user`; none if it may publish any amount.
    pub(crate) fn of(&self, user: &str) -> Option<Rate> {
        let own = self.users.iter().find(|(name, _)| name == user).map(|(_, rate)| *rate);
        Some(own.unwrap_or(self.others)).filter(|rate| *rate != Rate::default())
    }
}

/// What a user has published lately. Shared by its connections.
#[derive(Clone, Debug)]
pub(crate) struct Meter(Arc<Mutex<Levels>>);

#[derive(Debug)]
struct Levels {
    rate: Rate,
    msgs: Level,
    bytes: Level,
}

impl Meter {
    pub(crate) fn new(rate: Rate) -> Self {
        Self(Arc::new(Mutex::new(Levels { rate, msgs: Level::default(), bytes: Level::default() })))
    }

    /// True while a connection holds it, besides the one who asks.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    pub(crate) fn set_rate(&self, rate: Rate) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rate = rate;
    }

    /// Counts a message of `size` bytes, or says when it may come.
    pub(crate) fn take(&self, size: u32, now: Instant) -> Result<(), Instant> {
        let mut levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Levels { rate, msgs, bytes } = &mut *levels;
        let now = Duration::from_micros(now.as_micros());
        let wait = msgs.wait(now).max(bytes.wait(now));
        if !wait.is_zero() {
            let until = (now + wait).as_nanos().div_ceil(1000);
            return Err(Instant::from_micros(u64::try_from(until).unwrap_or(u64::MAX)));
        }
        msgs.add(1, rate.msgs.map(|rate| u64::from(rate.get())), now);
        bytes.add(size.into(), rate.bytes.map(NonZeroU64::get), now);
        Ok(())
    }
}

impl<P: Port> Broker<P> {
    /// Counts a message that `id` wants to publish, or says when it may.
    pub(crate) fn meter_message(
        &mut self,
        id: ConnId,
        message: &Message<'_>,
        now: Now,
    ) -> Result<(), Instant> {
        let Some(meter) = self.conn(id).and_then(|conn| conn.meter.as_ref()) else { return Ok(()) };
        let taken = meter.take(message.size.value, now.mono);
        self.stats.pauses += u64::from(taken.is_err());
        taken
    }

    /// What `user` has published lately; none if it may publish any amount. Connections without a user have a meter
    /// each.
    pub(crate) fn meter(&mut self, user: &SmolStr) -> Option<Meter> {
        let rate = self.settings.rates.of(user)?;
        if user.is_empty() {
            return Some(Meter::new(rate));
        }
        if self.meters.len() == self.meters.capacity() {
            self.meters.retain(|_, meter| meter.is_shared());
        }
        let meter = self.meters.entry(user.clone()).or_insert_with(|| Meter::new(rate));
        meter.set_rate(rate);
        Some(meter.clone())
    }
}

/// A bucket that holds a second's worth, as the moment at which it will have run empty.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    empty_at: Duration,
}

const BURST: Duration = Duration::from_secs(1);

impl Level {
    /// Time until the bucket isn't full any more.
    fn wait(self, now: Duration) -> Duration {
        self.empty_at.saturating_sub(now + BURST)
    }

    fn add(&mut self, amount: u64, per_second: Option<u64>, now: Duration) {
        if let Some(per_second) = per_second {
            let nanos = u128::from(amount) * 1_000_000_000 / u128::from(per_second.max(1));
            let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.empty_at = self.empty_at.max(now).saturating_add(cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(msgs: u32, bytes: u64) -> Rate {
        Rate { msgs: NonZeroU32::new(msgs), bytes: NonZeroU64::new(bytes) }
    }

    /// Messages of `size` bytes that get through in `seconds` seconds by one who always has more.
    fn through(rate: Rate, size: u32, seconds: u64) -> u64 {
        let (meter, mut now, mut count) = (Meter::new(rate), Instant::from_micros(7_000_000), 0);
        let end = Instant::from_micros(7_000_000 + seconds * 1_000_000);
        while now < end {
            match meter.take(size, now) {
                Ok(()) => count += 1,
                Err(until) => {
                    assert!(until > now, "time goes on");
                    now = until;
                }
            }
        }
        count
    }

    #[test]
    fn a_flood_is_held_to_the_rate() {
        for msgs in [1, 3, 10, 999, 100_000] {
            let got = through(rate(msgs, 0), 0, 10);
            // A second's worth at once, and the one that fills the bucket.
            assert!((10 * u64::from(msgs)..=11 * u64::from(msgs) + 1).contains(&got), "{msgs}: {got}");
        }
        assert!((10..=12).contains(&through(rate(0, 1000), 1000, 10)));
        assert!((10..=12).contains(&through(rate(1_000_000, 1000), 1000, 10)));
    }

    #[test]
    fn a_message_larger_than_a_second_still_comes() {
        assert_eq!(through(rate(0, 10), 1000, 250), 3);
    }

    #[test]
    fn own_rates_come_first() {
        let rates = Rates {
            users: vec![("a".into(), rate(1, 0)), ("b".into(), Rate::default())],
            others: rate(5, 0),
        };
        assert_eq!(rates.of("a"), Some(rate(1, 0)));
        assert_eq!(rates.of("b"), None);
        assert_eq!(rates.of(""), Some(rate(5, 0)));
        assert_eq!(Rates::default().of("a"), None);
    }
}
