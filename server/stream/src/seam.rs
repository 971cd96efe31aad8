//! What goes in and what comes out.
//!
//! ```text
//!   driver ── Input ──> Engine::handle ──> … ──> Engine::commit ──> Output ──> driver
//!               ^                                                     │
//!               └──── Lost: nobody was there to take a Publish ───────┘
//! ```

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// An account, by the number that the driver gave it.
pub type Account = u32;

/// Names a subscription, or what else the driver is to tell of. The driver hands it back as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u64);

impl Tag {
    /// As a number, for drivers that keep numbers.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Whether a subscription takes what the account imports as streams, too, as clients' subscriptions do.
    pub fn takes_imports(self) -> bool {
        matches!(self.split(), Some((What::Stream | What::Link, ..)))
    }

    /// Whether messages to it are to say in their header `Nats-Request-Info` who publishes, as imported ones do.
    pub fn is_told(self) -> bool {
        matches!(self.split(), Some((What::Api, ..)))
    }

    /// Whether messages to it ask for a stream's messages directly: [`Engine::answer_at_once`](crate::Engine::answer_at_once).
    pub fn is_direct(self) -> bool {
        matches!(self.split(), Some((What::Direct, ..)))
    }

    /// Of such a number.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn new(what: What, stream: u32, consumer: u32) -> Self {
        Self((what as u64) << 60 | u64::from(stream & STREAM_MAX) << 32 | u64::from(consumer))
    }

    pub(crate) fn split(self) -> Option<(What, u32, u32)> {
        let what = WHATS.get(usize::try_from(self.0 >> 60).ok()?)?;
        Some((*what, u32::try_from(self.0 >> 32).unwrap_or(u32::MAX) & STREAM_MAX, self.0 as u32))
    }
}

/// Streams that a tag can name.
pub(crate) const STREAM_MAX: u32 = (1 << 28) - 1;

/// What a tag is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The API; in place of a stream stands the account.
    Api,
    /// Messages for a stream.
    Stream,
    /// Direct requests for messages.
    Direct,
    /// Requests for a consumer's next messages.
    Next,
    /// Acks.
    Ack,
    /// Answers to flow control.
    Flow,
    /// Requests to begin again.
    Reset,
    /// Interest in a push consumer's subject.
    Push,
    /// Interest in the answers to a waiting pull request.
    Waiting,
    /// Interest in events; in place of a stream stands the account.
    Events,
    /// Acks of a snapshot that goes out, and interest in it.
    Snapshot,
    /// Chunks of a stream that comes in.
    Restore,
    /// Answers and messages of another account's stream that is copied.
    Link,
}

const WHATS: [What; 13] = [
    What::Api,
    What::Stream,
    What::Direct,
    What::Next,
    What::Ack,
    What::Flow,
    What::Reset,
    What::Push,
    What::Waiting,
    What::Events,
    What::Snapshot,
    What::Restore,
    What::Link,
];

/// A message for a subscription of the engine's.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The subscription.
    pub tag: Tag,
    /// Where it was published.
    pub subject: &'a [u8],
    /// Where an answer is wanted.
    pub reply: Option<&'a [u8]>,
    /// The header block; empty if there is none.
    pub header: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

/// What the engine is told.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A message came.
    Message(Message<'a>),
    /// A message came, and its publisher wants to know what becomes of it: [`Output::Traced`] says so.
    Traced {
        /// The message.
        message: Message<'a>,
        /// The driver's name for that.
        number: u64,
        /// Nothing is to become of it.
        only: bool,
    },
    /// Somebody subscribes to what is watched, or nobody does any more.
    Interest {
        /// What is watched.
        tag: Tag,
        /// The subject, as it was given.
        subject: &'a [u8],
        /// Somebody does.
        exists: bool,
    },
    /// An [`Output::Publish`] with a receipt reached nobody.
    Lost {
        /// Of whom.
        receipt: Receipt,
        /// Where it was sent.
        subject: &'a [u8],
    },
}

/// Comes back if a message reached nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub(crate) tag: Tag,
    pub(crate) seq: u64,
}

/// What the driver is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Messages on `filter` are to come as [`Input::Message`].
    Subscribe {
        /// Where.
        account: Account,
        /// The subjects.
        filter: Bytes,
        /// Of whom. With the filter, it names the subscription.
        tag: Tag,
    },
    /// No more of them.
    Unsubscribe {
        /// The subjects.
        filter: Bytes,
        /// Of whom.
        tag: Tag,
    },
    /// It is to be told whether anybody subscribes to `subject`: at once, and when that changes.
    Watch {
        /// Where.
        account: Account,
        /// The subject, which may have wildcards: then any overlap counts.
        subject: Bytes,
        /// Only subscriptions to this very subject count, and in this queue group; an empty one: in none.
        group: Option<Bytes>,
        /// Of whom. With the subject, it names what is watched.
        tag: Tag,
    },
    /// No more of that.
    Unwatch {
        /// Where.
        account: Account,
        /// The subject.
        subject: Bytes,
        /// Of whom.
        tag: Tag,
    },
    /// A message.
    Publish(Publish),
    /// What became of a message that came with [`Input::Traced`].
    Traced {
        /// As it came.
        number: u64,
        /// What a stream does with it; `None` if it wasn't for one.
        fate: Option<Fate>,
    },
}

/// What a stream does with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// The stream's name.
    pub stream: String,
    /// The subject that the message is stored under; empty if it didn't get so far.
    pub subject: String,
    /// Nobody wants it, so only its number is kept.
    pub no_interest: bool,
    /// Why it is refused, in nats-server's words; empty if it isn't.
    pub error: String,
}

/// A message from the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Where.
    pub account: Account,
    /// Who gets it: subscribers of this subject.
    pub subject: Bytes,
    /// The subject that they are shown, if it is another.
    pub shown: Option<Bytes>,
    /// Where an answer is wanted.
    pub reply: Option<Bytes>,
    /// The header block; empty for none.
    pub header: Bytes,
    /// The payload.
    pub payload: Bytes,
    /// To be told if nobody got it.
    pub receipt: Option<Receipt>,
    /// It says that something was done, and to whom.
    pub(crate) promise: Promise,
}

/// What a message promises: it must not come out if that isn't durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing.
    #[default]
    Nothing,
    /// That a message is stored, or a request done. Whoever waits for it is told of the failure instead.
    Answer,
    /// That a consumer of that number took an acknowledgement in.
    Acked(u32),
}

impl Publish {
    /// Bytes that it holds.
    pub fn len(&self) -> usize {
        let reply = self.reply.as_ref().map_or(0, Bytes::len);
        self.subject.len() + reply + self.header.len() + self.payload.len() + size_of::<Self>()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Outputs that wait. Those before the last commit may be taken.
#[derive(Debug, Default)]
pub(crate) struct Out {
    queue: VecDeque<Output>,
    /// How many of them are committed.
    ready: usize,
    bytes: usize,
    /// Among those that aren't is one that says that something is on the disk.
    promises: bool,
    complaints: Vec<String>,
    /// Room for short texts.
    text: BytesMut,
}

/// Bytes that short texts get at a time.
const TEXT_BYTES: usize = 4096;

/// Lines for the log that wait at most.
const COMPLAINTS_MAX: usize = 32;

/// Deliveries stop with this many bytes in the queue, until the driver has taken some.
const OUT_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Out {
    pub(crate) fn push(&mut self, output: Output) {
        if let Output::Publish(publish) = &output {
            self.bytes += publish.len();
        }
        self.queue.push_back(output);
    }

    /// A short text of its parts. Many share one allocation.
    pub(crate) fn text(&mut self, parts: &[&[u8]]) -> Bytes {
        let len = parts.iter().map(|part| part.len()).sum();
        if self.text.capacity() < len {
            self.text = BytesMut::with_capacity(TEXT_BYTES.max(len));
        }
        parts.iter().for_each(|part| self.text.extend_from_slice(part));
        self.text.split().freeze()
    }

    /// What is said next rests on everything that was done so far.
    pub(crate) fn promise(&mut self) {
        self.promises = true;
    }

    pub(crate) fn promises(&self) -> bool {
        self.promises
    }

    /// Something for the log.
    pub(crate) fn complain(&mut self, text: String) {
        if self.complaints.len() < COMPLAINTS_MAX && !self.complaints.contains(&text) {
            self.complaints.push(text);
        }
    }

    pub(crate) fn take_complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= OUT_BYTES_MAX
    }

    pub(crate) fn commit(&mut self) {
        self.ready = self.queue.len();
        self.promises = false;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// All that waits may be taken, though nothing was committed: it promises nothing.
    pub(crate) fn let_out(&mut self) {
        self.ready = self.queue.len();
    }

    /// Drops what was not committed, but for subscriptions, which are of now. What promised that something was done becomes
    /// what `instead` makes of it.
    pub(crate) fn revoke(&mut self, instead: impl Fn(&[u8]) -> Vec<u8>) {
        self.promises = false;
        let revoked = self.queue.split_off(self.ready);
        for output in revoked {
            let Output::Publish(publish) = output else {
                self.queue.push_back(output);
                continue;
            };
            self.bytes -= publish.len();
            if publish.promise == Promise::Answer {
                let payload = instead(&publish.payload).into();
                let (promise, header) = (Promise::Nothing, Bytes::new());
                self.push(Output::Publish(Publish { payload, promise, header, ..publish }));
            }
        }
    }

    /// Drops that a consumer took acknowledgements in, as far as it was not committed.
    pub(crate) fn revoke_acks(&mut self, consumer: u32) {
        let later = self.queue.split_off(self.ready);
        for output in later {
            match output {
                Output::Publish(publish) if publish.promise == Promise::Acked(consumer) => {
                    self.bytes -= publish.len();
                }
                other => self.queue.push_back(other),
            }
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.ready = self.ready.checked_sub(1)?;
        let output = self.queue.pop_front()?;
        if let Output::Publish(publish) = &output {
            self.bytes -= publish.len();
        }
        if self.queue.is_empty() && self.queue.capacity() > 4096 {
            self.queue = VecDeque::new();
        }
        Some(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_what_they_are_of() {
        for (at, what) in WHATS.iter().enumerate() {
            assert_eq!(*what as usize, at);
            let tag = Tag::new(*what, 7, 9);
            assert_eq!(Tag::from_bits(tag.to_bits()).split(), Some((*what, 7, 9)));
        }
        assert_eq!(Tag::from_bits(u64::MAX).split(), None);
    }

    #[test]
    fn nothing_comes_out_before_it_is_committed() {
        let mut out = Out::default();
        let publish = Publish { payload: Bytes::from_static(b"x"), ..Publish::default() };
        out.push(Output::Publish(publish.clone()));
        assert_eq!(out.pop(), None);
        out.commit();
        out.push(Output::Publish(publish.clone()));
        assert_eq!(out.pop(), Some(Output::Publish(publish)));
        assert_eq!(out.pop(), None);
        out.revoke(|_| Vec::new());
        out.commit();
        assert_eq!((out.pop(), out.bytes), (None, 0));
    }

    #[test]
    fn who_was_promised_something_is_told_that_it_failed() {
        let mut out = Out::default();
        let publish = |payload: &'static [u8], promise| {
            Output::Publish(Publish { payload: Bytes::from_static(payload), promise, ..Publish::default() })
        };
        out.push(publish(b"before", Promise::Answer));
        out.commit();
        out.push(publish(b"stored", Promise::Answer));
        out.push(publish(b"acked", Promise::Acked(7)));
        out.push(publish(b"acked", Promise::Acked(8)));
        out.push(publish(b"a message", Promise::Nothing));
        out.revoke_acks(7);
        assert_eq!(out.queue.len(), 4);
        out.revoke(|payload| [payload, b", not"].concat());
        out.commit();
        assert_eq!(out.pop(), Some(publish(b"before", Promise::Answer)));
        assert_eq!(out.pop(), Some(publish(b"stored, not", Promise::Nothing)));
        assert_eq!((out.pop(), out.bytes), (None, 0));
    }
}
