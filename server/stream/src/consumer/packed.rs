//! Many numbers in few bytes: what is pending, what went again, what is to go first.
//!
//! ```text
//!   run:  0bWDLLLGGG [gap] [length] [delivery] [value]
//!            ││ │  └─ numbers that are left out before it; 7: a varint says how many more
//!            ││ └──── numbers in it, less one; 7 likewise
//!            │└────── its first delivery isn't as far from the one before as its number is: by how much, zigzag
//!            └─────── its value is another
//! ```
//!
//! A run is numbers without a gap, whose deliveries follow each other and whose values are the same. Consumers that keep up
//! have one run, however many messages they hold; acknowledged at random, a message takes a byte.

/// A number, its delivery, and something else about it.
pub(super) type Entry = (u64, u64, u64);

/// Numbers that are read at most.
const ENTRIES_MAX: u64 = 1 << 24;
/// More than fits into the first byte.
const MORE: u64 = 7;
const DELIVERY: u8 = 1 << 6;
const VALUE: u8 = 1 << 7;

/// Packs entries, which are in the order of their numbers.
pub(super) fn pack(entries: impl IntoIterator<Item = Entry>) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut entries = entries.into_iter();
    let mut next = entries.next();
    let mut before: Entry = (0, 0, 0);
    while let Some(first) = next {
        let mut last = first;
        next = loop {
            match entries.next() {
                Some(entry) if entry == (last.0 + 1, last.1 + 1, last.2) => last = entry,
                other => break other,
            }
        };
        let (gap, more) = (first.0.saturating_sub(before.0 + 1), last.0 - first.0);
        let expected = before.1.wrapping_add(first.0 - before.0);
        let apart = first.1.wrapping_sub(expected).cast_signed();
        let mut head = (gap.min(MORE) | (more.min(MORE) << 3)) as u8;
        if apart != 0 {
            head |= DELIVERY;
        }
        if first.2 != before.2 {
            head |= VALUE;
        }
        packed.push(head);
        if gap >= MORE {
            push(&mut packed, gap - MORE);
        }
        if more >= MORE {
            push(&mut packed, more - MORE);
        }
        if apart != 0 {
            push(&mut packed, ((apart << 1) ^ (apart >> 63)).cast_unsigned());
        }
        if first.2 != before.2 {
            push(&mut packed, first.2);
        }
        before = last;
    }
    packed
}

/// Reads what [`pack`] wrote. `None` if it is something else, or more than anybody holds.
pub(super) fn unpack(mut packed: &[u8]) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut before: Entry = (0, 0, 0);
    while let Some((&head, rest)) = packed.split_first() {
        packed = rest;
        let mut part =
            |code: u64| if code == MORE { pull(&mut packed)?.checked_add(MORE) } else { Some(code) };
        let gap = part(u64::from(head) & MORE)?;
        let more = part((u64::from(head) >> 3) & MORE)?;
        let seq = before.0.checked_add(1)?.checked_add(gap)?;
        let mut delivery = before.1.wrapping_add(seq - before.0);
        if head & DELIVERY != 0 {
            let apart = pull(&mut packed)?;
            delivery = delivery.wrapping_add((apart >> 1) ^ (apart & 1).wrapping_neg());
        }
        let value = if head & VALUE != 0 { pull(&mut packed)? } else { before.2 };
        let (last, last_delivery) = (seq.checked_add(more)?, delivery.checked_add(more)?);
        if more >= ENTRIES_MAX || entries.len() as u64 + more >= ENTRIES_MAX {
            return None;
        }
        entries.extend((0..=more).map(|step| (seq + step, delivery + step, value)));
        before = (last, last_delivery, value);
    }
    Some(entries)
}

fn push(packed: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        packed.push(number as u8 | 0x80);
        number >>= 7;
    }
    packed.push(number as u8);
}

fn pull(packed: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for at in 0..10 {
        let (&byte, rest) = packed.split_first()?;
        *packed = rest;
        number |= u64::from(byte & 0x7f).checked_shl(7 * at)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_keeps_up_has_one_run() {
        let packed = pack((1..=1_000_000).map(|seq| (seq, seq, 30)));
        assert!(packed.len() < 8, "{}", packed.len());
        assert_eq!(unpack(&packed).unwrap().len(), 1_000_000);
    }

    #[test]
    fn every_second_one_takes_a_byte() {
        let packed = pack((1..=1_000_000).map(|seq| (2 * seq, 2 * seq, 0)));
        assert!(packed.len() < 1_000_010, "{}", packed.len());
    }

    #[test]
    fn what_was_not_packed_is_refused() {
        for bytes in [&[0x07][..], &[0x07, 0xff], &[0x38, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x40]] {
            assert_eq!(unpack(bytes), None, "{bytes:x?}");
        }
        assert_eq!(unpack(&[]), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn entries_come_back(gaps in prop::collection::vec((1u64..20, -3i64..3, 0u64..3), 0..300), first in 1u64..1 << 60) {
            let mut entries: Vec<Entry> = Vec::new();
            let (mut seq, mut delivery) = (first, first / 3);
            for (gap, apart, value) in gaps {
                seq += gap / 8 + 1;
                delivery = delivery.saturating_add_signed(apart + 4 * i64::from(gap == 19)).max(1);
                entries.push((seq, delivery, value * (gap % 5)));
            }
            prop_assert_eq!(unpack(&pack(entries.iter().copied())), Some(entries));
        }

        #[test]
        fn bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = unpack(&bytes);
        }
    }
}
