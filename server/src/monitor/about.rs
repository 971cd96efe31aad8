//! What the daemon was told and when, for those who ask.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use midge_broker::ServerInfo;
use midge_config::Options;

use super::http::Requests;
use super::process::{self, CpuMeter};
use crate::memory;
use crate::net::Keeper;

/// The options in force and the server's names.
pub(crate) struct About {
    /// Since the Unix epoch.
    pub(crate) start: Duration,
    /// Threads that serve connections.
    pub(crate) threads: usize,
    /// The certificates in force.
    pub(crate) tls: Arc<Keeper>,
    /// The certificates of WebSocket, and its port.
    pub(super) websocket: (Arc<Keeper>, u16),
    /// The monitoring port, and whether it is encrypted, if there is one.
    pub(super) port: Option<(u16, bool)>,
    pub(super) requests: Requests,
    pub(super) cpu: CpuMeter,
    /// What streams are shown to have where no ceiling is configured.
    pub(super) room: Room,
    state: RwLock<State>,
}

/// Three quarters of the machine's memory, and of what was free on the disk when the daemon started: nothing is refused
/// beyond. Source: nats-server's `dynJetStreamConfig`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes.
    pub(super) memory: u64,
    /// Bytes.
    pub(super) disk: u64,
}

impl Room {
    fn find(options: &Options) -> Self {
        let store = options.jetstream.store();
        // The directory may not be there yet.
        let disk = store.ancestors().find_map(process::space).map(|(free, _)| free);
        let quarters = |bytes: Option<u64>| bytes.map_or(i64::MAX.unsigned_abs(), |bytes| bytes / 4 * 3);
        Self { memory: quarters(memory::installed()), disk: quarters(disk) }
    }
}

struct State {
    info: ServerInfo,
    options: Arc<Options>,
    loaded: Duration,
}

impl About {
    pub(crate) fn new(
        info: ServerInfo,
        options: Options,
        tls: Arc<Keeper>,
        websocket: (Arc<Keeper>, u16),
        threads: usize,
        port: Option<(u16, bool)>,
        now: Duration,
    ) -> Self {
        let room = Room::find(&options);
        let state = RwLock::new(State { info, options: Arc::new(options), loaded: now });
        let (requests, cpu) = (Requests::default(), CpuMeter::default());
        Self { start: now, threads, tls, websocket, port, requests, cpu, room, state }
    }

    /// The options in force.
    pub(crate) fn options(&self) -> Arc<Options> {
        Arc::clone(&self.read().options)
    }

    /// How the server presents itself.
    pub(crate) fn info(&self) -> ServerInfo {
        self.read().info.clone()
    }

    /// When the options were read, since the Unix epoch.
    pub(crate) fn loaded(&self) -> Duration {
        self.read().loaded
    }

    /// Takes what a reload brought.
    pub(crate) fn replace(&self, info: ServerInfo, options: Options, now: Duration) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = State { info, options: Arc::new(options), loaded: now };
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}
