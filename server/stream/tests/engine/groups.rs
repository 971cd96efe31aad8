//! Priority groups as plain lists: who waits for messages, in which order, and who gets which.

use std::collections::{BTreeMap, VecDeque};

use serde_json::json;

use crate::rules::Random;
use crate::world::World;

const SECOND: i64 = 1_000_000_000;
/// How long a client that says nothing has the messages to itself.
const PINNED: i64 = 30 * SECOND;
/// Clients of each.
const CLIENTS: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Overflow,
    Pinned,
    Prioritised,
}

/// Somebody who waits.
#[derive(Clone, Debug)]
struct Waiting {
    client: u64,
    left: u64,
    expires: i64,
    min_pending: u64,
    min_open: u64,
    level: u64,
    /// Which pin it says that it has.
    pin: Option<u64>,
}

/// What a client is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    /// A message, with the pin that it is sent under.
    Message(u64, Option<u64>),
    Status(u16),
}

/// A consumer and its clients.
struct Group {
    name: &'static str,
    policy: Policy,
    /// The next message that it looks at.
    cursor: u64,
    /// How to acknowledge what was sent.
    open: BTreeMap<u64, String>,
    queue: VecDeque<Waiting>,
    /// Who has the messages to itself, until when.
    pin: Option<(u64, i64)>,
    pins: u64,
    /// What pins are called.
    ids: BTreeMap<u64, String>,
    /// The last that each client saw.
    seen: BTreeMap<u64, u64>,
    sent: Vec<(u64, Sent)>,
}

impl Group {
    fn new(name: &'static str, policy: Policy) -> Self {
        let (open, queue, ids, seen) = Default::default();
        Self { name, policy, cursor: 1, open, queue, pin: None, pins: 0, ids, seen, sent: Vec::new() }
    }

    fn is_served(&self, waiting: &Waiting, pending: u64) -> bool {
        let Waiting { min_pending, min_open, .. } = *waiting;
        match self.policy {
            Policy::Overflow => {
                (min_pending, min_open) == (0, 0)
                    || (min_pending > 0 && pending >= min_pending)
                    || (min_open > 0 && self.open.len() as u64 >= min_open)
            }
            Policy::Pinned => waiting.pin == self.pin.map(|(pin, _)| pin),
            Policy::Prioritised => true,
        }
    }

    /// Everybody gets what there is for them.
    fn deliver(&mut self, last: u64, now: i64) {
        while self.cursor <= last {
            if self.policy == Policy::Pinned {
                // Those who have another pin than the one that is, or one where is none, are sent away.
                let pin = self.pin;
                while let Some(at) = self.wrong(pin) {
                    let gone = self.queue.remove(at).unwrap();
                    self.sent.push((gone.client, Sent::Status(423)));
                }
                if let (None, Some(first)) = (self.pin, self.queue.front_mut()) {
                    self.pins += 1;
                    first.pin = Some(self.pins);
                    self.pin = Some((self.pins, now + PINNED));
                }
            }
            let pending = last - self.cursor + 1;
            let Some(at) = self.queue.iter().position(|waiting| self.is_served(waiting, pending)) else {
                return;
            };
            // Those that were passed over have had their turn.
            self.queue.rotate_left(at);
            let front = self.queue.front_mut().unwrap();
            front.left -= 1;
            self.sent.push((front.client, Sent::Message(self.cursor, self.pin.map(|(pin, _)| pin))));
            self.open.insert(self.cursor, String::new());
            self.cursor += 1;
            if front.left == 0 {
                self.queue.pop_front();
            } else if self.policy != Policy::Prioritised {
                self.queue.rotate_left(1);
            }
        }
    }

    /// The first that is sent away before anybody is served.
    fn wrong(&self, pin: Option<(u64, i64)>) -> Option<usize> {
        let served = match pin {
            Some((pin, _)) => self.queue.iter().position(|waiting| waiting.pin == Some(pin)),
            None => self.queue.iter().position(|waiting| waiting.pin.is_none()),
        };
        let before = self.queue.iter().take(served.unwrap_or(self.queue.len()));
        before.clone().position(|waiting| waiting.pin.is_some())
    }

    fn ask(&mut self, world: &mut World, random: &mut Random, last: u64, now: i64, at: &str) {
        let client = random.below(CLIENTS);
        let mut waiting = Waiting {
            client,
            left: 1 + random.below(4),
            expires: now + (1 + random.below(40) as i64) * SECOND,
            min_pending: 0,
            min_open: 0,
            level: 0,
            pin: None,
        };
        match self.policy {
            Policy::Overflow => match random.below(4) {
                0 => waiting.min_pending = 1 + random.below(5),
                1 => waiting.min_open = 1 + random.below(5),
                2 => (waiting.min_pending, waiting.min_open) = (2 + random.below(5), 2 + random.below(5)),
                _ => {}
            },
            Policy::Pinned if random.chance(2) => waiting.pin = self.seen.get(&client).copied(),
            Policy::Pinned => {}
            Policy::Prioritised => waiting.level = random.below(4),
        }
        let request = json!({
            "batch": waiting.left, "expires": waiting.expires - now, "group": "A",
            "min_pending": waiting.min_pending, "min_ack_pending": waiting.min_open,
            "priority": waiting.level, "id": waiting.pin.map_or("", |pin| &self.ids[&pin]),
        });
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.G.{}", self.name);
        world.stage(&subject, Some(&self.inbox(client)), "", &request.to_string());
        world.run();
        match (&mut self.pin, waiting.pin) {
            (Some((pin, until)), Some(said)) if *pin == said => *until = now + PINNED,
            (Some(_), Some(_)) => {
                self.sent.push((client, Sent::Status(423)));
                self.check(world, last, at);
                return;
            }
            _ => {}
        }
        let place = match self.policy {
            Policy::Prioritised => self.queue.partition_point(|other| other.level <= waiting.level),
            _ => self.queue.len(),
        };
        self.queue.insert(place, waiting);
        self.deliver(last, now);
        self.check(world, last, at);
    }

    fn inbox(&self, client: u64) -> String {
        format!("_IN.{}.{client}", self.name)
    }

    fn acknowledge(&mut self, world: &mut World, random: &mut Random, last: u64, now: i64) {
        let at = random.below(self.open.len().max(1) as u64) as usize;
        let Some((seq, reply)) = self.open.iter().nth(at).map(|(seq, reply)| (*seq, reply.clone())) else {
            return;
        };
        assert_eq!(world.ask(&reply, "").len(), 1, "it is confirmed");
        self.open.remove(&seq);
        self.deliver(last, now);
    }

    fn unpin(&mut self, world: &mut World, last: u64, now: i64) {
        if self.policy == Policy::Pinned {
            world.good(&format!("CONSUMER.UNPIN.G.{}", self.name), r#"{"group":"A"}"#);
            self.pin = None;
            self.deliver(last, now);
        }
    }

    /// Until `end` by the monotonic clock, from one thing that is due to the next.
    fn pass(&mut self, last: u64, end: i64) {
        loop {
            let over = self.queue.iter().map(|waiting| waiting.expires);
            let Some(at) = over.chain(self.pin.map(|(_, until)| until)).min().filter(|at| *at <= end) else {
                return;
            };
            while let Some(of) = self.queue.iter().position(|waiting| waiting.expires <= at) {
                let gone = self.queue.remove(of).unwrap();
                self.sent.push((gone.client, Sent::Status(408)));
            }
            self.pin = self.pin.filter(|(_, until)| *until > at);
            self.deliver(last, at);
        }
    }

    fn check(&mut self, world: &mut World, last: u64, at: &str) {
        for client in 0..CLIENTS {
            let inbox = self.inbox(client);
            let seen = world.take(|seen| seen.to == inbox);
            let mine = self.sent.iter().filter(|(theirs, _)| *theirs == client);
            let expected: Vec<Sent> = mine.map(|(_, sent)| sent.clone()).collect();
            let mut got = Vec::new();
            for (n, seen) in seen.iter().enumerate() {
                if seen.reply.is_empty() {
                    got.push(Sent::Status(seen.header["NATS/1.0 ".len()..][..3].parse().unwrap()));
                    continue;
                }
                let seq: u64 = seen.reply.split('.').nth(5).unwrap().parse().unwrap();
                assert_eq!(seen.payload, format!("m{seq}"), "{at}");
                let id = seen.header.lines().find_map(|line| line.strip_prefix("Nats-Pin-Id: "));
                // What a pin is called is seen with the first message under it.
                let pin = id.and_then(|id| match self.ids.iter().find(|(_, known)| *known == id) {
                    Some((pin, _)) => Some(*pin),
                    None => match expected.get(n) {
                        Some(Sent::Message(_, Some(pin))) if !self.ids.contains_key(pin) => {
                            self.ids.insert(*pin, id.to_owned());
                            Some(*pin)
                        }
                        _ => None,
                    },
                });
                self.seen.extend(pin.map(|pin| (client, pin)));
                if let Some(open) = self.open.get_mut(&seq) {
                    open.clone_from(&seen.reply);
                }
                got.push(Sent::Message(seq, pin));
            }
            assert_eq!(got, expected, "{at}: {} of {}", client, self.name);
        }
        self.sent.clear();
        let numbers = world.consumer("G", self.name);
        assert_eq!(
            (numbers["num_ack_pending"], numbers["num_pending"], numbers["num_waiting"]),
            (self.open.len() as u64, last + 1 - self.cursor, self.queue.len() as u64),
            "{at}: {} open, ahead, waiting",
            self.name
        );
    }
}

/// One of each policy, on one stream.
pub(crate) struct Groups {
    groups: [Group; 3],
    last: u64,
    now: i64,
}

impl Groups {
    pub(crate) fn create(world: &mut World) -> Self {
        world.good("STREAM.CREATE.G", r#"{"name":"G","subjects":["g"]}"#);
        for (name, policy) in [("O", "overflow"), ("P", "pinned_client"), ("L", "prioritized")] {
            let config = json!({"stream_name": "G", "config": {
                "durable_name": name, "ack_policy": "explicit", "ack_wait": 360_000 * SECOND,
                "priority_groups": ["A"], "priority_policy": policy,
                "priority_timeout": if policy == "pinned_client" { PINNED } else { 0 },
            }});
            world.good(&format!("CONSUMER.CREATE.G.{name}"), &config.to_string());
        }
        let groups = [
            Group::new("O", Policy::Overflow),
            Group::new("P", Policy::Pinned),
            Group::new("L", Policy::Prioritised),
        ];
        Self { groups, last: 0, now: 0 }
    }

    pub(crate) fn step(&mut self, world: &mut World, random: &mut Random, at: &str) {
        let (last, now) = (self.last, self.now);
        let group = &mut self.groups[random.below(3) as usize];
        match random.below(10) {
            0..3 => {
                for _ in 0..=random.below(3) {
                    self.last += 1;
                    let answer = world.text("g", &format!("m{}", self.last));
                    assert_eq!(answer, format!(r#"{{"stream":"G","seq":{}}}"#, self.last), "{at}");
                    self.groups.iter_mut().for_each(|group| group.deliver(self.last, now));
                }
            }
            3..7 => group.ask(world, random, last, now, at),
            7..9 => group.acknowledge(world, random, last, now),
            _ => group.unpin(world, last, now),
        }
        self.check(world, at);
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, time: i64) {
        self.now += time;
        self.groups.iter_mut().for_each(|group| group.pass(self.last, self.now));
    }

    /// The power goes: nobody waits any more.
    pub(crate) fn cut(&mut self) {
        for group in &mut self.groups {
            group.queue.clear();
            group.pin = None;
        }
    }

    pub(crate) fn check(&mut self, world: &mut World, at: &str) {
        self.groups.iter_mut().for_each(|group| group.check(world, self.last, at));
    }
}
