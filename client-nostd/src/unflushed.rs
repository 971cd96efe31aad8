//! Transports that send by themselves.

use embedded_io::ErrorType;

/// A transport that isn't flushed: for one that sends what it has without being told to, and whose flush waits for more than
/// that. embassy-net's waits until the other side has acknowledged every byte, which a server may take 40 ms for.
#[derive(Debug)]
pub struct Unflushed<T>(pub T);

impl<T: ErrorType> ErrorType for Unflushed<T> {
    type Error = T::Error;
}

impl<T: embedded_io::Read> embedded_io::Read for Unflushed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, T::Error> {
        self.0.read(buffer)
    }
}

impl<T: embedded_io::Write> embedded_io::Write for Unflushed<T> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, T::Error> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> Result<(), T::Error> {
        Ok(())
    }
}

impl<T: embedded_io_async::Read> embedded_io_async::Read for Unflushed<T> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, T::Error> {
        self.0.read(buffer).await
    }
}

impl<T: embedded_io_async::Write> embedded_io_async::Write for Unflushed<T> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, T::Error> {
        self.0.write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), T::Error> {
        Ok(())
    }
}

#[cfg(feature = "defmt")]
impl<T> defmt::Format for Unflushed<T> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Unflushed");
    }
}
