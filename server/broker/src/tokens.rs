//! Tokens that nobody can guess, for subjects and ids that the server makes.

#[allow(deprecated, reason = "the standard library's other hashers take no key")]
use std::hash::{Hasher, SipHasher};

/// Characters of a token.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of an event's id, as many as nats-server's.
const ID_CHARS: usize = 22;

/// Numbers that look random to whoever doesn't know the key: SipHash-2-4 of a counter.
#[derive(Debug)]
pub(crate) struct Secret {
    key: u64,
    count: u64,
}

impl Secret {
    pub(crate) fn new(seed: u64) -> Self {
        Self { key: seed, count: 0 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.count += 1;
        #[allow(deprecated, reason = "see above")]
        let mut hasher = SipHasher::new_with_keys(self.key, !self.key.rotate_left(32));
        hasher.write_u64(self.count);
        hasher.finish()
    }

    /// An id that no other event has.
    pub(crate) fn event_id(&mut self) -> String {
        let mut id = Vec::with_capacity(ID_CHARS);
        write(self.next() % numbers(10), 10, &mut id);
        write(self.next() % numbers(10), 10, &mut id);
        write(self.next() % numbers(2), 2, &mut id);
        String::from_utf8(id).expect("digits are ASCII")
    }
}

/// How many numbers have so many characters, 10 at most.
pub(crate) fn numbers(chars: usize) -> u64 {
    62u64.pow(u32::try_from(chars.min(10)).unwrap_or(10))
}

/// Appends a number as so many characters.
pub(crate) fn write(mut number: u64, chars: usize, out: &mut Vec<u8>) {
    for _ in 0..chars {
        out.push(DIGITS[(number % 62) as usize]);
        number /= 62;
    }
}

/// The number that [`write()`] wrote as these characters, 10 at most.
pub(crate) fn read(chars: &[u8]) -> Option<u64> {
    chars.iter().rev().try_fold(0u64, |number, char| {
        let digit = match char {
            b'0'..=b'9' => char - b'0',
            b'A'..=b'Z' => char - b'A' + 10,
            b'a'..=b'z' => char - b'a' + 36,
            _ => return None,
        };
        number.checked_mul(62)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_numbers() {
        let mut secret = Secret::new(7);
        for chars in [1, 6, 10] {
            for _ in 0..100 {
                let number = secret.next() % numbers(chars);
                let mut token = Vec::new();
                write(number, chars, &mut token);
                assert_eq!((token.len(), read(&token)), (chars, Some(number)));
            }
        }
        assert_eq!(read(b"a-b"), None);
        let (one, other) = (secret.event_id(), secret.event_id());
        assert!(one.len() == 22 && one != other);
    }

    #[test]
    fn the_key_decides() {
        let numbers = |seed| {
            let mut secret = Secret::new(seed);
            [secret.next(), secret.next()]
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
    }
}
