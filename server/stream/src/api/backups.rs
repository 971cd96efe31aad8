//! Snapshots are begun. What follows is in `backup`.

use midge_protocol::subject::Subject;
use serde::{Deserialize, Serialize};

use super::{Answer, Request, answer};
use crate::asker::Asker;
use crate::backup::{AT_ONCE, Incoming, Outgoing, SnapshotRequest};
use crate::config::StreamConfig;
use crate::engine::{Engine, cx};
use crate::error;
use crate::json;
use crate::stream::StateInfo;

#[derive(Serialize)]
struct Snapshot {
    config: StreamConfig,
    state: StateInfo,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RestoreRequest {
    config: StreamConfig,
    /// What the archive says itself.
    #[serde(rename = "state")]
    _state: serde::de::IgnoredAny,
}

#[derive(Serialize)]
struct Restore<'a> {
    deliver_subject: &'a str,
}

impl Engine {
    pub(super) fn stream_snapshot(&mut self, request: &Request<'_>) -> Answer {
        if json::is_empty(request.message.payload) {
            return Err(error::BAD_REQUEST.into());
        }
        let id = self.stream_id(request.account, request.token(2))?;
        let ask: SnapshotRequest = request.read()?;
        if Subject::new(ask.deliver_subject.as_bytes()).is_err() {
            return Err(error::SNAPSHOT_DELIVER_SUBJECT_INVALID.into());
        }
        if self.backups.outgoing.len() >= AT_ONCE {
            return Err(error::STREAM_SNAPSHOT.with(&[&"too many at once"]).into());
        }
        let number = self.backups.number();
        let stream = self.streams.get(&id).ok_or(error::STREAM_NOT_FOUND)?;
        let mut cx = cx!(self, request.account, request.now);
        let config = (*stream.config).clone();
        let consumers = if ask.no_consumers { Vec::new() } else { stream.consumer_snapshots() };
        let mut state = stream.state_info(false);
        state.consumer_count = consumers.len();
        let asker = Asker::of(request.message.header, cx.account_name(), &self.settings.server_name);
        let outgoing = Outgoing::new(&ask, stream, number, state, &consumers, asker, &mut cx);
        self.backups.outgoing.insert(number, outgoing);
        answer("stream_snapshot", Snapshot { config, state: self.snapshot_state(id) })
    }

    fn snapshot_state(&self, id: u32) -> StateInfo {
        self.streams.get(&id).map(|stream| stream.state_info(false)).unwrap_or_default()
    }

    pub(super) fn stream_restore(&mut self, request: &Request<'_>) -> Answer {
        if json::is_empty(request.message.payload) {
            return Err(error::BAD_REQUEST.into());
        }
        let RestoreRequest { mut config, .. } = request.read()?;
        let name = request.token(2);
        if config.name.is_empty() {
            config.name = name.to_owned();
        }
        if config.name != name {
            return Err(error::STREAM_MISMATCH.into());
        }
        if name.contains(['\\', '/']) {
            return Err(error::STREAM_NAME_CONTAINS_PATH_SEPARATORS.into());
        }
        let config = self.check_config(request.account, &config, false)?;
        self.check_stream_bytes(request.account, &config)?;
        self.check_share(request.account, &config)?;
        if config.num_replicas > 1 {
            return Err(error::STREAM_REPLICAS_NOT_SUPPORTED.into());
        }
        if self.stream_id(request.account, name).is_ok() {
            return Err(error::STREAM_NAME_EXIST_RESTORE_FAILED.into());
        }
        self.check_overlap(request.account, &config)?;
        if self.backups.incoming.len() >= AT_ONCE {
            return Err(error::STREAM_RESTORE.with(&[&"too many at once"]).into());
        }
        let number = self.backups.number();
        let mut cx = cx!(self, request.account, request.now);
        let asker = Asker::of(request.message.header, cx.account_name(), &self.settings.server_name);
        let incoming = Incoming::new(config, number, asker, &mut cx);
        let text = answer("stream_restore", Restore { deliver_subject: &incoming.deliver });
        self.backups.incoming.insert(number, incoming);
        text
    }
}
