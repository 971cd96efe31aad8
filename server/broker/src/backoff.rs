//! Addresses from which somebody failed to log in, again and again: they have to wait before anybody looks at what they
//! show next.
//!
//! Whoever has to wait is refused as if the credentials were wrong, and nothing is hashed or verified for it. Waiting
//! doesn't count as a failure, and failures are forgiven with time, so that a client that was mended gets in. Of IPv6 an
//! address is a whole /64, since that is what one peer has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use midge_protocol::time::Instant;

/// How patient a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Failures that cost nothing; 0: none ever does.
    pub after: u32,
    /// The longest that one has to wait. The first wait is a second, each further failure doubles it.
    pub longest: Duration,
    /// The machine itself has to wait, too.
    pub loopback: bool,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { after: 10, longest: Duration::from_secs(30), loopback: false }
    }
}

/// A failure is forgiven in this time.
const FORGIVEN: Duration = Duration::from_secs(10);
/// Addresses that are remembered at most: with all that goes with a table, about 128 KiB.
const ADDRESSES_MAX: usize = 2048;

/// Who failed.
#[derive(Debug, Default)]
pub(crate) struct Failures(HashMap<u128, Failed>);

#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u32,
    last: Instant,
}

impl Failed {
    /// How many of the failures are not forgiven.
    fn counted(self, now: Instant) -> u32 {
        let forgiven = now.since(self.last).as_secs() / FORGIVEN.as_secs();
        self.times.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

impl Failures {
    /// Whether somebody at `host` has to wait.
    pub(crate) fn hold(&self, host: &str, rule: &Backoff, now: Instant) -> bool {
        let Some(failed) = network(host, rule).and_then(|network| self.0.get(&network)) else { return false };
        let Some(over) = failed.times.checked_sub(rule.after.saturating_add(1)) else { return false };
        let wait = Duration::from_secs(1u64.checked_shl(over).unwrap_or(u64::MAX)).min(rule.longest);
        now.since(failed.last) < wait
    }

    /// Counts a failure.
    pub(crate) fn count(&mut self, host: &str, rule: &Backoff, now: Instant) {
        let Some(network) = network(host, rule) else { return };
        let times = self.0.get(&network).map_or(0, |failed| failed.counted(now)).saturating_add(1);
        if !self.0.contains_key(&network) && self.0.len() >= ADDRESSES_MAX {
            self.0.retain(|_, failed| failed.counted(now) > 0);
        }
        if !self.0.contains_key(&network) && self.0.len() >= ADDRESSES_MAX {
            // Many addresses with a failure each must not hide one with many.
            let least = self.0.iter().min_by_key(|(_, failed)| (failed.times, failed.last));
            if let Some(network) = least.map(|(network, _)| *network) {
                self.0.remove(&network);
            }
        }
        self.0.insert(network, Failed { times, last: now });
    }
}

/// What counts of an address; `None`: it never has to wait.
fn network(host: &str, rule: &Backoff) -> Option<u128> {
    let address: IpAddr = host.parse().ok().filter(|_| rule.after > 0)?;
    let address = address.to_canonical();
    if address.is_loopback() && !rule.loopback {
        return None;
    }
    Some(match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Backoff = Backoff { after: 3, longest: Duration::from_secs(5), loopback: false };

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn waits_grow_and_failures_are_forgiven() {
        let mut failures = Failures::default();
        let fail = |failures: &mut Failures, times, now| {
            (0..times).for_each(|_| failures.count("192.0.2.1", &RULE, at(now)));
        };
        let holds = |failures: &Failures, now| failures.hold("192.0.2.1", &RULE, at(now));
        fail(&mut failures, 3, 0);
        assert!(!holds(&failures, 0));
        fail(&mut failures, 1, 0);
        assert!(holds(&failures, 0) && !holds(&failures, 1) && !failures.hold("192.0.2.2", &RULE, at(0)));
        fail(&mut failures, 1, 1);
        assert!(holds(&failures, 2) && !holds(&failures, 3));
        fail(&mut failures, 100, 3);
        assert!(holds(&failures, 7) && !holds(&failures, 8), "no longer than the longest");
        // All but one of these were forgiven.
        fail(&mut failures, 1, 3 + 105 * 10);
        assert!(!holds(&failures, 3 + 105 * 10));
    }

    #[test]
    fn whose_address_it_is() {
        let mut failures = Failures::default();
        for host in ["2001:db8::1", "127.0.0.1", "::1", "unix", "::ffff:192.0.2.1"] {
            (0..9).for_each(|_| failures.count(host, &RULE, at(0)));
        }
        let holds = |host: &str| failures.hold(host, &RULE, at(0));
        assert!(holds("2001:db8::2:3") && !holds("2001:db8:0:1::1") && holds("192.0.2.1"));
        assert!(!holds("127.0.0.1") && !holds("::1") && !holds("unix"));
        let never = Backoff { after: 0, ..RULE };
        assert!(!failures.hold("192.0.2.1", &never, at(0)));
    }

    #[test]
    fn many_addresses_take_little_and_hide_nobody() {
        let mut failures = Failures::default();
        (0..9).for_each(|_| failures.count("192.0.2.1", &RULE, at(0)));
        for n in 0..20_000u32 {
            failures.count(&std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).to_string(), &RULE, at(0));
        }
        assert_eq!(failures.0.len(), ADDRESSES_MAX);
        assert!(failures.hold("192.0.2.1", &RULE, at(0)));
    }
}
