//! What a server costs while little or nothing happens.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::report::{Scale, number};
use crate::servers::{Contender, Server};
use crate::wire::Wire;

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Footprint {
    /// From the start of the process to a client's first byte.
    Start,
    /// Memory and wake-ups without clients and with ten.
    Idle,
    /// So many connections with one subscription each, at rest, and after they have left.
    Connections(u32),
    /// So many subscriptions on subjects of their own, and after they have left.
    Subscriptions(u32),
    /// Bytes of the executable, without symbols.
    Binary,
}

/// All of them, in the order of the report.
pub(crate) const FOOTPRINTS: &[Footprint] = &[
    Footprint::Start,
    Footprint::Idle,
    Footprint::Connections(1_000),
    Footprint::Connections(10_000),
    Footprint::Subscriptions(100_000),
    Footprint::Subscriptions(1_000_000),
    Footprint::Binary,
];

/// How long servers are watched and left alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// The time in which wake-ups are counted.
    pub(crate) idle: Duration,
    /// The time between an event and a look at what it left. Servers ping new clients after two seconds.
    pub(crate) rest: Duration,
    /// The time that memory has to settle.
    pub(crate) settling: Duration,
}

const IDLE_CLIENTS: u32 = 10;
/// Connections that subscriptions are spread over.
const SUBSCRIBERS: u32 = 10;
/// Starts in one round; their median counts.
const STARTS: usize = 5;

impl Footprint {
    pub(crate) fn title(self) -> String {
        match self {
            Self::Start => "start".into(),
            Self::Idle => "idle".into(),
            Self::Connections(count) => format!("{} idle connections", number(count.into(), 0)),
            Self::Subscriptions(count) => format!("{} subscriptions", number(count.into(), 0)),
            Self::Binary => "stripped binary, MB".into(),
        }
    }

    /// What [`Footprint::measure`] returns, in its order.
    pub(crate) fn figures(self) -> Vec<(String, Scale)> {
        let with = |figures: &[(&str, Scale)]| {
            figures.iter().map(|(figure, scale)| (format!("{}: {figure}", self.title()), *scale)).collect()
        };
        match self {
            Self::Start => with(&[("accepts clients after, ms", Scale::less(1))]),
            Self::Idle => with(&[
                ("RSS without clients, MB", Scale::less(2)),
                ("wake-ups per second without clients", Scale::less(2)),
                ("RSS with 10 clients, MB", Scale::less(2)),
                ("wake-ups per second with 10 clients", Scale::less(2)),
            ]),
            Self::Connections(_) => with(&[
                ("bytes each", Scale::less(0)),
                ("RSS, MB", Scale::less(2)),
                ("RSS after they have left, MB", Scale::less(2)),
                ("bytes each that stay behind", Scale::less(0)),
            ]),
            Self::Subscriptions(_) => with(&[
                ("bytes each", Scale::less(1)),
                ("RSS, MB", Scale::less(2)),
                ("RSS after they have left, MB", Scale::less(2)),
            ]),
            Self::Binary => vec![(self.title(), Scale::less(2))],
        }
    }

    /// With fewer connections or subscriptions, for a trial.
    pub(crate) fn scaled(self, share: f64) -> Self {
        let some = |count: u32| ((f64::from(count) * share) as u32).max(SUBSCRIBERS);
        match self {
            Self::Connections(count) => Self::Connections(some(count)),
            Self::Subscriptions(count) => Self::Subscriptions(some(count)),
            other => other,
        }
    }

    /// Whether an MQTT broker can be measured so: it confirms each subscription, which none of the others does.
    pub(crate) fn fits_mqtt(self) -> bool {
        !matches!(self, Self::Subscriptions(_))
    }

    /// Whether servers may be watched at the same time, because none of them does anything.
    pub(crate) fn is_quiet(self) -> bool {
        self == Self::Idle
    }

    /// Whether it is the same each time.
    pub(crate) fn is_exact(self) -> bool {
        self == Self::Binary
    }

    /// Descriptors that it takes on each side.
    pub(crate) fn descriptors(self) -> u64 {
        match self {
            Self::Connections(count) => u64::from(count) + 100,
            _ => 100,
        }
    }

    pub(crate) fn measure(self, contender: &Contender, patience: Patience) -> Result<Vec<f64>, String> {
        match self {
            Self::Start => start(contender),
            Self::Idle => idle(contender, patience),
            Self::Connections(count) => connections(contender, count, patience),
            Self::Subscriptions(count) => subscriptions(contender, count, patience),
            Self::Binary => Ok(vec![megabytes(stripped(contender)?)]),
        }
    }
}

fn start(contender: &Contender) -> Result<Vec<f64>, String> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        times.push(contender.start(None)?.accepted_after.as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(vec![times[STARTS / 2]])
}

fn idle(contender: &Contender, patience: Patience) -> Result<Vec<f64>, String> {
    let servers = [contender.start(None)?, contender.start(None)?];
    let mut crowd = Crowd::connect(&servers[1], IDLE_CLIENTS, &|_| Vec::new())?;
    crowd.rest(patience.rest)?;
    let count = || -> Result<[u64; 2], String> {
        Ok([servers[0].account.switches()?, servers[1].account.switches()?])
    };
    let (before, began) = (count()?, Instant::now());
    thread::sleep(patience.idle);
    let (after, took) = (count()?, began.elapsed());
    let mut figures = Vec::new();
    for ((server, before), after) in servers.iter().zip(before).zip(after) {
        figures.push(megabytes(server.account.resident()?));
        figures.push(after.saturating_sub(before) as f64 / took.as_secs_f64());
    }
    Ok(figures)
}

fn connections(contender: &Contender, count: u32, patience: Patience) -> Result<Vec<f64>, String> {
    let server = contender.start(None)?;
    let before = server.account.settled(patience.settling)?;
    let subscribe = |number| server.wire.subscribe(&format!("idle.{number}.temp"), None, 1);
    let mut crowd = Crowd::connect(&server, count, &subscribe)?;
    crowd.rest(patience.rest)?;
    let with = server.account.settled(patience.settling)?;
    drop(crowd);
    thread::sleep(patience.rest);
    let after = server.account.settled(patience.settling)?;
    let each = |bytes: u64| (bytes as f64 - before as f64) / f64::from(count);
    Ok(vec![each(with), megabytes(with), megabytes(after), each(after)])
}

fn subscriptions(contender: &Contender, count: u32, patience: Patience) -> Result<Vec<f64>, String> {
    let server = contender.start(None)?;
    let each = count / SUBSCRIBERS;
    let subscribe = |number: u32| {
        let mine = (number * each)..(number + 1) * each;
        mine.flat_map(|n| Wire::Nats.subscribe(&format!("sensors.{n}.temp"), None, n.into())).collect()
    };
    // The connections are there before the subscriptions, which alone are measured.
    let mut crowd = Crowd::connect(&server, SUBSCRIBERS, &|_| Vec::new())?;
    let before = server.account.settled(patience.settling)?;
    crowd.say(&subscribe)?;
    crowd.rest(patience.rest)?;
    let with = server.account.settled(patience.settling)?;
    drop(crowd);
    thread::sleep(patience.rest);
    let after = server.account.settled(patience.settling)?;
    let each = with.saturating_sub(before) as f64 / f64::from(each * SUBSCRIBERS);
    Ok(vec![each, megabytes(with), megabytes(after)])
}

/// Clients that do nothing but answer pings.
struct Crowd {
    clients: Vec<Client>,
}

/// What a client says, told by its number.
type Words<'a> = &'a dyn Fn(u32) -> Vec<u8>;

impl Crowd {
    fn connect(server: &Server, count: u32, words: Words<'_>) -> Result<Self, String> {
        /// Numbers the connections of the whole run, so that none meets a port that rests.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let first = NEXT.fetch_add(count, Ordering::Relaxed);
        let connect = |number| {
            Client::connect_one_of_many(server, first + number, &words(number))
                .map_err(|error| format!("connection {number} of {count}: {error}"))
        };
        Ok(Self { clients: (0..count).map(connect).collect::<Result<_, _>>()? })
    }

    fn say(&mut self, words: Words<'_>) -> Result<(), String> {
        for (number, client) in (0..).zip(&mut self.clients) {
            client.say(&words(number)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Waits, and answers pings meanwhile.
    fn rest(&mut self, time: Duration) -> Result<(), String> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            for client in &mut self.clients {
                client.answer_ping().map_err(|error| format!("an idle client was cut off: {error}"))?;
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

/// Bytes of the binary without symbols.
fn stripped(contender: &Contender) -> Result<u64, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let copy = directory.path().join("stripped");
    let status = Command::new("strip").arg("-o").arg(&copy).arg(&contender.path).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("strip: {status}")),
        Err(error) => return Err(format!("strip: {error}")),
    }
    std::fs::metadata(&copy).map(|meta| meta.len()).map_err(|error| error.to_string())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
