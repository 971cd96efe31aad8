//! What lies between a TLS library and the line, so that over TLS, too, a read may end without a result and a future may be
//! dropped.
//!
//! ```text
//!   Connection -> embedded-tls -> Records -> TCP
//!                                   |  to TLS: whole records, so it never stops within one
//!                                   '- from TLS: taken at once, sent when it is flushed, or before the next read
//! ```
//!
//! A TLS library that is stopped in the middle of a record, by a time-out or because its future is dropped, may forget the
//! first half; embedded-tls does. It knows nothing of [`Records`], which waits instead of it and forgets nothing.

use crate::buffer::{Receive, Transmit};
use embedded_io::{ErrorKind, ErrorType};

/// Bytes before the content of a record: type, version, length.
const HEAD: usize = 5;

/// A transport that hands TLS records over whole.
///
/// It can't make a record that is on its way into a full buffer safe: give `transmit` room for two. A future that is dropped
/// at just that point has lost the record, and everything after it fails with [`RecordError::Lost`].
pub struct Records<'b, T> {
    transport: T,
    receive: Receive<'b>,
    transmit: Transmit<'b>,
    /// Bytes of the record at the front that TLS hasn't taken.
    left: usize,
    /// Bytes that must be there before more can be handed over.
    need: usize,
    /// A record found no room and waits for some.
    is_waiting: bool,
}

/// Why a record did not come or go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RecordError<E> {
    /// The transport failed.
    Io(E),
    /// The record is longer than the buffer.
    Long,
    /// A future was dropped that had a record in its hands.
    Lost,
}

impl<E: embedded_io::Error> embedded_io::Error for RecordError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) => error.kind(),
            Self::Long => ErrorKind::OutOfMemory,
            Self::Lost => ErrorKind::BrokenPipe,
        }
    }
}

impl<E: core::fmt::Display> core::fmt::Display for RecordError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Long => f.write_str("the buffer is too small for a TLS record"),
            Self::Lost => f.write_str("a TLS record was dropped on its way"),
        }
    }
}

impl<E: core::fmt::Debug + core::fmt::Display> core::error::Error for RecordError<E> {}

impl<'b, T: ErrorType> Records<'b, T> {
    /// Records over `transport`, which has not begun with TLS. `receive` holds the longest record that comes: 5 bytes, what is
    /// in it, and 17 to 256 of TLS; servers send what they have to say at once in one, up to 16 KB. `transmit` holds two of
    /// those that go.
    pub fn new(transport: T, receive: &'b mut [u8], transmit: &'b mut [u8]) -> Self {
        let (receive, transmit) = (Receive::new(receive), Transmit::new(transmit));
        Self { transport, receive, transmit, left: 0, need: HEAD, is_waiting: false }
    }

    /// The transport, back.
    pub fn into_inner(self) -> T {
        self.transport
    }

    /// Hands out of the record at the front, if it is whole.
    fn give(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, RecordError<T::Error>> {
        let Receive { buffer: arrived, start, end } = &mut self.receive;
        let waiting = arrived.get(*start..*end).unwrap_or_default();
        if self.left == 0 {
            let Some([_, _, _, high, low]) = waiting.first_chunk::<HEAD>() else {
                self.need = HEAD;
                return Ok(None);
            };
            self.need = HEAD.wrapping_add(u16::from_be_bytes([*high, *low]).into());
            if self.need > arrived.len() {
                return Err(RecordError::Long);
            }
            if waiting.len() < self.need {
                return Ok(None);
            }
            self.left = self.need;
        }
        let n = self.left.min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), waiting.get(..n)) {
            to.copy_from_slice(from);
        }
        *start = start.wrapping_add(n);
        self.left = self.left.wrapping_sub(n);
        Ok(Some(n))
    }

    /// Takes a record, or a part of one; false if there is no room.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, RecordError<T::Error>> {
        if self.is_waiting {
            return Err(RecordError::Lost);
        }
        let taken = self.transmit.append(bytes);
        if !taken && self.transmit.is_empty() { Err(RecordError::Long) } else { Ok(taken) }
    }
}

impl<T: ErrorType> ErrorType for Records<'_, T> {
    type Error = RecordError<T::Error>;
}

impl<T: embedded_io::Read + embedded_io::Write> embedded_io::Read for Records<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        if !self.transmit.is_empty() {
            embedded_io::Write::flush(self)?;
        }
        loop {
            if let Some(n) = self.give(buffer)? {
                return Ok(n);
            }
            match self.transport.read(self.receive.space(self.need)).map_err(RecordError::Io)? {
                0 => return Ok(0),
                n => self.receive.filled(n),
            }
        }
    }
}

impl<T: embedded_io::Write> embedded_io::Write for Records<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        if !self.take(bytes)? {
            self.flush()?;
            self.take(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        while !self.transmit.is_empty() {
            match self.transport.write(self.transmit.waiting()).map_err(RecordError::Io)? {
                0 => return Err(RecordError::Lost),
                n => self.transmit.taken(n),
            }
        }
        self.transport.flush().map_err(RecordError::Io)
    }
}

impl<T: embedded_io_async::Read + embedded_io_async::Write> embedded_io_async::Read for Records<'_, T> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        if !self.transmit.is_empty() {
            embedded_io_async::Write::flush(self).await?;
        }
        loop {
            if let Some(n) = self.give(buffer)? {
                return Ok(n);
            }
            match self.transport.read(self.receive.space(self.need)).await.map_err(RecordError::Io)? {
                0 => return Ok(0),
                n => self.receive.filled(n),
            }
        }
    }
}

impl<T: embedded_io_async::Write> embedded_io_async::Write for Records<'_, T> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        if !self.take(bytes)? {
            self.is_waiting = true;
            embedded_io_async::Write::flush(self).await?;
            self.is_waiting = false;
            self.take(bytes)?;
        }
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        while !self.transmit.is_empty() {
            match self.transport.write(self.transmit.waiting()).await.map_err(RecordError::Io)? {
                0 => return Err(RecordError::Lost),
                n => self.transmit.taken(n),
            }
        }
        self.transport.flush().await.map_err(RecordError::Io)
    }
}

/// Whatever the transport is.
#[cfg(feature = "defmt")]
impl<T> defmt::Format for Records<'_, T> {
    fn format(&self, f: defmt::Formatter<'_>) {
        let Self { left, need, is_waiting, .. } = self;
        defmt::write!(f, "Records {{ left: {}, need: {}, is_waiting: {} }}", left, need, is_waiting);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};
    use embedded_io_async::{Read as _, Write as _};
    use std::vec::Vec;

    /// Gives and takes a few bytes at a time, and keeps everyone waiting once before each of them.
    struct Line {
        says: Vec<u8>,
        heard: Vec<u8>,
        piece: usize,
        is_ready: bool,
        /// Takes nothing.
        is_stuck: bool,
    }

    impl Line {
        fn new(says: &[u8], piece: usize) -> Self {
            Self { says: says.to_vec(), heard: Vec::new(), piece, is_ready: false, is_stuck: false }
        }

        fn ready(&mut self) -> bool {
            self.is_ready = !self.is_ready;
            !self.is_ready
        }
    }

    impl ErrorType for Line {
        type Error = core::convert::Infallible;
    }

    impl embedded_io_async::Read for Line {
        async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
            core::future::poll_fn(|_| if self.ready() { Poll::Ready(()) } else { Poll::Pending }).await;
            let n = self.piece.min(buffer.len()).min(self.says.len());
            buffer.iter_mut().zip(self.says.drain(..n)).for_each(|(place, byte)| *place = byte);
            Ok(n)
        }
    }

    impl embedded_io_async::Write for Line {
        async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
            core::future::poll_fn(|_| {
                if self.ready() && !self.is_stuck { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            let n = self.piece.min(bytes.len());
            self.heard.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        async fn flush(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }
    }

    /// Polls once, and drops what isn't done.
    fn once<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_is_given_is_whole_however_often_it_is_given_up() {
        let record = |content: &[u8]| [&[23, 3, 3, 0, content.len() as u8], content].concat();
        let (one, two, empty) = (record(b"0123456789"), record(b"abc"), record(b""));
        for piece in 1..40 {
            let says = [&one[..], &two, &empty, &one].concat();
            let (mut receive, mut transmit) = ([0; 17], [0; 8]);
            let mut records = Records::new(Line::new(&says, piece), &mut receive, &mut transmit);
            let (mut buffer, mut seen, mut inside) = ([0; 4], Vec::new(), 0usize);
            loop {
                match once(records.read(&mut buffer)) {
                    // As a TLS library, which has forgotten what it had of this record.
                    None => assert_eq!(inside, 0, "stopped within a record"),
                    Some(Ok(0)) => break,
                    Some(n) => {
                        let n = n.unwrap();
                        seen.extend_from_slice(&buffer[..n]);
                        let sizes = [one.len(), two.len(), empty.len(), one.len()];
                        let end = sizes
                            .iter()
                            .scan(0, |sum, size| {
                                *sum += size;
                                Some(*sum)
                            })
                            .find(|end| *end >= seen.len());
                        inside = end.unwrap() - seen.len();
                    }
                }
            }
            assert_eq!(seen, says);
        }
    }

    #[test]
    fn what_is_taken_is_sent_or_the_end() {
        let (mut receive, mut transmit) = ([0; 8], [0; 8]);
        let mut records = Records::new(Line::new(b"", 3), &mut receive, &mut transmit);
        assert_eq!(once(records.write(b"0123")), Some(Ok(4)), "taken without waiting");
        assert_eq!(once(records.write(b"4567")), Some(Ok(4)));
        while once(records.flush()).is_none() {}
        assert_eq!(records.transport.heard, b"01234567");
        assert_eq!(once(records.write(b"012345678")), Some(Err(RecordError::Long)));

        records.transport.is_stuck = true;
        assert_eq!(once(records.write(b"89")), Some(Ok(2)));
        assert_eq!(once(records.write(b"abcdefgh")), None, "no room, and given up");
        records.transport.is_stuck = false;
        assert_eq!(
            once(records.write(b"i")),
            Some(Err(RecordError::Lost)),
            "nothing may follow what is lost"
        );
    }

    #[test]
    fn a_record_that_is_too_long_is_said_to_be() {
        let (mut receive, mut transmit) = ([0; 8], [0; 8]);
        let mut records = Records::new(Line::new(&[23, 3, 3, 1, 0], 9), &mut receive, &mut transmit);
        let mut buffer = [0; 5];
        assert_eq!(once(records.read(&mut buffer)), None);
        assert_eq!(once(records.read(&mut buffer)), Some(Err(RecordError::Long)));
    }
}
