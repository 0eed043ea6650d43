//! What really happened.

use bytes::Bytes;
use etcd_watch_core::KeyRange;
use etcd_watch_proto::mvccpb::{Event, KeyValue, event::EventType};

/// Every change of a store since a revision, by whoever watched it with nothing of our client.
///
/// It may be told that the recorded clients keep to a range of keys, their scope. What others do outside of it has its
/// revisions and nothing more.
#[derive(Clone, Debug)]
pub struct Truth {
    base: i64,
    pairs: Vec<KeyValue>,
    scope: KeyRange,
    /// The changes in scope of each revision after the base.
    revisions: Vec<Vec<Event>>,
    /// The revision that came where another one was due.
    gap: Option<i64>,
}

impl Truth {
    /// Of a store that was empty, all keys.
    #[must_use]
    pub fn of_all() -> Self {
        Self::starting_at(1, Vec::new(), KeyRange::all())
    }

    /// Of a store that had these pairs at a revision, the keys in scope.
    #[must_use]
    pub fn starting_at(revision: i64, pairs: Vec<KeyValue>, scope: KeyRange) -> Self {
        let pairs = pairs.into_iter().filter(|kv| scope.contains(&kv.key)).collect();
        Self { base: revision, pairs, scope, revisions: Vec::new(), gap: None }
    }

    /// The next change.
    pub fn record(&mut self, event: &Event) {
        let Some(kv) = &event.kv else { return };
        let last = self.through();
        if kv.mod_revision == last + 1 {
            self.revisions.push(Vec::new());
        } else if kv.mod_revision != last || self.revisions.is_empty() {
            self.gap = self.gap.or(Some(kv.mod_revision));
            return;
        }
        if self.scope.contains(&kv.key)
            && let Some(revision) = self.revisions.last_mut()
        {
            revision.push(Event { prev_kv: None, ..event.clone() });
        }
    }

    /// The revision it begins after.
    #[must_use]
    pub fn base(&self) -> i64 {
        self.base
    }

    /// The last revision it has.
    #[must_use]
    pub fn through(&self) -> i64 {
        // A vector is never that long.
        self.base + i64::try_from(self.revisions.len()).unwrap_or(i64::MAX)
    }

    pub(super) fn pairs(&self) -> &[KeyValue] {
        &self.pairs
    }

    pub(super) fn gap(&self) -> Option<i64> {
        self.gap
    }

    /// Each revision and its changes in scope.
    pub(super) fn revisions(&self) -> impl Iterator<Item = (i64, &[Event])> {
        (self.base + 1..).zip(self.revisions.iter().map(Vec::as_slice))
    }

    /// A key that is none of the scope's, to stand for what others do.
    pub(super) fn key_of_others(&self) -> Bytes {
        // All keys but the empty one are in the scope of all; then there are no others.
        Bytes::from_static(b"\0")
    }
}

impl<'a> Extend<&'a Event> for Truth {
    fn extend<I: IntoIterator<Item = &'a Event>>(&mut self, events: I) {
        events.into_iter().for_each(|event| self.record(event));
    }
}

/// The values that changes put.
pub(super) fn values(events: &[Event]) -> impl Iterator<Item = &Bytes> {
    puts(events).map(|kv| &kv.value)
}

/// The pairs that changes put.
pub(super) fn puts(events: &[Event]) -> impl Iterator<Item = &KeyValue> {
    events.iter().filter(|event| event.r#type() == EventType::Put).filter_map(|event| event.kv.as_ref())
}
