//! A server and `midge` processes for the tests, each ended by the value that stands for it.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Nothing here takes a second; a loaded machine may need many.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A server on a port of its own.
pub(crate) struct Server {
    child: Child,
    binary: PathBuf,
    config: Option<TempFile>,
    /// Kept so that the server can go on writing it.
    log: Lines,
    pub(crate) port: u16,
    /// What it stores is here, and goes with it.
    _store: Option<TempDir>,
}

impl Server {
    /// Starts one without any restrictions.
    pub(crate) fn start() -> Server {
        Server::launch(server_binary(), None, None)
    }

    /// Starts nats-server, for what midged doesn't serve yet. `None`, and a word about it, where there is none.
    pub(crate) fn reference_with_config(config: &str) -> Option<Server> {
        let binary = reference_binary();
        if !binary.exists() {
            println!(
                "SKIPPED: needs nats-server, which tests/setup installs (looked for {})",
                binary.display()
            );
            return None;
        }
        Some(Server::launch(binary, Some(TempFile::new("server.conf", config)), None))
    }

    /// Starts one with a configuration, which needs not set the port.
    pub(crate) fn with_config(config: &str) -> Server {
        Server::launch(server_binary(), Some(TempFile::new("server.conf", config)), None)
    }

    /// Starts one that has streams, in a directory of its own.
    pub(crate) fn with_streams() -> Server {
        let binary = server_binary();
        let store = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let config = format!("jetstream {{ store_dir: {:?} }}", store.path());
        let mut server = Server::launch(binary, Some(TempFile::new("server.conf", &config)), None);
        server._store = Some(store);
        server
    }

    /// Starts nats-server with streams, in a directory of its own. `None`, and a word about it, where there is none.
    pub(crate) fn reference_with_streams() -> Option<Server> {
        let store = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut server =
            Server::reference_with_config(&format!("jetstream {{ store_dir: {:?} }}", store.path()))?;
        server._store = Some(store);
        Some(server)
    }

    /// Ends the server and starts another on its port, `before` being run in between.
    pub(crate) fn restart(mut self, before: impl FnOnce()) -> Server {
        self.kill();
        before();
        Server::launch(self.binary.clone(), self.config.take(), Some(self.port))
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// `midge` with its first arguments, made to talk to this server and to ignore the user's own settings.
    pub(crate) fn midge(&self, args: &[&str]) -> Midge {
        Midge::new(args).env("NATS_URL", &self.url())
    }

    fn launch(binary: PathBuf, config: Option<TempFile>, port: Option<u16>) -> Server {
        let port = port.map_or("-1".to_owned(), |port| port.to_string());
        let mut command = Command::new(&binary);
        command.args(["-a", "127.0.0.1", "-p", &port]);
        if let Some(config) = &config {
            command.arg("-c").arg(&config.0);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {}: {error}", binary.display()));
        let log = Lines::of(child.stderr.take().unwrap());
        // Made before it is known to listen, so that it is ended if it never does.
        let mut server = Server { child, binary, config, log, port: 0, _store: None };
        let line = server.log.wait_for("Listening for client connections on ");
        let port = line.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
        server.port = port.unwrap_or_else(|| panic!("{} told no port: {line}", server.binary.display()));
        server
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server to test against: the one that is asked for, else our own, else the reference.
fn server_binary() -> PathBuf {
    if let Some(asked) = env::var_os("MIDGE_TEST_SERVER") {
        return asked.into();
    }
    let ours = Path::new(env!("CARGO_BIN_EXE_midge")).with_file_name("midged");
    let reference = reference_binary();
    match [&ours, &reference].into_iter().find(|path| path.exists()) {
        Some(path) => path.clone(),
        None => panic!(
            "these tests need a server: build midged with `cargo build -p midged`, \
             or set MIDGE_TEST_SERVER to the path of a nats-server (looked for {} and {})",
            ours.display(),
            reference.display()
        ),
    }
}

fn reference_binary() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/.venv/bin/nats-server")
}

/// A `midge` that is about to run.
pub(crate) struct Midge(Command);

impl Midge {
    pub(crate) fn new(args: &[&str]) -> Midge {
        let mut command = Command::new(env!("CARGO_BIN_EXE_midge"));
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("NATS_") {
                command.env_remove(name);
            }
        }
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Midge(command)
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Midge {
        self.0.env(name, value);
        self
    }

    /// Runs it in that directory.
    pub(crate) fn within(mut self, directory: &Path) -> Midge {
        self.0.current_dir(directory);
        self
    }

    /// Runs it with a terminal for stdin and stderr, on which somebody types that. What it prints on the terminal is
    /// its stderr.
    pub(crate) fn run_on_terminal(mut self, typed: &str) -> Done {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&near).and_then(|()| unlockpt(&near)).expect("a terminal of ours");
        let name = ptsname(&near, Vec::new()).expect("a terminal with a name").into_string().unwrap();
        let far =
            || fs::File::options().read(true).write(true).open(&name).expect("the terminal's other side");
        self.0.stdin(far()).stderr(far());
        let mut child = self.0.spawn().expect("midge was built for this test");
        // The last other side of the terminal, but for the child's.
        drop(self.0);
        let (mut screen, stdout) = (fs::File::from(near), Lines::of(child.stdout.take().unwrap()));
        screen.write_all(typed.as_bytes()).unwrap();
        let shown = Lines::of(screen);
        let stdout = stdout.rest();
        Done { status: child.wait().unwrap(), stdout, stderr: shown.rest() }
    }

    /// Runs it to its end with nothing on stdin.
    pub(crate) fn run(self) -> Done {
        self.start().end()
    }

    /// Runs it to its end with that on stdin.
    pub(crate) fn run_with(mut self, stdin: &[u8]) -> Done {
        self.0.stdin(Stdio::piped());
        let mut running = self.start();
        // A midge that fails early does not read it all.
        let _ = running.child.stdin.take().unwrap().write_all(stdin);
        running.end()
    }

    /// Starts it with a stdin that stays open.
    pub(crate) fn start_with_stdin(mut self) -> Running {
        self.0.stdin(Stdio::piped());
        self.start()
    }

    pub(crate) fn start(mut self) -> Running {
        let mut child = self.0.spawn().expect("midge was built for this test");
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Running { child, stdout, stderr }
    }

    /// Starts it and waits until it says that it is subscribed.
    pub(crate) fn start_listening(self) -> Running {
        let running = self.start();
        running.stderr.wait_for(" (Ctrl-C ends)");
        running
    }
}

/// A `midge` that runs.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Running {
    pub(crate) fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().expect("started with a stdin").write_all(text.as_bytes()).unwrap();
    }

    /// Sends it a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {name} failed");
    }

    /// Nobody reads its output from now on.
    pub(crate) fn stop_reading(&mut self) {
        self.stdout = Lines(mpsc::channel().1);
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Done {
        drop(self.child.stdin.take());
        // Its output ends when it does, and only that can be waited for with a deadline.
        let (stdout, stderr) = (self.stdout.rest(), self.stderr.rest());
        Done { status: self.child.wait().unwrap(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a `midge` ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// Its output, if it ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.status.success(), "{self:?}");
        self.stdout
    }

    /// What it says on stderr, if it ended with that code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        self.stderr
    }
}

/// The lines of a pipe, which a thread reads so that nobody blocks.
pub(crate) struct Lines(Receiver<Vec<u8>>);

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Lines {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Lines(receiver)
    }

    /// The next line with its end.
    #[track_caller]
    pub(crate) fn next(&self) -> String {
        match self.0.recv_timeout(DEADLINE) {
            Ok(line) => String::from_utf8_lossy(&line).into_owned(),
            Err(error) => panic!("no line came: {error}"),
        }
    }

    /// The next line that holds that text.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let mut before = String::new();
        let limit = Instant::now() + DEADLINE;
        loop {
            match self.0.recv_timeout(limit.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    if line.contains(text) {
                        return line;
                    }
                    before.push_str(&line);
                }
                Err(RecvTimeoutError::Timeout) => panic!("{text:?} did not come in time, only: {before}"),
                Err(RecvTimeoutError::Disconnected) => panic!("{text:?} did not come, only: {before}"),
            }
        }
    }

    /// All lines up to the end of the pipe.
    #[track_caller]
    fn rest(&self) -> String {
        let mut lines = Vec::new();
        let limit = Instant::now() + DEADLINE;
        loop {
            match self.0.recv_timeout(limit.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.extend(line),
                Err(RecvTimeoutError::Disconnected) => return String::from_utf8_lossy(&lines).into_owned(),
                Err(RecvTimeoutError::Timeout) => panic!("no end: {}", String::from_utf8_lossy(&lines)),
            }
        }
    }
}

/// A file that lives as long as this value, in a directory of its own.
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    /// Makes a file, whose name may hold directories.
    pub(crate) fn new(name: &str, content: &str) -> TempFile {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", std::process::id()));
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        TempFile(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// The directory in which the name that it was made with is resolved.
    pub(crate) fn root(&self) -> &Path {
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        self.0.ancestors().find(|path| path.parent() == Some(tmp)).unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.root());
    }
}
