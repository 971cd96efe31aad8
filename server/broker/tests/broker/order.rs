//! What is written first, of all that came of a turn.

use std::sync::Arc;

use midge_broker::Settings;

use crate::world::World;

#[test]
fn whoever_publishes_is_answered_when_the_others_have_it() {
    let mut world = World::new(Settings::default());
    let near = world.client("SUB a.> 1\r\n");
    let far = world.client("SUB b 1\r\n");
    let mut publisher = world.client("SUB a.echo 9\r\n");
    for (input, others) in [
        ("PUB a.x 2\r\nhi\r\nPING\r\n", vec![&near]),
        ("PING\r\nPUB a.x 2\r\nhi\r\nPING\r\n", vec![&near]),
        ("PING\r\nPUB a.echo 2\r\nhi\r\nPUB b 2\r\nhi\r\n", vec![&near, &far]),
        ("PUB b 2\r\nhi\r\nPING\r\nPUB a.echo 2\r\nhi\r\nPING\r\n", vec![&far, &near]),
        ("PING\r\n", vec![]),
    ] {
        let order = world.turn_unwritten(&mut publisher, input.as_bytes());
        let (last, first) = order.split_last().expect("an answer");
        assert!(Arc::ptr_eq(last, &publisher.outbox), "{input:?}: the publisher is not the last");
        assert_eq!(first.len(), others.len(), "{input:?}");
        assert!(
            first.iter().zip(&others).all(|(outbox, client)| Arc::ptr_eq(outbox, &client.outbox)),
            "{input:?}"
        );
    }
}

#[test]
fn who_is_owed_nothing_waits_for_nobody() {
    let mut world = World::new(Settings::default());
    let subscriber = world.client("SUB a 1\r\n");
    let mut publisher = world.client("");
    let order = world.turn_unwritten(&mut publisher, b"PUB a 2\r\nhi\r\n");
    assert!(matches!(&order[..], [one] if Arc::ptr_eq(one, &subscriber.outbox)));
}
