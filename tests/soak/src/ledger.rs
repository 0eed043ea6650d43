//! What really happened: the store's changes since a revision, and the store as it was at any revision since then.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use etcd_watch_proto::mvccpb::{Event, KeyValue, event::EventType};
use etcd_watch_testkit::checks::Watched;

/// The store's pairs, by key.
pub(crate) type State = BTreeMap<Bytes, KeyValue>;

/// What really happened. It proves itself: revisions follow each other without a gap, and every change fits what was
/// there before it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Everything up to this revision is only in `base`.
    floor: i64,
    base: State,
    events: VecDeque<Event>,
    /// The last revision, and the store there.
    recorded: i64,
    state: State,
}

/// Changes that can't have happened after what is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsound {
    /// A revision is missing, or comes again.
    #[error("revision {found} after {last}")]
    Gap { last: i64, found: i64 },
    /// An event doesn't fit what was there before it.
    #[error("the change of {key:?} at revision {revision} does not fit what was there before")]
    Unfit { revision: i64, key: Bytes },
}

impl Ledger {
    /// Begins with the store as it is at a revision.
    pub(crate) fn starting_at(revision: i64, state: State) -> Self {
        Self { floor: revision, base: state.clone(), events: VecDeque::new(), recorded: revision, state }
    }

    /// The revision up to which everything is known.
    pub(crate) fn recorded(&self) -> i64 {
        self.recorded
    }

    /// The revision after which changes are known.
    pub(crate) fn floor(&self) -> i64 {
        self.floor
    }

    /// Adds whole revisions, with previous pairs.
    ///
    /// # Errors
    /// If they can't have happened.
    pub(crate) fn record(&mut self, events: Vec<Event>) -> Result<(), Unsound> {
        let before = self.recorded;
        for mut event in events {
            let kv = event.kv.clone().unwrap_or_default();
            let is_next = kv.mod_revision == self.recorded + 1
                || (kv.mod_revision == self.recorded && kv.mod_revision > before);
            if !is_next {
                return Err(Unsound::Gap { last: self.recorded, found: kv.mod_revision });
            }
            let was = self.state.get(&kv.key);
            let is_another = event.prev_kv.is_some() && was != event.prev_kv.as_ref();
            if is_another || !follows(&event, &kv, was) {
                return Err(Unsound::Unfit { revision: kv.mod_revision, key: kv.key });
            }
            // It may be missing right after the watch was created: see `checking`.
            event.prev_kv = was.cloned();
            self.recorded = kv.mod_revision;
            apply(&mut self.state, &event);
            self.events.push_back(event);
        }
        Ok(())
    }

    /// The changes after one revision up to another one of the keys that are watched.
    pub(crate) fn changes(&self, after: i64, through: i64, watched: &Watched) -> Vec<Event> {
        let first = self.events.partition_point(|event| revision_of(event) <= after);
        let events = self.events.range(first..).take_while(|event| revision_of(event) <= through);
        events
            .filter(|event| event.kv.as_ref().is_some_and(|kv| watched.contains(&kv.key)))
            .cloned()
            .collect()
    }

    /// All changes from one revision to another, for somebody to look at.
    pub(crate) fn around(&self, from: i64, through: i64) -> Vec<&Event> {
        self.events.iter().filter(|event| (from..=through).contains(&revision_of(event))).collect()
    }

    /// The store at a revision; `None` if that is not known any more, or not yet.
    pub(crate) fn state_at(&self, revision: i64) -> Option<State> {
        if revision == self.recorded {
            return Some(self.state.clone());
        }
        (self.floor..self.recorded).contains(&revision).then(|| {
            let mut state = self.base.clone();
            let events = self.events.iter().take_while(|event| revision_of(event) <= revision);
            events.for_each(|event| apply(&mut state, event));
            state
        })
    }

    /// A revision not above this one that deleted nothing, to compact at; `None` if none is known.
    ///
    /// Servers before 3.4.36 and 3.5.18 lose the deletes of the revision that they are compacted at, from their history
    /// though it is still to be had.
    pub(crate) fn put_at_or_before(&self, revision: i64) -> Option<i64> {
        let mut candidate: Option<(i64, bool)> = None;
        for event in self.events.iter().rev().skip_while(|event| revision_of(event) > revision) {
            let at = revision_of(event);
            match candidate {
                Some((of, true)) if of != at => return Some(of),
                Some((of, only_puts)) if of == at => candidate = Some((at, only_puts && is_put(event))),
                _ => candidate = Some((at, is_put(event))),
            }
        }
        // Of the last one seen, events may have been forgotten already.
        None
    }

    /// Forgets the changes up to a revision.
    pub(crate) fn forget_through(&mut self, revision: i64) {
        let revision = revision.min(self.recorded);
        let count = self.events.partition_point(|event| revision_of(event) <= revision);
        self.events.drain(..count).for_each(|event| apply(&mut self.base, &event));
        self.floor = self.floor.max(revision);
    }
}

/// The part of a store that is watched.
pub(crate) fn part(state: &State, watched: &Watched) -> State {
    state.iter().filter(|(key, _)| watched.contains(key)).map(|(key, kv)| (key.clone(), kv.clone())).collect()
}

/// The revision of a change.
pub(crate) fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn is_put(event: &Event) -> bool {
    event.r#type() == EventType::Put
}

fn follows(event: &Event, kv: &KeyValue, was: Option<&KeyValue>) -> bool {
    match (event.r#type(), was) {
        (EventType::Put, None) => kv.version == 1 && kv.create_revision == kv.mod_revision,
        (EventType::Put, Some(was)) => {
            kv.version == was.version + 1 && kv.create_revision == was.create_revision
        }
        (EventType::Delete, was) => was.is_some(),
    }
}

fn apply(state: &mut State, event: &Event) {
    let Some(kv) = &event.kv else { return };
    match event.r#type() {
        EventType::Put => state.insert(kv.key.clone(), kv.clone()),
        EventType::Delete => state.remove(&kv.key),
    };
}

#[cfg(test)]
pub(crate) mod tests {
    use etcd_watch_client::KeyRange;

    use super::*;

    /// A put as a store makes it.
    pub(crate) fn put(ledger: &Ledger, key: &str, revision: i64) -> Event {
        let was = ledger.state.get(key.as_bytes()).cloned();
        let kv = KeyValue {
            key: key.to_owned().into(),
            value: format!("{revision}").into(),
            mod_revision: revision,
            create_revision: was.as_ref().map_or(revision, |was| was.create_revision),
            version: was.as_ref().map_or(1, |was| was.version + 1),
            lease: 0,
        };
        Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: was }
    }

    /// A delete as a store makes it.
    pub(crate) fn delete(ledger: &Ledger, key: &str, revision: i64) -> Event {
        let kv = KeyValue { key: key.to_owned().into(), mod_revision: revision, ..KeyValue::default() };
        let prev_kv = ledger.state.get(key.as_bytes()).cloned();
        Event { r#type: EventType::Delete.into(), kv: Some(kv), prev_kv }
    }

    /// Puts of `a` and `b` in turn at 2 to 9, a delete of `a` at 10, a put of it at 11.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::starting_at(1, State::new());
        for revision in 2..10 {
            let event = put(&ledger, if revision % 2 == 0 { "a" } else { "b" }, revision);
            ledger.record(vec![event]).unwrap();
        }
        let event = delete(&ledger, "a", 10);
        ledger.record(vec![event]).unwrap();
        let event = put(&ledger, "a", 11);
        ledger.record(vec![event]).unwrap();
        ledger
    }

    fn everything() -> Watched {
        Watched::range(&KeyRange::all())
    }

    #[test]
    fn a_missing_revision_and_one_that_comes_again_are_unsound() {
        let mut ledger = ledger();
        let event = put(&ledger, "b", 13);
        assert_eq!(ledger.record(vec![event]), Err(Unsound::Gap { last: 11, found: 13 }));
        let event = put(&ledger, "b", 11);
        assert_eq!(ledger.record(vec![event]), Err(Unsound::Gap { last: 11, found: 11 }));
    }

    #[test]
    fn a_change_that_does_not_fit_what_was_there_is_unsound() {
        let mut ledger = ledger();
        let mut wrong_version = put(&ledger, "b", 12);
        wrong_version.kv.as_mut().unwrap().version += 1;
        let mut wrong_previous = put(&ledger, "b", 12);
        wrong_previous.prev_kv.as_mut().unwrap().version += 1;
        let of_nothing = delete(&ledger, "c", 12);
        for event in [wrong_version, wrong_previous, of_nothing] {
            assert!(matches!(ledger.record(vec![event]), Err(Unsound::Unfit { revision: 12, .. })));
        }
    }

    #[test]
    fn a_previous_pair_that_is_missing_is_what_was_there_before() {
        let mut ledger = ledger();
        let whole = put(&ledger, "b", 12);
        ledger.record(vec![Event { prev_kv: None, ..whole.clone() }]).unwrap();
        assert_eq!(ledger.around(12, 12), [&whole]);
    }

    #[test]
    fn the_store_is_known_at_every_revision_since_the_floor() {
        let mut ledger = ledger();
        ledger.forget_through(5);
        assert_eq!((ledger.floor(), ledger.events.len()), (5, 6));
        assert!(ledger.state_at(4).is_none() && ledger.state_at(12).is_none());
        let keys = |revision| ledger.state_at(revision).unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(
            (keys(5), keys(10), keys(11)),
            (vec!["a".into(), "b".into()], vec!["b".into()], vec!["a".into(), "b".into()])
        );
        assert_eq!(ledger.state_at(7).unwrap()[&b"b"[..]].value, "7");
        assert_eq!(ledger.state_at(6).unwrap()[&b"b"[..]].value, "5");
    }

    #[test]
    fn changes_are_those_of_the_keys_that_are_watched() {
        let ledger = ledger();
        let revisions =
            |watched: &Watched| ledger.changes(3, 10, watched).iter().map(revision_of).collect::<Vec<_>>();
        assert_eq!(revisions(&everything()), [4, 5, 6, 7, 8, 9, 10]);
        let a = Watched { key: "a".into(), range_end: "".into(), ..everything() };
        assert_eq!(revisions(&a), [4, 6, 8, 10]);
    }

    #[test]
    fn a_revision_that_deleted_something_is_not_compacted_at() {
        let ledger = ledger();
        assert_eq!(ledger.put_at_or_before(11), Some(11));
        assert_eq!(ledger.put_at_or_before(10), Some(9));
        assert_eq!(ledger.put_at_or_before(2), None);
    }
}
