//! Whether the machine's clock is believed, and who sets it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use midge_config::ClockTrust;
use midge_stream::time::{MILLISECOND, Now, go_duration, rfc3339};
use midge_stream::{ClockState, Engine, Standing};
use tokio::sync::Notify;

use crate::hub::Hub;
use crate::vitals::ClockVital;
use crate::watch::{ClockWatch, Watch};

/// What is known of the clock.
pub(super) struct Clock {
    /// Something has set it.
    synchronised: Arc<AtomicBool>,
    /// How it stood.
    state: ClockState,
}

impl Clock {
    pub(super) fn new(configured: &midge_config::Clock) -> Self {
        let set = set_mark(configured).is_some_and(|mark| mark.exists());
        Self { synchronised: Arc::new(AtomicBool::new(set)), state: ClockState::default() }
    }

    /// Whether something has set it, for who finds out.
    pub(super) fn synchronised(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.synchronised)
    }

    /// The time, after which the engine knows all that there is to know of the clock.
    pub(super) fn now(&self, hub: &Hub, engine: &mut Engine) -> Now {
        engine.set_synchronised(self.synchronised.load(Ordering::Acquire));
        midge_attach::moment(hub.clock.now())
    }

    /// Says whether the clock is believed, if that has changed.
    pub(super) fn tell(&mut self, hub: &Hub, clock: ClockState, wall: i64) {
        let log = &hub.log;
        let was = std::mem::replace(&mut self.state, clock);
        let reason = reason(clock.standing);
        let (ahead, off) = (clock.ahead / MILLISECOND, clock.off / MILLISECOND);
        let trusted = reason.is_none();
        let vital = ClockVital { trusted, reason, stamps_ahead_ms: ahead, jumps: clock.jumps, off_ms: off };
        hub.vitals.set_clock(vital);
        if clock.standing != was.standing {
            match reason {
                Some(reason) => log.warn(format_args!(
                    "clock: it says {}, which is {reason}; messages are stamped from {} on, and get older only while this runs",
                    rfc3339(wall),
                    rfc3339(wall.saturating_add(clock.ahead)),
                )),
                None => log.info(format_args!("clock: it says {}, which is believed", rfc3339(wall))),
            }
        }
        if clock.jumps != was.jumps {
            log.warn(format_args!(
                "clock: it was set ahead, to {}; nothing gets older by that",
                rfc3339(wall)
            ));
        }
        if clock.off != was.off && was.standing != Standing::Trusted {
            log.info(format_args!(
                "clock: this machine was off for {}, which counts",
                go_duration(clock.off)
            ));
        }
    }
}

/// Why the clock isn't believed.
fn reason(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Trusted => None,
        Standing::TooEarly => Some("before the earliest time that can be"),
        Standing::Behind => Some("behind what was stored last"),
        Standing::NotSynchronised => Some("set by nobody yet"),
    }
}

/// The file that is there once the clock is set, if it is believed only then.
fn set_mark(configured: &midge_config::Clock) -> Option<PathBuf> {
    (configured.trust == ClockTrust::Synchronised).then(|| configured.synchronised_file.clone())
}

/// Wakes the thread when the clock is set, or found to have been.
pub(super) fn heed(
    configured: &midge_config::Clock,
    synchronised: Arc<AtomicBool>,
    hub: &Arc<Hub>,
    bell: &Arc<Notify>,
) {
    tokio::spawn(heed_clock(Arc::clone(hub), Arc::clone(bell)));
    if let Some(mark) = set_mark(configured) {
        tokio::spawn(heed_mark(mark, synchronised, Arc::clone(hub), Arc::clone(bell)));
    }
}

/// Wakes the thread when the clock is set: what the calendar says may be due.
async fn heed_clock(hub: Arc<Hub>, bell: Arc<Notify>) {
    let watch = match ClockWatch::new() {
        Ok(watch) => watch,
        Err(error) => {
            return hub.log.warn(format_args!("clock: when it is set isn't noticed at once: {error}"));
        }
    };
    while watch.changed().await.is_ok() {
        bell.notify_one();
    }
}

/// Tells the thread when the file comes that says that the clock was set, or goes.
async fn heed_mark(mark: PathBuf, synchronised: Arc<AtomicBool>, hub: Arc<Hub>, bell: Arc<Notify>) {
    let failed = |error| hub.log.warn(format_args!("clock: {} can't be watched: {error}", mark.display()));
    loop {
        let watch = match Watch::new(&mark) {
            Ok(watch) => watch,
            Err(error) => return failed(error),
        };
        synchronised.store(mark.exists(), Ordering::Release);
        bell.notify_one();
        if let Err(error) = watch.changed().await {
            return failed(error);
        }
    }
}
