//! midged, the daemon: a NATS server for the edge.
//!
//! Arguments become options ([`midge_config`]), options become a running [`daemon`], its end becomes an exit code.

mod accounts;
mod callout;
mod clock;
mod daemon;
mod elsewhere;
mod exit;
mod hub;
mod inquiry;
#[cfg(feature = "jetstream")]
mod jetstream;
mod log;
mod memory;
mod monitor;
mod net;
mod notify;
mod ports;
mod serial;
mod signals;
#[cfg(feature = "leafnode")]
mod uplink;
#[cfg(not(feature = "leafnode"))]
#[path = "no_uplink.rs"]
mod uplink;
mod vitals;
mod watch;
mod workers;

use std::process::ExitCode;

use midge_config::{HELP, Invocation, parse_args};

use crate::exit::Exit;

fn main() -> ExitCode {
    // Arguments that are not UTF-8 can't be meant; paths among them are shown with U+FFFD when they aren't found.
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let exit = match parse_args(args) {
        Ok(Invocation::Run(run)) => daemon::run(run),
        Ok(Invocation::TestConfig(run)) => daemon::check(&run),
        Ok(Invocation::Signal { command, target }) => signals::send(command, target.as_deref()),
        Ok(Invocation::Help) => {
            print!("{HELP}");
            Exit::Ok
        }
        Ok(Invocation::Version) => {
            let (ours, theirs) = (midge_setup::VERSION, midge_setup::NATS_VERSION);
            // Programs that spawn `nats-server` read its version off this line.
            match ports::called_as().as_deref() {
                Some("nats-server") => println!("nats-server: v{theirs}"),
                _ => println!("midged: v{ours} (nats-server: v{theirs})"),
            }
            Exit::Ok
        }
        Err(error) => {
            eprintln!("midged: {error}\nTry 'midged --help'.");
            Exit::Usage
        }
    };
    exit.into()
}
