//! `midge consumer …` on the command line.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::{Display, Force, Output, pair};
use crate::units::{duration, moment};

#[derive(Subcommand)]
pub(crate) enum Consumer {
    /// List a stream's consumers, and how far they are
    #[command(visible_aliases = ["list", "report"])]
    Ls(List),
    /// Show a consumer's configuration and state
    Info(Info),
    /// Make a consumer
    #[command(visible_alias = "create", after_help = ADD)]
    Add(Box<Add>),
    /// Change a consumer; what isn't named stays
    #[command(visible_alias = "update", after_help = EDIT)]
    Edit(Box<Edit>),
    /// Remove a consumer, and what it knows
    #[command(visible_alias = "delete")]
    Rm(Remove),
    /// Take messages from a pull consumer
    #[command(after_help = NEXT)]
    Next(Next),
    /// Let a consumer deliver nothing for a while
    #[command(after_help = PAUSE)]
    Pause(Pause),
    /// Let a paused consumer go on
    Resume(Resume),
    /// Let another client of a group have the messages that one is pinned to
    Unpin(Unpin),
}

#[derive(Args)]
pub(crate) struct List {
    pub(crate) stream: String,
    /// Print names alone
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) names: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Unpin {
    pub(crate) stream: String,
    pub(crate) consumer: String,
    /// The priority group
    pub(crate) group: String,
    #[command(flatten)]
    pub(crate) force: Force,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What of a consumer may change.
#[derive(Args)]
pub(crate) struct Edit {
    pub(crate) stream: String,
    pub(crate) consumer: String,
    /// JSON file with the whole new configuration; flags go on top
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// All subjects
    #[arg(long, conflicts_with = "filter")]
    pub(crate) no_filter: bool,
    /// Take --wait for each time again
    #[arg(long, conflicts_with = "backoff")]
    pub(crate) no_backoff: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) force: Force,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What a consumer begins with, and what may change later. Names are natscli's.
#[derive(Args)]
pub(crate) struct Settings {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Send messages to this subject unasked (a push consumer)
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) target: Option<String>,
    /// Only these subjects, separated by commas
    #[arg(long, value_name = "SUBJECTS", value_delimiter = ',')]
    pub(crate) filter: Vec<String>,
    /// How long an acknowledgement may take
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// How long it may take the first time, the second time and so on, separated by commas
    #[arg(long, value_name = "DURATIONS", value_parser = duration, value_delimiter = ',')]
    pub(crate) backoff: Vec<Duration>,
    /// How often to deliver a message that nobody acknowledges
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) max_deliver: Option<i64>,
    /// How many messages may wait for acknowledgement
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) max_pending: Option<i64>,
    /// How many messages a request may ask for
    #[arg(long, value_name = "N")]
    pub(crate) max_pull_batch: Option<u64>,
    /// How long a request may wait
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max_pull_expire: Option<Duration>,
    /// How many bytes a request may ask for
    #[arg(long, value_name = "N")]
    pub(crate) max_pull_bytes: Option<u64>,
    /// Leave bodies out
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) headers_only: Option<bool>,
    /// Be removed after this long without use
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) inactive_threshold: Option<Duration>,
    /// How many of 100 acknowledgements to tell about
    #[arg(long, value_name = "PERCENT")]
    pub(crate) sample: Option<u8>,
    /// Note something of your own, or with nothing behind the = forget it; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) metadata: Vec<(String, String)>,
}

#[derive(Args)]
pub(crate) struct Info {
    pub(crate) stream: String,
    pub(crate) consumer: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Add {
    pub(crate) stream: String,
    /// Its name; may be left out with --ephemeral
    #[arg(required_unless_present_any = ["ephemeral", "config"])]
    pub(crate) consumer: Option<String>,
    /// JSON file with a configuration, such as `midge consumer info --json` prints; flags go on top
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Be removed when nobody has used it for a while
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Wait until somebody asks; the default
    #[arg(long, conflicts_with = "target")]
    pub(crate) pull: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Where to begin: all, new, last, subject (the last of each), a sequence number, or a time ago such as 1h
    #[arg(long, value_name = "WHERE", value_parser = deliver)]
    pub(crate) deliver: Option<Deliver>,
    /// What has to be acknowledged [default: explicit, none for a push consumer]
    #[arg(long, value_name = "POLICY")]
    pub(crate) ack: Option<Ack>,
    /// Send them to one member of this queue group
    #[arg(long, value_name = "GROUP", requires = "target")]
    pub(crate) deliver_group: Option<String>,
    /// Send something when there is nothing to send
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "target")]
    pub(crate) heartbeat: Option<Duration>,
    /// Wait for slow receivers
    #[arg(long, requires_all = ["target", "heartbeat"])]
    pub(crate) flow_control: bool,
    /// Bits per second at most
    #[arg(long, value_name = "N", requires = "target")]
    pub(crate) bps: Option<u64>,
    /// How many requests for messages may wait
    #[arg(long, value_name = "N")]
    pub(crate) max_waiting: Option<u64>,
    /// How fast to deliver: at once, or as slowly as messages came
    #[arg(long, value_name = "POLICY")]
    pub(crate) replay: Option<Replay>,
    /// Keep its state in memory
    #[arg(long)]
    pub(crate) memory: bool,
    /// Copies in a cluster
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<u64>,
    /// Begin paused, until that time or for that long
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) pause: Option<Timestamp>,
    /// Is always so; for scripts that were written for natscli
    #[arg(long, hide = true)]
    pub(crate) defaults: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Ack {
    /// Nothing
    None,
    /// One acknowledges all before it
    All,
    /// Each one
    Explicit,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Replay {
    Instant,
    Original,
}

/// Where a consumer begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Deliver {
    All,
    New,
    Last,
    LastPerSubject,
    Sequence(u64),
    /// That long ago.
    Ago(Duration),
}

#[derive(Args)]
pub(crate) struct Remove {
    pub(crate) stream: String,
    pub(crate) consumer: String,
    #[command(flatten)]
    pub(crate) force: Force,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Next {
    pub(crate) stream: String,
    pub(crate) consumer: String,
    /// How many
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) count: NonZeroU64,
    /// How long to wait for the next one [default: --timeout]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Leave it unacknowledged: it comes again when its time is over
    #[arg(long, conflicts_with_all = ["nak", "term"])]
    pub(crate) no_ack: bool,
    /// Say that it could not be handled: it comes again at once
    #[arg(long, conflicts_with = "term")]
    pub(crate) nak: bool,
    /// Say that it can never be handled: it doesn't come again
    #[arg(long)]
    pub(crate) term: bool,
    #[command(flatten)]
    pub(crate) display: Display,
}

#[derive(Args)]
pub(crate) struct Pause {
    pub(crate) stream: String,
    pub(crate) consumer: String,
    /// For how long, or until when: 30m, 2026-12-01 08:00:00
    #[arg(value_parser = moment, value_name = "WHEN")]
    pub(crate) until: Timestamp,
    #[arg(short, long, hide = true)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Resume {
    pub(crate) stream: String,
    pub(crate) consumer: String,
    #[arg(short, long, hide = true)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

fn deliver(text: &str) -> Result<Deliver, String> {
    match text {
        "all" => Ok(Deliver::All),
        "new" => Ok(Deliver::New),
        "last" => Ok(Deliver::Last),
        "subject" => Ok(Deliver::LastPerSubject),
        text => match (text.parse(), duration(text)) {
            (Ok(seq), _) => Ok(Deliver::Sequence(seq)),
            (_, Ok(ago)) => Ok(Deliver::Ago(ago)),
            _ => Err("expected all, new, last, subject, a sequence number or a time such as 1h".to_owned()),
        },
    }
}

const EDIT: &str = "\
Where a consumer begins, what has to be acknowledged and whether it pulls or pushes can't change.

Examples:
  midge consumer edit JOBS worker --max-deliver 10 --wait 1m
  midge consumer edit JOBS worker --filter 'jobs.valve,jobs.pump' --dry-run";

const ADD: &str = "\
Examples:
  midge consumer add JOBS worker --max-deliver 5 --wait 30s
  midge consumer add JOBS worker --backoff 1s,10s,1m --max-deliver 4
  midge consumer add READINGS attic --filter 'plant.attic.>' --deliver new
  midge consumer add READINGS live --target dash.readings --deliver subject --ephemeral";

const NEXT: &str = "\
Examples:
  midge consumer next JOBS worker
  midge consumer next JOBS worker --count 10 --wait 2s --json
  midge consumer next JOBS worker --term --raw";

const PAUSE: &str = "\
Examples:
  midge consumer pause JOBS worker 30m
  midge consumer pause JOBS worker '2026-12-01 08:00:00'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_begins_where_people_say() {
        assert_eq!(deliver("subject"), Ok(Deliver::LastPerSubject));
        assert_eq!(deliver("17"), Ok(Deliver::Sequence(17)));
        assert_eq!(deliver("1h"), Ok(Deliver::Ago(Duration::from_secs(3600))));
        assert!(deliver("yesterday").is_err());
    }
}
