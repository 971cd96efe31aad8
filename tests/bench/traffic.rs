//! One shape of traffic on one server, and what it cost.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::certificate::Certificate;
use crate::client::{Client, Share, gather};
use crate::servers::{Contender, Server};
use crate::shapes::{Audience, KINDS, Shape, Work};
use crate::statistics::Percentiles;
use crate::wire::{PING, PONG, Wire};

/// What one run of a shape showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Deliveries (or requests answered) that were counted.
    pub(crate) deliveries: u64,
    pub(crate) per_second: f64,
    /// CPU time of the server per delivery, in µs.
    pub(crate) cpu_us: f64,
    /// The most memory that was resident, in bytes.
    pub(crate) peak: u64,
    /// What was resident once all clients had left.
    pub(crate) settled: u64,
    pub(crate) latency: Option<Percentiles>,
}

/// Bytes that a publisher gives to the kernel at once, about.
const WRITE_BYTES: usize = 64 * 1024;
/// So much of the work is done before anything is measured: caches fill, and a heap finds its size.
const WARM_UP: f64 = 0.1;
/// How long memory may take to settle.
const SETTLING: Duration = Duration::from_secs(3);
const SUBJECT: &str = "load.subject";

/// Runs `shape`, scaled by `share`, on a fresh process.
pub(crate) fn run(
    shape: &Shape,
    share: f64,
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
    let settled = server.account.settled(SETTLING)?;
    let deliveries = count * shape.deliveries();
    Ok(Figures {
        deliveries,
        per_second: deliveries as f64 / took.as_secs_f64(),
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
        match self.shape.work {
            Work::Stream { audience, .. } => self.stream(audience, count).map(|()| Vec::new()),
            Work::Paced { per_second } => self.paced(per_second, count),
            Work::Requests { .. } => self.requests(count),
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

    fn paced(&mut self, per_second: u32, count: u64) -> io::Result<Vec<Duration>> {
        let (wire, payload) = (self.wire, self.shape.payload);
        let [publisher] = self.publishers.as_mut_slice() else { unreachable!("one publisher") };
        let [subscriber] = self.subscribers.as_mut_slice() else { unreachable!("one subscriber") };
        let length = wire.delivered(SUBJECT, None, payload);
        let epoch = Instant::now();
        let pause = Duration::from_secs(1) / per_second;
        thread::scope(|scope| {
            let sender = scope.spawn(move || {
                for number in 0..u32::try_from(count).unwrap_or(u32::MAX) {
                    thread::sleep((pause * number).saturating_sub(epoch.elapsed()));
                    let mut stamped = vec![b'x'; payload];
                    stamped[..STAMP].copy_from_slice(&stamp(epoch));
                    publisher.write_all(&wire.publish(SUBJECT, None, &stamped))?;
                }
                publisher.fence()
            });
            let mut frames = Frames::new(subscriber, length);
            let mut times = Vec::new();
            for _ in 0..count {
                let frame = frames.next()?;
                let at = length - wire.trailer() - payload;
                times.push(epoch.elapsed().saturating_sub(stamped(&frame[at..])?));
            }
            sender.join().expect("a generator's thread does not panic")?;
            Ok(times)
        })
    }

    fn requests(&mut self, count: u64) -> io::Result<Vec<Duration>> {
        let (wire, payload) = (self.wire, vec![b'x'; self.shape.payload]);
        let each = count / self.publishers.len() as u64;
        let [responder] = self.subscribers.as_mut_slice() else { unreachable!("one responder") };
        let payload = payload.as_slice();
        thread::scope(|scope| {
            let responder = scope.spawn(move || respond(responder, wire, payload, count));
            let requesters: Vec<_> = self
                .publishers
                .iter_mut()
                .enumerate()
                .map(|(number, client)| scope.spawn(move || request(client, wire, number, payload, each)))
                .collect();
            let mut times = Vec::new();
            for requester in requesters {
                times.extend(requester.join().expect("a generator's thread does not panic")?);
            }
            responder.join().expect("a generator's thread does not panic")?;
            Ok(times)
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

/// As long as those of client libraries.
fn inbox(number: usize) -> String {
    format!("_INBOX.{number:022}")
}

/// Digits of a request's number.
const NUMBER: usize = 8;

fn reply_subject(requester: usize, number: u64) -> String {
    format!("{}.{number:0NUMBER$}", inbox(requester))
}

fn request(
    client: &mut Client,
    wire: Wire,
    requester: usize,
    payload: &[u8],
    count: u64,
) -> io::Result<Vec<Duration>> {
    let length = wire.delivered(&reply_subject(requester, 0), None, payload.len());
    let mut times = Vec::new();
    let mut frames = Frames::new(client, length);
    for number in 0..count {
        let reply = reply_subject(requester, number);
        let request = wire.publish(SUBJECT, Some(&reply), payload);
        let asked = Instant::now();
        frames.client.write_all(&request)?;
        let answer = frames.next()?;
        times.push(asked.elapsed());
        if !answer.windows(reply.len()).any(|window| window == reply.as_bytes()) {
            return Err(io::Error::other("an answer to another request"));
        }
    }
    Ok(times)
}

fn respond(client: &mut Client, wire: Wire, payload: &[u8], count: u64) -> io::Result<()> {
    let reply = reply_subject(0, 0).len();
    let length = wire.delivered(SUBJECT, Some(&reply_subject(0, 0)), payload.len());
    let head = "MSG ".len() + SUBJECT.len() + " 1 ".len();
    let mut frames = Frames::new(client, length);
    let mut answers = Vec::new();
    for number in 1..=count {
        let frame = frames.next()?;
        let to = std::str::from_utf8(&frame[head..head + reply]).map_err(io::Error::other)?;
        answers.extend(wire.publish(to, None, payload));
        // What came together is answered together.
        if !frames.has_more() || number == count {
            frames.client.write_all(&answers)?;
            answers.clear();
        }
    }
    Ok(())
}

/// Messages of one length, one after the other.
struct Frames<'a> {
    client: &'a mut Client,
    length: usize,
    buffer: Vec<u8>,
    /// The part of the buffer that holds input.
    from: usize,
    to: usize,
}

impl<'a> Frames<'a> {
    fn new(client: &'a mut Client, length: usize) -> Self {
        Self { client, length, buffer: vec![0; length.max(64 * 1024)], from: 0, to: 0 }
    }

    fn next(&mut self) -> io::Result<&[u8]> {
        loop {
            if self.buffer[self.from..self.to].starts_with(PING) {
                self.from += PING.len();
                self.client.write_all(PONG)?;
            } else if self.has_more() {
                let start = self.from;
                self.from += self.length;
                return Ok(&self.buffer[start..self.from]);
            } else {
                self.buffer.copy_within(self.from..self.to, 0);
                (self.from, self.to) = (0, self.to - self.from);
                let n = self.client.read(&mut self.buffer[self.to..])?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.to += n;
            }
        }
    }

    /// Whether the next one is here.
    fn has_more(&self) -> bool {
        self.to - self.from >= self.length
    }
}

/// Bytes of a time in a payload.
const STAMP: usize = 16;

fn stamp(epoch: Instant) -> [u8; STAMP] {
    let text = format!("{:0STAMP$}", epoch.elapsed().as_nanos());
    text.as_bytes().try_into().expect("runs of this program last less than a hundred days")
}

fn stamped(payload: &[u8]) -> io::Result<Duration> {
    let text = payload.get(..STAMP).and_then(|text| std::str::from_utf8(text).ok());
    let nanos = text.and_then(|text| text.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| io::Error::other("a message without the time"))
}
