//! A consumer that copes with every lawful history: the addresses of a service, of which others only ever see
//! what the store had at one revision.
//!
//! `cargo run -p etcd-watch-testkit --example correct_consumer`
#![allow(clippy::print_stdout, reason = "an example tells what it does")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use etcd_watch_core::{EventKind, KeyRange, MirrorEvent};
use etcd_watch_testkit::lawful::{self, Failure, MirrorConsumer, Settings, StoreAt};

/// Keys are backends, values their addresses. Two backends may have the same.
#[derive(Default)]
struct Addresses {
    backends: BTreeMap<Bytes, Bytes>,
    /// What others see.
    published: BTreeSet<Bytes>,
}

impl Addresses {
    fn publish(&mut self) {
        self.published = self.backends.values().cloned().collect();
    }

    fn expected(store: &StoreAt) -> BTreeSet<Bytes> {
        store.pairs().values().map(|kv| kv.value.clone()).collect()
    }
}

impl MirrorConsumer for Addresses {
    fn handle(&mut self, event: MirrorEvent) {
        match event {
            // What is there stays until the list says otherwise.
            MirrorEvent::Listing { .. } | MirrorEvent::Closed(_) => {}
            MirrorEvent::Snapshot(part) => {
                part.deletes().iter().for_each(|key| drop(self.backends.remove(key)));
                self.backends.extend(part.into_puts().map(|kv| (kv.key, kv.value)));
            }
            MirrorEvent::Synced { .. } => self.publish(),
            MirrorEvent::Changes(response) => {
                for event in response.events() {
                    match event.kind() {
                        EventKind::Delete => drop(self.backends.remove(event.key())),
                        _ => drop(self.backends.insert(event.kv().key_bytes(), event.kv().value_bytes())),
                    }
                }
                self.publish();
            }
            other => panic!("unheard of: {other:?}"),
        }
    }

    fn check(&self, store: &StoreAt) -> Result<(), String> {
        let expected = Self::expected(store);
        if self.published == expected {
            Ok(())
        } else {
            Err(format!("published are {:?}, not {expected:?}", self.published))
        }
    }

    fn check_between(&self, last: Option<&StoreAt>) -> Result<(), String> {
        let expected = last.map(Self::expected).unwrap_or_default();
        if self.published == expected {
            Ok(())
        } else {
            Err(format!("a mix is published: {:?}", self.published))
        }
    }
}

fn main() -> Result<(), Failure> {
    let settings = Settings::default()
        .keys(KeyRange::prefix("backends/"), ["backends/a", "backends/b", "backends/c", "unrelated"])
        .values(|_, number| format!("10.0.0.{number}:80").into());
    let coverage = lawful::check_mirror(&settings, Addresses::default)?;
    println!("{coverage}");
    println!("The published addresses were right at every revision of {} histories.", coverage.histories());
    Ok(())
}
