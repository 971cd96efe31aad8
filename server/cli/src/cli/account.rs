//! `midge account …` on the command line.

use clap::Subcommand;

use super::Output;

#[derive(Subcommand)]
pub(crate) enum Account {
    /// Show what the account may store, and how much it does
    Info(Output),
}
