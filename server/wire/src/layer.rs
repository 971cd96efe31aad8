//! What lies between a connection's queue of output and its socket.

use std::cell::RefCell;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};

use midge_broker::{Batch, CloseReason};
use midge_tls::Record;
use tokio::io::ReadBuf;

use crate::framed::Framed;
use crate::wire::Handle;

/// What is read at once, and encrypted at once: four full records.
const PIECE_BYTES: usize = 64 * 1024;

thread_local! {
    static CIPHER_IN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static CIPHER_OUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static PLAIN_OUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the thread's buffer for what arrives.
pub fn with_buffer<R>(use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    CIPHER_IN.with_borrow_mut(|buffer| {
        if buffer.len() < PIECE_BYTES {
            buffer.resize(PIECE_BYTES, 0);
        }
        use_it(buffer)
    })
}

/// A connection's way through TLS. Its lock is a leaf: nothing else is locked while it is held, and nothing waits.
///
/// The connection's own task reads, and anybody who has something for the connection writes. Both need the keys, and
/// both may have something to tell the peer, so they share the lock.
#[derive(Default)]
pub struct Layer(Mutex<State>);

#[derive(Default)]
enum State {
    /// Bytes pass as they are.
    #[default]
    Clear,
    /// The handshake is on: output waits.
    Held,
    Secured(Box<Record>),
    /// There are frames above the keys, or without any.
    #[cfg_attr(not(feature = "websocket"), expect(dead_code, reason = "without WebSocket there are none"))]
    Framed(Box<Framed>),
    /// There will be no keys: nothing more can be said.
    Over,
}

impl Layer {
    /// The handshake begins: what is queued waits.
    pub fn hold(&self) {
        *self.lock() = State::Held;
    }

    /// No keys were agreed on.
    pub fn give_up(&self) {
        *self.lock() = State::Over;
    }

    /// Keys were agreed on: from now on all is encrypted.
    pub fn secure(&self, record: Box<Record>) {
        *self.lock() = State::Secured(record);
    }

    /// From now on there are frames above what was agreed on.
    #[cfg(feature = "websocket")]
    pub fn frame(&self, encoder: midge_websocket::Encoder, decoder: midge_websocket::Decoder) {
        let mut state = self.lock();
        let framed = |record| State::Framed(Box::new(Framed::new(record, encoder, decoder)));
        *state = match std::mem::replace(&mut *state, State::Over) {
            State::Clear => framed(None),
            State::Secured(record) => framed(Some(record)),
            state => state,
        };
    }

    /// Writes from the front of `batch` until it is empty or the socket is full. Returns the bytes of the batch that
    /// are done with, and why there weren't more.
    pub(crate) fn write(&self, batch: &mut Batch, socket: &Handle) -> (usize, io::Result<()>) {
        match &mut *self.lock() {
            State::Clear => socket.write_clear(batch),
            State::Held => (0, Err(io::ErrorKind::WouldBlock.into())),
            State::Over => (0, Err(io::ErrorKind::BrokenPipe.into())),
            State::Secured(record) => {
                let mut written = 0;
                let result = write_secured(record, batch, socket, &mut written);
                (written, result)
            }
            State::Framed(framed) => {
                let mut written = 0;
                let result = framed.write(batch, socket, &mut written);
                (written, result)
            }
        }
    }

    /// Reads plain text into `buffer`, with `read` for the socket. Nothing read: the peer is done.
    pub(crate) fn read(
        &self,
        buffer: &mut ReadBuf<'_>,
        socket: &Handle,
        mut read: impl FnMut(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        match &mut *self.lock() {
            State::Secured(record) => {
                ready!(fill(record, socket, &mut read))?;
                let n = record.plain().len().min(buffer.remaining());
                buffer.put_slice(&record.plain()[..n]);
                record.take_plain(n);
                Poll::Ready(Ok(()))
            }
            State::Framed(framed) => framed.read(buffer, socket, read),
            // Before there are frames, a request is read.
            State::Clear => read(buffer),
            State::Held | State::Over => Poll::Ready(Err(io::Error::other("no keys were agreed on"))),
        }
    }

    /// Tells the peer that nothing more comes, as far as the socket takes it.
    pub(crate) fn close(&self, reason: CloseReason, socket: &Handle) {
        match &mut *self.lock() {
            // The peer finds out by the end of the stream, too.
            State::Secured(record) => drop(record.close(|bytes| socket.try_write(bytes))),
            State::Framed(framed) => framed.close(reason, socket),
            State::Clear | State::Held | State::Over => {}
        }
    }

    /// Writes bytes that are no output of a connection, as far as the socket takes them; there are few.
    pub fn say(&self, bytes: &[u8], socket: &Handle) -> io::Result<()> {
        match &mut *self.lock() {
            State::Secured(record) => record.send(bytes, &mut Vec::new(), |bytes| socket.try_write(bytes)),
            State::Clear => socket.try_write(bytes).map(drop),
            State::Framed(_) | State::Held | State::Over => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A record that a panic left half done refuses the next one; with panic = "abort" there is no next one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decrypts what arrives until there is plain text, or nothing more comes.
pub(crate) fn fill(
    record: &mut Record,
    socket: &Handle,
    read: &mut impl FnMut(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
) -> Poll<io::Result<()>> {
    while record.plain().is_empty() && !record.has_ended() {
        let arrived = CIPHER_IN.with_borrow_mut(|input| {
            let kept = record.unused().len();
            input.resize((kept + PIECE_BYTES).max(input.len()), 0);
            input[..kept].copy_from_slice(record.unused());
            let mut arrived = ReadBuf::new(&mut input[kept..]);
            ready!(read(&mut arrived))?;
            let n = arrived.filled().len();
            if n > 0 {
                let result = record.receive(&mut input[..kept + n]);
                // What can't be said now goes out with the next message. There is never much of it.
                let _ = record.flush_own(|bytes| socket.try_write(bytes));
                result.map_err(|failure| io::Error::other(failure.error))?;
            }
            Poll::Ready(Ok::<_, io::Error>(n))
        });
        if ready!(arrived)? == 0 {
            break;
        }
    }
    Poll::Ready(Ok(()))
}

/// Encrypts and writes piece by piece. A piece counts as done with once the socket has all of it; until then the queue
/// keeps its plain text, and so its ceiling and its deadline hold for encrypted connections as for others.
fn write_secured(
    record: &mut Record,
    batch: &mut Batch,
    socket: &Handle,
    written: &mut usize,
) -> io::Result<()> {
    let mut done = record.flush(|bytes| socket.try_write(bytes))?;
    loop {
        batch.advance(done);
        *written += done;
        if batch.is_empty() {
            return Ok(());
        }
        done = CIPHER_OUT.with_borrow_mut(|cipher| {
            with_piece(batch, |plain| {
                record.send(plain, cipher, |bytes| socket.try_write(bytes)).map(|()| plain.len())
            })
        })?;
    }
}

/// Shows the front of `batch` as one piece, gathered if its chunks are small, so that records are full.
pub(crate) fn with_piece<R>(batch: &Batch, show: impl FnOnce(&[u8]) -> R) -> R {
    let mut slices = batch.slices().peekable();
    let first = slices.next().unwrap_or_default();
    if first.len() >= PIECE_BYTES || slices.peek().is_none() {
        return show(&first[..first.len().min(PIECE_BYTES)]);
    }
    PLAIN_OUT.with_borrow_mut(|plain| {
        plain.clear();
        plain.extend_from_slice(first);
        for slice in slices {
            let room = PIECE_BYTES - plain.len();
            plain.extend_from_slice(&slice[..slice.len().min(room)]);
            if slice.len() >= room {
                break;
            }
        }
        show(plain)
    })
}
