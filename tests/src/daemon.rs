//! A server process: started in a directory of its own, watched, and ended by its own id whatever happens.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, ErrorKind, Read as _, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket as Held, Type};
use tempfile::TempDir;

use crate::script::Signal;
use crate::target::{Read, Wire, World};

/// A server binary, and whose it is: they announce their ports in different ways.
#[derive(Debug, Clone)]
pub enum Program {
    /// nats-server.
    Reference(PathBuf),
    /// midged.
    Ours(PathBuf),
}

impl Program {
    /// What a report calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reference(_) => "reference",
            Self::Ours(_) => "ours",
        }
    }

    /// The server to compare with: `MIDGE_REFERENCE`, else the one that `tests/setup` has installed.
    pub fn reference() -> Result<Self, String> {
        let path = match std::env::var_os("MIDGE_REFERENCE") {
            Some(path) => PathBuf::from(path),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/nats-server"),
        };
        match path.is_file() {
            true => Ok(Self::Reference(path)),
            false => Err(format!(
                "no {}: run tests/setup, or name a nats-server in MIDGE_REFERENCE",
                path.display()
            )),
        }
    }

    /// Our daemon: `MIDGED`, else the one built beside this test.
    pub fn ours() -> Result<Self, String> {
        let path = match std::env::var_os("MIDGED") {
            Some(path) => PathBuf::from(path),
            None => beside_this_test("midged").unwrap_or_default(),
        };
        match path.is_file() {
            true => Ok(Self::Ours(path)),
            false => Err(format!("no {}: run `cargo build -p midged`, or name it in MIDGED", path.display())),
        }
    }

    /// Where the binary is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Reference(path) | Self::Ours(path) => path,
        }
    }
}

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub struct Daemon {
    program: Program,
    directory: TempDir,
    flags: Vec<String>,
    has_config: bool,
    child: Child,
    log: Lines,
    address: SocketAddr,
}

/// How long a server may take to start, to answer a signal, or to log what it was asked to do. So long that only a server
/// that will never do it takes longer, on whatever machine and beside whatever else.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl Daemon {
    /// Starts `program` on a free loopback port and returns once it accepts connections.
    pub fn start(program: Program, config: Option<&str>, flags: &[String]) -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("midge-").tempdir().map_err(|err| err.to_string())?;
        if let Some(config) = config {
            std::fs::write(directory.path().join(CONFIG), config).map_err(|err| err.to_string())?;
        }
        let (child, log, address) = spawn(&program, directory.path(), config.is_some(), flags, None)?;
        Ok(Self {
            program,
            directory,
            flags: flags.to_vec(),
            has_config: config.is_some(),
            child,
            log,
            address,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory the server runs in: its configuration and whatever it writes.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote on stderr since its last start.
    pub fn stderr(&self) -> &Lines {
        &self.log
    }

    /// Ends it without warning, as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, after its end, in the same directory and on the same port.
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        let _held = hold(self.address)?;
        let port = Some(self.address.port());
        (self.child, self.log, self.address) =
            spawn(&self.program, self.directory.path(), self.has_config, &self.flags, port)?;
        Ok(())
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        wait(&mut self.child, within)
    }

    /// Sends a signal.
    pub fn kill_with(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let signal = match signal {
            Signal::Hup => rustix::process::Signal::HUP,
            Signal::Int => rustix::process::Signal::INT,
            Signal::Term => rustix::process::Signal::TERM,
            Signal::Usr1 => rustix::process::Signal::USR1,
            Signal::Usr2 => rustix::process::Signal::USR2,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        rustix::process::kill_process(pid.ok_or("no process")?, signal).map_err(|err| err.to_string())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

impl World for Daemon {
    fn connect(&mut self) -> Result<Box<dyn Wire>, String> {
        let stream = TcpStream::connect(self.address).map_err(|err| format!("connect: {err}"))?;
        Ok(Box::new(Socket::new(stream).map_err(|err| err.to_string())?))
    }

    fn is_real(&self) -> bool {
        true
    }

    fn advance(&mut self, time: Duration) {
        // The only pause in this package: a script says how long, and only short ones come here.
        thread::sleep(time);
    }

    fn reload(&mut self, config: &str) -> Result<(), String> {
        std::fs::write(self.directory.path().join(CONFIG), config).map_err(|err| err.to_string())?;
        let seen = self.log.count();
        self.kill_with(Signal::Hup)?;
        self.log.find(seen, PATIENCE, |line| {
            line.contains("Reloaded server configuration") || line.contains("Failed to reload")
        })?;
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> Result<(), String> {
        self.kill_with(signal)
    }

    fn restart(&mut self) -> Result<(), String> {
        self.kill_with(Signal::Int)?;
        self.wait(PATIENCE).ok_or("the server still runs")?;
        Daemon::restart(self)
    }

    fn exit(&mut self, within: Duration) -> Result<i32, String> {
        let status = self.wait(within).ok_or("the server still runs")?;
        status.code().ok_or_else(|| status.to_string())
    }

    fn log(&self) -> String {
        self.log.text()
    }
}

/// Lines that a process writes, collected as they come.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    written: Mutex<Written>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Collects from `source` until it ends.
    pub(crate) fn collect(source: impl std::io::Read + Send + 'static) -> Self {
        let lines = Self::default();
        let collected = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                collected.written().lines.push(line);
                collected.0.grown.notify_all();
            }
            collected.written().ended = true;
            collected.0.grown.notify_all();
        });
        lines
    }

    /// How many there are by now.
    pub fn count(&self) -> usize {
        self.written().lines.len()
    }

    /// All of them.
    pub fn text(&self) -> String {
        self.written().lines.join("\n")
    }

    /// Waits for a line at or behind position `from` that pleases `wanted`.
    pub fn find(
        &self,
        from: usize,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String, String> {
        let deadline = Instant::now() + within;
        let mut written = self.written();
        loop {
            if let Some(line) = written.lines.iter().skip(from).find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if written.ended || left.is_zero() {
                return Err(format!("the awaited line is not among these:\n{}", written.lines.join("\n")));
            }
            written = self.0.grown.wait_timeout(written, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the end of the source and returns all lines.
    pub fn whole(&self, within: Duration) -> Result<String, String> {
        let deadline = Instant::now() + within;
        let mut written = self.written();
        while !written.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!(
                    "somebody still holds the pipe behind these lines:\n{}",
                    written.lines.join("\n")
                ));
            }
            written = self.0.grown.wait_timeout(written, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(written.lines.join("\n"))
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a port that nobody listens on, so that no other server, and no client, is given it. A server that asks for it by number
/// gets it all the same.
fn hold(address: SocketAddr) -> Result<Held, String> {
    let hold = || {
        let socket = Held::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    hold().map_err(|err: std::io::Error| format!("{address}: {err}"))
}

const CONFIG: &str = "server.conf";

fn spawn(
    program: &Program,
    directory: &Path,
    has_config: bool,
    flags: &[String],
    port: Option<u16>,
) -> Result<(Child, Lines, SocketAddr), String> {
    let path = program.path();
    let mut arguments: Vec<OsString> = vec!["-a".into(), "127.0.0.1".into(), "-p".into()];
    arguments.push(port.map_or("-1".into(), |port| port.to_string().into()));
    if has_config {
        arguments.extend(["-c".into(), directory.join(CONFIG).into()]);
    }
    if let Program::Ours(_) = program {
        arguments.push("--ready".into());
    }
    let mut child = Command::new(path)
        .args(arguments)
        .args(flags)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|err| format!("{}: {err}", path.display()))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("no pipes to the server".into());
    };
    let (stdout, log) = (Lines::collect(stdout), Lines::collect(stderr));
    match announced_port(program, &stdout, &log) {
        Ok(port) => Ok((child, log, (Ipv4Addr::LOCALHOST, port).into())),
        Err(why) => {
            let _ = child.kill();
            let status = child.wait().map_or_else(|err| err.to_string(), |status| status.to_string());
            // Its last words may still be on their way through the pipe.
            let words = log.whole(PATIENCE).unwrap_or_else(|_| log.text());
            Err(format!("the server did not start ({status}): {why}\n{words}"))
        }
    }
}

/// A binary in the directory that cargo puts binaries in: that of this executable, or the one above `deps`.
fn beside_this_test(name: &str) -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let directory = executable.parent()?;
    let directory = if directory.ends_with("deps") { directory.parent()? } else { directory };
    Some(directory.join(name).with_extension(std::env::consts::EXE_EXTENSION))
}

fn announced_port(program: &Program, stdout: &Lines, log: &Lines) -> Result<u16, String> {
    let port = match program {
        Program::Reference(_) => {
            let line = log.find(0, PATIENCE, |line| line.contains("Listening for client connections on"))?;
            log.find(0, PATIENCE, |line| line.contains("Server is ready"))?;
            line.rsplit(':').next().and_then(|port| port.parse().ok())
        }
        Program::Ours(_) => {
            let line = stdout.find(0, PATIENCE, |line| line.starts_with('{'))?;
            let ports: Value = serde_json::from_str(&line).map_err(|err| err.to_string())?;
            client_port(&ports)
        }
    };
    port.ok_or_else(|| "it announced no client port".into())
}

/// The port in `{"client":"127.0.0.1:4222"}`.
fn client_port(ports: &Value) -> Option<u16> {
    ports.get("client")?.as_str()?.rsplit(':').next()?.parse().ok()
}

fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + within;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::park_timeout(Duration::from_millis(2)),
            _ => return None,
        }
    }
}

/// A client's end of a TCP connection.
struct Socket {
    stream: TcpStream,
    /// The server's end in the kernel's table of sockets, where its unread bytes are counted.
    row: String,
}

impl Socket {
    fn new(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let row = format!(": {} {} ", hex(stream.peer_addr()?), hex(stream.local_addr()?));
        Ok(Self { stream, row })
    }

    fn unread(&self) -> bool {
        let Ok(table) = std::fs::read_to_string("/proc/net/tcp") else { return false };
        let row = table.lines().find_map(|line| line.split_once(&self.row));
        let queued = row.and_then(|(_, rest)| rest.split_whitespace().nth(1)?.split_once(':'));
        queued.is_some_and(|(_, unread)| unread.bytes().any(|digit| digit != b'0'))
    }
}

impl Wire for Socket {
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.unread() && Instant::now() < deadline {
            thread::park_timeout(Duration::from_micros(50));
        }
    }

    fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn read(&mut self, buffer: &mut Vec<u8>, within: Duration) -> Read {
        let mut chunk = vec![0; 64 << 10];
        let _ = self.stream.set_read_timeout(Some(within.max(Duration::from_millis(1))));
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Read::Eof,
                Ok(size) => {
                    buffer.extend_from_slice(&chunk[..size]);
                    return Read::Bytes;
                }
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Read::Quiet;
                }
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Read::Eof,
            }
        }
    }
}

/// An address as the kernel's table spells it.
fn hex(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()),
        SocketAddr::V6(v6) => v6.to_string(),
    }
}
