//! The writing half of a connection, shared by its own task and by all who have something for it.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use midge_broker::{Outbox, Port};
use tokio::io::ReadBuf;
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// Slices given to one write call.
const SLICES: usize = 64;

/// A socket's reading half.
pub(crate) enum Reader {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

/// A socket's writing half.
enum Writer {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

/// The broker's name for a connection's output, and the way to its socket.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Wire>);

struct Wire {
    outbox: Outbox,
    writer: Writer,
    /// A write failed; the task ends the connection.
    broken: AtomicBool,
}

impl Port for Handle {
    fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }
}

impl Handle {
    pub(crate) fn tcp(stream: TcpStream) -> (Self, Reader) {
        let (reader, writer) = stream.into_split();
        (Self::new(Writer::Tcp(writer)), Reader::Tcp(reader))
    }

    pub(crate) fn unix(stream: UnixStream) -> (Self, Reader) {
        let (reader, writer) = stream.into_split();
        (Self::new(Writer::Unix(writer)), Reader::Unix(reader))
    }

    fn new(writer: Writer) -> Self {
        Self(Arc::new(Wire { outbox: Outbox::default(), writer, broken: false.into() }))
    }

    /// Writes what is queued, as far as the socket takes it without waiting. Anyone may call it.
    pub(crate) fn write(&self) {
        while let Some(batch) = self.0.outbox.take() {
            if !self.write_batch(batch) {
                return;
            }
        }
    }

    /// As [`Handle::write`], for the connection's own task when the socket has room again. True if all was written.
    pub(crate) fn write_unblocked(&self) -> bool {
        if let Some(batch) = self.0.outbox.take_unblocked() {
            self.write_batch(batch);
            self.write();
        }
        self.0.outbox.pending() == 0
    }

    /// Writes a batch. True if there is more to take.
    fn write_batch(&self, mut batch: midge_broker::Batch) -> bool {
        let mut written = 0;
        while !batch.is_empty() {
            match self.try_write(&batch) {
                Ok(n) => {
                    batch.advance(n);
                    written += n;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.0.broken.store(true, Ordering::Release);
                    break;
                }
            }
        }
        self.0.outbox.put_back(batch, written)
    }

    fn try_write(&self, batch: &midge_broker::Batch) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slot, bytes) in slices.iter_mut().zip(batch.slices()) {
            *slot = IoSlice::new(bytes);
            count += 1;
        }
        let slices = &slices[..count];
        match (&self.0.writer, slices) {
            (Writer::Tcp(socket), [one]) => socket.try_write(one),
            (Writer::Tcp(socket), many) => socket.try_write_vectored(many),
            (Writer::Unix(socket), [one]) => socket.try_write(one),
            (Writer::Unix(socket), many) => socket.try_write_vectored(many),
        }
    }

    /// A write failed: the peer is gone.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Acquire)
    }

    /// Ready when the socket takes bytes again.
    pub(crate) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        let ready = match &self.0.writer {
            Writer::Tcp(socket) => socket.as_ref().poll_write_ready(context),
            Writer::Unix(socket) => socket.as_ref().poll_write_ready(context),
        };
        ready.map(drop)
    }

    /// Writes a few bytes to a fresh socket, which has room for them.
    pub(crate) fn say(&self, bytes: &[u8]) {
        let _ = match &self.0.writer {
            Writer::Tcp(socket) => socket.try_write(bytes),
            Writer::Unix(socket) => socket.try_write(bytes),
        };
    }

    /// Tells the peer that nothing more comes.
    pub(crate) fn shut_down(&self) {
        // Nothing is lost if the peer was faster.
        let _ = match &self.0.writer {
            Writer::Tcp(socket) => rustix::net::shutdown(socket.as_ref(), rustix::net::Shutdown::Write),
            Writer::Unix(socket) => rustix::net::shutdown(socket.as_ref(), rustix::net::Shutdown::Write),
        };
    }
}

impl tokio::io::AsyncRead for Reader {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => std::pin::Pin::new(socket).poll_read(context, buffer),
            Self::Unix(socket) => std::pin::Pin::new(socket).poll_read(context, buffer),
        }
    }
}
