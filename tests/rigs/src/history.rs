//! What was asked of a store and what it answered, in order, with the places on the disk's tape where that happened.

use std::collections::BTreeMap;

/// A stream of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name; subjects are `name.rest`.
    pub name: &'static str,
    /// What it keeps.
    pub keeps: Keeps,
}

/// What a stream keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Everything that isn't deleted.
    All,
    /// The newest so many messages.
    Newest(u64),
    /// The newest message of each subject, as a key-value bucket does.
    Latest,
    /// As much as there is room for: on a full disk its oldest go for what comes.
    Room,
}

/// The streams of every workload. `log` has a consumer, `scrap` sees deletes and purges, `ring` fills disks.
pub const STREAMS: [Stream; 5] = [LOG, ROLL, KEYS, SCRAP, RING];
/// Keeps all, and has a consumer.
pub const LOG: Stream = Stream { name: "log", keeps: Keeps::All };
/// Rolls over.
pub const ROLL: Stream = Stream { name: "roll", keeps: Keeps::Newest(40) };
/// A key-value bucket.
pub const KEYS: Stream = Stream { name: "keys", keeps: Keeps::Latest };
/// Has messages deleted, and is purged.
pub const SCRAP: Stream = Stream { name: "scrap", keeps: Keeps::All };
/// Drops its oldest on a full disk.
pub const RING: Stream = Stream { name: "ring", keeps: Keeps::Room };

/// Something asked of the store that changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Make a stream, and for [`LOG`] its consumer.
    Create(Stream),
    /// Store a message whose body is [`body`] of this deed's number.
    Publish { stream: &'static str, subject: String, length: usize },
    /// Delete one message.
    Delete { stream: &'static str, seq: u64 },
    /// Delete all messages; `through` is the last one there was.
    Purge { stream: &'static str, through: u64 },
    /// Acknowledge a delivered message for the stream's consumer.
    Acknowledge { stream: &'static str, seq: u64 },
}

/// A deed with what became of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was asked.
    pub deed: Deed,
    /// Where the tape was when it was asked.
    pub asked: u64,
    /// Where the tape was when the answer came, and the answer.
    pub answered: Option<(u64, Answer)>,
}

/// What the store said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done and durable. The sequence number of a publish, else 0.
    Done(u64),
    /// An explicit error.
    Refused(String),
}

/// All deeds of a run by number, in the order they were asked.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The seed that the bodies are made from.
    pub seed: u64,
    /// Deeds; the index is the deed's number.
    pub entries: Vec<Entry>,
}

impl History {
    /// An empty history.
    pub fn new(seed: u64) -> Self {
        Self { seed, entries: Vec::new() }
    }

    /// What was known when the tape was at `position`: deeds asked by then, answers that had come by then.
    pub fn until(&self, position: u64) -> Self {
        let entries = self.entries.iter().take_while(|entry| entry.asked <= position);
        let entries = entries.cloned().map(|mut entry| {
            entry.answered = entry.answered.filter(|(at, _)| *at <= position);
            entry
        });
        Self { seed: self.seed, entries: entries.collect() }
    }

    /// Publishes to a stream that were acknowledged, by sequence number: the deed's number.
    pub fn acked(&self, stream: &str) -> BTreeMap<u64, usize> {
        let acked = self.entries.iter().enumerate().filter_map(|(number, entry)| {
            match (&entry.deed, &entry.answered) {
                (Deed::Publish { stream: to, .. }, Some((_, Answer::Done(seq)))) if *to == stream => {
                    Some((*seq, number))
                }
                _ => None,
            }
        });
        acked.collect()
    }

    /// How many publishes were acknowledged.
    pub fn acked_count(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| {
                matches!(entry.deed, Deed::Publish { .. })
                    && matches!(entry.answered, Some((_, Answer::Done(_))))
            })
            .count()
    }

    /// The last sequence number that a stream acknowledged.
    pub fn last_acked(&self, stream: &str) -> u64 {
        self.acked(stream).keys().next_back().copied().unwrap_or(0)
    }
}

/// The body of a publish: printable, starts with seed and number, and every byte of it follows from them.
pub fn body(seed: u64, number: usize, length: usize) -> Vec<u8> {
    let mut body = format!("{seed:x}.{number:x}.{length:x}.").into_bytes();
    let mut state = seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while body.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        body.push(b'a' + ((state >> 33) % 26) as u8);
    }
    body.truncate(length.max(24));
    body
}

/// The number of the deed that a body names, if it names one of this seed.
pub fn number_in(seed: u64, body: &[u8]) -> Option<usize> {
    let text = str::from_utf8(body.get(..body.len().min(64))?).ok()?;
    let mut parts = text.split('.');
    let named = u64::from_str_radix(parts.next()?, 16).ok()?;
    let number = usize::from_str_radix(parts.next()?, 16).ok()?;
    (named == seed).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_its_deed_and_nothing_else() {
        let one = body(7, 300, 128);
        assert_eq!(one.len(), 128);
        assert_eq!(number_in(7, &one), Some(300));
        assert_eq!(number_in(8, &one), None);
        assert_ne!(one, body(7, 301, 128));
        assert_eq!(number_in(7, b"\xff\xfe"), None);
    }
}
