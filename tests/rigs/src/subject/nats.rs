//! A server that speaks NATS, asked over its own wire and JetStream's API.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, BufWriter, Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{Port, Reply, Request};
use crate::history::{Keeps, LOG, Stream};

/// The configuration of a server that stores in `dir`.
pub fn config(dir: &Path, sync: Option<&str>) -> String {
    let sync = sync.map(|sync| format!("sync_interval: {sync}")).unwrap_or_default();
    format!("listen: \"127.0.0.1:-1\"\njetstream {{ store_dir: \"{}\"\n {sync} }}\n", dir.display())
}

/// A connection to a server.
pub struct Nats {
    /// Written out before an answer is waited for.
    output: BufWriter<TcpStream>,
    input: Receiver<io::Result<Frame>>,
    asked: HashMap<u64, Asked>,
    /// What consumers delivered and wasn't acknowledged: where the acknowledgement goes.
    deliveries: HashMap<u64, String>,
    fetching: Option<Fetching>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Create { consumer: bool },
    Consumer,
    Publish,
    Change,
    Acknowledge,
    Bounds,
    Get,
    Floor,
}

struct Fetching {
    id: u64,
    wanted: u64,
    got: Vec<u64>,
}

/// A message from the server.
struct Frame {
    sid: u64,
    subject: String,
    reply: String,
    status: Option<String>,
    body: Vec<u8>,
}

const INBOX: &str = "_R.";

impl Nats {
    /// Waits until a server that was just started listens, and connects.
    pub fn connect(child: &mut Child, patience: Duration) -> io::Result<Self> {
        let log = child.stderr.take().ok_or_else(|| Error::other("the server has no log"))?;
        let (sender, ready) = mpsc::channel();
        thread::spawn(move || read_log(log, &sender));
        let port = ready
            .recv_timeout(patience)
            .map_err(|_| Error::new(ErrorKind::TimedOut, "the server isn't ready"))??;

        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let mut lines = BufReader::new(stream.try_clone()?);
        let mut info = String::new();
        lines.read_line(&mut info)?;
        let pongs = stream.try_clone()?;
        let mut output = BufWriter::new(stream);
        let hello = json!({"verbose": false, "pedantic": false, "headers": true, "no_responders": true, "name": "rigs"});
        write!(output, "CONNECT {hello}\r\nSUB {INBOX}> 1\r\n")?;
        let (sender, input) = mpsc::channel();
        thread::spawn(move || {
            let mut pongs = pongs;
            loop {
                let frame = read_frame(&mut lines, &mut pongs);
                let ended = frame.is_err();
                if sender.send(frame).is_err() || ended {
                    return;
                }
            }
        });
        Ok(Self { output, input, asked: HashMap::new(), deliveries: HashMap::new(), fetching: None })
    }

    fn publish(&mut self, subject: &str, id: u64, body: &[u8]) -> io::Result<()> {
        let mut bytes = format!("PUB {subject} {INBOX}{id} {}\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n");
        self.output.write_all(&bytes)
    }

    fn api(&mut self, what: &str, id: u64, body: &Value) -> io::Result<()> {
        self.publish(&format!("$JS.API.{what}"), id, body.to_string().as_bytes())
    }

    fn understand(&mut self, frame: Frame) -> io::Result<Option<(u64, Reply)>> {
        if frame.reply.starts_with("$JS.ACK.") {
            let Some(seq) = delivered_seq(&frame.reply) else { return Ok(None) };
            self.deliveries.insert(seq, frame.reply);
            let Some(fetching) = &mut self.fetching else { return Ok(None) };
            fetching.got.push(seq);
            if (fetching.got.len() as u64) < fetching.wanted {
                return Ok(None);
            }
            return Ok(self.fetching.take().map(|fetching| (fetching.id, Reply::Delivered(fetching.got))));
        }
        let Some(id) = frame.subject.strip_prefix(INBOX).and_then(|id| id.parse::<u64>().ok()) else {
            return Ok(None);
        };
        if self.fetching.as_ref().is_some_and(|fetching| fetching.id == id) {
            return Ok(self.fetching.take().map(|fetching| (fetching.id, Reply::Delivered(fetching.got))));
        }
        let Some(asked) = self.asked.remove(&id) else { return Ok(None) };
        if let Some(status) = frame.status {
            return Ok(Some((id, Reply::Refused(status))));
        }
        if asked == Asked::Acknowledge {
            return Ok(Some((id, Reply::Done(0))));
        }
        let value: Value = serde_json::from_slice(&frame.body).unwrap_or(Value::Null);
        if let Some(error) = value.get("error") {
            let code = error["err_code"].as_u64().unwrap_or(0);
            let reply = match (asked, code) {
                // No such message, stream, consumer.
                (Asked::Get | Asked::Bounds | Asked::Floor, 10037 | 10059 | 10014) => Reply::Absent,
                (Asked::Get, _) => Reply::Damaged,
                _ => Reply::Refused(error["description"].as_str().unwrap_or("no description").into()),
            };
            return Ok(Some((id, reply)));
        }
        let reply = match asked {
            Asked::Create { consumer: true } => {
                let consumer = json!({"stream_name": LOG.name, "config": {"durable_name": CONSUMER,
                    "ack_policy": "explicit", "deliver_policy": "all", "max_ack_pending": 10_000}});
                self.asked.insert(id, Asked::Consumer);
                self.api(&format!("CONSUMER.CREATE.{}.{CONSUMER}", LOG.name), id, &consumer)?;
                return Ok(None);
            }
            Asked::Publish => match value["seq"].as_u64() {
                Some(seq) => Reply::Done(seq),
                None => Reply::Refused(format!(
                    "not an acknowledgement: {}",
                    String::from_utf8_lossy(&frame.body)
                )),
            },
            Asked::Create { .. } | Asked::Consumer | Asked::Change | Asked::Acknowledge => Reply::Done(0),
            Asked::Bounds => {
                let state = &value["state"];
                let lost = state["lost"]["msgs"].as_array();
                let lost =
                    lost.map(|lost| lost.iter().filter_map(Value::as_u64).collect()).unwrap_or_default();
                let bound = |which: &str| state[which].as_u64().unwrap_or(0);
                Reply::Bounds(bound("first_seq"), bound("last_seq"), lost)
            }
            Asked::Get => {
                let message = &value["message"];
                let subject = message["subject"].as_str().unwrap_or("").into();
                let body = BASE64_STANDARD.decode(message["data"].as_str().unwrap_or("")).unwrap_or_default();
                Reply::Message { subject, body }
            }
            Asked::Floor => Reply::Floor(value["ack_floor"]["stream_seq"].as_u64().unwrap_or(0)),
        };
        Ok(Some((id, reply)))
    }
}

impl Port for Nats {
    fn send(&mut self, id: u64, request: &Request<'_>) -> io::Result<()> {
        let asked = match request {
            Request::Create(stream) => Asked::Create { consumer: stream.name == LOG.name },
            Request::Publish { .. } => Asked::Publish,
            Request::Delete { .. } | Request::Purge { .. } => Asked::Change,
            Request::Acknowledge { .. } => Asked::Acknowledge,
            Request::Bounds { .. } => Asked::Bounds,
            Request::Get { .. } => Asked::Get,
            Request::Floor { .. } => Asked::Floor,
            Request::Commits => return Err(Error::other("a server doesn't count commits")),
            Request::Fetch { stream, count } => {
                self.fetching = Some(Fetching { id, wanted: *count, got: Vec::new() });
                let wanted = json!({"batch": count, "no_wait": true});
                return self.api(&format!("CONSUMER.MSG.NEXT.{stream}.{CONSUMER}"), id, &wanted);
            }
        };
        self.asked.insert(id, asked);
        match request {
            Request::Create(stream) => {
                self.api(&format!("STREAM.CREATE.{}", stream.name), id, &stream_config(*stream))
            }
            Request::Publish { subject, body, .. } => self.publish(subject, id, body),
            Request::Delete { stream, seq } => {
                self.api(&format!("STREAM.MSG.DELETE.{stream}"), id, &json!({"seq": seq, "no_erase": true}))
            }
            Request::Purge { stream } => self.api(&format!("STREAM.PURGE.{stream}"), id, &json!({})),
            Request::Acknowledge { seq, .. } => match self.deliveries.remove(seq) {
                Some(subject) => self.publish(&subject, id, b"+ACK"),
                None => Err(Error::other(format!("{seq} was not delivered"))),
            },
            Request::Bounds { stream } => self.api(&format!("STREAM.INFO.{stream}"), id, &json!({})),
            Request::Get { stream, seq } => {
                self.api(&format!("STREAM.MSG.GET.{stream}"), id, &json!({"seq": seq}))
            }
            Request::Floor { stream } => {
                self.api(&format!("CONSUMER.INFO.{stream}.{CONSUMER}"), id, &json!({}))
            }
            Request::Fetch { .. } | Request::Commits => Ok(()),
        }
    }

    fn receive(&mut self, deadline: Instant) -> io::Result<Option<(u64, Reply)>> {
        loop {
            self.output.flush()?;
            let frame = match self.input.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(frame) => frame?,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(ErrorKind::UnexpectedEof.into()),
            };
            if frame.sid == 1
                && let Some(answer) = self.understand(frame)?
            {
                return Ok(Some(answer));
            }
        }
    }
}

fn stream_config(stream: Stream) -> Value {
    let mut config = json!({"name": stream.name, "subjects": [format!("{}.>", stream.name)], "storage": "file",
        "retention": "limits", "discard": "old", "num_replicas": 1});
    match stream.keeps {
        Keeps::All => {}
        Keeps::Newest(count) => config["max_msgs"] = json!(count),
        Keeps::Latest => config["max_msgs_per_subject"] = json!(1),
        Keeps::Room => config["metadata"] = json!({"midge.full": "drop_old"}),
    }
    config
}

/// Stream sequence in the subject that acknowledges a delivery, with or without domain and account in it.
fn delivered_seq(reply: &str) -> Option<u64> {
    let tokens: Vec<&str> = reply.split('.').collect();
    tokens.get(if tokens.len() >= 11 { 7 } else { 5 })?.parse().ok()
}

/// Reads the log to its end, so that the server never waits for us, and sends the port once it is ready.
fn read_log(log: impl Read, ready: &mpsc::Sender<io::Result<u16>>) {
    let mut port = None;
    let mut last = String::new();
    let mut told = HashSet::new();
    for line in BufReader::new(log).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if let Some((_, address)) = line.split_once("Listening for client connections on ") {
            port = address.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        }
        if let Some(port) = port
            && line.contains("Server is ready")
        {
            ready.send(Ok(port)).ok();
        }
        if std::env::var_os("RIGS_LOG").is_some() && told.len() < 1_000 && told.insert(line.clone()) {
            eprintln!("  | {line}");
        }
        last = line;
    }
    ready.send(Err(Error::new(ErrorKind::UnexpectedEof, last))).ok();
}

fn read_frame(lines: &mut impl BufRead, pongs: &mut impl Write) -> io::Result<Frame> {
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line.starts_with("PING") {
            pongs.write_all(b"PONG\r\n")?;
            continue;
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (header_bytes, total, words) = match words.as_slice() {
            ["MSG", head @ .., total] => (0, number(total)?, head),
            ["HMSG", head @ .., header, total] => (number(header)?, number(total)?, head),
            ["-ERR", ..] => return Err(Error::other(line.trim().to_owned())),
            _ => continue,
        };
        let [subject, sid, reply @ ..] = words else { return Err(ErrorKind::InvalidData.into()) };
        let mut bytes = vec![0; total + 2];
        lines.read_exact(&mut bytes)?;
        bytes.truncate(total);
        let header = String::from_utf8_lossy(&bytes[..header_bytes.min(total)]).into_owned();
        let status = header.strip_prefix("NATS/1.0 ").and_then(|rest| rest.lines().next()).map(str::to_owned);
        let body = bytes.split_off(header_bytes.min(total));
        let reply = reply.first().copied().unwrap_or("").to_owned();
        return Ok(Frame { sid: number(sid)? as u64, subject: (*subject).into(), reply, status, body });
    }
}

fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(|_| Error::new(ErrorKind::InvalidData, format!("not a number: {text}")))
}

const CONSUMER: &str = "rig";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_acknowledgement_subjects_name_the_message() {
        assert_eq!(delivered_seq("$JS.ACK.log.rig.1.42.7.1700000000.0"), Some(42));
        assert_eq!(delivered_seq("$JS.ACK._.hash.log.rig.1.42.7.1700000000.0"), Some(42));
        assert_eq!(delivered_seq("$JS.ACK.log"), None);
    }

    #[test]
    fn frames_have_headers_and_statuses() {
        let input = b"PING\r\nMSG a 1 2\r\nhi\r\nHMSG _R.5 1 16 18\r\nNATS/1.0 503\r\n\r\nhi\r\n";
        let (mut lines, mut pongs) = (&input[..], Vec::new());
        let frame = read_frame(&mut lines, &mut pongs).unwrap();
        assert_eq!((frame.subject.as_str(), frame.sid, &frame.body[..]), ("a", 1, &b"hi"[..]));
        let frame = read_frame(&mut lines, &mut pongs).unwrap();
        assert_eq!((frame.status.as_deref(), &frame.body[..]), (Some("503"), &b"hi"[..]));
        assert_eq!(pongs, b"PONG\r\n");
        assert!(read_frame(&mut lines, &mut pongs).is_err());
    }
}
