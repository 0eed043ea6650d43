//! A persistent ordered map: a B+ tree whose nodes are shared between versions. A clone is one reference
//! more; a change copies the nodes from the root to one leaf, and of those only the ones that a clone holds.

use std::{cmp::Ordering, ops::Bound, slice, sync::Arc};

/// How many items a node has at most. An update of a version that is held copies a node per level, so small
/// nodes are cheap to change; large ones cost less memory and fewer steps. At 64 a million keys are four levels.
const MAX: usize = 64;

/// A node with fewer items than this is merged with a neighbour if they fit into one.
const MIN: usize = MAX / 4;

/// What a tree holds: cheap to clone, for it is copied with its node.
pub(super) trait Entry: Clone {
    fn key(&self) -> &[u8];

    /// Whether a reader could not tell the two apart.
    fn is_same(&self, other: &Self) -> bool;
}

#[derive(Debug)]
pub(super) struct Tree<E> {
    pub(super) root: Arc<Node<E>>,
    len: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Node<E> {
    Leaf(Vec<E>),
    Branch(Vec<Child<E>>),
}

#[derive(Clone, Debug)]
pub(super) struct Child<E> {
    /// The first entry below: the very one, so that nothing is kept alive that is not in the tree.
    pub(super) first: E,
    pub(super) node: Arc<Node<E>>,
}

impl<E> Clone for Tree<E> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<E> Default for Tree<E> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }
}

impl<E: Entry> Node<E> {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Branch(children) => children.len(),
        }
    }

    pub(super) fn first(&self) -> Option<&E> {
        match self {
            Self::Leaf(entries) => entries.first(),
            Self::Branch(children) => children.first().map(|child| &child.first),
        }
    }

    /// Puts an entry; what was under its key, and a new node to the right where this one was full.
    fn insert(self: &mut Arc<Self>, entry: E) -> (Option<E>, Option<Child<E>>)
    where
        E: Clone,
    {
        match Arc::make_mut(self) {
            Self::Leaf(entries) => {
                let at = match search(entries, entry.key()) {
                    Ok(at) => return (Some(std::mem::replace(&mut entries[at], entry)), None),
                    Err(at) => at,
                };
                let right = insert_at(entries, at, entry);
                let split =
                    right.map(|right| Child { first: right[0].clone(), node: Arc::new(Self::Leaf(right)) });
                (None, split)
            }
            Self::Branch(children) => {
                let at = child_for(children, entry.key());
                let child = &mut children[at];
                let (old, split) = child.node.insert(entry);
                child.refresh();
                let right = split.and_then(|split| insert_at(children, at + 1, split));
                let split = right.map(|right| Child {
                    first: right[0].first.clone(),
                    node: Arc::new(Self::Branch(right)),
                });
                (old, split)
            }
        }
    }

    /// Removes an entry. Copies nodes even if there is none under the key.
    fn remove(self: &mut Arc<Self>, key: &[u8]) -> Option<E> {
        match Arc::make_mut(self) {
            Self::Leaf(entries) => search(entries, key).ok().map(|at| entries.remove(at)),
            Self::Branch(children) => {
                let at = child_for(children, key);
                let removed = children[at].node.remove(key);
                if children[at].node.len() == 0 {
                    children.remove(at);
                } else {
                    children[at].refresh();
                    merge(children, at);
                }
                removed
            }
        }
    }

    /// Appends a right neighbour of the same level.
    fn append(&mut self, right: &Self) {
        match (self, right) {
            (Self::Leaf(entries), Self::Leaf(more)) => entries.extend_from_slice(more),
            (Self::Branch(children), Self::Branch(more)) => children.extend_from_slice(more),
            _ => debug_assert!(false, "neighbours are of one level"),
        }
    }
}

impl<E: Entry> Child<E> {
    fn refresh(&mut self) {
        if let Some(first) = self.node.first() {
            self.first = first.clone();
        }
    }
}

fn search<E: Entry>(entries: &[E], key: &[u8]) -> Result<usize, usize> {
    entries.binary_search_by(|entry| entry.key().cmp(key))
}

/// The child whose keys the key is among; the first for one below all.
fn child_for<E: Entry>(children: &[Child<E>], key: &[u8]) -> usize {
    children.partition_point(|child| child.first.key() <= key).saturating_sub(1)
}

/// Inserts into a node's items; the right part of them where it was full.
fn insert_at<T>(items: &mut Vec<T>, at: usize, item: T) -> Option<Vec<T>> {
    if items.len() < MAX {
        items.insert(at, item);
        return None;
    }
    // Behind the last, nothing is split off: keys that come in order, as in a list, leave full nodes.
    let mut right = items.split_off(if at == MAX { MAX } else { MAX / 2 });
    if right.is_empty() || at > items.len() {
        right.insert(at - items.len(), item);
    } else {
        items.insert(at, item);
    }
    Some(right)
}

/// Merges a child that has become small with a neighbour, if the two leave room in one node.
fn merge<E: Entry>(children: &mut Vec<Child<E>>, at: usize) {
    if children[at].node.len() >= MIN {
        return;
    }
    let fits = |left: usize| {
        left + 1 < children.len() && children[left].node.len() + children[left + 1].node.len() <= MAX - MIN
    };
    let Some(left) = [at.checked_sub(1), Some(at)].into_iter().flatten().find(|&left| fits(left)) else {
        return;
    };
    let right = children.remove(left + 1);
    Arc::make_mut(&mut children[left].node).append(&right.node);
}

impl<E: Entry> Tree<E> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&E> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => return search(entries, key).ok().map(|at| &entries[at]),
                Node::Branch(children) => node = &children[child_for(children, key)].node,
            }
        }
    }

    /// Puts an entry under its key; what was there.
    pub(super) fn insert(&mut self, entry: E) -> Option<E> {
        let (old, split) = self.root.insert(entry);
        if let Some(right) = split
            && let Some(first) = self.root.first().cloned()
        {
            let left = Child { first, node: self.root.clone() };
            self.root = Arc::new(Node::Branch(vec![left, right]));
        }
        self.len += usize::from(old.is_none());
        old
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<E> {
        self.get(key)?;
        let removed = self.root.remove(key);
        self.len -= usize::from(removed.is_some());
        loop {
            match &*self.root {
                Node::Branch(children) if children.len() == 1 => self.root = children[0].node.clone(),
                Node::Branch(children) if children.is_empty() => self.root = Self::default().root,
                _ => return removed,
            }
        }
    }

    pub(super) fn first(&self) -> Option<&E> {
        self.root.first()
    }

    pub(super) fn last(&self) -> Option<&E> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => return entries.last(),
                Node::Branch(children) => node = &children.last()?.node,
            }
        }
    }

    /// The entries from a key on.
    pub(super) fn iter_from(&self, from: Bound<&[u8]>) -> Iter<'_, E> {
        let mut branches = Vec::new();
        let mut node = &*self.root;
        let (Bound::Included(key) | Bound::Excluded(key)) = from else { return self.iter() };
        loop {
            match node {
                Node::Branch(children) => {
                    let at = child_for(children, key);
                    branches.push(children[at + 1..].iter());
                    node = &children[at].node;
                }
                Node::Leaf(entries) => {
                    let at = search(entries, key);
                    let at =
                        at.map_or_else(|at| at, |at| at + usize::from(matches!(from, Bound::Excluded(_))));
                    return Iter { branches, leaf: entries[at..].iter() };
                }
            }
        }
    }

    pub(super) fn iter(&self) -> Iter<'_, E> {
        let mut iter = Iter { branches: Vec::new(), leaf: [].iter() };
        iter.descend(&self.root);
        iter
    }
}

/// Entries in the order of their keys.
#[derive(Debug)]
pub(super) struct Iter<'a, E> {
    branches: Vec<slice::Iter<'a, Child<E>>>,
    leaf: slice::Iter<'a, E>,
}

impl<E> Clone for Iter<'_, E> {
    fn clone(&self) -> Self {
        Self { branches: self.branches.clone(), leaf: self.leaf.clone() }
    }
}

impl<'a, E> Iter<'a, E> {
    fn descend(&mut self, mut node: &'a Node<E>) {
        loop {
            match node {
                Node::Leaf(entries) => {
                    self.leaf = entries.iter();
                    return;
                }
                Node::Branch(children) => {
                    let mut children = children.iter();
                    let Some(first) = children.next() else { return };
                    self.branches.push(children);
                    node = &first.node;
                }
            }
        }
    }
}

impl<'a, E> Iterator for Iter<'a, E> {
    type Item = &'a E;

    fn next(&mut self) -> Option<&'a E> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(entry);
            }
            let children = self.branches.last_mut()?;
            match children.next() {
                Some(child) => self.descend(&child.node),
                None => drop(self.branches.pop()),
            }
        }
    }
}

/// Tells every key whose entries differ, in order: the old entry, and the new one. What the two versions share
/// is not looked at, so it takes as long as the difference is large.
pub(super) fn difference<'a, E: Entry>(
    old: &'a Tree<E>,
    new: &'a Tree<E>,
    mut tell: impl FnMut(Option<&'a E>, Option<&'a E>),
) {
    let (mut old, mut new) = (Parts::new(old), Parts::new(new));
    loop {
        let (a, b) = match (old.top(), new.top()) {
            (None, None) => return,
            (Some(a), None) => {
                old.take_or_expand(a, |entry| tell(Some(entry), None));
                continue;
            }
            (None, Some(b)) => {
                new.take_or_expand(b, |entry| tell(None, Some(entry)));
                continue;
            }
            (Some(a), Some(b)) => (a, b),
        };
        if let (Part::Node(a, _), Part::Node(b, _)) = (a, b)
            && Arc::ptr_eq(a, b)
        {
            old.0.pop();
            new.0.pop();
            continue;
        }
        match (a.key().cmp(&b.key()), a.height().cmp(&b.height())) {
            // Nothing that is still to come on the other side has so small a key.
            (Ordering::Less, _) => old.take_or_expand(a, |entry| tell(Some(entry), None)),
            (Ordering::Greater, _) => new.take_or_expand(b, |entry| tell(None, Some(entry))),
            // The two meet at nodes of one level, which may be the same.
            (Ordering::Equal, Ordering::Greater) => old.expand(a),
            (Ordering::Equal, Ordering::Less) => new.expand(b),
            (Ordering::Equal, Ordering::Equal) => {
                if let (Part::Entries(before), Part::Entries(after)) = (a, b) {
                    if !before[0].is_same(&after[0]) {
                        tell(Some(&before[0]), Some(&after[0]));
                    }
                    old.advance();
                    new.advance();
                } else {
                    old.expand(a);
                    new.expand(b);
                }
            }
        }
    }
}

/// What is left of a tree, the next on top.
struct Parts<'a, E>(Vec<Part<'a, E>>);

enum Part<'a, E> {
    /// Never an empty one, and its height: 1 for a leaf.
    Node(&'a Arc<Node<E>>, usize),
    /// Never none.
    Entries(&'a [E]),
}

impl<E> Clone for Part<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Part<'_, E> {}

impl<'a, E: Entry> Part<'a, E> {
    fn height(self) -> usize {
        match self {
            Self::Node(_, height) => height,
            Self::Entries(_) => 0,
        }
    }

    fn key(self) -> Option<&'a [u8]> {
        match self {
            Self::Node(node, _) => node.first().map(E::key),
            Self::Entries(entries) => entries.first().map(E::key),
        }
    }
}

impl<'a, E: Entry> Parts<'a, E> {
    fn new(tree: &'a Tree<E>) -> Self {
        let mut height = 1;
        let mut node = &*tree.root;
        while let Node::Branch(children) = node {
            height += 1;
            node = &children[0].node;
        }
        Self(if tree.len > 0 { vec![Part::Node(&tree.root, height)] } else { Vec::new() })
    }

    fn top(&self) -> Option<Part<'a, E>> {
        self.0.last().copied()
    }

    /// Takes the first of the entries on top.
    fn advance(&mut self) {
        if let Some(Part::Entries(entries)) = self.0.pop()
            && entries.len() > 1
        {
            self.0.push(Part::Entries(&entries[1..]));
        }
    }

    /// Puts what is in the node on top in its place.
    fn expand(&mut self, top: Part<'a, E>) {
        let Part::Node(node, height) = top else { return };
        self.0.pop();
        match &**node {
            Node::Leaf(entries) => self.0.push(Part::Entries(entries)),
            Node::Branch(children) => {
                self.0.extend(children.iter().rev().map(|child| Part::Node(&child.node, height - 1)));
            }
        }
    }

    fn take_or_expand(&mut self, top: Part<'a, E>, take: impl FnOnce(&'a E)) {
        match top {
            Part::Entries(entries) => {
                take(&entries[0]);
                self.advance();
            }
            Part::Node(..) => self.expand(top),
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
