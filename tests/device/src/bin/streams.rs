//! What a device does with streams: an outbox, a delivery, commands, a key's value and its changes. Only linked, to see that
//! it can't panic.
#![no_std]
#![no_main]

use midge_client::blocking::Connection;
use midge_client::jetstream::{self, ACK, Delivery, Expect, Watch};
use midge_client::outbox::{Confirm, Outbox, Progress, Ram};
use midge_client::{Backoff, Client, Config, Event, Instant, Login, Servers, Subject, subject};
use midge_device::{Canned, SERVER, Wire, exit};

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
    let (mut receive, mut transmit, mut ring) = ([0; 256], [0; 256], [0; 128]);
    let mut client = Client::<2, 4>::new(Config::new(0), &mut receive, &mut transmit, *b"0123456789abcdef");
    let shadow = client.subscribe("watch.dev7", None).ok()?;
    let mut servers = Servers::<2>::new(&["gateway:4222"]);
    let mut backoff = Backoff::new(500, 60_000, 4711);
    let mut outbox = Outbox::new(Ram::new(&mut ring, 1), Confirm::Stream("dev7"), 5_000);
    let mut watch = Watch::new("shadow", "dev7", shadow, "watch.dev7", 5_000);
    let mut delivery = Delivery::new(SUBJECT, "7", b"21.5", 5_000);
    let mut connection = Connection::new(&mut client, Wire(&mut canned), &LOGIN, Instant::default());
    let mut micros = 0u64;
    loop {
        micros = micros.wrapping_add(1000);
        let now = Instant::from_micros(micros);
        outbox.push(SUBJECT, b"21.5").ok()?;
        outbox.poll(connection.client(), &mut [0; 64], now).ok()?;
        watch.poll(connection.client(), now).ok()?;
        delivery.poll(connection.client(), now).ok()?;
        let progress = match connection.next(now) {
            Ok(Some(event)) => {
                if let Event::Greeting { json } | Event::Info { json } = event {
                    servers.learn(json);
                }
                if let Some(Ok(entry)) = watch.handle(&event)
                    && entry.value.is_some()
                {
                    backoff.reset();
                }
                if delivery.handle(&event).is_some() {
                    return None;
                }
                if let Event::Answer { message, .. } = &event {
                    jetstream::kv_entry(message).ok()?;
                    jetstream::pull_status(message);
                }
                let is_pulled = matches!(event, Event::Pulled { .. });
                let progress = Progress::from(&event);
                if is_pulled {
                    connection.respond(ACK).ok()?;
                }
                progress
            }
            Ok(None) => continue,
            Err(_) => {
                servers.advance();
                exit(servers.current()?.len() as u32 ^ backoff.next_ms());
            }
        };
        if let Some(Err(_)) = outbox.handle(connection.client(), &progress) {
            return None;
        }
        connection.client().pull("COMMANDS", "dev7", 5_000, now).ok()?;
        connection.client().kv_get("shadow", "dev7", now).ok()?;
        connection.client().kv_put("shadow", "dev7", b"on", Expect::Revision(1), now).ok()?;
        #[cfg(feature = "planted")]
        assert!(core::hint::black_box(micros) != 77);
    }
}
