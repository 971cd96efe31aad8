//! The servers that are compared, and one of them running.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use midge_tests::daemon::Program;
use tempfile::TempDir;

use crate::accounting::Account;
use crate::certificate::Certificate;
use crate::wire::Wire;

/// A server binary that takes part.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// What the report calls it.
    pub(crate) name: &'static str,
    kind: Kind,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it says of itself.
    pub(crate) version: String,
    /// Whether it is told to put each message on the disk before it says so, if it doesn't do so anyway.
    syncs_always: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nats,
    Mosquitto,
}

/// The names of all that can take part, ours first.
pub(crate) const NAMES: [&str; 3] = [OURS, REFERENCE, MOSQUITTO];
/// midged.
pub(crate) const OURS: &str = "midged";
/// The server to which ratios are given.
pub(crate) const REFERENCE: &str = "nats-server";
/// Debian's MQTT broker, for the shapes that fit it.
pub(crate) const MOSQUITTO: &str = "Mosquitto";
/// [`REFERENCE`] with `sync_interval: always`, for streams.
pub(crate) const ALWAYS: &str = "nats-server, sync always";
/// Another midged, named on the command line.
pub(crate) const BASELINE: &str = "baseline";

/// Their names, in their order.
pub(crate) fn names(contenders: &[Contender]) -> Vec<&'static str> {
    contenders.iter().map(|contender| contender.name).collect()
}

/// What a server is started with besides its defaults.
#[derive(Clone, Copy)]
struct Extra<'a> {
    tls: Option<&'a Certificate>,
    streams: Option<&'a Path>,
}

impl Contender {
    /// One of [`NAMES`], where `tests/setup` and the package manager have put it.
    pub(crate) fn named(name: &'static str) -> Result<Self, String> {
        match name {
            OURS => Self::nats(OURS, Program::ours()?.path()),
            REFERENCE => Self::nats(REFERENCE, Program::reference()?.path()),
            _ => Self::mosquitto(),
        }
    }

    /// A NATS server.
    pub(crate) fn nats(name: &'static str, path: &Path) -> Result<Self, String> {
        let path = fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let version = says(Command::new(&path).arg("--version"))?;
        Ok(Self { name, kind: Kind::Nats, path, version, syncs_always: false })
    }

    /// The reference that waits for the disk, as midged does.
    pub(crate) fn always() -> Result<Self, String> {
        Ok(Self { name: ALWAYS, syncs_always: true, ..Self::named(REFERENCE)? })
    }

    /// Whether a message costs it a wait for the disk that it shares with no other.
    pub(crate) fn is_slow_with_streams(&self) -> bool {
        self.syncs_always
    }

    fn mosquitto() -> Result<Self, String> {
        let path = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
            .ok_or("no mosquitto on this machine")?;
        // Help ends with 1 on some versions.
        let version = says(Command::new(&path).arg("-h"))?;
        let package =
            says(Command::new("dpkg-query").args(["--show", "--showformat=${Version}\n", "mosquitto"]));
        let version = package.map_or(version.clone(), |package| format!("{version}, package {package}"));
        Ok(Self { name: MOSQUITTO, kind: Kind::Mosquitto, path, version, syncs_always: false })
    }

    /// One that can't be started.
    #[cfg(test)]
    pub(crate) fn fake(name: &'static str, version: &str) -> Self {
        Self {
            name,
            kind: Kind::Nats,
            path: PathBuf::new(),
            version: version.to_owned(),
            syncs_always: false,
        }
    }

    pub(crate) fn wire(&self) -> Wire {
        match self.kind {
            Kind::Nats => Wire::Nats,
            Kind::Mosquitto => Wire::Mqtt,
        }
    }

    /// Starts it on a free port of loopback, with its defaults, and returns once it lets a client in.
    pub(crate) fn start(&self, tls: Option<&Certificate>) -> Result<Server, String> {
        self.start_with(Extra { tls, streams: None })
    }

    /// As [`Contender::start`], with streams whose files are in `directory`.
    pub(crate) fn start_with_streams(&self, directory: &Path) -> Result<Server, String> {
        self.start_with(Extra { tls: None, streams: Some(directory) })
    }

    fn start_with(&self, extra: Extra<'_>) -> Result<Server, String> {
        // Between the choice of a port and its use somebody else may take it.
        let mut tries = 0;
        loop {
            tries += 1;
            match self.start_once(extra) {
                Err(why) if tries < 3 && why.contains("in use") => {}
                other => return other,
            }
        }
    }

    fn start_once(&self, extra: Extra<'_>) -> Result<Server, String> {
        let io = |error: std::io::Error| error.to_string();
        let directory = tempfile::Builder::new().prefix("midge-bench-").tempdir().map_err(io)?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = free.map_err(io)?;
        let mut command = Command::new(&self.path);
        match self.kind {
            Kind::Nats => {
                command.args(["-a", "127.0.0.1", "-p", &address.port().to_string()]);
                if let Some(tls) = extra.tls {
                    let [cert, key] = tls.write(directory.path())?;
                    command.arg("--tls").arg("--tlscert").arg(cert).arg("--tlskey").arg(key);
                }
                if let Some(streams) = extra.streams {
                    let sync = if self.syncs_always { ", sync_interval: always" } else { "" };
                    let config =
                        format!("jetstream {{ store_dir: {streams:?}, max_file_store: 8GB{sync} }}\n");
                    let path = directory.path().join("streams.conf");
                    fs::write(&path, config).map_err(io)?;
                    command.arg("-c").arg(path);
                }
            }
            Kind::Mosquitto => {
                // Nothing may be dropped: what is compared is delivery. Nagle would only add latency.
                let config = format!(
                    "listener {} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n\
                     persistence false\nuser root\n",
                    address.port()
                );
                let path = directory.path().join("mosquitto.conf");
                fs::write(&path, config).map_err(io)?;
                command.arg("-c").arg(path);
            }
        }
        let log = File::create(directory.path().join(LOG)).map_err(io)?;
        let both = log.try_clone().map_err(io)?;
        command.current_dir(directory.path()).stdin(Stdio::null()).stdout(log).stderr(both);
        let started = Instant::now();
        let child = command.spawn().map_err(|error| format!("{}: {error}", self.path.display()))?;
        let account = Account::of(child.id())?;
        let wire = self.wire();
        let mut server = Server { child, directory, address, wire, account, accepted_after: Duration::ZERO };
        server.await_first_word(started)?;
        Ok(server)
    }
}

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    directory: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) wire: Wire,
    pub(crate) account: Account,
    /// From the start of the process to the first byte that a client got.
    pub(crate) accepted_after: Duration,
}

/// What the server wrote.
const LOG: &str = "log";
/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time between two tries to connect, and so the resolution of [`Server::accepted_after`].
const STEP: Duration = Duration::from_micros(100);

impl Server {
    fn await_first_word(&mut self, started: Instant) -> Result<(), String> {
        loop {
            if self.hears() {
                self.accepted_after = started.elapsed();
                return Ok(());
            }
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || started.elapsed() > PATIENCE {
                return Err(self.last_words());
            }
            thread::sleep(STEP);
        }
    }

    fn hears(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(self.address) else { return false };
        let greeted = match self.wire {
            Wire::Nats => Ok(()),
            Wire::Mqtt => socket.write_all(&self.wire.hello()),
        };
        let waits = socket.set_read_timeout(Some(PATIENCE));
        greeted.and(waits).is_ok() && matches!(socket.read(&mut [0]), Ok(1))
    }

    /// The line of its log that says why it did not start, or the last one.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join(LOG)).unwrap_or_default();
        let line = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        // Without time and process id, which differ each time.
        line.rsplit_once("] ").map_or(line, |(_, text)| text).to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line that a command prints.
fn says(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned).ok_or_else(|| format!("{name} does not say its version"))
}
