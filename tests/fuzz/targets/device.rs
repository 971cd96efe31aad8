//! The client for microcontrollers: whatever a server says, and however it is cut, both fronts see the same, no future that
//! is dropped loses anything, and what leaves is whole frames that a server can read.
//!
//! The first byte is the size of the buffer, the second that of the pieces, the third after how many polls futures go.
#![no_main]

use embedded_io::{ErrorType, Read, Write};
use libfuzzer_sys::fuzz_target;
use midge_client::{Client, Config, Connection, Error, Event, Instant, Login, Publish, blocking, subject};
use midge_protocol::limits::Limits;
use midge_protocol::parse::{Step, client_op};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fuzz_target!(|data: &[u8]| {
    let [buffer_size, piece, polls, input @ ..] = data else { return };
    let size = 64 + usize::from(*buffer_size);
    let piece = usize::from(*piece).max(1);
    let (seen, sent) = see(input, size, piece, None);
    assert_eq!((seen, sent), see(input, size, piece, Some(usize::from(*polls % 8) + 1)));
});

/// What a program sees and sends; with `polls`, asynchronous, and each future is dropped after so many of them once.
fn see(wire: &[u8], size: usize, piece: usize, polls: Option<usize>) -> (Vec<String>, Vec<u8>) {
    let (mut receive, mut transmit, now) = (vec![0; size], [0; 256], Instant::default());
    let mut client = Client::<2, 2>::new(Config::new(0), &mut receive, &mut transmit, [7; 16]);
    client.subscribe("a", None).unwrap();
    client.subscribe("b.>", Some("q")).unwrap();
    let mut server = Server { says: wire, piece, heard: Vec::new(), is_waiting: false };
    let (login, mut seen, mut calls) = (Login::user("u", "\"\\\n"), Vec::new(), 0);
    let ask = Publish::new(subject!("ask"), b"");
    let reply =
        |event: &Event<'_>| matches!(event, Event::Message { message, .. } if message.reply.is_some());
    if let Some(polls) = polls {
        let mut connection = Connection::new(&mut client, &mut server, &login, now);
        loop {
            calls += 1;
            assert!(calls < 20_000, "it doesn't end");
            let dropped =
                poll_times(connection.next(now), polls).map(|result| keep(result, &reply, &mut seen));
            let answer = match dropped {
                Some(outcome) => outcome,
                None => keep(block_on(connection.next(now)), &reply, &mut seen),
            };
            let Some(wants_reply) = answer else { break };
            if wants_reply {
                let _ = block_on(connection.respond(b"yes"));
            }
            if seen.last().is_some_and(|last| last == "Connected") && calls < 10_000 {
                calls += 10_000;
                let _ = block_on(connection.publish(subject!("a.b"), b"hi"));
                let _ = block_on(connection.request(&ask, now.after_ms(1)));
            }
        }
    } else {
        let mut connection = blocking::Connection::new(&mut client, &mut server, &login, now);
        loop {
            calls += 1;
            assert!(calls < 20_000, "it doesn't end");
            let Some(wants_reply) = keep(connection.next(now), &reply, &mut seen) else { break };
            if wants_reply {
                let _ = connection.respond(b"yes");
            }
            if seen.last().is_some_and(|last| last == "Connected") && calls < 10_000 {
                calls += 10_000;
                let _ = connection.publish(subject!("a.b"), b"hi");
                let _ = connection.request(&ask, now.after_ms(1));
            }
        }
    }
    readable(&server.heard);
    (seen, server.heard)
}

/// Notes an event; true if it wants an answer, `None` at the end.
fn keep(
    result: Result<Option<Event<'_>>, Error<Infallible>>,
    reply: impl Fn(&Event<'_>) -> bool,
    seen: &mut Vec<String>,
) -> Option<bool> {
    match result {
        Ok(None) => Some(false),
        Ok(Some(event)) => {
            seen.push(match event {
                Event::Connected => "Connected".into(),
                event => format!("{event:?}"),
            });
            Some(reply(&event))
        }
        Err(Error::Refused(_)) => Some(false),
        Err(error) => {
            seen.push(format!("{error:?}"));
            None
        }
    }
}

/// What was sent is operations and nothing else.
fn readable(mut sent: &[u8]) {
    while !sent.is_empty() {
        let Step::Op(_, used) = client_op(sent, &Limits::default()) else {
            panic!("{:?}", String::from_utf8_lossy(sent))
        };
        sent = &sent[used..];
    }
}

/// Says its bytes in pieces, and waits once before each read and write.
struct Server<'a> {
    says: &'a [u8],
    piece: usize,
    heard: Vec<u8>,
    is_waiting: bool,
}

impl Server<'_> {
    async fn wait(&mut self) {
        poll_fn(|_| {
            self.is_waiting = !self.is_waiting;
            if self.is_waiting { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

impl ErrorType for Server<'_> {
    type Error = Infallible;
}

impl Read for Server<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let n = self.piece.min(buffer.len()).min(self.says.len());
        buffer[..n].copy_from_slice(&self.says[..n]);
        self.says = &self.says[n..];
        Ok(n)
    }
}

impl Write for Server<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let n = self.piece.min(bytes.len());
        self.heard.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl embedded_io_async::Read for Server<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        self.wait().await;
        Read::read(self, buffer)
    }
}

impl embedded_io_async::Write for Server<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.wait().await;
        Write::write(self, bytes)
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        self.wait().await;
        Ok(())
    }
}

/// Polls so many times, then drops it.
fn poll_times<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    (0..polls).find_map(|_| match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}
