//! What the devices of these examples do, whatever they are connected by: publish a reading, see it come back, publish the next.

#![allow(dead_code, reason = "each example has one of the two")]
#![allow(clippy::arithmetic_side_effects, reason = "counts a few")]

use midge_client::tcp::Clock;
use midge_client::{Connection, Error, Event, Subject, blocking, subject};

pub(crate) const READING: Subject<'_> = subject!("plant.attic.temp");

/// So many readings, asynchronously.
pub(crate) async fn converse<T: embedded_io_async::Read + embedded_io_async::Write>(
    connection: &mut Connection<'_, '_, T, 1, 0>,
    clock: Clock,
    rounds: usize,
) -> Result<(), Error<T::Error>> {
    let mut seen = 0;
    while seen < rounds {
        let is_next = match connection.next(clock.now()).await? {
            Some(Event::Connected) => true,
            Some(Event::Message { message, .. }) => {
                println!("{}", String::from_utf8_lossy(message.payload));
                seen += 1;
                seen < rounds
            }
            _ => false,
        };
        if is_next {
            connection.publish(READING, format!("reading {seen}").as_bytes()).await?;
        }
    }
    Ok(())
}

/// So many readings, over a transport that blocks.
pub(crate) fn converse_blocking<T: embedded_io::Read + embedded_io::Write>(
    connection: &mut blocking::Connection<'_, '_, T, 1, 0>,
    clock: Clock,
    rounds: usize,
) -> Result<(), Error<T::Error>> {
    let mut seen = 0;
    while seen < rounds {
        let is_next = match connection.next(clock.now())? {
            Some(Event::Connected) => true,
            Some(Event::Message { message, .. }) => {
                println!("{}", String::from_utf8_lossy(message.payload));
                seen += 1;
                seen < rounds
            }
            _ => false,
        };
        if is_next {
            connection.publish(READING, format!("reading {seen}").as_bytes())?;
        }
    }
    Ok(())
}
