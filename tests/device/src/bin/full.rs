//! As asynchronous.rs, with a queue group, headers both ways, a request and an answer.
#![no_std]
#![no_main]

use midge_client::header::{Block, Field};
use midge_client::{Client, Config, Connection, Event, Instant, Login, Publish, Subject, subject};
use midge_device::{Canned, PAYLOAD, SERVER, Wire, block_on, exit, say};

const SUBJECT: Subject<'_> = subject!("sensors.a.temp");
static LOGIN: Login<'_> = Login::user("sensor", "secret");

#[unsafe(no_mangle)]
extern "Rust" fn job() {
    if block_on(run()).is_none() {
        exit(1);
    }
}

async fn run() -> Option<()> {
    let mut canned = Canned::new(SERVER);
    let (mut receive, mut transmit) = ([0; 256], [0; 256]);
    let mut client = Client::<2, 2>::new(Config::new(0), &mut receive, &mut transmit, *b"0123456789abcdef");
    say("state", size_of_val(&client) as u32);
    client.subscribe("sensors.>", Some("workers")).ok()?;
    let mut connection = Connection::new(&mut client, Wire(&mut canned), &LOGIN, Instant::default());
    let now = Instant::from_micros(1000);
    let deadline = Instant::from_micros(9_000_000);
    let mut messages = 0;
    while messages < 3 {
        let event = connection.next(now).await.ok()?;
        match event {
            Some(Event::Connected) => {
                let fields = [Field::new("Unit", "C")];
                let header = Block::new(&fields).ok()?;
                let message = Publish { header: Some(&header), ..Publish::new(SUBJECT, PAYLOAD) };
                connection.publish_with(&message).await.ok()?;
                connection.request(&Publish::new(SUBJECT, PAYLOAD), deadline).await.ok()?;
            }
            Some(Event::Message { message, .. }) => {
                messages += message.payload.len() / 16;
                if message.field("Unit") == Some(b"F") {
                    return None;
                }
                if message.reply.is_some() {
                    connection.respond(b"done").await.ok()?;
                }
            }
            Some(Event::Answer { message, .. }) => messages += message.payload.len(),
            Some(Event::NoResponders { .. } | Event::Expired { .. }) => return None,
            _ => {}
        }
    }
    Some(())
}
