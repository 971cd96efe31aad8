//! Shows the readings of all nodes as text; with values, tells a node what to do.
//!
//! ```sh
//! readings 127.0.0.1:4222                        # what they measure
//! readings 127.0.0.1:4222 status attic           # asks one how it is
//! readings 127.0.0.1:4222 command attic interval 500
//! readings 127.0.0.1:4222 command attic heater on
//! ```

use midge_client::blocking::Connection;
use midge_client::tcp::{Clock, Tcp};
use midge_client::{Client, Config, Event, Login, Publish, Subject, typed};
use node::{Command, Reading, Status};
use std::process::ExitCode;
use std::time::Duration;

const PATIENCE_MS: u32 = 5_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("readings: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), String> {
    let (server, verb) = words.split_first().unwrap_or((&"127.0.0.1:4222", &[]));
    let (subject, payload) = match verb {
        [] => return follow(server),
        ["status", name] => (format!("plant.{name}.status"), Vec::new()),
        ["command", name, "interval", ms] => {
            let ms = ms.parse().map_err(|_| format!("{ms} is no number of ms"))?;
            (format!("plant.{name}.command"), encode(&Command::Interval { ms })?)
        }
        ["command", name, "heater", state @ ("on" | "off")] => {
            (format!("plant.{name}.command"), encode(&Command::Heater { on: *state == "on" })?)
        }
        _ => {
            return Err(
                "[ADDRESS [status NAME | command NAME interval MS | command NAME heater on|off]]".into()
            );
        }
    };
    let answer = ask(server, &subject, &payload)?;
    match typed::decode::<Status>(&answer) {
        Ok(status) => println!("{status:?}"),
        Err(_) => println!("{}", String::from_utf8_lossy(&answer)),
    }
    Ok(())
}

fn encode(command: &Command) -> Result<Vec<u8>, String> {
    Ok(typed::encode(command, &mut [0; 16]).map_err(|error| error.to_string())?.to_vec())
}

/// Prints readings until the connection ends.
fn follow(server: &str) -> Result<(), String> {
    let clock = Clock::start();
    let (mut receive, mut transmit) = ([0; 1024], [0; 256]);
    let mut client = Client::<1>::new(Config::new(0), &mut receive, &mut transmit, [0; 16]);
    client.subscribe("plant.*.reading", None).map_err(|error| error.to_string())?;
    let transport = Tcp::connect(server, Duration::from_millis(500)).map_err(|error| error.to_string())?;
    let mut connection = Connection::new(&mut client, transport, &Login::ANONYMOUS, clock.now());
    loop {
        let event = connection.next(clock.now()).map_err(|error| error.to_string())?;
        let Some(Event::Message { message, .. }) = event else { continue };
        let subject = String::from_utf8_lossy(message.subject);
        match typed::decode::<Reading>(message.payload) {
            Ok(Reading { number, uptime_ms, celsius_x100, heater }) => println!(
                "{subject} #{number} at {}.{:03} s: {:.2} °C, heater {}",
                uptime_ms / 1_000,
                uptime_ms % 1_000,
                f32::from(celsius_x100) / 100.0,
                if heater { "on" } else { "off" },
            ),
            Err(error) => println!("{subject}: no reading: {error}"),
        }
    }
}

/// Sends one request and gives its answer.
fn ask(server: &str, subject: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
    let clock = Clock::start();
    let (mut receive, mut transmit) = ([0; 1024], [0; 512]);
    let unique = u128::from(std::process::id()) << 64 | clock_bits();
    let mut client = Client::<1, 1>::new(Config::new(0), &mut receive, &mut transmit, unique.to_le_bytes());
    let transport = Tcp::connect(server, Duration::from_millis(500)).map_err(|error| error.to_string())?;
    let mut connection = Connection::new(&mut client, transport, &Login::ANONYMOUS, clock.now());
    loop {
        let now = clock.now();
        match connection.next(now).map_err(|error| error.to_string())? {
            Some(Event::Connected) => {
                let subject = Subject::try_from(subject).map_err(|error| error.to_string())?;
                let message = Publish::new(subject, payload);
                connection.request(&message, now.after_ms(PATIENCE_MS)).map_err(|error| error.to_string())?;
            }
            Some(Event::Answer { message, .. }) => return Ok(message.payload.to_vec()),
            Some(Event::NoResponders { .. }) => return Err("nobody listens there".into()),
            Some(Event::Expired { .. }) => return Err("no answer in time".into()),
            _ => {}
        }
    }
}

/// Bits that differ from call to call: they name an inbox.
fn clock_bits() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}
