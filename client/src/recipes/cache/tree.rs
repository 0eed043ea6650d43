//! A persistent ordered map: a B+ tree whose nodes are shared between versions. A clone is one reference
//! more; a change copies the nodes from the root to one leaf, and of those only the ones that a clone holds.

use std::{cmp::Ordering, ops::Bound, slice};

use arrayvec::ArrayVec;
use triomphe::Arc;

/// How many items a node has at most. An update of a version that is held copies a node of each level. Most of its time
/// goes into reference counts: a copied node raises the count of each item, and the items are spread over memory. So small
/// nodes are cheap to change; large ones cost less memory and fewer steps. At 16 a million keys are five levels.
const MAX: usize = 16;

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
    Leaf(ArrayVec<E, MAX>),
    Branch(Branch<E>),
}

/// Nodes of the level below, and the first entry of each: the very one, so that nothing is kept alive that is not in
/// the tree. The entries are shared with other versions, which rarely differ in them.
#[derive(Clone, Debug)]
pub(super) struct Branch<E> {
    pub(super) firsts: Arc<ArrayVec<E, MAX>>,
    pub(super) children: ArrayVec<Arc<Node<E>>, MAX>,
}

/// What came of a put.
struct Put<E> {
    /// What was under the key.
    old: Option<E>,
    /// A new node to the right where this one was full, with its first entry.
    split: Option<(E, Arc<Node<E>>)>,
    /// Whether the first entry is another now.
    is_first: bool,
}

impl<E> Clone for Tree<E> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<E> Default for Tree<E> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(ArrayVec::new())), len: 0 }
    }
}

impl<E: Entry> Node<E> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Branch(branch) => branch.children.len(),
        }
    }

    pub(super) fn first(&self) -> Option<&E> {
        match self {
            Self::Leaf(entries) => entries.first(),
            Self::Branch(branch) => branch.firsts.first(),
        }
    }

    /// Puts the entry that `make` makes of the one under the key.
    fn put(node: &mut Arc<Self>, key: &[u8], make: impl FnOnce(Option<&E>) -> E) -> Put<E> {
        match Arc::make_mut(node) {
            Self::Leaf(entries) => match search(entries, key) {
                Ok(at) => {
                    let entry = make(Some(&entries[at]));
                    let old = Some(std::mem::replace(&mut entries[at], entry));
                    Put { old, split: None, is_first: at == 0 }
                }
                Err(at) => {
                    let right = insert_at(entries, at, make(None));
                    let split = right.map(|right| (right[0].clone(), Arc::new(Self::Leaf(right))));
                    Put { old: None, split, is_first: at == 0 }
                }
            },
            Self::Branch(branch) => {
                let at = branch.child_for(key);
                let Put { old, split, is_first } = Self::put(&mut branch.children[at], key, make);
                if is_first {
                    branch.refresh(at);
                }
                let right = split.and_then(|(first, node)| branch.insert(at + 1, first, node));
                let split = right.map(|right| (right.firsts[0].clone(), Arc::new(Self::Branch(right))));
                Put { old, split, is_first: is_first && at == 0 }
            }
        }
    }

    /// Removes an entry, and says whether the first entry is another now. Copies nodes even if there is none under the
    /// key.
    fn remove(node: &mut Arc<Self>, key: &[u8]) -> (Option<E>, bool) {
        match Arc::make_mut(node) {
            Self::Leaf(entries) => match search(entries, key) {
                Ok(at) => (Some(entries.remove(at)), at == 0),
                Err(_) => (None, false),
            },
            Self::Branch(branch) => {
                let at = branch.child_for(key);
                let (removed, is_first) = Self::remove(&mut branch.children[at], key);
                if branch.children[at].len() == 0 {
                    branch.remove(at);
                } else {
                    if is_first {
                        branch.refresh(at);
                    }
                    branch.merge(at);
                }
                (removed, is_first && at == 0)
            }
        }
    }

    /// Appends a right neighbour of the same level.
    fn append(&mut self, right: &Self) {
        match (self, right) {
            (Self::Leaf(entries), Self::Leaf(more)) => entries.extend(more.iter().cloned()),
            (Self::Branch(branch), Self::Branch(more)) => {
                Arc::make_mut(&mut branch.firsts).extend(more.firsts.iter().cloned());
                branch.children.extend(more.children.iter().cloned());
            }
            _ => debug_assert!(false, "neighbours are of one level"),
        }
    }
}

impl<E: Entry> Branch<E> {
    /// The child whose keys the key is among; the first for one below all.
    fn child_for(&self, key: &[u8]) -> usize {
        self.firsts.partition_point(|first| first.key() <= key).saturating_sub(1)
    }

    /// The first entry of a child is another.
    fn refresh(&mut self, at: usize) {
        if let Some(first) = self.children[at].first() {
            Arc::make_mut(&mut self.firsts)[at] = first.clone();
        }
    }

    /// Inserts a child; the right part where it was full.
    fn insert(&mut self, at: usize, first: E, node: Arc<Node<E>>) -> Option<Self> {
        let children = insert_at(&mut self.children, at, node);
        let firsts = insert_at(Arc::make_mut(&mut self.firsts), at, first);
        Some(Self { firsts: Arc::new(firsts?), children: children? })
    }

    fn remove(&mut self, at: usize) -> Arc<Node<E>> {
        Arc::make_mut(&mut self.firsts).remove(at);
        self.children.remove(at)
    }

    /// Merges a child that has become small with a neighbour, if the two leave room in one node.
    fn merge(&mut self, at: usize) {
        let len = |at: usize| self.children[at].len();
        if len(at) >= MIN {
            return;
        }
        let fits = |left: usize| left + 1 < self.children.len() && len(left) + len(left + 1) <= MAX - MIN;
        let Some(left) = [at.checked_sub(1), Some(at)].into_iter().flatten().find(|&left| fits(left)) else {
            return;
        };
        let right = self.remove(left + 1);
        Arc::make_mut(&mut self.children[left]).append(&right);
    }
}

fn search<E: Entry>(entries: &[E], key: &[u8]) -> Result<usize, usize> {
    entries.binary_search_by(|entry| entry.key().cmp(key))
}

/// Inserts into a node's items; the right part of them where it was full.
fn insert_at<T>(items: &mut ArrayVec<T, MAX>, at: usize, item: T) -> Option<ArrayVec<T, MAX>> {
    if !items.is_full() {
        items.insert(at, item);
        return None;
    }
    // Behind the last, nothing is split off: keys that come in order, as in a list, leave full nodes.
    let mut right: ArrayVec<T, MAX> = items.drain(if at == MAX { MAX } else { MAX / 2 }..).collect();
    if right.is_empty() || at > items.len() {
        right.insert(at - items.len(), item);
    } else {
        items.insert(at, item);
    }
    Some(right)
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
                Node::Branch(branch) => node = &branch.children[branch.child_for(key)],
            }
        }
    }

    /// Puts the entry that `make` makes of the one under the key; what was there.
    pub(super) fn put(&mut self, key: &[u8], make: impl FnOnce(Option<&E>) -> E) -> Option<E> {
        let Put { old, split, .. } = Node::put(&mut self.root, key, make);
        if let Some((first, right)) = split
            && let Some(left) = self.root.first().cloned()
        {
            let firsts = Arc::new([left, first].into_iter().collect());
            let children = [self.root.clone(), right].into_iter().collect();
            self.root = Arc::new(Node::Branch(Branch { firsts, children }));
        }
        self.len += usize::from(old.is_none());
        old
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<E> {
        self.get(key)?;
        let (removed, _) = Node::remove(&mut self.root, key);
        self.len -= usize::from(removed.is_some());
        loop {
            match &*self.root {
                Node::Branch(branch) if branch.children.len() == 1 => self.root = branch.children[0].clone(),
                Node::Branch(branch) if branch.children.is_empty() => self.root = Self::default().root,
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
                Node::Branch(branch) => node = branch.children.last()?,
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
                Node::Branch(branch) => {
                    let at = branch.child_for(key);
                    branches.push(branch.children[at + 1..].iter());
                    node = &branch.children[at];
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
    branches: Vec<slice::Iter<'a, Arc<Node<E>>>>,
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
                Node::Branch(branch) => {
                    let mut children = branch.children.iter();
                    let Some(first) = children.next() else { return };
                    self.branches.push(children);
                    node = first;
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
                Some(child) => self.descend(child),
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
        while let Node::Branch(branch) = node {
            height += 1;
            node = &branch.children[0];
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
            Node::Branch(branch) => {
                self.0.extend(branch.children.iter().rev().map(|child| Part::Node(child, height - 1)));
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
