//! The server: what the daemon does around its broker.

use std::path::PathBuf;
use std::time::Duration;

use midge_broker::{Broker, CloseReason, Instant, Now, Peer, ServerKeys, Session, Settings};
use midge_config::{
    Invocation, MemoryFiles, Options, Problem, Run, Verdict, World, diff, parse_args, unserved,
};
use midge_setup::{connect_urls, server_info, settings};
use midge_store::disk::sim::SimDisk;

use super::net::Socket;
use super::streams::Streams;
use crate::script::Signal;

/// Decides what is left to chance, among it the server's id.
const SEED: u8 = 7;
/// The calendar when the clock starts, since the Unix epoch: the first of January 2026.
pub(crate) const EPOCH: Duration = Duration::from_secs(1_767_225_600);
const CONFIG: &str = "server.conf";
const PORT: u16 = 4222;
/// Longest time between two clients that are closed in lame duck mode.
const LEAVE_STEP_MAX: Duration = Duration::from_secs(1);

pub(super) struct Server {
    run: Run,
    files: MemoryFiles,
    options: Options,
    broker: Broker<Socket>,
    /// Streams, if the configuration wants them. They are out while they work.
    streams: Option<Streams>,
    now: Now,
    /// Connections whose pipe is full, and when that will have been for too long.
    blocked: Vec<(Socket, Instant)>,
    /// In lame duck mode.
    leaving: Option<Leaving>,
    exit: Option<i32>,
    log: Vec<String>,
}

#[derive(Clone, Copy)]
struct Leaving {
    /// When the next client is closed.
    at: Instant,
    /// The time between two; known once the first is closed.
    step: Option<Duration>,
}

impl Server {
    pub(super) fn start(config: Option<&str>, flags: &[String]) -> Result<Self, String> {
        let mut arguments = vec!["-a".into(), "127.0.0.1".into(), "-p".into(), PORT.to_string()];
        let mut files = MemoryFiles::new();
        if let Some(config) = config {
            arguments.extend(["-c".into(), CONFIG.into()]);
            files.insert(PathBuf::from(CONFIG), config.into());
        }
        arguments.extend_from_slice(flags);
        let Invocation::Run(run) = parse_args(arguments)? else {
            return Err("these flags start no server".into());
        };
        let options = load(&run, &files)?;
        let now = Now { mono: Instant::default(), wall: EPOCH };
        let (broker, streams) = boot(&options, None, now)?;
        let log = unserved(&options).iter().map(ToString::to_string).collect();
        let (blocked, leaving, exit) = (Vec::new(), None, None);
        let mut server = Self { run, files, options, broker, streams, now, blocked, leaving, exit, log };
        server.run_streams();
        Ok(server)
    }

    /// Ends as asked, and begins again with what is on the disk.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        self.shut_down();
        let disk = self.streams.take().map(|streams| streams.shut(self.now)).transpose()?;
        self.options = load(&self.run, &self.files)?;
        (self.broker, self.streams) = boot(&self.options, disk, self.now)?;
        (self.blocked, self.leaving, self.exit) = (Vec::new(), None, None);
        self.run_streams();
        Ok(())
    }

    pub(super) fn now(&self) -> Instant {
        self.now.mono
    }

    pub(super) fn log(&self) -> String {
        self.log.join("\n")
    }

    pub(super) fn exit_code(&self) -> Option<i32> {
        self.exit
    }

    pub(super) fn accept(&mut self, socket: &Socket) -> Result<Session, String> {
        if self.leaving.is_some() || self.exit.is_some() {
            return Err("connection refused".into());
        }
        let peer = Peer { host: "127.0.0.1".into(), port: 40_000 };
        Ok(self.turn(|broker, now| {
            let id = broker.attach(socket.clone(), peer, now);
            socket.attach(id);
            Session::new(broker, id)
        }))
    }

    /// Lets the broker work, and moves what came of it into the pipes. Time stands still, so a publisher whose
    /// subscriber is nearly full has nothing to wait for.
    pub(super) fn turn<R>(&mut self, work: impl FnOnce(&mut Broker<Socket>, Now) -> R) -> R {
        let result = self.turn_broker(work);
        self.run_streams();
        result
    }

    /// Lets the streams have what came for them, and what comes of that, until nothing is left.
    fn run_streams(&mut self) {
        let Some(mut streams) = self.streams.take() else { return };
        loop {
            self.turn_broker(|broker, now| streams.say(broker, now));
            if !streams.work(&mut self.broker, self.now) {
                break;
            }
            self.log.extend(streams.take_complaints());
        }
        self.streams = Some(streams);
    }

    fn turn_broker<R>(&mut self, work: impl FnOnce(&mut Broker<Socket>, Now) -> R) -> R {
        let mut ready = Vec::new();
        self.broker.begin_turn(self.now, 0);
        let result = work(&mut self.broker, self.now);
        self.broker.flush(self.now, |socket, _| ready.push(socket.clone()));
        self.log.extend(self.broker.take_notices().into_iter().map(|notice| notice.text));
        for socket in ready {
            self.write(&socket);
        }
        result
    }

    /// Moves a connection's output into its pipe, and ends the connection if the broker has closed it.
    pub(super) fn write(&mut self, socket: &Socket) {
        let all = socket.write();
        if socket.is_closing() {
            self.end(socket, CloseReason::ClientClosed);
        } else if all {
            self.blocked.retain(|(it, _)| it != socket);
        } else if !self.blocked.iter().any(|(it, _)| it == socket) {
            self.blocked.push((socket.clone(), self.now.mono + self.broker.settings().write_deadline));
        }
    }

    /// Leaves the broker, says the last words, ends the stream.
    pub(super) fn end(&mut self, socket: &Socket, reason: CloseReason) {
        self.blocked.retain(|(it, _)| it != socket);
        if let Some(id) = socket.detach() {
            self.turn(|broker, now| broker.detach(id, reason, now));
        }
        socket.close();
    }

    /// Lets time pass up to `until`, but not beyond the next thing that happens by itself. False if there is none.
    pub(super) fn pass(&mut self, until: Instant) -> bool {
        let blocked = self.blocked.iter().map(|(_, at)| *at);
        let leaving = self.leaving.iter().map(|leaving| leaving.at);
        let streams = self.streams.iter().filter_map(Streams::deadline);
        let next = self.broker.deadline().into_iter().chain(blocked).chain(leaving).chain(streams).min();
        let due = next.filter(|next| *next <= until);
        let mono = due.unwrap_or(until).max(self.now.mono);
        self.now = Now { mono, wall: self.now.wall + mono.since(self.now.mono) };
        if due.is_some() {
            self.do_what_is_due();
        }
        due.is_some()
    }

    fn do_what_is_due(&mut self) {
        let mono = self.now.mono;
        self.turn(|broker, now| broker.tick(now));
        let slow: Vec<_> = self.blocked.iter().filter(|(_, at)| *at <= mono).cloned().collect();
        for (socket, _) in slow {
            if let Some(id) = socket.id() {
                self.turn(|broker, now| broker.too_slow(id, now));
            }
            self.end(&socket, CloseReason::SlowConsumerDeadline);
        }
        if self.leaving.is_some_and(|leaving| leaving.at <= mono) {
            self.leave();
        }
    }

    pub(super) fn signal(&mut self, signal: Signal) -> Result<(), String> {
        match signal {
            Signal::Hup => {
                let line = match self.reload() {
                    Ok(()) => "Reloaded server configuration".into(),
                    Err(why) => format!("Failed to reload server configuration: {why}"),
                };
                self.log.push(line);
            }
            Signal::Term if self.leaving.is_some() => {}
            Signal::Int | Signal::Term => self.shut_down(),
            Signal::Usr1 => self.log.push("File log re-opened".into()),
            Signal::Usr2 if self.leaving.is_some() => {}
            Signal::Usr2 => {
                self.log.push("Entering lame duck mode, stop accepting new clients".into());
                self.turn(|broker, now| broker.enter_lame_duck(now));
                if self.broker.open() == 0 {
                    self.shut_down();
                } else {
                    let at = self.now.mono + self.options.lame_duck.grace;
                    self.leaving = Some(Leaving { at, step: None });
                }
            }
            Signal::Kill => return Err("a simulated server can't be killed".into()),
        }
        Ok(())
    }

    /// Closes one client of those that are left in lame duck mode.
    fn leave(&mut self) {
        let lame_duck = &self.options.lame_duck;
        let rest = lame_duck.duration.saturating_sub(lame_duck.grace).max(LEAVE_STEP_MAX);
        let even = (rest / self.broker.open().max(1)).min(LEAVE_STEP_MAX);
        let more = self.turn(|broker, now| broker.close_one(now));
        match &mut self.leaving {
            Some(leaving) if more => leaving.at = self.now.mono + *leaving.step.get_or_insert(even),
            _ => self.shut_down(),
        }
    }

    fn shut_down(&mut self) {
        if let Some(streams) = &mut self.streams {
            streams.part(self.now);
        }
        self.run_streams();
        self.turn(|broker, now| broker.close_all(now));
        self.leaving = None;
        self.exit = Some(0);
    }

    pub(super) fn write_config(&mut self, config: &str) {
        self.files.insert(PathBuf::from(CONFIG), config.into());
    }

    fn reload(&mut self) -> Result<(), String> {
        let new = load(&self.run, &self.files)?;
        let fixed = |change: &midge_config::Change| change.verdict == Verdict::NeedsRestart;
        if let Some(change) = diff(&self.options, &new).iter().find(|change| fixed(change)) {
            return Err(format!("config reload not supported for {}", change.option));
        }
        let mut info = self.broker.settings().info.clone();
        info.connect_urls = connect_urls(&new, PORT);
        let settings: Settings = settings(&new, info).map_err(|errors| lines(&errors))?;
        self.options = new;
        self.turn(|broker, now| broker.reconfigure(settings, now));
        Ok(())
    }
}

/// What works on these options and this disk.
fn boot(
    options: &Options,
    disk: Option<SimDisk>,
    now: Now,
) -> Result<(Broker<Socket>, Option<Streams>), String> {
    let info = server_info(options, ServerKeys::new([SEED; 32]), PORT);
    let settings = settings(options, info).map_err(|errors| lines(&errors))?;
    let mut broker = Broker::new(settings, SEED.into());
    broker.begin(now);
    let streams = Streams::open(options, disk, &mut broker, now)?;
    Ok((broker, streams))
}

fn lines(errors: &[Problem]) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect()
}

/// Reads the configuration, and refuses what the daemon refuses to run with.
fn load(run: &Run, files: &MemoryFiles) -> Result<Options, String> {
    let (options, _) =
        run.load(World { files, environment: &|_| None }).map_err(|report| report.to_string())?;
    match unserved(&options).iter().find(|key| key.refused) {
        Some(key) => Err(key.to_string()),
        None => Ok(options),
    }
}
