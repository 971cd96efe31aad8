//! A client connection's task: reads, lets its session work, waits for the socket when it must.
//!
//! An idle connection holds no buffer: input is read into a buffer of the thread's, and only what ends in the middle
//! of an operation is kept. A large message is read straight into memory of its own, which grows with what has come:
//! whoever announces much and sends little holds little.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use midge_broker::{Answer, Attention, CloseReason, Level, Next, Peer, Port, Question, Session, Stall};
use midge_wire::{Accepted, Handle, Layer, Lifted, Reader};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use super::habit::{Habit, Streams};
use super::tls;
use crate::callout::Courier;
use crate::hub::{Brought, Hub};
use crate::workers::Seat;

/// Input is read in pieces of this many bytes. Larger pieces mean fewer and longer writes to each subscriber: against
/// 64 KiB, fan-out to ten costs a third less. The buffer is each thread's, and only what was used of it is resident.
const READ_BYTES: usize = 256 * 1024;
/// What has come of a message that is larger than that before it gets memory of its own.
const LARGE_BEGIN: usize = 16 * 1024;
/// After a read of so many bytes a connection lets others have their turn.
const BULK: usize = 64 * 1024;
/// After the last word, a peer may go on talking for this long, so that it gets to read why.
const LINGER: Duration = Duration::from_millis(250);
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

thread_local! {
    static INPUT: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// A connection that was accepted, and all that its task needs.
pub(crate) struct Arrival {
    pub(crate) hub: Arc<Hub>,
    pub(crate) socket: Accepted,
    pub(crate) peer: Peer,
    pub(crate) tls: Option<tls::Offer>,
    pub(crate) seat: Seat,
}

/// Runs a connection over a socket whose other end is in this process, for a `peer` who is elsewhere.
pub(crate) async fn run_local(hub: Arc<Hub>, socket: std::os::unix::net::UnixStream, peer: Peer, seat: Seat) {
    run(Box::new(Arrival { hub, socket: Accepted::Unix(socket), peer, tls: None, seat })).await;
}

/// Runs a connection from its first byte to its last.
pub(crate) async fn run(arrival: Box<Arrival>) {
    // Beginning and end are large and short: their futures aren't part of what an idle connection holds.
    let Some((mut task, secured)) = Box::pin(begin(arrival)).await else { return };
    let served = if secured { task.serve().await } else { Served::Over(CloseReason::TlsHandshake) };
    Box::pin(task.leave(served)).await;
}

/// Runs a connection on from where another thread left it.
fn run_on(mut task: Task) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        poll_fn(|context| task.handle.poll_writable(context)).await;
        let served = task.serve().await;
        task.leave(served).await;
    })
}

/// A connection that this server made to a hub.
#[cfg(feature = "leafnode")]
pub(crate) struct Joining {
    pub(crate) hub: Arc<Hub>,
    pub(crate) socket: Accepted,
    pub(crate) peer: Peer,
    pub(crate) uplink: midge_broker::Uplink,
    /// What the hub has said so far.
    pub(crate) first: BytesMut,
    pub(crate) seat: Seat,
}

/// Runs a connection to a hub to its end, or until `leaving` is ready.
#[cfg(feature = "leafnode")]
pub(crate) async fn run_uplink(
    joining: Joining,
    leaving: impl Future<Output = ()>,
) -> io::Result<midge_broker::Parting> {
    let Joining { hub, socket, peer, uplink, first, seat } = joining;
    let life = hub.life();
    let (handle, reader) = Handle::open(socket, None)?;
    poll_fn(|context| handle.poll_writable(context)).await;
    let (session, _) = hub.turn(|broker, now| broker.join(handle.clone(), peer, uplink, now));
    let id = session.id();
    let mut task = Task::new(Arc::clone(&hub), (handle, reader), session, life, seat);
    task.partial = first;
    // The whole node behind it is never made to wait for a disk.
    task.habit = None;
    let served = {
        let mut served = pin!(task.serve());
        tokio::select! {
            it = &mut served => it,
            () = leaving => {
                hub.turn(|broker, now| broker.leave(id, now));
                served.await
            }
        }
    };
    let parting = hub.look(|broker, _| broker.parting(id));
    Box::pin(task.leave(served)).await;
    Ok(parting)
}

/// Brings a connection to where its session can begin, unless the second value is false: then it is to end. `None`: it
/// never was.
async fn begin(arrival: Box<Arrival>) -> Option<(Task, bool)> {
    let Arrival { hub, socket, peer, tls, seat } = *arrival;
    let life = hub.life();
    let (handle, reader) = match Handle::open(socket, tls.as_ref().map(|_| Layer::default())) {
        Ok(opened) => opened,
        Err(error) => {
            hub.log.error(format_args!("{peer} - the socket can't be watched: {error}"));
            return None;
        }
    };
    // The event loop must have seen that the socket can be written before anybody tries to.
    poll_fn(|context| handle.poll_writable(context)).await;
    let (session, _) = hub.turn(|broker, now| {
        let id = match &tls {
            None => broker.attach(handle.clone(), peer, now),
            Some(tls) => broker.arrive(handle.clone(), peer, tls.acceptor.greets(), now),
        };
        Session::new(broker, id)
    });
    let mut task = Task::new(hub, (handle, reader), session, life, seat);
    let secured = match tls {
        Some(tls) => tls::establish(&task.hub, tls, &task.handle, &mut task.reader, task.session.id()).await,
        None => true,
    };
    Some((task, secured))
}

pub(super) struct Task {
    hub: Arc<Hub>,
    handle: Handle,
    reader: Reader,
    session: Session,
    /// Input that ends in the middle of an operation.
    partial: BytesMut,
    /// Bytes that `partial` needs to hold before the session can go on.
    need: usize,
    /// Boxed, since hardly anybody waits.
    waits: Option<Box<Waits>>,
    /// None for who stays on the thread that it is on.
    habit: Option<Habit>,
    life: Option<OwnedSemaphorePermit>,
    _seat: Seat,
}

/// How it ended that a connection was served on a thread.
pub(super) enum Served {
    /// With the connection.
    Over(CloseReason),
    /// It goes on on the thread where this is its place.
    Elsewhere(Seat),
}

/// Why the task was woken.
enum Event {
    /// The session worked on input.
    Worked(Work),
    /// The socket takes output again.
    Writable,
    /// The broker closed the connection.
    Closing,
    /// There is output, and no room for it in the socket.
    Blocked,
    /// The peer is gone.
    Gone(CloseReason),
}

/// What the task waits for besides the socket and the broker.
#[derive(Clone, Copy, Default)]
struct Waits {
    /// Set while the socket takes nothing: the peer must make room by then.
    blocked: Option<Instant>,
    /// Set while the user has published as much as it may: nothing is read until then.
    paused: Option<Instant>,
}

impl Waits {
    /// What comes first.
    fn first(&self) -> Option<Instant> {
        self.blocked.into_iter().chain(self.paused).min()
    }
}

enum Work {
    Read {
        stall: Option<Box<Stall<Handle>>>,
    },
    /// Another thread should serve the connection.
    Move,
    Yield {
        stall: Option<Box<Stall<Handle>>>,
    },
    /// Nothing is read before this time.
    Pause(Instant),
    Ask(Box<Question>),
}

impl Task {
    /// A connection whose session begins.
    pub(super) fn new(
        hub: Arc<Hub>,
        (handle, reader): (Handle, Reader),
        session: Session,
        life: Option<OwnedSemaphorePermit>,
        seat: Seat,
    ) -> Self {
        let partial = BytesMut::new();
        let habit = Some(Habit::default());
        Self { hub, handle, reader, session, partial, need: 1, waits: None, habit, life, _seat: seat }
    }

    fn waits(&mut self) -> &mut Waits {
        self.waits.get_or_insert_default()
    }

    pub(super) async fn serve(&mut self) -> Served {
        loop {
            let event = match self.waits.as_deref().and_then(Waits::first) {
                None => poll_fn(|context| self.poll_event(context)).await,
                Some(until) => {
                    let event = poll_fn(|context| self.poll_event(context));
                    match Box::pin(timeout_at(until, event)).await {
                        Ok(event) => event,
                        Err(_) if self.waits().blocked == Some(until) => {
                            return Served::Over(self.too_slow());
                        }
                        Err(_) => {
                            self.waits().paused = None;
                            continue;
                        }
                    }
                }
            };
            let stall = match event {
                Event::Closing => return Served::Over(CloseReason::ClientClosed),
                Event::Gone(reason) => return Served::Over(reason),
                Event::Blocked => {
                    let allowed = self.hub.look(|broker, _| broker.settings().write_deadline);
                    let until = self.hub.clock.at(self.hub.clock.now().mono + allowed);
                    self.waits().blocked.get_or_insert(until);
                    continue;
                }
                Event::Writable => {
                    if self.handle.write_unblocked() {
                        self.waits = self.waits.take().filter(|waits| waits.paused.is_some());
                        self.waits.iter_mut().for_each(|waits| waits.blocked = None);
                    }
                    if self.handle.is_broken() {
                        return Served::Over(CloseReason::WriteError);
                    }
                    continue;
                }
                Event::Worked(Work::Ask(question)) => {
                    Box::pin(self.find_out(*question)).await;
                    continue;
                }
                Event::Worked(Work::Pause(until)) => {
                    self.waits().paused = Some(until);
                    continue;
                }
                Event::Worked(Work::Yield { stall }) => {
                    tokio::task::yield_now().await;
                    stall
                }
                Event::Worked(Work::Read { stall }) => stall,
                Event::Worked(Work::Move) => match self.other_seat() {
                    Some(seat) => return Served::Elsewhere(seat),
                    None => continue,
                },
            };
            if let Some(stall) = stall {
                let drained = poll_fn(|context| stall.port.outbox().poll_below(stall.below, context));
                // Either way the publisher goes on.
                let _ = Box::pin(timeout(stall.longest, drained)).await;
            }
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let waits = self.waits.as_deref().copied().unwrap_or_default();
        match self.handle.outbox().poll_attention(context) {
            Attention::Close => return Poll::Ready(Event::Closing),
            Attention::Blocked if self.handle.is_broken() => {
                return Poll::Ready(Event::Gone(CloseReason::WriteError));
            }
            Attention::Blocked if waits.blocked.is_none() => return Poll::Ready(Event::Blocked),
            Attention::Blocked => {
                if self.handle.poll_writable(context).is_ready() {
                    return Poll::Ready(Event::Writable);
                }
            }
            Attention::None => {}
        }
        if waits.paused.is_some() {
            return Poll::Pending;
        }
        // What a long turn left over comes before new input.
        if self.partial.len() >= self.need {
            return Poll::Ready(Event::Worked(self.work_on_partial()));
        }
        self.poll_read(context)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if self.need > READ_BYTES && self.partial.len() >= LARGE_BEGIN {
            return self.poll_read_large(context);
        }
        INPUT.with_borrow_mut(|input| {
            let kept = self.partial.len();
            let mut buffer = ReadBuf::new(input);
            buffer.put_slice(&self.partial);
            match Pin::new(&mut self.reader).poll_read(context, &mut buffer) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => Poll::Ready(Event::Gone(self.gone(&error))),
                Poll::Ready(Ok(())) if buffer.filled().len() == kept => {
                    Poll::Ready(Event::Gone(CloseReason::ClientClosed))
                }
                Poll::Ready(Ok(())) => {
                    let filled = buffer.filled();
                    if filled.len() < self.need {
                        self.keep(filled);
                        return Poll::Ready(Event::Worked(Work::Read { stall: None }));
                    }
                    let (work, used) = self.work(filled);
                    self.keep(filled.get(used..).unwrap_or_default());
                    Poll::Ready(Event::Worked(match work {
                        // There may be as much again: the others, and what they are owed, come first.
                        Work::Read { stall } if filled.len() >= BULK => Work::Yield { stall },
                        work => work,
                    }))
                }
            }
        })
    }

    /// Reads on into the memory of a large message.
    fn poll_read_large(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let missing = self.need - self.partial.len();
        // As much again as has come.
        self.partial.reserve(missing.min(self.partial.len().max(LARGE_BEGIN)));
        let read = pin!(self.reader.read_buf(&mut self.partial)).as_mut().poll(context);
        match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Event::Gone(self.gone(&error))),
            Poll::Ready(Ok(0)) => Poll::Ready(Event::Gone(CloseReason::ClientClosed)),
            Poll::Ready(Ok(_)) if self.partial.len() < self.need => {
                Poll::Ready(Event::Worked(Work::Read { stall: None }))
            }
            Poll::Ready(Ok(_)) => Poll::Ready(Event::Worked(self.work_on_partial())),
        }
    }

    fn work_on_partial(&mut self) -> Work {
        let mut input = std::mem::take(&mut self.partial);
        let (work, used) = self.work(&input);
        match work {
            // The rest is wanted again at once, and may be large: it stays where it is.
            Work::Yield { .. } | Work::Pause(_) => {
                input.advance(used);
                self.partial = input;
            }
            _ => self.keep(input.get(used..).unwrap_or_default()),
        }
        work
    }

    /// Gives `input` to the session. Says how much of it is done with; the rest is the caller's to keep.
    fn work(&mut self, input: &[u8]) -> (Work, usize) {
        let session = &mut self.session;
        let (received, stall, brought) =
            self.hub.turn_and_tell(|broker, now| midge_wire::receive(session, broker, now, input));
        self.need = 1;
        let stall = stall.map(Box::new);
        let work = match received.next {
            Next::Read(need) => {
                self.need = need;
                let moves = self.should_move(brought, input.len());
                if moves && stall.is_none() && received.used == input.len() && self.waits.is_none() {
                    Work::Move
                } else {
                    Work::Read { stall }
                }
            }
            Next::Yield => Work::Yield { stall },
            Next::Pause(until) => Work::Pause(self.hub.clock.at(until)),
            Next::Ask(question) => Work::Ask(Box::new(question)),
            // The outbox says so too, once it is asked.
            Next::Close => return (Work::Read { stall: None }, input.len()),
        };
        (work, received.used)
    }

    /// Whether another thread should serve the connection, after a turn on so many bytes.
    fn should_move(&mut self, brought: Brought, bytes: usize) -> bool {
        let (Some(habit), Some(sleeper)) = (&mut self.habit, self.hub.sleeper()) else { return false };
        let quick = sleeper.quick.load(Ordering::Relaxed);
        habit.note(brought, bytes, Streams { quick, residents: sleeper.worker.load() })
    }

    /// A place on the thread that should serve the connection.
    fn other_seat(&self) -> Option<Seat> {
        match self.habit?.has_moved() {
            true => self.hub.workers.seat(),
            false => Some(self.hub.sleeper()?.worker.seat()),
        }
    }

    fn keep(&mut self, rest: &[u8]) {
        self.partial.clear();
        if rest.is_empty() {
            // Idle connections hold nothing.
            self.partial = BytesMut::new();
        } else {
            self.partial.extend_from_slice(rest);
        }
    }

    /// Answers what the session asks, beside the event loop.
    async fn find_out(&mut self, question: Question) {
        let mut next = Some(question);
        while let Some(question) = next {
            let (question, answer) = match question {
                Question::Callout(callout) => Courier::ask(&self.hub, callout).await,
                Question::Account { key } if self.hub.outside.accounts.web.is_some() => {
                    let web = self.hub.outside.accounts.web.clone();
                    let found = match web {
                        Some(web) => web.find(&key, &self.hub.log).await,
                        None => Vec::new(),
                    };
                    (Question::Account { key }, Answer::Accounts(found))
                }
                question => {
                    let outside = Arc::clone(&self.hub.outside);
                    let work = tokio::task::spawn_blocking(move || {
                        let answer = question.answer(&*outside);
                        (question, answer)
                    });
                    // Fails only if the runtime is going, and the connection with it.
                    let Ok(answered) = work.await else { return };
                    answered
                }
            };
            let session = &mut self.session;
            (next, _) = self.hub.turn(|broker, now| session.answered(broker, question, answer, now));
        }
    }

    #[cold]
    fn gone(&self, error: &io::Error) -> CloseReason {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => CloseReason::ClientClosed,
            // It broke a rule of what lies below.
            io::ErrorKind::InvalidData => {
                let id = self.session.id();
                self.hub
                    .turn(|broker, _| broker.remark(id, Level::Error, format_args!("read error: {error}")));
                CloseReason::ReadError
            }
            _ => CloseReason::ReadError,
        }
    }

    fn too_slow(&self) -> CloseReason {
        let id = self.session.id();
        self.hub.turn(|broker, now| broker.too_slow(id, now));
        CloseReason::SlowConsumerDeadline
    }

    /// Ends the connection, or has another thread go on with it.
    pub(super) async fn leave(self, served: Served) {
        match served {
            Served::Over(reason) => self.end(reason).await,
            Served::Elsewhere(seat) => {
                let Self { hub, handle, reader, session, mut habit, life, .. } = self;
                habit.iter_mut().for_each(Habit::turn_over);
                let runtime = seat.runtime();
                let lifted = handle.lift(reader);
                runtime.spawn(async move {
                    match lifted.and_then(Lifted::land) {
                        Ok(reader) => {
                            let task = Task::new(hub, (handle, reader), session, life, seat);
                            run_on(Task { habit, ..task }).await;
                        }
                        Err(error) => {
                            let id = session.id();
                            hub.log.error(format_args!("a connection can't be watched: {error}"));
                            hub.turn(|broker, now| broker.detach(id, CloseReason::ReadError, now));
                        }
                    }
                });
            }
        }
    }

    /// Leaves the broker, says the last words, closes the socket.
    async fn end(mut self, reason: CloseReason) {
        let id = self.session.id();
        let (reason, _) = self.hub.turn(|broker, now| broker.detach(id, reason, now));
        if !self.handle.outbox().flushes_on_close() || self.handle.is_broken() {
            return;
        }
        let said = async {
            while !self.handle.write_unblocked() && !self.handle.is_broken() {
                poll_fn(|context| self.handle.poll_writable(context)).await;
            }
        };
        let _ = timeout(LAST_WORDS, said).await;
        self.handle.shut_down(reason);
        // Closing with unread input makes the kernel drop what the peer has not read yet: read on for a moment.
        let rest = async {
            let mut sink = [0; 1024];
            while self.reader.read(&mut sink).await.is_ok_and(|n| n > 0) {}
        };
        let _ = timeout(LINGER, rest).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task_bytes<F: Future>(_: fn(Box<Arrival>) -> F) -> usize {
        size_of::<F>()
    }

    /// It is most of what an idle connection holds: another local that lives across the wait for input is felt ten
    /// thousand times.
    #[test]
    fn the_task_of_a_connection_is_small() {
        assert!(task_bytes(run) <= 240, "{} bytes", task_bytes(run));
    }
}
