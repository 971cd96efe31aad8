//! Streams with all their rules, and what hangs on them, judged by plain maps: retention, limits, discard, ages and times
//! of their own, marks, duplicates, expectations, roll-ups, batches; consumers whose messages are acknowledged,
//! refused, refused for a while, worked on, terminated, forgotten, and go at most three times, at ever longer intervals;
//! others that acknowledge all up to one, or nothing, or are sent what comes; pauses, dead letters, a mirror, a source that
//! renames, republishing, counters, schedules, priority groups. Over random requests, time that passes, clocks that jump, and power that
//! goes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use midge_stream::Trust;
use midge_stream::time::rfc3339;
use serde_json::json;

use crate::groups::Groups;
use crate::plans::Plans;
use crate::world::{EPOCH, World, header};

/// Seeds that are tried. A failure names its own; `SEED=7 SEEDS=1` plays one.
const SEEDS: u64 = 300;
const STEPS: u64 = 50;

const SECOND: i64 = 1_000_000_000;
const MAX_AGE: i64 = 100 * SECOND;
const WINDOW: i64 = 20 * SECOND;
const MARK: i64 = 10 * SECOND;
const ACK_WAIT: i64 = 10 * SECOND;
const BACKOFF: [i64; 3] = [2 * SECOND, 5 * SECOND, 20 * SECOND];
/// The longest of them.
const WAIT_MAX: i64 = 20 * SECOND;

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retention {
    Limits,
    WorkQueue,
    Interest,
}

/// What the stream is told to be.
#[derive(Clone, Copy, Debug)]
struct Rules {
    retention: Retention,
    discard_new: bool,
    new_per_subject: bool,
    /// 0: any number.
    max_msgs: usize,
    max_per_subject: usize,
    aged: bool,
    marks: bool,
    /// 0: as often as it takes.
    max_deliver: u64,
    /// The reader waits longer each time.
    backoff: bool,
}

impl Rules {
    fn new(random: &mut Random) -> Self {
        let retention = match random.below(4) {
            0 => Retention::WorkQueue,
            1 => Retention::Interest,
            _ => Retention::Limits,
        };
        let max_per_subject = random.below(3) as usize;
        let discard_new = random.chance(3);
        Self {
            retention,
            discard_new,
            new_per_subject: discard_new && max_per_subject > 0 && random.chance(2),
            max_msgs: if random.chance(2) { 6 } else { 0 },
            max_per_subject,
            aged: random.chance(2),
            marks: retention == Retention::Limits && random.chance(3),
            max_deliver: if random.chance(2) { 3 } else { 0 },
            backoff: random.chance(3),
        }
    }

    /// How long the reader waits for an answer to a message that went again so often.
    fn wait(&self, again: u64) -> i64 {
        if self.backoff { BACKOFF[(again as usize).min(BACKOFF.len() - 1)] } else { ACK_WAIT }
    }

    fn config(&self) -> String {
        let some = |limit: usize| if limit == 0 { -1 } else { limit as i64 };
        let retention = match self.retention {
            Retention::Limits => "limits",
            Retention::WorkQueue => "workqueue",
            Retention::Interest => "interest",
        };
        json!({
            "name": "S", "subjects": ["a.*.*"], "retention": retention,
            "discard": if self.discard_new { "new" } else { "old" },
            "discard_new_per_subject": self.new_per_subject,
            "max_msgs": some(self.max_msgs), "max_msgs_per_subject": some(self.max_per_subject),
            "max_age": if self.aged { MAX_AGE } else { 0 }, "duplicate_window": WINDOW,
            "allow_msg_ttl": true, "subject_delete_marker_ttl": if self.marks { MARK } else { 0 },
            "allow_rollup_hdrs": true, "allow_atomic": true, "allow_batched": true,
            "republish": {"src": "a.x.*", "dest": "again.x.{{wildcard(1)}}"},
            "metadata": {"midge.dlq": "D"},
        })
        .to_string()
    }
}

#[derive(Clone, Debug)]
struct Kept {
    subject: String,
    payload: String,
    at: i64,
    /// When it goes by itself, if it does; `i64::MAX`: not even with age.
    until: Option<i64>,
    id: Option<String>,
    mark: bool,
}

#[derive(Clone, Debug)]
struct Open {
    again_at: i64,
    queued: bool,
    reply: String,
}

/// A consumer that acknowledges each message.
#[derive(Default)]
struct Reader {
    cursor: u64,
    open: BTreeMap<u64, Open>,
    again: BTreeMap<u64, u64>,
    queue: VecDeque<u64>,
    paused_until: i64,
}

fn is_read(subject: &str) -> bool {
    subject.starts_with("a.x.")
}

/// What there should be.
struct Model {
    rules: Rules,
    now: i64,
    messages: BTreeMap<u64, Kept>,
    last: u64,
    /// By id: its message, and until when it is known.
    ids: BTreeMap<String, (u64, i64)>,
    reader: Reader,
    /// What the second consumer, which acknowledges nothing, looks at next.
    cursor: u64,
    /// The third, which acknowledges all up to one: what it looks at next, and what is open.
    all_cursor: u64,
    all_open: BTreeMap<u64, String>,
    /// What the fourth, which is sent what comes, was sent.
    pushed: u64,
    dead: u64,
    /// Messages of which nobody can say whether they went before they died.
    doubtful: u64,
    mirrored: u64,
    mirror_last: u64,
    renamed: u64,
    republished: u64,
    counters: BTreeMap<u64, i64>,
}

/// What a publisher is told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Stored(u64),
    Duplicate(u64),
    Refused(u64),
}

impl Model {
    fn count(&self, subject: &str) -> usize {
        self.messages.values().filter(|it| it.subject == subject).count()
    }

    fn remove(&mut self, seq: u64) {
        if self.messages.remove(&seq).is_some() {
            self.reader.open.remove(&seq);
            self.reader.again.remove(&seq);
            self.all_open.remove(&seq);
        }
    }

    fn has_room(&self, subject: &str, rolls_up: bool) -> bool {
        let rules = &self.rules;
        if !rules.discard_new {
            return true;
        }
        let at_limit = rules.max_per_subject > 0 && self.count(subject) >= rules.max_per_subject;
        if at_limit && rules.new_per_subject && !rolls_up {
            return false;
        }
        rules.max_msgs == 0 || self.messages.len() < rules.max_msgs || at_limit
    }

    /// What is asked of messages in a batch is simpler: what goes for it isn't taken into account.
    fn has_room_in_batch(&self, subject: &str) -> bool {
        let (rules, count) = (&self.rules, self.count(subject));
        !rules.discard_new
            || (rules.max_msgs == 0 || self.messages.len() < rules.max_msgs)
                && !(rules.new_per_subject && count >= rules.max_per_subject)
    }

    /// Nobody reads some of them.
    fn is_wanted(&self, subject: &str) -> bool {
        self.rules.retention != Retention::Interest || !subject.starts_with("a.z.")
    }

    fn add(&mut self, kept: Kept) -> u64 {
        if self.is_wanted(&kept.subject) {
            return self.store(kept);
        }
        self.last += 1;
        if let Some(id) = kept.id {
            self.ids.insert(id, (self.last, self.now + WINDOW));
        }
        self.last
    }

    fn enforce(&mut self) {
        while self.rules.max_msgs > 0 && self.messages.len() > self.rules.max_msgs {
            let first = *self.messages.keys().next().unwrap();
            self.remove(first);
        }
    }

    fn store(&mut self, kept: Kept) -> u64 {
        self.last += 1;
        let (seq, subject) = (self.last, kept.subject.clone());
        if let Some(id) = &kept.id {
            self.ids.insert(id.clone(), (seq, self.now + WINDOW));
        }
        self.messages.insert(seq, kept);
        self.republished += u64::from(is_read(&subject));
        while self.rules.max_per_subject > 0 && self.count(&subject) > self.rules.max_per_subject {
            let first = *self.messages.iter().find(|(_, it)| it.subject == subject).unwrap().0;
            self.remove(first);
        }
        seq
    }

    /// A message that passed all other checks.
    fn publish(&mut self, kept: Kept, rollup: Option<&str>) -> Told {
        if let Some((seq, _)) = kept.id.as_ref().and_then(|id| self.ids.get(id)) {
            return Told::Duplicate(*seq);
        }
        let subject = kept.subject.clone();
        if self.is_wanted(&subject) && !self.has_room(&subject, rollup.is_some()) {
            return Told::Refused(10077);
        }
        let seq = self.add(kept);
        self.enforce();
        if let Some(rollup) = rollup {
            let of = |it: &Kept| rollup == "all" || it.subject == subject;
            let gone: Vec<u64> =
                self.messages.iter().filter(|(at, it)| **at != seq && of(it)).map(|(at, _)| *at).collect();
            gone.into_iter().for_each(|seq| self.remove(seq));
        }
        Told::Stored(seq)
    }

    /// When a message goes.
    fn end_of(&self, kept: &Kept) -> Option<i64> {
        let aged = self.rules.aged.then(|| kept.at + MAX_AGE);
        match kept.until {
            Some(i64::MAX) => None,
            own => own.into_iter().chain(aged).min(),
        }
    }

    fn over(&mut self, seq: u64) {
        let Some(kept) = self.messages.get(&seq).cloned() else { return };
        if self.rules.marks && self.count(&kept.subject) == 1 && !kept.mark {
            let (subject, until) = (kept.subject, Some(self.now + MARK));
            let (at, payload) = (self.now, String::new());
            self.store(Kept { subject, payload, at, until, id: None, mark: true });
            self.enforce();
        }
        self.remove(seq);
    }

    /// Time passes; what is due happens in its order.
    fn pass(&mut self, time: i64) {
        let end = self.now + time;
        loop {
            let ends = self.messages.values().filter_map(|kept| self.end_of(kept));
            let ids = self.ids.values().map(|(_, until)| *until);
            let again = self.reader.open.values().filter(|open| !open.queued).map(|open| open.again_at);
            let Some(at) = ends.chain(ids).chain(again).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            self.tick();
            self.copy();
        }
        self.now = end;
    }

    fn tick(&mut self) {
        let now = self.now;
        self.ids.retain(|_, (_, until)| *until > now);
        loop {
            let first = self.messages.iter().find(|(_, kept)| kept.until != Some(i64::MAX));
            let Some((seq, _)) = first.filter(|(_, it)| self.rules.aged && it.at + MAX_AGE <= now) else {
                break;
            };
            self.over(*seq);
        }
        let own = |it: &Kept| it.until.filter(|until| *until <= now);
        let mut due: Vec<(i64, u64)> =
            self.messages.iter().filter_map(|(seq, it)| Some((own(it)?, *seq))).collect();
        due.sort_unstable();
        due.into_iter().for_each(|(_, seq)| self.over(seq));
        let again: Vec<u64> = self
            .reader
            .open
            .iter()
            .filter(|(_, open)| !open.queued && open.again_at <= now)
            .map(|(seq, _)| *seq)
            .collect();
        for seq in again {
            if !self.give_up(seq) {
                self.reader.open.get_mut(&seq).unwrap().queued = true;
                self.reader.queue.push_back(seq);
            }
        }
    }

    /// Whether a message went as often as it may. It is dead then, and is kept.
    fn give_up(&mut self, seq: u64) -> bool {
        let count = self.reader.again.get(&seq).copied().unwrap_or(0) + 1;
        let dies = self.rules.max_deliver > 0 && count >= self.rules.max_deliver;
        if dies {
            self.reader.open.remove(&seq);
            self.reader.again.entry(seq).or_insert(1);
            self.dead += 1;
        }
        dies
    }

    /// What the mirror and the source take over.
    fn copy(&mut self) {
        if self.rules.retention != Retention::Limits {
            return;
        }
        for (seq, kept) in self.messages.range(self.mirror_last + 1..) {
            self.mirror_last = *seq;
            self.mirrored += 1;
            self.renamed += u64::from(is_read(&kept.subject));
            self.pushed += u64::from(kept.subject.starts_with("a.y."));
        }
    }

    /// What a request for `most` messages is given: number, and how often it has gone.
    fn fetch(&mut self, most: usize) -> Vec<(u64, u64)> {
        let mut got = Vec::new();
        while got.len() < most {
            if let Some(seq) = self.reader.queue.front().copied() {
                self.reader.queue.pop_front();
                if !self.reader.open.get(&seq).is_some_and(|open| open.queued) || self.give_up(seq) {
                    continue;
                }
                let again = self.reader.again.entry(seq).or_insert(0);
                *again += 1;
                got.push((seq, *again + 1));
            } else {
                let cursor = self.reader.cursor;
                let next = self.messages.range(cursor..).find(|(_, kept)| is_read(&kept.subject));
                let Some((seq, _)) = next else {
                    self.reader.cursor = cursor.max(self.last + 1);
                    break;
                };
                self.reader.cursor = seq + 1;
                got.push((*seq, 1));
            }
            let (seq, count) = *got.last().unwrap();
            let again_at = self.now + self.rules.wait(count - 1);
            self.reader.open.insert(seq, Open { again_at, queued: false, reply: String::new() });
        }
        got
    }

    /// The reader is done with a message.
    fn done(&mut self, seq: u64) {
        self.reader.open.remove(&seq);
        self.reader.again.remove(&seq);
        if self.rules.retention != Retention::Limits {
            self.remove(seq);
        }
    }
}

struct Game {
    random: Random,
    world: World,
    model: Model,
    plans: Plans,
    groups: Groups,
    at: String,
    names: u64,
}

impl Game {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let rules = Rules::new(&mut random);
        let mut world = World::with_clock(Trust::default(), EPOCH + 40 * 86_400 * SECOND);
        world.listens.push("again.>".to_owned());
        world.good("STREAM.CREATE.D", r#"{"name":"D"}"#);
        world.good("STREAM.CREATE.S", &rules.config());
        let deliver = if rules.max_deliver == 0 { -1 } else { rules.max_deliver as i64 };
        let reader = json!({"stream_name": "S", "config": {
            "durable_name": "C", "ack_policy": "explicit", "ack_wait": ACK_WAIT, "max_deliver": deliver,
            "filter_subject": "a.x.*", "backoff": if rules.backoff { &BACKOFF[..] } else { &[] },
        }});
        world.good("CONSUMER.CREATE.S.C", &reader.to_string());
        if rules.retention != Retention::WorkQueue {
            let other = r#"{"stream_name":"S","config":{"durable_name":"N","ack_policy":"none","filter_subject":"a.y.*"}}"#;
            world.good("CONSUMER.CREATE.S.N", other);
        }
        if rules.retention == Retention::Limits {
            let all = r#"{"stream_name":"S","config":{"durable_name":"A","ack_policy":"all","ack_wait":3600000000000,"filter_subject":"a.z.*"}}"#;
            world.good("CONSUMER.CREATE.S.A", all);
            world.listens.push("push.*".to_owned());
            let push = r#"{"stream_name":"S","config":{"durable_name":"Q","ack_policy":"none","deliver_subject":"push.q","filter_subject":"a.y.*"}}"#;
            world.good("CONSUMER.CREATE.S.Q", push);
            world.good("STREAM.CREATE.M", r#"{"name":"M","mirror":{"name":"S"}}"#);
            world.good(
                "STREAM.CREATE.T",
                r#"{"name":"T","duplicate_window":100000000,"sources":[{"name":"S","subject_transforms":[{"src":"a.x.*","dest":"t.{{wildcard(1)}}"}]}]}"#,
            );
        }
        world.good(
            "STREAM.CREATE.K",
            r#"{"name":"K","subjects":["k.*"],"allow_msg_counter":true,"max_msgs_per_subject":1}"#,
        );
        Plans::create(&mut world);
        let model = Model {
            rules,
            now: 0,
            messages: BTreeMap::new(),
            last: 0,
            ids: BTreeMap::new(),
            reader: Reader { cursor: 1, ..Reader::default() },
            cursor: 1,
            all_cursor: 1,
            all_open: BTreeMap::new(),
            pushed: 0,
            dead: 0,
            doubtful: 0,
            mirrored: 0,
            mirror_last: 0,
            renamed: 0,
            republished: 0,
            counters: BTreeMap::new(),
        };
        let groups = Groups::create(&mut world);
        Self { random, world, model, plans: Plans::default(), groups, at: String::new(), names: 0 }
    }

    fn stamp(&self) -> i64 {
        self.world.now.wall + self.world.engine.clock().ahead
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("n{}", self.names)
    }

    fn pass(&mut self, time: i64) {
        self.world.pass(Duration::from_nanos(time as u64));
        self.model.pass(time);
        self.groups.pass(time);
    }

    fn subject(&mut self) -> String {
        format!("a.{}.{}", ["x", "x", "y", "z"][self.random.below(4) as usize], self.random.below(3))
    }

    fn step(&mut self) {
        let what = self.random.below(34);
        match what {
            0..8 => self.publish(),
            8 if self.random.chance(2) => self.fast(),
            8 => self.batch(),
            9..13 => {
                let most = 1 + self.random.below(5) as usize;
                self.fetch(most);
            }
            13..18 => self.answer(),
            18 => self.fetch_other(),
            19 => self.take_out(),
            20 => self.purge(),
            21..24 => {
                let time = [SECOND, 6 * SECOND, 21 * SECOND, 70 * SECOND][self.random.below(4) as usize];
                self.pass(time);
            }
            24 => {
                // Somebody sets the clock.
                let by = (self.random.below(7200) as i64 - 3600) * SECOND;
                let before = self.stamp();
                self.plans.pass(before);
                self.world.now.wall += by;
                self.pass(0);
                self.pass(0);
                if self.stamp() != before {
                    self.plans.jump(self.stamp());
                }
            }
            25 => self.count(),
            26 | 30 => {
                let stamp = self.stamp();
                self.plans.step(&mut self.world, &mut self.random, stamp, &self.at);
            }
            27 => self.pause(),
            28 => self.fetch_all(),
            29 => self.cut(),
            _ => self.groups.step(&mut self.world, &mut self.random, &self.at),
        }
        self.check();
    }

    fn publish(&mut self) {
        let (subject, payload) = (self.subject(), self.name());
        let (at, last) = (self.model.now, self.model.last);
        let mut kept = Kept {
            subject: subject.clone(),
            payload: payload.clone(),
            at,
            until: None,
            id: None,
            mark: false,
        };
        let (mut rollup, mut wrong) = (None, None);
        let block = match self.random.below(10) {
            0 | 1 => {
                let id = format!("id{}", self.random.below(4));
                kept.id = Some(id.clone());
                header("Nats-Msg-Id", &id)
            }
            2 | 3 => {
                let seconds = [5, 15, 40][self.random.below(3) as usize];
                // A mark must not outlive what it marks.
                let least =
                    if self.model.rules.marks && self.model.rules.max_per_subject != 1 { MARK } else { 0 };
                kept.until = Some(at + (seconds * SECOND).max(least));
                header("Nats-TTL", &seconds.to_string())
            }
            4 => {
                kept.until = Some(i64::MAX);
                header("Nats-TTL", "never")
            }
            5 => {
                let kind = ["sub", "all"][self.random.below(2) as usize];
                rollup = Some(kind);
                header("Nats-Rollup", kind)
            }
            6 => {
                let expected = last + self.random.below(2);
                wrong = (expected != last).then_some(10071);
                header("Nats-Expected-Last-Sequence", &expected.to_string())
            }
            7 => {
                let of = self.model.messages.iter().rev().find(|(_, it)| it.subject == subject);
                let of = of.map_or(0, |(seq, _)| *seq);
                let expected = of + self.random.below(2);
                wrong = (expected != of).then_some(10071);
                header("Nats-Expected-Last-Subject-Sequence", &expected.to_string())
            }
            _ => String::new(),
        };
        let answer = self.world.ask_with(&subject, &block, &payload).remove(0).payload;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let seq = answer["seq"].as_u64().unwrap_or(0);
        let told = match answer["error"]["err_code"].as_u64() {
            Some(code) => Told::Refused(code),
            None if answer["duplicate"] == true => Told::Duplicate(seq),
            None => Told::Stored(seq),
        };
        let expected = match wrong {
            Some(code) => Told::Refused(code),
            None => self.model.publish(kept, rollup),
        };
        assert_eq!(told, expected, "{}: {subject} {block:?} {answer}", self.at);
        self.model.copy();
    }

    /// Three messages, or none of them.
    fn batch(&mut self) {
        let id = self.name();
        let messages: Vec<(String, String)> = (0..3).map(|_| (self.subject(), self.name())).collect();
        let full = self.model.rules.discard_new;
        let complete = !full && !self.random.chance(3);
        for (n, (subject, payload)) in messages.iter().enumerate() {
            let commit = if n == 2 && complete { "Nats-Batch-Commit: 1\r\n" } else { "" };
            let n = n + 1;
            let block =
                format!("NATS/1.0\r\nNats-Batch-Id: {id}\r\nNats-Batch-Sequence: {n}\r\n{commit}\r\n");
            let answer = self.world.ask_with(subject, &block, payload);
            if !commit.is_empty() {
                let answer: serde_json::Value = serde_json::from_str(&answer[0].payload).unwrap();
                assert_eq!(
                    (&answer["count"], answer["seq"].as_u64()),
                    (&json!(3), Some(self.model.last + 3)),
                    "{}: {answer}",
                    self.at
                );
            }
        }
        if complete {
            let at = self.model.now;
            for (subject, payload) in messages {
                let kept = Kept { subject, payload, at, until: None, id: None, mark: false };
                self.model.publish(kept, None);
            }
        }
        self.model.copy();
    }

    /// Three messages one after the other. The first that is refused ends it.
    fn fast(&mut self) {
        let (id, at) = (self.name(), self.model.now);
        let mut stored = Some(0);
        for n in 1..=3 {
            let (subject, payload) = (self.subject(), self.name());
            let operation = ["0", "1", "2"][n - 1];
            let reply = format!("_IN.{id}.10.fail.{n}.{operation}.$FI");
            self.world.stage(&subject, Some(&reply), "", &payload);
            self.world.run();
            let told = self.world.take(|seen| seen.to == reply);
            let told: Vec<serde_json::Value> =
                told.iter().map(|seen| serde_json::from_str(&seen.payload).unwrap()).collect();
            let code = |at: usize| told[at]["error"]["err_code"].as_u64();
            let Some(before) = stored else {
                assert_eq!(code(0), Some(10208), "{}: {told:?}", self.at);
                continue;
            };
            let mut expected = Vec::new();
            if n == 1 {
                expected.push(json!({"type": "ack", "seq": 0, "msgs": 10}));
            }
            let end = json!({"stream": "S", "seq": self.model.last, "batch": id, "count": before});
            if !self.model.has_room_in_batch(&subject) {
                assert_eq!(code(expected.len()), Some(10077), "{}: {told:?}", self.at);
                if n > 1 {
                    assert_eq!(told.last(), Some(&end), "{}", self.at);
                }
                stored = None;
                continue;
            }
            let kept = Kept { subject, payload, at, until: None, id: None, mark: false };
            self.model.add(kept);
            self.model.enforce();
            self.model.copy();
            if n == 3 {
                expected.push(json!({"stream": "S", "seq": self.model.last, "batch": id, "count": 3}));
            }
            assert_eq!(told, expected, "{}", self.at);
            stored = Some(n);
        }
    }

    fn fetch(&mut self, most: usize) {
        let got = self.world.fetch("S", "C", u32::try_from(most).unwrap());
        if self.model.reader.paused_until > self.stamp() {
            assert!(got.is_empty(), "{}: it is paused", self.at);
            return;
        }
        let expected = self.model.fetch(most);
        let seen: Vec<(u64, u64)> = got.iter().map(|(_, reply)| numbers(reply)).collect();
        assert_eq!(seen, expected, "{}", self.at);
        for (payload, reply) in got {
            let (seq, _) = numbers(&reply);
            assert_eq!(payload, self.model.messages[&seq].payload, "{}: message {seq}", self.at);
            self.model.reader.open.get_mut(&seq).unwrap().reply = reply;
        }
    }

    /// The consumer that acknowledges nothing.
    fn fetch_other(&mut self) {
        if self.model.rules.retention == Retention::WorkQueue {
            return;
        }
        let got = self.world.fetch("S", "N", 3);
        let model = &mut self.model;
        let next = model.messages.range(model.cursor..).filter(|(_, it)| it.subject.starts_with("a.y."));
        let expected: Vec<(u64, String)> = next.take(3).map(|(seq, it)| (*seq, it.payload.clone())).collect();
        let seen: Vec<&String> = got.iter().map(|(payload, _)| payload).collect();
        assert_eq!(seen, expected.iter().map(|(_, payload)| payload).collect::<Vec<_>>(), "{}", self.at);
        model.cursor = match expected.last() {
            Some((seq, _)) if expected.len() == 3 => seq + 1,
            _ => model.last + 1,
        };
        if model.rules.retention == Retention::Interest {
            expected.into_iter().for_each(|(seq, _)| model.remove(seq));
        }
    }

    /// The consumer that acknowledges all up to one.
    fn fetch_all(&mut self) {
        if self.model.rules.retention != Retention::Limits {
            return;
        }
        let got = self.world.fetch("S", "A", 2);
        let model = &mut self.model;
        let next = model.messages.range(model.all_cursor..).filter(|(_, it)| it.subject.starts_with("a.z."));
        let expected: Vec<u64> = next.take(2).map(|(seq, _)| *seq).collect();
        let seen: Vec<u64> = got.iter().map(|(_, reply)| numbers(reply).0).collect();
        assert_eq!(seen, expected, "{}", self.at);
        model.all_cursor = match expected.last() {
            Some(seq) if expected.len() == 2 => seq + 1,
            _ => model.last + 1,
        };
        model.all_open.extend(got.into_iter().map(|(_, reply)| (numbers(&reply).0, reply)));
        let at = self.random.below(3) as usize;
        if let Some((seq, reply)) = model.all_open.iter().nth(at).map(|(seq, reply)| (*seq, reply.clone())) {
            assert_eq!(self.world.ask(&reply, "").len(), 1, "{}: it is confirmed", self.at);
            self.model.all_open.retain(|open, _| *open > seq);
        }
    }

    /// Somebody says something to a message.
    fn answer(&mut self) {
        let open = &self.model.reader.open;
        let at = self.random.below(open.len().max(1) as u64) as usize;
        let Some((seq, reply)) = open.iter().nth(at).map(|(seq, open)| (*seq, open.reply.clone())) else {
            return;
        };
        let (what, now) = (self.random.below(6), self.model.now);
        let text =
            ["", "+ACK", "-NAK", "-NAK {\"delay\":4000000000}", "+WPI", "+TERM no good"][what as usize];
        assert_eq!(self.world.ask(&reply, text).len(), 1, "{}: {text} is confirmed", self.at);
        let wait = self.model.rules.wait(self.model.reader.again.get(&seq).copied().unwrap_or(0));
        let open = self.model.reader.open.get_mut(&seq).unwrap();
        match what {
            2 if !open.queued => {
                open.queued = true;
                self.model.reader.queue.push_back(seq);
            }
            2 => {}
            3 => (open.queued, open.again_at) = (false, now + 4 * SECOND),
            4 => open.again_at = now + wait,
            _ => {
                self.model.dead += u64::from(what == 5);
                self.model.done(seq);
            }
        }
    }

    fn take_out(&mut self) {
        let seq = 1 + self.random.below(self.model.last + 1);
        let answer = self.world.api("STREAM.MSG.DELETE.S", &format!("{{\"seq\":{seq}}}"));
        assert_eq!(answer["success"] == true, self.model.messages.contains_key(&seq), "{}", self.at);
        self.model.remove(seq);
    }

    fn purge(&mut self) {
        let subject = self.subject();
        let keep = self.random.below(2) as usize;
        let of: Vec<u64> =
            self.model.messages.iter().filter(|(_, it)| it.subject == subject).map(|(seq, _)| *seq).collect();
        let gone = &of[..of.len().saturating_sub(keep)];
        let request = json!({"filter": subject, "keep": keep}).to_string();
        assert_eq!(self.world.good("STREAM.PURGE.S", &request)["purged"], gone.len(), "{}", self.at);
        gone.iter().for_each(|seq| self.model.remove(*seq));
    }

    fn count(&mut self) {
        let (counter, by) = (self.random.below(3), self.random.below(9) as i64 - 4);
        let answer = self
            .world
            .ask_with(&format!("k.{counter}"), &header("Nats-Incr", &format!("{by:+}")), "")
            .remove(0);
        let value = self.model.counters.entry(counter).or_insert(0);
        *value += by;
        assert!(answer.payload.contains(&format!("\"val\":\"{value}\"")), "{}: {}", self.at, answer.payload);
    }

    fn pause(&mut self) {
        let until = self.stamp() + self.random.below(20) as i64 * SECOND;
        let request = json!({"pause_until": rfc3339(until)}).to_string();
        self.world.good("CONSUMER.PAUSE.S.C", &request);
        self.model.reader.paused_until = until;
    }

    /// The power goes. What nobody was told is gone, too; what was open goes again.
    fn cut(&mut self) {
        // A clock that isn't believed at the start would leave out what passed since the last commit.
        self.world.now.wall += self.world.engine.clock().ahead;
        // Where the consumers are is on the disk by then, and that the clock is believed.
        self.pass(0);
        self.count();
        self.pass(SECOND / 2);
        let seed = self.random.below(1 << 30);
        self.world.stage("a.x.0", Some("_IN.lost"), "", "never acknowledged");
        self.world.power_cut(seed);
        self.groups.cut();
        let (now, messages) = (self.model.now, &self.model.messages);
        // Ids are found again in the messages that are there.
        self.model.ids.retain(|_, (seq, until)| *until > now && messages.contains_key(seq));
        // How long it waits for answers isn't exact any more: all of them are late at the end of this.
        let open: BTreeSet<u64> = self.model.reader.open.keys().copied().collect();
        let reader = &mut self.model.reader;
        let waits = std::mem::take(&mut reader.open);
        reader.queue.clear();
        self.pass(WAIT_MAX + SECOND);
        // What is gone by now may have died before.
        let there: BTreeSet<u64> =
            open.iter().copied().filter(|seq| self.model.messages.contains_key(seq)).collect();
        let may_die = |model: &Model, seq: u64| {
            model.rules.max_deliver > 0
                && model.reader.again.get(&seq).copied().unwrap_or(0) + 1 >= model.rules.max_deliver
        };
        self.model.doubtful += open.iter().filter(|seq| !there.contains(seq)).count() as u64;
        let mut due = BTreeMap::new();
        for seq in there {
            self.model.reader.open.insert(seq, waits[&seq].clone());
            if may_die(&self.model, seq) {
                self.model.give_up(seq);
            } else {
                due.insert(seq, self.model.reader.again.get(&seq).copied().unwrap_or(0) + 2);
            }
        }
        if self.model.reader.paused_until > self.stamp() {
            let left = self.model.reader.paused_until - self.stamp();
            let open = std::mem::take(&mut self.model.reader.open);
            self.pass(left);
            self.model.reader.open = open;
            let gone = |seq: &u64| !self.model.messages.contains_key(seq);
            let gone: Vec<u64> = due.keys().copied().filter(gone).collect();
            for seq in gone {
                due.remove(&seq);
                self.model.reader.open.remove(&seq);
            }
        }
        let got = self.world.fetch("S", "C", u32::try_from(due.len()).unwrap().max(1));
        let mut seen = BTreeMap::new();
        for (_, reply) in got {
            let (seq, count) = numbers(&reply);
            seen.insert(seq, count);
            let again_at = self.model.now + self.model.rules.wait(count - 1);
            self.model.reader.open.insert(seq, Open { again_at, queued: false, reply });
            if count > 1 {
                self.model.reader.again.insert(seq, count - 1);
            }
        }
        if due.is_empty() {
            // One that has never gone came instead.
            let next =
                self.model.messages.range(self.model.reader.cursor..).find(|(_, it)| is_read(&it.subject));
            due.extend(next.map(|(seq, _)| (*seq, 1)));
            self.model.reader.cursor = due.keys().next().map_or(self.model.last, |seq| *seq) + 1;
        }
        assert_eq!(seen, due, "{}: after a power cut", self.at);
    }

    fn check(&mut self) {
        let (at, stamp) = (self.at.clone(), self.stamp());
        let model = &mut self.model;
        let (messages, first, last) = self.world.sums("S");
        if (messages, last) != (model.messages.len() as u64, model.last) {
            let of = |seq: u64| self.world.api("STREAM.MSG.GET.S", &format!("{{\"seq\":{seq}}}")).to_string();
            let there: Vec<String> = (1..=last).map(of).filter(|text| !text.contains("err_code")).collect();
            panic!("{at}: {last} and {there:#?}, not {} and {:#?}", model.last, model.messages);
        }
        if let Some(expected) = model.messages.keys().next() {
            assert_eq!(first, *expected, "{at}: first");
        }
        let numbers = self.world.consumer("S", "C");
        let ahead =
            model.messages.range(model.reader.cursor..).filter(|(_, it)| is_read(&it.subject)).count();
        assert_eq!(
            (numbers["num_ack_pending"], numbers["num_pending"]),
            (model.reader.open.len() as u64, ahead as u64),
            "{at}: open, ahead"
        );
        let (dead, _, _) = self.world.sums("D");
        assert!(
            (model.dead..=model.dead + model.doubtful).contains(&dead),
            "{at}: {dead} dead, not {}",
            model.dead
        );
        (model.dead, model.doubtful) = (dead, 0);
        if model.rules.retention == Retention::Limits {
            assert_eq!(self.world.sums("M").0, model.mirrored, "{at}: mirrored");
            assert_eq!(self.world.sums("T").0, model.renamed, "{at}: renamed");
            let open = self.world.consumer("S", "A")["num_ack_pending"];
            assert_eq!(open, model.all_open.len() as u64, "{at}: open of the third");
            let pushed = self.world.take(|seen| seen.to == "push.q").len() as u64;
            assert_eq!(pushed, std::mem::take(&mut model.pushed), "{at}: pushed");
        }
        let again = self.world.take(|seen| seen.to.starts_with("again.x.")).len() as u64;
        assert_eq!(again, std::mem::take(&mut model.republished), "{at}: republished");
        self.plans.check(&mut self.world, stamp, &at);
        self.groups.check(&mut self.world, &at);
    }
}

/// Of an acknowledgement's subject: the message, and how often it has gone.
fn numbers(reply: &str) -> (u64, u64) {
    let token = |at: usize| reply.split('.').nth(at).unwrap().parse().unwrap();
    (token(5), token(4))
}

fn play(seed: u64) {
    let mut game = Game::new(seed);
    for step in 0..STEPS {
        game.at = format!("SEED={seed} SEEDS=1, step {step}, {:?}", game.model.rules);
        game.step();
    }
}

#[test]
fn agree_with_maps() {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let first = number("SEED").unwrap_or(0);
    (first..first + number("SEEDS").unwrap_or(SEEDS)).for_each(play);
}
