//! A server that is a string, and what a program sees of it.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use midge_client::{Event, Lost};
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// What nats-server says first.
pub(crate) const INFO: &str =
    r#"INFO {"server_id":"N","version":"2.15.1","headers":true,"max_payload":1000} "#;

/// Says its words in pieces, takes bytes in pieces, and is pending as often as it was told before each of them.
pub(crate) struct Wire<'a> {
    says: &'a [u8],
    /// Bytes of one read and of one write.
    pub(crate) piece: usize,
    /// What it was told.
    pub(crate) heard: Vec<u8>,
    /// Times that each read, write and flush is pending before it is done.
    pub(crate) pending: usize,
    waited: usize,
    /// Calls of write, and flushes.
    pub(crate) writes: usize,
    pub(crate) flushes: usize,
}

impl<'a> Wire<'a> {
    pub(crate) fn new(says: &'a [u8], piece: usize) -> Self {
        Self { says, piece, heard: Vec::new(), pending: 0, waited: 0, writes: 0, flushes: 0 }
    }

    fn is_pending(&mut self) -> bool {
        self.waited += 1;
        if self.waited > self.pending {
            self.waited = 0;
        }
        self.waited != 0
    }

    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let n = self.piece.min(buffer.len()).min(self.says.len());
        buffer[..n].copy_from_slice(&self.says[..n]);
        self.says = &self.says[n..];
        n
    }

    fn give(&mut self, bytes: &[u8]) -> usize {
        let n = self.piece.min(bytes.len());
        self.heard.extend_from_slice(&bytes[..n]);
        self.writes += 1;
        n
    }
}

impl embedded_io::ErrorType for Wire<'_> {
    type Error = Infallible;
}

impl embedded_io::Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        Ok(self.take(buffer))
    }
}

impl embedded_io::Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(self.give(bytes))
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        self.flushes += 1;
        Ok(())
    }
}

impl embedded_io_async::Read for Wire<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        Ok(std::future::poll_fn(|_| {
            if self.is_pending() { Poll::Pending } else { Poll::Ready(self.take(buffer)) }
        })
        .await)
    }
}

impl embedded_io_async::Write for Wire<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(std::future::poll_fn(|_| {
            if self.is_pending() { Poll::Pending } else { Poll::Ready(self.give(bytes)) }
        })
        .await)
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        std::future::poll_fn(|_| {
            if self.is_pending() {
                Poll::Pending
            } else {
                {
                    self.flushes += 1;
                    Poll::Ready(())
                }
            }
        })
        .await;
        Ok(())
    }
}

/// Polls once.
pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls until it is done; nothing here waits for anything.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = poll_once(future.as_mut()) {
            return output;
        }
    }
}

/// Events as lines. A message that came in pieces looks like one that didn't.
#[derive(Default, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) lines: Vec<String>,
    pieces: Option<(u32, Vec<u8>)>,
}

impl Seen {
    pub(crate) fn note(&mut self, event: &Event<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = match event {
            Event::Message { sid, message } => {
                format!("message {} {}{}", sid.0, text(message.header), text(message.payload))
            }
            Event::Answer { message, .. } => format!("answer {}", text(message.payload)),
            Event::Oversized(message) => {
                self.pieces = Some((message.sid.0, Vec::new()));
                return;
            }
            Event::Piece { data, left } => {
                let (sid, body) = self.pieces.as_mut().unwrap();
                body.extend_from_slice(data);
                if *left > 0 {
                    return;
                }
                let line = format!("message {sid} {}", text(body));
                self.pieces = None;
                line
            }
            Event::Greeting { .. } => "greeting".into(),
            Event::Info { .. } => "info".into(),
            Event::LameDuck { .. } => "lame duck".into(),
            Event::Error(error) => format!("error {}", text(&error.text()[..20.min(error.text().len())])),
            other => format!("{other:?}"),
        };
        self.lines.push(line);
    }

    pub(crate) fn note_end(&mut self, lost: Lost) {
        self.lines.push(format!("{lost:?}"));
    }
}
