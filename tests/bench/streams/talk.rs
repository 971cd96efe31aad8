//! A client of streams: requests, publishing with so many unanswered, and reading what comes, frame by frame.

use std::io::{self, Write as _};
use std::ops::Range;
use std::time::{Duration, Instant};

use midge_protocol::limits::Limits;
use midge_protocol::op::ServerOp;
use midge_protocol::parse::{Step, server_op};

use crate::client::{Client, READ_BYTES};
use crate::servers::Server;
use crate::wire::PONG;

/// The subject under which a client is answered.
const INBOX: &str = "_INBOX.bench";

/// A connection that is answered, and what it has read and not used.
pub(super) struct Talker {
    client: Client,
    inbox: String,
    buffer: Vec<u8>,
    /// The part of the buffer that holds input.
    unread: Range<usize>,
}

/// A message that came.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) reply: Option<String>,
    /// Whether it has headers and no payload: a status.
    pub(super) is_status: bool,
    /// Its payload, or the header block of a status.
    pub(super) text: String,
}

impl Talker {
    /// Connects. `number` tells talkers of one server apart.
    pub(super) fn connect(server: &Server, number: usize) -> io::Result<Self> {
        let mut client = Client::connect(server, None)?;
        let inbox = format!("{INBOX}.{number}");
        client.subscribe(&inbox, None)?;
        Ok(Self { client, inbox, buffer: vec![0; READ_BYTES], unread: 0..0 })
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&mut self, subject: &str, body: &str) -> io::Result<String> {
        let request = self.request(subject, body.as_bytes());
        self.client.write_all(&request)?;
        Ok(self.hear()?.text)
    }

    /// Asks the API, whose refusals are errors here.
    pub(super) fn api(&mut self, subject: &str, body: &str) -> io::Result<String> {
        let answer = self.ask(&format!("$JS.API.{subject}"), body)?;
        if answer.contains("\"error\"") {
            return Err(io::Error::other(format!("{subject}: {answer}")));
        }
        Ok(answer)
    }

    /// Publishes `messages` (subject and payload by number), `window` of them at most unanswered, and waits for the last answer.
    /// Gives how long each took, if `window` is 1.
    pub(super) fn publish(
        &mut self,
        messages: u64,
        window: u64,
        subject: &dyn Fn(u64) -> String,
        payload: &[u8],
    ) -> io::Result<Vec<Duration>> {
        let (mut sent, mut answered) = (0, 0);
        let mut times = Vec::new();
        let mut batch = Vec::new();
        while answered < messages {
            // Half of the window at once, as a client's buffer does it.
            if sent - answered <= window / 2 && sent < messages {
                batch.clear();
                while sent < messages && sent - answered < window {
                    batch.extend(self.request(&subject(sent), payload));
                    sent += 1;
                }
                let asked = Instant::now();
                self.client.write_all(&batch)?;
                if window == 1 {
                    self.acknowledged()?;
                    times.push(asked.elapsed());
                    answered += 1;
                    continue;
                }
            }
            self.acknowledged()?;
            answered += 1;
        }
        Ok(times)
    }

    fn acknowledged(&mut self) -> io::Result<()> {
        let heard = self.hear()?;
        if heard.is_status || !heard.text.contains("\"seq\"") {
            return Err(io::Error::other(format!("not stored: {}", heard.text)));
        }
        Ok(())
    }

    /// Fetches `messages` from a consumer in batches, and acknowledges each if `acks`.
    pub(super) fn consume(&mut self, consumer: &str, messages: u64, acks: bool) -> io::Result<()> {
        const BATCH: u64 = 500;
        let fetch = format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}");
        let fetch = self.request(&fetch, format!("{{\"batch\":{BATCH},\"expires\":20000000000}}").as_bytes());
        let mut asked = 0;
        let mut got = 0;
        let mut answers = Vec::new();
        while got < messages {
            // The next batch is on its way while this one comes.
            while asked < messages && asked - got <= BATCH {
                answers.extend_from_slice(&fetch);
                asked += BATCH;
            }
            if !answers.is_empty() && (self.unread.is_empty() || answers.len() > READ_BYTES) {
                self.client.write_all(&answers)?;
                answers.clear();
            }
            let heard = self.hear()?;
            let Some(reply) = heard.reply.filter(|_| !heard.is_status) else {
                return Err(io::Error::other(format!("no message: {}", heard.text)));
            };
            got += 1;
            if acks {
                answers.extend_from_slice(format!("PUB {reply} 4\r\n+ACK\r\n").as_bytes());
            }
        }
        self.client.write_all(&answers)?;
        self.client.fence()
    }

    fn request(&self, subject: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("PUB {subject} {} {}\r\n", self.inbox, body.len());
        [head.as_bytes(), body, b"\r\n"].concat()
    }

    /// The next message. Pings are answered.
    fn hear(&mut self) -> io::Result<Heard> {
        let limits = Limits { max_payload: u32::MAX, ..Limits::default() };
        loop {
            let input = self.buffer.get(self.unread.clone()).unwrap_or_default();
            let needed = match server_op(input, &limits) {
                Step::Op(op, used) => {
                    let mut heard = None;
                    let mut pinged = false;
                    match op {
                        ServerOp::Msg { message, .. } => {
                            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                            let (header, payload) = (message.header(), message.payload());
                            let is_status = payload.is_empty() && !header.is_empty();
                            heard = Some(Heard {
                                reply: message.reply.map(text),
                                is_status,
                                text: text(if is_status { header } else { payload }),
                            });
                        }
                        ServerOp::Ping => pinged = true,
                        ServerOp::Err(why) => {
                            return Err(io::Error::other(String::from_utf8_lossy(why).into_owned()));
                        }
                        _ => {}
                    }
                    self.unread.start += used;
                    if pinged {
                        self.client.write_all(PONG)?;
                    }
                    match heard {
                        Some(heard) => return Ok(heard),
                        None => continue,
                    }
                }
                Step::Need(bytes) => bytes,
                Step::Bad(rule) => return Err(io::Error::other(format!("the server's words: {rule:?}"))),
            };
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            if self.buffer.len() < needed {
                self.buffer.resize(needed, 0);
            }
            let room = self.buffer.get_mut(self.unread.end..).unwrap_or_default();
            let n = io::Read::read(&mut self.client, room)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.unread.end += n;
        }
    }
}
