//! A clock that is wrong, and jumps: nothing goes too early, and nothing that went comes back. A board without a battery for
//! its clock starts in 1970; nats-server takes the time that it is told then for true, and ends messages by it.

use std::time::Duration;

use midge_stream::time::{Instant, Now};
use midge_stream::{Standing, Trust};

use crate::world::{EPOCH, World, header};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// Cases that are tried. A failure names its own.
const CASES: u64 = 1_000;
const STEPS: u64 = 16;

/// All messages, some of them, an id, and one that nobody acknowledges: how long each lasts.
const MAX_AGE: i64 = HOUR;
const TTL: i64 = 600 * SECOND;
const WINDOW: i64 = 120 * SECOND;
const ACK_WAIT: i64 = 30 * SECOND;
/// A clock that is set by less than two seconds is followed.
const SLACK: i64 = 5 * SECOND;
/// What schedules make due is seen after this time.
const LOOK: i64 = 251_000_000;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Between minus `most` and `most`.
    fn about(&mut self, most: i64) -> i64 {
        self.below(2 * most as u64 / SECOND as u64) as i64 * SECOND - most
    }
}

/// Something that is to last.
struct Thing {
    seq: u64,
    lasts: i64,
    /// When it came, as time really is, and as this machine could count it.
    real: i64,
    ran: i64,
    gone: bool,
}

struct Case {
    at: String,
    random: Random,
    world: World,
    synchronised: bool,
    /// Time since the beginning: really, and while the machine ran.
    real: i64,
    ran: i64,
    /// How wrong the clock is.
    error: i64,
    /// How wrong it was at most when it was believed.
    believed: i64,
    things: Vec<Thing>,
    ids: Vec<(String, i64, i64)>,
    /// A message that was fetched: when.
    fetched: Option<(u64, i64, i64)>,
    /// When a schedule is due, by the calendar, and whether it was seen to be.
    due: i64,
    fired: bool,
    /// A message and its stamp.
    last: (u64, i64),
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let synchronised = random.below(2) == 0;
        let error = if random.below(3) == 0 { -EPOCH - DAY } else { 0 };
        let trust = Trust { synchronised, ..Trust::default() };
        // It is the middle of March.
        let mut world = World::with_clock(trust, EPOCH + 75 * DAY + error);
        world.good(
            "STREAM.CREATE.S",
            r#"{"name":"S","subjects":["s.*","plan.*"],"max_age":3600000000000,"allow_msg_ttl":true,"allow_msg_schedules":true,"duplicate_window":120000000000}"#,
        );
        world.good(
            "CONSUMER.CREATE.S.C",
            r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit","ack_wait":30000000000,"filter_subject":"s.work"}}"#,
        );
        let mut case = Self {
            at: String::new(),
            random,
            world,
            synchronised,
            real: 0,
            ran: 0,
            error,
            believed: 0,
            things: Vec::new(),
            ids: Vec::new(),
            fetched: None,
            due: 0,
            fired: false,
            last: (0, 0),
        };
        case.plan();
        case
    }

    /// What messages are stamped now.
    fn stamp(&self) -> i64 {
        self.world.now.wall + self.world.engine.clock().ahead
    }

    fn plan(&mut self) {
        self.due = (self.stamp() / SECOND + 1 + self.random.below(3_000) as i64) * SECOND;
        let at = midge_stream::time::rfc3339(self.due);
        let block = format!(
            "NATS/1.0\r\nNats-Schedule: @at {at}\r\nNats-Schedule-Target: s.made\r\nNats-TTL: never\r\nNats-Schedule-TTL: never\r\n\r\n"
        );
        let answer = self.world.ask_with("plan.a", &block, "").remove(0).payload;
        assert!(answer.contains("seq"), "{answer}");
    }

    fn publish(&mut self, subject: &str, header: &str) -> String {
        self.world.ask_with(subject, header, "").remove(0).payload
    }

    fn step(&mut self) {
        let what = self.random.below(12);
        match what {
            0 | 1 => {
                let (lasts, block) = match self.random.below(2) {
                    0 => (MAX_AGE, String::new()),
                    _ => (TTL, header("Nats-TTL", "10m")),
                };
                let answer = self.publish("s.a", &block);
                let seq = answer.trim_end_matches('}').rsplit(':').next().unwrap().parse().unwrap();
                self.things.push(Thing { seq, lasts, real: self.real, ran: self.ran, gone: false });
                self.check_stamp(seq);
            }
            2 => {
                let id = format!("id{}", self.random.below(1 << 30));
                self.publish("s.id", &header("Nats-Msg-Id", &id));
                self.ids.push((id, self.real, self.ran));
            }
            3 => self.check_id(),
            4 => self.fetch(),
            5..8 => {
                let time = [SECOND, 20 * SECOND, 150 * SECOND, 2000 * SECOND][self.random.below(4) as usize];
                self.world.pass(Duration::from_nanos(time as u64));
                (self.real, self.ran) = (self.real + time, self.ran + time);
            }
            8 | 9 => self.jump(),
            _ => self.restart(),
        }
        if what >= 5 {
            self.look();
        }
    }

    /// Somebody sets the clock, right or wrong.
    fn jump(&mut self) {
        let right = self.random.below(2) == 0;
        let mut error = match right {
            true => 0,
            false => self.random.about(10 * YEAR),
        };
        let believed = self.world.engine.clock().standing == Standing::Trusted;
        // As long as it isn't known how long it was off, a clock that is too far ahead would be taken for that.
        if !believed && !self.synchronised {
            error = error.min(self.believed);
        }
        self.world.now.wall += error - self.error;
        self.error = error;
        if self.synchronised {
            self.world.engine.set_synchronised(right);
        }
    }

    /// Off for a while, and on again, with a clock that has gone on or has lost all.
    fn restart(&mut self) {
        let off = [SECOND, 100 * SECOND, HOUR / 2, 3 * HOUR][self.random.below(4) as usize];
        let lost = self.random.below(2) == 0;
        self.real += off;
        let mut wall = if lost { self.random.below(50) as i64 * SECOND } else { self.world.now.wall + off };
        if self.synchronised && self.random.below(2) == 0 {
            // Anything may stand in the clock's registers: nobody believes it.
            wall = EPOCH + self.random.about(40 * YEAR);
        }
        self.error += wall - (self.world.now.wall + off);
        let seed = self.random.below(1 << 20);
        self.world.restart(Now { mono: Instant::from_micros(1 + seed), wall }, seed);
        self.fetched = self.fetched.map(|(seq, real, _)| (seq, real, self.ran));
    }

    /// What should be there is, and what has gone stays away.
    fn look(&mut self) {
        // What a clock that was set makes due is seen in one turn, and done in the next.
        self.world.pass(Duration::from_millis(1));
        self.world.pass(Duration::from_nanos(LOOK.cast_unsigned()));
        (self.real, self.ran) = (self.real + LOOK, self.ran + LOOK);
        if self.world.engine.clock().standing == Standing::Trusted {
            self.believed = self.stamp() - (EPOCH + 75 * DAY + self.real);
        }
        let (real, ran) = (self.real, self.ran);
        for thing in self.things.iter_mut() {
            let answer = self.world.text("$JS.API.STREAM.MSG.GET.S", &format!("{{\"seq\":{}}}", thing.seq));
            let there = !answer.contains("\"err_code\":10037");
            let at = format!("{}: message {} of {} s", self.at, thing.seq, thing.lasts / SECOND);
            if real - thing.real < thing.lasts - SLACK {
                assert!(there, "{at} went after {} s", (real - thing.real) / SECOND);
            }
            if ran - thing.ran > thing.lasts + SLACK {
                assert!(!there, "{at} stays after {} s", (ran - thing.ran) / SECOND);
            }
            assert!(!(thing.gone && there), "{at} is back");
            thing.gone = !there;
        }
        self.things.retain(|thing| !thing.gone || thing.seq % 3 == 0);
        let fired = self.world.text("$JS.API.STREAM.MSG.GET.S", r#"{"last_by_subj":"s.made"}"#);
        let fired = !fired.contains("\"err_code\":10037");
        // Two looks are that far apart.
        if (self.due - self.stamp()).abs() > 2 * LOOK || self.fired {
            assert_eq!(fired, self.due <= self.stamp() || self.fired, "{}: the schedule", self.at);
        }
        self.fired = fired;
    }

    /// Within the window an id is known; a machine that has run for longer doesn't know it any more.
    fn check_id(&mut self) {
        let Some((id, real, ran)) = self.ids.pop() else { return };
        let answer = self.publish("s.id", &header("Nats-Msg-Id", &id));
        let known = answer.contains("duplicate");
        if self.real - real < WINDOW - SLACK {
            assert!(known, "{}: {id} is forgotten", self.at);
        }
        if self.ran - ran > WINDOW + SLACK {
            assert!(!known, "{}: {id} is known again", self.at);
        }
    }

    /// A message goes again when its time is over, and not before.
    fn fetch(&mut self) {
        match self.fetched {
            None => {
                let answer = self.publish("s.work", &header("Nats-TTL", "never"));
                let seq = answer.trim_end_matches('}').rsplit(':').next().unwrap().parse().unwrap();
                let got = self.world.fetch("S", "C", 1);
                assert_eq!(got.len(), 1, "{}", self.at);
                self.fetched = Some((seq, self.real, self.ran));
                // Where the consumer is, is on the disk by then.
                self.world.pass(Duration::from_millis(300));
                (self.real, self.ran) = (self.real + 300_000_000, self.ran + 300_000_000);
            }
            Some((seq, real, ran)) => {
                let got = self.world.fetch("S", "C", 1);
                if self.real - real < ACK_WAIT - SLACK {
                    assert!(
                        got.is_empty(),
                        "{}: goes again after {} s",
                        self.at,
                        (self.real - real) / SECOND
                    );
                }
                if self.ran - ran > ACK_WAIT {
                    assert_eq!(got.len(), 1, "{}: {seq} doesn't go again", self.at);
                }
                if let [(_, reply)] = &got[..] {
                    assert_eq!(reply.split('.').nth(5).unwrap().parse(), Ok(seq));
                    self.world.ask(&reply.clone(), "");
                    self.fetched = None;
                }
            }
        }
    }

    /// Stamps never go back, as far as they are there.
    fn check_stamp(&mut self, seq: u64) {
        let mut stamp_of = |seq: u64| {
            let answer = self.world.api("STREAM.MSG.GET.S", &format!("{{\"seq\":{seq}}}"));
            answer["message"]["time"].as_str().and_then(midge_stream::time::parse_rfc3339)
        };
        let stamp = stamp_of(seq).unwrap();
        let (before, last) = self.last;
        if stamp_of(before).is_some() {
            assert!(stamp >= last, "{}: {stamp} comes after {last}", self.at);
        }
        self.last = (seq, stamp);
    }
}

#[test]
fn nothing_goes_too_early_or_comes_back() {
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let cases = std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    for seed in first..first + cases {
        let mut case = Case::new(seed);
        for step in 0..STEPS {
            case.at = format!("SEED={seed} CASES=1, step {step}");
            case.step();
        }
    }
}

fn count(world: &mut World) -> u64 {
    world.sums("S").0
}

fn aged(trust: Trust, wall: i64) -> World {
    let mut world = World::with_clock(trust, wall);
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["s"],"max_age":3600000000000}"#);
    world.ask("s", "old");
    world
}

#[test]
fn what_is_stored_before_the_clock_is_right_lives_as_long_as_the_rest() {
    // The clock says 1970.
    let mut world = aged(Trust::default(), 12 * SECOND);
    assert_eq!(world.engine.clock().standing, Standing::TooEarly);
    let time = &world.good("STREAM.MSG.GET.S", r#"{"seq":1}"#)["message"]["time"];
    assert_eq!(time, "2026-01-01T00:00:00Z", "the earliest that it can be");
    world.pass(Duration::from_secs(600));
    world.now.wall = EPOCH + YEAR;
    world.ask("s", "new");
    assert_eq!((count(&mut world), world.engine.clock().standing), (2, Standing::Trusted));
    let time = &world.good("STREAM.MSG.GET.S", r#"{"seq":2}"#)["message"]["time"];
    assert_eq!(time, "2027-01-01T00:00:00Z");
    world.pass(Duration::from_secs(3001));
    assert_eq!(count(&mut world), 1);
    world.pass(Duration::from_secs(600));
    assert_eq!(count(&mut world), 0);
}

#[test]
fn time_off_counts_once_the_clock_is_right() {
    let mut world = aged(Trust::default(), EPOCH);
    world.pass(Duration::from_secs(60));
    // Off for half an hour, and the clock has lost all.
    let real = world.now.wall + HOUR / 2;
    world.restart(Now { mono: Instant::from_micros(5), wall: 3 * SECOND }, 1);
    world.ask("s", "new");
    world.pass(Duration::from_secs(60));
    assert_eq!((count(&mut world), world.engine.clock().standing), (2, Standing::TooEarly));
    world.now.wall = real + 60 * SECOND;
    world.run();
    assert_eq!((world.engine.clock().off + 1) / SECOND, 1800);
    // The one is 32 minutes old now, the other one.
    world.pass(Duration::from_secs(27 * 60));
    assert_eq!(count(&mut world), 2);
    world.pass(Duration::from_secs(2 * 60));
    assert_eq!(count(&mut world), 1);
    world.pass(Duration::from_secs(29 * 60));
    assert_eq!(count(&mut world), 1);
    world.pass(Duration::from_secs(2 * 60));
    assert_eq!(count(&mut world), 0);
}

#[test]
fn a_clock_that_was_ahead_is_believed_again_once_nothing_bears_its_time() {
    let mut world = aged(Trust::default(), EPOCH);
    world.now.wall += 10 * YEAR;
    world.ask("s", "later");
    world.now.wall -= 10 * YEAR;
    world.pass(Duration::from_secs(61));
    assert_eq!(world.engine.clock().standing, Standing::Behind);
    assert_eq!(world.engine.clock().ahead / YEAR, 10);
    world.pass(Duration::from_secs(3600));
    assert_eq!(count(&mut world), 0);
    world.pass(Duration::from_secs(61));
    assert_eq!((world.engine.clock().standing, world.engine.clock().ahead), (Standing::Trusted, 0));
    world.ask("s", "now");
    world.pass(Duration::from_secs(3599));
    assert_eq!(count(&mut world), 1);
    world.pass(Duration::from_secs(2));
    assert_eq!(count(&mut world), 0);
}

#[test]
fn an_idle_machine_is_not_woken_for_the_clock() {
    let mut world = aged(Trust::default(), EPOCH);
    world.pass(Duration::from_secs(10));
    let syncs = world.syncs();
    world.pass(Duration::from_secs(1800));
    assert_eq!(world.syncs(), syncs);
    let at = world.engine.deadline().unwrap();
    assert!(at.since(world.now.mono) > Duration::from_secs(1700), "but when the message is over");
}
