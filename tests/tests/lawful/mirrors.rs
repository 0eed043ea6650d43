//! Consumers of a mirror.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use etcd_watch_core::{EventKind, KeyRange, MirrorEvent, MirrorRequest, OwnedKeyValue, SnapshotPart};
use etcd_watch_testkit::lawful::{
    Failure, MirrorConsumer, Settings, Sight, StoreAt, check_mirror, histories,
};
use proptest::prelude::*;

use crate::assert_small;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    IgnoresDeletes,
    KeepsWhatAListLacks,
    ClearsAtEachListing,
    DropsOldRevisions,
    ShowsTheMix,
}

/// A map, and what others see of it.
#[derive(Clone)]
struct Map {
    bug: Bug,
    pairs: BTreeMap<Bytes, Bytes>,
    revisions: BTreeMap<Bytes, i64>,
    shown: BTreeMap<Bytes, Bytes>,
}

impl Map {
    fn with(bug: Bug) -> impl Fn() -> Self {
        move || Self { bug, pairs: BTreeMap::new(), revisions: BTreeMap::new(), shown: BTreeMap::new() }
    }

    fn put(&mut self, key: Bytes, value: Bytes, revision: i64) {
        let known = self.revisions.insert(key.clone(), revision).unwrap_or(0);
        if self.bug != Bug::DropsOldRevisions || revision > known {
            self.pairs.insert(key, value);
        }
    }

    fn delete(&mut self, key: &[u8]) {
        self.revisions.remove(key);
        self.pairs.remove(key);
    }

    fn part(&mut self, part: SnapshotPart) {
        if self.bug != Bug::KeepsWhatAListLacks {
            part.deletes().iter().for_each(|key| self.delete(key));
        }
        part.into_puts().for_each(|kv| self.put(kv.key, kv.value, kv.mod_revision));
    }
}

impl MirrorConsumer for Map {
    fn handle(&mut self, event: MirrorEvent) {
        let is_whole = event.synced_revision().is_some();
        match event {
            MirrorEvent::Listing { .. } if self.bug == Bug::ClearsAtEachListing => self.pairs.clear(),
            MirrorEvent::Snapshot(part) => self.part(part),
            MirrorEvent::Changes(response) => {
                for event in response.events() {
                    match event.kind() {
                        EventKind::Delete if self.bug == Bug::IgnoresDeletes => {}
                        EventKind::Delete => self.delete(event.key()),
                        _ => self.put(event.kv().key_bytes(), event.kv().value_bytes(), event.mod_revision()),
                    }
                }
            }
            _ => {}
        }
        if is_whole || self.bug == Bug::ShowsTheMix {
            self.shown = self.pairs.clone();
        }
    }

    fn check(&self, store: &StoreAt) -> Result<(), String> {
        store.expect_pairs(&self.shown)
    }

    fn check_between(&self, last: Option<&StoreAt>) -> Result<(), String> {
        match last {
            Some(last) => last.expect_pairs(&self.shown),
            None if self.shown.is_empty() => Ok(()),
            None => Err(format!("it shows {} pairs before it has any", self.shown.len())),
        }
    }
}

fn find(bug: Bug) -> Failure {
    check_mirror(&Settings::default(), Map::with(bug)).expect_err("the bug is found")
}

#[test]
fn a_correct_map_passes() {
    let coverage = check_mirror(&Settings::default(), Map::with(Bug::None)).unwrap();
    assert_eq!(coverage.histories(), Settings::default().how_many());
}

#[test]
fn ignoring_deletes_is_found() {
    assert_small(&find(Bug::IgnoresDeletes), 3);
}

#[test]
fn keeping_what_a_list_lacks_is_found() {
    let failure = find(Bug::KeepsWhatAListLacks);
    assert_small(&failure, 6);
    let is_deleted = |line: &String| line.contains("Snapshot: ") && line.contains("delete ");
    assert!(failure.transcript().iter().any(is_deleted), "{failure}");
}

#[test]
fn clearing_at_each_listing_is_found() {
    assert_small(&find(Bug::ClearsAtEachListing), 7);
}

#[test]
fn dropping_old_revisions_is_found() {
    let failure = find(Bug::DropsOldRevisions);
    assert_small(&failure, 6);
    assert!(failure.transcript().iter().any(|line| line.contains("replaced") || line.contains("restored")));
}

#[test]
fn showing_the_mix_is_found() {
    assert_small(&find(Bug::ShowsTheMix), 2);
}

/// Without an index in the mirror: what is listed is put together beside what is shown, and takes its place.
struct Staged {
    is_late: bool,
    pairs: BTreeMap<Bytes, Bytes>,
    staged: Option<BTreeMap<Bytes, Bytes>>,
}

impl Staged {
    fn with(is_late: bool) -> impl Fn() -> Self {
        move || Self { is_late, pairs: BTreeMap::new(), staged: None }
    }
}

impl MirrorConsumer for Staged {
    fn request(&self, range: &KeyRange) -> MirrorRequest {
        MirrorRequest::new(range.clone()).keep_index(false)
    }

    fn handle(&mut self, event: MirrorEvent) {
        match event {
            // A list that is begun again replaces the one before; the bug is to put it on top.
            MirrorEvent::Listing { .. } if self.is_late => drop(self.staged.get_or_insert_default()),
            MirrorEvent::Listing { .. } => self.staged = Some(BTreeMap::new()),
            MirrorEvent::Snapshot(part) => {
                let staged = self.staged.as_mut().expect("parts come inside of brackets");
                staged.extend(part.into_puts().map(|kv| (kv.key, kv.value)));
            }
            MirrorEvent::Synced { .. } => {
                self.pairs = self.staged.take().unwrap_or_else(|| std::mem::take(&mut self.pairs));
            }
            MirrorEvent::Changes(response) => {
                for event in response.events() {
                    match event.kind() {
                        EventKind::Delete => drop(self.pairs.remove(event.key())),
                        _ => drop(self.pairs.insert(event.kv().key_bytes(), event.kv().value_bytes())),
                    }
                }
            }
            _ => {}
        }
    }

    fn check(&self, store: &StoreAt) -> Result<(), String> {
        store.expect_pairs(&self.pairs)
    }
}

#[test]
fn a_correct_staging_consumer_without_an_index_passes() {
    let coverage = check_mirror(&Settings::default(), Staged::with(false)).unwrap();
    assert!(coverage.count(Sight::ListInList) > 0);
}

#[test]
fn clearing_too_late_when_a_list_begins_again_is_found() {
    let failure = check_mirror(&Settings::default(), Staged::with(true)).expect_err("the bug is found");
    assert_small(&failure, 10);
    let listings = failure.transcript().windows(3).filter(|lines| lines[0].contains("Listing")).count();
    assert!(listings >= 1, "{failure}");
}

/// An index by value: typed, derived, and kept from one start to the next.
#[derive(Default)]
struct ByAddress {
    forgets_shared: bool,
    backends: BTreeMap<String, u16>,
    by_address: BTreeMap<u16, BTreeSet<String>>,
}

impl ByAddress {
    fn put(&mut self, kv: &OwnedKeyValue) {
        let name = String::from_utf8(kv.key.to_vec()).expect("keys are text");
        let port = std::str::from_utf8(&kv.value).expect("values are text").parse().expect("and numbers");
        self.delete(&kv.key);
        self.backends.insert(name.clone(), port);
        self.by_address.entry(port).or_default().insert(name);
    }

    fn delete(&mut self, key: &[u8]) {
        let name = std::str::from_utf8(key).expect("keys are text");
        let Some(port) = self.backends.remove(name) else { return };
        let names = self.by_address.get_mut(&port).expect("it is in the index");
        names.remove(name);
        if names.is_empty() || self.forgets_shared {
            self.by_address.remove(&port);
        }
    }
}

impl MirrorConsumer for ByAddress {
    fn handle(&mut self, event: MirrorEvent) {
        match event {
            MirrorEvent::Listing { reason: etcd_watch_core::ListReason::First, .. } => {
                // It may be a list after a restart: a new mirror knows nothing of what is here.
                self.backends.clear();
                self.by_address.clear();
            }
            MirrorEvent::Snapshot(part) => {
                part.deletes().iter().for_each(|key| self.delete(key));
                part.into_puts().for_each(|kv| self.put(&kv));
            }
            MirrorEvent::Changes(response) => {
                for event in response.events() {
                    let (key, value) = (event.kv().key_bytes(), event.kv().value_bytes());
                    match event.kind() {
                        EventKind::Delete => self.delete(&key),
                        _ => self.put(&OwnedKeyValue { key, value, ..OwnedKeyValue::default() }),
                    }
                }
            }
            _ => {}
        }
    }

    fn check(&self, store: &StoreAt) -> Result<(), String> {
        let mut expected: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
        for (key, kv) in store.pairs() {
            let port = std::str::from_utf8(&kv.value).expect("text").parse().expect("a number");
            expected.entry(port).or_default().insert(String::from_utf8(key.to_vec()).expect("text"));
        }
        if self.by_address == expected {
            Ok(())
        } else {
            Err(format!("{:?}, not {expected:?}", self.by_address))
        }
    }

    fn restart(&mut self, _fresh: Self) {}
}

fn ports() -> Settings {
    Settings::default()
        .keys(KeyRange::prefix("backend/"), ["backend/a", "backend/b", "backend/c", "other"])
        .values(|_, number| (8000 + number).to_string().into())
}

#[test]
fn a_correct_index_of_typed_values_passes() {
    let coverage = check_mirror(&ports(), ByAddress::default).unwrap();
    assert!(coverage.count(Sight::Restarted) > 0);
}

#[test]
fn an_index_that_forgets_shared_values_is_found() {
    let make = || ByAddress { forgets_shared: true, ..ByAddress::default() };
    // Its own invariants panic now and then, which counts as found too.
    let failure = check_mirror(&ports(), make).expect_err("the bug is found");
    assert!(failure.history().steps().len() <= 4, "{failure}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn histories_are_a_strategy_for_proptest(history in histories(&Settings::default())) {
        history.feed_mirror(Map::with(Bug::None))?;
    }
}
