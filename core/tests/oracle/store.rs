//! The truth: a store's history.

use std::collections::BTreeMap;

use etcd_watch_core::{Filters, KeyRange};
use etcd_watch_proto::mvccpb::{Event, KeyValue};

pub(crate) const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// One change in a transaction: which key, whether to delete it, how large the value.
pub(crate) type Change = (usize, bool, usize);

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    state: BTreeMap<&'static str, KeyValue>,
    /// Every event there ever was, by revision.
    history: BTreeMap<i64, Vec<Event>>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { revision: 1, ..Self::default() }
    }

    /// A transaction. One that changes nothing has no revision.
    pub(crate) fn write(&mut self, changes: &[Change]) {
        let revision = self.revision + 1;
        let mut events: Vec<Event> = Vec::new();
        for &(key, delete, size) in changes {
            let key = KEYS[key];
            if events.iter().any(|event| event.kv.as_ref().is_some_and(|kv| kv.key == key)) {
                continue;
            }
            let prev_kv = self.state.get(key).cloned();
            if delete {
                if prev_kv.is_some() {
                    self.state.remove(key);
                    let kv = KeyValue { key: key.into(), mod_revision: revision, ..KeyValue::default() };
                    events.push(Event { r#type: 1, kv: Some(kv), prev_kv });
                }
                continue;
            }
            let kv = KeyValue {
                key: key.into(),
                value: vec![b'0' + (revision % 10) as u8; size].into(),
                create_revision: prev_kv.as_ref().map_or(revision, |kv| kv.create_revision),
                mod_revision: revision,
                version: prev_kv.as_ref().map_or(1, |kv| kv.version + 1),
                lease: 0,
            };
            self.state.insert(key, kv.clone());
            events.push(Event { r#type: 0, kv: Some(kv), prev_kv });
        }
        if !events.is_empty() {
            self.revision = revision;
            self.history.insert(revision, events);
        }
    }

    /// What a watch sees of the revisions `from..=to`.
    pub(crate) fn seen(&self, from: i64, to: i64, view: &View) -> Vec<Event> {
        if from > to {
            return Vec::new();
        }
        let events = self.history.range(from..=to).flat_map(|(_, events)| events);
        events.filter(|event| view.shows(event)).map(|event| view.render(event)).collect()
    }
}

/// What of the store a watch asks for.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) range: KeyRange,
    pub(crate) filters: Filters,
    pub(crate) prev_kv: bool,
}

impl View {
    fn shows(&self, event: &Event) -> bool {
        let is_delete = event.r#type == 1;
        let key = event.kv.as_ref().map(|kv| &kv.key[..]).unwrap_or_default();
        self.range.contains(key)
            && !(is_delete && self.filters.no_delete)
            && (is_delete || !self.filters.no_put)
    }

    fn render(&self, event: &Event) -> Event {
        Event { prev_kv: event.prev_kv.clone().filter(|_| self.prev_kv), ..event.clone() }
    }
}

pub(crate) fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
