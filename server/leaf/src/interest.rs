//! What is subscribed to here, as a hub must hear of it: each subject once, each queue group with its members.

use std::collections::HashMap;

/// Separates a subject from a queue group in a key; neither can hold it.
const GAP: u8 = b' ';

/// Subscriptions here, by subject and queue group.
///
/// ```text
/// SUB a 1, SUB a 2      LS+ a            the second adds nothing
/// SUB b q 3, SUB b q 4  LS+ b q 1, LS+ b q 2
/// UNSUB 1, UNSUB 2      LS- a
/// ```
#[derive(Clone, Debug, Default)]
pub struct Interest {
    counts: HashMap<Box<[u8]>, u32>,
}

/// What a hub must hear of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// LS+, with the number of members if it is a queue group.
    Announce(u32),
    /// LS-.
    Withdraw,
}

impl Interest {
    /// A subscription came.
    pub fn add(&mut self, subject: &[u8], queue: Option<&[u8]>) -> Change {
        let count = self.counts.entry(key(subject, queue)).or_default();
        *count = count.saturating_add(1);
        if queue.is_some() || *count == 1 { Change::Announce(*count) } else { Change::None }
    }

    /// A subscription went.
    pub fn remove(&mut self, subject: &[u8], queue: Option<&[u8]>) -> Change {
        let key = key(subject, queue);
        let Some(count) = self.counts.get_mut(&key) else { return Change::None };
        *count -= 1;
        if *count > 0 {
            return if queue.is_some() { Change::Announce(*count) } else { Change::None };
        }
        self.counts.remove(&key);
        if self.counts.capacity() > 64 && self.counts.len() < self.counts.capacity() / 8 {
            self.counts.shrink_to(self.counts.len() * 2);
        }
        Change::Withdraw
    }

    /// All that is subscribed to: subject, and queue group with its members.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<(&[u8], u32)>)> {
        self.counts.iter().map(|(key, count)| match key.iter().position(|byte| *byte == GAP) {
            None => (&**key, None),
            Some(gap) => {
                let (subject, queue) = key.split_at(gap);
                (subject, Some((queue.get(1..).unwrap_or_default(), *count)))
            }
        })
    }

    /// How many subjects and queue groups there are.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

fn key(subject: &[u8], queue: Option<&[u8]>) -> Box<[u8]> {
    match queue {
        None => subject.into(),
        Some(queue) => [subject, &[GAP], queue].concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn many_are_one_line() {
        let mut interest = Interest::default();
        assert_eq!(interest.add(b"a", None), Change::Announce(1));
        assert_eq!(interest.add(b"a", None), Change::None);
        assert_eq!(interest.add(b"a", Some(b"q")), Change::Announce(1));
        assert_eq!(interest.add(b"a", Some(b"q")), Change::Announce(2));
        assert_eq!(interest.remove(b"a", Some(b"q")), Change::Announce(1));
        assert_eq!(interest.remove(b"a", None), Change::None);
        assert_eq!(interest.remove(b"a", None), Change::Withdraw);
        assert_eq!(interest.remove(b"a", None), Change::None);
        assert_eq!(interest.iter().collect::<Vec<_>>(), [(&b"a"[..], Some((&b"q"[..], 1)))]);
    }

    proptest! {
        /// Whoever only reads the lines knows what there is.
        #[test]
        fn the_lines_tell_all(steps in prop::collection::vec((any::<bool>(), 0..4u8, prop::option::of(0..3u8)), 0..80)) {
            let (mut interest, mut told, mut truth) = (Interest::default(), BTreeMap::new(), BTreeMap::new());
            for (add, subject, queue) in steps {
                let subject = [b'a' + subject];
                let queue = queue.map(|queue| [b'q' + queue]);
                let (name, key) = (queue.as_ref().map(|queue| &queue[..]), (subject, queue));
                let count: &mut u32 = truth.entry(key).or_default();
                if !add && *count == 0 {
                    continue;
                }
                let change = if add { interest.add(&subject, name) } else { interest.remove(&subject, name) };
                *count = if add { *count + 1 } else { *count - 1 };
                match change {
                    Change::None => {}
                    Change::Announce(weight) => drop(told.insert(key, weight)),
                    Change::Withdraw => drop(told.remove(&key)),
                }
            }
            truth.retain(|_, count| *count > 0);
            prop_assert_eq!(told.keys().collect::<Vec<_>>(), truth.keys().collect::<Vec<_>>());
            for ((_, queue), weight) in &told {
                prop_assert!(queue.is_some() || *weight == 1);
            }
            for (key, weight) in told.iter().filter(|((_, queue), _)| queue.is_some()) {
                prop_assert_eq!(truth.get(key), Some(weight));
            }
            prop_assert_eq!(interest.len(), truth.len());
        }
    }
}
