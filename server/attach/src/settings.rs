//! From the configuration's words to the engine's settings.

use midge_config::{BatchLimits, ClockTrust, JetStreamLimits, Options};
use midge_stream::config::{self, Limits};
use midge_stream::time::SECOND;
use midge_stream::{EARLIEST, SYNC_EVERY, Settings, Sync, Trust};

/// What the configuration says to the engine. Names that nobody chooses are made of the seed.
pub fn settings(options: &Options, server_name: &str, seed: u64) -> Settings {
    let jetstream = &options.jetstream;
    let (sync, sync_every) = match jetstream.sync {
        Some(midge_config::Sync::Every(every)) if !every.is_zero() => (Sync::Interval, every),
        _ => (Sync::Always, SYNC_EVERY),
    };
    Settings {
        domain: jetstream.domain.clone(),
        strict: jetstream.strict,
        memory_bytes_max: jetstream.memory_bytes_max,
        file_bytes_max: jetstream.file_bytes_max,
        limits: limits(&jetstream.limits),
        long_acks: jetstream.long_acks,
        server_name: server_name.to_owned(),
        seed,
        zones: |name| jiff::tz::TimeZone::get(name).ok(),
        trust: trust(options.clock.trust),
        sync,
        sync_every,
    }
}

fn limits(asked: &JetStreamLimits) -> Limits {
    let count = |asked: u64| i64::try_from(asked).unwrap_or(i64::MAX);
    let default = Limits::default();
    let BatchLimits { per_stream_max, total_max, messages_max, timeout } = asked.batch;
    Limits {
        duplicate_window: asked
            .duplicate_window_max
            .map_or(0, |window| i64::try_from(window.as_nanos()).unwrap_or(i64::MAX)),
        max_ack_pending: count(asked.ack_pending_max),
        max_request_batch: count(asked.request_batch_max),
        default_max_consumers: match asked.consumers_default {
            0 => default.default_max_consumers,
            asked => count(asked),
        },
        batches: config::BatchLimits::of(per_stream_max, total_max, messages_max, timeout),
    }
}

/// Which wall clock is believed.
fn trust(configured: ClockTrust) -> Trust {
    match configured {
        ClockTrust::Auto => Trust::default(),
        ClockTrust::Always => Trust { earliest: i64::MIN, synchronised: false },
        ClockTrust::Synchronised => Trust { earliest: EARLIEST, synchronised: true },
        ClockTrust::NotBefore(seconds) => {
            let earliest = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(SECOND);
            Trust { earliest, synchronised: false }
        }
    }
}
