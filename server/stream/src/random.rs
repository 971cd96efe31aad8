//! Names that nobody chose. The driver gives the seed.

/// A small generator: SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014). Names need
/// to differ, not to be secret.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        // A remainder of 32 bits.
        self.next().checked_rem(bound.into()).unwrap_or(0) as u32
    }

    /// `len` letters and digits.
    pub(crate) fn name(&mut self, len: usize) -> String {
        (0..len).map(|_| char::from(DIGITS[(self.next() % 62) as usize])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let mut random = Random::new(1);
        let (one, other) = (random.name(8), random.name(8));
        assert_ne!(one, other);
        assert!(one.len() == 8 && one.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(Random::new(1).name(8), one, "the seed decides");
    }
}
