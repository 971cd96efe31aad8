//! What a connection is still owed: a queue of bytes with a ceiling.
//!
//! Two stages. While the broker is locked, deliveries are appended to the connection's [`Stage`], which costs no
//! lock of its own. [`crate::Broker::flush`] then moves the stage into the [`Outbox`], which the connection's driver
//! empties, one writer at a time, in order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use midge_protocol::emit::Sink;

/// Messages larger than this are shared by the outboxes that they go to, smaller ones are copied.
pub(crate) const SHARE_MIN: usize = 4096;

/// A tail starts with no more room than this, however long the last one was.
const HINT_MAX: usize = 64 * 1024;

/// Buffers up to this size may wait as they are: what comes next goes into them.
const PACKED_MIN: usize = 1024;

/// A piece of output.
#[derive(Debug)]
pub enum Chunk {
    /// Written for this connection.
    Own(Vec<u8>),
    /// A large body that other connections are owed too.
    Shared(Bytes),
}

impl AsRef<[u8]> for Chunk {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

thread_local! {
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare { buffers: Vec::new(), lists: Vec::new() }) };
}

/// Buffers that were written and wait for the next output, so that a warm turn allocates nothing. They belong to the
/// thread: a connection that is owed nothing holds nothing.
struct Spare {
    buffers: Vec<Vec<u8>>,
    lists: Vec<VecDeque<Chunk>>,
}

impl Spare {
    /// Of each kind.
    const MAX: usize = 16;
    /// Bytes of a buffer, entries of a list. With them a thread keeps 640 KiB at most.
    const BUFFER_MAX: usize = 32 * 1024;
    const LIST_MAX: usize = 256;

    /// An empty buffer with room for `length` bytes.
    #[cold] // Once for each connection and turn; what asks for it is on the way of every message.
    #[inline]
    fn buffer(length: usize) -> Vec<u8> {
        match SPARE.with_borrow_mut(|spare| spare.buffers.pop()) {
            Some(buffer) if buffer.capacity() >= length => buffer,
            // To let it grow would copy what it held.
            _ => Vec::with_capacity(length),
        }
    }

    #[inline]
    fn list() -> VecDeque<Chunk> {
        SPARE.with_borrow_mut(|spare| spare.lists.pop()).unwrap_or_default()
    }

    #[inline]
    fn keep_buffer(mut buffer: Vec<u8>) {
        if (1..=Self::BUFFER_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            SPARE.with_borrow_mut(|spare| {
                if spare.buffers.len() < Self::MAX {
                    spare.buffers.push(buffer);
                }
            });
        }
    }

    /// Keeps an empty list.
    #[inline]
    fn keep_list(list: VecDeque<Chunk>) {
        if (1..=Self::LIST_MAX).contains(&list.capacity()) {
            SPARE.with_borrow_mut(|spare| {
                if spare.lists.len() < Self::MAX {
                    spare.lists.push(list);
                }
            });
        }
    }
}

/// Output gathered while the broker is locked.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    chunks: Vec<Chunk>,
    tail: Vec<u8>,
    chunk_bytes: usize,
    /// What the tail grew to last time, so that the next one grows in one step.
    hint: u32,
}

impl Stage {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.chunk_bytes + self.tail.len()
    }

    #[cold] // As above.
    #[inline]
    pub(crate) fn share(&mut self, body: Bytes) {
        self.chunk_bytes += self.tail.len() + body.len();
        if !self.tail.is_empty() {
            // A head is short, and the buffer that it stands in of more use for what comes next.
            self.chunks.push(Chunk::Shared(Bytes::copy_from_slice(&self.tail)));
            self.tail.clear();
        }
        self.chunks.push(Chunk::Shared(body));
    }

    #[inline]
    fn take_tail(&mut self) -> Vec<u8> {
        self.hint = u32::try_from(self.tail.len().min(HINT_MAX)).unwrap_or(0);
        std::mem::take(&mut self.tail)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Sink for Stage {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if self.tail.capacity() == 0 {
            self.tail = Spare::buffer((self.hint as usize).max(bytes.len()).max(64));
        }
        self.tail.extend_from_slice(bytes);
    }
}

/// A connection's queue of output. Its lock is a leaf: nothing else is ever locked while it is held.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    /// Bytes queued, the batch that is being written included.
    pending: usize,
    /// Somebody has taken a batch and hasn't come back.
    writing: bool,
    /// The socket took no more; only the connection's own task goes on when it does.
    blocked: bool,
    closing: Option<Closing>,
    /// The connection's task.
    task: Option<Waker>,
    /// Producers that wait until this gets shorter.
    stalled: Vec<Waker>,
}

impl Queue {
    /// Appends a buffer, which may have far more room than it needs. One that has to wait is packed, so that a queue
    /// takes little more memory than the bytes that it is allowed.
    #[inline]
    fn pack(&mut self, buffer: Vec<u8>) {
        let waits = self.writing || !self.chunks.is_empty();
        let buffer = match self.chunks.back_mut() {
            _ if buffer.is_empty() => return Spare::keep_buffer(buffer),
            Some(Chunk::Own(last)) if last.capacity() - last.len() >= buffer.len() => {
                last.extend_from_slice(&buffer);
                return Spare::keep_buffer(buffer);
            }
            _ if waits && buffer.capacity() > PACKED_MIN.max(2 * buffer.len()) => {
                let packed = buffer.as_slice().to_vec();
                Spare::keep_buffer(buffer);
                packed
            }
            _ => buffer,
        };
        self.chunks.push_back(Chunk::Own(buffer));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    Flush,
    Now,
}

/// Why a connection's task should act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Nothing to do.
    None,
    /// There is output that must wait for the socket.
    Blocked,
    /// Write what is left, then close.
    Close,
}

/// Chunks on their way to the socket.
#[derive(Debug)]
pub struct Batch {
    /// In order. The writer removes what it has written.
    pub chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are written already.
    pub offset: usize,
}

impl Batch {
    /// Notes that `n` bytes were written.
    #[inline]
    pub fn advance(&mut self, mut n: usize) {
        while let Some(first) = self.chunks.front() {
            let left = first.as_ref().len() - self.offset;
            if n < left {
                self.offset += n;
                return;
            }
            n -= left;
            self.offset = 0;
            if let Some(Chunk::Own(buffer)) = self.chunks.pop_front() {
                Spare::keep_buffer(buffer);
            }
        }
    }

    /// True if all is written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The bytes that are left, chunk by chunk.
    #[inline]
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.offset;
        self.chunks.iter().map(move |chunk| &chunk.as_ref()[std::mem::take(&mut skip)..])
    }
}

impl Outbox {
    /// Bytes queued and not yet written.
    pub fn pending(&self) -> usize {
        self.lock().pending
    }

    /// Moves the stage behind what is queued. Returns the bytes that are now pending.
    #[inline]
    pub(crate) fn push(&self, stage: &mut Stage) -> usize {
        let staged = stage.len();
        let mut queue = self.lock();
        if queue.chunks.capacity() == 0 {
            queue.chunks = Spare::list();
        }
        if queue.closing == Some(Closing::Now) {
            drop(queue);
            stage.clear();
            return 0;
        }
        queue.chunks.extend(stage.chunks.drain(..));
        queue.pack(stage.take_tail());
        queue.pending += staged;
        let pending = queue.pending;
        drop(queue);
        stage.chunk_bytes = 0;
        pending
    }

    /// No more output; the task closes the connection, after what is queued if `flush`.
    pub(crate) fn close(&self, flush: bool) {
        let mut queue = self.lock();
        queue.closing = Some(if flush { Closing::Flush } else { Closing::Now });
        let task = queue.task.take();
        let stalled = std::mem::take(&mut queue.stalled);
        drop(queue);
        task.into_iter().chain(stalled).for_each(Waker::wake);
    }

    /// Takes all that is queued, unless somebody else is writing, the socket is known to be full, or there is nothing.
    #[inline]
    pub fn take(&self) -> Option<Batch> {
        let mut queue = self.lock();
        if queue.blocked { None } else { Self::take_from(&mut queue) }
    }

    /// As [`Outbox::take`], for the connection's own task when the socket can be written again.
    #[inline]
    pub fn take_unblocked(&self) -> Option<Batch> {
        let mut queue = self.lock();
        queue.blocked = false;
        Self::take_from(&mut queue)
    }

    #[inline]
    fn take_from(queue: &mut Queue) -> Option<Batch> {
        if queue.writing || queue.chunks.is_empty() || queue.closing == Some(Closing::Now) {
            return None;
        }
        queue.writing = true;
        Some(Batch { chunks: std::mem::take(&mut queue.chunks), offset: 0 })
    }

    /// Ends a write of `written` bytes. What is left of the batch goes back to the front and the connection's task is
    /// told to wait for the socket. True if more was queued meanwhile: take again.
    #[inline]
    pub fn put_back(&self, mut batch: Batch, written: usize) -> bool {
        if batch.offset > 0 {
            let offset = batch.offset;
            if let Some(first) = batch.chunks.front_mut() {
                let rest = match first {
                    Chunk::Own(bytes) => Bytes::from(std::mem::take(bytes)).slice(offset..),
                    Chunk::Shared(bytes) => bytes.slice(offset..),
                };
                *first = Chunk::Shared(rest);
            }
        }
        let mut queue = self.lock();
        queue.writing = false;
        queue.pending = queue.pending.saturating_sub(written);
        let mut wake = None;
        if batch.chunks.is_empty() {
            Spare::keep_list(batch.chunks);
        } else {
            while let Some(chunk) = batch.chunks.pop_back() {
                queue.chunks.push_front(chunk);
            }
            queue.blocked = true;
            wake = queue.task.take();
        }
        let stalled = if written > 0 { std::mem::take(&mut queue.stalled) } else { Vec::new() };
        let more = !queue.chunks.is_empty() && !queue.blocked;
        drop(queue);
        wake.into_iter().chain(stalled).for_each(Waker::wake);
        more
    }

    /// What the connection's task should do; it is woken when the answer changes.
    #[inline]
    pub fn poll_attention(&self, context: &Context<'_>) -> Attention {
        let mut queue = self.lock();
        if queue.closing.is_some() {
            return Attention::Close;
        }
        match &mut queue.task {
            Some(task) => task.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        if queue.blocked { Attention::Blocked } else { Attention::None }
    }

    /// Ready once fewer than `max` bytes are pending, or the connection is closing.
    #[inline]
    pub fn poll_below(&self, max: usize, context: &Context<'_>) -> Poll<()> {
        let mut queue = self.lock();
        if queue.pending < max || queue.closing.is_some() {
            return Poll::Ready(());
        }
        if !queue.stalled.iter().any(|waker| waker.will_wake(context.waker())) {
            queue.stalled.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// True if what is queued should still be written before the connection closes.
    pub fn flushes_on_close(&self) -> bool {
        self.lock().closing != Some(Closing::Now)
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every state between two statements in here is a valid queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(outbox: &Outbox, bytes: &[u8]) -> usize {
        let mut stage = Stage::default();
        stage.put(bytes);
        outbox.push(&mut stage)
    }

    fn text(batch: &Batch) -> Vec<u8> {
        batch.slices().flatten().copied().collect()
    }

    #[test]
    fn order_survives_partial_writes() {
        let outbox = Outbox::default();
        staged(&outbox, b"hello ");
        assert_eq!(staged(&outbox, b"big "), 10);
        let mut batch = outbox.take().unwrap();
        assert!(outbox.take().is_none(), "one writer at a time");
        batch.advance(2);
        assert_eq!(staged(&outbox, b"world"), 15);
        assert!(!outbox.put_back(batch, 2), "blocked: its task goes on");
        assert!(outbox.take().is_none());
        let mut batch = outbox.take_unblocked().unwrap();
        assert_eq!(text(&batch), b"llo big world");
        batch.advance(13);
        assert!(batch.is_empty());
        assert!(!outbox.put_back(batch, 13));
        assert_eq!(outbox.pending(), 0);
    }

    #[test]
    fn large_bodies_keep_their_place() {
        let mut stage = Stage::default();
        stage.put(b"a");
        stage.share(Bytes::from_static(b"BIG"));
        stage.put(b"b");
        assert_eq!(stage.len(), 5);
        let outbox = Outbox::default();
        outbox.push(&mut stage);
        assert_eq!(text(&outbox.take().unwrap()), b"aBIGb");
        assert_eq!(stage.len(), 0);
    }

    #[test]
    fn closing_now_drops_what_is_queued() {
        let outbox = Outbox::default();
        staged(&outbox, b"x");
        outbox.close(false);
        assert!(outbox.take().is_none());
        assert_eq!(staged(&outbox, b"y"), 0);
    }
}
