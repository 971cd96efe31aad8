//! Serial lines to a midged that listens on them, with `framing: crc` in its `serial` block.
//!
//! A line has noise on it and no ends: [`Framed`] wraps a UART, so that what arrives is what was sent or nothing, and so that both
//! sides notice when the other has begun again. See [`midge_protocol::frame`].

use embedded_io::ErrorType;
use midge_protocol::emit::Sink;
use midge_protocol::frame::{Decode, Encode, Step};

/// A transport over a serial line. Make a new one for each connection: it asks midged for a greeting, and a session begins.
///
/// Reading gives 0, as the end of a connection does, when midged has begun another session, most likely because it was started
/// again: connect again, and the client asks for its subscriptions again. What is written is one frame, whole. A read or write that is
/// dropped loses nothing: what was half written is void for the reader, and is written again.
///
/// There are no acknowledgements here: a damaged frame is lost. What must arrive goes into a stream.
#[derive(Debug)]
pub struct Framed<'b, T> {
    transport: T,
    decode: Decode,
    frame: &'b mut [u8],
    /// Bytes of `frame` that are there; given to the reader, once they are whole.
    len: usize,
    given: usize,
    is_whole: bool,
    /// Bytes of the line, and how many of them were looked at.
    line: [u8; CHUNK],
    filled: usize,
    seen: usize,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Phase {
    /// The greeting isn't asked for.
    Silent,
    /// What comes before it belongs to another session.
    Greeting,
    /// This session is under way.
    Open(u32),
    /// Another session is.
    Over,
}

/// Bytes that are read and written at once.
const CHUNK: usize = 32;
const HELLO: &[u8] = b"INFO {}\r\n";

impl<'b, T> Framed<'b, T> {
    /// Wraps a UART. `frame` holds the longest operation that midged sends: its greeting takes about 600 bytes, and
    /// a message longer than the buffer is lost.
    pub fn new(transport: T, frame: &'b mut [u8]) -> Self {
        Self {
            transport,
            decode: Decode::default(),
            frame,
            len: 0,
            given: 0,
            is_whole: false,
            line: [0; CHUNK],
            filled: 0,
            seen: 0,
            phase: Phase::Silent,
        }
    }

    /// The UART, back.
    pub fn into_inner(self) -> T {
        self.transport
    }

    /// Gives what is there to `buffer`: a number if there was something, or if there will be nothing any more.
    fn give(&mut self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            if self.phase == Phase::Over {
                return Some(0);
            }
            if self.is_whole {
                let rest = self.frame.get(self.given..self.len).unwrap_or_default();
                let n = rest.len().min(buffer.len());
                if let (Some(to), Some(from)) = (buffer.get_mut(..n), rest.get(..n)) {
                    to.copy_from_slice(from);
                }
                self.given = self.given.saturating_add(n);
                if self.given >= self.len {
                    (self.len, self.given, self.is_whole) = (0, 0, false);
                }
                return Some(n);
            }
            let byte = self.line.get(self.seen).copied().filter(|_| self.seen < self.filled)?;
            self.seen = self.seen.saturating_add(1);
            let mut rest = Rest { frame: self.frame, len: &mut self.len };
            match self.decode.byte(byte, &mut rest) {
                Step::More => {}
                Step::Whole => self.judge(),
                Step::Damaged(_) => self.len = 0,
            }
        }
    }

    /// A frame is whole: of which session is it?
    fn judge(&mut self) {
        let frame = self.frame.get(..self.len).unwrap_or_default();
        self.is_whole = true;
        match (self.phase, frame.starts_with(b"INFO ")) {
            (Phase::Open(session), true) if session != number(frame) => self.phase = Phase::Over,
            // Of a session that is over, too, there may be something on its way: what was said before and after its CONNECT.
            (Phase::Greeting, true) if !is_answer(frame) => self.phase = Phase::Open(number(frame)),
            (Phase::Greeting, _) => (self.len, self.is_whole) = (0, false),
            _ => {}
        }
    }

    fn take(&mut self, n: usize) {
        (self.seen, self.filled) = (0, n.min(CHUNK));
    }
}

/// True for the INFO that answers CONNECT, which is no greeting.
fn is_answer(info: &[u8]) -> bool {
    const MARK: &[u8] = b"\"connect_info\":true";
    info.windows(MARK.len()).any(|window| window == MARK)
}

/// The number that midged gave the session, as far as it tells sessions apart.
fn number(info: &[u8]) -> u32 {
    const NAME: &[u8] = b"\"client_id\":";
    let at = info.windows(NAME.len()).position(|window| window == NAME);
    let digits = at.and_then(|at| info.get(at.saturating_add(NAME.len())..)).unwrap_or_default();
    let digits = digits.iter().map(|byte| byte.wrapping_sub(b'0')).take_while(|digit| *digit <= 9);
    let number = digits.fold(0u32, |number, digit| number.wrapping_mul(10).wrapping_add(u32::from(digit)));
    // Another server begins to count anew: its name makes the difference.
    info.iter().take(96).fold(number, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte))
}

struct Rest<'f> {
    frame: &'f mut [u8],
    len: &'f mut usize,
}

impl Sink for Rest<'_> {
    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.frame.get_mut(*self.len) {
                *place = *byte;
                *self.len = self.len.saturating_add(1);
            }
        }
    }

    fn room(&self) -> usize {
        self.frame.len().saturating_sub(*self.len)
    }
}

/// The next bytes of a frame.
fn chunk(encode: &mut Encode<'_>, chunk: &mut [u8; CHUNK]) -> usize {
    let mut len = 0usize;
    for (place, byte) in chunk.iter_mut().zip(encode) {
        *place = byte;
        len = len.saturating_add(1);
    }
    len
}

impl<T: ErrorType> ErrorType for Framed<'_, T> {
    type Error = T::Error;
}

impl<T: embedded_io::Read + embedded_io::Write> embedded_io::Read for Framed<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, T::Error> {
        if self.phase == Phase::Silent {
            embedded_io::Write::write(self, HELLO)?;
            embedded_io::Write::flush(self)?;
            self.phase = Phase::Greeting;
        }
        loop {
            if let Some(n) = self.give(buffer) {
                return Ok(n);
            }
            let n = self.transport.read(&mut self.line)?;
            if n == 0 {
                return Ok(0);
            }
            self.take(n);
        }
    }
}

impl<T: embedded_io::Write> embedded_io::Write for Framed<'_, T> {
    fn write(&mut self, operations: &[u8]) -> Result<usize, T::Error> {
        let (mut encode, mut bytes) = (Encode::new(operations), [0; CHUNK]);
        loop {
            let len = chunk(&mut encode, &mut bytes);
            if len == 0 {
                return Ok(operations.len());
            }
            let mut rest = bytes.get(..len).unwrap_or_default();
            while !rest.is_empty() {
                let n = self.transport.write(rest)?;
                if n == 0 {
                    return Ok(0);
                }
                rest = rest.get(n..).unwrap_or_default();
            }
        }
    }

    fn flush(&mut self) -> Result<(), T::Error> {
        self.transport.flush()
    }
}

impl<T: embedded_io_async::Read + embedded_io_async::Write> embedded_io_async::Read for Framed<'_, T> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, T::Error> {
        if self.phase == Phase::Silent {
            embedded_io_async::Write::write(self, HELLO).await?;
            embedded_io_async::Write::flush(self).await?;
            self.phase = Phase::Greeting;
        }
        loop {
            if let Some(n) = self.give(buffer) {
                return Ok(n);
            }
            let n = self.transport.read(&mut self.line).await?;
            if n == 0 {
                return Ok(0);
            }
            self.take(n);
        }
    }
}

impl<T: embedded_io_async::Write> embedded_io_async::Write for Framed<'_, T> {
    async fn write(&mut self, operations: &[u8]) -> Result<usize, T::Error> {
        let (mut encode, mut bytes) = (Encode::new(operations), [0; CHUNK]);
        loop {
            let len = chunk(&mut encode, &mut bytes);
            if len == 0 {
                return Ok(operations.len());
            }
            let mut rest = bytes.get(..len).unwrap_or_default();
            while !rest.is_empty() {
                let n = self.transport.write(rest).await?;
                if n == 0 {
                    return Ok(0);
                }
                rest = rest.get(n..).unwrap_or_default();
            }
        }
    }

    async fn flush(&mut self) -> Result<(), T::Error> {
        self.transport.flush().await
    }
}

/// Whatever the transport is.
#[cfg(feature = "defmt")]
impl<T> defmt::Format for Framed<'_, T> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Framed {{ phase: {} }}", self.phase);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::convert::Infallible;
    use embedded_io::{Read, Write};
    use std::collections::VecDeque;
    use std::vec::Vec;

    /// What a UART has received, and what was sent.
    #[derive(Default)]
    struct Uart(VecDeque<u8>, Vec<u8>);

    impl ErrorType for Uart {
        type Error = Infallible;
    }

    impl Read for Uart {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
            let n = buffer.len().min(self.0.len()).min(5);
            buffer.iter_mut().zip(self.0.drain(..n)).for_each(|(place, byte)| *place = byte);
            Ok(n)
        }
    }

    impl Write for Uart {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
            let n = bytes.len().min(7);
            self.1.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> Result<(), Infallible> {
            Ok(())
        }
    }

    fn read(framed: &mut Framed<'_, Uart>) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 9];
        loop {
            match framed.read(&mut buffer).unwrap() {
                0 => return all,
                n => all.extend_from_slice(&buffer[..n]),
            }
        }
    }

    fn line(operations: &[&str]) -> VecDeque<u8> {
        operations
            .iter()
            .flat_map(|operation| Encode::new(operation.as_bytes()).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn a_session_has_a_beginning_and_an_end() {
        let greeting = "INFO {\"server_id\":\"N\",\"client_id\":7}\r\n";
        let received = line(&[
            "MSG of.another 1 0\r\n\r\n",
            greeting,
            "PING\r\n",
            greeting,
            "INFO {\"server_id\":\"N\",\"client_id\":8}\r\n",
            "PING\r\n",
        ]);
        let mut buffer = [0; 64];
        let mut framed = Framed::new(Uart(received, Vec::new()), &mut buffer);
        let heard = read(&mut framed);
        assert_eq!(heard, [greeting, "PING\r\n", greeting].concat().as_bytes());
        assert_eq!(read(&mut framed), b"", "it stays over");
        assert_eq!(framed.into_inner().1, Encode::new(HELLO).collect::<Vec<_>>());
    }

    /// A board that connected again with the end of the last session still on its way took that for the greeting, the greeting
    /// for another session, and so on for ever.
    #[test]
    fn the_end_of_another_session_is_no_greeting() {
        let info = |rest| std::format!("INFO {{\"server_id\":\"{:A<90}\",\"client_id\":{rest}}}\r\n", "N");
        let answers = [info("7,\"connect_info\":true"), info("8,\"connect_info\":true")];
        let greeting = info("8");
        let received = line(&["PONG\r\n", &answers[0], &greeting, "PONG\r\n", &answers[1]]);
        let mut buffer = [0; 192];
        let mut framed = Framed::new(Uart(received, Vec::new()), &mut buffer);
        let heard = read(&mut framed);
        assert_eq!(heard, [&greeting, "PONG\r\n", &answers[1]].concat().as_bytes());
    }

    #[test]
    fn what_is_damaged_or_too_long_is_left_out() {
        let greeting = "INFO {\"client_id\":7}\r\n";
        let mut received = line(&[greeting, "MSG a 1 2\r\nhi\r\n", "PING\r\n"]);
        let at = received.len() - 15;
        received[at] ^= 1;
        received.extend(line(&[&std::format!("MSG a 1 60\r\n{:60}\r\n", ""), "PONG\r\n"]));
        let mut buffer = [0; 64];
        let mut framed = Framed::new(Uart(received, Vec::new()), &mut buffer);
        assert_eq!(read(&mut framed), [greeting, "PING\r\n", "PONG\r\n"].concat().as_bytes());
        framed.write(b"PUB a 2\r\nhi\r\n").unwrap();
        let frame: Vec<_> = Encode::new(b"PUB a 2\r\nhi\r\n").collect();
        assert!(framed.into_inner().1.ends_with(&frame));
    }
}
