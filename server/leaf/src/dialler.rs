//! Which of a hub's addresses is tried, and how long to wait before.

use std::time::Duration;

use crate::url::HubUrl;

/// The longest wait, unless the configured one is longer.
const LONGEST: Duration = Duration::from_secs(30);
/// Addresses that a hub may tell; more are left out.
const TOLD_MAX: usize = 64;

/// The addresses of a hub, and what came of trying them.
#[derive(Clone, Debug)]
pub struct Dialler {
    configured: Vec<HubUrl>,
    /// What the hub told, beyond those.
    told: Vec<HubUrl>,
    next: usize,
    /// Tries since the last connection that was good.
    failures: u32,
    first: Duration,
}

impl Dialler {
    /// Tries `urls` in turn, with waits that grow from `first` on. They begin anywhere if `random` is given, a number of
    /// any size.
    pub fn new(mut urls: Vec<HubUrl>, first: Duration, random: Option<u32>) -> Self {
        if let Some(random) = random
            && !urls.is_empty()
        {
            // Each order of a few is likely enough when turns begin anywhere and go either way.
            let len = urls.len();
            if random & 1 == 1 {
                urls.reverse();
            }
            urls.rotate_left((random >> 1) as usize % len);
        }
        Self { configured: urls, told: Vec::new(), next: 0, failures: 0, first }
    }

    /// The address to try now; `None`: there is none at all.
    pub fn pick(&mut self) -> Option<HubUrl> {
        let count = self.configured.len() + self.told.len();
        let at = self.next.checked_rem(count)?;
        self.next = at + 1;
        self.configured.iter().chain(&self.told).nth(at).cloned()
    }

    /// A try failed, or a connection ended before it was good. How long to wait: twice as long each time, up to half a
    /// minute, and as much again at most, as `random` says, so that a thousand gateways don't come at one time.
    pub fn failed(&mut self, random: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.min(LONGEST.max(self.first));
        wait + wait.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Tries without success since the last good connection.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A connection was good: the next wait is a short one again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The hub said where it is, too: `host:port`. `like` is the address that led there, whose user and encryption count.
    pub fn learn(&mut self, places: &[String], like: &HubUrl) {
        self.told.clear();
        for place in places.iter().take(TOLD_MAX) {
            let Ok(found) = HubUrl::parse(place) else { continue };
            // Certificates name hosts, and hubs tell addresses.
            let name = like.tls_name.clone().or_else(|| (!is_address(&like.host)).then(|| like.host.clone()));
            let tls_name = name.filter(|_| is_address(&found.host));
            let url = HubUrl { host: found.host, port: found.port, tls_name, ..like.clone() };
            let known = |other: &HubUrl| other.host == url.host && other.port == url.port;
            if !self.configured.iter().chain(&self.told).any(known) {
                self.told.push(url);
            }
        }
    }
}

fn is_address(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> HubUrl {
        HubUrl::parse(text).unwrap()
    }

    #[test]
    fn addresses_take_turns() {
        let mut dialler = Dialler::new(vec![url("a"), url("b")], Duration::from_secs(1), None);
        let mut picked = || dialler.pick().unwrap().host;
        assert_eq!([picked(), picked(), picked()], ["a", "b", "a"]);
        dialler.learn(&["b:7422".into(), "c:1".into(), "nonsense:x".into()], &url("tls://u:p@a"));
        let rest: Vec<_> = (0..3).map(|_| dialler.pick().unwrap()).collect();
        let hosts: Vec<_> = rest.iter().map(|url| url.host.as_str()).collect();
        assert_eq!(hosts, ["b", "c", "a"]);
        assert!(rest[1].tls && rest[1].user.as_deref() == Some("u") && rest[1].port == 1);
        dialler.learn(&["10.0.0.1:1".into()], &url("tls://a"));
        let named = (0..3).map(|_| dialler.pick().unwrap()).find(|url| url.host == "10.0.0.1").unwrap();
        assert_eq!(named.tls_name.as_deref(), Some("a"));
        assert!(Dialler::new(Vec::new(), Duration::from_secs(1), Some(7)).pick().is_none());
    }

    #[test]
    fn any_address_may_be_the_first() {
        let urls = vec![url("a"), url("b"), url("c")];
        let first = |random| Dialler::new(urls.clone(), Duration::ZERO, Some(random)).pick().unwrap().host;
        let firsts: std::collections::BTreeSet<_> = (0..6).map(first).collect();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn waits_grow_and_are_bounded() {
        let mut dialler = Dialler::new(vec![url("a")], Duration::from_secs(1), None);
        let waits: Vec<_> = (0..8).map(|_| dialler.failed(0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(dialler.failed(u32::MAX).as_secs(), 60);
        dialler.succeeded();
        assert_eq!((dialler.failed(0).as_secs(), dialler.failures()), (1, 1));
        let mut slow = Dialler::new(vec![url("a")], Duration::from_secs(300), None);
        assert_eq!([slow.failed(0), slow.failed(0)].map(|wait| wait.as_secs()), [300, 300]);
    }
}
