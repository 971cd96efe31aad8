//! An engine with as much of a broker around it as it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use midge_protocol::subject::Filter;
use midge_store::disk::sim::{Fault, SimDisk};
use midge_store::{Health, Options, Store};
use midge_stream::log::{FileShelf, Keeper};
use midge_stream::time::{Instant, Now};
use midge_stream::{AccountLimits, Engine, Fate, Input, Message, Output, Publish, Settings, Tag, Trust};
use serde_json::Value;

/// The first of January 2026.
pub(crate) const EPOCH: i64 = 1_767_225_600_000_000_000;
/// The account that everything is in.
const ACCOUNT: u32 = 0;
/// Where the client listens.
const INBOX: &str = "_IN.>";

/// What somebody was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) to: String,
    pub(crate) subject: String,
    pub(crate) reply: String,
    pub(crate) header: String,
    pub(crate) payload: String,
    /// The payload as it is.
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    keeper: Keeper<SimDisk>,
    segment_bytes: u32,
    trust: Trust,
    /// What the machine's clocks say.
    pub(crate) now: Now,
    subs: Vec<(Bytes, Tag)>,
    watched: Vec<(Bytes, Tag)>,
    /// What clients subscribe to.
    pub(crate) listens: Vec<String>,
    requests: u64,
    pub(crate) seen: Vec<Seen>,
    /// What became of traced messages.
    pub(crate) traced: Vec<(u64, Option<Fate>)>,
}

fn shelf(disk: SimDisk, segment_bytes: u32) -> FileShelf<SimDisk> {
    let options = Options { segment_bytes, seed: 7, ..Options::default() };
    FileShelf::new(Store::open(disk, options).unwrap().0)
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Trust::default(), EPOCH, 1 << 20)
    }

    /// With a clock that says `wall`, and is believed as `trust` says; its disk is small and quick.
    pub(crate) fn with_clock(trust: Trust, wall: i64) -> Self {
        Self::with(trust, wall, 1 << 17)
    }

    /// On a store with segments of so many bytes.
    pub(crate) fn of_segments(segment_bytes: u32) -> Self {
        Self::with(Trust::default(), EPOCH, segment_bytes)
    }

    fn with(trust: Trust, wall: i64, segment_bytes: u32) -> Self {
        let shelf = shelf(SimDisk::new(1), segment_bytes);
        let keeper = shelf.keeper();
        let now = Now { mono: Instant::from_micros(1_000_000), wall };
        let mut world = Self {
            engine: Engine::new(Settings { trust, ..Settings::default() }, Box::new(shelf)),
            keeper,
            segment_bytes,
            trust,
            now,
            subs: Vec::new(),
            watched: Vec::new(),
            listens: vec![INBOX.to_owned()],
            requests: 0,
            seen: Vec::new(),
            traced: Vec::new(),
        };
        world.open();
        world
    }

    fn open(&mut self) {
        self.engine.open_account(ACCOUNT, "$G", AccountLimits::default(), self.now);
        self.engine.load(self.now).unwrap();
        self.run();
    }

    /// The power goes, and comes back.
    pub(crate) fn power_cut(&mut self, seed: u64) {
        let shelf = shelf(self.keeper.with_disk(|disk| disk.crash(seed)), self.segment_bytes);
        self.keeper = shelf.keeper();
        self.engine =
            Engine::new(Settings { trust: self.trust, seed, ..Settings::default() }, Box::new(shelf));
        (self.subs, self.watched) = (Vec::new(), Vec::new());
        self.open();
    }

    /// The machine is switched off, and on again, when its clocks say `now`.
    pub(crate) fn restart(&mut self, now: Now, seed: u64) {
        self.engine.save(self.now).unwrap();
        self.now = now;
        self.power_cut(seed);
    }

    /// Syncs that the disk was asked for since it was mounted.
    pub(crate) fn syncs(&self) -> u64 {
        self.keeper.with_disk(|disk| disk.syncs)
    }

    /// Time passes, and what is due happens on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while let Some(at) = self.engine.deadline().filter(|at| *at <= end) {
            self.set_time(at.max(self.now.mono));
            self.engine.tick(self.now);
            self.run();
        }
        self.set_time(end);
        self.engine.tick(self.now);
        self.run();
    }

    fn set_time(&mut self, at: Instant) {
        self.now.wall += i64::try_from(at.since(self.now.mono).as_nanos()).unwrap();
        self.now.mono = at;
    }

    fn hears(&self, subject: &[u8]) -> bool {
        let subject = Filter::new(subject).unwrap();
        self.listens.iter().any(|filter| Filter::new(filter.as_bytes()).unwrap().overlaps(subject))
    }

    /// Commits, and does what the engine says, until nothing is left.
    pub(crate) fn run(&mut self) {
        loop {
            self.engine.commit(self.now);
            let mut done = true;
            while let Some(output) = self.engine.poll() {
                done = false;
                match output {
                    Output::Subscribe { filter, tag, .. } => self.subs.push((filter, tag)),
                    Output::Unsubscribe { filter, tag } => {
                        self.subs.retain(|sub| *sub != (filter.clone(), tag))
                    }
                    Output::Watch { subject, tag, .. } => {
                        let exists = self.hears(&subject);
                        self.watched.push((subject.clone(), tag));
                        self.engine.handle(Input::Interest { tag, subject: &subject, exists }, self.now);
                    }
                    Output::Unwatch { subject, tag, .. } => {
                        self.watched.retain(|watched| *watched != (subject.clone(), tag));
                    }
                    Output::Publish(publish) => self.deliver(publish),
                    Output::Traced { number, fate } => self.traced.push((number, fate)),
                }
            }
            if done && !self.engine.is_hungry() {
                return;
            }
        }
    }

    fn deliver(&mut self, publish: Publish) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        if self.hears(&publish.subject) {
            self.seen.push(Seen {
                to: text(&publish.subject),
                subject: text(publish.shown.as_ref().unwrap_or(&publish.subject)),
                reply: text(publish.reply.as_deref().unwrap_or_default()),
                header: text(&publish.header),
                payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                bytes: publish.payload.to_vec(),
            });
        } else if let Some(receipt) = publish.receipt {
            self.engine.handle(Input::Lost { receipt, subject: &publish.subject }, self.now);
        }
    }

    /// A client subscribes, or doesn't any more.
    pub(crate) fn listen(&mut self, filter: &str, on: bool) {
        let before: Vec<bool> = self.watched.iter().map(|(subject, _)| self.hears(subject)).collect();
        if on {
            self.listens.push(filter.to_owned());
        } else {
            self.listens.retain(|theirs| theirs != filter);
        }
        for ((subject, tag), before) in self.watched.clone().into_iter().zip(before) {
            let exists = self.hears(&subject);
            if exists != before {
                self.engine.handle(Input::Interest { tag, subject: &subject, exists }, self.now);
            }
        }
        self.run();
    }

    /// From now on every call to the disk fails.
    pub(crate) fn fail(&mut self, fault: Fault) {
        self.keeper.with_disk_mut(|disk| {
            disk.fail_at = Some((disk.calls, fault));
            disk.fail_forever = true;
        });
    }

    /// From now on the disk has room for so many bytes more than are on it.
    pub(crate) fn leave_room(&mut self, bytes: u64) {
        self.keeper.with_disk_mut(|disk| disk.room = disk.used() + bytes);
    }

    /// The disk works again, and that is noticed.
    pub(crate) fn mend(&mut self) {
        self.keeper.with_disk_mut(|disk| disk.fail_at = None);
        for _ in 0..8 {
            self.pass(Duration::from_millis(250));
            self.keeper.maintain(Duration::from_micros(self.now.mono.as_micros()), 1 << 20);
        }
        assert_eq!(self.keeper.health(), Health::Good);
        self.engine.recover(self.now).unwrap();
        self.run();
    }

    /// Changes a byte of every place on the disk where `bytes` are.
    pub(crate) fn rot(&mut self, bytes: &[u8]) {
        self.keeper.with_disk_mut(|disk| {
            let files: Vec<String> = disk.files().map(|(name, _)| name.to_owned()).collect();
            let mut found = false;
            for file in files {
                let there = disk.bytes(&file).unwrap_or_default();
                let places: Vec<usize> = there
                    .windows(bytes.len())
                    .enumerate()
                    .filter(|(_, it)| *it == bytes)
                    .map(|(at, _)| at)
                    .collect();
                for at in places {
                    found |= disk.damage(&file, at, |byte| !byte);
                }
            }
            assert!(found);
        });
    }

    /// What was seen and is asked for.
    pub(crate) fn take(&mut self, wanted: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let (mine, others) = std::mem::take(&mut self.seen).into_iter().partition(wanted);
        self.seen = others;
        mine
    }

    /// Hands a message to the engine, which has not committed it. False if nobody listens.
    pub(crate) fn stage(&mut self, subject: &str, reply: Option<&str>, header: &str, payload: &str) -> bool {
        self.stage_bytes(subject, reply, header, payload.as_bytes())
    }

    /// The same, to the subscriptions of `to`, which see another subject: as consumers deliver.
    pub(crate) fn stage_to(
        &mut self,
        to: &str,
        subject: &str,
        reply: Option<&str>,
        header: &str,
        payload: &str,
    ) {
        let tags: Vec<Tag> =
            self.subs.iter().filter(|(filter, _)| *filter == to.as_bytes()).map(|(_, tag)| *tag).collect();
        for tag in tags {
            let (subject, reply) = (subject.as_bytes(), reply.map(str::as_bytes));
            let message =
                Message { tag, subject, reply, header: header.as_bytes(), payload: payload.as_bytes() };
            self.engine.handle(Input::Message(message), self.now);
        }
    }

    /// A message that is traced, and with `only` nothing else.
    pub(crate) fn trace(&mut self, number: u64, only: bool, subject: &str, header: &str) {
        let is_for = |filter: &Bytes| Filter::new(filter).unwrap().matches(subject.as_bytes());
        let tag = self.subs.iter().find(|(filter, _)| is_for(filter)).unwrap().1;
        let (subject, header) = (subject.as_bytes(), header.as_bytes());
        let message = Message { tag, subject, reply: None, header, payload: b"x" };
        self.engine.handle(Input::Traced { message, number, only }, self.now);
        self.run();
    }

    fn stage_bytes(&mut self, subject: &str, reply: Option<&str>, header: &str, payload: &[u8]) -> bool {
        let is_for = |filter: &Bytes| Filter::new(filter).unwrap().matches(subject.as_bytes());
        let tags: Vec<Tag> =
            self.subs.iter().filter(|(filter, _)| is_for(filter)).map(|(_, tag)| *tag).collect();
        for tag in &tags {
            let message = Message {
                tag: *tag,
                subject: subject.as_bytes(),
                reply: reply.map(str::as_bytes),
                header: header.as_bytes(),
                payload,
            };
            self.engine.handle(Input::Message(message), self.now);
        }
        !tags.is_empty()
    }

    /// What a direct request is answered without a commit, if it is: as drivers do it before they hand it to the engine.
    pub(crate) fn ask_at_once(&mut self, subject: &str, payload: &str) -> Option<Seen> {
        let is_for = |filter: &Bytes| Filter::new(filter).unwrap().matches(subject.as_bytes());
        let (_, tag) = self.subs.iter().find(|(filter, _)| is_for(filter)).expect("somebody hears it");
        let (tag, reply) = (*tag, Some(&b"_IN.at-once"[..]));
        let message =
            Message { tag, subject: subject.as_bytes(), reply, header: b"", payload: payload.as_bytes() };
        let answered = self.engine.answer_at_once(&message, self.now);
        let output = self.engine.poll();
        assert_eq!((answered, self.engine.poll()), (output.is_some(), None));
        match output {
            Some(Output::Publish(publish)) => self.deliver(publish),
            other => assert_eq!(other, None),
        }
        self.take(|seen| seen.to == "_IN.at-once").pop()
    }

    /// What a request is answered, everything that came to its inbox at once.
    pub(crate) fn ask_with(&mut self, subject: &str, header: &str, payload: &str) -> Vec<Seen> {
        self.ask_all(subject, header, payload.as_bytes())
    }

    pub(crate) fn ask_bytes(&mut self, subject: &str, payload: &[u8]) -> Vec<Seen> {
        self.ask_all(subject, "", payload)
    }

    fn ask_all(&mut self, subject: &str, header: &str, payload: &[u8]) -> Vec<Seen> {
        self.requests += 1;
        let inbox = format!("_IN.{}", self.requests);
        assert!(self.stage_bytes(subject, Some(&inbox), header, payload), "nobody hears {subject}");
        self.run();
        self.take(|seen| seen.to == inbox)
    }

    pub(crate) fn ask(&mut self, subject: &str, payload: &str) -> Vec<Seen> {
        self.ask_with(subject, "", payload)
    }

    /// The one answer, as text.
    pub(crate) fn text(&mut self, subject: &str, payload: &str) -> String {
        let mut answers = self.ask(subject, payload);
        assert_eq!(answers.len(), 1, "{subject}: {answers:?}");
        answers.remove(0).payload
    }

    /// The answer of the API.
    pub(crate) fn api(&mut self, subject: &str, payload: &str) -> Value {
        serde_json::from_str(&self.text(&format!("$JS.API.{subject}"), payload)).unwrap()
    }

    /// The answer of the API, which must not be an error.
    pub(crate) fn good(&mut self, subject: &str, payload: &str) -> Value {
        let answer = self.api(subject, payload);
        assert_eq!(answer.get("error"), None, "{subject} {payload}");
        answer
    }

    /// Messages that a consumer has for a request, as (payload, reply), without the status at the end.
    pub(crate) fn fetch(&mut self, stream: &str, consumer: &str, batch: u32) -> Vec<(String, String)> {
        let request = format!("{{\"batch\":{batch},\"no_wait\":true}}");
        let seen = self.ask(&format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"), &request);
        seen.into_iter()
            .filter(|seen| !seen.reply.is_empty())
            .map(|seen| (seen.payload, seen.reply))
            .collect()
    }

    /// Sums of a stream: messages, first and last number.
    pub(crate) fn sums(&mut self, stream: &str) -> (u64, u64, u64) {
        let state = &self.good(&format!("STREAM.INFO.{stream}"), "")["state"];
        let number = |name: &str| state[name].as_u64().unwrap();
        (number("messages"), number("first_seq"), number("last_seq"))
    }

    /// Numbers of a consumer.
    pub(crate) fn consumer(&mut self, stream: &str, name: &str) -> BTreeMap<&'static str, u64> {
        let info = self.good(&format!("CONSUMER.INFO.{stream}.{name}"), "");
        ["num_ack_pending", "num_redelivered", "num_waiting", "num_pending"]
            .into_iter()
            .map(|key| (key, info[key].as_u64().unwrap()))
            .collect()
    }
}

/// A header block with one header.
pub(crate) fn header(name: &str, value: &str) -> String {
    format!("NATS/1.0\r\n{name}: {value}\r\n\r\n")
}
