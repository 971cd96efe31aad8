//! Sorting what is seldom sorted. The library's sort is made for speed and takes some 3 kB of program for each kind of list: with
//! `sort_unstable_by` in here the released daemon has 18,064 bytes more, with `sort_by` 23,120.

use std::cmp::Ordering;

/// Sorts by `compare`, in the time that a heap sort takes. Equal items may change places.
pub(crate) fn sort_by<T>(list: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    for root in (0..list.len() / 2).rev() {
        sift(list, root, &compare);
    }
    for end in (1..list.len()).rev() {
        list.swap(0, end);
        sift(list.get_mut(..end).unwrap_or_default(), 0, &compare);
    }
}

/// Lets the item at `root` sink below all that is larger.
fn sift<T>(heap: &mut [T], mut root: usize, compare: &impl Fn(&T, &T) -> Ordering) {
    loop {
        let mut child = 2 * root + 1;
        let (Some(parent), Some(left)) = (heap.get(root), heap.get(child)) else { return };
        let mut largest = left;
        if let Some(right) = heap.get(child + 1).filter(|right| compare(left, right).is_lt()) {
            (largest, child) = (right, child + 1);
        }
        if compare(parent, largest).is_ge() {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_the_library_sorts(list: Vec<u8>) {
            let (mut sorted, mut expected) = (list.clone(), list);
            sort_by(&mut sorted, u8::cmp);
            expected.sort_unstable();
            prop_assert_eq!(sorted, expected);
        }
    }
}
