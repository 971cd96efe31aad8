//! Operations to bytes. A message's head and its body are written apart, so that a body can be shared.

use crate::connect::Connect;
use crate::op::Size;

/// Where bytes go.
pub trait Sink {
    /// Appends all of `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Bytes that were put, whether or not they fitted. Asked only by who calls [`Sink::end`].
    fn position(&self) -> usize {
        0
    }

    /// Ends a frame that began at `begin`, a [`Sink::position`], with CR LF. If it didn't fit it is taken back, and the bytes
    /// that it takes are told.
    fn end(&mut self, begin: usize) -> Result<(), usize> {
        let _ = begin;
        self.put(CRLF);
        Ok(())
    }

    /// Bytes that still fit. Who asks first never leaves half a frame behind.
    fn room(&self) -> usize {
        usize::MAX
    }
}

#[cfg(feature = "alloc")]
impl Sink for alloc::vec::Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A [`Sink`] over borrowed memory. What doesn't fit is counted, not written.
#[derive(Debug)]
pub struct Slice<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl<'b> Slice<'b> {
    /// Writes from the start of `buffer`.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Bytes that were put, whether or not they fitted.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if nothing was put.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What was written, or `None` if it did not fit; [`Slice::len`] then tells the size that would do.
    pub fn written(self) -> Option<&'b mut [u8]> {
        let Self { buffer, len } = self;
        buffer.get_mut(..len)
    }
}

impl Sink for Slice<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(space) = self.buffer.get_mut(self.len..).and_then(|rest| rest.get_mut(..bytes.len())) {
            space.copy_from_slice(bytes);
        }
        self.len = self.len.saturating_add(bytes.len());
    }

    fn position(&self) -> usize {
        self.len
    }

    fn end(&mut self, begin: usize) -> Result<(), usize> {
        self.put(CRLF);
        if self.len <= self.buffer.len() {
            return Ok(());
        }
        let needed = self.len.saturating_sub(begin);
        self.len = begin;
        Err(needed)
    }

    fn room(&self) -> usize {
        self.buffer.len().saturating_sub(self.len)
    }
}

/// Bytes that `write` puts.
pub fn size_of(write: impl FnOnce(&mut Slice<'_>)) -> usize {
    let mut count = Slice::new(&mut []);
    write(&mut count);
    count.len()
}

impl core::fmt::Write for Slice<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

/// `PING`, whole.
pub const PING: &[u8] = b"PING\r\n";
/// `PONG`, whole.
pub const PONG: &[u8] = b"PONG\r\n";
/// `+OK`, whole.
pub const OK: &[u8] = b"+OK\r\n";
/// Ends every line and every body.
pub const CRLF: &[u8] = b"\r\n";

/// The head of MSG, or of HMSG if `header_size` is given. The body, with its CR LF, goes behind it.
#[inline]
pub fn msg(
    out: &mut impl Sink,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    header_size: Option<&[u8]>,
    size: &[u8],
) {
    out.put(if header_size.is_some() { b"HMSG " } else { b"MSG " });
    out.put(subject);
    out.put(b" ");
    out.put(sid);
    out.put(b" ");
    optional(out, reply);
    optional(out, header_size);
    out.put(size);
    out.put(CRLF);
}

/// The head of PUB, or of HPUB if `header_size` is given. The body, with its CR LF, goes behind it.
pub fn publish(
    out: &mut impl Sink,
    subject: &[u8],
    reply: Option<&[u8]>,
    header_size: Option<&[u8]>,
    size: &[u8],
) {
    out.put(if header_size.is_some() { b"HPUB " } else { b"PUB " });
    out.put(subject);
    out.put(b" ");
    optional(out, reply);
    optional(out, header_size);
    out.put(size);
    out.put(CRLF);
}

/// The head of LMSG, or of HMSG if `header_size` is given, with the queue groups of which one member is to get the message.
/// The body, with its CR LF, goes behind it.
pub fn leaf_msg<'q>(
    out: &mut impl Sink,
    subject: &[u8],
    reply: Option<&[u8]>,
    queues: impl IntoIterator<Item = &'q [u8]>,
    header_size: Option<&[u8]>,
    size: &[u8],
) {
    out.put(if header_size.is_some() { b"HMSG " } else { b"LMSG " });
    out.put(subject);
    out.put(b" ");
    let mut queues = queues.into_iter().peekable();
    if queues.peek().is_some() {
        out.put(if reply.is_some() { b"+ " } else { b"| " });
    }
    optional(out, reply);
    queues.for_each(|queue| optional(out, Some(queue)));
    optional(out, header_size);
    out.put(size);
    out.put(CRLF);
}

/// `LS+ subject [queue weight]`, whole.
pub fn leaf_sub(out: &mut impl Sink, subject: &[u8], queue: Option<(&[u8], u32)>) {
    out.put(b"LS+ ");
    out.put(subject);
    if let Some((queue, weight)) = queue {
        out.put(b" ");
        out.put(queue);
        out.put(b" ");
        out.put(Digits::new(weight).as_bytes());
    }
    out.put(CRLF);
}

/// `LS- subject [queue]`, whole.
pub fn leaf_unsub(out: &mut impl Sink, subject: &[u8], queue: Option<&[u8]>) {
    out.put(b"LS- ");
    out.put(subject);
    if let Some(queue) = queue {
        out.put(b" ");
        out.put(queue);
    }
    out.put(CRLF);
}

/// `SUB subject [queue] sid`, whole.
pub fn sub(out: &mut impl Sink, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
    out.put(b"SUB ");
    out.put(subject);
    out.put(b" ");
    optional(out, queue);
    out.put(sid);
    out.put(CRLF);
}

/// `UNSUB sid [max]`, whole.
pub fn unsub(out: &mut impl Sink, sid: &[u8], max: Option<u32>) {
    out.put(b"UNSUB ");
    out.put(sid);
    if let Some(max) = max {
        out.put(b" ");
        out.put(Digits::new(max).as_bytes());
    }
    out.put(CRLF);
}

/// `CONNECT {json}`, whole.
pub fn connect(out: &mut impl Sink, connect: &Connect<'_>) {
    out.put(b"CONNECT ");
    // Writing into a sink can't fail.
    let _ = connect.write(&mut Text(out));
    out.put(CRLF);
}

/// `-ERR 'text'`, whole.
pub fn err(out: &mut impl Sink, text: impl core::fmt::Display) {
    out.put(b"-ERR '");
    // Writing into a sink can't fail; a Display that fails has said what it could.
    let _ = core::fmt::write(&mut Text(out), format_args!("{text}"));
    out.put(b"'\r\n");
}

/// A sink as a place for text.
struct Text<'s, S>(&'s mut S);

impl<S: Sink> core::fmt::Write for Text<'_, S> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.put(text.as_bytes());
        Ok(())
    }
}

fn optional(out: &mut impl Sink, argument: Option<&[u8]>) {
    if let Some(argument) = argument {
        out.put(argument);
        out.put(b" ");
    }
}

/// A number in decimal digits, without the formatting machinery.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    text: [u8; 20],
    start: u8,
}

impl Digits {
    /// Formats `value`.
    #[inline]
    pub fn new(value: impl Into<u64>) -> Self {
        let value = value.into();
        // Where the type says that it is small, the other arm goes: processors of 32 bits divide 64 slowly.
        match u32::try_from(value) {
            Ok(value) => Self::of_u32(value),
            Err(_) => Self::of_u64(value),
        }
    }

    fn of_u32(mut value: u32) -> Self {
        let (mut text, mut start) = ([0; 20], 20u8);
        for place in text.iter_mut().rev() {
            // The remainder is one digit, so it fits.
            *place = b'0'.wrapping_add((value % 10) as u8);
            start = start.wrapping_sub(1);
            value /= 10;
            if value == 0 {
                break;
            }
        }
        Self { text, start }
    }

    fn of_u64(mut value: u64) -> Self {
        let (mut text, mut start) = ([0; 20], 20u8);
        for place in text.iter_mut().rev() {
            *place = b'0'.wrapping_add((value % 10) as u8);
            start = start.wrapping_sub(1);
            value /= 10;
            if value == 0 {
                break;
            }
        }
        Self { text, start }
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(usize::from(self.start)..).unwrap_or_default()
    }
}

impl<'a> From<&'a Digits> for Size<'a> {
    fn from(digits: &'a Digits) -> Self {
        let text = digits.as_bytes();
        let value = text
            .iter()
            .fold(0u32, |sum, d| sum.saturating_mul(10).saturating_add(u32::from(d.wrapping_sub(b'0'))));
        Size { value, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Slice<'_>)) -> std::string::String {
        let mut buffer = [0; 256];
        let mut out = Slice::new(&mut buffer);
        write(&mut out);
        std::string::String::from_utf8(out.written().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn operations() {
        assert_eq!(text(|o| msg(o, b"a", b"1", None, None, b"2")), "MSG a 1 2\r\n");
        assert_eq!(text(|o| msg(o, b"a", b"1", Some(b"r"), Some(b"12"), b"14")), "HMSG a 1 r 12 14\r\n");
        assert_eq!(text(|o| publish(o, b"a", None, None, b"0")), "PUB a 0\r\n");
        assert_eq!(text(|o| publish(o, b"a", Some(b"r"), Some(b"12"), b"1234")), "HPUB a r 12 1234\r\n");
        assert_eq!(text(|o| sub(o, b"a.>", Some(b"q"), b"7")), "SUB a.> q 7\r\n");
        assert_eq!(text(|o| unsub(o, b"7", Some(3))), "UNSUB 7 3\r\n");
        assert_eq!(text(|o| err(o, "Stale Connection")), "-ERR 'Stale Connection'\r\n");
    }

    #[test]
    fn what_leaf_nodes_say() {
        let queues = [&b"q1"[..], b"q2"];
        assert_eq!(text(|o| leaf_msg(o, b"a", None, [], None, b"2")), "LMSG a 2\r\n");
        assert_eq!(text(|o| leaf_msg(o, b"a", Some(b"r"), [], Some(b"4"), b"6")), "HMSG a r 4 6\r\n");
        assert_eq!(text(|o| leaf_msg(o, b"a", None, queues, None, b"2")), "LMSG a | q1 q2 2\r\n");
        assert_eq!(text(|o| leaf_msg(o, b"a", Some(b"r"), queues, None, b"2")), "LMSG a + r q1 q2 2\r\n");
        assert_eq!(text(|o| leaf_sub(o, b"a.>", None)), "LS+ a.>\r\n");
        assert_eq!(text(|o| leaf_sub(o, b"a", Some((b"q", 2)))), "LS+ a q 2\r\n");
        assert_eq!(text(|o| leaf_unsub(o, b"a", Some(b"q"))), "LS- a q\r\n");
    }

    #[test]
    fn digits() {
        for value in [0u64, 7, 10, 99, 1_048_576, u64::MAX] {
            assert_eq!(Digits::new(value).as_bytes(), std::format!("{value}").as_bytes());
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut buffer = [0; 4];
        let mut out = Slice::new(&mut buffer);
        out.put(b"abc");
        out.put(b"de");
        assert_eq!(out.len(), 5);
        assert!(out.written().is_none());
    }
}
