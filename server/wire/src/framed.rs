//! WebSocket frames between a connection's queue and its socket, or between its queue and TLS.
//!
//! A frame is written whole or kept until the socket takes the rest, so a frame of another kind may always follow. What
//! is queued counts as written once all of its frame is. An idle connection holds no buffer.

use std::cell::RefCell;
use std::io;
use std::task::{Poll, ready};

use midge_broker::{Batch, CloseReason};
use midge_tls::Record;
use midge_websocket::{Decoder, Encoder, Event, Opcode, Status, Violation, close_payload, control};
use tokio::io::ReadBuf;

use crate::layer::{fill, with_buffer, with_piece};
use crate::wire::Handle;

thread_local! {
    static FRAME_OUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static CIPHER_OUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A way through frames.
pub(crate) struct Framed {
    /// Below the frames, for those who came over a listener with TLS.
    record: Option<Box<Record>>,
    encoder: Encoder,
    decoder: Decoder,
    /// What arrived and isn't taken apart, for want of room.
    input: Vec<u8>,
    /// The rest of a frame that the socket didn't take. With TLS, the record keeps it.
    output: Vec<u8>,
    /// Bytes of the queue that count as written once that rest is.
    owed: usize,
    /// Control frames that wait until then: one pong at most, for only the latest ping wants one, and our last words.
    due: Vec<u8>,
    /// We have said our last words.
    closed: bool,
    /// The peer has said its own, broke a rule, or is gone.
    ended: bool,
    /// How we answer what it said.
    answer: Option<Vec<u8>>,
    /// The rule that it broke.
    broken: Option<Violation>,
}

impl Framed {
    pub(crate) fn new(record: Option<Box<Record>>, encoder: Encoder, decoder: Decoder) -> Self {
        Self {
            record,
            encoder,
            decoder,
            input: Vec::new(),
            output: Vec::new(),
            owed: 0,
            due: Vec::new(),
            closed: false,
            ended: false,
            answer: None,
            broken: None,
        }
    }

    /// Writes from the front of `batch`, a message a piece. `written` counts what is done with.
    pub(crate) fn write(
        &mut self,
        batch: &mut Batch,
        socket: &Handle,
        written: &mut usize,
    ) -> io::Result<()> {
        self.flush(socket)?;
        let mut done = std::mem::take(&mut self.owed);
        loop {
            batch.advance(done);
            *written += done;
            if self.closed {
                // Nothing follows our last words.
                done = batch.slices().map(<[u8]>::len).sum();
                batch.advance(done);
                *written += done;
            }
            if batch.is_empty() {
                return Ok(());
            }
            done = with_piece(batch, |plain| {
                FRAME_OUT.with_borrow_mut(|frame| {
                    frame.clear();
                    self.encoder.message(plain, frame);
                    self.owed = plain.len();
                    self.push(frame, socket)?;
                    Ok::<_, io::Error>(std::mem::take(&mut self.owed))
                })
            })?;
        }
    }

    /// Writes what is left of earlier frames.
    fn flush(&mut self, socket: &Handle) -> io::Result<()> {
        match &mut self.record {
            Some(record) => drop(record.flush(|bytes| socket.try_write(bytes))?),
            None => {
                let output = std::mem::take(&mut self.output);
                self.write_clear(&output, socket)?;
            }
        }
        let due = std::mem::take(&mut self.due);
        if due.is_empty() { Ok(()) } else { self.push(&due, socket) }
    }

    /// Writes whole frames when nothing is left of others. What the socket doesn't take is kept.
    fn push(&mut self, frames: &[u8], socket: &Handle) -> io::Result<()> {
        match &mut self.record {
            None => self.write_clear(frames, socket),
            Some(record) => CIPHER_OUT
                .with_borrow_mut(|cipher| record.send(frames, cipher, |bytes| socket.try_write(bytes))),
        }
    }

    fn write_clear(&mut self, mut bytes: &[u8], socket: &Handle) -> io::Result<()> {
        while !bytes.is_empty() {
            match socket.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.output = bytes.to_vec();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Writes a control frame as soon as may be. What can't be written now goes out with what comes next.
    fn say(&mut self, opcode: Opcode, payload: &[u8], socket: &Handle) {
        if self.closed {
            return;
        }
        self.closed = opcode == Opcode::Close;
        if !self.closed {
            self.due.clear();
        }
        control(opcode, payload, &mut self.due);
        let _ = self.flush(socket);
    }

    /// Says our last words, unless that was done.
    pub(crate) fn close(&mut self, reason: CloseReason, socket: &Handle) {
        let own = || close_payload(status(reason) as u16, reason.as_str());
        let words = self.answer.take().unwrap_or_else(own);
        self.say(Opcode::Close, &words, socket);
        if let Some(record) = &mut self.record {
            // The peer finds out by the end of the stream, too.
            let _ = record.close(|bytes| socket.try_write(bytes));
        }
    }

    /// Reads payload into `buffer`, with `read` for the socket. Nothing read: the peer is done.
    pub(crate) fn read(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        socket: &Handle,
        mut read: impl FnMut(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            let held = std::mem::take(&mut self.input);
            let used = self.decode(&held, buffer, socket);
            self.hold(held.get(used..).unwrap_or_default());
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Some(violation) = self.broken.take() {
                self.say(Opcode::Close, &close_payload(Status::ProtocolError as u16, &violation.0), socket);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)));
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            match &mut self.record {
                Some(record) => {
                    ready!(fill(record, socket, &mut read))?;
                    self.input = record.take_all_plain();
                    self.ended = self.input.is_empty();
                }
                None => ready!(with_buffer(|piece| {
                    let mut arrived = ReadBuf::new(piece);
                    ready!(read(&mut arrived))?;
                    let arrived = arrived.filled();
                    self.ended = arrived.is_empty();
                    let used = self.decode(arrived, buffer, socket);
                    self.hold(arrived.get(used..).unwrap_or_default());
                    Poll::Ready(Ok::<_, io::Error>(()))
                }))?,
            }
        }
    }

    fn hold(&mut self, rest: &[u8]) {
        self.input = rest.to_vec();
    }

    /// Takes frames apart until the input is used up, there is no room, or the peer is done. Returns how much is used.
    fn decode(&mut self, input: &[u8], buffer: &mut ReadBuf<'_>, socket: &Handle) -> usize {
        if input.is_empty() && !self.decoder.owes() {
            return 0;
        }
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            match self.decoder.decode(rest, buffer.initialize_unfilled()) {
                Err(violation) => {
                    self.broken = Some(violation);
                    self.ended = true;
                    return input.len();
                }
                Ok(decoded) => {
                    used += decoded.used;
                    buffer.advance(decoded.filled);
                    match decoded.event {
                        None => return used,
                        Some(Event::Ping(payload)) => self.say(Opcode::Pong, &payload, socket),
                        Some(Event::Close(answer)) => {
                            let answer = answer.map(|(status, text)| close_payload(status, &text));
                            // What came before it is answered before.
                            self.answer = Some(answer.unwrap_or_default());
                            self.ended = true;
                            return input.len();
                        }
                    }
                }
            }
        }
    }
}

/// How a connection's end is said. Source: nats-server's `wsEnqueueCloseMessage`.
fn status(reason: CloseReason) -> Status {
    match reason {
        CloseReason::ClientClosed => Status::Normal,
        CloseReason::AuthenticationTimeout
        | CloseReason::AuthenticationFailure
        | CloseReason::SlowConsumerPending
        | CloseReason::SlowConsumerDeadline
        | CloseReason::MaxAccountConnections
        | CloseReason::MaxConnections
        | CloseReason::MemoryBudget
        | CloseReason::MaxControlLine
        | CloseReason::MaxSubscriptions
        | CloseReason::AuthenticationExpired
        | CloseReason::CredentialsRevoked => Status::PolicyViolation,
        CloseReason::ParseError | CloseReason::ProtocolViolation | CloseReason::BadClientProtocol => {
            Status::ProtocolError
        }
        CloseReason::MaxPayload => Status::TooBig,
        CloseReason::WriteError
        | CloseReason::ReadError
        | CloseReason::StaleConnection
        | CloseReason::ServerShutdown => Status::GoingAway,
        _ => Status::Internal,
    }
}
