//! Filters of one kind, compiled: asked in the time that a subject's tokens take, not the number of filters.
//!
//! A tree of tokens in one array, laid out level by level, so that the children of a node stand side by side in the
//! order of their labels and one is found by bisection, mostly by the first four bytes alone. Labels are places in the text that was compiled, which stays, in
//! its own order, for those who want to know what is allowed. `plant.*.temp`, `plant.7.>` and `plant.7 shift`:
//!
//! ```text
//! 0 root ── 1 plant ─┬─ 2 *  ── 4 temp (end)
//!                    └─ 3 7    (rest; end: queue groups "shift")
//! ```
//!
//! A node takes 32 bytes. Nothing changes once it is compiled: connections of one user share it.

use std::cmp::Ordering;

use midge_protocol::subject::{Filter, REST, STAR, Tokens, tokens};

use crate::sort::sort_by;

/// Filters, each perhaps with the queue groups that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patterns {
    /// The entries, one a line.
    text: Box<str>,
    nodes: Box<[Node]>,
    /// Ends that are about queue groups.
    ends: Box<[End]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Node {
    /// The first bytes of its token, for comparing.
    key: u32,
    /// Where its token stands in the text.
    label: Span,
    /// Its children by label, without `*`.
    children: Span,
    /// Its child for `*`; 0: none, as the root is nobody's child.
    star: u32,
    /// The filter that ends here.
    end: EndId,
    /// The filter that goes on with `>`.
    rest: EndId,
}

/// A place and a length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    at: u32,
    len: u32,
}

/// The first four bytes as a number that has their order.
#[inline]
fn key(token: &[u8]) -> u32 {
    match token.first_chunk() {
        Some(first) => u32::from_be_bytes(*first),
        None => {
            let mut first = [0; 4];
            first.iter_mut().zip(token).for_each(|(to, from)| *to = *from);
            u32::from_be_bytes(first)
        }
    }
}

/// 0: none, 1: a filter about no queue groups, else a place in [`Patterns::ends`], counted from 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct EndId(u32);

impl EndId {
    const PLAIN: Self = Self(1);
}

/// What is said of one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    /// It is there without queue groups, too.
    plain: bool,
    /// Names of queue groups, in order.
    names: Box<[Box<[u8]>]>,
    /// Those that stand for more than one.
    wild: Option<Box<Patterns>>,
}

/// What the filters that fit say of queue groups, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// One of them is about no queue group.
    pub(super) plain: bool,
    /// One of them is about queue groups …
    pub(super) queues: bool,
    /// … and the one that was asked about is among them.
    pub(super) named: bool,
}

/// How a node's filter is compared with what is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// A subject, whose tokens are as they are: `*` is only itself.
    Literal,
    /// A filter, all of whose subjects must fit.
    Subset,
}

impl Patterns {
    /// Compiles entries: a filter, or a filter and the name of queue groups, separated by a space. What is neither is
    /// left out.
    pub(super) fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Self {
        let entries = entries.into_iter().filter_map(Entry::read).map(|entry| match entry.queue {
            Some(queue) => format!("{} {queue}", entry.filter),
            None => entry.filter.to_owned(),
        });
        let text = entries.collect::<Vec<_>>().join("\n").into_boxed_str();
        // Labels are places of 32 bits.
        if u32::try_from(text.len()).is_err() {
            return Self::new([]);
        }
        let mut sorted: Vec<Entry<'_>> = text.lines().filter_map(Entry::read).collect();
        let mut at = 0;
        for (entry, line) in sorted.iter_mut().zip(text.lines()) {
            entry.at = at;
            at += u32_of(line.len() + 1);
        }
        // Any order will do among entries that differ in their queue group.
        sort_by(&mut sorted, Entry::compare);
        let (nodes, ends) = Builder::default().build(&sorted);
        Self { nodes, ends, text }
    }

    /// The entries as they were given.
    pub(super) fn entries(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let names =
            |end: &End| end.names.iter().map(|name| name.len() + size_of::<Box<[u8]>>()).sum::<usize>();
        let wild = |end: &End| end.wild.as_ref().map_or(0, |wild| size_of::<Self>() + wild.bytes());
        let ends = self.ends.iter().map(|end| size_of::<End>() + names(end) + wild(end)).sum::<usize>();
        self.text.len() + size_of_val(&*self.nodes) + ends
    }

    /// Whether a filter about no queue group fits `subject`.
    #[inline]
    pub(super) fn has_plain(&self, subject: &[u8]) -> bool {
        self.any(subject, Fit::Literal, |end| self.is_plain(end))
    }

    /// Whether any filter fits `subject`.
    #[inline]
    pub(super) fn has(&self, subject: &[u8]) -> bool {
        self.any(subject, Fit::Literal, |_| true)
    }

    /// What the filters that fit `subject` say of `queue`.
    pub(super) fn find(&self, subject: &[u8], queue: Option<&[u8]>) -> Found {
        self.collect(subject, Fit::Literal, queue)
    }

    /// What the filters say of `queue` that all subjects of `filter` fit.
    pub(super) fn find_covering(&self, filter: &[u8], queue: Option<&[u8]>) -> Found {
        self.collect(filter, Fit::Subset, queue)
    }

    fn collect(&self, asked: &[u8], fit: Fit, queue: Option<&[u8]>) -> Found {
        let mut found = Found::default();
        self.any(asked, fit, |end| {
            match self.end(end) {
                None => found.plain = true,
                Some(end) => {
                    found.plain |= end.plain;
                    found.queues = true;
                    found.named |= queue.is_some_and(|queue| end.names(queue));
                }
            }
            // What can't change any more need not be looked for.
            found.plain && found.queues && (found.named || queue.is_none())
        });
        found
    }

    /// Whether there is a subject that fits `filter` and one of these. Costs as many steps as there are nodes where
    /// `filter` has wildcards.
    pub(super) fn overlap(&self, filter: &[u8]) -> bool {
        let mut pending = vec![(0, tokens(filter))];
        while let Some((at, mut rest)) = pending.pop() {
            let Some(node) = self.nodes.get(at as usize) else { continue };
            let Some(token) = rest.next() else {
                if node.end != EndId::default() {
                    return true;
                }
                continue;
            };
            // Every node leads to a filter, and what is below this one has a token more.
            if node.rest != EndId::default() || (token == REST && (node.children.len > 0 || node.star > 0)) {
                return true;
            }
            if token == STAR {
                let literals = node.children.at..node.children.at + node.children.len;
                let star = Some(node.star).filter(|star| *star > 0);
                pending.extend(literals.chain(star).map(|child| (child, rest.clone())));
            } else {
                let star = Some(node.star).filter(|star| *star > 0);
                let found = star.into_iter().chain(self.child(node, token));
                pending.extend(found.map(|child| (child, rest.clone())));
            }
        }
        false
    }

    /// Shows `stop` the ends of all filters that fit, until it has seen enough; whether it has.
    #[inline]
    fn any(&self, asked: &[u8], fit: Fit, mut stop: impl FnMut(EndId) -> bool) -> bool {
        let mut pending: Vec<(u32, Tokens<'_>)> = Vec::new();
        let mut next = Some((0, tokens(asked)));
        while let Some((mut at, mut rest)) = next.take().or_else(|| pending.pop()) {
            while let Some(node) = self.nodes.get(at as usize) {
                let Some(token) = rest.next() else {
                    if node.end != EndId::default() && stop(node.end) {
                        return true;
                    }
                    break;
                };
                if token.is_empty() {
                    break;
                }
                if node.rest != EndId::default()
                    && rest.clone().all(|token| !token.is_empty())
                    && stop(node.rest)
                {
                    return true;
                }
                let has_star = node.star > 0 && (fit == Fit::Literal || token != REST);
                at = match self.child(node, token) {
                    Some(child) => {
                        if has_star {
                            pending.push((node.star, rest.clone()));
                        }
                        child
                    }
                    None if has_star => node.star,
                    None => break,
                };
            }
        }
        false
    }

    #[inline]
    fn label(&self, node: &Node) -> &[u8] {
        let Span { at, len } = node.label;
        self.text.as_bytes().get(at as usize..(at + len) as usize).unwrap_or_default()
    }

    /// The child for a token that is no wildcard.
    #[inline]
    fn child(&self, node: &Node, token: &[u8]) -> Option<u32> {
        let Span { at, len } = node.children;
        let children = self.nodes.get(at as usize..(at + len) as usize)?;
        let key = key(token);
        // A token of up to four bytes is its key and its length.
        let compare = |child: &Node| {
            child.key.cmp(&key).then_with(|| match token.len() {
                0..=4 => child.label.len.cmp(&u32_of(token.len())),
                _ => self.label(child).cmp(token),
            })
        };
        let place = children.binary_search_by(compare).ok()?;
        Some(at + u32_of(place))
    }

    #[inline]
    fn end(&self, id: EndId) -> Option<&End> {
        self.ends.get((id.0 as usize).checked_sub(2)?)
    }

    #[inline]
    fn is_plain(&self, id: EndId) -> bool {
        self.end(id).is_none_or(|end| end.plain)
    }
}

impl End {
    /// True if `queue` is one of its queue groups.
    fn names(&self, queue: &[u8]) -> bool {
        self.names.binary_search_by(|name| (**name).cmp(queue)).is_ok()
            || self
                .wild
                .as_ref()
                .is_some_and(|wild| Filter::new(queue).is_ok() && wild.any(queue, Fit::Subset, |_| true))
    }
}

/// `*` comes first.
fn order(token: &[u8]) -> (bool, &[u8]) {
    (token != STAR, token)
}

/// One of the filters to be compiled.
#[derive(Clone, Copy)]
struct Entry<'a> {
    /// Where the filter stands in the text.
    at: u32,
    filter: &'a str,
    queue: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let filter = words.next().filter(|filter| Filter::new(filter.as_bytes()).is_ok())?;
        Some(Self { at: 0, filter, queue: words.next() })
    }

    // Sorting has a dozen places that call it.
    #[inline(never)]
    fn compare(&self, other: &Self) -> Ordering {
        let keys = |entry: &Self| tokens(entry.filter.as_bytes()).map(order);
        keys(self).cmp(keys(other))
    }
}

/// An entry below a node: what follows the tokens that lead there, and where that stands in the text.
struct Below<'a> {
    entry: Entry<'a>,
    at: u32,
    rest: Tokens<'a>,
}

impl<'a> Below<'a> {
    fn new(entry: Entry<'a>) -> Self {
        Self { entry, at: entry.at, rest: tokens(entry.filter.as_bytes()) }
    }
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    ends: Vec<End>,
}

impl Builder {
    /// `sorted` is ordered by tokens.
    fn build(mut self, sorted: &[Entry<'_>]) -> (Box<[Node]>, Box<[End]>) {
        let mut below = vec![sorted.iter().map(|entry| Below::new(*entry)).collect::<Vec<_>>()];
        self.nodes.push(Node::default());
        let mut next = 0;
        while let Some(entries) = below.get_mut(next).map(std::mem::take) {
            let (mut ending, mut going_on) = (Vec::new(), Vec::new());
            let mut first = self.nodes.len();
            let mut star = 0;
            let mut last: &[u8] = REST;
            for Below { entry, at, mut rest } in entries {
                match rest.next() {
                    None => ending.push(entry),
                    Some(REST) => going_on.push(entry),
                    Some(token) => {
                        if token != last {
                            let label = Span { at, len: u32_of(token.len()) };
                            if token == STAR {
                                star = u32_of(first);
                                first += 1;
                            }
                            self.nodes.push(Node { key: key(token), label, ..Node::default() });
                            below.push(Vec::new());
                            last = token;
                        }
                        let at = at + u32_of(token.len() + 1);
                        below
                            .last_mut()
                            .into_iter()
                            .for_each(|it| it.push(Below { entry, at, rest: rest.clone() }));
                    }
                }
            }
            let (end, rest) = (self.end(&ending), self.end(&going_on));
            let children = Span { at: u32_of(first), len: u32_of(self.nodes.len() - first) };
            self.nodes
                .get_mut(next)
                .into_iter()
                .for_each(|node| *node = Node { children, star, end, rest, ..*node });
            next += 1;
        }
        (self.nodes.into(), self.ends.into())
    }

    /// What entries of one filter say together.
    fn end(&mut self, entries: &[Entry<'_>]) -> EndId {
        let mut names: Vec<&str> = entries.iter().filter_map(|entry| entry.queue).collect();
        sort_by(&mut names, Ord::cmp);
        names.dedup();
        match (names.is_empty(), entries.is_empty()) {
            (true, true) => return EndId::default(),
            (true, false) => return EndId::PLAIN,
            (false, _) => {}
        }
        let is_wild = |name: &&str| Filter::new(name.as_bytes()).is_ok_and(|name| !name.is_literal());
        let wild: Vec<&str> = names.iter().copied().filter(is_wild).collect();
        self.ends.push(End {
            plain: entries.iter().any(|entry| entry.queue.is_none()),
            names: names.iter().map(|name| name.as_bytes().into()).collect(),
            wild: (!wild.is_empty()).then(|| Box::new(Patterns::new(wild))),
        });
        EndId(u32_of(self.ends.len() + 1))
    }
}

/// All that is counted here is no more than the characters of a text that is shorter than 4 GiB.
#[inline]
fn u32_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_small() {
        assert_eq!(size_of::<Node>(), 32);
    }

    #[test]
    fn one_node_for_each_beginning() {
        let patterns =
            Patterns::new(["plant.*.temp", "plant.7.>", "plant.7 shift", "plant.7", "not..one", "plant.!"]);
        assert_eq!(patterns.nodes.len(), 6);
        assert!(patterns.entries().eq(["plant.*.temp", "plant.7.>", "plant.7 shift", "plant.7", "plant.!"]));
        for (subject, yes) in [
            ("plant.8.temp", true),
            ("plant.7.temp", true),
            ("plant.7.hum.max", true),
            ("plant.8.hum", false),
            ("plant.7", true),
            ("plant.!", true),
            ("plant", false),
            ("plant.7.", false),
            ("plant.7.a..b", false),
            ("", false),
        ] {
            assert_eq!(patterns.has(subject.as_bytes()), yes, "{subject}");
        }
        assert!(!Patterns::new([]).has(b"a") && !Patterns::new([]).overlap(b">"));
    }

    #[test]
    fn all_names_on_the_way() {
        let patterns = Patterns::new(["a.b q", "a.* r.*", "a.b x", "> y"]);
        let found = |queue: &str| patterns.find(b"a.b", Some(queue.as_bytes()));
        for (queue, named) in
            [("q", true), ("r.1", true), ("x", true), ("y", true), ("r", false), ("..", false)]
        {
            assert_eq!(found(queue), Found { plain: false, queues: true, named }, "{queue}");
        }
        assert_eq!(patterns.find(b"b", None), Found { plain: false, queues: true, named: false });
    }
}
