//! Connects with a user's name, subscribes, publishes 16 bytes, receives them; asynchronous.
#![no_std]
#![no_main]
use midge_client::{Client, Connection, Config, Event, Instant, Login, Subject, subject};
use midge_device::{Canned, PAYLOAD, SERVER, Wire, begin, block_on, client_instructions, exit, say};
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
    let mut client = Client::<1>::new(Config::new(0), &mut receive, &mut transmit, *b"0123456789abcdef");
    say("state", size_of_val(&client) as u32);
    client.subscribe("sensors.>", None).ok()?;
    let mut connection = Connection::new(&mut client, Wire(&mut canned), &LOGIN, Instant::default());
    let mut now = 0;
    loop {
        now += 1000;
        let before = begin();
        let event = connection.next(Instant::from_micros(now)).await.ok()?;
        let took = client_instructions(before);
        match event {
            Some(Event::Connected) => break,
            None | Some(Event::Greeting { .. }) => say("handshake", took),
            Some(_) => return None,
        }
    }
    for _ in 0..2 {
        let before = begin();
        connection.publish(SUBJECT, PAYLOAD).await.ok()?;
        say("publish", client_instructions(before));
        let before = begin();
        let event = connection.next(Instant::from_micros(now)).await.ok()?;
        let took = client_instructions(before);
        let Some(Event::Message { message, .. }) = event else { return None };
        if message.payload != PAYLOAD {
            return None;
        }
        say("message", took);
    }
    #[cfg(feature = "planted")]
    assert!(core::hint::black_box(now) != 77);
    drop(connection);
    say("writes", canned.writes);
    say("reads", canned.reads);
    Some(())
}
