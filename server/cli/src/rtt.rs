//! `midge rtt`

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use crate::cli::{Connection, Rtt};
use crate::connect::Link;
use crate::exit::Outcome;
use crate::show::short;

/// Measures how long it takes until the server has handled something.
pub(crate) async fn run(args: &Rtt, connection: &Connection) -> Outcome {
    let mut link = Link::open(connection).await?;
    let mut trips = Trips { min: Duration::MAX, max: Duration::ZERO, sum: Duration::ZERO };
    for _ in 0..args.count.get() {
        trips.add(link.round_trip().await?);
    }
    let average = trips.sum / args.count.get();
    let mut out = std::io::stdout().lock();
    if args.json {
        let report = Report {
            server: link.servers(),
            count: args.count.get(),
            min_us: trips.min.as_micros(),
            avg_us: average.as_micros(),
            max_us: trips.max.as_micros(),
        };
        serde_json::to_writer(&mut out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        let (min, avg, max) = (short(trips.min), short(average), short(trips.max));
        writeln!(out, "{}: min {min}, avg {avg}, max {max} ({} round trips)", link.servers(), args.count)?;
    }
    Ok(())
}

struct Trips {
    min: Duration,
    max: Duration,
    sum: Duration,
}

impl Trips {
    fn add(&mut self, trip: Duration) {
        self.min = self.min.min(trip);
        self.max = self.max.max(trip);
        self.sum += trip;
    }
}

#[derive(Serialize)]
struct Report<'a> {
    server: &'a str,
    count: u32,
    min_us: u128,
    avg_us: u128,
    max_us: u128,
}
