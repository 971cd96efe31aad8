//! The writing half of a connection, shared by its own task and by all who have something for it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Context, Poll};

use midge_broker::{CloseReason, Outbox, Port};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use crate::layer::Layer;

/// Slices given to one write call.
const SLICES: usize = 64;

/// A connection that belongs to no event loop.
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

/// A connection on its way from one event loop to another.
pub struct Lifted {
    socket: Accepted,
    handle: Handle,
    secured: bool,
}

impl Lifted {
    /// Gives the socket to the event loop of the calling thread.
    pub fn land(self) -> io::Result<Reader> {
        let Self { socket, handle, secured } = self;
        let (half, writer) = socket.split()?;
        handle.set_writer(Some(writer));
        Ok(Reader { half, secured: secured.then_some(handle) })
    }
}

impl Accepted {
    /// Its halves, in the event loop of the calling thread.
    fn split(self) -> io::Result<(ReadHalf, Writer)> {
        Ok(match self {
            Self::Tcp(stream) => {
                let (reader, writer) = TcpStream::from_std(stream)?.into_split();
                (ReadHalf::Tcp(reader), Writer::Tcp(writer))
            }
            Self::Unix(stream) => {
                let (reader, writer) = UnixStream::from_std(stream)?.into_split();
                (ReadHalf::Unix(reader), Writer::Unix(writer))
            }
        })
    }
}

/// The broker's name for a connection's output, and the way to its socket.
#[derive(Clone)]
pub struct Handle(Arc<Wire>);

struct Wire {
    outbox: Outbox,
    /// None while the connection is between two event loops. Locked for that alone: who writes waits for nobody.
    writer: RwLock<Option<Writer>>,
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
        let (half, writer) = socket.split()?;
        let wire = Wire {
            outbox: Outbox::default(),
            writer: RwLock::new(Some(writer)),
            tls,
            due: false.into(),
            broken: false.into(),
        };
        Ok((Self(Arc::new(wire)), Reader { half, secured: None }))
    }

    /// Takes the socket from its event loop. Until it [lands](Lifted::land) on another, what is written to it waits.
    pub fn lift(&self, reader: Reader) -> io::Result<Lifted> {
        let Reader { half, secured } = reader;
        let mismatch = || io::Error::from(io::ErrorKind::InvalidInput);
        let socket = match (half, self.set_writer(None)) {
            (ReadHalf::Tcp(half), Some(Writer::Tcp(writer))) => {
                Accepted::Tcp(half.reunite(writer).map_err(|_| mismatch())?.into_std()?)
            }
            (ReadHalf::Unix(half), Some(Writer::Unix(writer))) => {
                Accepted::Unix(half.reunite(writer).map_err(|_| mismatch())?.into_std()?)
            }
            _ => return Err(mismatch()),
        };
        Ok(Lifted { socket, handle: self.clone(), secured: secured.is_some() })
    }

    fn writer(&self) -> RwLockReadGuard<'_, Option<Writer>> {
        // What a panic leaves behind is as good as it was: a socket.
        self.0.writer.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the half in its place. Returns the one that was there.
    fn set_writer(&self, writer: Option<Writer>) -> Option<Writer> {
        std::mem::replace(&mut self.0.writer.write().unwrap_or_else(PoisonError::into_inner), writer)
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
        match &*self.writer() {
            Some(Writer::Tcp(socket)) => socket.try_write(bytes),
            Some(Writer::Unix(socket)) => socket.try_write(bytes),
            None => Err(io::ErrorKind::WouldBlock.into()),
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
        match (&*self.writer(), slices) {
            (Some(Writer::Tcp(socket)), [one]) => socket.try_write(one),
            (Some(Writer::Tcp(socket)), many) => socket.try_write_vectored(many),
            (Some(Writer::Unix(socket)), [one]) => socket.try_write(one),
            (Some(Writer::Unix(socket)), many) => socket.try_write_vectored(many),
            (None, _) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// A write failed: the peer is gone.
    pub fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Acquire)
    }

    /// Ready when the socket takes bytes again.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        let ready = match &*self.writer() {
            Some(Writer::Tcp(socket)) => socket.as_ref().poll_write_ready(context),
            Some(Writer::Unix(socket)) => socket.as_ref().poll_write_ready(context),
            // Only its own task asks, which is not between two event loops.
            None => Poll::Pending,
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
        let _ = match &*self.writer() {
            Some(Writer::Tcp(socket)) => rustix::net::shutdown(socket.as_ref(), rustix::net::Shutdown::Write),
            Some(Writer::Unix(socket)) => {
                rustix::net::shutdown(socket.as_ref(), rustix::net::Shutdown::Write)
            }
            None => Ok(()),
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
