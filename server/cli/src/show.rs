//! How messages look: for people, for programs, or nothing but their bodies.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, StdoutLock, Write};
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::builder::styling::{Effects, Style};
use jiff::{Timestamp, Zoned};
use serde::Serialize;

use crate::cli::Display;
use crate::exit::{Failure, Outcome};
use crate::origin::Origin;
use crate::postcard::{Shape, Value, line};
use crate::units::{age, count};

/// Writes received messages to stdout. Its user calls [`flush`](Show::flush) before waiting for more.
pub(crate) struct Show {
    display: Display,
    shape: Option<Shape>,
    out: io::BufWriter<StdoutLock<'static>>,
    subject_style: Style,
    head_style: Style,
    terminal: bool,
}

impl Show {
    pub(crate) fn new(display: Display) -> Show {
        let terminal = io::stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = |effects| if colour { Style::new().effects(effects) } else { Style::new() };
        Show {
            display,
            shape: None,
            out: io::BufWriter::new(io::stdout().lock()),
            subject_style: style(Effects::BOLD),
            head_style: style(Effects::DIMMED),
            terminal,
        }
    }

    /// Shows bodies as such values.
    pub(crate) fn typed(self, shape: Option<Shape>) -> Show {
        Show { shape, ..self }
    }

    /// Writes the message with that number, from 1, and how long it took to come if it is a reply.
    pub(crate) fn message(
        &mut self,
        number: u64,
        message: &Message,
        rtt: Option<Duration>,
    ) -> io::Result<()> {
        self.write(number, message, rtt, None)
    }

    /// Writes a message that is in a stream; its number is the stream's.
    pub(crate) fn stored(&mut self, message: &Message, origin: &Origin) -> io::Result<()> {
        self.write(origin.seq, message, None, Some(origin))
    }

    fn write(
        &mut self,
        number: u64,
        message: &Message,
        rtt: Option<Duration>,
        origin: Option<&Origin>,
    ) -> io::Result<()> {
        let value = self.shape.as_ref().map(|shape| shape.read(&message.payload));
        if self.display.raw {
            match &value {
                Some(Ok(value)) => self.out.write_all(line(value).as_bytes())?,
                _ => self.out.write_all(&message.payload)?,
            }
            return self.out.write_all(b"\n");
        }
        if self.display.json {
            let mut record = Record::new(message, self.display.headers_only, rtt, origin);
            if !self.display.headers_only {
                record.typed(value);
            }
            serde_json::to_writer(&mut self.out, &record)?;
            return self.out.write_all(b"\n");
        }
        self.head(number, message, rtt, origin)?;
        for (name, value) in sorted(message.headers.as_ref()) {
            writeln!(self.out, "{}: {}", harmless(name), harmless(value))?;
        }
        if !self.display.headers_only && !message.payload.is_empty() {
            if message.headers.as_ref().is_some_and(|headers| !headers.is_empty()) {
                writeln!(self.out)?;
            }
            match value {
                Some(Ok(value)) => writeln!(self.out, "{}", line(&value))?,
                Some(Err(error)) => {
                    writeln!(self.out, "no such value: {error}")?;
                    self.body(&message.payload)?;
                }
                None => self.body(&message.payload)?,
            }
        }
        writeln!(self.out)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// `[#3] sensors.a  5 B  reply to _INBOX.x`, or of a stream `[#3] sensors.a  5 B  2m ago  delivery 1  4 to come`
    fn head(
        &mut self,
        number: u64,
        message: &Message,
        rtt: Option<Duration>,
        origin: Option<&Origin>,
    ) -> io::Result<()> {
        let (dim, bold) = (self.head_style, self.subject_style);
        write!(self.out, "{dim}[#{number}]{dim:#} ")?;
        if self.display.timestamp {
            write!(self.out, "{dim}{}{dim:#} ", Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"))?;
        }
        write!(self.out, "{bold}{}{bold:#}", harmless(&message.subject))?;
        write!(self.out, "{dim}  {} B", message.payload.len())?;
        match (origin, &message.reply) {
            (Some(origin), _) => {
                write!(self.out, "  {} ago", age(origin.time))?;
                if let Some(delivery) = &origin.delivery {
                    let pending = count(delivery.pending);
                    write!(self.out, "  delivery {}  {pending} to come", delivery.count)?;
                }
            }
            (None, Some(reply)) => write!(self.out, "  reply to {}", harmless(reply))?,
            (None, None) => {}
        }
        if let Some(rtt) = rtt {
            write!(self.out, "  after {}", short(rtt))?;
        }
        writeln!(self.out, "{dim:#}")
    }

    /// The body, which ends with a newline. What could steer a terminal is not sent to one.
    fn body(&mut self, body: &[u8]) -> io::Result<()> {
        match std::str::from_utf8(body) {
            Ok(text) if !self.terminal => writeln!(self.out, "{}", text.trim_end_matches('\n')),
            _ => writeln!(self.out, "{}", readable(body)),
        }
    }
}

/// A message as `--json` prints it. Exactly one of `data`, `data_base64` and `value` is there, unless bodies are left out.
#[derive(Serialize)]
struct Record<'a> {
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<&'a str>,
    /// A name can come with several values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    /// The body, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    /// The body, as `--postcard` reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// Why the body is no such value.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_error: Option<String>,
    /// Bytes in the body.
    size: usize,
    /// When it arrived here or, of a stream, when it was stored; RFC 3339, UTC.
    time: String,
    #[serde(flatten)]
    origin: Option<OriginRecord<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_us: Option<u128>,
}

/// What `--json` says of where a message is stored.
#[derive(Serialize)]
struct OriginRecord<'a> {
    stream: &'a str,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer_seq: Option<u64>,
    /// This time included.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<u64>,
}

impl<'a> OriginRecord<'a> {
    fn new(origin: &'a Origin) -> OriginRecord<'a> {
        let delivery = origin.delivery.as_ref();
        OriginRecord {
            stream: &origin.stream,
            seq: origin.seq,
            consumer: delivery.map(|delivery| delivery.consumer.as_str()),
            consumer_seq: delivery.map(|delivery| delivery.consumer_seq),
            delivered: delivery.map(|delivery| delivery.count),
            pending: delivery.map(|delivery| delivery.pending),
        }
    }
}

impl<'a> Record<'a> {
    fn new(
        message: &'a Message,
        headers_only: bool,
        rtt: Option<Duration>,
        origin: Option<&'a Origin>,
    ) -> Record<'a> {
        let mut headers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in sorted(message.headers.as_ref()) {
            headers.entry(name).or_default().push(value);
        }
        let text = std::str::from_utf8(&message.payload);
        Record {
            subject: &message.subject,
            reply: message.reply.as_deref().filter(|_| origin.is_none()),
            headers,
            data: text.ok().filter(|_| !headers_only),
            data_base64: (text.is_err() && !headers_only).then(|| BASE64_STANDARD.encode(&message.payload)),
            value: None,
            value_error: None,
            size: message.payload.len(),
            time: match origin {
                Some(origin) => origin.time.to_string(),
                None => format!("{:.6}", Timestamp::now()),
            },
            origin: origin.map(OriginRecord::new),
            rtt_us: rtt.map(|rtt| rtt.as_micros()),
        }
    }

    /// With the body as a value, if one was asked for.
    fn typed(&mut self, value: Option<Result<Value, String>>) {
        match value {
            Some(Ok(value)) => (self.data, self.data_base64, self.value) = (None, None, Some(value)),
            Some(Err(error)) => self.value_error = Some(error),
            None => {}
        }
    }
}

/// Writes a value to stdout as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Outcome {
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer(&mut out, value).map_err(|error| Failure::from(io::Error::from(error)))?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Prints names, a line each.
pub(crate) fn print_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Outcome {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for name in names {
        writeln!(out, "{}", harmless(name))?;
    }
    Ok(out.flush()?)
}

/// A body for people: text without what could steer a terminal, or the first bytes of something else.
pub(crate) fn readable(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) => harmless(text.trim_end_matches('\n')),
        Err(_) => hex(body),
    }
}

/// A duration with a precision that people care for: `845µs`, `1.84ms`, `2.1s`.
pub(crate) fn short(duration: Duration) -> String {
    match duration.as_micros() {
        0..1_000 => format!("{}µs", duration.as_micros()),
        1_000..1_000_000 => format!("{:.2}ms", duration.as_secs_f64() * 1e3),
        _ => format!("{:.1}s", duration.as_secs_f64()),
    }
}

/// All header lines by name; the library keeps them in a hash map.
fn sorted(headers: Option<&HeaderMap>) -> Vec<(&str, &str)> {
    let lines = headers.into_iter().flat_map(HeaderMap::iter);
    let mut lines: Vec<(&str, &str)> = lines
        .flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str())))
        .collect();
    lines.sort_by_key(|(name, _)| *name);
    lines
}

/// The text with control characters written out, so that a message cannot move the cursor or retitle a window.
pub(crate) fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | '\t' => safe.push(char),
            char if char.is_control() => safe.extend(char.escape_default()),
            char => safe.push(char),
        }
    }
    safe
}

/// The first bytes of a body that is no text.
fn hex(body: &[u8]) -> String {
    let mut text = "not text:".to_owned();
    for byte in body.iter().take(HEX_BYTES_MAX) {
        let _ = write!(text, " {byte:02x}");
    }
    if body.len() > HEX_BYTES_MAX {
        text.push_str(" …");
    }
    text
}

/// One line on a common terminal.
const HEX_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(short(Duration::from_micros(845)), "845µs");
        assert_eq!(short(Duration::from_micros(1840)), "1.84ms");
        assert_eq!(short(Duration::from_millis(2100)), "2.1s");
    }

    #[test]
    fn a_terminal_gets_no_commands_from_a_message() {
        assert_eq!(harmless("a\x1b[2J\tb\nc"), "a\\u{1b}[2J\tb\nc");
        assert_eq!(hex(&[0xff; 40]).matches("ff").count(), HEX_BYTES_MAX);
    }
}
