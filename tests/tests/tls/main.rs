//! Encrypted connections: each test runs on midged and on nats-server, with the same configuration.

mod certificates;
mod clients;
mod der;
mod device;
mod handshake;
mod monitoring;
mod peer;
mod pki;
mod records;
mod reload;

use std::io::Write as _;

use midge_tests::daemon::{Daemon, Program};

/// Starts `config` on our server and on the reference, and lets `test` look at both.
fn both(config: &str, mut test: impl FnMut(Daemon, &'static str)) {
    for program in programs() {
        let name = program.name();
        let daemon = Daemon::start(program, Some(config), &[]).unwrap_or_else(|why| panic!("{name}: {why}"));
        test(daemon, name);
    }
}

fn ours(config: &str) -> Daemon {
    let program = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    Daemon::start(program, Some(config), &[]).unwrap_or_else(|why| panic!("{why}"))
}

fn programs() -> Vec<Program> {
    let ours = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    match Program::reference() {
        Ok(reference) => vec![ours, reference],
        Err(why) => {
            // Not through `println`, which is shown only for tests that fail.
            let _ = writeln!(std::io::stderr(), "reference SKIPPED, {why}");
            vec![ours]
        }
    }
}
