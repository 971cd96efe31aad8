//! The subject tree: filters as paths of nodes, subscriptions in lists on the nodes.

use core::hash::{BuildHasher, Hasher};
use core::ops::ControlFlow;

use hashbrown::DefaultHashBuilder;
use midge_protocol::subject::{self, Filter, REST, SEPARATOR, STAR};

use crate::index::Index;
use crate::label::{Cells, Label};
use crate::matches::Matches;
use crate::slab::Slab;
use crate::{Full, SubId};

/// Filters and who asked for them. See the crate's documentation for the drawing.
pub(crate) struct Tree {
    nodes: Slab<Node>,
    groups: Slab<Group>,
    subs: Slab<Sub>,
    texts: Texts,
    by_token: Index,
    by_name: Index,
    /// Most values in each slab; lower only in tests.
    limit: usize,
}

/// A step of a filter: one token, or several as long as no other filter branches off between them.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    parent: u32,
    /// First plain subscription.
    subs: u32,
    /// First queue group.
    groups: u32,
    /// Number of children above the flags [`HAS_STAR`] and [`HAS_REST`].
    children: u32,
    label: Label,
}

/// A queue group of one node.
#[derive(Clone, Copy, Default)]
struct Group {
    node: u32,
    next: u32,
    prev: u32,
    /// First member; there always is one.
    members: u32,
    name: Label,
}

/// A link in a list of subscriptions. `prev` of the first is the last, `next` of the last is [`NIL`].
#[derive(Clone, Copy, Default)]
struct Sub {
    /// A node, or a group with [`IN_GROUP`] set.
    owner: u32,
    next: u32,
    prev: u32,
}

/// Buffers of a match that outlive it.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Nodes to go on from, with the place in the subject.
    steps: Vec<(u32, usize)>,
    groups: Vec<u32>,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::default());
        Self {
            nodes,
            groups: Slab::new(),
            subs: Slab::new(),
            texts: Texts { cells: Cells::new(), hasher: DefaultHashBuilder::default() },
            by_token: Index::new(),
            by_name: Index::new(),
            limit: LIMIT,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.subs.len()
    }

    /// Bytes asked of the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.nodes.heap_bytes()
            + self.groups.heap_bytes()
            + self.subs.heap_bytes()
            + self.texts.cells.heap_bytes()
            + self.by_token.heap_bytes()
            + self.by_name.heap_bytes()
    }

    pub(crate) fn insert(&mut self, filter: Filter<'_>, queue: Option<&[u8]>) -> Result<SubId, Full> {
        self.check_room(filter.as_bytes().len(), queue.map_or(0, <[u8]>::len))?;
        let node = self.make_path(filter.as_bytes());
        let sub = self.subs.insert(Sub::default());
        match queue {
            None => {
                self.subs[sub].owner = node;
                self.nodes[node].subs = self.link(self.nodes[node].subs, sub);
            }
            Some(name) => {
                let group = self.make_group(node, name);
                self.subs[sub].owner = group | IN_GROUP;
                self.groups[group].members = self.link(self.groups[group].members, sub);
            }
        }
        Ok(SubId(sub))
    }

    /// Takes out a subscription that is there.
    pub(crate) fn remove(&mut self, id: SubId) {
        let node = self.node_of(id);
        let owner = self.subs[id.0].owner;
        if owner & IN_GROUP == 0 {
            self.nodes[node].subs = self.unlink(self.nodes[node].subs, id.0);
        } else {
            let group = owner & !IN_GROUP;
            let members = self.unlink(self.groups[group].members, id.0);
            self.groups[group].members = members;
            if members == NIL {
                self.drop_group(group);
            }
        }
        self.subs.remove(id.0);
        self.prune(node);
    }

    pub(crate) fn contains(&self, id: SubId) -> bool {
        self.subs.get(id.0).is_some()
    }

    /// Appends the filter of a subscription that is there.
    pub(crate) fn filter_of(&self, id: SubId, out: &mut Vec<u8>) {
        let path: Vec<u32> = self.ancestry(self.node_of(id)).collect();
        for (depth, node) in path.into_iter().rev().enumerate() {
            if depth > 0 {
                out.push(SEPARATOR);
            }
            self.nodes[node].label.append_to(out, &self.texts.cells);
        }
    }

    /// Appends the first token of the filter of a subscription that is there.
    pub(crate) fn first_token_of(&self, id: SubId, out: &mut Vec<u8>) {
        if let Some(top) = self.ancestry(self.node_of(id)).last() {
            out.extend(self.nodes[top].label.bytes(&self.texts.cells).take_while(|b| *b != SEPARATOR));
        }
    }

    /// Appends the queue name of a subscription that is there. False if it is a plain one.
    pub(crate) fn queue_of(&self, id: SubId, out: &mut Vec<u8>) -> bool {
        let owner = self.subs[id.0].owner;
        if owner & IN_GROUP == 0 {
            return false;
        }
        self.groups[owner & !IN_GROUP].name.append_to(out, &self.texts.cells);
        true
    }

    /// Fills `matches`, which is empty, with everyone whom `subject` reaches.
    pub(crate) fn collect(&self, subject: &[u8], scratch: &mut Scratch, matches: &mut Matches) {
        let Scratch { steps, groups } = scratch;
        groups.clear();
        let _ = self.walk(subject, steps, |node| {
            self.list(node.subs).for_each(|id| matches.push_plain(id));
            groups.extend(self.groups_of(node));
            ControlFlow::Continue(())
        });
        let name = |group: &u32| &self.groups[*group].name;
        if groups.len() > 1 {
            // Equal names become neighbours.
            groups.sort_unstable_by(|a, b| name(a).cmp(name(b), &self.texts.cells).then(a.cmp(b)));
        }
        let mut last: Option<&u32> = None;
        for group in groups.iter() {
            let new = last.is_none_or(|last| name(last).cmp(name(group), &self.texts.cells).is_ne());
            matches.push_members(self.list(self.groups[*group].members), new);
            last = Some(group);
        }
    }

    /// True if `subject` reaches anyone.
    pub(crate) fn reaches_any(&self, subject: &[u8], scratch: &mut Scratch) -> bool {
        let found = self.walk(subject, &mut scratch.steps, |node| {
            if node.is_bare() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        found.is_break()
    }

    /// Visits every node whose filter `subject` reaches.
    fn walk(
        &self,
        subject: &[u8],
        steps: &mut Vec<(u32, usize)>,
        mut visit: impl FnMut(&Node) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        steps.clear();
        if subject::tokens(subject).any(<[u8]>::is_empty) {
            return ControlFlow::Continue(());
        }
        steps.push((ROOT, 0));
        while let Some((parent, at)) = steps.pop() {
            let rest = &subject[at..];
            let token = first_token(rest);
            let children = self.nodes[parent].children;
            if children & HAS_REST != 0
                && let Some(child) = self.child(parent, REST)
            {
                visit(&self.nodes[child])?;
            }
            // A wildcard character in a subject is a literal token, and no filter has it as one.
            let literal =
                token != STAR && token != REST && children >> FLAGS > (children & HAS_WILD).count_ones();
            let star = children & HAS_STAR != 0;
            for token in [literal.then_some(token), star.then_some(STAR)].into_iter().flatten() {
                let Some(child) = self.child(parent, token) else { continue };
                let node = &self.nodes[child];
                match node.label.advance(rest, &self.texts.cells) {
                    Some([]) => visit(node)?,
                    Some([_, rest @ ..]) if node.children != 0 => {
                        steps.push((child, subject.len() - rest.len()));
                    }
                    _ => {}
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The node of a filter; made if it is not there.
    fn make_path(&mut self, filter: &[u8]) -> u32 {
        let (mut node, mut rest) = (ROOT, filter);
        loop {
            let Some(child) = self.child(node, first_token(rest)) else {
                return self.add_child(node, rest);
            };
            node = match self.nodes[child].label.strip_from(rest, &self.texts.cells) {
                Some([] | [SEPARATOR, ..]) => child,
                _ => self.split(child, rest),
            };
            let label_len = self.nodes[node].label.len();
            match rest.get(label_len + 1..) {
                Some(tail) => rest = tail,
                None => return node,
            }
        }
    }

    fn child(&self, parent: u32, token: &[u8]) -> Option<u32> {
        self.by_token.find(self.texts.hash(parent, token), |id| {
            let node = &self.nodes[id];
            node.parent == parent && node.label.starts_with_token(token, &self.texts.cells)
        })
    }

    fn add_child(&mut self, parent: u32, text: &[u8]) -> u32 {
        let label = Label::new(text, &mut self.texts.cells);
        let node = self.nodes.insert(Node { parent, label, ..Node::default() });
        self.nodes[parent].adopt(text);
        self.index_node(node, first_token(text));
        node
    }

    /// Cuts a node's label behind the last token that it shares with `text`, at least one and not all. The node
    /// keeps its id and the tail; the new parent that takes the head is returned.
    fn split(&mut self, node: u32, text: &[u8]) -> u32 {
        let Node { parent, label, .. } = self.nodes[node];
        let mut whole = Vec::with_capacity(label.len());
        label.append_to(&mut whole, &self.texts.cells);
        let shared = subject::tokens(&whole).zip(subject::tokens(text)).take_while(|(a, b)| a == b);
        let cut = shared.map(|(token, _)| token.len() + 1).sum::<usize>() - 1;
        let (head, tail) = (&whole[..cut], &whole[cut + 1..]);

        label.free(&mut self.texts.cells);
        let head_label = Label::new(head, &mut self.texts.cells);
        let above = self.nodes.insert(Node { parent, label: head_label, ..Node::default() });
        self.by_token.replace(self.texts.hash(parent, first_token(head)), node, above);
        self.nodes[above].adopt(tail);
        let tail_label = Label::new(tail, &mut self.texts.cells);
        (self.nodes[node].parent, self.nodes[node].label) = (above, tail_label);
        self.index_node(node, first_token(tail));
        above
    }

    fn index_node(&mut self, node: u32, token: &[u8]) {
        let Self { nodes, texts, by_token, .. } = self;
        by_token.insert(texts.hash(nodes[node].parent, token), node, |id| {
            texts.hash_first(nodes[id].parent, &nodes[id].label)
        });
    }

    /// Frees `node` and its ancestors as far as nobody needs them.
    fn prune(&mut self, mut node: u32) {
        while node != ROOT && self.nodes[node].is_bare() && self.nodes[node].children == 0 {
            let Self { nodes, texts, by_token, .. } = self;
            let Node { parent, label, .. } = nodes[node];
            by_token.remove(texts.hash_first(parent, &label), node, |id| {
                texts.hash_first(nodes[id].parent, &nodes[id].label)
            });
            nodes[parent].disown(label.head());
            label.free(&mut texts.cells);
            nodes.remove(node);
            node = parent;
        }
    }

    fn make_group(&mut self, node: u32, name: &[u8]) -> u32 {
        let Self { nodes, groups, texts, by_name, .. } = self;
        let hash = texts.hash(node, name);
        let found =
            by_name.find(hash, |id| groups[id].node == node && groups[id].name.is(name, &texts.cells));
        if let Some(group) = found {
            return group;
        }
        let next = nodes[node].groups;
        let name = Label::new(name, &mut texts.cells);
        let group = groups.insert(Group { node, next, prev: NIL, members: NIL, name });
        if next != NIL {
            groups[next].prev = group;
        }
        nodes[node].groups = group;
        by_name.insert(hash, group, |id| texts.hash_all(groups[id].node, &groups[id].name));
        group
    }

    fn drop_group(&mut self, group: u32) {
        let Self { nodes, groups, texts, by_name, .. } = self;
        let Group { node, next, prev, name, .. } = groups[group];
        by_name.remove(texts.hash_all(node, &name), group, |id| {
            texts.hash_all(groups[id].node, &groups[id].name)
        });
        if next != NIL {
            groups[next].prev = prev;
        }
        if prev != NIL {
            groups[prev].next = next;
        } else {
            nodes[node].groups = next;
        }
        name.free(&mut texts.cells);
        groups.remove(group);
    }

    fn groups_of<'a>(&'a self, node: &Node) -> impl Iterator<Item = u32> + 'a {
        chain(node.groups, |group| self.groups[group].next)
    }

    fn list(&self, first: u32) -> impl Iterator<Item = SubId> + '_ {
        chain(first, |sub| self.subs[sub].next).map(SubId)
    }

    /// Appends `sub` to the list that starts at `first`; returns where the list starts now.
    fn link(&mut self, first: u32, sub: u32) -> u32 {
        self.subs[sub].next = NIL;
        if first == NIL {
            self.subs[sub].prev = sub;
            return sub;
        }
        let last = self.subs[first].prev;
        self.subs[last].next = sub;
        self.subs[sub].prev = last;
        self.subs[first].prev = sub;
        first
    }

    /// Takes `sub` out of the list that starts at `first`; returns where the list starts now.
    fn unlink(&mut self, first: u32, sub: u32) -> u32 {
        let Sub { next, prev, .. } = self.subs[sub];
        let first = if sub == first {
            next
        } else {
            self.subs[prev].next = next;
            first
        };
        let after = if next == NIL { first } else { next };
        if after != NIL {
            self.subs[after].prev = prev;
        }
        first
    }

    fn node_of(&self, id: SubId) -> u32 {
        let owner = self.subs[id.0].owner;
        if owner & IN_GROUP == 0 { owner } else { self.groups[owner & !IN_GROUP].node }
    }

    /// `node` and what is above it, without the root.
    fn ancestry(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        chain(node, |node| self.nodes[node].parent).take_while(|node| *node != ROOT)
    }

    /// An insertion takes at most two nodes, one group, and the cells of a cut label and of two new texts.
    fn check_room(&self, filter_len: usize, queue_len: usize) -> Result<(), Full> {
        let cells = 2 + Label::cells_for(filter_len) + Label::cells_for(queue_len);
        let fits = self.subs.len() < self.limit
            && self.groups.len() < self.limit
            && self.nodes.len() + 2 <= self.limit
            && self.texts.cells.len() + cells <= self.limit;
        if fits { Ok(()) } else { Err(Full) }
    }
}

impl Node {
    /// True if nobody subscribed right here.
    fn is_bare(&self) -> bool {
        self.subs == NIL && self.groups == NIL
    }

    /// Counts a child whose label starts like this.
    fn adopt(&mut self, label: &[u8]) {
        self.children = (self.children + (1 << FLAGS)) | wild_flag(first_token(label));
    }

    fn disown(&mut self, label: &[u8]) {
        self.children = (self.children - (1 << FLAGS)) & !wild_flag(first_token(label));
    }
}

impl Default for Node {
    fn default() -> Self {
        Self { parent: NIL, subs: NIL, groups: NIL, children: 0, label: Label::default() }
    }
}

impl Scratch {
    /// Bytes asked of the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.steps.capacity() * size_of::<(u32, usize)>() + self.groups.capacity() * size_of::<u32>()
    }
}

/// Long labels and the hashes of all.
struct Texts {
    cells: Cells,
    hasher: DefaultHashBuilder,
}

impl Texts {
    fn hash(&self, parent: u32, text: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(parent);
        hasher.write(text);
        hasher.finish()
    }

    fn hash_first(&self, parent: u32, label: &Label) -> u64 {
        match label.as_short() {
            Some(text) => self.hash(parent, first_token(text)),
            None => self.hash(parent, first_token(&label.to_vec(&self.cells))),
        }
    }

    fn hash_all(&self, parent: u32, label: &Label) -> u64 {
        match label.as_short() {
            Some(text) => self.hash(parent, text),
            None => self.hash(parent, &label.to_vec(&self.cells)),
        }
    }
}

/// The ids from `first` on, up to [`NIL`].
fn chain(first: u32, next: impl Fn(u32) -> u32) -> impl Iterator<Item = u32> {
    let some = |id: u32| (id != NIL).then_some(id);
    core::iter::successors(some(first), move |id| some(next(*id)))
}

fn first_token(text: &[u8]) -> &[u8] {
    subject::tokens(text).next().unwrap_or_default()
}

fn wild_flag(token: &[u8]) -> u32 {
    match token {
        STAR => HAS_STAR,
        REST => HAS_REST,
        _ => 0,
    }
}

const ROOT: u32 = 0;
/// No such thing.
const NIL: u32 = u32::MAX;
/// In a subscription's owner: it is a group.
const IN_GROUP: u32 = 1 << 31;
/// In a node's child count: one of the children starts with the token `*`.
const HAS_STAR: u32 = 1;
/// One of the children is the token `>`.
const HAS_REST: u32 = 2;
const HAS_WILD: u32 = HAS_STAR | HAS_REST;
/// Bits below the child count.
const FLAGS: u32 = 2;
/// Most ids in each slab: what is left of 32 bits beside the flags.
const LIMIT: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(tree: &mut Tree, filter: &str, queue: Option<&[u8]>) -> Result<SubId, Full> {
        tree.insert(Filter::new(filter.as_bytes()).unwrap(), queue)
    }

    /// Node ids by path, as in the drawing of the crate's documentation.
    #[test]
    fn labels_are_cut_where_filters_branch_off() {
        let mut tree = Tree::new();
        let filters = ["plant.*.temp", "plant.7.temp", "plant.7.temp", "plant.7.hum", "plant.>"];
        let queue = |filter| (filter == "plant.7.hum").then_some(&b"w"[..]);
        let ids = filters.map(|filter| insert(&mut tree, filter, queue(filter)).unwrap());
        let label = |node: u32| String::from_utf8(tree.nodes[node].label.to_vec(&tree.texts.cells)).unwrap();
        assert_eq!([1, 2, 3, 4, 5, 6].map(label), ["*.temp", "plant", "temp", "7", "hum", ">"]);
        assert_eq!([1, 2, 3, 4, 5, 6].map(|node| tree.nodes[node].parent), [2, ROOT, 4, 2, 4, 2]);
        assert_eq!(tree.nodes[2].children, 3 << FLAGS | HAS_STAR | HAS_REST);
        for id in ids {
            tree.remove(id);
        }
        assert_eq!((tree.nodes.len(), tree.groups.len(), tree.nodes[ROOT].children), (1, 0, 0));
    }

    #[test]
    fn says_when_it_is_full_and_stays_whole() {
        let long = "a-name-that-needs-more-than-its-inline-room".repeat(3);
        for limit in 1..12 {
            let mut tree = Tree { limit, ..Tree::new() };
            let ids: Vec<SubId> = (0..limit)
                .map_while(|i| insert(&mut tree, &format!("{long}.{i}"), Some(long.as_bytes())).ok())
                .collect();
            assert!(ids.len() < limit, "two nodes for the second");
            for slab_len in [tree.nodes.len(), tree.groups.len(), tree.subs.len(), tree.texts.cells.len()] {
                assert!(slab_len <= limit, "{slab_len} of {limit}");
            }
            ids.into_iter().for_each(|id| tree.remove(id));
            assert_eq!((tree.len(), tree.nodes.len(), tree.texts.cells.len()), (0, 1, 0));
        }
    }

    #[test]
    fn depth_is_not_limited_by_the_stack() {
        let mut tree = Tree::new();
        let deep = vec!["a"; 20_000].join(".");
        let starred = vec!["*"; 20_000].join(".");
        for filter in [&deep, &starred, &format!("{deep}.b"), &format!("{starred}.b")] {
            insert(&mut tree, filter, None).unwrap();
        }
        let (mut scratch, mut matches) = (Scratch::default(), Matches::default());
        tree.collect(deep.as_bytes(), &mut scratch, &mut matches);
        assert_eq!(matches.plain().len(), 2);
    }
}
