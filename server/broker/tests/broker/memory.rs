//! What messages and connections cost, counted by the allocator: on the way from a publisher's bytes to those that a
//! subscriber is owed, and at rest.

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use midge_broker::{Instant, Now, Settings};

use crate::world::{Client, World, publish};

/// Allocations of a turn that says `input`, once such turns are nothing new. Checks that `deliveries` of `length`
/// bytes came of it.
fn warm(
    world: &mut World,
    publisher: &mut Client,
    input: &[u8],
    deliveries: usize,
    length: usize,
) -> AllocationInfo {
    for _ in 0..3 {
        world.turn(publisher, input);
    }
    world.written = 0;
    let info = measure(|| world.turn(publisher, input));
    assert_eq!(world.written, deliveries * length);
    info
}

#[test]
fn a_message_allocates_nothing() {
    for subscribers in [1, 10] {
        for size in [16, 128, 1024] {
            for messages in [1, 20] {
                let mut world = World::new(Settings::default());
                let listening: Vec<Client> =
                    (0..subscribers).map(|_| world.client("SUB plant.> 1\r\n")).collect();
                let mut publisher = world.client("");
                let input = publish("plant.attic.temp", size).repeat(messages);
                let length = format!("MSG plant.attic.temp 1 {size}\r\n").len() + size + 2;
                let deliveries = messages * listening.len();
                let allocated = warm(&mut world, &mut publisher, input.as_bytes(), deliveries, length);
                assert_eq!(allocated.count_total, 0, "{messages} messages of {size} bytes to {subscribers}");
            }
        }
    }
}

/// Every answer goes to a subject that was never seen before.
#[test]
fn a_request_and_its_answer() {
    let mut world = World::new(Settings::default());
    let mut responder = world.client("SUB heater 1\r\n");
    let mut requester = world.client("SUB _INBOX.abcdefghijklmnopqrstuv.* 1\r\n");
    let mut allocated = 0;
    // The match cache finds its size within the first thousands.
    for number in 0..5_000 {
        let reply = format!("_INBOX.abcdefghijklmnopqrstuv.{number:08}");
        let request = format!("PUB heater {reply} 3\r\non?\r\n");
        let answer = format!("PUB {reply} 3\r\nyes\r\n");
        allocated = measure(|| {
            world.turn(&mut requester, request.as_bytes());
            world.turn(&mut responder, answer.as_bytes());
        })
        .count_total;
    }
    assert_eq!(allocated, 0);
}

#[test]
fn a_large_body_is_copied_once_for_all() {
    const SIZE: usize = 64 * 1024;
    let mut world = World::new(Settings::default());
    let listening: Vec<Client> = (0..10).map(|_| world.client("SUB plant.camera 1\r\n")).collect();
    let mut publisher = world.client("");
    let length = "MSG plant.camera 1 65536\r\n".len() + SIZE + 2;
    let input = publish("plant.camera", SIZE);
    let allocated = warm(&mut world, &mut publisher, input.as_bytes(), listening.len(), length);
    let beside = allocated.bytes_total - SIZE as u64;
    assert!(beside < 500 * listening.len() as u64, "{beside} bytes beside the body");
    assert_eq!(allocated.bytes_current, 0);
}

/// The driver's task and socket come on top of this.
#[test]
fn an_idle_connection_with_a_subscription() {
    const CONNECTIONS: usize = 10_000;
    // What is remembered of ended connections has a ceiling of its own.
    let mut world = World::new(Settings { max_closed: 0, ..Settings::default() });
    let mut clients = Vec::with_capacity(CONNECTIONS);
    let came = measure(|| {
        clients.extend((0..CONNECTIONS).map(|n| world.client(&format!("SUB plant.{n}.temp 1\r\n"))));
    });
    let each = came.bytes_current as f64 / CONNECTIONS as f64;
    assert!(each < 710.0, "{each} bytes per connection");

    let later = Now { mono: Instant::default() + Duration::from_secs(3600), ..Now::default() };
    let left = measure(|| {
        for client in clients.drain(..) {
            world.leave(client);
        }
        // Their timers go when they are due.
        world.broker.tick(later);
    });
    let stays = came.bytes_current + left.bytes_current;
    assert!(stays < 8_192, "{stays} bytes stay behind");
}

/// A subscriber that reads nothing, beside another whose buffers of any size come to hand.
#[test]
fn output_that_waits_takes_little_more_than_its_bytes() {
    const TURNS: i64 = 1_000;
    let bulk = publish("plant.hall", 4_000).repeat(6);
    let small = publish("plant.attic.temp", 16);
    let large = publish("plant.attic.camera", 10_000);
    for turn in [vec![&small], vec![&bulk, &small], vec![&bulk, &small, &large]] {
        let mut world = World::new(Settings::default());
        let _awake = world.client("SUB plant.hall 1\r\n");
        let mut asleep = world.client("SUB plant.attic.> 1\r\n");
        let mut publisher = world.client("");
        let mut turns = |world: &mut World| {
            for input in (0..TURNS).flat_map(|_| &turn) {
                world.turn(&mut publisher, input.as_bytes());
            }
        };
        // The memory that a thread keeps finds its size.
        turns(&mut world);
        world.block(&mut asleep);
        let allocated = measure(|| turns(&mut world));
        let waits = asleep.outbox.pending() as i64;
        assert!(waits > TURNS * 40, "{waits} bytes wait");
        let used = allocated.bytes_current;
        // A single buffer may have been half empty when the others began to wait.
        assert!(used < 3 * waits + 64 * 1024, "{used} bytes for {waits} that wait");
    }
}
