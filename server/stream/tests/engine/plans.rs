//! Schedules as a plain map: which plan there is on each subject, when it is due, and what it made.

use std::collections::BTreeMap;

use midge_stream::time::rfc3339;

use crate::rules::Random;
use crate::world::World;

const SECOND: i64 = 1_000_000_000;
/// A change of the clock is looked at so much later.
const PAUSE: i64 = SECOND / 4;

/// How it goes on.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Once,
    Every(i64),
    /// At multiples of it.
    On(i64),
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    kind: Kind,
    due: i64,
}

impl Plan {
    /// When it is due again after `at`, if it is looked at `now`.
    fn next(self, at: i64, now: i64) -> i64 {
        let round = |time: i64| (time + SECOND / 2).div_euclid(SECOND) * SECOND;
        let after = |time: i64| match self.kind {
            Kind::Once => time,
            Kind::Every(every) => round(time) + every,
            Kind::On(grid) => (time.div_euclid(grid) + 1) * grid,
        };
        // Those that were missed are one.
        if after(at) < now { after(round(now)) } else { after(at) }
    }
}

/// All of them, by the last token of their subjects.
#[derive(Default)]
pub(crate) struct Plans {
    plans: BTreeMap<u64, Plan>,
    /// By subject, what was made.
    made: BTreeMap<u64, u64>,
    /// Nothing is looked at before.
    look: i64,
}

impl Plans {
    pub(crate) fn create(world: &mut World) {
        world.good(
            "STREAM.CREATE.P",
            r#"{"name":"P","subjects":["plan.*","made.*"],"allow_msg_schedules":true}"#,
        );
    }

    /// Somebody makes a plan, or ends one, at `stamp`.
    pub(crate) fn step(&mut self, world: &mut World, random: &mut Random, stamp: i64, at: &str) {
        self.pass(stamp);
        let of = random.below(4);
        if random.chance(6) {
            let block = format!("NATS/1.0\r\nNats-Schedule-Next: purge\r\nNats-Scheduler: plan.{of}\r\n\r\n");
            let answer = world.ask_with("made.end", &block, "").remove(0).payload;
            assert!(answer.contains("\"seq\""), "{at}: {answer}");
            self.plans.remove(&of);
            return;
        }
        let (kind, text, zone) = match random.below(6) {
            0 | 1 => {
                let due = (stamp / SECOND + 1 + random.below(40) as i64) * SECOND;
                self.plans.insert(of, Plan { kind: Kind::Once, due });
                (Kind::Once, format!("@at {}", rfc3339(due)), "")
            }
            2 | 3 => {
                let every = 3 + random.below(30) as i64;
                (Kind::Every(every * SECOND), format!("@every {every}s"), "")
            }
            4 => {
                let seconds = [10, 20][random.below(2) as usize];
                let zone = ["", "Nats-Schedule-Time-Zone: UTC\r\n"][random.below(2) as usize];
                (Kind::On(seconds * SECOND), format!("*/{seconds} * * * * *"), zone)
            }
            _ => {
                let (grid, text) = [(120, "0 */2 * * * *"), (3600, "@hourly"), (43200, "0 0 0,12 * * *")]
                    [random.below(3) as usize];
                (Kind::On(grid * SECOND), text.to_owned(), "")
            }
        };
        let block = format!(
            "NATS/1.0\r\nNats-Schedule: {text}\r\n{zone}Nats-Schedule-Target: made.{}\r\n\r\n",
            of % 2
        );
        let answer = world.ask_with(&format!("plan.{of}"), &block, "").remove(0).payload;
        assert!(answer.contains("\"seq\""), "{at}: {text}: {answer}");
        if !matches!(kind, Kind::Once) {
            let mut plan = Plan { kind, due: 0 };
            plan.due = plan.next(stamp, stamp);
            self.plans.insert(of, plan);
        }
    }

    /// The clock was set, and is followed.
    pub(crate) fn jump(&mut self, stamp: i64) {
        self.look = stamp + PAUSE;
    }

    /// It is `stamp` by the calendar; what was due has been made, in its order.
    pub(crate) fn pass(&mut self, stamp: i64) {
        // Stamps go back as soon as nothing bears a later one.
        if stamp + PAUSE < self.look {
            self.look = 0;
        }
        loop {
            let first = self.plans.iter().min_by_key(|(of, plan)| (plan.due, **of));
            let Some((of, plan)) = first.map(|(of, plan)| (*of, *plan)) else { return };
            let now = plan.due.max(self.look);
            if now > stamp {
                return;
            }
            *self.made.entry(of % 2).or_default() += 1;
            match plan.kind {
                Kind::Once => drop(self.plans.remove(&of)),
                _ => self.plans.get_mut(&of).unwrap().due = plan.next(plan.due, now),
            }
        }
    }

    pub(crate) fn check(&mut self, world: &mut World, stamp: i64, at: &str) {
        self.pass(stamp);
        let info = world.good("STREAM.INFO.P", r#"{"subjects_filter":">"}"#);
        let mut there = info["state"]["subjects"].as_object().cloned().unwrap_or_default();
        there.remove("made.end");
        let there: BTreeMap<String, u64> =
            there.into_iter().map(|(subject, count)| (subject, count.as_u64().unwrap())).collect();
        let plans = self.plans.keys().map(|of| (format!("plan.{of}"), 1));
        let made = self.made.iter().map(|(of, count)| (format!("made.{of}"), *count));
        let expected: BTreeMap<String, u64> = plans.chain(made).collect();
        assert_eq!(there, expected, "{at}: plans, and what they made: {:?}", self.plans);
    }
}
