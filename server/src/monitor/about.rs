//! What the daemon was told and when, for those who ask.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use midge_broker::ServerInfo;
use midge_config::Options;

use super::http::Requests;
use super::process::CpuMeter;
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
    state: RwLock<State>,
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
        let state = RwLock::new(State { info, options: Arc::new(options), loaded: now });
        let (requests, cpu) = (Requests::default(), CpuMeter::default());
        Self { start: now, threads, tls, websocket, port, requests, cpu, state }
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
