//! full_blocking.rs with one thing more, or with all: each is a feature, and takes what this is larger with it than without.
#![no_std]
#![no_main]

#[cfg(feature = "flash")]
use core::hint::black_box;
#[cfg(feature = "flash")]
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use midge_client::blocking::Connection;
use midge_client::header::{Block, Field};
#[cfg(feature = "delivery")]
use midge_client::jetstream::Delivery;
#[cfg(feature = "watch")]
use midge_client::jetstream::Watch;
#[cfg(feature = "pull")]
use midge_client::jetstream::{self, ACK};
#[cfg(feature = "kv")]
use midge_client::jetstream::{Expect, kv_entry, pub_ack};
#[cfg(feature = "flash")]
use midge_client::outbox::Flash;
#[cfg(feature = "ram")]
use midge_client::outbox::Ram;
#[cfg(any(feature = "ram", feature = "flash"))]
use midge_client::outbox::{Confirm, Outbox, Progress};
#[cfg(feature = "serial")]
use midge_client::serial::Framed;
#[cfg(feature = "typed")]
use midge_client::typed;
#[cfg(feature = "reconnect")]
use midge_client::{Backoff, Servers};
use midge_client::{Client, Config, Event, Instant, Login, Publish, Subject, subject};
use midge_device::{Canned, PAYLOAD, SERVER, Wire, exit};

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
    client.subscribe("sensors.>", Some("workers")).ok()?;
    #[cfg(feature = "reconnect")]
    let (mut servers, mut backoff) = (Servers::<2>::new(&["gateway:4222"]), Backoff::new(500, 60_000, 4711));
    #[cfg(feature = "watch")]
    let mut watch =
        Watch::new("shadow", "dev7", client.subscribe("watch.dev7", None).ok()?, "watch.dev7", 5_000);
    #[cfg(feature = "delivery")]
    let mut delivery = Delivery::new(SUBJECT, "7", b"21.5", 5_000);
    #[cfg(feature = "ram")]
    let mut ring = [0; 128];
    #[cfg(feature = "ram")]
    let mut ram = Outbox::new(Ram::new(&mut ring, 1), Confirm::Stream("dev7"), 5_000);
    #[cfg(feature = "flash")]
    let mut flash = Outbox::new(Flash::mount(Pages, 0..512).ok()?, Confirm::Stream("dev7"), 5_000);
    #[cfg(feature = "serial")]
    let mut frame = [0; 256];
    let wire = Wire(&mut canned);
    #[cfg(feature = "serial")]
    let wire = Framed::new(wire, &mut frame);
    let mut connection = Connection::new(&mut client, wire, &LOGIN, Instant::default());
    let now = Instant::from_micros(1000);
    let deadline = Instant::from_micros(9_000_000);
    let mut messages = 0usize;
    while messages < 3 {
        #[cfg(feature = "watch")]
        watch.poll(connection.client(), now).ok()?;
        #[cfg(feature = "delivery")]
        delivery.poll(connection.client(), now).ok()?;
        #[cfg(feature = "ram")]
        {
            ram.push(SUBJECT, b"21.5").ok()?;
            ram.poll(connection.client(), &mut [0; 64], now).ok()?;
        }
        #[cfg(feature = "flash")]
        {
            flash.push(SUBJECT, b"21.5").ok()?;
            flash.poll(connection.client(), &mut [0; 64], now).ok()?;
        }
        #[cfg(feature = "pull")]
        connection.client().pull("COMMANDS", "dev7", 5_000, now).ok()?;
        #[cfg(feature = "kv")]
        {
            connection.client().kv_get("shadow", "dev7", deadline).ok()?;
            connection.client().kv_put("shadow", "dev7", b"on", Expect::Revision(1), deadline).ok()?;
        }
        #[cfg(feature = "keep_alive")]
        connection.keep_alive().ok()?;
        let event = match connection.next(now) {
            Ok(event) => event,
            #[cfg(feature = "reconnect")]
            Err(_) => {
                servers.advance();
                exit(servers.current()?.len() as u32 ^ backoff.next_ms());
            }
            #[cfg(not(feature = "reconnect"))]
            Err(_) => return None,
        };
        #[cfg(feature = "reconnect")]
        if let Some(Event::Greeting { json } | Event::Info { json }) = event {
            servers.learn(json);
        }
        #[cfg(feature = "watch")]
        if let Some(event) = &event
            && let Some(result) = watch.handle(event)
        {
            messages = messages.wrapping_add(result.ok()?.value?.len());
        }
        #[cfg(feature = "delivery")]
        if let Some(event) = &event
            && let Some(result) = delivery.handle(event)
        {
            messages = messages.wrapping_add(result.ok()?.sequence as usize);
        }
        #[cfg(any(feature = "ram", feature = "flash"))]
        let progress = event.as_ref().map(Progress::from);
        match event {
            Some(Event::Connected) => {
                #[cfg(feature = "reconnect")]
                backoff.reset();
                let fields = [Field::new("Unit", "C")];
                let header = Block::new(&fields).ok()?;
                let message = Publish { header: Some(&header), ..Publish::new(SUBJECT, PAYLOAD) };
                connection.publish_with(&message).ok()?;
                connection.request(&Publish::new(SUBJECT, PAYLOAD), deadline).ok()?;
                #[cfg(feature = "typed")]
                connection
                    .publish(SUBJECT, typed::encode(&(7u32, 2150i16, true), &mut [0; 16]).ok()?)
                    .ok()?;
            }
            Some(Event::Message { message, .. }) => {
                messages = messages.wrapping_add(message.payload.len() / 16);
                if message.field("Unit") == Some(b"F") {
                    return None;
                }
                #[cfg(feature = "typed")]
                if typed::decode::<(u32, i16, bool)>(message.payload).ok()?.2 {
                    return None;
                }
                if message.reply.is_some() {
                    connection.respond(b"done").ok()?;
                }
            }
            Some(Event::Answer { message, .. }) => {
                messages = messages.wrapping_add(message.payload.len());
                #[cfg(feature = "pull")]
                if jetstream::pull_status(&message) != jetstream::PullEnd::Empty {
                    return None;
                }
                #[cfg(feature = "kv")]
                {
                    let revision = pub_ack(message.payload).ok()?.sequence;
                    messages =
                        messages.wrapping_add((kv_entry(&message).ok()??.revision ^ revision) as usize);
                }
            }
            #[cfg(feature = "pull")]
            Some(Event::Pulled { .. }) => connection.respond(ACK).ok()?,
            Some(Event::NoResponders { .. } | Event::Expired { .. }) => return None,
            _ => {}
        }
        #[cfg(feature = "ram")]
        if let Some(progress) = &progress
            && let Some(Err(_)) = ram.handle(connection.client(), progress)
        {
            return None;
        }
        #[cfg(feature = "flash")]
        if let Some(progress) = &progress
            && let Some(Err(_)) = flash.handle(connection.client(), progress)
        {
            return None;
        }
    }
    #[cfg(feature = "planted")]
    assert!(core::hint::black_box(messages) != 77);
    Some(())
}

/// Flash that takes no room itself: nobody knows what is in it.
#[cfg(feature = "flash")]
struct Pages;

#[cfg(feature = "flash")]
impl ErrorType for Pages {
    type Error = core::convert::Infallible;
}

#[cfg(feature = "flash")]
impl ReadNorFlash for Pages {
    const READ_SIZE: usize = 1;

    #[inline(never)]
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.iter_mut().for_each(|byte| *byte = black_box(offset as u8));
        Ok(())
    }

    fn capacity(&self) -> usize {
        512
    }
}

#[cfg(feature = "flash")]
impl NorFlash for Pages {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 256;

    #[inline(never)]
    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        black_box((from, to));
        Ok(())
    }

    #[inline(never)]
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        black_box((offset, bytes));
        Ok(())
    }
}
