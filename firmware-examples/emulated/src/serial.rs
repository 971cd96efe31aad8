//! A serial port that midged listens on.

use crate::Clock;
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use node::blocking::Uplink;
use node::serial::Framed;

/// The registers of a serial port that keeps what arrives in a ms.
pub trait Port: Copy {
    /// A byte that has arrived.
    fn receive(self) -> Option<u8>;

    /// Sends one, as soon as there is room.
    fn send(self, byte: u8);
}

/// The way to the broker over such a port, in frames: `framing: crc`.
pub struct Serial<P, C> {
    waits: Waits<P, C>,
    /// The longest operation that midged sends.
    frame: [u8; 768],
}

impl<P: Port, C: Clock> Serial<P, C> {
    /// Over a port that is set up.
    pub fn new(port: P, clock: C) -> Self {
        Self { waits: Waits { port, clock }, frame: [0; 768] }
    }
}

impl<P: Port, C: Clock> Uplink for Serial<P, C> {
    type Plain<'l>
        = Framed<'l, Waits<P, C>>
    where
        Self: 'l;
    type Line<'l>
        = Framed<'l, Waits<P, C>>
    where
        Self: 'l;

    fn connect(&mut self) -> Option<Framed<'_, Waits<P, C>>> {
        Some(Framed::new(self.waits, &mut self.frame))
    }

    fn secure<'l>(plain: Framed<'l, Waits<P, C>>) -> Option<Framed<'l, Waits<P, C>>>
    where
        Self: 'l,
    {
        Some(plain)
    }

    fn rest(&mut self) {
        self.waits.clock.wait();
    }
}

/// A port that is looked at each ms.
#[derive(Clone, Copy)]
pub struct Waits<P, C> {
    port: P,
    clock: C,
}

impl<P, C> ErrorType for Waits<P, C> {
    type Error = ErrorKind;
}

impl<P: Port, C: Clock> Read for Waits<P, C> {
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

impl<P: Port, C: Clock> Write for Waits<P, C> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        bytes.iter().for_each(|byte| self.port.send(*byte));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
