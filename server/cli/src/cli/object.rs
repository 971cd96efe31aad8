//! `midge object …` on the command line.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Force, Output, Storage};
use crate::units::{duration, size_limit};

#[derive(Subcommand)]
pub(crate) enum Object {
    /// List buckets, or the objects of one
    #[command(visible_alias = "list")]
    Ls(List),
    /// Make a bucket
    #[command(visible_alias = "new", after_help = ADD)]
    Add(Add),
    /// Store a file
    #[command(after_help = PUT)]
    Put(Put),
    /// Get a file back
    #[command(after_help = GET)]
    Get(Get),
    /// Show what is known about a bucket or an object
    #[command(visible_alias = "show")]
    Info(Info),
    /// Remove an object
    Del(Delete),
    /// Remove a bucket with all that it holds
    Rm(Remove),
    /// Show changes as they happen
    Watch(Watch),
}

#[derive(Args)]
pub(crate) struct List {
    /// The bucket whose objects to list
    pub(crate) bucket: Option<String>,
    /// Print names alone
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) names: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Add {
    pub(crate) bucket: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    #[arg(long, value_name = "WHERE", help = "Where objects are kept [default: file]")]
    pub(crate) storage: Option<Storage>,
    /// How long objects are kept
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    /// How large the bucket may be
    #[arg(long, value_name = "SIZE", value_parser = size_limit, allow_negative_numbers = true)]
    pub(crate) max_bucket_size: Option<i64>,
    /// Copies in a cluster
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) replicas: usize,
    /// Compress what is stored
    #[arg(long)]
    pub(crate) compress: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Put {
    pub(crate) bucket: String,
    /// The file; without it stdin is stored
    #[arg(required_unless_present = "name")]
    pub(crate) file: Option<PathBuf>,
    /// What to call it [default: the file's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// What it is
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// How large its pieces are
    #[arg(long, value_name = "SIZE", value_parser = size_limit)]
    pub(crate) chunk_size: Option<i64>,
    /// Show no progress
    #[arg(long)]
    pub(crate) no_progress: bool,
    #[command(flatten)]
    pub(crate) force: Force,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Get {
    pub(crate) bucket: String,
    /// The object's name
    pub(crate) object: String,
    /// Where to write it; - is stdout [default: a file of its name, here]
    #[arg(short = 'O', long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Show no progress
    #[arg(long)]
    pub(crate) no_progress: bool,
    #[command(flatten)]
    pub(crate) force: Force,
}

#[derive(Args)]
pub(crate) struct Info {
    pub(crate) bucket: String,
    /// The object's name
    pub(crate) object: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Delete {
    pub(crate) bucket: String,
    /// The object's name
    pub(crate) object: String,
    #[command(flatten)]
    pub(crate) force: Force,
}

#[derive(Args)]
pub(crate) struct Remove {
    pub(crate) bucket: String,
    #[command(flatten)]
    pub(crate) force: Force,
}

#[derive(Args)]
pub(crate) struct Watch {
    pub(crate) bucket: String,
    /// Begin with what changes from now on
    #[arg(long)]
    pub(crate) updates: bool,
    /// End after this many changes
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<NonZeroU64>,
    #[command(flatten)]
    pub(crate) output: Output,
}

const ADD: &str = "\
Examples:
  midge object add firmware --max-bucket-size 500MB
  midge object add pictures --ttl 30d";

const PUT: &str = "\
Examples:
  midge object put firmware build/valve-1.4.bin --description 'stable'
  dmesg | midge object put logs --name gateway-7/dmesg";

const GET: &str = "\
The file gets its name when all of it is there and its digest is right.
Examples:
  midge object get firmware valve-1.4.bin
  midge object get firmware valve-1.4.bin --output /tmp/valve.bin --force
  midge object get logs gateway-7/dmesg --output - | less";
