//! What new connections are offered, and how many a second.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use midge_broker::Instant;
use midge_config::{HandshakeFirst, Options, Tls};
use midge_tls::ServerTls;

/// How handshakes go, by one configuration.
pub(crate) struct Acceptor {
    pub(crate) tls: ServerTls,
    /// Whether the handshake comes before INFO.
    pub(super) first: HandshakeFirst,
    /// Clients may do without.
    pub(super) mixed: bool,
    /// Time for a handshake.
    pub(super) timeout: Duration,
    /// SHA-256 of the keys that are believed; empty: all.
    pub(crate) pinned: HashSet<[u8; 32]>,
    /// Certificates name users.
    pub(super) maps: bool,
    /// Handshakes that may begin in a second; none: any number.
    rate_max: Option<u32>,
}

impl Acceptor {
    /// Reads the files that the configuration names. None without a `tls` block. The second value, and the error, are
    /// lines for the operator.
    pub(crate) fn load(options: &Options) -> Result<(Option<Self>, Vec<String>), String> {
        let Some(tls) = &options.tls else { return Ok((None, Vec::new())) };
        let mut loaded = Self::load_block(tls, options.allow_non_tls)?;
        if tls.handshake_first == HandshakeFirst::Yes {
            let text = "Clients that are not using \"TLS Handshake First\" option will fail to connect";
            loaded.1.push(text.to_owned());
        }
        Ok(loaded)
    }

    /// The same for WebSocket.
    pub(crate) fn load_websocket(options: &Options) -> Result<(Option<Self>, Vec<String>), String> {
        let listened = options.websocket.as_ref().filter(|websocket| websocket.listen.is_some());
        match listened.and_then(|websocket| websocket.tls.as_ref()) {
            Some(tls) => Self::load_block(tls, false).map_err(|error| format!("websocket: {error}")),
            None => Ok((None, Vec::new())),
        }
    }

    fn load_block(tls: &Tls, mixed: bool) -> Result<(Option<Self>, Vec<String>), String> {
        let loaded = ServerTls::load(tls)?;
        let acceptor = Self {
            tls: loaded.tls,
            first: tls.handshake_first,
            mixed,
            timeout: tls.timeout,
            pinned: tls.pinned_certs.iter().filter_map(|digits| digest(digits)).collect(),
            maps: tls.map,
            rate_max: tls.connection_rate_max,
        };
        Ok((Some(acceptor), loaded.warnings))
    }

    /// True if INFO goes out in the clear, as clients expect, before anything else.
    pub(in crate::net) fn greets(&self) -> bool {
        self.first == HandshakeFirst::No
    }
}

/// Hex digits of a SHA-256; the configuration has checked that they are 64.
fn digest(digits: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    for (n, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// The acceptor in force. Connections keep the one that they began with.
#[derive(Default)]
pub(crate) struct Keeper(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    acceptor: Option<Arc<Acceptor>>,
    rate: Option<Rate>,
}

impl Keeper {
    pub(crate) fn new(acceptor: Option<Acceptor>) -> Self {
        let keeper = Self::default();
        // Nothing was there that could have changed.
        let _ = keeper.replace(acceptor);
        keeper
    }

    /// What the next connection is offered.
    pub(crate) fn current(&self) -> Option<Arc<Acceptor>> {
        self.lock().acceptor.clone()
    }

    /// After a reload: connections that there are keep what they have.
    pub(crate) fn replace(&self, acceptor: Option<Acceptor>) -> Changes {
        let mut kept = self.lock();
        let changes = match (&kept.acceptor, &acceptor) {
            (Some(old), Some(new)) => {
                Changes { certificates: !old.tls.same_certificates(&new.tls), pins: old.pinned != new.pinned }
            }
            _ => Changes::default(),
        };
        let rate = acceptor.as_ref().and_then(|acceptor| acceptor.rate_max).map(Rate::new);
        *kept = Kept { acceptor: acceptor.map(Arc::new), rate };
        changes
    }

    /// Counts a handshake that is to begin, or says why it must not.
    pub(in crate::net) fn admit(&self, now: Instant) -> Result<(), Throttled> {
        self.lock().rate.as_mut().map_or(Ok(()), |rate| rate.admit(now))
    }

    /// Handshakes that were refused since the last call.
    pub(super) fn take_refused(&self) -> u64 {
        self.lock().rate.as_mut().map_or(0, |rate| std::mem::take(&mut rate.refused))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a reload brought besides what stands in the file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Changes {
    /// The named files have other certificates in them.
    pub(crate) certificates: bool,
    /// Other keys are believed.
    pub(crate) pins: bool,
}

/// There were too many handshakes in this second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) struct Throttled {
    /// Nobody has been refused since [`Keeper::take_refused`]: somebody should call it in a while.
    pub(super) is_first: bool,
}

/// `connection_rate_limit`: handshakes in a second, which begins with the first of them.
struct Rate {
    max: u32,
    count: u32,
    end: Instant,
    refused: u64,
}

impl Rate {
    fn new(max: u32) -> Self {
        Self { max, count: 0, end: Instant::default(), refused: 0 }
    }

    fn admit(&mut self, now: Instant) -> Result<(), Throttled> {
        if now >= self.end {
            self.count = 0;
            self.end = now + Duration::from_secs(1);
        }
        if self.count < self.max {
            self.count += 1;
            return Ok(());
        }
        self.refused += 1;
        Err(Throttled { is_first: self.refused == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_room_for_so_many() {
        let at = |millis| Instant::default() + Duration::from_millis(millis);
        let mut rate = Rate::new(2);
        let admitted = [5, 6, 7, 900, 1004, 1005].map(|millis| rate.admit(at(millis)));
        let throttled = |is_first| Err(Throttled { is_first });
        assert_eq!(admitted, [Ok(()), Ok(()), throttled(true), throttled(false), throttled(false), Ok(())]);
        assert_eq!(rate.refused, 3);
    }

    #[test]
    fn digits() {
        assert_eq!(digest(&"0aff".repeat(16)).map(|digest| digest[..2].to_vec()), Some(vec![0x0a, 0xff]));
        assert_eq!(digest("0a"), None);
        assert_eq!(digest(&"é".repeat(64)), None);
    }
}
