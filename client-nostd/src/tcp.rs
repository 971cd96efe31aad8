//! TCP of the standard library, for boards with Linux and for trying things out. Feature `std`.

extern crate std;

use embedded_io::{ErrorType, Read, Write};
use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// A blocking transport whose reads end after a while, so that time is looked at.
#[derive(Debug)]
pub struct Tcp {
    stream: TcpStream,
}

impl Tcp {
    /// Connects; a read waits for `patience` at most.
    pub fn connect(address: impl ToSocketAddrs, patience: Duration) -> Result<Self, Error> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self { stream })
    }
}

impl ErrorType for Tcp {
    type Error = Error;
}

impl Read for Tcp {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.stream.read(buffer).map_err(|error| match error.kind() {
            // What Unix says when the time is over.
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        })
    }
}

impl Write for Tcp {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.stream.flush()
    }
}

/// A clock for the client, which begins when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// What time it is.
    pub fn now(&self) -> midge_protocol::time::Instant {
        let micros = self.start.elapsed().as_micros();
        midge_protocol::time::Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Tcp {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Tcp");
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Clock {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Clock({})", self.now());
    }
}
