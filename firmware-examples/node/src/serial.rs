//! A serial port that midged listens on, for firmware without a scheduler.

use crate::blocking::{Clock, Uplink};
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use midge_client::serial::Framed;

/// The registers of a serial port that keeps what arrives in a ms.
pub trait Port {
    /// A byte that has arrived.
    fn receive(&mut self) -> Option<u8>;

    /// Sends one, as soon as there is room.
    fn send(&mut self, byte: u8);

    /// What was sent is all for now.
    fn flush(&mut self) {}
}

/// The way to the broker over such a port, in frames: midged's `framing: crc`.
pub struct Serial<P, C> {
    port: P,
    clock: C,
    /// The longest operation that midged sends.
    frame: [u8; 768],
}

impl<P: Port, C: Clock> Serial<P, C> {
    /// Over a port that is set up.
    pub fn new(port: P, clock: C) -> Self {
        Self { port, clock, frame: [0; 768] }
    }
}

impl<P: Port, C: Clock> Uplink for Serial<P, C> {
    type Plain<'l>
        = Framed<'l, Waits<'l, P, C>>
    where
        Self: 'l;
    type Line<'l>
        = Framed<'l, Waits<'l, P, C>>
    where
        Self: 'l;

    fn connect(&mut self) -> Option<Self::Plain<'_>> {
        Some(Framed::new(Waits { port: &mut self.port, clock: self.clock }, &mut self.frame))
    }

    fn secure<'l>(plain: Self::Plain<'l>) -> Option<Self::Line<'l>>
    where
        Self: 'l,
    {
        Some(plain)
    }

    fn rest(&mut self) {
        self.clock.wait();
    }
}

/// A port that is looked at each ms.
pub struct Waits<'l, P, C> {
    port: &'l mut P,
    clock: C,
}

impl<P, C> ErrorType for Waits<'_, P, C> {
    type Error = ErrorKind;
}

impl<P: Port, C: Clock> Read for Waits<'_, P, C> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        for _ in 0..5 {
            let mut n = 0;
            while n < buffer.len()
                && let Some(byte) = self.port.receive()
            {
                buffer[n] = byte;
                n += 1;
            }
            if n > 0 {
                return Ok(n);
            }
            self.clock.wait();
        }
        Err(ErrorKind::TimedOut)
    }
}

impl<P: Port, C: Clock> Write for Waits<'_, P, C> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        bytes.iter().for_each(|byte| self.port.send(*byte));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        self.port.flush();
        Ok(())
    }
}
