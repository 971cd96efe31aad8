//! The threads that serve connections: one event loop each, and each connection stays on the one it came to.
//!
//! A connection's task never moves, so waking it costs no other thread anything, and what one round of an event loop
//! brought is written together (`server/wire`). The main thread is one of them. There is one for every two cores: a
//! second thread on two cores made requests cost a third more and nothing faster, for its rounds bring half as much, and
//! the kernel's half of the work, which is the larger one, runs on all cores anyway.

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
pub(crate) struct Workers(Arc<[Worker]>);

struct Worker {
    handle: Handle,
    /// Connections on it.
    load: Arc<AtomicUsize>,
}

/// An event loop for the calling thread.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().enable_time().max_blocking_threads(HELPERS_MAX).build()
}

impl Workers {
    /// Makes the calling thread, whose event loop must be running, the first of them and starts the others.
    pub(crate) fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut workers = vec![Worker { handle: Handle::current(), load: Arc::default() }];
        tokio::spawn(midge_wire::run_flusher());
        for number in 1..(cores / 2).min(WORKERS_MAX) {
            let runtime = runtime()?;
            workers.push(Worker { handle: runtime.handle().clone(), load: Arc::default() });
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
        let load = |worker: &&Worker| worker.load.load(Ordering::Relaxed);
        let Some(worker) = self.0.iter().min_by_key(load) else { return };
        worker.handle.spawn(task(Seat::take(&worker.load)));
    }
}

/// A connection's place on its thread.
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }

    /// One more on the same thread.
    #[cfg(feature = "leafnode")]
    pub(crate) fn another(&self) -> Self {
        Self::take(&self.0)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
