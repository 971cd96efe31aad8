//! `midge kv …` on the command line.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Force, Output, Storage};
use crate::units::{duration, size_limit};

#[derive(Subcommand)]
pub(crate) enum Kv {
    /// List buckets, or the keys of one
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show a bucket's configuration and state
    #[command(visible_alias = "status")]
    Info(Info),
    /// Make a bucket
    #[command(visible_alias = "new", after_help = ADD)]
    Add(Add),
    /// Show the value of a key
    #[command(after_help = GET)]
    Get(Get),
    /// Store a value under a key
    #[command(after_help = PUT)]
    Put(Put),
    /// Store a value under a key that has none
    Create(Create),
    /// Store a value under a key that nobody else has changed
    #[command(after_help = UPDATE)]
    Update(Update),
    /// Mark a key as deleted; its history stays
    Del(Delete),
    /// Remove all values of a key, and mark it as deleted
    Purge(Purge),
    /// Show values as they change
    #[command(after_help = WATCH)]
    Watch(Watch),
    /// Show all values that a key has had
    History(History),
    /// Remove a bucket with all that it holds
    Rm(Remove),
}

#[derive(Args)]
pub(crate) struct List {
    /// The bucket whose keys to list
    pub(crate) bucket: Option<String>,
    /// Print names alone (of buckets; keys are printed so anyway)
    #[arg(short, long, conflicts_with_all = ["json", "verbose"])]
    pub(crate) names: bool,
    /// Also print revision, age and size of each key
    #[arg(short, long, requires = "bucket")]
    pub(crate) verbose: bool,
    /// And the value
    #[arg(long, requires = "verbose")]
    pub(crate) display_value: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Info {
    pub(crate) bucket: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Add {
    pub(crate) bucket: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// How many values of a key to keep
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(i64).range(1..=64))]
    pub(crate) history: i64,
    #[arg(long, value_name = "WHERE", help = "Where values are kept [default: file]")]
    pub(crate) storage: Option<Storage>,
    /// How long values are kept
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    /// Let keys have their own TTLs, and tell of removed ones for this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) marker_ttl: Option<Duration>,
    /// How large a value may be
    #[arg(long, value_name = "SIZE", value_parser = size_limit, allow_negative_numbers = true)]
    pub(crate) max_value_size: Option<i64>,
    /// How large the bucket may be
    #[arg(long, value_name = "SIZE", value_parser = size_limit, allow_negative_numbers = true)]
    pub(crate) max_bucket_size: Option<i64>,
    /// Copies in a cluster
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) replicas: usize,
    /// Compress what is stored
    #[arg(long)]
    pub(crate) compress: bool,
    /// Be a copy of another bucket
    #[arg(long, value_name = "BUCKET")]
    pub(crate) mirror: Option<String>,
    /// In which JetStream domain that is
    #[arg(long, value_name = "DOMAIN", requires = "mirror")]
    pub(crate) mirror_domain: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Get {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// The value that it had then
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<u64>,
    /// Print the value alone, to the byte
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Put {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// The value; without it stdin is stored as it is
    pub(crate) value: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Create {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// The value; without it stdin is stored as it is
    pub(crate) value: Option<String>,
    /// Remove it after this long; the bucket has to have a --marker-ttl
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Update {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) value: String,
    /// The revision that it must be at
    pub(crate) revision: u64,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Delete {
    pub(crate) bucket: String,
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) force: Force,
}

#[derive(Args)]
pub(crate) struct Purge {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// Forget the mark after this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    #[command(flatten)]
    pub(crate) force: Force,
}

#[derive(Args)]
pub(crate) struct Watch {
    pub(crate) bucket: String,
    /// The key, which may have wildcards
    #[arg(default_value = ">")]
    pub(crate) key: String,
    /// Begin with all values that are kept, not with the last of each key
    #[arg(long, conflicts_with_all = ["updates", "revision"])]
    pub(crate) history: bool,
    /// Begin with what changes from now on
    #[arg(long, conflicts_with = "revision")]
    pub(crate) updates: bool,
    /// Begin with this revision
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<u64>,
    /// End after this many changes
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<NonZeroU64>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct History {
    pub(crate) bucket: String,
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Remove {
    pub(crate) bucket: String,
    #[command(flatten)]
    pub(crate) force: Force,
}

const ADD: &str = "\
Examples:
  midge kv add settings --history 5
  midge kv add presence --ttl 5m --storage memory
  midge kv add leases --marker-ttl 1m";

const GET: &str = "\
Examples:
  midge kv get settings attic.heater
  midge kv get settings attic.heater --raw > heater.json";

const PUT: &str = "\
Examples:
  midge kv put settings attic.heater on
  midge kv put settings attic.schedule < schedule.json";

const UPDATE: &str = "\
Example, of a change that nobody else's is lost by:
  midge kv get settings attic.heater --json     # says that it is at revision 7
  midge kv update settings attic.heater off 7";

const WATCH: &str = "\
Examples:
  midge kv watch settings
  midge kv watch settings 'attic.>' --updates --json";
