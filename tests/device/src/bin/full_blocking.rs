//! As full.rs, blocking.
#![no_std]
#![no_main]

use midge_client::blocking::Connection;
use midge_client::header::{Block, Field};
use midge_client::{Client, Config, Event, Instant, Login, Publish, Subject, subject};
use midge_device::{Canned, PAYLOAD, SERVER, Wire, exit, say};

const SUBJECT: Subject<'_> = subject!("sensors.a.temp");
static LOGIN: Login<'_> = Login::user("sensor", "secret");

#[unsafe(no_mangle)]
extern "Rust" fn job() {
    if run().is_none() {
        exit(1);
    }
}

fn run() -> Option<()> {
    let mut canned = Canned::new(SERVER);
    let (mut receive, mut transmit) = ([0; 256], [0; 256]);
    let mut client = Client::<2, 2>::new(Config::new(0), &mut receive, &mut transmit, *b"0123456789abcdef");
    say("state", size_of_val(&client) as u32);
    client.subscribe("sensors.>", Some("workers")).ok()?;
    let mut connection = Connection::new(&mut client, Wire(&mut canned), &LOGIN, Instant::default());
    let now = Instant::from_micros(1000);
    let deadline = Instant::from_micros(9_000_000);
    let mut messages = 0usize;
    while messages < 3 {
        let event = connection.next(now).ok()?;
        match event {
            Some(Event::Connected) => {
                let fields = [Field::new("Unit", "C")];
                let header = Block::new(&fields).ok()?;
                let message = Publish { header: Some(&header), ..Publish::new(SUBJECT, PAYLOAD) };
                connection.publish_with(&message).ok()?;
                connection.request(&Publish::new(SUBJECT, PAYLOAD), deadline).ok()?;
            }
            Some(Event::Message { message, .. }) => {
                messages = messages.wrapping_add(message.payload.len() / 16);
                if message.field("Unit") == Some(b"F") {
                    return None;
                }
                if message.reply.is_some() {
                    connection.respond(b"done").ok()?;
                }
            }
            Some(Event::Answer { message, .. }) => messages = messages.wrapping_add(message.payload.len()),
            Some(Event::NoResponders { .. } | Event::Expired { .. }) => return None,
            _ => {}
        }
    }
    #[cfg(feature = "planted")]
    assert!(core::hint::black_box(messages) != 77);
    Some(())
}
