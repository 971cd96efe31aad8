//! `midge dlq …` on the command line.

use std::num::{NonZeroU32, NonZeroU64};

use clap::{Args, Subcommand};

use super::{Display, Output};

#[derive(Subcommand)]
pub(crate) enum Dlq {
    /// Count dead letters by stream, consumer and reason
    #[command(visible_alias = "list", after_help = ABOUT)]
    Ls(List),
    /// Show dead letters, and what they died of
    #[command(after_help = SHOW)]
    Show(Show),
    /// Publish dead letters again, and remove them
    #[command(after_help = REPLAY)]
    Replay(Replay),
}

#[derive(Args)]
pub(crate) struct List {
    /// The stream of dead letters, or one that has such a stream [default: all]
    pub(crate) stream: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Which dead letters are meant.
#[derive(Args)]
#[command(next_help_heading = "Which")]
pub(crate) struct Which {
    /// Only those that this consumer could not handle
    #[arg(long, value_name = "CONSUMER")]
    pub(crate) consumer: Option<String>,
    /// Only those of this stream
    #[arg(long = "from", value_name = "STREAM")]
    pub(crate) from: Option<String>,
    /// Only those of which the reason begins so, such as max_deliver or terminated
    #[arg(long, value_name = "REASON")]
    pub(crate) reason: Option<String>,
    /// Only these, by their number among dead letters; may be given more than once
    #[arg(long, value_name = "SEQ", value_delimiter = ',')]
    pub(crate) seq: Vec<u64>,
    /// This many at most
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<NonZeroU64>,
}

#[derive(Args)]
pub(crate) struct Show {
    /// The stream of dead letters, or the one that they are of
    pub(crate) stream: String,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) display: Display,
}

#[derive(Args)]
pub(crate) struct Replay {
    /// The stream of dead letters, or the one that they are of
    pub(crate) stream: String,
    #[command(flatten)]
    pub(crate) which: Which,
    /// This many in a second at most
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<NonZeroU32>,
    /// Say what would be published, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Show no progress
    #[arg(long)]
    pub(crate) no_progress: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

const ABOUT: &str = "\
A stream gets dead letters with `midge stream add … --dlq NAME` on midged: a message that reached its consumer's
--max-deliver, or was terminated, is copied to the stream NAME.";

const SHOW: &str = "\
Examples:
  midge dlq show JOBS
  midge dlq show JOBS_DEAD --seq 17 --json
  midge dlq show JOBS --consumer worker --reason terminated --count 5";

const REPLAY: &str = "\
A message is published on its own subject with its own headers and a Nats-Msg-Id of its death, and its dead letter is
removed when a stream has acknowledged it. All consumers of the stream see it again, not only the one that failed.
Examples:
  midge dlq replay JOBS --dry-run
  midge dlq replay JOBS --consumer worker --rate 10
  midge dlq replay JOBS_DEAD --seq 17,18";
