//! Streams.

use std::path::PathBuf;
use std::time::Duration;

use crate::block::Block;
use crate::check::switch;
use crate::options::Secret;
use crate::report::Report;
use crate::value::Data;

/// The `jetstream` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetStream {
    /// There are streams. Default false; a block without `enabled` enables them.
    pub enabled: bool,
    /// Where streams are kept.
    pub store_dir: Option<PathBuf>,
    /// Bytes in memory. Default: what the daemon finds fit.
    pub memory_bytes_max: Option<u64>,
    /// Bytes on disk. Default: what the daemon finds fit.
    pub file_bytes_max: Option<u64>,
    /// The name by which this server's streams are told from those of a hub: one subject token.
    pub domain: Option<String>,
    /// Requests with unknown JSON fields are refused. Default true.
    pub strict: bool,
    /// When written messages are made safe on disk. Default: before they are acknowledged; nats-server's is every 2 min.
    pub sync: Option<Sync>,
    /// How long a commit waits for more messages to share its sync with. Default: not at all. midge's own key.
    pub commit_window: Duration,
    /// What streams are encrypted with.
    pub encryption_key: Option<Secret>,
    /// Ceilings for all streams and consumers.
    pub limits: JetStreamLimits,
    /// Subjects that messages are acknowledged on name domain and account: the feature flag `js_ack_fc_v2`.
    pub long_acks: bool,
}

/// The `limits` of the `jetstream` block. 0: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JetStreamLimits {
    /// Messages that a consumer may leave without an ack.
    pub ack_pending_max: u64,
    /// Messages that are asked for at once.
    pub request_batch_max: u64,
    /// Longest window in which duplicates are found.
    pub duplicate_window_max: Option<Duration>,
    /// Consumers of one stream that doesn't say how many. 0: as nats-server has it.
    pub consumers_default: u64,
    /// Of batches.
    pub batch: BatchLimits,
}

/// The `batch` block of these. 0: as nats-server has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchLimits {
    /// Batches of one stream that are open, of each kind.
    pub per_stream_max: u64,
    /// Batches of all streams that are open, of each kind.
    pub total_max: u64,
    /// Messages of one atomic batch.
    pub messages_max: u64,
    /// How long a batch may be silent.
    pub timeout: Duration,
}

/// When written messages are made safe on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before they are acknowledged.
    Always,
    /// At this interval.
    Every(Duration),
}

/// The longest [`JetStream::commit_window`].
const WINDOW_MAX: Duration = Duration::from_secs(1);

impl JetStream {
    pub(crate) fn read(root: &Block<'_>, report: &mut Report) -> Self {
        let mut this = Self { store_dir: root.path("store_dir"), ..Self::default() };
        if let Some(Data::Map(flags)) = root.get("feature_flags").map(|value| &value.data) {
            let flag = flags.iter().find(|(name, _)| *name == "js_ack_fc_v2");
            this.long_acks = flag.is_some_and(|(_, flag)| matches!(flag.value.data, Data::Bool(true)));
        }
        match root.get("jetstream").map(|value| &value.data) {
            Some(Data::Bool(enabled)) => this.enabled = *enabled,
            Some(Data::Text(text)) => this.enabled = switch(text).unwrap_or_default(),
            _ => {
                if let Some(block) = root.block("jetstream") {
                    this.read_block(&block, report);
                }
            }
        }
        this
    }

    fn read_block(&mut self, block: &Block<'_>, report: &mut Report) {
        self.enabled = block.bool("enabled").unwrap_or(true);
        if let Some(value) = block.get("store_dir") {
            if self.store_dir.is_some() {
                report.error(&value.at, "Duplicate 'store_dir' configuration");
            }
            self.store_dir = block.path("store_dir");
        }
        let bytes = |name| block.size(name).and_then(|size| u64::try_from(size).ok());
        self.memory_bytes_max = bytes("max_memory_store");
        self.file_bytes_max = bytes("max_file_store");
        self.domain = block.word("domain");
        self.strict = block.bool("strict").unwrap_or(true);
        self.sync = match block.text("sync_interval") {
            Some(text) if text.eq_ignore_ascii_case("always") => Some(Sync::Always),
            _ => block.duration("sync_interval").map(Sync::Every),
        };
        self.commit_window = block.duration("commit_window").unwrap_or_default();
        if let Some(value) = block.get("commit_window").filter(|_| self.commit_window > WINDOW_MAX) {
            report.error(&value.at, "commit_window may be 1s at most: publishers wait for it");
        }
        self.encryption_key = block.secret("encryption_key");
        if let Some(limits) = block.block("limits") {
            let count = |name| count(&limits, name);
            self.limits = JetStreamLimits {
                ack_pending_max: count("max_ack_pending"),
                request_batch_max: count("max_request_batch"),
                duplicate_window_max: limits.duration("duplicate_window").filter(|window| !window.is_zero()),
                consumers_default: count("default_max_consumers"),
                batch: limits.block("batch").map(|batch| BatchLimits::read(&batch)).unwrap_or_default(),
            };
        }
        if let (Some(domain), Some(value)) = (&self.domain, block.get("domain"))
            && domain.contains(['.', '*', '>', ' ', '\t', '\r', '\n', '\x0c'])
        {
            report.error(&value.at, "invalid domain name: may not contain ., *, > or white space");
        }
    }
}

impl BatchLimits {
    fn read(block: &Block<'_>) -> Self {
        Self {
            per_stream_max: count(block, "max_inflight_per_stream"),
            total_max: count(block, "max_inflight_total"),
            messages_max: count(block, "max_msgs"),
            timeout: block.duration("timeout").unwrap_or_default(),
        }
    }
}

/// A ceiling; 0 if there is none that is one.
fn count(block: &Block<'_>, name: &str) -> u64 {
    block.int(name).and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
}

impl JetStream {
    /// The directory in which streams are.
    pub fn store(&self) -> PathBuf {
        match &self.store_dir {
            Some(directory) => directory.join("jetstream"),
            None => std::env::temp_dir().join("nats").join("jetstream"),
        }
    }
}

impl Default for JetStream {
    fn default() -> Self {
        Self {
            enabled: false,
            store_dir: None,
            memory_bytes_max: None,
            file_bytes_max: None,
            domain: None,
            strict: true,
            sync: None,
            commit_window: Duration::ZERO,
            encryption_key: None,
            limits: JetStreamLimits::default(),
            long_acks: false,
        }
    }
}
