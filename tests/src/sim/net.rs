//! Connections: a bounded pipe from the broker, and a session that reads what the client sends at once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use midge_broker::{Attention, CloseReason, ConnId, Next, Outbox, Port, Session};

use super::server::Server;
use crate::target::{Read, Wire};

/// Bytes that may be under way to a client that doesn't read; more wait in the outbox. About what kernels allow.
const PIPE_BYTES: usize = 1 << 20;

/// The server's end of a connection.
#[derive(Clone, Default)]
pub(super) struct Socket(Rc<Shared>);

#[derive(Default)]
struct Shared {
    outbox: Outbox,
    /// Written and not yet read.
    pipe: RefCell<Vec<u8>>,
    /// Nothing comes behind what is in the pipe.
    ended: Cell<bool>,
    /// The broker's name for it, as long as it has one.
    id: Cell<Option<ConnId>>,
}

impl Port for Socket {
    fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Socket {
    pub(super) fn id(&self) -> Option<ConnId> {
        self.0.id.get()
    }

    pub(super) fn attach(&self, id: ConnId) {
        self.0.id.set(Some(id));
    }

    /// Takes the broker's name away, for its last use.
    pub(super) fn detach(&self) -> Option<ConnId> {
        self.0.id.take()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.0.outbox.poll_attention(&Context::from_waker(Waker::noop())) == Attention::Close
    }

    /// Moves output into the pipe. True if all of it fits.
    pub(super) fn write(&self) -> bool {
        let mut pipe = self.0.pipe.borrow_mut();
        while let Some(mut batch) = self.0.outbox.take_unblocked() {
            let before = pipe.len();
            for piece in batch.slices() {
                let fits = piece.len().min(PIPE_BYTES - pipe.len());
                pipe.extend_from_slice(&piece[..fits]);
            }
            let written = pipe.len() - before;
            batch.advance(written);
            self.0.outbox.put_back(batch, written);
            if pipe.len() == PIPE_BYTES {
                break;
            }
        }
        self.0.outbox.pending() == 0
    }

    /// Says the last words, as far as they fit, and ends the stream behind them.
    pub(super) fn close(&self) {
        if self.write() || !self.0.outbox.flushes_on_close() {
            self.0.ended.set(true);
        }
    }
}

/// The client's end, and the server's task behind it.
pub(super) struct Cable {
    server: Rc<RefCell<Server>>,
    socket: Socket,
    session: Session,
    /// Sent, and not yet used by the session.
    input: Vec<u8>,
    /// Bytes that the session wants to see before it goes on.
    need: usize,
}

impl Cable {
    pub(super) fn plug(server: &Rc<RefCell<Server>>) -> Result<Self, String> {
        let socket = Socket::default();
        let session = server.borrow_mut().accept(&socket)?;
        Ok(Self { server: Rc::clone(server), socket, session, input: Vec::new(), need: 1 })
    }

    fn unplug(&self) {
        self.server.borrow_mut().end(&self.socket, CloseReason::ClientClosed);
    }
}

impl Wire for Cable {
    fn send(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let (mut server, session) = (self.server.borrow_mut(), &mut self.session);
        let mut used = 0;
        while self.socket.id().is_some() && self.input.len() - used >= self.need {
            let input = &self.input[used..];
            let received = server.turn(|broker, now| session.receive(broker, now, input));
            used += received.used;
            self.need = 1;
            match received.next {
                Next::Read(need) => self.need = need,
                Next::Yield => {}
                // Nobody else does anything meanwhile, so time may go by.
                Next::Pause(until) => while server.pass(until) {},
                Next::Ask(question) => {
                    let mut next = Some(question);
                    while let Some(question) = next {
                        let answer = question.answer(&midge_jwt::Utc);
                        next = server.turn(|broker, now| session.answered(broker, question, answer, now));
                    }
                }
                Next::Close => break,
            }
        }
        self.input.drain(..used);
    }

    fn settle(&mut self) {}

    fn finish(&mut self) {
        self.unplug();
    }

    fn read(&mut self, buffer: &mut Vec<u8>, within: Duration) -> Read {
        let mut server = self.server.borrow_mut();
        let until = server.now() + within;
        loop {
            let taken = self.socket.0.pipe.take();
            if !taken.is_empty() {
                buffer.extend_from_slice(&taken);
                server.write(&self.socket);
                return Read::Bytes;
            }
            if self.socket.0.ended.get() {
                return Read::Eof;
            }
            if !server.pass(until) {
                return Read::Quiet;
            }
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.unplug();
    }
}
