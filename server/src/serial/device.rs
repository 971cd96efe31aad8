//! A serial device: opening it, and waiting for it to be there.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use midge_config::{Flow, Parity, SerialLine};
use rustix::fs::inotify;
use rustix::termios::{InputModes, OptionalActions, ioctl_tiocexcl, tcgetattr, tcsetattr};
use serial2::rs4xx::Rs485Config;
use serial2::{CharSize, FlowControl, SerialPort, Settings, StopBits};
use tokio::io::unix::AsyncFd;

/// Opens the device and sets it up as `line` says. Nobody else can open it then, but root.
pub(crate) fn open(line: &SerialLine) -> io::Result<AsyncFd<SerialPort>> {
    let port = SerialPort::open(&line.device, |mut settings: Settings| {
        settings.set_raw();
        settings.set_baud_rate(line.baud)?;
        settings.set_char_size(if line.data_bits == 7 { CharSize::Bits7 } else { CharSize::Bits8 });
        settings.set_stop_bits(if line.stop_bits == 2 { StopBits::Two } else { StopBits::One });
        settings.set_parity(match line.parity {
            Parity::None => serial2::Parity::None,
            Parity::Even => serial2::Parity::Even,
            Parity::Odd => serial2::Parity::Odd,
        });
        settings.set_flow_control(match line.flow {
            Flow::None => FlowControl::None,
            Flow::RtsCts => FlowControl::RtsCts,
            Flow::XonXoff => FlowControl::XonXoff,
        });
        Ok(settings)
    })?;
    if line.rs485 {
        port.set_rs4xx_mode(Rs485Config::new())?;
    }
    if line.parity != Parity::None {
        // Bytes with a wrong parity are to be seen, marked as such.
        let mut termios = tcgetattr(&port)?;
        termios.input_modes.remove(InputModes::IGNPAR);
        termios.input_modes.insert(InputModes::INPCK | InputModes::PARMRK);
        tcsetattr(&port, OptionalActions::Now, &termios)?;
    }
    ioctl_tiocexcl(&port)?;
    // Of a conversation that nobody here was part of.
    port.discard_buffers()?;
    watched(port)
}

/// Lets the event loop watch a descriptor.
fn watched<T: AsRawFd + Owned>(descriptor: T) -> io::Result<AsyncFd<T>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an owned descriptor stays what it is while it is owned"
    )]
    AsyncFd::new(descriptor)
}

/// What owns its descriptor, and has the same one as long as it lives.
trait Owned {}

impl Owned for OwnedFd {}
impl Owned for SerialPort {}

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
}
