//! Whom a subject reaches.

use core::fmt;

use crate::SubId;

/// The subscriptions that a message must go to: each of [`plain`](Self::plain), and one of each of
/// [`groups`](Self::groups).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Matches {
    /// The plain subscriptions, then the members of one group after the other.
    ids: Vec<SubId>,
    plain: usize,
    /// Where each group ends in `ids`.
    ends: Vec<u32>,
}

impl Matches {
    /// Subscriptions outside a queue group. In no particular order, none twice.
    pub fn plain(&self) -> &[SubId] {
        &self.ids[..self.plain]
    }

    /// The members of each distinct queue name, none empty. Members come from all filters that match, because
    /// the name alone decides who shares a message.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = &[SubId]> + Clone {
        let mut start = self.plain;
        self.ends.iter().map(move |end| {
            let end = *end as usize;
            &self.ids[core::mem::replace(&mut start, end)..end]
        })
    }

    /// True if the subject reaches nobody.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Deliveries of one message: plain subscriptions plus groups.
    pub fn fanout(&self) -> usize {
        self.plain + self.ends.len()
    }

    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.ends.clear();
        self.plain = 0;
    }

    /// Adds a plain subscription. All of them come before the first group.
    pub(crate) fn push_plain(&mut self, id: SubId) {
        self.ids.push(id);
        self.plain += 1;
    }

    /// Adds members to the last group, or to a new one.
    pub(crate) fn push_members(&mut self, members: impl Iterator<Item = SubId>, new_group: bool) {
        self.ids.extend(members);
        if !new_group {
            self.ends.pop();
        }
        self.ends.push(self.ids.len() as u32);
    }

    /// Bytes asked of the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.ids.capacity() * size_of::<SubId>() + self.ends.capacity() * size_of::<u32>()
    }

    /// Gives back the room that an earlier, much larger result left.
    pub(crate) fn trim(&mut self) {
        if self.ids.capacity() > 2 * self.ids.len() + SPARE {
            self.ids.shrink_to_fit();
        }
        if self.ends.capacity() > 2 * self.ends.len() + SPARE {
            self.ends.shrink_to_fit();
        }
    }
}

impl fmt::Debug for Matches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matches")
            .field("plain", &self.plain())
            .field("groups", &self.groups().collect::<Vec<_>>())
            .finish()
    }
}

/// Unused room in a result that is not worth an allocator call, in elements.
const SPARE: usize = 32;
