//! A stream and a consumer as plain maps judge the engine, over random requests, time that passes and power that goes.
//!
//! Everything that is checked was seen by a client, so it was committed, so it must be there after any power cut: messages
//! whose acknowledgement came, the consumer's place as it was told, acknowledgements that were acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::world::World;

/// Seeds that are tried. A failure names its own.
const SEEDS: u64 = 150;
/// Steps of each.
const STEPS: u64 = 60;
/// How long the consumer waits for an acknowledgement.
const ACK_WAIT: Duration = Duration::from_secs(10);

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What there should be.
#[derive(Default)]
struct Model {
    /// By number: subject and payload.
    messages: BTreeMap<u64, (String, String)>,
    last: u64,
    /// Delivered and not acknowledged: number, and how to acknowledge it.
    pending: BTreeMap<u64, String>,
    /// Number of the next message that the consumer looks at.
    cursor: u64,
}

impl Model {
    fn wanted(&self) -> impl Iterator<Item = u64> {
        let wanted = self.messages.iter().filter(|(_, (subject, _))| subject.starts_with("a.x."));
        wanted.map(|(seq, _)| *seq)
    }

    fn remove(&mut self, gone: impl Fn(u64, &str) -> bool) -> u64 {
        let before = self.messages.len();
        self.messages.retain(|seq, (subject, _)| !gone(*seq, subject));
        let messages = &self.messages;
        self.pending.retain(|seq, _| messages.contains_key(seq));
        (before - self.messages.len()) as u64
    }
}

fn play(seed: u64) {
    let mut random = Random(seed);
    let mut world = World::new();
    let mut model = Model { cursor: 1, ..Model::default() };
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.>"]}"#);
    world.good(
        "CONSUMER.CREATE.S.C",
        r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit","ack_wait":10000000000,"filter_subject":"a.x.*"}}"#,
    );
    for step in 0..STEPS {
        match random.below(20) {
            0..8 => {
                let subject = format!("a.{}.{}", ["x", "y"][random.below(2) as usize], random.below(3));
                let payload = format!("{seed}-{step}");
                model.last += 1;
                let expected = format!(r#"{{"stream":"S","seq":{}}}"#, model.last);
                assert_eq!(world.text(&subject, &payload), expected, "seed {seed}, step {step}");
                model.messages.insert(model.last, (subject, payload));
            }
            8..12 => fetch(&mut world, &mut model, 1 + random.below(5), &format!("seed {seed}, step {step}")),
            12..15 => {
                let at = random.below(model.pending.len().max(1) as u64) as usize;
                if let Some((seq, reply)) =
                    model.pending.iter().nth(at).map(|(seq, reply)| (*seq, reply.clone()))
                {
                    assert_eq!(world.text(&reply, ""), "", "seed {seed}, step {step}");
                    model.pending.remove(&seq);
                }
            }
            15 => {
                let seq = 1 + random.below(model.last + 2);
                let there = model.messages.contains_key(&seq);
                let answer = world.api("STREAM.MSG.DELETE.S", &format!(r#"{{"seq":{seq}}}"#));
                assert_eq!(answer["success"] == true, there, "seed {seed}, step {step}");
                model.remove(|theirs, _| theirs == seq);
            }
            16 => {
                let subject = format!("a.*.{}", random.below(3));
                let purged =
                    world.good("STREAM.PURGE.S", &format!(r#"{{"filter":"{subject}"}}"#))["purged"].as_u64();
                let end = &subject[3..];
                assert_eq!(
                    purged,
                    Some(model.remove(|_, theirs| theirs.ends_with(end))),
                    "seed {seed}, step {step}"
                );
            }
            17 => {
                // All that is pending is over time, and goes again.
                world.pass(ACK_WAIT + Duration::from_secs(1));
                redeliver(&mut world, &mut model, &format!("seed {seed}, step {step}"));
            }
            18 => {
                // Nobody was told where the consumer is since, so it is where it was, and messages go again.
                world.fetch("S", "C", 1 + u32::try_from(random.below(5)).unwrap());
                world.power_cut(seed ^ step);
            }
            _ => {
                let payload = "never acknowledged";
                world.stage("a.x.0", Some("_IN.lost"), "", payload);
                world.power_cut(seed ^ step);
            }
        }
        check(&mut world, &model, &format!("seed {seed}, step {step}"));
    }
}

/// Messages that have never gone, in order.
fn fetch(world: &mut World, model: &mut Model, most: u64, at: &str) {
    let due: Vec<u64> = model.wanted().filter(|seq| *seq >= model.cursor).take(most as usize).collect();
    let got = world.fetch("S", "C", u32::try_from(most).unwrap());
    let payloads: Vec<&str> = got.iter().map(|(payload, _)| payload.as_str()).collect();
    let expected: Vec<&str> = due.iter().map(|seq| model.messages[seq].1.as_str()).collect();
    assert_eq!(payloads, expected, "{at}");
    for (seq, (_, reply)) in due.into_iter().zip(got) {
        model.cursor = seq + 1;
        model.pending.insert(seq, reply);
    }
}

/// All pending messages go again, and no others before them.
fn redeliver(world: &mut World, model: &mut Model, at: &str) {
    let due: BTreeSet<u64> = model.pending.keys().copied().collect();
    let got = world.fetch("S", "C", u32::try_from(due.len().max(1)).unwrap());
    if due.is_empty() {
        for (_, reply) in got {
            let seq: u64 = reply.split('.').nth(5).unwrap().parse().unwrap();
            model.cursor = seq + 1;
            model.pending.insert(seq, reply);
        }
        return;
    }
    let again: BTreeMap<u64, String> = got
        .into_iter()
        .map(|(_, reply)| (reply.split('.').nth(5).unwrap().parse().unwrap(), reply))
        .collect();
    assert_eq!(again.keys().copied().collect::<BTreeSet<_>>(), due, "{at}");
    model.pending = again;
}

fn check(world: &mut World, model: &Model, at: &str) {
    let (messages, _, last) = world.sums("S");
    assert_eq!((messages, last), (model.messages.len() as u64, model.last), "{at}");
    let numbers = world.consumer("S", "C");
    let ahead = model.wanted().filter(|seq| *seq >= model.cursor).count() as u64;
    assert_eq!(
        (numbers["num_ack_pending"], numbers["num_pending"]),
        (model.pending.len() as u64, ahead),
        "{at}"
    );
}

#[test]
fn agrees_with_maps() {
    (0..SEEDS).for_each(play);
}
