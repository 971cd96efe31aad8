//! `midge stream …` on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Force, Output, Storage, pair};
use crate::units::{count_limit, duration, size_limit};

#[derive(Subcommand)]
pub(crate) enum Stream {
    /// List streams
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show what streams hold and how they are, the largest first
    Report(Report),
    /// List streams that are so: empty, unused, without consumers
    #[command(after_help = FIND)]
    Find(Find),
    /// Show a stream's configuration and state
    Info(Info),
    /// Show the subjects that a stream holds, and how many messages of each
    Subjects(Subjects),
    /// Show which sequence numbers are missing between a stream's first and last
    Gaps(Gaps),
    /// Make a stream
    #[command(visible_alias = "create", after_help = ADD)]
    Add(Box<Add>),
    /// Change a stream; what isn't named stays
    #[command(visible_alias = "update", after_help = EDIT)]
    Edit(Box<Edit>),
    /// Let nobody change a stream or its messages any more; for good
    Seal(Seal),
    /// Remove a stream with all that it holds
    #[command(visible_alias = "delete")]
    Rm(Remove),
    /// Remove messages from a stream, all or some
    #[command(after_help = PURGE)]
    Purge(Purge),
    /// Show one message
    #[command(after_help = GET)]
    Get(Get),
    /// Remove one message, and overwrite it
    Rmm(RemoveMessage),
    /// Copy a stream into a directory
    #[command(visible_alias = "snapshot", after_help = BACKUP)]
    Backup(Backup),
    /// Make a stream again from its backup
    #[command(after_help = RESTORE)]
    Restore(Restore),
}

#[derive(Args)]
pub(crate) struct List {
    /// Only streams that hold this subject
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// Also streams that are buckets of the KV and object stores
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Print names alone
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) names: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Report {
    /// Leave out streams that are buckets of the KV and object stores
    #[arg(long)]
    pub(crate) no_buckets: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Find {
    /// Only streams that hold this subject
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// Only those without messages
    #[arg(long)]
    pub(crate) empty: bool,
    /// Only those that got no message for this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) idle: Option<Duration>,
    /// Only those that were made so long ago
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) created: Option<Duration>,
    /// Only those with so many consumers at most
    #[arg(long, value_name = "N")]
    pub(crate) consumers: Option<u64>,
    /// Only mirrors
    #[arg(long)]
    pub(crate) mirrored: bool,
    /// Only those with sources
    #[arg(long)]
    pub(crate) sourced: bool,
    /// All but those
    #[arg(long)]
    pub(crate) invert: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Subjects {
    pub(crate) stream: String,
    /// Only subjects that match
    #[arg(default_value = ">")]
    pub(crate) filter: String,
    /// Print subjects alone
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) names: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Gaps {
    pub(crate) stream: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Seal {
    pub(crate) stream: String,
    #[command(flatten)]
    pub(crate) force: Force,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Info {
    pub(crate) stream: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Add {
    pub(crate) stream: String,
    /// JSON file with a configuration, such as `midge stream info --json` prints; flags go on top
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Is always so; for scripts that were written for natscli
    #[arg(long, hide = true)]
    pub(crate) defaults: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Edit {
    pub(crate) stream: String,
    /// JSON file with the whole new configuration; flags go on top
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) force: Force,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What a stream is like. Names are natscli's.
#[derive(Args)]
#[command(next_help_heading = "Stream")]
pub(crate) struct Settings {
    /// Subjects to store, separated by commas [default: the stream's name]
    #[arg(long, value_name = "SUBJECTS", value_delimiter = ',')]
    pub(crate) subjects: Vec<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    #[arg(long, value_name = "WHERE", help = "Where messages are kept [default: file]")]
    pub(crate) storage: Option<Storage>,
    /// How messages are compressed on disk
    #[arg(long, value_name = "HOW")]
    pub(crate) compression: Option<Compression>,
    /// When messages may go: by limits, when nobody is interested, or when somebody has worked on them
    #[arg(long, value_name = "POLICY")]
    pub(crate) retention: Option<Retention>,
    /// What gives way at a limit, old messages or new ones
    #[arg(long, value_name = "WHICH")]
    pub(crate) discard: Option<Discard>,
    /// Refuse new messages of a subject that has reached its own limit
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) discard_per_subject: Option<bool>,
    /// Sequence number of the first message
    #[arg(long, value_name = "SEQ")]
    pub(crate) first_sequence: Option<u64>,
    /// How long messages are kept, such as 7d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max_age: Option<Duration>,
    /// How much is kept, such as 200MB
    #[arg(long, value_name = "SIZE", value_parser = size_limit, allow_negative_numbers = true)]
    pub(crate) max_bytes: Option<i64>,
    /// How many messages are kept
    #[arg(long, value_name = "N", value_parser = count_limit, allow_negative_numbers = true)]
    pub(crate) max_msgs: Option<i64>,
    /// How many messages are kept of each subject
    #[arg(long, value_name = "N", value_parser = count_limit, allow_negative_numbers = true)]
    pub(crate) max_msgs_per_subject: Option<i64>,
    /// How large a message may be
    #[arg(long, value_name = "SIZE", value_parser = size_limit, allow_negative_numbers = true)]
    pub(crate) max_msg_size: Option<i64>,
    /// How many consumers it may have
    #[arg(long, value_name = "N", value_parser = count_limit, allow_negative_numbers = true)]
    pub(crate) max_consumers: Option<i64>,
    /// How long a Nats-Msg-Id is remembered, so that the same message isn't stored twice
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) dupe_window: Option<Duration>,
    /// Copies in a cluster
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<u64>,
    /// Acknowledge what is published
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) ack: Option<bool>,
    #[arg(long, hide = true, conflicts_with = "ack")]
    pub(crate) no_ack: bool,
    /// Let messages be read without the API's queue [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_direct: Option<bool>,
    #[arg(long, hide = true, conflicts_with = "allow_direct")]
    pub(crate) no_allow_direct: bool,
    /// Let a mirror answer such reads for its origin
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_mirror_direct: Option<bool>,
    /// Let messages say how long they live
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_msg_ttl: Option<bool>,
    /// Tell of removed messages for this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) subject_del_markers_ttl: Option<Duration>,
    /// Let a message replace those before it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_rollup: Option<bool>,
    /// Let messages be published later, or again and again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_schedules: Option<bool>,
    /// Let messages be stored together or not at all
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_batch: Option<bool>,
    /// Let messages be published fast, with flow control
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_fast: Option<bool>,
    /// Make it a counter
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_counter: Option<bool>,
    /// Let no one remove single messages; for good
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) deny_delete: Option<bool>,
    /// Let no one purge it; for good
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) deny_purge: Option<bool>,
    /// When messages count as stored
    #[arg(long, value_name = "MODE")]
    pub(crate) persist_mode: Option<PersistMode>,
    /// Be a copy of another stream
    #[arg(long, value_name = "STREAM", conflicts_with_all = ["subjects", "source"])]
    pub(crate) mirror: Option<String>,
    /// Stop being a copy
    #[arg(long, conflicts_with = "mirror")]
    pub(crate) no_mirror: bool,
    /// Take in what another stream stores; may be given more than once
    #[arg(long, value_name = "STREAM")]
    pub(crate) source: Vec<String>,
    /// Store what is published here …
    #[arg(long, value_name = "SUBJECT", requires = "transform_destination")]
    pub(crate) transform_source: Option<String>,
    /// … as if it was published there
    #[arg(long, value_name = "SUBJECT", requires = "transform_source")]
    pub(crate) transform_destination: Option<String>,
    /// Store subjects as they are
    #[arg(long, conflicts_with = "transform_source")]
    pub(crate) no_transform: bool,
    /// Publish what was stored here …
    #[arg(long, value_name = "SUBJECT", requires = "republish_destination")]
    pub(crate) republish_source: Option<String>,
    /// … there again
    #[arg(long, value_name = "SUBJECT", requires = "republish_source")]
    pub(crate) republish_destination: Option<String>,
    /// Publish it again without bodies
    #[arg(long, requires = "republish_source")]
    pub(crate) republish_headers: bool,
    /// Publish nothing again
    #[arg(long, conflicts_with = "republish_source")]
    pub(crate) no_republish: bool,
    /// The longest that a consumer may be idle
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) limit_consumer_inactive: Option<Duration>,
    /// The most that a consumer may have unacknowledged
    #[arg(long, value_name = "N")]
    pub(crate) limit_consumer_max_pending: Option<u64>,
    /// Note something of your own; an empty value removes it; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) metadata: Vec<(String, String)>,
    /// midged: copy messages that nobody could handle to this stream (see `midge dlq`); empty for none
    #[arg(long, value_name = "STREAM")]
    pub(crate) dlq: Option<String>,
    /// midged: when messages are written through to the disk
    #[arg(long, value_name = "WHEN")]
    pub(crate) sync: Option<Syncing>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Compression {
    None,
    S2,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Retention {
    Limits,
    Interest,
    #[value(aliases = ["workq", "workqueue"])]
    Work,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Discard {
    Old,
    New,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PersistMode {
    Default,
    Async,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Syncing {
    /// Before each acknowledgement
    Always,
    /// Every now and then (`sync_interval`)
    Interval,
    /// When the system likes
    Os,
}

#[derive(Args)]
pub(crate) struct Remove {
    pub(crate) stream: String,
    #[command(flatten)]
    pub(crate) force: Force,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Purge {
    pub(crate) stream: String,
    /// Only messages of this subject, which may have wildcards
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// Only messages before this one
    #[arg(long, value_name = "SEQ", conflicts_with = "keep")]
    pub(crate) seq: Option<u64>,
    /// All but this many, the newest
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<u64>,
    #[command(flatten)]
    pub(crate) force: Force,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Get {
    pub(crate) stream: String,
    /// Its sequence number
    #[arg(required_unless_present = "last_for")]
    pub(crate) seq: Option<u64>,
    /// The last one of a subject
    #[arg(short = 'S', long, value_name = "SUBJECT", conflicts_with = "seq")]
    pub(crate) last_for: Option<String>,
    #[command(flatten)]
    pub(crate) display: super::Display,
}

#[derive(Args)]
pub(crate) struct RemoveMessage {
    pub(crate) stream: String,
    /// Its sequence number
    pub(crate) seq: u64,
    #[command(flatten)]
    pub(crate) force: Force,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Backup {
    pub(crate) stream: String,
    /// Directory for the backup, which is made
    pub(crate) target: PathBuf,
    /// Leave consumers and where they are out
    #[arg(long)]
    pub(crate) no_consumers: bool,
    /// Let the server check the stream first
    #[arg(long)]
    pub(crate) check: bool,
    /// How much the server sends in one message
    #[arg(long, value_name = "SIZE", value_parser = size_limit, default_value = "128KB")]
    pub(crate) chunk_size: i64,
    /// How much it sends before we have acknowledged it
    #[arg(long, value_name = "SIZE", value_parser = size_limit, default_value = "8MB")]
    pub(crate) window_size: i64,
    /// Show no progress
    #[arg(long)]
    pub(crate) no_progress: bool,
    /// Replace a backup that is there already
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Restore {
    /// Directory that holds the backup
    pub(crate) directory: PathBuf,
    /// JSON file with another configuration for it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Copies in a cluster
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<u64>,
    /// Show no progress
    #[arg(long)]
    pub(crate) no_progress: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

const FIND: &str = "\
What is given must all be so.

Examples:
  midge stream find --empty --created 7d
  midge stream find --idle 1d --consumers 0
  midge stream find --mirrored --invert";

const ADD: &str = "\
Examples:
  midge stream add READINGS --subjects 'plant.>' --max-age 30d --max-bytes 2GB
  midge stream add JOBS --subjects 'jobs.>' --retention work --dlq JOBS_DEAD
  midge stream add STATE --subjects 'state.>' --max-msgs-per-subject 1
  midge stream info A --json | midge stream add B --config /dev/stdin --subjects 'b.>'
A limit that isn't set is unlimited, except for the disk's. Durations: 500ms, 10m, 12h, 30d. Sizes: 64KB, 10MB, 2GB.";

const EDIT: &str = "\
Examples:
  midge stream edit READINGS --max-age 90d
  midge stream edit READINGS --max-bytes unlimited --dry-run
  midge stream edit JOBS --dlq JOBS_DEAD --force";

const PURGE: &str = "\
Examples:
  midge stream purge READINGS
  midge stream purge READINGS --subject 'plant.attic.>' --keep 100
  midge stream purge READINGS --seq 1000 --force";

const GET: &str = "\
Examples:
  midge stream get READINGS 17
  midge stream get READINGS --last-for plant.attic.temp --raw";

const BACKUP: &str = "\
The directory gets two files, backup.json and stream.tar.s2, as `nats stream backup` makes them.
Examples:
  midge stream backup READINGS /media/usb/readings
  midge stream backup READINGS /media/usb/readings --force --no-consumers";

const RESTORE: &str = "\
The stream must not exist. Its name can't be changed: it is part of what is stored.
Example:
  midge stream restore /media/usb/readings";
