//! What messages cost, counted by the allocator.

use allocation_counter::measure;
use midge_stream::Output;

use crate::world::World;

/// Messages of a request.
const BATCH: u64 = 400;

/// Asks for messages and takes what comes. Gives how many did.
fn fetch(world: &mut World) -> u64 {
    let next = "$JS.API.CONSUMER.MSG.NEXT.S.C";
    assert!(world.stage(next, Some("_IN.z"), "", &format!("{{\"batch\":{BATCH}}}")));
    world.engine.commit(world.now);
    let mut messages = 0;
    while let Some(output) = world.engine.poll() {
        messages += u64::from(matches!(output, Output::Publish(_)));
    }
    messages
}

#[test]
fn a_message_that_goes_to_a_consumer_allocates_nothing_of_its_own() {
    let mut world = World::new();
    world.good("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*"]}"#);
    for _ in 0..2 * BATCH {
        assert!(world.stage("a.x", None, "", &"x".repeat(128)));
    }
    world.run();
    let config = r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"none"}}"#;
    world.good("CONSUMER.CREATE.S.C", config);
    assert_eq!(fetch(&mut world), BATCH);
    let mut messages = 0;
    let info = measure(|| messages = fetch(&mut world));
    assert_eq!(messages, BATCH);
    // The file is read in a few pieces, subjects to acknowledge on are made in a few more, lists grow a few times.
    assert!(info.count_total < BATCH / 4, "{info:?}");
}
