//! What is tested: a program that is started on a directory, killed, and asked what it holds.

pub mod line;
pub mod nats;

use std::collections::BTreeMap;
use std::io::{self, Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::history::{STREAMS, Stream};
use crate::oracle::{Dump, Held};
use crate::process;

/// A program under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A server that speaks NATS and JetStream: nats-server, or midged.
    Nats {
        /// The name in reports.
        name: String,
        /// The binary.
        binary: PathBuf,
        /// The value of `sync_interval`, if one is set.
        sync: Option<String>,
    },
    /// `store-load`, which has midge's store in it and speaks lines.
    Line {
        /// The name in reports.
        name: String,
        /// The binary.
        binary: PathBuf,
        /// Its words after the directory.
        words: Vec<String>,
    },
}

/// How to start it.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Words before the command: strace and the like.
    pub prefix: Vec<String>,
    /// The store's directory.
    pub dir: PathBuf,
}

impl Start {
    /// Plainly, on a directory.
    pub fn on(dir: &Path) -> Self {
        Self { prefix: Vec::new(), dir: dir.into() }
    }

    fn command(&self, binary: &Path) -> Command {
        let mut words = self.prefix.iter();
        match words.next() {
            None => Command::new(binary),
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(binary);
                command
            }
        }
    }
}

/// A request to a program under test.
#[derive(Clone, Debug)]
pub enum Request<'a> {
    /// Make a stream, and for `log` its consumer.
    Create(Stream),
    /// Store a message.
    Publish { stream: &'a str, subject: &'a str, body: &'a [u8] },
    /// Delete a message.
    Delete { stream: &'a str, seq: u64 },
    /// Delete all messages.
    Purge { stream: &'a str },
    /// Have the consumer deliver up to so many messages.
    Fetch { stream: &'a str, count: u64 },
    /// Acknowledge a delivered message, and want that confirmed.
    Acknowledge { stream: &'a str, seq: u64 },
    /// First and last sequence number.
    Bounds { stream: &'a str },
    /// One message.
    Get { stream: &'a str, seq: u64 },
    /// The consumer's floor.
    Floor { stream: &'a str },
    /// How many commits there were.
    Commits,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; the sequence number of a publish.
    Done(u64),
    /// An explicit error.
    Refused(String),
    /// First and last sequence number, and what the stream names as damaged.
    Bounds(u64, u64, Vec<u64>),
    /// A message.
    Message { subject: String, body: Vec<u8> },
    /// There is no such message, stream or consumer.
    Absent,
    /// The message is damaged, says the store.
    Damaged,
    /// The sequence numbers that were delivered.
    Delivered(Vec<u64>),
    /// The floor.
    Floor(u64),
}

/// A connection to a program under test.
pub trait Port: Send {
    /// Asks. `id` comes back with the answer and is not used twice.
    fn send(&mut self, id: u64, request: &Request<'_>) -> io::Result<()>;

    /// The next answer, or none by the deadline. An error says that the program is gone.
    fn receive(&mut self, deadline: Instant) -> io::Result<Option<(u64, Reply)>>;
}

/// A running program. It is killed when this is dropped.
pub struct Instance {
    child: Child,
    /// Its connection.
    pub port: Box<dyn Port>,
    /// The id of the program itself, below what it was started with.
    pub pid: u32,
    /// What it needs while it runs.
    _files: Option<tempfile::TempDir>,
    is_server: bool,
    next_id: u64,
}

/// Longest wait for a start, and for an answer when nothing is meant to fail.
pub const PATIENCE: Duration = Duration::from_secs(20);

impl Subject {
    /// The name in reports.
    pub fn name(&self) -> &str {
        match self {
            Self::Nats { name, .. } | Self::Line { name, .. } => name,
        }
    }

    /// The same, with more words if it takes any.
    pub fn with_words<'a>(&self, more: impl IntoIterator<Item = &'a str>) -> Self {
        let mut subject = self.clone();
        if let Self::Line { words, .. } = &mut subject {
            words.extend(more.into_iter().map(str::to_owned));
        }
        subject
    }

    /// True for midge's own store, which holds to all goals.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Nats { name, .. } | Self::Line { name, .. } => matches!(name.as_str(), "store" | "midged"),
        }
    }

    /// Starts it, and returns when it is ready to be asked.
    pub fn start(&self, start: &Start) -> io::Result<Instance> {
        self.start_within(start, PATIENCE)
    }

    /// Starts it, and gives up after a while.
    pub fn start_within(&self, start: &Start, patience: Duration) -> io::Result<Instance> {
        match self {
            Self::Nats { binary, sync, .. } => {
                let files = tempfile::tempdir()?;
                let config = files.path().join("server.conf");
                std::fs::write(&config, nats::config(&start.dir, sync.as_deref()))?;
                let mut command = start.command(binary);
                command
                    .arg("-c")
                    .arg(&config)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped());
                let child = command.spawn()?;
                Instance::connect(child, Some(files), |child| {
                    Ok(Box::new(nats::Nats::connect(child, patience)?))
                })
            }
            Self::Line { binary, words, .. } => {
                let mut command = start.command(binary);
                command.arg(&start.dir).args(words);
                command.stdin(Stdio::piped()).stdout(Stdio::piped());
                // What a loader says that may not open its libraries is no news.
                let told = std::env::var_os("RIGS_LOG").is_some();
                command.stderr(if told { Stdio::inherit() } else { Stdio::null() });
                let child = command.spawn()?;
                Instance::connect(child, None, |child| Ok(Box::new(line::Line::connect(child, patience)?)))
            }
        }
    }
}

impl Instance {
    fn connect(
        mut child: Child,
        files: Option<tempfile::TempDir>,
        port: impl FnOnce(&mut Child) -> io::Result<Box<dyn Port>>,
    ) -> io::Result<Self> {
        match port(&mut child) {
            Ok(port) => {
                let pid = process::innermost(child.id());
                let is_server = files.is_some();
                Ok(Self { child, port, pid, _files: files, is_server, next_id: 1 << 40 })
            }
            Err(error) => {
                process::kill(process::innermost(child.id()));
                child.kill().ok();
                child.wait().ok();
                Err(error)
            }
        }
    }

    /// Kills it, as a power cut would, and waits until it is gone.
    pub fn kill(mut self) -> io::Result<()> {
        self.end()
    }

    /// Asks it to end as an operator would, and waits.
    pub fn terminate(mut self) -> io::Result<()> {
        // One ends when its input does, the other when it is told to.
        self.port = Box::new(Closed);
        if self.is_server {
            process::terminate(self.pid);
        }
        if !process::wait_until_gone(self.pid, PATIENCE) {
            return Err(Error::new(ErrorKind::TimedOut, "it doesn't end"));
        }
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        process::kill(self.pid);
        // What traced it is told, but isn't faster than it: locks are free once the program itself is gone.
        let gone = process::wait_until_gone(self.pid, PATIENCE);
        self.child.kill().ok();
        self.child.wait()?;
        if gone { Ok(()) } else { Err(Error::new(ErrorKind::TimedOut, "it can't be killed")) }
    }

    /// Asks one thing and waits for the answer; answers to earlier questions are passed over.
    pub fn ask(&mut self, request: &Request<'_>, patience: Duration) -> io::Result<Reply> {
        self.next_id += 1;
        let id = self.next_id;
        self.port.send(id, request)?;
        let deadline = Instant::now() + patience;
        loop {
            match self.port.receive(deadline)? {
                Some((of, reply)) if of == id => return Ok(reply),
                Some(_) => {}
                None => return Err(Error::new(ErrorKind::TimedOut, format!("no answer to {request:?}"))),
            }
        }
    }

    /// Reads all that it holds. Sequence numbers in `known` are read even where the stream's bounds don't reach.
    pub fn dump(&mut self, known: &BTreeMap<&'static str, u64>) -> io::Result<Dump> {
        let mut dump = Dump::default();
        for stream in STREAMS {
            let name = stream.name;
            let (first, last, damaged) = match self.ask(&Request::Bounds { stream: name }, PATIENCE)? {
                Reply::Bounds(first, last, damaged) => (first, last, damaged),
                Reply::Absent => continue,
                other => return Err(Error::other(format!("bounds of {name}: {other:?}"))),
            };
            let mut held = Held { bounds: (first, last), ..Held::default() };
            held.damaged.extend(damaged);
            let known = known.get(name).copied().unwrap_or(0);
            // A damaged stream may claim billions.
            let end = last.min(known + WIDEST).max(known);
            self.read(name, end, &mut held)?;
            if name == crate::history::LOG.name {
                held.floor = match self.ask(&Request::Floor { stream: name }, PATIENCE)? {
                    Reply::Floor(floor) => Some(floor),
                    Reply::Absent => None,
                    other => return Err(Error::other(format!("floor of {name}: {other:?}"))),
                };
            }
            dump.streams.insert(name, held);
        }
        Ok(dump)
    }

    fn read(&mut self, name: &'static str, end: u64, held: &mut Held) -> io::Result<()> {
        let base = self.next_id + 1;
        let (mut asked, mut answered) = (0, 0);
        while answered < end {
            while asked < end && asked - answered < 256 {
                asked += 1;
                self.port.send(base + asked, &Request::Get { stream: name, seq: asked })?;
            }
            match self.port.receive(Instant::now() + PATIENCE)? {
                Some((id, reply)) if id > base && id <= base + end => {
                    answered += 1;
                    match reply {
                        Reply::Message { subject, body } => {
                            held.messages.insert(id - base, (subject, body));
                        }
                        Reply::Absent => {}
                        Reply::Damaged => {
                            held.damaged.insert(id - base);
                        }
                        other => {
                            return Err(Error::other(format!("message {} of {name}: {other:?}", id - base)));
                        }
                    }
                }
                Some(_) => {}
                None => {
                    return Err(Error::new(ErrorKind::TimedOut, format!("no answer while reading {name}")));
                }
            }
        }
        self.next_id = base + end;
        Ok(())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.end().ok();
    }
}

/// No connection.
struct Closed;

impl Port for Closed {
    fn send(&mut self, _: u64, _: &Request<'_>) -> io::Result<()> {
        Err(ErrorKind::NotConnected.into())
    }

    fn receive(&mut self, _: Instant) -> io::Result<Option<(u64, Reply)>> {
        Err(ErrorKind::NotConnected.into())
    }
}

/// So many sequence numbers past the last known one are read of a stream.
const WIDEST: u64 = 2_000;
