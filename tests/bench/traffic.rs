//! One shape of traffic on one server, and what it cost.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::certificate::Certificate;
use crate::client::{Client, Share, gather};
use crate::footprint::Patience;
use crate::report::Scale;
use crate::servers::{Contender, Server};
use crate::shapes::{Audience, KINDS, Shape, Work};
use crate::statistics::Percentiles;
use crate::timed::{self, Message, inbox};
use crate::wire::Wire;

/// What one run of a shape showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Deliveries (or requests answered) that were counted.
    pub(crate) deliveries: u64,
    /// Unless the generator itself sets the pace.
    pub(crate) per_second: Option<f64>,
    /// CPU time of the server per delivery, in µs.
    pub(crate) cpu_us: f64,
    /// The most memory that was resident, in bytes.
    pub(crate) peak: u64,
    /// What was resident once all clients had left.
    pub(crate) settled: u64,
    pub(crate) latency: Option<Percentiles>,
}

/// One figure of a run, and how it is shown.
pub(crate) struct Figure {
    pub(crate) heading: &'static str,
    pub(crate) scale: Scale,
    pub(crate) of: fn(&Figures) -> Option<f64>,
}

/// Deliveries per second, in thousands.
pub(crate) const RATE: Figure = Figure {
    heading: "Messages per second, thousands",
    scale: Scale::more(1),
    of: |f| f.per_second.map(|rate| rate / 1e3),
};
/// CPU time per delivery.
pub(crate) const CPU: Figure =
    Figure { heading: "Server CPU per message, µs", scale: Scale::less(3), of: |f| Some(f.cpu_us) };
/// Half of the messages were faster.
pub(crate) const P50: Figure =
    Figure { heading: "Latency p50, µs", scale: Scale::less(0), of: |f| micros(f.latency.as_ref()?.p50) };
/// All but one in a hundred were faster.
pub(crate) const P99: Figure =
    Figure { heading: "Latency p99, µs", scale: Scale::less(0), of: |f| micros(f.latency.as_ref()?.p99) };
/// All but one in a thousand were faster.
pub(crate) const P999: Figure =
    Figure { heading: "Latency p99.9, µs", scale: Scale::less(0), of: |f| micros(f.latency.as_ref()?.p999) };
/// Resident memory at its most.
pub(crate) const PEAK: Figure =
    Figure { heading: "Peak RSS, MB", scale: Scale::less(1), of: |f| Some(f.peak as f64 / 1e6) };
/// Resident memory after the load.
pub(crate) const SETTLED: Figure =
    Figure { heading: "Settled RSS, MB", scale: Scale::less(1), of: |f| Some(f.settled as f64 / 1e6) };
/// In the order of the report.
pub(crate) const FIGURES: &[Figure] = &[RATE, CPU, P50, P99, P999, PEAK, SETTLED];

fn micros(time: Duration) -> Option<f64> {
    Some(time.as_secs_f64() * 1e6)
}

/// Bytes that a publisher gives to the kernel at once, about.
const WRITE_BYTES: usize = 64 * 1024;
/// So much of the work is done before anything is measured: caches fill, and a heap finds its size.
const WARM_UP: f64 = 0.1;
/// What most of the load is published to.
pub(crate) const SUBJECT: &str = "load.subject";

/// Runs `shape`, scaled by `share`, on a fresh process.
pub(crate) fn run(
    shape: &Shape,
    share: f64,
    patience: Patience,
    contender: &Contender,
    certificate: &Certificate,
) -> Result<Figures, String> {
    let with_tls = matches!(shape.work, Work::Stream { tls: true, .. });
    let server = contender.start(with_tls.then_some(certificate))?;
    let io = |error: io::Error| error.to_string();
    let share = match server.wire {
        Wire::Nats => share,
        Wire::Mqtt => share * shape.mqtt_share(),
    };
    let count = shape.scaled(share);
    let mut load = Load::connect(shape, &server, with_tls.then_some(&certificate.trusted)).map_err(io)?;
    load.pass(shape.scaled(share * WARM_UP)).map_err(io)?;

    let (cpu, began) = (server.account.cpu()?, Instant::now());
    let times = load.pass(count).map_err(io)?;
    let (took, cpu) = (began.elapsed(), server.account.cpu()?.saturating_sub(cpu));
    load.check().map_err(io)?;

    let peak = server.account.resident_max()?;
    drop(load);
    let settled = server.account.settled(patience.settling)?;
    let deliveries = count * shape.deliveries();
    let paced = matches!(shape.work, Work::Paced { .. });
    Ok(Figures {
        deliveries,
        per_second: (!paced).then(|| deliveries as f64 / took.as_secs_f64()),
        cpu_us: cpu.as_secs_f64() * 1e6 / deliveries as f64,
        peak,
        settled,
        latency: Percentiles::of(times),
    })
}

/// The connections that a shape takes.
struct Load {
    shape: Shape,
    wire: Wire,
    publishers: Vec<Client>,
    subscribers: Vec<Client>,
    /// Subscribes and unsubscribes beside the traffic.
    restless: Option<Client>,
}

impl Load {
    fn connect(shape: &Shape, server: &Server, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let connect = || Client::connect(server, tls);
        let listen = |filter: &str, queue| {
            let mut client = connect()?;
            client.subscribe(filter, queue)?;
            io::Result::Ok(client)
        };
        let (publishers, subscribers) = match shape.work {
            Work::Stream { publishers, audience, .. } => {
                let subscribers: io::Result<Vec<Client>> = match audience {
                    Audience::Nobody => Ok(Vec::new()),
                    Audience::Each(count) => (0..count).map(|_| listen(SUBJECT, None)).collect(),
                    Audience::Group(count) => (0..count).map(|_| listen(SUBJECT, Some("group"))).collect(),
                    Audience::Wildcards => {
                        let narrow = KINDS.iter().map(|kind| format!("plant.*.{kind}"));
                        std::iter::once("plant.>".into()).chain(narrow).map(|f| listen(&f, None)).collect()
                    }
                };
                (publishers, subscribers?)
            }
            Work::Paced { .. } => (1, vec![listen(SUBJECT, None)?]),
            Work::Requests { requesters } => {
                // Requesters are the publishers here, and each listens on an inbox as client libraries do.
                let responder = listen(SUBJECT, None)?;
                (requesters, vec![responder])
            }
        };
        let mut publishers: Vec<Client> = (0..publishers).map(|_| connect()).collect::<io::Result<_>>()?;
        if let Work::Requests { .. } = shape.work {
            for (number, requester) in publishers.iter_mut().enumerate() {
                requester.subscribe(&format!("{}.*", inbox(number)), None)?;
            }
        }
        let restless = match shape.work {
            Work::Stream { churn: true, .. } => Some(connect()?),
            _ => None,
        };
        Ok(Self { shape: *shape, wire: server.wire, publishers, subscribers, restless })
    }

    /// Does so much work, and returns when all of it has arrived. Where the way of each message is timed, with these
    /// times.
    fn pass(&mut self, count: u64) -> io::Result<Vec<Duration>> {
        let message = Message { wire: self.wire, payload: self.shape.payload };
        match self.shape.work {
            Work::Stream { audience, .. } => self.stream(audience, count).map(|()| Vec::new()),
            Work::Paced { per_second } => {
                let (publisher, subscriber) = (&mut self.publishers[0], &mut self.subscribers[0]);
                timed::paced(publisher, subscriber, message, per_second, count)
            }
            Work::Requests { .. } => {
                timed::requests(&mut self.publishers, &mut self.subscribers[0], message, count)
            }
        }
    }

    /// Fails if a subscriber got more than it should.
    fn check(&mut self) -> io::Result<()> {
        self.subscribers.iter_mut().try_for_each(Client::fence_in_silence)
    }

    fn stream(&mut self, audience: Audience, count: u64) -> io::Result<()> {
        let Self { shape, wire, publishers, subscribers, restless } = self;
        let each = count / publishers.len() as u64;
        let payload = vec![b'x'; shape.payload];
        // The subjects of one publisher, in turn.
        let subjects = |number: usize| match audience {
            Audience::Wildcards => KINDS.iter().map(|kind| format!("plant.line{number:03}.{kind}")).collect(),
            _ => vec![SUBJECT.to_owned()],
        };
        let units: Vec<Unit> = (0..publishers.len())
            .map(|number| {
                let subjects = subjects(number);
                let bytes =
                    subjects.iter().flat_map(|subject| wire.publish(subject, None, &payload)).collect();
                Unit { bytes, messages: subjects.len() as u64 }
            })
            .collect();
        let one = wire.delivered(&subjects(0)[0], None, shape.payload) as u64;
        let share = match audience {
            Audience::Nobody => Share::Total(0),
            Audience::Each(subscribers) => Share::Each(vec![one * count; subscribers]),
            Audience::Group(_) => Share::Total(one * count),
            Audience::Wildcards => {
                let narrow = vec![one * count / KINDS.len() as u64; KINDS.len()];
                Share::Each([vec![one * count], narrow].concat())
            }
        };
        thread::scope(|scope| {
            let mut threads = vec![scope.spawn(|| gather(subscribers, &share))];
            for (publisher, unit) in publishers.iter_mut().zip(units) {
                threads.push(scope.spawn(move || {
                    unit.send(publisher, each)?;
                    publisher.fence()
                }));
            }
            if let Some(restless) = restless {
                threads.push(scope.spawn(move || churn(restless, count / 10)));
            }
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().expect("a generator's thread does not panic"))
        })
    }
}

/// What a publisher says again and again.
struct Unit {
    bytes: Vec<u8>,
    messages: u64,
}

impl Unit {
    fn send(&self, publisher: &mut Client, messages: u64) -> io::Result<()> {
        let units = messages / self.messages;
        let per_write = (WRITE_BYTES / self.bytes.len()).max(1) as u64;
        let batch = self.bytes.repeat(usize::try_from(per_write.min(units)).expect("a batch fits memory"));
        for _ in 0..units / per_write {
            publisher.write_all(&batch)?;
        }
        let rest = usize::try_from(units % per_write).expect("a batch fits memory") * self.bytes.len();
        publisher.write_all(&batch[..rest])
    }
}

/// Subscribes and unsubscribes `pairs` times: every other time an inbox, else something near the traffic.
fn churn(client: &mut Client, pairs: u64) -> io::Result<()> {
    let mut batch = Vec::new();
    for number in 0..pairs {
        let filter = match number % 2 {
            0 => format!("{}.*", inbox(usize::try_from(number).unwrap_or(0))),
            _ => format!("load.{number}"),
        };
        batch.extend(client_says(&filter, number));
        if batch.len() >= WRITE_BYTES {
            client.write_all(&batch)?;
            batch.clear();
        }
    }
    client.write_all(&batch)?;
    client.fence()
}

fn client_says(filter: &str, number: u64) -> Vec<u8> {
    let mut bytes = Wire::Nats.subscribe(filter, None, number + 1);
    bytes.extend_from_slice(format!("UNSUB {}\r\n", number + 1).as_bytes());
    bytes
}
