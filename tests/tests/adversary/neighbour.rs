//! A client that does nobody harm: it sends itself a message and waits for it, again and again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use midge_tests::peer::Peer;

pub(crate) struct Neighbour {
    peer: Peer,
    said: u64,
}

/// A neighbour that talks until it is stopped.
pub(crate) struct Busy {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Neighbour, P99)>,
}

/// The round trip that 99 of 100 do not exceed.
#[derive(Clone, Copy)]
pub(crate) struct P99 {
    time: Duration,
    of: usize,
}

impl fmt::Display for P99 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ms (of {})", self.time.as_secs_f64() * 1e3, self.of)
    }
}

impl P99 {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = (times.len() * 99 / 100).min(times.len().saturating_sub(1));
        Self { time: times.get(at).copied().unwrap_or_default(), of: times.len() }
    }
}

impl Neighbour {
    pub(crate) fn new(mut peer: Peer) -> Self {
        peer.send("SUB mine 1\r\n");
        peer.fence().expect("subscribed");
        Self { peer, said: 0 }
    }

    fn round_trip(&mut self) -> Duration {
        self.said += 1;
        let text = self.said.to_string();
        let start = Instant::now();
        self.peer.send(&format!("PUB mine {}\r\n{text}\r\n", text.len()));
        let head = self.peer.line().expect("a line in time").expect("still connected");
        assert!(head.starts_with("MSG mine 1 "), "{head}");
        let body = self.peer.line().expect("a line in time");
        assert_eq!(body, Some(text));
        start.elapsed()
    }

    pub(crate) fn talk(&mut self, times: usize) -> P99 {
        P99::of((0..times).map(|_| self.round_trip()).collect())
    }

    pub(crate) fn start(mut self) -> Busy {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut times = Vec::new();
            while !stopped.load(Ordering::Acquire) {
                times.push(self.round_trip());
                // It has other things to do, too.
                thread::park_timeout(Duration::from_millis(1));
            }
            (self, P99::of(times))
        });
        Busy { stop, thread }
    }
}

impl Busy {
    pub(crate) fn stop(self) -> (Neighbour, P99) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the neighbour was served all the time")
    }
}
