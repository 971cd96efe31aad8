//! Traffic whose messages are timed one by one.

use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::traffic::SUBJECT;
use crate::wire::{PING, PONG, Wire};

/// What a message is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) wire: Wire,
    /// Bytes of payload.
    pub(crate) payload: usize,
}

/// Sends `count` messages at a steady rate. Returns how long each took from the publisher to the subscriber.
pub(crate) fn paced(
    publisher: &mut Client,
    subscriber: &mut Client,
    Message { wire, payload }: Message,
    per_second: u32,
    count: u64,
) -> io::Result<Vec<Duration>> {
    let length = wire.delivered(SUBJECT, None, payload);
    let epoch = Instant::now();
    let pause = Duration::from_secs(1) / per_second;
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            for number in 0..u32::try_from(count).unwrap_or(u32::MAX) {
                thread::sleep((pause * number).saturating_sub(epoch.elapsed()));
                let mut stamped = vec![b'x'; payload];
                stamped[..STAMP].copy_from_slice(&stamp(epoch));
                publisher.write_all(&wire.publish(SUBJECT, None, &stamped))?;
            }
            publisher.fence()
        });
        let mut frames = Frames::new(subscriber, length);
        let mut times = Vec::new();
        for _ in 0..count {
            let frame = frames.next()?;
            let at = length - wire.trailer() - payload;
            times.push(epoch.elapsed().saturating_sub(stamped(&frame[at..])?));
        }
        sender.join().expect("a generator's thread does not panic")?;
        Ok(times)
    })
}

/// Lets all of `requesters` ask, each again when it was answered. Returns how long each of the `count` answers took.
pub(crate) fn requests(
    requesters: &mut [Client],
    responder: &mut Client,
    message: Message,
    count: u64,
) -> io::Result<Vec<Duration>> {
    let each = count / requesters.len() as u64;
    thread::scope(|scope| {
        let responder = scope.spawn(move || respond(responder, message, count));
        let requesters: Vec<_> = requesters
            .iter_mut()
            .enumerate()
            .map(|(number, client)| scope.spawn(move || request(client, message, number, each)))
            .collect();
        let mut times = Vec::new();
        for requester in requesters {
            times.extend(requester.join().expect("a generator's thread does not panic")?);
        }
        responder.join().expect("a generator's thread does not panic")?;
        Ok(times)
    })
}

/// As long as those of client libraries.
pub(crate) fn inbox(number: usize) -> String {
    format!("_INBOX.{number:022}")
}

/// Digits of a request's number.
const NUMBER: usize = 8;

fn reply_subject(requester: usize, number: u64) -> String {
    format!("{}.{number:0NUMBER$}", inbox(requester))
}

fn request(
    client: &mut Client,
    Message { wire, payload }: Message,
    requester: usize,
    count: u64,
) -> io::Result<Vec<Duration>> {
    let length = wire.delivered(&reply_subject(requester, 0), None, payload);
    let payload = vec![b'x'; payload];
    let mut times = Vec::new();
    let mut frames = Frames::new(client, length);
    for number in 0..count {
        let reply = reply_subject(requester, number);
        let request = wire.publish(SUBJECT, Some(&reply), &payload);
        let asked = Instant::now();
        frames.client.write_all(&request)?;
        let answer = frames.next()?;
        times.push(asked.elapsed());
        if !answer.windows(reply.len()).any(|window| window == reply.as_bytes()) {
            return Err(io::Error::other("an answer to another request"));
        }
    }
    Ok(times)
}

fn respond(client: &mut Client, Message { wire, payload }: Message, count: u64) -> io::Result<()> {
    let reply = reply_subject(0, 0).len();
    let length = wire.delivered(SUBJECT, Some(&reply_subject(0, 0)), payload);
    let payload = vec![b'x'; payload];
    let head = "MSG ".len() + SUBJECT.len() + " 1 ".len();
    let mut frames = Frames::new(client, length);
    let mut answers = Vec::new();
    for number in 1..=count {
        let frame = frames.next()?;
        let to = std::str::from_utf8(&frame[head..head + reply]).map_err(io::Error::other)?;
        answers.extend(wire.publish(to, None, &payload));
        // What came together is answered together.
        if !frames.has_more() || number == count {
            frames.client.write_all(&answers)?;
            answers.clear();
        }
    }
    Ok(())
}

/// Messages of one length, one after the other.
struct Frames<'a> {
    client: &'a mut Client,
    length: usize,
    buffer: Vec<u8>,
    /// The part of the buffer that holds input.
    from: usize,
    to: usize,
}

impl<'a> Frames<'a> {
    fn new(client: &'a mut Client, length: usize) -> Self {
        Self { client, length, buffer: vec![0; length.max(64 * 1024)], from: 0, to: 0 }
    }

    fn next(&mut self) -> io::Result<&[u8]> {
        loop {
            if self.buffer[self.from..self.to].starts_with(PING) {
                self.from += PING.len();
                self.client.write_all(PONG)?;
            } else if self.has_more() {
                let start = self.from;
                self.from += self.length;
                return Ok(&self.buffer[start..self.from]);
            } else {
                self.buffer.copy_within(self.from..self.to, 0);
                (self.from, self.to) = (0, self.to - self.from);
                let n = self.client.read(&mut self.buffer[self.to..])?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.to += n;
            }
        }
    }

    /// Whether the next one is here.
    fn has_more(&self) -> bool {
        self.to - self.from >= self.length
    }
}

/// Bytes of a time in a payload.
const STAMP: usize = 16;

fn stamp(epoch: Instant) -> [u8; STAMP] {
    let text = format!("{:0STAMP$}", epoch.elapsed().as_nanos());
    text.as_bytes().try_into().expect("runs of this program last less than a hundred days")
}

fn stamped(payload: &[u8]) -> io::Result<Duration> {
    let text = payload.get(..STAMP).and_then(|text| std::str::from_utf8(text).ok());
    let nanos = text.and_then(|text| text.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| io::Error::other("a message without the time"))
}
