//! The same device as in `blocking.rs`, asynchronous: over tokio's sockets here, over embassy-net's on a board.
//!
//! ```sh
//! cargo run -p midge-client --features std --example asynchronous 127.0.0.1:4222
//! ```

#![allow(clippy::expect_used, reason = "a program on a desk may end")]

use embedded_io_adapters::tokio_1::FromTokio;
use midge_client::tcp::Clock;
use midge_client::{Client, Config, Connection, Error, Event, Login, Subject, subject};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{interval, sleep};

const UPTIME: Subject<'_> = subject!("plant.attic.uptime");

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4222".into());
    let clock = Clock::start();
    let (mut receive, mut transmit) = ([0; 512], [0; 256]);
    let unique = u128::from(std::process::id()).to_le_bytes();
    let mut client = Client::<2>::new(Config::new(0), &mut receive, &mut transmit, unique);
    client.subscribe("plant.attic.heater", None).expect("a filter, and room for it");
    let transport = FromTokio::new(TcpStream::connect(server).await.expect("there is a server"));
    let error = serve(&mut client, transport, clock).await;
    println!("{error}: {:?}", error.remedy());
}

async fn serve(
    client: &mut Client<'_, 2>,
    transport: FromTokio<TcpStream>,
    clock: Clock,
) -> Error<std::io::Error> {
    let mut connection = Connection::new(client, transport, &Login::ANONYMOUS, clock.now());
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        let now = clock.now();
        let wait = connection.deadline().map_or(Duration::from_secs(3600), |deadline| deadline.since(now));
        // Whichever is first; the futures of the others are dropped, and nothing is lost with them.
        let result = tokio::select! {
            event = connection.next(now) => match event {
                Ok(Some(Event::Message { message, .. })) => {
                    println!("heater: {}", String::from_utf8_lossy(message.payload));
                    if message.reply.is_some() { connection.respond(b"done").await } else { Ok(()) }
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            },
            _ = seconds.tick() => {
                let uptime = (clock.now().as_micros() / 1_000_000).to_string();
                if connection.client().is_ready() {
                    connection.publish(UPTIME, uptime.as_bytes()).await
                } else {
                    Ok(())
                }
            }
            () = sleep(wait) => Ok(()),
        };
        if let Err(error) = result {
            return error;
        }
    }
}
