//! What the service manager is told: that the daemon is ready, reads its configuration again, ends, and is alive.
//!
//! Source: sd_notify(3), the protocol of systemd and of those who do as it does.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::hub::Hub;

/// The way to whoever started this process, if they want to know.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// How often a sign of life is wanted.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// From the environment; a manager that can't be reached is none, and the error says why.
    pub(crate) fn find() -> (Self, Option<io::Error>) {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(name) = variable("NOTIFY_SOCKET") else { return (Self::default(), None) };
        match connect(&name) {
            Err(error) => (Self::default(), Some(error)),
            Ok(socket) => {
                let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
                let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
                let watchdog = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0);
                (Self { socket: Some(socket), watchdog: watchdog.map(Duration::from_micros) }, None)
            }
        }
    }

    /// Clients are served.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is read again; [`ServiceManager::ready`] says when that is over.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Signs of life, twice as often as they are wanted, for as long as this event loop goes round and the broker can be had.
    /// Returns at once if nobody wants them.
    pub(crate) async fn stay_alive(self: Arc<Self>, hub: Arc<Hub>) {
        let Some(every) = self.watchdog else { return };
        loop {
            hub.look(|_, _| ());
            self.tell("WATCHDOG=1");
            tokio::time::sleep(every / 2).await;
        }
    }

    fn tell(&self, words: &str) {
        // A manager that doesn't listen must not keep the daemon.
        let _ = self.socket.iter().try_for_each(|socket| socket.send(words.as_bytes()).map(drop));
    }
}

fn connect(name: &OsString) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
