use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A key, and a number to tell versions of it apart.
type Pair = (Vec<u8>, u32);

impl Entry for Pair {
    fn key(&self) -> &[u8] {
        &self.0
    }

    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

fn key(index: u16) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

/// What holds between any two calls.
fn check(tree: &Tree<Pair>) {
    fn level(node: &Node<Pair>, is_root: bool) -> usize {
        assert!(node.len() <= MAX && (is_root || node.len() > 0));
        match node {
            Node::Leaf(entries) => {
                assert!(entries.is_sorted_by(|a, b| a.0 < b.0));
                1
            }
            Node::Branch(Branch { firsts, children }) => {
                assert!(!is_root || children.len() > 1);
                let levels: Vec<_> = children.iter().map(|child| level(child, false)).collect();
                assert!(levels.iter().all(|&level| level == levels[0]), "leaves are at one depth");
                assert!(children.iter().map(|child| child.first()).eq(firsts.iter().map(Some)));
                levels[0] + 1
            }
        }
    }
    level(&tree.root, true);
    assert_eq!(tree.iter().count(), tree.len());
}

fn put<E: Entry>(tree: &mut Tree<E>, entry: E) -> Option<E> {
    let key = entry.key().to_vec();
    tree.put(&key, |_| entry)
}

fn from(pairs: impl IntoIterator<Item = Pair>) -> Tree<Pair> {
    let mut tree = Tree::default();
    for pair in pairs {
        put(&mut tree, pair);
    }
    check(&tree);
    tree
}

fn plain(old: &Tree<Pair>, new: &Tree<Pair>) -> Vec<(Option<Pair>, Option<Pair>)> {
    let [a, b] = [old, new].map(|tree| tree.iter().cloned().collect::<BTreeMap<_, _>>());
    let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).cloned().collect();
    let pair = |map: &BTreeMap<Vec<u8>, u32>, key: &Vec<u8>| map.get(key).map(|&value| (key.clone(), value));
    keys.iter().map(|key| (pair(&a, key), pair(&b, key))).filter(|(a, b)| a != b).collect()
}

fn told(old: &Tree<Pair>, new: &Tree<Pair>) -> Vec<(Option<Pair>, Option<Pair>)> {
    let mut told = Vec::new();
    difference(old, new, |a, b| told.push((a.cloned(), b.cloned())));
    told
}

#[derive(Clone, Debug)]
enum Step {
    Put(u16),
    PutRun(u16, u16),
    Delete(u16),
    DeleteRun(u16, u16),
    Keep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3000_u16).prop_map(Step::Put),
        1 => (0..3000_u16, 1..700_u16).prop_map(|(start, count)| Step::PutRun(start, count)),
        4 => (0..3000_u16).prop_map(Step::Delete),
        1 => (0..3000_u16, 1..900_u16).prop_map(|(start, count)| Step::DeleteRun(start, count)),
        2 => Just(Step::Keep),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_version_stays_as_it_was_and_differences_are_exact(steps in steps(), from in 0..3700_u16) {
        let (mut tree, mut map) = (Tree::default(), BTreeMap::new());
        let mut kept = vec![(tree.clone(), map.clone())];
        for (number, step) in (0_u32..).zip(steps) {
            let (start, count, is_put) = match step {
                Step::Put(at) => (at, 1, true),
                Step::PutRun(start, count) => (start, count, true),
                Step::Delete(at) => (at, 1, false),
                Step::DeleteRun(start, count) => (start, count, false),
                Step::Keep => {
                    kept.push((tree.clone(), map.clone()));
                    continue;
                }
            };
            for key in (start..start + count).map(key) {
                let (old, was) = if is_put {
                    (put(&mut tree, (key.clone(), number)), map.insert(key.clone(), number))
                } else {
                    (tree.remove(&key), map.remove(&key))
                };
                prop_assert_eq!(old, was.map(|value| (key, value)));
            }
            check(&tree);
        }
        kept.push((tree, map));
        let start = key(from);
        for (tree, map) in &kept {
            prop_assert!(tree.iter().map(|(key, value)| (key, value)).eq(map));
            let held = tree.iter_from(Bound::Included(&start)).map(|pair| &pair.0);
            prop_assert!(held.eq(map.range(start.clone()..).map(|(key, _)| key)));
            let behind = (Bound::Excluded(start.clone()), Bound::Unbounded);
            let held = tree.iter_from(Bound::Excluded(&start)).map(|pair| &pair.0);
            prop_assert!(held.eq(map.range(behind).map(|(key, _)| key)));
            prop_assert_eq!(tree.first().map(|pair| &pair.0), map.keys().next());
            prop_assert_eq!(tree.last().map(|pair| &pair.0), map.keys().next_back());
            prop_assert_eq!(tree.get(&start).map(|pair| pair.1), map.get(&start).copied());
        }
        for (old, _) in &kept {
            for (new, _) in &kept {
                prop_assert_eq!(told(old, new), plain(old, new));
            }
        }
    }
}

#[test]
fn keys_that_come_in_order_leave_full_leaves() {
    let tree = from((0..6400).map(|index| (key(index), 0)));
    let mut leaves = 0;
    let mut nodes = vec![&tree.root];
    while let Some(node) = nodes.pop() {
        match &**node {
            Node::Leaf(_) => leaves += 1,
            Node::Branch(branch) => nodes.extend(branch.children.iter()),
        }
    }
    assert_eq!(leaves, 6400 / MAX);
}

/// Counts how many entries are compared.
#[derive(Clone, Debug)]
struct Counted(Vec<u8>, std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl Entry for Counted {
    fn key(&self) -> &[u8] {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        &self.0
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

#[test]
fn a_difference_takes_no_longer_than_it_is_large() {
    let counter = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
    let mut old = Tree::default();
    for index in 0..20_000 {
        put(&mut old, Counted(key(index), counter.clone()));
    }
    let mut new = old.clone();
    // Three keys come and go, so that what follows them is shared but not aligned.
    let mut other = key(7_000);
    other.push(0);
    put(&mut new, Counted(other, counter.clone()));
    new.remove(&key(0));
    new.remove(&key(15_000));
    counter.store(0, std::sync::atomic::Ordering::Relaxed);
    let mut told = 0;
    difference(&old, &new, |_, _| told += 1);
    assert_eq!(told, 3);
    let looked_at = counter.load(std::sync::atomic::Ordering::Relaxed);
    assert!(looked_at < 5_000, "{looked_at} keys were looked at");
}
