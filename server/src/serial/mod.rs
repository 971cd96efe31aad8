//! Serial lines: a task for each, which owns the device and connects what it says to a session.
//!
//! ```text
//!   device ──> Intake ──> whole operations ──> socket pair ──> a connection as any other (net/conn.rs)
//!   device <── Output <── what the session says <──'
//! ```
//!
//! A line has no beginning and no end that both sides see: a device may restart without the daemon noticing and the other
//! way round. So a session begins when the device is opened, when the device asks for one with `INFO {}`, and, after one
//! has ended, with the next operation.
//!
//! An idle line is a task that waits for three descriptors, and holds no buffer. One whose device isn't there waits for
//! inotify alone.

mod device;
mod intake;
mod output;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use midge_broker::Peer;
use midge_config::{Flow, Framing, Parity, SerialLine};
use midge_protocol::limits::Limits;
use midge_protocol::parse::{Step as Parsed, client_op};
use midge_protocol::time::Instant;
use serial2::SerialPort;
use smol_str::ToSmolStr;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::net::UnixStream;

use self::intake::{Heard, Intake};
use self::output::Output;
use crate::hub::Hub;
use crate::net::run_local;
use crate::watch::Watch;
use crate::workers::Workers;

/// Bytes that are read from a device or a session at once.
const READ_BYTES: usize = 4096;
/// The shortest time between the beginnings of two sessions.
const SESSION_EVERY: Duration = Duration::from_millis(100);
/// The wait before a device that can't be opened is tried again grows from this …
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// … to this.
const RETRY_LAST: Duration = Duration::from_secs(60);
/// A device that was open for less than this counts as one that can't be opened.
const OPEN_MIN: Duration = Duration::from_secs(1);
/// Noise is reported at once, and then no more often than this.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// What a session said may wait in the kernel for as long as the line takes to send it in so many seconds: the time that
/// makes a slow consumer begins after that.
const BACKLOG_SECONDS: usize = 5;

/// What the lines are told together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaving(Arc<AtomicBool>);

impl Leaving {
    /// No session begins from now on.
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Looks after a line. Never ends.
pub(crate) async fn run(line: SerialLine, hub: Arc<Hub>, workers: Workers, leaving: Leaving) {
    let name = line.name().into_owned();
    let mut retry = RETRY_FIRST;
    let mut said = String::new();
    loop {
        // Before the device is looked for, so that it can't come in between.
        let watch = Watch::new(&line.device);
        let began = hub.clock.now().mono;
        let (state, error) = match device::open(&line) {
            Err(error) => ("can't be opened", error),
            Ok(port) => {
                hub.log.info(format_args!("Serial line {name} is open: {}", Shape(&line)));
                said.clear();
                let error = Line::new(&line, &hub, &workers, &leaving).carry(&port).await;
                // What is still to be written would keep the close waiting.
                let _ = port.get_ref().discard_buffers();
                ("is lost", error)
            }
        };
        let absent = state != "is lost" && error.kind() == io::ErrorKind::NotFound;
        let text = match absent {
            true => format!("Serial line {name} is not there, waiting for it"),
            false => format!("Serial line {name} {state}: {error}"),
        };
        // Once, however often it is tried.
        if text != said {
            if absent {
                hub.log.info(&text)
            } else {
                hub.log.warn(&text)
            }
            said = text;
        }
        if hub.clock.now().mono.since(began) >= OPEN_MIN {
            retry = RETRY_FIRST;
        }
        match watch {
            Ok(watch) if absent => {
                let _ = watch.changed().await;
                retry = RETRY_FIRST;
            }
            Ok(watch) => {
                if tokio::time::timeout(retry, watch.changed()).await.is_err() {
                    retry = (retry * 2).min(RETRY_LAST);
                }
            }
            Err(_) => {
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_LAST);
            }
        }
    }
}

/// How a line is set up, for people.
struct Shape<'a>(&'a SerialLine);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SerialLine { baud, data_bits, parity, stop_bits, flow, rs485, framing, .. } = self.0;
        let parity = match parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        write!(f, "{baud} baud, {data_bits}{parity}{stop_bits}")?;
        f.write_str(match flow {
            Flow::None => "",
            Flow::RtsCts => ", RTS/CTS",
            Flow::XonXoff => ", XON/XOFF",
        })?;
        f.write_str(if *rs485 { ", RS-485" } else { "" })?;
        f.write_str(if *framing == Framing::Crc { ", frames with CRC" } else { "" })
    }
}

/// A line whose device is open.
struct Line<'a> {
    line: &'a SerialLine,
    hub: &'a Arc<Hub>,
    workers: &'a Workers,
    leaving: &'a Leaving,
    intake: Intake,
    output: Output,
    /// Our end of the pair whose other end is a connection.
    session: Option<UnixStream>,
    /// What was heard and isn't passed on.
    heard: VecDeque<Step>,
    /// What is to be written to the device; what of it is written.
    owed: (Vec<u8>, usize),
    /// When silence ends what was begun.
    gap: Option<Instant>,
    /// No session may begin before this.
    not_before: Option<Instant>,
    noise: Noise,
}

/// What is passed on to sessions, in order.
#[derive(Debug)]
enum Step {
    /// Whole operations, and how much of them the session has.
    Operations(Vec<u8>, usize),
    /// A new session begins.
    Hello,
}

/// The device can be read from or written to.
type Ready<'p> = AsyncFdReadyGuard<'p, SerialPort>;

enum Event<'p> {
    Readable(io::Result<Ready<'p>>),
    Writable(io::Result<Ready<'p>>),
    SessionReadable,
    SessionWritable,
    Silence,
    MayBegin,
}

impl<'a> Line<'a> {
    fn new(line: &'a SerialLine, hub: &'a Arc<Hub>, workers: &'a Workers, leaving: &'a Leaving) -> Self {
        Self {
            line,
            hub,
            workers,
            leaving,
            intake: Intake::new(line),
            output: Output::new(line.framing),
            session: None,
            heard: VecDeque::new(),
            owed: (Vec::new(), 0),
            gap: None,
            not_before: None,
            noise: Noise::default(),
        }
    }

    /// Carries bytes both ways until the device is gone. Says how it went.
    async fn carry(mut self, port: &AsyncFd<SerialPort>) -> io::Error {
        self.heard.push_back(Step::Hello);
        loop {
            let waits = self.deliver();
            let event = tokio::select! {
                ready = port.readable(), if self.heard.is_empty() => Event::Readable(ready),
                ready = port.writable(), if !self.owed.0.is_empty() => Event::Writable(ready),
                _ = ready(&self.session, false), if self.owed.0.is_empty() => Event::SessionReadable,
                _ = ready(&self.session, true), if waits == Waits::Session => Event::SessionWritable,
                () = self.until(self.gap), if self.gap.is_some() => Event::Silence,
                () = self.until(self.not_before), if waits == Waits::Time => Event::MayBegin,
            };
            let went = match event {
                Event::Readable(ready) => ready.and_then(|ready| self.read(ready)),
                Event::Writable(ready) => ready.and_then(|ready| self.write(ready)),
                Event::SessionReadable => {
                    self.listen();
                    Ok(())
                }
                Event::Silence => {
                    self.take(|intake, heard| intake.silence(heard));
                    self.gap = None;
                    Ok(())
                }
                Event::SessionWritable | Event::MayBegin => Ok(()),
            };
            if let Err(error) = went {
                self.noise.report(self.line, self.hub, true);
                return error;
            }
        }
    }

    /// Reads what has arrived.
    fn read(&mut self, mut ready: Ready<'_>) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        match ready.try_io(|port| Ok(rustix::io::read(port.get_ref(), &mut buffer)?)) {
            Ok(Ok(0)) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was unplugged")),
            Ok(Ok(n)) => self.hear(buffer.get(..n).unwrap_or_default()),
            Ok(Err(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            // There was nothing, after all.
            Ok(Err(_)) | Err(_) => {}
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.hub.clock.now().mono
    }

    async fn until(&self, time: Option<Instant>) {
        match time {
            Some(time) => tokio::time::sleep_until(self.hub.clock.at(time)).await,
            None => std::future::pending().await,
        }
    }

    fn hear(&mut self, input: &[u8]) {
        self.take(|intake, heard| intake.receive(input, heard));
        self.gap = self.intake.is_waiting().then(|| self.now() + self.line.gap);
    }

    /// Queues what the intake says.
    fn take(&mut self, work: impl FnOnce(&mut Intake, &mut dyn FnMut(Heard<'_>))) {
        let Self { intake, heard, noise, hub, line, .. } = self;
        let before = noise.times;
        work(intake, &mut |what| match what {
            Heard::Operation(operation) => match heard.back_mut() {
                Some(Step::Operations(all, _)) => all.extend_from_slice(operation),
                _ => heard.push_back(Step::Operations(operation.to_vec(), 0)),
            },
            Heard::Hello => heard.push_back(Step::Hello),
            Heard::Noise(bytes, why) => noise.add(bytes, why),
        });
        if noise.times > before {
            noise.report(line, hub, false);
        }
    }

    /// Passes on what was heard, as far as the session takes it. Says what the rest waits for.
    fn deliver(&mut self) -> Waits {
        while let Some(step) = self.heard.front_mut() {
            let Some(session) = self.session.as_ref().filter(|_| !matches!(step, Step::Hello)) else {
                if self.leaving.has_begun() {
                    self.heard.clear();
                    break;
                }
                if self.not_before.is_some_and(|until| self.hub.clock.now().mono < until) {
                    return Waits::Time;
                }
                if matches!(step, Step::Hello) {
                    self.heard.pop_front();
                }
                self.begin();
                continue;
            };
            let Step::Operations(operations, passed) = step else { continue };
            match session.try_write(operations.get(*passed..).unwrap_or_default()) {
                Ok(n) => {
                    *passed += n;
                    if *passed >= operations.len() {
                        self.heard.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Waits::Session,
                Err(_) => {
                    // It has ended. The next one begins with the first operation that this one has nothing of.
                    let lost = *passed;
                    operations.drain(..next_operation(operations, lost));
                    *passed = 0;
                    if operations.is_empty() {
                        self.heard.pop_front();
                    }
                    self.session = None;
                }
            }
        }
        self.heard = VecDeque::new();
        Waits::Nothing
    }

    /// Begins a session. One that is there ends, as soon as it has done all that it was given.
    fn begin(&mut self) {
        self.not_before = Some(self.now() + SESSION_EVERY);
        self.session = None;
        self.output = Output::new(self.line.framing);
        match self.pair() {
            Ok(session) => self.session = Some(session),
            Err(error) => {
                // The device will say something again, and there may be descriptors then.
                self.heard.clear();
                let name = self.line.name();
                self.hub.log.error(format_args!("Serial line {name}: no session can begin: {error}"));
            }
        }
    }

    fn pair(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        // Ten bits on the line are a byte.
        let backlog = (self.line.baud as usize / 10).saturating_mul(BACKLOG_SECONDS);
        socket2::SockRef::from(&theirs).set_send_buffer_size(backlog)?;
        let peer = Peer { host: self.line.name().to_smolstr(), port: 0 };
        let hub = Arc::clone(self.hub);
        self.workers.spawn(|seat| run_local(hub, theirs, peer, seat));
        UnixStream::from_std(ours)
    }

    /// Takes what the session says.
    fn listen(&mut self) {
        let Some(session) = &self.session else { return };
        let mut buffer = [0; READ_BYTES];
        match session.try_read(&mut buffer) {
            Ok(n) if n > 0 => {
                let (bytes, lost) = self.output.encode(buffer.get(..n).unwrap_or_default());
                self.owed = (bytes, 0);
                if lost > 0 {
                    let name = self.line.name();
                    self.hub
                        .log
                        .warn(format_args!("Serial line {name}: {lost} messages too large for a frame"));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => self.session = None,
        }
    }

    /// Writes what the device is owed.
    fn write(&mut self, mut ready: Ready<'_>) -> io::Result<()> {
        let (bytes, written) = &mut self.owed;
        let rest = bytes.get(*written..).unwrap_or_default();
        match ready.try_io(|port| Ok(rustix::io::write(port.get_ref(), rest)?)) {
            Ok(Ok(n)) => *written += n,
            Ok(Err(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(Err(_)) | Err(_) => {}
        }
        if *written >= bytes.len() {
            self.owed = (Vec::new(), 0);
        }
        Ok(())
    }
}

/// What operations wait for that were heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    /// Room in the session's socket.
    Session,
    /// Another session may begin.
    Time,
}

/// Where the first operation begins of which nothing is among the first `passed` bytes.
fn next_operation(operations: &[u8], passed: usize) -> usize {
    let limits = Limits { max_control_line: u32::MAX, max_payload: u32::MAX, headers: true };
    let mut at = 0;
    while at < passed {
        match client_op(operations.get(at..).unwrap_or_default(), &limits) {
            Parsed::Op(_, len) => at += len,
            // They were whole when they were queued.
            Parsed::Need(_) | Parsed::Bad(_) => return operations.len(),
        }
    }
    at
}

/// Waits for the session's socket; for ever, if there is none.
async fn ready(session: &Option<UnixStream>, to_write: bool) {
    // An error shows when it is used.
    let _ = match session {
        Some(session) if to_write => session.writable().await,
        Some(session) => session.readable().await,
        None => std::future::pending().await,
    };
}

/// What was skipped since the last report.
#[derive(Debug, Default)]
struct Noise {
    bytes: usize,
    times: usize,
    why: &'static str,
    reported: Option<Instant>,
}

impl Noise {
    fn add(&mut self, bytes: usize, why: &'static str) {
        self.bytes += bytes;
        self.times += 1;
        self.why = why;
    }

    /// Says what was skipped, unless that was said a moment ago and this isn't the end.
    fn report(&mut self, line: &SerialLine, hub: &Hub, at_end: bool) {
        let now = hub.clock.now().mono;
        let recently = self.reported.is_some_and(|last| now.since(last) < REPORT_EVERY);
        if self.times == 0 || (recently && !at_end) {
            return;
        }
        let (Self { bytes, times, why, .. }, name) = (&self, line.name());
        hub.log.warn(format_args!(
            "Serial line {name}: noise, skipped {bytes} bytes ({times} times, last: {why})"
        ));
        *self = Self { reported: Some(now), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_has_begun_with_is_not_given_to_the_next() {
        let operations = b"PUB a 2\r\n21\r\nPING\r\nPONG\r\n";
        for (passed, next) in [(0, 0), (1, 13), (12, 13), (13, 13), (14, 19), (20, 25)] {
            assert_eq!(next_operation(operations, passed), next, "{passed}");
        }
    }
}
