//! `store-load`: the store behind a pipe, one request or answer a line.
//!
//! ```text
//! request            answer
//! ID new STREAM KEEPS        ID ok 0            KEEPS is `all`, `latest`, `room` or a number
//! ID put STREAM SUBJECT BODY ID ok SEQ          BODY has no space
//! ID del STREAM SEQ          ID ok 0
//! ID purge STREAM            ID ok 0
//! ID fetch STREAM COUNT      ID seqs SEQ...
//! ID ack STREAM SEQ          ID ok 0
//! ID bounds STREAM           ID bounds FIRST LAST DAMAGED...
//! ID get STREAM SEQ          ID message SUBJECT BODY
//! ID floor STREAM            ID floor SEQ
//! ID commits                 ID ok COUNT
//! ```
//! and `ID no`, `ID damaged`, `ID refused TEXT`. A changed thing is answered once it is durable. The first line is
//! `ready` or `failed TEXT`. Bytes that aren't printable are escaped as in Rust's byte strings.

use std::io::{self, BufRead, BufReader, BufWriter, Error, ErrorKind, Write};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Port, Reply, Request};
use crate::history::Keeps;

/// The pipe.
pub struct Line {
    /// Written out before an answer is waited for.
    output: BufWriter<ChildStdin>,
    input: Receiver<String>,
}

impl Line {
    /// Takes the pipe of a program that was just started, and waits until it is ready.
    pub fn connect(child: &mut Child, patience: Duration) -> io::Result<Self> {
        let output = BufWriter::new(child.stdin.take().ok_or_else(|| Error::other("no pipe to it"))?);
        let lines = child.stdout.take().ok_or_else(|| Error::other("no pipe from it"))?;
        let (sender, input) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        match input.recv_timeout(patience) {
            Ok(line) if line == "ready" => Ok(Self { output, input }),
            Ok(line) => Err(Error::other(line)),
            Err(RecvTimeoutError::Timeout) => Err(Error::new(ErrorKind::TimedOut, "it isn't ready")),
            Err(RecvTimeoutError::Disconnected) => Err(Error::new(ErrorKind::UnexpectedEof, "it ended")),
        }
    }
}

impl Port for Line {
    fn send(&mut self, id: u64, request: &Request<'_>) -> io::Result<()> {
        let mut line = match request {
            Request::Create(stream) => match stream.keeps {
                Keeps::All => format!("{id} new {} all", stream.name),
                Keeps::Latest => format!("{id} new {} latest", stream.name),
                Keeps::Room => format!("{id} new {} room", stream.name),
                Keeps::Newest(count) => format!("{id} new {} {count}", stream.name),
            },
            Request::Publish { stream, subject, body } => {
                format!("{id} put {stream} {subject} {}", str::from_utf8(body).map_err(Error::other)?)
            }
            Request::Delete { stream, seq } => format!("{id} del {stream} {seq}"),
            Request::Purge { stream } => format!("{id} purge {stream}"),
            Request::Fetch { stream, count } => format!("{id} fetch {stream} {count}"),
            Request::Acknowledge { stream, seq } => format!("{id} ack {stream} {seq}"),
            Request::Bounds { stream } => format!("{id} bounds {stream}"),
            Request::Get { stream, seq } => format!("{id} get {stream} {seq}"),
            Request::Floor { stream } => format!("{id} floor {stream}"),
            Request::Commits => format!("{id} commits"),
        };
        line.push('\n');
        self.output.write_all(line.as_bytes())
    }

    fn receive(&mut self, deadline: Instant) -> io::Result<Option<(u64, Reply)>> {
        self.output.flush()?;
        match self.input.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => understand(&line).map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn understand(line: &str) -> io::Result<(u64, Reply)> {
    let strange = || Error::new(ErrorKind::InvalidData, format!("a strange answer: {line}"));
    let number = |text: &str| text.parse::<u64>().map_err(|_| strange());
    let (id, rest) = line.split_once(' ').ok_or_else(strange)?;
    let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let reply = match verb {
        "ok" => Reply::Done(number(rest)?),
        "no" => Reply::Absent,
        "damaged" => Reply::Damaged,
        "refused" => Reply::Refused(rest.into()),
        "seqs" => Reply::Delivered(rest.split_whitespace().map(number).collect::<io::Result<_>>()?),
        "floor" => Reply::Floor(number(rest)?),
        "bounds" => {
            let mut numbers = rest.split_whitespace().map(number);
            let (first, last) = (numbers.next().ok_or_else(strange)??, numbers.next().ok_or_else(strange)??);
            Reply::Bounds(first, last, numbers.collect::<io::Result<_>>()?)
        }
        "message" => {
            let (subject, body) = rest.split_once(' ').ok_or_else(strange)?;
            Reply::Message { subject: subject.into(), body: body.as_bytes().to_vec() }
        }
        _ => return Err(strange()),
    };
    Ok((number(id)?, reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_lines() {
        assert_eq!(understand("5 ok 7").unwrap(), (5, Reply::Done(7)));
        assert_eq!(understand("5 no").unwrap(), (5, Reply::Absent));
        assert_eq!(understand("5 bounds 1 9 4 5").unwrap(), (5, Reply::Bounds(1, 9, vec![4, 5])));
        let message = Reply::Message { subject: "a.b".into(), body: b"xyz".to_vec() };
        assert_eq!(understand("5 message a.b xyz").unwrap(), (5, message));
        assert!(understand("5 what").is_err());
    }
}
