//! Who may come in by keys and tokens: clients of other people, accounts in a directory, services that are asked.

mod callout;
mod clients;
mod names;
mod resolver;
mod web;

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use midge_jwt::{KeyPair, Kind};
use midge_tests::daemon::Program;

/// Our server, and the reference where there is one.
pub(crate) fn programs() -> Vec<(&'static str, Program)> {
    let mut programs = vec![("ours", Program::ours().unwrap_or_else(|why| panic!("{why}")))];
    match Program::reference() {
        Ok(program) => programs.push(("reference", program)),
        // Not through `println`, which is shown only for tests that fail.
        Err(why) => drop(writeln!(std::io::stderr(), "reference SKIPPED, {why}")),
    }
    programs
}

pub(crate) fn key(kind: Kind, seed: u8) -> KeyPair {
    KeyPair::new(kind, &[seed; 32])
}

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    i64::try_from(since.as_secs()).expect("a time before the end")
}

/// A credentials file, as the tools of nats-server write it.
pub(crate) fn creds(token: &str, user: &KeyPair) -> String {
    let seed = user.seed();
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\
         NKEY Seed printed below can be used to sign and prove identity.\n\
         NKEYs are sensitive and should be treated as secrets.\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
         *************************************************************\n"
    )
}
