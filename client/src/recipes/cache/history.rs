//! The last states that the cache had.

use std::ops::{Bound, RangeInclusive};

use super::{
    error::RevisionNotHeld,
    snapshot::Snapshot,
    tree::{Entry, Tree},
};

/// The last states, oldest first. It has the one that is current, too. Persistent, as the states are: a clone is cheap
/// and stays as it is.
#[derive(Debug)]
pub(super) struct History<P> {
    limit: usize,
    /// By the last revision of each.
    states: Tree<Held<P>>,
}

/// The store from one revision through another, in which nothing changed: its snapshot's revision is the last.
#[derive(Debug)]
pub(super) struct Held<P> {
    pub(super) from: i64,
    pub(super) snapshot: Snapshot<P>,
    /// Whether it is what a single revision made of the state before it, and not of a list.
    pub(super) follows: bool,
    /// The snapshot's revision, in an order of bytes.
    key: [u8; 8],
}

impl<P> Held<P> {
    fn new(from: i64, snapshot: Snapshot<P>, follows: bool) -> Self {
        let key = key(snapshot.revision);
        Self { from, snapshot, follows, key }
    }

    /// The same through another revision.
    fn through(&self, revision: i64) -> Self {
        Self::new(self.from, self.snapshot.at(revision), self.follows)
    }
}

/// Revisions are not negative.
fn key(revision: i64) -> [u8; 8] {
    revision.to_be_bytes()
}

impl<P> Clone for Held<P> {
    fn clone(&self) -> Self {
        Self { from: self.from, snapshot: self.snapshot.clone(), follows: self.follows, key: self.key }
    }
}

impl<P> Entry for Held<P> {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn is_same(&self, other: &Self) -> bool {
        self.key == other.key && self.from == other.from
    }
}

impl<P> Clone for History<P> {
    fn clone(&self) -> Self {
        Self { limit: self.limit, states: self.states.clone() }
    }
}

impl<P> History<P> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, states: Tree::default() }
    }

    /// Adds the state that a revision made of the one before: up to there, that one held.
    pub(super) fn follow(&mut self, snapshot: &Snapshot<P>) {
        let from = snapshot.revision;
        match self.states.last() {
            Some(last) if last.snapshot.revision < from => self.extend(from - 1),
            // A server reported a revision complete, and then sent an event at or below it.
            Some(_) => return self.restart(snapshot),
            None => {}
        }
        self.push(Held::new(from, snapshot.clone(), true));
    }

    /// Adds a state that was listed: what was in between is not known.
    pub(super) fn jump(&mut self, snapshot: &Snapshot<P>) {
        let from = snapshot.revision;
        while let Some(last) = self.states.last().cloned()
            && last.snapshot.revision >= from
        {
            self.states.remove(&last.key);
            if last.from < from {
                self.insert(last.through(from - 1));
            }
        }
        self.push(Held::new(from, snapshot.clone(), false));
    }

    /// Forgets all there was, for this state.
    pub(super) fn restart(&mut self, snapshot: &Snapshot<P>) {
        self.states = Tree::default();
        self.push(Held::new(snapshot.revision, snapshot.clone(), false));
    }

    /// Nothing has changed up to this revision.
    pub(super) fn extend(&mut self, revision: i64) {
        if let Some(last) = self.states.last().cloned()
            && last.snapshot.revision < revision
        {
            self.states.remove(&last.key);
            self.insert(last.through(revision));
        }
    }

    fn insert(&mut self, held: Held<P>) {
        let key = held.key;
        self.states.put(&key, |_| held);
    }

    fn push(&mut self, held: Held<P>) {
        self.insert(held);
        while self.states.len() > self.limit
            && let Some(first) = self.states.first().map(|first| first.key)
        {
            self.states.remove(&first);
        }
    }

    /// The store at a revision.
    pub(super) fn at(&self, revision: i64) -> Result<Snapshot<P>, RevisionNotHeld> {
        self.held(revision).map(|held| held.snapshot.at(revision))
    }

    /// The state at a revision, and those after it.
    pub(super) fn since(
        &self,
        revision: i64,
    ) -> Result<(Snapshot<P>, impl Iterator<Item = &Held<P>>), RevisionNotHeld> {
        let held = self.held(revision)?;
        Ok((held.snapshot.at(revision), self.states.iter_from(Bound::Excluded(&held.key))))
    }

    fn held(&self, revision: i64) -> Result<&Held<P>, RevisionNotHeld> {
        let key = key(revision.max(0));
        let first = self.states.iter_from(Bound::Included(&key)).next();
        first
            .filter(|held| held.from <= revision)
            .ok_or_else(|| RevisionNotHeld { revision, held: self.all_held() })
    }

    fn all_held(&self) -> Vec<RangeInclusive<i64>> {
        let mut held: Vec<RangeInclusive<i64>> = Vec::new();
        for state in self.states.iter() {
            let (from, through) = (state.from, state.snapshot.revision);
            match held.last_mut() {
                Some(last) if *last.end() + 1 >= from => *last = *last.start()..=through,
                _ => held.push(from..=through),
            }
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::entry::{CachedKv, Fresh};
    use super::*;

    fn put(snapshot: &mut Snapshot, key: &[u8], revision: i64) {
        let kv = Fresh { key, value: b"", create_revision: 1, mod_revision: revision, version: 1, lease: 0 };
        snapshot.tree.put(key, |_| CachedKv::new(kv, (), &mut Vec::new()));
    }

    fn keys(snapshot: &Snapshot) -> Vec<(Vec<u8>, i64)> {
        snapshot.iter().map(|kv| (kv.key().to_vec(), kv.mod_revision())).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A put of this key, so many revisions after the last.
        Change(u8, i64),
        /// Nothing for so many revisions.
        Quiet(i64),
        /// A list so many revisions later, with this key put and another gone.
        List(u8, i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..6_u8, 1..4_i64).prop_map(|(key, skip)| Step::Change(key, skip)),
            (0..4_i64).prop_map(Step::Quiet),
            (0..6_u8, 0..4_i64).prop_map(|(key, skip)| Step::List(key, skip)),
        ];
        proptest::collection::vec(step, 0..40)
    }

    proptest! {
        #[test]
        fn what_is_held_is_the_store_and_what_is_not_is_told(limit in 1..8_usize, steps in steps()) {
            let mut history = History::new(limit);
            let mut state = Snapshot::none();
            // The store at every revision that is known; those between a state and a list are not.
            let mut store = BTreeMap::new();
            let mut froms = vec![5];
            let mut revision = 5;
            state.revision = revision;
            history.jump(&state);
            store.insert(revision, keys(&state));
            for step in steps {
                match step {
                    Step::Change(key, skip) => {
                        (revision + 1..revision + skip).for_each(|at| drop(store.insert(at, keys(&state))));
                        revision += skip;
                        put(&mut state, &[key], revision);
                        state.revision = revision;
                        history.follow(&state);
                        froms.push(revision);
                    }
                    Step::Quiet(count) => {
                        (revision + 1..=revision + count).for_each(|at| drop(store.insert(at, keys(&state))));
                        revision += count;
                        state.revision = revision;
                        history.extend(revision);
                    }
                    Step::List(key, skip) => {
                        revision += skip + 1;
                        put(&mut state, &[key], revision);
                        state.tree.remove(&[key / 2]);
                        state.revision = revision;
                        history.jump(&state);
                        froms.push(revision);
                    }
                }
                store.insert(revision, keys(&state));
            }
            let oldest = froms[froms.len().saturating_sub(limit)];
            for at in 0..revision + 3 {
                match (history.at(at), store.get(&at).filter(|_| at >= oldest)) {
                    (Ok(held), Some(stored)) => {
                        prop_assert_eq!(held.revision(), at);
                        prop_assert_eq!(&keys(&held), stored);
                    }
                    (Err(error), None) => {
                        prop_assert_eq!(error.revision, at);
                        let told: Vec<_> = error.held.iter().cloned().flatten().collect();
                        let known: Vec<_> = store.range(oldest..).map(|(&at, _)| at).collect();
                        prop_assert_eq!(told, known);
                    }
                    (held, stored) => prop_assert!(false, "{} {:?} {:?}", at, held, stored),
                }
            }
            // The differences between states lead from any of them to the last.
            for held in history.states.iter() {
                let (base, later) = history.since(held.from).unwrap();
                let mut fold: BTreeMap<_, _> = keys(&base).into_iter().collect();
                let mut last = base;
                for next in later {
                    for change in next.snapshot.changes_since(&last) {
                        match change.kv() {
                            Some(kv) => fold.insert(kv.key().to_vec(), kv.mod_revision()),
                            None => fold.remove(change.key()),
                        };
                    }
                    last = next.snapshot.clone();
                }
                prop_assert_eq!(fold.into_iter().collect::<Vec<_>>(), keys(&state));
            }
        }
    }

    #[test]
    fn a_list_at_a_revision_that_is_held_takes_the_place_of_the_state_there() {
        let mut history = History::new(4);
        let mut state = Snapshot::none();
        state.revision = 5;
        history.jump(&state);
        history.extend(9);
        put(&mut state, b"listed", 7);
        state.revision = 9;
        history.jump(&state);
        assert_eq!(history.at(8).unwrap().len(), 0);
        assert_eq!(history.at(9).unwrap().len(), 1);
        assert_eq!(history.at(4).unwrap_err().held, [5..=9]);
    }

    #[test]
    fn a_clone_stays_as_it_is() {
        let mut history = History::<()>::new(2);
        let mut state = Snapshot::none();
        for revision in 5..8 {
            state.revision = revision;
            history.follow(&state);
        }
        let before = history.clone();
        state.revision = 8;
        history.follow(&state);
        history.extend(20);
        assert_eq!(before.at(20).unwrap_err().held, [6..=7]);
        assert_eq!(history.at(4).unwrap_err().held, [7..=20]);
    }

    #[test]
    fn a_change_below_what_was_vouched_for_unsays_what_was_held() {
        let mut history = History::new(4);
        let mut state = Snapshot::none();
        state.revision = 5;
        history.jump(&state);
        history.extend(9);
        put(&mut state, b"late", 7);
        state.revision = 9;
        history.follow(&state);
        assert_eq!(history.at(6).unwrap_err().held, [9..=9]);
        assert_eq!(history.at(9).unwrap().len(), 1);
    }
}
