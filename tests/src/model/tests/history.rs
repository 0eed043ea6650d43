//! The model against a recomputation that is too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use etcd_watch_proto::mvccpb::KeyValue;
use proptest::prelude::*;

use super::*;
use crate::model::{EventKind, HistoryEvent, Quirks};

#[derive(Debug, Clone)]
enum Write {
    Put(u8),
    PutAll(BTreeSet<u8>),
    Delete(u8, u8),
}

fn key(n: u8) -> String {
    format!("k{n}")
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        4 => (0..6u8).prop_map(Write::Put),
        2 => prop::collection::btree_set(0..6u8, 1..5).prop_map(Write::PutAll),
        2 => (0..6u8, 1..4u8).prop_map(|(first, count)| Write::Delete(first, count)),
    ]
}

fn apply(etcd: &mut ModelEtcd, write: &Write) {
    match write {
        Write::Put(n) => {
            put(etcd, &key(*n), "v");
        }
        Write::PutAll(all) => {
            let names: Vec<String> = all.iter().map(|n| key(*n)).collect();
            put_all(etcd, &names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Write::Delete(first, count) => {
            delete(etcd, &key(*first), &key(first + count));
        }
    }
}

type State = BTreeMap<Bytes, KeyValue>;

/// The whole store at every revision, by replaying whole states.
#[derive(Default)]
struct Naive {
    states: Vec<State>,
}

impl Naive {
    fn new() -> Self {
        // Revisions 0 and 1 are empty.
        Self { states: vec![State::new(), State::new()] }
    }

    fn apply(&mut self, write: &Write) {
        let revision = i64::try_from(self.states.len()).expect("few");
        let mut state = self.states.last().expect("never empty").clone();
        let mut put = |n: u8| {
            let name = Bytes::from(key(n));
            let old = state.get(&name);
            let kv = KeyValue {
                key: name.clone(),
                value: "v".into(),
                create_revision: old.map_or(revision, |old| old.create_revision),
                version: old.map_or(0, |old| old.version) + 1,
                mod_revision: revision,
                lease: 0,
            };
            state.insert(name, kv);
        };
        match write {
            Write::Put(n) => put(*n),
            Write::PutAll(all) => all.iter().for_each(|n| put(*n)),
            Write::Delete(first, count) => {
                let before = state.len();
                (*first..first + count).for_each(|n| {
                    state.remove(key(n).as_bytes());
                });
                if state.len() == before {
                    return;
                }
            }
        }
        self.states.push(state);
    }

    fn range(&self, first: u8, end: u8, revision: i64) -> Vec<KeyValue> {
        let state = &self.states[usize::try_from(revision).expect("positive")];
        state.values().filter(|kv| in_range(&kv.key, first, end)).cloned().collect()
    }
}

fn in_range(name: &[u8], first: u8, end: u8) -> bool {
    key(first).as_bytes() <= name && name < key(end).as_bytes()
}

/// What a reader must have seen of a range, in order.
fn expected(etcd: &ModelEtcd, first: u8, end: u8, from: i64) -> Vec<HistoryEvent> {
    let history = etcd.history().iter();
    history
        .filter(|event| event.revision >= from && in_range(&event.key, first, end))
        .map(|event| HistoryEvent::clone(event))
        .collect()
}

#[derive(Debug, Clone)]
struct Wish {
    first: u8,
    count: u8,
    /// Created after this many writes.
    at: usize,
    /// How far back it starts; 0 is from now.
    back: i64,
    prev_kv: bool,
    fragment: bool,
}

fn wish() -> impl Strategy<Value = Wish> {
    (0..5u8, 1..5u8, 0..40usize, 0..30i64, any::<bool>(), any::<bool>()).prop_map(
        |(first, count, at, back, prev_kv, fragment)| Wish { first, count, at, back, prev_kv, fragment },
    )
}

proptest! {
    #[test]
    fn every_revision_reads_as_the_replayed_state(
        writes in prop::collection::vec(write(), 0..40),
        first in 0..6u8,
        count in 0..4u8,
        compact_at in 0..40i64,
    ) {
        let mut etcd = etcd();
        let mut naive = Naive::new();
        for write in &writes {
            apply(&mut etcd, write);
            naive.apply(write);
        }
        let newest = etcd.revision();
        prop_assert_eq!(usize::try_from(newest).expect("positive") + 1, naive.states.len());
        let compacted = compact_at.min(newest);
        compact(&mut etcd, compacted);
        let end = first + count;
        for revision in 1..=newest {
            let request = RangeRequest { revision, ..read(&key(first), &key(end)) };
            match etcd.range(&request) {
                Ok(response) => {
                    prop_assert!(revision >= compacted);
                    prop_assert_eq!(response.kvs, naive.range(first, end, revision));
                }
                Err(error) => {
                    prop_assert!(revision < compacted);
                    prop_assert_eq!(error, crate::model::ModelError::Compacted);
                }
            }
        }
        for event in etcd.history() {
            let before = naive.range(0, 9, event.revision - 1);
            let after = naive.range(0, 9, event.revision);
            let find = |state: &[KeyValue]| state.iter().find(|kv| kv.key == event.key).cloned();
            prop_assert_eq!(event.prev.clone(), find(&before));
            let wanted = (event.kind == EventKind::Put).then(|| event.key_value());
            prop_assert_eq!(wanted, find(&after));
        }
    }

    #[test]
    fn every_watch_sees_exactly_its_part_of_history_whatever_its_reader_does(
        writes in prop::collection::vec(write(), 0..40),
        wishes in prop::collection::vec(wish(), 1..6),
        reads in prop::collection::vec(0..6usize, 40),
        watch_queue in 1..6usize,
        watch_batch_revisions in 1..6usize,
        fragment_bytes in 20..400usize,
        interleave_seed in any::<Option<u64>>(),
        by_time in any::<bool>(),
        reorder_created in any::<bool>(),
    ) {
        let tick = Duration::from_millis(100);
        let mut etcd = ModelEtcd::new(ModelConfig {
            watch_queue,
            watch_batch_revisions,
            fragment_bytes,
            interleave_seed,
            sync_interval: if by_time { tick } else { Duration::ZERO },
            quirks: Quirks { reorder_created, ..Quirks::default() },
            ..ModelConfig::default()
        });
        let stream = etcd.open_watch_stream();
        let mut responses = Vec::new();
        let mut from: BTreeMap<usize, i64> = BTreeMap::new();
        for (step, polls) in reads.iter().enumerate() {
            for (n, wish) in wishes.iter().enumerate().filter(|(_, wish)| wish.at == step) {
                let newest = etcd.revision();
                let start = if wish.back == 0 { 0 } else { (newest - wish.back).max(1) };
                from.insert(n, if start == 0 { newest + 1 } else { start });
                create(&mut etcd, stream, WatchCreateRequest {
                    watch_id: i64::try_from(n).expect("few") + 1,
                    start_revision: start,
                    prev_kv: wish.prev_kv,
                    fragment: wish.fragment,
                    ..watch(&key(wish.first), &key(wish.first + wish.count))
                });
            }
            if let Some(write) = writes.get(step) {
                apply(&mut etcd, write);
            }
            if by_time && step % 3 == 0 {
                etcd.handle_timeout(tick * u32::try_from(step).expect("small"));
            }
            for _ in 0..*polls {
                responses.extend(etcd.poll_watch_response(stream));
            }
        }
        for round in 0..400 {
            responses.extend(drain(&mut etcd, stream));
            match etcd.poll_timeout() {
                Some(due) => etcd.handle_timeout(due),
                None => break,
            }
            prop_assert!(round < 399, "never catches up");
        }
        responses.extend(drain(&mut etcd, stream));

        for (n, wish) in wishes.iter().enumerate() {
            let id = i64::try_from(n).expect("few") + 1;
            let of: Vec<WatchResponse> =
                responses.iter().filter(|response| response.watch_id == id).cloned().collect();
            prop_assert!(of[0].created);
            let wanted = expected(&etcd, wish.first, wish.first + wish.count, from[&n]);
            let got: Vec<_> = of.iter().flat_map(|response| response.events.clone()).collect();
            let wanted_events: Vec<_> = wanted
                .iter()
                .map(|event| {
                    let mut sent = event.to_event();
                    sent.prev_kv = event.prev.clone().filter(|_| wish.prev_kv);
                    sent
                })
                .collect();
            prop_assert_eq!(got, wanted_events);
            // A revision doesn't go on in the next response, unless that is the same one's next fragment.
            for pair in of[1..].windows(2) {
                prop_assert!(!pair[0].events.is_empty());
                if !pair[0].fragment {
                    let last = events(&pair[..1]).last().expect("events").0;
                    prop_assert!(events(&pair[1..])[0].0 > last);
                }
                prop_assert!(!pair[0].fragment || wish.fragment);
            }
            prop_assert!(!of.last().expect("created").fragment);
        }
    }
}
