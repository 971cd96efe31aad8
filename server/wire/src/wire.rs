//! The writing half of a connection, shared by its own task and by all who have something for it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use midge_broker::{CloseReason, Outbox, Port};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use crate::layer::Layer;

/// Slices given to one write call.
const SLICES: usize = 64;

/// A connection that was accepted and belongs to no event loop yet.
pub enum Accepted {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// On this machine.
    Unix(std::os::unix::net::UnixStream),
}

/// A connection's reading half.
pub struct Reader {
    half: ReadHalf,
    /// Where to decrypt, or to take frames apart, once that is agreed on.
    secured: Option<Handle>,
}

/// A socket's reading half.
enum ReadHalf {
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
pub struct Handle(Arc<Wire>);

struct Wire {
    outbox: Outbox,
    writer: Writer,
    /// Between outbox and socket, for those who came over a listener with TLS or WebSocket.
    tls: Option<Layer>,
    /// Some thread has noted to write what is queued.
    due: AtomicBool,
    /// A write failed; the task ends the connection.
    broken: AtomicBool,
}

impl Port for Handle {
    fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }
}

impl Handle {
    /// Gives a socket to the event loop of the calling thread.
    pub fn open(socket: Accepted, tls: Option<Layer>) -> io::Result<(Self, Reader)> {
        let (half, writer) = match socket {
            Accepted::Tcp(stream) => {
                let (reader, writer) = TcpStream::from_std(stream)?.into_split();
                (ReadHalf::Tcp(reader), Writer::Tcp(writer))
            }
            Accepted::Unix(stream) => {
                let (reader, writer) = UnixStream::from_std(stream)?.into_split();
                (ReadHalf::Unix(reader), Writer::Unix(writer))
            }
        };
        let wire = Wire { outbox: Outbox::default(), writer, tls, due: false.into(), broken: false.into() };
        Ok((Self(Arc::new(wire)), Reader { half, secured: None }))
    }

    /// What lies between outbox and socket.
    pub fn tls(&self) -> Option<&Layer> {
        self.0.tls.as_ref()
    }

    /// True for the first who notes that there is something to write, until [`Handle::write_due`].
    pub fn becomes_due(&self) -> bool {
        !self.0.due.swap(true, Ordering::AcqRel)
    }

    /// Writes what is queued, for whoever noted it.
    pub fn write_due(&self) {
        // First, so that what is queued from now on is noted again.
        self.0.due.swap(false, Ordering::AcqRel);
        self.write();
    }

    /// Writes what is queued, as far as the socket takes it without waiting. Anyone may call it.
    fn write(&self) {
        while let Some(batch) = self.0.outbox.take() {
            if !self.write_batch(batch) {
                return;
            }
        }
    }

    /// Writes what is queued, for the connection's own task when the socket has room again. True if all was written.
    pub fn write_unblocked(&self) -> bool {
        if let Some(batch) = self.0.outbox.take_unblocked() {
            self.write_batch(batch);
            self.write();
        }
        self.0.outbox.pending() == 0
    }

    /// Writes a batch. True if there is more to take.
    fn write_batch(&self, mut batch: midge_broker::Batch) -> bool {
        let (written, result) = match &self.0.tls {
            None => self.write_clear(&mut batch),
            Some(layer) => layer.write(&mut batch, self),
        };
        if result.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            self.0.broken.store(true, Ordering::Release);
        }
        self.0.outbox.put_back(batch, written)
    }

    /// Writes a batch as it is. Returns the bytes of it that the socket took, and why it took no more.
    pub fn write_clear(&self, batch: &mut midge_broker::Batch) -> (usize, io::Result<()>) {
        let mut written = 0;
        while !batch.is_empty() {
            match self.try_write_batch(batch) {
                Ok(n) => {
                    batch.advance(n);
                    written += n;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// Writes bytes to the socket, past outbox and encryption.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0.writer {
            Writer::Tcp(socket) => socket.try_write(bytes),
            Writer::Unix(socket) => socket.try_write(bytes),
        }
    }

    fn try_write_batch(&self, batch: &midge_broker::Batch) -> io::Result<usize> {
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
    pub fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Acquire)
    }

    /// Ready when the socket takes bytes again.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        let ready = match &self.0.writer {
            Writer::Tcp(socket) => socket.as_ref().poll_write_ready(context),
            Writer::Unix(socket) => socket.as_ref().poll_write_ready(context),
        };
        ready.map(drop)
    }

    /// Writes a few bytes to a fresh socket, which has room for them.
    pub fn say(&self, bytes: &[u8]) {
        let _ = self.try_write(bytes);
    }

    /// Tells the peer that nothing more comes, and why, where that can be said.
    pub fn shut_down(&self, reason: CloseReason) {
        if let Some(layer) = &self.0.tls {
            layer.close(reason, self);
        }
        // Nothing is lost if the peer was faster.
        let _ = match &self.0.writer {
            Writer::Tcp(socket) => rustix::net::shutdown(socket.as_ref(), rustix::net::Shutdown::Write),
            Writer::Unix(socket) => rustix::net::shutdown(socket.as_ref(), rustix::net::Shutdown::Write),
        };
    }
}

impl Reader {
    /// From now on what arrives is for the layer of `handle`.
    pub fn secure(&mut self, handle: Handle) {
        self.secured = Some(handle);
    }

    /// Looks at the first bytes that have arrived, without taking them.
    pub async fn peek(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match &mut self.half {
            ReadHalf::Tcp(socket) => socket.peek(bytes).await,
            ReadHalf::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl ReadHalf {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Unix(socket) => Pin::new(socket).poll_read(context, buffer),
        }
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { half, secured } = self.get_mut();
        match secured.as_ref().and_then(|handle| Some((handle, handle.tls()?))) {
            None => half.poll_read(context, buffer),
            Some((handle, layer)) => layer.read(buffer, handle, |arrived| half.poll_read(context, arrived)),
        }
    }
}
