//! The log: lines in nats-server's form, so that what greps its log reads ours, or JSON.
//!
//! ```text
//! [4711] 2026/11/21 03:12:45.123456 [INF] Server is ready
//! ```
//!
//! Lines go to the standard error output, a file that is set aside when it grows too large, or the system's log.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use midge_config::{Log as Options, LogFormat};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Info,
    Debug,
    Warn,
    Error,
    Fatal,
    Trace,
}

impl Level {
    fn label(self) -> &'static str {
        match self {
            Self::Info => "INF",
            Self::Debug => "DBG",
            Self::Warn => "WRN",
            Self::Error => "ERR",
            Self::Fatal => "FTL",
            Self::Trace => "TRC",
        }
    }

    /// The severity in the system's log.
    fn severity(self) -> u8 {
        match self {
            Self::Fatal => 2,
            Self::Error => 3,
            Self::Warn => 4,
            Self::Info => 5,
            Self::Debug | Self::Trace => 7,
        }
    }
}

impl From<midge_broker::Level> for Level {
    fn from(level: midge_broker::Level) -> Self {
        match level {
            midge_broker::Level::Trace => Self::Trace,
            midge_broker::Level::Debug => Self::Debug,
            midge_broker::Level::Info => Self::Info,
            midge_broker::Level::Warn => Self::Warn,
            midge_broker::Level::Error => Self::Error,
        }
    }
}

/// Where lines go. One for the daemon.
pub(crate) struct Log {
    form: LogFormat,
    debug: AtomicBool,
    trace: AtomicBool,
    state: Mutex<State>,
}

struct State {
    options: Options,
    sink: Sink,
    zone: TimeZone,
}

enum Sink {
    Stderr,
    File { file: File, path: PathBuf, len: u64 },
    Local(UnixDatagram),
    Remote(UdpSocket),
}

impl Log {
    /// Opens what `options` name.
    pub(crate) fn open(form: LogFormat, options: &Options) -> io::Result<Self> {
        let sink = Sink::open(options)?;
        Ok(Self {
            form,
            debug: options.debug.into(),
            trace: options.trace.into(),
            state: Mutex::new(State { options: options.clone(), sink, zone: zone(options) }),
        })
    }

    /// Takes new options; the old sink stays if the new one can't be opened.
    pub(crate) fn reconfigure(&self, options: &Options) -> io::Result<()> {
        let sink = Sink::open(options)?;
        let mut state = self.lock();
        *state = State { options: options.clone(), sink, zone: zone(options) };
        self.debug.store(options.debug, Ordering::Relaxed);
        self.trace.store(options.trace, Ordering::Relaxed);
        Ok(())
    }

    /// Opens the file anew, after something moved it away.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.sink = Sink::open(&state.options)?;
        Ok(())
    }

    pub(crate) fn info(&self, text: impl Display) {
        self.write(Level::Info, text);
    }

    pub(crate) fn warn(&self, text: impl Display) {
        self.write(Level::Warn, text);
    }

    pub(crate) fn error(&self, text: impl Display) {
        self.write(Level::Error, text);
    }

    pub(crate) fn fatal(&self, text: impl Display) {
        self.write(Level::Fatal, text);
    }

    pub(crate) fn debug(&self, text: impl Display) {
        if self.debug.load(Ordering::Relaxed) {
            self.write(Level::Debug, text);
        }
    }

    /// Writes one line. What can't be written is lost: a log must not stop the daemon.
    pub(crate) fn write(&self, level: Level, text: impl Display) {
        let skip = match level {
            Level::Trace => !self.trace.load(Ordering::Relaxed),
            Level::Debug => !self.debug.load(Ordering::Relaxed),
            _ => false,
        };
        if skip {
            return;
        }
        let mut state = self.lock();
        let line = self.line(&state, level, &text.to_string());
        let _ = state.put(level, &line);
    }

    fn line(&self, state: &State, level: Level, text: &str) -> String {
        let now = Timestamp::now().to_zoned(state.zone.clone());
        let (pid, label) = (std::process::id(), level.label());
        match self.form {
            LogFormat::Json => {
                let minutes = now.offset().seconds() / 60;
                let (sign, away) = (if minutes < 0 { '-' } else { '+' }, minutes.abs());
                let (time, micros) = (stamp(&now, ["-", "T", ":"]), now.subsec_nanosecond() / 1000);
                let time = format!("{time}.{micros:06}{sign}{:02}:{:02}", away / 60, away % 60);
                serde_json::json!({"time": time, "level": label, "pid": pid, "msg": text}).to_string()
            }
            LogFormat::Text if state.options.time => {
                let (time, micros) = (stamp(&now, ["/", " ", ":"]), now.subsec_nanosecond() / 1000);
                format!("[{pid}] {time}.{micros:06} [{label}] {text}")
            }
            LogFormat::Text => format!("[{pid}] [{label}] {text}"),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, level: Level, line: &str) -> io::Result<()> {
        let priority = 3 << 3 | level.severity();
        match &mut self.sink {
            Sink::Stderr => writeln!(io::stderr().lock(), "{line}"),
            Sink::File { file, len, .. } => {
                file.write_all(format!("{line}\n").as_bytes())?;
                *len += line.len() as u64 + 1;
                match self.options.file_bytes_max {
                    Some(max) if *len > max => self.set_aside(),
                    _ => Ok(()),
                }
            }
            Sink::Local(socket) => socket.send(format!("<{priority}>midged: {line}").as_bytes()).map(drop),
            Sink::Remote(socket) => socket.send(format!("<{priority}>midged: {line}").as_bytes()).map(drop),
        }
    }

    /// Renames the file after the time and begins a new one.
    fn set_aside(&mut self) -> io::Result<()> {
        let Sink::File { path, .. } = &self.sink else { return Ok(()) };
        let path = path.clone();
        let now = Zoned::now();
        let stamp = format!("{}.{:09}", stamp(&now, [".", ".", "."]), now.subsec_nanosecond());
        let mut aside = path.clone().into_os_string();
        aside.push(format!(".{stamp}"));
        std::fs::rename(&path, aside)?;
        self.sink = Sink::open(&self.options)?;
        if let Some(max) = self.options.files_max {
            drop_oldest(&path, max)?;
        }
        Ok(())
    }
}

impl Sink {
    fn open(options: &Options) -> io::Result<Self> {
        if let Some(path) = &options.file {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            let len = file.metadata()?.len();
            return Ok(Self::File { file, path: path.clone(), len });
        }
        if let Some(url) = &options.remote_syslog {
            let address = url.strip_prefix("udp://").ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("remote_syslog {url:?}: it is udp://host:port"),
                )
            })?;
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(address)?;
            return Ok(Self::Remote(socket));
        }
        if options.syslog {
            let socket = UnixDatagram::unbound()?;
            socket.connect("/dev/log")?;
            return Ok(Self::Local(socket));
        }
        Ok(Self::Stderr)
    }
}

/// Date and time to the second, with these between days, before the hour, and between what follows.
fn stamp(at: &Zoned, [date, hour, time]: [&str; 3]) -> String {
    let (year, month, day) = (at.year(), at.month(), at.day());
    let (hours, minutes, seconds) = (at.hour(), at.minute(), at.second());
    format!("{year:04}{date}{month:02}{date}{day:02}{hour}{hours:02}{time}{minutes:02}{time}{seconds:02}")
}

fn zone(options: &Options) -> TimeZone {
    if options.time_utc { TimeZone::UTC } else { TimeZone::system() }
}

/// Keeps `max` files, the current one included.
fn drop_oldest(path: &Path, max: u64) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let mut aside: Vec<_> = std::fs::read_dir(dir)?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    // The names end with the time, so their order is that of time.
    aside.sort_unstable();
    let keep = usize::try_from(max).unwrap_or(usize::MAX).saturating_sub(1);
    let excess = aside.len().saturating_sub(keep);
    aside.into_iter().take(excess).try_for_each(std::fs::remove_file)
}
