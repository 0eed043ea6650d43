//! What a store holds at a revision, by its history.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{EventKind, HistoryEvent};

/// The keys of a range as they are at a revision that moves forward: what a fold of changes is compared with.
#[derive(Clone, Debug, Default)]
pub struct StateAt {
    keys: BTreeMap<Bytes, Arc<HistoryEvent>>,
    place: usize,
    revision: i64,
}

impl StateAt {
    /// Before the first change of any history.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The revision it is at.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Goes on to a revision, or begins again if it is an earlier one; `contains` says which keys count, and has to
    /// say the same every time.
    pub fn advance(
        &mut self,
        history: &[Arc<HistoryEvent>],
        revision: i64,
        contains: impl Fn(&[u8]) -> bool,
    ) {
        if revision < self.revision || self.place > history.len() {
            *self = Self::default();
        }
        while let Some(change) = history.get(self.place).filter(|change| change.revision <= revision) {
            self.place += 1;
            if !contains(&change.key) {
                continue;
            }
            match change.kind {
                EventKind::Put => self.keys.insert(change.key.clone(), change.clone()),
                EventKind::Delete => self.keys.remove(&change.key),
            };
        }
        self.revision = revision;
    }

    /// The keys there are, ascending, each with the put that made it what it is.
    #[must_use]
    pub fn keys(&self) -> &BTreeMap<Bytes, Arc<HistoryEvent>> {
        &self.keys
    }
}
