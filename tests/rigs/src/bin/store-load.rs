//! midge's store behind a pipe: `store-load DIR [segment=BYTES] [quiet=MS] [broken=PART]`. The lines are described at the head of
//! `subject/line.rs`. What arrived while a commit was running is the next commit, and answers come after it.
//!
//! `broken=` leaves a part out, to test the tests:
//! `sync` files are never synced, `dir` names are never synced, `late` the last write stays in this process,
//! `deaf` writes and syncs that fail are taken for done.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use midge_store::disk::{Disk, OsDisk, OsFile};
use midge_store::{Append, Damage, Damaged, Erase, Error, Options, Select, Store, StreamId};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(dir) = words.next() else {
        println!("failed: no directory");
        return ExitCode::FAILURE;
    };
    let mut options = Options { seed: RandomState::new().build_hasher().finish(), ..Options::default() };
    let (mut broken, mut quiet) = (Broken::Nothing, QUIET);
    for word in words {
        match word.split_once('=') {
            Some(("segment", bytes)) => {
                options.segment_bytes = bytes.parse().unwrap_or(options.segment_bytes)
            }
            Some(("quiet", ms)) => quiet = ms.parse().map_or(quiet, Duration::from_millis),
            Some(("broken", part)) => broken = Broken::named(part),
            _ => eprintln!("store-load: what is {word}?"),
        }
    }
    let opened = OsDisk::open(Path::new(&dir)).map_err(Error::from);
    match opened.and_then(|disk| Store::open(Cheat { disk, broken, held: Vec::new() }, options)) {
        Ok((store, report)) => {
            say(&mut io::stdout().lock(), "ready").ok();
            Load::new(store, &report.damages, quiet).serve();
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The store and what is known of its streams.
struct Load {
    store: Store<Cheat>,
    streams: BTreeMap<String, Known>,
    /// Answers to what is staged.
    waiting: Vec<(String, String)>,
    began: Instant,
    /// What opening named as lost: stream, first and last sequence.
    named: Vec<(StreamId, u64, u64)>,
    /// When an empty commit is due: behind it, the last one that was acknowledged is known to have been whole.
    seal: Option<Duration>,
    /// So long after the last change.
    quiet: Duration,
}

struct Known {
    id: StreamId,
    keeps: Keeps,
    delivered: u64,
    floor: u64,
    acked: BTreeSet<u64>,
}

#[derive(Clone, Copy)]
enum Keeps {
    All,
    Latest,
    Room,
    Newest(u64),
}

/// What a maintenance step may read and write.
const BUDGET: u64 = 256 << 10;
/// What may be staged for one commit.
const STAGED_MAX: usize = 1 << 20;

impl Load {
    fn new(store: Store<Cheat>, damages: &[Damage], quiet: Duration) -> Self {
        let mut streams = BTreeMap::new();
        for id in store.streams().collect::<Vec<_>>() {
            let config = store.config(id).map(|config| String::from_utf8_lossy(config).into_owned());
            let Ok(Some((name, keeps))) = config.as_ref().map(|config| config.split_once(' ')) else {
                continue;
            };
            let mut known =
                Known { id, keeps: Keeps::named(keeps), delivered: 0, floor: 0, acked: BTreeSet::new() };
            if let Ok(mut states) = store.states(id)
                && let Some((_, state)) = states.find(|(key, _)| *key == CONSUMER)
            {
                let mut numbers = String::from_utf8_lossy(&state.whole)
                    .split(' ')
                    .filter_map(|number| number.parse().ok())
                    .collect::<Vec<u64>>()
                    .into_iter();
                known.floor = numbers.next().unwrap_or(0);
                known.acked = numbers.collect();
                known.delivered = known.floor;
            }
            streams.insert(name.to_owned(), known);
        }
        let lost = damages.iter().filter(|damage| damage.what == Damaged::Messages && damage.first_seq > 0);
        let named =
            lost.filter_map(|damage| Some((damage.stream?, damage.first_seq, damage.last_seq))).collect();
        Self { store, streams, waiting: Vec::new(), began: Instant::now(), named, seal: None, quiet }
    }

    fn serve(mut self) {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut due = Some(Duration::ZERO);
        loop {
            let next = [due, self.seal].into_iter().flatten().min();
            let wait = next.map_or(IDLE, |next| next.saturating_sub(self.began.elapsed()));
            match lines.recv_timeout(wait) {
                Ok(line) => {
                    self.answer(&line, &mut out);
                    while self.store.staged_bytes() < STAGED_MAX
                        && let Ok(line) = lines.try_recv()
                    {
                        self.answer(&line, &mut out);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.store.close().ok();
                    return;
                }
            }
            if !self.waiting.is_empty() {
                self.seal = Some(self.began.elapsed() + self.quiet);
            } else if self.seal.is_some_and(|seal| seal <= self.began.elapsed()) {
                self.seal = None;
                // That of the store comes after two seconds; the rigs are in a hurry.
                self.store.seal().ok();
            }
            self.commit(&mut out);
            due = self.store.maintain(self.began.elapsed(), BUDGET).next;
            if out.flush().is_err() {
                return;
            }
        }
    }

    fn commit(&mut self, out: &mut impl Write) {
        let done = self.store.commit();
        for (id, answer) in self.waiting.drain(..) {
            match &done {
                Ok(()) => say(out, &format!("{id} {answer}")).ok(),
                Err(error) => say(out, &format!("{id} refused {error}")).ok(),
            };
        }
    }

    /// Does what a line asks for; the answer comes at once, or after the commit if something changed.
    fn answer(&mut self, line: &str, out: &mut impl Write) {
        let (id, request) = line.split_once(' ').unwrap_or((line, ""));
        let mut done = self.request(request);
        if matches!(done, Err(Error::CommitFirst)) {
            self.commit(out);
            done = self.request(request);
        }
        if matches!(done, Err(Error::Full)) && self.drop_old(request, out) {
            done = self.request(request);
        }
        match done {
            Ok(Answer::Staged(answer)) => self.waiting.push((id.into(), answer)),
            Ok(Answer::Known(answer)) => drop(say(out, &format!("{id} {answer}"))),
            Err(error) => drop(say(out, &format!("{id} refused {error}"))),
        }
    }

    /// Has the oldest go for a message if its stream is one of those. What is staged is committed, and answered, before.
    fn drop_old(&mut self, request: &str, out: &mut impl Write) -> bool {
        let stream = request.strip_prefix("put ").and_then(|rest| rest.split(' ').next());
        let known = stream.and_then(|name| self.streams.get(name));
        let Some(id) = known.filter(|known| matches!(known.keeps, Keeps::Room)).map(|known| known.id) else {
            return false;
        };
        self.commit(out);
        loop {
            match self.store.reclaim() {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => return false,
            }
            let Some(before) = self.store.reclaimable(id) else { return false };
            if self.store.purge(id, before).is_err() {
                return false;
            }
        }
    }

    fn request(&mut self, request: &str) -> Result<Answer, Error> {
        let words: Vec<&str> = request.split(' ').collect();
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        if let ["new", name, keeps] = words[..] {
            let id = self.store.create_stream(format!("{name} {keeps}").as_bytes())?;
            let keeps = Keeps::named(keeps);
            self.streams
                .insert(name.into(), Known { id, keeps, delivered: 0, floor: 0, acked: BTreeSet::new() });
            return Ok(Answer::Staged("ok 0".into()));
        }
        if let ["commits"] = words[..] {
            return Ok(Answer::Known(format!("ok {}", self.store.usage().commits)));
        }
        let Some(known) = words.get(1).and_then(|name| self.streams.get_mut(*name)) else {
            return Ok(Answer::Known("no".into()));
        };
        let (store, id) = (&mut self.store, known.id);
        match words[..] {
            ["put", _, subject, body] => {
                let before = match known.keeps {
                    Keeps::Latest => store.last_of(id, subject.as_bytes()),
                    _ => None,
                };
                let time =
                    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
                let message = Append {
                    subject: subject.as_bytes(),
                    payload: body.as_bytes(),
                    time,
                    ..Append::default()
                };
                let seq = store.append(id, &message)?;
                // Asked again, it would be there twice; what isn't removed now is removed with the next.
                if let Some(before) = before {
                    store.remove(id, before, Erase::Lazily).ok();
                }
                if let Keeps::Newest(count) = known.keeps
                    && store.state(id)?.messages > count
                {
                    store.purge(id, (seq + 1).saturating_sub(count)).ok();
                }
                Ok(Answer::Staged(format!("ok {seq}")))
            }
            ["del", _, seq] => match store.remove(id, number(seq), Erase::Lazily)? {
                true => Ok(Answer::Staged("ok 0".into())),
                false => Ok(Answer::Known("refused no such message".into())),
            },
            ["purge", _] => {
                let last = store.state(id)?.last_seq;
                store.purge(id, last + 1)?;
                Ok(Answer::Staged("ok 0".into()))
            }
            ["fetch", _, count] => {
                let mut seqs = String::from("seqs");
                for _ in 0..number(count) {
                    let Some(seq) = store.next(id, known.delivered + 1, &mut Select::all()) else { break };
                    known.delivered = seq;
                    seqs.push_str(&format!(" {seq}"));
                }
                Ok(Answer::Known(seqs))
            }
            ["ack", _, seq] => {
                let (mut floor, mut acked) = (known.floor, known.acked.clone());
                acked.insert(number(seq));
                while let Some(next) = store.next(id, floor + 1, &mut Select::all())
                    && acked.remove(&next)
                {
                    floor = next;
                }
                acked.retain(|acked| *acked > floor);
                let mut state = floor.to_string();
                acked.iter().for_each(|acked| state.push_str(&format!(" {acked}")));
                store.put_state(id, CONSUMER, state.as_bytes())?;
                (known.floor, known.acked) = (floor, acked);
                Ok(Answer::Staged("ok 0".into()))
            }
            ["bounds", _] => {
                let state = store.state(id)?;
                let named = self.named.iter().filter(|named| named.0 == id).map(|named| (named.1, named.2));
                let lost = store.lost(id).chain(named).flat_map(|(first, last)| first..=last).take(10_000);
                let lost: String = lost.map(|seq| format!(" {seq}")).collect();
                Ok(Answer::Known(format!("bounds {} {}{lost}", state.first_seq, state.last_seq)))
            }
            ["get", _, seq] => Ok(Answer::Known(match store.read(id, number(seq)) {
                Ok(Some(message)) => {
                    format!("message {} {}", message.subject.escape_ascii(), message.payload.escape_ascii())
                }
                Ok(None) => "no".into(),
                Err(damage) => format!("damaged {damage}"),
            })),
            ["floor", _] => Ok(Answer::Known(format!("floor {}", known.floor))),
            _ => Ok(Answer::Known("refused what is that?".into())),
        }
    }
}

enum Answer {
    /// Once it is durable.
    Staged(String),
    /// At once.
    Known(String),
}

impl Keeps {
    fn named(name: &str) -> Self {
        match (name, name.parse()) {
            ("latest", _) => Self::Latest,
            ("room", _) => Self::Room,
            (_, Ok(count)) => Self::Newest(count),
            _ => Self::All,
        }
    }
}

fn say(out: &mut impl Write, line: &str) -> io::Result<()> {
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")
}

const CONSUMER: &[u8] = b"rig";
/// So long after the last change the log is sealed, as a daemon does when nothing happens.
const QUIET: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_secs(3_600);

/// What is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    Sync,
    Dir,
    Late,
    Deaf,
}

impl Broken {
    fn named(name: &str) -> Self {
        match name {
            "sync" => Self::Sync,
            "dir" => Self::Dir,
            "late" => Self::Late,
            "deaf" => Self::Deaf,
            _ => Self::Nothing,
        }
    }
}

/// A directory that doesn't do all that it says.
struct Cheat {
    disk: OsDisk,
    broken: Broken,
    held: Vec<(Rc<OsFile>, Vec<u8>, u64)>,
}

impl Cheat {
    fn deaf<T>(&self, result: io::Result<T>, done: T) -> io::Result<T> {
        if self.broken == Broken::Deaf { Ok(result.unwrap_or(done)) } else { result }
    }
}

impl Disk for Cheat {
    type File = Rc<OsFile>;

    fn list(&mut self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&mut self, name: &str, create: bool) -> io::Result<Self::File> {
        self.disk.open(name, create).map(Rc::new)
    }

    fn size(&self, file: &Self::File) -> io::Result<u64> {
        self.disk.size(file)
    }

    fn read_at(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.read_at(file, buffer, offset)
    }

    fn read_medium(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.read_medium(file, buffer, offset)
    }

    fn write_at(&mut self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if self.broken == Broken::Late {
            for (file, bytes, offset) in std::mem::take(&mut self.held) {
                self.disk.write_at(&file, &bytes, offset)?;
            }
            self.held.push((Rc::clone(file), bytes.to_vec(), offset));
            return Ok(bytes.len());
        }
        let written = self.disk.write_at(file, bytes, offset);
        self.deaf(written, bytes.len())
    }

    fn sync(&mut self, file: &Self::File) -> io::Result<()> {
        if self.broken == Broken::Sync {
            return Ok(());
        }
        let synced = self.disk.sync(file);
        self.deaf(synced, ())
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        if matches!(self.broken, Broken::Dir | Broken::Sync) {
            return Ok(());
        }
        let synced = self.disk.sync_dir();
        self.deaf(synced, ())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn make_dir(&mut self, name: &str) -> io::Result<()> {
        self.disk.make_dir(name)
    }

    fn replace(&mut self, name: &str, with: &str, directory: &str) -> io::Result<()> {
        self.disk.replace(name, with, directory)
    }
}
