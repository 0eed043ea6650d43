//! The last states that the cache had.

use std::{collections::VecDeque, ops::RangeInclusive};

use super::{error::RevisionNotHeld, snapshot::Snapshot};

/// The last states, oldest first. It has the one that is current, too.
#[derive(Debug)]
pub(super) struct History<P> {
    limit: usize,
    states: VecDeque<Held<P>>,
}

/// The store from one revision through another, in which nothing changed: its snapshot's revision is the last.
#[derive(Debug)]
pub(super) struct Held<P> {
    pub(super) from: i64,
    pub(super) snapshot: Snapshot<P>,
    /// Whether it is what a single revision made of the state before it, and not of a list.
    pub(super) follows: bool,
}

impl<P> History<P> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, states: VecDeque::new() }
    }

    /// Adds the state that a revision made of the one before: up to there, that one held. Returns what is to
    /// be dropped, which may take a while.
    pub(super) fn follow(&mut self, snapshot: &Snapshot<P>) -> impl Sized + use<P> {
        let from = snapshot.revision;
        match self.states.back_mut() {
            Some(last) if last.snapshot.revision < from => last.snapshot.revision = from - 1,
            // A server vouched for a revision, and then sent what belongs at or before it.
            Some(_) => return self.restart(snapshot),
            None => {}
        }
        self.push(Held { from, snapshot: snapshot.clone(), follows: true })
    }

    /// Adds a state that was listed: what was in between is not known.
    pub(super) fn jump(&mut self, snapshot: &Snapshot<P>) -> impl Sized + use<P> {
        self.push(Held { from: snapshot.revision, snapshot: snapshot.clone(), follows: false })
    }

    /// Forgets all there was, for this state.
    pub(super) fn restart(&mut self, snapshot: &Snapshot<P>) -> Vec<Held<P>> {
        let mut old: Vec<_> = self.states.drain(..).collect();
        old.extend(self.push(Held { from: snapshot.revision, snapshot: snapshot.clone(), follows: false }));
        old
    }

    /// Nothing has changed up to this revision.
    pub(super) fn extend(&mut self, revision: i64) {
        if let Some(last) = self.states.back_mut() {
            last.snapshot.revision = last.snapshot.revision.max(revision);
        }
    }

    fn push(&mut self, held: Held<P>) -> Vec<Held<P>> {
        self.states.push_back(held);
        let excess = self.states.len().saturating_sub(self.limit);
        self.states.drain(..excess).collect()
    }

    /// The store at a revision.
    pub(super) fn at(&self, revision: i64) -> Result<Snapshot<P>, RevisionNotHeld> {
        self.position(revision).map(|at| self.states[at].snapshot.at(revision))
    }

    /// The state at a revision, and those after it.
    pub(super) fn since(
        &self,
        revision: i64,
    ) -> Result<(Snapshot<P>, impl Iterator<Item = &Held<P>>), RevisionNotHeld> {
        let at = self.position(revision)?;
        Ok((self.states[at].snapshot.at(revision), self.states.range(at + 1..)))
    }

    fn position(&self, revision: i64) -> Result<usize, RevisionNotHeld> {
        let after = self.states.partition_point(|held| held.from <= revision);
        after
            .checked_sub(1)
            .filter(|&at| revision <= self.states[at].snapshot.revision)
            .ok_or_else(|| RevisionNotHeld { revision, held: self.held() })
    }

    fn held(&self) -> Vec<RangeInclusive<i64>> {
        let mut held: Vec<RangeInclusive<i64>> = Vec::new();
        for state in &self.states {
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

    use super::*;
    use crate::recipes::cache::entry::{CachedKv, Fresh};

    fn put(snapshot: &mut Snapshot, key: &[u8], revision: i64) {
        let kv = Fresh { key, value: b"", create_revision: 1, mod_revision: revision, version: 1, lease: 0 };
        snapshot.tree.insert(CachedKv::new(kv, ()));
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
            let _ = history.jump(&state);
            store.insert(revision, keys(&state));
            for step in steps {
                match step {
                    Step::Change(key, skip) => {
                        (revision + 1..revision + skip).for_each(|at| drop(store.insert(at, keys(&state))));
                        revision += skip;
                        put(&mut state, &[key], revision);
                        state.revision = revision;
                        let _ = history.follow(&state);
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
                        let _ = history.jump(&state);
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
            for held in &history.states {
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
    fn a_change_below_what_was_vouched_for_unsays_what_was_held() {
        let mut history = History::new(4);
        let mut state = Snapshot::none();
        state.revision = 5;
        let _ = history.jump(&state);
        history.extend(9);
        put(&mut state, b"late", 7);
        state.revision = 9;
        let _ = history.follow(&state);
        assert_eq!(history.at(6).unwrap_err().held, [9..=9]);
        assert_eq!(history.at(9).unwrap().len(), 1);
    }
}
