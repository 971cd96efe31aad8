//! Futures that are dropped after any number of polls: no byte is lost, no frame is split, no message is sent twice.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;

use common::{INFO, Seen, Wire, block_on, poll_once};
use midge_client::header::{Block, Field};
use midge_client::{
    Client, Config, Connection, Error, Event, Instant, Login, Lost, Publish, Subject, subject,
};
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

/// A conversation with each verb in it, of which number `dropped` is dropped after `polls` polls. Gives what was sent, and
/// whether that verb came to its end.
fn converse(dropped: usize, polls: usize, piece: usize, transmit_size: usize) -> (String, bool) {
    let wire = format!("{INFO}\r\nPONG\r\nMSG a 1 r.7 2\r\nhi\r\n");
    let (mut receive, mut transmit) = ([0; 128], vec![0; transmit_size]);
    let mut client = Client::<1, 1>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
    client.subscribe("a", None).unwrap();
    let mut transport = Wire::new(wire.as_bytes(), piece);
    transport.pending = 2;
    let (mut ended, now) = (false, Instant::default());
    let fields = [Field::new("A", "b")];
    let header = Block::new(&fields).unwrap();
    let message = Publish::new(subject!("b"), b"hi");
    let full = Publish { reply: Some(subject!("r.8")), header: Some(&header), ..message };
    let mut connection = Connection::greet(&mut client, &mut transport, now);
    macro_rules! verb {
        ($number:literal, $name:ident($($argument:expr),*)) => {{
            let mut future = pin!(connection.$name($($argument),*));
            let mut left = if dropped == $number { polls } else { usize::MAX };
            while left > 0 {
                if let Poll::Ready(result) = poll_once(future.as_mut()) {
                    result.unwrap();
                    ended |= dropped == $number;
                    break;
                }
                left -= 1;
            }
        }};
    }
    while !matches!(block_on(connection.next(now)).unwrap(), Some(Event::Greeting { .. })) {}
    verb!(0, login(&Login::ANONYMOUS, now));
    while !matches!(block_on(connection.next(now)).unwrap(), Some(Event::Message { .. })) {}
    verb!(1, respond(b"yes"));
    verb!(2, publish(message.subject, message.payload));
    verb!(3, publish_with(&full));
    verb!(4, request(&message, now.after_ms(1)));
    verb!(5, ping());
    verb!(6, keep_alive());
    verb!(7, publish(message.subject, message.payload));
    // The server has nothing more to say, and what waits is sent before that is noticed.
    assert_eq!(block_on(connection.next(now)), Err(Error::Lost(Lost::Closed)));
    (String::from_utf8(transport.heard).unwrap(), ended)
}

/// Whichever verb is dropped and when: its frame is sent whole, in its place, or not at all.
#[test]
fn every_verb_dropped_after_any_number_of_polls() {
    for (piece, transmit) in [(1, 160), (7, 160), (500, 160), (1, 512), (7, 512), (500, 512)] {
        let (with, _) = converse(usize::MAX, 0, piece, transmit);
        for frame in [
            "PUB r.7 3\r\nyes\r\n",
            "HPUB b r.8 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n",
            "\r\nPONG\r\nPUB b 2\r\nhi\r\n",
        ] {
            assert_eq!(with.matches(frame).count(), 1, "{frame:?} in {with:?}");
        }
        for verb in 0..=7 {
            // Without the login nothing comes of it; what is never polled does nothing.
            let without = if verb > 0 { converse(verb, 0, piece, transmit).0 } else { String::new() };
            assert!(without.len() < with.len());
            let mut polls = 1;
            loop {
                let (sent, ended) = converse(verb, polls, piece, transmit);
                assert!(
                    sent == with || (!ended && sent == without),
                    "verb {verb} dropped after {polls} polls: {sent:?}"
                );
                if ended {
                    break;
                }
                polls += 1;
            }
            assert!(polls > 2, "it waited, and was dropped while it did");
        }
    }
}
