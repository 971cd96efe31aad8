//! The threads that serve connections: one event loop each, and each connection is on one of them.
//!
//! What one round of an event loop brought is written together (`server/wire`), and waking a connection's task costs no
//! other thread anything. A connection moves only between them and the thread of the streams (`net/habit.rs`).
//!
//! The main thread is one of them. There is one for every two cores: a second thread on two cores made requests cost a third
//! more and nothing faster, for its rounds bring half as much, and the kernel's half of the work, which is the larger one,
//! runs on all cores anyway.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};

/// More threads than this only wait for each other.
const WORKERS_MAX: usize = 4;
/// Threads beside each event loop that hash passwords and check signatures. However many clients come at once, those who
/// are in need the processor, too.
const HELPERS_MAX: usize = 2;

/// The event loops. A clone shares them.
#[derive(Clone)]
pub(crate) struct Workers(Arc<[Arc<Worker>]>);

/// A thread with an event loop.
pub(crate) struct Worker {
    handle: Handle,
    /// Connections on it.
    load: AtomicUsize,
}

/// An event loop for the calling thread.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().enable_time().max_blocking_threads(HELPERS_MAX).build()
}

impl Workers {
    /// Makes the calling thread, whose event loop must be running, the first of them and starts the others.
    pub(crate) fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut workers = vec![Worker::new(Handle::current())];
        tokio::spawn(midge_wire::run_flusher());
        for number in 1..(cores / 2).min(WORKERS_MAX) {
            let runtime = runtime()?;
            workers.push(Worker::new(runtime.handle().clone()));
            runtime.spawn(midge_wire::run_flusher());
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            thread.spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        }
        Ok(Self(workers.into()))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Runs a connection's task on the thread that has the fewest, for as long as the task keeps its seat. What it opens
    /// belongs to that thread's event loop.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: impl FnOnce(Seat) -> F) {
        let Some(seat) = self.seat() else { return };
        Arc::clone(&seat.0).handle.spawn(task(seat));
    }

    /// A place on the thread that has the fewest.
    pub(crate) fn seat(&self) -> Option<Seat> {
        self.0.iter().min_by_key(|worker| worker.load()).map(Worker::seat)
    }
}

impl Worker {
    pub(crate) fn new(handle: Handle) -> Arc<Self> {
        Arc::new(Self { handle, load: AtomicUsize::new(0) })
    }

    /// Connections on it.
    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// A place on it.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        self.load.fetch_add(1, Ordering::Relaxed);
        Seat(Arc::clone(self))
    }
}

/// A connection's place on its thread.
pub(crate) struct Seat(Arc<Worker>);

impl Seat {
    /// One more on the same thread.
    #[cfg(feature = "leafnode")]
    pub(crate) fn another(&self) -> Self {
        self.0.seat()
    }

    /// The event loop that it is at.
    pub(crate) fn runtime(&self) -> Handle {
        self.0.handle.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}
