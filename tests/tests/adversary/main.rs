//! Whoever means harm, against a daemon in a control group of 64 MB: without credentials, with a sensor's, and with
//! patience. Nothing makes it die, and a well-behaved client goes on; how much slower is printed, not judged.
//!
//! Sizes are those that a continuous integration has time for; `MIDGE_ADVERSARY=full` takes them as they are in the
//! list of what a gateway must bear. The tests run one after another, so that one's load is not another's noise.

mod cage;
#[allow(dead_code, reason = "the tests of TLS use all of it")]
#[path = "../tls/der.rs"]
mod der;
mod handshakes;
mod inboxes;
mod neighbour;
mod parse;
#[allow(dead_code, reason = "the tests of TLS use all of it")]
#[path = "../tls/pki.rs"]
mod pki;
mod replies;
mod senders;
mod sizes;
mod subscriptions;

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use midge_tests::daemon::{Daemon, PATIENCE, Program};
use midge_tests::peer::Peer;

use cage::Cage;
use neighbour::Neighbour;

/// All sizes as they are in the list.
fn is_full() -> bool {
    std::env::var("MIDGE_ADVERSARY").is_ok_and(|value| value == "full")
}

/// Tells whoever runs the tests, whether they pass or not.
fn report(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "adversary: {text}");
}

/// A daemon under attack.
struct Siege {
    daemon: Daemon,
    cage: Option<Cage>,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Siege {
    /// Starts a daemon in a cage, if that can be had here.
    fn lay(config: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = Program::ours().unwrap_or_else(|why| panic!("{why}"));
        let cage = Cage::new(CAGE_BYTES);
        if let Err(why) = &cage {
            report(format_args!("control group SKIPPED, the daemon runs without: {why}"));
        }
        let cage = cage.ok();
        let program = cage.as_ref().map_or(ours.clone(), |cage| Program::Ours(cage.wrap(ours.path())));
        let flags = Vec::new();
        let daemon = Daemon::start(program, Some(config), &flags).unwrap_or_else(|why| panic!("{why}"));
        if cage.is_some() {
            let budget = daemon.stderr().find(0, PATIENCE, |line| line.contains("Memory budget"));
            assert!(
                budget.is_ok_and(|line| line.contains("half of the 64.0 MiB")),
                "it knows what it may use"
            );
        }
        Self { daemon, cage, _alone: alone }
    }

    /// A client that is let in.
    fn client(&self, options: &str) -> Peer {
        let comma = if options.is_empty() { "" } else { "," };
        let mut peer =
            Peer::greeted(self.daemon.address(), &format!("{{\"verbose\":false{comma}{options}}}"))
                .expect("a greeting");
        peer.fence().expect("let in");
        peer
    }

    /// Lets `attack` happen beside a client that minds its own business, and checks that both it and the daemon are
    /// there at the end.
    fn endures<R>(&self, what: &str, options: &str, attack: impl FnOnce() -> R) -> R {
        let mut neighbour = Neighbour::new(self.client(options));
        let quiet = neighbour.talk(200);
        let busy = neighbour.start();
        let result = attack();
        let (mut neighbour, beside) = busy.stop();
        // There is room for others again.
        neighbour.talk(10);
        report(format_args!(
            "{what}: p99 of a neighbour's round trips {quiet} quiet, {beside} under attack; most memory {} MiB",
            self.peak() >> 20
        ));
        if let Some(cage) = &self.cage {
            assert_eq!(cage.kills(), 0, "the system ended something for want of memory");
        }
        result
    }

    /// Most memory that the daemon ever held, in bytes.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

const CAGE_BYTES: u64 = 64 << 20;
