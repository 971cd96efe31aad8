//! Readings in memory: gone with the power.

use super::{Queue, QueueError, Reading};
use midge_protocol::subject::Subject;

/// A queue in a buffer of the caller's, as a ring of records:
///
/// ```text
///   subject's length, 2 bytes | payload's length, 2 bytes | subject | payload
/// ```
#[derive(Debug)]
pub struct Ram<'b> {
    buffer: &'b mut [u8],
    /// Where the oldest record begins.
    start: usize,
    /// Bytes that are in use.
    len: usize,
    /// The oldest record's.
    id: u64,
}

const HEAD: usize = 4;

impl<'b> Ram<'b> {
    /// An empty queue. `id` is the first reading's: not one that an earlier start used, if readings go into a stream.
    pub const fn new(buffer: &'b mut [u8], id: u64) -> Self {
        Self { buffer, start: 0, len: 0, id }
    }

    /// Bytes that are in use, four for each reading included.
    pub const fn used(&self) -> usize {
        self.len
    }

    /// The place that is `at` bytes behind the start of the oldest record, which is within twice the buffer.
    fn place(&self, at: usize) -> usize {
        let at = self.start.wrapping_add(at);
        if at >= self.buffer.len() { at.wrapping_sub(self.buffer.len()) } else { at }
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let at = self.place(self.len);
            if let Some(place) = self.buffer.get_mut(at) {
                *place = *byte;
            }
            self.len = self.len.wrapping_add(1);
        }
    }

    fn byte(&self, at: usize) -> u8 {
        self.buffer.get(self.place(at)).copied().unwrap_or(0)
    }

    /// Lengths of the oldest record's subject and payload.
    fn head(&self) -> Option<(usize, usize)> {
        let number =
            |at: usize| usize::from(u16::from_le_bytes([self.byte(at), self.byte(at.wrapping_add(1))]));
        (self.len > 0).then(|| (number(0), number(2)))
    }
}

impl Queue for Ram<'_> {
    type Error = core::convert::Infallible;

    fn push(&mut self, subject: Subject<'_>, payload: &[u8]) -> Result<(), QueueError<Self::Error>> {
        let subject = subject.as_bytes();
        let (Ok(subject_len), Ok(payload_len)) = (u16::try_from(subject.len()), u16::try_from(payload.len()))
        else {
            return Err(QueueError::Large);
        };
        let needed = HEAD.saturating_add(subject.len()).saturating_add(payload.len());
        if needed > self.buffer.len() {
            return Err(QueueError::Large);
        }
        if needed > self.buffer.len().saturating_sub(self.len) {
            return Err(QueueError::Full);
        }
        self.write(&subject_len.to_le_bytes());
        self.write(&payload_len.to_le_bytes());
        self.write(subject);
        self.write(payload);
        Ok(())
    }

    fn front<'r>(&mut self, buffer: &'r mut [u8]) -> Result<Option<Reading<'r>>, QueueError<Self::Error>> {
        let Some((subject, payload)) = self.head() else { return Ok(None) };
        let needed = subject.saturating_add(payload);
        let Some(buffer) = buffer.get_mut(..needed) else { return Err(QueueError::Buffer { needed }) };
        for (at, place) in buffer.iter_mut().enumerate() {
            *place = self.byte(HEAD.wrapping_add(at));
        }
        let (subject, payload) = buffer.split_at_checked(subject).unwrap_or_default();
        Ok(Some(Reading { id: self.id, subject, payload }))
    }

    fn pop(&mut self) -> Result<(), QueueError<Self::Error>> {
        if let Some((subject, payload)) = self.head() {
            let record = HEAD.saturating_add(subject).saturating_add(payload).min(self.len);
            self.start = self.place(record);
            self.len = self.len.wrapping_sub(record);
            self.id = self.id.wrapping_add(1);
        }
        Ok(())
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Ram<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Ram {{ used: {}, of: {} }}", self.len, self.buffer.len());
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    #[test]
    fn bounds() {
        let mut buffer = [0; 12];
        let mut queue = Ram::new(&mut buffer, 7);
        let subject = Subject::new(b"ab").unwrap();
        assert_eq!(queue.push(subject, &[0; 7]), Err(QueueError::Large));
        assert_eq!(queue.push(subject, &[1; 6]), Ok(()));
        assert_eq!(queue.push(subject, b""), Err(QueueError::Full));
        assert_eq!(queue.front(&mut [0; 7]), Err(QueueError::Buffer { needed: 8 }));
        assert_eq!(queue.front(&mut [0; 8]), Ok(Some(Reading { id: 7, subject: b"ab", payload: &[1; 6] })));
        queue.pop().unwrap();
        queue.pop().unwrap();
        assert_eq!((queue.front(&mut []), queue.used()), (Ok(None), 0));
    }

    proptest! {
        #[test]
        fn first_in_first_out(size in 10usize..60, steps in prop::collection::vec(0usize..30, 1..100)) {
            let mut buffer = std::vec![0; size];
            let (mut queue, mut model, mut id) = (Ram::new(&mut buffer, 0), VecDeque::new(), 0);
            for step in steps {
                if step < 20 {
                    let payload: Vec<u8> = (0..step).map(|at| (at * 7 + step) as u8).collect();
                    if queue.push(Subject::new(b"a.b").unwrap(), &payload).is_ok() {
                        model.push_back(payload);
                    }
                } else {
                    id += u64::from(model.pop_front().is_some());
                    queue.pop().unwrap();
                }
                let mut space = [0; 64];
                let front = queue.front(&mut space).unwrap();
                let expected = model.front().map(|payload| Reading { id, subject: b"a.b", payload });
                prop_assert_eq!(front, expected);
            }
        }
    }
}
