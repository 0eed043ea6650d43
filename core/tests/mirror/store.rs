//! Stores with their whole history: what a list or a watch must come to.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_watch_core::{Failure, KeyRange, ListRequest, OwnedKeyValue, Page, Pairs};
use etcd_watch_proto::mvccpb::{Event, KeyValue};

/// The keys there may be; ranges leave some out.
pub(crate) const KEYS: [&str; 12] = ["a", "k0", "k1", "k10", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "z"];

pub(crate) type State = BTreeMap<Bytes, OwnedKeyValue>;

/// One store, from its beginning to where another takes its place.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) cluster_id: u64,
    /// Written into values, so that equal revisions of two stores have unequal pairs.
    number: usize,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    states: BTreeMap<i64, State>,
    events: BTreeMap<i64, Vec<Event>>,
}

impl Store {
    pub(crate) fn new(number: usize, cluster_id: u64) -> Self {
        let states = BTreeMap::from([(1, State::new())]);
        Self { cluster_id, number, revision: 1, compacted: 0, states, events: BTreeMap::new() }
    }

    /// What a backup made at `revision` is restored to.
    pub(crate) fn restored(&self, number: usize, revision: i64) -> Self {
        let mut store = self.clone();
        (store.number, store.revision) = (number, revision);
        store.compacted = store.compacted.min(revision);
        store.states.split_off(&(revision + 1));
        store.events.split_off(&(revision + 1));
        store
    }

    /// A transaction: keys to put or delete. One that changes nothing has no revision.
    pub(crate) fn write(&mut self, changes: &[(usize, bool)]) {
        let revision = self.revision + 1;
        let mut state = self.states[&self.revision].clone();
        let mut events: Vec<Event> = Vec::new();
        for &(key, is_delete) in changes {
            let key = Bytes::from_static(KEYS[key % KEYS.len()].as_bytes());
            if events.iter().any(|event| event.kv.as_ref().is_some_and(|kv| kv.key == key)) {
                continue;
            }
            if is_delete {
                if state.remove(&key).is_some() {
                    let kv = KeyValue { key, mod_revision: revision, ..KeyValue::default() };
                    events.push(Event { r#type: 1, kv: Some(kv), prev_kv: None });
                }
                continue;
            }
            let before = state.get(&key);
            let kv = OwnedKeyValue {
                key: key.clone(),
                value: format!("{} of store {}", revision, self.number).into(),
                create_revision: before.map_or(revision, |kv| kv.create_revision),
                mod_revision: revision,
                version: before.map_or(1, |kv| kv.version + 1),
                lease: 0,
            };
            events.push(Event { r#type: 0, kv: Some(message(&kv)), prev_kv: None });
            state.insert(key, kv);
        }
        if !events.is_empty() {
            self.revision = revision;
            self.states.insert(revision, state);
            self.events.insert(revision, events);
        }
    }

    /// What a range had at a revision; `None` if there was none such.
    pub(crate) fn state(&self, revision: i64, range: &KeyRange) -> Option<State> {
        let state = self.states.get(&revision)?;
        Some(
            state
                .iter()
                .filter(|(key, _)| range.contains(key))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        )
    }

    pub(crate) fn events(&self, from: i64, to: i64, range: &KeyRange) -> Vec<Event> {
        let events = self.events.range(from..=to).flat_map(|(_, events)| events);
        let is_seen = |event: &&Event| event.kv.as_ref().is_some_and(|kv| range.contains(&kv.key));
        events.filter(is_seen).cloned().collect()
    }

    /// Answers as etcd does.
    pub(crate) fn list(&self, request: &ListRequest) -> Result<Page, Failure> {
        let out_of_range = |message: &str| Failure::status(11, format!("etcdserver: mvcc: {message}"));
        let revision = if request.revision == 0 { self.revision } else { request.revision };
        if revision < self.compacted {
            return Err(out_of_range("required revision has been compacted"));
        }
        let Some(state) = self.state(revision, &request.range).filter(|_| revision <= self.revision) else {
            return Err(out_of_range("required revision is a future revision"));
        };
        let (count, more) = (state.len(), state.len() > request.limit);
        let kvs = Pairs::copied(state.values().take(request.limit)).expect("they are few");
        let count = i64::try_from(count).expect("they are few");
        Ok(Page { revision: self.revision, cluster_id: self.cluster_id, more, count, kvs })
    }

    /// What a member that is behind answers to a read of the current revision.
    pub(crate) fn list_late(&self, request: &ListRequest, behind: i64) -> Result<Page, Failure> {
        let mut member = self.restored(self.number, (self.revision - behind).max(1));
        member.compacted = 0;
        member.list(request)
    }
}

fn message(kv: &OwnedKeyValue) -> KeyValue {
    KeyValue {
        key: kv.key.clone(),
        value: kv.value.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}
