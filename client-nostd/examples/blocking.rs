//! A device with a blocking transport: publishes the time since it was started each second, and answers on
//! `plant.attic.heater`. Goes on when the server comes back.
//!
//! ```sh
//! cargo run -p midge-client --features std --example blocking 127.0.0.1:4222
//! midge request plant.attic.heater on
//! ```

#![allow(clippy::expect_used, reason = "a program on a desk may end")]

use midge_client::blocking::Connection;
use midge_client::tcp::{Clock, Tcp};
use midge_client::{Backoff, Client, Config, Error, Event, Instant, Login, Subject, subject};
use std::time::Duration;

const UPTIME: Subject<'_> = subject!("plant.attic.uptime");

fn main() {
    let server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4222".into());
    let clock = Clock::start();
    let (mut receive, mut transmit) = ([0; 512], [0; 256]);
    // A device has its serial number, or a generator of random bytes.
    let unique = u128::from(std::process::id()).to_le_bytes();
    let mut client = Client::<2>::new(Config::new(0), &mut receive, &mut transmit, unique);
    client.subscribe("plant.attic.heater", None).expect("a filter, and room for it");
    let mut backoff = Backoff::new(200, 10_000, std::process::id());
    loop {
        match Tcp::connect(&*server, Duration::from_millis(100)) {
            Ok(transport) => {
                let error = serve(&mut client, transport, clock, &mut backoff);
                println!("{error}: {:?}", error.remedy());
            }
            Err(error) => println!("{server}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(backoff.next_ms().into()));
    }
}

/// Works until the connection is lost.
fn serve(
    client: &mut Client<'_, 2>,
    transport: Tcp,
    clock: Clock,
    backoff: &mut Backoff,
) -> Error<std::io::Error> {
    let mut connection = Connection::new(client, transport, &Login::ANONYMOUS, clock.now());
    let mut next_reading = Instant::default();
    loop {
        let now = clock.now();
        let result = match connection.next(now) {
            Ok(Some(Event::Connected)) => {
                println!("connected");
                backoff.reset();
                Ok(())
            }
            Ok(Some(Event::Message { message, .. })) => {
                println!("heater: {}", String::from_utf8_lossy(message.payload));
                if message.reply.is_some() { connection.respond(b"done") } else { Ok(()) }
            }
            Ok(Some(Event::Error(error))) => {
                println!("the server complains: {}", String::from_utf8_lossy(error.text()));
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        let result = result.and_then(|()| {
            if connection.client().is_ready() && now >= next_reading {
                next_reading = now.after_ms(1_000);
                let uptime = (now.as_micros() / 1_000_000).to_string();
                return connection.publish(UPTIME, uptime.as_bytes());
            }
            Ok(())
        });
        if let Err(error) = result {
            return error;
        }
    }
}
