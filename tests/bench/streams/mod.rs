//! What streams cost: on disk, beside nats-server as it comes and nats-server that waits for the disk as midged does.

mod talk;

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::footprint::Patience;
use crate::report::{Scale, number};
use crate::servers::{Contender, REFERENCE, Server};
use crate::statistics::Percentiles;
use talk::Talker;

/// The heading of their table.
pub(crate) const STREAMS: &str = "Streams on disk";

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// So many publishers, each with so many messages of 128 B unanswered; 1 waits for each answer.
    Publish { publishers: u64, window: u64 },
    /// The same on a disk whose flush takes 5 ms, as `tests/bench/run` makes one: beside who waits for it, too.
    PublishSlowly { publishers: u64, window: u64 },
    /// A pull consumer fetches, 500 at a time, and acknowledges each or none.
    Consume { acks: bool },
    /// Puts into a bucket, one after the other.
    Put,
    /// Gets from a bucket, one after the other.
    Get,
    /// 500 MB of messages, and a process that was killed.
    Restart,
    /// 200,000 keys in a bucket, and 200 streams with a consumer each.
    Rest,
}

/// All of them, in the order of the report.
pub(crate) const WORKS: &[Work] = &[
    Work::Publish { publishers: 1, window: 1_000 },
    Work::Publish { publishers: 8, window: 64 },
    Work::Publish { publishers: 1, window: 1 },
    Work::PublishSlowly { publishers: 1, window: 1_000 },
    Work::PublishSlowly { publishers: 8, window: 64 },
    Work::Consume { acks: false },
    Work::Consume { acks: true },
    Work::Put,
    Work::Get,
    Work::Restart,
    Work::Rest,
];

const PAYLOAD: usize = 128;
/// Of the messages that fill a store.
const LARGE: usize = 8 * 1024;

type Result<T> = std::result::Result<T, String>;

impl Work {
    pub(crate) fn title(self) -> String {
        match self {
            Self::Publish { publishers: 1, window: 1 } => "publish, wait for each answer".into(),
            Self::Publish { publishers, window } => {
                let who =
                    if publishers == 1 { "1 publisher".into() } else { format!("{publishers} publishers") };
                format!("{who}, {} unanswered", number(window as f64, 0))
            }
            Self::PublishSlowly { publishers, window } => {
                format!("a flush takes 5 ms, {}", Self::Publish { publishers, window }.title())
            }
            Self::Consume { acks: false } => "consume without acknowledgements".into(),
            Self::Consume { acks: true } => "consume, acknowledge each".into(),
            Self::Put => "key-value put".into(),
            Self::Get => "key-value get".into(),
            Self::Restart => "500 MB stored, killed".into(),
            Self::Rest => "200,000 keys, 200 streams and consumers".into(),
        }
    }

    /// What [`Work::measure`] returns, in its order.
    pub(crate) fn figures(self) -> Vec<(String, Scale)> {
        let rate = ("messages per second", Scale::more(0));
        let cpu = ("CPU per message, µs", Scale::less(2));
        let peak = ("peak RSS, MB", Scale::less(1));
        let times = [("p50, µs", Scale::less(0)), ("p99, µs", Scale::less(0))];
        let figures = match self {
            Self::Publish { window: 1, .. } | Self::Put | Self::Get => vec![rate, cpu, times[0], times[1]],
            Self::Publish { .. } | Self::Consume { .. } => vec![rate, cpu, peak],
            Self::PublishSlowly { .. } => vec![rate],
            Self::Restart => {
                vec![("accepts clients after, ms", Scale::less(1)), ("knows all after, ms", Scale::less(1))]
            }
            Self::Rest => vec![("RSS, MB", Scale::less(1)), ("RSS after a restart, MB", Scale::less(1))],
        };
        figures.into_iter().map(|(figure, scale)| (format!("{}: {figure}", self.title()), scale)).collect()
    }

    /// Messages of one run on a server that is as fast as `contender`.
    fn count(self, contender: &Contender, share: f64) -> u64 {
        let whole = match self {
            Self::Publish { window: 1, .. } | Self::Put => 10_000.0,
            Self::Publish { .. } | Self::PublishSlowly { .. } => 200_000.0,
            Self::Consume { .. } => 300_000.0,
            Self::Get => 20_000.0,
            Self::Restart => 500e6 / LARGE as f64,
            Self::Rest => 200_000.0,
        };
        // The less, the slower; a rate is seen all the same. Who waits for each answer is as fast with everybody that
        // waits for the disk, and a start is dearer than what follows: there everybody does as much.
        let part = match self {
            Self::Publish { window: 1, .. } => 1.0,
            Self::Publish { .. } if contender.is_slow_with_streams() => 0.02,
            Self::PublishSlowly { .. } if contender.is_slow_with_streams() => 0.002,
            _ => 1.0,
        };
        ((whole * share * part) as u64).max(10)
    }

    /// Whether it hardly varies, and takes long to see.
    pub(crate) fn is_long(self) -> bool {
        matches!(self, Self::Restart | Self::Rest | Self::PublishSlowly { .. })
    }

    /// Whether it can be done here.
    pub(crate) fn is_possible(self) -> bool {
        !matches!(self, Self::PublishSlowly { .. }) || slow_disk().is_some()
    }

    /// Whether it says anything new of a server that waits for the disk.
    pub(crate) fn fits(self, contender: &Contender) -> bool {
        // What waits for no disk doesn't notice that it is slow.
        if let Self::PublishSlowly { .. } = self {
            return contender.name != REFERENCE;
        }
        !contender.is_slow_with_streams()
            || !matches!(self, Self::Get | Self::Consume { acks: false } | Self::Restart | Self::Rest)
    }

    /// One run on a fresh process with an empty store.
    pub(crate) fn measure(self, contender: &Contender, share: f64, patience: Patience) -> Result<Vec<f64>> {
        let place = match self {
            Self::PublishSlowly { .. } => slow_disk().ok_or("there is no slow disk")?,
            _ => std::env::temp_dir(),
        };
        let directory = tempfile::Builder::new().prefix("midge-streams-").tempdir_in(place).map_err(said)?;
        let server = contender.start_with_streams(directory.path())?;
        let count = self.count(contender, share);
        match self {
            Self::Publish { publishers, window } => publish(&server, publishers, window, count),
            Self::PublishSlowly { publishers, window } => {
                let figures = publish(&server, publishers, window, count)?;
                Ok(figures.into_iter().take(1).collect())
            }
            Self::Consume { acks } => consume(&server, count, acks),
            Self::Put | Self::Get => bucket(&server, count, self == Self::Get),
            Self::Restart => {
                fill(&server, "S", count, LARGE)?;
                drop(server);
                let began = Instant::now();
                let server = contender.start_with_streams(directory.path())?;
                let messages = format!("\"messages\":{count},");
                let mut talker = Talker::connect(&server, 0).map_err(said)?;
                // Nobody answers until the streams are there.
                while !talker.ask("$JS.API.STREAM.INFO.S", "").map_err(said)?.contains(&messages) {
                    if began.elapsed() > crate::client::PATIENCE {
                        return Err("messages are missing after a restart".into());
                    }
                }
                let knows = began.elapsed();
                Ok(vec![millis(server.accepted_after), millis(knows)])
            }
            Self::Rest => {
                let mut talker = Talker::connect(&server, 0).map_err(said)?;
                make(&mut talker, "KV_B", "$KV.B.>", KEY_VALUE)?;
                let key = |number| format!("$KV.B.room.{number:06}.temp");
                talker.publish(count, 1_000, &key, &[b'x'; 32]).map_err(said)?;
                for number in 0..(200.0 * share.min(1.0)).max(1.0) as u64 {
                    let stream = format!("S{number}");
                    make(&mut talker, &stream, &format!("s{number}.>"), "")?;
                    add_consumer(&mut talker, &stream, "explicit")?;
                }
                drop(talker);
                let before = server.account.settled(patience.settling)?;
                drop(server);
                let server = contender.start_with_streams(directory.path())?;
                let mut talker = Talker::connect(&server, 0).map_err(said)?;
                talker.api("STREAM.INFO.KV_B", "").map_err(said)?;
                thread::sleep(patience.rest);
                Ok(vec![before as f64 / 1e6, server.account.settled(patience.settling)? as f64 / 1e6])
            }
        }
    }
}

/// A file system on a disk whose flush takes 5 ms, if `tests/bench/run` could make one.
fn slow_disk() -> Option<PathBuf> {
    std::env::var_os("MIDGE_SLOW_DISK").map(PathBuf::from)
}

const KEY_VALUE: &str =
    ",\"max_msgs_per_subject\":1,\"discard\":\"new\",\"allow_rollup_hdrs\":true,\"allow_direct\":true";

fn make(talker: &mut Talker, stream: &str, subjects: &str, more: &str) -> Result<()> {
    let config =
        format!("{{\"name\":\"{stream}\",\"subjects\":[\"{subjects}\"],\"storage\":\"file\"{more}}}");
    talker.api(&format!("STREAM.CREATE.{stream}"), &config).map(drop).map_err(said)
}

fn add_consumer(talker: &mut Talker, stream: &str, acks: &str) -> Result<()> {
    let request = format!(
        "{{\"stream_name\":\"{stream}\",\"config\":{{\"durable_name\":\"C\",\"ack_policy\":\"{acks}\",\
         \"deliver_policy\":\"all\",\"max_ack_pending\":-1}}}}"
    );
    talker.api(&format!("CONSUMER.CREATE.{stream}.C"), &request).map(drop).map_err(said)
}

/// Lays `count` messages into a new stream.
fn fill(server: &Server, stream: &str, count: u64, payload: usize) -> Result<()> {
    let mut talker = Talker::connect(server, 0).map_err(said)?;
    make(&mut talker, stream, "load.>", "")?;
    talker.publish(count, 1_000, &|_| "load.subject".into(), &vec![b'x'; payload]).map(drop).map_err(said)
}

fn publish(server: &Server, publishers: u64, window: u64, count: u64) -> Result<Vec<f64>> {
    fill(server, "S", (count / 10).max(1), PAYLOAD)?;
    let each = count / publishers;
    let mut talkers: Vec<Talker> = (1..)
        .take(publishers as usize)
        .map(|n| Talker::connect(server, n))
        .collect::<io::Result<_>>()
        .map_err(said)?;
    let meter = Meter::start(server)?;
    let times = thread::scope(|scope| {
        let threads: Vec<_> = talkers
            .iter_mut()
            .map(|talker| {
                scope
                    .spawn(move || talker.publish(each, window, &|_| "load.subject".into(), &[b'x'; PAYLOAD]))
            })
            .collect();
        let mut times = Vec::new();
        for thread in threads {
            times.extend(thread.join().expect("a generator's thread does not panic")?);
        }
        io::Result::Ok(times)
    });
    let [rate, cpu] = meter.read(each * publishers)?;
    let times = times.map_err(said)?;
    Ok(match Percentiles::of(times) {
        None => vec![rate, cpu, server.account.resident_max()? as f64 / 1e6],
        Some(times) => vec![rate, cpu, micros(times.p50), micros(times.p99)],
    })
}

fn consume(server: &Server, count: u64, acks: bool) -> Result<Vec<f64>> {
    fill(server, "S", count, PAYLOAD)?;
    let mut talker = Talker::connect(server, 1).map_err(said)?;
    add_consumer(&mut talker, "S", if acks { "explicit" } else { "none" })?;
    let meter = Meter::start(server)?;
    talker.consume("S.C", count, acks).map_err(said)?;
    let [rate, cpu] = meter.read(count)?;
    Ok(vec![rate, cpu, server.account.resident_max()? as f64 / 1e6])
}

fn bucket(server: &Server, count: u64, gets: bool) -> Result<Vec<f64>> {
    const KEYS: u64 = 1_000;
    let mut talker = Talker::connect(server, 0).map_err(said)?;
    make(&mut talker, "KV_B", "$KV.B.>", KEY_VALUE)?;
    let key = |number| format!("$KV.B.key.{}", number % KEYS);
    if gets {
        talker.publish(KEYS, KEYS, &key, &[b'x'; PAYLOAD]).map_err(said)?;
    }
    let meter = Meter::start(server)?;
    let times = if gets {
        let get = |number| {
            let asked = Instant::now();
            let value = talker.ask(&format!("$JS.API.DIRECT.GET.KV_B.{}", key(number)), "")?;
            if value.len() == PAYLOAD { Ok(asked.elapsed()) } else { Err(io::Error::other(value)) }
        };
        (0..count).map(get).collect::<io::Result<Vec<Duration>>>()
    } else {
        talker.publish(count, 1, &key, &[b'x'; PAYLOAD])
    };
    let [rate, cpu] = meter.read(count)?;
    let times = Percentiles::of(times.map_err(said)?).ok_or("nothing was asked")?;
    Ok(vec![rate, cpu, micros(times.p50), micros(times.p99)])
}

/// The time and the CPU time that something takes.
struct Meter<'a> {
    server: &'a Server,
    began: Instant,
    cpu: Duration,
}

impl<'a> Meter<'a> {
    fn start(server: &'a Server) -> Result<Self> {
        Ok(Self { server, cpu: server.account.cpu()?, began: Instant::now() })
    }

    /// Messages per second, and CPU time of the server for each in µs.
    fn read(&self, messages: u64) -> Result<[f64; 2]> {
        let took = self.began.elapsed();
        let cpu = self.server.account.cpu()?.saturating_sub(self.cpu);
        Ok([messages as f64 / took.as_secs_f64(), micros(cpu) / messages as f64])
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn said(error: io::Error) -> String {
    error.to_string()
}
