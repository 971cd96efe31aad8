//! `midge reply`

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_nats::client::traits::Publisher;
use async_nats::message::OutboundMessage;
use async_nats::{Client, HeaderMap, Message, PublishErrorKind, Subject};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::cli::{Connection, Reply};
use crate::connect::Link;
use crate::draft::header_map;
use crate::exit::{Failure, Outcome};
use crate::show::{harmless, short};
use crate::signals::Signals;
use crate::template::Values;

/// Answers requests until it has answered enough of them, or is told to end.
pub(crate) async fn run(args: &Reply, connection: &Connection) -> Outcome {
    let mut signals = Signals::catch()?;
    let mut link = Link::open(connection).await?;
    let mut requests = link.subscribe(&args.subject, Some(&args.queue)).await?;
    // Whoever waits for the notice may ask right after it.
    link.round_trip().await?;
    eprintln!("Answering on {} in queue group {} (Ctrl-C ends)", args.subject, args.queue);

    let responder = Responder { args, client: link.client.clone(), timeout: link.timeout };
    let concurrency = usize::from(args.concurrency.get());
    let count = args.count.map_or(u64::MAX, |count| count.get());
    let (mut taken, mut answered) = (0, 0);
    let mut working = FuturesUnordered::new();
    while answered < count {
        tokio::select! {
            biased;
            () = signals.wanted() => break,
            failure = link.notices() => return Err(failure),
            Some(line) = working.next() => {
                let line: String = line?;
                if !args.quiet {
                    writeln!(std::io::stdout().lock(), "{line}")?;
                }
                answered += 1;
            }
            request = requests.next(), if working.len() < concurrency && taken < count => {
                let Some(request) = request else { break };
                let Some(reply) = request.reply.clone() else {
                    eprintln!("midge: a message on {} wants no reply", harmless(&request.subject));
                    continue;
                };
                taken += 1;
                working.push(responder.respond(taken, request, reply));
            }
        }
    }
    // The answers have to be there before we are gone.
    link.round_trip().await.map(drop)
}

/// What answering one request takes.
struct Responder<'a> {
    args: &'a Reply,
    client: Client,
    timeout: Duration,
}

impl Responder<'_> {
    /// Sends the answer and says what was done: `[#1] sensors.a  5 B, answered 7 B in 1.20ms`.
    async fn respond(&self, number: u64, request: Message, reply: Subject) -> Outcome<String> {
        let started = Instant::now();
        let answer = self.answer(number, &request).await;
        let sent = match answer {
            Ok((body, headers)) => self.send(reply.clone(), body, headers).await,
            Err(error) => Err(error),
        };
        let what = match sent {
            Ok(size) => format!("answered {size} B"),
            Err(error) => {
                self.send(reply, Bytes::new(), Some(error_headers(&error)))
                    .await
                    .map_err(|_| Failure::unavailable("the connection was closed"))?;
                format!("answered with an error: {error}")
            }
        };
        let (subject, size) = (harmless(&request.subject), request.payload.len());
        Ok(format!("[#{number}] {subject}  {size} B, {what} in {}", short(started.elapsed())))
    }

    async fn answer(&self, number: u64, request: &Message) -> Result<(Bytes, Option<HeaderMap>), String> {
        let text = String::from_utf8_lossy(&request.payload);
        let values = Values { count: number, request: &text, subject: &request.subject };
        let headers = header_map(&self.args.headers, values);
        if self.args.echo {
            return Ok((request.payload.clone(), merged(request.headers.clone(), headers)));
        }
        match (&self.args.command, &self.args.body) {
            (Some(command), _) => Ok((self.output(command, request).await?, headers)),
            (None, Some(body)) => Ok((body.fill(values).into(), headers)),
            (None, None) => Ok((Bytes::new(), headers)),
        }
    }

    /// Runs the command with the request on its stdin; the answer is what it prints.
    async fn output(&self, command: &str, request: &Message) -> Result<Bytes, String> {
        let len_max = self.client.max_payload();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        shell.env("NATS_SUBJECT", &*request.subject).env("NATS_REQUEST_SUBJECT", &*request.subject);
        match std::str::from_utf8(&request.payload) {
            Ok(text) if text.len() <= ENV_LEN_MAX && !text.contains('\0') => {
                shell.env("NATS_REQUEST_BODY", text);
            }
            _ => {
                shell.env_remove("NATS_REQUEST_BODY");
            }
        }
        let mut child = shell.spawn().map_err(|error| format!("cannot run sh: {error}"))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A command need not read its input.
                let _ = stdin.write_all(&request.payload).await;
            }
        };
        let collect = async move {
            let mut output = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(len_max as u64 + 1).read_to_end(&mut output).await?;
            }
            Ok::<_, std::io::Error>(output)
        };
        let all = async { tokio::join!(feed, collect, child.wait()) };
        let Ok(((), output, status)) = timeout(self.timeout, all).await else {
            return Err(format!("the command did not end within {:?}", self.timeout));
        };
        let output = output.map_err(|error| format!("cannot read what the command prints: {error}"))?;
        match status {
            _ if output.len() > len_max => Err(format!("the command printed more than {len_max} bytes")),
            Ok(status) if status.success() => Ok(output.into()),
            Ok(status) => Err(format!("the command failed: {status}")),
            Err(error) => Err(format!("cannot wait for the command: {error}")),
        }
    }

    async fn send(
        &self,
        subject: Subject,
        payload: Bytes,
        headers: Option<HeaderMap>,
    ) -> Result<usize, String> {
        let size = payload.len();
        let message = OutboundMessage { subject, reply: None, payload, headers };
        match self.client.publish_message(message).await {
            Ok(()) => Ok(size),
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(format!("the answer is larger than {} bytes", self.client.max_payload()))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// How NATS services report that a request failed (NATS ADR-32).
fn error_headers(error: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Service-Error", error.replace(['\r', '\n'], " "));
    headers.insert("Nats-Service-Error-Code", "500");
    headers
}

fn merged(ours: Option<HeaderMap>, added: Option<HeaderMap>) -> Option<HeaderMap> {
    let (mut all, added) = match (ours, added) {
        (Some(ours), Some(added)) => (ours, added),
        (ours, added) => return ours.or(added),
    };
    for (name, values) in added.iter() {
        for value in values {
            all.append(name.clone(), value.clone());
        }
    }
    Some(all)
}

/// Linux takes 128 KiB in one environment variable; a request of that size is better read from stdin anyway.
const ENV_LEN_MAX: usize = 64 * 1024;
