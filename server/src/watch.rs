//! Waiting for what happens to the machine: a file that comes, a clock that is set.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify;
#[cfg(feature = "jetstream")]
use rustix::io::Errno;
#[cfg(feature = "jetstream")]
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// Lets the event loop watch a descriptor.
pub(crate) fn watched<T: AsRawFd + Owned>(descriptor: T) -> io::Result<AsyncFd<T>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an owned descriptor stays what it is while it is owned"
    )]
    AsyncFd::new(descriptor)
}

/// What owns its descriptor, and has the same one as long as it lives.
pub(crate) trait Owned {}

impl Owned for OwnedFd {}
impl Owned for serial2::SerialPort {}

/// Tells when a file may have come into being.
pub(crate) struct Watch {
    inotify: AsyncFd<OwnedFd>,
    /// What has to come first: the file itself, or the nearest directory above it that isn't there.
    awaited: PathBuf,
}

impl Watch {
    /// From now on. Look for the file after this, not before, and again whenever [`Watch::changed`] returns.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let flags = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::ATTRIB
            | inotify::WatchFlags::DELETE_SELF
            | inotify::WatchFlags::ONLYDIR;
        let mut awaited = path;
        loop {
            let Some(above) = awaited.parent() else { return Err(io::ErrorKind::NotFound.into()) };
            match inotify::add_watch(&inotify, above, flags) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => awaited = above,
                Err(error) => return Err(error.into()),
            }
        }
        let awaited = awaited.to_owned();
        Ok(Self { inotify: watched(inotify)?, awaited })
    }

    /// Waits until the file, or a directory above it, has come, gone or got other permissions. Uses nothing meanwhile.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            if ready.try_io(|inotify| self.read(inotify.get_ref())).unwrap_or(Ok(false))? {
                return Ok(());
            }
        }
    }

    /// Reads all that happened. True if something of it matters.
    fn read(&self, inotify: &OwnedFd) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        let mut matters = false;
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes());
                    let awaited = self.awaited.file_name().map(|name| name.as_encoded_bytes());
                    // No name: the directory itself, or there was too much to tell.
                    matters |= name.is_none() || name == awaited;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && matters => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Tells when somebody has set the machine's clock.
#[cfg(feature = "jetstream")]
pub(crate) struct ClockWatch(AsyncFd<OwnedFd>);

#[cfg(feature = "jetstream")]
impl ClockWatch {
    /// From now on.
    pub(crate) fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let watch = Self(watched(timer)?);
        watch.arm()?;
        Ok(watch)
    }

    /// Sets a timer that nobody lives to see, and that ends when the clock is set.
    fn arm(&self) -> io::Result<()> {
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        let (never, zero) = (Timespec { tv_sec: 1 << 35, tv_nsec: 0 }, Timespec::default());
        timerfd_settime(&self.0, flags, &Itimerspec { it_interval: zero, it_value: never })?;
        Ok(())
    }

    /// Waits until it is set. Uses nothing meanwhile.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?)) {
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => {
                    return self.arm();
                }
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) => return self.arm(),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_file_is_heard_of_when_it_comes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("by-id/adapter");
        for step in ["by-id", "by-id/adapter"] {
            let watch = Watch::new(&path).expect("inotify");
            std::fs::write(directory.path().join("other"), "").expect("written");
            let others = tokio::time::timeout(Duration::from_millis(1), watch.changed()).await;
            assert!(others.is_err(), "{step}: other files count for nothing");
            if step == "by-id" {
                std::fs::create_dir(directory.path().join(step)).expect("made");
            } else {
                std::os::unix::fs::symlink("/dev/null", &path).expect("linked");
            }
            let changed = tokio::time::timeout(Duration::from_secs(10), watch.changed()).await;
            changed.expect("in time").expect("heard");
        }
    }

    #[cfg(feature = "jetstream")]
    #[tokio::test]
    async fn a_clock_that_nobody_sets_is_silent() {
        let watch = ClockWatch::new().expect("a timer");
        let set = tokio::time::timeout(Duration::from_millis(1), watch.changed()).await;
        assert!(set.is_err());
        watch.arm().expect("again");
    }
}
