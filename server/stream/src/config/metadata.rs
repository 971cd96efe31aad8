//! What the server notes in the metadata of streams and consumers: which API they need, and which one it has.
//!
//! Source: nats-server's `jetstream_versioning.go`.

use std::collections::BTreeMap;

use super::{AckPolicy, ConsumerConfig, PersistMode, PriorityPolicy, StreamConfig};

/// The API level that midge serves.
pub const API_LEVEL: u64 = 5;
/// The nats-server version that it follows.
pub const NATS_VERSION: &str = "2.15.1";

const REQUIRED: &str = "_nats.req.level";
const VERSION: &str = "_nats.ver";
const LEVEL: &str = "_nats.level";

type Metadata = BTreeMap<String, String>;

/// Notes which level a stream needs, and takes out what only answers have.
pub fn stamp_stream(config: &mut StreamConfig) {
    let mut level = 0;
    if config.allow_msg_ttl || config.subject_delete_marker_ttl > 0 {
        level = 1;
    }
    if config.allow_msg_counter
        || config.allow_atomic
        || config.allow_msg_schedules
        || config.persist_mode == PersistMode::Async
    {
        level = 2;
    }
    if config.allow_batched {
        level = 4;
    }
    stamp(&mut config.metadata, level);
}

/// Notes which level a consumer needs, and takes out what only answers have.
pub fn stamp_consumer(config: &mut ConsumerConfig) {
    let mut level = 0;
    if config.pause_until.is_some_and(|at| at != 0)
        || config.priority_policy != PriorityPolicy::None
        || config.priority_timeout != 0
        || !config.priority_groups.is_empty()
    {
        level = 1;
    }
    if config.ack_policy == AckPolicy::FlowControl {
        level = 4;
    }
    stamp(&mut config.metadata, level);
}

fn stamp(metadata: &mut Metadata, level: u64) {
    metadata.remove(VERSION);
    metadata.remove(LEVEL);
    metadata.insert(REQUIRED.to_owned(), level.to_string());
}

/// With what answers have besides.
pub fn with_server(metadata: &Metadata) -> Metadata {
    let mut metadata = metadata.clone();
    metadata.insert(VERSION.to_owned(), NATS_VERSION.to_owned());
    metadata.insert(LEVEL.to_owned(), API_LEVEL.to_string());
    metadata
}
