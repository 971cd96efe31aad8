//! How long to wait before the next attempt, and where to go.

use midge_protocol::json::{self, Value};

/// Waits that double, with jitter: after a gateway restarts, its devices don't come back all at once.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Backoff {
    min_ms: u32,
    max_ms: u32,
    attempts: u8,
    random: u32,
}

impl Backoff {
    /// From `min_ms` to `max_ms`; `random` differs between devices, and from one start to the next.
    pub const fn new(min_ms: u32, max_ms: u32, random: u32) -> Self {
        // A generator that is 0 stays 0.
        Self { min_ms, max_ms, attempts: 0, random: random | 1 }
    }

    /// The connection was made and taken: the next wait is short again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Attempts since the last that succeeded.
    pub fn attempts(&self) -> u8 {
        self.attempts
    }

    /// How long to wait now, in ms: between half and all of what it has doubled to.
    pub fn next_ms(&mut self) -> u32 {
        let factor = 1u32.checked_shl(self.attempts.into()).unwrap_or(u32::MAX);
        let whole = self.min_ms.saturating_mul(factor).min(self.max_ms);
        self.attempts = self.attempts.saturating_add(1);
        // xorshift, and the upper half of a product instead of a remainder.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let half = whole >> 1;
        let part = (u64::from(self.random).wrapping_mul(u64::from(whole.wrapping_sub(half)).wrapping_add(1))
            >> 32) as u32;
        half.saturating_add(part)
    }
}

/// Up to `N` servers: those that the device was given, then those that a cluster named in INFO. Each takes
/// [`Servers::ADDRESS_MAX`] + 1 bytes.
#[derive(Clone, Debug)]
pub struct Servers<const N: usize> {
    given: &'static [&'static str],
    learnt: [Address; N],
    at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Address {
    bytes: [u8; Servers::<0>::ADDRESS_MAX],
    len: u8,
}

impl<const N: usize> Servers<N> {
    /// The longest address that is learnt: an IPv6 address with its port, in brackets.
    pub const ADDRESS_MAX: usize = 47;

    /// Knows what the device was given: `host:port` each.
    pub const fn new(given: &'static [&'static str]) -> Self {
        Self { given, learnt: [Address { bytes: [0; Servers::<0>::ADDRESS_MAX], len: 0 }; N], at: 0 }
    }

    /// Learns from what [`Event::Greeting`](crate::Event::Greeting) and [`Event::Info`](crate::Event::Info) hand over.
    /// The last list counts; what it has no room for is left out.
    pub fn learn(&mut self, json: Option<&[u8]>) {
        // Only the one member: to understand all of INFO takes flash.
        let mut urls = None;
        let read = json::object(json.unwrap_or_default(), |key, value| {
            if let (Some("connect_urls"), Value::Nested(list)) = (key.as_plain(), value) {
                urls = Some(list);
            }
            Ok(())
        });
        let (Ok(()), Some(urls)) = (read, urls) else { return };
        for address in &mut self.learnt {
            address.len = 0;
        }
        let mut at = 0usize;
        let given = self.given;
        let _ = json::texts(urls, |url| {
            let Some(url) = url.as_plain() else { return };
            if given.contains(&url) {
                return;
            }
            if let Some(Address { bytes, len }) = self.learnt.get_mut(at)
                && let Some(place) = bytes.get_mut(..url.len())
            {
                place.copy_from_slice(url.as_bytes());
                // No longer than the array.
                *len = url.len() as u8;
                at = at.saturating_add(1);
            }
        });
    }

    /// The server to try: the same as before, until [`Servers::advance`]. `None` if there are none at all.
    pub fn current(&self) -> Option<&str> {
        self.iter().nth(self.at).or_else(|| self.iter().next())
    }

    /// The next attempt goes to the next server; after the last one comes the first.
    pub fn advance(&mut self) {
        self.at = self.at.saturating_add(1);
        if self.at >= self.iter().count() {
            self.at = 0;
        }
    }

    /// All servers, the given ones first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let learnt = self.learnt.iter().filter_map(|address| {
            let bytes = address.bytes.get(..usize::from(address.len))?;
            core::str::from_utf8(bytes).ok().filter(|text| !text.is_empty())
        });
        self.given.iter().copied().chain(learnt)
    }
}

#[cfg(feature = "defmt")]
impl<const N: usize> defmt::Format for Servers<N> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Servers {{ current: {}, count: {} }}", self.current(), self.iter().count());
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn waits_double_and_stay_below_their_end() {
        for random in [0, 1, 7, u32::MAX] {
            let mut backoff = Backoff::new(100, 10_000, random);
            let waits: Vec<_> = (0..300).map(|_| backoff.next_ms()).collect();
            for (attempt, wait) in waits.iter().enumerate() {
                let whole = if attempt < 7 { 100 << attempt } else { 10_000 };
                assert!((whole / 2..=whole).contains(wait), "{attempt}: {wait}");
            }
            assert_eq!(backoff.attempts(), 255);
            backoff.reset();
            assert!(backoff.next_ms() <= 100);
        }
        let spread: Vec<_> = (0..100).map(|device| Backoff::new(1000, 1000, device << 8).next_ms()).collect();
        assert!(spread.iter().collect::<std::collections::BTreeSet<_>>().len() > 50, "{spread:?}");
    }

    #[test]
    fn servers_take_turns() {
        let mut servers = Servers::<2>::new(&["gateway:4222"]);
        servers.advance();
        assert_eq!(servers.current(), Some("gateway:4222"));
        servers.learn(Some(
            br#"{"connect_urls":["10.0.0.1:4222","gateway:4222","[2001:db8::1]:4222","10.0.0.3:4222"]}"#,
        ));
        let all = |servers: &Servers<2>| servers.iter().map(std::string::String::from).collect::<Vec<_>>();
        assert_eq!(all(&servers), ["gateway:4222", "10.0.0.1:4222", "[2001:db8::1]:4222"]);
        for expected in ["10.0.0.1:4222", "[2001:db8::1]:4222", "gateway:4222"] {
            servers.advance();
            assert_eq!(servers.current(), Some(expected));
        }
        for nothing in [None, Some(&b"{}"[..]), Some(b"x"), Some(br#"{"connect_urls":[1"#)] {
            servers.learn(nothing);
            assert_eq!(servers.iter().count(), 3, "what isn't understood changes nothing");
        }
        servers.advance();
        servers.advance();
        servers.learn(Some(br#"{"connect_urls":[]}"#));
        assert_eq!(servers.current(), Some("gateway:4222"));
        assert_eq!(Servers::<0>::new(&[]).current(), None);
    }
}
