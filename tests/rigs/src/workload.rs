//! What is done to a store before and while something fails, and how it is asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::history::{Answer, Deed, Entry, History, KEYS, LOG, ROLL, SCRAP, STREAMS, body};
use crate::oracle::{Verdict, judge, judge_more};
use crate::process;
use crate::subject::{Instance, PATIENCE, Port, Reply, Request, Start, Subject};

/// Asks for deeds with some of them in flight, and writes down what comes of them.
pub struct Driver<'a> {
    port: &'a mut dyn Port,
    /// What was asked and answered.
    pub history: &'a mut History,
    clock: &'a dyn Fn() -> u64,
    in_flight: BTreeMap<u64, Instant>,
    window: usize,
    queries: u64,
    /// It gives a store up that has left so many deeds without an answer.
    pub silence: u64,
    /// How the answers came.
    pub tally: Tally,
}

/// How answers came.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Publishes that were acknowledged, and how long that took, in microseconds.
    pub latencies_us: Vec<u64>,
    /// Explicit errors.
    pub refused: u64,
    /// Answers that took longer than a second.
    pub late: u64,
    /// No answer within [`GIVE_UP`].
    pub unanswered: u64,
}

impl Tally {
    /// The latency that a share of publishes stayed within, in microseconds.
    pub fn quantile_us(&mut self, share: f64) -> u64 {
        self.latencies_us.sort_unstable();
        let last = self.latencies_us.len().saturating_sub(1);
        self.latencies_us.get((last as f64 * share) as usize).copied().unwrap_or(0)
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.refused += other.refused;
        self.late += other.late;
        self.unanswered += other.unanswered;
    }
}

/// An answer that takes longer counts as none.
pub const GIVE_UP: Duration = Duration::from_secs(3);
/// An answer that takes longer is late.
const PROMPT: Duration = Duration::from_secs(1);

impl<'a> Driver<'a> {
    /// Drives a store, with at most `window` deeds in flight. `clock` says where the tape is.
    pub fn new(
        port: &'a mut dyn Port,
        history: &'a mut History,
        clock: &'a dyn Fn() -> u64,
        window: usize,
    ) -> Self {
        Self {
            port,
            history,
            clock,
            in_flight: BTreeMap::new(),
            window,
            queries: 0,
            silence: u64::MAX,
            tally: Tally::default(),
        }
    }

    /// Asks for a deed once there is room in flight. An error says that the store is gone.
    pub fn ask(&mut self, deed: Deed) -> io::Result<usize> {
        while self.in_flight.len() >= self.window {
            self.wait()?;
        }
        let number = self.history.entries.len();
        self.history.entries.push(Entry { deed, asked: (self.clock)(), answered: None });
        self.in_flight.insert(number as u64, Instant::now());
        let seed = self.history.seed;
        let bytes;
        let request = match &self.history.entries[number].deed {
            Deed::Create(stream) => Request::Create(*stream),
            Deed::Publish { stream, subject, length } => {
                bytes = body(seed, number, *length);
                Request::Publish { stream, subject, body: &bytes }
            }
            Deed::Delete { stream, seq } => Request::Delete { stream, seq: *seq },
            Deed::Purge { stream, .. } => Request::Purge { stream },
            Deed::Acknowledge { stream, seq } => Request::Acknowledge { stream, seq: *seq },
        };
        self.port.send(number as u64, &request)?;
        Ok(number)
    }

    /// Waits until nothing is in flight.
    pub fn settle(&mut self) -> io::Result<()> {
        while !self.in_flight.is_empty() {
            self.wait()?;
        }
        Ok(())
    }

    /// Asks and waits for the answer, none if it takes too long.
    pub fn ask_and_wait(&mut self, deed: Deed) -> io::Result<Option<Answer>> {
        let number = self.ask(deed)?;
        self.settle()?;
        Ok(self.history.entries[number].answered.clone().map(|(_, answer)| answer))
    }

    /// Has the consumer of a stream deliver messages.
    pub fn fetch(&mut self, stream: &str, count: u64) -> io::Result<Vec<u64>> {
        match self.query(&Request::Fetch { stream, count })? {
            Some(Reply::Delivered(seqs)) => Ok(seqs),
            _ => Ok(Vec::new()),
        }
    }

    /// The sequence number of a stream's first message, if it says.
    pub fn first_seq(&mut self, stream: &str) -> io::Result<Option<u64>> {
        match self.query(&Request::Bounds { stream })? {
            Some(Reply::Bounds(first, ..)) => Ok(Some(first)),
            _ => Ok(None),
        }
    }

    /// Asks for something that isn't a deed, once nothing is in flight.
    fn query(&mut self, request: &Request<'_>) -> io::Result<Option<Reply>> {
        self.settle()?;
        self.queries += 1;
        let id = (1 << 30) + self.queries;
        self.port.send(id, request)?;
        let deadline = Instant::now() + GIVE_UP;
        loop {
            match self.port.receive(deadline)? {
                Some((of, reply)) if of == id => return Ok(Some(reply)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let oldest = self.in_flight.values().next().copied().unwrap_or_else(Instant::now);
        let Some((id, reply)) = self.port.receive(oldest + GIVE_UP)? else {
            let now = Instant::now();
            let before = self.in_flight.len();
            self.in_flight.retain(|_, asked| now.duration_since(*asked) < GIVE_UP);
            self.tally.unanswered += (before - self.in_flight.len()) as u64;
            if self.tally.unanswered >= self.silence {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it has fallen silent"));
            }
            return Ok(());
        };
        let Some(asked) = self.in_flight.remove(&id) else { return Ok(()) };
        let took = asked.elapsed();
        self.tally.late += u64::from(took > PROMPT);
        let answer = match reply {
            Reply::Done(seq) => {
                self.tally.latencies_us.push(took.as_micros() as u64);
                Answer::Done(seq)
            }
            Reply::Refused(words) => {
                self.tally.refused += 1;
                Answer::Refused(words)
            }
            other => Answer::Refused(format!("{other:?}")),
        };
        if let Some(entry) = self.history.entries.get_mut(id as usize) {
            entry.answered = Some(((self.clock)(), answer));
        }
        Ok(())
    }
}

/// Makes deeds by chance, from a seed.
pub struct Workload {
    random: StdRng,
    deleted: BTreeSet<u64>,
    delivered: HashMap<u64, ()>,
}

impl Workload {
    /// With a seed.
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), deleted: BTreeSet::new(), delivered: HashMap::new() }
    }

    /// Makes the streams.
    pub fn create(driver: &mut Driver<'_>) -> io::Result<()> {
        for stream in STREAMS {
            driver.ask_and_wait(Deed::Create(stream))?;
        }
        Ok(())
    }

    /// Does so many things, and waits for the answers.
    pub fn run(&mut self, driver: &mut Driver<'_>, count: usize) -> io::Result<()> {
        for _ in 0..count {
            self.step(driver)?;
        }
        driver.settle()
    }

    fn step(&mut self, driver: &mut Driver<'_>) -> io::Result<()> {
        match self.random.random_range(0..1000) {
            0..400 => self.publish(driver, LOG.name, 50),
            400..600 => self.publish(driver, ROLL.name, 5),
            600..840 => self.publish(driver, KEYS.name, 20),
            840..940 => self.publish(driver, SCRAP.name, 5),
            940..975 => {
                let acked = driver.history.acked(SCRAP.name);
                let live: Vec<u64> = acked.into_keys().filter(|seq| !self.deleted.contains(seq)).collect();
                if live.is_empty() {
                    return Ok(());
                }
                let seq = live[self.random.random_range(0..live.len())];
                self.deleted.insert(seq);
                driver.ask(Deed::Delete { stream: SCRAP.name, seq }).map(drop)
            }
            975..980 => {
                driver.settle()?;
                let through = driver.history.last_acked(SCRAP.name);
                self.deleted.extend(1..=through);
                driver.ask(Deed::Purge { stream: SCRAP.name, through })?;
                driver.settle()
            }
            _ => {
                for seq in driver.fetch(LOG.name, 5)? {
                    if self.delivered.insert(seq, ()).is_none() {
                        driver.ask(Deed::Acknowledge { stream: LOG.name, seq })?;
                    }
                }
                Ok(())
            }
        }
    }

    fn publish(&mut self, driver: &mut Driver<'_>, stream: &'static str, subjects: u32) -> io::Result<()> {
        let subject = format!("{stream}.{}", self.random.random_range(0..subjects));
        let length = match self.random.random_range(0..20) {
            0 => self.random.random_range(3_000..9_000),
            _ => self.random.random_range(24..600),
        };
        driver.ask(Deed::Publish { stream, subject, length }).map(drop)
    }
}

/// What a check after a fault found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What is wrong.
    pub verdict: Verdict,
    /// Most memory resident, in bytes.
    pub peak_bytes: u64,
    /// Until it was ready.
    pub start: Duration,
}

/// Starts a store after a fault, reads all of it, has it take one more message a stream, and judges. Then kills it,
/// starts it again, and judges that as well: recovery that was interrupted must not undo what it did. What it published
/// is added to the history.
pub fn check(subject: &Subject, start: &Start, history: &mut History) -> Checked {
    let mut checked = Checked::default();
    for round in 0..2 {
        if let Err(error) = check_once(subject, start, history, round, &mut checked) {
            checked.verdict.add(&Verdict::dead(history, &error.to_string()));
        }
        if !checked.verdict.right() {
            break;
        }
    }
    checked
}

fn check_once(
    subject: &Subject,
    start: &Start,
    history: &mut History,
    round: usize,
    checked: &mut Checked,
) -> io::Result<()> {
    let began = Instant::now();
    let mut instance = subject.start(start)?;
    checked.start = checked.start.max(began.elapsed());
    let seen = examine(&mut instance, history, round == 0, &mut checked.verdict);
    checked.peak_bytes = checked.peak_bytes.max(process::peak_bytes(instance.pid).unwrap_or(0));
    instance.kill()?;
    seen
}

fn examine(
    instance: &mut Instance,
    history: &mut History,
    more: bool,
    verdict: &mut Verdict,
) -> io::Result<()> {
    let known = STREAMS.map(|stream| (stream.name, history.last_acked(stream.name)));
    let dump = instance.dump(&known.into())?;
    let mut found = judge(history, &dump);
    if more {
        let mut answers = Vec::new();
        let created = |stream| {
            let made = history.entries.iter().find(|entry| entry.deed == Deed::Create(stream));
            made.is_some_and(|entry| matches!(entry.answered, Some((_, Answer::Done(_)))))
        };
        for stream in STREAMS.into_iter().filter(|stream| created(*stream)).collect::<Vec<_>>() {
            let subject = format!("{}.0", stream.name);
            let number = history.entries.len();
            let deed = Deed::Publish { stream: stream.name, subject: subject.clone(), length: 100 };
            let bytes = body(history.seed, number, 100);
            let request = Request::Publish { stream: stream.name, subject: &subject, body: &bytes };
            let answer = match instance.ask(&request, GIVE_UP.min(PATIENCE)) {
                Ok(Reply::Done(seq)) => Some(Answer::Done(seq)),
                Ok(Reply::Refused(words)) => Some(Answer::Refused(words)),
                Ok(other) => Some(Answer::Refused(format!("{other:?}"))),
                Err(_) => None,
            };
            answers.push((stream.name, answer.clone()));
            let entry = Entry { deed, asked: u64::MAX, answered: answer.map(|answer| (u64::MAX, answer)) };
            history.entries.push(entry);
        }
        let before = History {
            seed: history.seed,
            entries: history.entries[..history.entries.len() - answers.len()].to_vec(),
        };
        found.add(&judge_more(&before, &dump, &answers));
    }
    verdict.named = verdict.named.max(found.named);
    found.named = 0;
    verdict.add(&found);
    Ok(())
}
