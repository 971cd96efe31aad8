//! As full.rs, but that it blocks and shows an nkey instead of a password.
#![no_std]
#![no_main]

use midge_client::blocking::Connection;
use midge_client::header::{Block, Field};
use midge_client::nkey::UserKey;
use midge_client::{Client, Config, Event, Instant, Publish, Subject, subject};
use midge_device::{Canned, PAYLOAD, SERVER, Wire, exit, say};

const SUBJECT: Subject<'_> = subject!("sensors.a.temp");
/// Made for this, and known to nobody's server.
const SEED: &str = "SUACH75SWCM5D2JMJM6EKLR2WDARVGZT4QC6LX3AGHSWOMVAKERABBBRWM";

#[unsafe(no_mangle)]
extern "Rust" fn job() {
    if run().is_none() {
        exit(1);
    }
}

fn run() -> Option<()> {
    let mut canned = Canned::new(SERVER);
    let (mut receive, mut transmit) = ([0; 256], [0; 384]);
    let mut client = Client::<2, 2>::new(Config::new(0), &mut receive, &mut transmit, *b"0123456789abcdef");
    client.subscribe("sensors.>", Some("workers")).ok()?;
    let mut connection = Connection::greet(&mut client, Wire(&mut canned), Instant::default());
    let now = Instant::from_micros(1000);
    let deadline = Instant::from_micros(9_000_000);
    let mut messages = 0;
    while messages < 3 {
        let event = connection.next(now).ok()?;
        match event {
            Some(Event::Greeting { .. }) => {
                let key = UserKey::from_seed(SEED).ok()?;
                let signature = key.sign(connection.client().server())?;
                connection.login(&key.login(&signature), now).ok()?;
            }
            Some(Event::Connected) => {
                let fields = [Field::new("Unit", "C")];
                let header = Block::new(&fields).ok()?;
                let message = Publish { header: Some(&header), ..Publish::new(SUBJECT, PAYLOAD) };
                connection.publish_with(&message).ok()?;
                connection.request(&Publish::new(SUBJECT, PAYLOAD), deadline).ok()?;
            }
            Some(Event::Message { message, .. }) => {
                messages += message.payload.len() / 16;
                if message.field("Unit") == Some(b"F") {
                    return None;
                }
                if message.reply.is_some() {
                    connection.respond(b"done").ok()?;
                }
            }
            Some(Event::Answer { message, .. }) => messages += message.payload.len(),
            Some(Event::NoResponders { .. } | Event::Expired { .. }) => return None,
            _ => {}
        }
    }
    say("messages", messages as u32);
    Some(())
}
