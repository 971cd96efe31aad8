//! Futures that are dropped after any number of polls: no byte is lost, no frame is split, no message is sent twice.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;

use common::{INFO, Seen, Wire, block_on, poll_once};
use midge_client::{Client, Config, Connection, Event, Instant, Login, Subject};
use std::pin::pin;
use std::task::Poll;

/// Runs a conversation in which the future of one step is dropped after `polls` polls. Gives what was seen and sent,
/// and whether that step came to its end.
fn run(step: usize, polls: usize, piece: usize, transmit_size: usize) -> (Vec<String>, String, bool) {
    let wire =
        format!("{INFO}\r\nPONG\r\nMSG a 1 2\r\nhi\r\nPING\r\nMSG a 1 3\r\nyou\r\nPONG\r\nMSG a 1 0\r\n\r\n");
    let (mut receive, mut transmit) = ([0; 128], vec![0; transmit_size]);
    let mut client = Client::<1, 1>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
    client.subscribe("a", None).unwrap();
    let mut transport = Wire::new(wire.as_bytes(), piece);
    transport.pending = 2;
    let mut connection = Connection::new(&mut client, &mut transport, &Login::ANONYMOUS, Instant::default());
    let (mut seen, mut ended, now) = (Seen::default(), false, Instant::default());
    // Each attempt is dropped after so many polls, until one comes to its end; then all further ones may.
    let mut attempts = 0;
    while seen.lines.len() < 2 {
        let mut next = pin!(connection.next(now));
        let mut left = if step == 0 && attempts < 40 { polls } else { usize::MAX };
        while left > 0 {
            if let Poll::Ready(event) = poll_once(next.as_mut()) {
                event.unwrap().iter().for_each(|event| seen.note(event));
                break;
            }
            left -= 1;
        }
        attempts += 1;
    }
    let subject = Subject::new(b"b.c").unwrap();
    for at in 1..=3 {
        let mut publish = pin!(connection.publish(subject, b"0123456789"));
        let mut left = if step == at { polls } else { usize::MAX };
        while left > 0 {
            if let Poll::Ready(result) = poll_once(publish.as_mut()) {
                result.unwrap();
                ended |= step == at;
                break;
            }
            left -= 1;
        }
    }
    block_on(connection.ping()).unwrap();
    while seen.lines.len() < 6 {
        let event = block_on(connection.next(now)).unwrap();
        event.iter().for_each(|event: &Event<'_>| seen.note(event));
    }
    (seen.lines, String::from_utf8(transport.heard).unwrap(), ended)
}

#[test]
fn dropped_after_any_number_of_polls() {
    let published = "PUB b.c 10\r\n0123456789\r\n";
    for piece in [1, 2, 3, 7, 50, 500] {
        for transmit in [160, 512] {
            let (seen, all, _) = run(9, 0, piece, transmit);
            assert_eq!(
                seen,
                ["greeting", "Connected", "message 1 hi", "message 1 you", "Pong", "message 1 "]
            );
            assert_eq!(all.matches(published).count(), 3, "{all}");
            for step in 0..=3 {
                let (mut polls, mut sent_early) = (1, 0);
                loop {
                    let (now_seen, sent, ended) = run(step, polls, piece, transmit);
                    assert_eq!(now_seen, seen, "step {step} dropped after {polls} polls");
                    // Whole, and at most the one message missing.
                    let missing = 3 - sent.matches(published).count();
                    assert!(missing <= usize::from(step > 0 && !ended), "{sent}");
                    let rest = sent.replace(published, "").replace("PONG\r\n", "");
                    assert_eq!(rest, all.replace(published, "").replace("PONG\r\n", ""), "{sent}");
                    sent_early += usize::from(!ended && missing == 0);
                    polls += 1;
                    if ended || polls > 400 {
                        break;
                    }
                }
                assert!(sent_early > 0, "some of the dropped ones were queued, and sent by what came after");
            }
        }
    }
}
